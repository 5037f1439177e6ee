//! The statements of the admin database (`dbname=larder`), for psql and any other client.

use std::sync::{Arc, OnceLock, Weak};

use larder_core::relation_tag;
use larder_proxy::{Console, Mode, Purge, Refusal, Reply};

use super::rules;
use super::views::{self, Table};
use crate::commands::explained;
use crate::events::Kind;
use crate::serve::Shared;

/// The database's name.
pub(crate) const DATABASE: &str = "larder";

/// A view by its name.
type View = (&'static str, fn(&Shared) -> Table, &'static str);

const VIEWS: [View; 12] = [
    ("STATUS", views::status, "the state of everything"),
    ("STATS", views::stats, "statements by how they were answered"),
    ("QUERIES", views::queries, "statements without their values, the costliest first"),
    ("REASONS", views::reasons, "why statements are not cached, the costliest first"),
    ("TABLES", views::tables, "relations that cached answers depend on"),
    ("RULES", rules::view, "what may be cached: by DENY, and by the configuration"),
    ("CLIENTS", views::clients, "clients connected, what they do and what they get from memory"),
    ("EVENTS", views::events, "what happened lately: feed, lease, epoch, mode, rules, ..."),
    ("FEED", views::feed, "how far the change feed has come"),
    ("TIERS", views::tiers, "where answers are kept"),
    ("CONFIG", views::config, "the effective configuration"),
    ("VERSION", |_| views::version(), "version and revision"),
];

const COMMANDS: [(&str, &str); 12] = [
    ("EXPLAIN CACHE <sql>", "would it be cached? on what does it depend, or why not"),
    ("PURGE ALL", "forget every answer"),
    ("PURGE TABLE <name>", "forget the answers that depend on a relation"),
    ("PURGE QUERY '<fingerprint>'", "forget the answers of a statement, see SHOW QUERIES"),
    ("PURGE TAG '<tag>'", "forget the answers that depend on a tag, such as rel:16384"),
    (
        "DENY QUERY '<fingerprint>'",
        "cache the statement no more, until it is allowed again or Larder restarts",
    ),
    ("DENY TABLE <name>", "the same with every statement that reads a table or view"),
    ("ALLOW QUERY, TABLE or ALL", "take that back"),
    (
        "SET MODE = 'serve' | 'shadow' | 'bypass'",
        "answer from memory, compare only, or neither; RESUME, PAUSE: the first, the last",
    ),
    ("RELOAD", "read the configuration and its files again, as on SIGHUP"),
    ("SHUTDOWN", "stop at once"),
    ("SHUTDOWN WAIT_FOR_CLIENTS", "stop as on SIGTERM: transactions may finish"),
];

/// How to stop, when asked over the admin database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shutdown {
    Now,
    Draining,
}

/// Answers for a Larder that is made after it.
#[derive(Debug, Default)]
pub(crate) struct AdminConsole {
    larder: OnceLock<Weak<Shared>>,
}

impl AdminConsole {
    /// From now on there is something to answer for.
    pub(crate) fn attach(&self, shared: &Arc<Shared>) {
        let _ = self.larder.set(Arc::downgrade(shared));
    }
}

impl Console for AdminConsole {
    fn run(&self, statement: &str) -> Result<Reply, Refusal> {
        let shared = self.larder.get().and_then(Weak::upgrade).ok_or_else(|| Refusal {
            sqlstate: "57P03",
            message: "Larder is starting up or shutting down".to_owned(),
            hint: None,
        })?;
        let (word, rest) = split(statement);
        match word.to_ascii_uppercase().as_str() {
            "SHOW" => show(&shared, rest),
            "EXPLAIN" => match split(rest) {
                (cache, sql) if cache.eq_ignore_ascii_case("cache") && !sql.is_empty() => {
                    explain(&shared, sql)
                }
                _ => Err(syntax("EXPLAIN CACHE <sql>")),
            },
            "PURGE" => purge(&shared, rest),
            "DENY" => rules::deny(&shared, rest),
            "ALLOW" => rules::allow(&shared, rest),
            "SET" => set_mode(&shared, rest),
            "PAUSE" if rest.is_empty() => switch(&shared, Mode::Bypass, "PAUSE"),
            "RESUME" if rest.is_empty() => switch(&shared, Mode::Serve, "RESUME"),
            "RELOAD" if rest.is_empty() => reload(&shared),
            "SHUTDOWN" => shut_down(&shared, rest),
            _ => Err(syntax("SHOW HELP for what there is")),
        }
    }
}

fn show(shared: &Shared, rest: &str) -> Result<Reply, Refusal> {
    let name = rest.to_ascii_uppercase();
    if name == "HELP" {
        return Ok(help());
    }
    let (_, view, _) = VIEWS.iter().find(|(known, ..)| *known == name).ok_or_else(|| {
        let known: Vec<_> = VIEWS.iter().map(|(name, ..)| *name).collect();
        syntax(&format!("SHOW {} or HELP", known.join(", ")))
    })?;
    let table = view(shared);
    Ok(Reply { rows: table.text(), columns: table.columns, tag: "SHOW".to_owned() })
}

fn help() -> Reply {
    let views = VIEWS.iter().map(|(name, _, what)| (format!("SHOW {name}"), *what));
    let commands = COMMANDS.iter().map(|(command, what)| ((*command).to_owned(), *what));
    let row = |(command, what): (String, &str)| vec![Some(command), Some(what.to_owned())];
    Reply {
        columns: vec!["command", "what it does"],
        rows: views.chain(commands).map(row).collect(),
        tag: "SHOW".to_owned(),
    }
}

fn explain(shared: &Shared, sql: &str) -> Result<Reply, Refusal> {
    let Some(catalog) = shared.catalog.load_full() else {
        let message = "the catalog has not been read yet: nothing is cached".to_owned();
        return Err(Refusal { sqlstate: "55000", message, hint: Some("SHOW FEED says why.".to_owned()) });
    };
    let path = ["pg_catalog".to_owned(), "public".to_owned()];
    let config = shared.config();
    let ttl = config.pointer("/cache/ttl/value").and_then(serde_json::Value::as_str).unwrap_or_default();
    let rows =
        explained(sql, &catalog, &path, ttl).into_iter().map(|(name, value)| vec![Some(name), Some(value)]);
    Ok(Reply { columns: vec!["property", "value"], rows: rows.collect(), tag: "EXPLAIN".to_owned() })
}

fn purge(shared: &Shared, rest: &str) -> Result<Reply, Refusal> {
    let (kind, target) = split(rest);
    let target = unquoted(target);
    let purged = match kind.to_ascii_uppercase().as_str() {
        "ALL" if target.is_empty() => shared.proxy.purge(Purge::All),
        "TABLE" => {
            let oid = shared.relation(&target).ok_or_else(|| Refusal {
                sqlstate: "42P01",
                message: format!("relation \"{target}\" does not exist"),
                hint: Some("Name it with its schema: PURGE TABLE public.orders".to_owned()),
            })?;
            purge_tag(shared, &relation_tag(oid))
        }
        "QUERY" => {
            let fingerprint = target.parse().map_err(|message| Refusal {
                sqlstate: "22023",
                message,
                hint: Some("SHOW QUERIES lists them.".to_owned()),
            })?;
            shared.proxy.purge(Purge::Query(fingerprint))
        }
        "TAG" if !target.is_empty() => purge_tag(shared, &target),
        _ => {
            return Err(syntax(
                "PURGE ALL, PURGE TABLE <name>, PURGE QUERY '<fingerprint>' or PURGE TAG '<tag>'",
            ));
        }
    };
    tracing::info!(what = rest, purged, "answers purged by an operator");
    shared.events.note(Kind::Purge, format!("PURGE {rest}: {purged} answers forgotten"));
    Ok(done(format!("PURGE {purged}")))
}

fn purge_tag(shared: &Shared, key: &str) -> usize {
    // What nobody ever asked for has no tag, and no answers.
    shared.tags.find(key).map_or(0, |tag| shared.proxy.purge(Purge::Tag(&tag)))
}

fn set_mode(shared: &Shared, rest: &str) -> Result<Reply, Refusal> {
    let words = rest.replace('=', " ");
    let (name, value) = split(&words);
    let value = unquoted(value).to_ascii_lowercase();
    let value = value.trim_start_matches("to ");
    match Mode::ALL.into_iter().find(|mode| mode.name() == value) {
        Some(mode) if name.eq_ignore_ascii_case("mode") => switch(shared, mode, "SET"),
        _ => Err(syntax("SET MODE = 'serve', 'shadow' or 'bypass'")),
    }
}

fn switch(shared: &Shared, mode: Mode, tag: &str) -> Result<Reply, Refusal> {
    shared.set_mode(mode).map_err(|message| Refusal {
        sqlstate: "55000",
        message,
        hint: Some("Start Larder with [cache] mode = \"serve\".".to_owned()),
    })?;
    Ok(done(tag.to_owned()))
}

/// A row for each setting that has another value than before.
fn reload(shared: &Shared) -> Result<Reply, Refusal> {
    let reloaded = shared.reload("RELOAD").map_err(|errors| {
        let (what, mend) = errors.sentences();
        // config_file_error.
        Refusal { sqlstate: "F0000", message: format!("nothing has changed: {what}"), hint: Some(mend) }
    })?;
    let row = |name: &String, result: &str| vec![Some(name.clone()), Some(result.to_owned())];
    let changed = reloaded.changed.iter().map(|name| row(name, "changed"));
    let kept = reloaded.kept.iter().map(|name| row(name, "needs a restart"));
    Ok(Reply {
        columns: vec!["setting", "result"],
        rows: changed.chain(kept).collect(),
        tag: "RELOAD".to_owned(),
    })
}

fn shut_down(shared: &Shared, rest: &str) -> Result<Reply, Refusal> {
    let how = match rest.to_ascii_uppercase().as_str() {
        "" => Shutdown::Now,
        "WAIT_FOR_CLIENTS" => Shutdown::Draining,
        _ => return Err(syntax("SHUTDOWN or SHUTDOWN WAIT_FOR_CLIENTS")),
    };
    shared.shut_down(how);
    Ok(done("SHUTDOWN".to_owned()))
}

pub(super) fn done(tag: String) -> Reply {
    Reply { tag, ..Reply::default() }
}

pub(super) fn syntax(expected: &str) -> Refusal {
    Refusal {
        sqlstate: "42601",
        message: "this is no statement of the admin database".to_owned(),
        hint: Some(format!("Expected: {expected}")),
    }
}

pub(super) fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim()))
}

pub(super) fn unquoted(text: &str) -> String {
    let text = text.trim();
    let inner = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
    inner.map_or_else(|| text.to_owned(), |inner| inner.replace("''", "'"))
}
