//! What thousands of hooks cost: the real router as a process on a real RabbitMQ, each hook with its queue.
//!
//!     cargo bench --bench hooks
//!
//! `PULSEHOOK_BENCH_HOOKS` (1000,10000) gives the numbers of hooks, `PULSEHOOK_BENCH_QUEUES` (quorum,classic) the kinds of
//! their queues. A row tells, for one number and kind:
//!
//! - first start: from the start of the process until all queues were made, bound and consumed
//! - start: the same when the queues stand already
//! - new hook: from the request that makes one more hook to its answer, when its queue stands
//! - broker back: a restart of the broker, until a message for each hook has become a task
//! - router, broker: resident memory of the one, memory in use of the other, with all hooks idle

#[path = "pipeline/stub.rs"]
#[allow(dead_code, reason = "latencies are another benchmark's matter")]
mod stub;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use harness::{Http, Process, Rabbit, eventually, free_port};
use pulse::{Message, Properties, Transport};
use pulsehook::store::{Config, NewHook, Store};
use serde_json::{Value, json};
use stub::Stub;

/// Longer than any phase takes.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// What the router logs when it has been through all hooks.
const STANDS: &str = "the queues of all hooks have been declared";

/// The exchange of the messages for all hooks.
const EXCHANGE: &str = "exchange/pulsehook/v1/webhook";

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
}

fn option(name: &str, default: &str) -> Vec<String> {
    let value = std::env::var(name).unwrap_or_else(|_| default.to_owned());
    value.split(',').map(|part| part.trim().to_owned()).collect()
}

async fn run() -> anyhow::Result<()> {
    println!(
        "{:>7} {:>8} {:>12} {:>8} {:>9} {:>12} {:>9} {:>9}",
        "hooks", "queues", "first start", "start", "new hook", "broker back", "router", "broker"
    );
    for number in option("PULSEHOOK_BENCH_HOOKS", "1000,10000") {
        for kind in option("PULSEHOOK_BENCH_QUEUES", "quorum,classic") {
            row(number.parse()?, &kind).await?;
        }
    }
    Ok(())
}

async fn row(hooks: usize, kind: &str) -> anyhow::Result<()> {
    let mut rabbit = Rabbit::start().await?;
    let stub = Stub::start().await?;
    let folder = tempfile::tempdir()?;
    fill(&folder.path().join("pulsehook.db"), hooks).await?;
    let port = free_port()?;
    let mut router = router(&rabbit.url("/"), kind, stub.port(), port, folder.path())?;
    let url = format!("http://127.0.0.1:{port}/api/hooks/v1/hooks/bench");

    let first_start = start(&mut router).await?;
    router.stop().await?;
    let start = start(&mut router).await?;
    let router_mb = router.memory()? as f64 / 1e6;
    let broker_mb = rabbit.ctl(&["eval", "erlang:memory(total)."]).await?.trim().parse::<f64>()? / 1e6;

    let http = Http::default();
    let started = Instant::now();
    let answer = http.json("PUT", &format!("{url}/one-more"), &hook(hooks)).await?;
    anyhow::ensure!(answer.status == 200, "{}", String::from_utf8_lossy(&answer.body));
    let new_hook = started.elapsed();
    let health = http.get(&format!("{url}/one-more/bindings")).await?.json();
    let bound = |binding: &Value| binding["state"] == "bound";
    anyhow::ensure!(health["bindings"].as_array().is_some_and(|all| all.iter().all(bound)), "{health}");

    let started = Instant::now();
    rabbit.stop().await?;
    rabbit.restart().await?;
    publish(&rabbit.url("/"), hooks).await?;
    stub.wait_for(hooks, PATIENCE).await;
    let back = started.elapsed();
    router.stop().await?;
    println!(
        "{hooks:>7} {kind:>8} {:>10.1} s {:>6.1} s {:>6.0} ms {:>10.1} s {router_mb:>6.0} MB {broker_mb:>6.0} MB",
        first_start.as_secs_f64(),
        start.as_secs_f64(),
        new_hook.as_secs_f64() * 1e3,
        back.as_secs_f64(),
    );
    Ok(())
}

/// Starts the router; answers how long it took until all queues stood.
async fn start(router: &mut Process) -> anyhow::Result<Duration> {
    let started = Instant::now();
    router.spawn()?;
    eventually(PATIENCE, async || router.lines().iter().any(|line| line.contains(STANDS)).then_some(()))
        .await;
    Ok(started.elapsed())
}

fn hook(number: usize) -> Value {
    json!({
        "metadata": { "name": "bench", "description": "d", "owner": "bench@example.com", "emailOnError": false },
        "bindings": [{ "exchange": EXCHANGE, "routingKeyPattern": format!("bench.{number}.#") }],
        "task": {
            "taskQueueId": "proj-bench/ci",
            "payload": { "env": { "REV": "{{ payload.after }}" }, "maxRunTime": 3600 },
            "metadata": {
                "name": "build {{ payload.after }}", "description": "d",
                "owner": "bench@example.com", "source": "https://example.com/bench"
            }
        }
    })
}

/// Puts the hooks into the store, as the API would.
async fn fill(path: &std::path::Path, hooks: usize) -> anyhow::Result<()> {
    let store = Store::open(&Config { path: path.to_owned() }, || ())?;
    let created = (0..hooks).map(async |number| {
        let new = NewHook {
            name: format!("bench/hook-{number}").parse()?,
            document: hook(number).to_string(),
            stale_bindings: Vec::new(),
        };
        store.create_hook(new, 1_800_000_000_000).await?;
        anyhow::Ok(())
    });
    for result in join_all(created).await {
        result?;
    }
    store.close();
    Ok(())
}

/// One message for each hook, confirmed.
async fn publish(url: &str, hooks: usize) -> anyhow::Result<()> {
    let config: pulse::Config = toml::from_str(&format!("url = {url:?}"))?;
    let transport: Arc<dyn Transport> = config.open(std::path::Path::new("."), "bench")?;
    stream::iter(0..hooks)
        .for_each_concurrent(500, async |number| {
            let message = Message {
                exchange: EXCHANGE.into(),
                routing_key: format!("bench.{number}.push"),
                properties: Properties { message_id: Some(format!("bench-{number}")), ..Default::default() },
                body: json!({ "after": format!("{number:040x}") }).to_string().into(),
            };
            while transport.publish(&message, true).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
    transport.close().await;
    Ok(())
}

fn router(
    amqp: &str,
    kind: &str,
    queue_port: u16,
    port: u16,
    folder: &std::path::Path,
) -> anyhow::Result<Process> {
    // Who may what is not measured here.
    let config = folder.join("pulsehook.toml");
    std::fs::write(&config, "[auth]\nanonymous = [\"*\"]\n")?;
    Ok(Process::new("router", env!("CARGO_BIN_EXE_pulsehook"))
        .arg("router")
        .arg("--config")
        .arg(config.display().to_string())
        .env("PULSEHOOK_LOG", "warn,pulsehook::router=info")
        .env("PULSEHOOK_PULSE__URL", amqp)
        .env("PULSEHOOK_PULSE__QUEUE_TYPE", kind)
        .env("PULSEHOOK_STORE__PATH", folder.join("pulsehook.db").display().to_string())
        .env("PULSEHOOK_QUEUE__ROOT_URL", format!("http://127.0.0.1:{queue_port}"))
        .env("PULSEHOOK_QUEUE__ACCESS_TOKEN", "the stub believes everything")
        .env("PULSEHOOK_API__LISTEN", format!("127.0.0.1:{port}"))
        .env("PULSEHOOK_KEYS__TASK_ID", "0123456789abcdef0123456789abcdef"))
}
