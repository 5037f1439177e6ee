//! Larder answers what the origin answers, byte for byte: the same scripts directly and through Larder, cold and warm.
//!
//! All scripts share one cluster per version and the Larder before it, one test at a time: statements that define
//! something would empty the cache under another test's feet. Scripts that change rows begin by putting them back.
//!
//! A second Larder before the same cluster runs in mode shadow: there every script is answered alike, too, and what was in
//! memory never differs from what the origin says.

use std::time::{Duration, Instant};

use larder_testkit::{
    Larder, PgVersion, Postgres, RawClient, Script, Step, Target, Transcript, frame, pg, run,
};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// The tables of all scripts: `fixed` never changes, so reads of it can hit; `moving` is what scripts write to.
const TABLES: &str = "
create table fixed (id int primary key, v text, n numeric, b bytea, f float8, at timestamptz);
insert into fixed select i, 'value ' || i, i * 1.25, decode(lpad(i::text, 4, '0'), 'hex'), i / 3.0,
    '2024-02-03 04:05:06+00'::timestamptz + i * interval '1 day' from generate_series(1, 20) i;
insert into fixed (id) values (0);
create table moving (id int primary key, n int not null, v text);
create table copied (id int, v text);
create function noisy(i int) returns int language plpgsql as
    $$ begin raise notice 'noise %', i; return i; end $$;
create function failing() returns int language plpgsql as
    $$ begin raise notice 'soon'; raise exception 'failed on purpose' using detail = 'a detail', hint = 'a hint'; end $$;
";

/// Puts the changing tables into their first state. As the first step of a script it is not part of what is compared.
pub(crate) const RESET: &str = "delete from copied; delete from moving; insert into moving select i, i * 10, 'v' || i from generate_series(1, 5) i";

/// How long a warm script is run again in the hope of hits: a write just before, or a loaded machine, keeps answers away.
const PATIENCE: Duration = Duration::from_secs(15);

/// A cluster with the tables, and Larder before it.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) pg: Postgres,
    pub(crate) larder: Larder,
    shadow: OnceCell<Larder>,
}

static PAIR_15: Mutex<Option<Pair>> = Mutex::const_new(None);
static PAIR_18: Mutex<Option<Pair>> = Mutex::const_new(None);

pub(crate) const VERSIONS: [PgVersion; 2] = [PgVersion::V15, PgVersion::V18];

/// The pair of this version, for one test at a time.
pub(crate) async fn pair(version: PgVersion) -> Held {
    let mut held = match version {
        PgVersion::V15 => PAIR_15.lock().await,
        _ => PAIR_18.lock().await,
    };
    if held.is_none() {
        *held = Some(Pair::start(version).await);
    }
    Held(held)
}

/// Exclusive use of a pair.
pub(crate) struct Held(MutexGuard<'static, Option<Pair>>);

impl std::ops::Deref for Held {
    type Target = Pair;

    fn deref(&self) -> &Pair {
        self.0.as_ref().unwrap()
    }
}

impl Pair {
    pub(crate) async fn start(version: PgVersion) -> Self {
        let pg = pg(version);
        pg.sql(TABLES).unwrap();
        let larder = serve(&pg.url("postgres", "postgres")).start().await.unwrap();
        let pair = Self { pg, larder, shadow: OnceCell::new() };
        pair.covered().await;
        pair
    }

    pub(crate) fn direct(&self) -> Target {
        Target::superuser(self.pg.addr())
    }

    pub(crate) fn through(&self) -> Target {
        Target::superuser(self.larder.addr())
    }

    /// Larder in mode shadow before the same cluster, once somebody wants it.
    pub(crate) async fn shadow(&self) -> &Larder {
        let start = async || {
            let shadow = serve(&self.pg.url("postgres", "postgres")).arg("--mode").arg("shadow");
            let shadow = shadow.start().await.unwrap();
            let mut client = RawClient::superuser(shadow.addr()).await.unwrap();
            let deadline = Instant::now() + PATIENCE;
            while compared(&shadow).await == 0 {
                client.value("select count(*) from fixed").await.unwrap();
                assert!(Instant::now() < deadline, "nothing is compared\n{}", shadow.log());
            }
            shadow
        };
        self.shadow.get_or_init(start).await
    }

    /// The same script in mode shadow, cold or warm: answered alike.
    async fn same_in_the_shadow(&self, whole: &[Step]) -> Result<(), String> {
        let script = self.reset(whole).await;
        let direct = run(script, &self.direct()).await.map_err(|e| format!("directly: {e:#}"))?;
        let through = Target::superuser(self.shadow().await.addr());
        for attempt in 0..2 {
            self.reset(whole).await;
            let shadow = run(script, &through).await;
            let shadow = shadow.map_err(|e| format!("in the shadow, run {attempt}: {e:#}"))?;
            if let Some(difference) = difference(script, &direct, &shadow) {
                return Err(format!("in the shadow, run {attempt}: {difference}"));
            }
        }
        Ok(())
    }

    /// What was compared in the shadow did not differ, but for commits. Differences are judged a little later: those of the
    /// last moment may be missed.
    pub(crate) async fn shadow_is_right(&self) {
        let shadow = self.shadow().await;
        let mismatches = metric(shadow, "larder_verify_mismatches_total ").await;
        assert_eq!(mismatches, 0, "{}", shadow.log());
    }

    /// Statements answered from memory so far.
    pub(crate) async fn hits(&self) -> u64 {
        metric(&self.larder, "larder_queries_total{outcome=\"hit\",tier=\"l1\"} ").await
    }

    /// Waits until answers can come from memory.
    pub(crate) async fn covered(&self) {
        let mut client = RawClient::superuser(self.larder.addr()).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            client.value("select count(*) from fixed").await.unwrap();
            let last = client.value("show larder.last").await.unwrap();
            if last.starts_with("hit") {
                return;
            }
            assert!(Instant::now() < deadline, "no hit: {last}\n{}", self.larder.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Runs a script directly, then through Larder until a run has had so many hits (three times at least). Every
    /// run must be answered alike.
    async fn same(&self, hits: u64, whole: &[Step]) -> Result<(), String> {
        let script = self.reset(whole).await;
        let direct = run(script, &self.direct()).await.map_err(|e| format!("directly: {e:#}"))?;
        let mut most = 0;
        let deadline = Instant::now() + PATIENCE;
        for attempt in 0.. {
            if attempt > 2 && Instant::now() > deadline {
                break;
            }
            self.reset(whole).await;
            let before = self.hits().await;
            let larder = run(script, &self.through()).await;
            let larder = larder.map_err(|e| format!("through Larder, run {attempt}: {e:#}"))?;
            if let Some(difference) = difference(script, &direct, &larder) {
                return Err(format!("run {attempt}: {difference}"));
            }
            most = most.max(self.hits().await - before);
            if attempt >= 2 && most >= hits {
                return Ok(());
            }
        }
        Err(format!("at most {most} hits in a run, not {hits}"))
    }

    /// Puts the tables back if the script asks for it; returns the rest of the script.
    async fn reset<'script>(&self, script: &'script [Step]) -> &'script [Step] {
        match script.split_first() {
            Some((first, rest)) if first.send == frame::query(RESET) => {
                // Through Larder, so that the reads that follow see it.
                let mut client = RawClient::superuser(self.larder.addr()).await.unwrap();
                client.rows(RESET).await.unwrap();
                rest
            }
            _ => script,
        }
    }
}

/// Answers in memory that a Larder in mode shadow has compared so far.
pub(crate) async fn compared(larder: &Larder) -> u64 {
    metric(larder, "larder_verify_checks_total ").await
}

/// The first difference between two runs of a script.
fn difference(script: &[Step], direct: &[Transcript], larder: &[Transcript]) -> Option<String> {
    direct.iter().zip(larder).enumerate().find_map(|(number, (left, right))| {
        let difference = left.difference(right)?;
        let step =
            number.checked_sub(1).map_or("login".into(), |n| script[n].send.escape_ascii().to_string());
        Some(format!(
            "directly (left) and through Larder (right) differ at step {number}, {step}:\n{difference}"
        ))
    })
}

pub(crate) fn serve(origin: &str) -> larder_testkit::LarderBuilder {
    Larder::builder().binary(env!("CARGO_BIN_EXE_larder")).origin(origin)
}

/// The value of a metric, by its name and labels and a space.
pub(crate) async fn metric(larder: &Larder, name: &str) -> u64 {
    let (_, text) = larder.get("/metrics").await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
}

/// Scripts: a name, how many hits a warm run has at least, what is sent.
pub(crate) type Scripts = Vec<(&'static str, u64, Script)>;

/// Compares all scripts on both versions, and tells of all that differ.
pub(crate) async fn compare_all(scripts: impl Fn() -> Scripts) {
    let mut problems = vec![];
    for version in VERSIONS {
        let pair = pair(version).await;
        for (name, hits, script) in scripts() {
            if let Err(problem) = pair.same(hits, &script).await {
                problems.push(format!("{name}, on {version}: {problem}"));
            }
        }
        for (name, _, script) in scripts() {
            if let Err(problem) = pair.same_in_the_shadow(&script).await {
                problems.push(format!("{name}, on {version}: {problem}"));
            }
        }
        pair.shadow_is_right().await;
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

pub(crate) fn q(sql: &str) -> Step {
    Step::query(sql)
}

pub(crate) fn queries(texts: &[&str]) -> Script {
    texts.iter().map(|text| q(text)).collect()
}
