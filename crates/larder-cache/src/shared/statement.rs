//! What one process says of the past to those that come after it.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use super::record::{put_short, take_meaning, take_short};
use super::scope::Scope;
use crate::{Fence, Tag, Tags};

/// Of the layout below.
const VERSION: u8 = 1;
/// Tags in one statement. With more, those that changed longest ago are left out, and it reaches less far back.
const TAGS_MAX: usize = 16_384;
/// Bytes that they may take: a value of the tier is at most 1 MiB unless somebody says otherwise.
const BYTES_MAX: usize = 768 * 1024;

/// "In this life, of all commits in `(from, to]`, these tags were last changed at these positions or earlier ones, no
/// other tag was, and the meaning stayed what it is." True for ever: see [`crate::shared`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// See [`Scope::life`].
    pub life: Bytes,
    /// See [`Scope::meaning`].
    pub meaning: [u8; 32],
    /// Of commits after this position.
    pub from: u64,
    /// Up to this one.
    pub to: u64,
    /// Keys of tags, and last changes.
    pub tags: Vec<(Box<str>, u64)>,
}

impl Statement {
    /// What can be said by this process now; `None` while nothing is shared or nothing is settled.
    pub fn collect(fence: &Fence, tags: &Tags) -> Option<Self> {
        Self::collect_by(fence, |from| tags.changed_since(from))
    }

    /// `changed`: keys and last changes of the tags that changed after a position.
    pub(crate) fn collect_by(
        fence: &Fence,
        changed: impl FnOnce(u64) -> Vec<(Box<str>, u64)>,
    ) -> Option<Self> {
        // `to` before the tags: what is collected includes everything up to it.
        let (scope, from, to) = fence.settled_span()?;
        let (from, tags) = bounded(from, changed(from));
        let (life, meaning) = (Bytes::copy_from_slice(&scope.life), scope.meaning);
        // The tags before the epoch: who sees one taken back by a restart sees the new epoch.
        (fence.epoch() == scope.epoch && from < to).then_some(Self { life, meaning, from, to, tags })
    }

    /// Takes in what it says, if that reaches further back than what is known here and joins it. Whether it did.
    pub fn learn(&self, fence: &Fence, tags: &Tags) -> bool {
        let Some(scope) = fence.scope().filter(|scope| self.is_about(scope)) else { return false };
        // Found before the lock is taken, as a restart takes the two locks in the other order.
        let found: Vec<(Arc<Tag>, u64)> =
            self.tags.iter().map(|(key, position)| (tags.get(key), *position)).collect();
        fence.learn(&scope, self.from, self.to, || {
            found.iter().for_each(|(tag, position)| tag.touch(*position));
        })
    }

    /// Whether it is of that life and meaning.
    pub fn is_about(&self, scope: &Scope) -> bool {
        *self.life == *scope.life && self.meaning == scope.meaning
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(128 + self.tags.iter().map(|(key, _)| key.len() + 10).sum::<usize>());
        out.put_u8(VERSION);
        put_short(&mut out, &self.life);
        out.put_slice(&self.meaning);
        out.put_u64(self.from);
        out.put_u64(self.to);
        out.put_u32(u32::try_from(self.tags.len()).unwrap_or(u32::MAX));
        for (key, position) in &self.tags {
            put_short(&mut out, key.as_bytes());
            out.put_u64(*position);
        }
        out
    }

    /// From bytes of whatever origin; `None` if they are no statement.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes.try_get_u8().ok()? != VERSION {
            return None;
        }
        let life = take_short(&mut bytes)?;
        let meaning = take_meaning(&mut bytes)?;
        let from = bytes.try_get_u64().ok()?;
        let to = bytes.try_get_u64().ok()?;
        let count = usize::try_from(bytes.try_get_u32().ok()?).ok().filter(|count| *count <= TAGS_MAX)?;
        let mut tags = Vec::with_capacity(count.min(bytes.len() / 10));
        for _ in 0..count {
            let key = take_short(&mut bytes)?;
            let key = std::str::from_utf8(&key).ok()?.into();
            tags.push((key, bytes.try_get_u64().ok()?));
        }
        (bytes.is_empty() && from < to).then_some(Self { life, meaning, from, to, tags })
    }
}

/// As many of the latest changes as there is room for, and the position after which there are no others.
fn bounded(from: u64, mut changed: Vec<(Box<str>, u64)>) -> (u64, Vec<(Box<str>, u64)>) {
    changed.sort_unstable_by_key(|(_, position)| std::cmp::Reverse(*position));
    let (mut kept, mut room) = (0, BYTES_MAX);
    for (key, _) in changed.iter().take(TAGS_MAX) {
        match room.checked_sub(key.len() + 10) {
            Some(left) if key.len() <= usize::from(u16::MAX) => room = left,
            _ => break,
        }
        kept += 1;
    }
    let from = changed.get(kept).map_or(from, |(_, dropped)| *dropped);
    changed.truncate(kept);
    // Those that changed in the commit of the first one left out say nothing any more.
    changed.retain(|(_, position)| *position > from);
    (from, changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const LIFE: &[u8] = b"life";

    /// A process that follows a log from `floor` on, and has settled it up to `settled`.
    fn process(floor: u64, settled: u64) -> (Fence, Tags) {
        let (fence, tags) = (Fence::new(Duration::from_secs(1)), Tags::default());
        let epoch = tags.restart(&fence, floor);
        fence.share(epoch, LIFE, [7; 32]);
        fence.set_settled(settled);
        (fence, tags)
    }

    #[test]
    fn what_one_process_says_another_learns() {
        let (fence, tags) = process(100, 200);
        tags.get("a").touch(150);
        tags.get("b").touch(210);
        tags.get("c");
        let said = Statement::collect(&fence, &tags).unwrap();
        assert_eq!((said.from, said.to, said.tags.len()), (100, 200, 2));

        let (young, youngs) = process(180, 0);
        youngs.get("b").touch(190);
        let read = Statement::decode(said.encode().into()).unwrap();
        assert_eq!(read, said);
        assert!(read.learn(&young, &youngs));
        assert_eq!(young.history(), Some(100));
        assert_eq!(["a", "b", "c"].map(|key| youngs.get(key).last_change()), [150, 210, 0]);
        assert!(!read.learn(&young, &youngs), "nothing new");
    }

    #[test]
    fn what_does_not_join_or_is_about_something_else_is_not_learnt() {
        let (fence, tags) = process(100, 200);
        tags.get("a").touch(150);
        let said = Statement::collect(&fence, &tags).unwrap();
        let (late, lates) = process(201, 0);
        assert!(!said.learn(&late, &lates), "there is a gap");
        let (young, youngs) = process(180, 0);
        let other_life = Statement { life: Bytes::from_static(b"other"), ..said.clone() };
        let other_meaning = Statement { meaning: [8; 32], ..said.clone() };
        assert!(!other_life.learn(&young, &youngs) && !other_meaning.learn(&young, &youngs));
        young.begin_epoch(190, false);
        assert!(!said.learn(&young, &youngs), "nothing is shared in this epoch");
        assert!(Statement::collect(&young, &youngs).is_none());
    }

    #[test]
    fn nothing_is_said_before_anything_is_settled() {
        let (fence, tags) = process(100, 0);
        tags.get("a").touch(150);
        assert_eq!(Statement::collect(&fence, &tags), None);
        fence.set_settled(100);
        assert_eq!(Statement::collect(&fence, &tags), None);
    }

    #[test]
    fn what_happens_while_it_is_collected_is_not_claimed() {
        let (fence, tags) = process(100, 200);
        let said = Statement::collect_by(&fence, |from| {
            let changed = tags.changed_since(from);
            tags.get("a").touch(250);
            fence.set_settled(250);
            changed
        });
        assert_eq!(said.map(|said| (said.to, said.tags.len())), Some((200, 0)));
        let said = Statement::collect_by(&fence, |from| {
            tags.restart(&fence, 5);
            tags.changed_since(from)
        });
        assert_eq!(said, None);
    }

    #[test]
    fn too_many_tags_shorten_the_past_and_lose_no_change() {
        let (fence, tags) = process(100, 1_000_000);
        let last = 200 + TAGS_MAX as u64 + 50;
        // Two tags changed in each commit.
        for n in 200..last {
            tags.get(&format!("a{n}")).touch(n);
            tags.get(&format!("b{n}")).touch(n);
        }
        let said = Statement::collect(&fence, &tags).unwrap();
        assert!(said.tags.len() <= TAGS_MAX && said.from > 200, "{} from {}", said.tags.len(), said.from);
        let whole = (said.from + 1..last).flat_map(|n| [format!("a{n}"), format!("b{n}")]).count();
        assert_eq!(said.tags.len(), whole);
        assert!(said.tags.iter().all(|(_, position)| *position > said.from));
        assert_eq!(Statement::decode(said.encode().into()), Some(said));
    }

    proptest! {
        #[test]
        fn anything_can_be_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut marked = vec![VERSION, 0, 0];
            marked.extend([0; 46]);
            marked.extend(&bytes);
            for bytes in [bytes, marked] {
                if let Some(statement) = Statement::decode(bytes.clone().into()) {
                    prop_assert_eq!(statement.encode(), bytes);
                }
            }
        }

        #[test]
        fn what_is_cut_short_is_none(
            tags in prop::collection::vec(("[a-z:0-9]{0,12}", any::<u64>()), 0..20),
            at in any::<prop::sample::Index>(),
        ) {
            let tags = tags.into_iter().map(|(key, position)| (key.into(), position)).collect();
            let statement =
                Statement { life: Bytes::from_static(LIFE), meaning: [1; 32], from: 3, to: 9, tags };
            let bytes = statement.encode();
            prop_assert_eq!(Statement::decode(bytes[..at.index(bytes.len())].to_vec().into()), None);
            prop_assert_eq!(Statement::decode(bytes.into()), Some(statement));
        }
    }
}
