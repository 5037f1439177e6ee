//! One socket with its two buffers. Nothing here knows what the bytes mean.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use larder_login::Stream;
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

/// Room made for one read, in bytes: several small frames, little enough for ten thousand idle clients.
const READ_CHUNK: usize = 4 * 1024;
/// Room made for one read while a lot is coming.
const READ_CHUNK_BUSY: usize = 64 * 1024;
/// An empty buffer larger than this is given back to the allocator.
const KEEP: usize = 64 * 1024;

/// A socket, what has been read from it and not yet consumed, and what is still to be written.
#[derive(Debug)]
pub(crate) struct Pipe {
    stream: Stream,
    /// Read, not consumed.
    pub(crate) input: BytesMut,
    /// To be written.
    pub(crate) output: BytesMut,
    /// The peer will send no more.
    pub(crate) ended: bool,
    chunk: usize,
    /// TLS may hold records that the socket did not take.
    sealed: bool,
}

impl Pipe {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            input: BytesMut::with_capacity(READ_CHUNK),
            output: BytesMut::with_capacity(READ_CHUNK),
            ended: false,
            chunk: READ_CHUNK,
            sealed: false,
        }
    }

    /// The connection underneath.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The connection underneath, to be made another: nothing that was read may be lost by it.
    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Everything has been handed to the socket.
    pub(crate) fn is_flushed(&self) -> bool {
        self.output.is_empty() && !self.sealed
    }

    /// Reads once. Ready with `true` if bytes (or the end) arrived.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended {
            return Poll::Pending;
        }
        if self.input.is_empty() && self.input.capacity() > KEEP {
            self.input = BytesMut::with_capacity(self.chunk);
        }
        self.input.reserve(self.chunk);
        let room = self.input.capacity() - self.input.len();
        match poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input) {
            Poll::Ready(Ok(0)) => {
                self.ended = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(count)) => {
                self.chunk = if count == room { READ_CHUNK_BUSY } else { READ_CHUNK };
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Writes as much as the socket takes. `true` if anything was written.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut progress = false;
        while !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.output) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    self.output.advance(count);
                    progress = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(progress),
            }
        }
        if progress || self.sealed {
            self.sealed = self.stream.is_tls() && Pin::new(&mut self.stream).poll_flush(cx)?.is_pending();
        }
        if progress && self.output.capacity() > KEEP {
            self.output = BytesMut::with_capacity(READ_CHUNK);
        } else if progress {
            self.output.clear();
        }
        Ok(progress)
    }

    /// [`Pipe::poll_flush`] to a peer that may be gone: what cannot be written is dropped. What the peer said before it
    /// left is still to be read, and then that it left.
    pub(crate) fn poll_flush_or_drop(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_flush(cx).unwrap_or_else(|_| {
            self.output.clear();
            true
        })
    }

    /// [`Pipe::poll_fill`], where a connection that breaks is one that ends.
    pub(crate) fn poll_fill_or_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_fill(cx).map(|result| self.ended |= result.is_err())
    }

    /// Writes what is left and tells the peer that no more will come.
    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)?;
        if self.is_flushed() { Pin::new(&mut self.stream).poll_shutdown(cx) } else { Poll::Pending }
    }

    /// Writes what is left and, on TLS, that this is the end: without that the peer would take it for an attack. Ready
    /// when there is nothing more to do, also because the peer is gone.
    pub(crate) fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_flush(cx).is_err() {
            return Poll::Ready(());
        }
        match (self.is_flushed(), self.stream.is_tls()) {
            (true, true) => Pin::new(&mut self.stream).poll_shutdown(cx).map(|_| ()),
            (true, false) => Poll::Ready(()),
            (false, _) => Poll::Pending,
        }
    }

    /// Moves everything read to `to`, uninterpreted.
    pub(crate) fn relay_all(&mut self, to: &mut Self) {
        if to.output.is_empty() {
            std::mem::swap(&mut self.input, &mut to.output);
        } else {
            to.output.extend_from_slice(&self.input);
        }
        self.input.clear();
    }

    /// Moves `count` bytes from the front of what was read to `to`.
    pub(crate) fn relay(&mut self, count: usize, to: &mut Self) {
        if count >= self.input.len() {
            return self.relay_all(to);
        }
        if let Some(bytes) = self.input.get(..count) {
            to.output.extend_from_slice(bytes);
        }
        self.input.advance(count);
    }
}
