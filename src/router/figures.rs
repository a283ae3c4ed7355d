//! The router's own measurements. Handles are made once: counting on the hot path is an addition and no look-up.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use pulse::Delivery;

use super::Inner;
use super::gate::GateState;
use crate::store::{FireState, StoreFigures};
use crate::telemetry::metrics::{BrokerGauges, head, line};

/// What may become of a message: the decisions, and what comes before and after them.
const OUTCOMES: [&str; 14] = [
    "fire",
    "repeat",
    "not-bound",
    "not-json",
    "filtered",
    "schema-mismatch",
    "declined",
    "filter-error",
    "template-error",
    "invalid-task",
    "untrusted-trigger",
    "stale-schedule",
    "loop",
    "other",
];

/// What an attempt to create a task came to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attempt {
    Created,
    Conflict,
    Refused,
    Retry,
    Outage,
}

/// The handles.
pub(super) struct Figures {
    messages: [Counter; OUTCOMES.len()],
    broker_wait: Histogram,
    decide: Histogram,
    record: Histogram,
    submit: Histogram,
    fire: Histogram,
    attempts: [Counter; 5],
    ends: [Counter; 4],
}

impl Default for Figures {
    fn default() -> Self {
        let attempt = |result: &'static str| counter!("pulsehook_router_attempts_total", "result" => result);
        let end =
            |outcome: FireState| counter!("pulsehook_router_fires_total", "outcome" => outcome.as_str());
        Self {
            messages: OUTCOMES
                .map(|outcome| counter!("pulsehook_router_messages_total", "outcome" => outcome)),
            broker_wait: histogram!("pulsehook_router_broker_wait_seconds"),
            decide: histogram!("pulsehook_router_decide_seconds"),
            record: histogram!("pulsehook_router_record_seconds"),
            submit: histogram!("pulsehook_router_submit_seconds"),
            fire: histogram!("pulsehook_router_fire_seconds"),
            attempts: ["created", "conflict", "refused", "retry", "outage"].map(attempt),
            ends: [FireState::Success, FireState::Dead, FireState::Cancelled, FireState::Dropped].map(end),
        }
    }
}

impl Figures {
    /// A message is about to be decided about.
    pub fn arrived(&self, delivery: &Delivery, now_ms: i64) {
        if let Some(sent) = delivery.message.properties.timestamp {
            let waited = now_ms / 1000 - i64::try_from(sent).unwrap_or(i64::MAX);
            self.broker_wait.record(waited.max(0) as f64);
        }
    }

    /// So many messages were decided about together.
    pub fn decided(&self, took: Duration, messages: usize) {
        self.decide.record_many(took.as_secs_f64(), messages);
    }

    /// What was decided about so many messages is on disk.
    pub fn recorded(&self, took: Duration, messages: usize) {
        self.record.record_many(took.as_secs_f64(), messages);
    }

    /// What became of a message.
    pub fn message(&self, outcome: &str) {
        let place = OUTCOMES.iter().position(|known| *known == outcome).unwrap_or(OUTCOMES.len() - 1);
        self.messages[place].increment(1);
    }

    /// A task was tried to be created.
    pub fn attempted(&self, attempt: Attempt, took: Duration) {
        self.attempts[attempt as usize].increment(1);
        self.submit.record(took.as_secs_f64());
    }

    /// A fire that took so long to settle is on its way to being committed as ended.
    pub fn settled(&self, took: Duration) {
        self.fire.record(took.as_secs_f64());
    }

    /// A fire's end is committed.
    pub fn ended(&self, state: FireState) {
        let place = match state {
            FireState::Success => 0,
            FireState::Dead => 1,
            FireState::Cancelled => 2,
            FireState::Dropped => 3,
            FireState::Pending => return,
        };
        self.ends[place].increment(1);
    }
}

/// What is asked rather than counted.
pub(super) struct Gauges {
    pending_fires: Gauge,
    pending_bytes: Gauge,
    hooks: Gauge,
    refused_bindings: Gauge,
    broken_queues: Gauge,
    held_hooks: Gauge,
    queue_service_up: Gauge,
    clock_age: Gauge,
    queued: Gauge,
    oldest: Gauge,
    dead_letters: Gauge,
    store_bytes: Gauge,
    broker: BrokerGauges,
    started: Instant,
}

impl Default for Gauges {
    fn default() -> Self {
        Self {
            pending_fires: gauge!("pulsehook_router_pending_fires"),
            pending_bytes: gauge!("pulsehook_router_pending_bytes"),
            hooks: gauge!("pulsehook_router_hooks"),
            refused_bindings: gauge!("pulsehook_router_refused_bindings"),
            broken_queues: gauge!("pulsehook_router_broken_queues"),
            held_hooks: gauge!("pulsehook_router_held_hooks"),
            queue_service_up: gauge!("pulsehook_router_queue_service_up"),
            clock_age: gauge!("pulsehook_router_clock_age_seconds"),
            queued: gauge!("pulsehook_router_queued_messages"),
            oldest: gauge!("pulsehook_router_queued_oldest_seconds"),
            dead_letters: gauge!("pulsehook_router_dead_letters"),
            store_bytes: gauge!("pulsehook_store_bytes"),
            broker: BrokerGauges::default(),
            started: Instant::now(),
        }
    }
}

impl Gauges {
    /// What the store says of itself.
    pub fn store(&self, figures: StoreFigures) {
        self.dead_letters.set(figures.dead_letters as f64);
        self.store_bytes.set(figures.bytes as f64);
    }
}

impl Inner {
    /// Sets the gauges.
    pub(super) fn sample(&self) {
        let gauges = &self.gauges;
        let up = |up: bool| if up { 1.0 } else { 0.0 };
        gauges.pending_fires.set(self.load.fires.load(Ordering::Relaxed) as f64);
        gauges.pending_bytes.set(self.load.bytes.load(Ordering::Relaxed) as f64);
        gauges.hooks.set(self.registry.len() as f64);
        let (refused, broken) = self.registry.faults();
        gauges.refused_bindings.set(refused as f64);
        gauges.broken_queues.set(broken as f64);
        let now = tokio::time::Instant::now();
        let held =
            self.registry.all().iter().filter(|hook| hook.shared.throttle.paused_for(now).is_some()).count();
        gauges.held_hooks.set(held as f64);
        gauges.queue_service_up.set(up(*self.gate.watch().borrow() == GateState::Open));
        let age = match self.scheduler.last_tick() {
            Some(tick) => (chrono::Utc::now() - tick).as_seconds_f64().max(0.0),
            None => gauges.started.elapsed().as_secs_f64(),
        };
        gauges.clock_age.set(age);
        gauges.broker.sample(&*self.transport);
        let backlogs = self.backlogs();
        gauges.queued.set(backlogs.iter().map(|backlog| backlog.messages).sum::<u64>() as f64);
        let oldest = backlogs.iter().map(|backlog| backlog.oldest).max().unwrap_or_default();
        gauges.oldest.set(oldest.as_secs_f64());
    }

    /// Series of the hooks with the fullest queues.
    pub(super) fn write_backlogs(&self, most: usize, text: &mut String) {
        let mut backlogs = self.backlogs();
        backlogs.sort_by(|a, b| b.messages.cmp(&a.messages).then_with(|| a.hook.cmp(&b.hook)));
        backlogs.truncate(most);
        let (messages, oldest) =
            ("pulsehook_router_hook_queued_messages", "pulsehook_router_hook_oldest_seconds");
        head(text, messages);
        for backlog in &backlogs {
            line(text, messages, "hook", &backlog.hook.to_string(), backlog.messages as f64);
        }
        head(text, oldest);
        for backlog in &backlogs {
            line(text, oldest, "hook", &backlog.hook.to_string(), backlog.oldest.as_secs_f64());
        }
    }
}
