//! The store: one SQLite file that holds hooks, fires, messages and decisions, and on whose commits the promises rest.
//!
//! *Acknowledged means recorded* and *one message, one task* are true because a write that [`Store::write`] has answered
//! is on disk (WAL, `synchronous = FULL`). Writes go through one thread, which takes whatever waits into one
//! transaction: commits group themselves under load and cost one fsync each when there is none. Reads have
//! connections of their own and never wait for the writer.
//!
//! One router at a time owns a store: a lock file beside it makes a second one wait (a standby).

mod ancestor;
mod audit;
mod backup;
mod binding;
mod by_task;
mod decision;
mod epoch;
mod figures;
mod fire;
mod hook;
mod inspect;
mod looking;
mod mail;
mod meta;
mod notice;
mod refused_binding;
mod retention;
mod schedule;
mod schema;
mod token;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde::Deserialize;

pub use ancestor::Ancestor;
pub use audit::AuditRow;
pub use backup::{backup, restore};
pub use decision::DecisionRow;
pub use epoch::EPOCH_KEPT_MS;
pub use figures::StoreFigures;
pub use fire::{
    Ended, FireRow, FireState, FireSummary, NewFire, PendingFire, Recorded, Rendering, StoredMessage,
    StoredTask,
};
pub use hook::{HookRow, NewHook, Saved, Tombstone};
pub use inspect::{Inspection, inspect};
pub use looking::{DecisionEntry, Happened, HookEntry, LastOutcome};
pub use mail::{MailFigures, MailRow};
pub use notice::{Failure, NewNotice, Notice};
pub use refused_binding::RefusedBinding;
pub use retention::{Horizon, Step};
pub use schedule::{DueCursor, Moved, NewSchedule, ScheduleRow};

/// `[store]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The SQLite file. Beside it stand `…-wal`, `…-shm` and `….lock`.
    pub path: PathBuf,
}

/// Why a read or a write failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The disk or the quota is full: nothing was written; try again when there is room.
    #[error("the store {path} is full: free some space on its disk")]
    Full {
        /// The SQLite file.
        path: String,
    },
    /// The disk does not do what it should, or a quota or limit is reached (which SQLite cannot tell apart): nothing was
    /// written; try again when it works.
    #[error("the store {path} cannot be read or written ({reason}): look at its disk, quota and limits")]
    Disk {
        /// The SQLite file.
        path: String,
        /// SQLite's reason.
        reason: String,
    },
    /// The file was written by a newer pulsehook.
    #[error("the store {path} has format {found}, this pulsehook knows up to {known}: use the newer version")]
    Newer {
        /// The SQLite file.
        path: String,
        /// `user_version` of the file.
        found: i64,
        /// The newest format this build knows.
        known: i64,
    },
    /// The lock file or the database cannot be opened.
    #[error("cannot open the store {path}: {reason}")]
    Open {
        /// The SQLite file.
        path: String,
        /// The operating system's or SQLite's reason.
        reason: String,
    },
    /// Anything else that SQLite says; nothing was written.
    #[error("the store failed: {0}")]
    Sqlite(String),
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// The same, naming the file.
    fn of(self, path: &str) -> Self {
        match self {
            Self::Full { .. } => Self::Full { path: path.to_owned() },
            Self::Disk { reason, .. } => Self::Disk { path: path.to_owned(), reason },
            other => other,
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full { path: String::new() },
            Some(rusqlite::ErrorCode::SystemIoFailure) => {
                StoreError::Disk { path: String::new(), reason: error.to_string() }
            }
            _ => StoreError::Sqlite(error.to_string()),
        }
    }
}

/// Idle read connections that are kept; more are opened when needed and closed after use.
const IDLE_READERS: usize = 4;

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    writer: writer::Writer,
    readers: Mutex<Vec<Connection>>,
    by_task: Arc<by_task::ByTask>,
    /// Held for as long as the store is open: one router per store.
    _lock: File,
}

impl Store {
    /// Opens the store, waiting for its lock: while another process owns it, this one is a standby and `on_wait` is
    /// called once. Blocking; call it before serving or on a blocking thread.
    pub fn open(config: &Config, on_wait: impl FnOnce()) -> Result<Store, StoreError> {
        let path = &config.path;
        let failed = |reason: String| StoreError::Open { path: path.display().to_string(), reason };
        let lock_path = with_suffix(path, ".lock");
        let lock = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|error| failed(format!("{}: {error}", lock_path.display())))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                on_wait();
                lock.lock().map_err(|error| failed(error.to_string()))?;
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error.to_string())),
        }
        let mut connection = Connection::open(path).map_err(|error| failed(error.to_string()))?;
        schema::prepare(&mut connection, path)?;
        let sequence = fire::last_ended_seq(&connection)?;
        let by_task = Arc::new(by_task::ByTask::open(&mut connection)?);
        let writer = writer::Writer::start(connection, path.display().to_string(), sequence, by_task.clone())
            .map_err(|error| failed(error.to_string()))?;
        Ok(Store {
            inner: Arc::new(Inner {
                path: path.clone(),
                writer,
                readers: Mutex::new(Vec::new()),
                by_task,
                _lock: lock,
            }),
        })
    }

    /// Runs `job` in the next transaction and answers when it is committed and on disk. Jobs of other callers may
    /// share the transaction; each has a savepoint, so that one that fails takes nothing else with it.
    pub async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Writing<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.inner.writer.write(job).await
    }

    /// The same for a job that can be run again after a rollback: it gets its savepoint only if it fails without one, which makes
    /// it cheaper. For what the road of every message writes.
    pub async fn write_repeatable<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Writing<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.inner.writer.write_repeatable(job).await
    }

    /// The same for a job that can wait for company: it goes along with the next transaction, and if none comes within `patience`
    /// has one of its own. Under load it costs no commit.
    pub async fn write_along<T, F>(&self, patience: Duration, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Writing<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.inner.writer.write_along(patience, job).await
    }

    /// Runs `job` on a read connection, on a blocking thread.
    pub async fn read<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || {
            let connection = inner.reader()?;
            let result = job(&connection);
            inner.give_back(connection);
            result.map_err(|error| error.of(&inner.path.display().to_string()))
        })
        .await
        .map_err(|error| StoreError::Sqlite(error.to_string()))?
    }

    /// The same for a job that looks for fires by their tasks.
    async fn read_by_task<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &by_task::ByTask) -> Result<T, StoreError> + Send + 'static,
    {
        let by_task = self.inner.by_task.clone();
        self.read(move |connection| job(connection, &by_task)).await
    }

    /// Whether a write reaches the disk.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.write(|w| meta::set(w.connection, "checked_at", &crate::router::now_ms().to_string())).await
    }

    /// What tells this store from every other, also from one made anew under the same path.
    pub async fn id(&self) -> Result<String, StoreError> {
        self.write(|w| {
            if let Some(id) = meta::get(w.connection, "store_id")? {
                return Ok(id);
            }
            let id = uuid::Uuid::new_v4().to_string();
            meta::set(w.connection, "store_id", &id)?;
            Ok(id)
        })
        .await
    }

    /// Returns when the writer thread has ended by a panic: nothing can be recorded any more.
    pub async fn failed(&self) {
        self.inner.writer.failed.cancelled().await;
    }

    /// Commits what waits and ends the writer thread. Blocking, bounded by one transaction.
    pub fn close(&self) {
        self.inner.writer.close();
    }
}

/// What a job of [`Store::write`] works on: the connection inside the transaction, the way from task ids to fires, and the counter
/// of ended fires.
pub struct Writing<'a> {
    /// The connection, inside the transaction.
    pub connection: &'a Connection,
    by_task: &'a by_task::ByTask,
    ended_seq: &'a mut i64,
}

impl Inner {
    fn reader(&self) -> Result<Connection, StoreError> {
        let idle = self.readers.lock().ok().and_then(|mut readers| readers.pop());
        if let Some(connection) = idle {
            return Ok(connection);
        }
        let connection = Connection::open_with_flags(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(connection)
    }

    fn give_back(&self, connection: Connection) {
        if let Ok(mut readers) = self.readers.lock()
            && readers.len() < IDLE_READERS
        {
            readers.push(connection);
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
