//! Any sequence of protocol events, in any pieces, leaves a session as a model of it says: the client hears what it
//! would have heard from the origin itself, and what the session believes of the origin is so.
//!
//! The model is an origin in memory (`origin`). Two sessions of one worker, each before an origin of its own, take
//! turns; a third party, the mirror, is another origin that hears the same client directly.
//!
//! A case that failed is kept in `proptest-regressions` beside this crate's manifest, is run before all others from
//! then on, and belongs into the commit that mends it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "for tests only"
)]

mod origin;
mod text;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{BufMut, Bytes, BytesMut};
use larder_cache::Moment;
use larder_core::{Level, relation_tag};
use larder_wire::encode;
use proptest::prelude::*;
use proptest::sample::select;

use self::origin::{Data, Origin};
use self::text::{TEXTS, Text};
use super::Session;
use super::rig::{self, Ends};
use crate::worker::Worker;

#[allow(dead_code, clippy::expect_used, reason = "another crate's tests use all of it")]
#[path = "../../../../larder-sql/tests/it/catalog.rs"]
mod catalog;

/// Something that a client sends.
#[derive(Debug, Clone)]
enum Event {
    Query(&'static str),
    Parse(&'static str, &'static str),
    Bind(&'static str, &'static str),
    Describe(u8, &'static str),
    Execute(&'static str, i32),
    Close(u8, &'static str),
    Sync,
    Flush,
    Function,
    /// COPY with its data, by a simple query or not, and whether it ends well.
    Copy {
        simple: bool,
        well: bool,
    },
}

/// What one client sends in one go, and what happens meanwhile.
#[derive(Debug, Clone)]
struct Burst {
    session: usize,
    events: Vec<Event>,
    /// The sizes of the pieces in which it arrives, over and over.
    pieces: Vec<usize>,
    /// Whether the origin hears a piece before the next one comes.
    prompt: bool,
    /// The feed catches up afterwards.
    feed: bool,
}

fn event() -> impl Strategy<Value = Event> {
    let (name, portal) = (select(vec!["a", "b", ""]), select(vec!["p", "", ""]));
    let text = select(TEXTS.to_vec());
    let target = (any::<bool>(), name.clone(), portal.clone())
        .prop_map(|(statement, name, portal)| if statement { (b'S', name) } else { (b'P', portal) });
    prop_oneof![
        4 => text.clone().prop_map(Event::Query),
        4 => (name.clone(), text).prop_map(|(name, text)| Event::Parse(name, text)),
        4 => (portal.clone(), name).prop_map(|(portal, name)| Event::Bind(portal, name)),
        2 => target.clone().prop_map(|(kind, name)| Event::Describe(kind, name)),
        4 => (portal, 0..4).prop_map(|(portal, limit)| Event::Execute(portal, limit)),
        1 => target.prop_map(|(kind, name)| Event::Close(kind, name)),
        4 => Just(Event::Sync),
        1 => Just(Event::Flush),
        1 => Just(Event::Function),
        1 => any::<(bool, bool)>().prop_map(|(simple, well)| Event::Copy { simple, well }),
    ]
}

/// What drivers send: the way to answers from memory.
fn usual() -> impl Strategy<Value = Vec<Event>> {
    let text = select(vec![TEXTS[0], TEXTS[0], TEXTS[1], TEXTS[3], "begin", "commit", "rollback"]);
    let name = select(vec!["", "a", "b"]);
    (name, text, any::<bool>(), any::<bool>()).prop_map(|(name, text, prepare, describe)| {
        let mut events = vec![];
        if prepare {
            events.push(Event::Parse(name, text));
        }
        events.push(Event::Bind("", name));
        if describe {
            events.push(Event::Describe(b'P', ""));
        }
        events.extend([Event::Execute("", 0), Event::Sync]);
        events
    })
}

fn burst() -> impl Strategy<Value = Burst> {
    let events = prop_oneof![prop::collection::vec(event(), 1..8), usual()].prop_map(complete);
    let pieces = prop_oneof![Just(vec![10_000]), prop::collection::vec(1_usize..40, 1..6)];
    (0_usize..2, events, pieces, any::<bool>(), any::<bool>())
        .prop_map(|(session, events, pieces, prompt, feed)| Burst { session, events, pieces, prompt, feed })
}

/// The client waits for an answer at the end, and begins no COPY in the middle of a batch: skipped, its data would be
/// messages.
fn complete(events: Vec<Event>) -> Vec<Event> {
    let (mut complete, mut open) = (vec![], false);
    for event in events {
        if open && matches!(event, Event::Copy { .. }) {
            complete.push(Event::Sync);
        }
        open = !matches!(event, Event::Query(_) | Event::Function | Event::Copy { .. } | Event::Sync);
        complete.push(event);
    }
    if !matches!(complete.last(), Some(Event::Sync | Event::Flush | Event::Query(_) | Event::Function)) {
        complete.push(Event::Sync);
    }
    complete
}

impl Event {
    fn write(&self, out: &mut BytesMut) {
        let named = |out: &mut BytesMut, name: &str| {
            out.put_slice(name.as_bytes());
            out.put_u8(0);
        };
        match self {
            Self::Query(text) => encode::query(out, text),
            Self::Parse(name, text) => encode::frame(out, b'P', |out| {
                named(out, name);
                named(out, text);
                out.put_i16(0);
            }),
            Self::Bind(portal, name) => encode::frame(out, b'B', |out| {
                named(out, portal);
                named(out, name);
                out.put_slice(&[0; 6]);
            }),
            Self::Describe(kind, name) => encode::frame(out, b'D', |out| {
                out.put_u8(*kind);
                named(out, name);
            }),
            Self::Execute(portal, limit) => encode::frame(out, b'E', |out| {
                named(out, portal);
                out.put_i32(*limit);
            }),
            Self::Close(kind, name) => encode::close(out, *kind, name.as_bytes()),
            Self::Sync => encode::sync(out),
            Self::Flush => encode::frame(out, b'H', |_| {}),
            Self::Function => encode::frame(out, b'F', |out| out.put_slice(&[0; 10])),
            Self::Copy { simple, well } => {
                const COPY: &str = "copy users from stdin";
                if *simple {
                    Self::Query(COPY).write(out);
                } else {
                    let events = [Self::Parse("", COPY), Self::Bind("", ""), Self::Execute("", 0)];
                    events.iter().for_each(|event| event.write(out));
                }
                encode::frame(out, b'd', |out| out.put_slice(b"1\n"));
                encode::frame(out, if *well { b'c' } else { b'f' }, |out| {
                    if !well {
                        named(out, "enough");
                    }
                });
                if !*simple {
                    // Or a later Execute would wait for data that nobody sends.
                    [Self::Sync, Self::Close(b'S', ""), Self::Sync].iter().for_each(|event| event.write(out));
                }
            }
        }
    }
}

/// One client, its session, the origin behind it, and the mirror.
struct Side {
    session: Session,
    ends: Ends,
    origin: Origin,
    mirror: Origin,
}

struct World {
    worker: Rc<Worker>,
    sides: Vec<Side>,
    position: u64,
}

impl World {
    /// To be made in a runtime.
    fn new(level: Level) -> Self {
        let worker = Rc::new(rig::worker(level));
        worker.shared.catalog.store(Some(Arc::new(catalog::catalog())));
        let (data, mirrored) = (Data::default(), Data::default());
        let side = |_| {
            let (session, ends) = rig::session(&worker, "shop");
            Side { session, ends, origin: Origin::new(&data), mirror: Origin::new(&mirrored) }
        };
        let sides = (0..2).map(side).collect();
        let mut world = Self { worker, sides, position: 100 };
        world.catch_up();
        world
    }

    /// The feed has seen everything that was committed, and says so.
    fn catch_up(&mut self) {
        self.position += 1;
        let (fence, catalog) = (&self.worker.shared.fence, catalog::catalog());
        for table in ["users", "orders"] {
            self.worker.shared.tags.get(&relation_tag(catalog::oid(&catalog, table))).touch(self.position);
        }
        let _ = fence.take_review_request();
        fence.set_applied(self.position);
        fence.set_visible(self.position);
        fence.set_covered(Moment::now());
    }

    /// `false`: the answer differs in a way that is documented, and what follows means nothing.
    async fn burst(&mut self, burst: &Burst) -> Result<bool, TestCaseError> {
        let Side { session, ends, origin, mirror } = &mut self.sides[burst.session];
        let mut bytes = BytesMut::new();
        burst.events.iter().for_each(|event| event.write(&mut bytes));
        let failed = mirror.status == b'E';
        let expected = mirror.hear(&bytes);
        let failed = failed || expected.windows(6).any(|part| part == b"Z\0\0\0\x05E");
        let drive = async {
            let (mut rest, mut sizes) = (&bytes[..], burst.pieces.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                ends.say(true, piece).await;
                if burst.prompt || after.is_empty() {
                    answer(ends, origin, &mut sizes).await;
                }
                rest = after;
            }
        };
        rig::serve(session, drive).await;
        let heard = std::mem::take(&mut ends.client.heard);
        if heard != expected && is_documented(&heard, &expected, failed) {
            return Ok(false);
        }
        prop_assert_eq!(
            heard.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "heard, expected"
        );
        check(session, origin, mirror)?;
        if burst.feed {
            self.catch_up();
        }
        Ok(true)
    }
}

/// Bytes of an error of the model.
const FRAME: usize = 29;

/// The difference of docs/hazards.md, C, that concerns statements and portals which only Larder has: in a failed
/// transaction they are refused whatever is asked of them.
fn is_documented(heard: &[u8], expected: &[u8], failed: bool) -> bool {
    let same = heard.iter().zip(expected).take_while(|(left, right)| left == right).count();
    let (_, after) = expected.split_at(same.min(expected.len()));
    let has = |bytes: &[u8], code: &[u8]| bytes.windows(code.len()).any(|part| part == code);
    let (said, expected) = (&heard[same.saturating_sub(FRAME)..], &after[..after.len().min(FRAME)]);
    failed && has(&said[..said.len().min(2 * FRAME)], b"C25P02") && !has(expected, b"C25P02")
}

/// The origin answers all it has heard, in pieces.
async fn answer(ends: &mut Ends, origin: &mut Origin, sizes: &mut impl Iterator<Item = &usize>) {
    loop {
        ends.settle().await;
        let heard = std::mem::take(&mut ends.origin.heard);
        if heard.is_empty() {
            return;
        }
        let answer = origin.hear(&heard);
        let mut rest = &answer[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            ends.say(false, piece).await;
            rest = after;
        }
    }
}

/// Nothing is under way: what the session believes is what the client was told, and what the origin has.
fn check(session: &mut Session, origin: &Origin, mirror: &Origin) -> Result<(), TestCaseError> {
    prop_assert!(!session.blind && !session.lost, "it gave up");
    prop_assert!(session.outstanding.front().is_none(), "{:?}", session.outstanding);
    prop_assert!(session.batch.is_empty());
    prop_assert!(!session.copying_in);
    prop_assert_eq!(session.skipping, mirror.skipping);
    if !session.unsynced && !session.skipping {
        let status = if session.deferred.is_some() { b'T' } else { session.transaction.status };
        prop_assert_eq!(status, mirror.status);
        prop_assert_eq!(session.transaction.status, origin.status);
    }
    let mut known = vec![];
    for prepared in session.statements.all().filter(|prepared| !prepared.uncertain.get()) {
        let text = prepared.text().map(|(text, _)| Text::one(text));
        prop_assert_eq!(text.as_ref(), mirror.statements.get(&prepared.name[..]), "{:?}", prepared.name);
        if prepared.upstream.get() {
            prop_assert_eq!(text.as_ref(), origin.statements.get(&prepared.name[..]), "{:?}", prepared.name);
        }
        known.push(prepared.name.to_vec());
    }
    let unknown = mirror.statements.keys().any(|name| !known.contains(name));
    prop_assert!(
        !unknown || session.statements.others || session.statements.all().any(|p| p.uncertain.get())
    );
    Ok(())
}

proptest! {
    #[test]
    fn any_sequence_of_events(bursts in prop::collection::vec(burst(), 1..12)) {
        rig::runtime().block_on(async {
            let mut world = World::new(Level::Strict);
            for burst in &bursts {
                if !world.burst(burst).await? {
                    break;
                }
            }
            Ok::<_, TestCaseError>(())
        })?;
    }
}

/// Found by the property above, each as short as it gets.
#[test]
fn what_was_found_before() {
    use Event::{Bind, Close, Describe, Execute, Parse, Query, Sync};
    const READ: &str = TEXTS[0];
    let local = || vec![Parse("a", READ), Bind("", "a"), Execute("", 0), Sync];
    let scripts = [
        // What was to replace a statement is refused, but the statement has ended meanwhile.
        vec![vec![Parse("a", READ), Sync], vec![Query("deallocate all"), Parse("a", "selec"), Sync]],
        // Refused twice: the first one that was refused is not what the second has replaced.
        vec![vec![Parse("a", TEXTS[3]), Sync], vec![Parse("a", READ), Sync, Parse("a", READ), Sync]],
        // It is not the refused one that is deallocated, but the one before it.
        vec![local(), vec![Parse("a", READ), Sync, Query("deallocate a"), Query(READ)]],
        // A query on its way ends the unnamed statement, whatever becomes of the named ones.
        vec![vec![Query("deallocate all"), Parse("", READ), Query(READ)]],
        // A query that is skipped ends nothing; nor does a second one.
        vec![
            vec![Parse("", READ), Bind("", ""), Execute("", 0), Sync],
            vec![Describe(b'P', "p"), Query(READ), Sync, Bind("p", "a"), Query(READ)],
            vec![Sync, Bind("", ""), Execute("", 0), Sync],
        ],
        // A skipped statement was never there, whoever is said to have ended it.
        vec![vec![Bind("p", "a"), Parse("", READ), Sync, Bind("p", "a"), Query(READ)]],
        // Known here only, and sent behind an error, so skipped: its name is taken all the same.
        vec![local(), local(), vec![Bind("", "b"), Bind("", "a"), Sync, Parse("a", READ), Sync]],
        // Known here only, and not replaced, because that is skipped.
        vec![
            vec![Parse("", READ), Bind("", ""), Execute("", 0), Sync],
            vec![Parse("", READ), Bind("", ""), Execute("", 0), Sync],
            vec![Bind("", "b"), Parse("", TEXTS[3]), Sync, Bind("", ""), Execute("", 0), Sync],
        ],
        // The same for one that is not closed, or not ended by a query.
        vec![local(), local(), vec![Bind("", "b"), Close(b'S', "a"), Sync, Bind("", "a"), Sync]],
        vec![
            vec![Parse("", READ), Bind("", ""), Execute("", 0), Sync],
            vec![Parse("", READ), Bind("", ""), Execute("", 0), Sync],
            vec![Bind("", "b"), Query(READ), Sync, Bind("", ""), Execute("", 0), Sync],
        ],
        // Run to its end here, and asked for more.
        vec![
            local(),
            vec![Query("begin")],
            vec![Bind("", "a"), Execute("", 0), Sync],
            vec![Describe(b'P', ""), Execute("", 0), Sync],
            vec![Execute("", 1), Sync],
        ],
        // The same for BEGIN, which cannot be run again.
        vec![vec![Parse("", "begin"), Bind("", ""), Execute("", 0), Sync], vec![Execute("", 0), Sync]],
        // A query answered here ends it.
        vec![
            vec![Query(READ), Query("begin")],
            vec![Bind("", "a"), Parse("", READ), Bind("", ""), Execute("", 1), Sync],
            vec![Query(READ)],
            vec![Execute("", 0), Sync],
        ],
        // BEGIN in a transaction that has read here: the origin is told of a query before it.
        vec![
            vec![Parse("", "begin"), Bind("", ""), Execute("", 0), Sync],
            local(),
            vec![Bind("", "a"), Execute("", 0), Sync],
            vec![Bind("", ""), Execute("", 0), Sync],
        ],
    ];
    for (number, script) in scripts.into_iter().enumerate() {
        rig::runtime().block_on(async {
            let mut world = World::new(Level::Strict);
            for events in script {
                let burst = Burst { session: 0, events, pieces: vec![10_000], prompt: false, feed: false };
                assert!(world.burst(&burst).await.unwrap_or_else(|error| panic!("script {number}: {error}")));
            }
        });
    }
}

/// That the property is not about sessions which pass everything on.
#[test]
fn answers_come_from_memory_in_the_model() {
    rig::runtime().block_on(async {
        let mut world = World::new(Level::Strict);
        let read = |session| Burst {
            session,
            events: vec![
                Event::Parse("", TEXTS[0]),
                Event::Bind("", ""),
                Event::Describe(b'P', ""),
                Event::Execute("", 0),
                Event::Sync,
            ],
            pieces: vec![7],
            prompt: true,
            feed: false,
        };
        for session in [0, 0, 1, 1] {
            world.burst(&read(session)).await.unwrap();
        }
        let hits: u64 =
            world.worker.metrics.hit.buckets.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        assert!(hits >= 2, "{hits} hits");
    });
}

/// Whoever waits for the read barrier has nothing running at the origin that a cancel request could end there.
#[test]
fn a_wait_for_the_barrier_can_be_cancelled() {
    let read =
        |events: Vec<Event>| Burst { session: 0, events, pieces: vec![10_000], prompt: false, feed: false };
    rig::runtime().block_on(async {
        let mut world = World::new(Level::Linearizable);
        world.burst(&read(vec![Event::Query(TEXTS[0])])).await.unwrap();
        let key = Bytes::from_static(b"key");
        for begin in [false, true] {
            if begin {
                world.burst(&read(vec![Event::Query("begin")])).await.unwrap();
            }
            let cancels = Arc::clone(&world.worker.cancels);
            let Side { session, ends, origin, .. } = &mut world.sides[0];
            session.seat = Some(cancels.enter(&key));
            // On a loaded machine the wait may be over before it is cancelled.
            let cancelled = async {
                for _ in 0..100 {
                    let mut query = BytesMut::new();
                    encode::query(&mut query, TEXTS[0]);
                    ends.say(true, &query).await;
                    let cancelled = cancels.cancel(&key);
                    answer(ends, origin, &mut [10_000].iter().cycle()).await;
                    let heard = std::mem::take(&mut ends.client.heard);
                    if cancelled {
                        return heard;
                    }
                }
                panic!("it never waits");
            };
            let heard = rig::serve(session, cancelled).await;
            assert!(heard.windows(6).any(|part| part == b"C57014"), "{}", heard.escape_ascii());
            assert!(heard.ends_with(if begin { b"E" } else { b"I" }), "{}", heard.escape_ascii());
            assert_eq!(heard.iter().filter(|byte| **byte == b'Z').count(), 1, "{}", heard.escape_ascii());
        }
    });
}
