//! The argument at the top of `parts.rs`: a change and a newcomer cannot miss each other.

use super::*;

const ROW: u64 = 7;

/// What a session does for an answer of position 100 that depends on one row: asks for the tags, now.
fn answer(tag: &Tag) -> Entry<()> {
    let part = tag.part(&["id"]).unwrap();
    let tags = [Arc::clone(part.all()), part.row(ROW)].into();
    let point = FillPoint { as_of: 100, epoch: 0 };
    Entry {
        value: (),
        stored: Moment(1),
        cost: Duration::ZERO,
        point,
        tags,
        expires: Moment(u64::MAX),
        weight: 0,
    }
}

/// What the feed does for a commit at 101: `row` is what it changed, if that is known.
fn commit(fence: &Fence, tag: &Tag, row: Option<u64>) {
    tag.touch_whole(101);
    for part in &*tag.parts() {
        match row {
            Some(row) => part.touch_row(row, 101),
            None => part.all().touch_whole(101),
        }
    }
    fence.set_covered(Moment(20));
}

fn change_and_newcomer(before: fn(&Tag), row: Option<u64>) {
    loom::model(move || {
        let (fence, _, tag) = proven();
        before(&tag);
        let feed = thread::spawn({
            let (fence, tag) = (Arc::clone(&fence), Arc::clone(&tag));
            move || commit(&fence, &tag, row)
        });
        let kept = answer(&tag);
        assert!(!given(&kept, &fence, 20));
        feed.join().unwrap();
        assert!(!given(&kept, &fence, 20));
    });
}

#[test]
fn a_change_and_a_new_part_meet() {
    change_and_newcomer(|_| {}, Some(ROW));
    change_and_newcomer(|_| {}, None);
}

#[test]
fn a_change_and_a_new_row_meet() {
    change_and_newcomer(|tag| drop(tag.part(&["id"])), Some(ROW));
}

#[test]
fn a_change_and_a_row_that_was_given_up_meet() {
    change_and_newcomer(|tag| drop(answer(tag)), Some(ROW));
}

#[test]
fn a_change_of_another_row_ends_nothing() {
    loom::model(|| {
        let (fence, _, tag) = proven();
        let kept = answer(&tag);
        let feed = thread::spawn({
            let (fence, tag) = (Arc::clone(&fence), Arc::clone(&tag));
            move || commit(&fence, &tag, Some(ROW + 1))
        });
        let later = answer(&tag);
        feed.join().unwrap();
        assert!(given(&kept, &fence, 20) && given(&later, &fence, 20));
    });
}

/// A writer whose client has been told: whoever reads after that, by tags that were made before, meanwhile or later, misses.
#[test]
fn a_mark_and_a_newcomer_meet() {
    for known in [false, true] {
        loom::model(move || {
            let (fence, _, tag) = proven();
            if known {
                drop(tag.part(&["id"]));
            }
            let reader = thread::spawn({
                let tag = Arc::clone(&tag);
                move || answer(&tag)
            });
            tag.mark_whole(Moment(15));
            tag.parts().iter().for_each(|part| part.mark_row(ROW, Moment(15)));
            let kept = reader.join().unwrap();
            assert!(!given(&kept, &fence, 0));
            assert!(!given(&answer(&tag), &fence, 0));
        });
    }
}

#[test]
fn rows_taken_back_by_a_restart_do_not_revive_an_answer() {
    loom::model(|| {
        let (fence, tags, tag) = proven();
        let kept = answer(&tag);
        commit(&fence, &tag, Some(ROW));
        let feed = thread::spawn({
            let (fence, tags) = (Arc::clone(&fence), Arc::clone(&tags));
            move || {
                tags.restart(&fence, 5);
            }
        });
        assert!(!given(&kept, &fence, 0));
        assert!(!given(&answer(&tag), &fence, 0));
        feed.join().unwrap();
    });
}
