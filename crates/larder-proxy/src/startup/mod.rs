//! From the first byte to the first ReadyForQuery: who is there, over which kind of connection, and their login.
//!
//! * `opening`: PROXY header, TLS or none, and the first message;
//! * `relay`: the origin authenticates (`[listen] auth = "relay"`), message by message;
//! * `admin`: the admin database, which is Larder's own;
//! * `verify`: Larder authenticates, and then logs in at the origin as that user;
//! * `origin`: connecting there, also to pass a cancel request on;
//! * `proxy_header`: the PROXY protocol.

mod admin;
mod opening;
mod origin;
mod proxy_header;
mod relay;
mod verify;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use larder_cache::Moment;
use larder_wire::encode::{self, Severity};
use larder_wire::{HEADER, Peek, peek};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::ProxyConfig;
use crate::access::Authentication;
use crate::console::AdminSession;
use crate::pipe::Pipe;
use crate::session::{Control, Session};
use crate::trace::{TraceSubject, Traced};
use crate::worker::Worker;
use opening::Opened;

/// Bytes held from either side during login: a frame of it must fit.
const LOGIN_ROOM: usize = 64 * 1024;
/// Time for a goodbye to reach the client.
const FAREWELL: Duration = Duration::from_secs(5);

/// How a login ends without a session. Whatever there is to say is in the client's output.
#[derive(Debug)]
enum Refused {
    /// The client has been told, or nothing is to be said.
    Told,
    /// A connection broke.
    Lost(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// Both connections after the login.
#[derive(Debug)]
struct LoggedIn {
    origin: Pipe,
    greeting: Greeting,
}

/// What the origin said between the login and the first query.
#[derive(Debug, Default)]
struct Greeting {
    /// Process number and secret of BackendKeyData: what a cancel request will name.
    key: Option<Bytes>,
    /// The session's name as the origin has it: cut and cleaned, and perhaps set for the role.
    application_name: Option<String>,
}

/// A client that is there already.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) socket: TcpStream,
    pub(crate) peer: SocketAddr,
    /// `false`: there are too many, and this one is to be told so.
    pub(crate) welcome: bool,
}

/// Whom a client has come to.
#[derive(Debug)]
pub(crate) enum Begun {
    /// To the origin.
    Session(Box<Session>),
    /// To Larder itself.
    Admin(Box<AdminSession>),
}

/// Brings a session up, or tells the client why not.
pub(crate) async fn open(worker: Rc<Worker>, control: Rc<Control>, arrival: Arrival) -> Option<Begun> {
    let peer = arrival.peer;
    // One and the same for the whole login, whatever is read again meanwhile.
    let config = worker.settings.load_full();
    let traced = worker.tracing.clone().filter(|tracing| tracing.draws());
    let traced =
        traced.map(|tracing| (tracing, Traced::begin(TraceSubject::Session, Moment::now(), "", None)));
    let steps = traced.as_ref().map(|(_, traced)| traced);
    // Whoever says nothing, or says it byte by byte, goes when the time is over.
    let begun =
        timeout(config.access.login_timeout, bring_up(&worker, &config, &control, arrival, steps)).await;
    if let Some((tracing, traced)) = traced {
        if !matches!(begun, Ok(Ok(Some(_)))) {
            traced.fail();
        }
        tracing.send(traced.end(None));
    }
    match begun {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => {
            tracing::debug!(client = %peer, %error, "a client left before its session began");
            None
        }
        Err(_) => {
            tracing::debug!(client = %peer, "a client took too long to log in");
            None
        }
    }
}

async fn bring_up(
    worker: &Rc<Worker>,
    config: &ProxyConfig,
    control: &Rc<Control>,
    arrival: Arrival,
    traced: Option<&Traced>,
) -> io::Result<Option<Begun>> {
    let access = &config.access;
    let Some(mut opened) = opening::read(worker, access, arrival).await? else { return Ok(None) };
    if let Some(traced) = traced {
        traced.step("opening");
        traced.at(&opened.database);
    }
    if let Some(console) = config.console.as_ref().filter(|console| opened.database == console.database) {
        return match admin::log_in(access, &mut opened, console).await {
            Ok(()) => Ok(Some(Begun::Admin(Box::new(AdminSession::new(
                opened.client,
                Rc::clone(control),
                console,
            ))))),
            Err(Refused::Told) => {
                goodbye(opened.client).await;
                Ok(None)
            }
            Err(Refused::Lost(error)) => Err(error),
        };
    }
    let logged_in = match &access.authentication {
        Authentication::Relay => relay::log_in(worker, access, &mut opened).await,
        Authentication::Verify(secrets) => {
            verify::log_in(worker, access, &mut opened, &**secrets, true).await
        }
        Authentication::Certificate(secrets) => {
            verify::log_in(worker, access, &mut opened, &**secrets, false).await
        }
    };
    if let Some(traced) = traced {
        traced.step("login");
    }
    match logged_in {
        Ok(LoggedIn { origin, greeting: Greeting { key, application_name } }) => {
            // A session without a cache never waits here.
            let seat = key.as_ref().filter(|_| config.has_cache()).map(|key| worker.cancels.enter(key));
            let pid = key.as_ref().and_then(|key| key.first_chunk()).map(|pid| u32::from_be_bytes(*pid));
            let identity = opened.identity(application_name);
            let Opened { client, peer, database, replication, .. } = opened;
            tracing::debug!(client = %peer, database, tls = client.stream().is_tls(), "session begins");
            let (worker, control) = (Rc::clone(worker), Rc::clone(control));
            let mut session = Session::new(worker, control, client, origin, database, replication, seat);
            session.is_of(identity, pid);
            Ok(Some(Begun::Session(Box::new(session))))
        }
        Err(Refused::Told) => {
            goodbye(opened.client).await;
            Ok(None)
        }
        Err(Refused::Lost(error)) => Err(error),
    }
}

/// Says no, in PostgreSQL's form.
fn refuse(client: &mut Pipe, sqlstate: &str, message: &str, hint: Option<&str>) -> Refused {
    encode::error(&mut client.output, Severity::Fatal, sqlstate, message, hint);
    Refused::Told
}

/// Lets a client read what it was told.
async fn goodbye(mut client: Pipe) {
    let _ = timeout(FAREWELL, poll_fn(|cx| client.poll_goodbye(cx))).await;
}

async fn flush(pipe: &mut Pipe) -> io::Result<()> {
    poll_fn(|cx| match pipe.poll_flush(cx) {
        Ok(_) if pipe.is_flushed() => Poll::Ready(Ok(())),
        Ok(_) => Poll::Pending,
        Err(error) => Poll::Ready(Err(error)),
    })
    .await
}

/// Writes what is waiting, and reads some more. `false`: there is no more.
async fn more(pipe: &mut Pipe) -> io::Result<bool> {
    if pipe.ended {
        return Ok(false);
    }
    poll_fn(|cx| {
        let flushed = pipe.poll_flush(cx);
        if flushed.is_err() { Poll::Ready(flushed.map(|_| ())) } else { pipe.poll_fill(cx) }
    })
    .await?;
    Ok(true)
}

/// The next whole frame. `None`: the connection ended, or what comes is no frame that belongs into a login.
async fn next_frame(pipe: &mut Pipe) -> io::Result<Option<(u8, BytesMut)>> {
    loop {
        match peek(&pipe.input) {
            Peek::Frame { total, .. } if total > LOGIN_ROOM => return Ok(None),
            Peek::Frame { tag, total } if pipe.input.len() >= total => {
                return Ok(Some((tag, pipe.input.split_to(total))));
            }
            Peek::Invalid => return Ok(None),
            _ => {}
        }
        if !more(pipe).await? {
            return Ok(None);
        }
    }
}

/// What follows a frame's header.
fn body(frame: &[u8]) -> &[u8] {
    frame.get(HEADER..).unwrap_or_default()
}
