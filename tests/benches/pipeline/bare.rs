//! The bare loop: the same broker and client libraries, and nothing of what pulsehook is for.

use std::sync::Arc;

use futures_util::StreamExt as _;
use pulse::{Binding, QueueSpec};
use pulsehook::queue::{QueueService as _, Taskcluster};
use tokio::sync::mpsc;

use super::PATIENCE;
use super::source::{EXCHANGE, Source};
use super::stub::Stub;

/// Calls at a time, as in the router's defaults.
const CALLS: usize = 64;

/// Consumes, PUTs the same body, acknowledges; answers messages per second.
pub async fn drain(url: &str, stub: &Stub, source: &Source, messages: usize) -> anyhow::Result<f64> {
    let pulse: pulse::Config = toml::from_str(&format!("url = {url:?}"))?;
    let transport = pulse.open(std::path::Path::new("."), "bare loop")?;
    let queue: pulsehook::queue::Config = toml::from_str(&format!(
        "root_url = \"http://127.0.0.1:{}\"\naccess_token = \"the stub believes everything\"",
        stub.port()
    ))?;
    let queue = Taskcluster::new(&queue)?;
    let task = stub.a_task();
    let name: Arc<str> = "queue/pulsehook/bare".into();
    transport
        .declare_queue(QueueSpec {
            name: name.clone(),
            kind: Default::default(),
            delivery_limit: None,
            dead_letter_exchange: None,
            max_length: None,
            bindings: vec![Binding { exchange: EXCHANGE.into(), pattern: "bench.#".into() }],
            unbind: Vec::new(),
        })
        .await?;
    // The router is stopped: its own queue fills too, which costs the broker the same in both.
    source.publish(0..messages).await;
    stub.reset();
    let (sink, deliveries) = mpsc::channel(4_096);
    transport.consume(&name, 1_000, sink).await?;
    let scopes = ["assume:hook-id:bench/push".to_owned()];
    let loops = tokio_stream(deliveries).for_each_concurrent(CALLS, |delivery: pulse::Delivery| {
        let (queue, task, scopes) = (&queue, task.clone(), &scopes);
        async move {
            match queue.create_task("bJjtJ_-IQg6szLKlrxfq7g", task, scopes, None).await {
                Ok(()) => delivery.ack(),
                Err(error) => {
                    eprintln!("bare loop: {error}");
                    delivery.retry();
                }
            }
        }
    });
    let rate = tokio::select! {
        rate = stub.rate(messages, PATIENCE) => rate,
        () = loops => f64::NAN,
    };
    transport.close().await;
    Ok(rate)
}

fn tokio_stream<T>(receiver: mpsc::Receiver<T>) -> impl futures_util::Stream<Item = T> {
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        let item = receiver.recv().await?;
        Some((item, receiver))
    })
}
