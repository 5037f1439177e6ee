//! Whether the origin answers, for `/readyz`: an orchestrator asks before there is a client to learn it from.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tracing::{info, warn};

use super::{OriginState, Shared};
use crate::config::Target;

/// Between two looks. Each costs the origin a short-lived process, so none is made while the feed is connected.
const EVERY: Duration = Duration::from_secs(1);
/// SSLRequest: length 8, code 80877103. The postmaster answers `N` or `S` before any authentication, and says
/// nothing in its log when the client then goes away.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Never returns.
pub(super) async fn run(shared: Arc<Shared>, target: Target, timeout: Duration) {
    loop {
        let proven = shared.health.is_connected() && shared.proxy.origin_reachable();
        let state = if proven { OriginState::Reachable } else { probe(&target, timeout).await };
        let news = {
            let mut known = shared.origin_state.lock();
            let was = std::mem::replace(&mut *known, state.clone());
            !matches!(
                (&was, &state),
                (OriginState::Unreachable(_), OriginState::Unreachable(_))
                    | (OriginState::Reachable | OriginState::NotProbed, OriginState::Reachable)
            )
        };
        match state {
            OriginState::Unreachable(why) if news => {
                warn!("origin {} cannot be reached: {why}", shared.origin)
            }
            OriginState::Reachable if news => info!("origin {} answers again", shared.origin),
            _ => {}
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn probe(target: &Target, timeout: Duration) -> OriginState {
    let attempt = async {
        let mut stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
        stream.write_all(&SSL_REQUEST).await?;
        stream.read_u8().await
    };
    match tokio::time::timeout(timeout, attempt).await {
        Ok(Ok(_)) => OriginState::Reachable,
        Ok(Err(error)) => OriginState::Unreachable(error.to_string()),
        Err(_) => OriginState::Unreachable(format!("no answer within {timeout:?}")),
    }
}
