//! `pulsehook hook render`: what the router would make of an event, without a server.
//!
//! It runs the router's own code on a hook file and an event file: binding, filter, triggerSchema, template, limits and the
//! look at the task. Where the task is to be compared with an expected one, what differs by nature (`created` and other
//! moments, slugids) is fixed by giving `--now` and `--task-id`; both have defaults that never change.

pub mod cases;
pub mod diff;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::located;
use crate::hook::{Hook, HookFile, HookName, Located, Problem, ReadError, parse_document};
use crate::router::decide::{Decision, Event, FiredBy, Limits, Rules};
use crate::template::Workers;

/// The task id of a dry run, unless another is given.
pub const TASK_ID: &str = "DryRunDrRySRunDryRun0Q";

/// What may be said besides hook and event.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Overrides the event's exchange.
    pub exchange: Option<String>,
    /// Overrides the event's routing key.
    pub routing_key: Option<String>,
    /// Overrides the event's `firedBy`.
    pub fired_by: Option<FiredBy>,
    /// The frozen moment; none: now.
    pub now: Option<DateTime<Utc>>,
    /// The task id; none: [`TASK_ID`].
    pub task_id: Option<String>,
    /// Limits of templates and filters.
    pub limits: Limits,
}

/// What the router would do.
#[derive(Debug, Clone)]
pub struct RenderReport {
    /// The hook.
    pub hook: HookName,
    /// What the router would decide.
    pub decision: Decision,
}

impl RenderReport {
    /// The rendered task, where there is one (also one that the queue service would refuse).
    pub fn task(&self) -> Option<Value> {
        match &self.decision {
            Decision::Fire { task } | Decision::InvalidTask { task, .. } => serde_json::from_slice(task).ok(),
            _ => None,
        }
    }

    /// For programs: `{hook, outcome, reason, detail, task?}`.
    pub fn to_json(&self) -> Value {
        let mut report = json!({
            "hook": self.hook.to_string(),
            "outcome": self.decision.outcome(),
            "reason": self.decision.reason(),
            "detail": self.decision.detail(),
        });
        if let Some(task) = self.task() {
            report["task"] = task;
        }
        report
    }
}

/// For people: the outcome and reason, then the task.
impl fmt::Display for RenderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.hook, self.decision.outcome())?;
        writeln!(f, "{}", self.decision.reason())?;
        if let Some(task) = self.task() {
            writeln!(f, "{task:#}")?;
        }
        Ok(())
    }
}

/// `pulsehook hook validate`: the name of the hook, if document, filter, triggerSchema and template are all right; else
/// all faults with their lines.
pub fn validate(text: &str, limits: &Limits) -> Result<HookName, Vec<Located>> {
    let file = HookFile::parse(text).map_err(|error| {
        let (line, message) = match error {
            ReadError::Syntax { line, message, .. } => (line, message),
            other => (1, other.to_string()),
        };
        vec![Located { line, problem: Problem::new("", message) }]
    })?;
    let hook = file.hook(None).map_err(|problems| file.locate(&problems))?;
    Rules::compile(&hook, limits).map_err(|problems| file.locate(&problems))?;
    Ok(hook.name)
}

/// Reads the text of the hook file at `place` and compiles it; the error lists all faults with their places.
fn compile_hook(place: &Path, text: &str, limits: &Limits) -> anyhow::Result<(Hook, Rules)> {
    let file = HookFile::parse(text).map_err(|error| anyhow!("{}: {error}", place.display()))?;
    compile(&file, limits, |problems| located::lines(place, &file, problems))
}

/// Compiles a hook; `lines` says where faults are.
fn compile(
    file: &HookFile,
    limits: &Limits,
    lines: impl Fn(&[Problem]) -> Vec<String>,
) -> anyhow::Result<(Hook, Rules)> {
    let faults =
        |problems: Vec<Problem>| anyhow!("the hook file has faults:\n{}", lines(&problems).join("\n"));
    let hook = file.hook(None).map_err(faults)?;
    let rules = Rules::compile(&hook, limits).map_err(faults)?;
    Ok((hook, rules.with_workers(&workers(limits)?)))
}

/// Workers of this program, as the router has them; one starts when a template needs it.
fn workers(limits: &Limits) -> anyhow::Result<Arc<Workers>> {
    Ok(Arc::new(Workers::of_this_program(limits).context("the path of this program is not known")?))
}

/// Says what the router would do with an event. `event_text` is JSON or YAML: `{exchange, routingKey, payload, headers?,
/// messageId?, firedBy?, clientId?, scheduledFor?}`, or a bare payload where the options give exchange and routing key.
/// `place` is where the hook's text comes from.
pub fn render(
    place: &Path,
    hook_text: &str,
    event_text: &str,
    options: &Options,
) -> anyhow::Result<RenderReport> {
    let (hook, rules) = compile_hook(place, hook_text, &options.limits)?;
    let event = parse_document(event_text).context("the event file is neither JSON nor YAML")?;
    let decision = decide(&hook, &rules, &event, options)?;
    Ok(RenderReport { hook: hook.name, decision })
}

/// The same for a hook and an event that were read before.
pub fn decide(hook: &Hook, rules: &Rules, event: &Value, options: &Options) -> anyhow::Result<Decision> {
    let event = EventFile::read(event, options)?;
    let fired_by = options.fired_by.or(event.fired_by).unwrap_or(FiredBy::PulseMessage);
    let (exchange, routing_key) = match (event.exchange, event.routing_key) {
        (Some(exchange), Some(routing_key)) => (exchange, routing_key),
        // A trigger message's place is known; nobody has to write it down.
        (exchange, routing_key) if fired_by != FiredBy::PulseMessage => (
            exchange.unwrap_or_else(|| "exchange/pulsehook/v1/trigger".to_owned()),
            routing_key.unwrap_or_else(|| format!("{}.{}", hook.name.group, hook.name.id)),
        ),
        _ => bail!(
            "an event needs an exchange and a routing key: in the event file ({{\"exchange\", \"routingKey\", \"payload\"}}) or given by option"
        ),
    };
    let message = pulse::Message {
        exchange,
        routing_key,
        properties: pulse::Properties {
            message_id: event.message_id,
            headers: event.headers,
            content_type: Some("application/json".to_owned()),
            ..pulse::Properties::default()
        },
        body: Bytes::from(event.payload.to_string()),
    };
    Ok(rules.decide(&Event {
        message: &message,
        fired_by,
        client_id: event.client_id.as_deref(),
        scheduled_for: event.scheduled_for,
        task_id: options.task_id.as_deref().unwrap_or(TASK_ID),
        now: options.now.unwrap_or_else(Utc::now),
    }))
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EventFile {
    exchange: Option<String>,
    routing_key: Option<String>,
    #[serde(default)]
    payload: Value,
    #[serde(default)]
    headers: pulse::Headers,
    message_id: Option<String>,
    fired_by: Option<FiredBy>,
    client_id: Option<String>,
    scheduled_for: Option<DateTime<Utc>>,
}

impl EventFile {
    fn read(value: &Value, options: &Options) -> anyhow::Result<EventFile> {
        // With a place given by option, only a document that has a payload can be a whole event.
        let whole = value.get("payload").is_some()
            && value.as_object().is_some_and(|map| {
                map.contains_key("exchange")
                    || map.contains_key("firedBy")
                    || map.len() == 1
                    || options.exchange.is_none()
            });
        let mut event = if whole {
            serde_json::from_value(value.clone()).context("the event file has faults")?
        } else if options.exchange.is_some() || options.fired_by.is_some() {
            EventFile { payload: value.clone(), ..EventFile::default() }
        } else {
            bail!(
                "the event file has no \"payload\": give {{\"exchange\", \"routingKey\", \"payload\"}}, or the exchange and routing key by option"
            );
        };
        if options.exchange.is_some() {
            event.exchange.clone_from(&options.exchange);
        }
        if options.routing_key.is_some() {
            event.routing_key.clone_from(&options.routing_key);
        }
        Ok(event)
    }
}

#[cfg(test)]
mod tests;
