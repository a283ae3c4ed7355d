//! The text that a signature covers, written as a pattern: `{body}`, `v0:{timestamp}:{body}`,
//! `{header:webhook-id}.{timestamp}.{body}`.

use http::HeaderName;
use serde::Deserialize;

/// A pattern for the signed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedText(pub Vec<Part>);

/// One part of the signed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Fixed text.
    Literal(String),
    /// The raw body.
    Body,
    /// The timestamp, as the sender wrote it.
    Timestamp,
    /// A header's value.
    Header(HeaderName),
}

impl Default for SignedText {
    fn default() -> Self {
        Self(vec![Part::Body])
    }
}

impl std::str::FromStr for SignedText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let close =
                rest[open..].find('}').ok_or_else(|| format!("{text:?}: a {{ without its }}"))? + open;
            if open > 0 {
                parts.push(Part::Literal(rest[..open].to_owned()));
            }
            parts.push(match &rest[open + 1..close] {
                "body" => Part::Body,
                "timestamp" => Part::Timestamp,
                other => match other.strip_prefix("header:").map(str::parse) {
                    Some(Ok(name)) => Part::Header(name),
                    _ => {
                        return Err(format!(
                            "{text:?}: {{{other}}} is none of {{body}}, {{timestamp}} and {{header:NAME}}"
                        ));
                    }
                },
            });
            rest = &rest[close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        if !parts.contains(&Part::Body) {
            return Err(format!("{text:?} does not cover the {{body}}, so anybody could change it"));
        }
        Ok(Self(parts))
    }
}

impl<'de> Deserialize<'de> for SignedText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_parts_and_a_pattern_without_the_body_is_refused() {
        let parsed: SignedText = "v0:{timestamp}:{body}".parse().unwrap();
        assert_eq!(
            parsed.0,
            [Part::Literal("v0:".into()), Part::Timestamp, Part::Literal(":".into()), Part::Body]
        );
        for wrong in ["{timestamp}", "{body", "{nobody}", "{header:a b}{body}"] {
            assert!(wrong.parse::<SignedText>().is_err(), "{wrong}");
        }
    }
}
