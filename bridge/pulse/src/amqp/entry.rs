//! What is wanted of one queue, and what stands.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::backoff::Backoff;
use super::consumers::Running;
use crate::transport::{Binding, BindingHealth, Delivery, QueueSpec, TopologyError};

/// The first wait after a refusal.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The longest wait before a refused queue or binding is tried again.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

pub(super) type Reply<T> = oneshot::Sender<Result<T, TopologyError>>;

/// A consumer that is wanted.
#[derive(Clone)]
pub(super) struct Want {
    pub prefetch: u16,
    pub sink: mpsc::Sender<Delivery>,
}

pub(super) struct Entry {
    /// `None`: only deleted here, never declared.
    pub spec: Option<QueueSpec>,
    /// The queue has to be declared again.
    pub undeclared: bool,
    /// Bindings to be removed.
    pub unbind: Vec<Binding>,
    /// Health of each binding of the spec, as last reported.
    pub healths: BTreeMap<Binding, Option<String>>,
    pub want: Option<Want>,
    /// The running consumer is not the wanted one.
    pub rewanted: bool,
    pub running: Option<Running>,
    pub deleting: bool,
    /// A round is under way.
    pub busy: bool,
    /// A round is needed.
    pub dirty: bool,
    /// When to try again what was refused, or to look whether all still stands.
    pub due: Option<Instant>,
    pub backoff: Backoff,
    /// The broker refused the consumer before.
    pub suspect: bool,
    /// Why the queue does not stand or is not consumed, as last reported.
    pub error: Option<String>,
    /// A consumer that ended before the round that started it was over, and why.
    pub ended_early: Option<(u64, Option<String>)>,
    /// Who waits for the next round.
    pub waiting: Waiters,
    /// Who waits for the round that is under way.
    pub serving: Waiters,
}

/// Callers to be answered.
#[derive(Default)]
pub(super) struct Waiters {
    pub declare: Vec<Reply<Vec<BindingHealth>>>,
    pub consume: Vec<Reply<()>>,
    pub cancel: Vec<Reply<()>>,
    pub delete: Vec<Reply<u64>>,
}

impl Waiters {
    /// Tells everybody why nothing comes of it.
    pub fn fail(&mut self, error: &TopologyError) {
        for waiter in self.declare.drain(..) {
            let _ = waiter.send(Err(error.clone()));
        }
        for waiter in self.consume.drain(..).chain(self.cancel.drain(..)) {
            let _ = waiter.send(Err(error.clone()));
        }
        for waiter in self.delete.drain(..) {
            let _ = waiter.send(Err(error.clone()));
        }
    }
}

impl Entry {
    pub fn new() -> Self {
        Self {
            spec: None,
            undeclared: false,
            unbind: Vec::new(),
            healths: BTreeMap::new(),
            want: None,
            rewanted: false,
            running: None,
            deleting: false,
            busy: false,
            dirty: false,
            due: None,
            backoff: Backoff::new(FIRST_RETRY, LONGEST_RETRY),
            suspect: false,
            error: None,
            ended_early: None,
            waiting: Waiters::default(),
            serving: Waiters::default(),
        }
    }

    /// Takes a new spec: bindings of the old one that it does not name shall go.
    pub fn respecify(&mut self, mut spec: QueueSpec) {
        let old = self.spec.take().map(|old| old.bindings).unwrap_or_default();
        self.unbind.extend(old);
        self.unbind.append(&mut spec.unbind);
        self.unbind.retain(|binding| !spec.bindings.contains(binding));
        self.unbind.sort_unstable();
        self.unbind.dedup();
        self.healths.retain(|binding, _| spec.bindings.contains(binding));
        self.spec = Some(spec);
        self.undeclared = true;
        self.backoff.reset();
    }

    /// The connection is gone: nothing is known to stand any more.
    pub fn lose(&mut self, error: &TopologyError) {
        self.waiting.fail(error);
        self.serving.fail(error);
        self.running = None;
        self.ended_early = None;
        self.deleting = false;
        self.busy = false;
        self.suspect = false;
        self.undeclared = self.spec.is_some();
        self.backoff.reset();
    }

    /// The health of all bindings, in the spec's order.
    pub fn health(&self) -> Vec<BindingHealth> {
        let bindings = self.spec.iter().flat_map(|spec| &spec.bindings);
        bindings
            .map(|binding| BindingHealth {
                binding: binding.clone(),
                error: self.healths.get(binding).cloned().flatten(),
            })
            .collect()
    }

    pub fn has_refused_bindings(&self) -> bool {
        self.healths.values().any(Option::is_some)
    }
}
