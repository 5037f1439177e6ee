//! What is kept of a value in the tier, and the versions of tags.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// How values become bytes and back: MessagePack with the names of fields, so that a release with one field more finds
/// a miss in what it cannot read, not another meaning.
pub(crate) struct Codec<V> {
    pub(crate) encode: fn(&V) -> Option<Vec<u8>>,
    pub(crate) decode: fn(&[u8]) -> Option<V>,
}

impl<V: Serialize + DeserializeOwned> Codec<V> {
    pub(crate) fn serde() -> Self {
        Self {
            encode: |value| rmp_serde::to_vec_named(value).ok(),
            decode: |bytes| rmp_serde::from_slice(bytes).ok(),
        }
    }
}

/// Of a tag: random, and replaced by each invalidation.
pub(crate) type Version = [u8; 16];

/// A version that nobody has had before.
pub(crate) fn new_version() -> Version {
    // Not a secret: it only must not come twice.
    u128::to_be_bytes(fastrand::u128(..))
}

/// What is kept beside a value.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Record {
    /// Milliseconds since 1970, by the clock of whoever loaded it.
    pub(crate) loaded: u64,
    /// Time to live, in milliseconds from then.
    pub(crate) ttl: u64,
    /// What it depends on, and the versions from before its loader ran.
    pub(crate) tags: Vec<(String, Version)>,
}

impl Record {
    /// The head, its length before it, and the value after it.
    pub(crate) fn encode(&self, value: &[u8]) -> Option<Vec<u8>> {
        let head = rmp_serde::to_vec(self).ok()?;
        let length = u32::try_from(head.len()).ok()?;
        Some([&length.to_be_bytes(), &head[..], value].concat())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (head, value) = rest.split_at_checked(length)?;
        Some((rmp_serde::from_slice(head).ok()?, value))
    }

    /// Age and what is left of the time to live, `None` if nothing is. A clock that is behind the loader's makes it younger,
    /// and never gives it longer than its time to live.
    pub(crate) fn times(&self, now: u64) -> Option<(Duration, Duration)> {
        let age = now.saturating_sub(self.loaded);
        let left = self.ttl.checked_sub(age).filter(|left| *left > 0)?;
        Some((Duration::from_millis(age), Duration::from_millis(left)))
    }
}

/// Milliseconds since 1970.
pub(crate) fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        let tags = prop::collection::vec((".{0,8}", any::<[u8; 16]>()), 0..4);
        (any::<u64>(), any::<u64>(), tags).prop_map(|(loaded, ttl, tags)| Record { loaded, ttl, tags })
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(record in record(), value in any::<Vec<u8>>()) {
            let bytes = record.encode(&value).unwrap();
            prop_assert_eq!(Record::decode(&bytes), Some((record, &value[..])));
        }

        #[test]
        fn garbage_is_nothing(bytes in any::<Vec<u8>>(), record in record(), cut in any::<prop::sample::Index>()) {
            let _ = Record::decode(&bytes);
            let whole = record.encode(b"").unwrap();
            prop_assert_eq!(Record::decode(&whole[..cut.index(whole.len())]), None);
        }

        #[test]
        fn nobody_gives_it_longer_than_it_has(record in record(), now in any::<u64>()) {
            if let Some((_, left)) = record.times(now) {
                prop_assert!(left <= Duration::from_millis(record.ttl));
                prop_assert!(now < record.loaded.saturating_add(record.ttl));
            }
        }
    }
}
