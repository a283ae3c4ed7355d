//! How everything is: what happened, what is away, what waits, what is wrong.

use serde_json::{Value, json};

use super::hook::named;
use super::page::Answer;
use super::refusal::Refusal;
use super::visit::Visit;
use super::{dead, plot};
use crate::router::activity::MINUTES;
use crate::router::gate::GateState;
use crate::router::looking::{Backlog, Glance};
use crate::router::now_ms;

/// Hooks whose queues are listed.
const BUSIEST: usize = 5;

/// Problems of a kind that are listed; the rest is counted.
const LISTED: usize = 20;

/// Dead letters that are listed; the rest has a page of its own.
const LETTERS: u32 = 5;

/// Dead letters are counted up to here.
const COUNTED: u32 = 10_000;

/// Without a tick of the clock for so long, schedules stand still: ticks come each minute.
const SILENT_MS: i64 = 150_000;

/// `/`.
pub(super) async fn show(visit: Visit) -> Result<Answer, Refusal> {
    if !visit.may_see_all() {
        let nobody = !visit.visitor.signed_in && visit.visitor.identity.scopes.as_slice().is_empty();
        return match nobody {
            true => Ok(Answer::Redirect("/sign-in?next=%2F".into())),
            false => Ok(Answer::Redirect("/hooks".into())),
        };
    }
    let inner = &visit.ui.inner;
    let state = inner.router.state();
    let now = now_ms();
    let last_tick = inner.router.last_tick().map(|tick| tick.timestamp_millis());
    let queue = match &state.queue_service {
        GateState::Open => json!({ "tone": "good", "text": "works" }),
        GateState::Trial => json!({ "tone": "busy", "text": "answers again; being tried" }),
        GateState::Closed { reason } => json!({ "tone": "bad", "text": "down", "reason": reason }),
    };
    let bridge = inner.bridge.status().await;
    let spool =
        bridge.as_ref().ok().and_then(|status| status.as_ref()).and_then(|status| status.spool.clone());
    let letters = inner.store.dead_fires(None, None, LETTERS).await?;
    let glances = inner.router.glances();
    let (waiting, waiting_in_all) = inner.router.waiting(BUSIEST);
    let values = json!({
        "hour": plot::bars(&inner.router.activity(60), 1),
        "day": plot::bars(&inner.router.activity(MINUTES - 1), 30),
        "hooks": state.hooks,
        "broker": match &state.broker_down {
            None => json!({ "tone": "good", "text": "connected" }),
            Some(reason) => json!({ "tone": "bad", "text": "away", "reason": reason }),
        },
        "queue": queue,
        "queue_down_seconds": state.queue_service_down_for.map(|down| down.as_secs()),
        "clock": match last_tick {
            Some(tick) if now - tick < SILENT_MS => json!({ "tone": "good", "text": "ticks", "at": tick }),
            Some(tick) => json!({ "tone": "warn", "text": "silent: schedules stand still", "at": tick }),
            None => json!({ "tone": "warn", "text": "no tick since the start: one comes each minute, and schedules wait for it", "at": null }),
        },
        "pending": state.pending,
        "most_pending": state.most_pending,
        "pending_kib": state.pending_bytes / 1024,
        "bridge_fault": bridge.err(),
        "spool": spool,
        "dead_count": inner.store.count_dead(COUNTED).await?,
        "dead_most": COUNTED,
        "letters": letters.iter().filter_map(|letter| dead::entry(&visit, letter)).collect::<Vec<_>>(),
        "problems": problems(&glances),
        "waiting": waiting.iter().map(backlog).collect::<Vec<_>>(),
        "waiting_in_all": waiting_in_all,
    });
    Ok(Answer::page("overview.html", values))
}

/// Hooks with something wrong: `{entries: [{hook, what, reason}], more}`.
fn problems(glances: &[Glance]) -> Value {
    let mut found = Vec::new();
    for glance in glances {
        let mut note =
            |what: &str, reason: String| found.push((glance.name.clone(), what.to_owned(), reason));
        if let Some(error) = &glance.queue_error {
            note("queue", error.clone());
        }
        for (binding, error) in &glance.refused {
            note(&format!("binding to {} ({})", binding.exchange, binding.pattern), error.clone());
        }
        if let Some(held) = glance.held_for {
            note("held", format!("its fires keep failing; one message is tried in {} s", held.as_secs()));
        }
    }
    found.sort();
    let more = found.len().saturating_sub(LISTED);
    let entries: Vec<Value> = found
        .into_iter()
        .take(LISTED)
        .map(|(name, what, reason)| json!({ "hook": named(&name), "what": what, "reason": reason }))
        .collect();
    json!({ "entries": entries, "more": more })
}

fn backlog(backlog: &Backlog) -> Value {
    json!({ "hook": named(&backlog.hook), "messages": backlog.messages, "oldest_seconds": backlog.oldest.as_secs() })
}
