//! Table `epoch`: one row per broker connection of the router.
//!
//! A redelivered message that has no id can only be a message whose ack was lost with its connection. So it is
//! matched with fires that were recorded shortly before a connection was last seen alive, and with no others: an equal message
//! of long ago, whose ack did arrive, never silences a new one.

use rusqlite::params;

use super::{Store, StoreError};

impl Store {
    /// The highest epoch so far; 0 if there was none.
    pub async fn last_epoch(&self) -> Result<i64, StoreError> {
        self.read(|c| Ok(c.query_row("SELECT coalesce(max(id), 0) FROM epoch", [], |row| row.get(0))?)).await
    }

    /// The connection with this number is alive at `now` (its row is made at the first call). Rows of connections older
    /// than `horizon` are forgotten.
    pub async fn epoch_seen(&self, epoch: i64, now: i64, horizon: i64) -> Result<(), StoreError> {
        self.write(move |w| {
            w.connection
                .prepare_cached(
                    "INSERT INTO epoch (id, started, last_seen) VALUES (?1, ?2, ?2)
                     ON CONFLICT (id) DO UPDATE SET last_seen = ?2",
                )?
                .execute(params![epoch, now])?;
            w.connection
                .prepare_cached("DELETE FROM epoch WHERE last_seen < ?1 AND id < ?2")?
                .execute(params![horizon, epoch])?;
            Ok(())
        })
        .await
    }
}
