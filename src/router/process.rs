//! A batch of one hook's messages: decide, record, acknowledge, submit.
//!
//! Nothing is acknowledged before its outcome or its complete pending fire is committed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use pulse::{Delivery, Message};

mod seen;

use super::Inner;
use super::ancestry::{self, Causes};
use super::decide::{Decision, Event, FiredBy};
use super::events::Origin;
use super::identity::{Identity, Repeat, identify};
use super::intake::Rest;
use super::registry::LiveHook;
use super::scheduler::Waited;
use super::submit::{Submission, error_json};
use super::traces::{self, Place};
use super::trigger::Trigger;
use super::waiters::News;
use crate::hook::HookName;
use crate::store::{DecisionRow, FireState, NewFire, PendingFire, Recorded};

/// A store that refuses (a full disk, say) is asked again this often; the messages stay unacknowledged meanwhile.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// A batch that has been deciding for longer lets others go first.
const TURN: Duration = Duration::from_millis(50);

/// A decision that takes so long counts as one that exceeds a limit: a usual one takes less than a millisecond.
const LONG: Duration = Duration::from_millis(250);

/// What is known of a message besides itself.
pub(super) struct MessageContext {
    pub fired_by: FiredBy,
    pub client_id: Option<String>,
    pub scheduled_for: Option<DateTime<Utc>>,
    /// The task id that a trigger asks for.
    pub task_id: Option<String>,
}

impl Inner {
    /// The context of a message: a trigger's is in its headers, and believed with a valid MAC only. `None` for a message on
    /// the trigger exchange that the router did not write.
    pub(super) fn context(&self, hook: &HookName, message: &Message) -> Option<MessageContext> {
        if message.exchange != self.config.trigger_exchange {
            let fired_by = FiredBy::PulseMessage;
            return Some(MessageContext { fired_by, client_id: None, scheduled_for: None, task_id: None });
        }
        let Trigger { fired_by, client_id, scheduled_for, task_id } =
            self.trigger_key.verify(&self.config.user, hook, message)?;
        Some(MessageContext { fired_by, client_id, scheduled_for, task_id })
    }
}

/// What is to be recorded for one message.
enum Entry {
    Fire(NewFire),
    /// With the id that the task would have had.
    Decision(DecisionRow, String),
}

struct Item {
    delivery: Delivery,
    identity: Identity,
    occurrence: i64,
}

impl Inner {
    /// Takes a batch through to its acks. Answers how many fires it made that are now under way, and what it leaves to others:
    /// when a decision took long, the rest of the batch waits for its turn again.
    pub(super) async fn process(
        self: &Arc<Self>,
        hook: Arc<LiveHook>,
        deliveries: Vec<Delivery>,
    ) -> (usize, Rest) {
        let mut fires = 0;
        let mut rest = Rest::default();
        let mut items: Vec<Item> = deliveries
            .into_iter()
            .map(|delivery| {
                let identity = identify(&delivery.message, &self.config.user, super::random_id);
                Item { delivery, identity, occurrence: 0 }
            })
            .collect();
        while !items.is_empty() {
            pulse::crash::point("router.delivered");
            let now = super::now_ms();
            let keys = items.iter().map(|item| item.delivery.message.routing_key.as_str());
            let causes = self.causes(&hook, keys).await;
            let (begun, begun_at) = (Instant::now(), SystemTime::now());
            let (entries, took) = match self.decide_all(&hook, &items, causes, now).await {
                Some((entries, took)) => (Arc::new(entries), took),
                // The deciders are gone: the process is stopping, the messages go back.
                None => return (fires, rest),
            };
            self.figures.decided(begun.elapsed(), entries.len());
            rest.undecided.extend(items.drain(entries.len()..).map(|item| item.delivery));
            rest.pause = rest.pause.max(hook.shared.pace.rest(took));
            items.iter().for_each(|item| self.figures.arrived(&item.delivery, now));
            self.trace_decisions(&hook, &items, &entries, begun_at);
            let begun = Instant::now();
            let Some(recorded) = self.record_all(&hook, &entries).await else { return (fires, rest) };
            self.figures.recorded(begun.elapsed(), entries.len());
            pulse::crash::point("router.recorded");
            self.note_seen(&hook, now, &items, &entries, &recorded);
            let mut again = Vec::new();
            for ((item, entry), recorded) in items.into_iter().zip(entries.iter()).zip(recorded) {
                match (entry, recorded) {
                    (Entry::Fire(fire), Some(Recorded::New { id, ended_seq })) => {
                        item.delivery.ack();
                        self.figures.message(&outcome(fire));
                        if let (Some(task), None) = (&fire.task, ended_seq) {
                            fires += 1;
                            self.load.bytes.fetch_add(task.len(), Ordering::Relaxed);
                            let pending = PendingFire {
                                id,
                                incarnation: fire.incarnation,
                                version: fire.version,
                                task_id: fire.task_id.clone(),
                                rendered_at: fire.fired_at,
                                task: task.clone(),
                                message_id: fire.message.properties.message_id.clone(),
                                trace: traces::traceparent(&fire.message),
                            };
                            let origin = Origin {
                                fired_by: fire.fired_by,
                                fired_at: fire.fired_at,
                                exchange: fire.message.exchange.clone(),
                                routing_key: fire.message.routing_key.clone(),
                            };
                            self.submit(Submission {
                                fire: pending,
                                hook: hook.clone(),
                                recovered: false,
                                origin: Some(origin),
                            });
                        } else if let Some(error) = &fire.error {
                            tracing::warn!(hook = %hook.name, message_id = fire.message.properties.message_id, task_id = fire.task_id, %error, "the message could not become a task");
                            self.note_failure(&hook);
                            self.figures.ended(FireState::Dead);
                            self.waiters.tell(&fire.task_id, || News::Look);
                            self.events.ended();
                        }
                    }
                    (Entry::Fire(fire), Some(Recorded::Known { fired_at })) => {
                        let expired =
                            now - fired_at > self.config.router.identity_window_seconds as i64 * 1000;
                        let new_occurrence = item.identity.repeat == Repeat::AfterWindow
                            && !item.delivery.redelivered
                            && expired;
                        if new_occurrence {
                            again.push(Item { occurrence: item.occurrence + 1, ..item });
                        } else {
                            tracing::debug!(hook = %hook.name, message_id = ?item.delivery.message.properties.message_id, "seen before");
                            self.figures.message("repeat");
                            self.waiters.tell(&fire.task_id, || News::Look);
                            item.delivery.ack();
                        }
                    }
                    (Entry::Decision(row, task_id), _) => {
                        item.delivery.ack();
                        self.figures.message(&row.outcome);
                        self.waiters.tell(task_id, || News::Decided {
                            incarnation: row.incarnation,
                            outcome: row.outcome.clone(),
                            reason: row.reason.clone(),
                        });
                    }
                    (Entry::Fire(_), None) => item.delivery.ack(),
                }
            }
            items = again;
        }
        (fires, rest)
    }

    /// Decides on one of the decider threads: rendering is CPU work, and a hostile template must not hold up the event loop.
    /// Ends with the first decision that exceeds a limit, or when its time is over; answers at least one entry, and how long it took.
    async fn decide_all(
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
    fn trace_decisions(&self, hook: &LiveHook, items: &[Item], entries: &[Entry], begun: SystemTime) {
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

    /// Commits the entries, however long the store takes to accept them. `None` when it is closed.
    async fn record_all(&self, hook: &LiveHook, entries: &Arc<Vec<Entry>>) -> Option<Vec<Option<Recorded>>> {
        loop {
            let (job, kept) = (entries.clone(), i64::from(self.config.router.decisions_kept));
            let written = self
                .store
                .write_repeatable(move |w| {
                    job.iter()
                        .map(|entry| match entry {
                            Entry::Fire(fire) => w.fire(fire).map(Some),
                            Entry::Decision(decision, _) => w.decision(decision, kept).map(|()| None),
                        })
                        .collect::<Result<Vec<_>, _>>()
                })
                .await;
            match written {
                Ok(recorded) => return Some(recorded),
                Err(crate::store::StoreError::Closed) => return None,
                Err(error) => {
                    tracing::error!(hook = %hook.name, %error, messages = entries.len(), "cannot record; the messages stay unacknowledged");
                    tokio::select! {
                        () = tokio::time::sleep(STORE_RETRY) => {}
                        () = self.stop.cancelled() => return None,
                    }
                }
            }
        }
    }
}

/// What was decided, in a word.
fn outcome(fire: &NewFire) -> std::borrow::Cow<'_, str> {
    #[derive(serde::Deserialize)]
    struct Coded<'a> {
        #[serde(borrow)]
        code: std::borrow::Cow<'a, str>,
    }
    match &fire.error {
        None => "fire".into(),
        Some(error) => serde_json::from_str::<Coded<'_>>(error).map_or("other".into(), |coded| coded.code),
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
    let task_id = context.task_id.unwrap_or(base.task_id);
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
        && let Some(reason) = waited.stale(moment, super::from_ms(base.fired_at), &base.task_id)
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
        Ok(rules) => rules.decide(&Event {
            message: &base.message,
            fired_by: context.fired_by,
            client_id: context.client_id.as_deref(),
            scheduled_for: context.scheduled_for,
            task_id: &base.task_id,
            now: super::from_ms(base.fired_at),
        }),
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
