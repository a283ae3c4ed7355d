//! Table `schedule`: when each hook is due next, found by an index, so that a tick costs what is due and not what there is.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{DecisionRow, Store, StoreError, meta};
use crate::hook::HookName;

/// A hook's schedule as it is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSchedule {
    /// The hook.
    pub incarnation: i64,
    /// Its version; an older one than is stored changes nothing.
    pub version: i64,
    /// JSON list of its cron expressions; `None`: it has no schedule.
    pub expressions: Option<String>,
    /// Its `catchUp`, by name.
    pub catch_up: String,
    /// Paused hooks are never due.
    pub paused: bool,
    /// The first moment of these expressions, if they are new to the hook: milliseconds since the epoch.
    pub next_at: Option<i64>,
}

/// A hook's schedule as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRow {
    /// The hook.
    pub incarnation: i64,
    /// Its name.
    pub name: HookName,
    /// The version that brought the expressions.
    pub since: i64,
    /// JSON list of cron expressions.
    pub expressions: String,
    /// `latest`, `all` or `none`.
    pub catch_up: String,
    /// The oldest moment that was not handled yet, in milliseconds since the epoch.
    pub next_at: Option<i64>,
    /// The newest moment whose trigger the broker confirmed.
    pub last_at: Option<i64>,
}

/// A hook whose moments were handled.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The row that was handled; if it has changed meanwhile, it stays as it is.
    pub row: ScheduleRow,
    /// The oldest moment that is still to be handled.
    pub next_at: Option<i64>,
    /// The newest moment whose trigger the broker confirmed, if there was any.
    pub last_at: Option<i64>,
    /// What is to be on record: moments that were passed over.
    pub decision: Option<DecisionRow>,
}

/// A place in the order of due moments: moment and incarnation of the row before.
pub type DueCursor = (i64, i64);

const COLUMNS: &str =
    "s.incarnation, h.hook_group, h.hook_id, s.since, s.expressions, s.catch_up, s.next_at, s.last_at";

/// The moment up to which schedules were handled, in the table `meta`.
const HANDLED: &str = "schedules_handled";

fn row(row: &Row<'_>) -> rusqlite::Result<ScheduleRow> {
    Ok(ScheduleRow {
        incarnation: row.get(0)?,
        name: HookName { group: row.get(1)?, id: row.get(2)? },
        since: row.get(3)?,
        expressions: row.get(4)?,
        catch_up: row.get(5)?,
        next_at: row.get(6)?,
        last_at: row.get(7)?,
    })
}

impl Store {
    /// Takes over schedules of hooks. One with the expressions that are stored already keeps its next moment.
    pub async fn save_schedules(&self, schedules: Vec<NewSchedule>) -> Result<(), StoreError> {
        self.write(move |w| schedules.iter().try_for_each(|schedule| save(w.connection, schedule))).await
    }

    /// The version of each hook with a schedule, as last taken over.
    pub async fn schedule_versions(&self) -> Result<HashMap<i64, i64>, StoreError> {
        self.read(|c| {
            let mut statement = c.prepare_cached("SELECT incarnation, version FROM schedule")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Hooks are not scheduled for the time before this moment, in which the store knew no schedules.
    pub async fn schedules_since(&self) -> Result<i64, StoreError> {
        self.read(|c| Ok(meta::get(c, "schedules_since")?.and_then(|text| text.parse().ok()).unwrap_or(0)))
            .await
    }

    /// The schedule of one hook.
    pub async fn schedule(&self, incarnation: i64) -> Result<Option<ScheduleRow>, StoreError> {
        self.read(move |c| {
            Ok(c.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM schedule s JOIN hook h USING (incarnation) WHERE s.incarnation = ?1"
            ))?
            .query_row([incarnation], row)
            .optional()?)
        })
        .await
    }

    /// Those of these task ids under which the hook has fired.
    pub async fn known_fires(
        &self,
        incarnation: i64,
        task_ids: Vec<String>,
    ) -> Result<HashSet<String>, StoreError> {
        self.read_by_task(move |c, by_task| {
            let mut known = HashSet::new();
            for task_id in task_ids {
                if by_task.fire_of(c, incarnation, &task_id)?.is_some() {
                    known.insert(task_id);
                }
            }
            Ok(known)
        })
        .await
    }

    /// Hooks whose next moment to be handled is behind `cursor` and at most `to`, in the order of these moments.
    pub async fn due_schedules(
        &self,
        cursor: DueCursor,
        to: i64,
        limit: u32,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM schedule s JOIN hook h USING (incarnation)
                 WHERE s.paused = 0 AND s.next_at IS NOT NULL
                   AND (s.next_at, s.incarnation) > (?1, ?2) AND s.next_at <= ?3
                 ORDER BY s.next_at, s.incarnation LIMIT ?4"
            ))?;
            let rows = statement.query_map(params![cursor.0, cursor.1, to, limit], row)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The schedules after the cursor, also of hooks that are paused.
    pub async fn schedules_after(
        &self,
        cursor: DueCursor,
        limit: u32,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM schedule s JOIN hook h USING (incarnation)
                 WHERE s.next_at IS NOT NULL AND (s.next_at, s.incarnation) > (?1, ?2)
                 ORDER BY s.next_at, s.incarnation LIMIT ?3"
            ))?;
            let rows = statement.query_map(params![cursor.0, cursor.1, limit], row)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The first moment after `time` at which any hook is due.
    pub async fn next_scheduled(&self, time: i64) -> Result<Option<i64>, StoreError> {
        self.read(move |c| {
            Ok(c.prepare_cached(
                "SELECT min(next_at) FROM schedule WHERE paused = 0 AND next_at IS NOT NULL AND next_at > ?1",
            )?
            .query_row([time], |row| row.get(0))?)
        })
        .await
    }

    /// Whether any hook that is not paused has a moment before it.
    pub async fn has_schedules(&self) -> Result<bool, StoreError> {
        Ok(self.next_scheduled(i64::MIN).await?.is_some())
    }

    /// Moves hooks on, and records what was passed over and that everything up to `handled` was seen to. `kept`
    /// bounds the decisions on record per hook.
    pub async fn move_schedules_on(
        &self,
        moved: Vec<Moved>,
        handled: i64,
        kept: i64,
    ) -> Result<(), StoreError> {
        self.write(move |w| {
            for hook in &moved {
                let changed = w
                    .connection
                    .prepare_cached(
                        "UPDATE schedule SET next_at = ?4, last_at = coalesce(max(last_at, ?5), last_at, ?5)
                         WHERE incarnation = ?1 AND since = ?2 AND next_at IS ?3",
                    )?
                    .execute(params![
                        hook.row.incarnation,
                        hook.row.since,
                        hook.row.next_at,
                        hook.next_at,
                        hook.last_at
                    ])?;
                if let (1, Some(decision)) = (changed, &hook.decision) {
                    w.decision(decision, kept)?;
                }
            }
            meta::set(w.connection, HANDLED, &handled.to_string())
        })
        .await
    }

    /// Up to where schedules were handled, in milliseconds since the epoch. `None`: never yet.
    pub async fn schedules_handled(&self) -> Result<Option<i64>, StoreError> {
        self.read(|c| Ok(meta::get(c, HANDLED)?.and_then(|text| text.parse().ok()))).await
    }
}

fn save(c: &Connection, schedule: &NewSchedule) -> Result<(), StoreError> {
    let NewSchedule { incarnation, version, expressions, catch_up, paused, next_at } = schedule;
    let Some(expressions) = expressions else {
        c.prepare_cached("DELETE FROM schedule WHERE incarnation = ?1 AND version <= ?2")?
            .execute([incarnation, version])?;
        return Ok(());
    };
    c.prepare_cached(
        "INSERT INTO schedule (incarnation, version, since, expressions, catch_up, paused, next_at)
         SELECT ?1, ?2, ?2, ?3, ?4, ?5, ?6 FROM hook WHERE incarnation = ?1 AND deleted_at IS NULL
         ON CONFLICT (incarnation) DO UPDATE SET
           version = excluded.version,
           since = iif(expressions = excluded.expressions, since, excluded.since),
           next_at = iif(expressions = excluded.expressions, next_at, excluded.next_at),
           expressions = excluded.expressions,
           catch_up = excluded.catch_up,
           paused = excluded.paused
         WHERE version < excluded.version",
    )?
    .execute(params![incarnation, version, expressions, catch_up, paused, next_at])?;
    Ok(())
}
