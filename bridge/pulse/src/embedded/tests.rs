//! What needs a hand inside: a disk that is full, a second process, a newer file.

use std::time::Duration;

use tokio::sync::mpsc;

use super::*;
use crate::transport::{Binding, PublishError};

const DEADLINE: Duration = Duration::from_secs(30);

async fn stand(transport: &Embedded) {
    transport.declare_exchange("e").await.unwrap();
    let spec = QueueSpec {
        name: "q".into(),
        kind: Default::default(),
        delivery_limit: None,
        dead_letter_exchange: None,
        max_length: None,
        bindings: vec![Binding { exchange: "e".into(), pattern: "#".into() }],
        unbind: Vec::new(),
    };
    transport.declare_queue(spec).await.unwrap();
}

fn message(n: usize) -> Message {
    Message {
        exchange: "e".into(),
        routing_key: n.to_string(),
        body: vec![b'x'; 20_000].into(),
        ..Message::default()
    }
}

#[tokio::test]
async fn a_full_disk_fails_publishes_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pulse.db");
    let db = db::Db::open(&path).unwrap();
    db.limit(200);
    let transport = Embedded::start(db, &path).unwrap();
    stand(&transport).await;
    let mut published = 0;
    let error = loop {
        match transport.publish(&message(published), true).await {
            Ok(_) => published += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, PublishError::Unavailable(why) if why.contains("full")), "{error:?}");
    assert!(matches!(*transport.status().borrow(), Status::Down { .. }));
    // Everything that was taken is there, once and in order; acknowledging it makes room again.
    let (sink, mut deliveries) = mpsc::channel(4);
    transport.consume("q", 4, sink).await.unwrap();
    for n in 0..published {
        let delivery = tokio::time::timeout(DEADLINE, deliveries.recv()).await.unwrap().unwrap();
        assert_eq!(delivery.message.routing_key, n.to_string());
        delivery.ack();
    }
    let mut status = transport.status();
    tokio::time::timeout(DEADLINE, status.wait_for(|s| *s == Status::Up)).await.unwrap().unwrap();
    transport.publish(&message(published), true).await.unwrap();
    let delivery = tokio::time::timeout(DEADLINE, deliveries.recv()).await.unwrap().unwrap();
    assert_eq!(delivery.message.routing_key, published.to_string());
    delivery.ack();
    transport.close().await;
    assert!(matches!(transport.publish(&message(0), true).await, Err(PublishError::Unavailable(_))));
}

#[tokio::test]
async fn one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pulse.db");
    let first = Embedded::open(&path).unwrap();
    stand(&first).await;
    let second = Embedded::open(&path).err().expect("the file is in use");
    assert!(second.to_string().contains("another process"), "{second}");
    first.close().await;
    Embedded::open(&path).unwrap().close().await;
}

#[test]
fn a_newer_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pulse.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Embedded::open(&path), Err(OpenError::Newer { found: 99, .. })));
}
