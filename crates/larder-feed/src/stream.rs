//! A thin client for the streaming replication protocol: connects, makes a temporary logical slot, and hands out what
//! arrives. It knows no meaning; that is `fold` and `coverage`.

use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use larder_core::Lsn;
use postgres_protocol::message::frontend;

use crate::error::{Failure, within};
use crate::wire::Wire;
use crate::{Account, Plugin};

/// For an answer to an ordinary command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// A slot waits for every transaction that is running, in at most three rounds; see [`crate::wire`] for each.
const SLOT_TIMEOUT: Duration = Duration::from_secs(70);
/// PostgreSQL counts time in microseconds since 2000-01-01; in seconds after the Unix epoch.
const POSTGRES_EPOCH: Duration = Duration::from_secs(946_684_800);

/// One message of the stream.
#[derive(Debug)]
pub(crate) enum Message {
    /// XLogData: output of the plugin for the record at `start`. For a commit, `start` is the end of its record.
    Data {
        /// Position.
        start: Lsn,
        /// What the plugin says.
        text: Bytes,
    },
    /// Keepalive: everything that committed at or before `end` has been sent.
    Keepalive {
        /// Position.
        end: Lsn,
        /// The server wants to hear from us now.
        reply: bool,
    },
}

/// Who answers at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SystemId {
    /// System identifier.
    pub(crate) system: String,
    /// Timeline.
    pub(crate) timeline: String,
}

/// A new slot.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// Its name.
    pub(crate) name: String,
    /// Every transaction that commits after this position will be sent.
    pub(crate) consistent: Lsn,
}

/// The replication connection.
#[derive(Debug)]
pub(crate) struct Stream {
    wire: Wire,
}

impl Stream {
    /// Connects and logs in.
    pub(crate) async fn connect(account: &Account) -> Result<Self, Failure> {
        let mut wire = within(account.connect_timeout, "connecting", Wire::open(account)).await?;
        within(account.connect_timeout, "logging in", wire.start(account)).await?;
        Ok(Self { wire })
    }

    /// IDENTIFY_SYSTEM.
    pub(crate) async fn identify(&mut self) -> Result<SystemId, Failure> {
        let row = within(COMMAND_TIMEOUT, "IDENTIFY_SYSTEM", self.wire.query("IDENTIFY_SYSTEM")).await?;
        let mut fields = row.into_iter();
        match (fields.next().flatten(), fields.next().flatten()) {
            (Some(system), Some(timeline)) => Ok(SystemId { system, timeline }),
            _ => Err(Failure::Protocol("IDENTIFY_SYSTEM".to_owned())),
        }
    }

    /// Makes a slot that dies with this connection.
    pub(crate) async fn create_slot(&mut self, plugin: &Plugin) -> Result<Slot, Failure> {
        let name = format!("larder_{}_{:08x}", std::process::id(), fastrand::u32(..));
        let plugin = match plugin {
            Plugin::TestDecoding => "test_decoding",
            Plugin::Pgoutput { .. } => "pgoutput",
        };
        let sql = format!("CREATE_REPLICATION_SLOT \"{name}\" TEMPORARY LOGICAL {plugin} NOEXPORT_SNAPSHOT");
        let row = within(SLOT_TIMEOUT, "CREATE_REPLICATION_SLOT", self.wire.query(&sql)).await?;
        let consistent = row.into_iter().nth(1).flatten().and_then(|text| text.parse().ok());
        let consistent = consistent.ok_or_else(|| Failure::Protocol("CREATE_REPLICATION_SLOT".to_owned()))?;
        Ok(Slot { name, consistent })
    }

    /// Lets the changes flow.
    pub(crate) async fn start(&mut self, slot: &Slot, plugin: &Plugin) -> Result<(), Failure> {
        let options = match plugin {
            Plugin::TestDecoding => "\"include-xids\" '1', \"skip-empty-xacts\" '0'".to_owned(),
            // An identifier within a literal.
            Plugin::Pgoutput { publication } => format!(
                "proto_version '1', messages 'true', publication_names '\"{}\"'",
                publication.replace('"', "\"\"").replace('\'', "''")
            ),
        };
        let sql = format!("START_REPLICATION SLOT \"{}\" LOGICAL 0/0 ({options})", slot.name);
        within(COMMAND_TIMEOUT, "START_REPLICATION", async {
            let mut out = BytesMut::new();
            frontend::query(&sql, &mut out)?;
            self.wire.send(&out).await?;
            self.wire.expect(b'W').await.map(|_| ())
        })
        .await
    }

    /// The next message. May be dropped while it waits: nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Message, Failure> {
        loop {
            if let Some(message) = self.try_next()? {
                return Ok(message);
            }
            self.wire.fill().await?;
        }
    }

    /// The next message that has already arrived.
    pub(crate) fn try_next(&mut self) -> Result<Option<Message>, Failure> {
        while let Some(frame) = self.wire.try_frame()? {
            if frame.tag == b'd' {
                return message(&frame.body).map(Some);
            }
            if frame.tag == b'c' || frame.tag == b'C' {
                return Err(Failure::Protocol("the server ended the stream".to_owned()));
            }
        }
        Ok(None)
    }

    /// Standby status update: everything up to `applied` is safe with us. With `ping` the server answers with a
    /// keepalive at once.
    pub(crate) async fn report(&mut self, applied: Lsn, ping: bool) -> Result<(), Failure> {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().saturating_sub(POSTGRES_EPOCH);
        let mut out = BytesMut::with_capacity(39);
        out.put_u8(b'd');
        out.put_i32(38);
        out.put_u8(b'r');
        for _ in ["written", "flushed", "applied"] {
            out.put_u64(applied.0);
        }
        out.put_u64(u64::try_from(now.as_micros()).unwrap_or_default());
        out.put_u8(u8::from(ping));
        self.wire.send(&out).await
    }
}

pub(crate) fn message(body: &Bytes) -> Result<Message, Failure> {
    let malformed = || Failure::Protocol("malformed replication message".to_owned());
    let (&kind, rest) = body.split_first().ok_or_else(malformed)?;
    let (position, rest) = rest.split_first_chunk::<8>().ok_or_else(malformed)?;
    let position = Lsn(u64::from_be_bytes(*position));
    match kind {
        // Start, end of WAL, clock, text.
        b'w' if rest.len() >= 16 => Ok(Message::Data { start: position, text: body.slice(25..) }),
        // End of WAL, clock, whether a reply is wanted.
        b'k' => {
            let reply = rest.get(8).ok_or_else(malformed)?;
            Ok(Message::Keepalive { end: position, reply: *reply != 0 })
        }
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replication_messages_are_read() {
        let mut data = vec![b'w'];
        data.extend(7_u64.to_be_bytes());
        data.extend([0; 16]);
        data.extend(b"BEGIN 1");
        match message(&Bytes::from(data)).unwrap() {
            Message::Data { start, text } => assert_eq!((start, &text[..]), (Lsn(7), &b"BEGIN 1"[..])),
            other @ Message::Keepalive { .. } => panic!("{other:?}"),
        }
        let mut alive = vec![b'k'];
        alive.extend(9_u64.to_be_bytes());
        alive.extend([0; 8]);
        alive.push(1);
        match message(&Bytes::from(alive.clone())).unwrap() {
            Message::Keepalive { end, reply } => assert_eq!((end, reply), (Lsn(9), true)),
            other @ Message::Data { .. } => panic!("{other:?}"),
        }
        for cut in 0..alive.len() {
            assert!(message(&Bytes::copy_from_slice(&alive[..cut])).is_err(), "{cut}");
        }
    }
}
