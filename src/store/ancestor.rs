//! What came of what: the line of fires, each on a task of the one before, back from a task.

use rusqlite::params;

use super::{Store, StoreError};

/// A fire in the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ancestor {
    /// Its hook.
    pub incarnation: i64,
    /// Its task.
    pub task_id: String,
    /// Fires between it and the task that was asked about; 0: it made that task.
    pub distance: u32,
}

impl Store {
    /// The fire that made a task, the one on whose task that fired, and so on, nearest first, up to a distance. Empty for a task
    /// that no fire made.
    pub async fn ancestors(&self, task_id: String, furthest: u32) -> Result<Vec<Ancestor>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare_cached(
                "WITH RECURSIVE line (task_id, distance) AS (
                   VALUES (?1, 0)
                   UNION
                   SELECT fire.cause, line.distance + 1 FROM line JOIN fire ON fire.task_id = line.task_id
                   WHERE fire.cause IS NOT NULL AND line.distance < ?2)
                 SELECT fire.incarnation, line.task_id, line.distance
                 FROM line JOIN fire ON fire.task_id = line.task_id ORDER BY line.distance",
            )?;
            let rows = statement.query_map(params![task_id, furthest], |row| {
                Ok(Ancestor { incarnation: row.get(0)?, task_id: row.get(1)?, distance: row.get(2)? })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }
}
