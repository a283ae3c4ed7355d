//! Table `audit`: who did what to a hook, and when. Written in the transaction of the change itself where there is one.

use rusqlite::params;

use super::{Store, StoreError, Writing};
use crate::hook::HookName;

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Row id; grows with time. 0 before it is written.
    pub id: i64,
    /// When: milliseconds since the epoch.
    pub at: i64,
    /// Who; `None` for a trigger by token, whose sender nobody knows, and for what follows from what somebody did before.
    pub client_id: Option<String>,
    /// What, e.g. `create-hook`.
    pub action: String,
    /// To which hook.
    pub hook: HookName,
    /// JSON with more.
    pub detail: Option<String>,
}

/// Rows that are past their time are removed so many at a time, whenever a row is written.
const PRUNED_AT_ONCE: i64 = 20;

impl Writing<'_> {
    /// Writes a row, and removes some of those from before `horizon` (milliseconds since the epoch).
    pub fn audit(&mut self, row: &AuditRow, horizon: i64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO audit (at, client_id, action, hook_group, hook_id, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![row.at, row.client_id, row.action, row.hook.group, row.hook.id, row.detail])?;
        // Ids are in the order of time: the oldest are the first.
        self.connection
            .prepare_cached(
                "DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY id LIMIT ?2) AND at < ?1",
            )?
            .execute([horizon, PRUNED_AT_ONCE])?;
        Ok(())
    }
}

impl Store {
    /// What was done to a hook by that name, newest first, with row ids below `before`.
    pub async fn audit(
        &self,
        hook: HookName,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare_cached(
                "SELECT id, at, client_id, action, detail FROM audit
                 WHERE hook_group = ?1 AND hook_id = ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4",
            )?;
            let before = before.unwrap_or(i64::MAX);
            let rows = statement.query_map(params![hook.group, hook.id, before, limit], |row| {
                Ok(AuditRow {
                    id: row.get(0)?,
                    at: row.get(1)?,
                    client_id: row.get(2)?,
                    action: row.get(3)?,
                    hook: hook.clone(),
                    detail: row.get(4)?,
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }
}
