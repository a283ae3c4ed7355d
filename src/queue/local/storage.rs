//! Where the local queue keeps tasks: a SQLite file with one writer thread, or memory.
//!
//! Commits group by themselves: the writer takes whatever waits, at most [`BATCH`], into one transaction and
//! answers all of it after the commit. A lone call waits for nobody.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{SecondsFormat, Utc};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};

use super::{Data, OpenError};
use crate::queue::definition::same_json;

/// Tasks in one transaction: enough to amortise the commit, few enough that none waits long for it.
const BATCH: usize = 500;

/// Calls that wait for the writer; further ones wait at their connection.
const BACKLOG: usize = 4096;

/// The file's format.
const VERSION: i64 = 1;

/// A task as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub task_id: String,
    /// The completed definition, as JSON text.
    pub definition: Arc<str>,
    pub client_id: String,
    pub authorized_scopes: Vec<String>,
    /// When the first call came, RFC 3339.
    pub received: String,
}

impl Record {
    pub fn new(
        task_id: &str,
        definition: &Map<String, Value>,
        client_id: String,
        authorized_scopes: Vec<String>,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self {
            task_id: task_id.to_owned(),
            definition: serde_json::to_string(definition)?.into(),
            client_id,
            authorized_scopes,
            received: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        })
    }
}

/// What became of a create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Created {
    /// It is stored now.
    New,
    /// It was there, with the same definition.
    Same,
    /// The id has another definition.
    Different,
}

/// Why storage failed, for the log and a 500.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum StorageError {
    #[error("SQLite: {0}")]
    Sqlite(String),
    #[error("the writer has stopped")]
    Stopped,
}

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error.to_string())
    }
}

type Answer = oneshot::Sender<Result<Created, StorageError>>;

pub(super) enum Storage {
    Memory(Mutex<Memory>),
    File { writer: mpsc::Sender<(Record, Answer)>, reader: Arc<Mutex<Connection>> },
}

#[derive(Default)]
pub(super) struct Memory {
    index: HashMap<String, usize>,
    records: Vec<Arc<Record>>,
}

impl Storage {
    pub fn open(data: &Data) -> Result<Self, OpenError> {
        let path = match data {
            Data::Memory => return Ok(Self::Memory(Mutex::default())),
            Data::File(path) => path,
        };
        let writer = open(path)?;
        let reader = Arc::new(Mutex::new(open(path)?));
        let (sender, receiver) = mpsc::channel(BACKLOG);
        std::thread::Builder::new()
            .name("local-queue".to_owned())
            .spawn(move || write(writer, receiver))
            .map_err(OpenError::Thread)?;
        Ok(Self::File { writer: sender, reader })
    }

    pub async fn create(&self, record: Record) -> Result<Created, StorageError> {
        match self {
            Self::Memory(memory) => {
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(&index) = memory.index.get(&record.task_id) {
                    return Ok(compare(&memory.records[index].definition, &record.definition));
                }
                let index = memory.records.len();
                memory.index.insert(record.task_id.clone(), index);
                memory.records.push(Arc::new(record));
                Ok(Created::New)
            }
            Self::File { writer, .. } => {
                let (sender, answer) = oneshot::channel();
                writer.send((record, sender)).await.map_err(|_| StorageError::Stopped)?;
                answer.await.map_err(|_| StorageError::Stopped)?
            }
        }
    }

    pub async fn get(&self, task_id: &str) -> Result<Option<Arc<Record>>, StorageError> {
        let task_id = task_id.to_owned();
        match self {
            Self::Memory(memory) => {
                let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(memory.index.get(&task_id).map(|&index| memory.records[index].clone()))
            }
            Self::File { .. } => self.read(move |connection| get(connection, &task_id)).await,
        }
    }

    /// The tasks in the order of their arrival, with their positions: after position `after`, at most `limit`.
    pub async fn list(&self, after: u64, limit: usize) -> Result<Vec<(u64, Arc<Record>)>, StorageError> {
        match self {
            Self::Memory(memory) => {
                let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                let skip = usize::try_from(after).unwrap_or(usize::MAX);
                let records = memory.records.iter().enumerate().skip(skip).take(limit);
                Ok(records.map(|(index, record)| (index as u64 + 1, record.clone())).collect())
            }
            Self::File { .. } => self.read(move |connection| list(connection, after, limit)).await,
        }
    }

    pub async fn count(&self) -> Result<u64, StorageError> {
        match self {
            Self::Memory(memory) => {
                Ok(memory.lock().unwrap_or_else(PoisonError::into_inner).records.len() as u64)
            }
            Self::File { .. } => self
                .read(|connection| {
                    connection.query_row("SELECT count(*) FROM tasks", [], |row| row.get::<_, i64>(0))
                })
                .await
                .map(i64::unsigned_abs),
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let Self::File { reader, .. } = self else { return Err(StorageError::Stopped) };
        let reader = reader.clone();
        tokio::task::spawn_blocking(move || {
            let connection = reader.lock().unwrap_or_else(PoisonError::into_inner);
            question(&connection).map_err(StorageError::from)
        })
        .await
        .map_err(|_| StorageError::Stopped)?
    }
}

fn open(path: &Path) -> Result<Connection, OpenError> {
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

fn write(mut connection: Connection, mut receiver: mpsc::Receiver<(Record, Answer)>) {
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

fn get(connection: &Connection, task_id: &str) -> rusqlite::Result<Option<Arc<Record>>> {
    connection
        .prepare_cached(
            "SELECT task_id, definition, client_id, authorized_scopes, received FROM tasks WHERE task_id = ?1",
        )?
        .query_row([task_id], |row| record(row, 0))
        .optional()
}

fn list(connection: &Connection, after: u64, limit: usize) -> rusqlite::Result<Vec<(u64, Arc<Record>)>> {
    connection
        .prepare_cached(
            "SELECT position, task_id, definition, client_id, authorized_scopes, received FROM tasks
             WHERE position > ?1 ORDER BY position LIMIT ?2",
        )?
        .query_map(params![i64::try_from(after).unwrap_or(i64::MAX), limit as i64], |row| {
            Ok((row.get::<_, i64>(0)?.unsigned_abs(), record(row, 1)?))
        })?
        .collect()
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

fn compare(kept: &str, new: &str) -> Created {
    let same = kept == new
        || match (serde_json::from_str::<Value>(kept), serde_json::from_str::<Value>(new)) {
            (Ok(kept), Ok(new)) => same_json(&kept, &new),
            _ => false,
        };
    if same { Created::Same } else { Created::Different }
}
