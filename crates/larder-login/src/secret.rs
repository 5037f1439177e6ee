//! What is known of a user, as `pg_authid.rolpassword` or a users file has it.

use std::fmt;
use std::fmt::Write as _;

use md5::{Digest as _, Md5};

use crate::scram::{Key, Verifier};

/// What a user's proof is checked with.
#[derive(Clone)]
pub enum Secret {
    /// A SCRAM verifier: checks a proof, and a right proof lets Larder log in as this user.
    Scram(Verifier),
    /// `md5` and 32 digits: the hash of password and user, which is as good as the password for md5 itself.
    Md5(String),
    /// The password.
    Password {
        /// In the clear.
        password: String,
        /// Made of it.
        verifier: Verifier,
    },
}

impl Secret {
    /// By its form. `seed` makes salts that stay the same, see [`Verifier::of_password`].
    pub fn parse(text: &str, user: &str, seed: &Key) -> Self {
        let is_hash =
            |digits: &&str| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(verifier) = Verifier::parse(text) {
            Self::Scram(verifier)
        } else if text.strip_prefix("md5").filter(is_hash).is_some() {
            Self::Md5(text.to_owned())
        } else {
            let verifier = Verifier::of_password(text, seed, user);
            Self::Password { password: text.to_owned(), verifier }
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Scram(_) => "Scram",
            Self::Md5(_) => "Md5",
            Self::Password { .. } => "Password",
        };
        write!(f, "{kind}(***)")
    }
}

/// `md5` and the hash of password and user: what PostgreSQL stores.
pub(crate) fn md5_stored(user: &str, password: &str) -> String {
    hashed(&[password.as_bytes(), user.as_bytes()])
}

/// The answer to an md5 challenge by somebody who knows the stored hash.
pub fn md5_answer(stored: &str, salt: [u8; 4]) -> String {
    hashed(&[stored.strip_prefix("md5").unwrap_or(stored).as_bytes(), &salt])
}

fn hashed(parts: &[&[u8]]) -> String {
    let mut hash = Md5::new();
    parts.iter().for_each(|part| hash.update(part));
    let mut text = String::from("md5");
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_apart_by_their_form_and_never_printed() {
        let md5 = md5_stored("ann", "pencil");
        let parse = |text: &str| Secret::parse(text, "ann", &[1; 32]);
        assert!(matches!(parse(&md5), Secret::Md5(stored) if stored == md5));
        assert!(matches!(parse("md5sum"), Secret::Password { password, .. } if password == "md5sum"));
        assert_eq!(format!("{:?}", parse("pencil")), "Password(***)");
    }

    #[test]
    fn md5_is_postgres_own() {
        let expected = postgres_protocol::authentication::md5_hash(b"ann", b"pencil", [1, 2, 3, 4]);
        assert_eq!(md5_answer(&md5_stored("ann", "pencil"), [1, 2, 3, 4]), expected);
    }
}
