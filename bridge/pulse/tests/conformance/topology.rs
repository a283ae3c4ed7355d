//! What stands after a declaration.

use pulse::topic::Pattern;
use pulse::{Binding, Event, TopologyError};

use crate::bench::{Bench, DEADLINE, consume, declare, event, next};

pub async fn exchange_stands(bench: Bench) {
    let transport = bench.open().await;
    assert!(!transport.exchange_stands(&bench.exchange()).await.unwrap());
    transport.declare_exchange(&bench.exchange()).await.unwrap();
    assert!(transport.exchange_stands(&bench.exchange()).await.unwrap());
    transport.close().await;
}

pub async fn bindings_changed(bench: Bench) {
    let transport = bench.open().await;
    transport.declare_exchange(&bench.exchange()).await.unwrap();
    declare(&*transport, bench.queue("queue", &["old", "kept"])).await;
    assert!(bench.publish(&*transport, "old").await.routed);
    // Left out of the new spec, and named as one to go by a process that knows of it only from its records.
    declare(&*transport, bench.queue("queue", &["kept", "new"])).await;
    assert!(!bench.publish(&*transport, "old").await.routed);
    assert!(bench.publish(&*transport, "kept").await.routed);
    assert!(bench.publish(&*transport, "new").await.routed);
    transport.close().await;
    drop(transport);

    let transport = bench.open().await;
    transport.declare_exchange(&bench.exchange()).await.unwrap();
    let mut spec = bench.queue("queue", &["kept"]);
    spec.unbind = vec![Binding { exchange: bench.exchange(), pattern: "new".into() }];
    declare(&*transport, spec).await;
    assert!(!bench.publish(&*transport, "new").await.routed);
    assert!(bench.publish(&*transport, "kept").await.routed);
    transport.close().await;
}

pub async fn refused_binding_heals(bench: Bench) {
    let (transport, queue) = bench.with_queue().await;
    let mut events = transport.events();
    let late = Binding { exchange: bench.name("late"), pattern: "#".into() };
    let mut spec = bench.queue("queue", &["#"]);
    spec.bindings.push(late.clone());
    let healths = transport.declare_queue(spec).await.unwrap();
    assert_eq!(healths.len(), 2);
    assert!(healths[0].error.is_none(), "{healths:?}");
    assert!(healths[1].error.as_ref().is_some_and(|why| why.contains(&late.exchange)), "{healths:?}");
    // The queue works meanwhile.
    let mut deliveries = consume(&*transport, &queue, 10).await;
    bench.publish(&*transport, "meanwhile").await;
    next(&mut deliveries).await.ack();

    transport.declare_exchange(&late.exchange).await.unwrap();
    event(&mut events, |event| {
        matches!(event, Event::Binding { health, .. } if health.binding == late && health.error.is_none())
    })
    .await;
    let mut message = bench.message("healed", "");
    message.exchange = late.exchange;
    assert!(transport.publish(&message, true).await.unwrap().routed);
    next(&mut deliveries).await.ack();
    transport.close().await;
}

pub async fn waiting(bench: Bench) {
    let (transport, queue) = bench.with_queue().await;
    assert_eq!(transport.unconfirmed(), 0);
    for _ in 0..5 {
        bench.publish(&*transport, "key").await;
    }
    // Quorum queues count a moment later.
    let all = async { while transport.waiting(&queue).await.unwrap() != 5 {} };
    tokio::time::timeout(DEADLINE, all).await.expect("not all counted in time");
    let mut deliveries = consume(&*transport, &queue, 2).await;
    let held = [next(&mut deliveries).await, next(&mut deliveries).await];
    // What is out does not wait.
    let fewer = async { while transport.waiting(&queue).await.unwrap() != 3 {} };
    tokio::time::timeout(DEADLINE, fewer).await.expect("not counted in time");
    held.into_iter().for_each(pulse::Delivery::ack);
    assert!(matches!(transport.waiting("nowhere").await, Err(TopologyError::Refused(_))));
    transport.close().await;
}

pub async fn delete_counts(bench: Bench) {
    let (transport, queue) = bench.with_queue().await;
    for _ in 0..5 {
        bench.publish(&*transport, "k").await;
    }
    assert_eq!(transport.delete_queue(&queue).await.unwrap(), 5);
    assert_eq!(transport.delete_queue(&queue).await.unwrap(), 0);
    assert!(!bench.publish(&*transport, "k").await.routed);
    assert!(matches!(
        transport.consume(&queue, 1, tokio::sync::mpsc::channel(1).0).await,
        Err(TopologyError::Refused(_))
    ));
    // Made again under the same name it is another queue.
    declare(&*transport, bench.queue("queue", &["#"])).await;
    let mut deliveries = consume(&*transport, &queue, 1).await;
    bench.publish(&*transport, "new").await;
    let held = next(&mut deliveries).await;
    assert_eq!(held.message.routing_key, "new");
    // With a consumer, and a delivery that is out, which does not count: its end meets nothing.
    bench.publish(&*transport, "waits").await;
    assert_eq!(transport.delete_queue(&queue).await.unwrap(), 1);
    held.retry();
    declare(&*transport, bench.queue("queue", &["#"])).await;
    let mut deliveries = consume(&*transport, &queue, 1).await;
    bench.publish(&*transport, "newest").await;
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.message.routing_key, "newest");
    delivery.ack();
    transport.close().await;
}

/// Whatever is asked for at the same time, everybody is answered, and the last word stands.
pub async fn all_at_once(bench: Bench) {
    let (transport, queue) = bench.with_queue().await;
    for _ in 0..10 {
        let (sink, _deliveries) = tokio::sync::mpsc::channel(4);
        let spec = || bench.queue("queue", &["#"]);
        let (declared, consumed, one, two, cancelled, again) = tokio::join!(
            transport.declare_queue(spec()),
            transport.consume(&queue, 3, sink),
            transport.delete_queue(&queue),
            transport.delete_queue(&queue),
            transport.cancel(&queue),
            transport.declare_queue(spec()),
        );
        declared.unwrap();
        // It may have come after the deletion.
        assert!(!matches!(consumed, Err(TopologyError::Unavailable(_))), "{consumed:?}");
        one.unwrap();
        two.unwrap();
        cancelled.unwrap();
        again.unwrap();
        declare(&*transport, spec()).await;
        assert!(bench.publish(&*transport, "key").await.routed);
    }
    let mut deliveries = consume(&*transport, &queue, 5).await;
    next(&mut deliveries).await.ack();
    transport.close().await;
}

pub async fn max_length(bench: Bench) {
    let transport = bench.open().await;
    transport.declare_exchange(&bench.exchange()).await.unwrap();
    let mut spec = bench.queue("queue", &["#"]);
    spec.max_length = Some(1);
    declare(&*transport, spec).await;
    for key in ["one", "two", "three"] {
        bench.publish(&*transport, key).await;
    }
    let mut deliveries = consume(&*transport, &bench.name("queue"), 5).await;
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.message.routing_key, "three");
    delivery.ack();
    transport.close().await;
}

pub async fn wrong_arguments(bench: Bench) {
    let (transport, queue) = bench.with_queue().await;
    let sink = || tokio::sync::mpsc::channel(1).0;
    assert!(matches!(transport.consume(&queue, 0, sink()).await, Err(TopologyError::Refused(_))));
    let mut spec = bench.queue("long", &[]);
    spec.name = "q".repeat(300).into();
    assert!(matches!(transport.declare_queue(spec).await, Err(TopologyError::Refused(_))));
    let long = Binding { exchange: bench.exchange(), pattern: "p".repeat(300) };
    let mut spec = bench.queue("queue", &["#"]);
    spec.bindings.push(long);
    let healths = transport.declare_queue(spec).await.unwrap();
    assert!(healths[0].error.is_none() && healths[1].error.is_some(), "{healths:?}");
    assert!(bench.publish(&*transport, "still").await.routed);
    transport.close().await;
}

/// Random patterns and keys: every queue gets just what [`Pattern`] says.
pub async fn topics_match(bench: Bench) {
    const PATTERNS: usize = 40;
    const KEYS: usize = 150;
    const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut state = SEED;
    // Enough randomness for words, and the same at each run.
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut words = |choices: &[&str], most: usize| {
        let words: Vec<&str> = (0..=random(most)).map(|_| choices[random(choices.len())]).collect();
        words.join(".")
    };
    let patterns: Vec<String> =
        (0..PATTERNS).map(|_| words(&["#", "#", "*", "*", "a", "b", "a*", ""], 5)).collect();
    let keys: Vec<String> = (0..KEYS).map(|_| words(&["a", "b", "a*", "", "#"], 5)).collect();

    let transport = bench.open().await;
    transport.declare_exchange(&bench.exchange()).await.unwrap();
    let (sink, mut deliveries) = tokio::sync::mpsc::channel(64);
    for (n, pattern) in patterns.iter().enumerate() {
        let mut spec = bench.queue(&n.to_string(), &[pattern]);
        spec.kind = pulse::QueueKind::Classic;
        let name = spec.name.clone();
        declare(&*transport, spec).await;
        transport.consume(&name, 200, sink.clone()).await.unwrap();
    }
    let mut wanted = std::collections::BTreeMap::<(usize, String), usize>::new();
    for (at, key) in keys.iter().enumerate() {
        let matching = (0..PATTERNS).filter(|n| Pattern::new(patterns[*n].as_str()).matches(key));
        let matching: Vec<usize> = matching.collect();
        let published = transport.publish(&bench.message(key, at.to_string()), true).await.unwrap();
        assert_eq!(published.routed, !matching.is_empty(), "{key:?}");
        matching.into_iter().for_each(|n| *wanted.entry((n, key.clone())).or_default() += 1);
    }
    // A last message to each queue, past the exchange, shows that nothing more comes.
    for n in 0..PATTERNS {
        let last = pulse::Message {
            routing_key: bench.name(&n.to_string()),
            exchange: String::new(),
            ..bench.message("", "last")
        };
        transport.publish(&last, true).await.unwrap();
    }
    let mut lasts = 0;
    while lasts < PATTERNS {
        let delivery = next(&mut deliveries).await;
        if delivery.message.exchange.is_empty() {
            lasts += 1;
        } else {
            let n: usize = delivery.queue.rsplit('/').next().unwrap().parse().unwrap();
            let key = delivery.message.routing_key.clone();
            let count = wanted.get_mut(&(n, key.clone()));
            let count = count.unwrap_or_else(|| panic!("{key:?} should not match {:?}", patterns[n]));
            *count = count.checked_sub(1).expect("a message came twice");
        }
        delivery.ack();
    }
    wanted.retain(|_, count| *count > 0);
    assert!(wanted.is_empty(), "should have matched: {wanted:?}");
    transport.close().await;
}

pub async fn many_queues(bench: Bench) {
    let transport = bench.open().await;
    transport.declare_exchange(&bench.exchange()).await.unwrap();
    let (sink, mut deliveries) = tokio::sync::mpsc::channel(4);
    let declared: Vec<_> = (0..50)
        .map(|n| {
            let (transport, sink) = (transport.clone(), sink.clone());
            let spec = bench.queue(&format!("queue {n}"), &[&format!("key.{n}"), "all"]);
            tokio::spawn(async move {
                let name = spec.name.clone();
                declare(&*transport, spec).await;
                transport.consume(&name, 2, sink).await.unwrap();
            })
        })
        .collect();
    for task in declared {
        task.await.unwrap();
    }
    drop(sink);
    for n in 0..50 {
        assert!(bench.publish(&*transport, &format!("key.{n}")).await.routed);
    }
    bench.publish(&*transport, "all").await;
    for _ in 0..100 {
        next(&mut deliveries).await.ack();
    }
    transport.close().await;
}
