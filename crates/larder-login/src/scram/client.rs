//! The client's side: towards the origin, with a password or with the client key alone.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine as _;
use subtle::ConstantTimeEq as _;

use super::{BASE64, BINDING, Key, PLAIN, PLUS, attribute, keys, mac, nonce, sha256, xor};

/// Most iterations that a server may ask for: each costs about a third of a microsecond, and it is the server that
/// chooses.
const MAX_ITERATIONS: u32 = 1_000_000;

/// What proves who the client is.
#[derive(Clone)]
pub enum Credentials {
    /// The password.
    Password(String),
    /// What the password's owner proved with, and what the server must prove with in turn.
    Keys {
        /// ClientKey.
        client: Key,
        /// ServerKey.
        server: Key,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// One exchange, seen from the client.
#[derive(Debug)]
pub struct ClientExchange {
    credentials: Credentials,
    /// `p=...`, `y` or `n`, with the commas.
    header: String,
    binding: Vec<u8>,
    plus: bool,
    nonce: String,
    /// What the server must sign, and the key it must do it with; known once it has sent its challenge.
    expected: Option<Key>,
}

impl ClientExchange {
    /// Begins. `offered` are the server's mechanisms, `binding` the hash of its certificate if the connection is
    /// encrypted. `None`: the server offers no SCRAM-SHA-256.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn begin(
        credentials: Credentials,
        offered: &[u8],
        binding: Option<&[u8]>,
    ) -> std::io::Result<Option<Self>> {
        let offers = |name: &str| offered.split(|byte| *byte == 0).any(|offer| offer == name.as_bytes());
        let plus = offers(PLUS) && binding.is_some();
        if !plus && !offers(PLAIN) {
            return Ok(None);
        }
        let header = match binding {
            Some(_) if plus => format!("p={BINDING},,"),
            // "I could, and you do not offer it": a server that did offer it knows that somebody is in between.
            Some(_) => "y,,".to_owned(),
            None => "n,,".to_owned(),
        };
        let binding = binding.filter(|_| plus).unwrap_or_default().to_vec();
        Ok(Some(Self { credentials, header, binding, plus, nonce: nonce()?, expected: None }))
    }

    /// The mechanism chosen.
    pub fn mechanism(&self) -> &'static str {
        if self.plus { PLUS } else { PLAIN }
    }

    /// The first message.
    pub fn first(&self) -> String {
        format!("{}n=,r={}", self.header, self.nonce)
    }

    /// The second message, with the proof.
    ///
    /// # Errors
    /// The challenge is not one.
    pub fn prove(&mut self, challenge: &[u8]) -> Result<String, &'static str> {
        const MALFORMED: &str = "malformed SCRAM challenge";
        let challenge = std::str::from_utf8(challenge).map_err(|_| MALFORMED)?;
        let (nonce, rest) = attribute(challenge, 'r').ok_or(MALFORMED)?;
        let (salt, rest) = attribute(rest, 's').ok_or(MALFORMED)?;
        let (iterations, _) = attribute(rest, 'i').ok_or(MALFORMED)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the server's SCRAM nonce does not continue ours");
        }
        let salt = BASE64.decode(salt).map_err(|_| MALFORMED)?;
        let iterations: NonZeroU32 = iterations.parse().map_err(|_| MALFORMED)?;
        if iterations.get() > MAX_ITERATIONS {
            return Err("the server asks for more than a million SCRAM iterations");
        }
        let (client_key, server_key) = match &self.credentials {
            Credentials::Password(password) => keys(password, &salt, iterations),
            Credentials::Keys { client, server } => (*client, *server),
        };
        let bound = BASE64.encode([self.header.as_bytes(), &self.binding].concat());
        let without_proof = format!("c={bound},r={nonce}");
        let message = format!("n=,r={},{challenge},{without_proof}", self.nonce);
        let proof = xor(client_key, &mac(&sha256(&client_key), message.as_bytes()));
        self.expected = Some(mac(&server_key, message.as_bytes()));
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)))
    }

    /// Whether the server proved that it knows the verifier, too.
    pub fn accepts(&self, last: &[u8]) -> bool {
        let signature = std::str::from_utf8(last).ok().and_then(|text| attribute(text, 'v'));
        let signature = signature.and_then(|(value, _)| BASE64.decode(value).ok());
        match (signature, &self.expected) {
            (Some(signature), Some(expected)) => signature.ct_eq(expected).into(),
            _ => false,
        }
    }
}
