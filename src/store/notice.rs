//! Tables `notice`, `mail`, `refused_binding`: what owners are to be told, and the mails that tell them.
//!
//! Failures are counted by address, hook and kind, so that an outage of a thousand failures is a handful of rows. A mail is
//! composed, and its notices are taken away, in one transaction: whatever stops in between, a failure is told of once. A
//! mail keeps its id until the server has taken it, so that one that is sent twice after a crash is seen to be the same.

use rusqlite::{OptionalExtension, Row, params};

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

/// A mail on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailRow {
    /// To whom.
    pub address: String,
    /// Its id, the same at each attempt.
    pub mail_id: String,
    /// Subject.
    pub subject: String,
    /// Text.
    pub body: String,
    /// Milliseconds since the epoch.
    pub composed_at: i64,
    /// Attempts so far.
    pub attempts: u32,
}

/// A binding of a hook that the broker refuses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RefusedBinding {
    /// The hook.
    pub incarnation: i64,
    /// Its exchange.
    pub exchange: String,
    /// Its pattern.
    pub pattern: String,
}

/// How much waits to be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MailFigures {
    /// Failures that are held back.
    pub held_back: i64,
    /// Mails that no server has taken yet.
    pub waiting: i64,
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

    /// Addresses that may be written to: something was noted before `noted_before`, no mail is on its way, and the last
    /// one was sent before `sent_before` (milliseconds since the epoch).
    pub async fn addresses_due(
        &self,
        noted_before: i64,
        sent_before: i64,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare_cached(
                "SELECT notice.address FROM notice LEFT JOIN mail ON mail.address = notice.address
                 WHERE mail.mail_id IS NULL AND (mail.sent_at IS NULL OR mail.sent_at <= ?2)
                 GROUP BY notice.address HAVING min(notice.first_at) <= ?1 ORDER BY notice.address LIMIT ?3",
            )?;
            let rows = statement.query_map(params![noted_before, sent_before, limit], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
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

    /// Puts a mail on its way and takes away what it tells: (row id, failures) of each notice.
    pub async fn compose(&self, mail: MailRow, told: Vec<(i64, i64)>) -> Result<(), StoreError> {
        self.write(move |w| {
            w.connection
                .prepare_cached(
                    "INSERT INTO mail (address, mail_id, subject, body, composed_at, attempts, next_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, 0, ?5)
                     ON CONFLICT (address) DO UPDATE SET mail_id = ?2, subject = ?3, body = ?4, composed_at = ?5,
                       attempts = 0, next_at = ?5, error = NULL",
                )?
                .execute(params![mail.address, mail.mail_id, mail.subject, mail.body, mail.composed_at])?;
            for (id, failures) in &told {
                w.connection
                    .prepare_cached("DELETE FROM notice WHERE id = ?1 AND failures <= ?2")?
                    .execute(params![id, failures])?;
                // More have come since they were read.
                w.connection
                    .prepare_cached("UPDATE notice SET failures = failures - ?2 WHERE id = ?1")?
                    .execute(params![id, failures])?;
            }
            Ok(())
        })
        .await
    }

    /// Mails that are to be tried now, oldest first.
    pub async fn mails_due(&self, now: i64, limit: u32) -> Result<Vec<MailRow>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare_cached(
                "SELECT address, mail_id, subject, body, composed_at, attempts FROM mail
                 WHERE mail_id IS NOT NULL AND next_at <= ?1 ORDER BY next_at LIMIT ?2",
            )?;
            let rows = statement.query_map(params![now, limit], mail_row)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// A server has taken an address's mail, or it was given up: with it the time until the next one begins.
    pub async fn mail_ended(&self, address: String, now: i64) -> Result<(), StoreError> {
        self.write(move |w| {
            w.connection
                .prepare_cached(
                    "UPDATE mail SET sent_at = ?2, mail_id = NULL, subject = NULL, body = NULL, composed_at = NULL,
                       next_at = NULL, error = NULL WHERE address = ?1",
                )?
                .execute(params![address, now])?;
            Ok(())
        })
        .await
    }

    /// An attempt failed: the next one is at `next_at` (milliseconds since the epoch).
    pub async fn mail_failed(&self, address: String, next_at: i64, error: String) -> Result<(), StoreError> {
        self.write(move |w| {
            w.connection
                .prepare_cached(
                    "UPDATE mail SET attempts = attempts + 1, next_at = ?2, error = ?3 WHERE address = ?1",
                )?
                .execute(params![address, next_at, error])?;
            Ok(())
        })
        .await
    }

    /// Forgets addresses that were last written to before this moment, so long ago that it does not count any more.
    pub async fn forget_mails(&self, sent_before: i64) -> Result<usize, StoreError> {
        self.write(move |w| {
            Ok(w.connection
                .prepare_cached("DELETE FROM mail WHERE mail_id IS NULL AND sent_at < ?1")?
                .execute([sent_before])?)
        })
        .await
    }

    /// How much waits.
    pub async fn mail_figures(&self) -> Result<MailFigures, StoreError> {
        self.read(|c| {
            let count = |sql: &str| c.prepare_cached(sql)?.query_row([], |row| row.get(0));
            Ok(MailFigures {
                held_back: count("SELECT coalesce(sum(failures), 0) FROM notice")?,
                waiting: count("SELECT count(*) FROM mail WHERE mail_id IS NOT NULL")?,
            })
        })
        .await
    }

    /// Notes which bindings are refused now, and answers those that were not when last asked.
    pub async fn refused_bindings(
        &self,
        refused: Vec<RefusedBinding>,
    ) -> Result<Vec<RefusedBinding>, StoreError> {
        let known: Vec<RefusedBinding> = self
            .read(|c| {
                let mut statement =
                    c.prepare_cached("SELECT incarnation, exchange, pattern FROM refused_binding")?;
                let rows = statement.query_map([], |row| {
                    Ok(RefusedBinding {
                        incarnation: row.get(0)?,
                        exchange: row.get(1)?,
                        pattern: row.get(2)?,
                    })
                })?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .await?;
        let stand: Vec<_> = known.iter().filter(|known| !refused.contains(known)).cloned().collect();
        let news: Vec<_> = refused.into_iter().filter(|refused| !known.contains(refused)).collect();
        if stand.is_empty() && news.is_empty() {
            return Ok(news);
        }
        let added = news.clone();
        self.write(move |w| {
            for binding in &stand {
                w.connection
                    .prepare_cached(
                        "DELETE FROM refused_binding WHERE incarnation = ?1 AND exchange = ?2 AND pattern = ?3",
                    )?
                    .execute(params![binding.incarnation, binding.exchange, binding.pattern])?;
            }
            for binding in &added {
                w.connection
                    .prepare_cached("INSERT OR IGNORE INTO refused_binding (incarnation, exchange, pattern) VALUES (?1, ?2, ?3)")?
                    .execute(params![binding.incarnation, binding.exchange, binding.pattern])?;
            }
            Ok(())
        })
        .await?;
        Ok(news)
    }
}

fn mail_row(row: &Row<'_>) -> rusqlite::Result<MailRow> {
    Ok(MailRow {
        address: row.get(0)?,
        mail_id: row.get(1)?,
        subject: row.get(2)?,
        body: row.get(3)?,
        composed_at: row.get(4)?,
        attempts: row.get(5)?,
    })
}

#[cfg(test)]
mod tests;
