//! Frames of the PostgreSQL protocol (version 3): reading the backend's, making the frontend's.
//!
//! Written apart from Larder's own codec on purpose: a mistake there must not hide here.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// The protocol version of an ordinary startup message, 3.0.
pub const PROTOCOL_3_0: i32 = 3 << 16;
/// The number in place of a version that asks for TLS.
pub const SSL_REQUEST: i32 = 80_877_103;
/// The number in place of a version that asks for GSS encryption.
pub const GSS_REQUEST: i32 = 80_877_104;
/// The number in place of a version that starts a cancel request.
pub const CANCEL_REQUEST: i32 = 80_877_102;

/// One message: its type and what follows the length.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// The type byte.
    pub tag: u8,
    /// What follows the length.
    pub body: Bytes,
}

impl Frame {
    /// Takes the first whole frame off a buffer; `None` if it has not all come yet.
    pub fn take(buffer: &mut BytesMut) -> Option<Self> {
        let (tag, length) = (*buffer.first()?, buffer.get(1..5)?);
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        if buffer.len() < 1 + length {
            return None;
        }
        let mut whole = buffer.split_to(1 + length).freeze();
        Some(Self { tag, body: whole.split_off(5) })
    }

    /// The bytes as on the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        message(self.tag, &self.body)
    }

    /// The fields of an ErrorResponse or NoticeResponse by their letters.
    pub fn fields(&self) -> impl Iterator<Item = (u8, String)> {
        let fields = self.body.split(|b| *b == 0).filter(|f| !f.is_empty());
        fields.map(|f| (f[0], String::from_utf8_lossy(&f[1..]).into_owned()))
    }

    /// One field of an ErrorResponse or NoticeResponse: `b'C'` is the SQLSTATE, `b'M'` the sentence.
    #[must_use]
    pub fn field(&self, letter: u8) -> Option<String> {
        self.fields().find(|(l, _)| *l == letter).map(|(_, value)| value)
    }

    /// The values of a DataRow as text.
    ///
    /// # Panics
    /// If it is no DataRow, or is malformed.
    #[must_use]
    pub fn values(&self) -> Vec<Option<String>> {
        assert_eq!(self.tag, b'D', "{self:?} is no DataRow");
        let (count, mut rest) = self.body.split_at(2);
        let count = u16::from_be_bytes(count.try_into().unwrap());
        let values = (0..count).map(|_| {
            let (length, after) = rest.split_at(4);
            let length = i32::from_be_bytes(length.try_into().unwrap());
            let Ok(length) = usize::try_from(length) else {
                rest = after;
                return None;
            };
            let (value, after) = after.split_at(length);
            rest = after;
            Some(String::from_utf8_lossy(value).into_owned())
        });
        values.collect()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 160;
        let shown = &self.body[..self.body.len().min(SHOWN)];
        write!(f, "{}[{}] {}", char::from(self.tag), self.body.len(), shown.escape_ascii())?;
        if shown.len() < self.body.len() { f.write_str("…") } else { Ok(()) }
    }
}

/// Any message with a type.
#[must_use]
pub fn message(tag: u8, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(5 + body.len());
    out.put_u8(tag);
    out.put_i32(length_of(body));
    out.put_slice(body);
    out.freeze()
}

/// A message of the start of a connection, which has no type: `code` is the protocol version or a request's number.
#[must_use]
pub fn untagged(code: i32, body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i32(length_of(body) + 4);
    out.put_i32(code);
    out.put_slice(body);
    out.freeze()
}

/// StartupMessage with these parameters.
#[must_use]
pub fn startup(version: i32, parameters: &[(String, String)]) -> Bytes {
    let mut body = BytesMut::new();
    for (name, value) in parameters {
        put_text(&mut body, name);
        put_text(&mut body, value);
    }
    body.put_u8(0);
    untagged(version, &body)
}

/// CancelRequest.
#[must_use]
pub fn cancel(pid: i32, secret: &[u8]) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i32(pid);
    body.put_slice(secret);
    untagged(CANCEL_REQUEST, &body)
}

/// Query.
#[must_use]
pub fn query(sql: &str) -> Bytes {
    message(b'Q', &text(sql))
}

/// Parse; 0 as a type lets the server choose.
#[must_use]
pub fn parse(statement: &str, sql: &str, types: &[u32]) -> Bytes {
    let mut body = BytesMut::new();
    put_text(&mut body, statement);
    put_text(&mut body, sql);
    put_count(&mut body, types.len());
    types.iter().for_each(|t| body.put_u32(*t));
    message(b'P', &body)
}

/// Bind with all parameters as text and all results in text.
#[must_use]
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&str>]) -> Bytes {
    let bytes: Vec<_> = parameters.iter().map(|p| p.map(str::as_bytes)).collect();
    bind_formats(portal, statement, &[], &bytes, &[])
}

/// Bind with the given formats (0 text, 1 binary; none: all text; one: for all).
#[must_use]
pub fn bind_formats(
    portal: &str,
    statement: &str,
    parameter_formats: &[i16],
    parameters: &[Option<&[u8]>],
    result_formats: &[i16],
) -> Bytes {
    let mut body = BytesMut::new();
    put_text(&mut body, portal);
    put_text(&mut body, statement);
    put_count(&mut body, parameter_formats.len());
    parameter_formats.iter().for_each(|f| body.put_i16(*f));
    put_count(&mut body, parameters.len());
    for parameter in parameters {
        match parameter {
            Some(value) => {
                body.put_i32(i32::try_from(value.len()).unwrap());
                body.put_slice(value);
            }
            None => body.put_i32(-1),
        }
    }
    put_count(&mut body, result_formats.len());
    result_formats.iter().for_each(|f| body.put_i16(*f));
    message(b'B', &body)
}

/// Describe of a statement.
#[must_use]
pub fn describe_statement(name: &str) -> Bytes {
    message(b'D', &kind_and_name(b'S', name))
}

/// Describe of a portal.
#[must_use]
pub fn describe_portal(name: &str) -> Bytes {
    message(b'D', &kind_and_name(b'P', name))
}

/// Close of a statement.
#[must_use]
pub fn close_statement(name: &str) -> Bytes {
    message(b'C', &kind_and_name(b'S', name))
}

/// Close of a portal.
#[must_use]
pub fn close_portal(name: &str) -> Bytes {
    message(b'C', &kind_and_name(b'P', name))
}

/// Execute; 0 as the limit means all rows.
#[must_use]
pub fn execute(portal: &str, max_rows: i32) -> Bytes {
    let mut body = BytesMut::new();
    put_text(&mut body, portal);
    body.put_i32(max_rows);
    message(b'E', &body)
}

/// Sync.
#[must_use]
pub fn sync() -> Bytes {
    message(b'S', b"")
}

/// Flush.
#[must_use]
pub fn flush() -> Bytes {
    message(b'H', b"")
}

/// Terminate.
#[must_use]
pub fn terminate() -> Bytes {
    message(b'X', b"")
}

/// CopyData.
#[must_use]
pub fn copy_data(data: &[u8]) -> Bytes {
    message(b'd', data)
}

/// CopyDone.
#[must_use]
pub fn copy_done() -> Bytes {
    message(b'c', b"")
}

/// CopyFail.
#[must_use]
pub fn copy_fail(reason: &str) -> Bytes {
    message(b'f', &text(reason))
}

/// FunctionCall with arguments and result in text.
#[must_use]
pub fn function_call(function: u32, arguments: &[Option<&str>]) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u32(function);
    put_count(&mut body, 0);
    put_count(&mut body, arguments.len());
    for argument in arguments {
        match argument {
            Some(value) => {
                body.put_i32(i32::try_from(value.len()).unwrap());
                body.put_slice(value.as_bytes());
            }
            None => body.put_i32(-1),
        }
    }
    body.put_i16(0);
    message(b'F', &body)
}

/// PasswordMessage; SASL messages have the same type, see [`message`].
#[must_use]
pub fn password(value: &str) -> Bytes {
    message(b'p', &text(value))
}

fn kind_and_name(kind: u8, name: &str) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_u8(kind);
    put_text(&mut body, name);
    body
}

fn text(value: &str) -> BytesMut {
    let mut body = BytesMut::new();
    put_text(&mut body, value);
    body
}

fn put_text(body: &mut BytesMut, value: &str) {
    body.put_slice(value.as_bytes());
    body.put_u8(0);
}

fn put_count(body: &mut BytesMut, count: usize) {
    body.put_u16(u16::try_from(count).unwrap());
}

/// The length field counts itself.
fn length_of(body: &[u8]) -> i32 {
    i32::try_from(body.len() + 4).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole() {
        let mut buffer = BytesMut::from(&b"Z\0\0\0\x05IC\0\0\0\x0dSEL"[..]);
        assert_eq!(Frame::take(&mut buffer), Some(Frame { tag: b'Z', body: Bytes::from_static(b"I") }));
        assert_eq!(Frame::take(&mut buffer), None);
        buffer.put_slice(b"ECT 1\0");
        assert_eq!(Frame::take(&mut buffer).unwrap().to_bytes(), &b"C\0\0\0\x0dSELECT 1\0"[..]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn messages_are_as_documented() {
        assert_eq!(query("select 1"), &b"Q\0\0\0\x0dselect 1\0"[..]);
        assert_eq!(
            bind("", "s", &[Some("7"), None]),
            &b"B\0\0\0\x16\0s\0\0\0\0\x02\0\0\0\x017\xff\xff\xff\xff\0\0"[..]
        );
        assert_eq!(execute("p", 5), &b"E\0\0\0\x0ap\0\0\0\0\x05"[..]);
        assert_eq!(cancel(1, &[9; 4]), &b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\x09\x09\x09\x09"[..]);
    }
}
