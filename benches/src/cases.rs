//! What is measured: a script for pgbench, how it is sent, by how many clients, and on which sides.

use serde::Serialize;

use crate::sides::SideName;

/// The accounts table has this many times 100,000 rows: enough for an aggregate of more than 20 ms.
pub(crate) const SCALE: u32 = 3;

/// Keys that the point select asks for.
const HOT_KEYS: &str = "\\set aid random(1, 1000)\n";
const POINT_SELECT: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n";

/// Eight different aggregates over every row: few enough to be warm within the second that is given for it.
const AGGREGATE: &str = "\\set k random(0, 7)\n\
    SELECT bid, count(*), sum(abalance) FROM pgbench_accounts WHERE aid % 8 <> :k GROUP BY bid ORDER BY bid;\n";

/// How pgbench sends a statement (`-M`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// One Query message.
    Simple,
    /// Parse, Bind, Describe, Execute, Sync each time.
    Extended,
    /// Parse once; then Bind, Describe, Execute, Sync.
    Prepared,
}

impl Protocol {
    pub(crate) const ALL: [Self; 3] = [Self::Simple, Self::Extended, Self::Prepared];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Prepared => "prepared",
        }
    }
}

/// What the script does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    /// One row by its key, out of 1,000 keys.
    PointSelect,
    /// A count and a sum over every row.
    Aggregate,
    /// The point select, and in 1 of 20 an update of another table.
    WritesElsewhere,
    /// The point select, and in 1 of 20 an update of the same table: with changes followed per relation, each
    /// update drops everything remembered. The worst case, on purpose.
    WritesSameTable,
}

/// One comparison.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Case {
    pub(crate) work: Work,
    pub(crate) protocol: Protocol,
    pub(crate) clients: u32,
}

impl Case {
    pub(crate) fn name(&self) -> String {
        let work = match self.work {
            Work::PointSelect => "point select",
            Work::Aggregate => "aggregate",
            Work::WritesElsewhere => "point select, 5 % writes to another table",
            Work::WritesSameTable => "point select, 5 % writes to the same table",
        };
        format!(
            "{work}, {}, {} client{}",
            self.protocol.name(),
            self.clients,
            if self.clients == 1 { "" } else { "s" }
        )
    }

    pub(crate) fn script(&self) -> String {
        let write = |statement: &str| {
            format!(
                "{HOT_KEYS}\\set roll random(1, 20)\n\\if :roll = 1\n{statement}\n\\else\n{POINT_SELECT}\\endif\n"
            )
        };
        match self.work {
            Work::PointSelect => format!("{HOT_KEYS}{POINT_SELECT}"),
            Work::Aggregate => AGGREGATE.to_owned(),
            Work::WritesElsewhere => {
                write("UPDATE pgbench_tellers SET tbalance = tbalance + 1 WHERE tid = 1 + :aid % 50;")
            }
            Work::WritesSameTable => {
                write("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;")
            }
        }
    }

    /// The sides that take part; the first is the one that speed-ups refer to.
    pub(crate) fn sides(&self) -> &'static [SideName] {
        use SideName::{Against, Bypass, Direct, Floor, Larder, PgBouncer};
        match self.work {
            Work::PointSelect => &[Direct, Floor, PgBouncer, Bypass, Larder, Against],
            Work::Aggregate => &[Direct, Larder, Against],
            Work::WritesElsewhere | Work::WritesSameTable => &[Direct, PgBouncer, Larder, Against],
        }
    }

    /// The share of transactions whose latency is logged: writing down each point select would itself be measured.
    pub(crate) fn sampling(&self) -> f64 {
        if self.work == Work::Aggregate { 1.0 } else { 0.1 }
    }

    /// Whether every answer of Larder's is expected to come from memory once it is warm.
    pub(crate) fn all_hits(&self) -> bool {
        matches!(self.work, Work::PointSelect | Work::Aggregate)
    }
}

/// The cases of a short or of a full run.
pub(crate) fn all(full: bool) -> Vec<Case> {
    let clients: &[u32] = if full { &[1, 8, 64] } else { &[8] };
    let mut cases = Vec::new();
    for protocol in Protocol::ALL {
        cases.extend(clients.iter().map(|&clients| Case { work: Work::PointSelect, protocol, clients }));
    }
    // One client: the ratio of throughputs is then the ratio of latencies.
    cases.push(Case { work: Work::Aggregate, protocol: Protocol::Prepared, clients: 1 });
    if full {
        cases.push(Case { work: Work::WritesElsewhere, protocol: Protocol::Prepared, clients: 8 });
        cases.push(Case { work: Work::WritesSameTable, protocol: Protocol::Prepared, clients: 8 });
    }
    cases
}
