//! The visibility guard: up to which position every applied commit is known to be visible to new snapshots.
//!
//! PostgreSQL sends a commit to the feed before it makes it visible (freshness.md, section 2). So each commit that
//! arrives is put on a list, in commit order, and taken off when a snapshot taken later sees it. What is before the
//! first one left is visible.

use std::collections::VecDeque;

use larder_core::Lsn;

/// What `pg_current_snapshot()` says: `xmin:xmax:xip,xip,...`, in 64-bit transaction ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Every id below has ended.
    xmin: u64,
    /// No id from here on had ended.
    xmax: u64,
    /// Those between the two that were in progress, ascending.
    in_progress: Vec<u64>,
}

impl Snapshot {
    /// Reads the text form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let xmin = parts.next()?.parse().ok()?;
        let xmax = parts.next()?.parse().ok()?;
        let list = parts.next()?;
        let mut in_progress = match list {
            "" => Vec::new(),
            list => list.split(',').map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?,
        };
        in_progress.sort_unstable();
        Some(Self { xmin, xmax, in_progress })
    }

    /// Whether a transaction that is known to have committed is visible to this snapshot, by its 32-bit id.
    pub(crate) fn sees(&self, xid: u32) -> bool {
        let xid = self.widen(xid);
        xid < self.xmin || (xid < self.xmax && self.in_progress.binary_search(&xid).is_err())
    }

    /// The transactions that were in progress, as 32-bit ids.
    #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are what the stream shows")]
    pub(crate) fn in_progress(&self) -> impl Iterator<Item = u32> + '_ {
        self.in_progress.iter().map(|xid| *xid as u32)
    }

    /// An id that no transaction which was in progress lies below, nor any that began later.
    #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are what catalogs show")]
    pub(crate) fn horizon(&self) -> u32 {
        self.xmin as u32
    }

    /// How many transactions ago that id was given out.
    pub(crate) fn age(&self, xid: u32) -> u64 {
        self.xmax.saturating_sub(self.widen(xid))
    }

    /// The 64-bit id nearest to `xmax` with these low 32 bits: ids in use at one time span less than 2^31.
    #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are what is compared")]
    fn widen(&self, xid: u32) -> u64 {
        let ahead = xid.wrapping_sub(self.xmax as u32).cast_signed();
        self.xmax.saturating_add_signed(i64::from(ahead))
    }
}

/// Applied commits that no snapshot has been seen to see yet, in commit order.
#[derive(Debug, Default)]
pub(crate) struct Unconfirmed {
    commits: VecDeque<(u32, Lsn)>,
}

impl Unconfirmed {
    /// A commit that ends at `position` was applied.
    pub(crate) fn push(&mut self, xid: u32, position: Lsn) {
        self.commits.push_back((xid, position));
    }

    /// Takes off the list what the snapshot sees.
    pub(crate) fn confirm(&mut self, snapshot: &Snapshot) {
        self.commits.retain(|(xid, _)| !snapshot.sees(*xid));
    }

    /// Whether nothing is waited for.
    pub(crate) fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    /// The position up to which everything applied is visible.
    pub(crate) fn visible(&self, applied: Lsn) -> Lsn {
        match self.commits.front() {
            Some((_, position)) => applied.min(Lsn(position.0.saturating_sub(1))),
            None => applied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_text_form() {
        let snapshot = Snapshot::parse("10:20:10,14").unwrap();
        assert_eq!(snapshot, Snapshot { xmin: 10, xmax: 20, in_progress: vec![10, 14] });
        assert!(Snapshot::parse("7:7:").unwrap().in_progress.is_empty());
        for bad in ["", "1", "1:2", "1:2:x", "1:2:3,", "-1:2:"] {
            assert_eq!(Snapshot::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn sees_what_had_ended() {
        let snapshot = Snapshot::parse("10:20:10,14").unwrap();
        let seen: Vec<u32> = (8..22).filter(|xid| snapshot.sees(*xid)).collect();
        assert_eq!(seen, [8, 9, 11, 12, 13, 15, 16, 17, 18, 19]);
    }

    #[test]
    fn ids_are_widened_across_the_wrap() {
        let epoch = 1_u64 << 32;
        // xmax has just wrapped into epoch 3: ids shortly below 2^32 belong to epoch 2.
        let xmax = 3 * epoch + 5;
        let snapshot = Snapshot { xmin: xmax - 10, xmax, in_progress: vec![xmax - 10, xmax - 2] };
        assert!(snapshot.sees(u32::MAX - 6), "xmax - 11 had ended");
        assert!(!snapshot.sees(u32::MAX - 4), "xmax - 10 was in progress");
        assert!(!snapshot.sees(3), "xmax - 2 was in progress");
        assert!(snapshot.sees(4), "xmax - 1 had ended");
        assert!(!snapshot.sees(5), "xmax had not");
        assert_eq!(snapshot.in_progress().collect::<Vec<_>>(), [u32::MAX - 4, 3]);
        let young = Snapshot { xmin: 5, xmax: 7, in_progress: vec![] };
        assert!(young.sees(u32::MAX), "an id from before the first epoch cannot be running");
    }

    #[test]
    fn visible_stops_before_the_first_unconfirmed() {
        let mut list = Unconfirmed::default();
        assert_eq!(list.visible(Lsn(90)), Lsn(90));
        list.push(11, Lsn(100));
        list.push(10, Lsn(110));
        list.push(12, Lsn(120));
        assert_eq!(list.visible(Lsn(120)), Lsn(99));
        list.confirm(&Snapshot::parse("10:13:10").unwrap());
        assert_eq!(list.visible(Lsn(130)), Lsn(109));
        list.confirm(&Snapshot::parse("13:13:").unwrap());
        assert!(list.is_empty());
        assert_eq!(list.visible(Lsn(130)), Lsn(130));
    }

    proptest! {
        #[test]
        fn visible_never_passes_an_unseen_commit(order in Just((0..12_u32).collect::<Vec<_>>()).prop_shuffle(), seen in 0..12_u64) {
            let mut list = Unconfirmed::default();
            for (index, xid) in order.iter().enumerate() {
                list.push(*xid, Lsn(100 + 10 * index as u64));
            }
            list.confirm(&Snapshot { xmin: seen, xmax: seen, in_progress: vec![] });
            let visible = list.visible(Lsn(1000));
            for (index, xid) in order.iter().enumerate() {
                let position = Lsn(100 + 10 * index as u64);
                prop_assert!(u64::from(*xid) < seen || visible < position);
            }
        }

        #[test]
        fn nothing_panics(text in "[0-9:,]{0,30}", xid in any::<u32>()) {
            if let Some(snapshot) = Snapshot::parse(&text) {
                let _ = snapshot.sees(xid);
            }
        }
    }
}
