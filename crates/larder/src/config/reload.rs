//! Reading the configuration again: what may change while Larder runs, and what is kept until it is started anew.

use super::layers::{Layers, Setting};
use super::origin_url::OriginUrl;
use super::values::Value as _;
use super::{ConfigErrors, Effective, typed_settings};

/// Keys that take effect at once. Of the others those of the start go on, whatever is written meanwhile.
const LIVE: &[&str] = &[
    "listen.max_clients",
    "listen.tls",
    "listen.tls_cert",
    "listen.tls_key",
    "listen.tls_client_ca",
    "listen.tls_client_crl",
    "listen.auth",
    "listen.auth_query",
    "listen.auth_users",
    "listen.login_timeout",
    "listen.proxy_protocol_from",
    "admin.token",
    "admin.user",
    "admin.password",
    "origin.tls",
    "origin.tls_ca",
    "origin.tls_cert",
    "origin.tls_key",
    "origin.connect_timeout",
    "admin.statistics",
    "cache.ttl",
    "cache.ttl_jitter",
    "freshness.level",
    "freshness.max_lag",
    "freshness.ddl_check",
    "verify.sample",
    "trace.sample",
    "drain.grace",
    "drain.client_max_age",
    "log.level",
];

/// What came of it.
#[derive(Debug)]
pub(crate) struct Reloaded {
    /// In force from now on.
    pub(crate) effective: Effective,
    /// Keys whose new value is in it.
    pub(crate) changed: Vec<String>,
    /// Keys whose new value waits for a restart.
    pub(crate) kept: Vec<String>,
}

/// Reads all layers again: the file and the files of secrets as they are now, flags and environment as at the start.
///
/// # Errors
/// Something is wrong with the new configuration, be it with a value that would have to wait.
pub(crate) fn reload(now: &Effective) -> Result<Reloaded, ConfigErrors> {
    let mut problems = Vec::new();
    let layers = Layers::read(&now.given, &mut problems);
    let wanted = typed_settings(layers.into_settings(), problems)?;
    wanted.require_origin()?;
    let other_rules = wanted.rules() != now.rules();
    let (mut changed, mut kept) = (Vec::new(), Vec::new());
    let choose = |(new, old): (Setting, &Setting)| {
        if new.text == old.text {
            return new;
        }
        let live = may_change(&old.path, &old.text, &new.text);
        (if live { &mut changed } else { &mut kept }).push(new.path.clone());
        if live { new } else { old.clone() }
    };
    let settings: Vec<_> = wanted.settings.into_iter().zip(&now.settings).map(choose).collect();
    // What goes together in the file may not go together with what is kept.
    let effective = typed_settings((settings, wanted.rules), Vec::new())?;
    changed.extend(other_rules.then(|| "rule".to_owned()));
    Ok(Reloaded { effective: Effective { given: now.given.clone(), ..effective }, changed, kept })
}

fn may_change(path: &str, old: &str, new: &str) -> bool {
    if !matches!(path, "origin.url" | "origin.control_url") {
        return LIVE.contains(&path);
    }
    // A new password, say.
    let same = |old: OriginUrl, new: OriginUrl| Some(old.target()?.is_same_account(new.target()?));
    match (OriginUrl::parse(old), OriginUrl::parse(new)) {
        (Ok(old), Ok(new)) => same(old, new).unwrap_or(false),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Given, KEYS, Key, load};

    #[test]
    fn what_may_change_exists() {
        for path in LIVE {
            assert!(KEYS.iter().map(Key::path).any(|known| known == *path), "{path}");
        }
    }

    #[test]
    fn what_cannot_change_is_kept_and_named_and_a_bad_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (file, secret) = (folder.path().join("larder.toml"), folder.path().join("url"));
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        std::fs::write(&secret, "postgres://larder:old@db/shop\n").unwrap();
        let name = "LARDER_ORIGIN_CONTROL_URL_FILE".to_owned();
        let given = Given {
            file: Some(file.clone()),
            flags: Vec::new(),
            environment: vec![(name, secret.display().to_string())],
        };
        write("[origin]\nurl = \"postgres://db\"\n");
        let first = load(&given).unwrap();

        std::fs::write(&secret, "postgres://larder:new@db/shop?sslmode=require").unwrap();
        write("[origin]\nurl = \"postgres://other\"\n[cache]\nttl = \"2h\"\nmemory = \"1GiB\"\n");
        let second = reload(&first).unwrap();
        assert_eq!(second.changed, ["origin.control_url", "cache.ttl"]);
        assert_eq!(second.kept, ["origin.url", "cache.memory"]);
        let config = &second.effective.config;
        assert_eq!(config.control().target().unwrap().password.as_deref(), Some("new"));
        assert_eq!(config.origin.url.target().unwrap().host, "db");
        assert_eq!((config.cache.ttl.0.as_secs(), config.cache.memory.0), (7200, 256 << 20));

        write("[origin]\nurl = \"postgres://db\"\n[cache]\nttl = \"soon\"\nmemory = \"much\"\n");
        let (what, _) = reload(&second.effective).unwrap_err().sentences();
        assert!(what.contains("cache.ttl") && what.contains("cache.memory"), "{what}");
        std::fs::remove_file(&file).unwrap();
        assert!(reload(&second.effective).is_err());

        write("[origin]\nurl = \"postgres://db\"\n[[rule]]\nmatch = { table = \"t\" }\ncache = false\n");
        let third = reload(&second.effective).unwrap();
        assert_eq!(
            (third.changed, third.kept),
            (vec!["cache.ttl".to_owned(), "rule".to_owned()], Vec::new())
        );
        assert!(!format!("{:?}", third.effective).contains("new@"));
    }
}
