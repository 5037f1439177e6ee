//! How a cluster is to be.

use std::{fmt::Write as _, fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::Postgres;
use crate::{
    PgVersion,
    error::{Context, Error, Result},
    guard::Guarded,
    locate,
    owner::Owner,
    port::{self, ATTEMPTS},
    rundir::RunDir,
    template,
};

/// What every cluster has unless the builder says otherwise. `wal_level` and the limits are what a change feed
/// needs, with room for hundreds of clients.
const SETTINGS: [(&str, &str); 14] = [
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "300"),
    ("shared_buffers", "32MB"),
    ("wal_level", "logical"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
    ("max_prepared_transactions", "20"),
    ("autovacuum", "on"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("logging_collector", "off"),
    ("log_min_messages", "warning"),
    ("lc_messages", "C"),
];

/// Settings of a cluster that need not survive a crash of the machine: commits are as visible as ever, but the
/// disk is not waited for.
const NOT_DURABLE: [(&str, &str); 2] = [("fsync", "off"), ("full_page_writes", "off")];

/// Files of the data directory: certificate, key, authorities of clients.
const TLS_FILES: [&str; 3] = ["server.crt", "server.key", "root.crt"];
const TLS_SETTINGS: [(&str, &str); 4] = [
    ("ssl", "on"),
    ("ssl_cert_file", TLS_FILES[0]),
    ("ssl_key_file", TLS_FILES[1]),
    ("ssl_ca_file", TLS_FILES[2]),
];

/// How a cluster is to be; see [`Postgres::builder`].
#[derive(Clone, Debug, Default)]
pub struct PostgresBuilder {
    version: PgVersion,
    settings: Vec<(String, String)>,
    hba: Vec<String>,
    durable: bool,
    tls: Option<[String; 3]>,
}

impl PostgresBuilder {
    /// Which PostgreSQL; any, if not said.
    #[must_use]
    pub fn version(mut self, version: PgVersion) -> Self {
        self.version = version;
        self
    }

    /// A line of `postgresql.conf`; the last one for a name counts.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A line of `pg_hba.conf`, before the default ones, which trust everybody on this machine.
    #[must_use]
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }

    /// Whether commits wait for the disk (`fsync`); no, if not said. What is visible to whom is the same either way.
    #[must_use]
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// With TLS: the server's certificate (and chain), its key, and the authorities of clients' certificates, all PEM.
    #[must_use]
    pub fn tls(mut self, certificate: &str, key: &str, client_ca: &str) -> Self {
        self.tls = Some([certificate, key, client_ca].map(str::to_owned));
        self
    }

    /// Starts the cluster.
    ///
    /// # Errors
    /// No such PostgreSQL on this machine, or it does not start: the error says what, where and why.
    pub fn start(self) -> Result<Postgres> {
        let programs = match self.tls {
            Some(_) => locate::postgres_with_tls(self.version)?,
            None => locate::postgres(self.version)?,
        };
        let owner = Owner::unprivileged();
        let template = template::data_directory(&programs, owner)?;
        let dir = RunDir::new("pg", owner)?;
        let data = dir.path().join("data");
        template::copy(&template, &data, owner)?;
        let guarded = Guarded::new(owner, dir.path(), dir.path().join("log"))?;
        let mut postgres = Postgres { guarded, programs, owner, port: 0, hba: self.hba.clone(), dir };
        postgres.write_hba()?;
        self.write_certificates(&data, owner)?;
        let conf = data.join("postgresql.conf");
        let base = fs::read_to_string(&conf).context(|| format!("cannot read {}", conf.display()))?;
        let mut attempt = 1;
        loop {
            postgres.port = port::free()?;
            let text = base.clone() + &self.conf(postgres.port, postgres.dir.path());
            fs::write(&conf, text).context(|| format!("cannot write {}", conf.display()))?;
            match postgres.launch() {
                Err(Error::Failed { output, .. }) if attempt < ATTEMPTS && port::may_pass(&output) => {
                    attempt += 1
                }
                done => return done.map(|()| postgres),
            }
        }
    }

    fn write_certificates(&self, data: &Path, owner: Owner) -> Result<()> {
        let Some(texts) = &self.tls else { return Ok(()) };
        for (name, text) in TLS_FILES.iter().zip(texts) {
            let path = data.join(name);
            fs::write(&path, text).context(|| format!("cannot write {}", path.display()))?;
            // PostgreSQL refuses a key that others may read.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
                .context(|| format!("cannot set the mode of {}", path.display()))?;
            owner.give(&path)?;
        }
        Ok(())
    }

    fn conf(&self, port: u16, socket_dir: &Path) -> String {
        let socket_dir = socket_dir.display().to_string();
        let port = port.to_string();
        let own = [("port", port.as_str()), ("unix_socket_directories", socket_dir.as_str())];
        let relaxed: &[(&str, &str)] = if self.durable { &[] } else { &NOT_DURABLE };
        let asked = self.settings.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let tls: &[(&str, &str)] = if self.tls.is_some() { &TLS_SETTINGS } else { &[] };
        let relaxed = relaxed.iter().copied().chain(tls.iter().copied());
        let all = SETTINGS.iter().copied().chain(relaxed).chain(asked).chain(own);
        all.fold(String::from("\n# larder-sandbox\n"), |mut text, (name, value)| {
            let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
            text
        })
    }
}
