//! A cursor over a frame's body. Every read is checked; none panics.

/// Bytes looked at one by one before a string is searched for its end.
const NEAR: usize = 8;

/// What is left to read.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (&first, tail) = self.0.split_first()?;
        self.0 = tail;
        Some(first)
    }

    pub(crate) fn i16(&mut self) -> Option<i16> {
        let (head, tail) = self.0.split_first_chunk::<2>()?;
        self.0 = tail;
        Some(i16::from_be_bytes(*head))
    }

    /// A count. PostgreSQL reads those without a sign: there can be 65,535 parameters.
    pub(crate) fn count(&mut self) -> Option<usize> {
        let (head, tail) = self.0.split_first_chunk::<2>()?;
        self.0 = tail;
        Some(usize::from(u16::from_be_bytes(*head)))
    }

    /// A value with its length before it, or NULL: a length of -1. No other may be negative.
    pub(crate) fn value(&mut self) -> Option<Option<&'a [u8]>> {
        match self.i32()? {
            -1 => Some(None),
            length => self.bytes(usize::try_from(length).ok()?).map(Some),
        }
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        let (head, tail) = self.0.split_first_chunk::<4>()?;
        self.0 = tail;
        Some(i32::from_be_bytes(*head))
    }

    /// A string up to its terminating zero byte, which is consumed and not returned.
    pub(crate) fn cstr(&mut self) -> Option<&'a [u8]> {
        // Names are mostly empty or short: not worth the vector search.
        let (near, _) = self.0.split_at_checked(NEAR).unwrap_or((self.0, &[]));
        let end = match near.iter().position(|byte| *byte == 0) {
            Some(end) => end,
            None => memchr::memchr(0, self.0)?,
        };
        let text = self.bytes(end)?;
        self.u8()?;
        Some(text)
    }

    /// A 16-bit count followed by that many items of `size` bytes, as raw bytes (count included).
    pub(crate) fn counted(&mut self, size: usize) -> Option<&'a [u8]> {
        let start = self.0;
        let count = self.count()?;
        self.bytes(count * size)?;
        start.get(..start.len() - self.0.len())
    }
}
