//! Building frames, appended to a buffer.

use bytes::{BufMut, BytesMut};

/// How bad an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The connection is closed after it.
    Fatal,
}

/// `ParseComplete`.
pub const PARSE_COMPLETE: [u8; 5] = *b"1\0\0\0\x04";
/// `BindComplete`.
pub const BIND_COMPLETE: [u8; 5] = *b"2\0\0\0\x04";
/// `CloseComplete`.
pub const CLOSE_COMPLETE: [u8; 5] = *b"3\0\0\0\x04";
/// `ParameterDescription` of a statement without parameters.
pub const NO_PARAMETERS: [u8; 7] = *b"t\0\0\0\x06\0\0";
/// `NoData`.
pub const NO_DATA: [u8; 5] = *b"n\0\0\0\x04";

/// A frame whose body is written by `body`; its length is filled in afterwards.
pub fn frame(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let at = out.len();
    out.put_i32(0);
    body(out);
    let length = i32::try_from(out.len() - at).unwrap_or(i32::MAX);
    if let Some(field) = out.get_mut(at..at + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// `ReadyForQuery` with a status of `I`, `T` or `E`.
#[inline]
pub fn ready_for_query(out: &mut BytesMut, status: u8) {
    out.extend_from_slice(&[b'Z', 0, 0, 0, 5, status]);
}

/// `CommandComplete`.
pub fn command_complete(out: &mut BytesMut, tag: &str) {
    frame(out, b'C', |out| cstr(out, tag.as_bytes()));
}

/// `Query`.
pub fn query(out: &mut BytesMut, sql: &str) {
    frame(out, b'Q', |out| cstr(out, sql.as_bytes()));
}

/// `Parse` of a text without declared parameter types.
pub fn parse(out: &mut BytesMut, name: &str, sql: &str) {
    frame(out, b'P', |out| {
        cstr(out, name.as_bytes());
        cstr(out, sql.as_bytes());
        out.put_i16(0);
    });
}

/// `Bind` of a statement without parameters, results as text.
pub fn bind(out: &mut BytesMut, portal: &str, statement: &str) {
    frame(out, b'B', |out| {
        cstr(out, portal.as_bytes());
        cstr(out, statement.as_bytes());
        out.put_i16(0); // parameter formats
        out.put_i16(0); // parameters
        out.put_i16(0); // result formats
    });
}

/// `Execute` of a whole portal.
pub fn execute(out: &mut BytesMut, portal: &str) {
    frame(out, b'E', |out| {
        cstr(out, portal.as_bytes());
        out.put_i32(0); // no limit
    });
}

/// `Sync`.
pub fn sync(out: &mut BytesMut) {
    out.extend_from_slice(b"S\0\0\0\x04");
}

/// `Terminate`.
pub fn terminate(out: &mut BytesMut) {
    out.extend_from_slice(b"X\0\0\0\x04");
}

/// `Describe` of a statement.
pub fn describe_statement(out: &mut BytesMut, name: &[u8]) {
    frame(out, b'D', |out| {
        out.put_u8(b'S');
        cstr(out, name);
    });
}

/// `Flush`.
pub fn flush(out: &mut BytesMut) {
    out.extend_from_slice(b"H\0\0\0\x04");
}

/// `Close` of a statement (`S`) or a portal (`P`).
pub fn close(out: &mut BytesMut, kind: u8, name: &[u8]) {
    frame(out, b'C', |out| {
        out.put_u8(kind);
        cstr(out, name);
    });
}

/// `ErrorResponse` as PostgreSQL would send it.
pub fn error(out: &mut BytesMut, severity: Severity, sqlstate: &str, message: &str, hint: Option<&str>) {
    let severity = match severity {
        Severity::Error => "ERROR",
        Severity::Fatal => "FATAL",
    };
    frame(out, b'E', |out| {
        for (code, value) in [(b'S', severity), (b'V', severity), (b'C', sqlstate), (b'M', message)] {
            out.put_u8(code);
            cstr(out, value.as_bytes());
        }
        if let Some(hint) = hint {
            out.put_u8(b'H');
            cstr(out, hint.as_bytes());
        }
        out.put_u8(0);
    });
}

/// `ErrorResponse` of a prepared statement whose columns are others by now, as PostgreSQL sends it: clients know it by
/// its routine, and prepare the statement again.
pub fn outdated(out: &mut BytesMut) {
    const FIELDS: [(u8, &str); 6] = [
        (b'S', "ERROR"),
        (b'V', "ERROR"),
        (b'C', "0A000"),
        (b'M', "cached plan must not change result type"),
        (b'F', "plancache.c"),
        (b'R', "RevalidateCachedQuery"),
    ];
    frame(out, b'E', |out| {
        for (code, value) in FIELDS {
            out.put_u8(code);
            cstr(out, value.as_bytes());
        }
        out.put_u8(0);
    });
}

/// `RowDescription` of columns of type text, in text format (which is the same as their binary format).
pub fn text_columns(out: &mut BytesMut, names: &[&str]) {
    frame(out, b'T', |out| {
        out.put_i16(i16::try_from(names.len()).unwrap_or(i16::MAX));
        for name in names {
            cstr(out, name.as_bytes());
            out.put_i32(0); // no table
            out.put_i16(0); // no column number
            out.put_i32(25); // text
            out.put_i16(-1); // variable length
            out.put_i32(-1); // no modifier
            out.put_i16(0); // text format
        }
    });
}

/// `RowDescription` of one column of type text.
pub fn text_column(out: &mut BytesMut, name: &str) {
    text_columns(out, &[name]);
}

/// `DataRow` of text columns.
pub fn text_row<'a>(out: &mut BytesMut, values: impl ExactSizeIterator<Item = Option<&'a str>>) {
    frame(out, b'D', |out| {
        out.put_i16(i16::try_from(values.len()).unwrap_or(i16::MAX));
        for value in values {
            out.put_i32(value.map_or(-1, |value| i32::try_from(value.len()).unwrap_or(i32::MAX)));
            out.extend_from_slice(value.unwrap_or_default().as_bytes());
        }
    });
}

/// One `DataRow` of one text column, and `CommandComplete`.
pub fn text_value(out: &mut BytesMut, value: &str, tag: &str) {
    text_row(out, [Some(value)].into_iter());
    command_complete(out, tag);
}

/// `ParameterStatus`.
pub fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    frame(out, b'S', |out| {
        cstr(out, name.as_bytes());
        cstr(out, value.as_bytes());
    });
}

fn cstr(out: &mut BytesMut, text: &[u8]) {
    out.extend(text.iter().copied().filter(|byte| *byte != 0));
    out.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::error_field;
    use crate::{HEADER, Peek, peek};

    #[test]
    fn frames_carry_their_length() {
        let mut out = BytesMut::new();
        error(&mut out, Severity::Fatal, "53300", "sorry, too many clients already", None);
        assert_eq!(peek(&out), Peek::Frame { tag: b'E', total: out.len() });
        assert_eq!(error_field(&out[HEADER..], b'C'), Some(&b"53300"[..]));
        out.clear();
        query(&mut out, "BEGIN");
        assert_eq!(&out[..], b"Q\0\0\0\x0aBEGIN\0");
        out.clear();
        parse(&mut out, "a", "b");
        bind(&mut out, "a", "b");
        execute(&mut out, "a");
        assert_eq!(&out[..], b"P\0\0\0\x0aa\0b\0\0\0B\0\0\0\x0ea\0b\0\0\0\0\0\0\0E\0\0\0\x0aa\0\0\0\0\0");
    }
}
