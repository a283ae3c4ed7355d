//! Request bodies: what is read, expanded and parsed, and what goes onto pulse.
//!
//! JSON goes onto pulse byte for byte as it was sent. Forms become JSON: a form whose only field is `payload` stands
//! for that field's JSON (GitHub, Gitea and Slack send so), any other form becomes an object of its fields.

use std::io::Read as _;

use bytes::Bytes;
use http::{HeaderMap, header};
use serde_json::Value;

use crate::refusal::Refusal;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// `application/x-www-form-urlencoded` instead of JSON.
    pub urlencoded: bool,
    /// Compressed with gzip.
    pub gzip: bool,
}

/// A body that was read.
#[derive(Debug)]
pub struct Payload {
    /// The JSON that goes onto pulse.
    pub json: Bytes,
    /// The same, parsed.
    pub value: Value,
}

impl Form {
    /// What the request's headers say about its body. A body without a content type is taken for JSON.
    ///
    /// # Errors
    /// [`Refusal::MediaType`] for every other content type and content encoding.
    pub fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        Ok(Self { urlencoded: is_urlencoded(headers)?, gzip: is_gzip(headers)? })
    }

    /// The expanded body.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`] beyond `max` bytes, [`Refusal::Malformed`] if it is no gzip.
    pub fn expand(self, body: Bytes, max: usize) -> Result<Bytes, Refusal> {
        if !self.gzip {
            return Ok(body);
        }
        let mut expanded = Vec::new();
        // One byte more than allowed tells a body that fits from one that does not.
        let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        flate2::read::MultiGzDecoder::new(body.as_ref()).take(limit).read_to_end(&mut expanded).map_err(
            |_| Refusal::Malformed("the body is not gzip, as its Content-Encoding says".to_owned()),
        )?;
        if expanded.len() > max {
            return Err(Refusal::TooLarge(format!("the expanded body is larger than {max} bytes")));
        }
        Ok(Bytes::from(expanded))
    }

    /// The `payload` field of a form, decoded, where it is the only one.
    pub fn field(self, body: &[u8]) -> Option<String> {
        if !self.urlencoded {
            return None;
        }
        let mut fields = form_urlencoded::parse(body);
        match (fields.next(), fields.next()) {
            (Some((name, value)), None) if name == "payload" => Some(value.into_owned()),
            _ => None,
        }
    }

    /// The event's JSON.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] for what is not JSON.
    pub fn parse(self, body: Bytes) -> Result<Payload, Refusal> {
        let json = match self.field(&body) {
            Some(field) if field.trim_start().starts_with(['{', '[']) => Bytes::from(field),
            Some(_) => form_object(&body),
            None if self.urlencoded => form_object(&body),
            None => body,
        };
        // The parser's text tells line and column and nothing of the content.
        let value = serde_json::from_slice(&json)
            .map_err(|error| Refusal::Malformed(format!("the body is not JSON: {error}")))?;
        Ok(Payload { json, value })
    }
}

fn is_urlencoded(headers: &HeaderMap) -> Result<bool, Refusal> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(false) };
    let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let mut parts = value.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let charset = parts.find_map(|part| part.strip_prefix("charset=")).unwrap_or("utf-8").trim_matches('"');
    if !matches!(charset, "utf-8" | "utf8" | "us-ascii") {
        return Err(Refusal::MediaType(format!("the charset {charset:?} is not read here; send UTF-8")));
    }
    match kind {
        "application/x-www-form-urlencoded" => Ok(true),
        "application/json" | "text/json" => Ok(false),
        _ if kind.starts_with("application/") && kind.ends_with("+json") => Ok(false),
        _ => Err(Refusal::MediaType(format!(
            "the content type {kind:?} is not read here; send application/json or application/x-www-form-urlencoded"
        ))),
    }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Refusal> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(false),
        (Some(value), None) => value.to_str().unwrap_or_default().trim().to_ascii_lowercase(),
        (Some(_), Some(_)) => "several".to_owned(),
    };
    match value.as_str() {
        "gzip" | "x-gzip" => Ok(true),
        "identity" | "" => Ok(false),
        _ => Err(Refusal::MediaType(format!(
            "the content encoding {value:?} is not read here; send gzip or none"
        ))),
    }
}

/// A form's fields; a name that is there several times becomes a list.
fn form_object(body: &[u8]) -> Bytes {
    let mut object = serde_json::Map::new();
    for (name, value) in form_urlencoded::parse(body) {
        let value = Value::String(value.into_owned());
        match object.get_mut(name.as_ref()) {
            None => {
                object.insert(name.into_owned(), value);
            }
            Some(Value::Array(list)) => list.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Bytes::from(Value::Object(object).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: Form = Form { urlencoded: false, gzip: false };
    const URLENCODED: Form = Form { urlencoded: true, gzip: false };

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        [(name, value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn json_stays_as_sent_and_forms_become_json() {
        let sent = Bytes::from_static(b" {\"b\": 1.0, \"a\": 2 }\n");
        assert_eq!(JSON.parse(sent.clone()).unwrap().json, sent);
        let parse = |text: &'static str| URLENCODED.parse(Bytes::from_static(text.as_bytes())).unwrap().json;
        assert_eq!(parse("payload=%7B%22a%22%3A+1%7D"), "{\"a\": 1}");
        assert_eq!(parse("a=1&b=x%20y&a=2&a=3"), r#"{"a":["1","2","3"],"b":"x y"}"#);
        assert_eq!(parse("payload=hello"), r#"{"payload":"hello"}"#);
        assert!(URLENCODED.parse(Bytes::from_static(b"payload={broken")).is_err());
        assert!(JSON.parse(Bytes::from_static(b"{\"a\": \xff}")).is_err());
        assert!(JSON.parse(Bytes::new()).is_err());
        // Deep nesting is an error and not the end of the process.
        assert!(JSON.parse(Bytes::from("[".repeat(1 << 20))).is_err());
    }

    #[test]
    fn content_types_are_told_apart() {
        let of = |value| Form::of(&headers(header::CONTENT_TYPE, value));
        assert_eq!(of("application/json; charset=UTF-8").unwrap(), JSON);
        assert_eq!(of("application/cloudevents+json").unwrap(), JSON);
        assert_eq!(of("application/x-www-form-urlencoded").unwrap(), URLENCODED);
        assert_eq!(Form::of(&HeaderMap::new()).unwrap(), JSON);
        for wrong in
            ["text/plain", "application/xml", "application/json; charset=latin1", "multipart/form-data"]
        {
            assert!(matches!(of(wrong), Err(Refusal::MediaType(_))), "{wrong}");
        }
        assert!(Form::of(&headers(header::CONTENT_ENCODING, "gzip")).unwrap().gzip);
        assert!(Form::of(&headers(header::CONTENT_ENCODING, "br")).is_err());
        assert!(Form::of(&headers(header::CONTENT_ENCODING, "gzip, gzip")).is_err());
    }

    #[test]
    fn expansion_is_bounded() {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
        let bomb = Bytes::from(encoder.finish().unwrap());
        let gzip = Form { gzip: true, ..JSON };
        assert!(matches!(gzip.expand(bomb.clone(), 1 << 10), Err(Refusal::TooLarge(_))));
        assert_eq!(gzip.expand(bomb.clone(), 1 << 20).unwrap().len(), 1 << 20);
        assert!(matches!(gzip.expand(bomb.slice(..40), 1 << 20), Err(Refusal::Malformed(_))));
        assert!(matches!(gzip.expand(Bytes::from_static(b"{}"), 1 << 20), Err(Refusal::Malformed(_))));
    }
}
