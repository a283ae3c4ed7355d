//! Fires as they are recorded, end, and are opened again: what the writer does.

use rusqlite::{OptionalExtension, params};

use super::{Ended, FireState, NewFire, Recorded, Rendering, StoredProperties};
use crate::store::{EPOCH_KEPT_MS, StoreError, Writing};

/// A connection's ack may have been lost with it only if it was sent within so long before the connection was last seen.
const ACK_UNCERTAIN_MS: i64 = 60_000;

impl Writing<'_> {
    /// Records a fire, its message and its task, unless there is one for its identity already.
    pub fn fire(&mut self, fire: &NewFire) -> Result<Recorded, StoreError> {
        if let Some(digest) = &fire.digest {
            self.epoch_lives(fire.epoch, fire.fired_at)?;
            let mut known = self.match_later_copy(fire.incarnation, digest, fire.epoch)?;
            if known.is_none() && fire.redelivered {
                known = self.match_redelivery(fire)?;
            }
            if let Some(fired_at) = known {
                return Ok(Recorded::Known { fired_at, ack_uncertain: true });
            }
        }
        if let Some(id) = self.by_task.fire_of(self.connection, fire.incarnation, &fire.task_id)? {
            return self.known(id, fire);
        }
        let id = self.by_task.next_fire();
        let error = fire.error.as_ref();
        let state = if error.is_none() { FireState::Pending } else { FireState::Dead };
        let message = &fire.message;
        let ended_seq = error.is_some().then(|| *self.ended_seq + 1);
        self.connection
            .prepare_cached(
                "INSERT INTO fire (id, incarnation, task_id, occurrence, version, fired_by, exchange, routing_key,
                   message_id, fired_at, epoch, digest, state, ended_at, ended_seq, error, cause)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
            )?
            .execute(params![
                id,
                fire.incarnation,
                fire.task_id,
                fire.occurrence,
                fire.version,
                fire.fired_by,
                message.exchange,
                message.routing_key,
                message.properties.message_id,
                fire.fired_at,
                fire.epoch,
                fire.digest.as_ref().map(|digest| digest.as_slice()),
                state as i64,
                error.map(|_| fire.fired_at),
                ended_seq,
                error,
                fire.cause
            ])?;
        self.by_task.add(&fire.task_id, id);
        if let Some(seq) = ended_seq {
            *self.ended_seq = seq;
        }
        let properties = StoredProperties {
            timestamp: message.properties.timestamp,
            content_type: message.properties.content_type.clone(),
            headers: message.properties.headers.clone(),
        };
        self.connection
            .prepare_cached(
                "INSERT INTO message (fire, properties, body, task, rendered_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                id,
                serde_json::to_string(&properties).map_err(|error| StoreError::Sqlite(error.to_string()))?,
                message.body.as_ref(),
                fire.task.as_deref(),
                fire.fired_at
            ])?;
        Ok(Recorded::New { id, ended_seq })
    }

    /// The fire that stands where this one would. Where the row of its connection is missing, which was too short to get one or is
    /// forgotten, its age decides.
    fn known(&self, id: i64, fire: &NewFire) -> Result<Recorded, StoreError> {
        let known = self
            .connection
            .prepare_cached(
                "SELECT fire.fired_at, fire.epoch < ?2 AND coalesce(fire.fired_at >= epoch.last_seen - ?3, fire.fired_at > ?4)
                 FROM fire LEFT JOIN epoch ON epoch.id = fire.epoch WHERE fire.id = ?1",
            )?
            .query_row(
                params![id, fire.epoch, ACK_UNCERTAIN_MS, fire.fired_at - EPOCH_KEPT_MS],
                |row| Ok(Recorded::Known { fired_at: row.get(0)?, ack_uncertain: row.get(1)? }),
            )?;
        Ok(known)
    }

    /// Finds an equal fire of a later epoch. A delivery that a full store holds up may outlive its connection; the broker then
    /// delivers the message again, and that copy may be recorded first.
    fn match_later_copy(
        &self,
        incarnation: i64,
        digest: &[u8; 16],
        epoch: i64,
    ) -> Result<Option<i64>, StoreError> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT fired_at FROM fire WHERE digest = ?1 AND incarnation = ?2 AND epoch > ?3 LIMIT 1",
            )?
            .query_row(params![digest.as_slice(), incarnation, epoch], |row| row.get(0))
            .optional()?)
    }

    /// Finds the fire that a redelivered message without id made before its ack was lost, and marks it as matched
    /// in this epoch, so that a second equal message in flight finds the second equal fire or none.
    fn match_redelivery(&self, fire: &NewFire) -> Result<Option<i64>, StoreError> {
        let digest = fire.digest.as_ref().map(|digest| digest.as_slice());
        let found: Option<(i64, i64)> = self
            .connection
            .prepare_cached(
                // From the few connections to their last minute: the same message may be there half a million times.
                "SELECT id, fired_at FROM (
                   SELECT fire.id, fire.fired_at FROM epoch CROSS JOIN fire
                     ON fire.digest = ?1 AND fire.incarnation = ?2 AND fire.epoch = epoch.id
                       AND fire.fired_at >= epoch.last_seen - ?4
                     WHERE epoch.id < ?3 AND fire.matched_epoch IS NULL
                   UNION ALL
                   SELECT fire.id, fire.fired_at FROM epoch CROSS JOIN fire
                     ON fire.digest = ?1 AND fire.incarnation = ?2 AND fire.matched_epoch = epoch.id
                       AND fire.matched_at >= epoch.last_seen - ?4
                     WHERE epoch.id < ?3
                 ) ORDER BY id LIMIT 1",
            )?
            .query_row(params![digest, fire.incarnation, fire.epoch, ACK_UNCERTAIN_MS], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((id, fired_at)) = found else { return Ok(None) };
        self.connection
            .prepare_cached("UPDATE fire SET matched_epoch = ?2, matched_at = ?3 WHERE id = ?1")?
            .execute(params![id, fire.epoch, fire.fired_at])?;
        Ok(Some(fired_at))
    }

    /// Ends a pending fire. Answers its sequence number, or `None` when it was not pending any more.
    pub fn end_fire(&mut self, ended: &Ended) -> Result<Option<i64>, StoreError> {
        let seq = *self.ended_seq + 1;
        let changed = self
            .connection
            .prepare_cached(
                "UPDATE fire SET state = ?2, attempts = ?3, ended_at = ?4, ended_seq = ?5, error = ?6
                 WHERE id = ?1 AND state = 0",
            )?
            .execute(params![
                ended.id,
                ended.state as i64,
                ended.attempts,
                ended.ended_at,
                seq,
                ended.error
            ])?;
        if changed == 0 {
            return Ok(None);
        }
        *self.ended_seq = seq;
        Ok(Some(seq))
    }

    /// Replaces the task of a pending fire by a fresh rendering; the earlier one is kept.
    pub fn rerender(
        &mut self,
        id: i64,
        version: i64,
        task: &[u8],
        rendered_at: i64,
    ) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("INSERT INTO earlier_task (fire, task) SELECT fire, task FROM message WHERE fire = ?1 AND task IS NOT NULL")?
            .execute([id])?;
        self.connection
            .prepare_cached("UPDATE message SET task = ?2, rendered_at = ?3 WHERE fire = ?1")?
            .execute(params![id, task, rendered_at])?;
        self.connection
            .prepare_cached("UPDATE fire SET version = ?2 WHERE id = ?1")?
            .execute([id, version])?;
        Ok(())
    }

    /// Makes an ended fire pending again, with its task or another rendering of it. Answers false when it is not in one of
    /// the states `from`.
    pub fn reopen(
        &mut self,
        id: i64,
        from: &[FireState],
        rendering: Option<Rendering<'_>>,
    ) -> Result<bool, StoreError> {
        let state: i64 = self
            .connection
            .prepare_cached("SELECT state FROM fire WHERE id = ?1")?
            .query_row([id], |row| row.get(0))?;
        if !from.iter().any(|from| *from as i64 == state) {
            return Ok(false);
        }
        if let Some(new) = rendering {
            self.rerender(id, new.version, new.task, new.rendered_at)?;
        }
        self.connection
            .prepare_cached(
                "UPDATE fire SET state = 0, ended_at = NULL, ended_seq = NULL, error = NULL WHERE id = ?1",
            )?
            .execute([id])?;
        Ok(true)
    }

    /// Marks a dead fire as dropped. Answers its sequence number, or `None` when it was not dead.
    pub fn drop_fire(&mut self, id: i64, now: i64) -> Result<Option<i64>, StoreError> {
        let seq = *self.ended_seq + 1;
        let changed = self
            .connection
            .prepare_cached(
                "UPDATE fire SET state = ?2, ended_at = ?3, ended_seq = ?4 WHERE id = ?1 AND state = ?5",
            )?
            .execute(params![id, FireState::Dropped as i64, now, seq, FireState::Dead as i64])?;
        if changed == 0 {
            return Ok(None);
        }
        *self.ended_seq = seq;
        Ok(Some(seq))
    }

    /// Ends the pending fires of a deleted hook as cancelled. Answers how many there were.
    pub fn cancel_fires(&mut self, incarnation: i64, now: i64, error: &str) -> Result<usize, StoreError> {
        let ids: Vec<i64> = self
            .connection
            .prepare_cached("SELECT id FROM fire WHERE state = 0 AND incarnation = ?1")?
            .query_map([incarnation], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for id in &ids {
            self.end_fire(&Ended {
                id: *id,
                state: FireState::Cancelled,
                attempts: 0,
                ended_at: now,
                error: Some(error.to_owned()),
            })?;
        }
        Ok(ids.len())
    }
}
