//! Random scripts of messages, directly and through Larder: the same frames in the same order.
//!
//! `LARDER_TEST_SCRIPTS` sets how many (per version), `LARDER_TEST_SEED` the first seed. A script that is answered
//! differently is made as short as it can be before it is shown, with its seed.

use std::time::Duration;

use bytes::Bytes;
use larder_testkit::frame::{
    self, bind, bind_formats, close_portal, close_statement, copy_data, copy_done, copy_fail,
    describe_portal, describe_statement, execute, flush, function_call, parse, query, sync,
};
use larder_testkit::{Frame, RawClient, Target, Transcript};

use crate::transparency::{Pair, RESET, VERSIONS, compared, pair};

const SCRIPTS: u64 = 150;
/// In mode shadow, where what is new is little.
const SHADOW_SCRIPTS: u64 = 60;
/// How long nothing may come after a Flush before the script goes on. Too short a time makes a test weaker, not wrong.
const QUIET: Duration = Duration::from_millis(4);

/// How long an answer may take, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(10);

const READS: [&str; 8] = [
    "select v from fixed where id = 1",
    "select * from fixed where id < 4 order by id",
    "select count(*) from fixed",
    "/* tag */ select v from fixed where id = 2",
    "select n, v from moving order by id",
    "select sum(n) from moving",
    "select f.v, m.n from fixed f join moving m using (id) order by id",
    "select 1 as one, null as nothing",
];
const WITH_PARAMETER: [&str; 5] = [
    "select v, n, f from fixed where id = $1",
    "select n from moving where id = $1",
    "update moving set n = n + 1 where id = $1 returning n",
    "select v from fixed where id = $1::int limit 1",
    "insert into moving values ($1, 1) on conflict (id) do update set n = moving.n + 1",
];
const OTHERS: [&str; 52] = [
    "begin",
    "begin",
    "begin",
    "begin read only",
    "start transaction isolation level repeatable read",
    "begin isolation level read committed",
    "commit",
    "commit",
    "rollback",
    "rollback",
    "end",
    "savepoint a",
    "rollback to a",
    "release a",
    "commit and chain",
    "update moving set n = n + 1",
    "delete from moving where id = 3",
    "insert into moving values (3, 3) on conflict do nothing",
    "select noisy(1)",
    "select failing()",
    "select 1/0",
    "bogus",
    "",
    "select * from missing",
    "set timezone = 'Asia/Tokyo'",
    "set local timezone = 'UTC'",
    "reset timezone",
    "set extra_float_digits = 0",
    "deallocate all",
    "discard all",
    "select 1; select v from fixed where id = 1; select 2",
    "begin; select 1; commit",
    "show timezone",
    "declare c cursor for select id from fixed",
    "fetch 2 from c",
    "close c",
    "declare h cursor with hold for select id from fixed where id < 3",
    "savepoint b",
    "rollback to b",
    "rollback and chain",
    "set transaction isolation level repeatable read",
    "set session characteristics as transaction isolation level serializable",
    "select set_config('timezone', 'Europe/Paris', false)",
    "select set_config('timezone', 'Europe/Rome', true)",
    "do $$ begin perform set_config('extra_float_digits', '2', false); end $$",
    "reset all",
    "select n from moving where id = 1 for update",
    "with w as (update moving set n = n + 1 returning n) select sum(n) from w",
    "begin; update moving set n = n + 1; rollback",
    "select 1; update moving set n = n + 1; select 1/0; select 2",
    "copy fixed (id, v) to stdout",
    "values (1), (2)",
];
const NAMES: [&str; 3] = ["a", "b", ""];

/// Messages of one write, and how many ReadyForQuery answer them; `None`: as many frames as come.
#[derive(Clone, Debug)]
struct Burst {
    /// Which of the two sessions sends it.
    session: usize,
    messages: Vec<Bytes>,
    ready: usize,
    flushed: bool,
}

struct Maker {
    random: fastrand::Rng,
}

impl Maker {
    fn script(seed: u64) -> Vec<Burst> {
        let mut maker = Self { random: fastrand::Rng::with_seed(seed) };
        let mut script = vec![];
        for _ in 0..maker.random.usize(3..14) {
            let burst = maker.burst();
            let (session, flushed) = (burst.session, burst.flushed);
            script.push(burst);
            if flushed {
                // After an error only Sync makes the server listen again.
                let messages = [maker.extended(), vec![sync()]].concat();
                script.push(Burst { session, messages, ready: 1, flushed: false });
            }
        }
        script
    }

    fn one_of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.random.usize(..texts.len())]
    }

    fn name(&mut self) -> &'static str {
        self.one_of(&NAMES)
    }

    fn text(&mut self) -> String {
        match self.random.u32(..20) {
            0..9 => self.one_of(&READS).into(),
            9..17 => self.one_of(&OTHERS).into(),
            17 => format!("deallocate {}", self.one_of(&["a", "b"])),
            18 => format!("execute {}", self.one_of(&["a", "b"])),
            _ => format!("prepare {} as {}", self.one_of(&["a", "b"]), self.one_of(&READS)),
        }
    }

    /// One or several groups, each answered by one ReadyForQuery, or a group that ends with Flush.
    fn burst(&mut self) -> Burst {
        let groups = if self.random.u32(..5) == 0 { self.random.usize(2..5) } else { 1 };
        let session = usize::from(self.random.u32(..4) == 0);
        let mut burst = Burst { session, messages: vec![], ready: groups, flushed: false };
        for _ in 0..groups {
            match self.random.u32(..20) {
                0..8 => {
                    let text = self.text();
                    burst.messages.push(query(&text));
                }
                8 => match self.random.u32(..3) {
                    0 => burst.messages.push(self.function()),
                    _ => self.copy(&mut burst.messages),
                },
                9 if groups == 1 => {
                    burst.messages = self.extended();
                    burst.messages.push(flush());
                    (burst.flushed, burst.ready) = (true, 0);
                }
                _ => {
                    let mut messages = self.extended();
                    if self.random.u32(..6) == 0 {
                        messages.push(flush());
                        messages.extend(self.extended());
                    }
                    messages.push(sync());
                    burst.messages.extend(messages);
                }
            }
        }
        burst
    }

    fn copy(&mut self, messages: &mut Vec<Bytes>) {
        messages.push(query(self.one_of(&[
            "copy copied from stdin",
            "copy missing from stdin",
            "copy copied (id) from stdin",
        ])));
        messages.push(copy_data(self.one_of(&["1\tone\n", "x\n", "2\n", ""]).as_bytes()));
        messages.push(if self.random.bool() { copy_done() } else { copy_fail("enough") });
    }

    /// A function call message: int4pl (177), pg_backend_pid with an argument too many, one that is none.
    fn function(&mut self) -> Bytes {
        match self.random.u32(..4) {
            0 => function_call(4_000_000, &[]),
            1 => function_call(2026, &[Some("1")]),
            _ => function_call(177, &[Some("1"), Some(self.one_of(&["2", "x"]))]),
        }
    }

    /// What stands between two Syncs: mostly as drivers do it, sometimes anything.
    fn extended(&mut self) -> Vec<Bytes> {
        if self.random.u32(..4) == 0 {
            return (0..self.random.usize(0..6)).map(|_| self.any()).collect();
        }
        let name = self.name();
        let with_parameter = self.random.u32(..3) == 0;
        let text = if with_parameter { self.one_of(&WITH_PARAMETER).to_owned() } else { self.text() };
        let value = self.one_of(&["1", "2", "3", "x"]);
        let formats: &[i16] = if self.random.bool() { &[] } else { &[1] };
        let parameters = if with_parameter { vec![Some(value.as_bytes())] } else { vec![] };
        let bound = bind_formats("", name, &[], &parameters, formats);
        let mut messages = vec![];
        let shape = self.random.u32(..4);
        if shape != 0 {
            messages.push(parse(name, &text, &[]));
        }
        if shape == 1 {
            messages.push(describe_statement(name));
        } else {
            messages.push(bound);
            if self.random.bool() {
                messages.push(describe_portal(""));
            }
            messages.push(execute("", 0));
        }
        if self.random.u32(..8) == 0 {
            messages.push(close_statement(name));
        }
        messages
    }

    fn any(&mut self) -> Bytes {
        let (name, portal) = (self.name(), self.one_of(&["", "", "p"]));
        match self.random.u32(..12) {
            0..3 => parse(name, &self.text(), &[]),
            3 => parse(name, self.one_of(&WITH_PARAMETER), &[]),
            4..6 => bind(portal, name, &[]),
            6 => bind(portal, name, &[Some(self.one_of(&["1", "2"]))]),
            7 => describe_statement(name),
            8 => describe_portal(portal),
            9 => execute(portal, self.random.i32(-1..4)),
            10 => close_statement(name),
            _ => close_portal(portal),
        }
    }
}

/// The frames of each burst. With `counts`, so many are waited for after each one; else what comes.
async fn frames(
    script: &[Burst],
    target: &Target,
    counts: Option<&[usize]>,
) -> Result<Vec<Vec<Frame>>, String> {
    // A session that waits for the other's lock would wait for ever: the other one sends no more until it is answered.
    let login = target.login.clone().parameter("options", "-c lock_timeout=20ms");
    let mut clients = vec![];
    for _ in 0..2 {
        clients.push(RawClient::login(target.addr, &login).await.map_err(|e| e.to_string())?);
    }
    let mut all = vec![];
    for (number, burst) in script.iter().enumerate() {
        let client = &mut clients[burst.session];
        client.send_all(&burst.messages).await.map_err(|e| e.to_string())?;
        let mut got: Vec<Frame> = vec![];
        match counts.map(|counts| counts[number]) {
            Some(count) => {
                client.set_limit(LIMIT);
                while got.len() < count {
                    let Ok(frame) = client.frame().await else {
                        // An error may have made it skip the rest: what came is compared, and the script ends here.
                        all.push(got);
                        return Ok(all);
                    };
                    got.push(frame);
                }
            }
            None if burst.flushed => {
                client.set_limit(QUIET);
                while let Ok(Some(frame)) = client.next().await {
                    got.push(frame);
                }
            }
            None => {
                client.set_limit(LIMIT);
                while got.iter().filter(|frame| frame.tag == b'Z').count() < burst.ready {
                    got.push(
                        client.frame().await.map_err(|e| format!("burst {number}: {e:#} after {got:?}"))?,
                    );
                }
            }
        }
        all.push(got);
    }
    for mut client in clients {
        client.set_limit(LIMIT);
        client.send(frame::terminate()).await.map_err(|e| e.to_string())?;
        all.push(client.until_closed().await.map_err(|e| format!("at the end: {e:#}"))?);
    }
    Ok(all)
}

/// What differs, if anything: one run directly, two through Larder.
async fn differs(pair: &Pair, through: &Target, script: &[Burst]) -> Option<String> {
    let mut reset = RawClient::superuser(pair.larder.addr()).await.unwrap();
    reset.rows(RESET).await.unwrap();
    let direct = match frames(script, &pair.direct(), None).await {
        Ok(direct) => direct,
        // PostgreSQL 15 ends a session that uses a savepoint outside a transaction block in a batch.
        Err(error) if error.contains("unexpected state STARTED") => return None,
        // PostgreSQL 15 can be crashed: every session ends, and it starts anew.
        Err(error) if error.contains("the connection is closed") => {
            eprintln!("directly: {error}");
            recovered(pair).await;
            return None;
        }
        Err(error) => return Some(format!("directly: {error}")),
    };
    let counts: Vec<usize> = direct.iter().map(Vec::len).collect();
    let direct = direct.into_iter().map(Transcript::new);
    let direct: Vec<_> = direct.collect();
    for run in 0..2 {
        reset.rows(RESET).await.unwrap();
        let larder = match frames(script, through, Some(&counts)).await {
            Ok(larder) => larder,
            Err(error) => return Some(format!("through Larder, run {run}: {error}; directly: {direct:?}")),
        };
        for (number, (left, right)) in direct.iter().zip(larder).enumerate() {
            let right = Transcript::new(right);
            if let Some(difference) = left.difference(&right) {
                if excused(left.frames(), right.frames()) {
                    return None;
                }
                return Some(format!("run {run}, burst {number}: {difference}"));
            }
        }
    }
    None
}

/// Waits until the origin, which has crashed, has been up for a while.
async fn recovered(pair: &Pair) {
    let mut answers = 0;
    while answers < 20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let answer = async { RawClient::superuser(pair.larder.addr()).await?.value("select 1").await };
        answers = if answer.await.is_ok() { answers + 1 } else { 0 };
    }
    pair.covered().await;
}

/// A known difference (docs/hazards.md, C), of statements and portals that only Larder has: in a failed transaction one
/// is refused for the transaction, not for what is wrong with its parameters, or though it is only described. And a lock that somebody else holds for a moment
/// (autovacuum, say) is waited for by one of the two.
fn excused(direct: &[Frame], larder: &[Frame]) -> bool {
    let Some(at) = direct.iter().zip(larder).position(|(left, right)| left != right) else { return false };
    let error = |frame: &Frame| frame.tag == b'E';
    let codes = [&direct[at], &larder[at]].map(|frame| frame.field(b'C').filter(|_| error(frame)));
    codes.iter().any(|code| code.as_deref() == Some("55P03"))
        || (codes[1].as_deref() == Some("25P02") && (error(&direct[at]) || direct[at].tag == b'n'))
}

/// The shortest script with the same fault that is found by leaving out messages.
async fn shorten(pair: &Pair, through: &Target, mut script: Vec<Burst>) -> Vec<Burst> {
    let mut again = true;
    while again {
        again = false;
        let mut burst = 0;
        while burst < script.len() {
            let mut shorter = script.clone();
            shorter.remove(burst);
            if differs(pair, through, &shorter).await.is_some() {
                (script, again) = (shorter, true);
            } else {
                burst += 1;
            }
        }
        for burst in 0..script.len() {
            let mut message = 0;
            while message < script[burst].messages.len() {
                let mut shorter = script.clone();
                let left_out = shorter[burst].messages.remove(message);
                let ends = matches!(left_out[0], b'S' | b'Q' | b'c' | b'f' | b'd' | b'H');
                if !ends && differs(pair, through, &shorter).await.is_some() {
                    (script, again) = (shorter, true);
                } else {
                    message += 1;
                }
            }
        }
    }
    script
}

/// Runs so many scripts from this seed on, and tells of those that are answered differently: five at most.
async fn faults(pair: &Pair, through: &Target, seeds: std::ops::Range<u64>) -> Vec<String> {
    let mut faults = vec![];
    for seed in seeds {
        let script = Maker::script(seed);
        if let Some(what) = differs(pair, through, &script).await {
            eprintln!("seed {seed}: {what}");
            let short = shorten(pair, through, script).await;
            let what = differs(pair, through, &short).await.unwrap_or("not any more".into());
            let step =
                |burst: &Burst| format!("{}: {}", burst.session, burst.messages.concat().escape_ascii());
            let steps: Vec<_> = short.iter().map(step).collect();
            faults.push(format!("seed {seed}: {what}\n{}\n", steps.join("\n")));
            if faults.len() >= 5 {
                break;
            }
        }
    }
    faults
}

/// The seeds of so many scripts, unless the environment says others.
fn seeds(scripts: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let first = number("LARDER_TEST_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    first..first + number("LARDER_TEST_SCRIPTS").unwrap_or(scripts)
}

#[tokio::test]
async fn random_scripts() {
    let seeds = seeds(SCRIPTS);
    let scripts = seeds.end - seeds.start;
    for version in VERSIONS {
        let pair = pair(version).await;
        let hits = pair.hits().await;
        let faults = faults(&pair, &pair.through(), seeds.clone()).await;
        assert!(faults.is_empty(), "LARDER_TEST_SEED={} on {version}\n{}", seeds.start, faults.join("\n"));
        let hits = pair.hits().await - hits;
        eprintln!("{version}: {scripts} scripts from seed {}, {hits} hits", seeds.start);
        assert!(scripts < 50 || hits > scripts / 10, "hardly any hits: {hits}");
    }
}

#[tokio::test]
async fn random_scripts_in_the_shadow() {
    let seeds = seeds(SHADOW_SCRIPTS);
    let scripts = seeds.end - seeds.start;
    for version in VERSIONS {
        let pair = pair(version).await;
        let shadow = pair.shadow().await;
        let before = compared(shadow).await;
        let faults = faults(&pair, &Target::superuser(shadow.addr()), seeds.clone()).await;
        assert!(faults.is_empty(), "LARDER_TEST_SEED={} on {version}\n{}", seeds.start, faults.join("\n"));
        let checks = compared(shadow).await - before;
        eprintln!("{version}: {scripts} scripts from seed {} in the shadow, {checks} compared", seeds.start);
        assert!(scripts < 50 || checks > scripts / 10, "hardly anything was compared: {checks}");
        pair.shadow_is_right().await;
    }
}
