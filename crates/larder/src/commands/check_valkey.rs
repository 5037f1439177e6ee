//! The part of `larder check` about the shared tier.

use larder_cache::tier::valkey::{Trouble, Valkey};
use larder_core::Finding;

use crate::config::Config;

/// What was found: the tier in one line, and what could be better. Nothing of it keeps answers from being fresh.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// `None`: no shared tier is configured, or there is no connection.
    pub(super) seen: Option<String>,
    pub(super) notes: Vec<Finding>,
}

pub(super) async fn look(config: &Config) -> Look {
    let Some(tier) = config.shared_tier() else { return Look::default() };
    let timeout = tier.timeout;
    let valkey = match Valkey::new(tier) {
        Ok(valkey) => valkey,
        Err(error) => {
            let remedy = "mend [valkey] tls_ca, tls_cert and tls_key".to_owned();
            let note = Finding { code: "valkey_certificates", problem: error.to_string(), remedy };
            return Look { seen: None, notes: vec![note] };
        }
    };
    let mut notes = Vec::new();
    let seen = match valkey.inspect().await {
        Ok(inspection) => {
            notes.extend(inspection.troubles.iter().map(finding));
            let version =
                inspection.server.map_or_else(|| "unknown version".to_owned(), |server| server.version);
            Some(format!(
                "{} at {}, answers in {:?} (timeout {timeout:?})",
                version,
                valkey.url(),
                inspection.latency
            ))
        }
        Err(trouble) => {
            notes.push(finding(&trouble));
            None
        }
    };
    if config.valkey.secret.get().is_none() {
        let problem =
            "entries in Valkey are not authenticated: who can write to it can make Larder answer wrongly";
        let remedy = "give all Larders of the fleet the same [valkey] secret: openssl rand -hex 32 (LARDER_VALKEY_SECRET_FILE names a file)";
        notes.push(Finding { code: "valkey_secret", problem: problem.to_owned(), remedy: remedy.to_owned() });
    }
    Look { seen, notes }
}

fn finding(trouble: &Trouble) -> Finding {
    Finding {
        code: trouble.kind.code(),
        problem: trouble.to_string(),
        remedy: trouble.kind.remedy().to_owned(),
    }
}
