//! What the pages ask of several tables: hooks at a glance, decisions with their row ids, what happened lately.
//!
//! Each question is answered from an index and is bounded; none is asked on the road of a message.

use rusqlite::{OptionalExtension, Row, params};

use super::{AuditRow, DecisionRow, FireState, Store, StoreError};
use crate::hook::HookName;

/// A hook's name, without its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookEntry {
    /// Which making of the name it is.
    pub incarnation: i64,
    /// The name.
    pub name: HookName,
}

/// The newest that is on record of a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastOutcome {
    /// The hook.
    pub incarnation: i64,
    /// State of its newest fire, and when it fired (milliseconds since the epoch).
    pub fire: Option<(FireState, i64)>,
    /// Outcome of the newest message that did not fire, and when that was decided.
    pub decision: Option<(String, i64)>,
}

/// A decision with its row id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionEntry {
    /// Row id; grows with time.
    pub id: i64,
    /// The decision.
    pub row: DecisionRow,
}

/// Something that happened: its row id, when (milliseconds since the epoch), and the fire's state, if it is a fire.
pub type Happened = (i64, i64, Option<FireState>);

const DECISION: &str = "id, incarnation, at, exchange, routing_key, message_id, outcome, reason, detail";

fn decision(row: &Row<'_>) -> rusqlite::Result<DecisionEntry> {
    Ok(DecisionEntry {
        id: row.get(0)?,
        row: DecisionRow {
            incarnation: row.get(1)?,
            at: row.get(2)?,
            exchange: row.get(3)?,
            routing_key: row.get(4)?,
            message_id: row.get(5)?,
            outcome: row.get(6)?,
            reason: row.get(7)?,
            detail: row.get(8)?,
        },
    })
}

impl Store {
    /// The names of all hooks, in order.
    pub async fn hook_entries(&self) -> Result<Vec<HookEntry>, StoreError> {
        self.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT incarnation, hook_group, hook_id FROM hook WHERE deleted_at IS NULL ORDER BY hook_group, hook_id",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(HookEntry {
                    incarnation: row.get(0)?,
                    name: HookName { group: row.get(1)?, id: row.get(2)? },
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The newest on record of these hooks, in their order.
    pub async fn last_outcomes(&self, incarnations: Vec<i64>) -> Result<Vec<LastOutcome>, StoreError> {
        self.read(move |c| {
            let mut fires = c.prepare_cached(
                "SELECT state, fired_at FROM fire WHERE incarnation = ?1 ORDER BY id DESC LIMIT 1",
            )?;
            let mut decisions = c.prepare_cached(
                "SELECT outcome, at FROM decision WHERE incarnation = ?1 ORDER BY id DESC LIMIT 1",
            )?;
            incarnations
                .into_iter()
                .map(|incarnation| {
                    let fire = fires
                        .query_row([incarnation], |row| {
                            Ok((FireState::from_stored(row.get(0)?), row.get(1)?))
                        })
                        .optional()?;
                    let decision = decisions
                        .query_row([incarnation], |row| Ok((row.get(0)?, row.get(1)?)))
                        .optional()?;
                    Ok(LastOutcome { incarnation, fire, decision })
                })
                .collect()
        })
        .await
    }

    /// The newest decisions of a hook with row ids below `before`, newest first.
    pub async fn decision_entries(
        &self,
        incarnation: i64,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<DecisionEntry>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare_cached(&format!(
                "SELECT {DECISION} FROM decision WHERE incarnation = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3"
            ))?;
            let rows =
                statement.query_map(params![incarnation, before.unwrap_or(i64::MAX), limit], decision)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// A decision of a hook by its row id.
    pub async fn decision_entry(
        &self,
        incarnation: i64,
        id: i64,
    ) -> Result<Option<DecisionEntry>, StoreError> {
        self.read(move |c| {
            Ok(c.prepare_cached(&format!(
                "SELECT {DECISION} FROM decision WHERE id = ?2 AND incarnation = ?1"
            ))?
            .query_row([incarnation, id], decision)
            .optional()?)
        })
        .await
    }

    /// What was done to any hook, newest first, with row ids below `before`.
    pub async fn audit_of_all(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare_cached(
                "SELECT id, at, client_id, action, detail, hook_group, hook_id FROM audit
                 WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
            )?;
            let rows = statement.query_map(params![before.unwrap_or(i64::MAX), limit], |row| {
                Ok(AuditRow {
                    id: row.get(0)?,
                    at: row.get(1)?,
                    client_id: row.get(2)?,
                    action: row.get(3)?,
                    detail: row.get(4)?,
                    hook: HookName { group: row.get(5)?, id: row.get(6)? },
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Dead letters of hooks that are there, counted up to a bound.
    pub async fn count_dead(&self, most: u32) -> Result<u32, StoreError> {
        self.read(move |c| {
            Ok(c.prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM fire JOIN hook ON hook.incarnation = fire.incarnation
                 AND hook.deleted_at IS NULL WHERE fire.state = 2 LIMIT ?1)",
            )?
            .query_row([most], |row| row.get(0))?)
        })
        .await
    }

    /// The newest fires, then the newest decisions, of all hooks, down to a moment (milliseconds since the epoch) and up to a
    /// number of each.
    pub async fn happened_since(&self, horizon: i64, most: u32) -> Result<Vec<Happened>, StoreError> {
        self.read(move |c| {
            let mut all = Vec::new();
            let mut fires =
                c.prepare_cached("SELECT id, fired_at, state FROM fire ORDER BY id DESC LIMIT ?1")?;
            let rows = fires.query_map([most], |row| {
                Ok((row.get(0)?, row.get(1)?, Some(FireState::from_stored(row.get(2)?))))
            })?;
            young(rows, horizon, &mut all)?;
            let mut decisions = c.prepare_cached("SELECT id, at FROM decision ORDER BY id DESC LIMIT ?1")?;
            let rows = decisions.query_map([most], |row| Ok((row.get(0)?, row.get(1)?, None)))?;
            young(rows, horizon, &mut all)?;
            Ok(all)
        })
        .await
    }
}

/// Takes rows as long as they are young enough: row ids are in the order of time.
fn young(
    rows: impl Iterator<Item = rusqlite::Result<Happened>>,
    horizon: i64,
    into: &mut Vec<Happened>,
) -> Result<(), StoreError> {
    for row in rows {
        let row = row?;
        if row.1 < horizon {
            break;
        }
        into.push(row);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{Config, NewFire, NewHook, Saved};

    #[tokio::test]
    async fn what_is_on_record_is_found_by_hook_and_by_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Config { path: folder.path().join("s.db") }, || ()).unwrap();
        let name = HookName::new("g", "h").unwrap();
        let new = NewHook { name: name.clone(), document: "{}".into(), stale_bindings: Vec::new() };
        let Saved::Changed(hook) = store.create_hook(new, 1).await.unwrap() else { panic!() };
        let fire = NewFire {
            incarnation: hook.incarnation,
            version: 1,
            task_id: "one".into(),
            occurrence: 0,
            fired_by: "pulseMessage",
            fired_at: 100,
            epoch: 0,
            digest: None,
            redelivered: false,
            message: Arc::default(),
            task: None,
            error: Some("{}".into()),
            cause: None,
        };
        let row = DecisionRow {
            incarnation: hook.incarnation,
            at: 50,
            exchange: "e".into(),
            routing_key: "k".into(),
            message_id: None,
            outcome: "filtered".into(),
            reason: "r".into(),
            detail: None,
        };
        let decided = row.clone();
        store
            .write(move |w| {
                w.fire(&fire)?;
                w.decision(&decided, 10)
            })
            .await
            .unwrap();
        let entries = store.hook_entries().await.unwrap();
        assert_eq!(entries, [HookEntry { incarnation: hook.incarnation, name }]);
        let last = store.last_outcomes(vec![hook.incarnation, 77]).await.unwrap();
        assert_eq!(last[0].fire, Some((FireState::Dead, 100)));
        assert_eq!(last[0].decision, Some(("filtered".into(), 50)));
        assert_eq!((&last[1].fire, &last[1].decision), (&None, &None));
        let decisions = store.decision_entries(hook.incarnation, None, 5).await.unwrap();
        assert_eq!(decisions[0].row, row);
        let id = decisions[0].id;
        assert!(store.decision_entries(hook.incarnation, Some(id), 5).await.unwrap().is_empty());
        assert_eq!(store.decision_entry(hook.incarnation, id).await.unwrap().unwrap().row, row);
        assert_eq!(store.decision_entry(hook.incarnation + 1, id).await.unwrap(), None);
        assert_eq!(store.count_dead(10).await.unwrap(), 1);
        assert_eq!(store.happened_since(60, 10).await.unwrap().len(), 1);
        assert_eq!(store.happened_since(0, 10).await.unwrap().len(), 2);
    }
}
