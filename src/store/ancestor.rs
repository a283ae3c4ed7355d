//! What came of what: the line of fires, each on a task of the one before, back from a task.

use std::collections::BTreeSet;

use rusqlite::OptionalExtension;

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
        self.read_by_task(move |c, by_task| {
            let mut cause = c.prepare_cached("SELECT cause FROM fire WHERE id = ?1")?;
            let mut line = Vec::new();
            let mut tasks = BTreeSet::from([task_id]);
            for distance in 0..=furthest {
                if tasks.is_empty() {
                    break;
                }
                let mut causes = BTreeSet::new();
                for task_id in tasks {
                    for (fire, incarnation) in by_task.fires(c, &task_id)? {
                        causes.extend(
                            cause
                                .query_row([fire], |row| row.get::<_, Option<String>>(0))
                                .optional()?
                                .flatten(),
                        );
                        line.push(Ancestor { incarnation, task_id: task_id.clone(), distance });
                    }
                }
                tasks = causes;
            }
            Ok(line)
        })
        .await
    }
}
