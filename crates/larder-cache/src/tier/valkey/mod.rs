//! A tier on Valkey, Redis, or what speaks their protocol: one server, Sentinel, or a cluster.
//!
//! ```text
//!   Valkey (one a process): breakers, counters, state      Connection (one a thread): implements Tier
//!      |                                                       |
//!      |   connection() --------------------------------->  links: small answers | large ones and puts
//!      |                                                    keeper: connects, probes, pings, in the background
//!      '<--- failures, successes -------------------------  line of puts: bounded, a few at a time
//! ```
//!
//! Whoever asks waits at most for `timeout`, and not at all while there is no connection or the breaker is open.
//! Nothing is retried. Commands are those that all servers of this family have: `GETRANGE` (which bounds the answer,
//! whatever a key holds), `SET` with `PX`, `INFO`; `AUTH`, `SELECT`, `SENTINEL`, `ROLE` and those of clusters
//! where they are used.

mod breaker;
mod connect;
mod counters;
mod inspect;
mod links;
mod shared;
mod tls;
mod trouble;
mod url;
mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::Value;
use tokio::task::JoinHandle;

use super::{Fetch, Tier, TierKey};
use connect::Endpoint;
use links::{Lent, Links};
use shared::Shared;
use tls::Tls;
use writer::Line;

pub use counters::{Op, OpResult, ValkeyCounters, ValkeyLatency};
pub use inspect::{Inspection, Server};
pub use shared::{State, Status};
pub use tls::{TlsError, TlsFiles};
pub use trouble::{Trouble, TroubleKind};
pub use url::{Topology, UrlError, ValkeyUrl};

/// Values larger than this travel apart from small ones: 64 KiB take about half a millisecond on a gigabit network.
pub const LARGE: usize = 64 * 1024;

/// Where the tier is and how long it may take.
#[derive(Debug, Clone)]
pub struct ValkeyConfig {
    /// The servers and an account on them.
    pub url: ValkeyUrl,
    /// Certificates, for `rediss://`.
    pub tls: TlsFiles,
    /// The longest that anybody waits for an answer.
    pub timeout: Duration,
    /// The longest that a connection may take to be made, in the background.
    pub connect_timeout: Duration,
    /// Larger values are neither stored nor fetched.
    pub max_value: usize,
    /// All keys begin with it and a colon.
    pub prefix: String,
}

impl ValkeyConfig {
    /// With the usual times and sizes.
    pub fn new(url: ValkeyUrl) -> Self {
        Self {
            url,
            tls: TlsFiles::default(),
            timeout: Duration::from_millis(20),
            connect_timeout: Duration::from_secs(1),
            max_value: 1 << 20,
            prefix: "larder".to_owned(),
        }
    }
}

/// What all connections of a process share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Valkey(Arc<Shared>);

/// The tier as one thread sees it: two connections, kept in the background.
#[derive(Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    links: Arc<Links>,
    line: Line,
    tasks: [JoinHandle<()>; 2],
}

impl Valkey {
    /// Reads the certificates; connects to nothing.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn new(config: ValkeyConfig) -> Result<Self, TlsError> {
        let ValkeyConfig { url, tls, timeout, connect_timeout, max_value, prefix } = config;
        let tls = if url.tls { Some(Tls::load(&tls)?) } else { None };
        let endpoint = Endpoint { url, tls, connect_timeout, timeout, ping_key: format!("{prefix}:ping") };
        Ok(Self(Arc::new(Shared::new(endpoint, prefix, max_value))))
    }

    /// Begins to connect, and returns at once. Called once in each thread that will use the tier.
    ///
    /// # Panics
    /// Outside a tokio runtime, which runs the connections.
    #[must_use]
    pub fn connection(&self) -> Connection {
        let (links, (line, jobs)) = (Arc::<Links>::default(), Line::new());
        let keeper = links::keep(self.0.clone(), links.clone());
        let writer = writer::run(self.0.clone(), links.clone(), jobs);
        Connection {
            shared: self.0.clone(),
            links,
            line,
            tasks: [tokio::spawn(keeper), tokio::spawn(writer)],
        }
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        self.0.status()
    }

    /// Whether nobody asks, but for a probe now and then.
    pub fn breaker_is_open(&self) -> bool {
        self.0.breaker.is_open()
    }

    /// What is counted and measured.
    pub fn counters(&self) -> &ValkeyCounters {
        &self.0.counters
    }

    /// Where it is, passwords masked.
    pub fn url(&self) -> &ValkeyUrl {
        &self.0.endpoint.url
    }

    /// Connects for once, and finds out whether everything needed is allowed.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn inspect(&self) -> Result<Inspection, Trouble> {
        inspect::inspect(&self.0.endpoint, &self.0.prefix).await
    }
}

impl Shared {
    fn name_of(&self, key: &TierKey) -> String {
        format!("{}:{key}", self.prefix)
    }

    /// A question on that pair of connections went wrong. A broken connection is one failure, however many waited.
    fn broke(&self, links: &Links, id: u64, trouble: Trouble) {
        match trouble.kind {
            // The next put replaces it.
            TroubleKind::WrongType => self.tell_once(&trouble),
            // One node of it: see `Shared::new`.
            _ if self.endpoint.is_cluster() => self.failed(trouble),
            TroubleKind::Unreachable | TroubleKind::Garbled if !links.lost(id) => {}
            _ => self.failed(trouble),
        }
    }

    async fn get(&self, links: &Links, key: &TierKey, large: bool) -> Option<Bytes> {
        let lent = if self.breaker.is_open() {
            None
        } else if large {
            links.bulk()
        } else {
            links.small()
        };
        let Some(Lent { id, mut wire }) = lent else {
            self.counters.count(Op::Get, OpResult::Skipped);
            return None;
        };
        let mut command = redis::cmd("GETRANGE");
        // One more than allowed, to notice that there is more.
        command.arg(self.name_of(key)).arg(0).arg(self.max_value);
        let started = Instant::now();
        let answer = tokio::time::timeout(self.endpoint.timeout, wire.ask(&command)).await;
        let trouble = match answer {
            Ok(Ok(Value::BulkString(value))) => {
                self.breaker.succeeded();
                let (result, value) = match value.len() {
                    // A key that is not there has an empty range, and no value is empty.
                    0 => (OpResult::Miss, None),
                    size if size > self.max_value => (OpResult::TooLarge, None),
                    _ => (OpResult::Hit, Some(Bytes::from(value))),
                };
                self.took(Op::Get, result, started);
                return value;
            }
            Ok(Ok(_)) => Trouble::new(TroubleKind::Garbled, "an answer to GETRANGE that is no string"),
            Ok(Err(error)) => Trouble::from(&error),
            Err(_) => Trouble::timed_out(&format!("no answer within {:?}", self.endpoint.timeout)),
        };
        self.took(Op::Get, Self::result_of(&trouble), started);
        self.broke(links, id, trouble);
        None
    }
}

/// What the cache for applications asks besides values.
impl Connection {
    /// The answer to a command, within the time of one operation and behind the breaker.
    pub(crate) async fn ask(&self, command: &redis::Cmd) -> Option<Value> {
        let lent = if self.shared.breaker.is_open() { None } else { self.links.small() };
        self.ask_on(lent?, command, self.shared.endpoint.timeout).await
    }

    /// The same for a command that the server answers only after `pause`. Nothing else may use this connection.
    pub(crate) async fn wait_for(&self, command: &redis::Cmd, pause: Duration) -> Option<Value> {
        let lent = if self.shared.breaker.is_open() { None } else { self.links.bulk() };
        self.ask_on(lent?, command, pause + self.shared.endpoint.timeout * 10).await
    }

    /// Whether a command may block: not in a cluster, where others wait behind it.
    pub(crate) fn can_block(&self) -> bool {
        !self.shared.endpoint.is_cluster()
    }

    async fn ask_on(
        &self,
        Lent { id, mut wire }: Lent,
        command: &redis::Cmd,
        limit: Duration,
    ) -> Option<Value> {
        let trouble = match tokio::time::timeout(limit, wire.ask(command)).await {
            Ok(Ok(answer)) => {
                self.shared.breaker.succeeded();
                return Some(answer);
            }
            Ok(Err(error)) => Trouble::from(&error),
            Err(_) => Trouble::timed_out(&format!("no answer within {limit:?}")),
        };
        // A command that this server refuses says nothing about values, which may still be read.
        if trouble.of_writes() {
            self.shared.tell_once(&trouble);
        } else {
            self.shared.broke(&self.links, id, trouble);
        }
        None
    }
}

impl Tier for Connection {
    fn get<'a>(&'a self, key: &'a TierKey, large: bool) -> Fetch<'a> {
        Box::pin(self.shared.get(&self.links, key, large))
    }

    fn put(&self, key: &TierKey, value: Bytes, ttl: Duration) {
        let refused = if value.is_empty() || value.len() > self.shared.max_value {
            OpResult::TooLarge
        } else if !self.accepts(value.len()) {
            OpResult::Skipped
        } else if !self.line.join(*key, value, ttl) {
            OpResult::Dropped
        } else {
            return;
        };
        self.shared.counters.count(Op::Put, refused);
    }

    fn available(&self) -> bool {
        !self.shared.breaker.is_open() && self.links.are_there()
    }

    fn accepts(&self, bytes: usize) -> bool {
        bytes <= self.shared.max_value && self.available() && self.shared.writes.would_admit(Instant::now())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
