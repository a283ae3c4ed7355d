//! Builds each role from the configuration, owns its tasks, and stops it in order.
//!
//! A role runs until it is told to stop or one of its parts ends unexpectedly, which is an error: a service manager
//! starts it again, and what is recorded goes on.

pub mod dev;
mod late;
pub mod source_filter;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pulse::Transport;
use pulse::trace::Tracing;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Api};
use crate::auth::Authenticator;
use crate::config::{Config, ConfigError};
use crate::health::{self, Health};
use crate::notify::Notifier;
use crate::queue::{QueueService, Taskcluster};
use crate::router::{Parts, Router};
use crate::server::{self, serve};
use crate::store::Store;
use crate::telemetry::metrics::BrokerGauges;
use crate::telemetry::{Metrics, Traces};
use crate::ui::{self, Ui};
use late::Late;

/// An orderly stop takes at most so long; then the process ends all the same, and what is pending goes on at the next start.
const DRAIN: Duration = Duration::from_secs(20);

/// `pulsehook router`: consumes pulse, submits tasks, serves the API.
pub async fn run_router(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let mut errors = Vec::new();
    errors.extend(not_embedded(&config, "router").err());
    let key = config.task_id_key().map_err(|error| errors.push(error)).ok();
    let queue = Taskcluster::new(&config.queue).map_err(|error| errors.push(error.to_string())).ok();
    let authenticator = config.authenticator().map_err(|more| errors.extend(more)).ok();
    let notifier = config.notify.notifier(&config.queue).map_err(|error| errors.push(error.to_string())).ok();
    let bridge = ui::Bridge::at(&config.ui.bridge_status).map_err(|error| errors.push(error)).ok();
    let (Some(key), Some(queue), Some(authenticator), Some(notifier), Some(bridge), true) =
        (key, queue, authenticator, notifier, bridge, errors.is_empty())
    else {
        return Err(ConfigError(errors).into());
    };
    let closed = authenticator.is_closed();
    let metrics = Metrics::install(&config.telemetry, "router")?;
    let traces = Traces::start(&config.telemetry, "router")?;
    let listener = listen("api.listen", config.api.listen)?;
    println!("listening on http://{}", listener.local_addr()?);
    tracing::info!(address = %listener.local_addr()?, "router started");
    let health = Health::default();
    let late = Late::new(health.clone());
    let routes = late.routes().merge(health.routes()).merge(metrics.routes());
    if closed {
        tracing::warn!("[auth] names no client: hooks fire, and the API refuses everybody");
    }
    // A standby answers for its health too.
    let server = tokio::spawn(serve(listener, routes, stop.clone()));
    let store = tokio::select! {
        store = open_store(&config, health.clone()) => store?,
        () = stop.cancelled() => return Ok(()),
    };
    let transport = open_transport(&config, Path::new("."), "router")?;
    let doors = Doors { authenticator, bridge, stop };
    let queue = Arc::new(queue);
    let role =
        RouterRole::start(&config, store.clone(), transport.clone(), queue, key, doors, traces.tracing())
            .await?;
    let mut beside = role.look_after(&config, &metrics, notifier);
    late.come(role.api.routes().merge(role.ui.routes()).merge(role.ui.fallback()));
    health.running(health::Parts { store, transport: transport.clone(), router: role.router.clone() });
    let ended = tokio::select! {
        // A panic of the server would have been its own end.
        _ = server => Ok(()),
        failed = role.failed() => Err(anyhow::anyhow!(failed)),
    };
    drained(async {
        // A mail that is under way goes out again, with the same id, at the next start.
        beside.shutdown().await;
        role.stop().await;
        transport.close().await;
        role.close_store().await;
        traces.stop().await;
    })
    .await;
    ended
}

/// `pulsehook bridge`: serves webhooks, publishes them and the clock's ticks. `reload` reads the configuration again, for
/// SIGHUP.
pub async fn run_bridge(
    config: Config,
    reload: impl Fn() -> anyhow::Result<Config>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    not_embedded(&config, "bridge").map_err(|error| ConfigError(vec![error]))?;
    let metrics = Metrics::install(&config.telemetry, "bridge")?;
    let traces = Traces::start(&config.telemetry, "bridge")?;
    let transport = open_transport(&config, Path::new("."), "bridge")?;
    let (broker, figures) = (transport.clone(), BrokerGauges::default());
    metrics.before_each(move || figures.sample(&*broker));
    let bridge = build_bridge(&config, transport.clone(), traces.tracing())?;
    let listener = listen("bridge.listen", config.bridge.listen)?;
    println!("listening on http://{}", listener.local_addr()?);
    tracing::info!(address = %listener.local_addr()?, sources = config.bridge.source.len(), "bridge started");
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    let reloading = async {
        while hangup.recv().await.is_some() {
            match reload()
                .map_err(|error| vec![error.to_string()])
                .and_then(|config| bridge.reload(&config.bridge))
            {
                Ok(()) => {
                    tracing::info!("sources and secrets read anew");
                    bridge.retry_refused().await;
                }
                Err(errors) => tracing::error!(
                    errors = errors.join("; "),
                    "the changed configuration is not usable; everything stays as it was"
                ),
            }
        }
    };
    let status = match config.bridge.status_listen {
        Some(address) => Some(listen("bridge.status_listen", address)?),
        None => None,
    };
    let failed = async {
        tokio::select! {
            // First, as it starts the tasks.
            biased;
            failed = async {
                start_bridge(&bridge).await;
                std::future::pending().await
            } => failed,
            failed = bridge.failed() => failed,
        }
    };
    let routes = bridge.routes().merge(bridge.health_routes()).merge(metrics.routes());
    // Each ends when it has answered what was under way at the stop.
    let served = async {
        let status_served = async {
            if let Some(listener) = status {
                serve(listener, bridge.status_routes(), stop.clone()).await;
            }
        };
        tokio::join!(serve(listener, routes, stop.clone()), status_served)
    };
    let ended = tokio::select! {
        ((), ()) = served => Ok(()),
        failed = failed => Err(anyhow::anyhow!(failed)),
        () = reloading => Err(anyhow::anyhow!("no more signals arrive")),
        () = metrics.keep() => Ok(()),
    };
    drained(async {
        bridge.stop().await;
        transport.close().await;
        traces.stop().await;
    })
    .await;
    ended
}

fn build_bridge(
    config: &Config,
    transport: Arc<dyn Transport>,
    tracing: Tracing,
) -> anyhow::Result<bridge::Bridge> {
    let compile_filter = Some(source_filter::compiler(&config.limits));
    let outside = bridge::Outside { compile_filter, tracing, ..Default::default() };
    Ok(bridge::Bridge::build(&config.bridge, &config.pulse.user, transport, outside).map_err(ConfigError)?)
}

/// Starts the bridge's tasks and declares its exchanges, these again and again while the broker refuses.
async fn start_bridge(bridge: &bridge::Bridge) {
    const RETRY: Duration = Duration::from_secs(5);
    while let Err(error) = bridge.start().await {
        tracing::warn!(%error, "the broker does not let this user declare the bridge's exchanges; trying again");
        tokio::time::sleep(RETRY).await;
    }
}

/// What runs beside a role, and ends when this is dropped.
type Beside = JoinSet<()>;

struct RouterRole {
    store: Store,
    router: Router,
    api: Api,
    ui: Ui,
}

/// What API and pages are given beside the router: who may come in, whom they ask, when they stop.
struct Doors {
    authenticator: Authenticator,
    bridge: ui::Bridge,
    stop: CancellationToken,
}

impl RouterRole {
    async fn start(
        config: &Config,
        store: Store,
        transport: Arc<dyn Transport>,
        queue: Arc<dyn QueueService>,
        task_id_key: Vec<u8>,
        doors: Doors,
        tracing: Tracing,
    ) -> anyhow::Result<Self> {
        let authenticator = Arc::new(doors.authenticator);
        let router = Router::start(Parts {
            store: store.clone(),
            transport,
            queue,
            task_id_key: task_id_key.clone(),
            user: config.pulse.user.clone(),
            queue_kind: config.pulse.queue_type,
            router: config.router.clone(),
            limits: config.limits.clone(),
            tracing,
        })
        .await?;
        let api = Api::new(api::Parts {
            config: &config.api,
            user: &config.pulse.user,
            store: store.clone(),
            router: router.clone(),
            authenticator: authenticator.clone(),
            task_id_key: &task_id_key,
        })
        .await?;
        let ui = Ui::new(ui::Parts {
            config: &config.ui,
            root_url: &config.queue.root_url,
            user: &config.pulse.user,
            api: api.clone(),
            store: store.clone(),
            router: router.clone(),
            authenticator,
            task_id_key: &task_id_key,
            bridge: doors.bridge,
            stop: doors.stop,
        })?;
        Ok(Self { api, ui, store, router })
    }

    /// Measures, and tells owners, until what is answered is dropped.
    fn look_after(&self, config: &Config, metrics: &Metrics, notifier: Option<Notifier>) -> Beside {
        let router = self.router.clone();
        metrics.before_each(move || router.sample());
        let (router, most) = (self.router.clone(), config.telemetry.metrics_hooks);
        metrics.also(move |text| router.write_backlogs(most, text));
        let mut beside = JoinSet::new();
        let metrics = metrics.clone();
        beside.spawn(async move { metrics.keep().await });
        if let Some(notifier) = notifier {
            beside.spawn(notifier.run(self.store.clone(), self.router.clone()));
        }
        beside
    }

    /// Waits until a part of it has ended although nobody asked it to, and tells which: a defect, after which the process should
    /// stop, so that another takes over.
    async fn failed(&self) -> &'static str {
        tokio::select! {
            () = self.router.failed() => "a part of the router ended unexpectedly; the log says where",
            () = self.store.failed() => "the store's writer ended unexpectedly; the log says where",
        }
    }

    async fn stop(&self) {
        self.router.stop().await;
    }

    async fn close_store(&self) {
        let store = self.store.clone();
        // Joining the writer thread blocks; if that task cannot run, the process ends and closes the file itself.
        let _ = tokio::task::spawn_blocking(move || store.close()).await;
    }
}

async fn open_store(config: &Config, health: Health) -> anyhow::Result<Store> {
    let store = config.store.clone();
    tokio::task::spawn_blocking(move || {
        Store::open(&store, || {
            health.standing_by();
            tracing::info!(path = %store.path.display(), "another router owns the store; standing by until it ends");
        })
    })
    .await?
    .map_err(Into::into)
}

/// The transport that `[pulse]` names; the embedded one keeps its file in `folder`.
fn open_transport(config: &Config, folder: &Path, role: &str) -> anyhow::Result<Arc<dyn Transport>> {
    let name = format!("pulsehook {role}");
    config.pulse.open(folder, &name).map_err(|error| ConfigError(vec![error.to_string()]).into())
}

fn not_embedded(config: &Config, role: &str) -> Result<(), String> {
    if config.pulse.is_embedded() {
        return Err(format!(
            "pulse.url = \"embedded\": {role} needs a broker, or it would talk to itself alone; use amqp://… or amqps://… (`pulsehook dev` runs everything in one process)"
        ));
    }
    Ok(())
}

fn listen(option: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    server::listen(address).with_context(|| {
        format!("{option} = \"{address}\": cannot listen there; is another process using the port?")
    })
}

async fn drained(stopping: impl Future<Output = ()>) {
    if tokio::time::timeout(DRAIN, stopping).await.is_err() {
        tracing::warn!("the orderly stop took too long; what is pending goes on at the next start");
    }
}

/// A token that is cancelled by SIGINT or SIGTERM. A second signal ends the process at once.
pub fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if first {
                tracing::info!("stopping");
                cancelled.cancel();
            } else {
                std::process::exit(130);
            }
        }
    });
    Ok(stop)
}
