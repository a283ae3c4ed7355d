//! The bridge as a whole: built from its configuration, started, reloaded, stopped, and handed to a listener as routes.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use chrono::{DateTime, Utc};
use ipnet::IpNet;
use pulse::trace::Tracing;
use pulse::{TopologyError, Transport, naming};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::Config;
use crate::limits::{Memory, PeerLimits, Turns};
use crate::once::{Key, Once};
use crate::publisher::Publisher;
use crate::source::{self, CompileFilter, Source, Sources};
use crate::spool::{Bounds, Contents, Spool};
use crate::status::{Deliveries, Status};
use crate::window::Window;
use crate::{clock, drain, health, status, webhook};

/// Recent requests that are remembered to answer repeats: about 500 bytes each.
const MAX_RECENT: usize = 50_000;

/// How often idle peers are forgotten and the gauges are set.
const HOUSEKEEPING: Duration = Duration::from_secs(15);

/// How long the bridge's tasks may take to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// The wall clock.
pub type Now = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// What the bridge takes from outside beside its configuration and its transport.
#[derive(Clone)]
pub struct Outside {
    /// The wall clock, by which signatures grow stale and ticks are due.
    pub now: Now,
    /// Compiles the sources' filters; without it a source with a filter is a mistake in the configuration.
    pub compile_filter: Option<CompileFilter>,
    /// Who records what webhooks take.
    pub tracing: Tracing,
}

impl Default for Outside {
    fn default() -> Self {
        Self { now: Arc::new(Utc::now), compile_filter: None, tracing: Tracing::default() }
    }
}

/// The bridge.
pub struct Bridge {
    shared: Arc<Shared>,
    transport: Arc<dyn Transport>,
    compile_filter: Option<CompileFilter>,
    config: Config,
    clock_exchange: String,
    stop: CancellationToken,
    tasks: Mutex<JoinSet<&'static str>>,
}

/// What the handlers work with.
pub(crate) struct Shared {
    sources: RwLock<Arc<Sources>>,
    bodies: Mutex<Window<Key, String>>,
    pub exchange: String,
    pub publisher: Arc<Publisher>,
    pub spool: Option<Arc<Spool>>,
    pub once: Once,
    pub once_window: Duration,
    pub peers: PeerLimits,
    pub memory: Memory,
    /// For expanding bodies of senders who are not proven yet: on half of the machine's cores, so that the other half goes on.
    pub expanding: Turns,
    pub trusted_proxies: Vec<IpNet>,
    pub max_body_bytes: usize,
    pub max_message_bytes: usize,
    pub read_timeout: Duration,
    pub deliveries: Deliveries,
    pub now: Now,
    pub tracing: Tracing,
    pub publish_seconds: metrics::Histogram,
    /// Events that are being made safe.
    pub accepting: TaskTracker,
}

impl Shared {
    pub fn source(&self, name: &str) -> Option<Arc<Source>> {
        let sources = Arc::clone(&self.sources.read().unwrap_or_else(PoisonError::into_inner));
        sources.get(name).cloned()
    }

    /// Every source, in no order.
    pub fn all_sources(&self) -> Vec<Arc<Source>> {
        let sources = Arc::clone(&self.sources.read().unwrap_or_else(PoisonError::into_inner));
        sources.values().cloned().collect()
    }

    /// Bodies that came lately, with the id of their message.
    pub fn bodies(&self) -> MutexGuard<'_, Window<Key, String>> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bridge {
    /// A bridge for the pulse user `user`, which publishes through `transport`. Opens the spool.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration, each as a text that tells where and what to do.
    pub fn new(config: &Config, user: &str, transport: Arc<dyn Transport>) -> Result<Self, Vec<String>> {
        Self::build(config, user, transport, Outside::default())
    }

    /// The same with its surroundings given.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn build(
        config: &Config,
        user: &str,
        transport: Arc<dyn Transport>,
        outside: Outside,
    ) -> Result<Self, Vec<String>> {
        let sources = check(config, outside.compile_filter.as_ref())?;
        let spool = if config.spool.path.as_os_str().is_empty() {
            None
        } else {
            let bounds = Bounds {
                max_bytes: config.spool.max_bytes,
                max_age: Duration::from_secs(config.spool.max_age_seconds),
            };
            Some(Arc::new(Spool::open(&config.spool.path, bounds).map_err(|error| vec![error])?))
        };
        let limits = &config.limits;
        let read_timeout = Duration::from_secs(config.read_timeout_seconds);
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let timeout = Duration::from_millis(config.publish_timeout_ms);
        let shared = Shared {
            sources: RwLock::new(Arc::new(sources)),
            bodies: Mutex::new(Window::new(MAX_RECENT)),
            exchange: naming::exchange(user, "webhook"),
            publisher: Arc::new(Publisher::new(Arc::clone(&transport), timeout)),
            spool,
            once: Once::new(MAX_RECENT),
            once_window: Duration::from_secs(config.once_seconds),
            peers: PeerLimits::new(limits.peer_per_second, limits.peer_burst, limits.peer_concurrency),
            // A request may need its body and what that expands to.
            memory: Memory::new(limits.body_memory_bytes, config.max_body_bytes.saturating_mul(2)),
            expanding: Turns::new(cores / 2, read_timeout),
            trusted_proxies: config.trusted_proxies.clone(),
            max_body_bytes: config.max_body_bytes,
            max_message_bytes: config.max_message_bytes,
            read_timeout,
            deliveries: Deliveries::default(),
            now: outside.now,
            tracing: outside.tracing,
            publish_seconds: metrics::histogram!("pulsehook_bridge_publish_seconds"),
            accepting: TaskTracker::new(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            transport,
            compile_filter: outside.compile_filter,
            config: config.clone(),
            clock_exchange: naming::exchange(user, "clock"),
            stop: CancellationToken::new(),
            tasks: Mutex::default(),
        })
    }

    /// Declares the bridge's exchanges and starts its tasks: the clock, and the spool's way out. With the broker away the exchanges
    /// are declared when it is back. The tasks run whatever becomes of the exchanges: those may stand already, made by somebody
    /// who has the right to. So after an error the bridge works as far as it can, and a further call only declares once more.
    ///
    /// # Errors
    /// [`TopologyError::Refused`] if the broker does not let this user have the exchanges.
    pub async fn start(&self) -> Result<(), TopologyError> {
        // First, or the clock's first tick would find no exchange.
        let declared = self.declare().await;
        self.start_tasks();
        declared
    }

    async fn declare(&self) -> Result<(), TopologyError> {
        let mut exchanges = vec![&self.shared.exchange];
        if self.config.clock.enabled {
            exchanges.push(&self.clock_exchange);
        }
        for exchange in exchanges {
            match self.transport.declare_exchange(exchange).await {
                Err(TopologyError::Unavailable(reason)) => {
                    warn!(reason, exchange, "the broker is away; the bridge starts all the same");
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// Once.
    fn start_tasks(&self) {
        let shared = Arc::clone(&self.shared);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if !tasks.is_empty() {
            return;
        }
        if let Some(spool) = &shared.spool {
            let (spool, publisher) = (Arc::clone(spool), Arc::clone(&shared.publisher));
            let (now, stop) = (Arc::clone(&shared.now), self.stop.clone());
            tasks.spawn(async move {
                drain::run(spool, publisher, now, stop).await;
                "spool"
            });
        }
        if self.config.clock.enabled {
            let (publisher, exchange) = (Arc::clone(&shared.publisher), self.clock_exchange.clone());
            let (now, stop) = (Arc::clone(&shared.now), self.stop.clone());
            let catch_up = self.config.clock.catch_up_minutes;
            tasks.spawn(async move {
                clock::run(publisher, exchange, catch_up, now, stop).await;
                "clock"
            });
        }
        let stop = self.stop.clone();
        tasks.spawn(async move {
            housekeeping(&shared, stop).await;
            "housekeeping"
        });
    }

    /// Waits until one of the bridge's tasks ends although nobody asked it to, and tells which: a defect, after which
    /// the process should stop. Never returns otherwise. To be asked after [`start`](Self::start).
    pub async fn failed(&self) -> String {
        let ended = std::future::poll_fn(|context| {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            match tasks.poll_join_next(context) {
                std::task::Poll::Ready(Some(ended)) if !self.stop.is_cancelled() => {
                    std::task::Poll::Ready(ended)
                }
                _ => std::task::Poll::Pending,
            }
        });
        match ended.await {
            Ok(task) => format!("the bridge's {task} task ended"),
            Err(error) => format!("a task of the bridge ended: {error}"),
        }
    }

    /// Stops the tasks, and waits for the events that are being made safe, under a deadline. The listener should have stopped before.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.shared.accepting.close();
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async {
            while tasks.join_next().await.is_some() {}
            self.shared.accepting.wait().await;
        };
        if tokio::time::timeout(STOP_DEADLINE, all).await.is_err() {
            warn!("the bridge's tasks did not stop in time");
        }
    }

    /// `POST /webhooks/{source}`. The listener should give each request an `axum::extract::ConnectInfo<SocketAddr>`:
    /// without it all senders share the limits of one address.
    pub fn routes(&self) -> Router {
        webhook::routes(Arc::clone(&self.shared))
    }

    /// `/__heartbeat__`, `/__lbheartbeat__`, `/__ready__` and `/__version__`, apart from [`routes`](Self::routes) for a process that has
    /// others of these names.
    pub fn health_routes(&self) -> Router {
        health::routes(Arc::clone(&self.shared))
    }

    /// `/__status__`: sources, their last deliveries and the spool, for a listener that strangers do not reach.
    pub fn status_routes(&self) -> Router {
        status::routes(Arc::clone(&self.shared))
    }

    /// How it is, as `/__status__` tells it, for whoever is in the same process; it may be asked as long as the bridge runs.
    pub fn status(&self) -> impl Fn() -> Status + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.status()
    }

    /// What lies in the spool; none if there is no spool.
    pub fn spooled(&self) -> Option<Contents> {
        self.shared.spool.as_ref().map(|spool| spool.contents((self.shared.now)().timestamp_millis()))
    }

    /// Has what the broker refused, and was set aside, tried once more: for after its cause was mended.
    pub async fn retry_refused(&self) {
        let Some(spool) = &self.shared.spool else { return };
        match spool.restore().await {
            Ok(0) => {}
            Ok(events) => info!(events, "events that the broker had refused are tried once more"),
            Err(error) => warn!(%error, "events that the broker refused stay set aside"),
        }
    }

    /// Takes over the sources (with their secrets, read anew) and providers of a changed configuration, for every request
    /// from now on. The other options need a restart; that one of them has changed is logged.
    ///
    /// # Errors
    /// Everything that is wrong; then everything stays as it was.
    pub fn reload(&self, config: &Config) -> Result<(), Vec<String>> {
        let sources = check(config, self.compile_filter.as_ref())?;
        let comparable = Config {
            source: self.config.source.clone(),
            providers: self.config.providers.clone(),
            limits: self.config.limits.clone(),
            merge_seconds: self.config.merge_seconds,
            ..config.clone()
        };
        if comparable != self.config {
            warn!("options of [bridge] outside its sources have changed; they count after a restart");
        }
        *self.shared.sources.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sources);
        Ok(())
    }
}

/// Everything that can be wrong with a configuration, short of opening the spool.
///
/// # Errors
/// Each mistake as a text that tells where and what to do.
pub fn check(config: &Config, compile_filter: Option<&CompileFilter>) -> Result<Sources, Vec<String>> {
    let positive = [
        ("max_body_bytes", config.max_body_bytes as u64),
        ("max_message_bytes", config.max_message_bytes as u64),
        ("publish_timeout_ms", config.publish_timeout_ms),
        ("read_timeout_seconds", config.read_timeout_seconds),
        ("spool.max_bytes", config.spool.max_bytes),
        ("spool.max_age_seconds", config.spool.max_age_seconds),
        ("limits.peer_concurrency", config.limits.peer_concurrency as u64),
        ("limits.source_concurrency", config.limits.source_concurrency as u64),
        ("limits.body_memory_bytes", config.limits.body_memory_bytes),
    ];
    let zero = positive.iter().filter(|(_, value)| *value == 0);
    let mut errors: Vec<String> =
        zero.map(|(name, _)| format!("bridge.{name} is 0; nothing could get through")).collect();
    if config.limits.body_memory_bytes < config.max_body_bytes as u64 {
        errors.push("bridge.limits.body_memory_bytes is less than bridge.max_body_bytes".to_owned());
    }
    match source::build(config, compile_filter) {
        Ok(sources) if errors.is_empty() => Ok(sources),
        Ok(_) => Err(errors),
        Err(own) => Err(errors.into_iter().chain(own).collect()),
    }
}

async fn housekeeping(shared: &Shared, stop: CancellationToken) {
    loop {
        shared.peers.forget_idle();
        if let Some(spool) = &shared.spool {
            let contents = spool.contents((shared.now)().timestamp_millis());
            metrics::gauge!("pulsehook_bridge_spool_events").set(contents.events as f64);
            metrics::gauge!("pulsehook_bridge_spool_bytes").set(contents.bytes as f64);
            metrics::gauge!("pulsehook_bridge_spool_oldest_seconds").set(contents.oldest_seconds as f64);
            metrics::gauge!("pulsehook_bridge_spool_refused").set(contents.refused as f64);
        }
        tokio::select! {
            () = tokio::time::sleep(HOUSEKEEPING) => {}
            () = stop.cancelled() => return,
        }
    }
}
