//! The advice, for a terminal and for programs.

use std::fmt::Write as _;

use larder_core::Bypass;
use serde_json::{Value as Json, json};

use super::weigh::{Advice, Obstacle, Read, Sum, Table};

/// Longest statement text shown, in characters.
const TEXT: usize = 76;

pub(super) fn text(advice: &Advice, rows: usize) -> String {
    let mut out = String::new();
    let since = advice.since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
    let Advice { all, cacheable, .. } = advice;
    let _ = writeln!(
        out,
        "Database {} on PostgreSQL {}: {} statements, {} calls, {} of execution{since}\n",
        advice.database,
        advice.version,
        all.statements,
        all.calls,
        time(all.seconds)
    );
    let _ = writeln!(
        out,
        "{} of that time went into {} statements that Larder could answer from memory while nothing they read changes.",
        percent(cacheable.share_of(all)),
        cacheable.statements
    );
    let _ = writeln!(
        out,
        "Names without a schema were looked for in {} (--search-path for another).",
        advice.search_path.join(", ")
    );
    if let Some(hidden) = &advice.hidden {
        let _ = writeln!(
            out,
            "{} are in statements whose text this account may not see -> GRANT pg_read_all_stats TO the account",
            time(hidden.seconds)
        );
    }
    reads(&mut out, advice, rows);
    obstacles(&mut out, advice, rows);
    tables(&mut out, advice, rows);
    out.push_str(
        "\nNext: larder check, then run Larder with mode = \"shadow\" and see SHOW REASONS: what would have been answered\n\
         from memory is counted there, and compared with the origin.\n",
    );
    out
}

fn reads(out: &mut String, advice: &Advice, rows: usize) {
    if advice.reads.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\nCould be cached, the costliest first. At best: the share of calls, if writes come evenly and"
    );
    let _ = writeln!(
        out,
        "parameters were always the same.\n\n  share       time      calls  at best  statement"
    );
    for Read { statement, at_best, .. } in advice.reads.iter().take(rows) {
        let sum = Sum { statements: 1, calls: statement.calls, seconds: statement.seconds };
        let _ = writeln!(
            out,
            "{:>7} {:>10} {:>10} {:>8}  {}",
            percent(sum.share_of(&advice.all)),
            time(statement.seconds),
            statement.calls,
            percent(*at_best),
            line(&statement.text)
        );
    }
    more(out, advice.reads.len(), rows);
}

fn obstacles(out: &mut String, advice: &Advice, rows: usize) {
    if advice.obstacles.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nNot cached, the costliest reason first:\n\n  share  statements  reason");
    for Obstacle { reason, sum, example } in advice.obstacles.iter().take(rows) {
        let _ = writeln!(
            out,
            "{:>7} {:>11}  {reason}: {}\n{:>21}-> {}\n{:>21}{}",
            percent(sum.share_of(&advice.all)),
            sum.statements,
            reason.explanation(),
            "",
            remedy(*reason),
            "",
            line(example)
        );
    }
    more(out, advice.obstacles.len(), rows);
}

fn tables(out: &mut String, advice: &Advice, rows: usize) {
    if advice.tables.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\nTables that those answers depend on, first those whose writes would end most of them:"
    );
    let _ = writeln!(out, "\n  share  statements      reads     writes  table");
    for Table { name, usage, readers, .. } in advice.tables.iter().take(rows) {
        let _ = writeln!(
            out,
            "{:>7} {:>11} {:>10} {:>10}  {name}",
            percent(readers.share_of(&advice.all)),
            readers.statements,
            usage.reads,
            usage.writes
        );
    }
    more(out, advice.tables.len(), rows);
    let gaining = || advice.tables.iter().filter(|table| !table.unlogged_identity.is_empty());
    if gaining().next().is_none() {
        return;
    }
    let _ = writeln!(
        out,
        "\nAn UPDATE or DELETE of these ends every answer of statements that name their rows by columns outside the primary\n\
         key. With old values in the log (which makes it larger) it ends those of its row:\n\n  share  statements"
    );
    for table in gaining().take(rows) {
        let Table { by_other_columns, unlogged_identity, .. } = table;
        let share = percent(by_other_columns.share_of(&advice.all));
        for name in unlogged_identity.iter().take(rows) {
            let statements = by_other_columns.statements;
            let _ = writeln!(out, "{share:>7} {statements:>11}  ALTER TABLE {name} REPLICA IDENTITY FULL;");
        }
    }
}

fn more(out: &mut String, all: usize, shown: usize) {
    if all > shown {
        let _ = writeln!(out, "{:>7}", format!("... and {} more", all - shown));
    }
}

pub(super) fn json(advice: &Advice) -> Json {
    let sum = |sum: &Sum| {
        let share = sum.share_of(&advice.all);
        json!({ "statements": sum.statements, "calls": sum.calls, "seconds": sum.seconds, "share": share })
    };
    let read = |read: &Read| {
        let Read { statement, tables, at_best } = read;
        json!({
            "query": statement.text, "calls": statement.calls, "seconds": statement.seconds,
            "tables": tables, "hits_at_best": at_best,
        })
    };
    let obstacle = |obstacle: &Obstacle| {
        let Obstacle { reason, example, .. } = obstacle;
        json!({
            "reason": reason.name(), "explanation": reason.explanation(), "remedy": remedy(*reason),
            "sum": sum(&obstacle.sum), "example": example,
        })
    };
    let table = |table: &Table| {
        let Table { name, usage, readers, by_other_columns, unlogged_identity } = table;
        json!({
            "table": name, "reads": usage.reads, "writes": usage.writes, "cacheable": sum(readers),
            "by_other_columns": sum(by_other_columns), "replica_identity_full": unlogged_identity,
        })
    };
    json!({
        "database": advice.database,
        "server_version": advice.version,
        "since": advice.since,
        "search_path": advice.search_path,
        "all": sum(&advice.all),
        "cacheable": sum(&advice.cacheable),
        "hidden_seconds": advice.hidden.as_ref().map(|hidden| hidden.seconds),
        "reads": advice.reads.iter().map(read).collect::<Vec<_>>(),
        "obstacles": advice.obstacles.iter().map(obstacle).collect::<Vec<_>>(),
        "tables": advice.tables.iter().map(table).collect::<Vec<_>>(),
    })
}

/// What to do. The statistics have `$1` where a constant was, also where the grammar wants a constant.
fn remedy(reason: Bypass) -> &'static str {
    match reason {
        Bypass::SyntaxError => {
            "Its constants are gone in the statistics: larder explain \"...\" with the real text tells."
        }
        other => other.remedy(),
    }
}

/// One line, not too long.
fn line(text: &str) -> String {
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(TEXT) {
        words.truncate(end);
        words.push('…');
    }
    words
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        seconds if seconds < 120.0 => format!("{seconds:.1} s"),
        seconds if seconds < 7200.0 => format!("{:.1} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_lines_are_short() {
        assert_eq!([0.0123, 5.0, 600.0, 9000.0].map(time), ["12.3 ms", "5.0 s", "10.0 min", "2.5 h"]);
        assert_eq!(line("select\n  1 "), "select 1");
        assert_eq!(line(&"ä".repeat(200)).chars().count(), TEXT + 1);
    }
}
