//! One look at what is due: publish, then move on.

use std::collections::HashMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use pulse::{PublishError, naming};
use serde_json::json;

use super::super::decide::FiredBy;
use super::super::trigger::{Trigger, own_key};
use super::{Scheduler, shown};
use crate::schedule::Schedule;
use crate::schedule::plan::{Missed, Plan, Policy, plan};
use crate::store::{DecisionRow, DueCursor, Moved, ScheduleRow, StoreError};

/// Hooks that are read and moved on together: bounds memory, and what is published again after a crash.
const PAGE: u32 = 500;

/// Triggers on their way to the broker at a time: confirms are pipelined.
const PUBLISHING: usize = 1_000;

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Triggers that were published.
    pub published: usize,
    /// Hooks that stay due because their queue does not stand, or the broker refused.
    pub unrouted: usize,
    /// The first moment that is still to come.
    pub next: Option<DateTime<Utc>>,
}

/// Why a sweep could not end; what it had done is kept, and the rest stays due.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker is away.
    #[error("triggers cannot be published: {0}")]
    Unavailable(String),
}

/// What became of one trigger.
enum Sent {
    Routed,
    Kept(String),
    Unavailable(String),
}

/// A hook that is due, and what is to be done about it.
struct Due {
    row: ScheduleRow,
    policy: Policy,
    plan: Plan,
}

impl Scheduler {
    /// Publishes the triggers of everything that is due, and moves on what the broker has confirmed.
    pub async fn sweep(&self) -> Result<Swept, SweepError> {
        self.catch_up_with_hooks().await?;
        let now = (self.parts.now)();
        self.follow_clock_back(now).await?;
        let mut swept = Swept::default();
        let mut cursor: DueCursor = (i64::MIN, 0);
        loop {
            let page = self.parts.store.due_schedules(cursor, now.timestamp_millis(), PAGE).await?;
            let Some(last) = page.last() else { break };
            cursor = (last.next_at.unwrap_or(i64::MAX), last.incarnation);
            self.handle(page, now, &mut swept).await?;
        }
        let next = self.parts.store.next_scheduled(now.timestamp_millis()).await?;
        swept.next = next.and_then(DateTime::from_timestamp_millis);
        if swept.published > 0 {
            tracing::debug!(triggers = swept.published, "scheduled hooks triggered");
        }
        Ok(swept)
    }

    async fn handle(
        &self,
        page: Vec<ScheduleRow>,
        now: DateTime<Utc>,
        swept: &mut Swept,
    ) -> Result<(), SweepError> {
        let due = self.plans(page, now);
        let mut triggers = Vec::new();
        for (index, due) in due.iter().enumerate() {
            triggers.extend((0..due.plan.fire.len()).map(|position| (index, position)));
        }
        let mut sending = stream::iter(triggers)
            .map(|(index, position)| {
                let Due { row, plan, .. } = &due[index];
                let sent = self.publish(row, plan.fire[position]);
                async move { (index, position, sent.await) }
            })
            .buffer_unordered(PUBLISHING);
        // The first trigger of each hook that did not get through, and why.
        let mut held: HashMap<usize, (usize, String)> = HashMap::new();
        let mut unavailable = None;
        while let Some((index, position, sent)) = sending.next().await {
            let reason = match sent {
                Sent::Routed => {
                    swept.published += 1;
                    continue;
                }
                Sent::Kept(reason) => reason,
                Sent::Unavailable(reason) => {
                    unavailable = Some(reason.clone());
                    reason
                }
            };
            let first = held.entry(index).or_insert((position, reason.clone()));
            if position < first.0 {
                *first = (position, reason);
            }
        }
        drop(sending);
        let mut moved = Vec::with_capacity(due.len());
        for (index, due) in due.into_iter().enumerate() {
            let through = match held.remove(&index) {
                None => due.plan.fire.len(),
                Some((position, reason)) => {
                    swept.unrouted += 1;
                    if unavailable.is_none() {
                        tracing::warn!(hook = %due.row.name, reason, "a scheduled trigger stays due");
                    }
                    position
                }
            };
            moved.extend(self.moved(due, through, now));
        }
        if !moved.is_empty() {
            let (handled, kept) = (now.timestamp_millis(), i64::from(self.parts.decisions_kept));
            if swept.published > 0 {
                pulse::crash::point("scheduler.published");
            }
            self.parts.store.move_schedules_on(moved, handled, kept).await?;
        }
        match unavailable {
            Some(reason) => Err(SweepError::Unavailable(reason)),
            None => Ok(()),
        }
    }

    /// What is to be done about each hook. Equal schedules are compiled once.
    fn plans(&self, page: Vec<ScheduleRow>, now: DateTime<Utc>) -> Vec<Due> {
        let mut compiled: HashMap<String, Option<Schedule>> = HashMap::new();
        page.into_iter()
            .filter_map(|row| {
                let schedule = compiled
                    .entry(row.expressions.clone())
                    .or_insert_with(|| super::keep::compile(&row).ok())
                    .as_ref()?;
                let due = DateTime::from_timestamp_millis(row.next_at?)?;
                let policy = Policy::new(&self.parts.config, super::keep::catch_up(&row.catch_up));
                Some(Due { plan: plan(schedule, due, now, &policy), row, policy })
            })
            .collect()
    }

    async fn publish(&self, row: &ScheduleRow, moment: DateTime<Utc>) -> Sent {
        let trigger = Trigger {
            fired_by: FiredBy::Schedule,
            client_id: None,
            scheduled_for: Some(moment),
            task_id: None,
        };
        let id = message_id(row.incarnation, moment);
        let payload = Bytes::from_static(b"{}");
        let message = self.parts.key.message(&self.parts.user, &row.name, id, &trigger, payload);
        match self.parts.transport.publish(&message, true).await {
            Ok(published) if published.routed => Sent::Routed,
            Ok(_) => Sent::Kept("the hook's queue does not stand yet".to_owned()),
            Err(PublishError::Refused(reason)) => Sent::Kept(reason),
            Err(PublishError::Unavailable(reason)) => Sent::Unavailable(reason),
        }
    }

    /// The hook after the first `through` triggers of its plan; `None`: it stays as it is.
    fn moved(&self, due: Due, through: usize, now: DateTime<Utc>) -> Option<Moved> {
        let Due { row, policy, plan } = due;
        let whole = through == plan.fire.len();
        if !whole && through == 0 {
            return None;
        }
        let next_at = if whole { plan.next } else { plan.fire.get(through).copied() };
        let last_at = through.checked_sub(1).and_then(|last| plan.fire.get(last));
        let decision = plan.missed.map(|missed| self.on_record(&row, &policy, &missed, now));
        if let Some(decision) = &decision {
            tracing::warn!(hook = %row.name, reason = decision.reason, "scheduled times were missed");
        }
        Some(Moved {
            next_at: next_at.map(|next| next.timestamp_millis()),
            last_at: last_at.map(DateTime::timestamp_millis),
            decision,
            row,
        })
    }

    fn on_record(
        &self,
        row: &ScheduleRow,
        policy: &Policy,
        missed: &Missed,
        now: DateTime<Utc>,
    ) -> DecisionRow {
        let detail = json!({
            "missed": missed.count,
            "first": shown(missed.first),
            "last": shown(missed.last),
            "catchUp": policy.catch_up,
            "cap": policy.cap,
        });
        DecisionRow {
            incarnation: row.incarnation,
            at: now.timestamp_millis(),
            exchange: naming::exchange(&self.parts.user, "trigger"),
            routing_key: own_key(&row.name),
            message_id: None,
            outcome: "missed-schedule".to_owned(),
            reason: missed.reason.clone(),
            detail: Some(detail.to_string()),
        }
    }
}

/// Who a scheduled trigger is: its hook (each making of a name is another one) and its moment.
pub(super) fn message_id(incarnation: i64, moment: DateTime<Utc>) -> String {
    format!("schedule-{incarnation}-{}", shown(moment))
}
