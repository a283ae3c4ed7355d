//! `/metrics`, read with Prometheus' own parser; dashboards and alert rules, held to the names that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::eventually;
use promql_parser::parser::{self, Expr};
use pulsehook::telemetry::names::{self, Kind, METRICS};
use serde_json::{Value, json};

use super::python::{python, script};
use super::system::{SOON, System, hook, shared_rabbit};

/// What was read.
pub struct Reading {
    families: BTreeMap<String, Value>,
}

impl Reading {
    /// A text, read by Prometheus' parser, which fails on what is not valid.
    fn of(text: &str) -> Self {
        let mut parser = Command::new(python())
            .arg(script("metrics.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = parser.wait_with_output().unwrap();
        assert!(output.status.success(), "not a text for Prometheus:\n{text}");
        Self { families: serde_json::from_slice(&output.stdout).unwrap() }
    }

    /// The value of a sample that has these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let samples = self.families.values().flat_map(|family| family["samples"].as_array().unwrap());
        let found = samples.filter(|sample| sample[0] == name);
        let mut found = found.filter(|sample| labels.iter().all(|(label, value)| sample[1][label] == *value));
        found.next()?[2].as_f64()
    }
}

/// Reads a role's metrics.
pub async fn read_metrics(system: &System, url: &str) -> Reading {
    let answer = system.http.get(url).await.unwrap();
    assert_eq!(answer.status, 200);
    Reading::of(std::str::from_utf8(&answer.body).unwrap())
}

/// The name that Prometheus' parser gives to a family: counters without their ending.
fn family(name: &str) -> &str {
    name.strip_suffix("_total").unwrap_or(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_what_happened_and_every_one_of_the_table_is_there() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("metrics").await.unwrap();
    let config = "[auth]\nanonymous = [\"*\"]\n[telemetry]\nmetrics_hooks = 1\n";
    let system = System::start_configured(&rabbit.url("metrics"), config, &[]).await;
    let webhooks = |pattern: &str| hook(&[("exchange/pulsehook/v1/webhook", pattern)]);
    system.create_hook("ci/push", &webhooks("github.push.#")).await;
    let mut filtered = webhooks("github.push.#");
    filtered["filter"] = json!("payload.n > 2");
    system.create_hook("ci/filtered", &filtered).await;
    let mut paused = webhooks("github.push.#");
    paused["paused"] = json!(true);
    system.create_hook("ci/paused", &paused).await;
    // Another that waits for less: beyond telemetry.metrics_hooks hooks are in the sums alone.
    paused["bindings"][0]["routingKeyPattern"] = json!("github.issues.#");
    system.create_hook("ci/less", &paused).await;
    system.send_until_taken("issues", "i-1", b"{\"n\": 0}").await;
    for n in 0..5 {
        let body = json!({ "n": n }).to_string();
        system.send_until_taken("push", &format!("d-{n}"), body.as_bytes()).await;
    }
    // A repeat, and somebody without a valid signature.
    system.send_until_taken("push", "d-4", b"{\"n\":4}").await;
    let url = format!("{}/webhooks/github", system.bridge_url);
    assert_eq!(system.http.json("POST", &url, &json!({})).await.unwrap().status, 401);
    system.wait_for_tasks(7, SOON).await;

    let router = eventually(SOON, || async {
        let reading = read_metrics(&system, &system.metrics_url()).await;
        let waiting = reading.value("pulsehook_router_hook_queued_messages", &[("hook", "ci/paused")]);
        let settled = reading.value("pulsehook_router_fires_total", &[("outcome", "success")]);
        let all = reading.value("pulsehook_router_queued_messages", &[]);
        (waiting == Some(5.0) && settled == Some(7.0) && all == Some(6.0)).then_some(reading)
    })
    .await;
    for (name, labels, value) in [
        ("pulsehook_router_messages_total", &[("outcome", "fire")][..], 7.0),
        ("pulsehook_router_messages_total", &[("outcome", "filtered")], 3.0),
        ("pulsehook_router_attempts_total", &[("result", "created")], 7.0),
        ("pulsehook_router_broker_wait_seconds_count", &[], 10.0),
        ("pulsehook_router_decide_seconds_count", &[], 10.0),
        ("pulsehook_router_record_seconds_count", &[], 10.0),
        ("pulsehook_router_submit_seconds_count", &[], 7.0),
        ("pulsehook_router_fire_seconds_bucket", &[("le", "+Inf")], 7.0),
        ("pulsehook_router_queued_messages", &[], 6.0),
        ("pulsehook_router_hooks", &[], 4.0),
        ("pulsehook_router_pending_fires", &[], 0.0),
        ("pulsehook_router_queue_service_up", &[], 1.0),
        ("pulsehook_pulse_up", &[], 1.0),
        ("pulsehook_pulse_connections_total", &[("connection", "consuming")], 1.0),
        ("pulsehook_build_info", &[("role", "router")], 1.0),
    ] {
        assert_eq!(router.value(name, labels), Some(value), "{name} {labels:?}");
    }
    assert_eq!(router.value("pulsehook_router_hook_queued_messages", &[("hook", "ci/less")]), None);
    assert!(router.value("pulsehook_store_bytes", &[]) > Some(0.0));
    let bridge = read_metrics(&system, &format!("{}/metrics", system.bridge_url)).await;
    for (name, labels, value) in [
        ("pulsehook_bridge_published_total", &[("source", "github")][..], 6.0),
        ("pulsehook_bridge_repeats_total", &[("source", "github")], 1.0),
        ("pulsehook_bridge_publish_seconds_count", &[], 6.0),
        ("pulsehook_bridge_spool_events", &[], 0.0),
        ("pulsehook_pulse_up", &[], 1.0),
    ] {
        assert_eq!(bridge.value(name, labels), Some(value), "{name} {labels:?}");
    }
    assert!(bridge.value("pulsehook_bridge_refused_total", &[("source", "github")]) >= Some(1.0));

    held_to_the_table(&router, &bridge);

    // Who comes through a proxy is a stranger, whatever the address of the proxy.
    let proxied = [("x-forwarded-for", "127.0.0.1")];
    let answer = system.http.call("GET", &system.metrics_url(), &proxied, Vec::new()).await.unwrap();
    assert_eq!(answer.status, 403);
}

/// Nothing is told that the table does not have, in other kinds or without help; and what it has is there from the start,
/// short of what counts by label once it happens.
fn held_to_the_table(router: &Reading, bridge: &Reading) {
    let told: BTreeMap<&String, &Value> = router.families.iter().chain(&bridge.families).collect();
    for (name, told) in &told {
        let metric = METRICS.iter().find(|metric| family(metric.name) == *name);
        let metric = metric.unwrap_or_else(|| panic!("{name} is not in the table"));
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Seconds | Kind::Pieces => "histogram",
        };
        assert_eq!((&told["type"], &told["help"]), (&json!(kind), &json!(metric.help)), "{name}");
    }
    const ONCE_IT_HAPPENS: [&str; 3] =
        ["pulsehook_notices_total", "pulsehook_mail_", "pulsehook_router_task_states_total"];
    for metric in METRICS {
        let later = ONCE_IT_HAPPENS.iter().any(|name| metric.name.starts_with(name));
        let here = told.keys().any(|name| **name == family(metric.name));
        assert!(here || later, "{} is in the table and not told", metric.name);
    }
}

#[test]
fn the_dashboard_and_the_alert_rules_name_only_metrics_that_there_are() {
    let mut used = BTreeSet::new();
    let dashboard: Value = serde_json::from_str(&shipped("config/grafana/pulsehook.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels with one id");
        assert!(!panel["title"].as_str().unwrap().is_empty());
        for target in panel["targets"].as_array().into_iter().flatten() {
            names_in(target["expr"].as_str().unwrap(), &mut used);
        }
    }
    assert!(panels.len() > 10, "{} panels", panels.len());

    let rules: Value = serde_saphyr::from_str(&shipped("config/prometheus/pulsehook.yml")).unwrap();
    let mut alerts = BTreeSet::new();
    for rule in
        rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap())
    {
        names_in(rule["expr"].as_str().unwrap(), &mut used);
        assert!(alerts.insert(rule["alert"].as_str().unwrap().to_owned()), "two rules of one name");
        for text in ["summary", "description"] {
            assert!(rule["annotations"][text].as_str().is_some_and(|text| !text.is_empty()), "{rule}");
        }
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{rule}");
    }
    assert!(used.len() > 25, "{used:?}");
}

fn shipped(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The metrics of an expression, by Prometheus' grammar. Each must be in the table.
fn names_in(text: &str, used: &mut BTreeSet<String>) {
    // Grafana's own variable stands where PromQL wants a duration.
    let text = text.replace("$__rate_interval", "5m");
    let expression = parser::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    walk(&expression, &mut |name| {
        assert!(names::find(name).is_some() || name == "up", "{name} is not in the table: {text}");
        used.insert(name.to_owned());
    });
}

fn walk(expression: &Expr, heard: &mut impl FnMut(&str)) {
    match expression {
        Expr::VectorSelector(selector) => heard(selector.name.as_deref().unwrap_or_default()),
        Expr::MatrixSelector(matrix) => heard(matrix.vs.name.as_deref().unwrap_or_default()),
        Expr::Aggregate(aggregate) => {
            walk(&aggregate.expr, heard);
            aggregate.param.iter().for_each(|param| walk(param, heard));
        }
        Expr::Unary(unary) => walk(&unary.expr, heard),
        Expr::Binary(binary) => {
            walk(&binary.lhs, heard);
            walk(&binary.rhs, heard);
        }
        Expr::Paren(paren) => walk(&paren.expr, heard),
        Expr::Subquery(subquery) => walk(&subquery.expr, heard),
        Expr::Call(call) => call.args.args.iter().for_each(|argument| walk(argument, heard)),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => {}
        other => panic!("an expression of an unknown kind: {other:?}"),
    }
}
