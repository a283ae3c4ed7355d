//! Table `decision`: what became of messages that did not fire, so that "why did my hook not fire?" has an answer.

use rusqlite::params;

use super::{StoreError, Writing};

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
        if is_moment_to_prune(self.connection.last_insert_rowid()) {
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

/// One row in [`PRUNED_AT_ONCE`], and costs nothing in between. Scrambled: of hooks that take turns, as those do that are bound to the
/// same messages, each must have its moments.
fn is_moment_to_prune(row_id: i64) -> bool {
    const SCRAMBLE: u64 = 0x9E37_79B9_7F4A_7C15;
    row_id.cast_unsigned().wrapping_mul(SCRAMBLE) < u64::MAX / PRUNED_AT_ONCE.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Config, Store};

    fn row(incarnation: i64, at: i64) -> DecisionRow {
        DecisionRow {
            incarnation,
            at,
            exchange: "exchange/x/v1/y".into(),
            routing_key: "a.b".into(),
            message_id: None,
            outcome: "filtered".into(),
            reason: "The filter says no.".into(),
            detail: None,
        }
    }

    #[tokio::test]
    async fn hooks_that_take_turns_are_all_kept_within_bounds() {
        const KEPT: i64 = 100;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Config { path: folder.path().join("s.db") }, || ()).unwrap();
        for hooks in [1, 2, 3, 64] {
            let first = hooks * 1_000;
            let write = store.write(move |w| {
                (0..hooks * 2_000).try_for_each(|at| w.decision(&row(first + at % hooks, at), KEPT))
            });
            write.await.unwrap();
            for incarnation in first..first + hooks {
                let kept = store.decision_entries(incarnation, None, u32::MAX).await.unwrap();
                assert_eq!(kept[0].row.at / hooks, 1_999, "the newest is there");
                assert!((KEPT as usize..1_000).contains(&kept.len()), "{hooks} hooks: {}", kept.len());
            }
        }
    }
}
