//! Bare loops: consume, PUT a body, acknowledge; no filter, template, record or event. What they make is what there was to be had.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use super::PATIENCE;
use super::source::Source;
use super::stub::Stub;

/// Calls at a time, as in the router's defaults.
const CALLS: usize = 64;

/// Messages that come before the first of them is acknowledged, as in the router's defaults.
pub const PREFETCH: u16 = 1_000;

/// The task id of all calls: the stub takes it again and again.
pub const TASK_ID: &str = "bJjtJ_-IQg6szLKlrxfq7g";

/// A loop whose queue stands, and fills beside the router's.
pub trait Bare {
    /// A message that came.
    type Delivery;

    /// Begins to consume.
    async fn deliveries(&self) -> anyhow::Result<impl Stream<Item = Self::Delivery>>;

    /// Its text.
    fn body(delivery: &Self::Delivery) -> Bytes;

    /// PUTs this body, acknowledges.
    async fn call(&self, body: Bytes, delivery: Self::Delivery) -> anyhow::Result<()>;

    /// Deletes the queue.
    async fn end(self) -> anyhow::Result<()>;
}

/// Drains its queue; answers messages per second.
pub async fn drain(bare: impl Bare, stub: &Stub, messages: usize) -> anyhow::Result<f64> {
    stub.reset();
    let rate = beside(&bare, Some(stub.a_task()), stub.rate(messages, PATIENCE)).await?;
    bare.end().await?;
    Ok(rate)
}

/// Works while messages are published for some seconds; answers tasks/s.
pub async fn live(bare: impl Bare, stub: &Stub, source: &Source, seconds: usize) -> anyhow::Result<f64> {
    let (tasks, _) = beside(&bare, Some(stub.a_task()), super::live(source, stub, seconds)).await?;
    bare.end().await?;
    Ok(tasks)
}

/// Works while messages are published at a steady rate; answers the latencies in milliseconds. The messages themselves are
/// the bodies, because they say when they were sent.
pub async fn paced(
    bare: impl Bare,
    stub: &Stub,
    source: &Source,
    rate: f64,
    seconds: usize,
) -> anyhow::Result<Vec<f64>> {
    stub.reset();
    let latencies = beside(&bare, None, super::paced(source, stub, rate, seconds)).await?;
    bare.end().await?;
    Ok(latencies)
}

/// Runs the loop while something else goes on.
async fn beside<T>(
    bare: &impl Bare,
    body: Option<Bytes>,
    work: impl Future<Output = T>,
) -> anyhow::Result<T> {
    tokio::select! {
        done = work => Ok(done),
        ended = run(bare, body) => Err(ended),
    }
}

/// PUTs this body, or the message. Answers why it ended, which it should not.
async fn run<B: Bare>(bare: &B, body: Option<Bytes>) -> anyhow::Error {
    let deliveries = match bare.deliveries().await {
        Ok(deliveries) => deliveries,
        Err(error) => return error,
    };
    let each = deliveries.for_each_concurrent(CALLS, |delivery| {
        let body = body.clone().unwrap_or_else(|| B::body(&delivery));
        async move {
            if let Err(error) = bare.call(body, delivery).await {
                eprintln!("bare loop: {error:#}");
            }
        }
    });
    each.await;
    anyhow::anyhow!("the bare loop has ended")
}
