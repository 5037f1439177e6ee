//! The arguments at the top of `fence.rs`, tried exhaustively: every interleaving of the two or three threads, and for
//! every load every value that the memory model permits it to return. Numbers in names are those of the arguments; of rows,
//! the argument is at the top of `parts.rs`.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use crate::entry::{Entry, Reader};
use crate::fence::FillPoint;
use crate::shared::{Scope, Statement};
use crate::{Fence, Moment, Tag, Tags};

mod rows;

/// What is proven before the threads start: positions up to 100, time up to 10.
fn proven() -> (Arc<Fence>, Arc<Tags>, Arc<Tag>) {
    let fence = Arc::new(Fence::new(Duration::from_secs(1)));
    fence.set_visible(100);
    fence.set_covered(Moment(10));
    let tags = Arc::new(Tags::default());
    let tag = tags.get("t");
    (fence, tags, tag)
}

fn entry(point: FillPoint, tag: &Arc<Tag>) -> Entry<()> {
    let (stored, expires) = (Moment(1), Moment(u64::MAX));
    let tags = [Arc::clone(tag)].into();
    Entry { value: (), stored, cost: Duration::ZERO, point, tags, expires, weight: 0 }
}

fn given(entry: &Entry<()>, fence: &Fence, covered_past: u64) -> bool {
    let reader = Reader { now: Moment(50), heed_marks: true, covered_past: Moment(covered_past) };
    entry.judge(fence, &reader).is_ok()
}

#[test]
fn argument_1_coverage_of_a_commit_comes_with_its_touch() {
    loom::model(|| {
        let (fence, _, tag) = proven();
        let entry = entry(fence.fill_point().unwrap(), &tag);
        let feed = thread::spawn({
            let (fence, tag) = (Arc::clone(&fence), Arc::clone(&tag));
            move || {
                tag.touch(101);
                fence.set_covered(Moment(20));
            }
        });
        assert!(!given(&entry, &fence, 20));
        feed.join().unwrap();
    });
}

#[test]
fn argument_2_coverage_after_a_break_comes_with_the_new_epoch() {
    loom::model(|| {
        let (fence, _, tag) = proven();
        let entry = entry(fence.fill_point().unwrap(), &tag);
        let feed = thread::spawn({
            let fence = Arc::clone(&fence);
            move || {
                fence.begin_epoch(200, false);
                fence.set_covered(Moment(20));
            }
        });
        assert!(!given(&entry, &fence, 20));
        feed.join().unwrap();
    });
}

#[test]
fn argument_3_a_change_taken_back_by_a_restart_does_not_revive_an_entry() {
    loom::model(|| {
        let (fence, tags, tag) = proven();
        let entry = entry(fence.fill_point().unwrap(), &tag);
        tag.touch(101);
        let feed = thread::spawn({
            let (fence, tags) = (Arc::clone(&fence), Arc::clone(&tags));
            move || {
                tags.restart(&fence, 5);
            }
        });
        assert!(!given(&entry, &fence, 0));
        feed.join().unwrap();
    });
}

#[test]
fn argument_4_a_mark_seen_before_the_read_hides_until_its_commit_is_folded_in() {
    loom::model(|| {
        let (fence, _, tag) = proven();
        let entry = entry(fence.fill_point().unwrap(), &tag);
        // The client has been told, and reads.
        tag.mark(Moment(15));
        let feed = thread::spawn({
            let (fence, tag) = (Arc::clone(&fence), Arc::clone(&tag));
            move || {
                fence.set_covered(Moment(12));
                tag.touch(101);
                fence.set_covered(Moment(16));
            }
        });
        assert!(!given(&entry, &fence, 0));
        feed.join().unwrap();
    });
}

/// A fill and a restart of positions, with a reader on a third thread or on the filler's.
#[test]
fn argument_5_a_position_of_the_old_life_does_not_outlive_it() {
    loom::model(|| {
        let (fence, tags, tag) = proven();
        let feed = thread::spawn({
            let (fence, tags, tag) = (Arc::clone(&fence), Arc::clone(&tags), Arc::clone(&tag));
            move || {
                tags.restart(&fence, 5);
                fence.set_visible(5);
                tag.touch(6);
                fence.set_covered(Moment(20));
            }
        });
        if let Some(point) = fence.fill_point() {
            // Whatever the fill stands at, the change at 6 came after it.
            assert!(!given(&entry(point, &tag), &fence, 20));
        }
        feed.join().unwrap();
    });
}

/// The new life's positions may also be higher. A fill that took one of them into the old epoch is dead, though this
/// reader has no coverage that would tell it of the new life.
#[test]
fn argument_5_a_position_of_the_new_life_does_not_enter_the_old_one() {
    loom::model(|| {
        let (fence, tags, tag) = proven();
        let feed = thread::spawn({
            let (fence, tags) = (Arc::clone(&fence), Arc::clone(&tags));
            move || {
                tags.restart(&fence, 200);
                fence.set_visible(200);
            }
        });
        if let Some(point @ FillPoint { as_of: 200, epoch: 0 }) = fence.fill_point() {
            assert!(!given(&entry(point, &tag), &fence, 0));
        }
        feed.join().unwrap();
    });
}

#[test]
fn argument_6_no_fill_of_an_epoch_stands_below_its_floor() {
    loom::model(|| {
        let (fence, _, _) = proven();
        let feed = thread::spawn({
            let fence = Arc::clone(&fence);
            move || fence.begin_epoch(200, false)
        });
        if let Some(point) = fence.fill_point() {
            assert_eq!(point, FillPoint { as_of: 100, epoch: 0 });
        }
        assert_eq!(feed.join().unwrap(), 1);
        assert_eq!(fence.fill_point(), None);
    });
}

#[test]
fn argument_7_a_change_during_the_fill_is_seen_by_whoever_sees_its_coverage() {
    loom::model(|| {
        let (fence, _, tag) = proven();
        let feed = thread::spawn({
            let (fence, tag) = (Arc::clone(&fence), Arc::clone(&tag));
            move || {
                tag.touch(101);
                fence.set_visible(101);
                fence.set_covered(Moment(20));
            }
        });
        let point = fence.fill_point().unwrap();
        let old = point.as_of == 100;
        let kept = entry(point, &tag);
        assert!(!(old && given(&kept, &fence, 20)));
        feed.join().unwrap();
        assert_eq!(given(&kept, &fence, 20), !old);
    });
}

/// A review requested while the feed samples: the flag stops the coverage, or the coverage precedes the mark. The clock
/// is a counter here that orders nothing else; the feed reads it before it looks at the flag, as with the real one.
#[test]
fn a_review_is_never_overtaken_by_coverage() {
    loom::model(|| {
        let (fence, _, _) = proven();
        let clock = Arc::new(loom::sync::atomic::AtomicU64::new(11));
        let tick =
            |clock: &loom::sync::atomic::AtomicU64| clock.fetch_add(1, loom::sync::atomic::Ordering::Relaxed);
        let feed = thread::spawn({
            let (fence, clock) = (Arc::clone(&fence), Arc::clone(&clock));
            move || fence.set_covered(Moment(tick(&clock)))
        });
        let mark = fence.raise_review(|| Moment(tick(&clock)));
        feed.join().unwrap();
        assert!(fence.covered() < mark);
        assert!(fence.take_review_request());
    });
}

/// An epoch that begins at position 100 and is shared.
fn shared() -> (Arc<Fence>, Arc<Tags>, Arc<Tag>, Arc<Scope>) {
    let (fence, tags, tag) = proven();
    let epoch = tags.restart(&fence, 100);
    fence.share(epoch, b"life", [0; 32]);
    fence.set_covered(Moment(10));
    let scope = fence.scope().unwrap();
    (fence, tags, tag, scope)
}

/// What an adopter does: history first, then an entry, then a lookup.
fn adopted(fence: &Fence, scope: &Scope, as_of: u64, tag: &Arc<Tag>) -> bool {
    fence.stands(scope, as_of).is_some_and(|point| given(&entry(point, tag), fence, 0))
}

#[test]
fn history_that_was_moved_back_comes_with_the_changes_since_then() {
    loom::model(|| {
        let (fence, _, tag, scope) = shared();
        let keeper = thread::spawn({
            let (fence, tag, scope) = (Arc::clone(&fence), Arc::clone(&tag), Arc::clone(&scope));
            move || fence.learn(&scope, 20, 110, || tag.touch(60))
        });
        assert!(!adopted(&fence, &scope, 50, &tag), "changed at 60");
        assert!(keeper.join().unwrap());
        assert!(!adopted(&fence, &scope, 50, &tag));
        assert!(adopted(&fence, &scope, 70, &tag));
    });
}

#[test]
fn what_is_learnt_of_an_epoch_does_not_move_the_history_of_the_next() {
    loom::model(|| {
        let (fence, tags, tag, scope) = shared();
        let keeper = thread::spawn({
            let (fence, tag) = (Arc::clone(&fence), Arc::clone(&tag));
            move || fence.learn(&scope, 20, 110, || tag.touch(60))
        });
        let epoch = tags.restart(&fence, 100);
        fence.share(epoch, b"life", [0; 32]);
        keeper.join().unwrap();
        assert_eq!(fence.history(), Some(100));
        assert_eq!(tag.last_change(), 0, "and tags are as the restart left them");
    });
}

#[test]
fn what_is_adopted_while_an_epoch_begins_is_dead() {
    loom::model(|| {
        let (fence, tags, tag, scope) = shared();
        tag.touch(120);
        let feed = thread::spawn({
            let fence = Arc::clone(&fence);
            move || {
                // Positions begin again, lower, and so does history.
                let epoch = tags.restart(&fence, 5);
                fence.share(epoch, b"other", [0; 32]);
                fence.set_covered(Moment(20));
            }
        });
        assert!(!adopted(&fence, &scope, 110, &tag), "changed at 120");
        feed.join().unwrap();
        assert!(!adopted(&fence, &scope, 110, &tag));
    });
}

/// A statement about one tag: the map of tags is behind a lock that loom does not know.
fn collect(fence: &Fence, tag: &Tag) -> Option<Statement> {
    Statement::collect_by(fence, |from| {
        let last = tag.last_change();
        if last > from { vec![("t".into(), last)] } else { Vec::new() }
    })
}

#[test]
fn a_statement_holds_every_change_up_to_its_end() {
    loom::model(|| {
        let (fence, _, tag, _) = shared();
        fence.set_settled(110);
        let feed = thread::spawn({
            let (fence, tag) = (Arc::clone(&fence), Arc::clone(&tag));
            move || {
                tag.touch(120);
                fence.set_settled(120);
            }
        });
        if let Some(said) = collect(&fence, &tag) {
            assert!(said.to == 110 || said.tags == [("t".into(), 120)]);
        }
        feed.join().unwrap();
    });
}

#[test]
fn a_statement_collected_while_tags_are_taken_back_is_not_made() {
    loom::model(|| {
        let (fence, tags, tag, _) = shared();
        tag.touch(120);
        fence.set_settled(130);
        let feed = thread::spawn({
            let fence = Arc::clone(&fence);
            move || {
                tags.restart(&fence, 5);
            }
        });
        if let Some(said) = collect(&fence, &tag) {
            assert_eq!((said.to, said.tags), (130, vec![("t".into(), 120)]));
        }
        feed.join().unwrap();
    });
}
