//! Retention: what is past its time goes, in steps so small that no commit is felt.
//!
//! Fires are in the order of their ids, which is that of time, so a cursor that walks from the oldest to where all
//! are young enough sees all that is due and nothing else. Pending fires stay whatever their age; dead letters keep
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
            // One that a wrong clock dated later is no reason to stop; a whole step of them is.
            let young = |fired_at| fired_at >= horizon.fires && fired_at >= horizon.messages;
            let finished = (rows.len() as i64) < STEP || rows.iter().all(|(_, fired_at, _)| young(*fired_at));
            let step = Step { cursor: rows.last().map_or(cursor, |(id, ..)| *id), finished };
            for (id, fired_at, state) in rows.into_iter().filter(|(_, fired_at, _)| !young(*fired_at)) {
                let whole = fired_at < horizon.fires;
                if state == FireState::Pending as i64 || (!whole && state == FireState::Dead as i64) {
                    continue;
                }
                if whole {
                    w.forget_fire(id)?;
                } else {
                    w.forget_message(id)?;
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
                w.forget_fire(*id)?;
            }
            let decisions = w
                .connection
                .prepare_cached(
                    "DELETE FROM decision WHERE id IN (SELECT id FROM decision WHERE incarnation = ?1 LIMIT ?2)",
                )?
                .execute([incarnation, STEP])?;
            if !ids.is_empty() || decisions > 0 {
                return Ok(true);
            }
            let pending: bool = w
                .connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM fire WHERE incarnation = ?1)")?
                .query_row([incarnation], |row| row.get(0))?;
            if !pending {
                w.connection.prepare_cached("DELETE FROM buried WHERE incarnation = ?1")?.execute([incarnation])?;
            }
            // With fires that are still under way: later.
            Ok(!pending)
        })
        .await
    }
}

impl super::Writing<'_> {
    fn forget_fire(&mut self, fire: i64) -> Result<(), StoreError> {
        self.forget_message(fire)?;
        let task_id: String = self
            .connection
            .prepare_cached("DELETE FROM fire WHERE id = ?1 RETURNING task_id")?
            .query_row([fire], |row| row.get(0))?;
        self.by_task.remove(self.connection, &task_id, fire)
    }

    fn forget_message(&mut self, fire: i64) -> Result<(), StoreError> {
        self.connection.prepare_cached("DELETE FROM message WHERE fire = ?1")?.execute([fire])?;
        self.connection.prepare_cached("DELETE FROM earlier_task WHERE fire = ?1")?.execute([fire])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{Config, NewFire};

    const DAY: i64 = 24 * 3600 * 1000;

    #[tokio::test]
    async fn what_a_wrong_clock_dated_later_keeps_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Config { path: folder.path().join("s.db") }, || ()).unwrap();
        for (task_id, fired_at) in
            [("old", 0), ("of the future", 900 * DAY), ("as old", 1), ("new", 100 * DAY)]
        {
            let fire = NewFire {
                incarnation: 1,
                version: 1,
                task_id: task_id.into(),
                occurrence: 0,
                fired_by: "pulseMessage",
                fired_at,
                epoch: 1,
                digest: None,
                redelivered: false,
                message: Arc::new(pulse::Message::default()),
                task: None,
                error: Some("{}".into()),
                cause: None,
            };
            store.write(move |w| w.fire(&fire)).await.unwrap();
        }
        let horizon = Horizon { fires: 50 * DAY, messages: 50 * DAY };
        assert!(store.retention_step(0, horizon).await.unwrap().finished);
        let left = store.read(|connection| {
            let mut statement = connection.prepare("SELECT task_id FROM fire ORDER BY id")?;
            Ok(statement
                .query_map([], |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()?)
        });
        assert_eq!(left.await.unwrap(), ["of the future", "new"]);
    }
}
