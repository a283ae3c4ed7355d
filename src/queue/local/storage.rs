//! Where the local queue keeps tasks: a SQLite file with one writer thread, or memory.
//!
//! Commits group by themselves: the writer takes whatever waits into one transaction and answers all of it after
//! the commit. A lone call waits for nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{SecondsFormat, Utc};
use rusqlite::Connection;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};

use super::{Data, OpenError};
use crate::queue::definition::same_json;

mod sqlite;

/// Calls that wait for the writer; further ones wait at their connection.
const BACKLOG: usize = 4096;

/// Bytes of definitions on one page of a listing; a page has at least one task.
const PAGE_BYTES: usize = 32 << 20;

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

/// Some of the tasks, in the order of their arrival.
pub(super) struct Page {
    pub records: Vec<Arc<Record>>,
    /// The position after which the next page begins, if there is one.
    pub next: Option<u64>,
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
        let writer = sqlite::open(path)?;
        let reader = Arc::new(Mutex::new(sqlite::open(path)?));
        let (sender, receiver) = mpsc::channel(BACKLOG);
        std::thread::Builder::new()
            .name("local-queue".to_owned())
            .spawn(move || sqlite::write(writer, receiver))
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
            Self::File { .. } => self.read(move |connection| sqlite::get(connection, &task_id)).await,
        }
    }

    /// The tasks after position `after`, at most `limit`.
    pub async fn list(&self, after: u64, limit: usize) -> Result<Page, StorageError> {
        match self {
            Self::Memory(memory) => {
                let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                let skip = usize::try_from(after).unwrap_or(usize::MAX);
                let records = memory.records.iter().enumerate().skip(skip);
                let records = records.map(|(index, record)| Ok((index as u64 + 1, record.clone())));
                page(records, limit).map_err(StorageError::from)
            }
            Self::File { .. } => self.read(move |connection| sqlite::list(connection, after, limit)).await,
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

/// As many records as fit a page.
fn page(
    records: impl Iterator<Item = rusqlite::Result<(u64, Arc<Record>)>>,
    limit: usize,
) -> rusqlite::Result<Page> {
    let mut page = Page { records: Vec::new(), next: None };
    let mut bytes = 0;
    for record in records {
        let (position, record) = record?;
        if page.records.len() >= limit || bytes >= PAGE_BYTES {
            return Ok(page);
        }
        bytes += record.definition.len();
        page.records.push(record);
        page.next = Some(position);
    }
    page.next = None;
    Ok(page)
}

/// What a create of `new` is where `kept` is stored.
fn compare(kept: &str, new: &str) -> Created {
    let same = kept == new
        || match (serde_json::from_str::<Value>(kept), serde_json::from_str::<Value>(new)) {
            (Ok(kept), Ok(new)) => same_json(&kept, &new),
            _ => false,
        };
    if same { Created::Same } else { Created::Different }
}
