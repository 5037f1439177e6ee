//! Connecting to the origin for a client: for its session, or to pass its cancel request on.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_login::ConnectError;
use tokio::time::timeout;

use super::{Refused, flush, refuse};
use crate::pipe::Pipe;
use crate::worker::Worker;

/// A connection to the origin, or the client is told why there is none.
pub(super) async fn connect(worker: &Worker, client: &mut Pipe) -> Result<Pipe, Refused> {
    try_connect(worker).await.map_err(|error| {
        let config = worker.config();
        let (host, port) = (&config.origin_host, config.origin_port);
        let message = format!("could not connect to the PostgreSQL server at {host}:{port}: {error}");
        if error.is_tls() {
            tracing::warn!(hint = error.hint(), "{message}");
        }
        refuse(client, "08001", &message, error.hint())
    })
}

/// A cancel request carries the origin's own key: it goes there as it is, unless the session that it names is waiting
/// here, with nothing running at the origin.
pub(super) async fn cancel(worker: &Worker, message: &[u8]) -> io::Result<()> {
    // Length and code stand before process number and secret.
    if message.get(8..).is_some_and(|key| worker.cancels.cancel(key)) {
        return Ok(());
    }
    let mut origin = try_connect(worker).await.map_err(io::Error::other)?;
    origin.output.extend_from_slice(message);
    flush(&mut origin).await?;
    // The origin closes when the signal has been sent; the client waits for that.
    while !origin.ended {
        poll_fn(|cx| origin.poll_fill(cx)).await?;
        origin.input.clear();
    }
    Ok(())
}

async fn try_connect(worker: &Worker) -> Result<Pipe, ConnectError> {
    let config = worker.settings.load_full();
    let connecting = config.origin_tls.connect(&config.origin_host, config.origin_port, |socket| {
        // A host that vanished without a word is noticed by keepalive probes instead of never.
        let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60));
        let _ = socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive);
    });
    let result = match timeout(config.connect_timeout, connecting).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "connection timed out").into()),
    };
    worker.origin_reachable.store(result.is_ok(), Ordering::Relaxed);
    result.map(Pipe::new)
}
