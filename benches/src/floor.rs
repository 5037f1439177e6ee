//! The floor server: just enough of the protocol to answer pgbench with a constant row.
//!
//! Same shape as Larder: one single-threaded runtime per core, connections dealt out by one acceptor. It keeps no
//! state but the bytes that have not been a whole message yet; every reply is copied from a constant.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

/// Bytes asked for at a time; pgbench's requests are some hundred.
const READ_BYTES: usize = 16 * 1024;

/// No request of pgbench comes near; a larger length is not a message.
const MESSAGE_LIMIT: usize = 1 << 20;

/// The second field of the two requests that may precede startup (`NEGOTIATE_SSL_CODE`, `NEGOTIATE_GSS_CODE`).
const TLS_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// Serves until the process is stopped.
pub(crate) fn serve(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let workers: Vec<UnboundedSender<TcpStream>> = (0..workers).map(|_| start_worker()).collect();
    for (stream, worker) in listener.incoming().zip(workers.iter().cycle()) {
        // A client that is gone before it was accepted is no reason to stop.
        let Ok(stream) = stream else { continue };
        worker.send(stream).context("a worker has stopped")?;
    }
    Ok(())
}

fn start_worker() -> UnboundedSender<TcpStream> {
    let (sender, receiver) = unbounded_channel();
    thread::spawn(move || match tokio::runtime::Builder::new_current_thread().enable_io().build() {
        Ok(runtime) => LocalSet::new().block_on(&runtime, worker(receiver)),
        Err(error) => eprintln!("cannot start a worker: {error}"),
    });
    sender
}

async fn worker(mut connections: UnboundedReceiver<TcpStream>) {
    let replies = Replies::new();
    while let Some(stream) = connections.recv().await {
        let replies = replies.clone();
        tokio::task::spawn_local(async move {
            // A connection that ends badly concerns only its client.
            let _ = connection(stream, &replies).await;
        });
    }
}

async fn connection(stream: TcpStream, replies: &Replies) -> Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let mut stream = tokio::net::TcpStream::from_std(stream)?;
    let mut input = BytesMut::with_capacity(READ_BYTES);
    let mut output = BytesMut::with_capacity(READ_BYTES);
    let mut started = false;
    loop {
        input.reserve(READ_BYTES);
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        while !started {
            let Some(message) = take_startup(&mut input)? else { break };
            started = replies.start(&message, &mut output);
        }
        if started {
            while let Some((kind, body)) = take_message(&mut input)? {
                if kind == b'X' {
                    return Ok(());
                }
                replies.answer(kind, &body, &mut output)?;
            }
        }
        stream.write_all(&output).await?;
        output.clear();
    }
}

/// A whole startup-like message without its length, if one is there.
fn take_startup(input: &mut BytesMut) -> Result<Option<BytesMut>> {
    let Some((length, _)) = input.split_first_chunk::<4>() else { return Ok(None) };
    take(input, 4, u32::from_be_bytes(*length))
}

/// A whole message, as its kind and its body, if one is there.
fn take_message(input: &mut BytesMut) -> Result<Option<(u8, BytesMut)>> {
    let Some(([kind, length @ ..], _)) = input.split_first_chunk::<5>() else { return Ok(None) };
    let (kind, length) = (*kind, u32::from_be_bytes(*length));
    Ok(take(input, 5, length)?.map(|body| (kind, body)))
}

/// Splits off a message whose length field counts itself and what follows it; `header` bytes come before the body.
fn take(input: &mut BytesMut, header: usize, length: u32) -> Result<Option<BytesMut>> {
    let length = length as usize;
    if !(4..=MESSAGE_LIMIT).contains(&length) {
        bail!("not a message");
    }
    let total = header - 4 + length;
    if input.len() < total {
        return Ok(None);
    }
    let mut message = input.split_to(total);
    message.advance(header);
    Ok(Some(message))
}

/// Every reply there is, made once per worker.
#[derive(Debug, Clone)]
struct Replies {
    welcome: Bytes,
    simple: Bytes,
    execute: Bytes,
    describe_statement: Bytes,
    describe_portal: Bytes,
    ready: Bytes,
}

impl Replies {
    fn new() -> Self {
        let ready = message(b'Z', b"I");
        // One column `abalance` of type int4 (OID 23, 4 bytes), in text format.
        let mut columns = b"\0\x01abalance\0\0\0\0\0\0\0".to_vec();
        columns.extend_from_slice(&[0, 0, 0, 23, 0, 4, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0]);
        let columns = message(b'T', &columns);
        let row = message(b'D', b"\0\x01\0\0\0\x010");
        let done = message(b'C', b"SELECT 1\0");
        let one_parameter = message(b't', &[0, 1, 0, 0, 0, 23]);
        let parameters =
            ["server_version\x0018.0\0", "client_encoding\0UTF8\0", "standard_conforming_strings\0on\0"];
        let parameters: Vec<u8> = parameters.iter().flat_map(|pair| message(b'S', pair.as_bytes())).collect();
        let authenticated = message(b'R', &[0; 4]);
        let key = message(b'K', &[0; 8]);
        Self {
            welcome: [authenticated.as_slice(), &parameters, &key, &ready].concat().into(),
            simple: [columns.as_slice(), &row, &done, &ready].concat().into(),
            execute: [row.as_slice(), &done].concat().into(),
            describe_statement: [one_parameter.as_slice(), &columns].concat().into(),
            describe_portal: columns.into(),
            ready: ready.into(),
        }
    }

    /// Answers a message before or at startup; true once the session has begun.
    fn start(&self, message: &[u8], output: &mut BytesMut) -> bool {
        let code = message.first_chunk().map(|code| u32::from_be_bytes(*code));
        if matches!(code, Some(TLS_REQUEST | GSS_REQUEST)) {
            output.extend_from_slice(b"N");
            return false;
        }
        output.extend_from_slice(&self.welcome);
        true
    }

    fn answer(&self, kind: u8, body: &[u8], output: &mut BytesMut) -> Result<()> {
        output.extend_from_slice(match kind {
            b'Q' => &self.simple,
            b'P' => b"1\0\0\0\x04",
            b'B' => b"2\0\0\0\x04",
            b'C' => b"3\0\0\0\x04",
            b'D' if body.first() == Some(&b'S') => &self.describe_statement,
            b'D' => &self.describe_portal,
            b'E' => &self.execute,
            b'S' => &self.ready,
            b'H' => b"",
            other => bail!("message {other:#x} is not one that the floor answers"),
        });
        Ok(())
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[kind], length.to_be_bytes().as_slice(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_whole_or_not_at_all() {
        let whole = message(b'Q', b"select 1\0");
        for end in 0..whole.len() {
            let mut input = BytesMut::from(&whole[..end]);
            assert!(take_message(&mut input).unwrap().is_none(), "{end} bytes");
            assert_eq!(input.len(), end);
        }
        let mut input = BytesMut::from([whole.as_slice(), b"rest"].concat().as_slice());
        let (kind, body) = take_message(&mut input).unwrap().unwrap();
        assert_eq!(
            (kind, body.as_ref(), input.as_ref()),
            (b'Q', b"select 1\0".as_slice(), b"rest".as_slice())
        );
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        for length in [0_u32, 3, u32::MAX] {
            let mut input = BytesMut::from([b"Q".as_slice(), &length.to_be_bytes()].concat().as_slice());
            assert!(take_message(&mut input).is_err(), "{length}");
        }
    }

    #[test]
    fn tls_is_declined_and_startup_welcomed() {
        let replies = Replies::new();
        let mut output = BytesMut::new();
        assert!(!replies.start(&TLS_REQUEST.to_be_bytes(), &mut output));
        assert_eq!(output.as_ref(), b"N");
        output.clear();
        assert!(replies.start(&[0, 3, 0, 0], &mut output));
        assert!(output.starts_with(b"R\0\0\0\x08\0\0\0\0") && output.ends_with(b"Z\0\0\0\x05I"));
    }
}
