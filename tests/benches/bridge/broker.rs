//! The broker's limit on pulsehook's own layer: confirmed publishes of a webhook's size by the transport that the bridge uses, with
//! nothing around.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pulse::{Binding, Message, Properties, QueueKind, QueueSpec};

pub const EXCHANGE: &str = "exchange/pulsehook/v1/webhook";
pub const ROUTING_KEY: &str = "bench.push._.mozilla.gecko-dev";
pub const BODY_BYTES: usize = 500;

/// Confirmed publishes per second. Leaves a quorum queue bound to the webhooks, which holds the newest only.
pub async fn rate(url: &str, phase: Duration, outstanding: usize) -> anyhow::Result<f64> {
    let config = pulse::Config { url: pulse::Secret::new(url), ..pulse::Config::default() };
    let transport = config.open(std::path::Path::new("."), "bench")?;
    let mut status = transport.status();
    status.wait_for(|status| *status == pulse::Status::Up).await?;
    transport.declare_exchange(EXCHANGE).await?;
    transport
        .declare_queue(QueueSpec {
            name: Arc::from("queue/pulsehook/bench"),
            kind: QueueKind::Quorum,
            delivery_limit: None,
            dead_letter_exchange: None,
            max_length: Some(1_000),
            bindings: vec![Binding { exchange: EXCHANGE.into(), pattern: "#".into() }],
            unbind: Vec::new(),
        })
        .await?;
    let end = Instant::now() + phase;
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..outstanding {
        let transport = Arc::clone(&transport);
        publishers.spawn(async move {
            let mut confirmed = 0_u64;
            while Instant::now() < end {
                let message = Message {
                    exchange: EXCHANGE.into(),
                    routing_key: ROUTING_KEY.into(),
                    properties: Properties {
                        message_id: Some(format!("bench-{publisher}-{confirmed}")),
                        ..Properties::default()
                    },
                    body: vec![b'x'; BODY_BYTES].into(),
                };
                transport.publish(&message, true).await?;
                confirmed += 1;
            }
            Ok::<u64, pulse::PublishError>(confirmed)
        });
    }
    let mut confirmed = 0;
    for one in publishers.join_all().await {
        confirmed += one?;
    }
    transport.close().await;
    Ok(confirmed as f64 / phase.as_secs_f64())
}
