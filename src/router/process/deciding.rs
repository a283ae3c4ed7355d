//! From a batch's messages to what is to be recorded of them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::{Entry, Item, outcome};
use crate::router::ancestry::{self, Causes};
use crate::router::decide::{Decision, FiredBy};
use crate::router::registry::LiveHook;
use crate::router::scheduler::Waited;
use crate::router::submit::error_json;
use crate::router::traces::{self, Place};
use crate::router::{Inner, from_ms};
use crate::store::{DecisionRow, NewFire};

/// A batch that has been deciding for longer lets others go first.
const TURN: Duration = Duration::from_millis(50);

/// A decision that takes so long counts as one that exceeds a limit: a usual one takes less than a millisecond.
const LONG: Duration = Duration::from_millis(250);

impl Inner {
    /// Decides on one of the decider threads: rendering is CPU work, and a hostile template must not hold up the event loop.
    /// Ends with the first decision that exceeds a limit, or when its time is over; answers at least one entry, and how long it took.
    pub(super) async fn decide_all(
        self: &Arc<Self>,
        hook: &Arc<LiveHook>,
        items: &[Item],
        causes: Causes,
        now: i64,
    ) -> Option<(Vec<Entry>, Duration)> {
        let messages = items.iter().map(|item| {
            let task_id = || self.task_ids.task_id(hook.incarnation, &item.identity.id, item.occurrence);
            (&*item.delivery.message, task_id)
        });
        let waited = self.waited(hook, messages, now).await;
        let inputs: Vec<_> = items
            .iter()
            .map(|item| {
                let generation = item.delivery.generation;
                let message = item.delivery.message.clone();
                (message, item.identity.clone(), item.occurrence, generation, item.delivery.redelivered)
            })
            .collect();
        let (inner, hook) = (self.clone(), hook.clone());
        let slow = hook.shared.pace.is_slow();
        self.deciders
            .run(slow, move || {
                let started = Instant::now();
                let mut entries = Vec::with_capacity(inputs.len());
                for (message, identity, occurrence, generation, redelivered) in inputs {
                    let task_id = inner.task_ids.task_id(hook.incarnation, &identity.id, occurrence);
                    let epoch = inner.epoch(generation);
                    let base = NewFire {
                        incarnation: hook.incarnation,
                        version: hook.version,
                        task_id,
                        occurrence,
                        fired_by: FiredBy::PulseMessage.as_str(),
                        fired_at: now,
                        epoch,
                        digest: identity.digest,
                        redelivered,
                        message,
                        task: None,
                        error: None,
                        cause: None,
                    };
                    let before = Instant::now();
                    let (entry, exceeded) = decide_guarded(&inner, &hook, base, waited.as_ref(), &causes);
                    entries.push(entry);
                    let exceeded = exceeded || before.elapsed() > LONG;
                    inner.note_pace(&hook, exceeded);
                    if exceeded || started.elapsed() > TURN {
                        break;
                    }
                }
                (entries, started.elapsed())
            })
            .await
    }

    /// Records spans of what was decided.
    pub(super) fn trace_decisions(
        &self,
        hook: &LiveHook,
        items: &[Item],
        entries: &[Entry],
        begun: SystemTime,
    ) {
        let tracing = &self.config.tracing;
        if tracing.spans.is_none() {
            return;
        }
        let times = (begun, SystemTime::now());
        for (item, entry) in items.iter().zip(entries) {
            let (task_id, outcome, error) = match entry {
                Entry::Fire(fire) => (&fire.task_id, outcome(fire), fire.error.clone()),
                Entry::Decision(row, task_id) => (task_id, row.outcome.as_str().into(), None),
            };
            let message = &item.delivery.message;
            let about = || {
                let mut about = vec![
                    ("pulsehook.hook", hook.name.to_string()),
                    ("pulsehook.outcome", outcome.to_string()),
                    ("messaging.rabbitmq.destination.routing_key", message.routing_key.clone()),
                ];
                about.extend(message.properties.message_id.clone().map(|id| ("messaging.message.id", id)));
                about
            };
            Place::new(tracing, traces::traceparent(message), task_id).decided(tracing, times, about, error);
        }
    }

    fn note_pace(&self, hook: &LiveHook, exceeded: bool) {
        let pace = &hook.shared.pace;
        if exceeded && pace.exceeded() {
            tracing::warn!(hook = %hook.name, "it exceeds its limits: its messages go one by one until it keeps them");
        } else if !exceeded && pace.within() {
            tracing::info!(hook = %hook.name, "it keeps its limits again");
        }
    }
}

/// Answers what is to be recorded, and whether a limit was exceeded.
///
/// A defect of ours that a message provokes must not come back with that message for ever: it costs this one, with a reason.
fn decide_guarded(
    inner: &Inner,
    hook: &LiveHook,
    base: NewFire,
    waited: Option<&Waited>,
    causes: &Causes,
) -> (Entry, bool) {
    let attempt = std::panic::AssertUnwindSafe(|| decide_one(inner, hook, base.clone(), waited, causes));
    std::panic::catch_unwind(attempt).unwrap_or_else(|_| {
        let error = error_json(
            "internal-error",
            "pulsehook failed while it decided about this message; please report it",
        );
        (Entry::Fire(NewFire { error: Some(error), ..base }), false)
    })
}

fn decide_one(
    inner: &Inner,
    hook: &LiveHook,
    base: NewFire,
    waited: Option<&Waited>,
    causes: &Causes,
) -> (Entry, bool) {
    let Some(context) = inner.context(&hook.name, &base.message) else {
        let row = decision(&base, "untrusted-trigger", UNTRUSTED.to_owned(), None);
        return (Entry::Decision(row, base.task_id), false);
    };
    let task_id = context.task_id.clone().unwrap_or(base.task_id);
    // Only what happened by itself can go on by itself.
    let cause = match context.fired_by {
        FiredBy::PulseMessage => {
            ancestry::task_in(&base.message.routing_key).and_then(|about| causes.get(about))
        }
        _ => None,
    };
    let base = NewFire {
        fired_by: context.fired_by.as_str(),
        task_id,
        cause: cause.map(|cause| cause.task_id.clone()),
        ..base
    };
    if let (Some(waited), Some(moment)) = (waited, context.scheduled_for)
        && let Some(reason) = waited.stale(moment, from_ms(base.fired_at), &base.task_id)
    {
        tracing::debug!(hook = %hook.name, %reason, "did not fire");
        let detail = serde_json::json!({ "scheduledFor": moment }).to_string();
        let row = decision(&base, "stale-schedule", reason, Some(detail));
        return (Entry::Decision(row, base.task_id), false);
    }
    let decision_made = match hook.rules(&inner.config.limits, &inner.config.workers) {
        Err(error) => {
            Decision::TemplateError { path: String::new(), message: error.to_owned(), exceeded: false }
        }
        Ok(rules) => rules.decide(&context.event(&base.message, &base.task_id, base.fired_at)),
    };
    let exceeded = decision_made.exceeded_limits();
    let entry = match decision_made {
        Decision::Fire { .. } if cause.is_some_and(|cause| cause.refusal.is_some()) => {
            let reason = cause.and_then(|cause| cause.refusal.clone()).unwrap_or_default();
            tracing::warn!(hook = %hook.name, reason, "a loop was stopped");
            Entry::Decision(decision(&base, "loop", reason, None), base.task_id)
        }
        Decision::Fire { task } => Entry::Fire(NewFire { task: Some(Bytes::from(task)), ..base }),
        failed if failed.is_error() => {
            let error = Some(error_json(failed.outcome(), &failed.reason()));
            let task = match failed {
                Decision::InvalidTask { task, .. } => Some(Bytes::from(task)),
                _ => None,
            };
            Entry::Fire(NewFire { task, error, ..base })
        }
        other => {
            let reason = other.reason();
            tracing::debug!(hook = %hook.name, message_id = ?base.message.properties.message_id, outcome = other.outcome(), %reason, "did not fire");
            let detail = match other.detail() {
                serde_json::Value::Null => None,
                detail => Some(detail.to_string()),
            };
            Entry::Decision(decision(&base, other.outcome(), reason, detail), base.task_id)
        }
    };
    (entry, exceeded)
}

const UNTRUSTED: &str = "The message is on the trigger exchange but was not written by the router.";

fn decision(base: &NewFire, outcome: &str, reason: String, detail: Option<String>) -> DecisionRow {
    DecisionRow {
        incarnation: base.incarnation,
        at: base.fired_at,
        exchange: base.message.exchange.clone(),
        routing_key: base.message.routing_key.clone(),
        message_id: base.message.properties.message_id.clone(),
        outcome: outcome.to_owned(),
        reason,
        detail,
    }
}
