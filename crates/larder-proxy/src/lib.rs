//! The client path: PostgreSQL clients in, answers out, from memory where that is provably right and from the origin
//! everywhere else.
//!
//! Reading order: [`worker`](self) deals clients to cores, `startup` brings a session up (`access`: who may), `session` is the state
//! machine (`client` → `settle` → `local` or `forward`; `replies` on the way back), `plan`, `key` and `facts` are
//! what a lookup is made of.

mod access;
mod cancel;
mod clients;
mod collect;
mod console;
mod facts;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod key;
mod metrics;
mod mode;
mod pipe;
mod plan;
mod queries;
mod reply;
mod rows;
mod rules;
mod server;
mod session;
mod startup;
mod trace;
mod verify;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use larder_cache::shared::Exchange;
use larder_cache::tier::{Sealer, Tier};
use larder_cache::{Fence, Tags};
use larder_core::{CatalogCell, Level};
use larder_login::OriginTls;

pub use access::{Access, Authentication, SecretAnswer, Secrets};
pub use clients::{ClientIdentity, ClientSnapshot, ClientState};
pub use collect::{Latencies, METRICS};
pub use console::{Console, ConsoleAccess, Refusal, Reply};
pub use mode::Mode;
pub use queries::QuerySnapshot;
pub use rules::{Condition, Denied, Rule, Rules, Target, TooManyDenied};
pub use server::{CountersSnapshot, Proxy, Purge, ReasonSnapshot};
pub use trace::{Trace, TraceParent, TraceStep, TraceSubject, Tracing};
pub use verify::Verify;

/// What the client path is told.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Clients served at once; one more is refused as PostgreSQL would (53300).
    pub max_clients: usize,
    /// Host name or address of the origin.
    pub origin_host: String,
    /// Port of the origin.
    pub origin_port: u16,
    /// TLS towards the origin.
    pub origin_tls: OriginTls,
    /// Who may come in, and how.
    pub access: Access,
    /// How long a client's connection may last, if there is a limit: then it is closed between two transactions.
    pub client_max_age: Option<Duration>,
    /// Time to establish a connection to the origin.
    pub connect_timeout: Duration,
    /// What the cache does at first. A plain proxy ([`Mode::Bypass`]) stays one.
    pub mode: Mode,
    /// Which answers from memory are compared with the origin's.
    pub verify: Verify,
    /// Requests and sessions that are traced, if any are. Whether there are any is decided at the start.
    pub tracing: Option<Arc<Tracing>>,
    /// Whether statements are counted and timed. (For measuring what that costs.)
    pub statistics: bool,
    /// What readers are promised.
    pub level: Level,
    /// Bound of the lease.
    pub max_lag: Duration,
    /// Bytes of the in-memory tier.
    pub memory: usize,
    /// Bytes of the largest answer kept.
    pub max_result: usize,
    /// Time to live of an answer.
    pub ttl: Duration,
    /// Share of the time to live by which it may be shortened, 0 to 1.
    pub ttl_jitter: f64,
    /// Fills sent to the origin at once.
    pub max_inflight_fills: usize,
    /// The admin database, if there is one.
    pub console: Option<ConsoleAccess>,
    /// Worker threads; 0 = one per core.
    pub workers: usize,
}

/// What the client path reads from (the feed writes it).
#[derive(Debug, Clone)]
pub struct Shared {
    /// How far the feed has proven the present.
    pub fence: Arc<Fence>,
    /// What answers depend on.
    pub tags: Arc<Tags>,
    /// The newest catalog.
    pub catalog: Arc<CatalogCell>,
    /// The tier that this process shares with others, if there is one.
    pub sharing: Option<Sharing>,
    /// What operators have decided about caching.
    pub rules: Arc<Rules>,
}

/// A tier that several processes share.
#[derive(Clone)]
pub struct Sharing {
    /// Makes a connection, in the thread and the runtime that will use it.
    pub connect: Arc<dyn Fn() -> Box<dyn Tier> + Send + Sync>,
    /// How values look in it.
    pub sealer: Arc<Sealer>,
    /// Answers that cost the origin less are not worth the trip.
    pub min_origin_time: Duration,
}

impl ProxyConfig {
    /// Whether there is a cache, whatever it does at present.
    pub(crate) fn has_cache(&self) -> bool {
        self.mode != Mode::Bypass
    }
}

impl Sharing {
    /// A connection for this thread.
    pub fn exchange(&self) -> Exchange {
        Exchange::new((self.connect)(), Arc::clone(&self.sealer))
    }
}

impl std::fmt::Debug for Sharing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sharing").field("min_origin_time", &self.min_origin_time).finish_non_exhaustive()
    }
}
