//! How long `pulsehook apply` takes over a folder of hooks: the first time, again when nothing differs, and with one change.
//!
//!     cargo bench --bench apply
//!
//! The real program, against `pulsehook dev` as a process of its own. `PULSEHOOK_BENCH_HOOKS` (1000) sizes it. Ends with an
//! error when a thousand hooks that do not differ take two seconds.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::ensure;
use harness::Process;
use serde_json::json;

const BINARY: &str = env!("CARGO_BIN_EXE_pulsehook");

/// What is promised of a thousand hooks that stand already.
const PROMISED: Duration = Duration::from_secs(2);

fn main() -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let hooks: usize =
        std::env::var("PULSEHOOK_BENCH_HOOKS").ok().and_then(|value| value.parse().ok()).unwrap_or(1_000);
    let (data, files) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut dev = Process::new("dev", BINARY).arg("dev").arg("--listen").arg("127.0.0.1:0");
    dev = dev.arg("--data").arg(data.path().display().to_string());
    let url = format!("http://{}", dev.start().await?);
    for number in 0..hooks {
        write(files.path(), number, "as it was")?;
    }
    let (first, text) = apply(&url, files.path())?;
    ensure!(text.ends_with(&format!("{hooks} created, 0 updated, 0 deleted, 0 unchanged\n")), "{text}");
    let (second, text) = apply(&url, files.path())?;
    ensure!(text == format!("0 created, 0 updated, 0 deleted, {hooks} unchanged\n"), "{text}");
    write(files.path(), 0, "changed")?;
    let (third, text) = apply(&url, files.path())?;
    ensure!(text.contains("1 updated"), "{text}");
    println!(
        "apply: {hooks} hooks; first {first:.2?}, again, nothing differs {second:.2?}, one changed {third:.2?}"
    );
    let promised = PROMISED.max(PROMISED * (hooks / 1_000).try_into()?);
    ensure!(second < promised, "nothing differs, and that took {second:.2?}");
    dev.stop().await
}

/// The time it took, and what it printed.
fn apply(url: &str, folder: &Path) -> anyhow::Result<(Duration, String)> {
    let started = Instant::now();
    let Output { status, stdout, stderr } =
        Command::new(BINARY).arg("apply").arg(folder).env("TASKCLUSTER_ROOT_URL", url).output()?;
    let took = started.elapsed();
    ensure!(status.success(), "{status}: {}", String::from_utf8_lossy(&stderr));
    Ok((took, String::from_utf8(stdout)?))
}

/// A hook as people have them: two bindings, a schema, a filter, a template with some expressions.
fn write(folder: &Path, number: usize, description: &str) -> anyhow::Result<()> {
    let file = folder.join(format!("group-{}", number % 10)).join(format!("{number}.json"));
    std::fs::create_dir_all(file.parent().unwrap_or(folder))?;
    let exchange = "exchange/pulsehook/v1/webhook";
    let hook = json!({
        "hookGroupId": format!("group-{}", number % 10),
        "hookId": format!("hook-{number:04}"),
        "metadata": { "name": "bench", "description": description, "owner": "owner@example.com", "emailOnError": false },
        "bindings": [
            { "exchange": exchange, "routingKeyPattern": format!("github.push._.owner.repository-{number}") },
            { "exchange": exchange, "routingKeyPattern": format!("github.release.#.repository-{number}") },
        ],
        "filter": "payload.ref == 'refs/heads/main' and payload.commits | length > 0",
        "triggerSchema": { "type": "object", "properties": { "ref": { "type": "string" } } },
        "task": {
            "taskQueueId": "proj-bench/linux",
            "deadline": "{{2 hours | from-now}}",
            "payload": { "env": { "REV": "{{ payload.after }}", "COMMITS": "{{ payload.commits | length }}" } },
            "metadata": {
                "name": "Build {{ payload.after }}", "description": "d", "owner": "owner@example.com",
                "source": "https://example.com/",
            },
        },
    });
    std::fs::write(file, format!("{hook:#}"))?;
    Ok(())
}
