//! Backup and restore of a store's file.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::{StoreError, with_suffix};

/// All pages at once: one reader's view of the store, which its writer neither waits for nor disturbs. In smaller steps each
/// commit of the router would make it begin anew.
const ALL_PAGES: i32 = -1;

/// Copies the store at `path` into `file`, which must not be there yet. A router may be working with the store. When this has
/// returned the copy is whole and on disk.
pub fn backup(path: &Path, file: &Path) -> Result<(), StoreError> {
    let failed = |path: &Path, reason: String| StoreError::Open { path: path.display().to_string(), reason };
    if !path.exists() {
        return Err(failed(path, "there is no such file".to_owned()));
    }
    let part = with_suffix(file, ".part");
    // Messages may hold what is nobody else's business.
    let made = File::options().write(true).create_new(true).mode(0o600).open(file);
    made.map_err(|error| failed(file, error.to_string()))?;
    let copied = copy(path, &part).and_then(|()| {
        File::open(&part)
            .and_then(|copy| copy.sync_all())
            .and_then(|()| std::fs::rename(&part, file))
            .and_then(|()| sync_folder(file))
            .map_err(|error| failed(file, error.to_string()))
    });
    if copied.is_err() {
        // Nothing that looks like a backup stays behind.
        let _ = (std::fs::remove_file(&part), std::fs::remove_file(file));
    }
    copied
}

fn copy(path: &Path, part: &Path) -> Result<(), StoreError> {
    let failed = |reason: String| StoreError::Open { path: part.display().to_string(), reason };
    File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(part)
        .map_err(|error| failed(error.to_string()))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(path, flags)?;
    source.busy_timeout(std::time::Duration::from_secs(5))?;
    let mut target = Connection::open(part)?;
    {
        let backup = Backup::new(&source, &mut target)?;
        match backup.step(ALL_PAGES)? {
            StepResult::Done => {}
            _ => return Err(failed("the store is locked; try again".to_owned())),
        }
    }
    let found: String = target.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    // Without a log beside it: the backup is one file.
    target.pragma_update(None, "journal_mode", "DELETE")?;
    match found.as_str() {
        "ok" => Ok(()),
        fault => Err(failed(format!("the copy is damaged: {fault}"))),
    }
}

/// Puts a backup in the place of the store at `path`. Refused while a router owns the store. What was there is kept beside it,
/// under the name that is answered.
pub fn restore(file: &Path, path: &Path) -> Result<Option<PathBuf>, StoreError> {
    let failed = |reason: String| StoreError::Open { path: path.display().to_string(), reason };
    let io = |error: std::io::Error| failed(error.to_string());
    let lock = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(with_suffix(path, ".lock"))
        .map_err(io)?;
    if lock.try_lock().is_err() {
        return Err(failed("a router has it open: stop every router of this store first".to_owned()));
    }
    let part = with_suffix(path, ".restoring");
    std::fs::copy(file, &part).and_then(|_| File::open(&part)?.sync_all()).map_err(io)?;
    let mut kept = None;
    if path.exists() {
        let stamp = chrono::Utc::now().format(".before-%Y%m%dT%H%M%S");
        let aside = with_suffix(path, &stamp.to_string());
        for ending in ["", "-wal", "-shm"] {
            let from = with_suffix(path, ending);
            if from.exists() {
                std::fs::rename(&from, with_suffix(&aside, ending)).map_err(io)?;
            }
        }
        kept = Some(aside);
    }
    std::fs::rename(&part, path).and_then(|()| sync_folder(path)).map_err(io)?;
    Ok(kept)
}

fn sync_folder(file: &Path) -> std::io::Result<()> {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
