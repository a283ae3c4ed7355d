//! Backup and restore of a store's file.

use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
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

/// Puts a backup in the place of the store at `path`, for the user whose store that was (or whose folder it is). Refused while a
/// router owns the store. What was there is kept beside it, under the name that is answered; `None`: there was none.
pub fn restore(file: &Path, path: &Path) -> Result<Option<PathBuf>, StoreError> {
    let failed = |reason: String| StoreError::Open { path: path.display().to_string(), reason };
    let io = |error: std::io::Error| failed(error.to_string());
    let owner = std::fs::metadata(path).or_else(|_| std::fs::metadata(folder_of(path))).map_err(io)?;
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
    // Not as a file: what a router that was killed had committed last is in the log beside it.
    copy(file, &part)?;
    File::open(&part).and_then(|copy| copy.sync_all()).map_err(io)?;
    for made in [&part, &with_suffix(path, ".lock")] {
        // Of help to root, who restores; who may not change it is most likely the owner himself.
        let _ = std::os::unix::fs::chown(made, Some(owner.uid()), Some(owner.gid()));
    }
    let stamp = chrono::Utc::now().format(".before-%Y%m%dT%H%M%S");
    let aside = with_suffix(path, &stamp.to_string());
    let mut kept = None;
    // A log without its store is moved away, too: it would be taken for the log of the restored one.
    for ending in ["", "-wal", "-shm"] {
        let from = with_suffix(path, ending);
        if from.exists() {
            std::fs::rename(&from, with_suffix(&aside, ending)).map_err(io)?;
            kept = Some(aside.clone());
        }
    }
    std::fs::rename(&part, path).and_then(|()| sync_folder(path)).map_err(io)?;
    Ok(kept)
}

fn sync_folder(file: &Path) -> std::io::Result<()> {
    File::open(folder_of(file))?.sync_all()
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store with so many rows, all of them in the log beside it, as a process that was killed leaves it.
    fn killed(folder: &Path, name: &str, rows: usize) -> PathBuf {
        let live = folder.join("live.db");
        let connection = Connection::open(&live).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("CREATE TABLE thing (id INTEGER PRIMARY KEY)").unwrap();
        for _ in 0..rows {
            connection.execute("INSERT INTO thing DEFAULT VALUES", []).unwrap();
        }
        let left = folder.join(name);
        for ending in ["", "-wal"] {
            std::fs::copy(with_suffix(&live, ending), with_suffix(&left, ending)).unwrap();
        }
        drop(connection);
        std::fs::remove_file(live).unwrap();
        left
    }

    fn rows(path: &Path) -> usize {
        let connection = Connection::open(path).unwrap();
        let rows: i64 = connection.query_row("SELECT count(*) FROM thing", [], |row| row.get(0)).unwrap();
        rows as usize
    }

    #[test]
    fn what_is_in_the_log_beside_a_file_is_restored_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let (old, store) = (killed(folder.path(), "old.db", 100), folder.path().join("store.db"));
        assert_eq!(restore(&old, &store).unwrap(), None);
        assert_eq!(rows(&store), 100);
    }

    #[test]
    fn a_log_that_was_left_behind_is_not_taken_for_the_restored_stores() {
        let folder = tempfile::tempdir().unwrap();
        let backup_file = folder.path().join("backup.db");
        backup(&killed(folder.path(), "old.db", 50), &backup_file).unwrap();
        let store = killed(folder.path(), "store.db", 3_000);
        // Somebody has put the damaged file away, and not what belongs to it.
        std::fs::rename(&store, folder.path().join("damaged.db")).unwrap();
        let kept = restore(&backup_file, &store).unwrap().unwrap();
        assert!(with_suffix(&kept, "-wal").exists());
        assert_eq!(rows(&store), 50);
    }
}
