//! A look at a store's file from outside: its format, whether it is whole, whether a router has it open. Changes nothing.

use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{StoreError, schema, with_suffix};

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The file's format.
    pub format: i64,
    /// The newest format that this build knows.
    pub known: i64,
    /// A router holds its lock.
    pub in_use: bool,
    /// What SQLite finds wrong with it.
    pub fault: Option<String>,
}

/// Looks at a store. `None` if there is no file.
pub fn inspect(path: &Path) -> Result<Option<Inspection>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let failed = |reason: String| StoreError::Open { path: path.display().to_string(), reason };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| failed(error.to_string()))?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    let ask = |pragma: &str| connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0));
    let format = ask("user_version").map_err(|error| failed(error.to_string()))?;
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| failed(error.to_string()))?;
    let in_use = File::options()
        .write(true)
        .open(with_suffix(path, ".lock"))
        .is_ok_and(|lock| matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock)));
    let fault = (found != "ok").then_some(found);
    Ok(Some(Inspection { format, known: schema::known(), in_use, fault }))
}
