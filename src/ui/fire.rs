//! One fire: its message, what the filter saw, the task that was rendered, how it went, and what can be done about it.

use serde_json::{Value, json};

use super::explorer::path;
use super::hook::frame;
use super::page::{Answer, merged, segment};
use super::refusal::Refusal;
use super::visit::Visit;
use super::{code, timeline};
use crate::api::inside::{Inside, of_hook};
use crate::hook::HookName;
use crate::router::looking::Trial;
use crate::router::registry;
use crate::store::{FireRow, FireState, HookRow};

/// Headers that are ours and say nothing to people.
const HIDDEN_HEADER: &str = "x-pulsehook-mac";

struct Found {
    row: HookRow,
    fire: FireRow,
    message: Option<pulse::Message>,
}

async fn find(visit: &Visit) -> Result<Found, Refusal> {
    let row = visit.hook("fire").await?;
    let task = visit.params.get("task").cloned().unwrap_or_default();
    let store = &visit.ui.inner.store;
    let Some(fire) = store.fire_by_task(row.incarnation, task.clone()).await? else {
        return Err(Refusal::not_found(format!("Hook {} has no fire with the task id {task}.", row.name)));
    };
    let message = store.message(fire.id).await?.map(|stored| stored.message);
    Ok(Found { row, fire, message })
}

/// A message as the pages show it.
pub(super) fn message(message: &pulse::Message) -> Value {
    json!({
        "exchange": message.exchange,
        "key": message.routing_key,
        "message_id": message.properties.message_id,
        "headers": headers(message).iter().map(|(name, value)| json!([name, plain(value)])).collect::<Vec<_>>(),
        "body": code::json_text(&message.body),
        "bytes": message.body.len(),
    })
}

fn headers(message: &pulse::Message) -> pulse::Headers {
    let mut headers = message.properties.headers.clone();
    headers.remove(HIDDEN_HEADER);
    headers
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// A message as a file for `pulsehook hook render` and `pulsehook hook test`.
pub(super) fn event_file(message: &pulse::Message, fired_by: Option<&str>) -> Value {
    let payload = serde_json::from_slice::<Value>(&message.body)
        .unwrap_or_else(|_| String::from_utf8_lossy(&message.body).into());
    let mut event = json!({
        "exchange": message.exchange,
        "routingKey": message.routing_key,
        "payload": payload,
    });
    if let Some(id) = &message.properties.message_id {
        event["messageId"] = json!(id);
    }
    let headers = headers(message);
    if !headers.is_empty() {
        event["headers"] = json!(headers);
    }
    if let Some(fired_by) = fired_by.filter(|fired_by| *fired_by != "pulseMessage") {
        event["firedBy"] = json!(fired_by);
    }
    event
}

/// `/hooks/{group}/{hook}/fires/{task}`.
pub(super) async fn show(visit: Visit) -> Result<Answer, Refusal> {
    let found = find(&visit).await?;
    show_with(visit, found, None).await
}

async fn show_with(visit: Visit, found: Found, fault: Option<String>) -> Result<Answer, Refusal> {
    let Found { row, fire, message: stored } = found;
    let inner = &visit.ui.inner;
    let name = &row.name;
    let task = inner.store.stored_task(fire.id).await?.renderings;
    let (tone, state) = timeline::of_state(fire.state);
    let error: Value =
        fire.error.as_deref().and_then(|error| serde_json::from_str(error).ok()).unwrap_or_default();
    let of_version = inner.store.hook_version(row.incarnation, fire.version).await?;
    let hook = of_version.and_then(|document| registry::parse(name, &document).ok());
    let mut saw = Value::Null;
    let filter = hook.as_ref().and_then(|hook| hook.filter.clone());
    if let (Some(hook), Some(message), true) = (hook, stored.clone(), filter.is_some()) {
        let trial = Trial { message, fired_by: None, task_id: Some(fire.task_id.clone()) };
        saw = match inner.router.preview(hook, trial).await? {
            Ok(preview) => json!(preview.saw),
            Err(_) => Value::Null,
        };
    }
    let trigger = visit.may("triggerHook", name);
    let failed = fire.state.is_failed();
    let values = json!({
        "fault": fault,
        "fire": {
            "task_id": fire.task_id,
            "tone": tone,
            "state": state,
            "fired_at": fire.fired_at,
            "ended_at": fire.ended_at,
            "took_ms": fire.ended_at.map(|ended| ended - fire.fired_at),
            "fired_by": fire.fired_by,
            "attempts": fire.attempts,
            "version": fire.version,
            "reason": timeline::reason(&fire),
            "error_code": error["code"],
            "error_status": error["status"],
            "href": format!("{}/fires/{}", path(name), segment(&fire.task_id)),
            "task_href": inner.task_link.replace("{taskId}", &segment(&fire.task_id)),
            "has_task": fire.state == FireState::Success,
        },
        "filter": filter,
        "saw": saw,
        "message": stored.as_ref().map(message),
        "task": task.first().map(|task| code::json_text(task)),
        "earlier": task.len().saturating_sub(1),
        "can": {
            "requeue": trigger && fire.state == FireState::Dead && stored.is_some(),
            "drop": visit.may("dropFire", name) && fire.state == FireState::Dead,
            "replay": trigger && (failed || fire.state == FireState::Success) && stored.is_some(),
        },
    });
    let frame = frame(&visit, &row, "history").await?;
    let values = merged(values, frame);
    Ok(if values["fault"].is_null() {
        Answer::page("fire.html", values)
    } else {
        Answer::faulty("fire.html", values)
    })
}

/// Requeue, drop, replay.
pub(super) async fn again(visit: Visit) -> Result<Answer, Refusal> {
    let name = visit.name()?;
    let task = visit.params.get("task").cloned().unwrap_or_default();
    match act(&visit, &name, &task, visit.field("do")).await {
        Ok((task, what)) => Ok(Answer::done(&format!("{}/fires/{}", path(&name), segment(&task)), what)),
        Err(Refusal::Fault { message, .. }) => {
            let found = find(&visit).await?;
            show_with(visit, found, Some(message)).await
        }
        Err(refusal) => Err(refusal),
    }
}

/// Does something about a fire, as the API does it. Answers the id of the task that comes of it, and the word for what was done.
pub(super) async fn act(
    visit: &Visit,
    name: &HookName,
    task: &str,
    what: &str,
) -> Result<(String, &'static str), Refusal> {
    let (method, body, done): (_, Option<&'static str>, _) = match what {
        "requeue" => ("requeueFire", None, "requeued"),
        "drop" => ("dropFire", None, "dropped"),
        "replay" => ("replayFire", Some("{}"), "replayed"),
        "replay-as-new" => ("replayFire", Some("{\"asNew\":true}"), "replayed-as-new"),
        _ => return Err(Refusal::bad("There is no such action.")),
    };
    visit.permitted(method, &of_hook(name))?;
    let [group, id] = of_hook(name);
    let inside = Inside {
        method,
        params: &[group, id, ("taskId", task)],
        body: body.map(|body| bytes::Bytes::from_static(body.as_bytes())),
        ..Inside::default()
    };
    let answer = visit.ui.inner.api.call(&visit.visitor.identity, inside).await?;
    Ok((answer["taskId"].as_str().unwrap_or(task).to_owned(), done))
}

/// The message as a test event, to be kept.
pub(super) async fn event(visit: Visit) -> Result<Answer, Refusal> {
    let Found { row, fire, message } = find(&visit).await?;
    let Some(message) = message else {
        return Err(Refusal::not_found("The message of this fire is past its retention."));
    };
    let file = format!("{}-{}-{}.json", row.name.group, row.name.id, fire.task_id);
    let event = event_file(&message, Some(&fire.fired_by));
    Ok(Answer::download(&file, "application/json", format!("{event:#}\n")))
}

/// The rendered task, whole.
pub(super) async fn task(visit: Visit) -> Result<Answer, Refusal> {
    let Found { fire, .. } = find(&visit).await?;
    let tasks = visit.ui.inner.store.stored_task(fire.id).await?.renderings;
    match tasks.into_iter().next() {
        Some(task) => Ok(Answer::download(&format!("task-{}.json", fire.task_id), "application/json", task)),
        None => Err(Refusal::not_found("There is no rendered task, or it is past its retention.")),
    }
}
