//! What a value looks like in a tier: compressed, authenticated and, if wanted, encrypted.
//!
//! ```text
//!   magic (2) | version (1) | flags (1) | [size of the plain bytes (4), if compressed] | body | proof
//!
//!   no secret:            body = bytes,              proof = 16 bytes, SipHash-128: garbage is noticed, forgery is not
//!   secret:               body = bytes,              proof = 32 bytes, HMAC-SHA256
//!   secret, encrypted:    body = salt (16) | AES-256-GCM of the bytes, proof = its tag (16), key = HKDF(secret, salt)
//! ```
//!
//! The proof also covers the header and the *associated data* that the reader knows by himself (full key, life of the
//! origin), each part with its length before it: a true value under another key opens nowhere. It says who wrote a
//! value, never when: a replayed one opens, and freshness must come from elsewhere.
//!
//! A version, a flag or a kind of proof that is not understood is a value that is not there, so that programs of
//! several versions can share a tier. With a secret, values without its proof are not there either.

use std::hash::Hasher as _;

use bytes::{BufMut as _, Bytes, BytesMut};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{aead, hkdf, hmac};
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use subtle::ConstantTimeEq as _;

use super::TierKey;

const MAGIC: [u8; 2] = [0x4c, 0xd2];
/// Another one whenever the same bytes would mean something else.
const VERSION: u8 = 1;
const HEADER: usize = 4;

const COMPRESSED: u8 = 1;
/// The proof is made with the secret.
const KEYED: u8 = 2;
const ENCRYPTED: u8 = 4;

const SALT: usize = 16;
const CHECKSUM: usize = 16;
const MAC: usize = 32;
/// The salt gives every value a key of its own, so one nonce does for all.
const NONCE: [u8; aead::NONCE_LEN] = [0; aead::NONCE_LEN];
/// Shorter secrets can be guessed from one sealed value.
const SHORTEST_SECRET: usize = 16;

/// How values are sealed.
#[derive(Clone, Copy)]
pub struct SealOptions<'a> {
    /// Shared by all processes that may read each other's values; at least 16 bytes, best 32 random ones.
    pub secret: Option<&'a [u8]>,
    /// Whether what is written is encrypted too; needs the secret.
    pub encrypt: bool,
    /// From so many bytes on, values are compressed.
    pub compress_above: usize,
    /// Larger values are neither sealed nor opened: the bound on what a forged size can make a reader allocate.
    pub max_plain: usize,
}

/// Why there can be no sealer of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealerError {
    /// The secret is too short.
    #[error("the secret is shorter than {SHORTEST_SECRET} bytes")]
    ShortSecret,
    /// Encryption without a secret.
    #[error("encryption needs a secret")]
    NothingToEncryptWith,
}

/// Seals values for a tier and opens those that come back. Cheap to share, takes no lock.
pub struct Sealer {
    secret: Option<Secret>,
    encrypt: bool,
    compress_above: usize,
    max_plain: usize,
    hash: [u8; 16],
    random: SystemRandom,
}

/// Keys made from the secret, each for one use.
struct Secret {
    mac: hmac::Key,
    encryption: hkdf::Prk,
}

impl Sealer {
    /// Makes the keys.
    ///
    /// # Errors
    /// The secret is too short, or missing where it is needed.
    pub fn new(options: SealOptions<'_>) -> Result<Self, SealerError> {
        let SealOptions { secret, encrypt, compress_above, max_plain } = options;
        if secret.is_some_and(|secret| secret.len() < SHORTEST_SECRET) {
            return Err(SealerError::ShortSecret);
        }
        if encrypt && secret.is_none() {
            return Err(SealerError::NothingToEncryptWith);
        }
        let mut hash = [0; 16];
        if let Some(secret) = secret {
            hash.iter_mut()
                .zip(derive(secret, b"larder tier key").as_ref())
                .for_each(|(to, from)| *to = *from);
        }
        let secret = secret.map(|secret| Secret {
            mac: hmac::Key::new(hmac::HMAC_SHA256, derive(secret, b"larder tier mac").as_ref()),
            encryption: hkdf::Prk::new_less_safe(
                hkdf::HKDF_SHA256,
                derive(secret, b"larder tier encryption").as_ref(),
            ),
        });
        // The compressed form has 32 bits for the size.
        let max_plain = max_plain.min(u32::MAX as usize);
        Ok(Self { secret, encrypt, compress_above, max_plain, hash, random: SystemRandom::new() })
    }

    /// What the value of this full key is kept under. The parts are told apart: `["a", "bc"]` is not `["ab", "c"]`.
    pub fn key(&self, full_key: &[&[u8]]) -> TierKey {
        TierKey(self.sip(full_key))
    }

    /// Seals a value; `None` if it is too large.
    pub fn seal(&self, associated: &[&[u8]], plain: &[u8]) -> Option<Bytes> {
        if plain.len() > self.max_plain {
            return None;
        }
        let packed = (plain.len() >= self.compress_above).then(|| compress(plain)).flatten();
        let mut flags = if packed.is_some() { COMPRESSED } else { 0 };
        if self.secret.is_some() {
            flags |= KEYED;
        }
        if self.encrypt {
            flags |= ENCRYPTED;
        }
        let body = packed.as_deref().unwrap_or(plain);
        let mut out = BytesMut::with_capacity(HEADER + 4 + SALT + body.len() + MAC);
        out.put_slice(&MAGIC);
        out.put_slice(&[VERSION, flags]);
        if packed.is_some() {
            out.put_u32_le(u32::try_from(plain.len()).ok()?);
        }
        match &self.secret {
            Some(secret) if self.encrypt => self.encrypt(secret, associated, &mut out, body)?,
            Some(secret) => {
                out.put_slice(body);
                let proof = mac(&secret.mac, associated, &out);
                out.put_slice(proof.as_ref());
            }
            None => {
                out.put_slice(body);
                let proof = self.checksum(associated, &out);
                out.put_slice(&proof);
            }
        }
        Some(out.freeze())
    }

    /// Opens what came back; `None` if it is anything but a value sealed under this associated data by somebody with
    /// the same secret.
    pub fn open(&self, associated: &[&[u8]], sealed: Bytes) -> Option<Bytes> {
        let (&[m0, m1, version, flags], rest) = sealed.split_first_chunk::<HEADER>()?;
        let known = flags & !(COMPRESSED | KEYED | ENCRYPTED) == 0;
        if [m0, m1] != MAGIC || version != VERSION || !known {
            return None;
        }
        let size = if flags & COMPRESSED != 0 {
            let size = usize::try_from(u32::from_le_bytes(*rest.first_chunk()?)).ok()?;
            if size > self.max_plain {
                return None;
            }
            Some(size)
        } else {
            None
        };
        let head = HEADER + if size.is_some() { 4 } else { 0 };
        let body = match (&self.secret, flags & (KEYED | ENCRYPTED)) {
            (Some(secret), KEYED) => {
                let end = sealed.len().checked_sub(MAC).filter(|end| *end >= head)?;
                let (covered, proof) = sealed.split_at_checked(end)?;
                let expected = mac(&secret.mac, associated, covered);
                bool::from(expected.as_ref().ct_eq(proof)).then(|| sealed.slice(head..end))?
            }
            (Some(secret), flags) if flags == KEYED | ENCRYPTED => {
                decrypt(secret, associated, &sealed, head)?
            }
            (None, 0) => {
                let end = sealed.len().checked_sub(CHECKSUM).filter(|end| *end >= head)?;
                let (covered, proof) = sealed.split_at_checked(end)?;
                (self.checksum(associated, covered) == *proof).then(|| sealed.slice(head..end))?
            }
            _ => return None,
        };
        match size {
            Some(size) => decompress(&body, size),
            None => Some(body).filter(|body| body.len() <= self.max_plain),
        }
    }

    fn encrypt(&self, secret: &Secret, associated: &[&[u8]], out: &mut BytesMut, body: &[u8]) -> Option<()> {
        let mut salt = [0; SALT];
        self.random.fill(&mut salt).ok()?;
        let head = out.len();
        let aad = aead::Aad::from(flatten(associated, out));
        out.put_slice(&salt);
        out.put_slice(body);
        let key = value_key(secret, &salt)?;
        let (_, plain) = out.split_at_mut_checked(head + SALT)?;
        let tag = key.seal_in_place_separate_tag(nonce(), aad, plain).ok()?;
        out.put_slice(tag.as_ref());
        Some(())
    }

    fn checksum(&self, associated: &[&[u8]], covered: &[u8]) -> [u8; CHECKSUM] {
        self.sip(&[&flatten(associated, &[]), covered])
    }

    /// Keyed SipHash-128 over parts and their lengths.
    fn sip(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut hasher = SipHasher13::new_with_key(&self.hash);
        for part in parts {
            hasher.write(&(part.len() as u64).to_le_bytes());
            hasher.write(part);
        }
        hasher.finish128().as_bytes()
    }
}

/// HKDF-SHA256 (RFC 5869) for one block of 32 bytes.
fn derive(secret: &[u8], purpose: &[u8]) -> hmac::Tag {
    let extracted = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"larder tier"), secret);
    let expand = hmac::Key::new(hmac::HMAC_SHA256, extracted.as_ref());
    hmac::sign(&expand, &[purpose, &[1]].concat())
}

fn value_key(secret: &Secret, salt: &[u8]) -> Option<aead::LessSafeKey> {
    let info = [salt];
    let okm = secret.encryption.expand(&info, &aead::AES_256_GCM).ok()?;
    Some(aead::LessSafeKey::new(aead::UnboundKey::from(okm)))
}

fn nonce() -> aead::Nonce {
    aead::Nonce::assume_unique_for_key(NONCE)
}

fn decrypt(secret: &Secret, associated: &[&[u8]], sealed: &Bytes, head: usize) -> Option<Bytes> {
    let (header, rest) = sealed.split_at_checked(head)?;
    let (salt, body) = rest.split_at_checked(SALT)?;
    let aad = aead::Aad::from(flatten(associated, header));
    let mut body = body.to_vec();
    let plain = value_key(secret, salt)?.open_in_place(nonce(), aad, &mut body).ok()?.len();
    body.truncate(plain);
    Some(body.into())
}

/// Number of parts, lengths and parts of the associated data; then a header.
fn flatten(associated: &[&[u8]], header: &[u8]) -> Vec<u8> {
    let size: usize = associated.iter().map(|part| part.len() + 8).sum();
    let mut flat = Vec::with_capacity(8 + size + header.len());
    flat.put_u64_le(associated.len() as u64);
    for part in associated {
        flat.put_u64_le(part.len() as u64);
        flat.put_slice(part);
    }
    flat.put_slice(header);
    flat
}

/// Over the associated data, then everything of the value before its proof.
fn mac(key: &hmac::Key, associated: &[&[u8]], covered: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(&flatten(associated, &[]));
    context.update(covered);
    context.sign()
}

/// `None` if it saves less than a sixteenth.
fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    let packed = lz4_flex::block::compress(plain);
    (packed.len() < plain.len() - plain.len() / 16).then_some(packed)
}

/// `size` has been checked against the bound.
pub(super) fn decompress(packed: &[u8], size: usize) -> Option<Bytes> {
    let plain = lz4_flex::block::decompress(packed, size).ok()?;
    (plain.len() == size).then(|| plain.into())
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keyed = self.secret.is_some();
        f.debug_struct("Sealer")
            .field("keyed", &keyed)
            .field("encrypt", &self.encrypt)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
