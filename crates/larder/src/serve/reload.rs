//! Another configuration for a Larder that runs: on SIGHUP, and on RELOAD of the admin database.
//!
//! Everything is read and made first, files included, and then put in place: a configuration that cannot be used changes
//! nothing. Sessions that there are keep their connections, with the TLS and the login that these began with.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use larder_core::Level;
use larder_proxy::ProxyConfig;
use parking_lot::Mutex;
use tracing::{error, info, warn};

use super::feed::{Teller, feed_config};
use super::{Shared, admin_database, notes, origin_tls, proxy_config, security};
use crate::admin::AdminConsole;
use crate::config::{self, ConfigErrors, Effective, Reloaded};
use crate::events::Kind;

/// The configuration in force, and what has to be told of another one.
#[derive(Debug)]
pub(super) struct Settings {
    effective: Mutex<Effective>,
    console: Arc<AdminConsole>,
    /// None without a feed.
    feed: OnceLock<Teller>,
}

impl Settings {
    pub(super) fn new(effective: &Effective, console: Arc<AdminConsole>) -> Self {
        Self { effective: Mutex::new(effective.clone()), console, feed: OnceLock::new() }
    }

    /// There is a feed now.
    pub(super) fn tell(&self, feed: Teller) {
        let _ = self.feed.set(feed);
    }
}

impl Shared {
    /// The effective configuration with the source of each value, secrets masked.
    pub(crate) fn config(&self) -> serde_json::Value {
        config::json(&self.settings.effective.lock())
    }

    /// The bound of the lease.
    pub(crate) fn max_lag(&self) -> Duration {
        self.proxy.config().max_lag
    }

    /// What readers are promised.
    pub(crate) fn level(&self) -> Level {
        self.proxy.config().level
    }

    /// Who sends it may change things over HTTP.
    pub(crate) fn token(&self) -> Option<String> {
        self.settings.effective.lock().config.admin.token.get().map(str::to_owned)
    }

    /// Transactions may finish for so long.
    pub(super) fn grace(&self) -> Duration {
        self.settings.effective.lock().config.drain.grace.0
    }

    /// Reads the configuration again and goes by it from now on; says in the log what came of it. `asked`: how.
    ///
    /// # Errors
    /// It cannot be used, and nothing has changed.
    pub(crate) fn reload(&self, asked: &str) -> Result<Reloaded, ConfigErrors> {
        // One after the other, however many ask.
        let mut effective = self.settings.effective.lock();
        let outcome = config::reload(&effective).and_then(|new| self.adopt(&new.effective).map(|()| new));
        match &outcome {
            Ok(new) => {
                info!(changed = ?new.changed, "{asked}: configuration and files read again");
                self.events.note(Kind::Config, format!("{asked}: configuration and files read again"));
                for key in &new.kept {
                    warn!("{key} has a new value, which counts once Larder is started again");
                }
                for note in notes(&new.effective.config) {
                    warn!(code = note.code, "{} -> {}", note.problem, note.remedy);
                }
                *effective = new.effective.clone();
            }
            Err(errors) => {
                error!("{asked}: the configuration is as it was, the new one cannot be used: {errors}");
                self.events.warn(Kind::Config, format!("{asked}: refused: {}", errors.sentences().0));
            }
        }
        outcome
    }

    /// Makes all that there is to be made of it, then puts it in place.
    fn adopt(&self, effective: &Effective) -> Result<(), ConfigErrors> {
        let config = &effective.config;
        let unusable = |finding: larder_core::Finding| ConfigErrors::file(finding.problem, finding.remedy);
        let now = self.proxy.config();
        let tls = origin_tls(config).map_err(unusable)?;
        let access = security::seeded_access(config, now.access.seed).map_err(unusable)?;
        let console = admin_database(config, &access.seed, &self.settings.console);
        let feed = self.settings.feed.get().map(|teller| feed_config(config).map(|config| (teller, config)));
        let feed = feed.transpose().map_err(unusable)?;

        crate::logging::set_level(&config.log);
        self.fence.set_max_lag(config.freshness.max_lag.0);
        self.proxy.rules().configure(effective.rules());
        let tracing = now.tracing.clone();
        if let Some(tracing) = &tracing {
            tracing.set_sample(config.trace.sample.0);
        }
        self.proxy.reconfigure(ProxyConfig { console, tracing, ..proxy_config(config, tls, access) });
        if let Some((teller, config)) = feed {
            teller.send_replace(config);
        }
        Ok(())
    }
}
