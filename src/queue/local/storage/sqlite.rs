//! The local queue's SQLite file: its format, its writer thread, its questions.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Answer, Created, Page, Record, StorageError, compare, page};
use crate::queue::local::OpenError;

/// Tasks in one transaction: enough to amortise the commit, few enough that none waits long for it.
const BATCH: usize = 500;

/// The file's format.
const VERSION: i64 = 1;

pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::File { path: path.display().to_string(), source };
    let connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(std::time::Duration::from_secs(10)).map_err(failed)?;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    if found > VERSION {
        return Err(OpenError::TooNew { path: path.display().to_string(), found, known: VERSION });
    }
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             BEGIN IMMEDIATE;
             CREATE TABLE IF NOT EXISTS tasks (
                 position INTEGER PRIMARY KEY AUTOINCREMENT,
                 task_id TEXT NOT NULL UNIQUE,
                 definition TEXT NOT NULL,
                 client_id TEXT NOT NULL,
                 authorized_scopes TEXT NOT NULL,
                 received TEXT NOT NULL
             ) STRICT;
             PRAGMA user_version = {VERSION};
             COMMIT;"
        ))
        .map_err(failed)?;
    Ok(connection)
}

pub(super) fn write(mut connection: Connection, mut receiver: mpsc::Receiver<(Record, Answer)>) {
    let mut batch = Vec::with_capacity(BATCH);
    while receiver.blocking_recv_many(&mut batch, BATCH) > 0 {
        let results = commit(&mut connection, &batch);
        for (index, (_, answer)) in batch.drain(..).enumerate() {
            // Nobody waits for the answer when its connection is gone.
            let _ = answer.send(match &results {
                Ok(results) => Ok(results[index]),
                Err(error) => Err(error.clone()),
            });
        }
    }
}

fn commit(connection: &mut Connection, batch: &[(Record, Answer)]) -> Result<Vec<Created>, StorageError> {
    let transaction = connection.transaction()?;
    let results = batch.iter().map(|(record, _)| insert(&transaction, record)).collect::<Result<_, _>>()?;
    transaction.commit()?;
    Ok(results)
}

fn insert(connection: &Connection, record: &Record) -> Result<Created, StorageError> {
    let scopes = Value::from(record.authorized_scopes.clone()).to_string();
    let changed = connection
        .prepare_cached(
            "INSERT INTO tasks (task_id, definition, client_id, authorized_scopes, received)
             VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (task_id) DO NOTHING",
        )?
        .execute(params![record.task_id, record.definition, record.client_id, scopes, record.received])?;
    if changed == 1 {
        return Ok(Created::New);
    }
    let kept = get(connection, &record.task_id)?.ok_or(StorageError::Stopped)?;
    Ok(compare(&kept.definition, &record.definition))
}

pub(super) fn get(connection: &Connection, task_id: &str) -> rusqlite::Result<Option<Arc<Record>>> {
    connection
        .prepare_cached(
            "SELECT task_id, definition, client_id, authorized_scopes, received FROM tasks WHERE task_id = ?1",
        )?
        .query_row([task_id], |row| record(row, 0))
        .optional()
}

pub(super) fn list(connection: &Connection, after: u64, limit: usize) -> rusqlite::Result<Page> {
    let mut statement = connection.prepare_cached(
        "SELECT position, task_id, definition, client_id, authorized_scopes, received FROM tasks
         WHERE position > ?1 ORDER BY position",
    )?;
    let records = statement.query_map([i64::try_from(after).unwrap_or(i64::MAX)], |row| {
        Ok((row.get::<_, i64>(0)?.unsigned_abs(), record(row, 1)?))
    })?;
    page(records, limit)
}

fn record(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Arc<Record>> {
    let scopes: String = row.get(first + 3)?;
    Ok(Arc::new(Record {
        task_id: row.get(first)?,
        definition: row.get(first + 1)?,
        client_id: row.get(first + 2)?,
        authorized_scopes: serde_json::from_str(&scopes).unwrap_or_default(),
        received: row.get(first + 4)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_later_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        drop(open(&path).unwrap());
        drop(open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", VERSION + 1).unwrap();
        let error = open(&path).err().unwrap();
        assert!(matches!(error, OpenError::TooNew { found, .. } if found == VERSION + 1), "{error}");
    }
}
