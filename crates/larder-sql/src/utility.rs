//! What each kind of statement is and does, as far as the text alone tells.
//!
//! Queries and data-modifying statements are handed to the walk; everything else gets its effect from a table here.
//! A statement that is not listed is taken to define something: it may change the catalog and everything else.

use larder_core::Bypass;
use pg_raw_parse::raw::{DiscardMode, DropBehavior, TransactionStmtKind as Transaction};
use pg_raw_parse::{ConstValue, Node, nodes};

use crate::collect::{Collector, collect};
use crate::facts::{Query, Statement};
use crate::names::Name;
use crate::parse::unknown;
use crate::{Begin, Effect, Footprint, Kind, Settings};

/// Describes one statement; `sql` is the whole text.
pub(crate) fn describe(node: Node<'_>, sql: &str) -> Statement {
    match node {
        Node::SelectStmt(select) => {
            let mut statement = Statement { kind: Kind::Select, ..read(collect(node)) };
            if select.into_clause().is_some() {
                statement.effect = definition(sql).effect;
            }
            statement
        }
        Node::InsertStmt(_) | Node::UpdateStmt(_) | Node::DeleteStmt(_) | Node::MergeStmt(_) => {
            other(Effect::default(), Some(collect(node)))
        }
        Node::CopyStmt(copy) => describe_copy(copy),
        Node::TruncateStmt(truncate) => describe_truncate(truncate),
        Node::ExplainStmt(explain) => describe_explain(explain),
        Node::TransactionStmt(transaction) => describe_transaction(transaction),
        Node::VariableSetStmt(set) => describe_set(set),
        Node::VariableShowStmt(show) => match show.name() {
            Some("larder.last") => kind(Kind::ShowLast, Effect::default()),
            _ => other(Effect::default(), None),
        },
        Node::PrepareStmt(_) | Node::DeallocateStmt(_) => kind(Kind::PreparedStatements, Effect::default()),
        Node::ExecuteStmt(_) => kind(Kind::PreparedStatements, Effect::unknown()),
        Node::DiscardStmt(discard) => {
            let settings = match discard.target {
                DiscardMode::DISCARD_ALL | DiscardMode::DISCARD_TEMP => Settings::Anything,
                _ => Settings::Nothing,
            };
            kind(Kind::PreparedStatements, Effect { settings, ..Effect::default() })
        }
        Node::NotifyStmt(_) | Node::ListenStmt(_) | Node::UnlistenStmt(_) => other(Effect::default(), None),
        Node::ClosePortalStmt(_) | Node::ConstraintsSetStmt(_) => describe_quiet(node),
        Node::LockStmt(_) => other(Effect { lock: true, ..Effect::default() }, None),
        Node::VacuumStmt(_) | Node::ClusterStmt(_) | Node::ReindexStmt(_) => {
            other(Effect { catalog: true, ..Effect::default() }, None)
        }
        Node::CheckPointStmt(_) => other(Effect::default(), None),
        // What they run is not in the text.
        Node::DoStmt(_)
        | Node::CallStmt(_)
        | Node::FetchStmt(_)
        | Node::DeclareCursorStmt(_)
        | Node::LoadStmt(_) => unknown(Bypass::NotASelect),
        _ => definition(sql),
    }
}

/// CLOSE has no effect; SET CONSTRAINTS ... IMMEDIATE runs deferred triggers now.
fn describe_quiet(node: Node<'_>) -> Statement {
    match node {
        Node::ClosePortalStmt(_) => other(Effect::default(), None),
        _ => kind(Kind::TransactionControl, Effect::unknown()),
    }
}

/// A candidate for the cache.
fn read(query: Query) -> Statement {
    Statement { refusal: None, ..other(Effect::default(), Some(query)) }
}

/// No candidate for the cache.
fn other(effect: Effect, query: Option<Query>) -> Statement {
    Statement {
        kind: Kind::Other,
        refusal: Some(Bypass::NotASelect),
        effect,
        creates: false,
        plans_only: false,
        query: query.map(Box::new),
    }
}

fn kind(kind: Kind, effect: Effect) -> Statement {
    Statement { kind, ..other(effect, None) }
}

/// DDL, GRANT, REFRESH and everything that is not known to be less.
fn definition(sql: &str) -> Statement {
    // Whatever makes a temporary object says so in one of these ways; an escaped identifier may hide it.
    let text = sql.to_ascii_lowercase();
    let temporary = text.contains("temp") || text.contains("u&\"");
    let effect = Effect { temporary, reverts: false, isolation: false, ..Effect::unknown() };
    Statement { creates: true, ..other(effect, None) }
}

fn describe_copy(copy: &nodes::CopyStmt) -> Statement {
    if copy.is_program {
        return unknown(Bypass::NotASelect);
    }
    let mut walk = Collector::new();
    match copy.relation() {
        Some(range) => {
            walk.relation(range);
            if copy.is_from {
                walk.query.targets.extend(Name::from_range(range));
            }
        }
        None => {
            walk.statement(copy.query(), true);
        }
    }
    walk.expression(copy.where_clause());
    other(Effect::default(), Some(walk.query))
}

fn describe_truncate(truncate: &nodes::TruncateStmt) -> Statement {
    let mut query = Query::default();
    for relation in truncate.relations() {
        match relation {
            Node::RangeVar(range) => query.targets.extend(Name::from_range(range)),
            _ => query.give_up(),
        }
    }
    // CASCADE reaches tables whose triggers can do anything.
    let effect = match truncate.behavior {
        DropBehavior::DROP_CASCADE => Effect {
            writes: Footprint::Everything,
            settings: Settings::Anything,
            temporary: true,
            ..Effect::default()
        },
        _ => Effect::default(),
    };
    other(effect, Some(query))
}

fn describe_explain(explain: &nodes::ExplainStmt) -> Statement {
    let query = match explain.query() {
        node @ (Node::SelectStmt(_)
        | Node::InsertStmt(_)
        | Node::UpdateStmt(_)
        | Node::DeleteStmt(_)
        | Node::MergeStmt(_)) => collect(node),
        _ => return unknown(Bypass::NotASelect),
    };
    let runs = explain.options().iter().any(|option| option.defname() == Some("analyze"));
    Statement { plans_only: !runs, ..other(Effect::default(), Some(query)) }
}

fn describe_transaction(transaction: &nodes::TransactionStmt) -> Statement {
    let reverts = || Effect { reverts: true, ..Effect::default() };
    match transaction.kind {
        Transaction::TRANS_STMT_BEGIN => begin(transaction, "BEGIN"),
        Transaction::TRANS_STMT_START => begin(transaction, "START TRANSACTION"),
        Transaction::TRANS_STMT_COMMIT if !transaction.chain => kind(Kind::Commit, reverts()),
        Transaction::TRANS_STMT_ROLLBACK if !transaction.chain => kind(Kind::Rollback, reverts()),
        Transaction::TRANS_STMT_SAVEPOINT | Transaction::TRANS_STMT_RELEASE => {
            kind(Kind::TransactionControl, Effect::default())
        }
        Transaction::TRANS_STMT_COMMIT
        | Transaction::TRANS_STMT_ROLLBACK
        | Transaction::TRANS_STMT_ROLLBACK_TO
        | Transaction::TRANS_STMT_PREPARE => kind(Kind::TransactionControl, reverts()),
        Transaction::TRANS_STMT_ROLLBACK_PREPARED => kind(Kind::TransactionControl, Effect::default()),
        Transaction::TRANS_STMT_COMMIT_PREPARED => {
            let effect = Effect { writes: Footprint::Everything, catalog: true, ..Effect::default() };
            kind(Kind::TransactionControl, effect)
        }
        _ => kind(Kind::TransactionControl, Effect::unknown()),
    }
}

fn begin(transaction: &nodes::TransactionStmt, tag: &'static str) -> Statement {
    let mut begin = Begin { deferrable: true, names_read_committed: false, tag };
    let mut other_isolation = false;
    for option in transaction.options() {
        let Node::DefElem(option) = option else {
            begin.deferrable = false;
            continue;
        };
        match (option.defname(), string_constant(option.arg())) {
            (Some("transaction_isolation"), Some("read committed")) => begin.names_read_committed = true,
            (Some("transaction_isolation"), _) => other_isolation = true,
            (Some("transaction_read_only"), _) => {}
            _ => begin.deferrable = false,
        }
    }
    begin.deferrable &= !other_isolation;
    begin.names_read_committed &= !other_isolation;
    kind(Kind::Begin(begin), Effect { isolation: true, ..Effect::default() })
}

fn describe_set(set: &nodes::VariableSetStmt) -> Statement {
    let name = set.name().unwrap_or_default();
    // Without a name it is RESET ALL.
    let folded = name.to_ascii_lowercase();
    let settings = Settings::changed_by(&folded);
    let effect = Effect { settings, ..Effect::default() };
    let transaction = matches!(name, "TRANSACTION" | "SESSION CHARACTERISTICS" | "TRANSACTION SNAPSHOT")
        || (folded.starts_with("transaction_") && settings != Settings::Nothing);
    if transaction {
        return kind(Kind::TransactionControl, Effect { isolation: true, ..effect });
    }
    kind(Kind::Other, effect)
}

fn string_constant(node: Node<'_>) -> Option<&str> {
    match node {
        Node::A_Const(constant) => match constant.val()? {
            ConstValue::String(text) => Some(text),
            _ => None,
        },
        Node::String(text) => text.sval(),
        _ => None,
    }
}
