//! The frame: one byte of type, four bytes of length (which count themselves), a body.

/// Bytes before the body.
pub const HEADER: usize = 5;

/// What stands at the front of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peek {
    /// Not even a header yet.
    Short,
    /// A header; the frame has `total` bytes, header included, which may not all be there yet.
    Frame {
        /// The message type.
        tag: u8,
        /// Bytes of the whole frame, header included.
        total: usize,
    },
    /// The length is impossible (below four, or negative).
    Invalid,
}

/// Looks at the frame that starts at the front of `buffer`.
#[inline]
pub fn peek(buffer: &[u8]) -> Peek {
    let &[tag, a, b, c, d, ..] = buffer else { return Peek::Short };
    let length = i32::from_be_bytes([a, b, c, d]);
    match usize::try_from(length) {
        Ok(length) if length >= 4 => Peek::Frame { tag, total: length + 1 },
        _ => Peek::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_tells_the_size_of_the_whole_frame() {
        assert_eq!(peek(b"S\0\0\0"), Peek::Short);
        assert_eq!(peek(b"S\0\0\0\x04"), Peek::Frame { tag: b'S', total: 5 });
        assert_eq!(peek(b"Q\0\0\0\x08abc\0more"), Peek::Frame { tag: b'Q', total: 9 });
        assert_eq!(peek(b"Q\0\0\0\x03"), Peek::Invalid);
        assert_eq!(peek(b"Q\xff\xff\xff\xff"), Peek::Invalid);
    }
}
