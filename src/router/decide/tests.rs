//! Decisions: the reasons by hand here, whole cases as files in `tests/cases/` (see [`cases`]).

mod cases;
mod hostile;
mod properties;

use serde_json::{Value, json};

use super::*;

pub fn hook(change: impl FnOnce(&mut Value)) -> Hook {
    let mut document = json!({
        "metadata": {"name": "n", "description": "d", "owner": "a@example.com"},
        "bindings": [{"exchange": "exchange/x/v1/y", "routingKeyPattern": "a.#"}],
        "task": {
            "taskQueueId": "proj-demo/ci",
            "metadata": {"name": "n", "description": "d", "owner": "a@example.com", "source": "https://example.com"},
            "payload": {},
        },
    });
    change(&mut document);
    Hook::from_json(&"proj-demo/on-push".parse().unwrap(), &document).unwrap()
}

pub fn rules(change: impl FnOnce(&mut Value)) -> Rules {
    Rules::compile(&hook(change), &Limits::default()).unwrap()
}

pub fn message(payload: &str) -> pulse::Message {
    pulse::Message {
        exchange: "exchange/x/v1/y".into(),
        routing_key: "a.b".into(),
        body: payload.to_owned().into(),
        ..pulse::Message::default()
    }
}

pub fn event(message: &pulse::Message) -> Event<'_> {
    Event {
        message,
        fired_by: FiredBy::PulseMessage,
        client_id: None,
        scheduled_for: None,
        task_id: "DryRunDrRySRunDryRun0Q",
        now: "2026-11-22T10:05:00Z".parse().unwrap(),
    }
}

pub fn fired(rules: &Rules, payload: &str) -> Value {
    match rules.decide(&event(&message(payload))) {
        Decision::Fire { task } => serde_json::from_slice(&task).unwrap(),
        other => panic!("{}: {}", other.outcome(), other.reason()),
    }
}

#[test]
fn defaults_are_put_in_where_they_are_absent() {
    let task = fired(&rules(|_| {}), "{}");
    assert_eq!(task["created"], "2026-11-22T10:05:00.000Z");
    assert_eq!(task["deadline"], "2026-11-23T10:05:00.000Z");
    assert_eq!(task["expires"], "2026-12-22T10:05:00.000Z");
    assert_eq!(task["taskGroupId"], "DryRunDrRySRunDryRun0Q");
    let task = fired(&rules(|hook| hook["task"]["deadline"] = json!("{{ 2 hours | from-now }}")), "{}");
    assert_eq!(task["deadline"], "2026-11-22T12:05:00.000Z");
}

#[test]
fn each_way_not_to_fire_has_its_reason() {
    let bound = rules(|hook| {
        hook["filter"] = json!("payload.n > 1");
        hook["triggerSchema"] =
            json!({"type": "object", "properties": {"s": {"type": "string", "format": "date-time"}}});
        hook["task"] = json!({"{% if payload.n < 5 %}": hook["task"]});
    });
    let reason = |payload: &str| {
        let decision = bound.decide(&event(&message(payload)));
        format!("{}: {}", decision.outcome(), decision.reason())
    };
    for (payload, expected) in [
        ("{", "not-json: The message cannot be read as JSON"),
        ("{\"n\": 1}", "filtered: The filter says no: payload.n > 1; payload.n is 1."),
        ("{}", "filter-error: The filter failed: 'payload.n' is undefined"),
        (
            "{\"n\": 2, \"s\": 1}",
            "schema-mismatch: The payload does not satisfy triggerSchema: payload.s: must be of type string, is integer.",
        ),
        (
            "{\"n\": 2, \"s\": \"x\"}",
            "schema-mismatch: The payload does not satisfy triggerSchema: payload.s: must be a valid date-time.",
        ),
        ("{\"n\": 6}", "declined: The template declines"),
        ("{\"n\": 3}", "fire: "),
    ] {
        let reason = reason(payload);
        assert!(reason.starts_with(expected), "{payload}: {reason}");
    }
    let mut elsewhere = message("{\"n\": 3}");
    elsewhere.routing_key = "b.a".into();
    assert_eq!(bound.decide(&event(&elsewhere)), Decision::NotBound);
    elsewhere.exchange = String::new();
    assert_eq!(bound.decide(&event(&elsewhere)), Decision::NotBound);
    assert_eq!(
        bound.decide(&Event { fired_by: FiredBy::TriggerHook, ..event(&elsewhere) }).outcome(),
        "fire",
        "the hook's own trigger needs no binding"
    );
}

#[test]
fn an_undefined_name_is_named_with_its_place() {
    for (leaf, payload, expected) in [
        (
            json!({"env": {"REV": "{{ payload.head_commit.id }}"}}),
            "{}",
            "task.payload.env.REV: 'payload.head_commit' is undefined in {{ payload.head_commit.id }}",
        ),
        (
            json!({"env": {"REV": "{{ payload.head_commit }}"}}),
            "{}",
            "task.payload.env.REV: 'payload.head_commit' is undefined",
        ),
        (
            json!(["{{ payload.x | upper }}"]),
            "{}",
            "task.payload[0]: 'payload.x' is undefined in {{ payload.x | upper }}",
        ),
        (json!({"a": "x {{ payload.a.b }}"}), "{\"a\": {}}", "task.payload.a: 'payload.a.b' is undefined"),
        (
            json!({"a": "{{ [payload.a] }}"}),
            "{}",
            "task.payload.a: contains a value that is undefined in {{ [payload.a] }}",
        ),
        (
            json!({"a": "{% if payload.a == 1 %}x{% endif %}"}),
            "{}",
            "task.payload.a: 'payload.a' is undefined (line 1 of the string)",
        ),
        (json!({"{{ payload.k }}": 1}), "{}", "task.payload[\"{{ payload.k }}\"]: 'payload.k' is undefined"),
    ] {
        let rules = rules(|hook| hook["task"]["payload"] = leaf.clone());
        match rules.decide(&event(&message(payload))) {
            Decision::TemplateError { path, message, .. } => {
                assert_eq!(Problem::new(path, message).to_string(), expected);
            }
            other => panic!("{leaf}: {}", other.reason()),
        }
    }
}

#[test]
fn a_task_that_the_queue_service_would_refuse_is_told_with_its_places() {
    let rules = rules(|hook| {
        hook["task"]["metadata"]["source"] = json!("{{ payload.source }}");
        hook["task"]["provisionerId"] = json!("other");
        hook["task"]["priority"] = json!("urgent");
        hook["task"]["deadline"] = json!("{{ from_now('9 days') }}");
        hook["task"]["nope"] = json!(1);
        hook["task"]["scopes"] = json!(["a:*", "b:**"]);
        hook["task"].as_object_mut().unwrap().remove("payload");
    });
    match rules.decide(&event(&message("{\"source\": \"example.com\"}"))) {
        Decision::InvalidTask { problems, .. } => {
            let texts: Vec<_> = problems.iter().map(Problem::to_string).collect();
            for expected in [
                "task.metadata.source: must start with https://",
                "task.payload: is required",
                "task.priority: must be one of",
                "task.taskQueueId: disagrees",
                "task.deadline: must be at most 5 days ahead",
                "task.nope: is not a known property",
                "task.scopes[1]: must be printable ASCII and not end with **",
            ] {
                assert!(
                    texts.iter().any(|text| text.starts_with(expected)),
                    "{expected:?} is not in {texts:#?}"
                );
            }
            assert_eq!(texts.len(), 7, "{texts:#?}");
        }
        other => panic!("{}", other.reason()),
    }
}

#[test]
fn the_same_event_gives_the_same_task_and_another_fire_other_slugids() {
    let rules = rules(|hook| {
        hook["task"]["payload"] = json!({
            "a": "{{ one | as-slugid }}", "b": "{{ slugid('one') }}", "c": "{{ two | as-slugid }}", "now": "{{ now }}",
        });
    });
    let message = message("{}");
    let first = rules.decide(&event(&message));
    assert_eq!(first, rules.decide(&event(&message)));
    let task = fired(&rules, "{}");
    assert_eq!(task["payload"]["a"], task["payload"]["b"]);
    assert_ne!(task["payload"]["a"], task["payload"]["c"]);
    let other = Event { task_id: "DryRunDrRySRunDryRun1Q", ..event(&message) };
    assert_ne!(first, rules.decide(&other));
}

#[test]
fn faults_of_a_hook_are_reported_together() {
    let hook = hook(|hook| {
        hook["filter"] = json!("payload.x ==");
        hook["triggerSchema"] = json!({"properties": {"a": {"$ref": "https://example.com/s.json"}}});
        hook["task"]["payload"] =
            json!({"a": "{{ payload. }}", "b": ["{{ payload.x | nope }}"], "{% while true %}": {}});
    });
    let problems = Rules::compile(&hook, &Limits::default()).err().unwrap();
    let texts: Vec<_> = problems.iter().map(Problem::to_string).collect();
    for expected in [
        "filter: syntax error",
        "triggerSchema.properties.a.$ref: refers to another document",
        "task.payload.a: syntax error",
        "task.payload.b[0]: there is no filter nope in {{ payload.x | nope }}",
        "task.payload[\"{% while true %}\"]: is not a statement that a key can be",
    ] {
        assert!(texts.iter().any(|text| text.starts_with(expected)), "{expected:?} is not in {texts:#?}");
    }
}

#[test]
fn a_schedule_that_cannot_be_is_refused_with_its_place() {
    let hook = hook(|hook| hook["schedule"] = json!(["@daily", "0 0 32 * *"]));
    let problems = Rules::compile(&hook, &Limits::default()).err().unwrap();
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].to_string().starts_with("schedule[1]: the day-of-month field \"32\""),
        "{problems:?}"
    );
}
