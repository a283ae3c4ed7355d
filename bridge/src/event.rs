//! From a verified request to the message that pulse gets: event, delivery id, routing key, message id, headers.
//!
//! Pure: no I/O, the time is passed in; so the message that a payload would become can be shown without sending it.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::HeaderMap;
use pulse::naming::routing_key;
use pulse::trace::{self, TraceContext, Tracing};
use pulse::{Headers, Message, Properties};
use serde_json::Value;

use crate::accept::{bytes_of, hash};
use crate::body::Payload;
use crate::place::{Request, header_text};
use crate::refusal::Refusal;
use crate::source::Source;

/// Header with the source's name.
pub const HEADER_SOURCE: &str = "x-pulsehook-source";
/// Header with the event's name.
pub const HEADER_EVENT: &str = "x-pulsehook-event";
/// Header with the sender's delivery id.
pub const HEADER_DELIVERY: &str = "x-pulsehook-delivery";

/// What stands in the routing key for a word that an event does not have, so that the others keep their positions.
const NO_WORD: &str = "_";

/// Longest header value that is copied, in bytes: all headers of a message share one AMQP frame of 128 KiB.
const MAX_HEADER_BYTES: usize = 1024;

/// What a verified request is.
#[derive(Debug)]
pub enum Reading {
    /// The provider tries the endpoint out: answered, not published.
    Handshake {
        /// HTTP status.
        status: u16,
        /// The answer's JSON; none: an empty answer.
        answer: Option<Value>,
    },
    /// Something happened.
    Event(Box<Event>),
}

/// An event as it goes onto pulse.
#[derive(Debug)]
pub struct Event {
    /// The message, complete.
    pub message: Message,
    /// The message's id.
    pub message_id: String,
    /// The sender's id of this delivery.
    pub delivery: Option<String>,
    /// SHA-256 of the JSON.
    pub digest: [u8; 32],
    /// The JSON, parsed.
    pub value: Value,
    /// What it has in common with events that it may be coalesced with.
    pub coalesce_key: Option<[u8; 32]>,
    /// Its place in the sender's trace, or in one that begins with it.
    pub context: TraceContext,
    /// The sender's span.
    pub parent: Option<[u8; 8]>,
}

/// Reads a request that has been verified.
///
/// # Errors
/// [`Refusal::Malformed`] if it names no event where its provider always does.
pub fn read(
    source: &Source,
    exchange: &str,
    headers: &HeaderMap,
    query: Option<&str>,
    payload: Payload,
    now: DateTime<Utc>,
    tracing: &Tracing,
) -> Result<Reading, Refusal> {
    let request = Request { headers, query, body: &payload.value };
    let shaken =
        source.handshakes.iter().find(|h| h.when.read(request).as_deref() == Some(h.equals.as_str()));
    if let Some(handshake) = shaken {
        let field = |(name, place): (&String, &crate::place::Place)| {
            (name.clone(), place.read(request).map_or(Value::Null, Value::String))
        };
        let answer = (!handshake.answer.is_empty()).then(|| handshake.answer.iter().map(field).collect());
        return Ok(Reading::Handshake { status: handshake.status, answer });
    }
    let name = match source.event.read(request) {
        Some(name) => name,
        None if source.event.is_empty() => NO_WORD.to_owned(),
        None => {
            return Err(Refusal::Malformed(format!(
                "the request names no event: there is no {} (provider {:?})",
                source.event, source.provider
            )));
        }
    };
    let delivery = source.delivery.read(request);
    let words: Vec<String> =
        source.words.iter().map(|word| word.read(request).unwrap_or_else(|| NO_WORD.to_owned())).collect();
    let key = routing_key(
        [source.name.as_str(), name.as_str()].into_iter().chain(words.iter().map(String::as_str)),
    );
    let digest = bytes_of(&ring::digest::digest(&ring::digest::SHA256, &payload.json));
    let sent = headers.get(trace::HEADER).and_then(|value| TraceContext::parse(value.to_str().ok()?));
    let (context, parent) = tracing.enter(sent);
    let message_id = match &delivery {
        Some(delivery) => delivery_message_id(&source.name, &name, delivery, &digest),
        None => format!("{}-{}", source.name, uuid::Uuid::new_v4().simple()),
    };
    let message = Message {
        exchange: exchange.to_owned(),
        routing_key: key,
        properties: Properties {
            message_id: Some(message_id.clone()),
            timestamp: u64::try_from(now.timestamp()).ok(),
            content_type: Some("application/json".to_owned()),
            headers: message_headers(source, headers, &name, delivery.as_deref(), context),
        },
        body: Bytes::clone(&payload.json),
    };
    let coalesce_key = source.coalesce.as_ref().map(|coalesce| coalesce.key(&source.name, request));
    Ok(Reading::Event(Box::new(Event {
        message,
        message_id,
        delivery,
        digest,
        coalesce_key,
        context,
        parent,
        value: payload.value,
    })))
}

/// The id that a sender's retry gets again. The event's name is part of it, since one occurrence may be told under two
/// names with one id and one body (Shopify's topics).
fn delivery_message_id(source: &str, event: &str, delivery: &str, digest: &[u8; 32]) -> String {
    let hash = hash(&[source.as_bytes(), event.as_bytes(), delivery.as_bytes(), digest]);
    format!("{source}-{}", hex::encode(&hash[..20]))
}

fn message_headers(
    source: &Source,
    headers: &HeaderMap,
    event: &str,
    delivery: Option<&str>,
    context: TraceContext,
) -> Headers {
    let mut result = Headers::new();
    for name in &source.headers {
        if let Some(value) = header_text(headers, name) {
            result.insert(name.as_str().to_owned(), Value::String(clip(value)));
        }
    }
    result.insert(trace::HEADER.to_owned(), Value::String(context.to_string()));
    result.insert(HEADER_SOURCE.to_owned(), Value::String(source.name.clone()));
    result.insert(HEADER_EVENT.to_owned(), Value::String(clip(event)));
    if let Some(delivery) = delivery {
        result.insert(HEADER_DELIVERY.to_owned(), Value::String(clip(delivery)));
    }
    result
}

fn clip(text: &str) -> String {
    let end =
        (0..=text.len().min(MAX_HEADER_BYTES)).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text[..end].to_owned()
}
