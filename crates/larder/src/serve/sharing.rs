//! The shared tier, wired: what the client path asks, and the thread that keeps what is said of the past up to date.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use anyhow::Context as _;
use larder_cache::shared::{Exchange, Keeper, KeeperCounters};
use larder_cache::tier::Sealer;
use larder_cache::tier::valkey::Valkey;
use larder_cache::{Fence, Tags};
use larder_core::Lsn;
use larder_proxy::Sharing;
use serde_json::{Value as Json, json};
use tokio::sync::oneshot;

use crate::config::{Config, ConfigErrors};

/// The tier that this Larder shares with others.
#[derive(Debug)]
pub(crate) struct SharedTier {
    pub(crate) valkey: Valkey,
    pub(crate) keeper: Arc<KeeperCounters>,
    sharing: Sharing,
}

impl SharedTier {
    /// As configured; connects to nothing yet: each thread that uses it makes its own connection.
    pub(super) fn new(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(wanted) = config.shared_tier() else { return Ok(None) };
        let valkey = Valkey::new(wanted).map_err(|error| {
            let mend = "mend [valkey] tls_ca, tls_cert and tls_key".to_owned();
            ConfigErrors::file(format!("the shared tier cannot be used: {error}"), mend)
        })?;
        // Wrong secrets were found when the configuration was read.
        let sealer: Arc<Sealer> = Arc::new(config.sealer().context("[valkey] secret")?);
        let connecting = valkey.clone();
        let sharing = Sharing {
            connect: Arc::new(move || Box::new(connecting.connection())),
            sealer,
            min_origin_time: config.valkey.min_origin_time.0,
        };
        Ok(Some(Self { valkey, keeper: Arc::default(), sharing }))
    }

    /// For the client path.
    pub(super) fn sharing(&self) -> Sharing {
        self.sharing.clone()
    }

    /// Starts the thread that learns from what other instances say of the past, and says what is known here.
    pub(super) fn keep(&self, fence: Arc<Fence>, tags: Arc<Tags>, config: &Config) -> anyhow::Result<Thread> {
        let (sharing, counters, ttl) = (self.sharing(), Arc::clone(&self.keeper), config.cache.ttl.0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("change-log".to_owned()).spawn(move || {
            runtime.block_on(async {
                let exchange: Exchange = sharing.exchange();
                tokio::select! {
                    () = Keeper::new(fence, tags, exchange, ttl, counters).run() => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Thread { stop: Some(stop), thread: Some(thread.context("cannot start the change log's thread")?) })
    }

    /// Whether others have told what changed before this Larder came.
    pub(crate) fn has_learnt(&self) -> bool {
        self.keeper.learnt.load(Ordering::Relaxed) > 0
    }

    /// For `/api/v1/status`.
    pub(crate) fn status(&self, fence: &Fence) -> Json {
        let history = fence.history();
        json!({
            "state": if history.is_some() { "sharing" } else { "waiting" },
            "history": history.map(|position| Lsn(position).to_string()),
            "learnt": self.keeper.learnt.load(Ordering::Relaxed),
            "said": self.keeper.said.load(Ordering::Relaxed),
        })
    }
}

/// The running thread. Dropping it stops it.
#[derive(Debug)]
pub(super) struct Thread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
