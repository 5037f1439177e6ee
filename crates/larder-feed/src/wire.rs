//! A socket with frames on it, and the part of the protocol that comes before the stream: startup, and commands that
//! answer with a row.

use std::time::Duration;

use bytes::BytesMut;
use larder_login::Stream;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::{Failure, ServerError, within};
use crate::framing::{Frame, Framer};
use crate::{Account, auth, session};

/// A write of some 40 bytes that is not taken within this time means that the origin is frozen or gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A slot waits for every transaction that is running. The server gives up waiting for one of them after its
/// lock_timeout, set at startup; a client that just hangs up would leave a walsender behind until that one ends.
const SLOT_LOCK_TIMEOUT: &str = "20s";

/// How values are spelled in the stream, whatever ALTER ROLE or ALTER DATABASE say: see `larder_core::RowValue`.
const SPELLING: &str = "-c search_path= -c quote_all_identifiers=off -c datestyle=ISO -c timezone=UTC \
                        -c intervalstyle=postgres -c bytea_output=hex -c extra_float_digits=1";

/// A socket with frames on it.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) socket: Stream,
    framer: Framer,
}

impl Wire {
    pub(crate) async fn open(account: &Account) -> Result<Self, Failure> {
        Ok(Self { socket: session::open(account).await?, framer: Framer::default() })
    }

    pub(crate) async fn start(&mut self, account: &Account) -> Result<(), Failure> {
        let parameters = [
            ("user", account.user.as_str()),
            ("database", account.database.as_str()),
            ("replication", "database"),
            ("application_name", "larder feed"),
            // Names and values come in the database's encoding, whatever the plugin.
            ("client_encoding", "SQL_ASCII"),
            ("options", &format!("-c lock_timeout={SLOT_LOCK_TIMEOUT} -c idle_session_timeout=0 {SPELLING}")),
        ];
        let mut out = BytesMut::new();
        frontend::startup_message(parameters, &mut out)?;
        self.send(&out).await?;
        auth::log_in(self, account).await?;
        while self.frame().await?.tag != b'Z' {}
        Ok(())
    }

    /// Runs one command and returns the fields of its last row.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Vec<Option<String>>, Failure> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out)?;
        self.send(&out).await?;
        let mut row = Vec::new();
        loop {
            let frame = self.frame().await?;
            match frame.tag {
                b'D' => {
                    row =
                        data_row(&frame.body).ok_or_else(|| Failure::Protocol("malformed row".to_owned()))?;
                }
                b'Z' => return Ok(row),
                _ => {}
            }
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let write = async {
            self.socket.write_all(bytes).await?;
            self.socket.flush().await
        };
        within(WRITE_TIMEOUT, "a write", write).await
    }

    /// The next frame, which must be of that type; notices are passed over.
    pub(crate) async fn expect(&mut self, tag: u8) -> Result<Frame, Failure> {
        loop {
            let frame = self.frame().await?;
            if frame.tag == tag {
                return Ok(frame);
            }
            if !matches!(frame.tag, b'N' | b'S' | b'v') {
                let got = char::from(frame.tag);
                return Err(Failure::Protocol(format!("message '{got}' instead of '{}'", char::from(tag))));
            }
        }
    }

    async fn frame(&mut self) -> Result<Frame, Failure> {
        loop {
            if let Some(frame) = self.try_frame()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// A complete frame; an ErrorResponse is turned into the error that it is.
    pub(crate) fn try_frame(&mut self) -> Result<Option<Frame>, Failure> {
        let frame = self
            .framer
            .next()
            .map_err(|_| Failure::Protocol("a frame of impossible length: is this PostgreSQL?".to_owned()))?;
        match frame {
            Some(frame) if frame.tag == b'E' => Err(Failure::Server(server_error(&frame.body))),
            other => Ok(other),
        }
    }

    pub(crate) async fn fill(&mut self) -> Result<(), Failure> {
        self.framer.buffer.reserve(64 << 10);
        match self.socket.read_buf(&mut self.framer.buffer).await? {
            0 => Err(Failure::Lost(std::io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }
}

pub(crate) fn server_error(body: &[u8]) -> ServerError {
    let mut error = ServerError::default();
    for field in body.split(|byte| *byte == 0) {
        let Some((kind, text)) = field.split_first() else { continue };
        let text = || String::from_utf8_lossy(text).into_owned();
        match kind {
            b'C' => error.code = text(),
            b'M' => error.message = text(),
            _ => {}
        }
    }
    error
}

pub(crate) fn data_row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut fields = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            fields.push(None);
            rest = after;
            continue;
        };
        let (text, after) = after.split_at_checked(length)?;
        fields.push(Some(String::from_utf8_lossy(text).into_owned()));
        rest = after;
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_errors_are_read_and_never_panic() {
        let row = b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0";
        assert_eq!(data_row(row), Some(vec![Some("ab".to_owned()), None, Some(String::new())]));
        for cut in 0..row.len() {
            assert_eq!(data_row(&row[..cut]), None, "{cut}");
        }
        let error = server_error(b"SERROR\0C42501\0Mpermission denied\0\0");
        assert_eq!(error, ServerError { code: "42501".into(), message: "permission denied".into() });
    }
}
