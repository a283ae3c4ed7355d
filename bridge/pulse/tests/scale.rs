//! Figures, not checks: thousands of queues, and messages by the ten thousand. Run it with
//! `cargo test --release -p pulse --test scale -- --ignored --nocapture`; `QUEUES` and `MESSAGES` change the numbers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::Rabbit;
use pulse::amqp::{Amqp, AmqpConfig};
use pulse::{Binding, Event, Message, QueueKind, QueueSpec, Status, Transport};
use tokio::sync::mpsc;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

async fn connect(rabbit: &Rabbit) -> Arc<dyn Transport> {
    let transport = Amqp::connect(AmqpConfig {
        url: &rabbit.url("/"),
        ca_file: None,
        name: "scale",
        publish_timeout: Duration::from_secs(60),
    })
    .unwrap();
    transport.status().wait_for(|status| *status == Status::Up).await.unwrap();
    Arc::new(transport)
}

fn spec(kind: QueueKind, n: usize) -> QueueSpec {
    let bind = |exchange: &str, pattern: String| Binding { exchange: exchange.into(), pattern };
    QueueSpec {
        name: format!("queue/scale/{kind:?}/{n}").into(),
        kind,
        delivery_limit: (kind == QueueKind::Quorum).then_some(50),
        dead_letter_exchange: None,
        max_length: None,
        bindings: vec![
            bind("trigger", format!("{kind:?}.{n}")),
            bind("webhook", format!("github.push.{n}.#")),
        ],
        unbind: Vec::new(),
    }
}

/// Declares and consumes all, as a router does that starts.
async fn stand(
    transport: &Arc<dyn Transport>,
    kind: QueueKind,
    queues: usize,
    sink: &mpsc::Sender<pulse::Delivery>,
) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..queues {
        if tasks.len() >= 256 {
            tasks.join_next().await.unwrap().unwrap();
        }
        let (transport, sink) = (transport.clone(), sink.clone());
        tasks.spawn(async move {
            let spec = spec(kind, n);
            let name = spec.name.clone();
            assert!(transport.declare_queue(spec).await.unwrap().iter().all(|health| health.error.is_none()));
            transport.consume(&name, 4, sink).await.unwrap();
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and prints figures"]
async fn many_queues() {
    let queues = number("QUEUES", 1000);
    for kind in [QueueKind::Classic, QueueKind::Quorum] {
        let mut rabbit = Rabbit::start().await.unwrap();
        let transport = connect(&rabbit).await;
        for exchange in ["trigger", "webhook"] {
            transport.declare_exchange(exchange).await.unwrap();
        }
        let (sink, mut deliveries) = mpsc::channel(1000);
        let started = Instant::now();
        stand(&transport, kind, queues, &sink).await;
        println!("{kind:?}: {queues} queues made and consumed in {:?}", started.elapsed());

        let started = Instant::now();
        stand(&transport, kind, queues, &sink).await;
        println!("{kind:?}: declared again in {:?}", started.elapsed());

        let started = Instant::now();
        let new = spec(kind, queues);
        transport.declare_queue(new.clone()).await.unwrap();
        transport.consume(&new.name, 4, sink.clone()).await.unwrap();
        println!("{kind:?}: one more with {queues} present in {:?}", started.elapsed());

        let mut events = transport.events();
        let started = Instant::now();
        rabbit.ctl(&["close_all_connections", "scale"]).await.unwrap();
        while !matches!(events.recv().await.unwrap(), Event::Connected { .. }) {}
        let message = |n: usize| Message {
            exchange: "trigger".into(),
            routing_key: format!("{kind:?}.{n}"),
            ..Message::default()
        };
        for n in 0..queues {
            while transport.publish(&message(n), true).await.is_err() {}
        }
        for _ in 0..queues {
            deliveries.recv().await.unwrap().ack();
        }
        println!("{kind:?}: connection lost, a message through each queue after {:?}", started.elapsed());

        let started = Instant::now();
        rabbit.stop().await.unwrap();
        rabbit.restart().await.unwrap();
        println!("{kind:?}: broker stopped and up again in {:?}", started.elapsed());
        transport.status().wait_for(|status| *status == Status::Up).await.unwrap();
        for n in 0..queues {
            while transport.publish(&message(n), true).await.is_err() {}
        }
        for _ in 0..queues {
            deliveries.recv().await.unwrap().ack();
        }
        println!("{kind:?}: … and a message through each queue after {:?}", started.elapsed());
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let memory = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
        println!("{kind:?}: our {memory}");
        tokio::time::timeout(Duration::from_secs(60), transport.close()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn many_messages() {
    let messages = number("MESSAGES", 50_000);
    let rabbit = Rabbit::start().await.unwrap();
    let transport = connect(&rabbit).await;
    for exchange in ["trigger", "webhook"] {
        transport.declare_exchange(exchange).await.unwrap();
    }
    for kind in [QueueKind::Classic, QueueKind::Quorum] {
        transport.declare_queue(spec(kind, 1)).await.unwrap();
        let message = Message {
            exchange: "trigger".into(),
            routing_key: format!("{kind:?}.1"),
            body: vec![b'x'; 500].into(),
            properties: pulse::Properties { message_id: Some("id".into()), ..Default::default() },
        };
        let started = Instant::now();
        let publishers: Vec<_> = (0..1000)
            .map(|_| {
                let (transport, message) = (transport.clone(), message.clone());
                tokio::spawn(async move {
                    for _ in 0..messages / 1000 {
                        assert!(transport.publish(&message, true).await.unwrap().routed);
                    }
                })
            })
            .collect();
        for publisher in publishers {
            publisher.await.unwrap();
        }
        let rate = messages as f64 / started.elapsed().as_secs_f64();
        println!("{kind:?}: published {rate:.0}/s");
        let (sink, mut deliveries) = mpsc::channel(1000);
        let started = Instant::now();
        transport.consume(&spec(kind, 1).name, 1000, sink).await.unwrap();
        for _ in 0..messages {
            deliveries.recv().await.unwrap().ack();
        }
        let rate = messages as f64 / started.elapsed().as_secs_f64();
        println!("{kind:?}: consumed {rate:.0}/s");
    }
    transport.close().await;
}
