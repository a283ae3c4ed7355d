//! Table `epoch`: one row per broker connection of the router.
//!
//! A redelivered message that has no id can only be a message whose ack was lost with its connection. So it is
//! matched with fires that were recorded shortly before a connection was last seen alive, and with no others: an equal message
//! of long ago, whose ack did arrive, never silences a new one.

use rusqlite::params;

use super::{Store, StoreError, Writing};

/// Rows of connections are kept for so long (30 days, in milliseconds): no message is in flight for longer.
pub const EPOCH_KEPT_MS: i64 = 30 * 24 * 3600 * 1000;

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{Config, NewFire, Recorded};

    const MINUTE: i64 = 60_000;

    /// Records a message without an id, the same each time but for these.
    async fn record(store: &Store, epoch: i64, at: i64, redelivered: bool) -> bool {
        let fire = NewFire {
            incarnation: 1,
            version: 1,
            task_id: uuid::Uuid::new_v4().to_string(),
            occurrence: 0,
            fired_by: "pulseMessage",
            fired_at: at,
            epoch,
            digest: Some([7; 16]),
            redelivered,
            message: Arc::new(pulse::Message::default()),
            task: Some("{}".into()),
            cause: None,
            error: None,
        };
        matches!(store.write(move |w| w.fire(&fire)).await.unwrap(), Recorded::New { .. })
    }

    fn open(folder: &tempfile::TempDir) -> Store {
        Store::open(&Config { path: folder.path().join("s.db") }, || ()).unwrap()
    }

    #[tokio::test]
    async fn a_redelivery_is_found_once_for_each_twin_and_an_old_equal_message_never() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let first = store.begin_epochs(0).await.unwrap() + 1;
        // Twins, each first delivery an event of its own; then the connection goes with both acks.
        assert!(record(&store, first, 0, false).await && record(&store, first, 0, false).await);
        assert!(!record(&store, first + 1, 1, true).await && !record(&store, first + 1, 1, true).await);
        assert!(record(&store, first + 1, 1, true).await, "a third was never recorded");
        // The connection lives on, so the acks have arrived; what comes again much later is another message.
        store.epochs_seen(first + 1..=first + 1, 5 * MINUTE, 0).await.unwrap();
        assert!(record(&store, first + 2, 6 * MINUTE, true).await);
    }

    #[tokio::test]
    async fn a_copy_that_was_held_up_is_found_by_the_one_that_came_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let first = store.begin_epochs(0).await.unwrap() + 1;
        assert!(record(&store, first + 1, 1, true).await);
        assert!(!record(&store, first, 2, false).await);
    }

    #[tokio::test]
    async fn a_known_identity_tells_whether_its_ack_may_have_been_lost() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let first = store.begin_epochs(0).await.unwrap() + 1;
        let record = async |epoch: i64, at: i64| {
            let fire = NewFire {
                incarnation: 1,
                version: 1,
                task_id: "the same".into(),
                occurrence: 0,
                fired_by: "pulseMessage",
                fired_at: at,
                epoch,
                digest: None,
                redelivered: true,
                message: Arc::new(pulse::Message::default()),
                task: Some("{}".into()),
                cause: None,
                error: None,
            };
            match store.write(move |w| w.fire(&fire)).await.unwrap() {
                Recorded::Known { ack_uncertain, .. } => Some(ack_uncertain),
                Recorded::New { .. } => None,
            }
        };
        assert_eq!(record(first, 0).await, None);
        assert_eq!(record(first, 1).await, Some(false), "the connection stands");
        // Its row was never written; later it was, and lives on.
        assert_eq!(record(first + 1, 2).await, Some(true));
        assert_eq!(record(first + 1, EPOCH_KEPT_MS + MINUTE).await, Some(false), "long ago");
        store.epochs_seen(first..=first, MINUTE / 2, 0).await.unwrap();
        assert_eq!(record(first + 1, 3 * MINUTE).await, Some(true));
        store.epochs_seen(first..=first, 5 * MINUTE, 0).await.unwrap();
        assert_eq!(record(first + 1, 6 * MINUTE).await, Some(false), "the ack has arrived");
    }

    #[tokio::test]
    async fn equal_messages_are_found_by_their_connection_however_many_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let plan = store.read(|connection| {
            let mut statement = connection.prepare(
                "EXPLAIN QUERY PLAN SELECT fired_at FROM fire WHERE digest = x'00' AND incarnation = 1 AND epoch > 2 LIMIT 1",
            )?;
            Ok(statement.query_map([], |row| row.get::<_, String>(3))?.collect::<rusqlite::Result<Vec<_>>>()?.join(""))
        });
        let plan = plan.await.unwrap();
        assert!(plan.contains("fire_digest (digest=? AND incarnation=? AND epoch>?)"), "{plan}");
    }

    #[tokio::test]
    async fn a_process_that_died_before_it_recorded_its_connection_shares_no_epoch_with_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        let first = store.begin_epochs(0).await.unwrap() + 3;
        assert!(record(&store, first, 0, false).await);
        let next = store.begin_epochs(1).await.unwrap() + 1;
        assert!(next > first);
        assert!(!record(&store, next, 1, true).await);
    }
}
