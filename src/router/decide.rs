//! What becomes of one message for one hook: a task, or the reason why not. No I/O.
//!
//! The order is that of cost: binding, JSON, filter, triggerSchema, template, and last a look at the task as the queue
//! service will look at it, so that an owner reads `task.metadata.source: must start with https://` now and not a 400
//! later. The moment (`now`) and the task id come with the event: the same event decided again gives the same task.

mod create_task;
mod decision;
mod payload_schema;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use pulse::topic::Pattern;
use serde::{Deserialize, Serialize};

use crate::filter::{Filter, Saw, Verdict};
use crate::hook::{Hook, HookName, Problem};
use crate::schedule::Schedule;
pub use crate::template::Limits;
use crate::template::context::{Context, Fire, timestamp};
use crate::template::wanted::Wanted;
use crate::template::{Template, Workers, payload};
pub use decision::Decision;
use payload_schema::PayloadSchema;

/// What fired a hook, by its name in Taskcluster Hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FiredBy {
    /// A message that a binding matched.
    PulseMessage,
    /// Its schedule.
    Schedule,
    /// An API call.
    TriggerHook,
    /// An API call with the hook's token.
    TriggerHookWithToken,
}

impl FiredBy {
    /// The name, e.g. `pulseMessage`.
    pub fn as_str(self) -> &'static str {
        match self {
            FiredBy::PulseMessage => "pulseMessage",
            FiredBy::Schedule => "schedule",
            FiredBy::TriggerHook => "triggerHook",
            FiredBy::TriggerHookWithToken => "triggerHookWithToken",
        }
    }
}

impl std::str::FromStr for FiredBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [FiredBy::PulseMessage, FiredBy::Schedule, FiredBy::TriggerHook, FiredBy::TriggerHookWithToken]
            .into_iter()
            .find(|fired_by| fired_by.as_str() == text)
            .ok_or_else(|| {
                format!("{text:?} is none of pulseMessage, schedule, triggerHook, triggerHookWithToken")
            })
    }
}

/// One message on its way to one hook.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// The message.
    pub message: &'a pulse::Message,
    /// What fired the hook; anything but `PulseMessage` is believed to be the hook's own trigger message.
    pub fired_by: FiredBy,
    /// Who triggered it.
    pub client_id: Option<&'a str>,
    /// The scheduled moment.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// The id of the task to be.
    pub task_id: &'a str,
    /// The frozen moment: `now` in templates.
    pub now: DateTime<Utc>,
}

/// A hook compiled once per version.
pub struct Rules {
    name: Arc<HookName>,
    bindings: Box<[(Box<str>, Pattern)]>,
    filter: Option<Filter>,
    payload: PayloadSchema,
    template: Template,
    limits: Limits,
    /// What filter and template read of the payload.
    reads: Wanted,
    reads_headers: bool,
}

impl Rules {
    /// Compiles filter, triggerSchema, template and schedule of a hook. All faults are reported at once, with their places.
    pub fn compile(hook: &Hook, limits: &Limits) -> Result<Rules, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut keep = |more: Vec<Problem>| problems.extend(more);
        let filter = hook.filter.as_deref().map(|source| Filter::compile(source, limits)).transpose();
        let filter = filter.map_err(&mut keep).ok();
        let payload =
            PayloadSchema::compile(&hook.trigger_schema).map_err(|problem| keep(vec![problem])).ok();
        let template = Template::compile(hook, limits).map_err(&mut keep).ok();
        let schedule = Schedule::compile(&hook.schedule).map_err(&mut keep).ok();
        let (Some(filter), Some(payload), Some(template), Some(_)) = (filter, payload, template, schedule)
        else {
            return Err(problems);
        };
        let mentions = |text: &str| text.contains("headers");
        let mut names = template.reads();
        names.extend(filter.iter().flat_map(Filter::reads));
        let reads = Wanted::new(
            names
                .iter()
                .filter_map(|name| name.strip_prefix("payload"))
                .map(|rest| rest.strip_prefix('.').unwrap_or(rest)),
        );
        Ok(Rules {
            name: Arc::new(hook.name.clone()),
            bindings: hook
                .bindings
                .iter()
                .map(|binding| (binding.exchange.as_str().into(), Pattern::new(&binding.pattern)))
                .collect(),
            reads_headers: mentions(&hook.task.to_string()) || hook.filter.as_deref().is_some_and(mentions),
            payload: payload.reading(&reads),
            reads,
            filter,
            template,
            limits: limits.clone(),
        })
    }

    /// Gives it render workers for what can't be bounded beforehand. [`Rules::decide`] then may block its thread for some
    /// times `limits.render_ms`.
    pub fn with_workers(mut self, workers: &Arc<Workers>) -> Rules {
        self.template = self.template.with_workers(workers.clone());
        self
    }

    /// Whether a message of this exchange and key is one that the hook is bound to.
    pub fn is_bound(&self, exchange: &str, routing_key: &str) -> bool {
        self.bindings.iter().any(|(bound, pattern)| **bound == *exchange && pattern.matches(routing_key))
    }

    /// Whether a payload is one that the hook takes: its size, and triggerSchema.
    pub fn check_payload(&self, body: &[u8]) -> Result<(), Vec<Problem>> {
        let refused = |why: String| vec![Problem::new("payload", why)];
        let most = self.limits.message_bytes;
        if body.len() > most {
            return Err(refused(format!("has {} bytes, {most} are allowed", body.len())));
        }
        let payload = payload::parse_all(body).map_err(|error| refused(error.to_string()))?;
        self.payload.check(&payload, body)
    }

    /// Decides about one message.
    pub fn decide(&self, event: &Event<'_>) -> Decision {
        let message = event.message;
        if event.fired_by == FiredBy::PulseMessage && !self.is_bound(&message.exchange, &message.routing_key)
        {
            return Decision::NotBound;
        }
        if message.body.len() > self.limits.message_bytes {
            return Decision::NotJson {
                message: format!(
                    "it has {} bytes, more than the limit of {}",
                    message.body.len(),
                    self.limits.message_bytes
                ),
            };
        }
        let payload = match payload::parse::<minijinja::Value>(&message.body, &self.reads) {
            Ok(payload) => payload,
            Err(error) => return Decision::NotJson { message: error.to_string() },
        };
        let fire = Arc::new(self.fire(event));
        let context = Context::value(fire.clone(), payload.clone());
        match self.filter.as_ref().map(|filter| filter.decide(&context)) {
            None | Some(Ok(Verdict::Yes)) => {}
            Some(Ok(Verdict::No { term, saw })) => return Decision::Filtered { term, saw },
            Some(Err(error)) => {
                return Decision::FilterError { message: error.message, exceeded: error.exceeded };
            }
        }
        if let Err(problems) = self.payload.check(&payload, &message.body) {
            return Decision::SchemaMismatch { problems };
        }
        let task = match self.template.render(&context, &fire, &message.body, &defaults(event), &self.limits)
        {
            Ok(Some(task)) => task,
            Ok(None) => return Decision::Declined,
            Err(error) => {
                return Decision::TemplateError {
                    path: error.path,
                    message: error.message,
                    exceeded: error.exceeded,
                };
            }
        };
        match create_task::check(&task, event.now) {
            Ok(()) => Decision::Fire { task },
            Err(problems) => Decision::InvalidTask { task, problems },
        }
    }

    /// The names that the filter reads, with their values in this message; none if there is no filter or the message
    /// cannot be read.
    pub fn filter_saw(&self, event: &Event<'_>) -> Vec<Saw> {
        let Some(filter) = &self.filter else { return Vec::new() };
        let Ok(payload) = payload::parse::<minijinja::Value>(&event.message.body, &self.reads) else {
            return Vec::new();
        };
        filter.saw(&Context::value(Arc::new(self.fire(event)), payload))
    }

    fn fire(&self, event: &Event<'_>) -> Fire {
        let message = event.message;
        Fire {
            hook: self.name.clone(),
            exchange: message.exchange.clone(),
            routing_key: message.routing_key.clone(),
            headers: if self.reads_headers {
                message.properties.headers.clone()
            } else {
                pulse::Headers::new()
            },
            message_id: message.properties.message_id.clone(),
            fired_by: event.fired_by.as_str().into(),
            client_id: event.client_id.map(str::to_owned),
            scheduled_for: event.scheduled_for,
            task_id: event.task_id.to_owned(),
            now: event.now,
        }
    }
}

/// What Taskcluster Hooks puts into a task that doesn't say: created now, a deadline in a day, gone in a month (30 days),
/// in a task group of its own.
fn defaults(event: &Event<'_>) -> [(&'static str, String); 4] {
    [
        ("created", timestamp(event.now)),
        ("deadline", timestamp(event.now + TimeDelta::days(1))),
        ("expires", timestamp(event.now + TimeDelta::days(30))),
        ("taskGroupId", event.task_id.to_owned()),
    ]
}

#[cfg(test)]
mod tests;
