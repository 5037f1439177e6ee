//! A session whose other ends are in a test's hands: what the client and the origin say, and when, is the test's to
//! choose; what they hear it can read. Everything runs in one thread, so a run can be repeated exactly.
#![allow(clippy::unwrap_used, reason = "for tests only")]

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use larder_cache::{Fence, Store};
use larder_core::Level;
use larder_login::{OriginTls, Stream};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::{Control, Leave, Session};
use crate::access::Access;
use crate::metrics::WorkerMetrics;
use crate::mode::{Mode, ModeSwitch};
use crate::pipe::Pipe;
use crate::plan::Plans;
use crate::verify::{Sampler, Verify};
use crate::worker::Worker;
use crate::{ProxyConfig, Shared};

/// Turns of the event loop in which nothing comes before the session is taken to wait.
const QUIET: usize = 3;

/// One of the two whom a session stands between.
#[derive(Debug)]
pub(crate) struct End {
    socket: UnixStream,
    /// What it has heard and not yet taken.
    pub(crate) heard: Vec<u8>,
}

/// Both of them.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) client: End,
    pub(crate) origin: End,
}

impl End {
    /// With the other side of its socket.
    fn new() -> (Self, Pipe) {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        // A session cannot tell one kind of stream socket from another.
        let far = std::net::TcpStream::from(OwnedFd::from(far));
        (
            Self { socket: near, heard: Vec::new() },
            Pipe::new(Stream::Plain(TcpStream::from_std(far).unwrap())),
        )
    }

    /// Whether anything came.
    fn listen(&mut self) -> bool {
        let before = self.heard.len();
        match self.socket.read_to_end(&mut self.heard) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            result => drop(result.unwrap()),
        }
        self.heard.len() > before
    }
}

impl Ends {
    /// Says it all to the session, and lets it do what it has to do then.
    pub(crate) async fn say(&mut self, client: bool, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let end = if client { &mut self.client } else { &mut self.origin };
            match end.socket.write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // It has left.
                Err(_) => break,
            }
            self.settle().await;
        }
    }

    /// Lets the session run until it waits for one of the two.
    pub(crate) async fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < QUIET {
            // A turn of the event loop, which looks at the sockets.
            tokio::task::yield_now().await;
            let heard = self.client.listen() | self.origin.listen();
            quiet = if heard { 0 } else { quiet + 1 };
        }
    }
}

/// A worker of a Larder that has not heard from its feed yet.
pub(crate) fn worker(level: Level) -> Worker {
    let config = ProxyConfig {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        max_clients: 10,
        origin_host: String::new(),
        origin_port: 0,
        connect_timeout: Duration::from_secs(1),
        mode: Mode::Serve,
        verify: Verify { sample: 0.0, settle: Duration::ZERO },
        tracing: None,
        statistics: true,
        level,
        max_lag: Duration::from_secs(3600),
        memory: 1 << 20,
        max_result: 1 << 16,
        ttl: Duration::from_secs(3600),
        ttl_jitter: 0.0,
        max_inflight_fills: 10,
        client_max_age: None,
        console: None,
        workers: 1,
        origin_tls: OriginTls::default(),
        access: Access::default(),
    };
    let fence = Arc::new(Fence::new(config.max_lag));
    Worker {
        store: Store::new(Arc::clone(&fence), config.memory, config.max_result),
        shared: Shared {
            fence,
            tags: Arc::default(),
            catalog: Arc::default(),
            sharing: None,
            rules: Arc::default(),
        },
        exchange: None,
        renewals: RefCell::default(),
        metrics: WorkerMetrics::new(),
        plans: RefCell::new(Plans::new(Arc::default())),
        tracing: None,
        origin_reachable: Arc::new(AtomicBool::new(true)),
        mode: Arc::new(ModeSwitch::new(config.mode)),
        sampler: Sampler::default(),
        doubts: tokio::sync::mpsc::channel(1).0,
        reports: Arc::default(),
        fills: Arc::new(Semaphore::new(config.max_inflight_fills)),
        clients: Arc::default(),
        cancels: Arc::default(),
        settings: Arc::new(ArcSwap::from_pointee(config)),
    }
}

/// A runtime for [`session`].
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A session that has just begun, and the ends of its connections. To be called in a runtime.
pub(crate) fn session(worker: &Rc<Worker>, database: &str) -> (Session, Ends) {
    let ((client, to_client), (origin, to_origin)) = (End::new(), End::new());
    let (worker, database) = (Rc::clone(worker), database.to_owned());
    let session = Session::new(
        worker,
        Rc::new(Control::new(Leave::Never)),
        to_client,
        to_origin,
        database,
        false,
        None,
    );
    (session, Ends { client, origin })
}

/// Serves the session for as long as `drive` takes.
pub(crate) async fn serve<T>(session: &mut Session, drive: impl Future<Output = T>) -> T {
    let (mut serve, mut drive) = (pin!(session.serve()), pin!(drive));
    let mut over = false;
    poll_fn(|cx| {
        over = over || serve.as_mut().poll(cx).is_ready();
        drive.as_mut().poll(cx)
    })
    .await
}
