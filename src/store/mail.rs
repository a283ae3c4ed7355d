//! Table `mail`: per address the mail that is on its way, and when it was last written to.
//!
//! A mail is composed, and its notices are taken away, in one transaction: whatever stops in between, a failure is told of
//! once. A mail keeps its id until a server has taken it, so that one that is sent twice after a crash is seen to be the same.

use rusqlite::{Row, params};

use super::{Store, StoreError};

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

/// How much waits to be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MailFigures {
    /// Failures that are held back.
    pub held_back: i64,
    /// Mails that no server has taken yet.
    pub waiting: i64,
}

impl Store {
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
