//! Fire events: what became of each fire, published so that anyone can build on it.
//!
//! The publisher reads ended fires from the store, in the order of their sequence numbers, and remembers up to where it
//! has come. So an event is published at least once, whatever stops in between; subscribers merge by `message-id`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use pulse::{Message, Properties, PublishError, naming};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Inner;
use crate::store::FireSummary;

/// Events that are read and published at a time.
const AT_ONCE: u32 = 500;

/// The watermark is written this often: what was published after it is published again after a crash.
const WATERMARK_EVERY: Duration = Duration::from_secs(1);

/// The wait before a batch is repeated while the broker is away.
const RETRY: Duration = Duration::from_secs(1);

/// Wakes the publisher.
#[derive(Default)]
pub(super) struct Events {
    wake: Notify,
}

impl Events {
    /// A fire has ended and is committed: there is something to publish.
    pub fn ended(&self) {
        self.wake.notify_one();
    }
}

impl Inner {
    /// Runs until the router stops.
    pub(super) async fn publish_events(self: Arc<Self>) {
        let mut published = loop {
            match self.store.published_watermark().await {
                Ok(seq) => break seq,
                Err(error) => {
                    tracing::error!(%error, "cannot read up to where fire events were published");
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        let (mut stored, mut stored_at) = (published, Instant::now());
        loop {
            let batch = match self.store.ended_fires(published, AT_ONCE).await {
                Ok(batch) => batch,
                Err(error) => {
                    tracing::error!(%error, "cannot read ended fires");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            let idle = batch.is_empty();
            if let Some(last) = batch.last().map(|summary| summary.ended_seq) {
                let sent = join_all(batch.iter().map(|summary| self.publish_event(summary))).await;
                if sent.contains(&false) {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                pulse::crash::point("router.published");
                published = last;
            }
            if published != stored && (idle || stored_at.elapsed() >= WATERMARK_EVERY) {
                if let Err(error) = self.store.set_published_watermark(published).await {
                    tracing::error!(%error, "cannot store up to where fire events were published");
                }
                (stored, stored_at) = (published, Instant::now());
            }
            if idle {
                self.events.wake.notified().await;
            }
        }
    }

    /// Answers false when the broker is away and the event must be published again.
    async fn publish_event(&self, summary: &FireSummary) -> bool {
        let Some(message) = event(&self.config.user, summary) else { return true };
        match self.transport.publish(&message, false).await {
            Ok(_) => true,
            Err(PublishError::Unavailable(reason)) => {
                tracing::debug!(reason, "cannot publish a fire event yet");
                false
            }
            Err(PublishError::Refused(reason)) => {
                tracing::warn!(reason, task_id = summary.fire.task_id, "the broker refused a fire event");
                true
            }
        }
    }
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

/// The message for an ended fire; `None` when its hook is no longer known.
fn event(user: &str, summary: &FireSummary) -> Option<Message> {
    let (group, id) = summary.hook.as_ref()?;
    let fire = &summary.fire;
    let outcome = fire.state.as_str();
    let body = Body {
        hook_group_id: group,
        hook_id: id,
        outcome,
        task_id: &fire.task_id,
        fired_by: &fire.fired_by,
        fired_at: super::from_ms(fire.fired_at).to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        message_id: fire.message_id.as_deref(),
        exchange: &fire.exchange,
        routing_key: &fire.routing_key,
        attempts: fire.attempts,
        error: fire.error.as_deref().and_then(|error| serde_json::from_str(error).ok()),
    };
    let body = serde_json::to_vec(&body).ok()?;
    Some(Message {
        exchange: naming::exchange(user, "fire"),
        routing_key: naming::routing_key([outcome, group, id]),
        properties: Properties {
            message_id: Some(format!("{}/{}", fire.task_id, summary.ended_seq)),
            timestamp: u64::try_from(fire.ended_at.unwrap_or(fire.fired_at) / 1000).ok(),
            content_type: Some("application/json".into()),
            headers: Default::default(),
        },
        body: Bytes::from(body),
    })
}
