//! What a hook did: its fires, its status, what became of messages that did not fire, the health of its bindings.

use serde_json::{Value, json};

use super::endpoint::Call;
use super::hooks::find;
use super::{ApiError, Code};
use crate::hook::HookName;
use crate::store::{DecisionRow, FireRow, FireState};

/// Entries of a page, by default and at most.
const PAGE: u32 = 1_000;

/// Why a hook's messages wait: the circuit breaker.
const FAILING: &str =
    "The hook's fires keep failing, so its messages wait in the broker; changing the hook ends the pause.";

/// Why a hook's messages wait: the rate limit.
const LIMITED: &str =
    "The hook has fired as often as router.hook.fires_per_minute allows, so its messages wait in the broker.";

pub(super) async fn last_fires(call: Call) -> Result<Value, ApiError> {
    let (name, api) = (call.name()?, &call.api);
    let row = find(api, &name).await?;
    let (before, limit) = (call.before(), call.limit(PAGE));
    let fires = api.inner.store.fires(row.incarnation, before, limit + 1).await?;
    if fires.is_empty() && before.is_none() {
        return Err(ApiError::new(Code::ResourceNotFound, format!("hook {name} has not fired yet")));
    }
    Ok(Call::page("lastFires", &fires, limit, |fire| last_fire(&name, fire), |fire| fire.id))
}

/// A fire as Taskcluster Hooks shows it. A fire that is still under way counts as a success with the task state `pending`:
/// its task id is settled, and pulsehook goes on until the task exists or the fire is dead.
fn last_fire(name: &HookName, fire: &FireRow) -> Value {
    let failed = fire.state.is_failed();
    json!({
        "hookGroupId": name.group,
        "hookId": name.id,
        "firedBy": fire.fired_by,
        "taskId": fire.task_id,
        "taskCreateTime": time(fire.fired_at),
        "result": if failed { "error" } else { "success" },
        "error": if failed { fire.error.clone().unwrap_or_default() } else { String::new() },
        "taskState": match (fire.state, &fire.task_state) {
            (FireState::Success, Some(state)) => state,
            (FireState::Success, None) => "unscheduled",
            (state, _) => state.as_str(),
        },
    })
}

pub(super) async fn status(call: Call) -> Result<Value, ApiError> {
    let (name, api) = (call.name()?, &call.api);
    let row = find(api, &name).await?;
    let last = api.inner.store.fires(row.incarnation, None, 1).await?;
    let last = match last.first() {
        None => json!({ "result": "no-fire" }),
        Some(fire) if fire.state.is_failed() => {
            let error: Value =
                fire.error.as_deref().and_then(|error| serde_json::from_str(error).ok()).unwrap_or(json!({}));
            json!({ "result": "error", "error": error, "time": time(fire.fired_at) })
        }
        Some(fire) => json!({ "result": "success", "taskId": fire.task_id, "time": time(fire.fired_at) }),
    };
    let mut answer = json!({ "lastFire": last });
    if let Some(next) = api.inner.router.upcoming(&row, 1).await?.next.first() {
        answer["nextScheduledDate"] = json!(time(next.timestamp_millis()));
    }
    Ok(answer)
}

pub(super) async fn bindings(call: Call) -> Result<Value, ApiError> {
    let (name, api) = (call.name()?, &call.api);
    find(api, &name).await?;
    let health = api.inner.router.health(&name);
    let bindings: Vec<Value> = health
        .bindings
        .iter()
        .map(|health| {
            let state = if health.error.is_none() { "bound" } else { "refused" };
            let mut shown = json!({
                "exchange": health.binding.exchange,
                "routingKeyPattern": health.binding.pattern,
                "state": state,
            });
            if let Some(error) = &health.error {
                shown["error"] = json!(error);
            }
            shown
        })
        .collect();
    let mut answer = json!({ "bindings": bindings });
    if let Some(error) = health.error {
        answer["queueError"] = json!(error);
    }
    let router = &api.inner.router;
    let held = router.paused_for(&name).map(|pause| (FAILING, pause));
    if let Some((reason, wait)) = held.or_else(|| router.limited_for(&name).map(|wait| (LIMITED, wait))) {
        let until = crate::router::now_ms() + i64::try_from(wait.as_millis()).unwrap_or_default();
        answer["held"] = json!({ "reason": reason, "until": time(until) });
    }
    Ok(answer)
}

pub(super) async fn decisions(call: Call) -> Result<Value, ApiError> {
    let (name, api) = (call.name()?, &call.api);
    let row = find(api, &name).await?;
    let (before, limit) = (call.before(), call.limit(PAGE));
    let entries = api.inner.store.decision_entries(row.incarnation, before, limit + 1).await?;
    Ok(Call::page("decisions", &entries, limit, |entry| decision(&entry.row), |entry| entry.id))
}

fn decision(row: &DecisionRow) -> Value {
    let mut shown = json!({
        "time": time(row.at),
        "messageId": row.message_id,
        "exchange": row.exchange,
        "routingKey": row.routing_key,
        "outcome": row.outcome,
        "reason": row.reason,
    });
    let detail = row.detail.as_deref().and_then(|detail| serde_json::from_str::<Value>(detail).ok());
    if let Some(detail) = detail {
        shown["detail"] = detail;
    }
    shown
}

pub(super) fn time(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
