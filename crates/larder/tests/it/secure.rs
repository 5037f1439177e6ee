//! What the tests of TLS and authentication share: an authority, an origin with TLS, a Larder with TLS, and libpq.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use larder_testkit::sandbox::{cache_dir, locate};
use larder_testkit::{
    Auth, Authority, Identity, Larder, LarderBuilder, PgVersion, Postgres, RawClient, Tls, write,
};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::transparency::serve;

/// A loaded machine is slow.
const LIMIT: Duration = Duration::from_secs(60);

/// Users of the origin: name, how it asks for the password `secret`.
pub(crate) const USERS: [(&str, Auth); 4] =
    [("trusting", Auth::Trust), ("clear", Auth::Password), ("digest", Auth::Md5), ("scrammed", Auth::Scram)];

/// A folder with certificates of one authority.
#[derive(Debug)]
pub(crate) struct Papers {
    pub(crate) authority: Authority,
    pub(crate) folder: TempDir,
    /// The authority's certificate.
    pub(crate) ca: PathBuf,
    /// Larder's certificate and key, for `localhost` and 127.0.0.1.
    pub(crate) larder: (PathBuf, PathBuf),
    /// The origin's, for the same.
    pub(crate) origin: Identity,
}

impl Papers {
    pub(crate) fn new() -> Self {
        let authority = Authority::new("Test Authority");
        let folder = tempfile::tempdir().unwrap();
        let ca = write(folder.path(), "ca.crt", &authority.pem()).unwrap();
        let names = ["localhost", "127.0.0.1"];
        let larder = authority.server(&names).write(folder.path(), "larder").unwrap();
        let origin = authority.server(&names);
        Self { authority, folder, ca, larder, origin }
    }

    /// A client that trusts the authority.
    pub(crate) fn client(&self) -> Tls {
        Tls::trusting(&self.authority.pem(), None)
    }

    /// An origin that offers TLS, with a table and the users.
    pub(crate) fn postgres(&self, version: PgVersion) -> Postgres {
        self.postgres_as(version, &self.origin)
    }

    /// The same with another certificate.
    pub(crate) fn postgres_as(&self, version: PgVersion, identity: &Identity) -> Postgres {
        let builder = Postgres::builder().version(version);
        let builder = builder.tls(&identity.certificate, &identity.key, &self.authority.pem());
        let mut pg = builder.start().unwrap_or_else(|error| panic!("{error}"));
        populate(&mut pg);
        pg
    }

    /// Settings for TLS towards clients.
    pub(crate) fn listen(&self, builder: LarderBuilder) -> LarderBuilder {
        let builder = set(builder, "listen.tls_cert", self.larder.0.display());
        set(builder, "listen.tls_key", self.larder.1.display())
    }
}

/// A table to read and a user for each method.
pub(crate) fn populate(pg: &mut Postgres) {
    pg.sql("create table fixed (id int primary key, v text); grant select on fixed to public").unwrap();
    pg.sql("insert into fixed select i, 'value ' || i from generate_series(1, 20) i").unwrap();
    for (name, auth) in USERS {
        pg.create_user(name, "secret", auth).unwrap();
    }
}

pub(crate) fn set(builder: LarderBuilder, key: &str, value: impl std::fmt::Display) -> LarderBuilder {
    builder.arg("--set").arg(format!("{key}={value}"))
}

/// Larder in front of an origin, reached under the name `localhost`.
pub(crate) fn before(pg: &Postgres) -> LarderBuilder {
    serve(&format!("postgres://postgres@localhost:{}/postgres", pg.port()))
}

/// Which libpq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Libpq {
    /// That of the psql on the path.
    Installed,
    /// Version 18: direct TLS, protocol 3.2.
    V18,
}

impl Libpq {
    pub(crate) const ALL: [Self; 2] = [Self::Installed, Self::V18];

    /// Runs SQL with psql; what it printed, or what it complained about.
    pub(crate) async fn run(self, conninfo: &str, sql: &str) -> Result<String, String> {
        let mut command = Command::new("psql");
        command.args(["-XAt", "-v", "ON_ERROR_STOP=1", "-d", conninfo, "-c", sql]);
        command.env("PGPASSWORD", "secret").env("HOME", "/nonexistent").stdin(Stdio::null());
        if self == Self::V18 {
            // psql's own library is found by name, and a newer one does as well.
            command.env("LD_LIBRARY_PATH", cache_dir().join("servers/postgres-tls/lib"));
        }
        let output = timeout(LIMIT, command.kill_on_drop(true).output()).await.expect("psql hangs").unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

/// How psql is told to reach Larder: by the name `localhost`, which is in its certificate.
pub(crate) fn conninfo(larder: &Larder, user: &str, more: &str) -> String {
    let port = larder.addr().port();
    format!("host=localhost hostaddr=127.0.0.1 port={port} user={user} dbname=postgres {more}")
}

/// Asks until the statement is answered from memory.
pub(crate) async fn until_hit(client: &mut RawClient, sql: &str) -> Vec<Vec<Option<String>>> {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        let rows = client.rows(sql).await.unwrap();
        let last = client.value("show larder.last").await.unwrap();
        if last.starts_with("hit") {
            return rows;
        }
        assert!(tokio::time::Instant::now() < deadline, "never a hit: {last}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The origin's versions that speak TLS on this machine.
pub(crate) fn versions() -> impl Iterator<Item = PgVersion> {
    // Debian's own is 15; 18 is fetched.
    crate::transparency::VERSIONS.into_iter().inspect(|version| {
        locate::postgres_with_tls(*version).unwrap_or_else(|error| panic!("{error}"));
    })
}

pub(crate) fn file(folder: &Path, name: &str, text: &str) -> String {
    write(folder, name, text).unwrap().display().to_string()
}
