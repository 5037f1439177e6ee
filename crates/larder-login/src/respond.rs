//! Answering a server's authentication requests: what Larder does as a client of the origin, for its own account and
//! for the sessions that it authenticated itself.

use std::fmt;

use bytes::{BufMut as _, BytesMut};

use crate::scram::{ClientExchange, Credentials};
use crate::secret::{md5_answer, md5_stored};

/// What one can prove oneself with.
#[derive(Clone)]
pub enum Proof {
    /// Nothing: only `trust` and its like will do.
    Nothing,
    /// The password.
    Password(String),
    /// `md5` and the hash, as stored.
    Md5(String),
    /// The keys of a SCRAM exchange.
    Scram(Credentials),
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(***)")
    }
}

/// Why a request cannot be answered. The words are for whoever has to mend it; none is a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// It asks for a password.
    #[error("the server asks for a password and none is configured")]
    NoPassword,
    /// It asks for what cannot be had from what is known.
    #[error("the server asks for {asked}, which cannot be answered with {known}")]
    Unanswerable {
        /// What it asks for.
        asked: &'static str,
        /// What is known.
        known: &'static str,
    },
    /// An authentication method that is not spoken here.
    #[error("the server asks for {0}, which is not supported")]
    Unsupported(String),
    /// Not the protocol.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// The exchange failed on this side.
    #[error("{0}")]
    Scram(String),
}

/// What has become of the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The server wants to hear more, or says more first.
    GoesOn,
    /// AuthenticationOk.
    Accepted,
}

/// One login, seen from the client.
#[derive(Debug)]
pub struct Responder {
    user: String,
    proof: Proof,
    binding: Option<Vec<u8>>,
    scram: Option<ClientExchange>,
    /// The server has proven that it knows the verifier.
    believed: bool,
}

impl Responder {
    /// `binding`: the hash of the server's certificate, if the connection is encrypted.
    pub fn new(user: &str, proof: Proof, binding: Option<Vec<u8>>) -> Self {
        Self { user: user.to_owned(), proof, binding, scram: None, believed: false }
    }

    /// Answers one Authentication message (its body) with a frame appended to `out`, if it wants an answer.
    ///
    /// # Errors
    /// It cannot be answered.
    pub fn answer(&mut self, body: &[u8], out: &mut BytesMut) -> Result<Step, LoginError> {
        let (kind, rest) =
            body.split_first_chunk::<4>().ok_or(LoginError::Malformed("authentication request"))?;
        match u32::from_be_bytes(*kind) {
            // A server that breaks off its own proof to say "fine" may not be the one it claims to be.
            0 if self.scram.is_some() && !self.believed => {
                return Err(LoginError::Scram(
                    "the server did not prove that it knows the password".to_owned(),
                ));
            }
            0 => return Ok(Step::Accepted),
            3 => put(out, &[self.password("the password in clear text")?.as_bytes(), b"\0"]),
            5 => {
                let salt = rest.first_chunk::<4>().ok_or(LoginError::Malformed("md5 salt"))?;
                put(out, &[md5_answer(&self.md5_hash()?, *salt).as_bytes(), b"\0"]);
            }
            10 => self.begin_scram(rest, out)?,
            11 => {
                let exchange = self.scram.as_mut().ok_or(LoginError::Malformed("SASL continuation"))?;
                let proof = exchange.prove(rest).map_err(|why| LoginError::Scram(why.to_owned()))?;
                put(out, &[proof.as_bytes()]);
            }
            12 => {
                let exchange = self.scram.as_ref().ok_or(LoginError::Malformed("SASL final message"))?;
                self.believed = exchange.accepts(rest);
                if !self.believed {
                    return Err(LoginError::Scram("the server does not know the password".to_owned()));
                }
            }
            other => return Err(LoginError::Unsupported(name(other))),
        }
        Ok(Step::GoesOn)
    }

    fn begin_scram(&mut self, offered: &[u8], out: &mut BytesMut) -> Result<(), LoginError> {
        let credentials = match &self.proof {
            Proof::Password(password) => Credentials::Password(password.clone()),
            Proof::Scram(credentials) => credentials.clone(),
            Proof::Md5(_) => return Err(unanswerable("a SCRAM proof", "an md5 hash")),
            Proof::Nothing => return Err(LoginError::NoPassword),
        };
        let begun = ClientExchange::begin(credentials, offered, self.binding.as_deref());
        let exchange = begun
            .map_err(|error| LoginError::Scram(error.to_string()))?
            .ok_or_else(|| LoginError::Unsupported("SASL without SCRAM-SHA-256".to_owned()))?;
        let first = exchange.first();
        let length = u32::try_from(first.len()).unwrap_or(u32::MAX).to_be_bytes();
        put(out, &[exchange.mechanism().as_bytes(), b"\0", &length, first.as_bytes()]);
        self.scram = Some(exchange);
        Ok(())
    }

    fn password(&self, asked: &'static str) -> Result<&str, LoginError> {
        match &self.proof {
            Proof::Password(password) => Ok(password),
            Proof::Nothing => Err(LoginError::NoPassword),
            Proof::Md5(_) => Err(unanswerable(asked, "an md5 hash")),
            Proof::Scram(_) => Err(unanswerable(asked, "a SCRAM verifier")),
        }
    }

    fn md5_hash(&self) -> Result<String, LoginError> {
        match &self.proof {
            Proof::Md5(stored) => Ok(stored.clone()),
            _ => Ok(md5_stored(&self.user, self.password("an md5 hash of the password")?)),
        }
    }
}

fn unanswerable(asked: &'static str, known: &'static str) -> LoginError {
    LoginError::Unanswerable { asked, known }
}

/// A password message (`p`), in whichever of its roles.
fn put(out: &mut BytesMut, parts: &[&[u8]]) {
    out.put_u8(b'p');
    let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    parts.iter().for_each(|part| out.put_slice(part));
}

fn name(kind: u32) -> String {
    match kind {
        2 => "Kerberos".to_owned(),
        6..=8 => "GSSAPI".to_owned(),
        9 => "SSPI".to_owned(),
        other => format!("authentication method {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: u32, rest: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes(), rest].concat()
    }

    #[test]
    fn what_is_not_known_cannot_be_answered_and_says_so() {
        let keys = Credentials::Keys { client: [0; 32], server: [0; 32] };
        for (proof, kind, rest, expected) in [
            (Proof::Nothing, 3, &b""[..], "none is configured"),
            (Proof::Nothing, 5, b"salt", "none is configured"),
            (Proof::Nothing, 10, b"SCRAM-SHA-256\0\0", "none is configured"),
            (Proof::Md5("md5".to_owned()), 3, b"", "cannot be answered with an md5 hash"),
            (Proof::Md5("md5".to_owned()), 10, b"SCRAM-SHA-256\0\0", "cannot be answered with an md5 hash"),
            (Proof::Scram(keys), 5, b"salt", "cannot be answered with a SCRAM verifier"),
            (Proof::Password("x".to_owned()), 10, b"OAUTHBEARER\0\0", "without SCRAM-SHA-256"),
            (Proof::Password("x".to_owned()), 7, b"", "GSSAPI, which is not supported"),
            (Proof::Password("x".to_owned()), 5, b"so", "malformed md5 salt"),
            (Proof::Password("x".to_owned()), 11, b"", "malformed SASL continuation"),
        ] {
            let mut out = BytesMut::new();
            let answer = Responder::new("ann", proof, None).answer(&request(kind, rest), &mut out);
            let said = answer.unwrap_err().to_string();
            assert!(said.contains(expected) && out.is_empty(), "{kind}: {said}");
        }
    }

    #[test]
    fn a_server_that_skips_its_proof_is_not_believed() {
        let mut out = BytesMut::new();
        let mut responder = Responder::new("ann", Proof::Password("x".to_owned()), None);
        responder.answer(&request(10, b"SCRAM-SHA-256\0\0"), &mut out).unwrap();
        assert!(responder.answer(&request(0, b""), &mut out).is_err());
        let mut trusting = Responder::new("ann", Proof::Nothing, None);
        assert_eq!(trusting.answer(&request(0, b""), &mut out), Ok(Step::Accepted));
    }
}
