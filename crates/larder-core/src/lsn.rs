use std::fmt;
use std::str::FromStr;

/// A position in the origin's write-ahead log, in bytes, printed as PostgreSQL does (`16/B374D848`).
///
/// Comparable only within one incarnation of the origin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Size of a WAL page (`XLOG_BLCKSZ`), in bytes, in every packaged build of PostgreSQL.
    const PAGE: u64 = 8192;
    /// `SizeOfXLogShortPHD` and `SizeOfXLogLongPHD`: the header that opens a WAL page, and a segment.
    const PAGE_HEADER: u64 = 24;
    const SEGMENT_HEADER: u64 = 40;

    /// The position that logical decoding can report for an *insert* position.
    ///
    /// Right after a page or segment switch `pg_current_wal_insert_lsn()` lies just behind a page header, a
    /// position that the feed never reports because the last record ended at the start of that page.
    #[must_use]
    pub fn before_page_header(self) -> Self {
        let offset = self.0 % Self::PAGE;
        if offset == Self::PAGE_HEADER || offset == Self::SEGMENT_HEADER {
            Self(self.0 - offset)
        } else {
            self
        }
    }
}

/// The text is not two hexadecimal numbers joined by a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseLsnError(pub String);

impl fmt::Display for ParseLsnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not a log position (expected the form 16/B374D848)", self.0)
    }
}

impl std::error::Error for ParseLsnError {}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || ParseLsnError(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(fail)?;
        let high = u32::from_str_radix(high, 16).map_err(|_| fail())?;
        let low = u32::from_str_radix(low, 16).map_err(|_| fail())?;
        Ok(Self(u64::from(high) << 32 | u64::from(low)))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_the_text_form() {
        let lsn: Lsn = "16/B374D848".parse().unwrap();
        assert_eq!(lsn.0, 0x16_B374_D848);
        assert_eq!(lsn.to_string(), "16/B374D848");
        for bad in ["", "16", "x/1", "1/100000000", "1/2/3"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_insert_position_behind_a_page_header_is_the_page_start() {
        assert_eq!(Lsn(0x4000 + 24).before_page_header(), Lsn(0x4000));
        assert_eq!(Lsn(0x100_0000 + 40).before_page_header(), Lsn(0x100_0000));
        assert_eq!(Lsn(0x4000 + 48).before_page_header(), Lsn(0x4000 + 48));
    }
}
