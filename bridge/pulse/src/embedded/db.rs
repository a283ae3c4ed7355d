//! The SQLite file of the embedded transport: what stands in it, and each statement once.
//!
//! A message is stored once however many queues hold it (`messages`), with one entry for each of them (`entries`).
//! Entries are numbered in order of arrival; `delivered` of a queue is the highest number that was ever handed to a
//! consumer. Queues deliver in order, so that everything up to it that is still there must have been delivered: one
//! small write in a commit that happens anyway tells the next process which messages are redeliveries.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};

use crate::transport::Binding;
use crate::{Message, Properties};

/// The layout of the file; one more with each change of it.
const VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE exchanges (name TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE queues (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        dead_letter_exchange TEXT,
        max_length INTEGER,
        delivery_limit INTEGER,
        delivered INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE bindings (
        queue INTEGER NOT NULL, exchange TEXT NOT NULL, pattern TEXT NOT NULL,
        PRIMARY KEY (queue, exchange, pattern)
    ) WITHOUT ROWID;
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY, exchange TEXT NOT NULL, routing_key TEXT NOT NULL,
        properties TEXT NOT NULL, body BLOB NOT NULL
    );
    CREATE TABLE entries (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, queue INTEGER NOT NULL, message INTEGER NOT NULL,
        redeliveries INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX entries_by_message ON entries (message);
    CREATE INDEX entries_by_queue ON entries (queue, seq);
";

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// SQLite cannot open, read or write it; also when another process has it open.
    #[error("cannot open the embedded transport's file {path} (is another process using it?): {source}", path = path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// A newer version of this program wrote it.
    #[error("the embedded transport's file {path} has layout {found}, this program knows up to {VERSION}: use the newer program", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: i64,
    },
    /// The operating system gives no thread.
    #[error("cannot start the embedded transport's thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// A queue as stored.
pub(super) struct QueueRow {
    pub id: i64,
    pub name: String,
    pub dead_letter_exchange: Option<String>,
    pub max_length: Option<u32>,
    pub delivery_limit: Option<u32>,
    pub delivered: i64,
}

/// One message in one queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryRow {
    pub seq: i64,
    pub message: i64,
    pub redeliveries: u32,
}

pub(super) struct Db(Connection);

type Result<T> = rusqlite::Result<T>;

impl Db {
    pub fn open(path: &Path) -> std::result::Result<Self, OpenError> {
        let wrap = |source| OpenError::Database { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(wrap)?;
        let prepare = || -> Result<i64> {
            // Exclusive: a second process on the same file would deliver everything twice.
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.set_prepared_statement_cache_capacity(64);
            connection.execute_batch("BEGIN IMMEDIATE")?;
            let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if found == 0 {
                connection.execute_batch(SCHEMA)?;
                connection.pragma_update(None, "user_version", VERSION)?;
            }
            connection.execute_batch("COMMIT")?;
            Ok(found)
        };
        let found = prepare().map_err(wrap)?;
        if found > VERSION {
            return Err(OpenError::Newer { path: path.to_owned(), found });
        }
        Ok(Self(connection))
    }

    /// Lets the file grow to so many pages and no further, as a full disk would.
    #[cfg(test)]
    pub fn limit(&self, pages: u32) {
        self.0.pragma_update(None, "max_page_count", pages).unwrap();
    }

    pub fn begin(&self) -> Result<()> {
        self.0.execute_batch("BEGIN IMMEDIATE")
    }

    pub fn commit(&self) -> Result<()> {
        self.0.execute_batch("COMMIT")
    }

    /// Undoes what was not committed. Nothing to undo is no error: SQLite rolls back by itself on a full disk.
    pub fn rollback(&self) {
        let _ = self.0.execute_batch("ROLLBACK");
    }

    pub fn exchanges(&self) -> Result<Vec<String>> {
        let mut statement = self.0.prepare_cached("SELECT name FROM exchanges")?;
        statement.query_map([], |row| row.get(0))?.collect()
    }

    pub fn add_exchange(&self, name: &str) -> Result<()> {
        self.run("INSERT OR IGNORE INTO exchanges (name) VALUES (?1)", params![name])
    }

    pub fn queues(&self) -> Result<Vec<QueueRow>> {
        let mut statement = self.0.prepare_cached(
            "SELECT id, name, dead_letter_exchange, max_length, delivery_limit, delivered FROM queues",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(QueueRow {
                id: row.get(0)?,
                name: row.get(1)?,
                dead_letter_exchange: row.get(2)?,
                max_length: row.get(3)?,
                delivery_limit: row.get(4)?,
                delivered: row.get(5)?,
            })
        })?;
        rows.collect()
    }

    /// Makes the queue or changes its arguments; returns its id.
    pub fn put_queue(&self, spec: &crate::QueueSpec) -> Result<i64> {
        self.0
            .prepare_cached(
                "INSERT INTO queues (name, dead_letter_exchange, max_length, delivery_limit)
                 VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (name) DO UPDATE SET dead_letter_exchange = ?2, max_length = ?3, delivery_limit = ?4
                 RETURNING id",
            )?
            .query_row(
                params![&*spec.name, spec.dead_letter_exchange, spec.max_length, spec.delivery_limit],
                |row| row.get(0),
            )
    }

    pub fn set_delivered(&self, queue: i64, seq: i64) -> Result<()> {
        self.run("UPDATE queues SET delivered = ?2 WHERE id = ?1", params![queue, seq])
    }

    pub fn delete_queue(&self, queue: i64) -> Result<()> {
        self.run("DELETE FROM bindings WHERE queue = ?1", params![queue])?;
        self.run("DELETE FROM entries WHERE queue = ?1", params![queue])?;
        self.run("DELETE FROM messages WHERE NOT EXISTS (SELECT 1 FROM entries WHERE message = id)", [])?;
        self.run("DELETE FROM queues WHERE id = ?1", params![queue])
    }

    pub fn bindings(&self, queue: i64) -> Result<Vec<Binding>> {
        let mut statement =
            self.0.prepare_cached("SELECT exchange, pattern FROM bindings WHERE queue = ?1")?;
        let rows = statement
            .query_map([queue], |row| Ok(Binding { exchange: row.get(0)?, pattern: row.get(1)? }))?;
        rows.collect()
    }

    pub fn bind(&self, queue: i64, binding: &Binding) -> Result<()> {
        self.run(
            "INSERT OR IGNORE INTO bindings (queue, exchange, pattern) VALUES (?1, ?2, ?3)",
            params![queue, binding.exchange, binding.pattern],
        )
    }

    pub fn unbind(&self, queue: i64, binding: &Binding) -> Result<()> {
        self.run(
            "DELETE FROM bindings WHERE queue = ?1 AND exchange = ?2 AND pattern = ?3",
            params![queue, binding.exchange, binding.pattern],
        )
    }

    pub fn add_message(&self, message: &Message) -> Result<i64> {
        let properties = serde_json::to_string(&message.properties)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        self.0
            .prepare_cached(
                "INSERT INTO messages (exchange, routing_key, properties, body) VALUES (?1, ?2, ?3, ?4)",
            )?
            .insert(params![message.exchange, message.routing_key, properties, &message.body[..]])
    }

    pub fn message(&self, id: i64) -> Result<Option<Message>> {
        let mut statement = self
            .0
            .prepare_cached("SELECT exchange, routing_key, properties, body FROM messages WHERE id = ?1")?;
        statement
            .query_row([id], |row| {
                let properties: Properties =
                    serde_json::from_str(row.get_ref(2)?.as_str()?).map_err(|e| {
                        rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(e))
                    })?;
                let body: Vec<u8> = row.get(3)?;
                Ok(Message { exchange: row.get(0)?, routing_key: row.get(1)?, properties, body: body.into() })
            })
            .optional()
    }

    pub fn entries(&self, queue: i64) -> Result<Vec<EntryRow>> {
        let mut statement = self
            .0
            .prepare_cached("SELECT seq, message, redeliveries FROM entries WHERE queue = ?1 ORDER BY seq")?;
        let rows = statement.query_map([queue], |row| {
            Ok(EntryRow { seq: row.get(0)?, message: row.get(1)?, redeliveries: row.get(2)? })
        })?;
        rows.collect()
    }

    pub fn add_entry(&self, queue: i64, message: i64) -> Result<i64> {
        self.0
            .prepare_cached("INSERT INTO entries (queue, message) VALUES (?1, ?2)")?
            .insert(params![queue, message])
    }

    pub fn set_redeliveries(&self, seq: i64, redeliveries: u32) -> Result<()> {
        self.run("UPDATE entries SET redeliveries = ?2 WHERE seq = ?1", params![seq, redeliveries])
    }

    /// Takes the entry away, and its message if no other queue holds it.
    pub fn remove_entry(&self, entry: EntryRow) -> Result<()> {
        self.run("DELETE FROM entries WHERE seq = ?1", params![entry.seq])?;
        self.run(
            "DELETE FROM messages WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM entries WHERE message = ?1)",
            params![entry.message],
        )
    }

    fn run(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<()> {
        self.0.prepare_cached(sql)?.execute(parameters).map(drop)
    }
}
