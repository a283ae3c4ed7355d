//! From the parts of a router to a running one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::Utc;
use pulse::naming;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::gate::Gate;
use super::identity::TaskIds;
use super::registry::{LiveHook, Registry};
use super::scheduler::{self, Scheduler};
use super::{Inner, Parts, Router, Settings, Taking, deciders, intake, now_ms, submit, trigger, underway};
use crate::store::{HookRow, PendingFire, StoreError};
use crate::template::Workers;

/// Deliveries between the transport and the intake: the prefetch bounds what is out, this only what is handed over at once.
const SINK: usize = 4_096;

/// Fires on their way to being committed as ended.
const SETTLED: usize = 4_096;

/// The wait before something is declared again that the broker did not let stand.
const DECLARE_RETRY: Duration = Duration::from_secs(1);

/// Pending fires that are read at once at start.
const RECOVERED_AT_ONCE: u32 = 1_000;

impl Router {
    /// Starts a router: loads hooks and pending fires from the store, and begins to consume. Returns when everything
    /// is loaded; queues are declared in the background.
    pub async fn start(parts: Parts) -> Result<Router, StoreError> {
        let (deliveries, delivered) = mpsc::channel(SINK);
        let (settled, settling) = mpsc::channel(SETTLED);
        let (heard, hearing) = mpsc::unbounded_channel();
        let store_id = parts.store.id().await?;
        let trigger_key = trigger::TriggerKey::new(&parts.task_id_key);
        let scheduler = Arc::new(Scheduler::new(scheduler::Parts {
            store: parts.store.clone(),
            transport: parts.transport.clone(),
            key: trigger_key.clone(),
            user: parts.user.clone(),
            queue_kind: parts.queue_kind,
            config: parts.router.schedule.clone(),
            decisions_kept: parts.router.decisions_kept,
            delivery_limit: parts.router.delivery_limit,
            now: Arc::new(Utc::now),
        }));
        let inner = Arc::new(Inner {
            task_ids: TaskIds::new(&parts.task_id_key, &store_id),
            trigger_key,
            scheduler,
            registry: Registry::default(),
            keeper: Default::default(),
            gate: Gate::new(parts.router.submissions as usize),
            load: Default::default(),
            deciders: deciders::Deciders::start().map_err(|error| StoreError::Sqlite(error.to_string()))?,
            submitter: underway::Submitter::new(parts.router.submissions_per_hook as usize, settled),
            events: Default::default(),
            figures: Default::default(),
            gauges: Default::default(),
            depths: Default::default(),
            waiters: Default::default(),
            recent: Default::default(),
            activity: Default::default(),
            deliveries,
            heard: heard.clone(),
            taking: watch::Sender::new(Taking::Yes),
            epoch_base: parts.store.begin_epochs(now_ms()).await?,
            generation: AtomicU64::new(1),
            latest_generation: AtomicU64::new(1),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            failed: CancellationToken::new(),
            store: parts.store,
            transport: parts.transport,
            queue: parts.queue,
            config: Settings {
                queue_kind: parts.queue_kind,
                trigger_exchange: naming::exchange(&parts.user, "trigger"),
                user: parts.user,
                router: parts.router,
                workers: Arc::new(
                    Workers::of_this_program(&parts.limits)
                        .map_err(|error| StoreError::Sqlite(error.to_string()))?,
                ),
                limits: parts.limits,
                tracing: parts.tracing,
            },
        });
        let rows = inner.store.hooks(None).await?;
        rows.iter().for_each(|row| inner.register(row));
        let standing: HashSet<i64> = rows.iter().map(|row| row.incarnation).collect();
        drop(rows);
        let events = inner.transport.events();
        inner.spawn(inner.clone().follow_transport(events));
        inner.spawn(intake::Intake::run(inner.clone(), delivered, heard.clone(), hearing));
        // Not under `stop`: ends that are on their way are still committed while the router stops.
        inner.watch(inner.clone().keep_outcomes(settling, heard));
        inner.spawn(inner.clone().publish_events());
        inner.spawn(inner.clone().keep_gate());
        inner.spawn(inner.clone().keep_epoch());
        inner.spawn(inner.clone().keep_retention());
        inner.spawn(inner.clone().remember_activity());
        inner.spawn(inner.clone().keep_depths());
        inner.recover(&standing).await?;
        inner.spawn(inner.clone().keep_task_states());
        inner.spawn(inner.clone().keep_topology());
        inner.spawn(inner.scheduler.clone().run());
        Ok(Router { inner })
    }
}

fn recovered(fire: PendingFire, hook: &Arc<LiveHook>) -> submit::Submission {
    submit::Submission { fire, hook: hook.clone(), recovered: true, origin: None }
}

impl Inner {
    pub(super) fn register(&self, row: &HookRow) {
        let queue: Arc<str> = naming::queue(&self.config.user, &row.name.group, &row.name.id).into();
        let known = self.registry.get(&queue);
        // Two saves may arrive here in the other order, and so may a deletion and a save.
        if known
            .as_ref()
            .is_some_and(|known| (known.incarnation, known.version) >= (row.incarnation, row.version))
        {
            return;
        }
        let known = known.filter(|known| known.incarnation == row.incarnation);
        let shared = known.map(|known| known.shared.clone()).unwrap_or_default();
        shared.throttle.reset();
        shared.pace.reset();
        shared.heavy.store(false, Ordering::Release);
        match LiveHook::new(row, queue, shared) {
            Ok(hook) => self.registry.put(Arc::new(hook)),
            Err(error) => {
                tracing::error!(hook = %row.name, error, "the stored hook is not valid for this version of pulsehook; it does not fire")
            }
        }
    }

    /// Submits what was recorded and not ended before the start. `standing`: the incarnations of all hooks, also of those that this
    /// version of pulsehook cannot read; their fires stay pending until another can.
    async fn recover(self: &Arc<Self>, standing: &HashSet<i64>) -> Result<(), StoreError> {
        let hooks: HashMap<i64, Arc<LiveHook>> =
            self.registry.all().into_iter().map(|hook| (hook.incarnation, hook)).collect();
        let (mut after, mut found) = (0, 0);
        loop {
            let page = self.store.pending_fires(after, RECOVERED_AT_ONCE).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            for fire in page {
                match hooks.get(&fire.incarnation) {
                    Some(hook) => {
                        found += 1;
                        self.take_up(recovered(fire, hook));
                    }
                    None if standing.contains(&fire.incarnation) => {}
                    None => self.cancel_orphan(fire.incarnation).await?,
                }
            }
        }
        if found > 0 {
            tracing::info!(fires = found, "going on with fires that were recorded before the last stop");
        }
        Ok(())
    }

    /// The same for one hook, none of whose fires is under way.
    pub(super) async fn recover_of(self: &Arc<Self>, hook: &Arc<LiveHook>) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let page = self.store.pending_fires(after, RECOVERED_AT_ONCE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.id;
            for fire in page.into_iter().filter(|fire| fire.incarnation == hook.incarnation) {
                self.take_up(recovered(fire, hook));
            }
        }
    }

    async fn cancel_orphan(&self, incarnation: i64) -> Result<(), StoreError> {
        let error = submit::error_json("hook-deleted", "the hook was deleted before the task was submitted");
        let cancelled = self.store.write(move |w| w.cancel_fires(incarnation, now_ms(), &error)).await?;
        if cancelled > 0 {
            tracing::info!(incarnation, fires = cancelled, "cancelled fires of a deleted hook");
        }
        Ok(())
    }

    /// Declares what all hooks share, then each hook's queue.
    async fn keep_topology(self: Arc<Self>) {
        const EXCHANGES: [&str; 8] = [
            "webhook",
            "clock",
            "trigger",
            "undeliverable",
            "fire",
            "hook-created",
            "hook-updated",
            "hook-deleted",
        ];
        let declare = async || {
            for what in EXCHANGES {
                self.transport.declare_exchange(&naming::exchange(&self.config.user, what)).await?;
            }
            Ok::<_, pulse::TopologyError>(())
        };
        while let Err(error) = declare().await {
            tracing::warn!(%error, "cannot declare pulsehook's exchanges yet");
            tokio::time::sleep(DECLARE_RETRY).await;
        }
        let (sink, returned) = mpsc::channel(64);
        self.spawn(self.clone().return_undeliverable(returned));
        let undeliverable = async {
            while let Err(error) = self.declare_undeliverable(sink.clone()).await {
                tracing::warn!(%error, "cannot declare the queue of undeliverable messages yet");
                tokio::time::sleep(DECLARE_RETRY).await;
            }
        };
        tokio::join!(undeliverable, self.clone().keep_all());
    }
}
