//! The tables, and how an older file becomes a newer one: `user_version` counts the steps, each in one transaction.

use std::path::Path;

use rusqlite::Connection;

use super::StoreError;

/// One entry per format; the file's `user_version` is the number of entries applied. Entries are never changed.
pub(super) const STEPS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
];

/// Pages of page cache, in KiB when negative: 16 MiB keeps the hot ends of all tables.
const CACHE_SIZE: i64 = -16_384;

/// In bytes: three messages with their tasks share a page, which SQLite's default of 4,096 gives to each alone.
const PAGE_SIZE: i64 = 8_192;

/// The write-ahead log is folded into the file every so many pages (16 MiB), between transactions.
const WAL_AUTOCHECKPOINT: i64 = 2_000;

/// The newest format that this build knows.
pub(super) fn known() -> i64 {
    STEPS.len() as i64
}

/// Sets the pragmas that the promises rest on and brings the tables up to date.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    // Of a new file; one that stands keeps its own.
    connection.pragma_update(None, "page_size", PAGE_SIZE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "cache_size", CACHE_SIZE)?;
    connection.pragma_update(None, "wal_autocheckpoint", WAL_AUTOCHECKPOINT)?;
    connection.set_prepared_statement_cache_capacity(64);
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = known();
    if found > known {
        return Err(StoreError::Newer { path: path.display().to_string(), found, known });
    }
    for (index, step) in STEPS.iter().enumerate().skip(found.max(0) as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", index as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}
