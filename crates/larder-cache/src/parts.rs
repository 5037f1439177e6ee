//! Parts of what a tag stands for: of a relation, the rows that have certain values in certain columns.
//!
//! An answer that read one row of a busy relation must not die with every change of another. So instead of the relation's
//! own tag (the *whole*) it depends on two others: the tag of its row in a [`Part`] (the rows told apart by certain columns),
//! and the part's own tag ([`Part::all`]), which is for changes of which nobody knows the rows.
//!
//! # Who meets whom
//!
//! Two things have to hold at every moment: a part's own tag is no older than the last change of the whole that did not say
//! which of the part's rows it changed, and a row's tag no older than the last change of that row. Both are about newcomers,
//! as changes that come later find them.
//!
//! Whoever changes the whole says so in this order: the whole's tag first ([`Tag::touch_whole`]), then, for each part that
//! there is *after that* ([`Tag::parts`]), the rows ([`Part::touch_row`]) or the part.
//!
//! * *A new part* is entered, and given the whole's numbers, under the lock under which parts are looked up. If the change
//!   looked before that, its touch of the whole came before its look, hence before the part read the whole's numbers. If it
//!   looked later, it has found the part. What the part's rows were changed by before is not known, so they begin with the
//!   number of the whole, too.
//! * *A new row* is entered, and a change of it recorded, under one lock. Recent changes are remembered whether anybody
//!   depends on the row or not, and of older ones the latest position: a newcomer begins with its own last change, or with that
//!   position. If the change comes later, it has found the newcomer.
//!
//! Marks take the same way: the whole, then the parts that there are, then their rows. For rows without a tag one mark is kept.
//!
//! So tags can be asked for at any time, before an answer is fetched or after, and rows' tags are dropped when nothing but this
//! table holds them. And an answer of some time ago, from another process, say, can be judged by its rows as far back as the
//! memory reaches; `tests::rows_are_remembered_for_a_while` shows it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::Moment;
use crate::sync::Mutex;
use crate::tags::Tag;

/// Ways of telling the rows of one relation apart. A change has to be looked up in each.
const MAX_PARTS: usize = 8;
/// Rows are divided among as many tables, so that clients and the feed seldom wait for each other, and not for long while a
/// table is swept.
const TABLES: usize = 16;
/// Changes of rows that each of them remembers: 24 KiB, and about as much again in the table for rows nobody holds.
const RECENT: usize = 1024;
/// Rows that a table may have before those that nobody holds are looked for.
const SWEEP_FROM: usize = 2 * RECENT;

/// The rows of a relation, told apart by the values of certain columns.
#[derive(Debug)]
pub struct Part {
    columns: Box<[Box<str>]>,
    all: Arc<Tag>,
    tables: [Mutex<Rows>; TABLES],
}

#[derive(Debug)]
struct Rows {
    /// Those that somebody holds, and those that changed recently.
    by_id: HashMap<u64, Arc<Tag>, foldhash::quality::RandomState>,
    sweep_at: usize,
    /// Positions and rows, in the order in which they were touched.
    recent: VecDeque<(u64, u64)>,
    /// No change that is not in `recent` is later.
    forgotten: u64,
    /// The last mark of a row that is not in the table.
    marked: Moment,
}

/// The parts of one tag. A list is never changed, only replaced.
pub(crate) type Parts = Mutex<Option<Arc<[Arc<Part>]>>>;

impl Part {
    /// A part of what stands at `whole`.
    fn new(columns: &[&str], whole: &Tag) -> Self {
        let part = Self {
            columns: columns.iter().map(|column| (*column).into()).collect(),
            all: Arc::default(),
            tables: std::array::from_fn(|_| Mutex::new(Rows::new(whole.last_change()))),
        };
        part.all.touch_whole(whole.last_change());
        part.all.mark_whole(whole.marked());
        part
    }

    /// Names of the columns by which its rows are told apart, in the order in which their values make a row's id.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = &str> {
        self.columns.iter().map(|column| &**column)
    }

    /// The tag of all its rows: whoever depends on one of them depends on this, too.
    pub fn all(&self) -> &Arc<Tag> {
        &self.all
    }

    /// The tag of a row, made if need be.
    pub fn row(&self, row: u64) -> Arc<Tag> {
        self.with_table(row, |rows| Arc::clone(rows.tag(row)))
    }

    /// A commit at `position` changed that row. It must have touched the whole before.
    pub fn touch_row(&self, row: u64, position: u64) {
        self.with_table(row, |rows| {
            rows.tag(row).touch_whole(position);
            if rows.recent.len() >= RECENT
                && let Some((oldest, _)) = rows.recent.pop_front()
            {
                rows.forgotten = rows.forgotten.max(oldest);
            }
            rows.recent.push_back((position, row));
        });
    }

    /// A write that may have changed that row was acknowledged at `now`. It must have marked the whole before.
    pub fn mark_row(&self, row: u64, now: Moment) {
        self.with_table(row, |rows| match rows.by_id.get(&row) {
            Some(tag) => tag.mark_whole(now),
            None => rows.marked = rows.marked.max(now),
        });
    }

    /// Rows with a tag: those that somebody depends on, and others that were changed or given up not long ago.
    pub fn len(&self) -> usize {
        self.tables.iter().map(|rows| rows.lock().by_id.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// See [`crate::Tags::restart`].
    fn restart(&self) {
        self.all.take_back();
        for rows in &self.tables {
            let mut rows = rows.lock();
            rows.recent.clear();
            rows.forgotten = 0;
            rows.by_id.values().for_each(|tag| tag.take_back());
        }
    }

    fn with_table<T>(&self, row: u64, work: impl FnOnce(&mut Rows) -> T) -> T {
        let [first, ..] = &self.tables;
        let at = usize::try_from(row % TABLES as u64).unwrap_or_default();
        work(&mut self.tables.get(at).unwrap_or(first).lock())
    }
}

impl Rows {
    fn new(forgotten: u64) -> Self {
        Self {
            by_id: HashMap::default(),
            sweep_at: SWEEP_FROM,
            recent: VecDeque::new(),
            forgotten,
            marked: Moment::NEVER,
        }
    }

    fn tag(&mut self, row: u64) -> &Arc<Tag> {
        if self.by_id.len() >= self.sweep_at {
            self.sweep();
        }
        let (forgotten, marked) = (self.forgotten, self.marked);
        self.by_id.entry(row).or_insert_with(|| {
            let tag = Arc::<Tag>::default();
            tag.touch_whole(forgotten);
            tag.mark_whole(marked);
            tag
        })
    }

    /// Drops what nobody holds and a newcomer would be given again. Others get a tag only from here, under the lock: with one
    /// count it is nobody's.
    fn sweep(&mut self) {
        let (forgotten, marked) = (self.forgotten, &mut self.marked);
        self.by_id.retain(|_, tag| {
            let keep = Arc::strong_count(tag) > 1 || tag.last_change() > forgotten;
            if !keep {
                *marked = (*marked).max(tag.marked());
            }
            keep
        });
        self.sweep_at = SWEEP_FROM.max(self.by_id.len().saturating_mul(2));
    }
}

impl Tag {
    /// The part whose rows are told apart by these columns, made if need be; `None` if there are too many. The same columns in
    /// another order are another part: have them in the same order always.
    pub fn part(&self, columns: &[&str]) -> Option<Arc<Part>> {
        let mut parts = self.parts.lock();
        let known = parts.as_deref().unwrap_or_default();
        if let Some(part) = known.iter().find(|part| part.columns().eq(columns.iter().copied())) {
            return Some(Arc::clone(part));
        }
        let mut kept: Vec<_> = known.iter().collect();
        if kept.len() >= MAX_PARTS {
            // Whoever depends on one of its rows depends on `all`. Others get either of them only from here.
            let free = |part: &&Arc<Part>| Arc::strong_count(part) == 1 && Arc::strong_count(&part.all) == 1;
            kept.swap_remove(kept.iter().position(free)?);
        }
        let part = Arc::new(Part::new(columns, self));
        let list: Arc<[_]> = kept.into_iter().cloned().chain([Arc::clone(&part)]).collect();
        *parts = Some(list);
        Some(part)
    }

    /// The parts that there are now.
    pub fn parts(&self) -> Arc<[Arc<Part>]> {
        self.parts.lock().as_ref().map_or_else(Arc::default, Arc::clone)
    }

    /// Takes the last change back, with that of all parts: see [`crate::Tags::restart`].
    pub(crate) fn restart(&self) {
        self.take_back();
        self.parts().iter().for_each(|part| part.restart());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tag with one part, and that part.
    fn parted() -> (Tag, Arc<Part>) {
        let whole = Tag::default();
        let part = whole.part(&["id"]).unwrap();
        (whole, part)
    }

    /// A commit that changed these rows and no others.
    fn change(whole: &Tag, rows: &[u64], position: u64) {
        whole.touch_whole(position);
        for part in &*whole.parts() {
            rows.iter().for_each(|row| part.touch_row(*row, position));
        }
    }

    #[test]
    fn a_change_of_unknown_rows_touches_every_part_and_one_of_known_rows_only_those() {
        let (whole, part) = parted();
        let rows = [1, 2].map(|row| part.row(row));
        change(&whole, &[2], 7);
        assert_eq!((whole.last_change(), part.all().last_change()), (7, 0));
        assert_eq!(rows.each_ref().map(|row| row.last_change()), [0, 7]);
        whole.touch(9);
        assert_eq!((whole.last_change(), part.all().last_change()), (9, 9));
        whole.mark_whole(Moment(4));
        part.mark_row(1, Moment(4));
        assert_eq!((whole.marked(), part.all().marked()), (Moment(4), Moment::NEVER));
        assert_eq!(rows.each_ref().map(|row| row.marked()), [Moment(4), Moment::NEVER]);
        whole.mark(Moment(5));
        assert_eq!(part.all().marked(), Moment(5));
    }

    #[test]
    fn a_new_part_begins_where_the_whole_stands() {
        let whole = Tag::default();
        whole.touch(7);
        whole.mark(Moment(3));
        let part = whole.part(&["id"]).unwrap();
        assert_eq!((part.all().last_change(), part.all().marked()), (7, Moment(3)));
        assert_eq!(part.row(42).last_change(), 7);
        assert!(Arc::ptr_eq(&part, &whole.part(&["id"]).unwrap()));
        assert!(Arc::ptr_eq(&part.row(42), &part.row(42)));
    }

    #[test]
    fn rows_are_remembered_for_a_while() {
        let (whole, part) = parted();
        change(&whole, &[1], 5);
        change(&whole, &[2], 6);
        assert_eq!([1, 2, 3].map(|row| part.row(row).last_change()), [5, 6, 0]);
        // All in the table of row 1.
        let others = (1..).map(|n| 1 + n * TABLES as u64);
        for (position, row) in (7..).zip(others.take(RECENT)) {
            change(&whole, &[row], position);
        }
        let newcomer = 1 + 9_999 * TABLES as u64;
        assert_eq!(part.row(newcomer).last_change(), 5, "what was forgotten may have been its change");
        assert_eq!(part.row(2).last_change(), 6);
    }

    #[test]
    fn a_row_that_comes_back_has_missed_nothing() {
        let (whole, part) = parted();
        drop(part.row(1));
        part.mark_row(1, Moment(3));
        part.mark_row(TABLES as u64 + 1, Moment(2));
        for n in 2..10_000 {
            change(&whole, &[1 + n * TABLES as u64], n);
        }
        change(&whole, &[1], 10_000);
        for n in 10_001..20_000 {
            change(&whole, &[1 + n * TABLES as u64], n);
        }
        assert!(part.len() <= 2 * SWEEP_FROM, "{}", part.len());
        let row = part.row(1);
        assert!(row.last_change() >= 10_000 && row.marked() == Moment(3));
    }

    #[test]
    fn there_are_only_so_many_parts() {
        let whole = Tag::default();
        let names: Vec<String> = (0..MAX_PARTS).map(|n| n.to_string()).collect();
        let held: Vec<_> = names.iter().map(|name| whole.part(&[name]).unwrap()).collect();
        assert!(whole.part(&["another"]).is_none());
        assert!(whole.part(&["0"]).is_some());
        assert_eq!(whole.parts().len(), MAX_PARTS);
        let answer = Arc::clone(held[1].all());
        drop(held);
        for name in ["another", "and another"] {
            assert!(whole.part(&[name]).is_some(), "what nobody uses makes way");
        }
        whole.touch(7);
        assert_eq!((whole.parts().len(), answer.last_change()), (MAX_PARTS, 7));
    }

    #[test]
    fn rows_that_nobody_holds_are_dropped_and_held_ones_are_not() {
        let (_, part) = parted();
        let held: Vec<_> = (0..100).map(|row| part.row(row)).collect();
        for row in 100..200_000 {
            part.row(row);
        }
        assert!(part.len() <= TABLES * SWEEP_FROM, "{}", part.len());
        for (row, tag) in (0..).zip(&held) {
            assert!(Arc::ptr_eq(tag, &part.row(row)));
        }
    }

    #[test]
    fn a_restart_takes_rows_back() {
        let tags = crate::Tags::default();
        let whole = tags.get("t");
        let part = whole.part(&["id"]).unwrap();
        let held = part.row(1);
        whole.touch(8);
        change(&whole, &[1, 2], 9);
        tags.restart(&crate::Fence::new(std::time::Duration::from_secs(1)), 0);
        assert_eq!(held.last_change(), 0);
        assert_eq!(
            (part.all().last_change(), part.row(2).last_change(), part.row(3).last_change()),
            (0, 0, 0)
        );
    }
}
