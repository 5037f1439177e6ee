//! Comparing the origin's answer with the one that was in memory, while it goes by.
//!
//! The same bytes are not kept; from the first frame that differs on, what the origin says is, up to the length of the
//! answer in memory: beyond that the two are different anyway.

use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use larder_cache::{Entry, Moment};
use larder_wire::{Peek, backend, peek};

use super::Session;
use super::expect::Sent;
use crate::plan::Plan;
use crate::reply::Answer;
use crate::verify::{Cause, Doubt};

/// An answer in memory, and as much of the origin's as has come.
#[derive(Debug)]
pub(crate) struct Check {
    entry: Arc<Entry<Answer>>,
    plan: Rc<Plan>,
    /// So many bytes are the same.
    same: usize,
    /// Where the frame begins that those end in.
    frame: usize,
    /// What came instead of the rest, from the beginning of the first frame that differs.
    rest: Option<BytesMut>,
    /// Bytes that came.
    came: usize,
    complete: bool,
}

/// Which errors of the origin say something about the data, or about who may read it, rather than about the moment.
const TELLING: [&[u8]; 2] = [b"22", b"42"];

impl Check {
    pub(crate) fn new(entry: Arc<Entry<Answer>>, plan: Rc<Plan>) -> Box<Self> {
        Box::new(Self { entry, plan, same: 0, frame: 0, rest: None, came: 0, complete: false })
    }

    /// More of the origin's answer: whole frames one by one, or a large one in pieces. `begins`: a frame begins here.
    pub(crate) fn take(&mut self, bytes: &[u8], begins: bool) {
        let known = &self.entry.value.frames;
        self.came += bytes.len();
        if begins && self.rest.is_none() {
            self.frame = self.same;
        }
        match &mut self.rest {
            Some(rest) if self.came <= known.len() => rest.extend_from_slice(bytes),
            Some(rest) => rest.clear(),
            None if known.get(self.same..).is_some_and(|known| known.starts_with(bytes)) => {
                self.same += bytes.len();
            }
            None => {
                let mut rest = BytesMut::from(known.get(self.frame..self.same).unwrap_or_default());
                if self.came <= known.len() {
                    rest.extend_from_slice(bytes);
                }
                self.rest = Some(rest);
            }
        }
    }

    /// The last frame of the answer, a CommandComplete.
    pub(crate) fn take_last(&mut self, frame: &[u8]) {
        self.take(frame, true);
        self.complete = true;
    }

    /// Whether it is the same answer. In which order rows come that no ORDER BY puts in order, or whose order it leaves
    /// open, is PostgreSQL's choice each time: rows are compared as a multiset.
    fn is_same(&self) -> bool {
        let known = &self.entry.value.frames;
        if self.came != known.len() {
            return false;
        }
        let Some(rest) = &self.rest else { return true };
        let (mut here, mut there) = (frames(known.get(self.frame..).unwrap_or_default()), frames(rest));
        here.sort_unstable();
        there.sort_unstable();
        here == there
    }
}

/// The frames in `bytes`; what is none comes last, as a whole.
fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let length = match peek(bytes) {
            Peek::Frame { total, .. } => total.min(bytes.len()),
            Peek::Short | Peek::Invalid => bytes.len(),
        };
        let (frame, rest) = bytes.split_at(length);
        frames.push(frame);
        bytes = rest;
    }
    frames
}

impl Session {
    /// The request has been answered: by the same that was in memory?
    pub(super) fn finish_check(&mut self, sent: &mut Sent) {
        let Some(check) = sent.check.take().filter(|check| check.complete) else { return };
        // In the extended protocol the client is told of the columns apart, before or on the way.
        let columns = check.entry.value.columns.as_ref();
        let others =
            columns.is_some() && sent.prepared.as_ref().is_some_and(|prepared| !prepared.expects(columns));
        let same = check.is_same() && !others;
        self.conclude(&check, same);
    }

    /// It was answered by an error. Some are about the moment (a time limit, a cancel, no memory): those say nothing.
    pub(super) fn fail_check(&mut self, check: &Check, body: &[u8]) {
        let state = backend::error_field(body, b'C').unwrap_or_default();
        if TELLING.iter().any(|class| state.starts_with(class)) {
            self.conclude(check, false);
        }
    }

    fn conclude(&mut self, check: &Check, same: bool) {
        let worker = &self.worker;
        worker.metrics.checked();
        let Some(query) = &check.plan.query else { return };
        query.checked();
        if same {
            return;
        }
        if check.plan.read.as_ref().is_ok_and(|read| read.varies) {
            return worker.metrics.differed(Cause::Varies);
        }
        let complete = Moment::now();
        let doubt = Doubt {
            validity: check.entry.validity(),
            complete,
            age: complete.since(check.entry.stored),
            query: Arc::clone(query),
        };
        if worker.doubts.try_send(doubt).is_err() {
            worker.metrics.differed(Cause::Unjudged);
        }
    }

    /// A frame of a reply that somebody wants a copy of, or the header of a large one.
    pub(super) fn copy_frame(&mut self, frame: &[u8], completes: bool) {
        match self.outstanding.executing().and_then(|sent| sent.check.as_mut()) {
            Some(check) if completes => check.take_last(frame),
            Some(check) => check.take(frame, true),
            None => self.capture(frame, completes),
        }
    }

    /// More of a large frame.
    pub(super) fn copy_piece(&mut self, bytes: &[u8]) {
        match self.outstanding.executing().and_then(|sent| sent.check.as_mut()) {
            Some(check) => check.take(bytes, false),
            None => self.capture(bytes, false),
        }
    }

    /// What is being answered is not one plain result, or came with a notice: it is not to be kept, and says nothing
    /// about what is in memory.
    pub(super) fn abandon_copy(&mut self) {
        self.abandon_fill();
        if let Some(sent) = self.outstanding.executing() {
            sent.check = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use larder_cache::{Fence, Flight, Reader, Store};
    use larder_core::Bypass;
    use larder_sql::Kind;
    use proptest::prelude::*;

    use super::*;

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag], &length[..], body].concat()
    }

    fn entry(frames: Vec<u8>) -> Arc<Entry<Answer>> {
        let hour = Duration::from_secs(3600);
        let fence = Arc::new(Fence::new(hour));
        fence.set_visible(1);
        fence.set_covered(Moment::now());
        let store = Store::new(fence, 1 << 20, 1 << 16);
        let Flight::Lead(guard) = store.join(b"key") else { panic!("nobody else asks") };
        guard.store(Answer { frames: frames.into(), columns: None }, Arc::new([]), hour, hour).unwrap();
        let reader = Reader { now: Moment::now(), heed_marks: false, covered_past: Moment::NEVER };
        store.get(b"key", &reader).unwrap()
    }

    /// What the origin says, each frame whole or in pieces of that size, beside what is known.
    fn is_same(known: &[Vec<u8>], said: &[Vec<u8>], piece: usize) -> bool {
        let plan = Rc::new(Plan::opaque(Kind::Select, Bypass::Empty));
        let mut check = Check::new(entry(known.concat()), plan);
        for frame in said {
            for (index, piece) in frame.chunks(piece).enumerate() {
                check.take(piece, index == 0);
            }
        }
        check.is_same()
    }

    fn answer(rows: &[&str]) -> Vec<Vec<u8>> {
        let rows = rows.iter().map(|row| frame(b'D', row.as_bytes()));
        let done = frame(b'C', format!("SELECT {}\0", rows.len()).as_bytes());
        rows.chain([done]).collect()
    }

    #[test]
    fn rows_are_compared_as_a_multiset() {
        let known = answer(&["one", "two", "two", "six"]);
        for same in [["one", "two", "two", "six"], ["two", "one", "six", "two"], ["six", "two", "two", "one"]]
        {
            assert!(is_same(&known, &answer(&same), 100), "{same:?}");
        }
        for others in [
            &["one", "two", "six", "six"][..],
            &["one", "two", "two", "si"],
            &["one", "two", "two", "sixx"],
            &["one", "two", "two"],
            &["one", "two", "two", "six", "six"],
            &["One", "two", "two", "six"],
            &[],
        ] {
            assert!(!is_same(&known, &answer(others), 100), "{others:?}");
        }
        assert!(is_same(&answer(&[]), &answer(&[]), 100));
        assert!(!is_same(&known, &known[..4], 100), "the end is missing");
    }

    #[test]
    fn what_is_kept_of_another_answer_is_no_more_than_what_is_in_memory() {
        let plan = Rc::new(Plan::opaque(Kind::Select, Bypass::Empty));
        let mut check = Check::new(entry(answer(&["one"]).concat()), plan);
        for _ in 0..1_000 {
            check.take(&frame(b'D', &[b'x'; 100]), true);
            assert!(check.rest.as_ref().is_some_and(|rest| rest.capacity() < 1_000));
        }
        assert!(!check.is_same());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_which_pieces_an_answer_comes(
            known in prop::collection::vec("[ab]{0,6}", 0..5),
            said in prop::collection::vec("[ab]{0,6}", 0..5),
            piece in 1_usize..20,
        ) {
            let of = |rows: &[String]| answer(&rows.iter().map(String::as_str).collect::<Vec<_>>());
            let sorted = |rows: &[String]| { let mut rows = rows.to_vec(); rows.sort(); rows };
            prop_assert_eq!(is_same(&of(&known), &of(&said), piece), sorted(&known) == sorted(&said));
            let mut turned = known.clone();
            turned.reverse();
            prop_assert!(is_same(&of(&known), &of(&turned), piece));
        }
    }
}
