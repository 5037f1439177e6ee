//! What the tests in `hazards_*.rs` share: the hazards of docs/hazards.md, one by one, in the dangerous case, which is a
//! cache that somebody else has warmed. Every answer is compared with the origin's, frame by frame.

use std::time::{Duration, Instant};

use larder_testkit::{Login, Postgres};

use crate::freshness::{Client, MAX_LAG, Protocol, Rig, SLACK, Served, rows};

/// An origin with this schema, made by its superuser, and Larder before it.
pub(crate) async fn rig(pg: Postgres, schema: &str) -> Rig {
    pg.sql(schema).unwrap();
    Rig::new(pg, &[]).await
}

/// Makes roles that may log in.
pub(crate) const ROLES: &str =
    "CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE guru LOGIN BYPASSRLS;
    CREATE ROLE owner LOGIN; CREATE ROLE staff; GRANT ALL ON SCHEMA public TO owner;";

pub(crate) fn login(user: &str) -> Login {
    Login::new(user, "postgres")
}

/// Two sessions of one user, one through Larder and one direct, that are always told the same.
pub(crate) struct Twins {
    pub(crate) larder: Client,
    pub(crate) direct: Client,
    steps: Vec<String>,
}

impl Twins {
    pub(crate) async fn new(rig: &Rig, login: &Login) -> Self {
        let larder = Client::login(rig.larder.addr(), login).await.unwrap();
        let direct = Client::login(rig.pg.addr(), login).await.unwrap();
        Self { larder, direct, steps: Vec::new() }
    }

    /// Both are asked; their answers are the same.
    #[track_caller]
    pub(crate) fn ask(&mut self, how: Protocol, sql: &str) -> impl Future<Output = Served> + use<'_> {
        let (place, sql) = (std::panic::Location::caller(), sql.to_owned());
        async move {
            let expected = self.direct.try_ask(how, &sql, None).await.unwrap();
            let served = self.larder.ask_with(how, &sql, None).await;
            let steps = &self.steps;
            assert_eq!(served.frames, expected, "{place}: {how:?} {sql}: {}, after {steps:?}", served.how);
            self.steps.push(sql);
            served
        }
    }

    /// The session begins anew: nothing is prepared any more.
    pub(crate) fn forget(&mut self) {
        self.steps.clear();
        for client in [&mut self.larder, &mut self.direct] {
            client.unprepare_all();
        }
    }

    /// A simple query.
    #[track_caller]
    pub(crate) fn run(&mut self, sql: &str) -> impl Future<Output = Served> + use<'_> {
        self.ask(Protocol::Simple, sql)
    }

    /// The same, and from memory in the end.
    #[track_caller]
    pub(crate) fn hit<'s>(
        &'s mut self,
        how: Protocol,
        sql: &'s str,
    ) -> impl Future<Output = Served> + use<'s> {
        let place = std::panic::Location::caller();
        async move {
            self.ask(how, sql).await;
            let expected = self.direct.try_ask(how, sql, None).await.unwrap();
            let served = self.larder.warm(how, sql, None).await;
            let steps = &self.steps;
            assert_eq!(served.frames, expected, "{place}: {how:?} {sql}: {}, after {steps:?}", served.how);
            served
        }
    }

    /// By every protocol: same answers, and from memory in the end.
    pub(crate) async fn hit_by_all(&mut self, sql: &str) {
        for how in Protocol::ALL {
            self.hit(how, sql).await;
        }
    }

    /// By every protocol: same answers, and never from memory, for this reason.
    #[track_caller]
    pub(crate) fn bypassed<'s>(
        &'s mut self,
        sql: &'s str,
        reason: &'s str,
    ) -> impl Future<Output = ()> + use<'s> {
        let place = std::panic::Location::caller();
        async move {
            for how in Protocol::ALL {
                for _ in 0..2 {
                    let served = self.ask(how, sql).await;
                    assert_eq!(served.how, format!("bypass; reason={reason}"), "{place}: {how:?} {sql}");
                }
            }
        }
    }
}

/// Something that changes who may see what: SQL, the SQL that takes it back, the user who reads, and what is read.
pub(crate) type Change = (&'static str, &'static str, &'static str, &'static str);

/// Each change takes effect: at once when it passes through Larder, within `max_lag` when it is made around it. `before`
/// is run by the readers first.
pub(crate) async fn take_effect(rig: &Rig, before: &str, changes: &[Change]) {
    let mut admin = rig.client().await;
    let mut around = rig.direct().await;
    for (change, back, reader, read) in changes {
        let mut twins = Twins::new(rig, &login(reader)).await;
        twins.run(before).await;
        for ddl in [change, back] {
            warm_or_refused(&mut twins, read).await;
            admin.run(ddl).await;
            for how in Protocol::ALL {
                twins.ask(how, read).await;
            }
        }
        for ddl in [change, back] {
            warm_or_refused(&mut twins, read).await;
            around.run(ddl).await;
            let start = Instant::now();
            for how in Protocol::ALL {
                let expected = rows(&twins.direct.try_ask(how, read, None).await.unwrap());
                loop {
                    let found = twins.larder.ask_with(how, read, None).await.rows();
                    if found == expected {
                        break;
                    }
                    assert!(start.elapsed() < MAX_LAG + SLACK, "{ddl}: {found:?}, not {expected:?}");
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
            for how in Protocol::ALL {
                twins.ask(how, read).await;
            }
        }
    }
}

async fn warm_or_refused(twins: &mut Twins, read: &str) {
    for how in Protocol::ALL {
        if twins.ask(how, read).await.rows().is_ok() {
            twins.hit(how, read).await;
        }
    }
}
