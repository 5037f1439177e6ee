//! A tier on Valkey for the caches of several processes.
//!
//! ```text
//!   {prefix}:{hash of namespace and key}    a record: value, times, and its tags with the versions they had before its loader ran
//!   {prefix}:{hash of namespace and tag}    the tag's version: random bytes, replaced by each invalidation
//!   {prefix}:journal                        a stream of invalidations, for the memories of the other processes
//! ```
//!
//! A record is good while every tag that it names has the version that it names. Versions are random, so one that was
//! evicted or flushed never comes back as it was: what is missing is a miss. They are read *before* the loader runs, and
//! replaced, by whoever invalidates, *before* the journal is written.
//!
//! The journal tells what to drop from memory. It is read from the last entry known, that one included: if it is not there any
//! more (trimmed, flushed, evicted, restored from an older copy), something may have been missed, and everything of before is
//! dropped. While it cannot be read, the lease of the tier's [`Fence`] runs out, and values are not given from memory.

mod journal;
mod record;
mod remote;
mod teller;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::invalidations::Invalidations;
use crate::tier::valkey::{Connection, TlsError, UrlError, Valkey, ValkeyConfig, ValkeyUrl};
use crate::tier::{SealOptions, Sealer, SealerError, TierKey};
use crate::{Fence, Moment};

pub(crate) use record::Codec;
pub(crate) use remote::ValkeyRemote;

/// Values below that are not worth compressing.
const COMPRESS_ABOVE: usize = 1024;

/// Why there is no tier.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharedTierError {
    /// The URL cannot be read.
    #[error("the URL of Valkey: {0}")]
    Url(#[from] UrlError),
    /// A certificate cannot be used.
    #[error("TLS to Valkey: {0}")]
    Tls(#[from] TlsError),
    /// The secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SealerError),
}

/// A Valkey, Redis or alike that the caches of several processes share. Cheap to clone; one for all caches of a process.
///
/// ```no_run
/// # use larder_cache::{Cache, SharedTier};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder_cache::SharedTierError> {
/// let tier = SharedTier::builder("redis://valkey.internal").secret(b"32 random bytes, the same everywhere").start()?;
/// let users = Cache::<u64, String>::builder().shared(&tier, "users").build();
/// # Ok(()) }
/// ```
///
/// Nothing in it is needed. If it cannot be reached, is slow, full, or lies, there are no errors: loaders run. Nothing is given
/// from the memory of this process, either, once it has been out of reach for [`max_silence`](SharedTierBuilder::max_silence),
/// as other processes may have invalidated what is there; see [`serve_alone`](SharedTierBuilder::serve_alone).
///
/// Who can write to Valkey can make values come back that were true within their time to live, and with a
/// [`secret`](SharedTierBuilder::secret) no others. A Valkey that restarts with data from before its last moments
/// (persistence, failover to a replica that lags) may have forgotten invalidations; where one process has seen them, it drops
/// everything for all. Caches that need more [follow](crate::CacheBuilder::follow) a log.
#[derive(Clone)]
pub struct SharedTier(Arc<Parts>);

/// How a tier is to be: see [`SharedTier::builder`].
#[must_use = "a tier is made by `start`"]
pub struct SharedTierBuilder {
    url: String,
    config: Option<ValkeyConfig>,
    prefix: String,
    secret: Option<Vec<u8>>,
    encrypt: bool,
    max_silence: Duration,
    serve_alone: bool,
}

pub(crate) struct Parts {
    pub(crate) valkey: Valkey,
    pub(crate) connection: Connection,
    /// For what blocks.
    listening: Connection,
    /// Told by which it knows its own.
    id: u64,
    pub(crate) sealer: Sealer,
    pub(crate) prefix: String,
    pub(crate) fence: Arc<Fence>,
    pub(crate) max_silence: Duration,
    /// What is to be told to whom in this process.
    listeners: Mutex<HashMap<String, Vec<Weak<Invalidations>>>>,
    pub(crate) teller: teller::Teller,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl SharedTier {
    /// A tier at this URL: `redis://[[user]:password@]host[:port][/db]`, `rediss://` for TLS, `redis-sentinel://` or
    /// `redis-cluster://` with several hosts; see [`ValkeyUrl`].
    pub fn builder(url: &str) -> SharedTierBuilder {
        SharedTierBuilder {
            url: url.to_owned(),
            config: None,
            prefix: "larder-cache".to_owned(),
            secret: None,
            encrypt: false,
            max_silence: Duration::from_secs(1),
            serve_alone: false,
        }
    }

    /// The connections: their state, and what they count.
    pub fn valkey(&self) -> &Valkey {
        &self.0.valkey
    }

    /// Waits until values may be given from memory; false when that takes longer than `limit`.
    pub async fn ready(&self, limit: Duration) -> bool {
        self.0.fence.wait_covered(Moment::now(), limit).await
    }

    pub(crate) fn parts(&self) -> &Arc<Parts> {
        &self.0
    }
}

impl SharedTierBuilder {
    /// Begins the name of every key; another one is another memory. "larder-cache" unless said otherwise.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Authenticates what is stored: at least 16 bytes, the same in all processes that share it.
    pub fn secret(mut self, secret: impl AsRef<[u8]>) -> Self {
        self.secret = Some(secret.as_ref().to_vec());
        self
    }

    /// Encrypts what is stored; needs the secret.
    pub fn encrypt(mut self, encrypt: bool) -> Self {
        self.encrypt = encrypt;
        self
    }

    /// Certificates, times and sizes. Its URL and prefix are those of this builder.
    pub fn connections(mut self, config: ValkeyConfig) -> Self {
        self.config = Some(config);
        self
    }

    /// For so long values are given from memory without news from Valkey. A second unless said otherwise.
    pub fn max_silence(mut self, limit: Duration) -> Self {
        self.max_silence = limit;
        self
    }

    /// Gives values from memory while Valkey is out of reach, until they expire. What other processes invalidate meanwhile is
    /// heard of when it is back.
    pub fn serve_alone(mut self, serve: bool) -> Self {
        self.serve_alone = serve;
        self
    }

    /// Begins to connect, and returns at once: Valkey need not be there.
    ///
    /// # Errors
    /// The URL, a certificate or the secret cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime, which runs the connections.
    pub fn start(self) -> Result<SharedTier, SharedTierError> {
        let url: ValkeyUrl = self.url.parse()?;
        let mut config = self.config.unwrap_or_else(|| ValkeyConfig::new(url.clone()));
        config.url = url;
        config.prefix.clone_from(&self.prefix);
        let sealer = Sealer::new(SealOptions {
            secret: self.secret.as_deref(),
            encrypt: self.encrypt,
            compress_above: COMPRESS_ABOVE,
            max_plain: config.max_value,
        })?;
        let fence = Fence::new(if self.serve_alone { Duration::MAX } else { self.max_silence });
        fence.set_applied(1);
        fence.set_visible(1);
        if self.serve_alone {
            fence.set_covered(Moment::now());
        }
        let valkey = Valkey::new(config)?;
        let (teller, orders) = teller::Teller::new();
        let parts = Arc::new(Parts {
            connection: valkey.connection(),
            listening: valkey.connection(),
            id: fastrand::u64(..),
            valkey,
            sealer,
            prefix: self.prefix,
            fence: Arc::new(fence),
            max_silence: self.max_silence,
            listeners: Mutex::default(),
            teller,
            tasks: Mutex::default(),
        });
        let (places, seen) = watch::channel(None);
        let tasks = [
            tokio::spawn(journal::follow(Arc::downgrade(&parts), places)).abort_handle(),
            tokio::spawn(journal::listen(Arc::downgrade(&parts), seen)).abort_handle(),
            tokio::spawn(teller::run(Arc::downgrade(&parts), orders)).abort_handle(),
        ];
        parts.tasks.lock().extend(tasks);
        Ok(SharedTier(parts))
    }
}

impl Parts {
    /// Has the invalidations of a namespace told to this cache.
    pub(crate) fn listen(&self, namespace: &str, invalidations: &Arc<Invalidations>) {
        let mut listeners = self.listeners.lock();
        let listeners = listeners.entry(namespace.to_owned()).or_default();
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(invalidations));
    }

    /// `but`: knows already.
    pub(crate) fn tell_here(&self, namespace: &str, tags: &[String], but: Option<&Arc<Invalidations>>) {
        for listener in self.listeners.lock().get(namespace).into_iter().flatten() {
            if let Some(invalidations) = listener.upgrade()
                && !but.is_some_and(|but| Arc::ptr_eq(but, &invalidations))
            {
                invalidations.invalidate(tags.iter().map(String::as_str));
            }
        }
    }

    /// Something may have been missed.
    fn drop_everything_here(&self) {
        for listener in self.listeners.lock().values().flatten() {
            if let Some(invalidations) = listener.upgrade() {
                invalidations.invalidate_all();
            }
        }
    }

    fn namespaces(&self) -> Vec<String> {
        self.listeners.lock().keys().cloned().collect()
    }

    fn name_of(&self, key: &TierKey) -> String {
        format!("{}:{key}", self.prefix)
    }

    /// What the version of a tag is kept under.
    fn version_key(&self, namespace: &str, tag: &str) -> TierKey {
        self.sealer.key(&[b"version", namespace.as_bytes(), tag.as_bytes()])
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        for task in self.tasks.lock().iter() {
            task.abort();
        }
    }
}

impl fmt::Debug for SharedTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTier")
            .field("url", self.0.valkey.url())
            .field("prefix", &self.0.prefix)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SharedTierBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTierBuilder").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
