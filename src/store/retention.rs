//! Retention: what is past its time goes, in steps so small that no commit is felt.
//!
//! Fires are in the order of their ids, which is that of time, so a cursor that walks from the oldest to the first that
//! is young enough sees all that is due and nothing else. Pending fires stay whatever their age; dead letters keep
//! their messages for as long as the fire is kept.

use rusqlite::params;

use super::{FireState, Store, StoreError};

/// Fires that one step looks at.
const STEP: i64 = 500;

/// What is to be kept.
#[derive(Debug, Clone, Copy)]
pub struct Horizon {
    /// Fires from before this moment are removed, with everything of theirs: milliseconds since the epoch.
    pub fires: i64,
    /// Messages and rendered tasks of fires from before this moment are removed.
    pub messages: i64,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Where the next step goes on.
    pub cursor: i64,
    /// Nothing older is left: start over from 0 another day.
    pub finished: bool,
}

impl Store {
    /// Looks at the next fires after `cursor`, and removes what is due.
    pub async fn retention_step(&self, cursor: i64, horizon: Horizon) -> Result<Step, StoreError> {
        self.write(move |w| {
            let rows: Vec<(i64, i64, i64)> = w
                .connection
                .prepare_cached("SELECT id, fired_at, state FROM fire WHERE id > ?1 ORDER BY id LIMIT ?2")?
                .query_map(params![cursor, STEP], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<rusqlite::Result<_>>()?;
            let mut step = Step { cursor, finished: (rows.len() as i64) < STEP };
            for (id, fired_at, state) in rows {
                let whole = fired_at < horizon.fires;
                if !whole && fired_at >= horizon.messages {
                    step.finished = true;
                    break;
                }
                step.cursor = id;
                if state == FireState::Pending as i64 || (!whole && state == FireState::Dead as i64) {
                    continue;
                }
                w.forget_message(id)?;
                if whole {
                    w.connection.prepare_cached("DELETE FROM fire WHERE id = ?1")?.execute([id])?;
                }
            }
            Ok(step)
        })
        .await
    }

    /// Removes fires and decisions of deleted hooks. Answers true while there are more.
    pub async fn forget_buried(&self) -> Result<bool, StoreError> {
        self.write(|w| {
            let found: Option<i64> =
                w.connection.prepare_cached("SELECT min(incarnation) FROM buried")?.query_row([], |row| row.get(0))?;
            let Some(incarnation) = found else { return Ok(false) };
            let ids: Vec<i64> = w
                .connection
                .prepare_cached("SELECT id FROM fire WHERE incarnation = ?1 AND state != 0 LIMIT ?2")?
                .query_map([incarnation, STEP], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for id in &ids {
                w.forget_message(*id)?;
                w.connection.prepare_cached("DELETE FROM fire WHERE id = ?1")?.execute([id])?;
            }
            let decisions = w
                .connection
                .prepare_cached(
                    "DELETE FROM decision WHERE id IN (SELECT id FROM decision WHERE incarnation = ?1 LIMIT ?2)",
                )?
                .execute([incarnation, STEP])?;
            let pending: i64 = w
                .connection
                .prepare_cached("SELECT count(*) FROM fire WHERE incarnation = ?1")?
                .query_row([incarnation], |row| row.get(0))?;
            if ids.is_empty() && decisions == 0 && pending == 0 {
                w.connection.prepare_cached("DELETE FROM buried WHERE incarnation = ?1")?.execute([incarnation])?;
            }
            // With fires that are still under way: later.
            Ok(!ids.is_empty() || decisions > 0 || pending == 0)
        })
        .await
    }
}

impl super::Writing<'_> {
    fn forget_message(&mut self, fire: i64) -> Result<(), StoreError> {
        self.connection.prepare_cached("DELETE FROM message WHERE fire = ?1")?.execute([fire])?;
        self.connection.prepare_cached("DELETE FROM earlier_task WHERE fire = ?1")?.execute([fire])?;
        Ok(())
    }
}
