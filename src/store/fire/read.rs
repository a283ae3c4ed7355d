//! What is asked about fires.

use bytes::Bytes;
use pulse::{Message, Properties};
use rusqlite::{OptionalExtension, Row, params};

use super::{
    FireRow, FireState, FireSummary, PendingFire, StoredMessage, StoredProperties, StoredTask, WATERMARK,
};
use crate::store::{Store, StoreError, meta};

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
        self.read_by_task(move |c, by_task| {
            let Some(id) = by_task.fire_of(c, incarnation, &task_id)? else { return Ok(None) };
            Ok(c.prepare_cached(&format!("SELECT {FIRE_COLUMNS} FROM fire WHERE id = ?1"))?
                .query_row([id], fire_row)
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
        let (ours, noted) = self
            .read_by_task(move |c, by_task| {
                let (mut ours, mut noted) = (Vec::new(), Vec::new());
                for (task_id, state) in states {
                    let fires = by_task.fires(c, &task_id)?;
                    if !fires.is_empty() {
                        noted.push(state);
                    }
                    ours.extend(fires.into_iter().map(|(fire, _)| (fire, state)));
                }
                Ok((ours, noted))
            })
            .await?;
        if !ours.is_empty() {
            self.write(move |w| {
                for (fire, state) in &ours {
                    w.connection
                        .prepare_cached("UPDATE fire SET task_state = ?2 WHERE id = ?1")?
                        .execute(params![fire, state])?;
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
        self.read(|c| Ok(meta::get(c, WATERMARK)?.and_then(|value| value.parse().ok()).unwrap_or(0))).await
    }

    /// Ended fires up to this sequence number have been published.
    pub async fn set_published_watermark(&self, seq: i64) -> Result<(), StoreError> {
        self.write(move |w| meta::set(w.connection, WATERMARK, &seq.to_string())).await
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
