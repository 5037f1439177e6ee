//! Whether the origin answers, for `/readyz`: an orchestrator asks before there is a client to learn it from.

use std::sync::Arc;
use std::time::Duration;

use larder_proxy::ProxyConfig;
use tracing::{info, warn};

use super::{OriginState, Shared};
use crate::events::Kind;

/// Between two looks. Each costs the origin a short-lived process, so none is made while the feed is connected.
const EVERY: Duration = Duration::from_secs(1);

/// Never returns.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let proven = shared.health.is_connected() && shared.proxy.origin_reachable();
        let state = if proven { OriginState::Reachable } else { probe(&shared.proxy.config()).await };
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
                warn!("origin {} cannot be reached: {why}", shared.origin);
                shared.events.warn(Kind::Origin, format!("The origin cannot be reached: {why}"));
            }
            OriginState::Reachable if news => {
                info!("origin {} answers again", shared.origin);
                shared.events.note(Kind::Origin, "The origin answers again");
            }
            _ => {}
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// As far as a client's connection gets before its first message. The postmaster answers a request for TLS before any
/// authentication, and says nothing in its log when the client then goes away.
async fn probe(config: &ProxyConfig) -> OriginState {
    let timeout = config.connect_timeout;
    let reaching = config.origin_tls.reach(&config.origin_host, config.origin_port);
    match tokio::time::timeout(timeout, reaching).await {
        Ok(Ok(_)) => OriginState::Reachable,
        Ok(Err(error)) => OriginState::Unreachable(error.to_string()),
        Err(_) => OriginState::Unreachable(format!("no answer within {timeout:?}")),
    }
}
