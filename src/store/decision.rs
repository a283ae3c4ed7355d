//! Table `decision`: what became of messages that did not fire, so that "why did my hook not fire?" has an answer.

use rusqlite::params;

use super::{Store, StoreError, Writing};

/// What became of one message that did not fire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionRow {
    /// The hook.
    pub incarnation: i64,
    /// When it was decided: milliseconds since the epoch.
    pub at: i64,
    /// Exchange of the message.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Its `message-id`, if it has one.
    pub message_id: Option<String>,
    /// Name of the outcome, e.g. `filtered`.
    pub outcome: String,
    /// A sentence for people.
    pub reason: String,
    /// JSON with more: the failing term and the values that it saw, the schema errors.
    pub detail: Option<String>,
}

/// So many of the oldest are removed at a time, to keep each commit short.
const PRUNED_AT_ONCE: i64 = 64;

impl Writing<'_> {
    /// Records a decision, and removes the hook's oldest ones beyond `kept`.
    pub fn decision(&mut self, decision: &DecisionRow, kept: i64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "INSERT INTO decision (incarnation, at, exchange, routing_key, message_id, outcome, reason, detail)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                decision.incarnation,
                decision.at,
                decision.exchange,
                decision.routing_key,
                decision.message_id,
                decision.outcome,
                decision.reason,
                decision.detail
            ])?;
        // Row ids grow, so every so many rows are as good a moment as any and cost nothing in between.
        if self.connection.last_insert_rowid() % PRUNED_AT_ONCE == 0 {
            self.connection
                .prepare_cached(
                    "DELETE FROM decision WHERE id IN (
                       SELECT id FROM decision WHERE incarnation = ?1 ORDER BY id LIMIT
                         min(?3, max(0, (SELECT count(*) FROM decision WHERE incarnation = ?1) - ?2)))",
                )?
                .execute(params![decision.incarnation, kept, PRUNED_AT_ONCE * 2])?;
        }
        Ok(())
    }
}

impl Store {
    /// The newest decisions of a hook, newest first.
    pub async fn decisions(&self, incarnation: i64, limit: u32) -> Result<Vec<DecisionRow>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare_cached(
                "SELECT incarnation, at, exchange, routing_key, message_id, outcome, reason, detail
                 FROM decision WHERE incarnation = ?1 ORDER BY id DESC LIMIT ?2",
            )?;
            let rows = statement.query_map(params![incarnation, limit], |row| {
                Ok(DecisionRow {
                    incarnation: row.get(0)?,
                    at: row.get(1)?,
                    exchange: row.get(2)?,
                    routing_key: row.get(3)?,
                    message_id: row.get(4)?,
                    outcome: row.get(5)?,
                    reason: row.get(6)?,
                    detail: row.get(7)?,
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }
}
