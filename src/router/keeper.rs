//! Keeps queues and bindings in line with the hooks: at start, and whenever a hook is made, changed or deleted.
//!
//! The transport re-declares by itself what it was told, after every loss of the broker. What it was never told, or
//! could not be told because the broker was away, is retried here.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use pulse::{Binding, BindingHealth, Delivery, QueueSpec, TopologyError, naming};
use tokio::sync::oneshot;

use super::intake::Heard;
use super::registry::LiveHook;
use super::{Inner, Taking};
use crate::hook::HookName;
use crate::store::{AuditRow, StoreError};

/// Hooks whose queues are declared at the same time at start.
const AT_ONCE: usize = 64;

/// The wait before a queue that could not be declared or deleted is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// A queue's consumer gets at least and at most so many messages in advance, whatever its share of the budget is. The least, too, where
/// messages are large.
const PREFETCH: (usize, usize) = (10, 1_000);

/// A hook with a rate limit gets as many messages in advance as it can fire on in so many minutes.
const RATE_MINUTES: usize = 10;

/// One lock per hook name: what is done about one hook is done in order.
#[derive(Default)]
pub(super) struct Keeper {
    names: Mutex<HashMap<HookName, Arc<tokio::sync::Mutex<()>>>>,
}

impl Keeper {
    fn lock(&self, name: &HookName) -> Arc<tokio::sync::Mutex<()>> {
        let Ok(mut names) = self.names.lock() else { return Default::default() };
        if names.len() > 1_000 {
            names.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        names.entry(name.clone()).or_default().clone()
    }
}

/// Why a hook's queue is not (yet) as it should be.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The broker; retried in the background.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Inner {
    /// Brings the broker in line with one hook: deletes the queue of a deleted one, then declares, binds and consumes
    /// the queue of the present one. Answers the health of its bindings.
    pub(super) async fn keep(self: &Arc<Self>, name: &HookName) -> Result<Vec<BindingHealth>, KeepError> {
        let lock = self.keeper.lock(name);
        let _turn = lock.lock().await;
        let queue: Arc<str> = naming::queue(&self.config.user, &name.group, &name.id).into();
        self.bury(name, &queue).await?;
        // Saves and deletions may arrive here in another order than in the store, which knows what is so.
        match self.store.hook(name.clone()).await? {
            Some(row) => self.register(&row),
            None => {
                if let Some(gone) = self.registry.get(&queue) {
                    self.registry.remove(&queue, gone.incarnation);
                }
            }
        }
        let Some(hook) = self.registry.get(&queue) else { return Ok(Vec::new()) };
        let stale = self.store.stale_bindings(hook.incarnation).await?;
        let bindings = self.bindings(&hook);
        let spec = QueueSpec {
            name: queue.clone(),
            kind: self.config.queue_kind,
            delivery_limit: Some(self.config.router.delivery_limit),
            dead_letter_exchange: Some(naming::exchange(&self.config.user, "undeliverable")),
            max_length: None,
            unbind: stale
                .iter()
                .map(|(exchange, pattern)| Binding { exchange: exchange.clone(), pattern: pattern.clone() })
                .filter(|stale| !bindings.contains(stale))
                .collect(),
            bindings,
        };
        let health = self.transport.declare_queue(spec).await;
        let error = health.as_ref().err().map(ToString::to_string);
        self.registry.set_queue(&queue, error);
        let health = health?;
        self.registry.set_bindings(&queue, health.clone());
        if !stale.is_empty() {
            self.store.forget_stale_bindings(hook.incarnation, stale).await?;
        }
        if hook.waits() {
            self.transport.cancel(&queue).await?;
            // What has come in advance goes back.
            drop(self.taken_in(&queue).await);
            self.wake(&hook);
        } else if *self.taking.borrow() == Taking::Yes {
            self.transport.consume(&queue, self.prefetch(&hook), self.deliveries.clone()).await?;
            // What could not be sent back meanwhile.
            let _ = self.heard.send(Heard::Room(queue));
        }
        Ok(health)
    }

    /// A hook's own trigger key, and its bindings.
    fn bindings(&self, hook: &LiveHook) -> Vec<Binding> {
        let own = Binding {
            exchange: naming::exchange(&self.config.user, "trigger"),
            pattern: naming::routing_key([hook.name.group.as_str(), hook.name.id.as_str()]),
        };
        let mut bindings = vec![own];
        bindings.extend(hook.hook.bindings.iter().cloned());
        bindings
    }

    /// A hook's share of the budget of messages that are out unacknowledged.
    pub(super) fn prefetch(&self, hook: &LiveHook) -> u16 {
        let share = self.config.router.prefetch_budget as usize / self.registry.len().max(1);
        let share = match hook.shared.heavy.load(Ordering::Acquire) {
            true => PREFETCH.0,
            false => share.clamp(PREFETCH.0, PREFETCH.1),
        };
        // A hook with a rate limit holds what it can use soon: brokers take back what is held for half an hour.
        let soon = match self.config.router.hook.fires_per_minute as usize {
            0 => share,
            rate => rate.saturating_mul(RATE_MINUTES),
        };
        share.min(soon) as u16
    }

    /// From now on, until it is changed, the hook of this queue gets as few messages in advance as there may be.
    pub(super) fn give_less(self: &Arc<Self>, queue: &str) {
        let Some(hook) = self.registry.get(queue) else { return };
        if hook.shared.heavy.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::warn!(hook = %hook.name, prefetch = PREFETCH.0, "its messages are large: it gets fewer of them in advance");
        let (inner, name) = (self.clone(), hook.name.clone());
        self.spawn(async move {
            if let Err(error) = inner.keep(&name).await {
                tracing::warn!(hook = %name, %error, "the hook's queue is not as it should be");
                inner.keep_trying(name);
            }
        });
    }

    /// Deletes the queue of a deleted hook, and forgets the hook when the broker has confirmed.
    async fn bury(&self, name: &HookName, queue: &Arc<str>) -> Result<(), KeepError> {
        let tombstones: Vec<i64> = self
            .store
            .tombstones()
            .await?
            .into_iter()
            .filter(|tombstone| tombstone.name == *name)
            .map(|tombstone| tombstone.incarnation)
            .collect();
        if tombstones.is_empty() {
            return Ok(());
        }
        pulse::crash::point("router.tombstone");
        // No more of it comes here; what is here already is kept from going back, or it might be counted twice or not at all.
        self.transport.cancel(queue).await?;
        let taken = self.taken_in(queue).await;
        let dropped = self.transport.delete_queue(queue).await? + taken.len() as u64;
        drop(taken);
        pulse::crash::point("router.queue-deleted");
        tracing::info!(hook = %name, dropped, "deleted the hook's queue, with the messages that waited in it");
        let entry = AuditRow {
            id: 0,
            at: super::now_ms(),
            client_id: None,
            action: "delete-queue".to_owned(),
            hook: name.clone(),
            detail: Some(serde_json::json!({ "messagesDropped": dropped }).to_string()),
        };
        self.store.bury(tombstones, entry).await?;
        Ok(())
    }

    /// What the intake holds of a hook that is deleted or waits.
    pub(super) async fn taken_in(&self, queue: &Arc<str>) -> Vec<Delivery> {
        let (reply, taken) = oneshot::channel();
        // Without an intake the router stops, and the broker has all of it.
        let _ = self.heard.send(Heard::GiveUp(queue.clone(), reply));
        taken.await.unwrap_or_default()
    }

    /// Keeps one hook until it stands, in the background.
    pub(super) fn keep_trying(self: &Arc<Self>, name: HookName) {
        let inner = self.clone();
        self.spawn(async move {
            loop {
                tokio::time::sleep(RETRY).await;
                match inner.keep(&name).await {
                    Ok(_) => return,
                    Err(error) => {
                        tracing::warn!(hook = %name, %error, "the hook's queue is not as it should be")
                    }
                }
            }
        });
    }

    /// Brings the broker in line with all hooks, at start.
    pub(super) async fn keep_all(self: Arc<Self>) {
        let mut names: Vec<HookName> = self.registry.all().iter().map(|hook| hook.name.clone()).collect();
        match self.store.tombstones().await {
            Ok(tombstones) => names.extend(tombstones.into_iter().map(|tombstone| tombstone.name)),
            Err(error) => tracing::error!(%error, "cannot read which hooks were deleted"),
        }
        names.sort();
        names.dedup();
        let total = names.len();
        stream::iter(names)
            .for_each_concurrent(AT_ONCE, async |name| {
                if let Err(error) = self.keep(&name).await {
                    tracing::warn!(hook = %name, %error, "the hook's queue is not as it should be yet");
                    self.keep_trying(name);
                }
            })
            .await;
        tracing::info!(hooks = total, "the queues of all hooks have been declared");
    }
}
