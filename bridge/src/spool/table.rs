//! The spool's SQL, next to the rows that it fills.

use std::path::Path;

use bytes::Bytes;
use pulse::{Message, Properties};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

/// The schema's version in `user_version`; a file of a newer one is refused.
const VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE event (
        id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, stored INTEGER NOT NULL, size INTEGER NOT NULL,
        exchange TEXT NOT NULL, routing_key TEXT NOT NULL, properties TEXT NOT NULL, body BLOB NOT NULL);
    CREATE INDEX event_source ON event (source, id);
    CREATE TABLE refused (
        id INTEGER PRIMARY KEY, source TEXT NOT NULL, stored INTEGER NOT NULL, size INTEGER NOT NULL,
        exchange TEXT NOT NULL, routing_key TEXT NOT NULL, properties TEXT NOT NULL, body BLOB NOT NULL,
        reason TEXT NOT NULL);
    CREATE TABLE held (
        source TEXT NOT NULL, key BLOB NOT NULL, due INTEGER NOT NULL, events INTEGER NOT NULL, size INTEGER NOT NULL,
        exchange TEXT NOT NULL, routing_key TEXT NOT NULL, properties TEXT NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (source, key)) WITHOUT ROWID;
    CREATE INDEX held_due ON held (due);
";

/// Header that tells how many events a coalesced one stands for; set at the release where the held message has it.
pub const HEADER_COUNT: &str = "x-pulsehook-count";

/// Bytes that a row costs beside its message: integers, index entries.
const ROW_BYTES: u64 = 128;

/// An event that waits.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its place in the order.
    pub id: i64,
    /// The message.
    pub message: Message,
}

/// An event that waits from now on.
pub struct Released {
    pub source: String,
    pub size: u64,
    /// What it counted for while it was held back; 0 for one that had been refused.
    pub held: u64,
}

/// The open file.
pub struct Table {
    pub connection: Connection,
}

/// What an event counts for in the bound of bytes.
pub fn size(message: &Message) -> u64 {
    let headers: usize =
        message.properties.headers.iter().map(|(name, value)| name.len() + value.to_string().len()).sum();
    (message.body.len() + message.routing_key.len() + headers) as u64 + ROW_BYTES
}

impl Table {
    /// Opens or makes the file, for this process alone.
    pub fn open(path: &Path) -> Result<Self, String> {
        let connection = Connection::open(path).map_err(|error| error.to_string())?;
        let prepare = || -> rusqlite::Result<i64> {
            // Exclusive: a second bridge on the same file would publish everything twice and in disorder.
            connection.execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 BEGIN IMMEDIATE; COMMIT;",
            )?;
            connection.query_row("PRAGMA user_version", [], |row| row.get(0))
        };
        let version = prepare().map_err(|error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                "another process uses this file; give each bridge its own".to_owned()
            }
            _ => error.to_string(),
        })?;
        match version {
            0 => connection
                .execute_batch(&format!("BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;"))
                .map_err(|error| error.to_string())?,
            VERSION => {}
            newer => {
                return Err(format!("the file has version {newer}, this program knows {VERSION}; update it"));
            }
        }
        Ok(Self { connection })
    }

    /// Source, number and bytes of what waits.
    pub fn count(&self, mut each: impl FnMut(String, u64, u64)) -> rusqlite::Result<()> {
        let mut statement =
            self.connection.prepare("SELECT source, count(*), sum(size) FROM event GROUP BY source")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(row.get(0)?, unsigned(row, 1)?, unsigned(row, 2)?);
        }
        Ok(())
    }

    /// When the oldest waiting event was stored, in Unix milliseconds.
    pub fn oldest(&self) -> rusqlite::Result<Option<i64>> {
        self.connection
            .prepare_cached("SELECT stored FROM event ORDER BY id LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()
    }

    /// Number of refused events.
    pub fn refused(&self) -> rusqlite::Result<u64> {
        self.connection.query_row("SELECT count(*) FROM refused", [], |row| unsigned(row, 0))
    }

    /// Number and bytes of what is held back.
    pub fn held(&self) -> rusqlite::Result<(u64, u64)> {
        let sql = "SELECT count(*), coalesce(sum(size), 0) FROM held";
        self.connection.query_row(sql, [], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))
    }

    /// What the event of a key counts for, if one is held back.
    pub fn held_size(&self, source: &str, key: &[u8; 32]) -> rusqlite::Result<Option<u64>> {
        self.connection
            .prepare_cached("SELECT size FROM held WHERE source = ?1 AND key = ?2")?
            .query_row(params![source, key.as_slice()], |row| unsigned(row, 0))
            .optional()
    }

    pub fn append(&self, source: &str, message: &Message, size: u64, now: i64) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO event (source, stored, size, exchange, routing_key, properties, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                source,
                now,
                signed(size),
                message.exchange,
                message.routing_key,
                properties_text(&message.properties),
                message.body.as_ref()
            ])?;
        Ok(())
    }

    pub fn select(&self, source: &str, limit: u32) -> rusqlite::Result<Vec<Stored>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, exchange, routing_key, properties, body FROM event WHERE source = ?1 ORDER BY id LIMIT ?2",
        )?;
        let rows = statement.query_map(params![source, limit], |row| {
            Ok(Stored { id: row.get(0)?, message: message(row, 1)? })
        })?;
        rows.collect()
    }

    /// Deletes one event; returns its size, if it was there.
    pub fn remove(&self, id: i64) -> rusqlite::Result<Option<u64>> {
        self.connection
            .prepare_cached("DELETE FROM event WHERE id = ?1 RETURNING size")?
            .query_row([id], |row| unsigned(row, 0))
            .optional()
    }

    pub fn refuse(&self, id: i64, reason: &str) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO refused SELECT id, source, stored, size, exchange, routing_key, properties, body, ?2
                 FROM event WHERE id = ?1",
            )?
            .execute(params![id, reason])?;
        Ok(())
    }

    /// Moves every refused event back to those that wait, behind them; returns what moved.
    pub fn restore(&self) -> rusqlite::Result<Vec<Released>> {
        self.connection.execute(
            "INSERT INTO event (source, stored, size, exchange, routing_key, properties, body)
             SELECT source, stored, size, exchange, routing_key, properties, body FROM refused ORDER BY id",
            [],
        )?;
        let mut statement = self.connection.prepare_cached("DELETE FROM refused RETURNING source, size")?;
        let rows = statement
            .query_map([], |row| Ok(Released { source: row.get(0)?, size: unsigned(row, 1)?, held: 0 }))?;
        rows.collect()
    }

    pub fn hold(
        &self,
        source: &str,
        key: &[u8; 32],
        message: &Message,
        size: u64,
        due: i64,
    ) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO held (source, key, due, events, size, exchange, routing_key, properties, body)
                 VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (source, key) DO UPDATE SET events = events + 1, size = excluded.size,
                    exchange = excluded.exchange, routing_key = excluded.routing_key,
                    properties = excluded.properties, body = excluded.body",
            )?
            .execute(params![
                source,
                key.as_slice(),
                due,
                signed(size),
                message.exchange,
                message.routing_key,
                properties_text(&message.properties),
                message.body.as_ref()
            ])?;
        Ok(())
    }

    /// Moves what is due to the waiting events, the earliest first and at most `limit`, each with the number of events that it stands for.
    pub fn release(&self, now: i64, limit: u32) -> rusqlite::Result<Vec<Released>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT source, key, size, events, exchange, routing_key, properties, body
             FROM held WHERE due <= ?1 ORDER BY due LIMIT ?2",
        )?;
        let rows = statement.query_map(params![now, limit], |row| {
            let mut message = message(row, 4)?;
            if let Some(count) = message.properties.headers.get_mut(HEADER_COUNT) {
                *count = row.get::<_, i64>(3)?.into();
            }
            Ok((row.get(0)?, row.get(1)?, unsigned(row, 2)?, message))
        })?;
        let due: Vec<(String, Vec<u8>, u64, Message)> = rows.collect::<rusqlite::Result<_>>()?;
        let mut delete = self.connection.prepare_cached("DELETE FROM held WHERE source = ?1 AND key = ?2")?;
        let mut released = Vec::with_capacity(due.len());
        for (source, key, held, message) in due {
            let size = size(&message);
            self.append(&source, &message, size, now)?;
            delete.execute(params![source, key])?;
            released.push(Released { source, size, held });
        }
        Ok(released)
    }

    /// When the next held event is due.
    pub fn next_due(&self) -> rusqlite::Result<Option<i64>> {
        self.connection
            .prepare_cached("SELECT due FROM held ORDER BY due LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()
    }
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(index)?).unwrap_or(0))
}

/// Id, time, type and headers as one JSON list: they are never searched for.
fn properties_text(properties: &Properties) -> String {
    serde_json::json!([
        properties.message_id,
        properties.timestamp,
        properties.content_type,
        properties.headers
    ])
    .to_string()
}

fn message(row: &Row<'_>, first: usize) -> rusqlite::Result<Message> {
    let text: String = row.get(first + 2)?;
    let (message_id, timestamp, content_type, headers) = serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(first + 2, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(Message {
        exchange: row.get(first)?,
        routing_key: row.get(first + 1)?,
        properties: Properties { message_id, timestamp, content_type, headers },
        body: Bytes::from(row.get::<_, Vec<u8>>(first + 3)?),
    })
}
