//! Keeps the table of schedules in line with the hooks, and with a wall clock that was set back.

use chrono::{DateTime, TimeDelta, Utc};

use super::Scheduler;
use crate::hook::{CatchUp, Hook};
use crate::router::registry;
use crate::schedule::Schedule;
use crate::store::{HookRow, Moved, NewSchedule, ScheduleRow, StoreError};
use std::sync::atomic::Ordering;

/// Rows that are written together.
const PAGE: u32 = 500;

/// The wall clock may be corrected by so much without consequences.
const CORRECTION: TimeDelta = TimeDelta::seconds(60);

impl Scheduler {
    /// Takes over the schedule of a hook that was made or changed: from the moment of the change on, if its expressions
    /// are others than before. Should the store fail, the next sweep makes it good.
    pub async fn saved(&self, row: &HookRow) -> Result<(), StoreError> {
        let Some(new) = new_schedule(row, row.updated_at) else { return Ok(()) };
        let saved = self.parts.store.save_schedules(vec![new]).await;
        if saved.is_err() {
            self.behind.store(true, Ordering::Release);
        }
        saved
    }

    /// Compares all hooks with the table, after a start or a failure: a process may have stopped between the two.
    pub(super) async fn catch_up_with_hooks(&self) -> Result<(), StoreError> {
        if !self.behind.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let compared = self.compare().await;
        if compared.is_err() {
            self.behind.store(true, Ordering::Release);
        }
        compared
    }

    async fn compare(&self) -> Result<(), StoreError> {
        let store = &self.parts.store;
        let since = store.schedules_since().await?;
        let known = store.schedule_versions().await?;
        let hooks = store.hooks(None).await?;
        let behind: Vec<NewSchedule> = hooks
            .iter()
            .filter(|row| known.get(&row.incarnation) != Some(&row.version))
            .filter_map(|row| new_schedule(row, row.updated_at.max(since)))
            .filter(|new| new.expressions.is_some() || known.contains_key(&new.incarnation))
            .collect();
        for page in behind.chunks(PAGE as usize) {
            store.save_schedules(page.to_vec()).await?;
        }
        Ok(())
    }

    /// If schedules were handled up to a moment in the future, the wall clock was wrong then: each hook is due again at
    /// its next moment from now. What fired already does not fire again: hook and moment are the trigger's identity.
    pub(super) async fn follow_clock_back(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let store = &self.parts.store;
        let handled = store.schedules_handled().await?.and_then(DateTime::from_timestamp_millis);
        let Some(handled) = handled.filter(|handled| *handled > now + CORRECTION) else { return Ok(()) };
        tracing::warn!(
            was = %super::shown(handled), now = %super::shown(now),
            "the wall clock was set back; schedules follow it"
        );
        let mut cursor = (now.timestamp_millis(), i64::MAX);
        loop {
            let page = store.schedules_after(cursor, PAGE).await?;
            let Some(last) = page.last() else { break };
            cursor = (last.next_at.unwrap_or(i64::MAX), last.incarnation);
            let moved = page.into_iter().filter_map(|row| {
                let next_at = compile(&row).ok()?.next(now).map(|next| next.timestamp_millis());
                (next_at != row.next_at).then_some(Moved { row, next_at, last_at: None, decision: None })
            });
            store.move_schedules_on(moved.collect(), handled.timestamp_millis(), 0).await?;
        }
        store.move_schedules_on(Vec::new(), now.timestamp_millis(), 0).await
    }
}

/// The schedule of a hook as it is to be kept, due from `since` (milliseconds since the epoch) on. `None`: the hook is not
/// valid for this version of pulsehook and stays as it is.
pub(super) fn new_schedule(row: &HookRow, since: i64) -> Option<NewSchedule> {
    let read = || -> Result<(Hook, Schedule), String> {
        let hook = registry::parse(&row.name, &row.document)?;
        let schedule = Schedule::compile(&hook.schedule).map_err(|problems| registry::join(&problems))?;
        Ok((hook, schedule))
    };
    let (hook, schedule) = read()
        .inspect_err(
            |error| tracing::error!(hook = %row.name, error, "the stored hook cannot be scheduled as it is"),
        )
        .ok()?;
    let since = DateTime::from_timestamp_millis(since)?;
    Some(NewSchedule {
        incarnation: row.incarnation,
        version: row.version,
        expressions: (!schedule.is_empty()).then(|| serde_json::json!(hook.schedule).to_string()),
        catch_up: match hook.catch_up.unwrap_or(CatchUp::Latest) {
            CatchUp::Latest => "latest",
            CatchUp::All => "all",
            CatchUp::None => "none",
        }
        .to_owned(),
        paused: hook.paused == Some(true),
        next_at: schedule.next(since).map(|next| next.timestamp_millis()),
    })
}

/// The compiled expressions of a row. They were checked when they were stored.
pub(in crate::router) fn compile(row: &ScheduleRow) -> Result<Schedule, String> {
    let expressions: Vec<String> =
        serde_json::from_str(&row.expressions).map_err(|error| error.to_string())?;
    Schedule::compile(&expressions)
        .map_err(|problems| registry::join(&problems))
        .inspect_err(|error| tracing::error!(hook = %row.name, error, "the stored schedule cannot be read"))
}

/// A stored `catchUp`.
pub(in crate::router) fn catch_up(text: &str) -> CatchUp {
    match text {
        "all" => CatchUp::All,
        "none" => CatchUp::None,
        _ => CatchUp::Latest,
    }
}
