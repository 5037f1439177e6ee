//! The atomics and the lock that the fence and the tags are made of: the ordinary ones, or, to have every interleaving and every
//! permitted reordering tried, those of `loom` (`make models`: the package in `models`).

#[cfg(larder_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
#[cfg(not(larder_loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

#[cfg(larder_loom)]
pub(crate) use self::modelled::Mutex;
#[cfg(not(larder_loom))]
pub(crate) use parking_lot::Mutex;

/// Loom's lock, with the face of `parking_lot`'s.
#[cfg(larder_loom)]
mod modelled {
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            match self.0.lock() {
                Ok(guard) => guard,
                Err(poisoned) => poisoned.into_inner(),
            }
        }
    }
}
