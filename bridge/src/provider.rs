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
mod scheme;
mod signed;

pub use names::Name;
pub use scheme::{
    Algorithm, Encoding, KeyForm, Scheme, SignatureScheme, Timestamp, TimestampPlace, TokenPlace,
    TokenScheme, Unit,
};
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
