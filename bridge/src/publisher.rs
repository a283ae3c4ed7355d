//! The way onto pulse: confirmed, mandatory, under a deadline.

use std::sync::Arc;
use std::time::Duration;

use pulse::{Message, PublishError, Status, Transport};
use tokio::sync::watch;

/// How long a message that is safe already may wait for its confirm.
const PATIENCE: Duration = Duration::from_secs(60);

/// Publishes with the bridge's deadline.
pub struct Publisher {
    transport: Arc<dyn Transport>,
    timeout: Duration,
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

impl Publisher {
    /// Publishes through `transport` and waits at most `timeout` for each confirm.
    pub fn new(transport: Arc<dyn Transport>, timeout: Duration) -> Self {
        Self { transport, timeout }
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

    /// Whether the broker can be reached, from now on.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.transport.status()
    }

    async fn publish_within(&self, message: &Message, timeout: Duration) -> Result<bool, NotPublished> {
        // A broker that is known to be away costs no wait.
        let status = self.transport.status().borrow().clone();
        if let Status::Down { reason } = status {
            return Err(NotPublished::Unavailable(reason));
        }
        pulse::crash::point("bridge.verified");
        match tokio::time::timeout(timeout, self.transport.publish(message, true)).await {
            Ok(Ok(published)) => {
                pulse::crash::point("bridge.confirmed");
                Ok(published.routed)
            }
            Ok(Err(PublishError::Unavailable(reason))) => Err(NotPublished::Unavailable(reason)),
            Ok(Err(PublishError::Refused(reason))) => Err(NotPublished::Refused(reason)),
            Err(_) => Err(NotPublished::Unavailable(format!("no confirm within {timeout:?}"))),
        }
    }
}
