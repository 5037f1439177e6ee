//! An entry as it lies in the tier: what it claims, and the value.
//!
//! The tags of the entry are not part of it. Whoever fetches a record has judged the statement by itself (it could not have
//! made the key otherwise) and uses its own: a record of an older version of the program, which overlooked a dependency,
//! cannot bring that mistake along.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes};

/// Of the layout below.
const VERSION: u8 = 1;
/// Longest name of a life that is read.
const LIFE_MAX: usize = 1024;

/// A claim: in this life and under this meaning, `value` is what `key` leads to, and includes every commit at or before
/// `as_of`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// See [`super::Scope::life`].
    pub life: Bytes,
    /// See [`super::Scope::meaning`].
    pub meaning: [u8; 32],
    /// The value includes every commit at or before it.
    pub as_of: u64,
    /// When it was stored, in milliseconds since 1970 by the author's clock. Nothing depends on it but what is shown.
    pub stored: u64,
    /// When its time to live is over, by the same clock.
    pub expires: u64,
    /// What it cost to load, in nanoseconds.
    pub cost: u64,
    /// The full key, with nothing in it that is of one process only.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

impl Record {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.life.len() + self.key.len() + self.value.len());
        out.put_u8(VERSION);
        put_short(&mut out, &self.life);
        out.put_slice(&self.meaning);
        for number in [self.as_of, self.stored, self.expires, self.cost] {
            out.put_u64(number);
        }
        out.put_u32(u32::try_from(self.key.len()).unwrap_or(u32::MAX));
        out.put_slice(&self.key);
        out.put_slice(&self.value);
        out
    }

    /// From bytes of whatever origin; `None` if they are no record. Copies nothing.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes.try_get_u8().ok()? != VERSION {
            return None;
        }
        let life = take_short(&mut bytes).filter(|life| life.len() <= LIFE_MAX)?;
        let meaning = take_meaning(&mut bytes)?;
        let mut numbers = [0; 4];
        for number in &mut numbers {
            *number = bytes.try_get_u64().ok()?;
        }
        let [as_of, stored, expires, cost] = numbers;
        let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
        let key = take(&mut bytes, length)?;
        Some(Self { life, meaning, as_of, stored, expires, cost, key, value: bytes })
    }

    /// What it cost to load.
    pub fn cost(&self) -> Duration {
        Duration::from_nanos(self.cost)
    }

    /// How long ago it was stored, as far as the two clocks agree.
    pub fn age(&self, now: u64) -> Duration {
        Duration::from_millis(now.saturating_sub(self.stored))
    }

    /// How long it still lives.
    pub fn remaining(&self, now: u64) -> Duration {
        Duration::from_millis(self.expires.saturating_sub(now))
    }
}

/// Milliseconds since 1970.
pub(crate) fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    out.put_slice(bytes);
}

pub(super) fn take_short(bytes: &mut Bytes) -> Option<Bytes> {
    let length = usize::from(bytes.try_get_u16().ok()?);
    take(bytes, length)
}

pub(super) fn take_meaning(bytes: &mut Bytes) -> Option<[u8; 32]> {
    take(bytes, 32)?.as_ref().try_into().ok()
}

fn take(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (bytes.len() >= length).then(|| bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        let bytes = |max| prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from);
        (bytes(40), any::<[u8; 32]>(), any::<[u64; 4]>(), bytes(80), bytes(200)).prop_map(
            |(life, meaning, [as_of, stored, expires, cost], key, value)| Record {
                life,
                meaning,
                as_of,
                stored,
                expires,
                cost,
                key,
                value,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(record in record()) {
            prop_assert_eq!(Record::decode(record.encode().into()), Some(record));
        }

        #[test]
        fn what_is_cut_short_before_the_value_is_none(record in record(), at in any::<prop::sample::Index>()) {
            let bytes = record.encode();
            let head = bytes.len() - record.value.len();
            prop_assert_eq!(Record::decode(bytes[..at.index(head)].to_vec().into()), None);
        }

        #[test]
        fn anything_can_be_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut marked = vec![VERSION];
            marked.extend(&bytes);
            for bytes in [bytes, marked] {
                if let Some(record) = Record::decode(bytes.clone().into()) {
                    prop_assert_eq!(record.encode(), bytes);
                    let _ = (record.age(5), record.remaining(5), record.cost());
                }
            }
        }
    }

    #[test]
    fn another_version_is_none() {
        let mut bytes = Record {
            life: Bytes::new(),
            meaning: [0; 32],
            as_of: 1,
            stored: 2,
            expires: 3,
            cost: 4,
            key: Bytes::new(),
            value: Bytes::new(),
        }
        .encode();
        bytes[0] = VERSION + 1;
        assert_eq!(Record::decode(bytes.into()), None);
    }
}
