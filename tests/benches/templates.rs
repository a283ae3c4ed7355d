//! How long it takes to decide about a message: each engine, with payloads of 1 and 10 KB.
//!
//!     cargo bench --bench templates
//!
//! One line per case: decisions a second on one core and microseconds each. The payload is what a forge sends for a
//! push; the template is a usual task of some thirty strings, ten of them with expressions. `filtered` is a message that
//! the filter turns away, `worker` a template that renders in a worker process.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pulsehook::hook::Hook;
use pulsehook::router::decide::{Decision, Event, FiredBy, Limits, Rules};
use pulsehook::template::Workers;
use serde_json::{Value, json};

/// How long each case is measured.
const SPAN: Duration = Duration::from_secs(2);

/// Looks as the hash of a commit does: mostly without long runs of digits.
fn sha(number: usize) -> String {
    let mixed = (number as u128 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    format!("{mixed:032x}{:08x}", (mixed >> 64) as u32)
}

fn payload(bytes: usize) -> Value {
    let commit = |n: usize| {
        json!({
            "id": sha(n), "message": "Make it faster\n\nand smaller", "timestamp": "2026-11-22T10:05:00Z",
            "url": format!("https://example.com/mozilla/gecko/commit/{}", sha(n)), "distinct": true,
            "author": {"name": "Ann Author", "email": "ann@example.com", "username": "ann"},
            "added": [], "removed": [], "modified": ["src/main.rs", "src/lib.rs"],
        })
    };
    let mut payload = json!({
        "ref": "refs/heads/main", "before": sha(1), "after": sha(2),
        "repository": {"id": 5_000_000_000u64, "name": "gecko", "full_name": "mozilla/gecko", "private": false,
                       "clone_url": "https://example.com/mozilla/gecko.git", "default_branch": "main"},
        "pusher": {"name": "ann", "email": "ann@example.com"}, "forced": false,
        "head_commit": commit(2), "commits": [],
    });
    let mut n = 0;
    while payload.to_string().len() < bytes {
        n += 1;
        if let Some(commits) = payload["commits"].as_array_mut() {
            commits.push(commit(n));
        }
    }
    payload
}

fn task(engine: &str) -> Value {
    let (open, close) = if engine == "json-e" { ("${", "}") } else { ("{{ ", " }}") };
    let value = |name: &str| Value::from(format!("{open}{name}{close}"));
    let deadline =
        if engine == "json-e" { json!({"$fromNow": "2 hours"}) } else { json!("{{ from_now('2 hours') }}") };
    json!({
        "taskQueueId": "proj-demo/ci", "deadline": deadline, "priority": "low", "retries": 3,
        "scopes": ["queue:route:index.proj-demo.ci", "secrets:get:proj-demo/ci"],
        "routes": ["index.proj-demo.ci.latest"],
        "metadata": {
            "name": format!("build {open}payload.repository.full_name{close}"),
            "description": format!("push by {open}payload.pusher.name{close}: {open}payload.head_commit.message{close}"),
            "owner": value("payload.pusher.email"), "source": value("payload.head_commit.url"),
        },
        "payload": {
            "image": "debian:13", "maxRunTime": 3600, "features": {"taskclusterProxy": true},
            "env": {
                "REPOSITORY": value("payload.repository.clone_url"), "REVISION": value("payload.after"),
                "BRANCH": value("payload.ref"), "TASK_ID": value("taskId"), "RUST_BACKTRACE": "1", "CI": "1",
            },
            "command": ["/bin/bash", "-c", "git clone \"$REPOSITORY\" src && cd src && git checkout \"$REVISION\" && ./ci"],
            "artifacts": {"public/logs": {"type": "directory", "path": "logs", "expires": deadline}},
        },
        "tags": {"kind": "build", "createdForUser": value("payload.pusher.email")},
        "extra": {"repository": value("payload.repository.id")},
    })
}

fn rules(
    task: &Value,
    filter: Option<&str>,
    workers: &Arc<Workers>,
) -> Result<Rules, Box<dyn std::error::Error>> {
    let mut document = json!({
        "metadata": {"name": "bench", "description": "", "owner": "a@example.com"},
        "bindings": [{"exchange": "exchange/pulsehook/v1/webhook", "routingKeyPattern": "github.push.#"}],
        "task": task,
    });
    if let Some(filter) = filter {
        document["filter"] = filter.into();
    }
    let describe = |problems: &[pulsehook::hook::Problem]| pulsehook::hook::problem::join(problems);
    let hook =
        Hook::from_json(&"proj-demo/bench".parse()?, &document).map_err(|problems| describe(&problems))?;
    let rules = Rules::compile(&hook, &Limits::default()).map_err(|problems| describe(&problems))?;
    Ok(rules.with_workers(workers))
}

fn measure(name: &str, rules: &Rules, payload: &Value, expected: &str) {
    let message = pulse::Message {
        exchange: "exchange/pulsehook/v1/webhook".into(),
        routing_key: "github.push._.mozilla.gecko".into(),
        body: payload.to_string().into(),
        ..pulse::Message::default()
    };
    let event = Event {
        message: &message,
        fired_by: FiredBy::PulseMessage,
        client_id: None,
        scheduled_for: None,
        task_id: "DryRunDrRySRunDryRun0Q",
        now: chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000),
    };
    let decide = || -> Decision { rules.decide(black_box(&event)) };
    let first = decide();
    assert_eq!(first.outcome(), expected, "{name}: {}", first.reason());
    let started = Instant::now();
    let mut count = 0u32;
    while started.elapsed() < SPAN {
        for _ in 0..16 {
            black_box(decide());
        }
        count += 16;
    }
    let each = started.elapsed() / count;
    let rate = f64::from(count) / started.elapsed().as_secs_f64();
    println!(
        "{name:<24} {:>6} bytes  {rate:>9.0}/s  {:>8.1} µs",
        message.body.len(),
        each.as_secs_f64() * 1e6
    );
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let limits = Limits::default();
    let workers = Arc::new(Workers::new(env!("CARGO_BIN_EXE_pulsehook").into(), &["render-worker"], &limits));
    let mut in_worker = task("minijinja");
    in_worker["payload"]["env"]["COUNT"] = "{% set n = payload.commits | length %}{{ n }}".into();
    let filter = "payload.ref == \"refs/heads/main\" and not payload.forced";
    for bytes in [1 << 10, 10 << 10] {
        let payload = payload(bytes);
        measure("minijinja", &rules(&task("minijinja"), None, &workers)?, &payload, "fire");
        measure(
            "minijinja with filter",
            &rules(&task("minijinja"), Some(filter), &workers)?,
            &payload,
            "fire",
        );
        let no = "payload.ref == \"refs/heads/try\"";
        measure("filtered", &rules(&task("minijinja"), Some(no), &workers)?, &payload, "filtered");
        measure("json-e", &rules(&task("json-e"), None, &workers)?, &payload, "fire");
        measure("worker", &rules(&in_worker, None, &workers)?, &payload, "fire");
    }
    Ok(())
}
