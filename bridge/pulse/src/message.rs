//! A pulse message: what is published and what is delivered.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Message headers. Values are what AMQP tables can carry, in JSON: strings, numbers, booleans, null, arrays
/// and objects. Byte arrays of foreign publishers arrive as strings of hex digits, timestamps as seconds.
pub type Headers = BTreeMap<String, serde_json::Value>;

/// One message on a topic exchange.
#[derive(Debug, Clone, PartialEq, Default)]
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
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Properties {
    /// `message-id`, at most 255 bytes.
    pub message_id: Option<String>,
    /// `timestamp`, in seconds since the Unix epoch.
    pub timestamp: Option<u64>,
    /// `content-type`, e.g. `application/json`.
    pub content_type: Option<String>,
    /// `headers`.
    pub headers: Headers,
}
