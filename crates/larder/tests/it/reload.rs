//! Another configuration for a Larder that runs: by SIGHUP, and by RELOAD of the admin database.

use std::path::{Path, PathBuf};
use std::time::Duration;

use larder_testkit::{
    Auth, Authority, Larder, Login, PgVersion, Postgres, RawClient, Signal, Tls, each_version, pg18,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::secure::{Papers, before, until_hit};

/// A loaded machine is slow.
const LIMIT: Duration = Duration::from_secs(60);

/// A configuration file in a folder, and a Larder that reads it.
struct Configured {
    larder: Larder,
    file: PathBuf,
    _folder: TempDir,
}

impl Configured {
    async fn start(pg: &Postgres, text: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("larder.toml");
        write(&file, text);
        let builder = before(pg).arg("--config").arg(file.display().to_string());
        let builder = environment.iter().fold(builder, |builder, (name, value)| builder.env(*name, *value));
        Self { larder: builder.start().await.unwrap(), file, _folder: folder }
    }

    /// Sends SIGHUP and waits until the log has one more line that says `outcome`.
    async fn hang_up(&mut self, outcome: &str) {
        let count = |larder: &Larder| larder.log().matches(outcome).count();
        let seen = count(&self.larder);
        self.larder.signal(Signal::HUP).unwrap();
        until(&format!("{outcome:?} in the log"), async || count(&self.larder) > seen).await;
    }
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
}

async fn until(what: &str, mut happens: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !happens().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const READ_AGAIN: &str = "configuration and files read again";
const REFUSED: &str = "the configuration is as it was";

#[tokio::test]
async fn certificates_and_users_are_read_again_and_sessions_go_on() {
    let papers = Papers::new();
    let mut pg = pg18();
    pg.create_user("old", "secret", Auth::Scram).unwrap();
    pg.create_user("new", "secret", Auth::Scram).unwrap();
    let (certificate, key) = &papers.larder;
    let users = papers.folder.path().join("users");
    write(&users, "\"old\" \"secret\"\n");
    let text = format!(
        "[listen]\ntls_cert = {certificate:?}\ntls_key = {key:?}\nauth = \"verify\"\nauth_query = \"\"\nauth_users = {users:?}\n"
    );
    let mut configured = Configured::start(&pg, &text, &[]).await;
    let addr = configured.larder.addr();
    let log_in = async |tls: &Tls, user: &str| {
        RawClient::login_tls(addr, tls, &Login::new(user, "postgres").password("secret")).await
    };
    let trusts_first = papers.client();
    let mut session = log_in(&trusts_first, "old").await.unwrap();
    assert!(log_in(&trusts_first, "new").await.is_err());

    let other = Authority::new("Another Authority");
    other.server(&["localhost", "127.0.0.1"]).write(papers.folder.path(), "larder").unwrap();
    write(&users, "\"new\" \"secret\"\n");
    configured.hang_up(READ_AGAIN).await;

    let trusts_second = Tls::trusting(&other.pem(), None);
    let mut later = log_in(&trusts_second, "new").await.unwrap();
    assert_eq!(later.value("select session_user").await.unwrap(), "new");
    assert!(log_in(&trusts_second, "old").await.is_err(), "no longer in the file");
    assert!(log_in(&trusts_first, "new").await.is_err(), "another certificate is shown now");
    assert_eq!(session.value("select session_user").await.unwrap(), "old", "sessions go on");

    // A key that does not go with the certificate: everything stays as it is.
    std::fs::copy(papers.folder.path().join("larder.key"), papers.folder.path().join("kept")).unwrap();
    write(key, &papers.origin.key);
    write(&users, "\"nobody\" \"secret\"\n");
    configured.hang_up(REFUSED).await;
    assert!(configured.larder.log().contains("does not go with"), "{}", configured.larder.log());
    log_in(&trusts_second, "new").await.unwrap();
}

#[tokio::test]
async fn settings_change_at_once_or_say_that_they_cannot() {
    each_version(async |pg| {
        pg.sql("create table fixed (id int primary key, v text); insert into fixed values (1, 'one')")
            .unwrap();
        let admin = "[admin]\nuser = \"operator\"\npassword = \"first\"\ntoken = \"one\"\n";
        let mut configured = Configured::start(&pg, admin, &[]).await;
        let addr = configured.larder.addr();
        let operator = |password: &str| Login::new("operator", "larder").password(password);
        let mut console = RawClient::login(addr, &operator("first")).await.unwrap();
        let mut session = RawClient::superuser(addr).await.unwrap();
        let read = "select v from fixed where id = 1";
        until_hit(&mut session, read).await;

        let changed = "[admin]\nuser = \"operator\"\npassword = \"second\"\ntoken = \"two\"\n\
                       [cache]\nttl = \"1ms\"\nttl_jitter = 0\nmemory = \"1GiB\"\n\
                       [freshness]\nlevel = \"bounded\"\nmax_lag = \"3s\"\n\
                       [listen]\nmax_clients = 3\n[log]\nlevel = \"debug\"\nformat = \"json\"\n";
        write(&configured.file, changed);
        let mut rows = console.rows("RELOAD").await.unwrap();
        rows.sort();
        let rows: Vec<String> = rows
            .into_iter()
            .map(|row| row.into_iter().map(Option::unwrap).collect::<Vec<_>>().join(": "))
            .collect();
        assert_eq!(
            rows,
            [
                "admin.password: changed",
                "admin.token: changed",
                "cache.memory: needs a restart",
                "cache.ttl: changed",
                "cache.ttl_jitter: changed",
                "freshness.level: changed",
                "freshness.max_lag: changed",
                "listen.max_clients: changed",
                "log.format: needs a restart",
                "log.level: changed",
            ]
        );
        let larder = &configured.larder;
        let get =
            async |path: &str| -> Value { serde_json::from_str(&larder.get(path).await.unwrap().1).unwrap() };
        let status = get("/api/v1/status").await;
        assert_eq!((&status["level"], &status["feed"]["gaps"]), (&"bounded".into(), &0.into()), "{status}");
        // A lease of more than the second that it was.
        until("a longer lease", async || {
            get("/api/v1/status").await["lease"]["remaining_seconds"].as_f64().unwrap() > 1.5
        })
        .await;
        assert_eq!(get("/api/v1/config").await["cache"]["ttl"]["value"], "1ms");
        assert_eq!(get("/api/v1/config").await["cache"]["memory"]["value"], "256MiB");
        let purge = async |token| larder.post("/api/v1/purge", token, "{\"all\":true}").await.unwrap().0;
        assert_eq!((purge("one").await, purge("two").await), (401, 200));
        // What is kept from now on is gone a millisecond later, also in a session of before.
        session.rows(read).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        session.rows(read).await.unwrap();
        assert!(session.value("show larder.last").await.unwrap().starts_with("miss"), "{}", larder.log());
        // The session, the console, and one more; then there is no room.
        assert!(RawClient::login(addr, &operator("first")).await.is_err());
        let mut third = Err(String::new());
        until("the place of the one that was refused is free", async || {
            third = RawClient::login(addr, &operator("second")).await.map_err(|error| format!("{error:#}"));
            third.is_ok()
        })
        .await;
        let said = format!("{:#}", RawClient::superuser(addr).await.unwrap_err());
        assert!(third.is_ok() && said.contains("53300"), "{said}");
        drop(third);
        until("its place is free", async || RawClient::superuser(addr).await.is_ok()).await;
        assert!(larder.log().contains("DEBUG session begins"), "{}", larder.log());

        for (wrong, expected) in [
            ("[cache]\nttl = \"soon\"\n", "larder.toml:2: cache.ttl: \"soon\" is not a length of time"),
            ("[cache]\nmemory = \"much\"\n", "larder.toml:2: cache.memory"),
            ("[cache\n", "larder.toml:1: "),
            ("[listen]\ntls_cert = \"/nowhere\"\ntls_key = \"/nowhere\"\n", "/nowhere: No such file"),
        ] {
            write(&configured.file, wrong);
            let refusal = console.query("RELOAD").await.unwrap();
            assert_eq!(refusal[0].field(b'C').as_deref(), Some("F0000"), "{refusal:?}");
            let message = refusal[0].field(b'M').unwrap();
            assert!(message.contains(expected) && refusal[0].field(b'H').is_some(), "{message}");
            assert!(configured.larder.log().contains(REFUSED));
        }
        configured.hang_up(REFUSED).await;
        assert_eq!(session.rows(read).await.unwrap(), [[Some("one".to_owned())]]);
        let (_, config) = configured.larder.get("/api/v1/config").await.unwrap();
        assert!(config.contains("\"1ms\""), "{config}");
    })
    .await;
}

/// Level `session` from one moment to the next: a session's own earlier writes count.
#[tokio::test]
async fn own_writes_count_after_the_level_has_changed() {
    let pg = pg18();
    pg.sql("create table t (id int primary key, v int); insert into t values (1, 0)").unwrap();
    let mut configured = Configured::start(&pg, "[freshness]\nmax_lag = \"30s\"\n", &[]).await;
    let mut session = RawClient::superuser(configured.larder.addr()).await.unwrap();
    let read = "select v from t where id = 1";
    for round in 1..=10 {
        until_hit(&mut session, read).await;
        session.rows(&format!("update t set v = {round}")).await.unwrap();
        let level = if round % 2 == 1 { "session" } else { "strict" };
        write(&configured.file, &format!("[freshness]\nmax_lag = \"30s\"\nlevel = \"{level}\"\n"));
        configured.hang_up(READ_AGAIN).await;
        assert_eq!(session.value(read).await.unwrap(), round.to_string(), "{level}");
    }
}

#[tokio::test]
async fn a_new_password_of_larders_own_account_is_used_for_the_next_connection() {
    for version in [PgVersion::V15, PgVersion::V18] {
        let mut pg = larder_testkit::pg(version);
        pg.create_user("larder", "first", Auth::Scram).unwrap();
        pg.sql("alter role larder replication; create table fixed (id int primary key, v text)").unwrap();
        pg.sql("insert into fixed values (1, 'one'); grant select on fixed to public").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("url");
        let url = |password: &str| format!("postgres://larder:{password}@localhost:{}/postgres\n", pg.port());
        write(&secret, &url("first"));
        let name = secret.display().to_string();
        let environment = [("LARDER_ORIGIN_CONTROL_URL_FILE", &*name)];
        let mut configured = Configured::start(&pg, "", &environment).await;
        let mut session = RawClient::superuser(configured.larder.addr()).await.unwrap();
        until_hit(&mut session, "select v from fixed").await;

        write(&secret, &url("second"));
        pg.sql("alter role larder password 'second'").unwrap();
        configured.hang_up(READ_AGAIN).await;
        // The connections that there are stay: nothing was forgotten.
        session.rows("select v from fixed").await.unwrap();
        let (_, status) = configured.larder.get("/api/v1/status").await.unwrap();
        let status: Value = serde_json::from_str(&status).unwrap();
        assert_eq!((&status["feed"]["state"], &status["feed"]["gaps"]), (&"connected".into(), &0.into()));

        pg.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'larder'").unwrap();
        until("another stream", async || {
            let (_, status) = configured.larder.get("/api/v1/status").await.unwrap();
            let status: Value = serde_json::from_str(&status).unwrap();
            status["feed"]["state"] == "connected" && status["feed"]["gaps"] == 1
        })
        .await;
        until_hit(&mut session, "select v from fixed").await;

        // The other way round: the feed cannot come back until Larder has been told, and then it comes.
        pg.sql("alter role larder password 'third'").unwrap();
        pg.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'larder'").unwrap();
        until("refused", async || configured.larder.log().contains("password authentication failed")).await;
        write(&secret, &url("third"));
        configured.hang_up(READ_AGAIN).await;
        until_hit(&mut session, "select v from fixed").await;
    }
}
