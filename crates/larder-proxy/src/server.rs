//! The listener, the workers it deals clients to, and what the outside may ask of them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use larder_cache::{Store, Tag};
use larder_core::{Bypass, Family, relation_tag};
use larder_sql::Fingerprint;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::cancel::Cancels;
use crate::clients::{ClientSnapshot, Clients};
use crate::collect::{Collector, Latencies};
use crate::key;
use crate::metrics::WorkerMetrics;
use crate::mode::{Mode, ModeSwitch};
use crate::plan::Plans;
use crate::queries::{self, Queries, QuerySnapshot};
use crate::reply::Answer;
use crate::rules::{Rules, Target, TooManyDenied};
use crate::verify::{self, Reports, Sampler};
use crate::worker::{Order, Worker};
use crate::{ProxyConfig, Shared, Sharing};

/// Stack of a worker thread: the SQL grammar recurses with the nesting of the text. Virtual memory, touched on need.
const STACK: usize = 32 << 20;

/// A running proxy: its worker threads and its listener. Dropping it closes every session at once.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    settings: Arc<ArcSwap<ProxyConfig>>,
    workers: Vec<Hand>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stop_accepting: Mutex<Option<oneshot::Sender<()>>>,
    origin_reachable: Arc<AtomicBool>,
    mode: Arc<ModeSwitch>,
    store: Arc<Store<Answer>>,
    shared: Shared,
    /// Bytes of the in-memory tier.
    memory: usize,
}

/// The acceptor's hold on a worker.
#[derive(Debug, Clone)]
struct Hand {
    orders: mpsc::UnboundedSender<Order>,
    metrics: Arc<WorkerMetrics>,
    queries: Arc<Queries>,
    clients: Arc<Clients>,
}

/// Statements by how they were answered, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CountersSnapshot {
    /// From memory.
    pub hits: u64,
    /// By the origin, kept if possible.
    pub misses: u64,
    /// From memory after waiting for an identical query.
    pub coalesced: u64,
    /// From the shared tier.
    pub shared: u64,
    /// By the origin, never kept.
    pub bypassed: u64,
    /// Errors of the origin.
    pub errors: u64,
    /// Answers in memory that were compared with the origin's.
    pub checks: u64,
    /// Of those: they differed, and nothing explains it.
    pub mismatches: u64,
    /// They differed, and what they depend on had changed.
    pub changed: u64,
    /// They differed where PostgreSQL itself may answer in several ways.
    pub varying: u64,
    /// They differed, and the feed could not say in time whether anything had changed.
    pub unjudged: u64,
}

/// Which answers to forget.
#[derive(Debug, Clone, Copy)]
pub enum Purge<'a> {
    /// Every one.
    All,
    /// Those that depend on this.
    Tag(&'a Arc<Tag>),
    /// Those of this statement, whatever its values.
    Query(Fingerprint),
}

/// How often statements were not cached for one reason, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReasonSnapshot {
    /// The reason.
    pub reason: Bypass,
    /// Statements.
    pub count: u64,
    /// Time in which clients waited for them.
    pub time: Duration,
}

impl Proxy {
    /// Binds and starts the worker threads; clients are served when it returns.
    ///
    /// # Errors
    /// The address cannot be bound, or a thread cannot be started.
    pub fn start(config: ProxyConfig, shared: Shared) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(config.listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let store = Store::new(Arc::clone(&shared.fence), config.memory, config.max_result);
        let origin_reachable = Arc::new(AtomicBool::new(true));
        let mode = Arc::new(ModeSwitch::new(config.mode));
        let reports = Arc::new(Reports::default());
        let fills = Arc::new(Semaphore::new(config.max_inflight_fills.max(1)));
        let cancels = Arc::new(Cancels::default());
        let (workers_wanted, memory) = (config.workers, config.memory);
        let tracing = config.tracing.clone();
        let settings = Arc::new(ArcSwap::from_pointee(config));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = match workers_wanted {
            0 => cores,
            count => count,
        };
        let mut threads = Vec::new();
        let mut workers = Vec::new();
        for index in 0..count {
            let metrics = WorkerMetrics::new();
            let (orders, received) = mpsc::unbounded_channel();
            let queries = Arc::new(Queries::default());
            let clients = Arc::new(Clients::default());
            workers.push(Hand {
                orders,
                metrics: Arc::clone(&metrics),
                queries: Arc::clone(&queries),
                clients: Arc::clone(&clients),
            });
            let (settings, shared, store) = (Arc::clone(&settings), shared.clone(), Arc::clone(&store));
            let (origin_reachable, fills) = (Arc::clone(&origin_reachable), Arc::clone(&fills));
            let (cancels, mode) = (Arc::clone(&cancels), Arc::clone(&mode));
            let (reports, tracing) = (Arc::clone(&reports), tracing.clone());
            let (doubts, found) = mpsc::channel(verify::MAX_DOUBTS);
            threads.push(spawn(&format!("larder-worker-{index}"), runtime(), move || async move {
                let plans = std::cell::RefCell::new(Plans::new(queries));
                let exchange = shared.sharing.as_ref().map(Sharing::exchange);
                let sampler = Sampler::default();
                let worker = Worker {
                    settings,
                    shared,
                    store,
                    metrics,
                    plans,
                    tracing,
                    exchange,
                    renewals: std::cell::RefCell::default(),
                    origin_reachable,
                    mode,
                    sampler,
                    doubts,
                    reports,
                    fills,
                    clients,
                    cancels,
                };
                worker.run(received, found).await;
            })?);
        }
        let (stop_accepting, stopped) = oneshot::channel();
        let (hands, of_acceptor) = (workers.clone(), Arc::clone(&settings));
        let acceptor = move || accept(listener, hands, of_acceptor, stopped);
        threads.push(spawn("larder-acceptor", runtime(), acceptor)?);
        Ok(Self {
            address,
            settings,
            workers,
            threads: Mutex::new(threads),
            stop_accepting: Mutex::new(Some(stop_accepting)),
            origin_reachable,
            mode,
            store,
            shared,
            memory,
        })
    }

    /// The configuration as it is now.
    pub fn config(&self) -> Arc<ProxyConfig> {
        self.settings.load_full()
    }

    /// Replaces the configuration. Clients that connect from now on meet the new one; sessions that there are keep their
    /// connections, and heed what it says of answers from their next statement on. Not heeded is what
    /// [`Proxy::start`] alone uses: `listen`, `serve`, `memory`, `max_result`, `max_inflight_fills`, `workers`.
    pub fn reconfigure(&self, config: ProxyConfig) {
        self.settings.store(Arc::new(config));
    }

    /// Where clients connect.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Clients connected now.
    pub fn clients(&self) -> usize {
        self.workers.iter().map(|hand| hand.metrics.clients.load(Ordering::Relaxed)).sum()
    }

    /// The same, for each worker.
    pub fn clients_by_worker(&self) -> Vec<usize> {
        self.workers.iter().map(|hand| hand.metrics.clients.load(Ordering::Relaxed)).collect()
    }

    /// Who is connected and what they do, by worker; those who came first first.
    pub fn client_list(&self) -> Vec<ClientSnapshot> {
        self.workers.iter().enumerate().flat_map(|(worker, hand)| hand.clients.list(worker)).collect()
    }

    /// How long statements took that were answered from memory.
    pub fn hit_latencies(&self) -> Latencies {
        self.collector().latencies(|worker| &worker.hit)
    }

    /// How long statements took that the origin answered, and whose answers may be kept.
    pub fn miss_latencies(&self) -> Latencies {
        self.collector().latencies(|worker| &worker.miss)
    }

    /// What the answers from memory would have cost the origin.
    pub fn saved(&self) -> Duration {
        Duration::from_nanos(self.collector().saved())
    }

    /// Whether the last attempt to reach the origin worked (true before the first one).
    pub fn origin_reachable(&self) -> bool {
        self.origin_reachable.load(Ordering::Relaxed)
    }

    /// Entries and bytes of the in-memory tier.
    pub fn tier(&self) -> (usize, usize) {
        (self.store.entries(), self.store.bytes())
    }

    /// Forgets answers; returns how many there were.
    pub fn purge(&self, what: Purge<'_>) -> usize {
        match what {
            Purge::All => {
                let entries = self.store.entries();
                self.store.purge_all();
                entries
            }
            Purge::Tag(tag) => {
                let parts = tag.parts();
                let is_of = |known: &Arc<Tag>| {
                    Arc::ptr_eq(known, tag) || parts.iter().any(|part| Arc::ptr_eq(known, part.all()))
                };
                self.store.purge(|_, tags| tags.iter().any(is_of))
            }
            Purge::Query(fingerprint) => self.store.purge(|key, _| {
                key::text(key).is_some_and(|text| larder_sql::digest(text).fingerprint == fingerprint)
            }),
        }
    }

    /// What operators have decided about caching.
    pub fn rules(&self) -> &Rules {
        &self.shared.rules
    }

    /// Switches caching off for a statement or a relation until it is allowed again or Larder restarts: from each
    /// session's next statement on, with this reason. What is in memory is forgotten. `false`: it was off already.
    ///
    /// # Errors
    /// Too much is switched off already.
    pub fn deny(&self, target: Target, why: Bypass) -> Result<bool, TooManyDenied> {
        let new = self.shared.rules.deny(target.clone(), why)?;
        self.forget(&target);
        Ok(new)
    }

    /// Takes a denial back; caching begins with nothing. `false`: there was none.
    pub fn allow(&self, target: &Target) -> bool {
        // A fill that was under way when it was denied may have been kept since.
        self.forget(target);
        self.shared.rules.allow(target)
    }

    fn forget(&self, target: &Target) {
        match target {
            Target::Query(fingerprint) => drop(self.purge(Purge::Query(*fingerprint))),
            Target::Table(name) => {
                let Some(catalog) = self.shared.catalog.load_full() else { return };
                let named = catalog.relations.values().filter(|relation| crate::rules::names(name, relation));
                for tag in named.filter_map(|relation| self.shared.tags.find(&relation_tag(relation.oid))) {
                    self.purge(Purge::Tag(&tag));
                }
            }
        }
    }

    /// Where answers come from now.
    pub fn mode(&self) -> Mode {
        self.mode.get()
    }

    /// Switches that for all sessions, from their next statement on. (A plain proxy stays one.)
    pub fn set_mode(&self, mode: Mode) {
        self.mode.set(mode);
    }

    /// Statements by how they were answered, since the start.
    pub fn counters(&self) -> CountersSnapshot {
        self.collector().counters()
    }

    /// What is known of each statement; those first that cost or saved most.
    pub fn queries(&self) -> Vec<QuerySnapshot> {
        queries::add_up(self.workers.iter().map(|hand| &*hand.queries))
    }

    /// Why statements were not cached; the reason first that cost most. Those that never occurred are left out.
    pub fn reasons(&self) -> Vec<ReasonSnapshot> {
        let sum = |of: fn(&WorkerMetrics) -> &Vec<AtomicU64>, at: usize| -> u64 {
            let counters = self.workers.iter().filter_map(|hand| of(&hand.metrics).get(at));
            counters.map(|counter| counter.load(Ordering::Relaxed)).sum()
        };
        let of = |(at, reason): (usize, &Bypass)| ReasonSnapshot {
            reason: *reason,
            count: sum(|metrics| &metrics.reasons, at),
            time: Duration::from_nanos(sum(|metrics| &metrics.reason_nanoseconds, at)),
        };
        let all = Bypass::ALL.iter().enumerate().map(of);
        let mut reasons: Vec<_> = all.filter(|reason| reason.count > 0).collect();
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.time));
        reasons
    }

    /// The present values of [`crate::METRICS`].
    pub fn metrics(&self) -> Vec<Family> {
        self.collector().families()
    }

    fn collector(&self) -> Collector {
        let workers = self.workers.iter().map(|hand| Arc::clone(&hand.metrics)).collect();
        let (memory, max_clients) = (self.memory, self.settings.load().max_clients);
        let clients = self.workers.iter().map(|hand| Arc::clone(&hand.clients)).collect();
        Collector { workers, clients, store: Arc::clone(&self.store), memory, max_clients }
    }

    /// Stops accepting, lets transactions finish for at most `grace`, then closes what is left.
    pub async fn drain(&self, grace: Duration) {
        drop(self.stop_accepting.lock().take());
        self.order(|| Order::Drain);
        let deadline = Instant::now() + grace;
        while self.clients() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.order(|| Order::Stop);
    }

    fn order(&self, order: impl Fn() -> Order) {
        for hand in &self.workers {
            let _ = hand.orders.send(order());
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop_accepting.lock().take());
        self.order(|| Order::Stop);
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
    }
}

fn runtime() -> tokio::runtime::Builder {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all();
    builder
}

/// A thread with a single-threaded runtime of its own.
fn spawn<F, Fut>(name: &str, mut runtime: tokio::runtime::Builder, main: F) -> io::Result<JoinHandle<()>>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()>,
{
    let runtime = runtime.build()?;
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK);
    thread.spawn(move || runtime.block_on(main()))
}

/// Deals each new client to the worker that has the fewest.
async fn accept(
    listener: std::net::TcpListener,
    workers: Vec<Hand>,
    settings: Arc<ArcSwap<ProxyConfig>>,
    mut stopped: oneshot::Receiver<()>,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped => return,
        };
        let clients = |hand: &Hand| hand.metrics.clients.load(Ordering::Relaxed);
        match accepted.and_then(|(socket, peer)| Ok((socket.into_std()?, peer))) {
            Ok((socket, peer)) => {
                let welcome = workers.iter().map(clients).sum::<usize>() < settings.load().max_clients;
                let Some(hand) = workers.iter().min_by_key(|hand| clients(hand)) else { return };
                hand.metrics.clients.fetch_add(1, Ordering::Relaxed);
                if hand.orders.send(Order::Serve { socket, peer, welcome }).is_err() {
                    return;
                }
            }
            Err(error) => {
                // Usually out of file descriptors: nothing to do but wait for some to come back.
                tracing::warn!(%error, "could not accept a client");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
