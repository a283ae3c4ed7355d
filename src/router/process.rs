//! A batch of one hook's messages: decide, record, acknowledge, submit.
//!
//! Nothing is acknowledged before its outcome or its complete pending fire is committed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use pulse::{Delivery, Message};

use super::Inner;
use super::ancestry::{self, Causes};
use super::decide::{Decision, Event, FiredBy};
use super::identity::{Identity, Repeat, identify};
use super::recent::{PER_HOOK, Seen};
use super::registry::LiveHook;
use super::scheduler::Waited;
use super::submit::{Submission, error_json};
use super::trigger::Trigger;
use super::waiters::News;
use crate::hook::HookName;
use crate::store::{DecisionRow, NewFire, PendingFire, Recorded};

/// A store that refuses (a full disk, say) is asked again this often; the messages stay unacknowledged meanwhile.
const STORE_RETRY: Duration = Duration::from_secs(1);

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
    /// Takes a batch through to its acks. Answers how many fires it made that are now under way.
    pub(super) async fn process(self: &Arc<Self>, hook: Arc<LiveHook>, deliveries: Vec<Delivery>) -> usize {
        let mut fires = 0;
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
            let entries = match self.decide_all(&hook, &items, causes, now).await {
                Some(entries) => Arc::new(entries),
                // The deciders are gone: the process is stopping, the messages go back.
                None => return fires,
            };
            let Some(recorded) = self.record_all(&hook, &entries).await else { return fires };
            pulse::crash::point("router.recorded");
            self.note_seen(&hook, now, &items, &entries, &recorded);
            let mut again = Vec::new();
            for ((item, entry), recorded) in items.into_iter().zip(entries.iter()).zip(recorded) {
                match (entry, recorded) {
                    (Entry::Fire(fire), Some(Recorded::New { id, ended_seq })) => {
                        item.delivery.ack();
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
                            };
                            self.submit(Submission { fire: pending, hook: hook.clone(), recovered: false });
                        } else if let Some(error) = &fire.error {
                            tracing::warn!(hook = %hook.name, task_id = fire.task_id, %error, "the message could not become a task");
                            self.note_failure(&hook);
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
                            self.waiters.tell(&fire.task_id, || News::Look);
                            item.delivery.ack();
                        }
                    }
                    (Entry::Decision(row, task_id), _) => {
                        item.delivery.ack();
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
        fires
    }

    /// Decides on one of the decider threads: rendering is CPU work, and a hostile template must not hold up the event loop.
    async fn decide_all(
        self: &Arc<Self>,
        hook: &Arc<LiveHook>,
        items: &[Item],
        causes: Causes,
        now: i64,
    ) -> Option<Vec<Entry>> {
        let messages = items.iter().map(|item| {
            let task_id = self.task_ids.task_id(hook.incarnation, &item.identity.id, item.occurrence);
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
        self.deciders
            .run(move || {
                inputs
                    .into_iter()
                    .map(|(message, identity, occurrence, generation, redelivered)| {
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
                        decide_guarded(&inner, &hook, base, waited.as_ref(), &causes)
                    })
                    .collect()
            })
            .await
    }

    /// Counts what was decided, and remembers the newest of it for whoever looks on.
    fn note_seen(
        &self,
        hook: &LiveHook,
        at: i64,
        items: &[Item],
        entries: &[Entry],
        recorded: &[Option<Recorded>],
    ) {
        let passed = entries.iter().filter(|entry| matches!(entry, Entry::Decision(..))).count() as u32;
        let ended = |recorded: &&Option<Recorded>| {
            matches!(recorded, Some(Recorded::New { ended_seq: Some(_), .. }))
        };
        let dead = recorded.iter().filter(ended).count() as u32;
        self.activity.count(at, |minute| {
            minute.messages += items.len() as u32;
            minute.passed += passed;
            minute.dead += dead;
        });
        let skipped = match self.recent.is_watched() {
            true => 0,
            false => items.len().saturating_sub(PER_HOOK),
        };
        let batch = items.iter().zip(entries).zip(recorded).skip(skipped);
        let seen = batch.map(|((item, entry), recorded)| {
            let (outcome, reason, task_id) = match entry {
                Entry::Decision(row, task_id) => (row.outcome.clone(), row.reason.clone(), task_id),
                Entry::Fire(fire) => {
                    let (outcome, reason) = fired(fire, recorded.as_ref());
                    (outcome, reason, &fire.task_id)
                }
            };
            let message = item.delivery.message.clone();
            Seen { seq: 0, at, message, outcome, reason, task_id: task_id.clone() }
        });
        self.recent.add(hook.incarnation, seen);
    }

    /// Commits the entries, however long the store takes to accept them. `None` when it is closed.
    async fn record_all(&self, hook: &LiveHook, entries: &Arc<Vec<Entry>>) -> Option<Vec<Option<Recorded>>> {
        loop {
            let (job, kept) = (entries.clone(), i64::from(self.config.router.decisions_kept));
            let written = self
                .store
                .write(move |w| {
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

/// A fire, in a word and in a sentence.
fn fired(fire: &NewFire, recorded: Option<&Recorded>) -> (String, String) {
    if matches!(recorded, Some(Recorded::Known { .. })) {
        return ("repeat".to_owned(), "This message has been seen before; it fires once.".to_owned());
    }
    let Some(error) = &fire.error else { return ("fire".to_owned(), "The hook fires.".to_owned()) };
    let error: serde_json::Value = serde_json::from_str(error).unwrap_or_default();
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    (text("code"), text("message"))
}

/// A defect of ours that a message provokes must not come back with that message for ever: it costs this one, with a reason.
fn decide_guarded(
    inner: &Inner,
    hook: &LiveHook,
    base: NewFire,
    waited: Option<&Waited>,
    causes: &Causes,
) -> Entry {
    let attempt = std::panic::AssertUnwindSafe(|| decide_one(inner, hook, base.clone(), waited, causes));
    std::panic::catch_unwind(attempt).unwrap_or_else(|_| {
        let error = error_json(
            "internal-error",
            "pulsehook failed while it decided about this message; please report it",
        );
        Entry::Fire(NewFire { error: Some(error), ..base })
    })
}

fn decide_one(
    inner: &Inner,
    hook: &LiveHook,
    base: NewFire,
    waited: Option<&Waited>,
    causes: &Causes,
) -> Entry {
    let Some(context) = inner.context(&hook.name, &base.message) else {
        return Entry::Decision(
            decision(&base, "untrusted-trigger", UNTRUSTED.to_owned(), None),
            base.task_id,
        );
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
        return Entry::Decision(row, base.task_id);
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
    match decision_made {
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
    }
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
