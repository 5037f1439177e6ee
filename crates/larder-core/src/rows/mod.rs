//! Rows told apart by values: the one spelling of a value that a statement's text, a parameter and the change log share.
//!
//! An answer to `... WHERE id = $1` depends on the rows with that `id` alone. To say which those are, the value in the
//! statement and the value in the log must come out the same whenever PostgreSQL's `=` holds between them; that is
//! required of every type here (and the opposite is not: two values that come out the same by accident cost a miss).
//! A type or a spelling that is not certain has no value, and then the answer depends on the whole relation, or the
//! change concerns every row.
//!
//! Statements and parameters are read whatever the session's settings are, so what a setting could give another meaning
//! (`01/02/2026`, a time without the offset of its zone) has no value. The log's spelling depends on settings of the feed's
//! own session, and what it looks like with others has no value either.

mod array;
mod numeric;
mod time;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Types whose equality is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// `smallint`, `integer`, `bigint`: one number, whatever its width.
    Integer,
    /// `numeric`, whatever its scale: 1.0 is 1.00.
    Numeric,
    /// `text` and `varchar` with a deterministic collation, and enums by their labels: equal if the bytes are.
    Text,
    /// `char(n)` with a deterministic collation: blanks at the end do not count.
    Padded,
    /// `bytea`.
    Bytes,
    /// `uuid`.
    Uuid,
    /// `boolean`.
    Boolean,
    /// `date`.
    Date,
    /// `time` without time zone.
    Time,
    /// `timestamp` without time zone.
    Timestamp,
    /// `timestamp` with time zone.
    TimestampTz,
}

/// A value, spelt in the one way. Columns that are compared have the same [`ValueType`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RowValue {
    /// NULL: found by `IS NULL`, and never by `=`.
    Null,
    /// An integer; days of a date and microseconds of a time, as the binary format counts them.
    Integer(i64),
    /// Text, bytes, and the digits of a `numeric`.
    Bytes(Box<[u8]>),
    /// See [`ValueType::Uuid`].
    Uuid([u8; 16]),
    /// See [`ValueType::Boolean`].
    Boolean(bool),
}

impl fmt::Display for RowValue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => out.write_str("NULL"),
            Self::Integer(number) => write!(out, "{number}"),
            Self::Bytes(bytes) => write!(out, "'{}'", bytes.escape_ascii()),
            Self::Uuid(bytes) => write!(out, "{:032x}", u128::from_be_bytes(*bytes)),
            Self::Boolean(value) => write!(out, "{value}"),
        }
    }
}

impl ValueType {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Integer,
        Self::Numeric,
        Self::Text,
        Self::Padded,
        Self::Bytes,
        Self::Uuid,
        Self::Boolean,
        Self::Date,
        Self::Time,
        Self::Timestamp,
        Self::TimestampTz,
    ];

    /// The built-in type with that OID in `pg_type`. Whether texts in a column are equal only if their bytes are, its collation
    /// says: [`crate::catalog::Column::value_type`] heeds that, and knows enums and domains, too.
    pub const fn of_oid(oid: u32) -> Option<Self> {
        match oid {
            16 => Some(Self::Boolean),
            17 => Some(Self::Bytes),
            20 | 21 | 23 => Some(Self::Integer),
            25 | 1043 => Some(Self::Text),
            1042 => Some(Self::Padded),
            1082 => Some(Self::Date),
            1083 => Some(Self::Time),
            1114 => Some(Self::Timestamp),
            1184 => Some(Self::TimestampTz),
            1700 => Some(Self::Numeric),
            2950 => Some(Self::Uuid),
            _ => None,
        }
    }

    /// What is assigned to a column of such a type is what it holds then: it is not rounded or filled up. (Blanks at the end of
    /// a text that is too long are cut off.)
    pub const fn is_stored_as_given(self) -> bool {
        matches!(self, Self::Integer | Self::Text | Self::Bytes | Self::Uuid | Self::Boolean | Self::Date)
    }

    /// A value in a statement or a parameter in text format: as PostgreSQL prints it, or as people write it if that can mean
    /// nothing else.
    pub fn read_text(self, text: &[u8]) -> Option<RowValue> {
        // Other letters are other bytes in another encoding.
        if matches!(self, Self::Text | Self::Padded) && !text.is_ascii() {
            return None;
        }
        self.read_log(text)
    }

    /// A value in the log, where text is in the database's encoding. Letters outside ASCII are never those of a value that
    /// [`ValueType::read_text`] has read: in each encoding of a database they consist of bytes outside ASCII.
    pub fn read_log(self, text: &[u8]) -> Option<RowValue> {
        match self {
            Self::Integer => integer(text).map(RowValue::Integer),
            Self::Numeric => numeric::text(text).map(RowValue::Bytes),
            Self::Text => Some(RowValue::Bytes(text.into())),
            Self::Padded => Some(RowValue::Bytes(trimmed(text).into())),
            Self::Bytes => hex(text.strip_prefix(b"\\x")?).map(RowValue::Bytes),
            Self::Uuid => uuid(text).map(RowValue::Uuid),
            Self::Boolean => match text {
                b"t" | b"true" => Some(RowValue::Boolean(true)),
                b"f" | b"false" => Some(RowValue::Boolean(false)),
                _ => None,
            },
            Self::Date => time::date(text).map(RowValue::Integer),
            Self::Time => time::time(text).map(RowValue::Integer),
            Self::Timestamp => time::timestamp(text).map(RowValue::Integer),
            Self::TimestampTz => time::timestamptz(text).map(RowValue::Integer),
        }
    }

    /// A parameter in binary format.
    pub fn read_binary(self, bytes: &[u8]) -> Option<RowValue> {
        match self {
            Self::Integer => match *bytes {
                [a, b] => Some(i16::from_be_bytes([a, b]).into()),
                [a, b, c, d] => Some(i32::from_be_bytes([a, b, c, d]).into()),
                _ => long(bytes),
            }
            .map(RowValue::Integer),
            Self::Numeric => numeric::binary(bytes).map(RowValue::Bytes),
            Self::Text | Self::Padded => self.read_text(bytes),
            Self::Bytes => Some(RowValue::Bytes(bytes.into())),
            Self::Uuid => bytes.try_into().ok().map(RowValue::Uuid),
            Self::Boolean => match bytes {
                [0] => Some(RowValue::Boolean(false)),
                [1] => Some(RowValue::Boolean(true)),
                _ => None,
            },
            Self::Date => {
                bytes.try_into().ok().map(|days| RowValue::Integer(i32::from_be_bytes(days).into()))
            }
            Self::Time | Self::Timestamp | Self::TimestampTz => long(bytes).map(RowValue::Integer),
        }
    }
}

/// What rows with these values, in the order of the part's columns, are known by. Different rows may share it.
pub fn row_id<'a>(values: impl IntoIterator<Item = &'a RowValue>) -> u64 {
    let mut hasher = DefaultHasher::new();
    values.into_iter().for_each(|value| value.hash(&mut hasher));
    hasher.finish()
}

fn long(bytes: &[u8]) -> Option<i64> {
    bytes.try_into().ok().map(i64::from_be_bytes)
}

fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| plain)?.parse().ok()
}

fn trimmed(mut text: &[u8]) -> &[u8] {
    while let Some(shorter) = text.strip_suffix(b" ") {
        text = shorter;
    }
    text
}

fn hex(text: &[u8]) -> Option<Box<[u8]>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

/// Thirty-two hexadecimal digits, with hyphens in the usual places or none.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut digits = [0; 32];
    match text.len() {
        32 => digits.copy_from_slice(text),
        36 => {
            let hyphen = |at: &usize| matches!(at, 8 | 13 | 18 | 23);
            if (0..36).filter(hyphen).any(|at| text.get(at) != Some(&b'-')) {
                return None;
            }
            let others = text.iter().enumerate().filter(|(at, _)| !hyphen(at));
            digits.iter_mut().zip(others).for_each(|(to, (_, from))| *to = *from);
        }
        _ => return None,
    }
    hex(&digits)?.as_ref().try_into().ok()
}

#[cfg(test)]
mod tests;
