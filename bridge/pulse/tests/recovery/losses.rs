//! Connections that end, in each way in which they do.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Proxy, Rabbit};
use pulse::{Event, PublishError};

use crate::bench::*;

pub async fn connections_closed_by_an_operator(rabbit: Arc<Rabbit>) {
    rabbit.add_vhost("operator").await.unwrap();
    let transport = connect(&rabbit.url("operator"));
    let mut deliveries = stand(&*transport, "operator", 10).await;
    publish(&*transport, "operator", "held").await;
    let held = find(&mut deliveries, "held").await;
    let mut events = transport.events();
    rabbit.ctl(&["close_all_connections", "--vhost", "operator", "maintenance"]).await.unwrap();
    let gone = event(&mut events, |event| matches!(event, Event::Disconnected { .. })).await;
    assert!(
        matches!(&gone, Event::Disconnected { reason, .. } if reason.contains("maintenance")),
        "{gone:?}"
    );
    up(&*transport).await;
    let again = find(&mut deliveries, "held").await;
    assert!(again.redelivered && again.generation > held.generation);
    // The end of a delivery from before leads nowhere, and harms nobody.
    held.ack();
    again.ack();
    publish(&*transport, "operator", "after").await;
    until(&mut deliveries, "after").await;
    transport.close().await;
}

/// The connection for declaring is lost alone: nobody else notices, and the next declaration makes a new one.
pub async fn topology_connection_closed(rabbit: Arc<Rabbit>) {
    rabbit.add_vhost("alone").await.unwrap();
    let transport = connect(&rabbit.url("alone"));
    let mut deliveries = stand(&*transport, "alone", 10).await;
    let mut events = transport.events();
    let connections = rabbit.ctl(&["list_connections", "pid", "vhost", "client_properties"]).await.unwrap();
    let line = connections.lines().find(|line| line.contains("alone") && line.contains("topology")).unwrap();
    rabbit.ctl(&["close_connection", line.split_whitespace().next().unwrap(), "test"]).await.unwrap();
    harness::eventually(DEADLINE, || async {
        transport.declare_queue(spec("alone", "other", &["other"])).await.ok()
    })
    .await;
    publish(&*transport, "alone", "other").await;
    let delivery = find(&mut deliveries, "other").await;
    assert_eq!(delivery.generation, 1);
    delivery.ack();
    assert!(events.try_recv().is_err(), "consuming was disturbed");
    transport.close().await;
}

/// Whatever was reported as published is there, however often the connection breaks meanwhile.
pub async fn cut_while_publishing(rabbit: Arc<Rabbit>) {
    let proxy = Proxy::start(rabbit.address()).await.unwrap();
    let url = rabbit.url("/").replace(&rabbit.address().to_string(), &proxy.address().to_string());
    let transport = connect(&url);
    let mut deliveries = stand(&*transport, "cut", 200).await;
    let publishers: Vec<_> = (0..8)
        .map(|publisher| {
            let transport = transport.clone();
            tokio::spawn(async move {
                for n in 0..250 {
                    publish(&*transport, "cut", &format!("{publisher}.{n}")).await;
                }
            })
        })
        .collect();
    let mut seen = HashSet::new();
    let mut next_cut = 200;
    while seen.len() < 2000 {
        let delivery = next(&mut deliveries).await;
        seen.insert(delivery.message.routing_key.clone());
        delivery.ack();
        if seen.len() >= next_cut {
            next_cut += 400;
            proxy.cut();
        }
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    transport.close().await;
}

/// What is published together keeps its order where the connection breaks in the middle, if what was not taken is published
/// again: nothing sets out after a message that did not.
pub async fn cut_while_publishing_together(rabbit: Arc<Rabbit>) {
    const GROUPS: usize = 2;
    /// More than may be under way at once, so that many have not set out when the first arrive.
    const MESSAGES: usize = 6000;
    let proxy = Proxy::start(rabbit.address()).await.unwrap();
    let url = rabbit.url("/").replace(&rabbit.address().to_string(), &proxy.address().to_string());
    let transport = connect(&url);
    let mut deliveries = stand(&*transport, "together", 200).await;
    let (mut seen, mut number) = (HashSet::new(), 0);
    for group in 0..GROUPS {
        // A connection that has lasted is replaced at once, and the rest of the group meets the next one.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let mut left: Vec<usize> = (group * MESSAGES..(group + 1) * MESSAGES).collect();
        let publish = async {
            while !left.is_empty() {
                up(&*transport).await;
                let messages = left.iter().map(|number| message("together", &number.to_string())).collect();
                let answers = transport.publish_all(messages, true).await;
                let mut answers = answers.iter();
                left.retain(|_| answers.next().unwrap().is_err());
            }
        };
        let receive = async {
            while number < (group + 1) * MESSAGES {
                let delivery = next(&mut deliveries).await;
                let key: usize = delivery.message.routing_key.parse().unwrap();
                delivery.ack();
                if seen.insert(key) {
                    assert_eq!(key, number, "out of order");
                    number += 1;
                    if number == group * MESSAGES + 300 {
                        proxy.cut();
                    }
                }
            }
        };
        tokio::join!(publish, receive);
    }
    transport.close().await;
}

/// A peer that is half there: the connection stands and carries nothing.
pub async fn silent_peer(rabbit: Arc<Rabbit>) {
    let proxy = Proxy::start(rabbit.address()).await.unwrap();
    let url = rabbit.url("/").replace(&rabbit.address().to_string(), &proxy.address().to_string());
    let transport = connect(&url);
    let mut deliveries = stand(&*transport, "silent", 10).await;
    let started = Instant::now();
    proxy.stall(true);
    down(&*transport, "silent").await;
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    proxy.stall(false);
    proxy.cut();
    up(&*transport).await;
    publish(&*transport, "silent", "after").await;
    until(&mut deliveries, "after").await;
    transport.close().await;
}

pub async fn broker_stopped_and_killed(rabbit: &mut Rabbit) {
    let transport = connect(&rabbit.url("/"));
    let mut deliveries = stand(&*transport, "stopped", 10).await;
    assert_eq!(transport.returned(), None, "it was never away");
    for stop_in_order in [true, false] {
        let kept = if stop_in_order { "stopped" } else { "killed" };
        publish(&*transport, "stopped", kept).await;
        let held = find(&mut deliveries, kept).await;
        let mut events = transport.events();
        if stop_in_order {
            rabbit.stop().await.unwrap();
        } else {
            rabbit.kill9().unwrap();
        }
        event(&mut events, |event| matches!(event, Event::Disconnected { .. })).await;
        down(&*transport, "").await;
        let unavailable = transport.publish(&message("stopped", "away"), false).await;
        assert!(matches!(unavailable, Err(PublishError::Unavailable(_))), "{unavailable:?}");
        let begun = Instant::now();
        rabbit.restart().await.unwrap();
        up(&*transport).await;
        assert!(transport.returned().is_some_and(|returned| returned > begun));
        let again = find(&mut deliveries, kept).await;
        assert!(again.redelivered && again.generation > held.generation);
        again.ack();
        publish(&*transport, "stopped", "after").await;
        until(&mut deliveries, "after").await;
    }
    transport.close().await;
}

pub async fn broker_frozen(rabbit: &Rabbit) {
    let transport = connect(&rabbit.url("/"));
    let mut deliveries = stand(&*transport, "frozen", 10).await;
    rabbit.pause().unwrap();
    let started = Instant::now();
    let unavailable = transport.publish(&message("frozen", "never"), false).await;
    assert!(matches!(unavailable, Err(PublishError::Unavailable(_))), "{unavailable:?}");
    down(&*transport, "").await;
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
    rabbit.resume().unwrap();
    up(&*transport).await;
    publish(&*transport, "frozen", "after").await;
    until(&mut deliveries, "after").await;
    transport.close().await;
}
