//! The beginning of a connection: PROXY header, encryption, and the first message, by PostgreSQL's rules.

use std::io;
use std::net::SocketAddr;

use larder_login::{ListenTls, Stream};
use larder_wire::startup::{Opening, opening, opening_size};
use tokio::net::TcpStream;

use super::{Arrival, flush, goodbye, more, origin, proxy_header, refuse};
use crate::access::Access;
use crate::clients::ClientIdentity;
use crate::pipe::Pipe;
use crate::worker::Worker;

/// First byte of a TLS handshake. The first byte of a message would be the high byte of a length below 10,000.
const TLS_HANDSHAKE: u8 = 0x16;

/// A client that wants a session.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) client: Pipe,
    /// Its true address.
    pub(super) peer: SocketAddr,
    /// The name in its certificate, if there is one.
    pub(super) certificate: Option<String>,
    pub(super) user: Option<String>,
    pub(super) database: String,
    pub(super) application_name: String,
    pub(super) replication: bool,
    /// The startup message as it came.
    pub(super) message: Vec<u8>,
}

impl Opened {
    /// Who it is, for others to see; `name` is what the origin calls its application.
    pub(super) fn identity(&self, name: Option<String>) -> ClientIdentity {
        ClientIdentity {
            address: self.peer,
            tls: self.client.stream().is_tls(),
            user: self.user.clone().unwrap_or_default(),
            database: self.database.clone(),
            application_name: name.unwrap_or_else(|| self.application_name.clone()),
        }
    }
}

/// What has been agreed on so far.
#[derive(Debug, Default)]
struct Agreed {
    /// TLS was asked for, and answered. It may not be asked for twice.
    tls_asked: bool,
    gss_asked: bool,
    certificate: Option<String>,
}

/// Reads first messages until one begins a session. `None`: the client has been dealt with.
pub(super) async fn read(worker: &Worker, access: &Access, arrival: Arrival) -> io::Result<Option<Opened>> {
    let Arrival { mut socket, mut peer, welcome } = arrival;
    if access.is_proxy(peer.ip()) {
        match proxy_header::read(&mut socket).await {
            Ok(Some(address)) => peer = address,
            // The proxy speaks for itself: a health check.
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!(%peer, %error, "a peer of [listen] proxy_protocol_from sends no PROXY header");
                let mut client = Pipe::new(Stream::Plain(socket));
                refuse(&mut client, "08P01", &format!("no PROXY protocol header: {error}"), Some(NO_HEADER));
                goodbye(client).await;
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    let mut agreed = Agreed::default();
    let client = match &access.tls {
        Some(tls) if first_byte(&socket).await? == Some(TLS_HANDSHAKE) => {
            let Some(client) = direct(tls, socket, peer, &mut agreed).await? else { return Ok(None) };
            client
        }
        _ => Pipe::new(Stream::Plain(socket)),
    };
    match first_messages(worker, access, client, peer, welcome, agreed).await? {
        Ok(opened) => Ok(Some(opened)),
        Err(client) => {
            goodbye(client).await;
            Ok(None)
        }
    }
}

const NO_HEADER: &str = "Larder's [listen] proxy_protocol_from lists this peer: have it send the header (version 1 or 2), \
                         or take it off the list.";

async fn first_byte(socket: &TcpStream) -> io::Result<Option<u8>> {
    let mut byte = [0];
    Ok((socket.peek(&mut byte).await? == 1).then_some(byte).map(|[byte]| byte))
}

/// TLS from the first byte on (`sslnegotiation=direct`).
async fn direct(
    tls: &ListenTls,
    socket: TcpStream,
    peer: SocketAddr,
    agreed: &mut Agreed,
) -> io::Result<Option<Pipe>> {
    let accepted = tls.accept(socket).await?;
    if !accepted.alpn {
        // Without ALPN it may be a browser that somebody has led here, as PostgreSQL's source says.
        tracing::debug!(client = %peer, "direct TLS connection without ALPN \"postgresql\"");
        return Ok(None);
    }
    agreed.tls_asked = true;
    agreed.gss_asked = true;
    agreed.certificate = accepted.common_name;
    Ok(Some(Pipe::new(accepted.stream)))
}

/// `Err`: the client has been dealt with; what is to be said to it is in its output.
async fn first_messages(
    worker: &Worker,
    access: &Access,
    mut client: Pipe,
    peer: SocketAddr,
    welcome: bool,
    mut agreed: Agreed,
) -> io::Result<Result<Opened, Pipe>> {
    loop {
        let size = match opening_size(&client.input) {
            Some(Ok(size)) => size,
            // Whoever that is does not speak this protocol: like PostgreSQL, say nothing.
            Some(Err(())) => return Ok(Err(client)),
            None => usize::MAX,
        };
        if client.input.len() < size {
            if !more(&mut client).await? {
                return Ok(Err(client));
            }
            continue;
        }
        let message = client.input.split_to(size);
        let asked = match opening(&message) {
            Opening::Ssl if !agreed.tls_asked => "SSL",
            Opening::Gss if !agreed.gss_asked => "GSSAPI encryption",
            Opening::Cancel => {
                // Like PostgreSQL: in the clear or not, and without a word in return.
                origin::cancel(worker, &message).await?;
                return Ok(Err(client));
            }
            Opening::Startup(startup) => {
                let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
                let opened = Opened {
                    user: startup.get("user").filter(|user| !user.is_empty()).map(text),
                    database: text(startup.database().unwrap_or_default()),
                    application_name: text(startup.get("application_name").unwrap_or_default()),
                    replication: startup.is_replication(),
                    message: message.to_vec(),
                    certificate: agreed.certificate,
                    client,
                    peer,
                };
                return Ok(admit(access, opened, welcome));
            }
            Opening::Ssl | Opening::Gss | Opening::Unknown => {
                refuse(&mut client, "0A000", "unsupported frontend protocol", None);
                return Ok(Err(client));
            }
        };
        // What came with the request was sent in the clear, and perhaps by somebody else (CVE-2021-23214).
        if !client.input.is_empty() {
            let text = format!("received unencrypted data after {asked} request");
            let hint = "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.";
            refuse(&mut client, "08P01", &text, Some(hint));
            return Ok(Err(client));
        }
        client = answer(access, client, asked == "SSL", &mut agreed).await?;
    }
}

/// Answers a request for encryption: TLS if there is a certificate, and never GSSAPI.
async fn answer(access: &Access, mut client: Pipe, ssl: bool, agreed: &mut Agreed) -> io::Result<Pipe> {
    agreed.tls_asked |= ssl;
    agreed.gss_asked |= !ssl;
    let encrypted = client.stream().is_tls();
    let tls = access.tls.as_ref().filter(|_| ssl && !encrypted);
    client.output.extend_from_slice(if tls.is_some() { b"S" } else { b"N" });
    flush(&mut client).await?;
    match (tls, client) {
        (Some(tls), client) => match client.into_stream() {
            Stream::Plain(socket) => {
                let accepted = tls.accept(socket).await?;
                agreed.gss_asked = true;
                agreed.certificate = accepted.common_name;
                Ok(Pipe::new(accepted.stream))
            }
            stream @ Stream::Tls(_) => Ok(Pipe::new(stream)),
        },
        (None, client) => Ok(client),
    }
}

/// Whether a session may begin on this connection.
fn admit(access: &Access, mut opened: Opened, welcome: bool) -> Result<Opened, Pipe> {
    let encrypted = opened.client.stream().is_tls();
    if !welcome {
        refuse(&mut opened.client, "53300", "sorry, too many clients already", None);
    } else if access.requires_tls() && !encrypted {
        let hint = "Connect with sslmode=require, verify-ca or verify-full.";
        let message = "only encrypted (TLS) connections are accepted here";
        refuse(&mut opened.client, "28000", message, Some(hint));
    } else {
        return Ok(opened);
    }
    Err(opened.client)
}
