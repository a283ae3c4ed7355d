//! Messages that the broker gave up delivering go back to their hook.
//!
//! A quorum queue moves a message that was delivered too often to the exchange `undeliverable`. Usually the message is
//! innocent: it was in flight whenever the router died. So it is taken from there and handed to its hook's intake as
//! one more redelivery, under its own exchange and routing key, which the broker noted in the header `x-death`.

use std::sync::Arc;

use pulse::{Binding, Delivery, Message, QueueSpec, naming};
use tokio::sync::mpsc;

use super::{Inner, Taking};

/// Messages that are out of this queue at a time. Few: it is a way for the unfortunate.
const PREFETCH: u16 = 20;

impl Inner {
    /// Declares the queue of undeliverable messages. The exchange must stand.
    pub(super) async fn declare_undeliverable(
        &self,
        sink: mpsc::Sender<Delivery>,
    ) -> Result<(), pulse::TopologyError> {
        let name: Arc<str> = naming::own_queue(&self.config.user, "undeliverable").into();
        self.transport
            .declare_queue(QueueSpec {
                name: name.clone(),
                kind: self.config.queue_kind,
                delivery_limit: None,
                dead_letter_exchange: None,
                max_length: None,
                bindings: vec![Binding {
                    exchange: naming::exchange(&self.config.user, "undeliverable"),
                    pattern: "#".into(),
                }],
                unbind: Vec::new(),
            })
            .await?;
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
                Some((queue, message)) if self.registry.get(&queue).is_some() => {
                    tracing::warn!(queue, "the broker gave up on a message; it goes back to its hook");
                    let returned = delivery.returned(queue.into(), Arc::new(message));
                    if self.deliveries.send(returned).await.is_err() {
                        return;
                    }
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

/// The queue that gave the message up, and the message under the exchange and routing key that it was published with.
fn origin(message: &Message) -> Option<(String, Message)> {
    let death = message.properties.headers.get("x-death")?.as_array()?.first()?;
    let queue = death.get("queue")?.as_str()?.to_owned();
    let exchange = death.get("exchange")?.as_str()?.to_owned();
    let routing_key = death.get("routing-keys")?.as_array()?.first()?.as_str()?.to_owned();
    let mut properties = message.properties.clone();
    properties.headers.retain(|name, _| !name.starts_with("x-death") && !name.starts_with("x-first-death"));
    Some((queue, Message { exchange, routing_key, properties, body: message.body.clone() }))
}
