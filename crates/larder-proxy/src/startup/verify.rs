//! Larder authenticates the client itself, and logs in at the origin as that user with what the client's own proof has
//! taught it: never with Larder's own account.
//!
//! To a client it looks as if PostgreSQL did it: the same messages, the same errors, and no way to find out which users
//! exist. AuthenticationOk is the origin's: what the origin has against the login, the client hears in the origin's words.

use larder_login::scram::{Credentials, ScramError, ServerExchange, Verifier};
use larder_login::{LoginError, Proof, Responder, Secret, Step, md5_answer};
use larder_wire::encode;
use subtle::ConstantTimeEq as _;

use super::opening::Opened;
use super::{LoggedIn, Refused, body, flush, next_frame, origin, refuse, relay};
use crate::access::{Access, Secrets};
use crate::pipe::Pipe;
use crate::worker::Worker;

/// Authentication messages by their number.
const MD5: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// `by_password`: with a password (and a certificate, if clients have them); else with the certificate alone.
pub(super) async fn log_in(
    worker: &Worker,
    access: &Access,
    opened: &mut Opened,
    secrets: &dyn Secrets,
    by_password: bool,
) -> Result<LoggedIn, Refused> {
    let Some(user) = opened.user.clone() else {
        let message = "no PostgreSQL user name specified in startup packet";
        return Err(refuse(&mut opened.client, "28000", message, None));
    };
    let proof = match prove(access, opened, &user, secrets, by_password).await {
        Ok(proof) => proof,
        Err(refused) => {
            tracing::info!(client = %opened.peer, user, "login refused");
            return Err(refused);
        }
    };
    let client = &mut opened.client;
    flush(client).await?;
    let mut origin = origin::connect(worker, client).await?;
    origin.output.extend_from_slice(&opened.message);
    let responder = Responder::new(&user, proof, origin.stream().server_end_point());
    enter(client, &mut origin, responder).await?;
    let greeting = relay::relay(client, &mut origin).await?;
    Ok(LoggedIn { origin, greeting })
}

/// The client's side: what it proved, as far as that can be used at the origin.
async fn prove(
    access: &Access,
    opened: &mut Opened,
    user: &str,
    secrets: &dyn Secrets,
    by_password: bool,
) -> Result<Proof, Refused> {
    // As clientcert=verify-full and the method cert: an authority vouches for the name.
    if (access.asks_certificates() || !by_password) && opened.certificate.as_deref() != Some(user) {
        let message = format!("certificate authentication failed for user \"{user}\"");
        let hint = "The common name (CN) of the client's certificate must be the user's name.";
        return Err(refuse(&mut opened.client, "28000", &message, Some(hint)));
    }
    let secret = match secrets.secret(user).await {
        Ok(secret) => secret,
        Err(error) => {
            tracing::warn!(%error, "the secrets of users cannot be looked up");
            let message = "passwords cannot be checked at the moment";
            return Err(refuse(&mut opened.client, "57P03", message, None));
        }
    };
    let client = &mut opened.client;
    match secret {
        _ if !by_password => Ok(match secret {
            Some(Secret::Password { password, .. }) => Proof::Password(password),
            Some(Secret::Md5(stored)) => Proof::Md5(stored),
            // A verifier proves nothing: only the client could say the password.
            Some(Secret::Scram(_)) | None => Proof::Nothing,
        }),
        Some(Secret::Md5(stored)) => md5(client, user, stored).await,
        Some(Secret::Scram(verifier)) => scram(access, client, user, verifier, true).await.map(Proof::Scram),
        Some(Secret::Password { password, verifier }) => {
            scram(access, client, user, verifier, true).await.map(|_| Proof::Password(password))
        }
        None => {
            let mock = Verifier::mock(&access.seed, user);
            scram(access, client, user, mock, false).await.map(Proof::Scram)
        }
    }
}

async fn md5(client: &mut Pipe, user: &str, stored: String) -> Result<Proof, Refused> {
    let salt = larder_login::random::<4>()?;
    authentication(client, MD5, &salt);
    let answer = password_message(client).await?;
    let right = answer.strip_suffix(b"\0").unwrap_or(&answer).ct_eq(md5_answer(&stored, salt).as_bytes());
    if bool::from(right) { Ok(Proof::Md5(stored)) } else { Err(wrong_password(client, user)) }
}

/// `genuine`: the user exists.
pub(super) async fn scram(
    access: &Access,
    client: &mut Pipe,
    user: &str,
    verifier: Verifier,
    genuine: bool,
) -> Result<Credentials, Refused> {
    let tls = access.tls.as_ref().filter(|_| client.stream().is_tls());
    let mut exchange = ServerExchange::new(verifier, genuine, tls.and_then(|tls| tls.end_point()));
    let offer: Vec<u8> =
        exchange.mechanisms().iter().flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect();
    authentication(client, SASL, &[&offer[..], b"\0"].concat());
    let first = password_message(client).await?;
    let challenge = match initial_response(&first) {
        Some((mechanism, first)) => exchange.challenge(mechanism, first),
        None => Err(ScramError::Malformed("SASLInitialResponse is cut off.")),
    };
    let challenge = challenge.map_err(|error| scram_failed(client, user, error))?;
    authentication(client, SASL_CONTINUE, challenge.as_bytes());
    let last = password_message(client).await?;
    let verified = exchange.verify(&last).map_err(|error| scram_failed(client, user, error))?;
    authentication(client, SASL_FINAL, verified.last.as_bytes());
    Ok(verified.credentials)
}

/// Mechanism and first message.
fn initial_response(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let (mechanism, rest) = body.split_at_checked(end)?;
    let (length, first) = rest.get(1..)?.split_first_chunk::<4>()?;
    (usize::try_from(u32::from_be_bytes(*length)).ok()? == first.len()).then_some((mechanism, first))
}

fn scram_failed(client: &mut Pipe, user: &str, error: ScramError) -> Refused {
    match error {
        ScramError::WrongPassword => wrong_password(client, user),
        ScramError::Malformed(why) => refuse(client, "08P01", &error.to_string(), Some(why)),
        ScramError::Downgraded => {
            let hint = "The client supports SCRAM channel binding but thinks the server does not. However, this server \
                        does support channel binding.";
            refuse(client, "28000", &error.to_string(), Some(hint))
        }
        ScramError::WrongBinding => refuse(client, "28000", &error.to_string(), None),
        ScramError::NoRandom => refuse(client, "XX000", &error.to_string(), None),
    }
}

fn wrong_password(client: &mut Pipe, user: &str) -> Refused {
    refuse(client, "28P01", &format!("password authentication failed for user \"{user}\""), None)
}

pub(super) fn authentication(client: &mut Pipe, kind: u32, rest: &[u8]) {
    encode::frame(&mut client.output, b'R', |out| {
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(rest);
    });
}

/// The body of the client's next message, which must be an answer.
async fn password_message(client: &mut Pipe) -> Result<Vec<u8>, Refused> {
    match next_frame(client).await? {
        Some((b'p', frame)) => Ok(body(&frame).to_vec()),
        Some((tag, _)) => {
            let message = format!("expected password response, got message type {tag}");
            Err(refuse(client, "08P01", &message, None))
        }
        None => Err(Refused::Told),
    }
}

/// The origin's side: answers its questions until it says AuthenticationOk, which the client gets.
async fn enter(client: &mut Pipe, origin: &mut Pipe, mut responder: Responder) -> Result<(), Refused> {
    loop {
        let Some((tag, frame)) = next_frame(origin).await? else {
            // What is no frame is the refusal of a server that speaks another version.
            origin.relay_all(client);
            return Err(Refused::Told);
        };
        if tag != b'R' {
            // A notice, a version negotiated, or an error, after which it closes.
            client.output.extend_from_slice(&frame);
            if tag == b'E' {
                return Err(Refused::Told);
            }
            continue;
        }
        // Deriving a key from a password takes milliseconds, which the worker's other clients should not wait for.
        let request = frame.clone();
        let thinking = tokio::task::spawn_blocking(move || {
            let mut out = bytes::BytesMut::new();
            let answer = responder.answer(body(&request), &mut out);
            (responder, answer, out)
        });
        let (returned, answer, out) = thinking.await.map_err(std::io::Error::other)?;
        responder = returned;
        origin.output.extend_from_slice(&out);
        match answer {
            Ok(Step::GoesOn) => {}
            Ok(Step::Accepted) => {
                client.output.extend_from_slice(&frame);
                return Ok(());
            }
            Err(error) => return Err(cannot_enter(client, &error)),
        }
    }
}

fn cannot_enter(client: &mut Pipe, error: &LoginError) -> Refused {
    tracing::warn!(%error, "no login at the origin for a client that has authenticated here");
    let hint = match error {
        LoginError::NoPassword | LoginError::Unanswerable { .. } => Some(
            "In pg_hba.conf of the origin let Larder's address use the method that fits the user's secret: \
             scram-sha-256 for a SCRAM verifier, md5 for an md5 hash; or put the password into [listen] auth_users.",
        ),
        _ => None,
    };
    refuse(client, "28000", &format!("could not log in at the PostgreSQL server: {error}"), hint)
}
