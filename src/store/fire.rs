//! Tables `fire`, `message`, `earlier_task`: one fire per (hook, message identity, occurrence), recorded before it is submitted.

mod read;
mod record;

use std::sync::Arc;

use bytes::Bytes;
use pulse::Message;
use rusqlite::Connection;

use super::StoreError;

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

    /// It has ended and made no task. A requeue or a replay may still mend that.
    pub fn is_failed(self) -> bool {
        match self {
            Self::Pending | Self::Success => false,
            Self::Dead | Self::Cancelled | Self::Dropped => true,
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
        /// Its ack may have been lost with an earlier connection: a redelivery may be of the very message that made it.
        ack_uncertain: bool,
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

const WATERMARK: &str = "published_fires";
