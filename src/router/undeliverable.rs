//! Messages that the broker gave up delivering go back to their hook.
//!
//! A quorum queue moves a message that was delivered too often to the exchange `undeliverable`. Usually the message is
//! innocent: it was in flight whenever the router died. So it is taken from there and handed to its hook's intake as
//! one more redelivery, under its own exchange and routing key, which the broker noted in the header `x-death`.

use std::sync::Arc;
use std::time::Duration;

use pulse::{Binding, Delivery, Message, QueueSpec, naming};
use serde_json::json;
use tokio::sync::mpsc;

use super::{Inner, Taking};

/// Messages that are out of this queue at a time.
const PREFETCH: u16 = 200;

/// Nothing gives up here. Without a limit of its own RabbitMQ 4 would after twenty deliveries, and drop the message.
const DELIVERY_LIMIT: u32 = 1_000_000;

/// A message whose hook waits, or cannot be read by this version of pulsehook, is looked at again after so long.
const LATER: Duration = Duration::from_secs(10);

/// The header of a message that went to the end of this queue: whence the broker moved it here, as in `x-death`.
const ORIGIN: &str = "pulsehook-origin";

impl Inner {
    /// Declares the queue of undeliverable messages. The exchange must stand.
    pub(super) async fn declare_undeliverable(
        &self,
        sink: mpsc::Sender<Delivery>,
    ) -> Result<(), pulse::TopologyError> {
        let name: Arc<str> = naming::own_queue(&self.config.user, "undeliverable").into();
        let declare = |delivery_limit| {
            self.transport.declare_queue(QueueSpec {
                name: name.clone(),
                kind: self.config.queue_kind,
                delivery_limit,
                dead_letter_exchange: None,
                max_length: None,
                bindings: vec![Binding {
                    exchange: naming::exchange(&self.config.user, "undeliverable"),
                    pattern: "#".into(),
                }],
                unbind: Vec::new(),
            })
        };
        if let Err(error) = declare(Some(DELIVERY_LIMIT)).await {
            let pulse::TopologyError::Refused(reason) = error else { return Err(error) };
            declare(None).await?;
            tracing::warn!(%name, reason, "the queue stands with another delivery limit: delete it when it is empty, and it is declared anew");
        }
        self.transport.consume(&name, PREFETCH, sink).await
    }

    /// Runs until the channel closes.
    pub(super) async fn return_undeliverable(self: Arc<Self>, mut deliveries: mpsc::Receiver<Delivery>) {
        while let Some(delivery) = deliveries.recv().await {
            // While messages are not taken it would only go to and fro.
            let mut taking = self.taking.subscribe();
            if taking.wait_for(|taking| *taking == Taking::Yes).await.is_err() {
                return;
            }
            match origin(&delivery.message) {
                Some((queue, message)) if self.registry.get(&queue).is_some_and(|hook| !hook.waits()) => {
                    tracing::warn!(queue, "the broker gave up on a message; it goes back to its hook");
                    let returned = delivery.returned(queue.into(), Arc::new(message));
                    if self.deliveries.send(returned).await.is_err() {
                        return;
                    }
                }
                Some((queue, message))
                    if self.registry.get(&queue).is_some() || self.stands(&queue).await =>
                {
                    tracing::debug!(
                        queue,
                        "the broker gave up on a message of a hook that waits or cannot be read"
                    );
                    self.spawn(self.clone().set_back(delivery, queue, message));
                }
                _ => {
                    tracing::warn!(
                        routing_key = delivery.message.routing_key,
                        "an undeliverable message belongs to no hook; dropped"
                    );
                    delivery.ack();
                }
            }
        }
    }
}

impl Inner {
    /// Has a message wait at the end of the queue, so that those of other hooks get their turn.
    async fn set_back(self: Arc<Self>, delivery: Delivery, queue: String, mut message: Message) {
        tokio::time::sleep(LATER).await;
        // Should the router die before the acknowledgement there are two of it, which only an id shows to be one.
        if message.properties.message_id.is_none() {
            return delivery.retry();
        }
        let own = naming::exchange(&self.config.user, "undeliverable");
        let exchange = std::mem::replace(&mut message.exchange, own);
        let origin = json!({ "queue": queue, "exchange": exchange, "routing-keys": [message.routing_key] });
        message.properties.headers.insert(ORIGIN.to_owned(), origin);
        match self.transport.publish(&message, true).await {
            Ok(published) if published.routed => delivery.ack(),
            Ok(_) => delivery.retry(),
            Err(error) => {
                tracing::debug!(%error, "a message that waits could not be set back");
                delivery.retry();
            }
        }
    }

    /// Whether a hook with this queue is in the store, though it may not be one that this version can read. If that cannot be told, it is.
    async fn stands(&self, queue: &str) -> bool {
        let Ok(rows) = self.store.hooks(None).await else { return true };
        rows.iter().any(|row| naming::queue(&self.config.user, &row.name.group, &row.name.id) == queue)
    }
}

/// The queue that gave the message up, and the message under the exchange and routing key that it was published with.
fn origin(message: &Message) -> Option<(String, Message)> {
    let headers = &message.properties.headers;
    let death = match headers.get("x-death") {
        Some(deaths) => deaths.as_array()?.first()?,
        None => headers.get(ORIGIN)?,
    };
    let queue = death.get("queue")?.as_str()?.to_owned();
    let exchange = death.get("exchange")?.as_str()?.to_owned();
    let routing_key = death.get("routing-keys")?.as_array()?.first()?.as_str()?.to_owned();
    let mut properties = message.properties.clone();
    let is_own =
        |name: &str| name.starts_with("x-death") || name.starts_with("x-first-death") || name == ORIGIN;
    properties.headers.retain(|name, _| !is_own(name));
    Some((queue, Message { exchange, routing_key, properties, body: message.body.clone() }))
}
