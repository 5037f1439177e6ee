//! Every statement judged as the client path would judge it, added up by the time that it takes the database.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use larder_core::catalog::RelationKind;
use larder_core::{Bypass, Catalog};
use larder_sql::{Footprint, Parsed, ReadPlan, RowSet};

use super::read::{Observed, Statement, Usage};

/// What it comes to.
#[derive(Debug)]
pub(super) struct Advice {
    pub(super) database: String,
    pub(super) version: String,
    pub(super) since: Option<String>,
    /// Where names without a schema were looked for.
    pub(super) search_path: Vec<String>,
    /// All statements, and those that could be answered from memory.
    pub(super) all: Sum,
    pub(super) cacheable: Sum,
    pub(super) hidden: Option<Statement>,
    /// Those that could, the costliest first.
    pub(super) reads: Vec<Read>,
    /// Why the others could not, the costliest first.
    pub(super) obstacles: Vec<Obstacle>,
    /// What the former depend on; those first whose writes would end most.
    pub(super) tables: Vec<Table>,
}

/// Statements added up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    pub(super) statements: u64,
    pub(super) calls: u64,
    pub(super) seconds: f64,
}

/// A statement that could be answered from memory.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) statement: Statement,
    pub(super) tables: Vec<String>,
    /// The share of its calls that could be, if each call had the same parameters and every write of what it reads
    /// ended its answer: for one that has parameters of many values it is less, and more where writes come in bursts.
    pub(super) at_best: f64,
}

/// A reason, and the statements that it holds for.
#[derive(Debug)]
pub(super) struct Obstacle {
    pub(super) reason: Bypass,
    pub(super) sum: Sum,
    /// The costliest of them.
    pub(super) example: String,
}

/// A table that cacheable statements read.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) usage: Usage,
    /// The cacheable statements that read it.
    pub(super) readers: Sum,
    /// Those of them that name their rows by columns of which the log has no old values.
    pub(super) by_other_columns: Sum,
    /// The tables (itself, or partitions) whose log lacks them.
    pub(super) unlogged_identity: Vec<String>,
}

impl Sum {
    fn add(&mut self, statement: &Statement) {
        self.statements += 1;
        self.calls += statement.calls;
        self.seconds += statement.seconds;
    }

    /// The share of `whole`, by time.
    pub(super) fn share_of(&self, whole: &Self) -> f64 {
        if whole.seconds > 0.0 { self.seconds / whole.seconds } else { 0.0 }
    }
}

impl Table {
    /// Time whose answers are ended by writes to this table, rather than used again.
    fn at_stake(&self) -> f64 {
        let (reads, writes) = (real(self.usage.reads), real(self.usage.writes));
        self.readers.seconds * writes / (reads + writes).max(1.0)
    }
}

/// To be called on a thread with a worker's stack.
pub(super) fn weigh(observed: Observed, catalog: &Catalog, search_path: Vec<String>) -> Advice {
    let (mut all, mut cacheable) = (Sum::default(), Sum::default());
    let mut refused: BTreeMap<&str, (Bypass, Sum, Statement)> = BTreeMap::new();
    let (mut reads, mut writes) = (Vec::new(), HashMap::<u32, u64>::new());
    if let Some(hidden) = &observed.hidden {
        all.seconds += hidden.seconds;
        all.calls += hidden.calls;
    }
    for statement in observed.statements {
        all.add(&statement);
        let judgement = Parsed::parse(&statement.text).judge(catalog, &search_path);
        if let Footprint::Relations(written) = &judgement.effect.writes {
            written.iter().for_each(|oid| *writes.entry(*oid).or_default() += statement.calls);
        }
        match judgement.verdict {
            Ok(plan) => {
                cacheable.add(&statement);
                reads.push((statement, plan));
            }
            Err(why) => {
                let (_, sum, example) =
                    refused.entry(why.name()).or_insert_with(|| (why, Sum::default(), statement.clone()));
                sum.add(&statement);
                if example.seconds < statement.seconds {
                    *example = statement;
                }
            }
        }
    }
    let tables = tables(&reads, &observed.tables, catalog);
    let of = |(statement, plan): (Statement, ReadPlan)| {
        let ended: u64 = plan.relations.iter().filter_map(|oid| writes.get(oid)).sum();
        let at_best = real(statement.calls) / (real(statement.calls) + real(ended)).max(1.0);
        Read { statement, tables: plan.relations.iter().map(|oid| name(catalog, *oid)).collect(), at_best }
    };
    let mut reads: Vec<_> = reads.into_iter().map(of).collect();
    reads.sort_by(|a, b| b.statement.seconds.total_cmp(&a.statement.seconds));
    let of =
        |(reason, sum, example): (Bypass, Sum, Statement)| Obstacle { reason, sum, example: example.text };
    let mut obstacles: Vec<_> = refused.into_values().map(of).collect();
    obstacles.sort_by(|a, b| b.sum.seconds.total_cmp(&a.sum.seconds));
    let Observed { database, version, since, hidden, .. } = observed;
    Advice { database, version, since, search_path, all, cacheable, hidden, reads, obstacles, tables }
}

fn tables(reads: &[(Statement, ReadPlan)], usage: &HashMap<u32, Usage>, catalog: &Catalog) -> Vec<Table> {
    let mut readers: HashMap<u32, Sum> = HashMap::new();
    let mut others: HashMap<u32, (Sum, BTreeSet<u32>)> = HashMap::new();
    for (statement, plan) in reads {
        plan.relations.iter().for_each(|oid| readers.entry(*oid).or_default().add(statement));
        for rows in plan.rows.iter().filter(|rows| !plan.whole.contains(&rows.relation)) {
            let lacking = lacking(rows, usage, catalog);
            if !lacking.is_empty() {
                let (sum, tables) = others.entry(rows.relation).or_default();
                sum.add(statement);
                tables.extend(lacking);
            }
        }
    }
    let of = |(oid, readers): (u32, Sum)| {
        let usage = usage.get(&oid).copied().unwrap_or_default();
        let (by_other_columns, lacking) = others.remove(&oid).unwrap_or_default();
        let unlogged_identity = lacking.into_iter().map(|oid| name(catalog, oid)).collect();
        Table { name: name(catalog, oid), usage, readers, by_other_columns, unlogged_identity }
    };
    let mut tables: Vec<_> = readers.into_iter().map(of).collect();
    tables.sort_by(|a, b| b.at_stake().total_cmp(&a.at_stake()).then_with(|| a.name.cmp(&b.name)));
    tables
}

/// The tables with such rows, itself and below, of which rows were changed, and whose log does not say which they were.
fn lacking(rows: &RowSet, usage: &HashMap<u32, Usage>, catalog: &Catalog) -> Vec<u32> {
    let below = catalog.relations.get(&rows.relation).map(|relation| relation.descendants.as_slice());
    let all = std::iter::once(rows.relation).chain(below.into_iter().flatten().copied());
    let lacks = |oid: &u32| {
        let changed = usage.get(oid).is_some_and(|usage| usage.changes > 0);
        let relation =
            catalog.relations.get(oid).filter(|found| changed && found.kind == RelationKind::Table);
        relation.is_some_and(|relation| {
            let logged =
                |name: &str| relation.columns.iter().any(|found| found.in_identity && found.name == name);
            !rows.columns.iter().all(|column| logged(&column.name))
        })
    };
    all.filter(lacks).collect()
}

fn name(catalog: &Catalog, oid: u32) -> String {
    match catalog.relations.get(&oid) {
        Some(relation) => format!("{}.{}", relation.schema, relation.name),
        None => format!("oid {oid}"),
    }
}

/// Counts, for a ratio.
#[allow(clippy::cast_precision_loss, reason = "a ratio needs no more than 53 bits")]
fn real(count: u64) -> f64 {
    count as f64
}
