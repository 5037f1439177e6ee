//! The same script on two servers, and the bytes of their answers side by side.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;

use crate::{
    client::{Login, RawClient},
    frame::{self, Frame},
    transcript::Transcript,
};

/// Where a script runs, and as whom.
#[derive(Clone, Debug)]
pub struct Target {
    /// The server, or Larder before it.
    pub addr: SocketAddr,
    /// Who logs in.
    pub login: Login,
}

impl Target {
    /// The superuser in the database `postgres`.
    #[must_use]
    pub fn superuser(addr: SocketAddr) -> Self {
        Self { addr, login: Login::superuser() }
    }
}

/// When the answer to a step is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After so many ReadyForQuery.
    Ready(usize),
    /// After the first frame of this type.
    Tag(u8),
    /// When the server closes the connection.
    Closed,
    /// At once: the answer comes with a later step's.
    Later,
}

/// Something to send, and how to know the end of the answer.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is sent, in one write.
    pub send: Bytes,
    /// When the answer is complete.
    pub until: Until,
}

impl Step {
    /// A simple query.
    #[must_use]
    pub fn query(sql: &str) -> Self {
        Self { send: frame::query(sql), until: Until::Ready(1) }
    }

    /// Messages in one write, with as many ReadyForQuery to come as there are Sync and Query among them.
    #[must_use]
    pub fn messages(messages: &[Bytes]) -> Self {
        let ready = messages.iter().filter(|m| matches!(m.first(), Some(b'S' | b'Q' | b'F'))).count();
        let until = if ready == 0 { Until::Later } else { Until::Ready(ready) };
        Self { send: Bytes::from(messages.concat()), until }
    }

    /// A whole extended exchange with unnamed statement and portal, parameters and results in text.
    #[must_use]
    pub fn extended(sql: &str, parameters: &[Option<&str>]) -> Self {
        Self::messages(&[
            frame::parse("", sql, &[]),
            frame::bind("", "", parameters),
            frame::describe_portal(""),
            frame::execute("", 0),
            frame::sync(),
        ])
    }

    /// The same, with another end of the answer.
    #[must_use]
    pub fn until(mut self, until: Until) -> Self {
        self.until = until;
        self
    }
}

/// Steps of one session.
pub type Script = Vec<Step>;

/// Logs in and runs a script. The transcripts are the login's and each step's.
///
/// # Errors
/// Login is refused, or an answer does not end in time.
pub async fn run(script: &[Step], target: &Target) -> Result<Vec<Transcript>> {
    let mut client = RawClient::login(target.addr, &target.login).await?;
    let mut transcripts = vec![Transcript::new(client.greeting().to_vec())];
    for (number, step) in script.iter().enumerate() {
        let context = || format!("step {number}: {}", step.send.escape_ascii());
        client.send(&step.send).await.with_context(context)?;
        let frames = answer(&mut client, step.until).await.with_context(context)?;
        transcripts.push(Transcript::new(frames));
    }
    Ok(transcripts)
}

/// Runs a script directly and through Larder, and asserts that both answer with the same bytes.
///
/// A script that changes data finds its own changes in the second run: let it begin by resetting them.
///
/// # Panics
/// At the first difference, with the step and both frames; or if a run fails.
pub async fn compare(script: &[Step], direct: &Target, larder: &Target) {
    let direct = run(script, direct).await.expect("the script fails directly");
    let larder = run(script, larder).await.expect("the script fails through Larder");
    assert_same(script, &direct, &larder);
}

/// Asserts that two runs of a script have the same transcripts; left is the origin's.
///
/// # Panics
/// At the first difference, with the step and both frames.
pub fn assert_same(script: &[Step], direct: &[Transcript], larder: &[Transcript]) {
    assert_eq!(direct.len(), larder.len());
    for (number, (left, right)) in direct.iter().zip(larder).enumerate() {
        if let Some(difference) = left.difference(right) {
            let step =
                number.checked_sub(1).map_or("login".into(), |n| script[n].send.escape_ascii().to_string());
            panic!("direct (left) and through Larder (right) differ at step {number}, {step}:\n{difference}");
        }
    }
}

async fn answer(client: &mut RawClient, until: Until) -> Result<Vec<Frame>> {
    match until {
        Until::Later => Ok(vec![]),
        Until::Tag(tag) => client.until(tag).await,
        Until::Closed => client.until_closed().await,
        Until::Ready(count) => {
            let mut frames = vec![];
            for _ in 0..count {
                frames.extend(client.until_ready().await?);
            }
            Ok(frames)
        }
    }
}
