//! What a fire event says; its schema is `schemas/fire-event.json`.

use bytes::Bytes;
use pulse::{Message, Properties, naming};
use serde::Serialize;

use crate::router::submit::Settled;
use crate::router::{Inner, from_ms};
use crate::store::{FireState, FireSummary};

/// Where a fire came from, as its event tells it.
pub(in crate::router) struct Origin {
    pub fired_by: &'static str,
    /// Milliseconds since the epoch.
    pub fired_at: i64,
    pub exchange: String,
    pub routing_key: String,
}

impl Inner {
    /// The event of a fire that has just ended; `None` if the store is to be asked.
    pub(in crate::router) fn event_of(&self, settled: &Settled, seq: i64) -> Option<Message> {
        let origin = settled.origin.as_ref()?;
        let name = &settled.hook.name;
        let fire = Ended {
            hook: (&name.group, &name.id),
            state: settled.ended.state,
            task_id: &settled.task_id,
            fired_by: origin.fired_by,
            fired_at: origin.fired_at,
            message_id: settled.message_id.as_deref(),
            exchange: &origin.exchange,
            routing_key: &origin.routing_key,
            attempts: settled.ended.attempts,
            error: settled.ended.error.as_deref(),
            ended_at: settled.ended.ended_at,
            seq,
        };
        fire.event(&self.config.user)
    }

    /// The event of an ended fire; `None` when its hook is no longer known.
    pub(super) fn event_of_stored(&self, summary: &FireSummary) -> Option<Message> {
        let (group, id) = summary.hook.as_ref()?;
        let fire = &summary.fire;
        let fire = Ended {
            hook: (group, id),
            state: fire.state,
            task_id: &fire.task_id,
            fired_by: &fire.fired_by,
            fired_at: fire.fired_at,
            message_id: fire.message_id.as_deref(),
            exchange: &fire.exchange,
            routing_key: &fire.routing_key,
            attempts: fire.attempts,
            error: fire.error.as_deref(),
            ended_at: fire.ended_at.unwrap_or(fire.fired_at),
            seq: summary.ended_seq,
        };
        fire.event(&self.config.user)
    }
}

/// An ended fire. Times in milliseconds since the epoch.
struct Ended<'a> {
    /// Group and id.
    hook: (&'a str, &'a str),
    state: FireState,
    task_id: &'a str,
    fired_by: &'a str,
    fired_at: i64,
    message_id: Option<&'a str>,
    exchange: &'a str,
    routing_key: &'a str,
    attempts: u32,
    /// JSON.
    error: Option<&'a str>,
    ended_at: i64,
    seq: i64,
}

/// The body of a fire event.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    hook_group_id: &'a str,
    hook_id: &'a str,
    outcome: &'a str,
    task_id: &'a str,
    fired_by: &'a str,
    fired_at: String,
    message_id: Option<&'a str>,
    exchange: &'a str,
    routing_key: &'a str,
    attempts: u32,
    error: Option<serde_json::Value>,
}

impl Ended<'_> {
    fn event(&self, user: &str) -> Option<Message> {
        let (group, id) = self.hook;
        let outcome = self.state.as_str();
        let body = Body {
            hook_group_id: group,
            hook_id: id,
            outcome,
            task_id: self.task_id,
            fired_by: self.fired_by,
            fired_at: from_ms(self.fired_at).to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            message_id: self.message_id,
            exchange: self.exchange,
            routing_key: self.routing_key,
            attempts: self.attempts,
            error: self.error.and_then(|error| serde_json::from_str(error).ok()),
        };
        let body = serde_json::to_vec(&body).ok()?;
        Some(Message {
            exchange: naming::exchange(user, "fire"),
            routing_key: naming::routing_key([outcome, group, id]),
            properties: Properties {
                message_id: Some(format!("{}/{}", self.task_id, self.seq)),
                timestamp: u64::try_from(self.ended_at / 1000).ok(),
                content_type: Some("application/json".into()),
                headers: Default::default(),
            },
            body: Bytes::from(body),
        })
    }
}
