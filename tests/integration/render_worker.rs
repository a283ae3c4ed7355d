//! Templates that can't be bounded beforehand: they render in worker processes, and what runs away is stopped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pulsehook::hook::Hook;
use pulsehook::router::decide::{Decision, Event, FiredBy, Limits, Rules};
use pulsehook::template::Workers;
use serde_json::{Value, json};

use super::system::BINARY;

fn limits() -> Limits {
    Limits { render_ms: 500, worker_bytes: 256 << 20, workers: 1, ..Limits::default() }
}

fn workers() -> Arc<Workers> {
    Arc::new(Workers::new(BINARY.into(), &["render-worker"], &limits()))
}

fn decide(payload_template: &Value, workers: &Arc<Workers>) -> Decision {
    let hook = json!({
        "metadata": {"name": "n", "description": "d", "owner": "a@example.com"},
        "bindings": [{"exchange": "e", "routingKeyPattern": "#"}],
        "task": {
            "taskQueueId": "proj-demo/ci",
            "metadata": {"name": "n", "description": "d", "owner": "a@example.com", "source": "https://example.com"},
            "payload": payload_template,
        },
    });
    let hook = Hook::from_json(&"proj-demo/x".parse().unwrap(), &hook).unwrap();
    let rules = Rules::compile(&hook, &limits()).unwrap().with_workers(workers);
    let message = pulse::Message {
        exchange: "e".into(),
        routing_key: "k".into(),
        body: json!({"list": [1, 2, 3], "text": "x".repeat(5000)}).to_string().into(),
        ..pulse::Message::default()
    };
    rules.decide(&Event {
        message: &message,
        fired_by: FiredBy::PulseMessage,
        client_id: Some("ann"),
        scheduled_for: None,
        task_id: "DryRunDrRySRunDryRun0Q",
        now: "2026-11-22T10:05:00Z".parse().unwrap(),
    })
}

fn payload(decision: &Decision) -> Value {
    match decision {
        Decision::Fire { task } => serde_json::from_slice::<Value>(task).unwrap()["payload"].clone(),
        other => panic!("{}", other.reason()),
    }
}

#[test]
fn a_template_renders_in_a_worker_as_it_would_at_home() {
    let workers = workers();
    let template = json!({
        "a": "{% set x = payload.list | length %}{{ x }} {{ now }} {{ clientId }}", "b": "{{ [0] * 3 }}",
        "c": "{{ slugid('a') }}", "d": "{{ 'a' | as_slugid }}",
    });
    let rendered = payload(&decide(&template, &workers));
    assert_eq!(rendered["a"], "3 2026-11-22T10:05:00.000Z ann");
    assert_eq!(rendered["b"], json!([0, 0, 0]));
    assert_eq!(rendered["c"], rendered["d"]);
    let template =
        json!({"a": {"$eval": "range(0, 3)"}, "b": {"$fromNow": "1 day"}, "c": "${as_slugid('a')}"});
    let in_json_e = payload(&decide(&template, &workers));
    assert_eq!(in_json_e, json!({"a": [0, 1, 2], "b": "2026-11-23T10:05:00.000Z", "c": rendered["c"]}));
    let failed = decide(&json!({"a": "{% set x = payload.nope.x %}{{ x }}"}), &workers);
    assert!(failed.reason().contains("task.payload.a: 'payload.nope' is undefined"), "{}", failed.reason());
}

#[test]
fn what_runs_away_is_stopped_and_the_next_render_works() {
    let workers = workers();
    let mut lets = json!({"$eval": "a"});
    for _ in 0..30 {
        lets = json!({"$let": {"a": {"$eval": "a + a"}}, "in": lets});
    }
    let doubled: String = (1..30)
        .map(|n| format!("{{% set a{n} = [a{0}, a{0}] %}}{{% set b{n} = [b{0}, b{0}] %}}", n - 1))
        .collect();
    for template in [
        json!({"$eval": "range(0, 1000000000)"}),
        json!({"$map": {"$eval": "range(0, 10000000)"}, "each(x)": {"$map": {"$eval": "range(0, 10000)"}, "each(y)": "${x}"}}),
        json!({"$reduce": {"$eval": "range(0, 100)"}, "each(acc, x)": {"$eval": "acc + acc"}, "initial": "x"}),
        json!({"$let": {"a": "x"}, "in": lets}),
        json!({"$eval": "join(split(payload.text, 'y') + split(payload.text, 'x'), payload.text)"}),
        json!(format!("{{% set a0 = [1] %}}{{% set b0 = [1] %}}{doubled}{{{{ a29 == b29 }}}}")),
        json!("{{ [[[1] * 1000] * 1000] * 1000 == [[[1] * 1000] * 1000] * 1000 }}"),
        json!("{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}"),
    ] {
        let started = Instant::now();
        let decision = decide(&json!({ "t": template }), &workers);
        assert!(decision.is_error(), "{template}: {}", decision.reason());
        assert!(started.elapsed() < Duration::from_secs(5), "{template} took {:?}", started.elapsed());
        assert_eq!(payload(&decide(&json!({"a": "{{ [0] * 2 }}"}), &workers)), json!({"a": [0, 0]}));
    }
}

#[test]
fn another_hook_goes_on_while_one_runs_away() {
    let workers = workers();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runaway = "{{ [[[1] * 1000] * 1000] * 1000 == [[[1] * 1000] * 1000] * 1000 }}";
            assert!(decide(&json!({ "t": runaway }), &workers).exceeded_limits());
        });
        for _ in 0..50 {
            let started = Instant::now();
            assert_eq!(
                payload(&decide(&json!({"a": "{{ payload.list }}"}), &workers)),
                json!({"a": [1, 2, 3]})
            );
            assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());
        }
    });
}
