//! Freshness from end to end: what the tests in `freshness_*.rs` share.
//!
//! A test that never hits proves nothing, so every one counts its hits by `SHOW larder.last`.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use larder_testkit::{Auth, Frame, Larder, Login, Postgres, RawClient, frame};

/// `max_lag` unless a test says otherwise.
pub(crate) const MAX_LAG: Duration = Duration::from_secs(1);
/// What a loaded machine may add to any limit in time.
pub(crate) const SLACK: Duration = Duration::from_millis(500);
/// A loaded machine is slow.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// How often a loop goes round: LARDER_TEST_ROUNDS, else this many.
pub(crate) fn rounds() -> u64 {
    asked_rounds().unwrap_or(200)
}

/// LARDER_TEST_ROUNDS, if it is set.
pub(crate) fn asked_rounds() -> Option<u64> {
    static ROUNDS: OnceLock<Option<u64>> = OnceLock::new();
    *ROUNDS.get_or_init(|| number("LARDER_TEST_ROUNDS"))
}

/// How long a load runs: LARDER_TEST_SECONDS, else this long.
pub(crate) fn load_time() -> Duration {
    Duration::from_secs(number("LARDER_TEST_SECONDS").unwrap_or(3))
}

pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// An origin and Larder before it.
pub(crate) struct Rig {
    pub(crate) pg: Postgres,
    pub(crate) larder: Larder,
}

impl Rig {
    /// With these settings (`freshness.level=session`), and the feed covering the present.
    pub(crate) async fn new(mut pg: Postgres, settings: &[&str]) -> Self {
        pg.create_user("larder", "secret", Auth::Scram).unwrap();
        pg.sql("ALTER ROLE larder REPLICATION").unwrap();
        Self { larder: serve(&pg, settings).await, pg }
    }

    /// A second Larder before the same origin, with other settings.
    pub(crate) async fn another(&self, settings: &[&str]) -> Larder {
        serve(&self.pg, settings).await
    }

    /// Waits until answers may come from memory.
    pub(crate) async fn covered(&self) {
        covered(&self.larder).await;
    }

    /// A client of Larder.
    pub(crate) async fn client(&self) -> Client {
        Client::of(&self.larder).await
    }

    /// A client of the origin itself.
    pub(crate) async fn direct(&self) -> Client {
        Client::login(self.pg.addr(), &Login::superuser()).await.unwrap()
    }
}

async fn serve(pg: &Postgres, settings: &[&str]) -> Larder {
    let origin = format!("postgres://larder:secret@{}/postgres", pg.addr());
    let mut builder = Larder::builder().binary(env!("CARGO_BIN_EXE_larder")).origin(&origin);
    for setting in settings {
        builder = builder.arg("--set").arg(*setting);
    }
    if let Ok(mode) = std::env::var("LARDER_TEST_MODE") {
        builder = builder.arg("--mode").arg(mode);
    }
    let larder = builder.start().await.unwrap();
    covered(&larder).await;
    larder
}

pub(crate) async fn covered(larder: &Larder) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let (_, body) = larder.get("/api/v1/status").await.unwrap();
        let status: serde_json::Value = serde_json::from_str(&body).unwrap();
        if status["feed"]["state"] == "connected" && status["lease"]["holds"] == true {
            return;
        }
        assert!(Instant::now() < deadline, "the feed does not cover the present: {status}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How a statement is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Simple,
    /// Parse, Bind, Describe, Execute, Sync, all unnamed.
    Unnamed,
    /// Parse once; then Bind, Execute, Sync.
    Prepared,
}

impl Protocol {
    pub(crate) const ALL: [Self; 3] = [Self::Simple, Self::Unnamed, Self::Prepared];
}

/// A connection to Larder or to the origin.
pub(crate) struct Client {
    pub(crate) raw: RawClient,
    prepared: HashSet<String>,
}

/// An answer, and how it was served.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) frames: Vec<Frame>,
    pub(crate) how: String,
}

impl Served {
    /// From memory; or, with `LARDER_TEST_MODE=shadow`, compared with what is in memory.
    pub(crate) fn is_hit(&self) -> bool {
        self.how.starts_with("hit") || self.how == "bypass; reason=shadow"
    }

    /// The rows, or the SQLSTATE of an error.
    pub(crate) fn rows(&self) -> Result<Vec<Vec<Option<String>>>, String> {
        rows(&self.frames)
    }

    /// The only value.
    #[track_caller]
    pub(crate) fn value(&self) -> String {
        let rows = self.rows().unwrap_or_else(|error| panic!("{error}: {:?}", self.frames));
        assert_eq!((rows.len(), rows[0].len()), (1, 1), "{:?}", self.frames);
        rows[0][0].clone().unwrap()
    }

    #[track_caller]
    pub(crate) fn number(&self) -> i64 {
        self.value().parse().unwrap()
    }
}

/// The rows in frames, or the SQLSTATE of an error.
pub(crate) fn rows(frames: &[Frame]) -> Result<Vec<Vec<Option<String>>>, String> {
    match frames.iter().find(|frame| frame.tag == b'E') {
        Some(error) => Err(error.field(b'C').unwrap()),
        None => Ok(frames.iter().filter(|frame| frame.tag == b'D').map(Frame::values).collect()),
    }
}

impl Client {
    pub(crate) async fn login(addr: std::net::SocketAddr, login: &Login) -> anyhow::Result<Self> {
        Ok(Self { raw: RawClient::login(addr, login).await?, prepared: HashSet::new() })
    }

    /// The superuser's, through a Larder.
    pub(crate) async fn of(larder: &Larder) -> Self {
        Self::login(larder.addr(), &Login::superuser()).await.unwrap()
    }

    /// Sends a statement, whatever the answer is. `parameter` is `$1`, taken as text.
    pub(crate) async fn try_ask(
        &mut self,
        how: Protocol,
        sql: &str,
        parameter: Option<&str>,
    ) -> anyhow::Result<Vec<Frame>> {
        let parameters: &[Option<&str>] = &[parameter];
        let parameters = if parameter.is_some() { parameters } else { &[] };
        match how {
            Protocol::Simple => {
                let text = parameter.map_or(sql.to_owned(), |value| sql.replace("$1", value));
                self.raw.query(&text).await
            }
            Protocol::Unnamed => self.raw.extended(sql, parameters).await,
            Protocol::Prepared => {
                let bind_and_execute =
                    [frame::bind("", sql, parameters), frame::execute("", 0), frame::sync()];
                let mut messages = Vec::new();
                if self.prepared.insert(sql.to_owned()) {
                    messages.extend([frame::parse(sql, sql, &[]), frame::describe_statement(sql)]);
                }
                messages.extend(bind_and_execute);
                self.raw.send_all(&messages).await?;
                self.raw.until_ready().await
            }
        }
    }

    /// Has it prepared anew next time.
    pub(crate) fn unprepare(&mut self, sql: &str) {
        self.prepared.remove(sql);
    }

    /// Has everything prepared anew.
    pub(crate) fn unprepare_all(&mut self) {
        self.prepared.clear();
    }

    /// The same, and asks how it was served.
    pub(crate) async fn ask_with(&mut self, how: Protocol, sql: &str, parameter: Option<&str>) -> Served {
        let frames =
            self.try_ask(how, sql, parameter).await.unwrap_or_else(|error| panic!("{sql}: {error:#}"));
        let how = self.raw.value("SHOW larder.last").await.unwrap();
        Served { frames, how }
    }

    pub(crate) async fn ask(&mut self, sql: &str) -> Served {
        self.ask_with(Protocol::Simple, sql, None).await
    }

    /// A statement that must not fail.
    pub(crate) async fn run(&mut self, sql: &str) {
        self.raw.rows(sql).await.unwrap();
    }

    pub(crate) async fn value(&mut self, sql: &str) -> String {
        self.raw.value(sql).await.unwrap()
    }

    pub(crate) async fn number(&mut self, sql: &str) -> i64 {
        self.value(sql).await.parse().unwrap()
    }

    /// Asks until the answer comes from memory.
    pub(crate) async fn warm(&mut self, how: Protocol, sql: &str, parameter: Option<&str>) -> Served {
        let deadline = Instant::now() + LIMIT;
        loop {
            let served = self.ask_with(how, sql, parameter).await;
            if served.is_hit() {
                return served;
            }
            assert!(Instant::now() < deadline, "{sql} never hits: {}", served.how);
            // Nothing is waited for by this: it leaves the machine to the others.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Durations, for their distribution.
#[derive(Default)]
pub(crate) struct Spread(Vec<Duration>);

impl Spread {
    pub(crate) fn add(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    pub(crate) fn quantile(&mut self, q: f64) -> Duration {
        self.0.sort_unstable();
        let last = self.0.len() - 1;
        self.0[(last as f64 * q).round() as usize]
    }

    pub(crate) fn summary(&mut self) -> String {
        let [median, p99, max] = [0.5, 0.99, 1.0].map(|q| self.quantile(q));
        format!("n={} median={median:.1?} p99={p99:.1?} max={max:.1?}", self.0.len())
    }
}
