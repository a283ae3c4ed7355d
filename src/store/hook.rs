//! Table `hook`: documents by incarnation and version; tombstones of deleted ones.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{AuditRow, Store, StoreError, Writing};
use crate::hook::HookName;

/// A hook to save.
#[derive(Debug, Clone)]
pub struct NewHook {
    /// Its name.
    pub name: HookName,
    /// The document as JSON text.
    pub document: String,
    /// Bindings that its former version had and this one has not: (exchange, pattern).
    pub stale_bindings: Vec<(String, String)>,
}

/// A hook as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRow {
    /// Which making of this name it is; part of every task id.
    pub incarnation: i64,
    /// Its name.
    pub name: HookName,
    /// Grows with each update, from 1.
    pub version: i64,
    /// The document as JSON text.
    pub document: String,
    /// Milliseconds since the epoch.
    pub updated_at: i64,
}

/// A deleted hook whose queue the broker has not yet confirmed to be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// The incarnation that was deleted.
    pub incarnation: i64,
    /// Its name.
    pub name: HookName,
}

const COLUMNS: &str = "incarnation, hook_group, hook_id, version, document, updated_at";

fn row(row: &Row<'_>) -> rusqlite::Result<HookRow> {
    Ok(HookRow {
        incarnation: row.get(0)?,
        name: HookName { group: row.get(1)?, id: row.get(2)? },
        version: row.get(3)?,
        document: row.get(4)?,
        updated_at: row.get(5)?,
    })
}

fn by_name(connection: &Connection, name: &HookName) -> Result<Option<HookRow>, StoreError> {
    Ok(connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM hook WHERE hook_group = ?1 AND hook_id = ?2 AND deleted_at IS NULL"
        ))?
        .query_row([&name.group, &name.id], row)
        .optional()?)
}

fn save_version(
    connection: &Connection,
    incarnation: i64,
    version: i64,
    document: &str,
    now: i64,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO hook_version (incarnation, version, document, saved_at) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![incarnation, version, document, now])?;
    Ok(())
}

/// What a save did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// A new row or a new version.
    Changed(HookRow),
    /// There is none by that name (update), or there is one (create): the row that is there.
    Conflict(Option<HookRow>),
}

impl Writing<'_> {
    /// Makes a hook. `Conflict` when there is one by that name.
    pub fn create_hook(&mut self, hook: &NewHook, now: i64) -> Result<Saved, StoreError> {
        create(self, hook, now)
    }

    /// Saves a new version of a hook, if its current one is still `expected`. `Conflict` when it is not there or was changed meanwhile.
    pub fn update_hook(&mut self, hook: &NewHook, expected: i64, now: i64) -> Result<Saved, StoreError> {
        update(self, hook, expected, now)
    }

    /// Deletes a hook and leaves a tombstone. None if there was none.
    pub fn delete_hook(&mut self, name: &HookName, now: i64) -> Result<Option<HookRow>, StoreError> {
        let Some(found) = by_name(self.connection, name)? else { return Ok(None) };
        self.connection
            .prepare_cached("UPDATE hook SET deleted_at = ?2 WHERE incarnation = ?1")?
            .execute(params![found.incarnation, now])?;
        Ok(Some(found))
    }
}

impl Store {
    /// Makes a hook. `Conflict` when there is one by that name.
    pub async fn create_hook(&self, hook: NewHook, now: i64) -> Result<Saved, StoreError> {
        self.write(move |w| w.create_hook(&hook, now)).await
    }

    /// Saves a new version of a hook, if its current one is still `expected`. `Conflict` when it is not there or was changed meanwhile.
    pub async fn update_hook(&self, hook: NewHook, expected: i64, now: i64) -> Result<Saved, StoreError> {
        self.write(move |w| w.update_hook(&hook, expected, now)).await
    }

    /// Deletes a hook and leaves a tombstone. None if there was none.
    pub async fn delete_hook(&self, name: HookName, now: i64) -> Result<Option<HookRow>, StoreError> {
        self.write(move |w| w.delete_hook(&name, now)).await
    }

    /// The hook by that name.
    pub async fn hook(&self, name: HookName) -> Result<Option<HookRow>, StoreError> {
        self.read(move |c| by_name(c, &name)).await
    }

    /// All hooks, or those of one group, in the order of their names.
    pub async fn hooks(&self, group: Option<String>) -> Result<Vec<HookRow>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM hook WHERE deleted_at IS NULL AND (?1 IS NULL OR hook_group = ?1)
                 ORDER BY hook_group, hook_id"
            ))?;
            Ok(statement.query_map([group], row)?.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The groups that have hooks, in order.
    pub async fn hook_groups(&self) -> Result<Vec<String>, StoreError> {
        self.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT DISTINCT hook_group FROM hook WHERE deleted_at IS NULL ORDER BY hook_group",
            )?;
            Ok(statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The document of a hook as it was in one version.
    pub async fn hook_version(&self, incarnation: i64, version: i64) -> Result<Option<String>, StoreError> {
        self.read(move |c| {
            Ok(c.prepare_cached("SELECT document FROM hook_version WHERE incarnation = ?1 AND version = ?2")?
                .query_row([incarnation, version], |row| row.get(0))
                .optional()?)
        })
        .await
    }

    /// Deleted hooks whose queues are still to be deleted at the broker.
    pub async fn tombstones(&self) -> Result<Vec<Tombstone>, StoreError> {
        self.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT incarnation, hook_group, hook_id FROM hook WHERE deleted_at IS NOT NULL",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(Tombstone {
                    incarnation: row.get(0)?,
                    name: HookName { group: row.get(1)?, id: row.get(2)? },
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Forgets tombstones after the broker has confirmed that the queue is gone, with the hooks' versions and stale bindings.
    /// `entry` says so in the audit trail.
    pub async fn bury(&self, incarnations: Vec<i64>, entry: AuditRow) -> Result<(), StoreError> {
        self.write(move |w| {
            w.audit(&entry, i64::MIN)?;
            for &incarnation in &incarnations {
                for sql in [
                    "DELETE FROM hook WHERE incarnation = ?1 AND deleted_at IS NOT NULL",
                    "DELETE FROM hook_version WHERE incarnation = ?1",
                    "DELETE FROM stale_binding WHERE incarnation = ?1",
                    "DELETE FROM token_reset WHERE incarnation = ?1",
                    "INSERT OR IGNORE INTO buried (incarnation) VALUES (?1)",
                ] {
                    w.connection.prepare_cached(sql)?.execute([incarnation])?;
                }
            }
            Ok(())
        })
        .await
    }
}

fn create(w: &Writing<'_>, hook: &NewHook, now: i64) -> Result<Saved, StoreError> {
    if let Some(found) = by_name(w.connection, &hook.name)? {
        return Ok(Saved::Conflict(Some(found)));
    }
    w.connection
        .prepare_cached(
            "INSERT INTO hook (hook_group, hook_id, version, document, created_at, updated_at) VALUES (?1, ?2, 1, ?3, ?4, ?4)",
        )?
        .execute(params![hook.name.group, hook.name.id, hook.document, now])?;
    let incarnation = w.connection.last_insert_rowid();
    save_version(w.connection, incarnation, 1, &hook.document, now)?;
    Ok(Saved::Changed(HookRow {
        incarnation,
        name: hook.name.clone(),
        version: 1,
        document: hook.document.clone(),
        updated_at: now,
    }))
}

fn update(w: &Writing<'_>, hook: &NewHook, expected: i64, now: i64) -> Result<Saved, StoreError> {
    let found = match by_name(w.connection, &hook.name)? {
        Some(found) if found.version == expected => found,
        other => return Ok(Saved::Conflict(other)),
    };
    let version = found.version + 1;
    w.connection
        .prepare_cached(
            "UPDATE hook SET version = ?2, document = ?3, updated_at = ?4 WHERE incarnation = ?1",
        )?
        .execute(params![found.incarnation, version, hook.document, now])?;
    save_version(w.connection, found.incarnation, version, &hook.document, now)?;
    for (exchange, pattern) in &hook.stale_bindings {
        super::binding::add_stale(w.connection, found.incarnation, exchange, pattern)?;
    }
    Ok(Saved::Changed(HookRow { version, document: hook.document.clone(), updated_at: now, ..found }))
}
