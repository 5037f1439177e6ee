//! A worker: one thread, one single-threaded runtime, the sessions dealt to it.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use larder_cache::Store;
use larder_cache::shared::Exchange;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::LocalSet;

use crate::cancel::Cancels;
use crate::clients::Clients;
use crate::metrics::WorkerMetrics;
use crate::mode::ModeSwitch;
use crate::plan::Plans;
use crate::reply::Answer;
use crate::session::{Control, Leave, Renewals, age};
use crate::startup::{self, Arrival, Begun};
use crate::trace::Tracing;
use crate::verify::{self, Doubt, Reports, Sampler};
use crate::{ProxyConfig, Shared};

/// Time for sessions to say goodbye when the worker stops.
const GOODBYE: Duration = Duration::from_secs(1);

/// What the sessions of one worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Replaced as a whole when the configuration is read again.
    pub(crate) settings: Arc<ArcSwap<ProxyConfig>>,
    pub(crate) shared: Shared,
    pub(crate) store: Arc<Store<Answer>>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) plans: RefCell<Plans>,
    /// Who is told of traced requests, if any are traced.
    pub(crate) tracing: Option<Arc<Tracing>>,
    /// The shared tier, if there is one.
    pub(crate) exchange: Option<Exchange>,
    pub(crate) renewals: RefCell<Renewals>,
    pub(crate) origin_reachable: Arc<AtomicBool>,
    /// Where answers come from now. Replies and writes are followed whatever it is.
    pub(crate) mode: Arc<ModeSwitch>,
    /// Which hits are compared with the origin.
    pub(crate) sampler: Sampler,
    /// Differences that were found, on their way to be judged.
    pub(crate) doubts: mpsc::Sender<Doubt>,
    pub(crate) reports: Arc<Reports>,
    /// Places for fills under way, over all workers.
    pub(crate) fills: Arc<Semaphore>,
    /// Who is connected to this worker.
    pub(crate) clients: Arc<Clients>,
    /// Sessions that can be told to stop waiting, over all workers.
    pub(crate) cancels: Arc<Cancels>,
}

/// What the acceptor sends to a worker.
#[derive(Debug)]
pub(crate) enum Order {
    /// A new client; not `welcome`: there are too many, say so.
    Serve { socket: std::net::TcpStream, peer: SocketAddr, welcome: bool },
    /// Sessions leave when they are between transactions.
    Drain,
    /// Close what is left and stop.
    Stop,
}

impl Worker {
    /// The configuration as it is now. To be held for a look only: see [`ArcSwap::load`].
    #[inline]
    pub(crate) fn config(&self) -> Guard<Arc<ProxyConfig>> {
        self.settings.load()
    }

    /// Runs until told to stop.
    pub(crate) async fn run(self, mut orders: mpsc::UnboundedReceiver<Order>, doubts: mpsc::Receiver<Doubt>) {
        let worker = Rc::new(self);
        let sessions = Sessions::new();
        let tasks = LocalSet::new();
        tasks
            .run_until(async {
                tokio::task::spawn_local(verify::judge(Rc::clone(&worker), doubts));
                tokio::select! {
                    () = worker.obey(&mut orders, &sessions) => {}
                    never = sessions.grow_old(&worker) => match never {},
                }
                sessions.leave(Leave::Now);
                // Those that can say goodbye do; the rest are cut off.
                let _ = tokio::time::timeout(GOODBYE, sessions.ended()).await;
            })
            .await;
    }

    async fn obey(self: &Rc<Self>, orders: &mut mpsc::UnboundedReceiver<Order>, sessions: &Sessions) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Serve { socket, peer, welcome } => self.welcome(socket, peer, welcome, sessions),
                Order::Drain => sessions.leave(Leave::WhenIdle),
                Order::Stop => break,
            }
        }
    }

    fn welcome(
        self: &Rc<Self>,
        socket: std::net::TcpStream,
        peer: SocketAddr,
        welcome: bool,
        sessions: &Sessions,
    ) {
        let seat = Seat { worker: Rc::clone(self), sessions: sessions.clone(), control: sessions.enter() };
        let Ok(socket) = TcpStream::from_std(socket) else { return };
        // Small frames must not wait for an acknowledgement (Nagle); a failure only costs latency.
        let _ = socket.set_nodelay(true);
        let arrival = Arrival { socket, peer, welcome };
        tokio::task::spawn_local(async move {
            let (worker, control) = (Rc::clone(&seat.worker), Rc::clone(&seat.control));
            // Boxed: what a handshake needs is given back when the session begins.
            let opening = Box::pin(startup::open(worker, control, arrival));
            match opening.await {
                Some(Begun::Session(session)) => session.run().await,
                Some(Begun::Admin(session)) => session.run().await,
                None => {}
            }
            drop(seat);
        });
    }

    fn leave(&self) {
        self.metrics.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The sessions of a worker, to be told things.
#[derive(Debug, Clone)]
struct Sessions {
    controls: Rc<RefCell<Vec<Rc<Control>>>>,
    leave: Rc<Cell<Leave>>,
}

impl Sessions {
    fn new() -> Self {
        Self { controls: Rc::default(), leave: Rc::new(Cell::new(Leave::Never)) }
    }

    fn enter(&self) -> Rc<Control> {
        let control = Rc::new(Control::new(self.leave.get()));
        self.controls.borrow_mut().push(Rc::clone(&control));
        control
    }

    fn leave(&self, leave: Leave) {
        self.leave.set(leave);
        for control in self.controls.borrow().iter() {
            control.leave(leave);
        }
    }

    /// Tells those that are too old, while there is such an age.
    async fn grow_old(&self, worker: &Worker) -> Infallible {
        loop {
            let longest = worker.config().client_max_age;
            tokio::time::sleep(age::interval(longest)).await;
            let Some(longest) = longest else { continue };
            let now = tokio::time::Instant::now();
            for control in self.controls.borrow().iter() {
                control.leave(control.age.leave(now, longest));
            }
        }
    }

    async fn ended(&self) {
        while !self.controls.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A client's place among the worker's clients; given up however its task ends.
struct Seat {
    worker: Rc<Worker>,
    sessions: Sessions,
    control: Rc<Control>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.sessions.controls.borrow_mut().retain(|control| !Rc::ptr_eq(control, &self.control));
        self.worker.leave();
    }
}

impl ProxyConfig {
    /// A time to live shortened by up to the configured share, so that answers stored together do not expire together.
    pub(crate) fn jittered(&self, ttl: Duration) -> Duration {
        ttl.mul_f64(1.0 - self.ttl_jitter.clamp(0.0, 1.0) * fastrand::f64())
    }
}
