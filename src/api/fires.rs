//! Single fires: shown whole, requeued, dropped, replayed; and dead letters of one hook or of all.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::error::RequestInfo;
use super::hooks::{find, json_body, named};
use super::record::{Page, time};
use super::{Api, ApiError, Code};
use crate::hook::HookName;
use crate::router::AgainError;
use crate::store::{FireRow, FireSummary};

type Answer = Result<Json<Value>, ApiError>;
type FirePath = Path<(String, String, String)>;

/// Dead letters of a page, by default and at most.
const PAGE: u32 = 100;

pub(super) async fn dead(State(api): State<Api>, Query(page): Query<Page>) -> Answer {
    let info = RequestInfo { method: "listDeadLetters", ..RequestInfo::default() };
    dead_letters(&api, None, &page, &info).await
}

pub(super) async fn dead_of_hook(
    State(api): State<Api>,
    Path(path): Path<(String, String)>,
    Query(page): Query<Page>,
) -> Answer {
    let (name, info) = named("listDeadLettersOfHook", path)?;
    let row = find(&api, &name, &info).await?;
    dead_letters(&api, Some(row.incarnation), &page, &info).await
}

async fn dead_letters(api: &Api, incarnation: Option<i64>, page: &Page, info: &RequestInfo) -> Answer {
    let before = page.before().map_err(|error| error.of(info))?;
    let limit = page.limit().min(PAGE);
    let found = api.inner.store.dead_fires(incarnation, before, limit + 1).await?;
    let shown = &found[..found.len().min(limit as usize)];
    let mut answer = json!({ "deadLetters": shown.iter().map(dead_letter).collect::<Vec<_>>() });
    if let (true, Some(last)) = (found.len() > shown.len(), shown.last()) {
        answer["continuationToken"] = json!(last.fire.id.to_string());
    }
    Ok(Json(answer))
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
pub(super) async fn show(State(api): State<Api>, Path((group, id, task)): FirePath) -> Answer {
    let (name, info) = named("fire", (group, id))?;
    let row = find(&api, &name, &info).await?;
    let Some(found) = api.inner.store.fire_by_task(row.incarnation, task.clone()).await? else {
        let message = format!("hook {name} has no fire with the task id {task}");
        return Err(ApiError::new(Code::ResourceNotFound, message).of(&info));
    };
    let mut shown = fire(&found);
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
    Ok(Json(shown))
}

pub(super) async fn requeue(State(api): State<Api>, Path((group, id, task)): FirePath) -> Answer {
    let (name, info) = named("requeueFire", (group, id))?;
    api.inner.router.requeue(&name, &task).await.map_err(|error| refused(error).of(&info))?;
    tracing::info!(hook = %name, task_id = task, "requeued");
    Ok(Json(json!({ "taskId": task })))
}

pub(super) async fn drop(State(api): State<Api>, Path((group, id, task)): FirePath) -> Answer {
    let (name, info) = named("dropFire", (group, id))?;
    api.inner.router.drop_dead(&name, &task).await.map_err(|error| refused(error).of(&info))?;
    tracing::info!(hook = %name, task_id = task, "dropped");
    Ok(Json(json!({ "taskId": task })))
}

pub(super) async fn replay(
    State(api): State<Api>,
    Path((group, id, task)): FirePath,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let (name, mut info) = named("replayFire", (group, id))?;
    info.payload = json_body(&headers, body).map_err(|error| error.of(&info))?;
    let as_new = match info.payload.get("asNew") {
        None => false,
        Some(Value::Bool(as_new)) => *as_new,
        Some(_) => {
            return Err(ApiError::new(Code::InputValidationError, "asNew must be true or false").of(&info));
        }
    };
    let task = replayed(&api, &name, &task, as_new).await.map_err(|error| error.of(&info))?;
    Ok(Json(json!({ "taskId": task })))
}

async fn replayed(api: &Api, name: &HookName, task: &str, as_new: bool) -> Result<String, ApiError> {
    let new = api.inner.router.replay(name, task, as_new).await.map_err(refused)?;
    tracing::info!(hook = %name, task_id = task, replayed_as = new, "replayed");
    Ok(new)
}

fn refused(error: AgainError) -> ApiError {
    match error {
        AgainError::NotFound(message) => ApiError::new(Code::ResourceNotFound, message),
        AgainError::State { .. } => ApiError::new(Code::RequestConflict, error.to_string()),
        AgainError::NoTask(reason) => ApiError::new(Code::InputError, reason),
        AgainError::Store(error) => error.into(),
    }
}
