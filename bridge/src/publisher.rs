//! The way onto pulse: confirmed, mandatory, under a deadline.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pulse::{Message, PublishError, Published, Status, Transport};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a message that is safe already may wait for its confirm.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker may come back without the queues that stood before, and whoever declared them is back a little later than we: what no
/// queue takes so soon after its return waits. Longer than the pause between two attempts to connect, and than many
/// declarations.
const GRACE: Duration = Duration::from_secs(30);

/// Publishes with the bridge's deadline.
pub struct Publisher {
    transport: Arc<dyn Transport>,
    timeout: Duration,
    /// What became of the last messages to each exchange; there are as many as the bridge publishes to.
    exchanges: Mutex<HashMap<String, Seen>>,
}

/// What the broker said lately of messages to one exchange.
#[derive(Default)]
struct Seen {
    confirmed: Option<Instant>,
    /// The id of the message that was refused last, and since when it has been the only one.
    refused: Option<(Option<String>, Instant)>,
}

/// Why a message did not go out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotPublished {
    /// The broker is away or did not confirm in time; it may have the message all the same.
    #[error("the broker is not available: {0}")]
    Unavailable(String),
    /// The broker will never take this message.
    #[error("the broker refuses the message: {0}")]
    Refused(String),
}

impl NotPublished {
    /// What the broker, or the way to it, said.
    pub fn reason(self) -> String {
        match self {
            Self::Unavailable(reason) | Self::Refused(reason) => reason,
        }
    }
}

impl From<PublishError> for NotPublished {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Unavailable(reason) => Self::Unavailable(reason),
            PublishError::Refused(reason) => Self::Refused(reason),
        }
    }
}

impl Publisher {
    /// Publishes through `transport` and waits at most `timeout` for each confirm.
    pub fn new(transport: Arc<dyn Transport>, timeout: Duration) -> Self {
        Self { transport, timeout, exchanges: Mutex::default() }
    }

    /// Whether the broker has confirmed a message to this exchange since then.
    pub fn confirmed_since(&self, exchange: &str, since: Instant) -> bool {
        self.exchanges().get(exchange).and_then(|seen| seen.confirmed).is_some_and(|last| last > since)
    }

    /// For how long this message has been the only one to its exchange that the broker refuses; zero if it is not the one
    /// that was refused last.
    pub fn alone_refused_for(&self, message: &Message) -> Duration {
        match self.exchanges().get(&message.exchange).and_then(|seen| seen.refused.as_ref()) {
            Some((id, since)) if *id == message.properties.message_id => since.elapsed(),
            _ => Duration::ZERO,
        }
    }

    fn exchanges(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.exchanges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what the broker said, and makes the bridge's answer of it.
    fn heard(
        &self,
        exchange: &str,
        id: Option<&String>,
        answer: Result<Published, PublishError>,
    ) -> Result<bool, NotPublished> {
        if !matches!(answer, Err(PublishError::Unavailable(_))) {
            let mut exchanges = self.exchanges();
            if !exchanges.contains_key(exchange) {
                exchanges.insert(exchange.to_owned(), Seen::default());
            }
            if let Some(seen) = exchanges.get_mut(exchange) {
                match &answer {
                    Ok(_) => seen.confirmed = Some(Instant::now()),
                    Err(_) if seen.refused.as_ref().is_some_and(|(last, _)| last.as_ref() == id) => {}
                    Err(_) => seen.refused = Some((id.cloned(), Instant::now())),
                }
            }
        }
        self.taken(answer?)
    }

    /// Publishes one message and waits for its confirm; true if some queue took it.
    ///
    /// # Errors
    /// See [`NotPublished`].
    pub async fn publish(&self, message: &Message) -> Result<bool, NotPublished> {
        self.publish_within(message, self.timeout).await
    }

    /// The same for what is safe already: each attempt that is given up may be a second message, so it waits longer.
    ///
    /// # Errors
    /// See [`NotPublished`].
    pub async fn publish_patiently(&self, message: &Message) -> Result<bool, NotPublished> {
        self.publish_within(message, PATIENCE.max(self.timeout)).await
    }

    /// The same for many, which share the way: they arrive in this order. Answers in this order, too.
    ///
    /// # Errors
    /// See [`NotPublished`], for each.
    pub async fn publish_all_patiently(&self, messages: Vec<Message>) -> Vec<Result<(), NotPublished>> {
        let (count, patience) = (messages.len(), PATIENCE.max(self.timeout));
        let names: Vec<(String, Option<String>)> = messages
            .iter()
            .map(|message| (message.exchange.clone(), message.properties.message_id.clone()))
            .collect();
        let all = |reason: String| vec![Err(NotPublished::Unavailable(reason)); count];
        let status = self.transport.status().borrow().clone();
        if let Status::Down { reason } = status {
            return all(reason);
        }
        match tokio::time::timeout(patience, self.transport.publish_all(messages, true)).await {
            Ok(answers) => {
                pulse::crash::point("bridge.confirmed");
                let heard = names.iter().zip(answers);
                heard
                    .map(|((exchange, id), answer)| self.heard(exchange, id.as_ref(), answer).map(drop))
                    .collect()
            }
            Err(_) => all(format!("no confirm within {patience:?}")),
        }
    }

    /// Whether the broker can be reached, from now on.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.transport.status()
    }

    /// Whether some queue took it, or why it waits for one.
    fn taken(&self, published: Published) -> Result<bool, NotPublished> {
        let early = self.transport.returned().is_some_and(|returned| returned.elapsed() < GRACE);
        if early && !published.routed {
            let reason = "no queue took it, and the broker is back only just now: its queues may be about to be declared again";
            return Err(NotPublished::Unavailable(reason.to_owned()));
        }
        Ok(published.routed)
    }

    async fn publish_within(&self, message: &Message, timeout: Duration) -> Result<bool, NotPublished> {
        // A broker that is known to be away costs no wait.
        let status = self.transport.status().borrow().clone();
        if let Status::Down { reason } = status {
            return Err(NotPublished::Unavailable(reason));
        }
        pulse::crash::point("bridge.verified");
        match tokio::time::timeout(timeout, self.transport.publish(message, true)).await {
            Ok(answer) => {
                if answer.is_ok() {
                    pulse::crash::point("bridge.confirmed");
                }
                self.heard(&message.exchange, message.properties.message_id.as_ref(), answer)
            }
            Err(_) => Err(NotPublished::Unavailable(format!("no confirm within {timeout:?}"))),
        }
    }
}
