//! The router: consumes one queue per hook, decides, records and submits.
//!
//! The life of a message: `intake` gives each hook its turn; `process` decides (on `deciders`), commits what was
//! decided and only then acknowledges; `underway` and `submit` take each fire to its end behind the [`gate`]; `outcome` commits
//! the end; `events` tells of it. `keeper` keeps queues and bindings in line with the hooks of the [`registry`]; `connection`
//! follows the broker, `consuming` leaves messages there while the queue service is down. `start` puts all of it together.
//!
//! Everything that is recorded and not ended when the process stops, however it stops, is found at the next start.

pub mod activity;
mod again;
mod ancestry;
mod connection;
mod consuming;
pub mod decide;
mod deciders;
mod depths;
mod events;
mod figures;
pub mod gate;
pub mod identity;
mod intake;
mod keeper;
mod load;
pub mod looking;
mod outcome;
mod pace;
mod process;
pub mod recent;
pub mod registry;
mod resting;
mod retention;
pub mod scheduler;
mod start;
mod submit;
mod task_state;
pub mod throttle;
mod traces;
pub mod trigger;
pub mod triggering;
mod undeliverable;
mod underway;
mod waiters;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use pulse::trace::Tracing;
use pulse::{Delivery, QueueKind, Transport, naming};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::hook::HookName;
use crate::queue::QueueService;
use crate::store::{HookRow, Store, StoreError};
use crate::template::Workers;
pub use again::AgainError;
use consuming::Taking;
use decide::Limits;
use gate::Gate;
use identity::TaskIds;
pub use keeper::KeepError;
pub use registry::RefusedBinding;
use registry::Registry;
use scheduler::Scheduler;

/// `[router]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// After so many redeliveries the broker moves a message aside; the router takes it back from there.
    pub delivery_limit: u32,
    /// Messages that are out unacknowledged, all hooks together.
    pub prefetch_budget: u32,
    /// Fires that are recorded and not ended, all hooks together.
    pub pending_fires: u32,
    /// The same for one hook.
    pub pending_fires_per_hook: u32,
    /// Rendered tasks of pending fires in memory.
    pub pending_megabytes: u32,
    /// Bodies of messages that were taken in advance and wait their turn; beyond it hooks with large messages get few of them in advance.
    pub held_megabytes: u32,
    /// Submissions at a time, all hooks together.
    pub submissions: u32,
    /// The same for one hook.
    pub submissions_per_hook: u32,
    /// For how long an equal message of a foreign publisher, with an equal id, is the same event.
    pub identity_window_seconds: u64,
    /// Messages that did not fire, kept on record per hook.
    pub decisions_kept: u32,
    /// Fires are kept for so many days.
    pub fires_kept_days: u32,
    /// Their messages and rendered tasks are kept for so many days; those of dead letters as long as the fire.
    pub messages_kept_days: u32,
    /// When the queue service has been down for so long, unrecorded messages go back to the broker and consuming stops.
    pub return_after_seconds: u64,
    /// The exchanges' prefix on which the queue service tells what became of tasks; empty: nobody listens.
    pub task_states: String,
    /// `[router.hook]`: the limits of each hook.
    pub hook: throttle::Config,
    /// `[router.schedule]`.
    pub schedule: crate::schedule::Config,
}

/// What the router is given.
pub struct Parts {
    /// Where hooks and fires are kept.
    pub store: Store,
    /// Where messages come from and fire events go.
    pub transport: Arc<dyn Transport>,
    /// Where tasks go.
    pub queue: Arc<dyn QueueService>,
    /// The deployment's secret for task ids.
    pub task_id_key: Vec<u8>,
    /// `[pulse] user`.
    pub user: String,
    /// `[pulse] queue_type`: the kind of the hooks' queues.
    pub queue_kind: QueueKind,
    /// `[router]`.
    pub router: Config,
    /// `[limits]`.
    pub limits: Limits,
    /// Who records what fires take.
    pub tracing: Tracing,
}

struct Settings {
    user: String,
    trigger_exchange: String,
    queue_kind: QueueKind,
    router: Config,
    limits: Limits,
    workers: Arc<Workers>,
    tracing: Tracing,
}

struct Inner {
    store: Store,
    transport: Arc<dyn Transport>,
    queue: Arc<dyn QueueService>,
    config: Settings,
    task_ids: TaskIds,
    trigger_key: trigger::TriggerKey,
    scheduler: Arc<Scheduler>,
    registry: Registry,
    keeper: keeper::Keeper,
    gate: Arc<Gate>,
    load: load::Load,
    deciders: deciders::Deciders,
    submitter: underway::Submitter,
    events: events::Events,
    figures: figures::Figures,
    gauges: figures::Gauges,
    depths: depths::Depths,
    waiters: Arc<waiters::Waiters>,
    recent: Arc<recent::Recent>,
    activity: activity::Activity,
    /// The sink of every hook's consumer.
    deliveries: mpsc::Sender<Delivery>,
    /// What the intake hears.
    heard: mpsc::UnboundedSender<intake::Heard>,
    /// Whether messages are taken from the broker.
    taking: watch::Sender<Taking>,
    /// Added to a connection's generation: the epoch, which grows over restarts.
    epoch_base: i64,
    /// The current connection.
    generation: AtomicU64,
    /// The highest number that a delivery of it carried: a consumer that the broker ended goes on under a later one.
    latest_generation: AtomicU64,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Something has ended by a panic.
    failed: CancellationToken,
}

/// A running router. Clones share it.
#[derive(Clone)]
pub struct Router {
    inner: Arc<Inner>,
}

impl Router {
    /// Takes up a hook that was made or changed, and waits until its queue and bindings have been tried once.
    /// Answers the health of its bindings; an error says why its queue does not stand yet, and is retried in the background.
    pub async fn hook_saved(&self, row: &HookRow) -> Result<Vec<pulse::BindingHealth>, KeepError> {
        let queue = naming::queue(&self.inner.config.user, &row.name.group, &row.name.id);
        let known = self.inner.registry.get(&queue).is_some_and(|hook| hook.incarnation == row.incarnation);
        self.inner.register(row);
        // A hook that could not be read until now may have fires that are pending; a new one has none.
        if !known
            && row.version > 1
            && let Some(hook) = self.inner.registry.get(&queue)
            && let Err(error) = self.inner.recover_of(&hook).await
        {
            tracing::error!(hook = %row.name, %error, "cannot read which of its fires are pending: they go on at the next start");
        }
        let scheduled = self.inner.scheduler.saved(row).await;
        let kept = self.keep(&row.name).await?;
        scheduled?;
        Ok(kept)
    }

    /// Lets go of a deleted hook: its pending fires are cancelled and its queue is deleted, in the background if the broker is away.
    pub async fn hook_deleted(&self, row: &HookRow) -> Result<(), KeepError> {
        let queue = naming::queue(&self.inner.config.user, &row.name.group, &row.name.id);
        self.inner.registry.remove(&queue, row.incarnation);
        self.keep(&row.name).await.map(|_| ())
    }

    async fn keep(&self, name: &HookName) -> Result<Vec<pulse::BindingHealth>, KeepError> {
        let kept = self.inner.keep(name).await;
        if kept.is_err() {
            self.inner.keep_trying(name.clone());
        }
        kept
    }

    /// The health of a hook's queue and of its bindings (its own trigger binding included).
    pub fn health(&self, name: &HookName) -> registry::QueueHealth {
        self.inner.registry.health(&naming::queue(&self.inner.config.user, &name.group, &name.id))
    }

    /// Publishes a change of a hook: `what` is `hook-created`, `hook-updated` or `hook-deleted`.
    pub async fn publish_change(&self, what: &str, name: &HookName) {
        let body = serde_json::json!({ "hookGroupId": name.group, "hookId": name.id });
        let message = pulse::Message {
            exchange: naming::exchange(&self.inner.config.user, what),
            routing_key: naming::routing_key([name.group.as_str(), name.id.as_str()]),
            properties: pulse::Properties {
                message_id: Some(uuid::Uuid::new_v4().to_string()),
                timestamp: u64::try_from(now_ms() / 1000).ok(),
                content_type: Some("application/json".into()),
                headers: Default::default(),
            },
            body: body.to_string().into(),
        };
        if let Err(error) = self.inner.transport.publish(&message, false).await {
            tracing::warn!(hook = %name, %error, "could not publish that the hook changed");
        }
    }

    /// When a hook is due: its next `count` moments, and how far the scheduler has come with it.
    pub async fn upcoming(&self, row: &HookRow, count: usize) -> Result<scheduler::Upcoming, StoreError> {
        self.inner.scheduler.upcoming(row, count).await
    }

    /// When the clock's last tick came; `None`: there was none since the start, and schedules do not fire.
    pub fn last_tick(&self) -> Option<DateTime<Utc>> {
        self.inner.scheduler.last_tick()
    }

    /// For how long a hook's messages still wait because its fires keep failing; `None` if they do not.
    pub fn paused_for(&self, name: &HookName) -> Option<Duration> {
        let queue = naming::queue(&self.inner.config.user, &name.group, &name.id);
        self.inner.registry.get(&queue)?.shared.throttle.paused_for(Instant::now())
    }

    /// Whether the queue service works, as far as submissions have shown; asked anew while they show nothing.
    pub async fn check_queue_service(&self) -> Result<(), String> {
        if let gate::GateState::Closed { reason } = &*self.inner.gate.watch().borrow() {
            return Err(reason.clone());
        }
        self.inner.queue.probe().await.map_err(|error| error.to_string())
    }

    /// For how long a hook's messages still wait because it has fired as often as it may; `None` if they do not.
    pub fn limited_for(&self, name: &HookName) -> Option<Duration> {
        let queue = naming::queue(&self.inner.config.user, &name.group, &name.id);
        let hook = self.inner.registry.get(&queue)?;
        hook.shared.throttle.limited_for(&self.inner.config.router.hook, Instant::now())
    }

    /// Sets the gauges that are asked for and not counted. Quick.
    pub fn sample(&self) {
        self.inner.sample();
    }

    /// Adds series of the hooks with the fullest queues, `most` of them, to a text for Prometheus.
    pub fn write_backlogs(&self, most: usize, text: &mut String) {
        self.inner.write_backlogs(most, text);
    }

    /// Bindings of all hooks that the broker refuses.
    pub fn refused_bindings(&self) -> Vec<RefusedBinding> {
        self.inner.registry.refused_bindings()
    }

    /// The limits that hooks are compiled with.
    pub fn limits(&self) -> &Limits {
        &self.inner.config.limits
    }

    /// Returns when a part of the router has ended by a panic, which has told itself where.
    pub async fn failed(&self) {
        self.inner.failed.cancelled().await;
    }

    /// Stops: no new messages; ends that are on their way are committed. The caller bounds the time.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.submitter_closed().await;
        self.inner.remember_published().await;
    }
}

impl Inner {
    /// Runs a task until it ends or the router stops.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.watch(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Runs a task until it ends. That it panicked is told to [`Router::failed`]: without it the router would stand half way.
    fn watch(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(watched(task, self.failed.clone()));
    }

    async fn submitter_closed(&self) {
        while self.submitter.in_flight() > 0 || self.load_in_outcomes() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn load_in_outcomes(&self) -> bool {
        self.submitter.settled.capacity() < self.submitter.settled.max_capacity()
    }
}

/// Runs a task; if it panics that is told.
async fn watched(task: impl Future<Output = ()>, failed: CancellationToken) {
    if AssertUnwindSafe(task).catch_unwind().await.is_err() {
        failed.cancel();
    }
}

/// Now, in milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    Utc::now().timestamp_millis()
}

fn from_ms(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}

/// Between half of the time and all of it, so that many who wait do not come back at once.
fn jitter(time: Duration) -> Duration {
    let mut byte = [0_u8; 2];
    // Without randomness there is only less spread.
    let _ = getrandom::fill(&mut byte);
    time.mul_f64(0.5 + f64::from(u16::from_be_bytes(byte)) / f64::from(u16::MAX) / 2.0)
}

fn random_id() -> [u8; 16] {
    *uuid::Uuid::new_v4().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn that_a_task_panicked_is_told() {
        let failed = CancellationToken::new();
        watched(async {}, failed.clone()).await;
        assert!(!failed.is_cancelled(), "it has ended as it should");
        watched(async { panic!("on purpose") }, failed.clone()).await;
        assert!(failed.is_cancelled());
    }
}
