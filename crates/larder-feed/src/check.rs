//! `larder check`: tries on real connections what the feed will do.

use larder_core::Finding;

use crate::control::Control;
use crate::error::Failure;
use crate::stream::Stream;
use crate::{FeedConfig, findings};

/// Everything that stands in the way, most important first. The slot that it makes is temporary and gone at the end.
pub(crate) async fn check(config: &FeedConfig) -> Vec<Finding> {
    match attempt(config).await {
        Ok(()) => Vec::new(),
        Err(failure) => failure.findings(&config.account),
    }
}

async fn attempt(config: &FeedConfig) -> Result<(), Failure> {
    let account = &config.account;
    let control = Control::connect(account).await?;
    let findings = findings::preflight(account, &control.preflight().await?);
    if !findings.is_empty() {
        return Err(Failure::Preflight(findings));
    }
    control.publishes(&config.plugin).await?;
    let mut stream = Stream::connect(account).await?;
    stream.identify().await?;
    let slot = stream.create_slot(&config.plugin).await?;
    if !control.sees(&slot).await? {
        return Err(Failure::Preflight(vec![findings::two_servers(account)]));
    }
    control.load(1, false, &config.plugin).await.map(|_| ())
}
