//! One message that did not fire: why, and, while it is remembered, the message itself.

use std::sync::Arc;

use serde_json::{Value, json};

use super::explorer::path;
use super::fire::{event_file, message};
use super::hook::frame;
use super::page::{Answer, merged};
use super::refusal::Refusal;
use super::timeline::tone_of;
use super::visit::Visit;
use crate::router::recent::Seen;
use crate::store::{DecisionEntry, HookRow};

/// The remembered message of a decision: bodies of messages that did not fire are in memory only.
fn remembered(visit: &Visit, row: &HookRow, entry: &DecisionEntry) -> Option<Arc<Seen>> {
    let wanted = &entry.row;
    visit.ui.inner.router.recent(row.incarnation).into_iter().find(|seen| {
        seen.at == wanted.at
            && seen.outcome == wanted.outcome
            && seen.message.routing_key == wanted.routing_key
            && seen.message.properties.message_id == wanted.message_id
    })
}

/// `/hooks/{group}/{hook}/decisions/{decision}`.
pub(super) async fn show(visit: Visit) -> Result<Answer, Refusal> {
    let row = visit.hook("listDecisions").await?;
    let id = visit.params.get("decision").and_then(|id| id.parse().ok()).unwrap_or(-1);
    let Some(entry) = visit.ui.inner.store.decision_entry(row.incarnation, id).await? else {
        return Err(Refusal::not_found(
            "There is no such decision, or newer ones have taken its place: only so many are kept of each hook.",
        ));
    };
    let decided = &entry.row;
    let detail: Value =
        decided.detail.as_deref().and_then(|detail| serde_json::from_str(detail).ok()).unwrap_or_default();
    let seen = remembered(&visit, &row, &entry);
    let body = seen.as_ref().filter(|seen| !seen.message.body.is_empty());
    let values = json!({
        "decision": {
            "at": decided.at,
            "tone": tone_of(&decided.outcome),
            "outcome": decided.outcome,
            "reason": decided.reason,
            "exchange": decided.exchange,
            "key": decided.routing_key,
            "message_id": decided.message_id,
        },
        "term": detail["term"],
        "saw": detail["saw"].as_array().cloned(),
        "problems": detail["problems"].as_array().cloned(),
        "scheduled_for": detail["scheduledFor"],
        "message": body.map(|seen| message(&seen.message)),
        "event_href": body.map(|seen| format!("{}/seen/{}/event", path(&row.name), seen.seq)),
        "try_href": body.map(|seen| format!("{}/edit?message=seen:{}", path(&row.name), seen.seq)),
    });
    let frame = frame(&visit, &row, "history").await?;
    Ok(Answer::page("decision.html", merged(values, frame)))
}

/// A remembered message as a test event, to be kept: `/hooks/{group}/{hook}/seen/{seq}/event`.
pub(super) async fn event(visit: Visit) -> Result<Answer, Refusal> {
    let row = visit.hook("listDecisions").await?;
    let seq: u64 = visit.params.get("seq").and_then(|seq| seq.parse().ok()).unwrap_or(0);
    let recent = visit.ui.inner.router.recent(row.incarnation);
    let Some(seen) = recent.into_iter().find(|seen| seen.seq == seq && !seen.message.body.is_empty()) else {
        return Err(Refusal::not_found("This message is no longer remembered."));
    };
    let file = format!("{}-{}-message-{seq}.json", row.name.group, row.name.id);
    Ok(Answer::download(&file, "application/json", format!("{:#}\n", event_file(&seen.message, None))))
}
