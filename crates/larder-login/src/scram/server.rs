//! The server's side: towards clients. The same checks and the same words as PostgreSQL's `auth-scram.c`.

use base64::Engine as _;
use subtle::ConstantTimeEq as _;

use super::{BASE64, BINDING, Credentials, Key, PLAIN, PLUS, Verifier, attribute, mac, nonce, sha256, xor};

/// Why an exchange ends without a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// Not SCRAM as PostgreSQL speaks it (08P01).
    #[error("malformed SCRAM message")]
    Malformed(&'static str),
    /// Somebody in between hid the mechanism with channel binding (28000).
    #[error("SCRAM channel binding negotiation error")]
    Downgraded,
    /// The client is connected to somebody else's certificate (28000).
    #[error("SCRAM channel binding check failed")]
    WrongBinding,
    /// Wrong password, or no such user: nobody is told which (28P01).
    #[error("password authentication failed")]
    WrongPassword,
    /// No random numbers.
    #[error("no random numbers from the system")]
    NoRandom,
}

/// A client that has proven itself.
#[derive(Debug)]
pub struct Verified {
    /// The server's own proof, for the client.
    pub last: String,
    /// With this Larder can log in as the client.
    pub credentials: Credentials,
}

/// One exchange, seen from the server.
#[derive(Debug)]
pub struct ServerExchange {
    verifier: Verifier,
    /// The user exists: a proof can be right.
    genuine: bool,
    /// The hash of our certificate, if the connection is encrypted.
    binding: Option<Vec<u8>>,
    /// After the first message.
    challenged: Option<Challenged>,
}

#[derive(Debug)]
struct Challenged {
    /// Base64 of what the client must repeat: its header and the channel's binding.
    bound: String,
    first_bare: String,
    challenge: String,
    nonce: String,
}

impl ServerExchange {
    /// For a user with this verifier, or for one who does not exist (`genuine` is false, see [`Verifier::mock`]).
    pub fn new(verifier: Verifier, genuine: bool, binding: Option<&[u8]>) -> Self {
        Self { verifier, genuine, binding: binding.map(<[u8]>::to_vec), challenged: None }
    }

    /// The mechanisms to offer, best first.
    pub fn mechanisms(&self) -> &'static [&'static str] {
        if self.binding.is_some() { &[PLUS, PLAIN] } else { &[PLAIN] }
    }

    /// Whether the client has sent its first message.
    pub fn is_challenged(&self) -> bool {
        self.challenged.is_some()
    }

    /// The client's first message; returns the challenge.
    ///
    /// # Errors
    /// See [`ScramError`].
    pub fn challenge(&mut self, mechanism: &[u8], first: &[u8]) -> Result<String, ScramError> {
        let plus = mechanism == PLUS.as_bytes();
        if !(plus && self.binding.is_some() || mechanism == PLAIN.as_bytes()) {
            return Err(ScramError::Malformed(
                "The client selected an authentication mechanism that was not offered.",
            ));
        }
        let text =
            std::str::from_utf8(first).map_err(|_| ScramError::Malformed("The message is not text."))?;
        let (header, bare) = split_header(text).ok_or(ScramError::Malformed("The header is cut off."))?;
        let (flag, identity) = header.split_once(',').unwrap_or((header, ""));
        match flag {
            "n" | "y" if plus => {
                return Err(ScramError::Malformed(
                    "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.",
                ));
            }
            "n" => {}
            "y" if self.binding.is_some() => return Err(ScramError::Downgraded),
            "y" => {}
            _ if plus && flag.strip_prefix("p=") == Some(BINDING) => {}
            _ => return Err(ScramError::Malformed("Unexpected channel-binding flag or type.")),
        }
        if identity != "," {
            return Err(ScramError::Malformed(
                "The client uses authorization identity, but it is not supported.",
            ));
        }
        // The user's name was in the startup packet; the one here is ignored, as PostgreSQL does.
        let (_, rest) = attribute(bare, 'n')
            .ok_or(ScramError::Malformed("The client requires an unsupported SCRAM extension."))?;
        let (client_nonce, _) = attribute(rest, 'r').ok_or(ScramError::Malformed("The nonce is missing."))?;
        if client_nonce.is_empty() || !client_nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ScramError::Malformed("Non-printable characters in SCRAM nonce."));
        }
        let nonce = format!("{client_nonce}{}", nonce().map_err(|_| ScramError::NoRandom)?);
        let binding = self.binding.as_deref().filter(|_| plus).unwrap_or_default();
        let Verifier { iterations, salt, .. } = &self.verifier;
        let challenge = format!("r={nonce},s={},i={iterations}", BASE64.encode(salt));
        self.challenged = Some(Challenged {
            bound: BASE64.encode([header.as_bytes(), binding].concat()),
            first_bare: bare.to_owned(),
            challenge: challenge.clone(),
            nonce,
        });
        Ok(challenge)
    }

    /// The client's proof.
    ///
    /// # Errors
    /// See [`ScramError`].
    pub fn verify(&self, last: &[u8]) -> Result<Verified, ScramError> {
        let malformed = |why| ScramError::Malformed(why);
        let Some(Challenged { bound, first_bare, challenge, nonce }) = &self.challenged else {
            return Err(malformed("A proof came before the first message."));
        };
        let text = std::str::from_utf8(last).map_err(|_| malformed("The message is not text."))?;
        let (repeated, rest) = attribute(text, 'c').ok_or(malformed("The channel binding is missing."))?;
        let (repeated_nonce, _) = attribute(rest, 'r').ok_or(malformed("The nonce is missing."))?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(malformed("The proof is missing."))?;
        let proof = BASE64.decode(proof).ok().and_then(|proof| Key::try_from(proof).ok());
        let proof = proof.ok_or(malformed("Malformed proof in client-final-message."))?;
        if repeated != bound {
            return Err(ScramError::WrongBinding);
        }
        if !bool::from(repeated_nonce.as_bytes().ct_eq(nonce.as_bytes())) {
            return Err(malformed("Nonce does not match."));
        }
        let message = format!("{first_bare},{challenge},{without_proof}");
        let Verifier { stored_key, server_key, .. } = &self.verifier;
        let client = xor(proof, &mac(stored_key, message.as_bytes()));
        // Both are looked at whatever the other says: a missing user takes as long as a wrong password.
        let right = sha256(&client).ct_eq(stored_key) & subtle::Choice::from(u8::from(self.genuine));
        let signature = mac(server_key, message.as_bytes());
        if !bool::from(right) {
            return Err(ScramError::WrongPassword);
        }
        Ok(Verified {
            last: format!("v={}", BASE64.encode(signature)),
            credentials: Credentials::Keys { client, server: *server_key },
        })
    }
}

/// The header (up to and with its second comma) and the rest of a first message.
fn split_header(text: &str) -> Option<(&str, &str)> {
    let (second, _) = text.match_indices(',').nth(1)?;
    text.split_at_checked(second + 1)
}
