//! The load: readers of every shape and writers through Larder, and one writer around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use larder_core::Level;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::ledger::{Ledger, Road, position_of};
use super::session::Session;
use super::shop::{Shape, Target};
use super::stats::Stats;

/// Readers of each shape; dashboards are watched by fewer people.
const READERS: [(Shape, usize); 4] =
    [(Shape::Point, 5), (Shape::List, 4), (Shape::Dashboard, 2), (Shape::Orm, 4)];
const WRITERS: usize = 2;
/// A reader waits this long between two reads. The point is latency: a machine at its limit would measure queues.
const THINK: Duration = Duration::from_millis(4);
/// How often a reader asks the origin directly what it just asked through Larder: the dashboard less often, as it keeps a
/// core busy for a tenth of a second.
const DIRECT_EVERY: Duration = Duration::from_millis(250);
const DASHBOARD_DIRECT_EVERY: Duration = Duration::from_secs(2);
/// Between two writes of a writer: every write drops the answers that read the table.
const WRITE_EVERY: Duration = Duration::from_millis(400);
const AROUND_EVERY: Duration = Duration::from_millis(300);
/// One transaction of this many is rolled back.
const ROLLBACK_ONE_IN: u32 = 8;
/// A write around Larder that is not seen within this time is given up on (and reported as an error).
const LOST_AFTER: Duration = Duration::from_secs(10);

/// What all clients of the load share.
#[derive(Debug)]
pub(super) struct Load {
    /// How to connect.
    pub(super) larder: tokio_postgres::Config,
    pub(super) origin: tokio_postgres::Config,
    /// What is promised.
    pub(super) level: Level,
    pub(super) max_lag: Duration,
    pub(super) ledger: Ledger,
    pub(super) stats: Stats,
    stopping: AtomicBool,
}

impl Load {
    pub(super) fn new(
        larder: tokio_postgres::Config,
        origin: tokio_postgres::Config,
        level: Level,
        max_lag: Duration,
    ) -> Self {
        let (ledger, stats) = (Ledger::new(), Stats::default());
        Self { larder, origin, level, max_lag, ledger, stats, stopping: AtomicBool::new(false) }
    }

    /// Clients end after what they are doing.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The promise for a write holds from its acknowledgement on, or `max_lag` later.
    fn grace(&self, road: Road) -> Duration {
        match (self.level, road) {
            (Level::Linearizable, _) | (Level::Strict, Road::ThroughLarder) => Duration::ZERO,
            _ => self.max_lag,
        }
    }

    /// Notes an acknowledged write: at once, or when its grace is over.
    fn acknowledged(self: &Arc<Self>, target: Target, road: Road, value: i64) {
        let grace = self.grace(road);
        if grace.is_zero() {
            self.ledger.publish(target, road, value);
        } else {
            let load = self.clone();
            tokio::spawn(async move {
                sleep(grace).await;
                load.ledger.publish(target, road, value);
            });
        }
    }
}

/// Runs all clients until [`Load::stop`].
pub(super) async fn run(load: Arc<Load>) {
    let mut clients = JoinSet::new();
    for (shape, count) in READERS {
        for _ in 0..count {
            clients.spawn(client(load.clone(), shape.title(), reader(load.clone(), shape)));
        }
    }
    for _ in 0..WRITERS {
        clients.spawn(client(load.clone(), "writer", writer(load.clone())));
    }
    clients.spawn(client(load.clone(), "writer around Larder", writer_around(load)));
    while clients.join_next().await.is_some() {}
}

async fn client(load: Arc<Load>, name: &'static str, work: impl Future<Output = anyhow::Result<()>>) {
    if let Err(error) = work.await {
        load.stats.failed(format!("{name}: {error:#}"));
    }
}

async fn reader(load: Arc<Load>, shape: Shape) -> anyhow::Result<()> {
    let larder = Session::connect(&load.larder, true).await?;
    let origin = Session::connect(&load.origin, false).await?;
    let direct_every = if shape == Shape::Dashboard { DASHBOARD_DIRECT_EVERY } else { DIRECT_EVERY };
    // Not all at once.
    let mut direct_due = Instant::now() + direct_every.mul_f64(fastrand::f64());
    while !load.is_stopping() {
        let ask = shape.pick();
        let floors = load.ledger.floors(ask);
        let answer = larder.ask(ask).await?;
        load.ledger.check(ask, &floors, &answer.versions, &answer.served);
        load.stats.read_through(shape, &answer);
        if Instant::now() >= direct_due {
            direct_due = Instant::now() + direct_every;
            // As rested as before a read through Larder: a core that has just been busy answers faster.
            sleep(THINK).await;
            load.stats.read_direct(shape, origin.ask(ask).await?.elapsed);
        }
        sleep(THINK).await;
    }
    Ok(())
}

async fn writer(load: Arc<Load>) -> anyhow::Result<()> {
    let larder = Session::connect(&load.larder, true).await?;
    while !load.is_stopping() {
        sleep(WRITE_EVERY.mul_f64(0.5 + fastrand::f64())).await;
        let target = Target::pick();
        if fastrand::u32(0..ROLLBACK_ONE_IN) == 0 {
            larder.client.batch_execute("BEGIN").await?;
            larder.client.batch_execute(&target.update_in_vain()).await?;
            larder.client.batch_execute("ROLLBACK").await?;
            load.stats.rollbacks.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let row = larder.client.query_one(&target.update("version"), &[]).await?;
        let value: i32 = row.try_get(0)?;
        load.acknowledged(target, Road::ThroughLarder, value.into());
        load.stats.writes_through.fetch_add(1, Ordering::Relaxed);
        let mut floors = load.ledger.floors(target.shown_by());
        if load.level != Level::Bounded {
            // The writer itself must see it at once, even where others may see it later.
            floors
                .get_mut(position_of(target))
                .into_iter()
                .for_each(|floor| floor.version = floor.version.max(value.into()));
        }
        let answer = larder.ask(target.shown_by()).await?;
        load.ledger.check(target.shown_by(), &floors, &answer.versions, &answer.served);
        load.stats.read_through(target.shown_by().shape(), &answer);
    }
    Ok(())
}

/// Writes on the origin itself and measures how long it takes until a read through Larder shows it.
async fn writer_around(load: Arc<Load>) -> anyhow::Result<()> {
    let larder = Session::connect(&load.larder, true).await?;
    let origin = Session::connect(&load.origin, false).await?;
    while !load.is_stopping() {
        sleep(AROUND_EVERY.mul_f64(0.5 + fastrand::f64())).await;
        let target = Target::pick();
        let row = origin.client.query_one(&target.update("side_version"), &[]).await?;
        let acknowledged = Instant::now();
        let value: i32 = row.try_get(0)?;
        load.acknowledged(target, Road::AroundLarder, value.into());
        load.stats.writes_around.fetch_add(1, Ordering::Relaxed);
        loop {
            let answer = larder.ask(target.shown_by()).await?;
            let seen = answer.versions.get(position_of(target)).context("the row is missing")?;
            if seen.side_version >= i64::from(value) {
                load.stats.delays.record(answer.arrived.saturating_duration_since(acknowledged));
                break;
            }
            anyhow::ensure!(acknowledged.elapsed() < LOST_AFTER, "a write around Larder is still not seen");
        }
    }
    Ok(())
}
