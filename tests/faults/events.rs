//! Fire events, as anybody may hear them.

use std::collections::BTreeSet;
use std::sync::Arc;

use pulse::{Binding, Delivery, QueueKind, QueueSpec, Transport};
use serde_json::Value;
use tokio::sync::mpsc;

use super::system::SOON;

/// A subscriber of the fire exchange.
pub struct FireEvents {
    deliveries: mpsc::Receiver<Delivery>,
    /// Task ids of which a success was told.
    pub told: BTreeSet<String>,
}

impl FireEvents {
    /// Subscribes; the exchange must stand.
    pub async fn subscribe(transport: &Arc<pulse::Amqp>) -> anyhow::Result<Self> {
        let name: Arc<str> = "queue/foreign/fires".into();
        let spec = QueueSpec {
            name: name.clone(),
            kind: QueueKind::Classic,
            delivery_limit: None,
            dead_letter_exchange: None,
            max_length: None,
            bindings: vec![Binding { exchange: "exchange/pulsehook/v1/fire".into(), pattern: "#".into() }],
            unbind: Vec::new(),
        };
        let health = transport.declare_queue(spec).await?;
        anyhow::ensure!(health.iter().all(|binding| binding.error.is_none()), "{health:?}");
        let (sink, deliveries) = mpsc::channel(1_000);
        transport.consume(&name, 1_000, sink).await?;
        Ok(Self { deliveries, told: BTreeSet::new() })
    }

    /// Waits for the next event that `wanted` says yes to.
    pub async fn next(&mut self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        tokio::time::timeout(SOON, async {
            loop {
                let delivery =
                    self.deliveries.recv().await.ok_or_else(|| anyhow::anyhow!("no more events"))?;
                let event: Value = serde_json::from_slice(&delivery.message.body)?;
                delivery.ack();
                if event["outcome"] == "success" {
                    self.told.extend(event["taskId"].as_str().map(ToOwned::to_owned));
                }
                if wanted(&event) {
                    return Ok(event);
                }
            }
        })
        .await?
    }

    /// Waits until a success was told of each of these tasks.
    pub async fn all_told(&mut self, mut tasks: BTreeSet<String>) -> anyhow::Result<()> {
        tasks.retain(|task| !self.told.contains(task));
        while !tasks.is_empty() {
            let event = self.next(|_| true).await?;
            tasks.remove(event["taskId"].as_str().unwrap_or_default());
        }
        Ok(())
    }
}
