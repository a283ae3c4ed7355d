//! Scheduled triggers that waited in their hook's queue, behind an outage or a pause: does the hook still fire for them?

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use pulse::Message;

use super::super::Inner;
use super::super::registry::LiveHook;
use super::super::trigger::scheduled_for;
use crate::hook::CatchUp;
use crate::schedule::Schedule;
use crate::schedule::plan::{Policy, stale};
use crate::store::ScheduleRow;

/// What is known about a hook some of whose triggers have waited.
pub(in crate::router) struct Waited {
    row: Option<ScheduleRow>,
    schedule: Schedule,
    policy: Policy,
    /// Task ids of triggers that fired already: they are repeats, not late.
    fired: HashSet<String>,
}

impl Inner {
    /// Reads what is needed to judge those of these messages that are late scheduled triggers, each with what tells its task id.
    /// `None`: there are none.
    pub(in crate::router) async fn waited<'m>(
        &self,
        hook: &LiveHook,
        messages: impl Iterator<Item = (&'m Message, impl FnOnce() -> String)>,
        now: i64,
    ) -> Option<Waited> {
        let policy = Policy::new(self.scheduler.config(), hook.hook.catch_up.unwrap_or(CatchUp::Latest));
        let late: Vec<String> = messages
            .filter(|(message, _)| {
                message.exchange == self.config.trigger_exchange
                    && scheduled_for(message)
                        .is_some_and(|moment| super::super::from_ms(now) - moment > policy.on_time)
            })
            .map(|(_, task_id)| task_id())
            .collect();
        if late.is_empty() {
            return None;
        }
        let read = async {
            let row = self.store.schedule(hook.incarnation).await?;
            Ok::<_, crate::store::StoreError>((row, self.store.known_fires(hook.incarnation, late).await?))
        };
        // Without the store nothing is recorded either; this decision is made again then.
        let (row, fired) = read.await.unwrap_or_else(|error| {
            tracing::error!(hook = %hook.name, %error, "cannot read the hook's schedule");
            (None, HashSet::new())
        });
        let schedule = Schedule::compile(&hook.hook.schedule).unwrap_or_default();
        Some(Waited { row, schedule, policy, fired })
    }
}

impl Waited {
    /// Why a trigger for `moment` does not fire any more; `None`: it fires.
    pub(in crate::router) fn stale(
        &self,
        moment: DateTime<Utc>,
        now: DateTime<Utc>,
        task_id: &str,
    ) -> Option<String> {
        if self.fired.contains(task_id) {
            return None;
        }
        let superseded = self.row.as_ref().is_some_and(|row| {
            let time = |ms: Option<i64>| ms.and_then(DateTime::from_timestamp_millis);
            // A moment in the future was handled when the wall clock was wrong.
            let handled =
                time(row.last_at).is_some_and(|last| last > moment && last <= now + TimeDelta::minutes(1));
            handled || time(row.next_at).is_some_and(|next| next <= now)
        });
        stale(&self.schedule, moment, now, superseded, &self.policy)
    }
}
