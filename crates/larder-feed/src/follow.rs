//! One stream from its beginning to its end: connect, read the catalog, follow.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_cache::Moment;
use larder_core::{FeedHealth, FeedState, Lsn};
use tokio::sync::watch;

use crate::catalog::{Fingerprint, Loaded};
use crate::control::Control;
use crate::coverage::{Coverage, Sampled, Step};
use crate::decode::Decoder;
use crate::error::Failure;
use crate::fold::{Fold, Folded};
use crate::incarnation::Incarnation;
use crate::index::Index;
use crate::stream::{Message, Slot, Stream};
use crate::{FeedConfig, Plugin, Shared, findings};

/// A walsender that is pinged and says nothing for this long is given up.
const SILENCE: Duration = Duration::from_secs(10);
/// A slot that takes longer to make than this waits for a long transaction.
const SLOT_PATIENCE: Duration = Duration::from_secs(2);
/// Messages taken in before anything else gets its turn.
const BATCH: usize = 4096;

type InFlight = Pin<Box<dyn Future<Output = Result<(Sampled, Option<Fingerprint>), Failure>> + Send>>;

/// A stream that is up.
pub(crate) struct Follower<'a> {
    shared: &'a Shared,
    control: Arc<Control>,
    stream: Stream,
    coverage: Coverage,
    fold: Fold,
    plugin: Plugin,
    index: Index,
    fingerprint: Fingerprint,
    /// Something was changed that could not be attributed: everything cached must die.
    unknown_change: bool,
    /// Up to there row versions in the catalog changed, as by TRUNCATE, without a transaction to review. One that is
    /// still on its way may have changed something, and another changed it back.
    unexplained: Lsn,
    last_message: Moment,
    server_version: i32,
    share: bool,
    /// Whose life is being followed.
    pub(crate) incarnation: Incarnation,
}

impl<'a> Follower<'a> {
    /// Connects, makes a slot, reads the catalog, and begins the epoch in which this stream is complete.
    pub(crate) async fn begin(config: &FeedConfig, shared: &'a Shared) -> Result<Self, Failure> {
        let account = &config.account;
        let control = Control::connect(account).await?;
        let preflight = control.preflight().await?;
        let findings = findings::preflight(account, &preflight);
        if !findings.is_empty() {
            return Err(Failure::Preflight(findings));
        }
        control.publishes(&config.plugin).await?;
        let mut stream = Stream::connect(account).await?;
        let system = stream.identify().await?;
        let slot = create_slot(&mut stream, &config.plugin, shared).await?;
        if !control.sees(&slot).await? {
            return Err(Failure::Preflight(vec![findings::two_servers(account)]));
        }
        let control = Arc::new(control);
        // After the slot was made: see `Coverage::new`.
        let before = control.sample().await?;
        stream.start(&slot, &config.plugin).await?;
        let loaded = control.load(next_version(shared), config.share, &config.plugin).await?;
        let now = Moment::now();
        let coverage =
            Coverage::new(config.max_lag, config.ddl_check, slot.consistent, &before.snapshot, now)
                .shown_ddl(config.plugin.shows_ddl());
        let mut follower = Self {
            shared,
            control,
            stream,
            coverage,
            fold: Fold::new(Decoder::of(&config.plugin)),
            plugin: config.plugin.clone(),
            index: Index::default(),
            fingerprint: loaded.fingerprint.clone(),
            unknown_change: false,
            unexplained: Lsn(0),
            last_message: now,
            server_version: preflight.server_version,
            share: config.share,
            incarnation: Incarnation {
                system: system.system,
                timeline: system.timeline,
                started: preflight.started,
                database: preflight.database,
            },
        };
        follower.adopt(loaded, true);
        shared.health.set(FeedState::Connected);
        Ok(follower)
    }

    /// Follows until something breaks.
    pub(crate) async fn follow(&mut self, config: &mut watch::Receiver<FeedConfig>) -> Failure {
        let mut in_flight: Option<InFlight> = None;
        loop {
            if let Err(failure) = self.turn(&mut in_flight, config).await {
                return failure;
            }
        }
    }

    /// Hands out what is proven, does what is due, and waits for the next event.
    async fn turn(
        &mut self,
        in_flight: &mut Option<InFlight>,
        config: &mut watch::Receiver<FeedConfig>,
    ) -> Result<(), Failure> {
        self.publish();
        let now = Moment::now();
        if now.since(self.last_message) > SILENCE {
            return Err(Failure::Timeout { what: "pings of the walsender", limit: SILENCE });
        }
        let until = match self.coverage.next(now) {
            Step::Sample => {
                *in_flight = Some(self.begin_sample());
                return Ok(());
            }
            Step::Ping => {
                self.stream.report(self.coverage.applied(), true).await?;
                self.coverage.pinged(now);
                return Ok(());
            }
            Step::Nudge => {
                let (control, version) = (Arc::clone(&self.control), self.server_version);
                tokio::spawn(async move { control.nudge(version).await });
                self.coverage.nudged(now);
                return Ok(());
            }
            Step::Wait(until) => until,
        };
        tokio::select! {
            message = self.stream.next() => self.take_in(message?).await,
            sample = arrival(in_flight) => {
                *in_flight = None;
                self.end_sample(sample?).await
            }
            () = self.shared.fence.sample_requested() => {
                self.coverage.request();
                Ok(())
            }
            Ok(()) = config.changed() => {
                let config = config.borrow_and_update();
                self.coverage.set_pace(config.max_lag, config.ddl_check);
                Ok(())
            }
            () = tokio::time::sleep(until.since(now)) => Ok(()),
        }
    }

    /// Touches were made before: readers that see a position or a moment see the touches it stands for.
    fn publish(&self) {
        let fence = &self.shared.fence;
        fence.set_applied(self.coverage.applied().0);
        fence.set_visible(self.coverage.visible().0);
        if self.coverage.covered() > fence.covered() {
            fence.set_covered(self.coverage.covered());
        }
    }

    async fn take_in(&mut self, first: Message) -> Result<(), Failure> {
        self.last_message = Moment::now();
        self.take_one(first).await?;
        for _ in 1..BATCH {
            match self.stream.try_next()? {
                Some(message) => self.take_one(message).await?,
                None => break,
            }
        }
        Ok(())
    }

    async fn take_one(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::Data { start, text } => self.change(start, &text),
            Message::Keepalive { end, reply } => {
                self.coverage.reach(end);
                if reply { self.stream.report(self.coverage.applied(), false).await } else { Ok(()) }
            }
        }
    }

    fn change(&mut self, start: Lsn, text: &[u8]) -> Result<(), Failure> {
        let Shared { tags, health, .. } = self.shared;
        match self.fold.take(text, start, &self.index, tags, health) {
            Folded::Nothing => {}
            Folded::Commit(commit) => {
                if commit.position <= self.coverage.applied() {
                    return Err(Failure::Protocol("a commit that should have come earlier".to_owned()));
                }
                let due = self.coverage.commit(commit.xid, commit.position, commit.review);
                self.unknown_change |= commit.unknown && due;
                if commit.review && !due && commit.position <= self.unexplained {
                    self.coverage.request_review();
                    self.unknown_change = true;
                }
            }
            Folded::Unknown => {
                self.coverage.request_review();
                self.unknown_change = true;
            }
        }
        Ok(())
    }

    fn begin_sample(&mut self) -> InFlight {
        // The order matters: a request that comes after the flag was read is about something that was acknowledged
        // after `start`, and this sample claims nothing about that.
        let start = Moment::now();
        let review = self.shared.fence.take_review_request();
        let compare = self.coverage.begin_sample(start, review);
        let (control, since) = (Arc::clone(&self.control), self.fingerprint.since);
        Box::pin(async move {
            if compare {
                let (sampled, fingerprint) = control.compare(since).await?;
                Ok((sampled, Some(fingerprint)))
            } else {
                Ok((control.sample().await?, None))
            }
        })
    }

    async fn end_sample(&mut self, answer: (Sampled, Option<Fingerprint>)) -> Result<(), Failure> {
        let answered = Moment::now();
        let (sampled, fingerprint) = answer;
        let lag = sampled.position.0.saturating_sub(self.coverage.applied().0);
        self.shared.health.lag_bytes.store(lag, Ordering::Relaxed);
        let mut same = false;
        if let Some(fingerprint) = fingerprint {
            let touched = fingerprint.versions != self.fingerprint.versions;
            if self.fingerprint.differs(&fingerprint)
                || self.unknown_change
                || fingerprint.outlived(&sampled.snapshot)
                || (touched && (!self.plugin.shows_ddl() || self.coverage.reviews(&sampled.snapshot)))
            {
                self.reload().await?;
            } else {
                same = true;
                if touched {
                    self.fingerprint.versions = fingerprint.versions;
                    self.unexplained = sampled.position;
                }
            }
        }
        let review = self.shared.fence.take_review_request();
        self.coverage.end_sample(sampled, review, answered);
        if same {
            // What the comparison's snapshot does not see stays unconfirmed, so all up to there was seen by it. A change that
            // was taken back is not: its commits are reviewed when the stream shows them, which is before this passes them.
            self.shared.fence.set_settled(self.coverage.visible().0);
        }
        Ok(())
    }

    /// Reads the catalog anew. Nothing is taken from the stream meanwhile: what was folded in with the old names lies
    /// before the new floor, what comes after it is folded in with the new ones.
    async fn reload(&mut self) -> Result<(), Failure> {
        self.control.publishes(&self.plugin).await?;
        let loaded = self.control.load(next_version(self.shared), self.share, &self.plugin).await?;
        self.adopt(loaded, false);
        self.last_message = Moment::now();
        Ok(())
    }

    /// Publishes a catalog and begins the epoch that goes with it.
    ///
    /// First the catalog, then the epoch, because a session reads them the other way round: it judges by a catalog,
    /// then takes the epoch for its fill. With this order a session that got the new epoch finds the new catalog
    /// published, and so can tell that it judged by the old one (compare `Catalog::version` after the fill point was
    /// taken, or have it in the key). One that got the old epoch has filled a dead entry. With the opposite order an
    /// answer judged by the old catalog could be kept in the new epoch without anybody being able to notice.
    /// In between, a session with the new catalog can still hit an entry of the old epoch; it is no older than what
    /// the session could have had a moment before, since coverage does not move here: whoever must see the change
    /// (it was acknowledged, so it is marked) misses until coverage has passed it, which is after this.
    fn adopt(&mut self, loaded: Loaded, restart: bool) {
        let Loaded { catalog, index, fingerprint, floor, meaning } = loaded;
        let version = catalog.version;
        self.shared.catalog.store(Some(Arc::new(catalog)));
        let Shared { fence, tags, .. } = self.shared;
        let epoch = if restart { tags.restart(fence, floor.0) } else { fence.begin_epoch(floor.0, false) };
        FeedHealth::count(&self.shared.health.epochs);
        if let Some(meaning) = meaning {
            fence.share(epoch, self.incarnation.to_string().as_bytes(), meaning);
        }
        self.index = index;
        self.fingerprint = fingerprint;
        self.unknown_change = false;
        tracing::info!(version, epoch, %floor, restart, "catalog read");
    }
}

/// A slot has to wait for every running transaction: when that takes long, the operator is told what it waits for.
async fn create_slot(stream: &mut Stream, plugin: &Plugin, shared: &Shared) -> Result<Slot, Failure> {
    let mut making = std::pin::pin!(stream.create_slot(plugin));
    match tokio::time::timeout(SLOT_PATIENCE, &mut making).await {
        Ok(slot) => slot,
        Err(_) => {
            let finding = findings::slot_waits();
            tracing::warn!(remedy = finding.remedy, "{}", finding.problem);
            shared.health.set(FeedState::Disconnected { findings: vec![finding], retry_in: Duration::ZERO });
            making.await
        }
    }
}

fn next_version(shared: &Shared) -> u64 {
    shared.catalog.load().as_ref().map_or(1, |catalog| catalog.version + 1)
}

async fn arrival(in_flight: &mut Option<InFlight>) -> Result<(Sampled, Option<Fingerprint>), Failure> {
    match in_flight {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
