//! Why (not)? Fires and decisions of a hook in one time line, each with its reason.

use serde_json::{Value, json};

use super::explorer::path;
use super::hook::frame;
use super::page::{Answer, merged, segment};
use super::refusal::Refusal;
use super::visit::Visit;
use crate::hook::HookName;
use crate::store::{DecisionEntry, FireRow, FireState, HookRow};

/// Entries of a page.
const PAGE: usize = 50;

/// Where a page begins: below these rows.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Cursor {
    fire: Option<i64>,
    decision: Option<i64>,
}

/// What became of a fire, for the style and for people.
pub(super) fn of_state(state: FireState) -> (&'static str, &'static str) {
    match state {
        FireState::Pending => ("busy", "on its way"),
        FireState::Success => ("good", "task created"),
        FireState::Dead => ("bad", "dead letter"),
        FireState::Cancelled => ("idle", "cancelled"),
        FireState::Dropped => ("idle", "dropped"),
    }
}

/// Whether an outcome that is no fire is something that its owner should look into.
pub(super) fn tone_of(outcome: &str) -> &'static str {
    match outcome {
        "fire" => "good",
        "filtered" | "declined" | "repeat" | "stale-schedule" => "idle",
        "schema-mismatch" | "not-bound" | "missed-schedule" => "warn",
        _ => "bad",
    }
}

/// What a fire's error says, in a sentence.
pub(super) fn reason(fire: &FireRow) -> String {
    let error: Value =
        fire.error.as_deref().and_then(|error| serde_json::from_str(error).ok()).unwrap_or_default();
    match (fire.state, error["message"].as_str()) {
        (_, Some(message)) => message.to_owned(),
        (FireState::Success, _) => "The hook fired.".to_owned(),
        (FireState::Pending, _) => "The task is recorded and being submitted.".to_owned(),
        _ => String::new(),
    }
}

/// A fire in the time line.
pub(super) fn fire(name: &HookName, fire: &FireRow) -> Value {
    let (tone, state) = of_state(fire.state);
    json!({
        "kind": "fire",
        "at": fire.fired_at,
        "tone": tone,
        "outcome": state,
        "reason": reason(fire),
        "exchange": fire.exchange,
        "key": fire.routing_key,
        "fired_by": fire.fired_by,
        "href": format!("{}/fires/{}", path(name), segment(&fire.task_id)),
        "task_id": fire.task_id,
    })
}

fn decision(name: &HookName, entry: &DecisionEntry) -> Value {
    let row = &entry.row;
    json!({
        "kind": "decision",
        "at": row.at,
        "tone": tone_of(&row.outcome),
        "outcome": row.outcome,
        "reason": row.reason,
        "exchange": row.exchange,
        "key": row.routing_key,
        "fired_by": Value::Null,
        "href": format!("{}/decisions/{}", path(name), entry.id),
        "task_id": Value::Null,
    })
}

/// The newest entries below a cursor: `{entries, next}`; `next` is the query of the next page.
pub(super) async fn entries(
    visit: &Visit,
    row: &HookRow,
    count: usize,
    cursor: Cursor,
) -> Result<Value, Refusal> {
    let store = &visit.ui.inner.store;
    let only = visit.asked("only");
    let limit = count as u32 + 1;
    let fires = match only {
        Some("decisions") => Vec::new(),
        _ => store.fires(row.incarnation, cursor.fire, limit).await?,
    };
    let decisions = match only {
        Some("fires") => Vec::new(),
        _ => store.decision_entries(row.incarnation, cursor.decision, limit).await?,
    };
    let (mut fires, mut decisions) = (fires.iter().peekable(), decisions.iter().peekable());
    let (mut cursor, mut shown) = (cursor, Vec::new());
    while shown.len() < count {
        let newer = match (fires.peek(), decisions.peek()) {
            (Some(fire), Some(entry)) => fire.fired_at >= entry.row.at,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => break,
        };
        if newer && let Some(row_of_fire) = fires.next() {
            cursor.fire = Some(row_of_fire.id);
            shown.push(fire(&row.name, row_of_fire));
        } else if let Some(entry) = decisions.next() {
            cursor.decision = Some(entry.id);
            shown.push(decision(&row.name, entry));
        }
    }
    let more = fires.peek().is_some() || decisions.peek().is_some();
    let next = more.then(|| {
        url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(only.map(|only| ("only", only)))
            .extend_pairs(cursor.fire.map(|id| ("f", id.to_string())))
            .extend_pairs(cursor.decision.map(|id| ("d", id.to_string())))
            .finish()
    });
    Ok(json!({ "entries": shown, "next": next }))
}

/// `/hooks/{group}/{hook}/history`.
pub(super) async fn show(visit: Visit) -> Result<Answer, Refusal> {
    let row = visit.hook("listDecisions").await?;
    let number = |name: &str| visit.asked(name).and_then(|text| text.parse().ok());
    let cursor = Cursor { fire: number("f"), decision: number("d") };
    let values = json!({
        "history": entries(&visit, &row, PAGE, cursor).await?,
        "only": visit.asked("only").unwrap_or_default(),
        "is_first": cursor.fire.is_none() && cursor.decision.is_none(),
    });
    let frame = frame(&visit, &row, "history").await?;
    Ok(Answer::page("history.html", merged(values, frame)))
}
