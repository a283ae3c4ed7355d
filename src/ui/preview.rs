//! What would become of a message with a definition that is being written: on the router's own code path, before it is saved.

use std::time::Duration;

use serde_json::{Value, json};

use super::code;
use super::hook::named;
use super::refusal::Refusal;
use super::timeline::tone_of;
use super::visit::Visit;
use crate::hook::{Hook, parse_document};
use crate::router::decide::FiredBy;
use crate::router::looking::Trial;
use crate::router::recent::Seen;
use crate::store::HookRow;

/// Messages to choose from.
const CHOICES: usize = 40;

/// Somebody whose preview has waited so long for its turn is told to try again.
const TURN: Duration = Duration::from_secs(10);

/// The choice that means: what is typed below.
pub(super) const PASTED: &str = "pasted";

fn choice(value: String, at: i64, key: &str, outcome: &str) -> Value {
    let time = chrono::DateTime::from_timestamp_millis(at).unwrap_or_default().format("%m-%d %H:%M:%S");
    json!({ "value": value, "text": format!("{time}  {key}  ({outcome})") })
}

/// Messages that a hook saw: those in memory, then those of its fires.
pub(super) async fn of_hook(visit: &Visit, row: &HookRow) -> Result<Vec<Value>, Refusal> {
    if !visit.may("fire", &row.name) {
        return Ok(Vec::new());
    }
    let inner = &visit.ui.inner;
    let recent = inner.router.recent(row.incarnation);
    let kept = recent.iter().filter(|seen| !seen.message.body.is_empty());
    let fires = inner.store.fires(row.incarnation, None, CHOICES as u32).await?;
    // One that fired goes by its fire, under which it outlives the memory.
    let value = |seen: &Seen| match fires.iter().any(|fire| fire.task_id == seen.task_id) {
        true => format!("fire:{}", seen.task_id),
        false => format!("seen:{}", seen.seq),
    };
    let mut choices: Vec<Value> = kept
        .clone()
        .map(|seen| choice(value(seen), seen.at, &seen.message.routing_key, &seen.outcome))
        .collect();
    let others = fires.iter().filter(|fire| !kept.clone().any(|seen| seen.task_id == fire.task_id));
    choices.extend(others.map(|fire| {
        choice(format!("fire:{}", fire.task_id), fire.fired_at, &fire.routing_key, fire.state.as_str())
    }));
    choices.truncate(CHOICES);
    let asked = visit.given("message").or(visit.asked("message")).filter(|asked| *asked != PASTED);
    if let Some(asked) = asked
        && !choices.iter().any(|choice| choice["value"] == asked)
    {
        choices.insert(0, json!({ "value": asked, "text": "the one that you came from" }));
    }
    Ok(choices)
}

/// Messages that any hook saw which the visitor may read, the same message once: `[{value, text, exchange, key, hook}]`.
pub(super) async fn of_all(visit: &Visit) -> Result<Vec<Value>, Refusal> {
    let inner = &visit.ui.inner;
    let entries = inner.store.hook_entries().await?;
    let mut known = std::collections::HashSet::new();
    let mut choices = Vec::new();
    for (incarnation, seen) in inner.router.newest(10 * CHOICES) {
        let Some(entry) = entries.iter().find(|entry| entry.incarnation == incarnation) else { continue };
        let message = &seen.message;
        let identity = (message.exchange.clone(), message.routing_key.clone(), message.body.clone());
        if message.body.is_empty() || !visit.may("fire", &entry.name) || !known.insert(identity) {
            continue;
        }
        let mut of_message =
            choice(format!("seen:{}", seen.seq), seen.at, &message.routing_key, &seen.outcome);
        of_message["exchange"] = json!(message.exchange);
        of_message["key"] = json!(message.routing_key);
        of_message["at"] = json!(seen.at);
        of_message["seq"] = json!(seen.seq);
        of_message["hook"] = named(&entry.name);
        choices.push(of_message);
        if choices.len() == CHOICES {
            break;
        }
    }
    Ok(choices)
}

/// A remembered message of any hook that the visitor may read.
pub(super) async fn remembered(visit: &Visit, seq: u64) -> Result<Option<pulse::Message>, Refusal> {
    let inner = &visit.ui.inner;
    let found = inner.router.newest(usize::MAX).into_iter().find(|(_, seen)| seen.seq == seq);
    let Some((incarnation, seen)) = found else { return Ok(None) };
    let entries = inner.store.hook_entries().await?;
    let name = entries.into_iter().find(|entry| entry.incarnation == incarnation).map(|entry| entry.name);
    Ok(name.filter(|name| visit.may("fire", name)).map(|_| pulse::Message::clone(&seen.message)))
}

/// The message that the form names, or holds.
async fn chosen(visit: &Visit, row: Option<&HookRow>, hook: &Hook) -> Result<Option<Trial>, String> {
    let gone = || "This message is no longer there; choose another, or paste one.".to_owned();
    let choice = visit.given("message").or(visit.asked("message")).unwrap_or_default();
    let trial = |message| Trial { message, fired_by: None, task_id: None };
    match choice.split_once(':') {
        Some(("seen", seq)) => {
            let seq = seq.parse().map_err(|_| gone())?;
            let found = remembered(visit, seq).await.map_err(|_| gone())?;
            found.map(|message| Some(trial(message))).ok_or_else(gone)
        }
        Some(("fire", task)) => {
            let row = row.filter(|row| visit.may("fire", &row.name)).ok_or_else(gone)?;
            let store = &visit.ui.inner.store;
            let fire = store.fire_by_task(row.incarnation, task.to_owned()).await.map_err(|_| gone())?;
            let fire = fire.ok_or_else(gone)?;
            let stored = store.message(fire.id).await.map_err(|_| gone())?.ok_or_else(gone)?;
            Ok(Some(Trial { task_id: Some(fire.task_id), ..trial(stored.message) }))
        }
        _ if choice == PASTED => pasted(visit, hook).map(Some),
        _ => Ok(None),
    }
}

/// A message that was typed in: an event as `pulsehook hook render` takes it, or a payload with exchange and routing key beside it.
fn pasted(visit: &Visit, hook: &Hook) -> Result<Trial, String> {
    let text = visit.field("pasted");
    let typed =
        parse_document(text).map_err(|error| format!("The message is neither JSON nor YAML: {error}"))?;
    let whole =
        typed.get("payload").is_some() && (typed.get("exchange").is_some() || typed.get("firedBy").is_some());
    let payload = if whole { typed["payload"].clone() } else { typed.clone() };
    let of_event =
        |key: &str| typed.get(key).filter(|_| whole).and_then(Value::as_str).map(ToOwned::to_owned);
    let fired_by = match of_event("firedBy").as_deref().or(visit.given("fired_by")) {
        None => FiredBy::PulseMessage,
        Some(text) => text.parse()?,
    };
    let first = hook.bindings.first();
    let exchange = of_event("exchange")
        .or(visit.given("exchange").map(ToOwned::to_owned))
        .or(first.map(|binding| binding.exchange.clone()));
    let key = of_event("routingKey")
        .or(visit.given("key").map(ToOwned::to_owned))
        .or(first.map(|binding| binding.pattern.replace(['*', '#'], "any")));
    let headers = typed.get("headers").filter(|_| whole).cloned();
    let message = pulse::Message {
        exchange: exchange.unwrap_or_default(),
        routing_key: key.unwrap_or_default(),
        properties: pulse::Properties {
            message_id: of_event("messageId"),
            headers: headers.and_then(|headers| serde_json::from_value(headers).ok()).unwrap_or_default(),
            ..pulse::Properties::default()
        },
        body: payload.to_string().into(),
    };
    Ok(Trial { message, fired_by: Some(fired_by), task_id: None })
}

/// What would become of the chosen message: `{outcome, tone, reason, saw, problems, task, message}`, `{fault}`, or null if none is
/// chosen.
pub(super) async fn preview(visit: &Visit, row: Option<&HookRow>, hook: &Hook) -> Result<Value, Refusal> {
    let trial = match chosen(visit, row, hook).await {
        Ok(Some(trial)) => trial,
        Ok(None) => return Ok(Value::Null),
        Err(fault) => return Ok(json!({ "fault": fault })),
    };
    let inner = &visit.ui.inner;
    let turn = tokio::time::timeout(TURN, inner.previews.acquire()).await;
    let Ok(Ok(_turn)) = turn else {
        return Ok(json!({ "fault": "Other previews are under way; try again in a moment." }));
    };
    let shown = super::fire::message(&trial.message);
    let previewed = inner.router.preview(hook.clone(), trial).await?;
    let preview = match previewed {
        Ok(preview) => preview,
        // Checked before; whoever comes here was quicker than a changed limit.
        Err(problems) => return Ok(json!({ "fault": crate::hook::problem::join(&problems) })),
    };
    let decision = &preview.decision;
    let task = match decision {
        crate::router::decide::Decision::Fire { task }
        | crate::router::decide::Decision::InvalidTask { task, .. } => Some(code::json_text(task)),
        _ => None,
    };
    let detail = decision.detail();
    Ok(json!({
        "outcome": decision.outcome(),
        "tone": tone_of(decision.outcome()),
        "reason": decision.reason(),
        "saw": preview.saw,
        "problems": detail["problems"].as_array().cloned(),
        "task": task,
        "message": shown,
    }))
}
