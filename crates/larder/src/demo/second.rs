//! With `--valkey`: a second Larder that starts when the first has been under load, and where its answers come from.

use anyhow::Context as _;

use super::session::Session;
use super::shop::Shape;
use super::{APP, DATABASE, client_options, reachable, start_larder, wait_for_feed};
use crate::config::Effective;
use crate::serve::{Larder, SharedTier};

/// Every statement of the load, asked once of an instance that has just started.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Second {
    pub(super) statements: u64,
    /// From the shared tier.
    pub(super) shared: u64,
    /// By the origin.
    pub(super) asked: u64,
    pub(super) different: u64,
}

/// Starts it, and asks.
pub(super) async fn ask(effective: &Effective, origin: &tokio_postgres::Config) -> anyhow::Result<Second> {
    let mut effective = effective.clone();
    for addr in [&mut effective.config.listen.addr, &mut effective.config.admin.addr] {
        addr.0.set_port(0);
    }
    let (larder, _) = start_larder(&effective).await?;
    wait_for_feed(&larder).await?;
    wait_for_the_past(&larder).await;
    let through = client_options(reachable(larder.shared.proxy.local_addr()), APP, DATABASE);
    let (session, origin) = (Session::connect(&through, true).await?, Session::connect(origin, false).await?);
    let mut result = Second::default();
    for ask in Shape::ALL.into_iter().flat_map(Shape::all) {
        let answer = session.ask(ask).await.context("through the second Larder")?;
        result.statements += 1;
        result.shared += u64::from(answer.served.contains("tier=l2"));
        result.asked += u64::from(!answer.is_hit());
        result.different += u64::from(answer.bytes != origin.ask(ask).await?.bytes);
    }
    Ok(result)
}

/// Until it has learnt what changed before it came: a second at most, else it is cold.
async fn wait_for_the_past(larder: &Larder) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while !larder.shared.shared_tier.as_ref().is_some_and(SharedTier::has_learnt)
        && std::time::Instant::now() < deadline
    {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
