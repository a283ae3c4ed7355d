//! How fast webhooks become messages: the real bridge as a process, real RabbitMQ with a quorum queue, signed requests over
//! keep-alive connections; beside it, in the same run, the broker's own limit of confirmed publishes: with the client library alone, and
//! on what pulsehook has made of it.
//!
//!     cargo bench --bench bridge
//!
//! `PULSEHOOK_BENCH_SECONDS` (10) is the length of each phase. The broker, the bridge and the senders share the machine.

#[path = "amqp.rs"]
mod amqp;
#[path = "bridge/broker.rs"]
mod broker;
#[path = "bridge/libraries.rs"]
mod libraries;
#[path = "pipeline/measure.rs"]
mod measure;
#[path = "bridge/sender.rs"]
mod sender;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use harness::{Http, Process, Rabbit, eventually, free_port};
use measure::{Usage, percentile};
use sender::{Sender, Sent};

/// Connections of the storm.
const STORM: usize = 64;

/// Publishes outstanding, so many that the broker is never waited for.
const MANY: usize = 1_000;

/// Requests per second of the quiet source.
const QUIET_RATE: f64 = 50.0;

/// Longer than any phase takes.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let seconds =
        std::env::var("PULSEHOOK_BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let phase = Duration::from_secs(seconds);
    let mut rabbit = Rabbit::start().await?;
    let url = rabbit.url("/");
    let folder = tempfile::tempdir()?;
    let on_layer = broker::rate(&url, phase, STORM).await?;
    let limit = libraries::rate(&url, phase, STORM).await?;
    println!("  broker alone     {limit:>8.0} confirmed publishes/s, {STORM} outstanding");
    println!("     on our layer  {on_layer:>8.0} confirmed publishes/s, {STORM} outstanding");
    let many = broker::rate(&url, phase, MANY).await?;
    println!("     on our layer  {many:>8.0} confirmed publishes/s, {MANY} outstanding");

    let mut bridge = bridge(&url, folder.path())?;
    let address = bridge.start().await?;
    // Events that come before go into the spool, and in a storm so do all that follow them.
    eventually(PATIENCE, async || reaches_broker(address).await.then_some(())).await;
    storm(address, "loud", Duration::from_secs(1)).await?;

    let before = Usage::of(bridge.id().unwrap_or_default()).cpu;
    let sent = storm(address, "loud", phase).await?;
    let cpu = Usage::of(bridge.id().unwrap_or_default()).cpu - before;
    let rate = sent.rate(phase);
    let cpu_us = cpu.as_secs_f64() * 1e6 / sent.accepted.len().max(1) as f64;
    println!(
        "  bridge           {rate:>8.0} events/s ({STORM} connections), p50 {:.2} ms, p99 {:.2} ms, bridge CPU {cpu_us:.0} µs an event",
        sent.percentile(0.50),
        sent.percentile(0.99)
    );
    println!(
        "                   {:.2} of the broker alone, {:.2} of our layer, with {STORM} outstanding",
        rate / limit,
        rate / on_layer
    );
    if sent.spooled > 0 {
        println!("                   {} of these went into the spool, not to the broker", sent.spooled);
    }

    let alone = quiet(address, phase).await?;
    println!(
        "  quiet alone      p50 {:.2} ms, p99 {:.2} ms at {QUIET_RATE}/s",
        alone.percentile(0.50),
        alone.percentile(0.99)
    );
    let (stormed, beside) = tokio::join!(storm(address, "limited", phase), quiet(address, phase));
    let (stormed, beside) = (stormed?, beside?);
    println!(
        "  quiet in a storm p50 {:.2} ms, p99 {:.2} ms; the storm: {:.0} requests/s, of which {:.0} accepted (its limit: 500)",
        beside.percentile(0.50),
        beside.percentile(0.99),
        stormed.rate(phase) + stormed.refused as f64 / phase.as_secs_f64(),
        stormed.rate(phase)
    );

    rabbit.stop().await?;
    let spooled = storm(address, "loud", phase).await?;
    println!(
        "  broker away      {:>8.0} events/s spooled, p99 {:.2} ms",
        spooled.rate(phase),
        spooled.percentile(0.99)
    );
    let waiting = waiting(address).await?;
    rabbit.restart().await?;
    eventually(PATIENCE, async || (waiting_now(address).await < waiting).then_some(())).await;
    let (started, from) = (Instant::now(), waiting_now(address).await);
    eventually(PATIENCE, async || (waiting_now(address).await == 0).then_some(())).await;
    let drain = from as f64 / started.elapsed().as_secs_f64();
    println!("  broker back      {drain:>8.0} events/s out of the spool, in order");
    println!(
        "limit={limit:.0} bridge={rate:.0} ratio={:.2} cpu_us={cpu_us:.0} quiet_p99_ms={:.2} storm_quiet_p99_ms={:.2} spooled={:.0} drain={drain:.0}",
        rate / limit,
        alone.percentile(0.99),
        beside.percentile(0.99),
        spooled.rate(phase)
    );
    let peak = Usage::of(bridge.id().unwrap_or_default()).peak_mb;
    println!("  bridge memory    {peak:>8.0} MB at its peak");
    bridge.stop().await
}

/// As many requests as 64 connections can send.
async fn storm(address: SocketAddr, source: &str, phase: Duration) -> anyhow::Result<Sent> {
    let mut all = tokio::task::JoinSet::new();
    for connection in 0..STORM {
        let sender = Sender::connect(address, source, connection).await?;
        all.spawn(sender.flat_out(phase));
    }
    let mut sent = Sent::default();
    for one in all.join_all().await {
        sent.add(one?);
    }
    Ok(sent.sorted())
}

async fn quiet(address: SocketAddr, phase: Duration) -> anyhow::Result<Sent> {
    let sender = Sender::connect(address, "quiet", 0).await?;
    Ok(sender.paced(QUIET_RATE, phase).await?.sorted())
}

async fn reaches_broker(address: SocketAddr) -> bool {
    let answer = Http::default().get(&format!("http://{address}/__heartbeat__")).await;
    answer.is_ok_and(|answer| answer.json()["checks"]["broker"]["ok"] == true)
}

/// Events in the spool.
async fn waiting(address: SocketAddr) -> anyhow::Result<u64> {
    let answer = Http::default().get(&format!("http://{address}/__heartbeat__")).await?;
    answer.json()["spool"]["events"].as_u64().context("the heartbeat tells nothing of the spool")
}

async fn waiting_now(address: SocketAddr) -> u64 {
    waiting(address).await.unwrap_or(u64::MAX)
}

fn bridge(amqp: &str, folder: &std::path::Path) -> anyhow::Result<Process> {
    let path = folder.join("bridge.toml");
    let mut text = format!(
        "[bridge]\nlisten = \"127.0.0.1:{}\"\n[bridge.spool]\npath = {:?}\n[bridge.limits]\nsource_per_second = 0\npeer_per_second = 0\n",
        free_port()?,
        folder.join("spool.db")
    );
    for (name, limit) in [("loud", ""), ("quiet", ""), ("limited", "per_second = 500\nburst = 500\n")] {
        text.push_str(&format!(
            "[[bridge.source]]\nname = {name:?}\nprovider = \"github\"\nsecrets = [{:?}]\n{limit}",
            sender::SECRET
        ));
    }
    std::fs::write(&path, text)?;
    Ok(Process::new("bridge", env!("CARGO_BIN_EXE_pulsehook"))
        .arg("bridge")
        .arg("--config")
        .arg(path.display().to_string())
        .env("PULSEHOOK_LOG", "error")
        .env("PULSEHOOK_PULSE__URL", amqp))
}

impl Sent {
    fn rate(&self, phase: Duration) -> f64 {
        self.accepted.len() as f64 / phase.as_secs_f64()
    }

    fn percentile(&self, part: f64) -> f64 {
        percentile(&self.accepted, part)
    }
}
