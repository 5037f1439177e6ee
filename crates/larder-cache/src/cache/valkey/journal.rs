//! Reading the journal of invalidations: what other processes have invalidated is dropped here, and when that is known to
//! be all up to some moment, the fence covers that moment.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::Value;
use tokio::sync::watch;

use super::Parts;
use super::teller::EVERYTHING;
use crate::Moment;

/// Read at a time.
const BATCH: usize = 1000;
/// Between attempts; and between reads where nothing can wait for news (a cluster's connections must not be blocked).
const RETRY: Duration = Duration::from_millis(25);
/// How long to wait for news at the server.
const BLOCK: Duration = Duration::from_secs(1);

/// Where a reader is: the entry that it has read last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place(String);

/// What a read brought.
enum Read {
    /// These entries follow the last one known.
    News { place: Place, entries: Vec<(String, Vec<String>)>, more: bool },
    /// The last one known is not there any more, or what is there is not understood.
    Gap,
    /// Nothing is known.
    Unreachable,
}

/// Follows the journal until the tier is dropped.
pub(super) async fn follow(parts: Weak<Parts>, places: watch::Sender<Option<Place>>) {
    loop {
        let Some(parts) = parts.upgrade() else { return };
        let began = Moment::now();
        let mut place = places.borrow().clone();
        let more = turn(&parts, &mut place).await;
        places.send_if_modified(|known| std::mem::replace(known, place.clone()) != place);
        let pause = match more {
            Some(true) => continue,
            Some(false) => {
                // Everything that was invalidated before the read began has been told.
                parts.fence.set_covered(began);
                parts.max_silence / 4
            }
            None => RETRY,
        };
        let pause = if parts.connection.can_block() { pause } else { pause.min(RETRY) };
        let fence = Arc::clone(&parts.fence);
        drop(parts);
        tokio::select! {
            () = fence.sample_requested() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Waits at the server for news and has it read. What it hears is only a hint.
pub(super) async fn listen(parts: Weak<Parts>, mut places: watch::Receiver<Option<Place>>) {
    loop {
        let place = places.borrow_and_update().clone();
        let heard = match (place, parts.upgrade()) {
            (_, None) => return,
            (Some(Place(id)), Some(parts)) if parts.connection.can_block() => {
                let mut command = redis::cmd("XREAD");
                command
                    .arg("BLOCK")
                    .arg(BLOCK.as_millis().to_string())
                    .arg("STREAMS")
                    .arg(journal(&parts))
                    .arg(id);
                let heard = parts.listening.wait_for(&command, BLOCK).await;
                if matches!(heard, Some(Value::Array(_))) {
                    parts.fence.request_sample();
                }
                heard
            }
            _ => Some(Value::Okay),
        };
        match heard {
            // Silence.
            Some(Value::Nil) => {}
            None => tokio::time::sleep(RETRY).await,
            // Until that has been read, or until there is a place to wait at.
            Some(_) => {
                if places.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Reads on. Whether there is more to read; `None` if the journal could not be read.
async fn turn(parts: &Parts, place: &mut Option<Place>) -> Option<bool> {
    let Some(known) = place else {
        *place = Some(begin(parts).await?);
        // Nobody knows what happened before.
        parts.drop_everything_here();
        return Some(false);
    };
    match read(parts, known).await {
        Read::News { place: now, entries, more } => {
            for (namespace, tags) in entries {
                parts.tell_here(&namespace, &tags, None);
            }
            *place = Some(now);
            Some(more)
        }
        Read::Gap => {
            // The versions of tags may have been taken back with it: replace those that every record has.
            parts.drop_everything_here();
            for namespace in parts.namespaces() {
                let everything = std::iter::once(EVERYTHING.to_owned());
                parts.teller.tell(&namespace, everything).await.ok()?;
            }
            *place = None;
            Some(true)
        }
        Read::Unreachable => None,
    }
}

/// An entry of our own to begin from: so there is always one whose absence shows a gap.
async fn begin(parts: &Parts) -> Option<Place> {
    let mut command = redis::cmd("XADD");
    command.arg(journal(parts)).arg("MAXLEN").arg("~").arg(super::teller::JOURNAL_LENGTH).arg("*");
    command.arg("hello").arg("");
    match parts.connection.ask(&command).await? {
        Value::BulkString(id) => String::from_utf8(id).ok().map(Place),
        _ => None,
    }
}

async fn read(parts: &Parts, known: &Place) -> Read {
    let mut command = redis::cmd("XRANGE");
    command.arg(journal(parts)).arg(&known.0).arg("+").arg("COUNT").arg(BATCH);
    let Some(answer) = parts.connection.ask(&command).await else { return Read::Unreachable };
    let Value::Array(found) = answer else { return Read::Gap };
    let more = found.len() == BATCH;
    let mut found = found.into_iter().map(entry);
    let Some(Some((first, _))) = found.next() else { return Read::Gap };
    if first != known.0 {
        return Read::Gap;
    }
    let (mut place, mut entries) = (known.clone(), Vec::new());
    for entry in found {
        let Some((id, fields)) = entry else { return Read::Gap };
        if let Some(sealed) = fields {
            let Some((teller, namespace, tags)) = super::teller::open(parts, sealed) else {
                return Read::Gap;
            };
            // What this process has told it has done already.
            if teller != parts.id {
                entries.push((namespace, tags));
            }
        }
        place = Place(id);
    }
    Read::News { place, entries, more }
}

/// The entry's id, and what it says; a greeting says nothing.
fn entry(value: Value) -> Option<(String, Option<Vec<u8>>)> {
    let Value::Array(mut parts) = value else { return None };
    let (fields, id) = (parts.pop()?, parts.pop()?);
    let (Value::BulkString(id), Value::Array(mut fields)) = (id, fields) else { return None };
    let (said, name) = (fields.pop()?, fields.pop()?);
    let (Value::BulkString(name), Value::BulkString(said)) = (name, said) else { return None };
    let id = String::from_utf8(id).ok()?;
    match &*name {
        b"hello" => Some((id, None)),
        b"told" => Some((id, Some(said))),
        _ => None,
    }
}

pub(super) fn journal(parts: &Parts) -> String {
    // One for each secret: what others have sealed could not be read.
    parts.name_of(&parts.sealer.key(&[b"journal"]))
}
