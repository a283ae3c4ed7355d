//! What the broker refuses: clear errors, and nobody else disturbed.

use std::sync::Arc;
use std::time::Duration;

use harness::Rabbit;
use pulse::{Binding, Event, PublishError, QueueKind, TopologyError, Transport};

use crate::bench::*;

pub async fn wrong_password(rabbit: Arc<Rabbit>) {
    let url = rabbit.url("/").replace("guest:guest", &format!("guest:{SECRET}"));
    let transport = connect(&url);
    let reason = down(&*transport, "ACCESS_REFUSED").await;
    assert!(reason.contains("guest") && reason.contains("Login was refused"), "{reason}");
    let published = transport.publish(&message("password", "k"), false).await.unwrap_err();
    let declared = transport.declare_exchange("test/password").await.unwrap_err();
    for text in [reason, format!("{published} {published:?}"), format!("{declared} {declared:?}")] {
        assert!(!text.contains(SECRET), "{text}");
    }
    transport.close().await;
}

pub async fn vhost_with_a_slash(rabbit: Arc<Rabbit>) {
    rabbit.add_vhost("team/a b").await.unwrap();
    let transport = connect(&rabbit.url("team/a b"));
    let mut deliveries = stand(&*transport, "slash", 10).await;
    publish(&*transport, "slash", "k").await;
    until(&mut deliveries, "k").await;
    assert!(
        rabbit.ctl(&["list_queues", "-p", "team/a b", "name"]).await.unwrap().contains("test/slash/queue")
    );
    transport.close().await;
}

pub async fn no_such_vhost(rabbit: Arc<Rabbit>) {
    let transport = connect(&rabbit.url("nowhere"));
    let reason = down(&*transport, "NOT_ALLOWED").await;
    assert!(reason.contains("nowhere"), "{reason}");
    transport.close().await;
}

pub async fn nobody_there(_: Arc<Rabbit>) {
    let transport = connect("amqp://guest:guest@127.0.0.1:1/");
    let reason = down(&*transport, "no connection to 127.0.0.1:1").await;
    assert!(reason.contains("refused"), "{reason}");
    let spec = spec("nobody", "queue", &["#"]);
    assert!(matches!(transport.declare_queue(spec).await, Err(TopologyError::Unavailable(_))));
    assert!(matches!(transport.delete_queue("x").await, Err(TopologyError::Unavailable(_))));
    transport.close().await;
    let published = transport.publish(&message("nobody", "k"), false).await;
    assert!(matches!(published, Err(PublishError::Unavailable(_))), "{published:?}");
}

/// A port behind which something else listens.
pub async fn not_a_broker(_: Arc<Rabbit>) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let transport = connect(&format!("amqp://guest:{SECRET}@{address}/"));
    let reason = down(&*transport, "not AMQP").await;
    assert!(reason.contains(&address.to_string()) && !reason.contains(SECRET), "{reason}");
    transport.close().await;
    server.abort();
}

/// More refusals than one connection has channel numbers, each to an exchange of its own, while others work.
pub async fn many_refused_bindings(rabbit: Arc<Rabbit>) {
    const MANY: usize = 2200;
    let transport = connect(&rabbit.url("/"));
    let mut deliveries = stand(&*transport, "many", 10).await;
    let mut spec = spec("many", "refused", &[]);
    spec.bindings =
        (0..MANY).map(|n| Binding { exchange: format!("test/missing/{n}"), pattern: "#".into() }).collect();
    let refusing = {
        let (transport, spec) = (transport.clone(), spec.clone());
        tokio::spawn(async move { transport.declare_queue(spec).await.unwrap() })
    };
    let mut n = 0;
    while !refusing.is_finished() {
        publish(&*transport, "many", &n.to_string()).await;
        let delivery = next(&mut deliveries).await;
        assert_eq!((delivery.message.routing_key.clone(), delivery.generation), (n.to_string(), 1));
        delivery.ack();
        n += 1;
    }
    let healths = refusing.await.unwrap();
    assert_eq!(healths.len(), MANY);
    for health in healths {
        let reason = health.error.expect("there is no such exchange");
        assert!(reason.contains("NOT_FOUND") && reason.contains(&health.binding.exchange), "{reason}");
    }
    // The queue itself works all the same.
    consume(&*transport, &spec.name, 1).await;
    transport.delete_queue(&spec.name).await.unwrap();
    publish(&*transport, "many", "after").await;
    until(&mut deliveries, "after").await;
    transport.close().await;
}

/// An account of its own in `/`: what it may configure, write and read.
async fn account(rabbit: &Rabbit, name: &str, permissions: [&str; 3]) -> Arc<dyn Transport> {
    let password = format!("{SECRET}-{name}");
    rabbit.ctl(&["add_user", name, &password]).await.unwrap();
    let [configure, write, read] = permissions;
    rabbit.ctl(&["set_permissions", name, configure, write, read]).await.unwrap();
    let transport = connect(&rabbit.url("/").replace("guest:guest", &format!("{name}:{password}")));
    up(&*transport).await;
    transport
}

pub async fn consuming_is_forbidden(rabbit: Arc<Rabbit>) {
    let transport = account(&rabbit, "reader", [".*", ".*", "^test/reader(/queue)?$"]).await;
    let mut deliveries = stand(&*transport, "reader", 10).await;
    declare(&*transport, spec("reader", "forbidden", &["#"])).await;
    let (sink, _forbidden) = tokio::sync::mpsc::channel(1);
    let refused = transport.consume("test/reader/forbidden", 1, sink).await;
    assert!(
        matches!(&refused, Err(TopologyError::Refused(why)) if why.contains("ACCESS_REFUSED")),
        "{refused:?}"
    );
    publish(&*transport, "reader", "after").await;
    until(&mut deliveries, "after").await;
    // Once allowed it works, without anybody asking again.
    let mut events = transport.events();
    rabbit.ctl(&["set_permissions", "reader", ".*", ".*", ".*"]).await.unwrap();
    event(
        &mut events,
        |event| matches!(event, Event::Queue { queue, error: None } if &**queue == "test/reader/forbidden"),
    )
    .await;
    transport.close().await;
}

pub async fn publishing_is_forbidden(rabbit: Arc<Rabbit>) {
    let transport = account(&rabbit, "writer", [".*", "^test/writer/.*", ".*"]).await;
    up(&*transport).await;
    transport.declare_exchange("test/writer/good").await.unwrap();
    transport.declare_exchange("test/writer-bad").await.unwrap();
    let publish = |exchange: &'static str| {
        let transport = transport.clone();
        tokio::spawn(async move {
            let mut message = message("writer", "k");
            message.exchange = exchange.into();
            transport.publish(&message, false).await
        })
    };
    let all: Vec<_> = (0..60)
        .map(|n| (n % 3 == 0, publish(if n % 3 == 0 { "test/writer-bad" } else { "test/writer/good" })))
        .collect();
    for (bad, published) in all {
        let published = published.await.unwrap();
        if bad {
            assert!(
                matches!(&published, Err(PublishError::Refused(why)) if why.contains("ACCESS_REFUSED")),
                "{published:?}"
            );
        } else {
            assert!(published.is_ok(), "{published:?}");
        }
    }
    transport.close().await;
}

pub async fn queue_with_other_arguments(rabbit: Arc<Rabbit>) {
    let transport = connect(&rabbit.url("/"));
    let mut deliveries = stand(&*transport, "arguments", 10).await;
    declare(&*transport, spec("arguments", "classic", &["#"])).await;
    let mut other = spec("arguments", "classic", &["#"]);
    other.kind = QueueKind::Classic;
    let refused = transport.declare_queue(other).await;
    assert!(
        matches!(&refused, Err(TopologyError::Refused(why)) if why.contains("PRECONDITION_FAILED")),
        "{refused:?}"
    );
    // Deleted by the caller and declared anew it stands.
    assert_eq!(transport.delete_queue("test/arguments/classic").await.unwrap(), 0);
    let mut other = spec("arguments", "classic", &["#"]);
    other.kind = QueueKind::Classic;
    declare(&*transport, other).await;
    publish(&*transport, "arguments", "after").await;
    until(&mut deliveries, "after").await;
    tokio::time::timeout(Duration::from_secs(20), transport.close()).await.unwrap();
}

/// What is published together keeps its order also where a neighbour's refused message costs all of them their channel.
pub async fn group_beside_refusals(rabbit: Arc<Rabbit>) {
    const MANY: usize = 2000;
    let transport = connect(&rabbit.url("/"));
    let mut deliveries = stand(&*transport, "group", 1000).await;
    let mut refused = 0;
    for round in 0..3 {
        let group = (0..MANY).map(|n| message("group", &n.to_string())).collect();
        let together = tokio::spawn({
            let transport = transport.clone();
            async move { transport.publish_all(group, true).await }
        });
        for n in 0..10 {
            // Each time another exchange: one that is known to be missing costs nobody a channel.
            let missing = message(&format!("missing/{round}/{n}"), "k");
            let answer = transport.publish(&missing, false).await;
            assert!(matches!(answer, Err(PublishError::Refused(_))), "{answer:?}");
            refused += usize::from(!together.is_finished());
        }
        let answers = together.await.unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Ok(published) if published.routed)));
        let mut seen = 0;
        while seen < MANY {
            let delivery = next(&mut deliveries).await;
            let number: usize = delivery.message.routing_key.parse().unwrap();
            // Some come twice, and none before an earlier one has come.
            assert!(number <= seen, "{number} overtook {seen}");
            seen = seen.max(number + 1);
            delivery.ack();
        }
        publish(&*transport, "group", "end").await;
        until(&mut deliveries, "end").await;
    }
    assert!(refused > 0, "the refusals came too late");
    transport.close().await;
}
