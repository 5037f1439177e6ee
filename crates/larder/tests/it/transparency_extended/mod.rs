//! The extended protocol, in every order in which a driver uses it and in some in which none does.

mod columns;
mod copying;
mod drivers;
mod pipelines;
mod portals;
mod statements;

use bytes::Bytes;
use larder_testkit::frame::{bind, describe_portal, describe_statement, execute, flush, parse, sync};
use larder_testkit::{Script, Step, Until};

const ONE: &str = "select v from fixed where id = 1";
const BY_ID: &str = "select id, v, n, b, f, at from fixed where id = $1";

fn m(messages: &[Bytes]) -> Step {
    Step::messages(messages)
}

/// Parse, Bind, Describe, Execute, Sync without names: PQexecParams.
fn params(sql: &str, parameters: &[Option<&str>]) -> Step {
    Step::extended(sql, parameters)
}

/// One step for each text, without parameters.
fn all(texts: &[&str]) -> Script {
    texts.iter().map(|text| params(text, &[])).collect()
}

/// Bind, Describe, Execute, Sync of a named statement: PQexecPrepared.
fn run_named(name: &str, parameters: &[Option<&str>]) -> Step {
    m(&[bind("", name, parameters), describe_portal(""), execute("", 0), sync()])
}

/// Parse, Describe, Sync: PQprepare with a description, tokio-postgres's prepare.
fn prepare(name: &str, sql: &str) -> Step {
    m(&[parse(name, sql, &[]), describe_statement(name), sync()])
}

/// Parse, Describe, Flush: asyncpg's prepare. The end of the answer is that of the description.
fn prepare_flush(name: &str, sql: &str) -> Step {
    m(&[parse(name, sql, &[]), describe_statement(name), flush()]).until(Until::Tag(b'T'))
}
