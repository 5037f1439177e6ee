//! The tier as a cache sees it: records in, records out.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use redis::Value;

use super::record::{Codec, Record, Version, wall_clock};
use super::teller::{EVERYTHING, version};
use super::{Parts, SharedTier};
use crate::cache::error::NotPropagated;
use crate::cache::invalidations::Invalidations;
use crate::cache::remote::{Boxed, Pass, Remembered, Remote, Told, Visit};
use crate::tier::{Tier as _, TierKey};

/// Keys are invalidated in other processes by the part of all keys that they belong to: the fewer parts, the more is
/// dropped with one key; the more, the more versions are kept.
const KEY_PARTS: u16 = 1024;
/// Between looks at what another process may have loaded meanwhile: first, and longest.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));
/// A put takes a moment to arrive; whoever finds the lease gone should find the record.
const PUT_TAKES: Duration = Duration::from_millis(20);

/// One cache's view of the tier.
pub(crate) struct ValkeyRemote<V> {
    tier: SharedTier,
    namespace: String,
    codec: Codec<V>,
    here: Arc<Invalidations>,
    /// How long to wait for another process that is loading the same.
    across: Option<Duration>,
}

/// What a load may leave behind.
struct Permit {
    tags: Vec<(String, Version)>,
    lease: bool,
}

impl<V: Send + Sync + 'static> ValkeyRemote<V> {
    pub(crate) fn new(
        tier: SharedTier,
        namespace: String,
        codec: Codec<V>,
        here: &Arc<Invalidations>,
        across: Option<Duration>,
    ) -> Self {
        tier.parts().listen(&namespace, here);
        Self { tier, namespace, codec, here: Arc::clone(here), across }
    }

    fn parts(&self) -> &Arc<Parts> {
        self.tier.parts()
    }

    fn record_key(&self, key: &[u8]) -> TierKey {
        self.parts().sealer.key(&[b"record", self.namespace.as_bytes(), key])
    }

    fn lease_name(&self, key: &[u8]) -> String {
        self.parts().name_of(&self.parts().sealer.key(&[b"lease", self.namespace.as_bytes(), key]))
    }

    /// The record, if it is good, and the versions that it was judged by.
    async fn look(
        &self,
        key: &[u8],
        tags: &[Arc<str>],
    ) -> Option<(Option<Remembered<V>>, Vec<(String, Version)>)> {
        let parts = self.parts();
        if !parts.connection.available() {
            return None;
        }
        let record_key = self.record_key(key);
        let versions = join_all(tags.iter().map(|tag| version(parts, &self.namespace, tag)));
        let (versions, sealed) = join(versions, parts.connection.get(&record_key, false)).await;
        let versions = versions.into_iter().collect::<Option<Vec<_>>>()?;
        let mut known: Vec<_> = tags.iter().map(|tag| tag.to_string()).zip(versions).collect();
        known.sort_unstable();
        known.dedup();
        let found = sealed.and_then(|sealed| {
            let plain = parts.sealer.open(&[b"record", self.namespace.as_bytes(), key], sealed)?;
            let (record, value) = Record::decode(&plain)?;
            let (age, left) = record.times(wall_clock())?;
            // The same tags, with the versions that they have now.
            if record.tags != known {
                return None;
            }
            Some(Remembered { value: (self.codec.decode)(value)?, age, left })
        });
        Some((found, known))
    }

    /// Waits for whoever else is loading it, if that is wanted. Best effort: a lease that is lost costs one load more.
    async fn look_or_lease(&self, key: &[u8], tags: &[Arc<str>]) -> Visit<V> {
        let mut pause = LOOK_AGAIN.0;
        let deadline = self.across.map(|across| tokio::time::Instant::now() + across);
        loop {
            let Some((found, known)) = self.look(key, tags).await else {
                return Visit { found: None, pass: None };
            };
            let mut permit = Permit { tags: known, lease: false };
            let (Some(across), Some(deadline), None) = (self.across, deadline, &found) else {
                return Visit { found, pass: Some(Box::new(permit)) };
            };
            let mut command = redis::cmd("SET");
            command
                .arg(self.lease_name(key))
                .arg("1")
                .arg("NX")
                .arg("PX")
                .arg(across.as_millis().max(1).to_string());
            match self.parts().connection.ask(&command).await {
                Some(Value::Nil) if tokio::time::Instant::now() < deadline => {}
                answer => {
                    permit.lease = matches!(answer, Some(Value::Okay));
                    return Visit { found: None, pass: Some(Box::new(permit)) };
                }
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(LOOK_AGAIN.1);
        }
    }

    fn release(&self, key: &[u8], after: Duration) {
        let (parts, name) = (Arc::downgrade(self.parts()), self.lease_name(key));
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if let Some(parts) = parts.upgrade() {
                parts.connection.ask(redis::cmd("DEL").arg(name)).await;
            }
        });
    }

    fn part_of(&self, key: &[u8]) -> Arc<str> {
        let TierKey([a, b, ..]) = self.parts().sealer.key(&[b"part", key]);
        format!("\0key:{}", u16::from_be_bytes([a, b]) % KEY_PARTS).into()
    }
}

impl<V: Send + Sync + 'static> Remote<V> for ValkeyRemote<V> {
    fn implied(&self, key: &[u8]) -> [Arc<str>; 2] {
        [EVERYTHING.into(), self.part_of(key)]
    }

    fn visit<'a>(&'a self, key: &'a [u8], tags: &'a [Arc<str>]) -> Boxed<'a, Visit<V>> {
        Box::pin(self.look_or_lease(key, tags))
    }

    fn leave(&self, key: &[u8], pass: Pass, value: &V, ttl: Duration) {
        let Ok(permit) = pass.downcast::<Permit>() else { return };
        let Permit { tags, lease } = *permit;
        let parts = self.parts();
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let record = Record { loaded: wall_clock(), ttl: ttl_ms, tags };
        let sealed = (self.codec.encode)(value)
            .and_then(|value| record.encode(&value))
            .and_then(|plain| parts.sealer.seal(&[b"record", self.namespace.as_bytes(), key], &plain));
        if let Some(sealed) = sealed.filter(|_| ttl_ms > 0) {
            parts.connection.put(&self.record_key(key), sealed, ttl);
        }
        if lease {
            self.release(key, PUT_TAKES);
        }
    }

    fn give_up(&self, key: &[u8], pass: Pass) {
        if pass.downcast::<Permit>().is_ok_and(|permit| permit.lease) {
            self.release(key, Duration::ZERO);
        }
    }

    fn invalidate(&self, what: Told) -> Boxed<'_, Result<(), NotPropagated>> {
        let tags: Vec<String> = match what {
            Told::Tags(tags) => tags.iter().map(|tag| tag.to_string()).collect(),
            Told::Key(key) => vec![self.part_of(&key).to_string()],
            Told::Everything => vec![EVERYTHING.to_owned()],
        };
        Box::pin(async move {
            // Other caches of this process that have the same namespace.
            self.parts().tell_here(&self.namespace, &tags, Some(&self.here));
            self.parts().teller.tell(&self.namespace, tags.into_iter()).await
        })
    }
}
