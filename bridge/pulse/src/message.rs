//! A pulse message: what is published and what is delivered.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::naming::MAX_NAME;

/// Message headers. Values are what AMQP tables can carry, in JSON: strings, numbers, booleans, null, arrays
/// and objects. Byte arrays of foreign publishers arrive as strings of hex digits, timestamps as seconds, decimals as
/// numbers, and numbers that JSON does not have (NaN) as null.
///
/// AMQP promises UTF-8 nowhere, and some publishers send something else. Over AMQP such text, in headers, properties
/// or the routing key, is delivered with `?` for each wrong byte, headers of unknown types are left out, and the message then
/// carries the header `x-pulsehook-mended: true`.
pub type Headers = BTreeMap<String, serde_json::Value>;

/// One message on a topic exchange.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Message {
    /// The exchange it is (or was) published to; empty for the default exchange.
    pub exchange: String,
    /// Routing key, at most 255 bytes.
    pub routing_key: String,
    /// Standard properties and headers.
    pub properties: Properties,
    /// The body as sent; pulse bodies are UTF-8 JSON, which nothing here checks.
    pub body: Bytes,
}

/// The AMQP basic properties that pulsehook uses. Publishing always sets delivery mode 2 (persistent).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Properties {
    /// `message-id`, at most 255 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// `timestamp`, in seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
    /// `content-type`, e.g. `application/json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `headers`.
    #[serde(skip_serializing_if = "Headers::is_empty")]
    pub headers: Headers,
}

/// Headers of one message, in bytes as AMQP carries them: one frame must hold them with all other properties.
const MAX_HEADERS: usize = 64 << 10;

impl Message {
    /// Whether AMQP can carry it: names, key and properties of at most 255 bytes, headers of at most 64 KiB. The error
    /// says what is too long.
    pub fn check(&self) -> Result<(), String> {
        let properties = &self.properties;
        let texts = [
            ("the exchange name", self.exchange.as_str()),
            ("the routing key", self.routing_key.as_str()),
            ("the message id", properties.message_id.as_deref().unwrap_or_default()),
            ("the content type", properties.content_type.as_deref().unwrap_or_default()),
        ];
        let names = properties.headers.keys().map(|name| ("the header name", name.as_str()));
        for (what, text) in texts.into_iter().chain(names) {
            if text.len() > MAX_NAME {
                let length = text.len();
                return Err(format!("{what} has {length} bytes, {MAX_NAME} are allowed: {text:.60}…"));
            }
        }
        let headers: usize = properties.headers.iter().map(|(name, value)| name.len() + size(value)).sum();
        if headers > MAX_HEADERS {
            return Err(format!("the headers have about {headers} bytes, {MAX_HEADERS} are allowed"));
        }
        Ok(())
    }
}

fn size(value: &serde_json::Value) -> usize {
    const SCALAR: usize = 9;
    match value {
        serde_json::Value::String(text) => SCALAR + text.len(),
        serde_json::Value::Array(values) => SCALAR + values.iter().map(size).sum::<usize>(),
        serde_json::Value::Object(fields) => {
            SCALAR + fields.iter().map(|(name, value)| name.len() + size(value)).sum::<usize>()
        }
        _ => SCALAR,
    }
}
