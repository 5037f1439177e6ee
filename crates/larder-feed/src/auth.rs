//! Login of the replication connection: trust, password, md5 and SCRAM-SHA-256.

use bytes::{Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;

use crate::error::Failure;
use crate::{Account, wire::Wire};

/// Answers the server's authentication requests until it is satisfied.
pub(crate) async fn log_in(wire: &mut Wire, account: &Account) -> Result<(), Failure> {
    let mut scram: Option<ScramSha256> = None;
    loop {
        let frame = wire.expect(b'R').await?;
        let (kind, rest) = split_kind(&frame.body)?;
        let mut out = BytesMut::new();
        match kind {
            0 => return Ok(()),
            3 => frontend::password_message(password(account)?, &mut out)?,
            5 => {
                let salt = rest.first_chunk::<4>().ok_or_else(|| malformed("md5 salt"))?;
                let hash = md5_hash(account.user.as_bytes(), password(account)?, *salt);
                frontend::password_message(hash.as_bytes(), &mut out)?;
            }
            10 => {
                if !rest.split(|byte| *byte == 0).any(|name| name == SCRAM_SHA_256.as_bytes()) {
                    return Err(Failure::Authentication("the server offers no SCRAM-SHA-256".to_owned()));
                }
                let client = ScramSha256::new(password(account)?, ChannelBinding::unsupported());
                frontend::sasl_initial_response(SCRAM_SHA_256, client.message(), &mut out)?;
                scram = Some(client);
            }
            11 => {
                let client = scram.as_mut().ok_or_else(|| malformed("SASL continuation"))?;
                client.update(&rest).map_err(|error| Failure::Authentication(error.to_string()))?;
                frontend::sasl_response(client.message(), &mut out)?;
            }
            12 => {
                // Proves that the server knows the password too.
                let client = scram.as_mut().ok_or_else(|| malformed("SASL final message"))?;
                client.finish(&rest).map_err(|error| Failure::Authentication(error.to_string()))?;
                continue;
            }
            other => {
                return Err(Failure::Authentication(format!(
                    "the server asks for authentication method {other}, which is not supported"
                )));
            }
        }
        wire.send(&out).await?;
    }
}

fn split_kind(body: &Bytes) -> Result<(i32, Bytes), Failure> {
    let kind = body.first_chunk::<4>().ok_or_else(|| malformed("authentication request"))?;
    Ok((i32::from_be_bytes(*kind), body.slice(4..)))
}

fn password(account: &Account) -> Result<&[u8], Failure> {
    account.password.as_deref().map(str::as_bytes).ok_or_else(|| {
        Failure::Authentication("the server asks for a password and none is configured".to_owned())
    })
}

fn malformed(what: &str) -> Failure {
    Failure::Protocol(format!("malformed {what}"))
}
