//! The scheduler: at each tick of the clock it publishes a trigger for every scheduled moment that has come.
//!
//! A tick only says that it is time to look: what is due stands in the store, so a lost tick is made good by the next, and
//! any number of ticks, bridges and restarts are harmless. A trigger's message id is its hook and moment, so that it may be
//! published again; a hook moves on to its next moment only when the broker has confirmed its triggers and put them into
//! its queue. Moments within a minute are looked for at their second, up to the next tick and never for longer: time
//! comes from the bridge's clock, and a router that hears no ticks says so.

mod keep;
mod sweep;
mod upcoming;
mod waited;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use pulse::{Binding, Delivery, QueueKind, QueueSpec, TopologyError, Transport, naming};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::trigger::TriggerKey;
use crate::schedule;
use crate::store::Store;
pub use sweep::{SweepError, Swept};
pub use upcoming::Upcoming;
pub(super) use waited::Waited;

/// The wall clock; tests give their own.
pub type Now = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// Between attempts at what the broker or the store would not do.
const RETRY: Duration = Duration::from_secs(1);

/// Hooks whose queues did not stand are looked at again after this time, and not only at the next tick.
const UNROUTED_RETRY: Duration = Duration::from_secs(5);

/// After a tick, moments within this time are looked for without another one. Less than the time between two ticks.
const WITHIN_TICK: TimeDelta = TimeDelta::seconds(59);

/// So long without a tick, while hooks have schedules, is worth a warning: two ticks may be lost.
const SILENCE: Duration = Duration::from_secs(180);

/// The warning is repeated this often.
const SILENCE_AGAIN: Duration = Duration::from_secs(900);

/// A tick of a moment so far in the future means that two machines' clocks differ.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::seconds(60);

/// What the scheduler is given.
pub struct Parts {
    /// Where due times are kept.
    pub store: Store,
    /// Where ticks come from and triggers go.
    pub transport: Arc<dyn Transport>,
    /// Signs triggers.
    pub key: TriggerKey,
    /// `[pulse] user`.
    pub user: String,
    /// `[pulse] queue_type`.
    pub queue_kind: QueueKind,
    /// `[router.schedule]`.
    pub config: schedule::Config,
    /// `[router] decisions_kept`.
    pub decisions_kept: u32,
    /// `[router] delivery_limit`.
    pub delivery_limit: u32,
    /// The wall clock.
    pub now: Now,
}

/// See the module.
pub struct Scheduler {
    parts: Parts,
    /// A hook could not be taken over: the store has to be compared with the hooks again.
    behind: AtomicBool,
    /// When the last tick came, in milliseconds since the epoch; 0: none yet.
    last_tick: AtomicI64,
}

impl Scheduler {
    /// A scheduler that does nothing yet.
    pub fn new(parts: Parts) -> Self {
        Self { parts, behind: AtomicBool::new(true), last_tick: AtomicI64::new(0) }
    }

    /// `[router.schedule]`.
    pub fn config(&self) -> &schedule::Config {
        &self.parts.config
    }

    /// When the last tick came; `None`: there was none since the start.
    pub fn last_tick(&self) -> Option<DateTime<Utc>> {
        match self.last_tick.load(Ordering::Relaxed) {
            0 => None,
            ms => DateTime::from_timestamp_millis(ms),
        }
    }

    /// Runs until it is dropped.
    pub async fn run(self: Arc<Self>) {
        // One tick at a time is enough, and one waiting is the newest: the queue holds no more.
        let (sink, mut ticks) = mpsc::channel(1);
        while let Err(error) = self.declare(sink.clone()).await {
            tracing::warn!(%error, "cannot consume the clock's ticks yet");
            tokio::time::sleep(RETRY).await;
        }
        let (mut heard, mut warned) = (Instant::now(), false);
        let mut warn_at = heard + SILENCE;
        // When to look again before the next tick.
        let mut look_at: Option<Instant> = None;
        let mut until = DateTime::<Utc>::MIN_UTC;
        loop {
            tokio::select! {
                tick = ticks.recv() => {
                    // The transport keeps the other end for as long as it lives.
                    let Some(tick) = tick else { return };
                    if warned {
                        tracing::info!("the clock ticks again");
                    }
                    (heard, warned) = (Instant::now(), false);
                    warn_at = heard + SILENCE;
                    self.note(&tick);
                    until = (self.parts.now)() + WITHIN_TICK;
                    look_at = self.sweep_until_done(until).await;
                    tick.ack();
                }
                () = at(look_at) => look_at = self.sweep_until_done(until).await,
                () = tokio::time::sleep_until(warn_at) => {
                    warn_at = Instant::now() + SILENCE_AGAIN;
                    if self.parts.store.has_schedules().await.unwrap_or(true) {
                        warned = true;
                        tracing::warn!(
                            seconds = heard.elapsed().as_secs(),
                            "no tick of the clock has come, so no schedule fires: run a bridge with bridge.clock.enabled on this broker, with this pulse user"
                        );
                    }
                }
            }
        }
    }

    async fn declare(&self, sink: mpsc::Sender<Delivery>) -> Result<(), TopologyError> {
        let Parts { transport, user, queue_kind, delivery_limit, .. } = &self.parts;
        let clock = naming::exchange(user, "clock");
        let queue: Arc<str> = naming::own_queue(user, "scheduler").into();
        transport.declare_exchange(&clock).await?;
        transport
            .declare_queue(QueueSpec {
                name: queue.clone(),
                kind: *queue_kind,
                delivery_limit: Some(*delivery_limit),
                dead_letter_exchange: None,
                max_length: Some(1),
                bindings: vec![Binding { exchange: clock, pattern: "time.#".to_owned() }],
                unbind: Vec::new(),
            })
            .await?;
        transport.consume(&queue, 1, sink).await
    }

    /// Notes that a tick came, and warns where its clock and ours differ.
    fn note(&self, tick: &Delivery) {
        let now = (self.parts.now)();
        self.last_tick.store(now.timestamp_millis(), Ordering::Relaxed);
        let time = serde_json::from_slice::<serde_json::Value>(&tick.message.body)
            .ok()
            .and_then(|body| body["time"].as_str()?.parse::<DateTime<Utc>>().ok());
        if let Some(time) = time.filter(|time| *time > now + CLOCKS_DIFFER) {
            tracing::warn!(
                tick = %shown(time), here = %shown(now),
                "the clock of a bridge is ahead of this machine's; schedules follow this machine's"
            );
        }
    }

    /// Sweeps, again and again while the broker or the store is away. Answers when to look again before `until`.
    async fn sweep_until_done(&self, until: DateTime<Utc>) -> Option<Instant> {
        let mut told = false;
        let swept = loop {
            match self.sweep().await {
                Ok(swept) => break swept,
                Err(error) => {
                    // Told once per outage and not at each attempt.
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(%error, "scheduled hooks wait");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        if swept.unrouted > 0 {
            return Some(Instant::now() + UNROUTED_RETRY).filter(|_| (self.parts.now)() < until);
        }
        let next = swept.next.filter(|next| *next <= until)?;
        Some(Instant::now() + (next - (self.parts.now)()).to_std().unwrap_or_default())
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn shown(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests;
