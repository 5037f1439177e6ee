//! From the first byte to the first ReadyForQuery: who is there, and the origin's own authentication, relayed.
//!
//! Larder takes no part in authentication. It refuses TLS and GSSAPI encryption (clients then go on without, unless
//! told otherwise), passes the startup message on unchanged, and relays until the origin is ready.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use larder_wire::encode::{self, Severity};
use larder_wire::startup::{Opening, opening, opening_size};
use larder_wire::{Peek, peek};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::pipe::Pipe;
use crate::session::{Control, Session};
use crate::worker::Worker;

/// Time for a client to say who it is and to authenticate (PostgreSQL's `authentication_timeout`).
const AUTHENTICATION: Duration = Duration::from_secs(60);
/// Bytes held from either side during login: a frame of it must fit.
const LOGIN_ROOM: usize = 64 * 1024;
/// Time for a goodbye to reach the client.
const FAREWELL: Duration = Duration::from_secs(5);

/// What the startup message says that matters later.
struct Opened {
    database: String,
    replication: bool,
    message: Vec<u8>,
}

/// Brings a session up, or tells the client why not.
pub(crate) async fn open(
    worker: Rc<Worker>,
    control: Rc<Control>,
    socket: TcpStream,
    welcome: bool,
) -> Option<Session> {
    let mut client = Pipe::new(socket);
    match timeout(AUTHENTICATION, bring_up(&worker, &mut client, welcome)).await {
        Ok(Ok(Some((opened, origin)))) => {
            Some(Session::new(worker, control, client, origin, opened.database, opened.replication))
        }
        Ok(Ok(None)) => {
            let _ = timeout(FAREWELL, flush(&mut client)).await;
            None
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a client left before its session began");
            None
        }
        Err(_) => None,
    }
}

async fn bring_up(worker: &Worker, client: &mut Pipe, welcome: bool) -> io::Result<Option<(Opened, Pipe)>> {
    let Some(opened) = read_opening(worker, client, welcome).await? else { return Ok(None) };
    let mut origin = match connect(worker).await {
        Ok(stream) => Pipe::new(stream),
        Err(error) => {
            let config = &worker.config;
            let message = format!(
                "could not connect to the PostgreSQL server at {}:{}: {error}",
                config.origin_host, config.origin_port
            );
            refuse(client, "08001", &message);
            return Ok(None);
        }
    };
    origin.output.extend_from_slice(&opened.message);
    Ok(authenticate(client, &mut origin).await?.then_some((opened, origin)))
}

/// Reads first messages until one begins a session. `None`: the client has been dealt with.
async fn read_opening(worker: &Worker, client: &mut Pipe, welcome: bool) -> io::Result<Option<Opened>> {
    loop {
        let size = match opening_size(&client.input) {
            Some(Ok(size)) => size,
            // Whoever that is does not speak this protocol: like PostgreSQL, say nothing.
            Some(Err(())) => return Ok(None),
            None => usize::MAX,
        };
        let Some(message) = client.input.get(..size) else {
            if client.ended {
                return Ok(None);
            }
            poll_fn(|cx| {
                let flushed = client.poll_flush(cx);
                if flushed.is_err() { Poll::Ready(flushed.map(|_| ())) } else { client.poll_fill(cx) }
            })
            .await?;
            continue;
        };
        match opening(message) {
            Opening::Ssl | Opening::Gss => {
                client.input.clear();
                client.output.extend_from_slice(b"N");
                flush(client).await?;
            }
            Opening::Cancel => {
                cancel(worker, message).await?;
                return Ok(None);
            }
            Opening::Startup(_) if !welcome => {
                refuse(client, "53300", "sorry, too many clients already");
                return Ok(None);
            }
            Opening::Startup(startup) => {
                let opened = Opened {
                    database: String::from_utf8_lossy(startup.database().unwrap_or_default()).into_owned(),
                    replication: startup.is_replication(),
                    message: message.to_vec(),
                };
                bytes::Buf::advance(&mut client.input, size);
                return Ok(Some(opened));
            }
            Opening::Unknown => {
                refuse(client, "0A000", "unsupported frontend protocol");
                return Ok(None);
            }
        }
    }
}

/// Relays until the origin is ready for queries. `false`: it refused, and the client has been told.
async fn authenticate(client: &mut Pipe, origin: &mut Pipe) -> io::Result<bool> {
    loop {
        while let Peek::Frame { tag, total } = peek(&origin.input)
            && origin.input.len() >= total
        {
            origin.relay(total, client);
            if tag == b'Z' {
                return Ok(true);
            }
        }
        // Only answers to the origin's questions pass; what comes after waits for the session to begin.
        while let Peek::Frame { tag: b'p', total } = peek(&client.input)
            && client.input.len() >= total
        {
            client.relay(total, origin);
        }
        if origin.ended || client.ended {
            // What is no frame either is the refusal of a server that speaks another version.
            origin.relay_all(client);
            return Ok(false);
        }
        poll_fn(|cx| {
            let mut progress = client.poll_flush(cx)? | origin.poll_flush(cx)?;
            for pipe in [&mut *client, &mut *origin] {
                // Nobody has anything long to say yet; what does not fit waits in the socket.
                if pipe.input.len() < LOGIN_ROOM
                    && let Poll::Ready(result) = pipe.poll_fill(cx)
                {
                    result?;
                    progress = true;
                }
            }
            if progress { Poll::Ready(Ok::<_, io::Error>(())) } else { Poll::Pending }
        })
        .await?;
    }
}

/// A cancel request carries the origin's own key: it goes there as it is.
async fn cancel(worker: &Worker, message: &[u8]) -> io::Result<()> {
    let mut origin = Pipe::new(connect(worker).await?);
    origin.output.extend_from_slice(message);
    flush(&mut origin).await?;
    // The origin closes when the signal has been sent; the client waits for that.
    while !origin.ended {
        poll_fn(|cx| origin.poll_fill(cx)).await?;
    }
    Ok(())
}

async fn connect(worker: &Worker) -> io::Result<TcpStream> {
    let config = &worker.config;
    let address = (config.origin_host.as_str(), config.origin_port);
    let result = match timeout(config.connect_timeout, TcpStream::connect(address)).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "connection timed out")),
    };
    worker.origin_reachable.store(result.is_ok(), Ordering::Relaxed);
    let stream = result?;
    // A host that vanished without a word is noticed by keepalive probes instead of never.
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60));
    let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    Ok(stream)
}

fn refuse(client: &mut Pipe, sqlstate: &str, message: &str) {
    encode::error(&mut client.output, Severity::Fatal, sqlstate, message, None);
}

async fn flush(pipe: &mut Pipe) -> io::Result<()> {
    poll_fn(|cx| match pipe.poll_flush(cx) {
        Ok(_) if pipe.output.is_empty() => Poll::Ready(Ok(())),
        Ok(_) => Poll::Pending,
        Err(error) => Poll::Ready(Err(error)),
    })
    .await
}
