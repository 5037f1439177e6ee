use larder_cache::Tags;
use larder_core::relation_tag;
use proptest::prelude::*;

use super::*;
use crate::index::{Index, table};

/// A relation with parts, and what one transaction does to them.
struct Bench {
    index: Index,
    tags: Tags,
    budget: Budget,
}

const NAME: &[u8] = b"public\0t";

impl Bench {
    fn new(columns: &str, parts: &[&[&str]]) -> Self {
        let mut index = Index::default();
        let (relation, spelled) = table(1, &[], columns);
        index.insert(NAME.into(), relation, spelled);
        let bench = Self { index, tags: Tags::default(), budget: Budget::default() };
        parts.iter().for_each(|columns| drop(bench.part(columns)));
        bench
    }

    fn whole(&self) -> Arc<Tag> {
        self.tags.get(&relation_tag(1))
    }

    fn part(&self, columns: &[&str]) -> Arc<Part> {
        self.whole().part(columns).unwrap()
    }

    fn begin(&self) -> Changed {
        Changed::new(self.index.get(NAME).unwrap().reader(&self.tags).unwrap())
    }

    /// Commits at 500.
    fn changes(&mut self, changes: &[(Kind, &str)]) {
        let mut changed = self.begin();
        for (kind, change) in changes {
            changed.add(*kind, Change::Printed(change.as_bytes()), &mut self.budget);
        }
        changed.touch(0, &self.whole(), 500);
    }

    /// Of the part, whether all and which of these rows were touched.
    fn touched(&self, columns: &[&str], rows: &[u64]) -> (bool, Vec<bool>) {
        let part = self.part(columns);
        let touched = rows.iter().map(|row| part.row(*row).last_change() == 500).collect();
        (part.all().last_change() == 500, touched)
    }
}

fn int(value: i64) -> u64 {
    row_id(&[RowValue::Integer(value)])
}

/// Of one change of a table with a part by `id`: whether all, and which of 1, 2 and 3.
fn ids(columns: &str, kind: Kind, change: &str) -> (bool, Vec<bool>) {
    let mut bench = Bench::new(columns, &[&["id"]]);
    bench.changes(&[(kind, change)]);
    bench.touched(&["id"], &[int(1), int(2), int(3)])
}

fn rows(of: [bool; 3]) -> (bool, Vec<bool>) {
    (false, of.to_vec())
}

const ANY: (bool, [bool; 3]) = (true, [false; 3]);

#[test]
fn changes_concern_the_rows_that_they_name() {
    use Kind::{Delete, Insert, Update};
    let keyed = "id:int* v:text";
    let any = (ANY.0, ANY.1.to_vec());
    for (columns, kind, change, expected) in [
        (keyed, Insert, " id[integer]:1 v[text]:'x'", rows([true, false, false])),
        (keyed, Insert, " v[text]:'id[integer]:2' id[integer]:1", rows([true, false, false])),
        (keyed, Insert, " v[text]:'x'", any.clone()),
        (keyed, Insert, " (no-tuple-data)", any.clone()),
        (keyed, Insert, " id[integer]:null v[text]:'x'", rows([false; 3])),
        (keyed, Delete, " id[integer]:1", rows([true, false, false])),
        (keyed, Delete, " (no-tuple-data)", any.clone()),
        (keyed, Update, " id[integer]:1 v[text]:unchanged-toast-datum", rows([true, false, false])),
        (
            keyed,
            Update,
            " old-key: id[integer]:1 new-tuple: id[integer]:3 v[text]:'x'",
            rows([true, false, true]),
        ),
        (keyed, Update, " old-key: id[integer]:1 new-tuple: (no-tuple-data)", any.clone()),
        (keyed, Update, " old-key: gibberish new-tuple: id[integer]:3", any.clone()),
        // No identity: what was before nobody knows.
        ("id:int v:text", Update, " id[integer]:1 v[text]:'x'", any.clone()),
        ("id:int v:text*", Update, " old-key: v[text]:'y' new-tuple: id[integer]:1 v[text]:'x'", any.clone()),
        // All old values, without the NULLs.
        ("* id:int v:text", Delete, " id[integer]:2 v[text]:'x'", rows([false, true, false])),
        ("* id:int v:text", Delete, " v[text]:'x'", rows([false; 3])),
        (
            "* id:int v:text",
            Update,
            " old-key: id[integer]:1 new-tuple: id[integer]:2 v[text]:'x'",
            rows([true, true, false]),
        ),
        (
            "* v:text id:int",
            Update,
            " old-key: v[text]:'x' new-tuple: v[text]:'y' id[integer]:2",
            rows([false, true, false]),
        ),
        ("* id:int v:text", Update, " id[integer]:1 v[text]:'x'", any),
    ] {
        assert_eq!(ids(columns, kind, change), expected, "{columns}: {change}");
    }
}

#[test]
fn null_is_a_value_of_its_own() {
    let mut bench = Bench::new("* id:int v:text", &[&["id"]]);
    bench.changes(&[(Kind::Delete, " v[text]:'x'")]);
    assert_eq!(bench.touched(&["id"], &[row_id(&[RowValue::Null])]), (false, vec![true]));
}

#[test]
fn long_values_that_are_left_as_they_were_are_known_from_the_old_row() {
    let change =
        " old-key: id[integer]:1 v[text]:'long' new-tuple: id[integer]:2 v[text]:unchanged-toast-datum";
    let long = |id| row_id(&[RowValue::Integer(id), RowValue::Bytes(b"long".as_slice().into())]);
    let mut bench = Bench::new("* id:int v:text", &[&["id", "v"]]);
    bench.changes(&[(Kind::Update, change)]);
    assert_eq!(bench.touched(&["id", "v"], &[long(1), long(2), long(3)]), (false, vec![true, true, false]));
    let mut bench = Bench::new("id:int* v:text", &[&["v"], &["id"]]);
    bench.changes(&[(Kind::Update, " id[integer]:1 v[text]:unchanged-toast-datum")]);
    assert!(bench.touched(&["v"], &[]).0 && !bench.touched(&["id"], &[]).0);
}

#[test]
fn a_part_with_a_column_that_is_not_understood_is_touched_whole() {
    let mut bench = Bench::new("id:int* f:float", &[&["f"], &["gone"], &["id", "f"], &["id"]]);
    bench.changes(&[(Kind::Insert, " id[integer]:1 f[double precision]:1.5")]);
    let all = [&["f"][..], &["gone"], &["id", "f"], &["id"]].map(|part| bench.touched(part, &[]).0);
    assert_eq!(all, [true, true, true, false]);
}

#[test]
fn a_part_that_comes_later_is_touched_whole() {
    let mut bench = Bench::new("id:int* v:text", &[&["id"]]);
    let mut changed = bench.begin();
    let late = bench.part(&["v"]);
    changed.add(Kind::Insert, Change::Printed(b" id[integer]:1 v[text]:'x'"), &mut bench.budget);
    assert_eq!(changed.touch(0, &bench.whole(), 500), 1);
    assert_eq!((late.all().last_change(), bench.touched(&["id"], &[int(1)])), (500, (false, vec![true])));
    assert_eq!(bench.begin().rows.len(), 2, "the next transaction knows of it");
}

#[test]
fn a_bulk_change_is_one_of_any_row_and_the_same_row_again_is_not() {
    let mut bench = Bench::new("id:int* v:text", &[&["id"]]);
    let mut changed = bench.begin();
    for n in 0..10 * ROWS_MAX {
        let line = format!(" id[integer]:{} v[text]:'x'", n % 100);
        changed.add(Kind::Update, Change::Printed(line.as_bytes()), &mut bench.budget);
    }
    let kept = |changed: &Changed| changed.rows[0].as_ref().map(Vec::len);
    assert!(kept(&changed).is_some_and(|rows| rows <= ROWS_MAX));
    assert_eq!(bench.budget.rows + kept(&changed).unwrap(), ROWS_IN_ALL);
    for n in 0..10 * ROWS_MAX {
        let line = format!(" id[integer]:{n} v[text]:'x'");
        changed.add(Kind::Update, Change::Printed(line.as_bytes()), &mut bench.budget);
    }
    assert_eq!((kept(&changed), bench.budget.rows), (None, ROWS_IN_ALL));
    assert_eq!(changed.touch(0, &bench.whole(), 500), 0);
    assert!(bench.touched(&["id"], &[]).0);
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    id: i64,
    v: Option<String>,
    n: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Identity {
    Key,
    Full,
    Nothing,
}

impl Row {
    fn columns(&self) -> [(&'static str, &'static str, Option<String>); 3] {
        let v = self.v.as_ref().map(|v| format!("'{}'", v.replace('\'', "''")));
        let n = self.n.map(|n| n.to_string());
        [("v", "text", v), ("id", "integer", Some(self.id.to_string())), ("n", "bigint", n)]
    }

    /// As the plugin prints it; of an old row only what belongs to the identity, without NULLs.
    fn print(&self, old: Option<Identity>) -> String {
        let wanted = |name| old.is_none_or(|identity| identity == Identity::Full || name == "id");
        let columns = self
            .columns()
            .into_iter()
            .filter(|(name, _, value)| wanted(*name) && (old.is_none() || value.is_some()));
        let print = |(name, kind, value): (_, _, Option<String>)| {
            format!(" {name}[{kind}]:{}", value.unwrap_or_else(|| "null".to_owned()))
        };
        columns.map(print).collect()
    }

    fn id(&self, columns: &[&str]) -> u64 {
        let value = |column: &&str| match *column {
            "id" => RowValue::Integer(self.id),
            "v" => self.v.as_ref().map_or(RowValue::Null, |v| RowValue::Bytes(v.as_bytes().into())),
            _ => self.n.map_or(RowValue::Null, RowValue::Integer),
        };
        row_id(&columns.iter().map(value).collect::<Vec<_>>())
    }
}

/// What PostgreSQL logs of a change, and what the plugin prints.
fn print(identity: Identity, before: Option<&Row>, after: Option<&Row>) -> (Kind, String) {
    match (before, after) {
        (None, after) => (Kind::Insert, after.unwrap().print(None)),
        (Some(_), None) if identity == Identity::Nothing => (Kind::Delete, " (no-tuple-data)".to_owned()),
        (Some(before), None) => (Kind::Delete, before.print(Some(identity))),
        (Some(before), Some(after)) => {
            let logged = match identity {
                Identity::Key => before.id != after.id,
                Identity::Full => true,
                Identity::Nothing => false,
            };
            let new = after.print(None);
            let old = before.print(Some(identity));
            (Kind::Update, if logged { format!(" old-key:{old} new-tuple:{new}") } else { new })
        }
    }
}

fn any_row() -> impl Strategy<Value = Row> {
    let v = proptest::option::of(r"[a-b' \[\]:]{0,3}");
    (0..4_i64, v, proptest::option::of(0..3_i64)).prop_map(|(id, v, n)| Row { id, v, n })
}

const PARTS: [&[&str]; 4] = [&["id"], &["v"], &["n", "id"], &["id", "v", "n"]];

proptest! {
    #[test]
    fn no_row_that_was_changed_is_missed(
        identity in prop_oneof![Just(Identity::Key), Just(Identity::Full), Just(Identity::Nothing)],
        changes in proptest::collection::vec((proptest::option::of(any_row()), proptest::option::of(any_row())), 1..4),
    ) {
        let columns = match identity {
            Identity::Key => "v:text id:int* n:int",
            Identity::Full => "* v:text id:int n:int",
            Identity::Nothing => "v:text id:int n:int",
        };
        let mut bench = Bench::new(columns, &PARTS);
        let mut changed = bench.begin();
        for (before, after) in changes.iter().filter(|change| **change != (None, None)) {
            let (kind, line) = print(identity, before.as_ref(), after.as_ref());
            changed.add(kind, Change::Printed(line.as_bytes()), &mut bench.budget);
        }
        changed.touch(0, &bench.whole(), 500);
        let inserts_only = changes.iter().all(|(before, _)| before.is_none());
        for part in PARTS {
            let mut concerned: Vec<u64> =
                changes.iter().flat_map(|(before, after)| [before, after]).flatten().map(|row| row.id(part)).collect();
            let (all, touched) = bench.touched(part, &concerned);
            prop_assert!(all || touched.iter().all(|touched| *touched), "{part:?}");
            // What is known is used.
            let precise = inserts_only || identity == Identity::Full || (identity == Identity::Key && part == ["id"]);
            prop_assert!(!(all && precise), "{part:?}");
            concerned.sort_unstable();
            for row in (0..4).map(|id| Row { id, v: None, n: None }.id(part)) {
                prop_assert!(all || concerned.binary_search(&row).is_ok() || !bench.touched(part, &[row]).1[0]);
            }
        }
    }
}
