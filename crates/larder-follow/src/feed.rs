//! The change feed as applications see it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use larder_cache::{ChangeLog, Fence, Moment, Resolved, Tag};
use larder_core::catalog::{Persistence, Relation, RelationKind};
use larder_core::{Catalog, FeedHealth, FeedState, relation_tag};
use larder_feed::{Account, FeedConfig, Plugin, Shared};
use tokio::sync::oneshot;

use crate::account::{self, UrlError};
use crate::tag::{self, TableTag};

/// Between a feed that has panicked and the next one.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Why no feed was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The URL cannot be read.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The system gives no thread.
    #[error("cannot start the feed's thread: {0}")]
    Thread(#[from] io::Error),
}

/// Follows a database's log, in a thread of its own, until the last handle is dropped. Cheap to clone; several caches may
/// [follow](larder_cache::CacheBuilder::follow) one.
///
/// It connects by itself, and again after any loss. What stands in the way, and how to mend it, is in [`Feed::state`];
/// meanwhile the caches that follow it give nothing from memory, and run their loaders.
///
/// # What loaders must do
/// What a loader brings is taken to include everything that the feed knew to be visible before it ran. So it must read from
/// the server that the feed follows (not from a standby), by statements that begin after it was called: not in a REPEATABLE
/// READ or SERIALIZABLE transaction that has read before, nor in one that has written and not committed. An ordinary query on a
/// connection of a pool does the right thing.
#[derive(Clone)]
pub struct Feed {
    shared: Shared,
    _thread: Arc<Thread>,
}

/// How a feed is to be: see [`Feed::builder`].
#[derive(Clone)]
#[must_use = "a feed is started by `start`"]
pub struct FeedBuilder {
    account: Account,
    max_lag: Duration,
    ddl_check: Duration,
}

/// Ends the feed when dropped.
struct Thread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// A feed with this account (REPLICATION and CONNECT), given as
    /// `postgres://user:password@host:5432/database?sslmode=verify-full&sslrootcert=ca.pem`.
    ///
    /// # Errors
    /// The URL cannot be read. That the server cannot be reached is no error here: see [`Feed::state`].
    pub fn start(url: &str) -> Result<Self, StartError> {
        Self::builder(account::parse(url)?).start()
    }

    /// A feed with other settings.
    pub fn builder(account: Account) -> FeedBuilder {
        FeedBuilder { account, max_lag: Duration::from_secs(1), ddl_check: Duration::from_millis(250) }
    }

    /// How it is doing, and what stands in its way.
    pub fn state(&self) -> FeedState {
        self.shared.health.get()
    }

    /// Waits until values may be given from memory; false when that takes longer than `limit`.
    pub async fn ready(&self, limit: Duration) -> bool {
        self.shared.fence.wait_covered(Moment::now(), limit).await
    }

    /// The application has written, in a transaction that was committed before this call, what these tags name: no cache
    /// that follows this feed gives anything that depends on it until the feed has seen the commit, typically a
    /// millisecond later. For what others write there is nothing to call.
    ///
    /// A tag that is not of the form `table:...` or `row:...`, or names nothing that is known, stands for everything.
    pub fn wrote<T: AsRef<str>>(&self, tags: impl IntoIterator<Item = T>) {
        let now = Moment::now();
        for tag in tags {
            match self.resolve(tag.as_ref()) {
                Resolved::Tags(tags) => tags.iter().for_each(|tag| tag.mark(now)),
                _ => self.shared.fence.mark_all(now),
            }
        }
        self.shared.fence.request_sample();
    }

    fn find(&self, table: &TableTag<'_>) -> Result<Arc<Tag>, String> {
        let catalog = self.shared.catalog.load();
        let catalog = catalog.as_ref().ok_or("the catalog has not been read yet")?;
        let relation = catalog.resolve(Some(&table.schema), &table.name, &[]);
        let relation = relation.ok_or_else(|| format!("there is no {}.{}", table.schema, table.name))?;
        shown(catalog, relation)?;
        Ok(self.shared.tags.get(&relation_tag(relation.oid)))
    }
}

impl FeedBuilder {
    /// How old the feed's last proof may be while values are still given from memory. A second unless said otherwise.
    pub fn max_lag(mut self, max_lag: Duration) -> Self {
        self.max_lag = max_lag;
        self
    }

    /// How often the catalog is compared while anything commits. A quarter of a second unless said otherwise.
    pub fn ddl_check(mut self, every: Duration) -> Self {
        self.ddl_check = every;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(self) -> Result<Feed, StartError> {
        let Self { account, max_lag, ddl_check } = self;
        let shared = Shared {
            fence: Arc::new(Fence::new(max_lag)),
            tags: Arc::default(),
            catalog: Arc::default(),
            health: Arc::new(FeedHealth::default()),
        };
        // An application's own cache shares nothing by way of the log.
        let plugin = Plugin::TestDecoding;
        let config = FeedConfig { account, plugin, max_lag, ddl_check, share: false };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let following = shared.clone();
        let thread = std::thread::Builder::new().name("larder-feed".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = supervise(config, following) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Feed { shared, _thread: Arc::new(Thread { stop: Some(stop), thread: Some(thread) }) })
    }
}

/// The feed never returns by itself; should it panic, it starts anew, with a new epoch like after any gap.
async fn supervise(config: FeedConfig, shared: Shared) {
    loop {
        let _ = tokio::spawn(larder_feed::run(config.clone(), shared.clone())).await;
        shared.tags.restart(&shared.fence, 0);
        tokio::time::sleep(RESTART_AFTER).await;
    }
}

impl ChangeLog for Feed {
    fn fence(&self) -> &Arc<Fence> {
        &self.shared.fence
    }

    fn resolve(&self, tag: &str) -> Resolved {
        match tag::parse(tag) {
            None => Resolved::Unknown,
            Some(Err(_)) => Resolved::Unprovable(format!("\"{tag}\" names neither a table nor a row of one")),
            Some(Ok(table)) => match self.find(&table) {
                Ok(tag) => Resolved::Tags(vec![tag]),
                Err(why) => Resolved::Unprovable(why),
            },
        }
    }
}

/// Whether the log shows every change of the relation's rows, those of its partitions and children included.
fn shown(catalog: &Catalog, relation: &Relation) -> Result<(), String> {
    let below = relation.descendants.iter().map(|oid| catalog.relations.get(oid));
    for part in std::iter::once(Some(relation)).chain(below.map(|part| part.map(|part| &**part))) {
        let part = part.ok_or("a partition or child of it is not in the catalog")?;
        let name = format!("{}.{}", part.schema, part.name);
        let why = match (part.kind, part.persistence) {
            _ if part.is_system => "is a system catalog",
            (RelationKind::View, _) => "is a view: name the tables that it reads",
            (RelationKind::ForeignTable, _) => "is a foreign table",
            (RelationKind::Sequence | RelationKind::Other, _) => "is not a table",
            (_, Persistence::Unlogged) => "is unlogged",
            (_, Persistence::Temporary) => "is temporary",
            (
                RelationKind::Table | RelationKind::PartitionedTable | RelationKind::MaterializedView,
                Persistence::Permanent,
            ) => continue,
        };
        return Err(format!("{name} {why}"));
    }
    Ok(())
}

impl Drop for Thread {
    fn drop(&mut self) {
        // The connection closes with the runtime, and with it the temporary slot.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// Without the account, which holds a password.
impl fmt::Debug for FeedBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedBuilder").field("max_lag", &self.max_lag).finish_non_exhaustive()
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("state", &self.state())
            .field("fence", &self.shared.fence)
            .finish_non_exhaustive()
    }
}
