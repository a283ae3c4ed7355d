//! The router as it looks to people: how it is, what its hooks saw lately, and what would become of a message.
//!
//! Nothing here changes anything. A preview runs the router's own code on the thread of slow hooks, where
//! no message of another hook waits behind it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pulse::{Message, Status, naming};

use super::activity::Minute;
use super::decide::{Decision, Event, FiredBy, Rules};
pub use super::depths::Backlog;
use super::gate::GateState;
use super::recent::{Seen, Watch};
use super::{Inner, Router, now_ms};
use crate::filter::Saw;
use crate::hook::{Hook, HookName, Problem};
use crate::store::StoreError;

/// The task id that a preview shows where the real one cannot be known yet.
pub const PREVIEW_TASK_ID: &str = "DryRunDrRySRunDryRun0Q";

/// How the router is.
#[derive(Debug, Clone)]
pub struct State {
    /// Why the broker cannot be used; `None`: it can.
    pub broker_down: Option<String>,
    /// The queue service.
    pub queue_service: GateState,
    /// For how long it has been down.
    pub queue_service_down_for: Option<Duration>,
    /// Fires that are recorded and not settled with the queue service yet.
    pub pending: usize,
    /// How many of them there may be.
    pub most_pending: usize,
    /// Rendered tasks of pending fires, in bytes.
    pub pending_bytes: usize,
    /// Hooks.
    pub hooks: usize,
}

/// A hook at a glance, as far as the router has it in memory.
#[derive(Debug, Clone)]
pub struct Glance {
    /// Its name.
    pub name: HookName,
    /// Which making of the name it is.
    pub incarnation: i64,
    /// Its queue.
    pub queue: Arc<str>,
    /// Its owner wants its messages to wait.
    pub paused: bool,
    /// For how long its messages wait because its fires keep failing.
    pub held_for: Option<Duration>,
    /// Why its queue does not stand or is not consumed.
    pub queue_error: Option<String>,
    /// Bindings that the broker refuses, with its reasons.
    pub refused: Vec<(pulse::Binding, String)>,
    /// Fires that are not settled yet.
    pub pending: usize,
}

/// A message to try a hook on.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The message.
    pub message: Message,
    /// What fires the hook; `None`: as the message itself says (a trigger of ours is known by its mark).
    pub fired_by: Option<FiredBy>,
    /// The task id, if it is known.
    pub task_id: Option<String>,
}

/// What would become of a message.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The decision.
    pub decision: Decision,
    /// The names that the filter reads, with their values.
    pub saw: Vec<Saw>,
}

impl Router {
    /// How it is.
    pub fn state(&self) -> State {
        let inner = &self.inner;
        let broker_down = match &*inner.transport.status().borrow() {
            Status::Up => None,
            Status::Down { reason } => Some(reason.clone()),
        };
        let queue_service = inner.gate.watch().borrow().clone();
        State {
            broker_down,
            queue_service,
            queue_service_down_for: inner.gate.down_for(),
            pending: inner.load.fires.load(Ordering::Acquire),
            most_pending: inner.config.router.pending_fires as usize,
            pending_bytes: inner.load.bytes.load(Ordering::Acquire),
            hooks: inner.registry.len(),
        }
    }

    /// One hook at a glance.
    pub fn glance(&self, name: &HookName) -> Option<Glance> {
        let queue = naming::queue(&self.inner.config.user, &name.group, &name.id);
        self.inner.registry.get(&queue).map(|hook| self.inner.glance(&hook))
    }

    /// All hooks at a glance, in no order.
    pub fn glances(&self) -> Vec<Glance> {
        self.inner.registry.all().iter().map(|hook| self.inner.glance(hook)).collect()
    }

    /// The hooks with the most messages waiting in their queues, and how many wait in all.
    pub fn waiting(&self, most: usize) -> (Vec<Backlog>, u64) {
        let mut backlogs = self.inner.backlogs();
        let total = backlogs.iter().map(|backlog| backlog.messages).sum();
        backlogs
            .sort_by(|one, other| other.messages.cmp(&one.messages).then_with(|| one.hook.cmp(&other.hook)));
        backlogs.truncate(most);
        (backlogs, total)
    }

    /// The last minutes, oldest first, at most a day.
    pub fn activity(&self, minutes: usize) -> Vec<Minute> {
        self.inner.activity.last(now_ms(), minutes)
    }

    /// What a hook saw lately, newest first. A long body is left out (empty).
    pub fn recent(&self, incarnation: i64) -> Vec<Arc<Seen>> {
        self.inner.recent.of(incarnation)
    }

    /// What all hooks saw lately, each with its hook's incarnation, newest first.
    pub fn newest(&self, count: usize) -> Vec<(i64, Arc<Seen>)> {
        self.inner.recent.newest(count)
    }

    /// Looks on while messages of a hook are decided: what is remembered above the sequence number `after`, oldest first, and
    /// then what comes.
    pub fn watch(&self, incarnation: i64, after: u64) -> (Vec<Arc<Seen>>, Watch) {
        self.inner.recent.watch(incarnation, after)
    }

    /// What would become of a message with this definition, which need not be saved; or what is wrong with the definition.
    pub async fn preview(
        &self,
        hook: Hook,
        trial: Trial,
    ) -> Result<Result<Preview, Vec<Problem>>, StoreError> {
        let inner = self.inner.clone();
        let looked = self.inner.deciders.run(true, move || inner.preview(&hook, &trial)).await;
        // The threads end with the router.
        looked.ok_or(StoreError::Closed)
    }
}

impl Inner {
    fn glance(&self, hook: &super::registry::LiveHook) -> Glance {
        let health = self.registry.health(&hook.queue);
        let refused = health.bindings.into_iter();
        Glance {
            name: hook.name.clone(),
            incarnation: hook.incarnation,
            queue: hook.queue.clone(),
            paused: hook.hook.paused == Some(true),
            held_for: hook.shared.throttle.paused_for(tokio::time::Instant::now()),
            queue_error: health.error,
            refused: refused.filter_map(|health| Some((health.binding, health.error?))).collect(),
            pending: hook.shared.pending.load(Ordering::Acquire),
        }
    }

    fn preview(&self, hook: &Hook, trial: &Trial) -> Result<Preview, Vec<Problem>> {
        let rules = Rules::compile(hook, &self.config.limits)?.with_workers(&self.config.workers);
        let known = self.context(&hook.name, &trial.message);
        let told = trial.fired_by;
        let fired_by = told.or(known.as_ref().map(|known| known.fired_by)).unwrap_or(FiredBy::PulseMessage);
        let event = Event {
            message: &trial.message,
            fired_by,
            client_id: known.as_ref().and_then(|known| known.client_id.as_deref()),
            scheduled_for: known.as_ref().and_then(|known| known.scheduled_for),
            task_id: trial.task_id.as_deref().unwrap_or(PREVIEW_TASK_ID),
            now: super::from_ms(now_ms()),
        };
        Ok(Preview { saw: rules.filter_saw(&event), decision: rules.decide(&event) })
    }
}
