//! Providers as data: how each kind of sender signs, names and identifies its events.
//!
//! The presets are compiled in from `config/providers.toml`; a file of the same form replaces or adds entries, so a
//! new provider never needs a new release. What the fields mean is explained at the head of that file.

use std::collections::BTreeMap;
use std::path::Path;

use http::HeaderName;
use serde::Deserialize;

use crate::place::{Place, Places};

mod names;
mod signed;

pub use names::Name;
pub use signed::{Part, SignedText};

/// The presets, as compiled in.
pub const PRESETS: &str = include_str!("../../config/providers.toml");

/// Providers by name.
pub type Providers = BTreeMap<String, Provider>;

/// One kind of sender.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Name for people.
    pub title: String,
    /// The provider's own documentation, an URL.
    pub documentation: String,
    /// Ways to prove the sender; one must succeed.
    pub verify: Vec<Scheme>,
    /// Where the event's name stands; empty: the sender names none, and the word is `_`.
    #[serde(default)]
    pub event: Places,
    /// Where the delivery id stands; empty: the sender has none.
    #[serde(default)]
    pub delivery: Places,
    /// True if the delivery id is covered by the signature.
    #[serde(default)]
    pub delivery_signed: bool,
    /// What follows `<source>.<event>` in the routing key.
    #[serde(default)]
    pub words: Vec<Word>,
    /// Requests that are answered and not published.
    #[serde(default)]
    pub handshake: Vec<Handshake>,
    /// Request headers that are copied into the message.
    #[serde(default)]
    pub headers: Vec<Name>,
    /// HTTP status of a wrong signature.
    #[serde(default = "wrong_signature_status")]
    pub wrong_signature_status: u16,
}

fn wrong_signature_status() -> u16 {
    403
}

/// One word of the routing key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// What the word is, for people.
    pub name: String,
    /// Where it stands.
    pub from: Places,
}

/// A request with which the provider tries the endpoint out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handshake {
    /// Where to look.
    pub when: Place,
    /// What stands there.
    pub equals: String,
    /// HTTP status of the answer.
    #[serde(default = "handshake_status")]
    pub status: u16,
    /// The answer's JSON object: a place for each field. None: an empty answer.
    #[serde(default)]
    pub answer: BTreeMap<String, Place>,
}

fn handshake_status() -> u16 {
    200
}

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

/// The presets, overlaid by the entries of `file`.
///
/// # Errors
/// Text for the person who wrote the file: which one, what is wrong, where.
pub fn load(file: Option<&Path>) -> Result<Providers, String> {
    let mut providers = parse(PRESETS).map_err(|error| format!("config/providers.toml: {error}"))?;
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("bridge.providers: cannot read {}: {error}", path.display()))?;
        let own = parse(&text).map_err(|error| format!("bridge.providers: {}: {error}", path.display()))?;
        providers.extend(own);
    }
    Ok(providers)
}

fn parse(text: &str) -> Result<Providers, String> {
    let providers: Providers = toml::from_str(text).map_err(|error| error.to_string())?;
    for (name, provider) in &providers {
        provider.check().map_err(|error| format!("provider {name}: {error}"))?;
    }
    Ok(providers)
}

impl Provider {
    fn check(&self) -> Result<(), String> {
        if self.verify.is_empty() {
            return Err("verify is empty: nobody could be told from a stranger".to_owned());
        }
        for scheme in &self.verify {
            match scheme {
                Scheme::Signature(scheme) if scheme.headers.is_empty() => {
                    return Err("a signature needs headers to stand in".to_owned());
                }
                Scheme::Token(scheme)
                    if matches!(scheme.place, TokenPlace::Header | TokenPlace::Query)
                        && scheme.name.parse::<HeaderName>().is_err() =>
                {
                    return Err(
                        "a token in a header or in the query needs that header's or parameter's name"
                            .to_owned(),
                    );
                }
                Scheme::Signature(_) | Scheme::Token(_) => {}
            }
        }
        let statuses = self.handshake.iter().map(|handshake| handshake.status);
        if let Some(status) =
            statuses.chain([self.wrong_signature_status]).find(|code| !(200..500).contains(code))
        {
            return Err(format!("{status} is no status to answer with: use one from 200 to 499"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_load_and_a_file_replaces_and_adds() {
        let presets = load(None).unwrap();
        assert!(presets.contains_key("github") && presets.contains_key("hmac"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own.toml");
        std::fs::write(
            &path,
            "[own]\ntitle = \"own\"\ndocumentation = \"-\"\nverify = [{ kind = \"token\", place = \"bearer\" }]\n",
        )
        .unwrap();
        let all = load(Some(&path)).unwrap();
        assert_eq!(all.len(), presets.len() + 1);
        std::fs::write(&path, "[own]\ntitle = \"own\"\ndocumentation = \"-\"\nverify = []\n").unwrap();
        let error = load(Some(&path)).unwrap_err();
        assert!(error.contains("own") && error.contains("verify is empty"), "{error}");
    }
}
