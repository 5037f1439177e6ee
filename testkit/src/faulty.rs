//! A TCP proxy that misbehaves on demand.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

/// The two directions of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// From the client to the server.
    Server,
    /// From the server to the client.
    Client,
}

/// How the proxy behaves now. One for all connections; a change takes effect on open ones too.
#[derive(Clone, Debug, Default)]
struct Behaviour {
    delay: Duration,
    stalled: [bool; 2],
    closed: [bool; 2],
    refusing: bool,
    /// Connections of an older generation are cut.
    generation: u64,
    /// Whether they are cut with a reset.
    reset: bool,
    /// After so many bytes of a direction in total, all connections are cut.
    cut_after: [Option<u64>; 2],
}

/// A TCP proxy before a server. It relays faithfully until told otherwise, and ends when dropped.
#[derive(Debug)]
pub struct Faulty {
    addr: SocketAddr,
    behaviour: Arc<watch::Sender<Behaviour>>,
    relayed: Arc<[AtomicU64; 2]>,
    acceptor: AbortHandle,
}

impl Faulty {
    /// Starts a proxy before this server.
    ///
    /// # Errors
    /// No free port.
    pub async fn new(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let behaviour = Arc::new(watch::Sender::new(Behaviour::default()));
        let relayed = Arc::<[AtomicU64; 2]>::default();
        let accepting = accept(listener, target, behaviour.clone(), relayed.clone());
        let acceptor = tokio::spawn(accepting).abort_handle();
        Ok(Self { addr, behaviour, relayed, acceptor })
    }

    /// Where to connect instead of the server.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Bytes relayed in a direction so far, over all connections.
    #[must_use]
    pub fn relayed(&self, towards: Towards) -> u64 {
        self.relayed[towards as usize].load(Ordering::SeqCst)
    }

    /// Holds back each piece (what one read gives) for so long.
    pub fn delay(&self, delay: Duration) {
        self.behaviour.send_modify(|b| b.delay = delay);
    }

    /// Stops relaying in a direction: nothing is read, so buffers fill, and nothing is lost.
    pub fn stall(&self, towards: Towards) {
        self.behaviour.send_modify(|b| b.stalled[towards as usize] = true);
    }

    /// Relays again in both directions.
    pub fn resume(&self) {
        self.behaviour.send_modify(|b| b.stalled = [false; 2]);
    }

    /// Closes one direction of all connections, open and to come; the other still relays.
    pub fn half_close(&self, towards: Towards) {
        self.behaviour.send_modify(|b| b.closed[towards as usize] = true);
    }

    /// Closes all open connections, as a process that ends does.
    pub fn cut(&self) {
        self.behaviour.send_modify(|b| (b.generation, b.reset) = (b.generation + 1, false));
    }

    /// Resets all open connections (RST), as a machine that restarts does.
    pub fn reset(&self) {
        self.behaviour.send_modify(|b| (b.generation, b.reset) = (b.generation + 1, true));
    }

    /// Relays so many more bytes in a direction, then closes all connections: in the middle of a message, say.
    pub fn cut_after(&self, towards: Towards, bytes: u64) {
        let limit = self.relayed(towards) + bytes;
        self.behaviour.send_modify(|b| b.cut_after[towards as usize] = Some(limit));
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refusing: bool) {
        self.behaviour.send_modify(|b| b.refusing = refusing);
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.acceptor.abort(); // its connections go with it
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    behaviour: Arc<watch::Sender<Behaviour>>,
    relayed: Arc<[AtomicU64; 2]>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if behaviour.borrow().refusing {
            continue;
        }
        let (behaviour, relayed) = (behaviour.clone(), relayed.clone());
        connections.spawn(async move {
            if let Ok(server) = TcpStream::connect(target).await {
                relay(client, server, &behaviour, &relayed).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Relays one connection until both directions have ended or it is cut.
async fn relay(
    mut client: TcpStream,
    mut server: TcpStream,
    behaviour: &watch::Sender<Behaviour>,
    relayed: &[AtomicU64; 2],
) {
    let mut seen = behaviour.subscribe();
    let generation = seen.borrow().generation;
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pump(from_client, to_server, Towards::Server, behaviour, relayed);
        let down = pump(from_server, to_client, Towards::Client, behaviour, relayed);
        tokio::select! {
            _ = async { tokio::join!(up, down) } => return,
            _ = seen.wait_for(|b| b.generation != generation) => {}
        }
    }
    if behaviour.borrow().reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Relays one direction until its source ends.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    towards: Towards,
    behaviour: &watch::Sender<Behaviour>,
    relayed: &[AtomicU64; 2],
) {
    let mut seen = behaviour.subscribe();
    let side = towards as usize;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(now) = seen.wait_for(|b| !b.stalled[side]).await.map(|b| b.clone()) else { return };
        let room =
            now.cut_after[side].map(|limit| limit.saturating_sub(relayed[side].load(Ordering::SeqCst)));
        if room == Some(0) {
            behaviour.send_modify(|b| {
                b.cut_after[side] = None;
                (b.generation, b.reset) = (b.generation + 1, false);
            });
            return;
        }
        if now.closed[side] {
            let _ = to.shutdown().await;
            return;
        }
        let most = room.map_or(buffer.len(), |r| buffer.len().min(usize::try_from(r).unwrap_or(usize::MAX)));
        let count = tokio::select! {
            biased;
            _ = seen.changed() => continue, // look again before reading
            read = from.read(&mut buffer[..most]) => read.unwrap_or(0),
        };
        if count == 0 {
            let _ = to.shutdown().await;
            return;
        }
        if !now.delay.is_zero() {
            sleep(now.delay).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        relayed[side].fetch_add(count as u64, Ordering::SeqCst);
    }
}
