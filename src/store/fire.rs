//! Tables `fire`, `message`, `earlier_task`: one fire per (hook, message identity, occurrence), recorded before it is submitted.

use std::sync::Arc;

use bytes::Bytes;
use pulse::{Message, Properties};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, StoreError, Writing};

/// Where a fire stands. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i64)]
pub enum FireState {
    /// Recorded, not yet settled with the queue service.
    Pending = 0,
    /// The task exists.
    Success = 1,
    /// Cannot succeed as it is: kept with message, task and reason, and can be requeued.
    Dead = 2,
    /// Its hook was deleted before it was submitted.
    Cancelled = 3,
    /// It was dead, and somebody decided that it is not needed.
    Dropped = 4,
}

impl FireState {
    pub(super) fn from_stored(value: i64) -> Self {
        match value {
            0 => Self::Pending,
            1 => Self::Success,
            3 => Self::Cancelled,
            4 => Self::Dropped,
            _ => Self::Dead,
        }
    }

    /// The name in routing keys and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Dropped => "dropped",
        }
    }
}

/// A fire to record.
#[derive(Debug, Clone)]
pub struct NewFire {
    /// The hook.
    pub incarnation: i64,
    /// Its version, with which the task was rendered.
    pub version: i64,
    /// The task id, made from incarnation, identity and occurrence: what makes a fire unique.
    pub task_id: String,
    /// 0, or more when an equal identity came again after its window.
    pub occurrence: i64,
    /// What fired it, e.g. `pulseMessage`.
    pub fired_by: &'static str,
    /// The frozen `now`, and the moment of the fire: milliseconds since the epoch.
    pub fired_at: i64,
    /// The broker connection that delivered it.
    pub epoch: i64,
    /// For a message without an id: digest over exchange, key, body and timestamp.
    pub digest: Option<[u8; 16]>,
    /// The broker marked it as redelivered.
    pub redelivered: bool,
    /// The message.
    pub message: Arc<Message>,
    /// The rendered task, if it came to that.
    pub task: Option<Bytes>,
    /// Why it cannot be submitted (JSON): such a fire is dead from the start.
    pub error: Option<String>,
    /// The task that the message is about, where a fire made that.
    pub cause: Option<String>,
}

/// What recording did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// A new fire with this row id. A dead one has its sequence number already.
    New {
        /// Row id.
        id: i64,
        /// Its place among the ended fires, if it is dead from the start.
        ended_seq: Option<i64>,
    },
    /// There is a fire for this identity and occurrence, recorded at `fired_at`.
    Known {
        /// Milliseconds since the epoch.
        fired_at: i64,
    },
}

/// How a fire ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Row id of the fire.
    pub id: i64,
    /// The new state.
    pub state: FireState,
    /// Submissions that were made.
    pub attempts: u32,
    /// When: milliseconds since the epoch.
    pub ended_at: i64,
    /// JSON error; `None` for success.
    pub error: Option<String>,
}

/// A row of `fire`.
#[derive(Debug, Clone)]
pub struct FireRow {
    /// Row id; grows with time.
    pub id: i64,
    /// The hook.
    pub incarnation: i64,
    /// The task id.
    pub task_id: String,
    /// The hook's version that rendered the task.
    pub version: i64,
    /// What fired it.
    pub fired_by: String,
    /// Exchange of its message.
    pub exchange: String,
    /// Routing key of its message.
    pub routing_key: String,
    /// `message-id` of its message.
    pub message_id: Option<String>,
    /// Milliseconds since the epoch.
    pub fired_at: i64,
    /// Where it stands.
    pub state: FireState,
    /// Submissions that were made.
    pub attempts: u32,
    /// Milliseconds since the epoch.
    pub ended_at: Option<i64>,
    /// JSON error.
    pub error: Option<String>,
    /// What became of the task itself: `completed`, `failed`, `exception`; `None` while that is not known.
    pub task_state: Option<String>,
}

/// A pending fire, with what its submission needs.
#[derive(Debug, Clone)]
pub struct PendingFire {
    /// Row id.
    pub id: i64,
    /// The hook.
    pub incarnation: i64,
    /// The hook's version that rendered the task.
    pub version: i64,
    /// The task id.
    pub task_id: String,
    /// The frozen `now` of the current rendering: milliseconds since the epoch.
    pub rendered_at: i64,
    /// The rendered task.
    pub task: Bytes,
    /// `message-id` of its message.
    pub message_id: Option<String>,
    /// The header `traceparent` of its message.
    pub trace: Option<pulse::trace::TraceContext>,
}

/// A task that was rendered anew.
#[derive(Debug, Clone, Copy)]
pub struct Rendering<'a> {
    /// The hook's version.
    pub version: i64,
    /// JSON text.
    pub task: &'a [u8],
    /// Its `now`: milliseconds since the epoch.
    pub rendered_at: i64,
}

/// What is published about an ended fire.
#[derive(Debug, Clone)]
pub struct FireSummary {
    /// Its place among the ended fires.
    pub ended_seq: i64,
    /// Group of the hook; `None` if the hook is no longer known.
    pub hook: Option<(String, String)>,
    /// The fire.
    pub fire: FireRow,
}

/// The message of a fire.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// The message, as it came.
    pub message: Message,
}

/// The rendered task of a fire and its earlier renderings, newest first.
#[derive(Debug, Clone, Default)]
pub struct StoredTask {
    /// JSON texts.
    pub renderings: Vec<Bytes>,
}

/// A connection's ack may have been lost with it only if it was sent within so long before the connection was last seen.
const ACK_UNCERTAIN_MS: i64 = 60_000;

/// The highest sequence number of ended fires that was ever given: rows that had it may have been reopened or removed since,
/// but what was published is remembered.
pub(super) fn last_ended_seq(connection: &Connection) -> Result<i64, StoreError> {
    let stored: i64 = connection.query_row(
        "SELECT coalesce(max(ended_seq), 0) FROM fire WHERE ended_seq IS NOT NULL",
        [],
        |row| row.get(0),
    )?;
    Ok(stored.max(watermark(connection)?))
}

fn watermark(connection: &Connection) -> Result<i64, StoreError> {
    Ok(super::meta::get(connection, WATERMARK)?.and_then(|value| value.parse().ok()).unwrap_or(0))
}

const FIRE_COLUMNS: &str =
    "fire.id, fire.incarnation, fire.task_id, fire.version, fire.fired_by, fire.exchange,
    fire.routing_key, fire.message_id, fire.fired_at, fire.state, fire.attempts, fire.ended_at, fire.error,
    fire.task_state";

fn fire_row(row: &Row<'_>) -> rusqlite::Result<FireRow> {
    Ok(FireRow {
        id: row.get(0)?,
        incarnation: row.get(1)?,
        task_id: row.get(2)?,
        version: row.get(3)?,
        fired_by: row.get(4)?,
        exchange: row.get(5)?,
        routing_key: row.get(6)?,
        message_id: row.get(7)?,
        fired_at: row.get(8)?,
        state: FireState::from_stored(row.get(9)?),
        attempts: row.get(10)?,
        ended_at: row.get(11)?,
        error: row.get(12)?,
        task_state: row.get(13)?,
    })
}

fn summary(row: &Row<'_>) -> rusqlite::Result<FireSummary> {
    let group: Option<String> = row.get(15)?;
    let id: Option<String> = row.get(16)?;
    Ok(FireSummary { fire: fire_row(row)?, ended_seq: row.get(14)?, hook: group.zip(id) })
}

/// Properties in the `message` table: everything of [`Properties`] that is not a column of `fire`.
#[derive(serde::Serialize, serde::Deserialize)]
struct StoredProperties {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "pulse::Headers::is_empty", default)]
    headers: pulse::Headers,
}

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
                return Ok(Recorded::Known { fired_at });
            }
        }
        let error = fire.error.as_ref();
        let state = if error.is_none() { FireState::Pending } else { FireState::Dead };
        let message = &fire.message;
        let ended_seq = error.is_some().then(|| *self.ended_seq + 1);
        let inserted = self
            .connection
            .prepare_cached(
                "INSERT OR IGNORE INTO fire (incarnation, task_id, occurrence, version, fired_by, exchange, routing_key,
                   message_id, fired_at, epoch, digest, state, ended_at, ended_seq, error, cause)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
            )?
            .execute(params![
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
        if inserted == 0 {
            let fired_at = self
                .connection
                .prepare_cached("SELECT fired_at FROM fire WHERE task_id = ?1 AND incarnation = ?2")?
                .query_row(params![fire.task_id, fire.incarnation], |row| row.get(0))?;
            return Ok(Recorded::Known { fired_at });
        }
        let id = self.connection.last_insert_rowid();
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
                "SELECT fire.id, fire.fired_at FROM fire JOIN epoch ON epoch.id = coalesce(fire.matched_epoch, fire.epoch)
                 WHERE fire.digest = ?1 AND fire.incarnation = ?2
                   AND coalesce(fire.matched_epoch, fire.epoch) < ?3
                   AND coalesce(fire.matched_at, fire.fired_at) >= epoch.last_seen - ?4
                 ORDER BY fire.id LIMIT 1",
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

impl Store {
    /// Pending fires with row ids above `after`, oldest first.
    pub async fn pending_fires(&self, after: i64, limit: u32) -> Result<Vec<PendingFire>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare_cached(
                "SELECT fire.id, fire.incarnation, fire.version, fire.task_id, message.rendered_at, message.task,
                   fire.message_id, json_extract(message.properties, '$.headers.traceparent')
                 FROM fire JOIN message ON message.fire = fire.id
                 WHERE fire.state = 0 AND fire.id > ?1 ORDER BY fire.id LIMIT ?2",
            )?;
            let rows = statement.query_map(params![after, limit], |row| {
                Ok(PendingFire {
                    id: row.get(0)?,
                    incarnation: row.get(1)?,
                    version: row.get(2)?,
                    task_id: row.get(3)?,
                    rendered_at: row.get(4)?,
                    task: Bytes::from(row.get::<_, Vec<u8>>(5)?),
                    message_id: row.get(6)?,
                    trace: traceparent(row.get_ref(7)?),
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The newest fires of a hook, newest first, with row ids below `before`.
    pub async fn fires(
        &self,
        incarnation: i64,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<FireRow>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare_cached(&format!(
                "SELECT {FIRE_COLUMNS} FROM fire WHERE incarnation = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3"
            ))?;
            let rows =
                statement.query_map(params![incarnation, before.unwrap_or(i64::MAX), limit], fire_row)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// A fire of a hook by its task id.
    pub async fn fire_by_task(
        &self,
        incarnation: i64,
        task_id: String,
    ) -> Result<Option<FireRow>, StoreError> {
        self.read(move |c| {
            Ok(c.prepare_cached(&format!(
                "SELECT {FIRE_COLUMNS} FROM fire WHERE task_id = ?1 AND incarnation = ?2"
            ))?
            .query_row(params![task_id, incarnation], fire_row)
            .optional()?)
        })
        .await
    }

    /// Dead letters, newest first, with row ids below `before`: of one hook or of all.
    pub async fn dead_fires(
        &self,
        incarnation: Option<i64>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<FireSummary>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare_cached(&format!(
                "SELECT {FIRE_COLUMNS}, fire.ended_seq, hook.hook_group, hook.hook_id
                 FROM fire JOIN hook ON hook.incarnation = fire.incarnation AND hook.deleted_at IS NULL
                 WHERE fire.state = 2 AND fire.id < ?1 AND (?2 IS NULL OR fire.incarnation = ?2)
                 ORDER BY fire.id DESC LIMIT ?3"
            ))?;
            let rows =
                statement.query_map(params![before.unwrap_or(i64::MAX), incarnation, limit], summary)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Notes what became of tasks: (task id, state). Those that no fire made are left out; answers the states that were
    /// noted.
    pub async fn set_task_states(
        &self,
        states: Vec<(String, &'static str)>,
    ) -> Result<Vec<&'static str>, StoreError> {
        // Most tasks of a deployment come from elsewhere, and are none of the writer's business.
        let ours = self
            .read(move |c| {
                let mut statement = c.prepare_cached("SELECT 1 FROM fire WHERE task_id = ?1 LIMIT 1")?;
                let mut ours = Vec::new();
                for (task_id, state) in states {
                    if statement.exists([&task_id])? {
                        ours.push((task_id, state));
                    }
                }
                Ok(ours)
            })
            .await?;
        let noted: Vec<_> = ours.iter().map(|(_, state)| *state).collect();
        if !noted.is_empty() {
            self.write(move |w| {
                for (task_id, state) in &ours {
                    w.connection
                        .prepare_cached("UPDATE fire SET task_state = ?2 WHERE task_id = ?1")?
                        .execute(params![task_id, state])?;
                }
                Ok(())
            })
            .await?;
        }
        Ok(noted)
    }

    /// Fires that ended with sequence numbers above `after`, in their order, with their hooks' names.
    pub async fn ended_fires(&self, after: i64, limit: u32) -> Result<Vec<FireSummary>, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare_cached(&format!(
                "SELECT {FIRE_COLUMNS}, fire.ended_seq, hook.hook_group, hook.hook_id
                 FROM fire LEFT JOIN hook ON hook.incarnation = fire.incarnation
                 WHERE fire.ended_seq > ?1 ORDER BY fire.ended_seq LIMIT ?2"
            ))?;
            let rows = statement.query_map(params![after, limit], summary)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Up to which sequence number ended fires have been published.
    pub async fn published_watermark(&self) -> Result<i64, StoreError> {
        self.read(|c| Ok(super::meta::get(c, WATERMARK)?.and_then(|value| value.parse().ok()).unwrap_or(0)))
            .await
    }

    /// Ended fires up to this sequence number have been published.
    pub async fn set_published_watermark(&self, seq: i64) -> Result<(), StoreError> {
        self.write(move |w| super::meta::set(w.connection, WATERMARK, &seq.to_string())).await
    }

    /// The message of a fire; `None` once its retention has passed.
    pub async fn message(&self, fire: i64) -> Result<Option<StoredMessage>, StoreError> {
        self.read(move |c| {
            let found = c
                .prepare_cached(
                    "SELECT fire.exchange, fire.routing_key, fire.message_id, message.properties, message.body
                     FROM fire JOIN message ON message.fire = fire.id WHERE fire.id = ?1",
                )?
                .query_row([fire], |row| {
                    Ok((
                        row.get::<_, String>(0)?,
                        row.get::<_, String>(1)?,
                        row.get::<_, Option<String>>(2)?,
                        row.get::<_, String>(3)?,
                        row.get::<_, Vec<u8>>(4)?,
                    ))
                })
                .optional()?;
            let Some((exchange, routing_key, message_id, properties, body)) = found else { return Ok(None) };
            let stored: StoredProperties =
                serde_json::from_str(&properties).map_err(|error| StoreError::Sqlite(error.to_string()))?;
            let properties = Properties {
                message_id,
                timestamp: stored.timestamp,
                content_type: stored.content_type,
                headers: stored.headers,
            };
            Ok(Some(StoredMessage {
                message: Message { exchange, routing_key, properties, body: body.into() },
            }))
        })
        .await
    }

    /// The rendered task of a fire and its earlier renderings.
    pub async fn stored_task(&self, fire: i64) -> Result<StoredTask, StoreError> {
        self.read(move |c| {
            let mut statement = c.prepare_cached(
                "SELECT task FROM message WHERE fire = ?1 AND task IS NOT NULL
                 UNION ALL SELECT task FROM (SELECT task FROM earlier_task WHERE fire = ?1 ORDER BY id DESC)",
            )?;
            let rows = statement.query_map([fire], |row| Ok(Bytes::from(row.get::<_, Vec<u8>>(0)?)))?;
            Ok(StoredTask { renderings: rows.collect::<rusqlite::Result<_>>()? })
        })
        .await
    }
}

/// A publisher may have put anything there.
fn traceparent(value: rusqlite::types::ValueRef<'_>) -> Option<pulse::trace::TraceContext> {
    pulse::trace::TraceContext::parse(value.as_str().ok()?)
}

const WATERMARK: &str = "published_fires";
