//! Table `notice`: what owners are to be told.
//!
//! Failures are counted by address, hook and kind, so that an outage of a thousand failures is a handful of rows.

use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError};
use crate::hook::HookName;

/// A dead fire, with what is needed to tell its owner.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Row id of the fire.
    pub fire: i64,
    /// Its place among the ended fires.
    pub ended_seq: i64,
    /// The hook.
    pub hook: HookName,
    /// Its owner's address, if the owner wants mail.
    pub owner: Option<String>,
    /// The task id.
    pub task_id: String,
    /// What fired it.
    pub fired_by: String,
    /// Exchange of the message.
    pub exchange: String,
    /// Routing key of the message.
    pub routing_key: String,
    /// Its `message-id`.
    pub message_id: Option<String>,
    /// When it died: milliseconds since the epoch.
    pub at: i64,
    /// JSON error.
    pub error: Option<String>,
}

/// Failures to be told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNotice {
    /// Whom to tell.
    pub address: String,
    /// The hook.
    pub hook: HookName,
    /// What kind of failure.
    pub kind: &'static str,
    /// How many.
    pub failures: u32,
    /// When the first and the last were: milliseconds since the epoch.
    pub first_at: i64,
    /// The last.
    pub last_at: i64,
    /// JSON: the first of them.
    pub example: String,
}

/// Failures of one hook and kind that nobody was told of yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Row id.
    pub id: i64,
    /// The hook.
    pub hook: HookName,
    /// What kind of failure.
    pub kind: String,
    /// How many.
    pub failures: i64,
    /// The first: milliseconds since the epoch.
    pub first_at: i64,
    /// The last.
    pub last_at: i64,
    /// JSON: the first of them.
    pub example: String,
}

/// Up to which sequence number dead fires were made into notices.
const NOTED: &str = "noted_fires";

impl Store {
    /// Up to which sequence number dead fires have been noted.
    pub async fn noted_watermark(&self) -> Result<i64, StoreError> {
        self.read(|c| Ok(super::meta::get(c, NOTED)?.and_then(|value| value.parse().ok()).unwrap_or(0))).await
    }

    /// Dead fires of hooks that are there, with sequence numbers above `after`, in their order.
    pub async fn failures(&self, after: i64, limit: u32) -> Result<Vec<Failure>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare_cached(
                "SELECT fire.id, fire.ended_seq, hook.hook_group, hook.hook_id,
                   CASE WHEN json_extract(hook.document, '$.metadata.emailOnError') IS NOT 0
                     THEN json_extract(hook.document, '$.metadata.owner') END,
                   fire.task_id,
                   fire.fired_by, fire.exchange, fire.routing_key, fire.message_id, fire.ended_at, fire.error
                 FROM fire INDEXED BY fire_died
                 JOIN hook ON hook.incarnation = fire.incarnation AND hook.deleted_at IS NULL
                 WHERE fire.state = 2 AND fire.ended_seq > ?1 ORDER BY fire.ended_seq LIMIT ?2",
            )?;
            let rows = statement.query_map(params![after, limit], |row| {
                Ok(Failure {
                    fire: row.get(0)?,
                    ended_seq: row.get(1)?,
                    hook: HookName { group: row.get(2)?, id: row.get(3)? },
                    owner: row.get(4)?,
                    task_id: row.get(5)?,
                    fired_by: row.get(6)?,
                    exchange: row.get(7)?,
                    routing_key: row.get(8)?,
                    message_id: row.get(9)?,
                    at: row.get::<_, Option<i64>>(10)?.unwrap_or_default(),
                    error: row.get(11)?,
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Adds notices to those of the same address, hook and kind, and moves the watermark on. Beyond `most` rows new ones
    /// are left out; answers how many were.
    pub async fn note(
        &self,
        notices: Vec<NewNotice>,
        noted: Option<i64>,
        most: u32,
    ) -> Result<usize, StoreError> {
        self.write(move |w| {
            let mut rows: i64 = w
                .connection
                .prepare_cached("SELECT count(*) FROM notice")?
                .query_row([], |row| row.get(0))?;
            let mut left_out = 0;
            for notice in &notices {
                let key = params![notice.address, notice.hook.group, notice.hook.id, notice.kind];
                let known: Option<i64> = w
                    .connection
                    .prepare_cached(
                        "SELECT id FROM notice WHERE address = ?1 AND hook_group = ?2 AND hook_id = ?3 AND kind = ?4",
                    )?
                    .query_row(key, |row| row.get(0))
                    .optional()?;
                match known {
                    Some(id) => {
                        w.connection
                            .prepare_cached(
                                "UPDATE notice SET failures = failures + ?2, last_at = max(last_at, ?3) WHERE id = ?1",
                            )?
                            .execute(params![id, notice.failures, notice.last_at])?;
                    }
                    None if rows >= i64::from(most) => left_out += 1,
                    None => {
                        rows += 1;
                        w.connection
                            .prepare_cached(
                                "INSERT INTO notice (address, hook_group, hook_id, kind, failures, first_at, last_at, example)
                                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                            )?
                            .execute(params![
                                notice.address,
                                notice.hook.group,
                                notice.hook.id,
                                notice.kind,
                                notice.failures,
                                notice.first_at,
                                notice.last_at,
                                notice.example
                            ])?;
                    }
                }
            }
            if let Some(noted) = noted {
                super::meta::set(w.connection, NOTED, &noted.to_string())?;
            }
            Ok(left_out)
        })
        .await
    }

    /// What an address is to be told, oldest first.
    pub async fn notices(&self, address: String, limit: u32) -> Result<Vec<Notice>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare_cached(
                "SELECT id, hook_group, hook_id, kind, failures, first_at, last_at, example
                 FROM notice WHERE address = ?1 ORDER BY first_at, id LIMIT ?2",
            )?;
            let rows = statement.query_map(params![address, limit], |row| {
                Ok(Notice {
                    id: row.get(0)?,
                    hook: HookName { group: row.get(1)?, id: row.get(2)? },
                    kind: row.get(3)?,
                    failures: row.get(4)?,
                    first_at: row.get(5)?,
                    last_at: row.get(6)?,
                    example: row.get(7)?,
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }
}

#[cfg(test)]
mod tests;
