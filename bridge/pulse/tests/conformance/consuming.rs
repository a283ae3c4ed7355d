//! What a consumer may rely on.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::bench::{Bench, DEADLINE, body, consume, declare, next};

pub async fn order(bench: Bench) {
    let (transport, queue) = bench.with_queue().await;
    let mut deliveries = consume(&*transport, &queue, 20).await;
    for n in 0..300 {
        transport.publish(&bench.message("k", format!("{n}")), true).await.unwrap();
    }
    for n in 0..300 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(body(&delivery), n.to_string());
        assert!(!delivery.redelivered);
        delivery.ack();
    }
    transport.close().await;
}

pub async fn ack_retry_reject(bench: Bench) {
    let transport = bench.open().await;
    let dead = bench.name("dead");
    transport.declare_exchange(&bench.exchange()).await.unwrap();
    transport.declare_exchange(&dead).await.unwrap();
    let mut spec = bench.queue("queue", &["#"]);
    spec.dead_letter_exchange = Some(dead.clone());
    declare(&*transport, spec).await;
    let mut spec = bench.queue("dead queue", &[]);
    spec.bindings = vec![pulse::Binding { exchange: dead.clone(), pattern: "#".into() }];
    declare(&*transport, spec).await;
    let mut deliveries = consume(&*transport, &bench.name("queue"), 10).await;
    let mut dead_letters = consume(&*transport, &bench.name("dead queue"), 10).await;

    bench.publish(&*transport, "retried").await;
    let delivery = next(&mut deliveries).await;
    assert!(!delivery.redelivered);
    delivery.retry();
    let delivery = next(&mut deliveries).await;
    assert!(delivery.redelivered);
    assert_eq!(delivery.message.routing_key, "retried");
    delivery.ack();

    bench.publish(&*transport, "rejected").await;
    next(&mut deliveries).await.reject();
    let letter = next(&mut dead_letters).await;
    assert_eq!((letter.message.exchange.as_str(), letter.message.routing_key.as_str()), (&*dead, "rejected"));
    assert_eq!(letter.message.properties.message_id.as_deref(), Some("rejected id"));
    let headers = &letter.message.properties.headers;
    assert_eq!(headers["x-first-death-queue"], bench.name("queue"));
    assert_eq!(headers["x-first-death-exchange"], bench.exchange());
    assert_eq!(headers["x-first-death-reason"], "rejected");
    assert_eq!(headers["x-death"][0]["routing-keys"][0], "rejected");
    letter.ack();

    // Nothing of it is left.
    bench.publish(&*transport, "last").await;
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.message.routing_key, "last");
    delivery.ack();
    transport.close().await;
}

pub async fn dropped_is_retried(bench: Bench) {
    let (transport, queue) = bench.with_queue().await;
    let mut deliveries = consume(&*transport, &queue, 10).await;
    bench.publish(&*transport, "k").await;
    drop(next(&mut deliveries).await);
    let delivery = next(&mut deliveries).await;
    assert!(delivery.redelivered);
    delivery.ack();
    transport.close().await;
}

pub async fn prefetch(bench: Bench) {
    let (transport, queue) = bench.with_queue().await;
    for n in 0..10 {
        transport.publish(&bench.message("k", format!("{n}")), true).await.unwrap();
    }
    let mut deliveries = consume(&*transport, &queue, 3).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(next(&mut deliveries).await);
    }
    // There is no event for what does not happen: a moment must do.
    assert!(tokio::time::timeout(Duration::from_millis(300), deliveries.recv()).await.is_err());
    held.remove(1).ack();
    let fourth = next(&mut deliveries).await;
    assert_eq!(body(&fourth), "3");
    assert!(tokio::time::timeout(Duration::from_millis(300), deliveries.recv()).await.is_err());
    for delivery in held {
        delivery.ack();
    }
    fourth.ack();
    for n in 4..10 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(body(&delivery), n.to_string());
        delivery.ack();
    }
    transport.close().await;
}

/// A sink that is full holds back its own queue, and neither loses anything nor blocks settling or others.
pub async fn full_sink(bench: Bench) {
    let transport = bench.open().await;
    transport.declare_exchange(&bench.exchange()).await.unwrap();
    declare(&*transport, bench.queue("slow", &["#"])).await;
    declare(&*transport, bench.queue("quick", &["#"])).await;
    let (sink, mut slow) = mpsc::channel(1);
    transport.consume(&bench.name("slow"), 10, sink).await.unwrap();
    let mut quick = consume(&*transport, &bench.name("quick"), 10).await;
    for n in 0..50 {
        transport.publish(&bench.message("k", format!("{n}")), true).await.unwrap();
        let delivery = next(&mut quick).await;
        assert_eq!(body(&delivery), n.to_string());
        delivery.ack();
    }
    for n in 0..50 {
        let delivery = next(&mut slow).await;
        assert_eq!(body(&delivery), n.to_string());
        delivery.ack();
    }
    transport.close().await;
}

pub async fn cancel(bench: Bench) {
    let (transport, queue) = bench.with_queue().await;
    let mut deliveries = consume(&*transport, &queue, 1).await;
    bench.publish(&*transport, "first").await;
    bench.publish(&*transport, "second").await;
    let first = next(&mut deliveries).await;
    transport.cancel(&queue).await.unwrap();
    first.ack();
    // The sink is let go, so that its receiver ends.
    let end = tokio::time::timeout(DEADLINE, deliveries.recv()).await.expect("the sink was kept");
    assert!(end.is_none());
    let mut again = consume(&*transport, &queue, 1).await;
    let second = next(&mut again).await;
    assert_eq!(second.message.routing_key, "second");
    second.ack();
    transport.cancel(&queue).await.unwrap();
    transport.cancel(&queue).await.unwrap();
    transport.close().await;
}

pub async fn consume_again(bench: Bench) {
    let (transport, queue) = bench.with_queue().await;
    for n in 0..20 {
        transport.publish(&bench.message("k", format!("{n}")), true).await.unwrap();
    }
    let mut old = consume(&*transport, &queue, 2).await;
    let held = next(&mut old).await;
    let mut new = consume(&*transport, &queue, 15).await;
    let mut seen = std::collections::HashSet::new();
    // What was out stays valid; what had not been taken from the old sink comes back once that is gone.
    held.ack();
    while let Ok(delivery) = old.try_recv() {
        seen.insert(body(&delivery));
        delivery.ack();
    }
    drop(old);
    while seen.len() < 19 {
        let delivery = next(&mut new).await;
        assert!(seen.insert(body(&delivery)), "{} came twice", body(&delivery));
        delivery.ack();
    }
    transport.close().await;
}

pub async fn sink_gone(bench: Bench) {
    let (transport, queue) = bench.with_queue().await;
    let deliveries = consume(&*transport, &queue, 5).await;
    drop(deliveries);
    for n in 0..10 {
        transport.publish(&bench.message("k", format!("{n}")), true).await.unwrap();
    }
    let mut deliveries = consume(&*transport, &queue, 5).await;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 10 {
        let delivery = next(&mut deliveries).await;
        seen.insert(body(&delivery));
        delivery.ack();
    }
    transport.close().await;
}

pub async fn redelivered_after_reopening(bench: Bench) {
    let (transport, queue) = bench.with_queue().await;
    for n in 0..6 {
        transport.publish(&bench.message("k", format!("{n}")), true).await.unwrap();
    }
    let mut deliveries = consume(&*transport, &queue, 3).await;
    let zero = next(&mut deliveries).await;
    let _one = next(&mut deliveries).await;
    let _two = next(&mut deliveries).await;
    zero.ack();
    let _three = next(&mut deliveries).await;
    transport.close().await;
    drop(transport);

    let (transport, queue) = bench.with_queue().await;
    let mut deliveries = consume(&*transport, &queue, 10).await;
    for (n, redelivered) in [(1, true), (2, true), (3, true), (4, false), (5, false)] {
        let delivery = next(&mut deliveries).await;
        assert_eq!((body(&delivery), delivery.redelivered), (n.to_string(), redelivered));
        delivery.ack();
    }
    transport.close().await;
}

pub async fn delivery_limit(bench: Bench) {
    let transport = bench.open().await;
    let dead = bench.name("dead");
    transport.declare_exchange(&bench.exchange()).await.unwrap();
    transport.declare_exchange(&dead).await.unwrap();
    let mut spec = bench.queue("queue", &["#"]);
    spec.dead_letter_exchange = Some(dead.clone());
    spec.delivery_limit = Some(3);
    declare(&*transport, spec).await;
    let mut spec = bench.queue("dead queue", &[]);
    spec.bindings = vec![pulse::Binding { exchange: dead, pattern: "#".into() }];
    declare(&*transport, spec).await;
    let mut deliveries = consume(&*transport, &bench.name("queue"), 1).await;
    let mut dead_letters = consume(&*transport, &bench.name("dead queue"), 1).await;
    bench.publish(&*transport, "poison").await;
    for n in 0..=3_u64 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.redelivered, n > 0);
        let count = delivery.message.properties.headers.get("x-delivery-count");
        assert_eq!(count.and_then(serde_json::Value::as_u64).unwrap_or(0), n);
        delivery.retry();
    }
    let letter = next(&mut dead_letters).await;
    assert_eq!(letter.message.properties.headers["x-first-death-reason"], "delivery_limit");
    letter.ack();
    transport.close().await;
}
