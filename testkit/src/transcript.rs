//! What a server answered, in a form two servers' answers can be compared in.

use std::fmt::{self, Write as _};

use bytes::{BufMut, Bytes, BytesMut};

use crate::frame::Frame;

/// A list of frames with what differs from session to session masked: the content of BackendKeyData, and the sender's
/// process number in NotificationResponse. All other bytes are as they came.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Transcript(Vec<Frame>);

impl Transcript {
    /// Masks frames.
    #[must_use]
    pub fn new(frames: impl IntoIterator<Item = Frame>) -> Self {
        Self(frames.into_iter().map(mask).collect())
    }

    /// The masked frames.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.0
    }

    /// The types of the frames, as text: `TDCZ`.
    #[must_use]
    pub fn tags(&self) -> String {
        self.0.iter().map(|f| char::from(f.tag)).collect()
    }

    /// Also masks the table's OID of each column in RowDescription, for scripts that make tables.
    #[must_use]
    pub fn without_table_oids(mut self) -> Self {
        for frame in self.0.iter_mut().filter(|f| f.tag == b'T') {
            frame.body = zero_table_oids(&frame.body).unwrap_or_else(|| frame.body.clone());
        }
        self
    }

    /// The first difference from another transcript, with the frames before it; `None` if there is none.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        let longest = self.0.len().max(other.0.len());
        let at = (0..longest).find(|i| self.0.get(*i) != other.0.get(*i))?;
        let mut text = format!("frame {at} differs; before it came {}\n", Self(self.0[..at].to_vec()).tags());
        for (side, frames) in [("left", &self.0), ("right", &other.0)] {
            match frames.get(at) {
                Some(frame) => writeln!(text, "{side}: {frame:?}").unwrap(),
                None => writeln!(text, "{side}: nothing").unwrap(),
            }
        }
        Some(text)
    }
}

impl fmt::Debug for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

fn mask(frame: Frame) -> Frame {
    let masked = match frame.tag {
        b'K' => Bytes::from(vec![0; frame.body.len()]),
        b'A' if frame.body.len() >= 4 => {
            let mut body = BytesMut::zeroed(4);
            body.put_slice(&frame.body[4..]);
            body.freeze()
        }
        _ => return frame,
    };
    Frame { tag: frame.tag, body: masked }
}

/// Each column is a name, the table's OID and 14 more bytes.
fn zero_table_oids(body: &[u8]) -> Option<Bytes> {
    let mut out = BytesMut::from(body);
    let mut at = 2;
    while at < body.len() {
        at += body.get(at..)?.iter().position(|b| *b == 0)? + 1;
        out.get_mut(at..at + 4)?.fill(0);
        at += 18;
    }
    Some(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tag: u8, body: &'static [u8]) -> Frame {
        Frame { tag, body: Bytes::from_static(body) }
    }

    #[test]
    fn only_what_is_volatile_is_masked() {
        let one = [frame(b'K', b"12345678"), frame(b'A', b"0001ch\0x\0"), frame(b'Z', b"I")];
        let two = [frame(b'K', b"abcdefgh"), frame(b'A', b"0002ch\0x\0"), frame(b'Z', b"I")];
        assert_eq!(Transcript::new(one.clone()), Transcript::new(two));
        let other = [frame(b'K', b"12345678"), frame(b'A', b"0001ch\0y\0"), frame(b'Z', b"I")];
        let difference = Transcript::new(one).difference(&Transcript::new(other)).unwrap();
        assert!(difference.starts_with("frame 1 differs; before it came K\n"), "{difference}");
    }

    #[test]
    fn table_oids_are_masked_on_demand() {
        let one = Transcript::new([frame(b'T', b"\0\x02a\0OID1--------------b\0OID1--------------")]);
        let two = Transcript::new([frame(b'T', b"\0\x02a\0OID2--------------b\0OID2--------------")]);
        assert_ne!(one, two);
        assert_eq!(one.without_table_oids(), two.without_table_oids());
    }
}
