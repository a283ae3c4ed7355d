//! Table `stale_binding`: AMQP cannot list bindings, so the store remembers those that are to be removed until the broker has done it.

use rusqlite::{Connection, params};

use super::{Store, StoreError};

pub(super) fn add_stale(
    c: &Connection,
    incarnation: i64,
    exchange: &str,
    pattern: &str,
) -> Result<(), StoreError> {
    c.prepare_cached(
        "INSERT OR IGNORE INTO stale_binding (incarnation, exchange, pattern) VALUES (?1, ?2, ?3)",
    )?
    .execute(params![incarnation, exchange, pattern])?;
    Ok(())
}

impl Store {
    /// Bindings of this hook that are to be removed at the broker: (exchange, pattern).
    pub async fn stale_bindings(&self, incarnation: i64) -> Result<Vec<(String, String)>, StoreError> {
        self.read(move |c| {
            let mut statement =
                c.prepare_cached("SELECT exchange, pattern FROM stale_binding WHERE incarnation = ?1")?;
            let rows = statement.query_map([incarnation], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The broker has removed them.
    pub async fn forget_stale_bindings(
        &self,
        incarnation: i64,
        gone: Vec<(String, String)>,
    ) -> Result<(), StoreError> {
        self.write(move |w| {
            for (exchange, pattern) in &gone {
                w.connection
                    .prepare_cached(
                        "DELETE FROM stale_binding WHERE incarnation = ?1 AND exchange = ?2 AND pattern = ?3",
                    )?
                    .execute(params![incarnation, exchange, pattern])?;
            }
            Ok(())
        })
        .await
    }
}
