//! Ordinary sessions of Larder's account, over the same kind of connection as everything else.
//!
//! `tokio-postgres` is handed a connection that is encrypted already (or not), so that certificates are judged in one
//! place, and is told what SCRAM may bind to.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use larder_login::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, Connection};

use crate::Account;
use crate::error::{Failure, while_connecting, within};

/// Connects and logs in with the account's name, password and database; `options` may say more.
pub(crate) async fn connect(
    account: &Account,
    options: &mut Config,
) -> Result<(Client, Connection<Stream, Bound>), Failure> {
    options.user(&account.user).dbname(&account.database);
    if let Some(password) = &account.password {
        options.password(password);
    }
    let connecting = async {
        let stream = open(account).await?;
        give_up_writes(stream.tcp());
        // The handshake is over: "direct" lets the driver begin with what comes after it.
        let mode = if stream.is_tls() { SslMode::Require } else { SslMode::Disable };
        options.ssl_mode(mode).ssl_negotiation(SslNegotiation::Direct);
        options.connect_raw(stream, Established).await.map_err(while_connecting)
    };
    within(account.connect_timeout, "a connection", connecting).await
}

/// A connection to the account's server whose loss is noticed: first probe after 10 s, given up after 25 s.
pub(crate) async fn open(account: &Account) -> Result<Stream, Failure> {
    let probes = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    let prepare = |socket: &TcpStream| {
        let _ = socket2::SockRef::from(socket).set_tcp_keepalive(&probes);
    };
    let stream = account.tls.connect(&account.host, account.port, prepare).await?;
    Ok(stream)
}

/// The driver has no limit of its own for what it writes.
fn give_up_writes(socket: &TcpStream) {
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(socket).set_tcp_user_timeout(Some(Duration::from_secs(25)));
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// Hands the driver a connection as it is.
struct Established;

impl TlsConnect<Stream> for Established {
    type Stream = Bound;
    type Error = Infallible;
    type Future = Ready<Result<Bound, Infallible>>;

    fn connect(self, stream: Stream) -> Self::Future {
        ready(Ok(Bound(stream)))
    }
}

/// An encrypted connection that says what SCRAM may bind to.
#[derive(Debug)]
pub(crate) struct Bound(Stream);

impl TlsStream for Bound {
    fn channel_binding(&self) -> ChannelBinding {
        self.0.server_end_point().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl AsyncRead for Bound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Bound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
