//! How fast pulse messages become tasks: real RabbitMQ, quorum queue, the real router as a process, a queue service stub on
//! loopback that takes everything; beside it a bare loop with the same broker and client libraries: consume, PUT the same body, ack; no
//! filter, template, record or event. It is measured twice: with amqprs and hyper alone, and on what pulsehook has made of them, which
//! gathers frames and acknowledgements. A machine's speed changes from minute to minute, so all drain in turn, three times; the last
//! line has the round of the middle ratio, which is that to the client libraries alone.
//!
//!     cargo bench --bench pipeline
//!
//! `PULSEHOOK_BENCH_MESSAGES` (100000) and `PULSEHOOK_BENCH_SECONDS` (10) size it.

#[path = "amqp.rs"]
mod amqp;
#[path = "pipeline/bare.rs"]
mod bare;
#[path = "pipeline/layer.rs"]
mod layer;
#[path = "pipeline/libraries.rs"]
mod libraries;
#[path = "pipeline/measure.rs"]
mod measure;
#[path = "pipeline/source.rs"]
mod source;
#[path = "pipeline/stub.rs"]
mod stub;

use std::time::{Duration, Instant};

use harness::{Http, Process, Rabbit, eventually, free_port};
use layer::Layer;
use libraries::Libraries;
use measure::{Usage, percentile};
use serde_json::json;
use source::Source;
use stub::Stub;

/// The router and the bare loops drain so many queues each, in turn.
const ROUNDS: usize = 3;

/// Messages per second that keep nobody busy.
const LIGHT: f64 = 200.0;

struct Round {
    /// Messages per second.
    drain: f64,
    /// Router CPU a message.
    cpu_us: f64,
    /// Of the rate of the bare loop with the client libraries alone.
    ratio: f64,
}

/// In milliseconds.
struct Latency {
    p50: f64,
    p99: f64,
}

impl Latency {
    /// Of sorted values.
    fn of(sorted: &[f64]) -> Self {
        Self { p50: percentile(sorted, 0.50), p99: percentile(sorted, 0.99) }
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.2} ms, p99 {:.2} ms", self.p50, self.p99)
    }
}

/// A broker goes on moving messages about for some seconds after it has confirmed them. That belongs to no phase.
const BROKER_RESTS: Duration = Duration::from_secs(5);

/// Longer than any phase takes.
const PATIENCE: Duration = Duration::from_secs(600);

fn option(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let messages = option("PULSEHOOK_BENCH_MESSAGES", 100_000);
    let seconds = option("PULSEHOOK_BENCH_SECONDS", 10);
    let rabbit = Rabbit::start().await?;
    let stub = Stub::start().await?;
    let source = Source::connect(&rabbit.url("/"), "bench")?;
    // For the bare loops alone: with the router's queue bound, too, the broker would have every message to write twice.
    let apart = Source::connect(&rabbit.url("/"), "bare")?;
    println!("pipeline: {messages} messages of {} bytes, quorum queue", source.body(0).len());

    let folder = tempfile::tempdir()?;
    let mut router = router(&rabbit.url("/"), stub.port(), folder.path())?;
    let address = router.start().await?;
    create_hook(&format!("http://{address}")).await?;
    // Warm: connections, caches, compiled hook.
    source.publish(0..1_000).await;
    stub.wait_for(1_000, PATIENCE).await;

    router.stop().await?;
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let libraries = Libraries::prepare(&rabbit.url("/"), &stub, &source).await?;
        let layer = Layer::prepare(&rabbit.url("/"), &stub, &source).await?;
        source.publish(0..messages).await;
        tokio::time::sleep(BROKER_RESTS).await;
        stub.reset();
        router.spawn()?;
        let drain = stub.rate(messages, PATIENCE).await;
        // The start is not part of the draining, so its processor time is: an upper bound.
        let usage = Usage::of(router.id().unwrap_or_default());
        let cpu_us = usage.cpu.as_secs_f64() * 1e6 / messages as f64;
        router.stop().await?;
        println!("  drain            {drain:>8.0} messages/s   router CPU {cpu_us:.1} µs a message");
        let [ratio, _] = [
            ("bare loop", bare::drain(libraries, &stub, messages).await?),
            ("on our layer", bare::drain(layer, &stub, messages).await?),
        ]
        .map(|(name, rate)| {
            let ratio = drain / rate;
            println!("     {name:<12}  {rate:>8.0} messages/s, of which the router makes {ratio:.2}");
            ratio
        });
        rounds.push(Round { drain, cpu_us, ratio });
    }
    rounds.sort_by(|one, other| one.ratio.total_cmp(&other.ratio));
    let Round { drain, cpu_us, ratio } = rounds[ROUNDS / 2];

    // Each has its turn alone.
    let libraries = Libraries::prepare(&rabbit.url("/"), &stub, &apart).await?;
    let libraries = bare::live(libraries, &stub, &apart, seconds).await?;
    let layer = Layer::prepare(&rabbit.url("/"), &stub, &apart).await?;
    let layer = bare::live(layer, &stub, &apart, seconds).await?;
    router.start().await?;
    let (live, ingested) = live(&source, &stub, seconds).await;
    println!("  live             {live:>8.0} tasks/s while {ingested:.0} messages/s are published");
    println!("     bare loop     {libraries:>8.0} tasks/s likewise");
    println!("     on our layer  {layer:>8.0} tasks/s likewise");

    let rates = [live / 2.0, LIGHT];
    let mut latencies = Vec::new();
    for rate in rates {
        tokio::time::sleep(BROKER_RESTS).await;
        stub.reset();
        latencies.push(Latency::of(&paced(&source, &stub, rate, seconds).await));
    }
    let rss = Usage::of(router.id().unwrap_or_default()).peak_mb;
    router.stop().await?;
    for (rate, router) in rates.into_iter().zip(&latencies) {
        println!("  latency          {router} at {rate:.0} messages/s (published to createTask arrived)");
        tokio::time::sleep(BROKER_RESTS).await;
        let libraries = Libraries::prepare(&rabbit.url("/"), &stub, &apart).await?;
        let bare = Latency::of(&bare::paced(libraries, &stub, &apart, rate, seconds).await?);
        println!("     bare loop     {bare} likewise");
        tokio::time::sleep(BROKER_RESTS).await;
        let layer = Layer::prepare(&rabbit.url("/"), &stub, &apart).await?;
        let bare = Latency::of(&bare::paced(layer, &stub, &apart, rate, seconds).await?);
        println!("     on our layer  {bare} likewise");
    }
    let Latency { p50, p99 } = latencies[0];
    println!("  router memory    {rss:.0} MB at its peak");
    println!(
        "drain={drain:.0} live={live:.0} ratio={ratio:.2} cpu_us={cpu_us:.1} p50_ms={p50:.2} p99_ms={p99:.2} rss_mb={rss:.0}"
    );
    Ok(())
}

/// Publishes as fast as the broker confirms for some seconds; answers tasks/s and messages/s meanwhile.
async fn live(source: &Source, stub: &Stub, seconds: usize) -> (f64, f64) {
    stub.reset();
    let started = Instant::now();
    let published = source.publish_for(Duration::from_secs(seconds as u64)).await;
    let elapsed = started.elapsed().as_secs_f64();
    let tasks = stub.count();
    stub.wait_for(published, PATIENCE).await;
    (tasks as f64 / elapsed, published as f64 / elapsed)
}

/// Publishes at a steady rate; answers the latencies in milliseconds.
async fn paced(source: &Source, stub: &Stub, rate: f64, seconds: usize) -> Vec<f64> {
    let published = source.publish_paced(rate, Duration::from_secs(seconds as u64)).await;
    stub.wait_for(published, PATIENCE).await;
    stub.latencies()
}

fn router(amqp: &str, queue_port: u16, folder: &std::path::Path) -> anyhow::Result<Process> {
    let port = free_port()?;
    // Who may what is not measured here.
    let config = folder.join("pulsehook.toml");
    std::fs::write(&config, "[auth]\nanonymous = [\"*\"]\n")?;
    Ok(Process::new("router", env!("CARGO_BIN_EXE_pulsehook"))
        .arg("router")
        .arg("--config")
        .arg(config.display().to_string())
        .env("PULSEHOOK_LOG", "warn")
        .env("PULSEHOOK_PULSE__URL", amqp)
        .env("PULSEHOOK_STORE__PATH", folder.join("pulsehook.db").display().to_string())
        .env("PULSEHOOK_QUEUE__ROOT_URL", format!("http://127.0.0.1:{queue_port}"))
        .env("PULSEHOOK_QUEUE__ACCESS_TOKEN", "the stub believes everything")
        .env("PULSEHOOK_API__LISTEN", format!("127.0.0.1:{port}"))
        .env("PULSEHOOK_KEYS__TASK_ID", "0123456789abcdef0123456789abcdef"))
}

/// A realistic hook: filter, schema, a task of a dozen rendered leaves.
async fn create_hook(url: &str) -> anyhow::Result<()> {
    let hook = json!({
        "metadata": { "name": "bench", "description": "d", "owner": "bench@example.com", "emailOnError": false },
        "bindings": [{ "exchange": source::EXCHANGE, "routingKeyPattern": "bench.#" }],
        "filter": "payload.ref == 'refs/heads/main' and payload.repository.name != 'other'",
        "triggerSchema": { "type": "object", "required": ["ref", "after"] },
        "task": {
            "taskQueueId": "proj-bench/ci",
            "deadline": "{{2 hours | from-now}}",
            "payload": {
                "maxRunTime": 3600,
                "sent": "{{ payload.sent }}",
                "env": {
                    "REV": "{{ payload.after }}", "REF": "{{ payload.ref }}",
                    "REPO": "{{ payload.repository.full_name }}", "KEY": "{{ routingKey }}",
                    "AUTHOR": "{{ payload.pusher.name }} <{{ payload.pusher.email }}>"
                },
                "command": ["/bin/sh", "-c", "build {{ payload.after }}"],
                "changed": "{{ payload.commits | length }}"
            },
            "tags": { "who": "{{ payload.pusher.name }}", "id": "{{ taskId }}" },
            "metadata": {
                "name": "build {{ payload.after }}", "description": "for {{ payload.repository.full_name }}",
                "owner": "bench@example.com", "source": "{{ payload.compare }}"
            }
        }
    });
    let http = Http::default();
    let url = format!("{url}/api/hooks/v1/hooks/bench/push");
    let answer = http.json("PUT", &url, &hook).await?;
    anyhow::ensure!(answer.status == 200, "{}", String::from_utf8_lossy(&answer.body));
    eventually(Duration::from_secs(60), || async {
        let health = http.get(&format!("{url}/bindings")).await.ok()?.json();
        let bindings = health["bindings"].as_array()?;
        (bindings.len() == 2 && bindings.iter().all(|binding| binding["state"] == "bound")).then_some(())
    })
    .await;
    Ok(())
}
