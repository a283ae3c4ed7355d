//! What a publish promises.

use pulse::{Message, Properties, PublishError};
use serde_json::json;

use crate::bench::{Bench, body, consume, declare, next};

pub async fn routing(bench: Bench) {
    let transport = bench.open().await;
    transport.declare_exchange(&bench.exchange()).await.unwrap();
    // Two bindings that both match make one copy.
    declare(&*transport, bench.queue("one", &["a.*", "a.#"])).await;
    declare(&*transport, bench.queue("two", &["#.z"])).await;
    let mut one = consume(&*transport, &bench.name("one"), 10).await;
    let mut two = consume(&*transport, &bench.name("two"), 10).await;
    for key in ["a.b", "b.z", "a.z", "a.last", "last.z"] {
        bench.publish(&*transport, key).await;
    }
    for (deliveries, keys) in [(&mut one, &["a.b", "a.z", "a.last"]), (&mut two, &["b.z", "a.z", "last.z"])] {
        for key in keys {
            let delivery = next(deliveries).await;
            assert_eq!(delivery.message.routing_key, **key);
            assert_eq!(delivery.message.exchange, bench.exchange());
            delivery.ack();
        }
    }
    transport.close().await;
}

pub async fn mandatory(bench: Bench) {
    let transport = bench.open().await;
    transport.declare_exchange(&bench.exchange()).await.unwrap();
    declare(&*transport, bench.queue("queue", &["yes"])).await;
    for (key, mandatory, routed) in [("yes", true, true), ("no", true, false), ("no", false, true)] {
        let published = transport.publish(&bench.message(key, ""), mandatory).await.unwrap();
        assert_eq!(published.routed, routed, "{key} {mandatory}");
    }
    // Many at once: every return must meet its own message, also where ids are missing or the same.
    let mut wanted = Vec::new();
    for n in 0..200 {
        let key = if n % 3 == 0 { "no" } else { "yes" };
        let mut message = bench.message(key, format!("{n}"));
        message.properties.message_id = (n % 2 == 0).then(|| "same".to_owned());
        let transport = transport.clone();
        let task = tokio::spawn(async move { transport.publish(&message, true).await.unwrap().routed });
        wanted.push((key == "yes", task));
    }
    for (routed, task) in wanted {
        assert_eq!(task.await.unwrap(), routed);
    }
    transport.close().await;
}

pub async fn missing_exchange(bench: Bench) {
    let (transport, queue) = bench.with_queue().await;
    let mut deliveries = consume(&*transport, &queue, 1000).await;
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for n in 0..1000 {
        let mut message = bench.message("key", format!("{n}"));
        let (transport, is_bad) = (transport.clone(), n % 97 == 10);
        if is_bad {
            message.exchange = bench.name("missing");
        }
        let task = tokio::spawn(async move { transport.publish(&message, false).await });
        if is_bad { bad.push(task) } else { good.push((n, task)) }
    }
    for task in bad {
        let refused = task.await.unwrap();
        assert!(
            matches!(&refused, Err(PublishError::Refused(why)) if why.contains("missing")),
            "{refused:?}"
        );
    }
    let mut missing: std::collections::HashSet<String> = Default::default();
    for (n, task) in good {
        task.await.unwrap().expect("a neighbour's mistake must not fail this one");
        missing.insert(n.to_string());
    }
    while !missing.is_empty() {
        let delivery = next(&mut deliveries).await;
        missing.remove(&body(&delivery));
        delivery.ack();
    }
    transport.close().await;
}

pub async fn properties(bench: Bench) {
    let (transport, queue) = bench.with_queue().await;
    let mut deliveries = consume(&*transport, &queue, 10).await;
    let headers = [
        ("text", json!("grün")),
        ("number", json!(-5)),
        ("large", json!(9_007_199_254_740_993_u64)),
        ("float", json!(1.5)),
        ("flag", json!(true)),
        ("nothing", json!(null)),
        ("list", json!(["a", 1, [], {}])),
        ("object", json!({"a": {"b": ["c"]}})),
    ];
    let message = Message {
        exchange: bench.exchange(),
        routing_key: "".into(),
        properties: Properties {
            message_id: Some("an id".into()),
            timestamp: Some(1_795_000_000),
            content_type: Some("application/json".into()),
            headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        },
        body: vec![0, 255, b'{'].into(),
    };
    transport.publish(&message, true).await.unwrap();
    let delivery = next(&mut deliveries).await;
    assert_eq!(*delivery.message, message);
    assert!(!delivery.redelivered);
    delivery.ack();
    transport.close().await;
}

pub async fn too_long(bench: Bench) {
    let (transport, _) = bench.with_queue().await;
    let long = "k".repeat(300);
    let mut wrong = vec![bench.message(&long, "")];
    wrong.push(Message { exchange: long.clone(), ..bench.message("k", "") });
    let mut message = bench.message("k", "");
    message.properties.message_id = Some(long.clone());
    wrong.push(message);
    let mut message = bench.message("k", "");
    message.properties.headers.insert(long.clone(), 1.into());
    wrong.push(message);
    let mut message = bench.message("k", "");
    message.properties.headers.insert("h".into(), "x".repeat(200_000).into());
    wrong.push(message);
    for message in wrong {
        let refused = transport.publish(&message, false).await;
        assert!(matches!(refused, Err(PublishError::Refused(_))), "{refused:?}");
    }
    assert!(transport.declare_exchange(&long).await.is_err());
    let mut longest = bench.message(&"k".repeat(255), "");
    longest.properties.message_id = Some("i".repeat(255));
    assert!(transport.publish(&longest, true).await.unwrap().routed);
    transport.close().await;
}

pub async fn large_body(bench: Bench) {
    let (transport, queue) = bench.with_queue().await;
    let mut deliveries = consume(&*transport, &queue, 10).await;
    for size in [0, 131_064, 131_072, 5_000_000] {
        transport.publish(&bench.message("k", "x".repeat(size)), true).await.unwrap();
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.message.body.len(), size);
        delivery.ack();
    }
    transport.close().await;
}

pub async fn many_at_once(bench: Bench) {
    let (transport, queue) = bench.with_queue().await;
    let mut deliveries = consume(&*transport, &queue, 100).await;
    let publishers: Vec<_> = (0..3000)
        .map(|n| {
            let (transport, message) = (transport.clone(), bench.message("k", format!("{n}")));
            tokio::spawn(async move { transport.publish(&message, true).await.unwrap() })
        })
        .collect();
    let mut seen = std::collections::HashSet::new();
    while seen.len() < publishers.len() {
        let delivery = next(&mut deliveries).await;
        seen.insert(body(&delivery));
        delivery.ack();
    }
    for publisher in publishers {
        assert!(publisher.await.unwrap().routed);
    }
    transport.close().await;
}

pub async fn default_exchange(bench: Bench) {
    let (transport, queue) = bench.with_queue().await;
    let mut deliveries = consume(&*transport, &queue, 10).await;
    let message =
        Message { exchange: String::new(), routing_key: queue.clone(), ..bench.message("", "direct") };
    assert!(transport.publish(&message, true).await.unwrap().routed);
    let delivery = next(&mut deliveries).await;
    assert_eq!((delivery.message.exchange.as_str(), body(&delivery).as_str()), ("", "direct"));
    delivery.ack();
    let nobody = Message { routing_key: bench.name("nobody"), ..message };
    assert!(!transport.publish(&nobody, true).await.unwrap().routed);
    transport.close().await;
}
