//! Dates and times in ISO 8601, as PostgreSQL prints them with `DateStyle = ISO` and reads them whatever it is: four digits of
//! a year after Christ, two of everything else. Counted from 2000, as in the binary format.

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Days from 0000-03-01 to 2000-01-01.
const EPOCH: i64 = 730_425;

/// `2026-11-24`, in days.
pub(super) fn date(text: &[u8]) -> Option<i64> {
    let mut text = Cursor(text);
    let days = text.date()?;
    text.0.is_empty().then_some(days)
}

/// `03:04:05.678`, in microseconds.
pub(super) fn time(text: &[u8]) -> Option<i64> {
    let mut text = Cursor(text);
    let time = text.time()?;
    text.0.is_empty().then_some(time)
}

/// `2026-11-24 03:04:05.678`, also with a `T`, in microseconds.
pub(super) fn timestamp(text: &[u8]) -> Option<i64> {
    let mut text = Cursor(text);
    let at = text.timestamp()?;
    text.0.is_empty().then_some(at)
}

/// `2026-11-24 03:04:05.678+01`, also `+01:30`, `+01:30:07` or `Z`, in microseconds.
pub(super) fn timestamptz(text: &[u8]) -> Option<i64> {
    let mut text = Cursor(text);
    let (at, offset) = (text.timestamp()?, text.offset()?);
    text.0.is_empty().then_some(at - offset)
}

/// What is left to be read.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn date(&mut self) -> Option<i64> {
        let year = self.digits(4)?;
        self.expect(b"-")?;
        let month = self.digits(2)?;
        self.expect(b"-")?;
        let day = self.digits(2)?;
        days(year, month, day)
    }

    fn time(&mut self) -> Option<i64> {
        let hours = self.digits(2).filter(|hours| *hours < 24)?;
        self.expect(b":")?;
        let minutes = self.digits(2).filter(|minutes| *minutes < 60)?;
        self.expect(b":")?;
        let seconds = self.digits(2).filter(|seconds| *seconds < 60)?;
        let mut micros = 0;
        if self.expect(b".").is_some() {
            let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
            // More would be rounded.
            if !(1..=6).contains(&digits) {
                return None;
            }
            micros = (digits..6).fold(self.digits(digits)?, |micros, _| micros * 10);
        }
        Some(((hours * 60 + minutes) * 60 + seconds) * SECOND + micros)
    }

    fn timestamp(&mut self) -> Option<i64> {
        let days = self.date()?;
        self.expect(b" ").or_else(|| self.expect(b"T"))?;
        Some(days * DAY + self.time()?)
    }

    fn offset(&mut self) -> Option<i64> {
        if self.expect(b"Z").is_some() {
            return Some(0);
        }
        let sign = if self.expect(b"+").is_some() { 1 } else { self.expect(b"-").map(|()| -1)? };
        let mut seconds = self.digits(2).filter(|hours| *hours < 16)? * 3600;
        if self.expect(b":").is_some() {
            seconds += self.digits(2).filter(|minutes| *minutes < 60)? * 60;
            if self.expect(b":").is_some() {
                seconds += self.digits(2).filter(|seconds| *seconds < 60)?;
            }
        }
        Some(sign * seconds * SECOND)
    }

    fn expect(&mut self, what: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(what)?;
        Some(())
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        digits
            .iter()
            .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(*byte - b'0')))
    }
}

/// Days from 2000-01-01, in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year == 0 || !(1..=length).contains(&day) {
        return None;
    }
    // Years that begin in March end with the leap day.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let before = year * 365 + year / 4 - year / 100 + year / 400;
    Some(before + (month * 153 + 2) / 5 + day - 1 - EPOCH)
}
