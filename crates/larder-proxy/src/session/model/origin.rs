//! PostgreSQL as far as a session can tell, in memory: statements, portals, transactions, COPY, errors and what they
//! skip. Two counters stand for the data.
//!
//! Written from the documentation of the protocol and the behaviour of PostgreSQL 18; the random scripts of
//! `crates/larder/tests/it/transparency_random.rs` hold the real one against Larder in the same way.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::{BufMut, BytesMut};
use larder_wire::encode::{self, Severity};
use larder_wire::{HEADER, Peek, frontend, peek};

use super::text::{Table, Text};

/// What all sessions see: the counters of both tables.
pub(crate) type Data = Rc<RefCell<[i64; 2]>>;

/// One backend.
#[derive(Debug)]
pub(crate) struct Origin {
    data: Data,
    input: Vec<u8>,
    output: BytesMut,
    /// In an explicit transaction block: `T`, failed: `E`, else `I`.
    pub(crate) status: u8,
    pub(crate) statements: BTreeMap<Vec<u8>, Text>,
    pub(crate) portals: BTreeMap<Vec<u8>, Portal>,
    pub(crate) skipping: bool,
    copying: Option<Copying>,
    /// What this transaction has added to each counter.
    added: [i64; 2],
    /// A setting that changes the bytes of answers; as it was when the transaction began.
    digits: i32,
    digits_before: i32,
}

/// A portal: what it runs, and how many of its rows are left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Portal {
    text: Text,
    left: Option<usize>,
}

/// A COPY that takes data in, in a simple query or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Copying {
    simple: bool,
}

/// An error's SQLSTATE.
type Refusal = &'static str;

/// Rows of every read.
const ROWS: usize = 2;

impl Origin {
    pub(crate) fn new(data: &Data) -> Self {
        Self {
            data: Rc::clone(data),
            input: Vec::new(),
            output: BytesMut::new(),
            status: b'I',
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            skipping: false,
            copying: None,
            added: [0; 2],
            digits: 1,
            digits_before: 1,
        }
    }

    /// What it answers to these bytes.
    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(bytes);
        let mut input = std::mem::take(&mut self.input);
        while let Peek::Frame { tag, total } = peek(&input)
            && input.len() >= total
        {
            let rest = input.split_off(total);
            self.message(tag, &input[HEADER..]);
            input = rest;
        }
        self.input = input;
        self.output.split().to_vec()
    }

    fn message(&mut self, tag: u8, body: &[u8]) {
        if let Some(Copying { simple }) = self.copying {
            return self.copy_message(tag, simple);
        }
        match tag {
            b'S' => {
                self.skipping = false;
                self.finish();
                self.ready();
            }
            b'H' | b'd' | b'c' | b'f' => {}
            _ if self.skipping => {}
            b'Q' => self.query(frontend::query(body).unwrap()),
            b'F' => {
                match self.status {
                    b'E' => self.refuse("25P02"),
                    _ => encode::frame(&mut self.output, b'V', |out| out.put_i32(-1)),
                }
                self.finish();
                self.ready();
            }
            _ => {
                let result = match tag {
                    b'P' => self.parse(body),
                    b'B' => self.bind(body),
                    b'D' => self.describe(body),
                    b'E' => self.execute(body),
                    b'C' => self.close(body),
                    other => panic!("message {}", char::from(other)),
                };
                if let Err(state) = result {
                    self.refuse(state);
                    self.skipping = true;
                }
            }
        }
    }

    fn copy_message(&mut self, tag: u8, simple: bool) {
        match tag {
            b'c' => {
                self.copying = None;
                encode::command_complete(&mut self.output, "COPY 0");
            }
            b'f' => {
                self.copying = None;
                self.refuse("57014");
                self.skipping = !simple;
            }
            // Whatever it is, it is not what a COPY wants to hear; Sync and Flush are let pass.
            _ => return,
        }
        if simple {
            self.finish();
            self.ready();
        }
    }

    /// A statement's end outside a transaction block, or a Sync: what was implicit is committed.
    fn finish(&mut self) {
        if self.status == b'I' {
            self.end(true);
        }
    }

    fn end(&mut self, commit: bool) {
        let added = std::mem::take(&mut self.added);
        if commit {
            let mut data = self.data.borrow_mut();
            for (counter, more) in data.iter_mut().zip(added) {
                *counter += more;
            }
            self.digits_before = self.digits;
        } else {
            self.digits = self.digits_before;
        }
        self.portals.clear();
        self.status = b'I';
    }

    fn ready(&mut self) {
        encode::ready_for_query(&mut self.output, self.status);
    }

    /// An error: it takes back what the transaction did. Portals stay, of no use, while the transaction does.
    fn refuse(&mut self, state: Refusal) {
        encode::error(&mut self.output, Severity::Error, state, "", None);
        let (status, portals) = (self.status, self.portals.clone());
        self.end(false);
        if status != b'I' {
            (self.status, self.portals) = (b'E', portals);
        }
    }

    fn query(&mut self, sql: &[u8]) {
        self.statements.remove(&b""[..]);
        let texts = Text::all(sql);
        if texts.is_empty() {
            self.output.put_slice(b"I\0\0\0\x04");
        }
        for text in &texts {
            if let Err(state) = self.simple(text, texts.len() > 1) {
                self.refuse(state);
                break;
            }
        }
        if self.copying.is_none() {
            self.finish();
            self.ready();
        }
    }

    fn simple(&mut self, text: &Text, one_of_many: bool) -> Result<(), Refusal> {
        if *text == Text::Bogus {
            return Err("42601");
        }
        self.allowed(text)?;
        self.portals.remove(&b""[..]);
        if let Text::Execute(name) = text {
            let prepared = self.prepared(name)?;
            return self.simple(&prepared, one_of_many);
        }
        if *text == Text::Own {
            encode::text_column(&mut self.output, "?column?");
            encode::text_value(&mut self.output, "1", "SELECT 1");
            return Ok(());
        }
        if let Some(table) = text.reads() {
            self.columns(table);
            self.rows(table, ROWS);
            encode::command_complete(&mut self.output, &format!("SELECT {ROWS}"));
            return Ok(());
        }
        self.run(text, true, one_of_many)
    }

    /// What EXECUTE runs.
    fn prepared(&self, name: &[u8]) -> Result<Text, Refusal> {
        match self.statements.get(name).ok_or("26000")? {
            Text::Execute(_) => Err("54001"),
            Text::Empty => Err("42601"),
            text => Ok(text.clone()),
        }
    }

    /// In a failed transaction only its end is.
    fn allowed(&self, text: &Text) -> Result<(), Refusal> {
        let ends = matches!(text, Text::Commit | Text::Rollback);
        if self.status == b'E' && !ends { Err("25P02") } else { Ok(()) }
    }

    /// A statement that gives no rows.
    fn run(&mut self, text: &Text, simple: bool, one_of_many: bool) -> Result<(), Refusal> {
        let tag = match text {
            Text::Add(table) => {
                self.added[*table as usize] += 1;
                "UPDATE 1"
            }
            Text::Begin => {
                if self.status == b'I' {
                    self.status = b'T';
                } else {
                    self.warn("25001");
                }
                "BEGIN"
            }
            Text::Commit | Text::Rollback => {
                let commit = *text == Text::Commit && self.status != b'E';
                if self.status == b'I' {
                    self.warn("25P01");
                }
                self.end(commit);
                if commit { "COMMIT" } else { "ROLLBACK" }
            }
            Text::Set(digits) => {
                self.digits = *digits;
                "SET"
            }
            Text::Fail => return Err("22012"),
            Text::DeallocateAll => {
                self.statements.retain(|name, _| name.is_empty());
                "DEALLOCATE ALL"
            }
            Text::Deallocate(name) => {
                self.statements.remove(*name).ok_or("26000")?;
                "DEALLOCATE"
            }
            Text::DiscardAll if self.status != b'I' || one_of_many || !simple => return Err("25001"),
            Text::DiscardAll => {
                self.statements.retain(|name, _| name.is_empty());
                self.portals.clear();
                self.digits = 1;
                "DISCARD ALL"
            }
            Text::Prepare(name, prepared) => {
                if self.statements.contains_key(*name) {
                    return Err("42P05");
                }
                self.statements.insert(name.to_vec(), (**prepared).clone());
                "PREPARE"
            }
            Text::Copy => {
                self.copying = Some(Copying { simple });
                self.output.put_slice(b"G\0\0\0\x07\0\0\0");
                return Ok(());
            }
            Text::Bogus | Text::Empty | Text::Facts | Text::Own | Text::Read(_) | Text::Execute(_) => {
                panic!("{text:?} is not run")
            }
        };
        encode::command_complete(&mut self.output, tag);
        Ok(())
    }

    fn warn(&mut self, state: &str) {
        encode::frame(&mut self.output, b'N', |out| {
            out.put_slice(b"SWARNING\0VWARNING\0C");
            out.put_slice(state.as_bytes());
            out.put_slice(b"\0M\0\0");
        });
    }

    fn parse(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let parse = frontend::parse(body).ok_or("08P01")?;
        if parse.name.is_empty() {
            self.statements.remove(&b""[..]);
        }
        let text = Text::one(parse.sql);
        if text == Text::Bogus {
            return Err("42601");
        }
        if text != Text::Empty {
            self.allowed(&text)?;
        }
        if self.statements.contains_key(parse.name) {
            return Err("42P05");
        }
        self.statements.insert(parse.name.to_vec(), text);
        self.output.put_slice(&encode::PARSE_COMPLETE);
        Ok(())
    }

    fn bind(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let bind = frontend::bind(body).ok_or("08P01")?;
        let text = self.statements.get(bind.statement).cloned().ok_or("26000")?;
        if text != Text::Empty {
            self.allowed(&text)?;
        }
        if bind.portal.is_empty() {
            self.portals.remove(&b""[..]);
        } else if self.portals.contains_key(bind.portal) {
            return Err("42P03");
        }
        self.portals.insert(bind.portal.to_vec(), Portal { text, left: Some(ROWS) });
        self.output.put_slice(&encode::BIND_COMPLETE);
        Ok(())
    }

    fn describe(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let target = frontend::target(body).ok_or("08P01")?;
        let text = if target.kind == b'S' {
            self.statements.get(target.name).cloned().ok_or("26000")?
        } else {
            self.portals.get(target.name).ok_or("34000")?.text.clone()
        };
        let gives_rows = match &text {
            Text::Execute(name) => self.statements.get(*name).and_then(Text::reads),
            text => text.reads(),
        };
        if gives_rows.is_some() {
            self.allowed(&text)?;
        }
        if target.kind == b'S' {
            self.output.put_slice(&encode::NO_PARAMETERS);
        }
        match gives_rows {
            Some(table) => self.columns(table),
            None => self.output.put_slice(&encode::NO_DATA),
        }
        Ok(())
    }

    fn execute(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let execute = frontend::execute(body).ok_or("08P01")?;
        let portal = self.portals.get(execute.portal).cloned().ok_or("34000")?;
        let mut text = portal.text;
        if text == Text::Empty {
            self.output.put_slice(b"I\0\0\0\x04");
            return Ok(());
        }
        self.allowed(&text)?;
        if text == Text::Facts {
            self.facts();
            return Ok(());
        }
        let name = execute.portal.to_vec();
        let Some(left) = portal.left else { return Err("55000") };
        if let Text::Execute(name) = &text {
            text = self.prepared(name)?;
        }
        let Some(table) = text.reads() else {
            // It cannot be run again.
            if let Some(portal) = self.portals.get_mut(&name) {
                portal.left = None;
            }
            return self.run(&text, false, false);
        };
        let limit = usize::try_from(execute.max_rows).ok().filter(|limit| *limit > 0);
        let given = limit.map_or(left, |limit| limit.min(left));
        self.rows(table, given);
        if let Some(portal) = self.portals.get_mut(&name) {
            portal.left = Some(left - given);
        }
        if limit == Some(given) {
            self.output.put_slice(b"s\0\0\0\x04");
        } else {
            encode::command_complete(&mut self.output, &format!("SELECT {given}"));
        }
        Ok(())
    }

    fn close(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let target = frontend::target(body).ok_or("08P01")?;
        if target.kind == b'S' {
            self.statements.remove(target.name);
        } else {
            self.portals.remove(target.name);
        }
        self.output.put_slice(&encode::CLOSE_COMPLETE);
        Ok(())
    }

    fn columns(&mut self, table: Table) {
        encode::text_column(&mut self.output, table.name());
    }

    fn rows(&mut self, table: Table, count: usize) {
        let at = table as usize;
        let value = self.data.borrow()[at] + self.added[at];
        let value = format!("{value:0width$}", width = self.digits as usize);
        for _ in 0..count {
            encode::frame(&mut self.output, b'D', |out| {
                out.put_i16(1);
                out.put_i32(value.len() as i32);
                out.put_slice(value.as_bytes());
            });
        }
    }

    /// What Larder asks for itself.
    fn facts(&mut self) {
        let digits = self.digits.to_string();
        // Path, isolation, encoding, larder.mode, the users; settings for reading, for writing, of the user's own.
        let values =
            ["{pg_catalog,public}", "read committed", "UTF8", "false", "ann", "ann", &digits, "{}", "{}"];
        encode::frame(&mut self.output, b'D', |out| {
            out.put_i16(values.len() as i16);
            for value in values {
                out.put_i32(value.len() as i32);
                out.put_slice(value.as_bytes());
            }
        });
        encode::command_complete(&mut self.output, "SELECT 1");
    }
}
