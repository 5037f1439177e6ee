//! A second tier that several processes have in common, behind the memory of each: a Valkey server, for instance.
//!
//! Nothing in it is trusted and nothing in it is needed. A value that comes back may be old, replayed, cut short or
//! written by somebody else: whoever fetches it judges it by what *this* process knows. A tier that is slow, full or
//! gone is a tier that has nothing: [`Tier::get`] knows no errors, and no promise of the cache depends on
//! [`Tier::put`] having arrived.

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod seal;
#[cfg(feature = "valkey")]
pub mod valkey;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

pub use seal::{SealOptions, Sealer, SealerError};

/// What a tier keeps a value under: a 128-bit keyed hash of the full key.
///
/// Two full keys may have one hash, by chance or, without a secret, by design: the full key is kept with the value and
/// compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TierKey(pub [u8; 16]);

/// The answer of a tier, on its way.
pub type Fetch<'a> = Pin<Box<dyn Future<Output = Option<Bytes>> + Send + 'a>>;

/// A memory that several processes have in common. Nothing in it is trusted, nothing in it is needed.
pub trait Tier: fmt::Debug {
    /// What is kept under `key`, within the tier's time budget. `None`: absent, late, or not available; never an error.
    ///
    /// `large`: the value is expected to be large and takes another connection, so that it does not hold up small ones.
    fn get<'a>(&'a self, key: &'a TierKey, large: bool) -> Fetch<'a>;

    /// Hands a value over, to be kept for `ttl`. Never waits: when too much is under way already, or the tier is not
    /// available, the value is dropped.
    fn put(&self, key: &TierKey, value: Bytes, ttl: Duration);

    /// Whether [`get`](Self::get) has a chance at this moment; the next moment is another one.
    fn available(&self) -> bool {
        true
    }

    /// Whether [`put`](Self::put) would take a value of so many bytes at this moment. Spares the work of sealing one
    /// that would be dropped.
    fn accepts(&self, bytes: usize) -> bool {
        let _ = bytes;
        self.available()
    }
}

impl fmt::Display for TierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TierKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_as_32_digits() {
        let mut bytes = [0; 16];
        bytes[15] = 0x2a;
        assert_eq!(TierKey(bytes).to_string(), "0000000000000000000000000000002a");
        assert_eq!(format!("{:?}", TierKey([0xff; 16])), format!("TierKey({})", "f".repeat(32)));
    }
}
