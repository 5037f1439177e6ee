//! The messages of `pgoutput` (protocol version 1, with logical messages, values as text), as the same events. Pure.
//!
//! Relations come by OID. Before the first change of one, and whenever it is another than it was, its columns are described;
//! of each of them a row then has a value, NULL, or the word that it was left as it was. Names and values are in the database's
//! encoding, as the connection asks for no other.
//!
//! What makes no difference here is passed over: where a transaction came from, names of types. A transaction that changed no
//! published row is not sent, so what changed the catalog alone does not show: see [`crate::Plugin`].

use std::borrow::Cow;
use std::collections::HashMap;

use crate::decode::{Event, Kind, MESSAGE_PREFIX, Name};
use crate::tuple::{Change, Printed};

/// What has been described so far.
#[derive(Debug, Default)]
pub(crate) struct Relations {
    by_oid: HashMap<u32, Columns>,
    /// Of the transaction that is arriving: its end does not repeat it.
    xid: u32,
}

#[derive(Debug)]
struct Columns {
    names: Box<[Box<[u8]>]>,
    /// Which of them belong to the replica identity.
    key: Box<[bool]>,
}

/// The columns of a row that are not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent<'a> {
    names: &'a [Box<[u8]>],
    /// Of an old row of which only the key was logged: the others are sent as NULL, whatever they were.
    key: Option<&'a [bool]>,
    values: &'a [u8],
}

impl Relations {
    /// The event that a message stands for, or `None` if it is not understood.
    pub(crate) fn decode<'a>(&'a mut self, message: &'a [u8]) -> Option<Event<'a>> {
        let (kind, rest) = message.split_first()?;
        let mut rest = Cursor(rest);
        match kind {
            b'B' => {
                // Final position, time.
                rest.take(16)?;
                self.xid = rest.u32()?;
                rest.0.is_empty().then_some(Event::Begin { xid: self.xid })
            }
            // Flags, two positions, time.
            b'C' => (rest.0.len() == 25).then_some(Event::Commit { xid: self.xid }),
            b'R' => self.describe(rest).map(|()| Event::Nothing),
            b'I' => self.change(Kind::Insert, rest),
            b'U' => self.change(Kind::Update, rest),
            b'D' => self.change(Kind::Delete, rest),
            b'T' => {
                let (count, _options) = (rest.u32()?, rest.take(1)?);
                let mut relations = Vec::new();
                for _ in 0..count {
                    relations.push(Name::Oid(rest.u32()?));
                }
                rest.0.is_empty().then_some(Event::Truncate { relations })
            }
            b'M' => {
                let transactional = match rest.take(1)? {
                    [0] => false,
                    [1] => true,
                    _ => return None,
                };
                rest.take(8)?;
                let ours = transactional && rest.text()? == MESSAGE_PREFIX;
                Some(if ours { Event::DdlAnnounced } else { Event::OtherMessage })
            }
            b'O' | b'Y' => Some(Event::Nothing),
            _ => None,
        }
    }

    fn describe(&mut self, mut rest: Cursor<'_>) -> Option<()> {
        let (oid, _schema, _name, _identity) = (rest.u32()?, rest.text()?, rest.text()?, rest.take(1)?);
        let (mut names, mut key) = (Vec::new(), Vec::new());
        for _ in 0..rest.u16()? {
            key.push(rest.take(1)? == [1]);
            names.push(rest.text()?.into());
            // Type, and what it is modified by.
            rest.take(8)?;
        }
        self.by_oid.insert(oid, Columns { names: names.into(), key: key.into() });
        rest.0.is_empty().then_some(())
    }

    fn change<'a>(&'a self, kind: Kind, mut rest: Cursor<'a>) -> Option<Event<'a>> {
        let oid = rest.u32()?;
        let columns = self.by_oid.get(&oid)?;
        let (mut old, mut new) = (None, None);
        while let Some((which, after)) = rest.0.split_first() {
            let sent = Sent {
                names: &columns.names,
                key: (*which == b'K').then_some(&*columns.key),
                values: tuple(&mut rest, after, columns)?,
            };
            match which {
                b'K' | b'O' if old.is_none() && new.is_none() => old = Some(sent),
                b'N' if new.is_none() => new = Some(sent),
                _ => return None,
            }
        }
        let complete = match kind {
            Kind::Insert => old.is_none() && new.is_some(),
            Kind::Update => new.is_some(),
            Kind::Delete => old.is_some() && new.is_none(),
        };
        complete.then_some(Event::Change { relation: Name::Oid(oid), kind, row: Change::Sent { old, new } })
    }
}

/// The values of one row, of which there must be as many as columns; `rest` goes on behind them.
fn tuple<'a>(rest: &mut Cursor<'a>, after: &'a [u8], columns: &Columns) -> Option<&'a [u8]> {
    *rest = Cursor(after);
    if usize::from(rest.u16()?) != columns.names.len() {
        return None;
    }
    let values = rest.0;
    for _ in 0..columns.names.len() {
        rest.value()?;
    }
    values.get(..values.len() - rest.0.len())
}

impl<'a> Sent<'a> {
    /// See [`crate::tuple::Tuple::next`].
    pub(crate) fn next(&mut self) -> Option<Option<(Cow<'a, [u8]>, Printed<'a>)>> {
        loop {
            let (name, names) = self.names.split_first()?;
            self.names = names;
            let mut rest = Cursor(self.values);
            let Some(value) = rest.value() else {
                self.names = &[];
                return Some(None);
            };
            self.values = rest.0;
            if let Some((in_key, key)) = self.key.and_then(<[bool]>::split_first) {
                self.key = Some(key);
                if !in_key {
                    continue;
                }
            }
            return Some(Some((Cow::Borrowed(name), value)));
        }
    }
}

/// What is left of a message.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Up to a NUL.
    fn text(&mut self) -> Option<&'a [u8]> {
        let text = self.take(memchr::memchr(0, self.0)?)?;
        self.take(1)?;
        Some(text)
    }

    fn value(&mut self) -> Option<Printed<'a>> {
        match self.take(1)? {
            b"n" => Some(Printed::Null),
            b"u" => Some(Printed::Unchanged),
            b"t" => {
                let length = usize::try_from(self.u32()?).ok()?;
                self.take(length).map(|text| Printed::Text(Cow::Borrowed(text)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
