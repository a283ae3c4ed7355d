//! Keys made from secrets, and the cryptography itself: RustCrypto's HMACs, ring's Ed25519.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::provider::{Algorithm, Encoding, KeyForm, Scheme};

/// Length of an Ed25519 public key, RFC 8032.
const ED25519_PUBLIC_KEY_BYTES: usize = 32;

/// A key of one scheme.
#[derive(Clone)]
pub enum Key {
    /// Bytes of an HMAC key, or of an Ed25519 public key.
    Bytes(Vec<u8>),
    /// SHA-256 of a shared secret: two digests compare in constant time whatever the lengths of the texts are.
    Token([u8; 32]),
}

impl Key {
    /// The key that `scheme` makes of `secret`. The error never holds the secret.
    pub fn new(scheme: &Scheme, secret: &str) -> Result<Self, String> {
        let scheme = match scheme {
            Scheme::Token(_) => return Ok(Self::Token(token_digest(secret))),
            Scheme::Signature(scheme) => scheme,
        };
        let text =
            scheme.secret_prefix.as_deref().and_then(|prefix| secret.strip_prefix(prefix)).unwrap_or(secret);
        let bytes = match scheme.key {
            KeyForm::Text => text.as_bytes().to_vec(),
            KeyForm::Base64 => STANDARD_NO_PAD
                .decode(text.trim_end_matches('='))
                .map_err(|_| "it is no base64 text".to_owned())?,
            KeyForm::Hex => {
                hex::decode(text).map_err(|_| "it is not made of hexadecimal digits".to_owned())?
            }
        };
        if bytes.is_empty() {
            return Err("it is empty".to_owned());
        }
        if scheme.algorithm == Algorithm::Ed25519 && bytes.len() != ED25519_PUBLIC_KEY_BYTES {
            return Err(format!(
                "an Ed25519 public key has {ED25519_PUBLIC_KEY_BYTES} bytes, this one {}",
                bytes.len()
            ));
        }
        Ok(Self::Bytes(bytes))
    }

    /// True if one of `signatures` is this key's of `signed`. An HMAC is computed once and compared with all of them, in constant
    /// time; an Ed25519 signature can only be checked, each for itself.
    pub fn verify(&self, algorithm: Algorithm, signed: &[u8], signatures: &[Vec<u8>]) -> bool {
        let Self::Bytes(key) = self else { return false };
        let mut matched = false;
        match algorithm {
            Algorithm::Ed25519 => {
                let key = UnparsedPublicKey::new(&ED25519, key);
                signatures.iter().for_each(|signature| matched |= key.verify(signed, signature).is_ok());
            }
            Algorithm::Sha1 | Algorithm::Sha256 | Algorithm::Sha512 => {
                let Some(right) = self.sign(algorithm, signed) else { return false };
                signatures.iter().for_each(|signature| matched |= bool::from(right.ct_eq(signature)));
            }
        }
        matched
    }

    /// The HMAC of `signed`. None for what cannot sign: a public key, a shared secret.
    pub fn sign(&self, algorithm: Algorithm, signed: &[u8]) -> Option<Vec<u8>> {
        let Self::Bytes(key) = self else { return None };
        match algorithm {
            Algorithm::Sha1 => mac::<Hmac<sha1::Sha1>>(key, signed),
            Algorithm::Sha256 => mac::<Hmac<Sha256>>(key, signed),
            Algorithm::Sha512 => mac::<Hmac<sha2::Sha512>>(key, signed),
            Algorithm::Ed25519 => None,
        }
    }

    /// True if this is the shared secret with this digest.
    pub fn is_token(&self, digest: &[u8; 32]) -> bool {
        match self {
            Self::Token(own) => own.ct_eq(digest).into(),
            Self::Bytes(_) => false,
        }
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], signed: &[u8]) -> Option<Vec<u8>> {
    // HMAC takes keys of any length, so this is always there.
    let mut mac = <M as KeyInit>::new_from_slice(key).ok()?;
    mac.update(signed);
    Some(mac.finalize().into_bytes().to_vec())
}

/// What is kept of, and compared for, a shared secret.
pub fn token_digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// A signature's bytes, or nothing if it is not written so.
pub fn decode(encoding: Encoding, text: &str) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Hex => hex::decode(text).ok(),
        Encoding::Base64 => STANDARD.decode(text).ok(),
    }
}

/// A signature as its sender writes it.
pub fn encode(encoding: Encoding, bytes: &[u8]) -> String {
    match encoding {
        Encoding::Hex => hex::encode(bytes),
        Encoding::Base64 => STANDARD.encode(bytes),
    }
}
