//! Somebody else's full queue on the bridge's exchange holds up nobody: on a real broker.

// Helpers of tests may panic; the lint's own exception covers only test functions.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bridge::{Bridge, Config};
use harness::{Rabbit, eventually};
use http::Request;
use pulse::amqp::{Amqp, AmqpConfig};
use pulse::{Binding, QueueKind, QueueSpec, Status, Transport};
use tokio::sync::mpsc;
use tower::ServiceExt as _;

const DEADLINE: Duration = Duration::from_secs(60);
const EXCHANGE: &str = "exchange/pulsehook/v1/webhook";

fn queue(name: &str, kind: QueueKind) -> QueueSpec {
    QueueSpec {
        name: name.into(),
        kind,
        delivery_limit: None,
        dead_letter_exchange: None,
        max_length: None,
        bindings: vec![Binding { exchange: EXCHANGE.into(), pattern: "#".into() }],
        unbind: Vec::new(),
    }
}

async fn send(bridge: &Bridge, number: u64) -> u16 {
    let request = Request::post("/webhooks/ci")
        .header("authorization", "Bearer secret for tests")
        .header("x-delivery", number.to_string())
        .body(Body::from(format!("{{\"n\":{number}}}")))
        .unwrap();
    bridge.routes().oneshot(request).await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_rejects_everything_does_not_keep_events_in_the_spool() {
    let rabbit = Rabbit::start().await.unwrap();
    let url = rabbit.url("/");
    let config =
        AmqpConfig { url: &url, ca_file: None, name: "test", publish_timeout: Duration::from_secs(10) };
    let transport: Arc<dyn Transport> =
        Arc::new(Amqp::connect_with(config, Duration::from_millis(1500)).unwrap());
    transport.status().wait_for(|status| *status == Status::Up).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let config: Config = toml::from_str(&format!(
        "spool = {{ path = {:?} }}\nclock = {{ enabled = false }}\n[[source]]\nname = \"ci\"\nprovider = \"token\"\ntoken = \"bearer\"\n\
         secrets = [\"secret for tests\"]\ndelivery = \"header:x-delivery\"\nevent = \"const:e\"\n",
        folder.path().join("spool.db")
    ))
    .unwrap();
    let bridge = Bridge::new(&config, "pulsehook", transport.clone()).unwrap();
    bridge.start().await.unwrap();
    transport.declare_queue(queue("ours", QueueKind::Quorum)).await.unwrap();
    let rejects = r#"{"max-length": 1, "overflow": "reject-publish"}"#;
    rabbit.ctl(&["set_policy", "full", "^theirs$", rejects, "--apply-to", "queues"]).await.unwrap();
    transport.declare_queue(queue("theirs", QueueKind::Classic)).await.unwrap();
    assert_eq!(send(&bridge, 0).await, 200, "there is room for one");

    for number in 1..=20 {
        assert!(matches!(send(&bridge, number).await, 200 | 202));
    }
    eventually(DEADLINE, async || (bridge.spooled().unwrap().events == 0).then_some(())).await;
    assert_eq!(bridge.spooled().unwrap().refused, 0);
    assert_eq!(send(&bridge, 21).await, 200);

    let (sink, mut deliveries) = mpsc::channel(64);
    transport.consume("ours", 64, sink).await.unwrap();
    let mut missing: std::collections::BTreeSet<u64> = (0..=21).collect();
    while !missing.is_empty() {
        let delivery = tokio::time::timeout(DEADLINE, deliveries.recv()).await.unwrap().unwrap();
        let body: serde_json::Value = serde_json::from_slice(&delivery.message.body).unwrap();
        missing.remove(&body["n"].as_u64().unwrap());
        delivery.ack();
    }
    bridge.stop().await;
    transport.close().await;
}
