//! Ways to prove a sender, as the data of a provider.

use http::HeaderName;
use serde::Deserialize;

use super::{Name, SignedText};

/// One way to prove the sender.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Scheme {
    /// A signature over (parts of) the request.
    Signature(SignatureScheme),
    /// A shared secret that is sent along.
    Token(TokenScheme),
}

/// A signature in a header.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureScheme {
    /// Headers that may carry it; the first one present counts.
    pub headers: Vec<Name>,
    /// How it is made.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// How it is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// What precedes each signature in the header; values without it are not signatures.
    #[serde(default)]
    pub prefix: String,
    /// What stands between several values in the header; none: it holds one.
    #[serde(default)]
    pub separator: Option<char>,
    /// The text that is signed.
    #[serde(default)]
    pub signed: SignedText,
    /// The text that is signed once a source configures a timestamp header.
    #[serde(default)]
    pub signed_with_timestamp: Option<SignedText>,
    /// The signed moment, where the provider has one.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
    /// How the secret becomes a key.
    #[serde(default)]
    pub key: KeyForm,
    /// Only secrets that begin so are keys of this scheme, and of no scheme without it.
    #[serde(default)]
    pub secret_prefix: Option<String>,
    /// A form's signed body is its `payload` field, decoded.
    #[serde(default)]
    pub signs_form_field: bool,
}

/// A shared secret.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenScheme {
    /// Where it is sent.
    pub place: TokenPlace,
    /// Name of the header or query parameter.
    #[serde(default)]
    pub name: String,
    /// As in [`SignatureScheme`].
    #[serde(default)]
    pub secret_prefix: Option<String>,
}

/// Where a shared secret is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenPlace {
    /// `Authorization: Bearer SECRET`.
    Bearer,
    /// `Authorization: Basic`, the secret being `user:password`, or the password alone.
    Basic,
    /// A header of its own.
    Header,
    /// A query parameter.
    Query,
    /// The last segment of the path: `/webhooks/SOURCE/SECRET`.
    Path,
}

/// How a signature is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// HMAC-SHA1, for senders that know nothing better.
    Sha1,
    /// HMAC-SHA256.
    #[default]
    Sha256,
    /// HMAC-SHA512.
    Sha512,
    /// Ed25519 (RFC 8032); the source's secrets are the sender's public keys.
    Ed25519,
}

/// How a signature or key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Hexadecimal digits, either case.
    #[default]
    Hex,
    /// Base64, standard alphabet, padded.
    Base64,
}

/// How a secret becomes a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyForm {
    /// Its UTF-8 bytes.
    #[default]
    Text,
    /// Base64, with or without padding.
    Base64,
    /// Hexadecimal digits.
    Hex,
}

/// The moment that a signature covers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timestamp {
    /// Where it stands.
    pub from: TimestampPlace,
    /// Its unit.
    #[serde(default)]
    pub unit: Unit,
    /// How far it may be from now, either way; 0: any distance.
    pub tolerance_seconds: u32,
}

/// Where a signed moment stands.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimestampPlace {
    /// In a header of its own.
    Header(Name),
    /// Among the values of the signature header, after this prefix.
    Signature(String),
    /// In the body, at this JSON pointer.
    Body(String),
}

/// Unit of a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Seconds since the Unix epoch.
    #[default]
    Seconds,
    /// Milliseconds since the Unix epoch.
    Milliseconds,
}

impl Scheme {
    /// The secrets' prefix, if the scheme takes only some.
    pub fn secret_prefix(&self) -> Option<&str> {
        match self {
            Self::Signature(scheme) => scheme.secret_prefix.as_deref(),
            Self::Token(scheme) => scheme.secret_prefix.as_deref(),
        }
    }

    /// Headers that carry the proof: they never go onto pulse.
    pub fn secret_headers(&self) -> Vec<HeaderName> {
        match self {
            Self::Signature(scheme) => scheme.headers.iter().map(|name| name.0.clone()).collect(),
            Self::Token(scheme) if scheme.place == TokenPlace::Header => {
                scheme.name.parse().ok().into_iter().collect()
            }
            Self::Token(_) => Vec::new(),
        }
    }
}
