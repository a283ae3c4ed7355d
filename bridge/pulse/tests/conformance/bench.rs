//! What every case works on: a transport, names of its own, and waiting under a deadline.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pulse::amqp::{Amqp, AmqpConfig};
use pulse::{
    Binding, Delivery, Embedded, Event, Message, Properties, Published, QueueSpec, Status, Transport,
};
use tokio::sync::mpsc;

/// Longer than anything should take on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Where transports are opened.
#[derive(Clone)]
pub enum Place {
    /// Files in this folder.
    Embedded(PathBuf),
    /// A broker.
    Amqp(String),
}

pub struct Bench {
    place: Place,
    case: &'static str,
}

impl Bench {
    pub fn new(place: Place, case: &'static str) -> Self {
        Self { place, case }
    }

    /// Opens the case's transport; after `close` it opens the same one again.
    pub async fn open(&self) -> Arc<dyn Transport> {
        let transport: Arc<dyn Transport> = match &self.place {
            Place::Embedded(folder) => Arc::new(Embedded::open(&folder.join(self.case)).unwrap()),
            Place::Amqp(url) => Arc::new(
                Amqp::connect(AmqpConfig { url, ca_file: None, name: self.case, publish_timeout: DEADLINE })
                    .unwrap(),
            ),
        };
        let mut status = transport.status();
        let up = status.wait_for(|status| *status == Status::Up);
        tokio::time::timeout(DEADLINE, up).await.expect("not up in time").unwrap();
        transport
    }

    /// A name of this case alone.
    pub fn name(&self, what: &str) -> String {
        format!("test/{}/{what}", self.case)
    }

    pub fn exchange(&self) -> String {
        self.name("exchange")
    }

    /// A queue bound to the case's exchange with these patterns.
    pub fn queue(&self, what: &str, patterns: &[&str]) -> QueueSpec {
        let bindings =
            patterns.iter().map(|p| Binding { exchange: self.exchange(), pattern: (*p).into() }).collect();
        QueueSpec {
            name: self.name(what).into(),
            kind: Default::default(),
            delivery_limit: None,
            dead_letter_exchange: None,
            max_length: None,
            bindings,
            unbind: Vec::new(),
        }
    }

    /// Opens the transport with the case's exchange and one queue `queue` bound to everything.
    pub async fn with_queue(&self) -> (Arc<dyn Transport>, String) {
        let transport = self.open().await;
        transport.declare_exchange(&self.exchange()).await.unwrap();
        declare(&*transport, self.queue("queue", &["#"])).await;
        (transport, self.name("queue"))
    }

    pub fn message(&self, key: &str, body: impl Into<String>) -> Message {
        let properties = Properties { message_id: Some(format!("{key} id")), ..Properties::default() };
        Message {
            exchange: self.exchange(),
            routing_key: key.into(),
            properties,
            body: body.into().into_bytes().into(),
        }
    }

    pub async fn publish(&self, transport: &dyn Transport, key: &str) -> Published {
        transport.publish(&self.message(key, key), true).await.unwrap()
    }
}

/// Declares a queue of which every binding must stand.
pub async fn declare(transport: &dyn Transport, spec: QueueSpec) {
    let healths = transport.declare_queue(spec).await.unwrap();
    assert!(healths.iter().all(|health| health.error.is_none()), "{healths:?}");
}

pub async fn consume(transport: &dyn Transport, queue: &str, prefetch: u16) -> mpsc::Receiver<Delivery> {
    let (sink, deliveries) = mpsc::channel(64);
    transport.consume(queue, prefetch, sink).await.unwrap();
    deliveries
}

pub async fn next(deliveries: &mut mpsc::Receiver<Delivery>) -> Delivery {
    tokio::time::timeout(DEADLINE, deliveries.recv())
        .await
        .expect("no delivery in time")
        .expect("sink dropped")
}

pub fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.body.to_vec()).unwrap()
}

/// Waits for an event that `wanted` accepts.
pub async fn event(events: &mut tokio::sync::broadcast::Receiver<Event>, wanted: impl Fn(&Event) -> bool) {
    let search = async { while !wanted(&events.recv().await.unwrap()) {} };
    tokio::time::timeout(DEADLINE, search).await.expect("no such event in time");
}
