//! Short ways to a session, and to see what was logged.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pulse::amqp::{Amqp, AmqpConfig};
use pulse::{Binding, Delivery, Event, Message, Properties, QueueSpec, Status, Transport};
use tokio::sync::{broadcast, mpsc};

/// Longer than a recovery should take on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Part of every password here, so that it can be looked for.
pub const SECRET: &str = "sesame";

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Keeps what this process logs, at every level, from now on.
pub fn watch_logs() {
    let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(|| Log).try_init();
}

pub fn no_secret_was_logged() {
    let log = String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned();
    assert!(log.contains("connected to the broker"), "the log was not watched");
    let line = log.lines().find(|line| line.contains(SECRET));
    assert!(line.is_none(), "a secret was logged: {line:?}");
}

pub fn connect(url: &str) -> Arc<dyn Transport> {
    connect_with(url, None, Duration::from_secs(10))
}

pub fn connect_with(
    url: &str,
    ca_file: Option<&std::path::Path>,
    publish_timeout: Duration,
) -> Arc<dyn Transport> {
    Arc::new(Amqp::connect(AmqpConfig { url, ca_file, name: "recovery test", publish_timeout }).unwrap())
}

pub async fn up(transport: &dyn Transport) {
    let mut status = transport.status();
    let up = status.wait_for(|status| *status == Status::Up);
    tokio::time::timeout(DEADLINE, up).await.expect("not up in time").unwrap();
}

/// Waits until the transport is down for a reason that contains `why`; returns the reason.
pub async fn down(transport: &dyn Transport, why: &str) -> String {
    let mut status = transport.status();
    let down = status.wait_for(|status| matches!(status, Status::Down { reason } if reason.contains(why)));
    let found = tokio::time::timeout(DEADLINE, down).await;
    match found {
        Ok(Ok(status)) => match &*status {
            Status::Down { reason } => reason.clone(),
            Status::Up => unreachable!(),
        },
        _ => panic!("not down because of {why:?}, but {:?}", *transport.status().borrow()),
    }
}

pub fn exchange(case: &str) -> String {
    format!("test/{case}")
}

pub fn spec(case: &str, what: &str, patterns: &[&str]) -> QueueSpec {
    let bindings =
        patterns.iter().map(|p| Binding { exchange: exchange(case), pattern: (*p).into() }).collect();
    QueueSpec {
        name: format!("test/{case}/{what}").into(),
        kind: Default::default(),
        delivery_limit: None,
        dead_letter_exchange: None,
        max_length: None,
        bindings,
        unbind: Vec::new(),
    }
}

pub async fn declare(transport: &dyn Transport, spec: QueueSpec) {
    let healths = transport.declare_queue(spec).await.unwrap();
    assert!(healths.iter().all(|health| health.error.is_none()), "{healths:?}");
}

/// The case's exchange and a consumed queue `queue` bound to all of it.
pub async fn stand(transport: &dyn Transport, case: &str, prefetch: u16) -> mpsc::Receiver<Delivery> {
    up(transport).await;
    transport.declare_exchange(&exchange(case)).await.unwrap();
    declare(transport, spec(case, "queue", &["#"])).await;
    consume(transport, &spec(case, "queue", &[]).name, prefetch).await
}

pub async fn consume(transport: &dyn Transport, queue: &str, prefetch: u16) -> mpsc::Receiver<Delivery> {
    let (sink, deliveries) = mpsc::channel(64);
    transport.consume(queue, prefetch, sink).await.unwrap();
    deliveries
}

pub fn message(case: &str, key: &str) -> Message {
    Message {
        exchange: exchange(case),
        routing_key: key.into(),
        properties: Properties { message_id: Some(key.into()), ..Properties::default() },
        body: key.to_owned().into_bytes().into(),
    }
}

/// Publishes until it is confirmed, as the bridge's senders would.
pub async fn publish(transport: &dyn Transport, case: &str, key: &str) {
    let message = message(case, key);
    harness::eventually(DEADLINE, || async { transport.publish(&message, true).await.ok() }).await;
}

pub async fn next(deliveries: &mut mpsc::Receiver<Delivery>) -> Delivery {
    tokio::time::timeout(DEADLINE, deliveries.recv())
        .await
        .expect("no delivery in time")
        .expect("sink dropped")
}

/// The next delivery with this key. Others are acked: a publish that was repeated may have left two.
pub async fn find(deliveries: &mut mpsc::Receiver<Delivery>, key: &str) -> Delivery {
    loop {
        let delivery = next(deliveries).await;
        if delivery.message.routing_key == key {
            return delivery;
        }
        delivery.ack();
    }
}

/// Acks deliveries until the one with this key has come.
pub async fn until(deliveries: &mut mpsc::Receiver<Delivery>, key: &str) {
    find(deliveries, key).await.ack();
}

pub async fn event(events: &mut broadcast::Receiver<Event>, wanted: impl Fn(&Event) -> bool) -> Event {
    let search = async {
        loop {
            match events.recv().await {
                Ok(event) if wanted(&event) => return event,
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(DEADLINE, search).await.expect("no such event in time")
}
