//! What becomes of a verified event: filtered, a repeat, held back, published, or spooled.
//!
//! The order matters. A repeat is found first, so that it gets the first answer whatever has changed since. The message
//! is then either confirmed by the broker or fsynced in the spool before the sender hears 2xx.

use std::time::Duration;

use http::StatusCode;
use ring::digest::{Context, SHA256};
use serde::Serialize;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::bridge::Shared;
use crate::config::Keep;
use crate::event::Event;
use crate::once::{Begun, Key, Turn};
use crate::publisher::NotPublished;
use crate::refusal::Refusal;
use crate::source::Source;
use crate::spool::HEADER_COUNT;

/// Header with the id of an earlier message that had the same body under another, unsigned delivery id.
const HEADER_REPEATS: &str = "x-pulsehook-repeats";

/// Size of a message that Mozilla's pulse advises, in bytes.
const ADVISED_MESSAGE_BYTES: usize = 8 << 10;

/// The answer to an event that is safe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// 200, or 202 for what is not on pulse yet.
    #[serde(skip)]
    pub status: StatusCode,
    /// Id of the message.
    pub message_id: String,
    /// Its exchange.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// On pulse: whether any queue took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routed: Option<bool>,
    /// In the spool: it will be published when the broker is back.
    #[serde(skip_serializing_if = "is_false")]
    pub spooled: bool,
    /// The source's filter said no: it will not be published.
    #[serde(skip_serializing_if = "is_false")]
    pub filtered: bool,
    /// Held back: another message of the same key stands for it.
    #[serde(skip_serializing_if = "is_false")]
    pub coalesced: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Accepted {
    /// The answer to an event that is on pulse.
    pub fn published(message_id: &str, exchange: &str, routing_key: &str, routed: bool) -> Self {
        Self {
            status: StatusCode::OK,
            message_id: message_id.to_owned(),
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            routed: Some(routed),
            spooled: false,
            filtered: false,
            coalesced: false,
        }
    }

    fn of(event: &Event) -> Self {
        let message = &event.message;
        Self {
            routed: None,
            ..Self::published(&event.message_id, &message.exchange, &message.routing_key, false)
        }
    }
}

/// An event's answer, and whether it is that of an earlier request.
pub struct Answered {
    /// The answer.
    pub accepted: Accepted,
    /// True for a repeat, of which nothing was published.
    pub repeated: bool,
}

impl Shared {
    /// Makes a verified event safe, once.
    ///
    /// # Errors
    /// A [`Refusal`]; then nothing was published, as far as is known, and the sender's next attempt has the same message id.
    pub async fn accept(&self, source: &Source, mut event: Event) -> Result<Answered, Refusal> {
        self.check_size(source, &event)?;
        let lasting = if event.delivery.is_some() { self.once_window } else { source.merge_window };
        let mut turn = None;
        if !lasting.is_zero() {
            match self.once.begin(identity(source, &event)).await {
                Begun::First(first) => turn = Some(first),
                Begun::Repeat(accepted) => {
                    source.counters.repeats.increment(1);
                    info!(source = %source.name, message_id = %accepted.message_id, "repeat answered as before");
                    return Ok(Answered { accepted, repeated: true });
                }
            }
        }
        let noted = self.note_repeated_body(source, &mut event)?;
        let result = self.act(source, &event).await;
        match &result {
            Ok(answered) => finish(turn, &answered.accepted, lasting),
            Err(_) if noted => {
                self.bodies().remove(&body_key(source, &event));
            }
            Err(_) => {}
        }
        result
    }

    /// Filter and coalescing, then the way out.
    async fn act(&self, source: &Source, event: &Event) -> Result<Answered, Refusal> {
        let mut accepted = Accepted::of(event);
        if !self.passes(source, event) {
            accepted.filtered = true;
            return Ok(Answered { accepted, repeated: false });
        }
        let (Some(coalesce), Some(key)) = (&source.coalesce, event.coalesce_key) else {
            return self.deliver(source, event).await;
        };
        if coalesce.keep == Keep::First {
            let turn = match self.once.begin(key).await {
                Begun::First(turn) => turn,
                Begun::Repeat(mut first) => {
                    source.counters.held_back.increment(1);
                    first.coalesced = true;
                    return Ok(Answered { accepted: first, repeated: false });
                }
            };
            let answered = self.deliver(source, event).await?;
            turn.done(&answered.accepted, coalesce.window);
            return Ok(answered);
        }
        let Some(spool) = &self.spool else { return self.deliver(source, event).await };
        let now = (self.now)().timestamp_millis();
        let window = i64::try_from(coalesce.window.as_millis()).unwrap_or(i64::MAX);
        let mut message = event.message.clone();
        if coalesce.keep == Keep::Count {
            message.properties.headers.insert(HEADER_COUNT.to_owned(), 1.into());
        }
        match spool.hold(&source.name, key, &message, now.saturating_add(window), now).await {
            Ok(()) => {
                source.counters.held_back.increment(1);
                accepted.status = StatusCode::ACCEPTED;
                accepted.coalesced = true;
                Ok(Answered { accepted, repeated: false })
            }
            Err(error) => {
                warn!(source = %source.name, %error, "an event cannot be held back and is published at once");
                self.deliver(source, event).await
            }
        }
    }

    async fn deliver(&self, source: &Source, event: &Event) -> Result<Answered, Refusal> {
        let message = &event.message;
        let (id, key) = (event.message_id.as_str(), message.routing_key.as_str());
        let waiting = self.spool.as_ref().is_some_and(|spool| spool.holds(&source.name));
        let reason = if waiting {
            "older events of this source wait in the spool".to_owned()
        } else {
            let begun = Instant::now();
            match self.publisher.publish(message).await {
                Ok(routed) => {
                    source.counters.published.increment(1);
                    self.publish_seconds.record(begun.elapsed().as_secs_f64());
                    info!(source = %source.name, message_id = id, routing_key = key, routed, "webhook published");
                    let accepted = Accepted::published(id, &message.exchange, key, routed);
                    return Ok(Answered { accepted, repeated: false });
                }
                // Missing exchanges and rights come back; the spool tells those from a message that nobody can take.
                Err(NotPublished::Refused(reason)) if self.spool.is_some() => reason,
                Err(NotPublished::Refused(reason)) => {
                    return Err(Refusal::NotPublishable(reason));
                }
                Err(NotPublished::Unavailable(reason)) => reason,
            }
        };
        let Some(spool) = &self.spool else {
            return Err(Refusal::unavailable("the broker is not available", reason));
        };
        match spool.append(&source.name, message, (self.now)().timestamp_millis()).await {
            Ok(()) => {
                source.counters.spooled.increment(1);
                info!(source = %source.name, message_id = id, routing_key = key, reason, "webhook spooled");
                let accepted =
                    Accepted { status: StatusCode::ACCEPTED, spooled: true, ..Accepted::of(event) };
                Ok(Answered { accepted, repeated: false })
            }
            Err(error) => {
                let outside = format!("the broker is not available, and {}", error.outside());
                Err(Refusal::unavailable(outside, format!("{reason}, and {error}")))
            }
        }
    }

    fn passes(&self, source: &Source, event: &Event) -> bool {
        let Some(filter) = &source.filter else { return true };
        match filter(&event.message, &event.value) {
            Ok(true) => true,
            Ok(false) => {
                source.counters.filtered.increment(1);
                info!(source = %source.name, message_id = %event.message_id, "webhook filtered out");
                false
            }
            Err(error) => {
                // An error is not a no: what cannot be judged is published rather than lost.
                source.counters.filter_errors.increment(1);
                warn!(source = %source.name, message_id = %event.message_id, error, "the source's filter failed; the event is published");
                true
            }
        }
    }

    fn check_size(&self, source: &Source, event: &Event) -> Result<(), Refusal> {
        let size = event.message.body.len();
        if size > self.max_message_bytes {
            return Err(Refusal::TooLarge(format!(
                "the event has {size} bytes, and a message on pulse at most {}",
                self.max_message_bytes
            )));
        }
        if size > ADVISED_MESSAGE_BYTES && source.first_large_message() {
            warn!(source = %source.name, size, advised = ADVISED_MESSAGE_BYTES, "larger messages than pulse advises (told once per source)");
        }
        Ok(())
    }

    /// Flags, or refuses, a body that came before under another delivery id which anybody could have changed.
    /// True if this event is the one that is remembered.
    fn note_repeated_body(&self, source: &Source, event: &mut Event) -> Result<bool, Refusal> {
        if source.delivery_signed || event.delivery.is_none() || self.once_window.is_zero() {
            return Ok(false);
        }
        let key = body_key(source, event);
        let now = Instant::now();
        let mut bodies = self.bodies();
        let earlier = bodies.get(&key, now).cloned();
        match earlier {
            None => {
                bodies.insert(key, event.message_id.clone(), self.once_window, now);
                Ok(true)
            }
            Some(first) if first == event.message_id => Ok(false),
            Some(first) => {
                source.counters.repeated_bodies.increment(1);
                info!(source = %source.name, message_id = %event.message_id, first, "a body came again under another delivery id");
                if source.refuse_repeats {
                    return Err(Refusal::Repeated(first));
                }
                event.message.properties.headers.insert(HEADER_REPEATS.to_owned(), first.into());
                Ok(false)
            }
        }
    }
}

fn finish(turn: Option<Turn>, accepted: &Accepted, lasting: Duration) {
    if let Some(turn) = turn {
        turn.done(accepted, lasting);
    }
}

/// The same message; for senders without delivery ids the same body.
fn identity(source: &Source, event: &Event) -> Key {
    match &event.delivery {
        Some(_) => hash(&[b"id", source.name.as_bytes(), event.message_id.as_bytes()]),
        None => hash(&[
            b"body",
            source.name.as_bytes(),
            event.message.routing_key.as_bytes(),
            event.digest.as_slice(),
        ]),
    }
}

fn body_key(source: &Source, event: &Event) -> Key {
    hash(&[b"seen", source.name.as_bytes(), event.digest.as_slice()])
}

/// SHA-256 over parts, each with its length, so that no two lists of parts are alike.
pub fn hash(parts: &[&[u8]]) -> Key {
    // ring is several times as fast as sha2 over a body where the processor has no SHA instructions.
    let mut hash = Context::new(&SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    bytes_of(&hash.finish())
}

/// The bytes of a SHA-256 digest.
pub(crate) fn bytes_of(digest: &ring::digest::Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}
