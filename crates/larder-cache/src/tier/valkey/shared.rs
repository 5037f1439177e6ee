//! What all connections of a process have in common: the breakers, the counters, and the state, which is logged once
//! whenever it becomes another.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::{info, warn};

use super::breaker::{Breaker, Pace};
use super::connect::Endpoint;
use super::counters::{Op, OpResult, ValkeyCounters};
use super::inspect::Server;
use super::trouble::{Trouble, TroubleKind};

/// Timeouts and lost connections, in a row, after which nobody waits for the server any more.
const FAILURES: u32 = 5;
/// The same for a cluster: so many in a row are not one node's doing while others answer.
const CLUSTER_FAILURES: u32 = 30;

/// How a tier is doing.
#[derive(Debug, Clone)]
pub enum State {
    /// Not connected yet, and not given up.
    Starting,
    /// It answers and stores.
    Ready,
    /// It answers and refuses to store.
    Refusing(Trouble),
    /// It is not asked, but for a probe now and then.
    Down(Trouble),
}

/// A snapshot for people and programs.
#[derive(Debug, Clone)]
pub struct Status {
    /// How it is doing.
    pub state: State,
    /// What kind of server it is, if it has said so.
    pub server: Option<Server>,
    /// How long it took to answer when it was last asked whether it does.
    pub latency: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) endpoint: Endpoint,
    pub(super) prefix: String,
    pub(super) max_value: usize,
    /// Whether it answers at all.
    pub(super) breaker: Breaker,
    /// Whether it stores: a full server and a replica still answer.
    pub(super) writes: Breaker,
    pub(super) counters: ValkeyCounters,
    status: Mutex<Status>,
    /// Troubles that are no state of the whole, and have been logged since it last became ready.
    told: Mutex<Vec<TroubleKind>>,
}

impl State {
    /// A word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Refusing(_) => "refusing",
            Self::Down(_) => "down",
        }
    }

    /// What is wrong.
    pub fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::Starting | Self::Ready => None,
            Self::Refusing(trouble) | Self::Down(trouble) => Some(trouble),
        }
    }

    /// Other words for the same trouble are no news.
    fn is_news_after(&self, before: &Self) -> bool {
        let kind = |state: &Self| state.trouble().map(|trouble| trouble.kind);
        std::mem::discriminant(self) != std::mem::discriminant(before) || kind(self) != kind(before)
    }
}

impl Shared {
    pub(super) fn new(endpoint: Endpoint, prefix: String, max_value: usize) -> Self {
        let (millis, secs) = (Duration::from_millis, Duration::from_secs);
        let threshold = if endpoint.is_cluster() { CLUSTER_FAILURES } else { FAILURES };
        let down = Pace { threshold, first: millis(100), longest: secs(5), calm: secs(10) };
        let refusing = Pace { threshold: 1, first: millis(500), longest: secs(30), calm: secs(60) };
        let status = Status { state: State::Starting, server: None, latency: None };
        Self {
            endpoint,
            prefix,
            max_value,
            breaker: Breaker::new(down),
            writes: Breaker::new(refusing),
            counters: ValkeyCounters::default(),
            status: Mutex::new(status),
            told: Mutex::default(),
        }
    }

    pub(super) fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// There is a connection, and it answers.
    pub(super) fn is_up(&self, latency: Duration) {
        self.breaker.succeeded();
        let mut status = self.status.lock();
        status.latency = Some(latency);
        // It may have opened since: then the next probe will say so.
        if !matches!(status.state, State::Refusing(_)) && !self.breaker.is_open() {
            self.becomes(&mut status, State::Ready);
        }
    }

    pub(super) fn is_served_by(&self, server: Server) {
        self.status.lock().server = Some(server);
    }

    /// It was not asked in vain for the first time; the breaker may open.
    pub(super) fn failed(&self, trouble: Trouble) {
        if self.breaker.failed(Instant::now()) {
            self.is_down(trouble);
        }
    }

    /// The breaker is open.
    pub(super) fn is_down(&self, trouble: Trouble) {
        let mut status = self.status.lock();
        // The probe of another may have succeeded meanwhile.
        if self.breaker.is_open() {
            self.becomes(&mut status, State::Down(trouble));
        }
    }

    /// It refused to store.
    pub(super) fn refused(&self, trouble: Trouble) {
        if self.writes.failed(Instant::now()) || self.writes.is_open() {
            let mut status = self.status.lock();
            if !matches!(status.state, State::Down(_)) {
                self.becomes(&mut status, State::Refusing(trouble));
            }
        }
    }

    /// It stores again.
    pub(super) fn stores(&self) {
        let mut status = self.status.lock();
        if matches!(status.state, State::Refusing(_)) {
            self.becomes(&mut status, State::Ready);
        }
    }

    /// One key, or one command, is in trouble. The rest goes on; the operator should know.
    pub(super) fn tell_once(&self, trouble: &Trouble) {
        let mut told = self.told.lock();
        if !told.contains(&trouble.kind) {
            told.push(trouble.kind);
            say(trouble);
        }
    }

    /// The result of a question that failed, for the counters.
    pub(super) fn result_of(trouble: &Trouble) -> OpResult {
        if trouble.kind == TroubleKind::TimedOut { OpResult::Timeout } else { OpResult::Error }
    }

    pub(super) fn took(&self, op: Op, result: OpResult, started: Instant) {
        self.counters.took(op, result, started.elapsed());
    }

    fn becomes(&self, status: &mut Status, state: State) {
        if !state.is_news_after(&status.state) {
            return;
        }
        match state.trouble() {
            Some(trouble) => say(trouble),
            None => {
                self.told.lock().clear();
                info!(state = state.name(), "valkey {}: connected, it answers and stores", self.endpoint.url);
            }
        }
        status.state = state;
    }
}

fn say(trouble: &Trouble) {
    warn!(code = trouble.kind.code(), "{trouble} -> {}", trouble.kind.remedy());
}
