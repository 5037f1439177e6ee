//! Messages that the origin sends.

use bytes::{Bytes, BytesMut};

use crate::read::Reader;

/// The transaction status that a `ReadyForQuery` body carries: `I`, `T` or `E`.
pub fn ready_status(body: &[u8]) -> Option<u8> {
    match body {
        [status @ (b'I' | b'T' | b'E')] => Some(*status),
        _ => None,
    }
}

/// Name and value of a `ParameterStatus` body.
pub fn parameter_status(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader(body);
    Some((reader.cstr()?, reader.cstr()?))
}

/// The application's name, if that is what a `ParameterStatus` body tells.
pub fn application_name(body: &[u8]) -> Option<&[u8]> {
    parameter_status(body).filter(|(name, _)| *name == b"application_name").map(|(_, value)| value)
}

/// One field of an `ErrorResponse` or `NoticeResponse` body, by its code (`S`, `C`, `M`, ...).
pub fn error_field(body: &[u8], code: u8) -> Option<&[u8]> {
    let mut reader = Reader(body);
    loop {
        match reader.u8()? {
            0 => return None,
            found => {
                let value = reader.cstr()?;
                if found == code {
                    return Some(value);
                }
            }
        }
    }
}

/// The columns of a `DataRow` body; `None` is NULL.
pub fn data_row(body: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    crate::frontend::parameter_values(body)
}

/// Whether rows described by one `RowDescription` frame can be read as the other says. Which table a column is of does
/// not matter: PostgreSQL goes on with a prepared statement whose tables are others by now, if the types are the same.
pub fn same_columns(one: &[u8], other: &[u8]) -> bool {
    one == other || matches!((columns(one), columns(other)), (Some(one), Some(other)) if one == other)
}

/// Of each column of a `RowDescription` frame: its name, and its type's OID, size and modifier.
fn columns(frame: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut reader = Reader(frame.get(crate::HEADER..)?);
    let count = reader.i16()?;
    (0..count)
        .map(|_| {
            let name = reader.cstr()?;
            // Table OID (4), column number (2).
            reader.bytes(6)?;
            let kind = reader.bytes(10)?;
            reader.bytes(2)?;
            Some((name, kind))
        })
        .collect()
}

/// A copy of a `RowDescription` frame (header included) with the format codes of `formats`, a count and codes as in
/// `Bind`: none means text, one means that one for all.
///
/// `None` if the frame is not well formed or the counts do not fit.
pub fn with_formats(frame: &[u8], formats: &[u8]) -> Option<Bytes> {
    let mut out = BytesMut::from(frame);
    let mut codes = Reader(formats);
    let given = codes.count()?;
    let single = if given == 1 { Some(codes.i16()?) } else { None };
    let mut reader = Reader(frame.get(crate::HEADER..)?);
    let columns = reader.count()?;
    if given > 1 && given != columns {
        return None;
    }
    for _ in 0..columns {
        reader.cstr()?;
        // Table OID (4), column number (2), type OID (4), type size (2), type modifier (4); then the format (2).
        reader.bytes(16)?;
        let at = frame.len() - reader.0.len();
        reader.i16()?;
        let code = match (given, single) {
            (0, _) => 0,
            (_, Some(code)) => code,
            _ => codes.i16()?,
        };
        out.get_mut(at..at + 2)?.copy_from_slice(&code.to_be_bytes());
    }
    Some(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Vec<u8> {
        let mut frame = b"T\0\0\0\0\0\x02".to_vec();
        for name in [&b"a\0"[..], b"bc\0"] {
            frame.extend_from_slice(name);
            frame.extend_from_slice(&[1; 16]);
            frame.extend_from_slice(&[0, 7]);
        }
        frame
    }

    #[test]
    fn formats_replace_the_codes_of_a_row_description() {
        let frame = description();
        let zero = with_formats(&frame, b"\0\0").unwrap();
        assert_eq!(zero.last(), Some(&0));
        let both = with_formats(&frame, b"\0\x02\0\x01\0\0").unwrap();
        assert_eq!(both[7 + 2 + 17], 1);
        assert_eq!(both.last(), Some(&0));
        let all = with_formats(&frame, b"\0\x01\0\x01").unwrap();
        assert_eq!((all[7 + 2 + 17], *all.last().unwrap()), (1, 1));
        assert_eq!(with_formats(&frame, b"\0\x03\0\0\0\0\0\0"), None);
        assert_eq!(with_formats(&frame[..20], b"\0\0"), None);
    }

    #[test]
    fn columns_are_the_same_whatever_their_tables() {
        let one = description();
        let mut other = one.clone();
        // After the header, the count and a name: the table.
        other[7 + 2] = 9;
        assert!(same_columns(&one, &one) && same_columns(&one, &other));
        other[7 + 2 + 6] = 9;
        assert!(!same_columns(&one, &other), "another type");
        assert!(!same_columns(&one, &one[..30]));
        let mut named = one.clone();
        named[7] = b'z';
        assert!(!same_columns(&one, &named));
    }

    #[test]
    fn error_fields_are_found_by_code() {
        let body = b"SERROR\0C42P01\0Mno such table\0\0";
        assert_eq!(error_field(body, b'C'), Some(&b"42P01"[..]));
        assert_eq!(error_field(body, b'D'), None);
        assert_eq!(error_field(b"S", b'C'), None);
    }
}
