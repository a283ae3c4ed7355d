//! How fast hooks that are due in the same minute are triggered: the real store and scheduler on a real RabbitMQ, and
//! what a tick costs when nothing is due.
//!
//!     cargo bench --bench schedule
//!
//! `PULSEHOOK_BENCH_HOOKS` (10000) sizes it: so many are due, and as many again are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use harness::Rabbit;
use pulse::amqp::{Amqp, AmqpConfig};
use pulse::{Binding, QueueKind, QueueSpec, Status, Transport};
use pulsehook::router::scheduler::{Parts, Scheduler};
use pulsehook::router::trigger::TriggerKey;
use pulsehook::store::{Config, NewHook, Saved, Store};
use serde_json::json;

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let hooks: usize =
        std::env::var("PULSEHOOK_BENCH_HOOKS").ok().and_then(|value| value.parse().ok()).unwrap_or(10_000);
    let rabbit = Rabbit::start().await?;
    let transport = connect(&rabbit.url("/")).await?;
    let folder = tempfile::tempdir()?;
    let store = Store::open(&Config { path: folder.path().join("pulsehook.db") }, || ())?;
    let start: DateTime<Utc> = "2100-01-01T10:00:30Z".parse()?;
    let clock = Arc::new(AtomicI64::new(start.timestamp()));
    let time = clock.clone();
    let scheduler = Scheduler::new(Parts {
        store: store.clone(),
        transport,
        key: TriggerKey::new(b"a key of the benchmark"),
        user: "pulsehook".into(),
        queue_kind: QueueKind::Quorum,
        config: pulsehook::schedule::Config {
            on_time_seconds: 150,
            missed_max_age_seconds: 604_800,
            catch_up_cap: 100,
        },
        decisions_kept: 1_000,
        delivery_limit: 50,
        now: Arc::new(move || DateTime::from_timestamp(time.load(Ordering::Relaxed), 0).unwrap_or_default()),
    });

    create(&store, &scheduler, hooks, start).await?;
    println!("schedule: {hooks} hooks due at 10:05, {hooks} next year");
    let sweep = async |after: i64| {
        clock.store(start.timestamp() + after, Ordering::Relaxed);
        let started = Instant::now();
        let swept = scheduler.sweep().await?;
        anyhow::Ok((swept.published, started.elapsed()))
    };
    // The first look compares all hooks with the table.
    let (_, first) = sweep(30).await?;
    let (none, idle) = sweep(60).await?;
    let (published, due) = sweep(270).await?;
    anyhow::ensure!(none == 0 && published == hooks, "{none} and {published} triggers");
    println!(
        "  due              {:>8.2} s for {published} triggers, each confirmed by a quorum queue",
        due.as_secs_f64()
    );
    println!("  nothing due      {:>8.2} ms", idle.as_secs_f64() * 1e3);
    println!("  after a start    {:>8.2} ms", first.as_secs_f64() * 1e3);
    println!(
        "due_s={:.2} per_s={:.0} idle_ms={:.2}",
        due.as_secs_f64(),
        published as f64 / due.as_secs_f64(),
        idle.as_secs_f64() * 1e3
    );
    Ok(())
}

/// One queue takes the triggers of all hooks: queues are the broker's matter, not the scheduler's.
async fn connect(url: &str) -> anyhow::Result<Arc<dyn Transport>> {
    let patience = Duration::from_secs(60);
    let config = AmqpConfig { url, ca_file: None, name: "bench schedule", publish_timeout: patience };
    let transport: Arc<dyn Transport> = Arc::new(Amqp::connect(config)?);
    let mut status = transport.status();
    tokio::time::timeout(patience, status.wait_for(|status| *status == Status::Up)).await??;
    let exchange = "exchange/pulsehook/v1/trigger";
    transport.declare_exchange(exchange).await?;
    let binding = Binding { exchange: exchange.into(), pattern: "#".into() };
    let spec = QueueSpec {
        name: "queue/pulsehook/bench".into(),
        kind: QueueKind::Quorum,
        delivery_limit: None,
        dead_letter_exchange: None,
        max_length: None,
        bindings: vec![binding],
        unbind: Vec::new(),
    };
    transport.declare_queue(spec).await?;
    Ok(transport)
}

async fn create(
    store: &Store,
    scheduler: &Scheduler,
    hooks: usize,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let created = (0..2 * hooks).map(async |number| {
        let schedule = if number % 2 == 0 { "5 10 * * *" } else { "@yearly" };
        let document = json!({
            "metadata": { "name": "n", "description": "d", "owner": "bench@example.com" },
            "task": {}, "schedule": [schedule],
        });
        let name = format!("bench/h{number}").parse()?;
        let new = NewHook { name, document: document.to_string(), stale_bindings: Vec::new() };
        let Saved::Changed(row) = store.create_hook(new, now.timestamp_millis()).await? else {
            anyhow::bail!("the hook is there already");
        };
        Ok(scheduler.saved(&row).await?)
    });
    join_all(created).await.into_iter().collect()
}
