//! From a task id to its fire: what makes a fire unique, and what is asked at each message.
//!
//! Task ids are random, so an index that SQLite keeps up to date changes a page of its own for every fire, written to the
//! log and then to the file: several times what the fire itself takes. So the newest fires are known in memory, some ten thousand
//! are entered in the table `fire_by_task` together, in the order in which they stand there, a few with each commit.
//! `meta.fires_by_task` tells up to which row id all are entered; what is newer is read into memory when the store is opened.
//! Row ids only ever grow, or a new row could pass for one that was entered.
//!
//! What memory and table say is where to look: the row itself tells whether it is the one.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::{StoreError, meta};

/// So many fires are entered together. In memory there are at most twice as many and those of one commit, at some 40 bytes each.
/// In a debug build it is few, so that what the tests kill and start again is in the midst of it.
const GENERATION: usize = if cfg!(debug_assertions) { 256 } else { 65_536 };

/// Fires that are entered for each that is recorded: a generation is in the table before the next one is complete.
const ENTERED_PER_FIRE: usize = 2;

/// All fires with row ids up to this one are in the table.
const ENTERED: &str = "fires_by_task";

/// Hash of the task id, row id of the fire.
type Entry = (i64, i64);

/// See the module. The writer changes it, anybody may ask.
pub(super) struct ByTask {
    recent: Mutex<Recent>,
    generation: usize,
}

#[derive(Default)]
struct Recent {
    /// The highest row id that was ever given.
    newest: i64,
    /// Not being entered yet.
    young: HashTable<Entry>,
    /// Those of `young` that the open transaction added.
    uncommitted: Vec<Entry>,
    entering: Entering,
    /// Fires that somebody set out to remove before they were in the table.
    doubtful: BTreeSet<i64>,
}

/// A generation, committed, that is being entered.
#[derive(Default)]
struct Entering {
    entries: HashTable<Entry>,
    /// The same in the order of the table.
    sorted: Vec<Entry>,
    /// So many of them are in the table.
    done: usize,
    /// The same, if the open transaction is committed.
    done_next: usize,
    /// The highest row id of them.
    newest: i64,
}

impl ByTask {
    /// Reads the fires that are not in the table. Where these are many, as after an update of the format, most are entered now.
    pub(super) fn open(connection: &mut Connection) -> Result<Self, StoreError> {
        Self::open_with(connection, GENERATION)
    }

    fn open_with(connection: &mut Connection, generation: usize) -> Result<Self, StoreError> {
        let mut entered = meta::get(connection, ENTERED)?.and_then(|value| value.parse().ok()).unwrap_or(0);
        loop {
            let mut entries: Vec<Entry> = connection
                .prepare_cached("SELECT task_id, id FROM fire WHERE id > ?1 ORDER BY id LIMIT ?2")?
                .query_map(params![entered, generation as i64], |row| {
                    Ok((hash(row.get_ref(0)?.as_str()?), row.get(1)?))
                })?
                .collect::<rusqlite::Result<_>>()?;
            let newest = entries.last().map_or(entered, |(_, fire)| *fire);
            if entries.len() < generation {
                let mut recent = Recent { newest, ..Recent::default() };
                for entry in entries {
                    recent.young.insert_unique(key(&entry), entry, key);
                }
                return Ok(Self { recent: Mutex::new(recent), generation });
            }
            entries.sort_unstable();
            let transaction = connection.transaction()?;
            enter(&transaction, entries, Some(newest))?;
            transaction.commit()?;
            entered = newest;
        }
    }

    /// The fires of a task: row ids and hooks. Nearly always none or one. What was committed before the call is found, unless
    /// the connection is inside a transaction that began earlier.
    pub(super) fn fires(
        &self,
        connection: &Connection,
        task_id: &str,
    ) -> Result<Vec<(i64, i64)>, StoreError> {
        let hash = hash(task_id);
        let mut found = self.lock().fires(hash);
        let mut statement = connection.prepare_cached("SELECT fire FROM fire_by_task WHERE hash = ?1")?;
        for fire in statement.query_map([hash], |row| row.get(0))? {
            found.insert(fire?);
        }
        let mut fires = Vec::new();
        for fire in found {
            let incarnation: Option<i64> = connection
                .prepare_cached("SELECT incarnation FROM fire WHERE id = ?1 AND task_id = ?2")?
                .query_row(params![fire, task_id], |row| row.get(0))
                .optional()?;
            fires.extend(incarnation.map(|incarnation| (fire, incarnation)));
        }
        Ok(fires)
    }

    /// The fire of a task that is this hook's: its row id.
    pub(super) fn fire_of(
        &self,
        connection: &Connection,
        incarnation: i64,
        task_id: &str,
    ) -> Result<Option<i64>, StoreError> {
        let fires = self.fires(connection, task_id)?;
        Ok(fires.into_iter().find(|(_, of)| *of == incarnation).map(|(fire, _)| fire))
    }

    /// A row id for a new fire, above all others.
    pub(super) fn next_fire(&self) -> i64 {
        let mut recent = self.lock();
        recent.newest += 1;
        recent.newest
    }

    /// A fire has been recorded in the open transaction.
    pub(super) fn add(&self, task_id: &str, fire: i64) {
        let entry = (hash(task_id), fire);
        let mut recent = self.lock();
        recent.young.insert_unique(key(&entry), entry, key);
        recent.uncommitted.push(entry);
    }

    /// A fire is removed in the open transaction. What memory goes on saying of it is of no consequence.
    pub(super) fn remove(&self, connection: &Connection, task_id: &str, fire: i64) -> Result<(), StoreError> {
        connection
            .prepare_cached("DELETE FROM fire_by_task WHERE hash = ?1 AND fire = ?2")?
            .execute([hash(task_id), fire])?;
        let mut recent = self.lock();
        if recent.fires(hash(task_id)).contains(&fire) {
            recent.doubtful.insert(fire);
        }
        Ok(())
    }

    /// Where the open transaction stands, for [`roll_back_to`](Self::roll_back_to).
    pub(super) fn savepoint(&self) -> usize {
        self.lock().uncommitted.len()
    }

    /// What the open transaction added after a savepoint is undone; 0: all of it.
    pub(super) fn roll_back_to(&self, savepoint: usize) {
        let mut recent = self.lock();
        let Recent { young, uncommitted, .. } = &mut *recent;
        for entry in uncommitted.drain(savepoint..) {
            if let Ok(found) = young.find_entry(key(&entry), |other| *other == entry) {
                found.remove();
            }
        }
        recent.entering.done_next = recent.entering.done;
    }

    /// Before the open transaction is committed: enters some of those that are due.
    pub(super) fn before_commit(&self, connection: &Connection) -> Result<(), StoreError> {
        let (due, complete) = {
            let mut recent = self.lock();
            let Recent { uncommitted, entering, doubtful, .. } = &mut *recent;
            let rest = &entering.sorted[entering.done..];
            let due = rest[..rest.len().min(ENTERED_PER_FIRE * uncommitted.len())].to_vec();
            if due.is_empty() {
                return Ok(());
            }
            entering.done_next = entering.done + due.len();
            let complete = due.len() == rest.len();
            (still_there(connection, due, doubtful)?, complete.then_some(entering.newest))
        };
        enter(connection, due, complete)
    }

    /// The open transaction was committed.
    pub(super) fn committed(&self) {
        let mut recent = self.lock();
        recent.uncommitted.clear();
        recent.entering.done = recent.entering.done_next;
        if recent.entering.done < recent.entering.sorted.len() || recent.young.len() < self.generation {
            return;
        }
        let mut next = std::mem::take(&mut recent.entering.entries);
        next.clear();
        let entries = std::mem::replace(&mut recent.young, next);
        let mut sorted: Vec<Entry> = entries.iter().copied().collect();
        sorted.sort_unstable();
        let newest = recent.newest;
        let oldest = sorted.iter().map(|(_, fire)| *fire).min().unwrap_or(newest);
        recent.doubtful = recent.doubtful.split_off(&oldest);
        recent.entering = Entering { entries, sorted, newest, ..Entering::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn fires(&self, hash: i64) -> BTreeSet<i64> {
        let tables = [&self.young, &self.entering.entries];
        let entries = tables.into_iter().flat_map(|entries| entries.iter_hash(hash as u64));
        entries.filter(|entry| entry.0 == hash).map(|(_, fire)| *fire).collect()
    }
}

/// What a hash table is ordered by: the hashes are as good as random.
fn key(entry: &Entry) -> u64 {
    entry.0 as u64
}

/// Those of a few entries whose fires have not been removed.
fn still_there(
    connection: &Connection,
    mut entries: Vec<Entry>,
    doubtful: &BTreeSet<i64>,
) -> Result<Vec<Entry>, StoreError> {
    if !doubtful.is_empty() {
        let mut statement = connection.prepare_cached("SELECT 1 FROM fire WHERE id = ?1")?;
        for at in (0..entries.len()).rev() {
            let fire = entries[at].1;
            if doubtful.contains(&fire) && !statement.exists([fire])? {
                entries.remove(at);
            }
        }
    }
    Ok(entries)
}

/// Enters fires, in their order. `complete`: with them all up to this row id are in the table.
fn enter(connection: &Connection, entries: Vec<Entry>, complete: Option<i64>) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare_cached("INSERT OR IGNORE INTO fire_by_task (hash, fire) VALUES (?1, ?2)")?;
    for (hash, fire) in entries {
        statement.execute([hash, fire])?;
    }
    match complete {
        Some(newest) => meta::set(connection, ENTERED, &newest.to_string()),
        None => Ok(()),
    }
}

/// Of a task id: the first eight bytes of its SHA-256. Stored.
fn hash(task_id: &str) -> i64 {
    let digest: [u8; 32] = Sha256::digest(task_id).into();
    i64::from_be_bytes(digest.first_chunk().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests;
