//! Single fires: shown whole, requeued, dropped, replayed; and dead letters of one hook or of all.

use serde_json::{Value, json};

use super::endpoint::Call;
use super::hooks::find;
use super::record::time;
use super::{ApiError, Code};
use crate::router::AgainError;
use crate::store::{FireRow, FireSummary};

type Answer = Result<Value, ApiError>;

/// Dead letters of a page, by default and at most.
const PAGE: u32 = 100;

pub(super) async fn dead(call: Call) -> Answer {
    dead_letters(&call, None).await
}

pub(super) async fn dead_of_hook(call: Call) -> Answer {
    let row = find(&call.api, &call.name()?).await?;
    dead_letters(&call, Some(row.incarnation)).await
}

async fn dead_letters(call: &Call, incarnation: Option<i64>) -> Answer {
    let (before, limit) = (call.before(), call.limit(PAGE));
    let found = call.api.inner.store.dead_fires(incarnation, before, limit + 1).await?;
    Ok(Call::page("deadLetters", &found, limit, dead_letter, |summary| summary.fire.id))
}

fn dead_letter(summary: &FireSummary) -> Value {
    let (group, id) = summary.hook.clone().unwrap_or_default();
    let mut shown = fire(&summary.fire);
    shown["hookGroupId"] = json!(group);
    shown["hookId"] = json!(id);
    shown
}

fn fire(fire: &FireRow) -> Value {
    json!({
        "taskId": fire.task_id,
        "outcome": fire.state.as_str(),
        "firedBy": fire.fired_by,
        "firedAt": time(fire.fired_at),
        "endedAt": fire.ended_at.map(time),
        "attempts": fire.attempts,
        "hookVersion": fire.version,
        "messageId": fire.message_id,
        "exchange": fire.exchange,
        "routingKey": fire.routing_key,
        "error": fire.error.as_deref().and_then(|error| serde_json::from_str::<Value>(error).ok()),
    })
}

/// One fire, with its message and its rendered task for as long as they are kept.
pub(super) async fn show(call: Call) -> Answer {
    let (name, task, api) = (call.name()?, call.param("taskId"), &call.api);
    let row = find(api, &name).await?;
    let Some(found) = api.inner.store.fire_by_task(row.incarnation, task.clone()).await? else {
        let message = format!("hook {name} has no fire with the task id {task}");
        return Err(ApiError::new(Code::ResourceNotFound, message));
    };
    let mut shown = fire(&found);
    if let Some(state) = &found.task_state {
        shown["taskState"] = json!(state);
    }
    if let Some(stored) = api.inner.store.message(found.id).await? {
        let body = &stored.message.body;
        shown["message"] = json!({
            "exchange": stored.message.exchange,
            "routingKey": stored.message.routing_key,
            "messageId": stored.message.properties.message_id,
            "headers": stored.message.properties.headers,
            "payload": serde_json::from_slice::<Value>(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into()),
        });
    }
    let task = api.inner.store.stored_task(found.id).await?.renderings.into_iter().next();
    shown["task"] = task.and_then(|task| serde_json::from_slice(&task).ok()).unwrap_or_default();
    Ok(shown)
}

pub(super) async fn requeue(call: Call) -> Answer {
    let (name, task) = (call.name()?, call.param("taskId"));
    call.api.inner.router.requeue(&name, &task).await.map_err(refused)?;
    call.note(&name, "requeue-fire", json!({ "taskId": task })).await?;
    Ok(json!({ "taskId": task }))
}

pub(super) async fn drop(call: Call) -> Answer {
    let (name, task) = (call.name()?, call.param("taskId"));
    call.api.inner.router.drop_dead(&name, &task).await.map_err(refused)?;
    call.note(&name, "drop-fire", json!({ "taskId": task })).await?;
    Ok(json!({ "taskId": task }))
}

pub(super) async fn replay(call: Call) -> Answer {
    let (name, task) = (call.name()?, call.param("taskId"));
    let router = &call.api.inner.router;
    let new = match call.body["asNew"].as_bool() {
        Some(true) => router.replay_as_new(&name, &task, call.client_id()).await.map_err(refused)?,
        _ => router.replay(&name, &task).await.map(|()| task.clone()).map_err(refused)?,
    };
    call.note(&name, "replay-fire", json!({ "taskId": task, "replayedAs": new })).await?;
    Ok(json!({ "taskId": new }))
}

fn refused(error: AgainError) -> ApiError {
    match error {
        AgainError::NotFound(message) => ApiError::new(Code::ResourceNotFound, message),
        AgainError::State { .. } => ApiError::new(Code::RequestConflict, error.to_string()),
        AgainError::NoTask(reason) => ApiError::new(Code::InputError, reason),
        AgainError::Store(error) => error.into(),
    }
}
