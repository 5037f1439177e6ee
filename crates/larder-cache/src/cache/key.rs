//! Keys of any type, as bytes: one form for looking up, for comparing in full, and for other processes.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

/// What values are found by.
///
/// The bytes are compared in full wherever a key is looked up, so they must tell any two different keys of one cache apart,
/// and must be the same for equal keys, in every process and release that shares a tier. If `K: Borrow<Q>`, both must
/// give the same bytes.
///
/// ```
/// use larder_cache::Key;
///
/// struct Tile { zoom: u8, x: u32, y: u32 }
///
/// impl Key for Tile {
///     fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
///         (self.zoom, self.x, self.y).with_bytes(with)
///     }
/// }
/// ```
pub trait Key {
    /// Hands the key's bytes to `with`, and its answer back. Texts and numbers need no allocation for that.
    fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R;
}

impl Key for [u8] {
    fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        with(self)
    }
}

impl<const N: usize> Key for [u8; N] {
    fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        with(self)
    }
}

impl Key for Vec<u8> {
    fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        with(self)
    }
}

impl Key for str {
    fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        with(self.as_bytes())
    }
}

impl Key for String {
    fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        with(self.as_bytes())
    }
}

impl Key for char {
    fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        u32::from(*self).with_bytes(with)
    }
}

impl Key for bool {
    fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        with(&[u8::from(*self)])
    }
}

impl Key for () {
    fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        with(&[])
    }
}

/// Big-endian, in the type's own width.
macro_rules! numbers {
    ($($number:ty)+) => {$(
        impl Key for $number {
            fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
                with(&self.to_be_bytes())
            }
        }
    )+};
}
numbers!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128);

/// As wide on every machine.
impl Key for usize {
    fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        (*self as u64).with_bytes(with)
    }
}

impl Key for isize {
    fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        (*self as i64).with_bytes(with)
    }
}

/// What only points at a key, or may own it, is that key.
macro_rules! pointers {
    ($($pointer:ty)+) => {$(
        impl<T: Key + ?Sized> Key for $pointer {
            fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
                (**self).with_bytes(with)
            }
        }
    )+};
}
pointers!(&T Box<T> Arc<T> Rc<T>);

impl<T: Key + ToOwned + ?Sized> Key for Cow<'_, T> {
    fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        (**self).with_bytes(with)
    }
}

/// A missing part is not the same as an empty one.
impl<T: Key> Key for Option<T> {
    fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            None => with(&[]),
            Some(key) => key.with_bytes(|bytes| with(&[&[1], bytes].concat())),
        }
    }
}

/// Each part with its length before it, so that `("ab", "c")` is not `("a", "bc")`.
macro_rules! tuples {
    ($($($part:ident)+;)+) => {$(
        impl<$($part: Key),+> Key for ($($part,)+) {
            #[allow(non_snake_case, reason = "the names of the types are good enough for their values")]
            fn with_bytes<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
                let ($($part,)+) = self;
                let mut whole = Vec::with_capacity(64);
                $($part.with_bytes(|bytes| {
                    whole.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
                    whole.extend_from_slice(bytes);
                });)+
                with(&whole)
            }
        }
    )+};
}
tuples! { A; A B; A B C; A B C D; A B C D E; }

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(key: &(impl Key + ?Sized)) -> Vec<u8> {
        key.with_bytes(<[u8]>::to_vec)
    }

    #[test]
    fn a_key_and_what_it_lends_are_the_same_bytes() {
        assert_eq!(bytes("u:42"), bytes(&"u:42".to_owned()));
        assert_eq!(bytes(&[1_u8, 2][..]), bytes(&vec![1_u8, 2]));
        assert_eq!(bytes(&Arc::<str>::from("x")), bytes(&Cow::Borrowed("x")));
        assert_eq!(bytes(&(7_i32, "x")), bytes(&(7_i32, "x".to_owned())));
    }

    proptest! {
        #[test]
        fn different_keys_are_different_bytes(
            a in any::<(String, Option<Vec<u8>>, i64)>(),
            b in any::<(String, Option<Vec<u8>>, i64)>(),
        ) {
            prop_assert_eq!(a == b, bytes(&a) == bytes(&b));
        }

        #[test]
        fn parts_do_not_run_into_each_other(text in "[a-c]{0,6}", at in 0..7_usize, other in 0..7_usize) {
            let (at, other) = (at.min(text.len()), other.min(text.len()));
            let split = |at: usize| bytes(&(&text[..at], &text[at..]));
            prop_assert_eq!(at == other, split(at) == split(other));
        }
    }
}
