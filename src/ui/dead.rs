//! Dead letters of all hooks: what could not become a task, with its reason, to be requeued or dropped.

use serde_json::{Value, json};

use super::fire::act as act_on;
use super::hook::named;
use super::page::Answer;
use super::refusal::Refusal;
use super::timeline::reason;
use super::visit::Visit;
use crate::hook::HookName;
use crate::store::FireSummary;

/// Dead letters of a page.
const PAGE: u32 = 50;

/// A dead letter in a list.
pub(super) fn entry(visit: &Visit, summary: &FireSummary) -> Option<Value> {
    let (group, id) = summary.hook.clone()?;
    let name = HookName { group, id };
    let fire = &summary.fire;
    let error: Value =
        fire.error.as_deref().and_then(|error| serde_json::from_str(error).ok()).unwrap_or_default();
    Some(json!({
        "hook": named(&name),
        "task_id": fire.task_id,
        "at": fire.fired_at,
        "code": error["code"],
        "reason": reason(fire),
        "key": fire.routing_key,
        "href": format!("{}/fires/{}", super::explorer::path(&name), super::page::segment(&fire.task_id)),
        "may_requeue": visit.may("requeueFire", &name),
        "may_drop": visit.may("dropFire", &name),
    }))
}

/// `/dead-letters`.
pub(super) async fn show(visit: Visit) -> Result<Answer, Refusal> {
    list(&visit, None).await
}

async fn list(visit: &Visit, fault: Option<String>) -> Result<Answer, Refusal> {
    visit.permitted("listDeadLetters", &[])?;
    let before = visit.asked("before").and_then(|id| id.parse().ok());
    let found = visit.ui.inner.store.dead_fires(None, before, PAGE + 1).await?;
    let more = found.len() > PAGE as usize;
    let shown = &found[..found.len().min(PAGE as usize)];
    let next = shown.last().filter(|_| more).map(|last| format!("/dead-letters?before={}", last.fire.id));
    let letters: Vec<Value> = shown.iter().filter_map(|summary| entry(visit, summary)).collect();
    let values = json!({ "letters": letters, "next": next, "is_first": before.is_none(), "fault": fault });
    Ok(if values["fault"].is_null() {
        Answer::page("dead.html", values)
    } else {
        Answer::faulty("dead.html", values)
    })
}

/// Requeues or drops one.
pub(super) async fn act(visit: Visit) -> Result<Answer, Refusal> {
    let name: HookName = visit
        .field("hook")
        .parse()
        .map_err(|error| Refusal::bad(format!("There is no such hook: {error}.")))?;
    match act_on(&visit, &name, visit.field("task"), visit.field("do")).await {
        Ok((_, done)) => Ok(Answer::done("/dead-letters", done)),
        Err(Refusal::Fault { message, .. }) => list(&visit, Some(format!("{name}: {message}"))).await,
        Err(refusal) => Err(refusal),
    }
}
