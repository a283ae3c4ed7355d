//! The bare loop on pulsehook's own layer: its transport, which gathers frames and acknowledgements, and its client of the queue service.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use pulse::{Binding, Delivery, QueueSpec, Transport};
use pulsehook::queue::{QueueService as _, Taskcluster};
use tokio::sync::mpsc;

use super::bare::{Bare, PREFETCH, TASK_ID};
use super::source::{EXCHANGE, Source};
use super::stub::Stub;

/// See the module.
pub struct Layer {
    transport: Arc<dyn Transport>,
    calls: Taskcluster,
    queue: Arc<str>,
    scopes: [String; 1],
}

impl Layer {
    /// Declares its queue, and binds it to what this source publishes.
    pub async fn prepare(url: &str, stub: &Stub, source: &Source) -> anyhow::Result<Self> {
        let pulse: pulse::Config = toml::from_str(&format!("url = {url:?}"))?;
        let transport = pulse.open(std::path::Path::new("."), "bare loop")?;
        let calls: pulsehook::queue::Config = toml::from_str(&format!(
            "root_url = \"http://127.0.0.1:{}\"\naccess_token = \"the stub believes everything\"",
            stub.port()
        ))?;
        let queue: Arc<str> = "queue/pulsehook/layer".into();
        let declared = transport.declare_queue(QueueSpec {
            name: queue.clone(),
            kind: Default::default(),
            delivery_limit: None,
            dead_letter_exchange: None,
            max_length: None,
            bindings: vec![Binding { exchange: EXCHANGE.into(), pattern: source.pattern() }],
            unbind: Vec::new(),
        });
        declared.await?;
        let scopes = ["assume:hook-id:bench/push".to_owned()];
        Ok(Self { transport, calls: Taskcluster::new(&calls)?, queue, scopes })
    }
}

impl Bare for Layer {
    type Delivery = Delivery;

    async fn deliveries(&self) -> anyhow::Result<impl Stream<Item = Delivery>> {
        let (sink, deliveries) = mpsc::channel(4_096);
        self.transport.consume(&self.queue, PREFETCH, sink).await?;
        Ok(futures_util::stream::unfold(deliveries, |mut deliveries| async move {
            deliveries.recv().await.map(|delivery| (delivery, deliveries))
        }))
    }

    fn body(delivery: &Delivery) -> Bytes {
        delivery.message.body.clone()
    }

    async fn call(&self, body: Bytes, delivery: Delivery) -> anyhow::Result<()> {
        match self.calls.create_task(TASK_ID, body, &self.scopes, None).await {
            Ok(()) => delivery.ack(),
            Err(error) => {
                delivery.retry();
                return Err(error.into());
            }
        }
        Ok(())
    }

    async fn end(self) -> anyhow::Result<()> {
        self.transport.delete_queue(&self.queue).await?;
        self.transport.close().await;
        Ok(())
    }
}
