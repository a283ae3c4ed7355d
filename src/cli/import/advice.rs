//! What a person should check about a copied hook. Facts about Taskcluster Hooks are those of its API and behaviour.

use serde_json::json;

use crate::hook::Hook;

/// What differs for this hook between Taskcluster Hooks and pulsehook.
pub(super) fn for_hook(hook: &Hook) -> Vec<String> {
    let mut checks = Vec::new();
    let closed = json!({ "type": "object", "additionalProperties": false });
    if !hook.bindings.is_empty() && hook.trigger_schema == closed {
        checks.push(
            "its triggerSchema takes only {}: no message of its bindings ever fired it, nor will one here; \
             {\"type\": \"object\"} takes every message"
                .to_owned(),
        );
    }
    for binding in &hook.bindings {
        if binding.exchange.starts_with("exchange/taskcluster-hooks/") {
            checks.push(format!(
                "it is bound to {}: changes of hooks are published on exchange/<pulse user>/v1/hook-… here",
                binding.exchange
            ));
        }
    }
    if !hook.schedule.is_empty() {
        checks.push(format!(
            "its schedule ({}) runs at both until one of them is stopped",
            hook.schedule.join(", ")
        ));
    }
    let text = hook.task.to_string();
    if text.contains("taskcluster-hooks") || text.contains("/api/hooks/v1") {
        checks.push("its task names the Hooks service: should it name this one?".to_owned());
    }
    checks
}

/// What concerns all hooks.
pub(super) fn for_all(paused: bool) -> Vec<&'static str> {
    let mut lines = vec![
        "Trigger tokens are others here: give senders new ones (`pulsehook hook token NAME`), or send webhooks to the bridge.",
        "Past fires are not copied; they stay at the source.",
        "Roles hook-id:<hookGroupId>/<hookId> stay as they are; the client of [queue] needs assume:hook-id:*.",
        "Queues are new: messages that wait in the source's queues stay there, so let it finish before it is stopped.",
        "Mail goes to owners for every kind of failure, not for schedules only: see [notify].",
    ];
    lines.push(if paused {
        "The copies are paused: when the source is stopped, set `paused` to false (`pulsehook apply`, or update each)."
    } else {
        "The copies are live: stop the source now, or each event makes two tasks. --paused makes them wait."
    });
    lines
}
