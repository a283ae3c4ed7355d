//! Header names that deserialise, so that a misspelt one is found when the file is read and not by a sender.

use http::HeaderName;
use serde::Deserialize;

/// A header's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(pub HeaderName);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| serde::de::Error::custom(format!("{text:?} is no header name")))
    }
}
