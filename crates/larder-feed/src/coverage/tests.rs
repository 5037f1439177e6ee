use super::*;
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const MAX_LAG: Duration = Duration::from_secs(1);
const DDL_CHECK: Duration = Duration::from_millis(250);

fn at(ms: u64) -> Moment {
    Moment(1 + ms * MS)
}

fn idle() -> Coverage {
    let before = Snapshot::parse("50:50:").unwrap();
    let mut coverage = Coverage::new(MAX_LAG, DDL_CHECK, Lsn(100), &before, at(0));
    coverage.wanted = false;
    coverage
}

fn sampled(snapshot: &str, position: u64) -> Sampled {
    Sampled { snapshot: Snapshot::parse(snapshot).unwrap(), position: Lsn(position), flushed: Lsn(position) }
}

/// Takes a sample from `ms` to `ms + 1`.
fn sample(coverage: &mut Coverage, ms: u64, snapshot: &str, position: u64) -> bool {
    let compares = coverage.begin_sample(at(ms), false);
    coverage.end_sample(sampled(snapshot, position), false, at(ms + 1));
    compares
}

#[test]
fn covered_is_the_start_of_a_sample_whose_position_is_reached() {
    let mut coverage = idle();
    sample(&mut coverage, 10, "60:60:", 200);
    assert_eq!(coverage.covered(), Moment::NEVER);
    assert_eq!(coverage.next(at(11)), Step::Ping, "at once");
    coverage.pinged(at(11));
    assert_eq!(coverage.next(at(12)), Step::Wait(at(16)), "then every 5 ms");
    coverage.reach(Lsn(199));
    assert_eq!(coverage.covered(), Moment::NEVER);
    coverage.reach(Lsn(200));
    assert_eq!((coverage.covered(), coverage.applied()), (at(10), Lsn(200)));
    sample(&mut coverage, 20, "60:60:", 200);
    assert_eq!(coverage.covered(), at(20), "nothing to wait for");
}

#[test]
fn log_that_nobody_flushes_is_nudged() {
    let mut coverage = idle();
    coverage.begin_sample(at(10), false);
    coverage.end_sample(Sampled { flushed: Lsn(150), ..sampled("60:60:", 200) }, false, at(11));
    coverage.pinged(at(15));
    assert_eq!(coverage.next(at(15)), Step::Wait(at(16)), "it may flush by itself");
    assert_eq!(coverage.next(at(16)), Step::Nudge);
    coverage.nudged(at(16));
    coverage.pinged(at(16));
    assert!(matches!(coverage.next(at(17)), Step::Wait(_)), "not again at once");
    coverage.reach(Lsn(200));
    assert_eq!(coverage.covered(), at(10));
    sample(&mut coverage, 300, "60:60:", 300);
    coverage.pinged(at(301));
    assert!(!matches!(coverage.next(at(302)), Step::Nudge), "flushed, only not sent yet");
}

#[test]
fn one_sample_in_flight_serves_all_that_queue_behind_it() {
    let mut coverage = idle();
    coverage.request();
    assert_eq!(coverage.next(at(1)), Step::Sample);
    coverage.begin_sample(at(1), false);
    coverage.request();
    coverage.request();
    assert!(matches!(coverage.next(at(2)), Step::Wait(_)), "not while one is in flight");
    coverage.end_sample(sampled("60:60:", 100), false, at(3));
    assert_eq!(coverage.next(at(3)), Step::Sample, "one right after it");
    sample(&mut coverage, 3, "60:60:", 100);
    assert!(matches!(coverage.next(at(4)), Step::Wait(_)));
}

#[test]
fn samples_are_taken_for_the_lease_and_to_confirm_commits() {
    let mut coverage = idle();
    coverage.pinged(at(0));
    assert_eq!(coverage.next(at(1)), Step::Wait(at(250)), "a quarter of max_lag");
    coverage.commit(60, Lsn(150), false);
    assert_eq!((coverage.applied(), coverage.visible()), (Lsn(150), Lsn(149)));
    assert_eq!(coverage.next(at(1)), Step::Sample);
    sample(&mut coverage, 1, "60:61:60", 150);
    assert_eq!(coverage.visible(), Lsn(149), "committed, and still in progress for the snapshot");
    assert_eq!(coverage.next(at(2)), Step::Wait(at(3)), "not every millisecond for ever");
    sample(&mut coverage, 3, "61:61:", 150);
    assert_eq!(coverage.visible(), Lsn(150));
}

#[test]
fn whoever_ran_when_the_slot_was_made_holds_visibility_back() {
    let before = Snapshot::parse("50:60:50,55").unwrap();
    let mut coverage = Coverage::new(MAX_LAG, DDL_CHECK, Lsn(100), &before, at(0));
    assert_eq!(coverage.visible(), Lsn(0));
    sample(&mut coverage, 1, "55:60:55", 100);
    assert_eq!(coverage.visible(), Lsn(0));
    sample(&mut coverage, 2, "60:60:", 100);
    assert_eq!(coverage.visible(), Lsn(100));
}

#[test]
fn coverage_does_not_pass_a_catalog_change_before_a_comparison_sees_it() {
    let mut coverage = idle();
    assert!(!sample(&mut coverage, 10, "60:61:60", 200), "a plain one");
    assert!(coverage.commit(60, Lsn(150), true));
    coverage.reach(Lsn(300));
    assert_eq!(coverage.covered(), Moment::NEVER, "forgotten: it began before the review");
    assert_eq!(coverage.next(at(11)), Step::Sample);
    assert!(sample(&mut coverage, 11, "60:61:60", 300));
    assert!(coverage.review_pending(), "the comparison did not see it");
    assert_eq!(coverage.covered(), at(11), "but all that was acknowledged before it began");
    assert!(!sample(&mut coverage, 12, "61:61:", 300), "too soon after the last comparison");
    assert_eq!(coverage.covered(), at(11), "a plain sample proves nothing now");
    assert!(sample(&mut coverage, 20, "61:61:", 300));
    assert!(!coverage.review_pending());
    assert_eq!(coverage.covered(), at(20));
}

#[test]
fn a_sample_reached_before_the_catalog_change_stands() {
    let mut coverage = idle();
    sample(&mut coverage, 10, "60:60:", 149);
    coverage.commit(60, Lsn(150), true);
    assert_eq!(coverage.covered(), at(10));
}

#[test]
fn what_the_last_comparison_saw_needs_no_other() {
    let mut coverage = idle();
    coverage.request_review();
    sample(&mut coverage, 10, "61:61:", 300);
    assert!(!coverage.review_pending());
    assert!(!coverage.commit(60, Lsn(150), true), "it had committed before");
    assert!(coverage.commit(61, Lsn(160), true));
}

#[test]
fn a_request_for_review_outlasts_a_comparison_in_flight() {
    let mut coverage = idle();
    coverage.request_review();
    assert!(coverage.begin_sample(at(10), false));
    coverage.end_sample(sampled("61:61:", 100), true, at(11));
    assert!(coverage.review_pending());
    assert!(sample(&mut coverage, 20, "61:61:", 100));
    assert!(!coverage.review_pending());
}

#[test]
fn a_request_during_a_plain_sample_voids_it() {
    let mut coverage = idle();
    assert!(!coverage.begin_sample(at(10), false));
    coverage.end_sample(sampled("61:61:", 100), true, at(11));
    assert_eq!(coverage.covered(), Moment::NEVER);
    assert_eq!(coverage.next(at(11)), Step::Sample, "the comparison");
}

#[test]
fn the_catalog_is_compared_on_a_timer() {
    let mut coverage = idle();
    assert!(!sample(&mut coverage, 999, "60:60:", 100));
    assert!(sample(&mut coverage, 1000, "60:60:", 100), "once a second when idle");
    coverage.commit(60, Lsn(150), false);
    assert!(!sample(&mut coverage, 1250, "60:61:60", 150), "last_compare is 1001");
    assert!(sample(&mut coverage, 1251, "60:61:60", 150), "every ddl_check after a commit");
    assert!(sample(&mut coverage, 1502, "61:61:", 150), "again: that commit was not visible to it");
    assert!(!sample(&mut coverage, 1900, "61:61:", 150));
}

#[test]
fn comparisons_rest_in_proportion_to_their_cost() {
    let mut coverage = idle();
    coverage.request_review();
    assert!(coverage.begin_sample(at(100), false));
    coverage.end_sample(sampled("60:60:", 100), false, at(120));
    coverage.request_review();
    coverage.pinged(at(120));
    assert_eq!(coverage.next(at(121)), Step::Wait(at(180)), "three times 20 ms after 120");
    assert!(coverage.begin_sample(at(180), false));
    coverage.end_sample(sampled("60:60:", 100), false, at(900));
    coverage.request_review();
    assert!(!coverage.begin_sample(at(999), false), "a plain one");
    coverage.end_sample(sampled("60:60:", 100), false, at(999));
    assert!(coverage.begin_sample(at(1000), false), "100 ms is the longest rest");
}

#[test]
fn the_queue_of_samples_is_bounded() {
    let mut coverage = idle();
    for n in 0..1000 {
        sample(&mut coverage, n, "60:60:", 200 + n);
    }
    assert!(coverage.waiting.len() <= WAITING_MAX);
    coverage.reach(Lsn(5000));
    assert_eq!(coverage.covered(), at(999));
}

proptest! {
    /// Commits with random acknowledgement times against samples at random times: whenever `covered` is past the
    /// time at which a commit was acknowledged, its position has been applied and, if it changed the catalog, a
    /// comparison has seen it.
    #[test]
    fn covered_never_claims_too_much(steps in proptest::collection::vec((0..5_u8, any::<bool>()), 1..120)) {
        let mut coverage = idle();
        // Commits on the origin: (xid, position, acknowledged at, changes the catalog); all visible at once.
        let mut origin: Vec<(u32, u64, u64, bool)> = Vec::new();
        let (mut sent, mut now, mut reviewed) = (0, 10, 0_usize);
        let mut in_flight: Option<(usize, bool)> = None;
        for (step, flag) in steps {
            now += 1;
            match step {
                0 => {
                    let n = origin.len() as u64;
                    origin.push((60 + origin.len() as u32, 200 + 10 * n, now, flag));
                }
                1 if sent < origin.len() => {
                    let (xid, position, _, review) = origin[sent];
                    coverage.commit(xid, Lsn(position), review);
                    sent += 1;
                }
                2 if in_flight.is_none() => {
                    let compares = coverage.begin_sample(at(now), false);
                    in_flight = Some((origin.len(), compares));
                }
                3 => if let Some((seen, compares)) = in_flight.take() {
                    let xmax = 60 + seen;
                    let position = 190 + 10 * seen as u64;
                    coverage.end_sample(sampled(&format!("{xmax}:{xmax}:"), position), false, at(now));
                    if compares { reviewed = reviewed.max(seen); }
                },
                _ => now += 3,
            }
            for (index, (_, position, acknowledged, review)) in origin.iter().enumerate() {
                if coverage.covered() > at(*acknowledged) {
                    prop_assert!(coverage.applied() >= Lsn(*position));
                    prop_assert!(!review || index < reviewed, "commit {index} was not reviewed");
                }
            }
        }
    }
}
