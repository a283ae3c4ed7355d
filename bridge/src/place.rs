//! Where in a request a fact stands: its event's name, its delivery id, a word of the routing key.
//!
//! Providers differ only in such places, so places are data (`header:X-GitHub-Event`, `body:/action`), and one
//! reader serves them all.

use std::str::FromStr;

use http::{HeaderMap, HeaderName};
use serde::Deserialize;
use serde_json::Value;

/// One place in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `header:NAME`, the first value.
    Header(HeaderName),
    /// `body:/json/pointer` (RFC 6901) into the JSON body.
    Body(String),
    /// `query:NAME`, the first value, percent-decoded.
    Query(String),
    /// `const:TEXT`, which is always there.
    Const(String),
}

/// Alternatives: the first one that is there counts. In the configuration one string or a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(pub Vec<Place>);

/// The parts of a request that places are read from.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Request headers.
    pub headers: &'a HeaderMap,
    /// The query, without `?`.
    pub query: Option<&'a str>,
    /// The event's JSON.
    pub body: &'a Value,
}

impl Place {
    /// The text at this place. Numbers and booleans as JSON writes them; nothing for null, lists, objects and
    /// empty text.
    pub fn read(&self, request: Request<'_>) -> Option<String> {
        let text = match self {
            Self::Header(name) => header_text(request.headers, name)?.to_owned(),
            Self::Query(name) => query_value(request.query, name)?,
            Self::Const(text) => text.clone(),
            Self::Body(pointer) => match request.body.pointer(pointer)? {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(truth) => truth.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => return None,
            },
        };
        (!text.is_empty()).then_some(text)
    }
}

impl Places {
    /// The first text that is there.
    pub fn read(&self, request: Request<'_>) -> Option<String> {
        self.0.iter().find_map(|place| place.read(request))
    }

    /// True if no place is given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The header that a sender would put this fact into, if it stands in one.
    pub fn header(&self) -> Option<&HeaderName> {
        self.0.iter().find_map(|place| match place {
            Place::Header(name) => Some(name),
            _ => None,
        })
    }
}

/// The first value of a header, if it is text.
pub fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// The first value of a query parameter, decoded.
pub fn query_value(query: Option<&str>, name: &str) -> Option<String> {
    form_urlencoded::parse(query?.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no place in a request: use header:NAME, body:/json/pointer, query:NAME or const:TEXT"
            )
        };
        let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
        match kind {
            "header" => HeaderName::from_str(rest)
                .map(Self::Header)
                .map_err(|_| format!("{rest:?} is no header name")),
            "body" if rest.is_empty() || rest.starts_with('/') => Ok(Self::Body(rest.to_owned())),
            "query" if !rest.is_empty() => Ok(Self::Query(rest.to_owned())),
            "const" => Ok(Self::Const(rest.to_owned())),
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header {name}"),
            Self::Body(pointer) => write!(f, "body field {pointer}"),
            Self::Query(name) => write!(f, "query parameter {name}"),
            Self::Const(text) => write!(f, "constant {text}"),
        }
    }
}

impl std::fmt::Display for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, place) in self.0.iter().enumerate() {
            write!(f, "{}{place}", if index > 0 { " or " } else { "" })?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum OneOrMany {
            One(String),
            Many(Vec<String>),
        }
        let texts = match OneOrMany::deserialize(deserializer)? {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        };
        let places: Result<Vec<Place>, String> = texts.iter().map(|text| text.parse()).collect();
        places.map(Places).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_place_is_read_and_what_is_not_there_is_nothing() {
        let mut headers = HeaderMap::new();
        headers.insert("x-event", "push".parse().unwrap());
        headers.insert("x-empty", "".parse().unwrap());
        let body = serde_json::json!({"a": {"b": "c"}, "n": 7, "t": true, "z": null, "l": []});
        let request = Request { headers: &headers, query: Some("x=1%202&y=3"), body: &body };
        let read = |text: &str| text.parse::<Place>().unwrap().read(request);
        assert_eq!(read("header:X-Event").as_deref(), Some("push"));
        assert_eq!(read("header:X-Empty"), None);
        assert_eq!(read("body:/a/b").as_deref(), Some("c"));
        assert_eq!(read("body:/n").as_deref(), Some("7"));
        assert_eq!(read("body:/t").as_deref(), Some("true"));
        assert_eq!(
            (read("body:/z"), read("body:/l"), read("body:/a"), read("body:/q")),
            (None, None, None, None)
        );
        assert_eq!(read("query:x").as_deref(), Some("1 2"));
        assert_eq!(read("const:push").as_deref(), Some("push"));
        for wrong in ["X-Event", "header:a b", "body:a", "query:", "cookie:x"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
