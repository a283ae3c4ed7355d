//! A batch of one hook's messages: decide, record, acknowledge, submit.
//!
//! Nothing is acknowledged before its outcome or its complete pending fire is committed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use pulse::{Delivery, Message};

mod deciding;
mod seen;

use super::Inner;
use super::decide::{Event, FiredBy};
use super::events::Origin;
use super::identity::{Identity, Repeat, identify};
use super::intake::Rest;
use super::registry::LiveHook;
use super::submit::Submission;
use super::traces;
use super::trigger::Trigger;
use super::waiters::News;
use crate::hook::HookName;
use crate::store::{DecisionRow, FireState, NewFire, PendingFire, Recorded};

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

impl MessageContext {
    /// What is to be decided about the message. `now` in milliseconds since the epoch.
    pub(super) fn event<'a>(&'a self, message: &'a Message, task_id: &'a str, now: i64) -> Event<'a> {
        Event {
            message,
            fired_by: self.fired_by,
            client_id: self.client_id.as_deref(),
            scheduled_for: self.scheduled_for,
            task_id,
            now: super::from_ms(now),
        }
    }
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
                    (Entry::Fire(fire), Some(Recorded::Known { fired_at, ack_uncertain })) => {
                        let expired =
                            now - fired_at > self.config.router.identity_window_seconds as i64 * 1000;
                        let same_message = item.delivery.redelivered && ack_uncertain;
                        let new_occurrence =
                            item.identity.repeat == Repeat::AfterWindow && !same_message && expired;
                        if new_occurrence {
                            let occurrence = self.next_occurrence(&hook, &item).await;
                            again.push(Item { occurrence, ..item });
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

    /// The occurrence to try after one that is known and too long ago: the newest that there is, or the first that there is not. An id
    /// that is used every hour has thousands in a year, so they are not tried one after the other.
    async fn next_occurrence(&self, hook: &LiveHook, item: &Item) -> i64 {
        let known = async |occurrence: i64| {
            let task_id = self.task_ids.task_id(hook.incarnation, &item.identity.id, occurrence);
            // What cannot be looked up is tried, which tells.
            matches!(self.store.fire_by_task(hook.incarnation, task_id).await, Ok(Some(_)))
        };
        let (mut last, mut step) = (item.occurrence, 1);
        while known(last + step).await {
            last += step;
            step *= 2;
        }
        let mut free = last + step;
        while free - last > 1 {
            let middle = last + (free - last) / 2;
            if known(middle).await { last = middle } else { free = middle }
        }
        if last == item.occurrence { free } else { last }
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
