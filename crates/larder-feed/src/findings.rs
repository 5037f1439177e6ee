//! What can stand in the way, each with the SQL or setting that mends it.

use std::io;

use larder_core::Finding;
use larder_login::ConnectError;

use crate::Account;
use crate::control::Preflight;
use crate::error::ServerError;

/// Everything that the preflight query shows.
pub(crate) fn preflight(account: &Account, found: &Preflight) -> Vec<Finding> {
    let mut findings = Vec::new();
    if found.server_version < 140_000 {
        findings.push(finding(
            "server_version",
            format!("PostgreSQL {} is too old: Larder needs 14 or newer", found.server_version / 10_000),
            "upgrade the origin to PostgreSQL 14 or newer".to_owned(),
        ));
    }
    if found.in_recovery {
        findings.push(finding(
            "standby",
            "the origin is a standby: what its snapshots see cannot be trusted, so nothing is ever served from it"
                .to_owned(),
            "point [origin] url and control_url at the primary".to_owned(),
        ));
        return findings;
    }
    if found.wal_level != "logical" {
        findings.push(finding(
            "wal_level",
            format!(
                "wal_level is \"{}\": the log does not carry what the change feed reads",
                found.wal_level
            ),
            "ALTER SYSTEM SET wal_level = 'logical'; then restart PostgreSQL".to_owned(),
        ));
    }
    if !found.replication {
        findings.push(no_replication(account));
    }
    if found.slots_used >= found.slots_max {
        findings.push(no_slot(found.slots_max));
    }
    if found.senders_used >= found.senders_max {
        findings.push(no_sender(found.senders_max));
    }
    findings
}

/// No TCP connection.
pub(crate) fn unreachable(account: &Account, error: &io::Error) -> Finding {
    finding(
        "unreachable",
        format!("the origin at {}:{} does not answer: {error}", account.host, account.port),
        "check that PostgreSQL runs and listens there, and [origin] control_url".to_owned(),
    )
}

/// No TLS as it is asked for.
pub(crate) fn tls(account: &Account, error: &ConnectError) -> Finding {
    finding(
        "tls",
        format!("no connection to the origin at {}:{}: {error}", account.host, account.port),
        error.hint().unwrap_or("correct [origin] tls and tls_ca, or TLS at the origin").to_owned(),
    )
}

/// Login failed before PostgreSQL itself said no.
pub(crate) fn authentication(account: &Account, why: &str) -> Finding {
    finding(
        "authentication",
        format!("role \"{}\" cannot log in: {why}", account.user),
        "put the password of Larder's account into [origin] control_url".to_owned(),
    )
}

/// The connection or the protocol failed.
pub(crate) fn interrupted(what: &str) -> Finding {
    finding(
        "interrupted",
        format!("the change feed was interrupted: {what}"),
        "none needed if this passes: Larder reconnects by itself; else look into PostgreSQL's log".to_owned(),
    )
}

/// PostgreSQL refused something: by SQLSTATE.
pub(crate) fn refused(account: &Account, error: &ServerError) -> Finding {
    let Account { user, database, .. } = account;
    let problem = error.to_string();
    match error.code.as_str() {
        "28P01" => finding("password", problem, "correct the password in [origin] control_url".to_owned()),
        "28000" => finding(
            "authentication",
            problem,
            format!(
                "CREATE ROLE {} LOGIN REPLICATION PASSWORD '...'; and a line in pg_hba.conf: host {database} {user} <address of Larder> scram-sha-256",
                quote(user)
            ),
        ),
        "3D000" => finding("database", problem, format!("CREATE DATABASE {}; or correct the name in [origin] control_url", quote(database))),
        "42501" => no_replication(account),
        "53400" => finding("slots", problem, "ALTER SYSTEM SET max_replication_slots = 20; then restart PostgreSQL".to_owned()),
        "53300" => finding("connections", problem, "ALTER SYSTEM SET max_wal_senders = 20; (or max_connections, as the message says) then restart PostgreSQL".to_owned()),
        "55000" if error.message.contains("wal_level") => {
            finding("wal_level", problem, "ALTER SYSTEM SET wal_level = 'logical'; then restart PostgreSQL".to_owned())
        }
        "58P01" if error.message.contains("test_decoding") => finding(
            "test_decoding",
            problem,
            "install PostgreSQL's contrib modules on the origin (package postgresql-contrib); where that cannot be done: CREATE PUBLICATION larder FOR ALL TABLES; and [freshness] plugin = \"pgoutput\", publication = \"larder\"".to_owned(),
        ),
        "55P03" => slot_waits(),
        "57P03" => finding("starting", problem, "none needed: Larder tries again until PostgreSQL is ready".to_owned()),
        _ => interrupted(&problem),
    }
}

/// Making a slot takes long.
pub(crate) fn slot_waits() -> Finding {
    finding(
        "long_transaction",
        "PostgreSQL makes a replication slot only when every transaction that is running has ended, and one takes long"
            .to_owned(),
        "SELECT pid, xact_start, state, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start; SELECT * FROM pg_prepared_xacts; end the oldest".to_owned(),
    )
}

/// The two connections lead to different servers.
pub(crate) fn two_servers(account: &Account) -> Finding {
    finding(
        "two_servers",
        format!("two connections to {}:{} reached two different servers", account.host, account.port),
        "give [origin] control_url a name or address that always means the same primary".to_owned(),
    )
}

/// The plugin needs a publication that there is not.
pub(crate) fn no_publication(name: &str) -> Finding {
    finding(
        "publication",
        format!("there is no publication \"{name}\", which [freshness] publication names"),
        format!(
            "CREATE PUBLICATION {} FOR ALL TABLES; (from then on PostgreSQL refuses UPDATE and DELETE of tables without a primary key, unless ALTER TABLE ... REPLICA IDENTITY FULL)",
            quote(name)
        ),
    )
}

/// Of a publication, whether it holds all tables, and every kind of change as what it is.
pub(crate) fn publication(name: &str, all_tables: bool, all_changes: bool) -> Option<Finding> {
    let quoted = quote(name);
    if !all_tables {
        return Some(finding(
            "publication_tables",
            format!(
                "publication \"{name}\" is not FOR ALL TABLES: changes that it leaves out would not be seen"
            ),
            format!(
                "DROP PUBLICATION {quoted}; CREATE PUBLICATION {quoted} FOR ALL TABLES; or name another in [freshness] publication"
            ),
        ));
    }
    (!all_changes).then(|| {
        finding(
            "publication_changes",
            format!("publication \"{name}\" leaves out some kinds of changes, or publishes those of partitions under another name"),
            format!("ALTER PUBLICATION {quoted} SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = false);"),
        )
    })
}

fn no_replication(account: &Account) -> Finding {
    finding(
        "replication_privilege",
        format!("role \"{}\" may not read the change feed", account.user),
        format!("ALTER ROLE {} REPLICATION;", quote(&account.user)),
    )
}

fn no_slot(max: i64) -> Finding {
    finding(
        "slots",
        format!("all {max} replication slots are in use (max_replication_slots)"),
        format!(
            "ALTER SYSTEM SET max_replication_slots = {}; then restart PostgreSQL; or drop one: SELECT slot_name, active FROM pg_replication_slots",
            max + 10
        ),
    )
}

fn no_sender(max: i64) -> Finding {
    finding(
        "wal_senders",
        format!("all {max} WAL senders are in use (max_wal_senders)"),
        format!("ALTER SYSTEM SET max_wal_senders = {}; then restart PostgreSQL", max + 10),
    )
}

fn finding(code: &'static str, problem: String, remedy: String) -> Finding {
    Finding { code, problem, remedy }
}

fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
