//! From events to tags: the changes of a transaction are collected, and folded in when it commits.
//!
//! Of a transaction the set of relations that it changed is kept, by name, and of those that have parts (see
//! [`larder_cache::Part`]) the rows, up to a number ([`crate::rows`]); a million changed rows of one table are one element.
//! Names are resolved when the commit arrives, by the catalog of that moment: the stream names relations as they were called when
//! they were changed. Where that differs from the catalog, the catalog is reviewed, and the new epoch that follows accepts only
//! answers from after the review. The same goes for rows that were read with columns and a replica identity that are others now.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_cache::Tags;
use larder_core::{FeedHealth, Lsn};

use crate::decode::{Decoder, Event, Kind, Name};
use crate::index::{Index, Named};
use crate::rows::{Budget, Changed};
use crate::tuple::Change;

/// Different relations in one transaction that are kept apart. With more, everything is taken to have changed.
const RELATIONS_MAX: usize = 10_000;

/// What a commit means beyond its tags.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// 32-bit id of the transaction.
    pub(crate) xid: u32,
    /// End of its commit record.
    pub(crate) position: Lsn,
    /// It may have changed the catalog.
    pub(crate) review: bool,
    /// What it changed is not known: after the review everything cached must die, whatever the review finds.
    pub(crate) unknown: bool,
}

/// What one message of the stream means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Folded {
    /// Nothing yet.
    Nothing,
    /// A transaction committed, and its changes are in the tags.
    Commit(Committed),
    /// A message that is not understood, outside a transaction.
    Unknown,
}

/// The transaction whose changes are arriving. The plugins send one transaction after the other, each when it has committed.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    decoder: Decoder,
    open: Option<Open>,
}

#[derive(Debug, Default)]
struct Open {
    xid: u32,
    /// What of each was changed; `None`: whatever there is of it.
    relations: HashMap<Box<[u8]>, usize>,
    changed: Vec<Option<Changed>>,
    /// Key of the row before, to which the next one mostly belongs, and where that is in `changed`.
    last: Vec<u8>,
    last_at: Option<usize>,
    budget: Budget,
    rows: [u64; 3],
    truncates: u64,
    ddl: bool,
    unknown: bool,
}

impl Fold {
    /// Of a new stream.
    pub(crate) fn new(decoder: Decoder) -> Self {
        Self { decoder, open: None }
    }

    /// Takes one message in; `start` is its position.
    pub(crate) fn take(
        &mut self,
        text: &[u8],
        start: Lsn,
        index: &Index,
        tags: &Tags,
        health: &FeedHealth,
    ) -> Folded {
        match (self.decoder.decode(text), &mut self.open) {
            (Some(Event::Begin { xid }), open @ None) => *open = Some(Open { xid, ..Open::default() }),
            (Some(Event::Commit { xid }), Some(open)) => {
                open.unknown |= open.xid != xid;
                let open = std::mem::take(open);
                self.open = None;
                return Folded::Commit(open.commit(start, index, tags, health));
            }
            (Some(Event::Change { relation, kind, row }), Some(open)) => {
                open.change(&relation, kind, row, index, tags);
            }
            (Some(Event::Truncate { relations }), Some(open)) => {
                open.truncates += 1;
                relations.iter().for_each(|name| open.truncate(name));
            }
            (Some(Event::DdlAnnounced), Some(open)) => open.ddl = true,
            (Some(Event::OtherMessage | Event::Nothing), _) => {}
            (_, Some(open)) => open.unknown = true,
            (_, None) => return Folded::Unknown,
        }
        Folded::Nothing
    }
}

impl Open {
    fn change(&mut self, name: &Name<'_>, kind: Kind, row: Change<'_>, index: &Index, tags: &Tags) {
        let slot = match kind {
            Kind::Insert => 0,
            Kind::Update => 1,
            Kind::Delete => 2,
        };
        if let Some(count) = self.rows.get_mut(slot) {
            *count += 1;
        }
        let at = self.find(name, |key| index.get(key)?.reader(tags).map(Changed::new));
        if let Some(Some(changed)) = at.and_then(|at| self.changed.get_mut(at)) {
            changed.add(kind, row, &mut self.budget);
        }
    }

    fn truncate(&mut self, name: &Name<'_>) {
        let at = self.find(name, |_| None);
        if let Some(changed) = at.and_then(|at| self.changed.get_mut(at)) {
            *changed = None;
        }
    }

    /// Where in `changed` a relation is, entered by `new` if it is the first time; `None` if there are too many.
    fn find(&mut self, name: &Name<'_>, new: impl FnOnce(&[u8]) -> Option<Changed>) -> Option<usize> {
        if !name.is(&self.last) {
            name.spell(&mut self.last);
            self.last_at = self.relations.get(self.last.as_slice()).copied();
        }
        if self.last_at.is_none() {
            if self.changed.len() >= RELATIONS_MAX {
                self.unknown = true;
                return None;
            }
            self.last_at = Some(self.changed.len());
            self.relations.insert(self.last.as_slice().into(), self.changed.len());
            self.changed.push(new(&self.last));
        }
        self.last_at
    }

    fn commit(self, position: Lsn, index: &Index, tags: &Tags, health: &FeedHealth) -> Committed {
        let (mut unknown, mut touched, mut rows) = (self.unknown, 0, 0);
        for (name, at) in &self.relations {
            let changed = self.changed.get(*at).and_then(Option::as_ref);
            match index.get(name) {
                Some(named) => {
                    rows += touch(named, changed, position.0, tags);
                    touched += named.tags(tags).len();
                }
                None => unknown = true,
            }
        }
        add(&health.touched, touched as u64);
        add(&health.touched_rows, rows as u64);
        let empty = self.relations.is_empty() && !unknown;
        let [inserts, updates, deletes] = self.rows;
        add(&health.inserts, inserts);
        add(&health.updates, updates);
        add(&health.deletes, deletes);
        add(&health.truncates, self.truncates);
        add(&health.ddl, u64::from(empty || self.ddl));
        Committed { xid: self.xid, position, review: empty || self.ddl || unknown, unknown }
    }
}

/// Touches a relation and its ancestors: each whole first, then what of their parts was changed.
fn touch(named: &Named, changed: Option<&Changed>, position: u64, tags: &Tags) -> usize {
    let changed = changed.filter(|changed| changed.is_of(named.relation()));
    let mut rows = 0;
    for (at, tag) in named.tags(tags).iter().enumerate() {
        match changed {
            Some(changed) => {
                tag.touch_whole(position);
                rows += changed.touch(at, tag, position);
            }
            None => tag.touch(position),
        }
    }
    rows
}

fn add(counter: &AtomicU64, count: u64) {
    if count > 0 {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use larder_core::relation_tag;

    use super::*;
    use crate::index::table;

    struct Bench {
        fold: Fold,
        index: Index,
        tags: Tags,
        health: FeedHealth,
    }

    impl Bench {
        /// Table 1 `public.t`, and its partition 2 `public.t1`.
        fn new() -> Self {
            let mut index = Index::default();
            for (name, (relation, spelled)) in
                [("t", table(1, &[], "id:int* v:text")), ("t1", table(2, &[1], "v:text id:int*"))]
            {
                index.insert(Index::key(b"public", name.as_bytes()), relation, spelled);
            }
            Self { fold: Fold::default(), index, tags: Tags::default(), health: FeedHealth::default() }
        }

        fn take(&mut self, text: &str) -> Folded {
            self.fold.take(text.as_bytes(), Lsn(500), &self.index, &self.tags, &self.health)
        }

        /// The outcome of a whole transaction, and the last changes of tables 1 and 2.
        fn transaction(&mut self, lines: &[&str]) -> (Committed, [u64; 2]) {
            assert_eq!(self.take("BEGIN 7"), Folded::Nothing);
            for line in lines {
                assert_eq!(self.take(line), Folded::Nothing);
                assert_eq!(self.changes(), [0, 0], "before the commit nothing is touched");
            }
            match self.take("COMMIT 7") {
                Folded::Commit(commit) => (commit, self.changes()),
                other => panic!("{other:?}"),
            }
        }

        fn changes(&self) -> [u64; 2] {
            [1, 2].map(|oid| self.tags.get(&relation_tag(oid)).last_change())
        }
    }

    fn committed(review: bool, unknown: bool) -> Committed {
        Committed { xid: 7, position: Lsn(500), review, unknown }
    }

    #[test]
    fn a_commit_touches_relations_and_their_ancestors() {
        let lines = ["table public.t: INSERT: id[integer]:1", "table public.t: DELETE: id[integer]:1"];
        assert_eq!(Bench::new().transaction(&lines), (committed(false, false), [500, 0]));
        let lines = ["table public.t1: UPDATE: id[integer]:1"];
        assert_eq!(Bench::new().transaction(&lines), (committed(false, false), [500, 500]));
        let lines = ["table public.t, public.t1: TRUNCATE: (no-flags)"];
        let mut bench = Bench::new();
        assert_eq!(bench.transaction(&lines), (committed(false, false), [500, 500]));
        assert_eq!(bench.health.truncates.load(Ordering::Relaxed), 1);
        assert_eq!(bench.health.touched.load(Ordering::Relaxed), 3, "t, and t again above t1");
    }

    #[test]
    fn an_empty_one_and_an_announced_one_are_reviewed() {
        let mut bench = Bench::new();
        assert_eq!(bench.transaction(&[]), (committed(true, false), [0, 0]));
        assert_eq!(bench.health.ddl.load(Ordering::Relaxed), 1);
        let lines = [
            "table public.t: INSERT: id[integer]:1",
            "message: transactional: 1 prefix: larder, sz: 1 content:x",
        ];
        assert_eq!(Bench::new().transaction(&lines), (committed(true, false), [500, 0]));
    }

    #[test]
    fn what_is_not_known_or_not_understood_is_unknown() {
        let lines = ["table public.new: INSERT: id[integer]:1", "table public.t: INSERT: id[integer]:1"];
        assert_eq!(Bench::new().transaction(&lines), (committed(true, true), [500, 0]));
        assert_eq!(Bench::new().transaction(&["gibberish"]), (committed(true, true), [0, 0]));
        assert_eq!(Bench::new().transaction(&["BEGIN 8"]).0, committed(true, true));
        assert_eq!(Bench::new().take("gibberish"), Folded::Unknown);
        assert_eq!(Bench::new().take("COMMIT 7"), Folded::Unknown);
        assert_eq!(Bench::new().take("table public.t: INSERT: x"), Folded::Unknown);
        assert_eq!(
            Bench::new().take("message: transactional: 0 prefix: x, sz: 1 content:x"),
            Folded::Nothing
        );
    }

    #[test]
    fn memory_is_bounded_by_relations_not_rows() {
        let mut bench = Bench::new();
        bench.take("BEGIN 7");
        for n in 0..RELATIONS_MAX + 10 {
            bench.take(&format!("table public.n{n}: INSERT: id[integer]:1"));
            bench.take(&format!("table public.n{n}: INSERT: id[integer]:2"));
        }
        assert_eq!(bench.fold.open.as_ref().unwrap().changed.len(), RELATIONS_MAX);
        assert!(matches!(bench.take("COMMIT 7"), Folded::Commit(Committed { unknown: true, .. })));
    }
}
