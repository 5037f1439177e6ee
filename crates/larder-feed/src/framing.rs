//! Frames of the PostgreSQL protocol as they come from the server: one type byte, then a 32-bit length that counts
//! itself, then the body.
//!
//! A change can be as long as a row (1 GB), but all that is needed of it is at its beginning. So of a long frame only
//! the first [`KEEP`] bytes are ever held in memory; the rest is discarded as it arrives.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of one body that are kept. A TRUNCATE names all its tables, 128 bytes each at most: 8,000 fit.
pub(crate) const KEEP: usize = 1 << 20;
/// Type byte and length.
const HEADER: usize = 5;

/// One message from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Type byte.
    pub(crate) tag: u8,
    /// The body, at most [`KEEP`] bytes of it.
    pub(crate) body: Bytes,
}

/// Cuts what arrives into frames.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    /// Where bytes from the socket are appended.
    pub(crate) buffer: BytesMut,
    /// Bytes of an over-long frame that are still to come and to be thrown away.
    skip: usize,
}

/// The length field is impossible: not PostgreSQL, or out of step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadLength;

impl Framer {
    /// The next frame, if it is complete (or as complete as it is kept).
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, BadLength> {
        let discard = self.skip.min(self.buffer.len());
        self.buffer.advance(discard);
        self.skip -= discard;
        let Some((&[tag, a, b, c, d], _)) = self.buffer.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = usize::try_from(i32::from_be_bytes([a, b, c, d])).map_err(|_| BadLength)?;
        let body = length.checked_sub(4).ok_or(BadLength)?;
        let kept = body.min(KEEP);
        if self.buffer.len() < HEADER + kept {
            self.buffer.reserve(HEADER + kept - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        let frame = Frame { tag, body: self.buffer.split_to(kept).freeze() };
        self.skip = body - kept;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        out.extend(i32::try_from(body.len() + 4).unwrap().to_be_bytes());
        out.extend(body);
        out
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_arrive() {
        let mut bytes = frame(b'd', b"hello");
        bytes.extend(frame(b'Z', b""));
        let mut framer = Framer::default();
        let mut seen = Vec::new();
        for byte in bytes {
            framer.buffer.extend_from_slice(&[byte]);
            while let Some(frame) = framer.next().unwrap() {
                seen.push((frame.tag, frame.body.to_vec()));
            }
        }
        assert_eq!(seen, [(b'd', b"hello".to_vec()), (b'Z', Vec::new())]);
    }

    #[test]
    fn a_long_frame_is_cut_and_the_next_one_is_found() {
        let mut bytes = frame(b'd', &vec![7; KEEP + 70_000]);
        bytes.extend(frame(b'k', b"next"));
        let mut framer = Framer::default();
        let mut seen = Vec::new();
        let mut longest = 0;
        for chunk in bytes.chunks(8192) {
            framer.buffer.extend_from_slice(chunk);
            longest = longest.max(framer.buffer.len());
            while let Some(frame) = framer.next().unwrap() {
                seen.push((frame.tag, frame.body.len()));
            }
        }
        assert_eq!(seen, [(b'd', KEEP), (b'k', 4)]);
        assert!(longest <= KEEP + 2 * 8192, "{longest} bytes were held");
    }

    #[test]
    fn an_impossible_length_is_an_error() {
        for length in [3_i32, 0, -1, i32::MIN] {
            let mut framer = Framer::default();
            framer.buffer.extend_from_slice(b"d");
            framer.buffer.extend_from_slice(&length.to_be_bytes());
            assert_eq!(framer.next(), Err(BadLength), "{length}");
        }
    }
}
