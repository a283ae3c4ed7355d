//! The hooks as the router sees them: by queue, compiled once per version, with the health of their bindings.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use pulse::BindingHealth;
use tokio::time::Instant;

use super::decide::{Limits, Rules};
use super::pace::Pace;
use super::throttle::Throttle;
use crate::hook::{Hook, HookName};
use crate::store::HookRow;
use crate::template::Workers;

/// One version of one hook.
pub struct LiveHook {
    /// Which making of the name it is.
    pub incarnation: i64,
    /// Its name.
    pub name: HookName,
    /// Its version.
    pub version: i64,
    /// Its queue.
    pub queue: Arc<str>,
    /// The document.
    pub hook: Arc<Hook>,
    /// What lasts from version to version.
    pub shared: Arc<Shared>,
    rules: OnceLock<Result<Rules, String>>,
}

/// What the versions of a hook have in common while the process runs.
#[derive(Default)]
pub struct Shared {
    /// The hook is deleted: what is not submitted yet is cancelled.
    pub deleted: AtomicBool,
    /// Fires that are recorded or being recorded and not ended.
    pub pending: AtomicUsize,
    /// The intake waits for `pending` to fall.
    pub full: AtomicBool,
    /// Messages that wait in the intake.
    pub held: AtomicUsize,
    /// When the first of them was sent, as far as is known: milliseconds since the epoch, 0 without any.
    pub oldest_held: AtomicI64,
    /// How fast it may fire.
    pub throttle: Throttle,
    /// How fast it is decided.
    pub pace: Pace,
    /// Its messages are so large that it gets few of them in advance.
    pub heavy: AtomicBool,
}

impl LiveHook {
    /// A hook from its row. Fails when the stored document is not one that this version of pulsehook takes.
    pub fn new(row: &HookRow, queue: Arc<str>, shared: Arc<Shared>) -> Result<Self, String> {
        let hook = parse(&row.name, &row.document)?;
        Ok(Self {
            incarnation: row.incarnation,
            name: row.name.clone(),
            version: row.version,
            queue,
            hook: Arc::new(hook),
            shared,
            rules: OnceLock::new(),
        })
    }

    /// The compiled hook; compiled at the first message, so that ten thousand idle hooks cost nothing.
    pub fn rules(&self, limits: &Limits, workers: &Arc<Workers>) -> Result<&Rules, &str> {
        self.rules.get_or_init(|| compile(&self.hook, limits, workers)).as_ref().map_err(String::as_str)
    }

    /// True while its messages wait in the broker: somebody has paused it, or its fires keep failing.
    pub fn waits(&self) -> bool {
        self.hook.paused == Some(true) || self.shared.throttle.paused_for(Instant::now()).is_some()
    }

    /// True once the hook is deleted.
    pub fn is_deleted(&self) -> bool {
        self.shared.deleted.load(Ordering::Acquire)
    }
}

/// Parses a stored document.
pub fn parse(name: &HookName, document: &str) -> Result<Hook, String> {
    let value: serde_json::Value = serde_json::from_str(document).map_err(|error| error.to_string())?;
    Hook::from_json(name, &value).map_err(|problems| join(&problems))
}

/// Compiles a document.
pub fn compile(hook: &Hook, limits: &Limits, workers: &Arc<Workers>) -> Result<Rules, String> {
    let rules = Rules::compile(hook, limits).map_err(|problems| join(&problems))?;
    Ok(rules.with_workers(workers))
}

/// Faults of a document on one line.
pub(super) fn join(problems: &[crate::hook::Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The health of a hook's queue and bindings, as last heard from the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueHealth {
    /// Why the queue does not stand or is not consumed; `None` if all is well.
    pub error: Option<String>,
    /// Each binding.
    pub bindings: Vec<BindingHealth>,
}

/// A binding that the broker refuses, with whom to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedBinding {
    /// The hook.
    pub hook: HookName,
    /// Its incarnation and the binding.
    pub row: crate::store::RefusedBinding,
    /// Its owner's address, if the owner wants mail.
    pub owner: Option<String>,
    /// The broker's reason.
    pub error: String,
}

/// All hooks by the name of their queue.
#[derive(Default)]
pub struct Registry {
    hooks: RwLock<HashMap<Arc<str>, Arc<LiveHook>>>,
    health: Mutex<HashMap<Arc<str>, QueueHealth>>,
}

impl Registry {
    /// The hook of a queue.
    pub fn get(&self, queue: &str) -> Option<Arc<LiveHook>> {
        self.hooks.read().ok()?.get(queue).cloned()
    }

    /// Puts a hook in, in place of its former version. A former making of the name is deleted, whoever says so first.
    pub fn put(&self, hook: Arc<LiveHook>) {
        let Ok(mut hooks) = self.hooks.write() else { return };
        let incarnation = hook.incarnation;
        if let Some(former) = hooks.insert(hook.queue.clone(), hook)
            && former.incarnation != incarnation
        {
            former.shared.deleted.store(true, Ordering::Release);
        }
    }

    /// Takes a hook out, if it is this making of its name, and marks it as deleted.
    pub fn remove(&self, queue: &str, incarnation: i64) {
        let Ok(mut hooks) = self.hooks.write() else { return };
        let Some(hook) = hooks.get(queue).filter(|hook| hook.incarnation == incarnation) else { return };
        hook.shared.deleted.store(true, Ordering::Release);
        hooks.remove(queue);
        if let Ok(mut health) = self.health.lock() {
            health.remove(queue);
        }
    }

    /// How many hooks there are.
    pub fn len(&self) -> usize {
        self.hooks.read().map(|hooks| hooks.len()).unwrap_or(0)
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All hooks, in no order.
    pub fn all(&self) -> Vec<Arc<LiveHook>> {
        self.hooks.read().map(|hooks| hooks.values().cloned().collect()).unwrap_or_default()
    }

    /// The health of a queue; empty while nothing was heard.
    pub fn health(&self, queue: &str) -> QueueHealth {
        self.health.lock().ok().and_then(|health| health.get(queue).cloned()).unwrap_or_default()
    }

    /// How many bindings are refused, and how many queues do not stand or are not consumed.
    pub fn faults(&self) -> (usize, usize) {
        let Ok(health) = self.health.lock() else { return (0, 0) };
        let refused = |queue: &QueueHealth| queue.bindings.iter().filter(|b| b.error.is_some()).count();
        (health.values().map(refused).sum(), health.values().filter(|queue| queue.error.is_some()).count())
    }

    /// All bindings that the broker refuses.
    pub fn refused_bindings(&self) -> Vec<RefusedBinding> {
        let refused: Vec<(Arc<str>, BindingHealth)> = match self.health.lock() {
            Ok(health) => health
                .iter()
                .flat_map(|(queue, health)| health.bindings.iter().map(move |binding| (queue, binding)))
                .filter(|(_, binding)| binding.error.is_some())
                .map(|(queue, binding)| (queue.clone(), binding.clone()))
                .collect(),
            Err(_) => Vec::new(),
        };
        let told = |(queue, health): (Arc<str>, BindingHealth)| {
            let hook = self.get(&queue)?;
            let metadata = &hook.hook.metadata;
            Some(RefusedBinding {
                hook: hook.name.clone(),
                row: crate::store::RefusedBinding {
                    incarnation: hook.incarnation,
                    exchange: health.binding.exchange,
                    pattern: health.binding.pattern,
                },
                owner: metadata.email_on_error.then(|| metadata.owner.clone()),
                error: health.error?,
            })
        };
        refused.into_iter().filter_map(told).collect()
    }

    /// Replaces what is known of all bindings of a queue.
    pub fn set_bindings(&self, queue: &Arc<str>, bindings: Vec<BindingHealth>) {
        if let Ok(mut health) = self.health.lock() {
            health.entry(queue.clone()).or_default().bindings = bindings;
        }
    }

    /// Notes what became of one binding. Answers true if that is news.
    pub fn set_binding(&self, queue: &Arc<str>, heard: BindingHealth) -> bool {
        let Ok(mut health) = self.health.lock() else { return false };
        let bindings = &mut health.entry(queue.clone()).or_default().bindings;
        match bindings.iter_mut().find(|known| known.binding == heard.binding) {
            Some(known) if *known == heard => false,
            Some(known) => {
                *known = heard;
                true
            }
            // Not one of the current bindings: an answer that came late.
            None => false,
        }
    }

    /// Notes whether the queue itself stands. Answers true if that is news.
    pub fn set_queue(&self, queue: &Arc<str>, error: Option<String>) -> bool {
        let Ok(mut health) = self.health.lock() else { return false };
        let known = &mut health.entry(queue.clone()).or_default().error;
        let news = *known != error;
        *known = error;
        news
    }
}
