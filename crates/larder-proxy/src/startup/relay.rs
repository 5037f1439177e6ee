//! The origin authenticates, and Larder passes every message on.
//!
//! One thing cannot pass unchanged: channel binding. It ties a login to the certificate that the client sees, which is
//! Larder's, while the origin expects its own. If the connection to the origin is encrypted, the mechanism that needs
//! it is taken out of the origin's offer (unless both certificates are the same). A client that knows channel binding
//! and is on TLS itself says "I could, and you do not offer it", which the origin takes for an attack: such a client is
//! told what to change instead of being left with the origin's refusal.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use bytes::{Buf as _, Bytes};
use larder_login::scram;
use larder_wire::{HEADER, Peek, backend, encode, peek};

use super::opening::Opened;
use super::{Greeting, LOGIN_ROOM, LoggedIn, Refused, body, origin, refuse};
use crate::access::Access;
use crate::pipe::Pipe;
use crate::worker::Worker;

/// AuthenticationSASL.
const SASL: [u8; 4] = [0, 0, 0, 10];

pub(super) async fn log_in(
    worker: &Worker,
    access: &Access,
    opened: &mut Opened,
) -> Result<LoggedIn, Refused> {
    let mut origin = origin::connect(worker, &mut opened.client).await?;
    origin.output.extend_from_slice(&opened.message);
    let ours = access.tls.as_ref().and_then(|tls| tls.end_point());
    let theirs = origin.stream().server_end_point();
    let same_certificate = opened.client.stream().is_tls() && ours.is_some() && ours == theirs.as_deref();
    let stage = Stage { separate: origin.stream().is_tls() && !same_certificate, ..Stage::default() };
    let greeting = authenticate(&mut opened.client, &mut origin, stage).await?;
    Ok(LoggedIn { origin, greeting })
}

/// What is known about the login under way.
#[derive(Debug, Default)]
struct Stage {
    /// Both connections are encrypted, each by its own certificate, or the client's is not at all.
    separate: bool,
    /// The offer of channel binding was taken out; the next message of the client chooses from the rest.
    stripped: bool,
    greeting: Greeting,
}

/// Relays until the origin is ready for queries.
pub(super) async fn relay(client: &mut Pipe, origin: &mut Pipe) -> Result<Greeting, Refused> {
    authenticate(client, origin, Stage::default()).await
}

async fn authenticate(client: &mut Pipe, origin: &mut Pipe, mut stage: Stage) -> Result<Greeting, Refused> {
    loop {
        while let Peek::Frame { tag, total } = peek(&origin.input)
            && origin.input.len() >= total
        {
            on_origin(client, origin, &mut stage, tag, total)?;
            if tag == b'Z' {
                return Ok(stage.greeting);
            }
        }
        // Only answers to the origin's questions pass; what comes after waits for the session to begin.
        while let Peek::Frame { tag: b'p', total } = peek(&client.input)
            && client.input.len() >= total
        {
            if std::mem::take(&mut stage.stripped) && suspects_us(client.input.get(HEADER..total)) {
                return Err(refuse(client, "28000", UNBINDABLE, Some(UNBINDABLE_HINT)));
            }
            client.relay(total, origin);
        }
        if origin.ended || client.ended {
            // What is no frame either is the refusal of a server that speaks another version.
            origin.relay_all(client);
            return Err(Refused::Told);
        }
        turn(client, origin).await?;
    }
}

const UNBINDABLE: &str = "SCRAM channel binding cannot pass through Larder: the connections to it and behind it are both \
                          encrypted, each with a certificate of its own";
const UNBINDABLE_HINT: &str =
    "Set [listen] auth = \"verify\" at Larder, or connect with channel_binding=disable.";

/// Passes one frame of the origin on.
fn on_origin(
    client: &mut Pipe,
    origin: &mut Pipe,
    stage: &mut Stage,
    tag: u8,
    total: usize,
) -> Result<(), Refused> {
    let frame = origin.input.get(..total).unwrap_or_default();
    match (tag, body(frame).strip_prefix(&SASL)) {
        (b'R', Some(offered)) if stage.separate => {
            let names = offered.split(|byte| *byte == 0).filter(|name| !name.is_empty());
            let kept: Vec<_> = names.filter(|name| *name != scram::PLUS.as_bytes()).collect();
            if kept.is_empty() {
                return Err(refuse(client, "28000", UNBINDABLE, Some(UNBINDABLE_HINT)));
            }
            encode::frame(&mut client.output, b'R', |out| {
                out.extend_from_slice(&SASL);
                kept.iter()
                    .for_each(|name| [*name, b"\0"].iter().for_each(|part| out.extend_from_slice(part)));
                out.extend_from_slice(b"\0");
            });
            stage.stripped = client.stream().is_tls();
            origin.input.advance(total);
        }
        _ => {
            match tag {
                b'K' => stage.greeting.key = Some(Bytes::copy_from_slice(body(frame))),
                b'S' => {
                    if let Some(name) = backend::application_name(body(frame)) {
                        stage.greeting.application_name = Some(String::from_utf8_lossy(name).into_owned());
                    }
                }
                _ => {}
            }
            origin.relay(total, client);
        }
    }
    Ok(())
}

/// Whether a SASLInitialResponse says that the client would bind the channel if it were offered (`y`).
fn suspects_us(response: Option<&[u8]>) -> bool {
    let after_name = response.and_then(|body| body.splitn(2, |byte| *byte == 0).nth(1));
    // Four bytes of length come first.
    after_name.and_then(|rest| rest.get(4)).is_some_and(|flag| *flag == b'y')
}

async fn turn(client: &mut Pipe, origin: &mut Pipe) -> io::Result<()> {
    poll_fn(|cx| {
        let mut progress = client.poll_flush(cx)? | origin.poll_flush(cx)?;
        for pipe in [&mut *client, &mut *origin] {
            // Nobody has anything long to say yet; what does not fit waits in the socket.
            if pipe.input.len() < LOGIN_ROOM
                && let Poll::Ready(result) = pipe.poll_fill(cx)
            {
                result?;
                progress = true;
            }
        }
        if progress { Poll::Ready(Ok::<_, io::Error>(())) } else { Poll::Pending }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::suspects_us;

    #[test]
    fn the_flag_is_found_behind_the_mechanism_and_the_length() {
        assert!(suspects_us(Some(b"SCRAM-SHA-256\0\0\0\0\x0cy,,n=,r=abc")));
        assert!(!suspects_us(Some(b"SCRAM-SHA-256\0\0\0\0\x0cn,,n=,r=abc")));
        assert!(!suspects_us(Some(b"SCRAM-SHA-256\0\0\0")));
        assert!(!suspects_us(Some(b"y")));
        assert!(!suspects_us(None));
    }
}
