//! Proving who one is, and keeping others from listening: what the client path and the change feed share.
//!
//! * `stream`: a TCP connection with or without TLS, one type for both;
//! * `listen`: TLS towards clients; `origin`, `verifier`: TLS towards the origin, with libpq's modes;
//! * `certificates`: reading them, and what is read out of them (names, channel binding);
//! * `scram`: SCRAM-SHA-256, both sides, without I/O;
//! * `url`: where a server is and who logs in there, from a `postgres://` URL;
//! * `secret`, `users`: what is known of a user (a verifier, an md5 hash, a password), and the file that says so;
//! * `respond`: answering a server's authentication requests, without I/O.
//!
//! Nothing here prints a secret: the types that hold one have a `Debug` of their own.

mod certificates;
mod listen;
mod origin;
mod respond;
pub mod scram;
mod secret;
mod stream;
mod url;
mod users;
mod verifier;

pub use certificates::SetupError;
pub use listen::{Accepted, ListenTls};
pub use origin::{ConnectError, OriginTls, TlsMode};
pub use respond::{LoginError, Proof, Responder, Step};
pub use secret::{Secret, md5_answer};
pub use stream::Stream;
pub use url::{ServerUrl, ServerUrlError};
pub use users::{UserFileError, parse_users};

/// Secret bytes made of other secrets, the same ones each time.
pub fn seed(parts: &[impl AsRef<[u8]>]) -> [u8; 32] {
    scram::hashed(b"larder: seed of challenges for unknown users", parts)
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
pub fn same_secret(given: &[u8], known: &[u8]) -> bool {
    subtle::ConstantTimeEq::ct_eq(given, known).into()
}

/// Random bytes that nobody can guess.
///
/// # Errors
/// The operating system has none to give.
pub fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; N];
    let filled = ring::rand::SystemRandom::new().fill(&mut bytes);
    filled.map(|()| bytes).map_err(|_| std::io::Error::other("no random numbers from the system"))
}
