//! What is kept of an origin's reply.

use std::cell::RefCell;

use bytes::{Buf, BufMut, Bytes};
use larder_cache::Weigh;
use larder_wire::{Peek, peek};

/// An answer, ready to be copied to a client.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Simple protocol: RowDescription, DataRows, CommandComplete. Extended: DataRows, CommandComplete.
    pub(crate) frames: Bytes,
    /// Extended protocol: what the rows' columns are (`RowDescription` with all formats zero), if that is known. The
    /// answer is for clients that expect these columns: DDL that has not been noticed yet may have changed them.
    pub(crate) columns: Option<Bytes>,
}

impl Answer {
    /// As the shared tier keeps it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let columns = self.columns.as_deref().unwrap_or_default();
        let mut out = Vec::with_capacity(4 + columns.len() + self.frames.len());
        out.put_u32(u32::try_from(columns.len()).unwrap_or(u32::MAX));
        out.put_slice(columns);
        out.put_slice(&self.frames);
        out
    }

    /// From the shared tier. `None` if it is not one whole result: whoever wrote it, no client's protocol may break by it.
    pub(crate) fn decode(mut bytes: Bytes) -> Option<Self> {
        let length =
            usize::try_from(bytes.try_get_u32().ok()?).ok().filter(|length| *length <= bytes.len())?;
        let columns = bytes.split_to(length);
        let described = columns.is_empty() || frames(&columns).eq([Some(b'T')]);
        // Exact copies, as of answers that were captured: what they were cut out of is larger.
        let columns = (!columns.is_empty()).then(|| Bytes::copy_from_slice(&columns));
        (described && is_one_result(&bytes)).then(|| Self { frames: Bytes::copy_from_slice(&bytes), columns })
    }
}

/// RowDescription or none, rows, CommandComplete.
fn is_one_result(bytes: &[u8]) -> bool {
    let mut frames = frames(bytes).peekable();
    frames.next_if_eq(&Some(b'T'));
    while frames.next_if_eq(&Some(b'D')).is_some() {}
    frames.eq([Some(b'C')])
}

/// The types of frames; `None` for what is not a whole one, after which there is nothing.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Option<u8>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let whole = match peek(bytes) {
            Peek::Frame { tag, total } => bytes.split_at_checked(total).map(|(_, rest)| (tag, rest)),
            Peek::Short | Peek::Invalid => None,
        };
        let (tag, rest) = whole.map_or((None, &[][..]), |(tag, rest)| (Some(tag), rest));
        bytes = rest;
        Some(tag)
    })
}

impl Weigh for Answer {
    fn weight(&self) -> usize {
        self.frames.len() + self.columns.as_ref().map_or(0, Bytes::len)
    }
}

/// What the origin said about a statement when it was prepared or described. Belongs to one plan, so to one epoch.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    /// The origin accepted `Parse`.
    pub(crate) parsed: bool,
    /// `ParameterDescription` frame.
    pub(crate) parameters: Option<Bytes>,
    /// `RowDescription` frame with all formats zero.
    pub(crate) columns: Option<Bytes>,
    /// The last portal description made from `columns`: result formats and frame. Clients rarely vary them.
    portal: RefCell<Option<(Box<[u8]>, Bytes)>>,
}

impl Shape {
    /// The description of a portal with these result formats (count and codes, as in `Bind`).
    pub(crate) fn portal(&self, formats: &[u8]) -> Option<Bytes> {
        if let Some((known, frame)) = &*self.portal.borrow()
            && **known == *formats
        {
            return Some(frame.clone());
        }
        let frame = larder_wire::backend::with_formats(self.columns.as_ref()?, formats)?;
        *self.portal.borrow_mut() = Some((formats.into(), frame.clone()));
        Some(frame)
    }

    /// Keeps the columns that the origin told last, and returns them: equal ones are the same bytes in memory.
    pub(crate) fn learn_columns(&mut self, columns: Option<Bytes>) -> Option<Bytes> {
        if self.columns != columns {
            self.columns = columns;
            self.portal.take();
        }
        self.columns.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag], &length[..], body].concat()
    }

    fn answer(frames: &[Vec<u8>], columns: Option<Vec<u8>>) -> Answer {
        Answer { frames: frames.concat().into(), columns: columns.map(Bytes::from) }
    }

    fn again(answer: &Answer) -> Option<(Bytes, Option<Bytes>)> {
        Answer::decode(answer.encode().into()).map(|answer| (answer.frames, answer.columns))
    }

    #[test]
    fn results_come_back_as_they_were() {
        let (t, d, c) = (frame(b'T', b"columns"), frame(b'D', b"row"), frame(b'C', b"SELECT 2\0"));
        for whole in [
            answer(&[t.clone(), d.clone(), d.clone(), c.clone()], None),
            answer(&[d.clone(), c.clone()], Some(t.clone())),
            answer(std::slice::from_ref(&c), Some(t.clone())),
        ] {
            assert_eq!(again(&whole), Some((whole.frames.clone(), whole.columns.clone())));
        }
        let z = frame(b'Z', b"I");
        for broken in [
            answer(&[], None),
            answer(std::slice::from_ref(&d), None),
            answer(&[c.clone(), d.clone()], None),
            answer(&[c.clone(), c.clone()], None),
            answer(&[d.clone(), t.clone(), c.clone()], None),
            answer(&[d.clone(), c.clone(), z.clone()], None),
            answer(std::slice::from_ref(&c), Some(d.clone())),
            answer(std::slice::from_ref(&c), Some([t.clone(), t].concat())),
            answer(&[d[..6].to_vec()], None),
            answer(&[c, vec![b'Z']], None),
        ] {
            assert_eq!(again(&broken), None, "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_can_be_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(answer) = Answer::decode(bytes.clone().into()) {
                prop_assert_eq!(answer.encode(), bytes);
            }
        }
    }
}
