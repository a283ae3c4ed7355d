//! The bare loop: the same broker and client libraries, and nothing of what pulsehook is for.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use pulse::{Binding, QueueSpec, Transport};
use pulsehook::queue::{QueueService as _, Taskcluster};
use tokio::sync::mpsc;

use super::PATIENCE;
use super::source::{EXCHANGE, Source};
use super::stub::Stub;

/// Calls at a time, as in the router's defaults.
const CALLS: usize = 64;

/// See the module.
pub struct Bare {
    transport: Arc<dyn Transport>,
    calls: Taskcluster,
    queue: Arc<str>,
}

impl Bare {
    /// Declares its queue, which from now on fills beside the router's.
    pub async fn prepare(url: &str, stub: &Stub) -> anyhow::Result<Self> {
        let pulse: pulse::Config = toml::from_str(&format!("url = {url:?}"))?;
        let transport = pulse.open(std::path::Path::new("."), "bare loop")?;
        let calls: pulsehook::queue::Config = toml::from_str(&format!(
            "root_url = \"http://127.0.0.1:{}\"\naccess_token = \"the stub believes everything\"",
            stub.port()
        ))?;
        let bare = Self { transport, calls: Taskcluster::new(&calls)?, queue: "queue/pulsehook/bare".into() };
        let declared = bare.transport.declare_queue(QueueSpec {
            name: bare.queue.clone(),
            kind: Default::default(),
            delivery_limit: None,
            dead_letter_exchange: None,
            max_length: None,
            bindings: vec![Binding { exchange: EXCHANGE.into(), pattern: "bench.#".into() }],
            unbind: Vec::new(),
        });
        declared.await?;
        Ok(bare)
    }

    /// Drains its queue; answers messages per second.
    pub async fn drain(&self, stub: &Stub, messages: usize) -> anyhow::Result<f64> {
        stub.reset();
        tokio::select! {
            rate = stub.rate(messages, PATIENCE) => Ok(rate),
            ended = self.run(Some(stub.a_task())) => Err(ended),
        }
    }

    /// Works while messages are published for some seconds; answers tasks/s.
    pub async fn live(&self, stub: &Stub, source: &Source, seconds: usize) -> anyhow::Result<f64> {
        tokio::select! {
            (tasks, _) = super::live(source, stub, seconds) => Ok(tasks),
            ended = self.run(Some(stub.a_task())) => Err(ended),
        }
    }

    /// Works while messages are published at a steady rate; answers the latencies in milliseconds. The messages themselves are
    /// the bodies, because they say when they were sent.
    pub async fn paced(
        &self,
        stub: &Stub,
        source: &Source,
        rate: f64,
        seconds: usize,
    ) -> anyhow::Result<Vec<f64>> {
        stub.reset();
        tokio::select! {
            latencies = super::paced(source, stub, rate, seconds) => Ok(latencies),
            ended = self.run(None) => Err(ended),
        }
    }

    /// Deletes the queue.
    pub async fn end(self) -> anyhow::Result<()> {
        self.transport.delete_queue(&self.queue).await?;
        self.transport.close().await;
        Ok(())
    }

    /// Consumes, PUTs this body or the message, acknowledges. Answers why it ended, which it should not.
    async fn run(&self, body: Option<Bytes>) -> anyhow::Error {
        let (sink, deliveries) = mpsc::channel(4_096);
        if let Err(error) = self.transport.consume(&self.queue, 1_000, sink).await {
            return error.into();
        }
        let scopes = ["assume:hook-id:bench/push".to_owned()];
        let loops = tokio_stream(deliveries).for_each_concurrent(CALLS, |delivery: pulse::Delivery| {
            let body = body.clone().unwrap_or_else(|| delivery.message.body.clone());
            let scopes = &scopes;
            async move {
                match self.calls.create_task("bJjtJ_-IQg6szLKlrxfq7g", body, scopes, None).await {
                    Ok(()) => delivery.ack(),
                    Err(error) => {
                        eprintln!("bare loop: {error}");
                        delivery.retry();
                    }
                }
            }
        });
        loops.await;
        anyhow::anyhow!("the bare loop has ended")
    }
}

fn tokio_stream<T>(receiver: mpsc::Receiver<T>) -> impl futures_util::Stream<Item = T> {
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        let item = receiver.recv().await?;
        Some((item, receiver))
    })
}
