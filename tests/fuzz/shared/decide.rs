//! Compiles a hook around what is fuzzed and puts one message to it, as the router does.

use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::DateTime;
use pulse::{Message, Properties};
use pulsehook::hook::Hook;
use pulsehook::router::decide::{Decision, Event, FiredBy, Limits, Rules};
use serde_json::{Value, json};

/// The render's own limit of time, and as much again for a machine that does other things too.
const AT_MOST: Duration = Duration::from_secs(5);

/// `part`: what the hook has besides a plain one; tasks are merged.
pub fn decide(part: Value, payload: &Value) {
    let mut document = json!({
        "metadata": { "name": "fuzz", "description": "", "owner": "fuzz@example.com", "emailOnError": false },
        "bindings": [{ "exchange": "exchange/fuzz/v1/events", "routingKeyPattern": "#" }],
        "task": {
            "taskQueueId": "proj-fuzz/ci",
            "metadata": { "name": "n", "description": "d", "owner": "fuzz@example.com", "source": "https://example.com" }
        }
    });
    if let (Some(document), Value::Object(part)) = (document.as_object_mut(), part) {
        for (key, value) in part {
            match (document.get_mut(&key), value) {
                (Some(Value::Object(before)), Value::Object(more)) => before.extend(more),
                (_, value) => drop(document.insert(key, value)),
            }
        }
    }
    let name = "fuzz/hook".parse().expect("a valid name");
    let Ok(hook) = Hook::from_json(&name, &document) else { return };
    let Ok(rules) = Rules::compile(&hook, &Limits::default()) else { return };
    let message = Message {
        exchange: "exchange/fuzz/v1/events".into(),
        routing_key: "a.b".into(),
        properties: Properties::default(),
        body: Bytes::from(payload.to_string()),
    };
    let started = Instant::now();
    let decision = rules.decide(&Event {
        message: &message,
        fired_by: FiredBy::PulseMessage,
        client_id: None,
        scheduled_for: None,
        task_id: "bJjtJ_-IQg6szLKlrxfq7g",
        now: DateTime::from_timestamp(1_800_000_000, 0).expect("in range"),
    });
    assert!(started.elapsed() < AT_MOST, "took {:?}", started.elapsed());
    if let Decision::Fire { task } = &decision {
        let task: Value = serde_json::from_slice(task).expect("a task is JSON");
        assert!(task.is_object());
    }
    // What goes onto the record must be writable, too.
    assert!(!decision.reason().is_empty());
    let _ = decision.detail().to_string();
}
