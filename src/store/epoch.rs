//! Table `epoch`: one row per broker connection of the router.
//!
//! A redelivered message that has no id can only be a message whose ack was lost with its connection. So it is
//! matched with fires that were recorded shortly before a connection was last seen alive, and with no others: an equal message
//! of long ago, whose ack did arrive, never silences a new one.

use rusqlite::params;

use super::{Store, StoreError, Writing};

/// Connections that one process can number: more than it can make in years.
const EPOCHS_OF_A_PROCESS: i64 = 1 << 32;

impl Writing<'_> {
    /// Makes the row of a connection, in the transaction that first refers to it: a process that dies at once leaves
    /// no fire whose connection is not known.
    pub(super) fn epoch_lives(&self, epoch: i64, now: i64) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO epoch (id, started, last_seen) VALUES (?1, ?2, ?2)")?
            .execute([epoch, now])?;
        Ok(())
    }
}

impl Store {
    /// Begins the epochs of a process: answers a number above every epoch that any process before it can have used, also
    /// one that died before it could record its last connection.
    pub async fn begin_epochs(&self, now: i64) -> Result<i64, StoreError> {
        self.write(move |w| {
            let last: i64 =
                w.connection.query_row("SELECT coalesce(max(id), 0) FROM epoch", [], |row| row.get(0))?;
            let base = (last / EPOCHS_OF_A_PROCESS + 1) * EPOCHS_OF_A_PROCESS;
            w.connection
                .prepare_cached("INSERT INTO epoch (id, started, last_seen) VALUES (?1, ?2, ?2)")?
                .execute(params![base, now])?;
            Ok(base)
        })
        .await
    }

    /// The connection with these numbers (a consumer that the broker ended takes a new one) is alive at `now`; rows are made at the
    /// first call. Rows of connections older than `horizon` are forgotten.
    pub async fn epochs_seen(
        &self,
        epochs: std::ops::RangeInclusive<i64>,
        now: i64,
        horizon: i64,
    ) -> Result<(), StoreError> {
        self.write(move |w| {
            w.connection
                .prepare_cached("UPDATE epoch SET last_seen = ?1 WHERE id BETWEEN ?2 AND ?3")?
                .execute(params![now, epochs.start(), epochs.end()])?;
            w.connection
                .prepare_cached("INSERT OR IGNORE INTO epoch (id, started, last_seen) VALUES (?1, ?2, ?2)")?
                .execute(params![epochs.end(), now])?;
            w.connection
                .prepare_cached("DELETE FROM epoch WHERE last_seen < ?1 AND id < ?2")?
                .execute(params![horizon, epochs.end()])?;
            Ok(())
        })
        .await
    }
}
