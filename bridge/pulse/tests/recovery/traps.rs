//! Traps of the broker's and of the client library's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Proxy, Rabbit, RawMessage, RawPublisher};
use pulse::amqp::{Amqp, AmqpConfig};
use pulse::{Binding, Event, PublishError, QueueKind, QueueSpec, Transport};

use crate::bench::*;

pub async fn queue_deleted_under_a_consumer(rabbit: Arc<Rabbit>) {
    let transport = connect(&rabbit.url("/"));
    let mut deliveries = stand(&*transport, "deleted", 10).await;
    publish(&*transport, "deleted", "held").await;
    let held = next(&mut deliveries).await;
    let mut events = transport.events();
    rabbit.ctl(&["delete_queue", "test/deleted/queue"]).await.unwrap();
    event(&mut events, |event| matches!(event, Event::Queue { error: Some(_), .. })).await;
    event(&mut events, |event| matches!(event, Event::Queue { error: None, .. })).await;
    held.ack();
    publish(&*transport, "deleted", "after").await;
    until(&mut deliveries, "after").await;
    transport.close().await;
}

/// A header table with one entry: name and long string, byte for byte.
fn headers(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut entry = vec![name.len() as u8];
    entry.extend_from_slice(name);
    entry.push(b'S');
    entry.extend_from_slice(&(value.len() as u32).to_be_bytes());
    entry.extend_from_slice(value);
    let mut table = (entry.len() as u32).to_be_bytes().to_vec();
    table.extend_from_slice(&entry);
    table
}

const HEADERS: u16 = 1 << 13;
const MESSAGE_ID: u16 = 1 << 7;

pub async fn text_that_is_not_utf8(rabbit: Arc<Rabbit>) {
    let transport = connect(&rabbit.url("/"));
    let mut deliveries = stand(&*transport, "utf8", 10).await;
    let events = transport.events();
    let mut raw = RawPublisher::connect(rabbit.address(), "/").await.unwrap();
    let exchange = exchange("utf8");
    let base =
        RawMessage { exchange: exchange.as_bytes(), routing_key: b"key", body: b"{}", ..Default::default() };
    let (in_value, in_name) = (headers(b"who", b"gr\xFCn"), headers(b"gr\xFCn", b"who"));
    let nested = {
        let inner = headers(b"who", b"gr\xFCn");
        let mut entry = b"\x05outerF".to_vec();
        entry.extend_from_slice(&inner);
        let mut table = (entry.len() as u32).to_be_bytes().to_vec();
        table.extend_from_slice(&entry);
        table
    };
    for (routing_key, flags, properties) in [
        (&b"key"[..], HEADERS, &in_value[..]),
        (b"key", HEADERS, &in_name),
        (b"key", HEADERS, &nested),
        (b"key", MESSAGE_ID, b"\x04gr\xFCn"),
        (b"key.gr\xFCn", 0, b""),
    ] {
        raw.publish(&RawMessage { routing_key, flags, properties, ..base.clone() }).await.unwrap();
        let delivery = next(&mut deliveries).await;
        let message = delivery.message.clone();
        assert_eq!(message.properties.headers["x-pulsehook-mended"], true, "{message:?}");
        assert_eq!(message.body.as_ref(), b"{}");
        assert!(format!("{message:?}").contains("gr?n"), "{message:?}");
        delivery.ack();
    }
    // Nobody else noticed, not even the same connection.
    publish(&*transport, "utf8", "after").await;
    let after = next(&mut deliveries).await;
    assert_eq!((after.message.routing_key.as_str(), after.generation), ("after", 1));
    assert!(!after.message.properties.headers.contains_key("x-pulsehook-mended"));
    after.ack();
    assert!(events.is_empty());
    transport.close().await;
}

/// One of our own exchanges goes, and with it all bindings.
pub async fn exchange_deleted(rabbit: Arc<Rabbit>) {
    let transport = connect(&rabbit.url("/"));
    let mut deliveries = stand(&*transport, "exchange", 10).await;
    let expression = "rabbit_exchange:delete(rabbit_misc:r(<<\"/\">>, exchange, <<\"test/exchange\">>), false, <<\"tests\">>).";
    rabbit.ctl(&["eval", expression]).await.unwrap();
    let refused = transport.publish(&message("exchange", "lost"), true).await;
    assert!(matches!(refused, Err(PublishError::Refused(_))), "{refused:?}");
    harness::eventually(DEADLINE, || async {
        let published = transport.publish(&message("exchange", "after"), true).await;
        published.ok().filter(|published| published.routed)
    })
    .await;
    until(&mut deliveries, "after").await;
    transport.close().await;
}

/// Half a minute with a few queues, and a busy machine.
const REASSERTED: Duration = Duration::from_secs(120);

/// Somebody else's exchange goes and is made again: nobody says so, and the binding is back all the same.
pub async fn foreign_exchange_made_again(rabbit: Arc<Rabbit>) {
    let name = "<<\"foreign\">>";
    let make = format!(
        "rabbit_exchange:declare(rabbit_misc:r(<<\"/\">>, exchange, {name}), topic, true, false, false, [], <<\"tests\">>)."
    );
    let delete =
        format!("rabbit_exchange:delete(rabbit_misc:r(<<\"/\">>, exchange, {name}), false, <<\"tests\">>).");
    rabbit.ctl(&["eval", &make]).await.unwrap();
    let transport = connect(&rabbit.url("/"));
    up(&*transport).await;
    let mut spec = spec("foreign", "queue", &[]);
    spec.bindings = vec![Binding { exchange: "foreign".into(), pattern: "#".into() }];
    let health = transport.declare_queue(spec).await.unwrap();
    assert!(health.iter().all(|binding| binding.error.is_none()), "{health:?}");
    rabbit.ctl(&["eval", &delete]).await.unwrap();
    rabbit.ctl(&["eval", &make]).await.unwrap();
    let mut message = message("foreign", "after");
    message.exchange = "foreign".into();
    harness::eventually(REASSERTED, || async {
        let published = transport.publish(&message, true).await;
        published.ok().filter(|published| published.routed)
    })
    .await;
    transport.close().await;
}

/// A confirm that comes too late fails its publish and nothing else.
pub async fn late_confirms(rabbit: Arc<Rabbit>) {
    let proxy = Proxy::start(rabbit.address()).await.unwrap();
    let url = rabbit.url("/").replace(&rabbit.address().to_string(), &proxy.address().to_string());
    let transport = connect_with(&url, None, Duration::from_secs(1));
    let mut deliveries = stand(&*transport, "late", 10).await;
    let events = transport.events();
    proxy.delay(Duration::from_millis(1500));
    let late = transport.publish(&message("late", "late"), true).await;
    assert!(matches!(late, Err(PublishError::Unavailable(_))), "{late:?}");
    proxy.delay(Duration::ZERO);
    publish(&*transport, "late", "after").await;
    until(&mut deliveries, "after").await;
    assert!(events.is_empty(), "the connection was not replaced");
    transport.close().await;
}

pub async fn tls_with_prompt_confirms(rabbit: Arc<Rabbit>) {
    let transport =
        connect_with(&rabbit.tls_url("/").unwrap(), Some(&rabbit.ca_file()), Duration::from_secs(10));
    let mut deliveries = stand(&*transport, "tls", 100).await;
    for n in 0..20 {
        let started = Instant::now();
        transport.publish(&message("tls", &n.to_string()), true).await.unwrap();
        // Without a flush the last frame waits for a heartbeat, seconds later.
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        next(&mut deliveries).await.ack();
    }
    let mut large = message("tls", "large");
    large.body = vec![b'x'; 3_000_000].into();
    transport.publish(&large, true).await.unwrap();
    assert_eq!(next(&mut deliveries).await.message.body.len(), 3_000_000);
    transport.close().await;
    // Without the CA there is no trust, and no connection.
    let distrustful = connect_with(&rabbit.tls_url("/").unwrap(), None, Duration::from_secs(1));
    down(&*distrustful, "TLS").await;
    distrustful.close().await;
}

pub async fn memory_alarm(rabbit: &Rabbit) {
    let transport = connect_with(&rabbit.url("/"), None, Duration::from_secs(2));
    let mut deliveries = stand(&*transport, "alarm", 1).await;
    publish(&*transport, "alarm", "before").await;
    publish(&*transport, "alarm", "waiting").await;
    let first = next(&mut deliveries).await;
    rabbit.ctl(&["set_vm_memory_high_watermark", "0.00001"]).await.unwrap();
    // The broker tells publishers when they publish.
    let mut failed = transport.publish(&message("alarm", "blocked"), false).await;
    assert!(matches!(failed, Err(PublishError::Unavailable(_))), "{failed:?}");
    let reason = down(&*transport, "blocks publishers").await;
    assert!(reason.contains("memory"), "{reason}");
    let started = Instant::now();
    failed = transport.publish(&message("alarm", "blocked"), false).await;
    assert!(matches!(&failed, Err(PublishError::Unavailable(why)) if why.contains("blocks")), "{failed:?}");
    assert!(started.elapsed() < Duration::from_secs(1), "known to be blocked: no waiting");
    // Consuming goes on meanwhile.
    first.ack();
    next(&mut deliveries).await.ack();
    rabbit.ctl(&["set_vm_memory_high_watermark", "0.4"]).await.unwrap();
    up(&*transport).await;
    publish(&*transport, "alarm", "after").await;
    until(&mut deliveries, "after").await;
    transport.close().await;
}

/// The broker closes a channel on which a message was held for too long.
pub async fn channel_closed_by_the_broker(rabbit: &Rabbit) {
    let timeouts = |timeout: &str, tick: &str| {
        format!(
            "application:set_env(rabbit, consumer_timeout, {timeout}), \
             application:set_env(rabbit, channel_tick_interval, {tick})."
        )
    };
    rabbit.ctl(&["eval", &timeouts("1000", "300")]).await.unwrap();
    let transport = connect(&rabbit.url("/"));
    let mut deliveries = stand(&*transport, "timeout", 10).await;
    declare(&*transport, spec("timeout", "other", &["other"])).await;
    let mut other = consume(&*transport, "test/timeout/other", 10).await;
    let mut events = transport.events();
    publish(&*transport, "timeout", "held").await;
    let held = next(&mut deliveries).await;
    let closed = event(&mut events, |event| matches!(event, Event::Queue { error: Some(_), .. })).await;
    assert!(
        matches!(&closed, Event::Queue { queue, error: Some(why) } if &**queue == "test/timeout/queue" && why.contains("timeout")),
        "{closed:?}"
    );
    let again = next(&mut deliveries).await;
    assert!(
        again.redelivered && again.generation > held.generation,
        "a later generation, or it would seem new"
    );
    held.ack();
    again.ack();
    publish(&*transport, "timeout", "other").await;
    assert_eq!(next(&mut other).await.generation, 1, "a channel apart is not disturbed");
    transport.close().await;
    rabbit.ctl(&["eval", &timeouts("1800000", "60000")]).await.unwrap();
}

/// Somebody's queue is bound to all of the exchange, is full and rejects what it has no room for: RabbitMQ nacks each message,
/// although our queue takes it.
pub async fn a_full_queue_beside_ours(rabbit: Arc<Rabbit>) {
    const PATIENCE: Duration = Duration::from_millis(1500);
    let url = rabbit.url("/");
    let config = AmqpConfig {
        url: &url,
        ca_file: None,
        name: "recovery test",
        publish_timeout: Duration::from_secs(10),
    };
    let transport: Arc<dyn Transport> = Arc::new(Amqp::connect_with(config, PATIENCE).unwrap());
    let mut deliveries = stand(&*transport, "full", 10).await;
    rabbit
        .ctl(&["set_policy", "full", "^test/full/foreign$", REJECTS, "--apply-to", "queues"])
        .await
        .unwrap();
    let foreign = QueueSpec { kind: QueueKind::Classic, ..spec("full", "foreign", &["#"]) };
    declare(&*transport, foreign).await;
    publish(&*transport, "full", "fills it").await;
    until(&mut deliveries, "fills it").await;

    let begun = Instant::now();
    let nacked = transport.publish(&message("full", "first"), true).await;
    assert!(
        matches!(&nacked, Err(PublishError::Unavailable(why)) if why.contains("test/full") && why.contains("queue")),
        "{nacked:?}"
    );
    until(&mut deliveries, "first").await;
    publish(&*transport, "full", "again").await;
    assert!(begun.elapsed() >= PATIENCE, "too soon");
    until(&mut deliveries, "again").await;
    // From now on they count as published, also together.
    let messages = (0..50).map(|n| message("full", &format!("group.{n}"))).collect();
    let answers = transport.publish_all(messages, true).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(published) if published.routed)), "{answers:?}");
    for n in 0..50 {
        until(&mut deliveries, &format!("group.{n}")).await;
    }
    transport.delete_queue("test/full/foreign").await.unwrap();
    transport.close().await;
}

/// A policy for queues that take one message and reject the next.
const REJECTS: &str = r#"{"max-length": 1, "overflow": "reject-publish"}"#;
