//! The one interface behind which a RabbitMQ broker or the embedded transport moves messages.
//!
//! What a caller declares here stays wanted: a transport that loses its broker connects again, declares the
//! same topology, resumes the same consumers and publishes on, without being told. Callers hear of it through
//! [`Transport::events`], for health and for their own bookkeeping, not because they must act.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::{broadcast, mpsc, watch};

use crate::Message;

/// Events that a slow listener may be behind before it misses some.
pub(crate) const EVENT_BACKLOG: usize = 4096;

/// A topic binding of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Binding {
    /// Exchange name.
    pub exchange: String,
    /// Routing-key pattern: words between dots, `*` for one word, `#` for any number.
    pub pattern: String,
}

/// What kind of queue a broker keeps. The embedded transport has one kind only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueKind {
    /// Replicated, counts redeliveries; the default.
    #[default]
    Quorum,
    /// Classic durable queue: no delivery limit.
    Classic,
}

/// A durable queue as it shall stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSpec {
    /// Queue name, at most 255 bytes.
    pub name: Arc<str>,
    /// Kind; ignored by the embedded transport.
    pub kind: QueueKind,
    /// After so many redeliveries of one message the broker moves it to `dead_letter_exchange` (quorum only).
    pub delivery_limit: Option<u32>,
    /// Exchange for rejected and given-up messages.
    pub dead_letter_exchange: Option<String>,
    /// Only so many messages are kept, the oldest dropped. `None` (no limit) for everything that must not be lost.
    pub max_length: Option<u32>,
    /// Bindings that shall stand.
    pub bindings: Vec<Binding>,
    /// Bindings that stood once and shall go.
    pub unbind: Vec<Binding>,
}

/// What became of one binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingHealth {
    /// The binding.
    pub binding: Binding,
    /// `None` when it stands; else the broker's reason (no such exchange, no permission …). Retried with backoff.
    pub error: Option<String>,
}

/// The answer to a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// False when the message was mandatory and no queue was bound for it.
    pub routed: bool,
}

/// Why a publish did not succeed. The caller decides on the variant whether to repeat.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// No connection, no confirm in time, the broker blocks publishers, or one of the queues that the message goes to refuses it: repeat
    /// later. The broker may have the message, and the other queues too. Where a queue refuses everything for 30 seconds (it is
    /// full, and rejects what it has no room for), a message counts as published from then on: the queues that take messages
    /// have it.
    #[error("the broker is not available: {0}")]
    Unavailable(String),
    /// The broker or a limit refused this very message: a repeat will not help.
    #[error("the message cannot be published: {0}")]
    Refused(String),
}

/// Why a queue or an exchange does not stand.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TopologyError {
    /// No connection (yet). What was asked for stays wanted and is made when the broker is back.
    #[error("the broker is not available: {0}")]
    Unavailable(String),
    /// The broker refused: no permission, other arguments, a name too long.
    #[error("the broker refused: {0}")]
    Refused(String),
}

/// What a transport tells about itself.
#[derive(Debug, Clone)]
pub enum Event {
    /// Connected, and our exchanges stand; the queues and their consumers follow at once, each reporting for itself if
    /// it fails. Deliveries from now on carry this generation or a later one.
    Connected {
        /// Grows with each connection within this process, from 1. It also grows, without an event, when a single channel or
        /// consumer is lost: of two deliveries of one message the second always has the later generation, unless the
        /// first was ended with [`Delivery::retry`].
        generation: u64,
    },
    /// The connection is gone; a new one is being made.
    Disconnected {
        /// The connection that ended.
        generation: u64,
        /// Why, for people.
        reason: String,
    },
    /// A binding now stands, or is (still) refused. Sent on every change, and on every retry that fails for another reason.
    Binding {
        /// The queue.
        queue: Arc<str>,
        /// Its binding and health.
        health: BindingHealth,
    },
    /// A queue could not be declared or consumed; it is retried with backoff. `None`: it stands again.
    Queue {
        /// The queue.
        queue: Arc<str>,
        /// Why not.
        error: Option<String>,
    },
}

/// Whether the transport can work right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Connected: publishing and consuming.
    Up,
    /// Not connected, or the broker blocks publishers.
    Down {
        /// Why, for people.
        reason: String,
    },
}

/// How the consumer ends a delivery. Implemented by each transport; the call never blocks.
pub trait Settle: Send + Sync + 'static {
    /// Ends the delivery with this tag.
    fn settle(&self, tag: u64, how: Settlement);
}

/// The three ends of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Done with: the broker forgets it.
    Ack,
    /// Back to the queue, to be delivered again.
    Retry,
    /// Never again: to the dead-letter exchange where the queue has one, else dropped.
    Reject,
}

/// One delivered message, which is ended by exactly one of [`ack`](Self::ack), [`retry`](Self::retry) and
/// [`reject`](Self::reject). Dropped without any of them it is retried.
pub struct Delivery {
    /// The queue that it came from.
    pub queue: Arc<str>,
    /// The message.
    pub message: Arc<Message>,
    /// The broker delivered it before, to somebody.
    pub redelivered: bool,
    /// Tells deliveries of an earlier connection from those of this one; see [`Event::Connected`].
    pub generation: u64,
    tag: u64,
    settle: Option<Arc<dyn Settle>>,
}

impl Delivery {
    /// For transports: a delivery that reports its end to `settle` under `tag`.
    pub fn new(
        queue: Arc<str>,
        message: Arc<Message>,
        redelivered: bool,
        generation: u64,
        tag: u64,
        settle: Arc<dyn Settle>,
    ) -> Self {
        Self { queue, message, redelivered, generation, tag, settle: Some(settle) }
    }

    /// Done with it.
    pub fn ack(self) {
        self.end(Settlement::Ack);
    }

    /// Deliver it again.
    pub fn retry(self) {
        self.end(Settlement::Retry);
    }

    /// Never deliver it again.
    pub fn reject(self) {
        self.end(Settlement::Reject);
    }

    /// The same delivery as one more redelivery of a message to another queue: for messages that a broker set aside
    /// and that go back to where they were meant for. Ending it ends the original.
    pub fn returned(mut self, queue: Arc<str>, message: Arc<Message>) -> Self {
        Self {
            queue,
            message,
            redelivered: true,
            generation: self.generation,
            tag: self.tag,
            settle: self.settle.take(),
        }
    }

    fn end(mut self, how: Settlement) {
        if let Some(settle) = self.settle.take() {
            settle.settle(self.tag, how);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(settle) = self.settle.take() {
            settle.settle(self.tag, Settlement::Retry);
        }
    }
}

/// Moves messages. Implemented by the AMQP session and by the embedded transport; one conformance suite runs against both.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Publishes one message, persistent, and returns when the broker has confirmed it. Many calls may be
    /// under way at once: confirms are pipelined. With `mandatory`, `routed` tells whether any queue took it; a mandatory
    /// message without an id is given one.
    ///
    /// While there is no connection, or while the broker blocks publishers, it fails without waiting for better times. A message that is refused
    /// costs others nothing, but may have them published twice, with the same id.
    async fn publish(&self, message: &Message, mandatory: bool) -> Result<Published, PublishError>;

    /// Publishes many messages, as [`publish`](Self::publish) does one, for less; answers in their order.
    ///
    /// On a broker they keep their order, also where those that were `Unavailable` are published again: after the first of these
    /// none sets out. Only after one that was `Refused`, or that a queue did not take, others may be there already.
    async fn publish_all(
        &self,
        messages: Vec<Message>,
        mandatory: bool,
    ) -> Vec<Result<Published, PublishError>> {
        futures_util::future::join_all(messages.iter().map(|message| self.publish(message, mandatory))).await
    }

    /// Declares a durable topic exchange of ours; it is declared again after every recovery.
    async fn declare_exchange(&self, name: &str) -> Result<(), TopologyError>;

    /// Whether there is such an exchange, whoever made it. A look at the broker each time, for which no right is needed.
    async fn exchange_stands(&self, name: &str) -> Result<bool, TopologyError>;

    /// Makes a queue stand as described, and keeps it so until [`delete_queue`](Self::delete_queue): calling it again
    /// with another spec changes the bindings. Returns when everything has been tried once, with the health of each
    /// binding; refused bindings are retried with backoff and reported as events.
    async fn declare_queue(&self, spec: QueueSpec) -> Result<Vec<BindingHealth>, TopologyError>;

    /// Deletes a queue and forgets its spec and consumer. Returns how many messages waited in it (those that are out, delivered and
    /// not ended, are not among them), once the broker has confirmed; a queue that does not exist counts as deleted. With the broker away: `Unavailable`, and the caller repeats.
    /// Deliveries from the queue that are still out may be ended, to no effect.
    async fn delete_queue(&self, name: &str) -> Result<u64, TopologyError>;

    /// Sends what arrives on a declared queue into `sink`, at most `prefetch` unsettled at a time, and resumes by
    /// itself after every loss. Calling it again changes prefetch and sink. `prefetch` must not be 0.
    ///
    /// Many queues may share a sink: while it is full they wait, and nothing else does. When its receiver is dropped
    /// the consumer is cancelled. With `Unavailable` it stays wanted and begins when the broker is back.
    async fn consume(
        &self,
        queue: &str,
        prefetch: u16,
        sink: mpsc::Sender<Delivery>,
    ) -> Result<(), TopologyError>;

    /// Stops consuming from a queue. Deliveries that are out stay valid and must still be ended.
    async fn cancel(&self, queue: &str) -> Result<(), TopologyError>;

    /// How many messages wait in a declared queue; those that are out are not counted. A look at the broker each time.
    async fn waiting(&self, queue: &str) -> Result<u64, TopologyError>;

    /// When it could publish again after it could not; `None` while it always could. A broker may come back without queues
    /// that stood before, and those who declared them need a moment to do so again.
    fn returned(&self) -> Option<Instant> {
        None
    }

    /// How many published messages are not confirmed yet.
    fn unconfirmed(&self) -> usize;

    /// What happens from now on. A receiver that lags misses events: read [`status`](Self::status) then.
    fn events(&self) -> broadcast::Receiver<Event>;

    /// Whether it can work right now.
    fn status(&self) -> watch::Receiver<Status>;

    /// Stops: no new deliveries, acks that were asked for flushed, connections closed. Bounded in time.
    async fn close(&self);
}
