//! SCRAM-SHA-256 as PostgreSQL speaks it (RFC 5802, RFC 7677), both sides, without I/O.
//!
//! What makes a proxy possible that knows no password: from a correct proof the server side learns the *client key*,
//! and with it (and with nothing else) a client can prove itself to another server that has the same verifier.

mod client;
mod server;

pub use client::{ClientExchange, Credentials};
pub use server::{ScramError, ServerExchange, Verified};

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};

/// The mechanism without channel binding.
pub const PLAIN: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const PLUS: &str = "SCRAM-SHA-256-PLUS";
/// The one type of channel binding that PostgreSQL knows.
const BINDING: &str = "tls-server-end-point";
/// PostgreSQL's default of `scram_iterations`.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

/// 256 bits that are secret.
pub type Key = [u8; 32];

/// What a server keeps of a password: enough to check a proof, not enough to give one.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

impl Verifier {
    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, as in `pg_authid.rolpassword`.
    pub fn parse(text: &str) -> Option<Self> {
        let (parameters, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text: &str| BASE64.decode(text).ok()?.try_into().ok();
        Some(Self {
            iterations: iterations.parse().ok()?,
            salt: BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?,
            stored_key: key(stored)?,
            server_key: key(server)?,
        })
    }

    /// Of a password that is known. `seed` and the user's name make the salt, so that it stays the same.
    pub fn of_password(password: &str, seed: &Key, user: &str) -> Self {
        let salt = salt(seed, user);
        let (client_key, server_key) = keys(password, &salt, ITERATIONS);
        Self { iterations: ITERATIONS, salt, stored_key: sha256(&client_key), server_key }
    }

    /// Of a user that does not exist: looks like any other, is the same each time, and accepts nothing.
    pub fn mock(seed: &Key, user: &str) -> Self {
        Self { iterations: ITERATIONS, salt: salt(seed, user), stored_key: [0; 32], server_key: [0; 32] }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(***)")
    }
}

/// 16 bytes that depend on the user and that only the holder of the seed can foresee.
fn salt(seed: &Key, user: &str) -> Vec<u8> {
    let mut salt = mac(seed, user.as_bytes()).to_vec();
    salt.truncate(16);
    salt
}

/// Client key and server key of a password.
fn keys(password: &str, salt: &[u8], iterations: NonZeroU32) -> (Key, Key) {
    // Like PostgreSQL: a password that SASLprep does not take is used as it is.
    let prepared = stringprep::saslprep(password);
    let bytes = prepared.as_deref().unwrap_or(password).as_bytes();
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, bytes, &mut salted);
    (mac(&salted, b"Client Key"), mac(&salted, b"Server Key"))
}

fn mac(key: &[u8], message: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut out = [0; 32];
    out.copy_from_slice(tag.as_ref());
    out
}

/// A key made of secrets, for one purpose.
pub(crate) fn hashed(purpose: &[u8], parts: &[impl AsRef<[u8]>]) -> Key {
    let mut digests = Vec::new();
    parts.iter().for_each(|part| digests.extend_from_slice(&sha256(part.as_ref())));
    mac(purpose, &digests)
}

fn sha256(message: &[u8]) -> Key {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, message).as_ref());
    out
}

fn xor(mut left: Key, right: &Key) -> Key {
    left.iter_mut().zip(right).for_each(|(left, right)| *left ^= right);
    left
}

/// 24 printable characters that nobody can guess.
fn nonce() -> std::io::Result<String> {
    Ok(BASE64.encode(crate::random::<18>()?))
}

/// Takes `name=value` off the front of a list of attributes; the value and what comes after its comma.
fn attribute(text: &str, name: char) -> Option<(&str, &str)> {
    let value = text.strip_prefix(name)?.strip_prefix('=')?;
    Some(value.split_once(',').unwrap_or((value, "")))
}

#[cfg(test)]
mod tests;
