//! Telling others: new versions for the tags, then an entry in the journal. One task does it, in the order of the calls, several
//! calls at a time; what does not get through is kept, merged, and tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use redis::Value;
use tokio::sync::{Notify, oneshot};

use super::Parts;
use super::journal::journal;
use super::record::new_version;
use crate::cache::error::NotPropagated;

/// Entries that the journal keeps, about: a process that has fallen further behind drops everything.
pub(super) const JOURNAL_LENGTH: usize = 10_000;
/// Tags that wait to be told, per namespace; with more, everything is invalidated.
const WAITING_MAX: usize = 10_000;
/// Longest life of a version that nobody replaces or needs. Records whose version is gone are misses.
const VERSION_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Between attempts.
const RETRY: Duration = Duration::from_millis(100);
/// Versions that are replaced at a time.
const AT_A_TIME: usize = 64;

/// The tag that every record has.
pub(crate) const EVERYTHING: &str = "\0everything";

/// Tags by namespace.
type Tags = BTreeMap<String, BTreeSet<String>>;

#[derive(Debug, Default)]
struct Waiting {
    tags: Tags,
    callers: Vec<oneshot::Sender<bool>>,
}

/// The near end.
#[derive(Debug, Clone)]
pub(crate) struct Teller(Arc<Orders>);

#[derive(Debug, Default)]
pub(crate) struct Orders {
    waiting: Mutex<Waiting>,
    bell: Notify,
}

impl Teller {
    pub(super) fn new() -> (Self, Arc<Orders>) {
        let orders = Arc::<Orders>::default();
        (Self(Arc::clone(&orders)), orders)
    }

    /// Resolves when the others can know; an error if the first attempt fails.
    pub(crate) async fn tell(
        &self,
        namespace: &str,
        tags: impl Iterator<Item = String>,
    ) -> Result<(), NotPropagated> {
        let (caller, told) = oneshot::channel();
        {
            let mut waiting = self.0.waiting.lock();
            waiting.add(namespace, tags);
            waiting.callers.push(caller);
        }
        self.0.bell.notify_one();
        if told.await == Ok(true) { Ok(()) } else { Err(NotPropagated) }
    }
}

impl Orders {
    fn put_back(&self, tags: Tags) {
        let mut waiting = self.waiting.lock();
        tags.into_iter().for_each(|(namespace, tags)| waiting.add(&namespace, tags.into_iter()));
    }
}

impl Waiting {
    fn add(&mut self, namespace: &str, tags: impl Iterator<Item = String>) {
        let known = self.tags.entry(namespace.to_owned()).or_default();
        known.extend(tags);
        if known.len() > WAITING_MAX {
            *known = BTreeSet::from([EVERYTHING.to_owned()]);
        }
    }
}

/// Tells until the tier is dropped.
pub(super) async fn run(parts: Weak<Parts>, orders: Arc<Orders>) {
    loop {
        let Waiting { tags, callers } = std::mem::take(&mut *orders.waiting.lock());
        if tags.is_empty() {
            orders.bell.notified().await;
            continue;
        }
        let Some(here) = parts.upgrade() else { return };
        let done = tell(&here, &tags).await.is_some();
        drop(here);
        for caller in callers {
            let _ = caller.send(done);
        }
        if !done {
            orders.put_back(tags);
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// New versions first: whoever has read the journal must not find old ones.
async fn tell(parts: &Parts, tags: &Tags) -> Option<()> {
    let each = tags.iter().flat_map(|(namespace, tags)| tags.iter().map(move |tag| (namespace, tag)));
    let replacing: Vec<redis::Cmd> =
        each.map(|(namespace, tag)| set_version(parts, namespace, tag)).collect();
    // A few at a time, so that each is answered within its time.
    let mut replaced = stream::iter(replacing)
        .map(|command| async move { parts.connection.ask(&command).await })
        .buffer_unordered(AT_A_TIME);
    while let Some(answer) = replaced.next().await {
        answer?;
    }
    for (namespace, tags) in tags {
        let seal = |tags: Vec<&str>| {
            parts.sealer.seal(&[b"journal"], &rmp_serde::to_vec(&(parts.id, namespace, tags)).ok()?)
        };
        // What is too long to be told one by one drops everything from the others' memories.
        let sealed = seal(tags.iter().map(String::as_str).collect()).or_else(|| seal(vec![EVERYTHING]))?;
        let mut command = redis::cmd("XADD");
        command.arg(journal(parts)).arg("MAXLEN").arg("~").arg(JOURNAL_LENGTH).arg("*");
        command.arg("told").arg(&sealed[..]);
        let Value::BulkString(_) = parts.connection.ask(&command).await? else { return None };
    }
    Some(())
}

fn set_version(parts: &Parts, namespace: &str, tag: &str) -> redis::Cmd {
    let mut command = redis::cmd("SET");
    command.arg(parts.name_of(&parts.version_key(namespace, tag))).arg(&new_version());
    command.arg("PX").arg(VERSION_LIFE.as_millis().to_string());
    command
}

/// What an entry of the journal says: who, where, what. `None` if it cannot be read.
pub(super) fn open(parts: &Parts, sealed: Vec<u8>) -> Option<(u64, String, Vec<String>)> {
    let plain = parts.sealer.open(&[b"journal"], sealed.into())?;
    rmp_serde::from_slice(&plain).ok()
}

/// The version of a tag, made if there is none.
pub(super) async fn version(parts: &Parts, namespace: &str, tag: &str) -> Option<super::record::Version> {
    use crate::tier::Tier as _;
    let key = parts.version_key(namespace, tag);
    for _ in 0..2 {
        if let Some(found) = parts.connection.get(&key, false).await {
            return (&found[..]).try_into().ok();
        }
        // Absent, or late. If another makes one at the same time, the next look finds the other's.
        let mut command = set_version(parts, namespace, tag);
        command.arg("NX");
        parts.connection.ask(&command).await?;
    }
    None
}
