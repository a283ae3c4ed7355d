//! Somebody else on pulse: declares, publishes and listens as any other program would.

use std::sync::Arc;

use pulse::amqp::{Amqp, AmqpConfig};
use pulse::{Binding, Delivery, Message, Properties, QueueSpec, Status, Transport};
use serde_json::Value;
use tokio::sync::mpsc;

use super::system::SOON;

/// A connection of its own.
pub struct Listener {
    transport: Arc<Amqp>,
}

impl Listener {
    pub async fn connect(url: &str) -> Self {
        let config = AmqpConfig { url, ca_file: None, name: "listener", publish_timeout: SOON };
        let transport = Arc::new(Amqp::connect(config).unwrap());
        let mut status = transport.status();
        let up = status.wait_for(|status| *status == Status::Up);
        tokio::time::timeout(SOON, up).await.expect("no broker in time").unwrap();
        Self { transport }
    }

    /// Hears everything on these exchanges from now on.
    pub async fn listen(&self, queue: &str, exchanges: &[&str]) -> mpsc::Receiver<Delivery> {
        let bindings =
            exchanges.iter().map(|exchange| Binding { exchange: (*exchange).into(), pattern: "#".into() });
        let spec = QueueSpec {
            name: queue.into(),
            kind: Default::default(),
            delivery_limit: None,
            dead_letter_exchange: None,
            max_length: None,
            bindings: bindings.collect(),
            unbind: Vec::new(),
        };
        let health = self.transport.declare_queue(spec).await.unwrap();
        assert!(health.iter().all(|binding| binding.error.is_none()), "{health:?}");
        let (sink, heard) = mpsc::channel(100);
        self.transport.consume(queue, 100, sink).await.unwrap();
        heard
    }

    pub async fn declare(&self, exchange: &str) {
        self.transport.declare_exchange(exchange).await.unwrap();
    }

    /// Publishes; true if some queue took it.
    pub async fn publish(&self, exchange: &str, key: &str, body: &Value) -> bool {
        let message = Message {
            exchange: exchange.into(),
            routing_key: key.into(),
            properties: Properties { content_type: Some("application/json".into()), ..Default::default() },
            body: body.to_string().into(),
        };
        self.transport.publish(&message, true).await.unwrap().routed
    }
}

/// The next message.
pub async fn heard(deliveries: &mut mpsc::Receiver<Delivery>) -> Message {
    let delivery = tokio::time::timeout(SOON, deliveries.recv()).await.expect("nothing in time").unwrap();
    let message = (*delivery.message).clone();
    delivery.ack();
    message
}
