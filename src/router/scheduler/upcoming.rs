//! When a hook is due, for people and programs that ask.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Scheduler, shown};
use crate::hook::CatchUp;
use crate::router::registry;
use crate::schedule::Schedule;
use crate::store::{HookRow, StoreError};

/// When a hook is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upcoming {
    /// Its cron expressions.
    pub schedule: Vec<String>,
    /// What it does about missed times.
    pub catch_up: CatchUp,
    /// While it is paused it is not due; then `catchUp` decides.
    pub paused: bool,
    /// Its next moments.
    pub next: Vec<DateTime<Utc>>,
    /// The newest moment for which it was triggered.
    pub last: Option<DateTime<Utc>>,
    /// A moment that has come and was not handled yet: the hook is paused, its queue does not stand, or no ticks come.
    pub overdue: Option<DateTime<Utc>>,
}

impl Scheduler {
    /// The next `count` moments of a hook, and how far the scheduler has come with it.
    pub(in crate::router) async fn upcoming(
        &self,
        row: &HookRow,
        count: usize,
    ) -> Result<Upcoming, StoreError> {
        let stored = self.parts.store.schedule(row.incarnation).await?;
        let now = (self.parts.now)();
        // Apart from the event loop: many expressions that come rarely take a while.
        let (name, document) = (row.name.clone(), row.document.clone());
        let computed = tokio::task::spawn_blocking(move || {
            // A hook that is not valid for this version is not scheduled either.
            let (schedule, catch_up, paused) = registry::parse(&name, &document)
                .map(|hook| (hook.schedule, hook.catch_up, hook.paused))
                .unwrap_or_default();
            let compiled = Schedule::compile(&schedule).unwrap_or_default();
            let next: Vec<_> = compiled.after(now).take(count).collect();
            (schedule, catch_up, paused, next)
        });
        let (schedule, catch_up, paused, next) = computed.await.map_err(|_| StoreError::Closed)?;
        let time = |ms: Option<i64>| ms.and_then(DateTime::from_timestamp_millis);
        let (next_at, last_at) = stored.map(|row| (row.next_at, row.last_at)).unwrap_or_default();
        Ok(Upcoming {
            next,
            schedule,
            catch_up: catch_up.unwrap_or(CatchUp::Latest),
            paused: paused == Some(true),
            last: time(last_at),
            overdue: time(next_at).filter(|next| *next <= now),
        })
    }
}

impl Upcoming {
    /// `{schedule, catchUp, paused, next, last?, overdueSince?}`; moments are RFC 3339, UTC.
    pub fn to_json(&self) -> Value {
        let mut answer = json!({
            "schedule": self.schedule,
            "catchUp": self.catch_up,
            "paused": self.paused,
            "next": self.next.iter().map(|moment| shown(*moment)).collect::<Vec<_>>(),
        });
        for (name, moment) in [("last", self.last), ("overdueSince", self.overdue)] {
            if let Some(moment) = moment {
                answer[name] = shown(moment).into();
            }
        }
        answer
    }
}
