//! The live tail: messages of a hook as the router decides about them, by server-sent events.
//!
//! What is remembered of the hook comes first; after a break the browser says what it has seen last. Who is signed in is asked
//! again every few seconds: a tail does not outlive a session, nor scopes that were taken away. A tail that cannot keep up is told how
//! much it missed; the road does not wait for it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::explorer::path;
use super::hook::frame;
use super::page::{Answer, segment};
use super::refusal::Refusal;
use super::session::Found;
use super::timeline::tone_of;
use super::visit::Visit;
use crate::hook::HookName;
use crate::router::recent::{Seen, Watch};

/// How often it is asked whether the visitor may still look on. It also tells both ends that the other is there.
const AGAIN: Duration = Duration::from_secs(5);

/// `/hooks/{group}/{hook}/live`.
pub(super) async fn show(visit: Visit) -> Result<Answer, Refusal> {
    let row = visit.hook("listDecisions").await?;
    let frame = frame(&visit, &row, "live").await?;
    Ok(Answer::page("live.html", frame))
}

struct Tail {
    visit: Visit,
    name: HookName,
    waiting: VecDeque<Bytes>,
    watch: Watch,
    again: Interval,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

/// `/hooks/{group}/{hook}/live/events`.
pub(super) async fn events(visit: Visit) -> Result<Answer, Refusal> {
    let row = visit.hook("listDecisions").await?;
    let inner = &visit.ui.inner;
    let Ok(place) = inner.tails.clone().try_acquire_owned() else {
        return Err(Refusal::busy("Too many people look on at the moment."));
    };
    let last =
        visit.headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let (seen, watch) = inner.router.watch(row.incarnation, last.unwrap_or(0));
    let mut again = tokio::time::interval_at(Instant::now() + AGAIN, AGAIN);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting: VecDeque<Bytes> = [Bytes::from_static(b"retry: 2000\n\n")].into();
    waiting.extend(seen.iter().map(|seen| event(&row.name, seen)));
    let tail = Tail { name: row.name, waiting, watch, again, ended: false, _place: place, visit };
    let lines = stream::unfold(tail, async |mut tail| Some((Ok::<_, Infallible>(tail.next().await?), tail)));
    let mut response = Response::new(Body::from_stream(lines));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // nginx and its kin would collect the events otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(Answer::Raw(Box::new(response)))
}

impl Tail {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(waiting) = self.waiting.pop_front() {
            return Some(waiting);
        }
        if self.ended {
            return None;
        }
        let stop = self.visit.ui.inner.stop.clone();
        tokio::select! {
            () = stop.cancelled() => None,
            heard = self.watch.next() => Some(match heard {
                Ok(seen) => event(&self.name, &seen),
                Err(missed) => Bytes::from(format!("event: missed\ndata: {missed}\n\n")),
            }),
            _ = self.again.tick() => {
                if self.may_go_on().await {
                    return Some(Bytes::from_static(b": still here\n\n"));
                }
                self.ended = true;
                Some(Bytes::from_static(b"event: ended\ndata: signed out\n\n"))
            }
        }
    }

    async fn may_go_on(&mut self) -> bool {
        let inner = &self.visit.ui.inner;
        if inner.authenticator.is_open() || !self.visit.visitor.signed_in {
            return true;
        }
        let browser = &self.visit.visitor.browser;
        match inner.sessions.owner(&inner.authenticator, browser, self.visit.source).await {
            Ok(Found::Owner(identity)) => {
                self.visit.visitor.identity = identity;
                self.visit.may("listDecisions", &self.name)
            }
            Ok(Found::None | Found::Ended) => false,
            // Not their fault; it is asked again.
            Err(_) => true,
        }
    }
}

fn event(name: &HookName, seen: &Arc<Seen>) -> Bytes {
    let message = &seen.message;
    let base = path(name);
    let href = (seen.outcome == "fire").then(|| format!("{base}/fires/{}", segment(&seen.task_id)));
    let data = json!({
        "at": seen.at,
        "outcome": seen.outcome,
        "tone": tone_of(&seen.outcome),
        "reason": seen.reason,
        "exchange": message.exchange,
        "key": message.routing_key,
        "messageId": message.properties.message_id,
        "href": href,
        "event": (!message.body.is_empty()).then(|| format!("{base}/seen/{}/event", seen.seq)),
        "try": (!message.body.is_empty()).then(|| format!("{base}/edit?message=seen:{}", seen.seq)),
    });
    // JSON text has no line breaks.
    Bytes::from(format!("id: {}\nevent: seen\ndata: {data}\n\n", seen.seq))
}
