//! `pulsehook dev`: everything in one process, with nothing to install.
//!
//! The parts are the real ones: the embedded transport is durable, the store is the router's, the queue service is
//! spoken to over HTTP with Hawk. Only what executes tasks is missing: the local queue records them and runs nothing.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio_util::sync::CancellationToken;

use super::{Doors, RouterRole, build_bridge, drained, listen, open_store, open_transport, start_bridge};
use crate::api::local_only;
use crate::auth::Authenticator;
use crate::config::{Config, ConfigError, loopback_only};
use crate::health::{self, Health};
use crate::hook::HookFile;
use crate::queue::{Taskcluster, local};
use crate::server::serve;
use crate::store::{NewHook, Saved};
use crate::telemetry::{Metrics, Traces};
use crate::ui;

/// The example hook that a new data folder starts with.
const EXAMPLE: &str = include_str!("../../config/hooks/demo.yml");

/// The webhook source of the example.
const SOURCE: &str = "demo";

/// What the printed command sends.
const BODY: &str =
    r#"{"name":"world","ref":"refs/heads/main","repository":{"name":"try-me","owner":{"login":"you"}}}"#;

/// Where and with what to run.
#[derive(Debug)]
pub struct Options {
    /// Address of API, bridge and local queue.
    pub listen: SocketAddr,
    /// Folder of keys and databases; made if it is not there.
    pub data: PathBuf,
}

/// Runs until told to stop.
pub async fn run(mut config: Config, options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    loopback_only("--listen", options.listen).map_err(|error| ConfigError(vec![error]))?;
    if !config.pulse.is_embedded() {
        let error = "pulse.url names a broker: `pulsehook dev` would take messages there that are others', and makes no tasks of \
                     them; it works with \"embedded\" (the default) only";
        return Err(ConfigError(vec![error.to_owned()]).into());
    }
    let data = &options.data;
    std::fs::create_dir_all(data)
        .with_context(|| format!("cannot make the data folder {}", data.display()))?;
    let key = kept_secret(&data.join("task-id.key"))?;
    let secret_path = data.join("demo.secret");
    let secret = kept_secret(&secret_path)?;
    let token = kept_secret(&data.join("queue-token"))?;

    let listener = listen("--listen", options.listen)?;
    let address = listener.local_addr()?;
    // Here nobody runs tasks, or tells what became of them.
    config.router.task_states = String::new();
    config.store.path = data.join("pulsehook.db");
    config.queue.root_url = format!("http://{address}");
    config.queue.access_token = pulse::Secret::new(token);
    if !config.bridge.source.iter().any(|source| source.name == SOURCE) {
        let source = format!(
            "name = {SOURCE:?}\nprovider = \"github\"\nsecrets = [{:?}]",
            format!("file:{}", secret_path.display())
        );
        config.bridge.source.push(toml::from_str(&source).context("the example's webhook source")?);
    }

    let metrics = Metrics::install(&config.telemetry, "dev")?;
    let traces = Traces::start(&config.telemetry, "dev")?;
    let transport = open_transport(&config, data, "dev")?;
    config.bridge.spool.path = data.join("spool.db");
    let bridge = build_bridge(&config, transport.clone(), traces.tracing())?;
    let health = Health::default();
    let store = open_store(&config, health.clone()).await?;
    let recorder = local::LocalQueue::open(local::Config {
        data: local::Data::File(data.join("queue.db")),
        credentials: None,
        faults: false,
    })?;
    let queue = Taskcluster::new(&config.queue)?;
    start_bridge(&bridge).await;
    if config.ui.task_link.is_empty() {
        config.ui.task_link = "/api/queue/v1/task/{taskId}".to_owned();
    }
    if config.ui.webhook_url.is_empty() {
        config.ui.webhook_url = format!("http://{address}");
    }
    let doors = Doors {
        authenticator: Authenticator::open(),
        bridge: ui::Bridge::Here(Arc::new(bridge.status())),
        stop: stop.clone(),
    };
    let role = RouterRole::start(
        &config,
        store,
        transport.clone(),
        Arc::new(queue),
        key.into_bytes(),
        doors,
        traces.tracing(),
    )
    .await?;
    let notifier = config.notify.notifier(&config.queue)?;
    let mut beside = role.look_after(&config, &metrics, notifier);
    let example = example_hook(&role, &config.pulse.user).await?;

    greet(address, data, &secret_path, &secret, &example);
    let (store, router) = (role.store.clone(), role.router.clone());
    health.running(health::Parts { store, transport: transport.clone(), router });
    let routes = role
        .api
        .routes()
        .merge(bridge.routes())
        .merge(recorder.routes())
        .merge(metrics.routes())
        .merge(health.routes())
        .layer(axum::middleware::from_fn(local_only::local_only));
    let pages = role.ui.routes().merge(role.ui.fallback());
    let routes = routes.merge(pages.layer(axum::middleware::from_fn(local_only::local_pages)));
    // The local queue is served until the router has let go of it.
    let served = CancellationToken::new();
    let server = tokio::spawn(serve(listener, routes, served.clone()));
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        failed = bridge.failed() => Err(anyhow::anyhow!(failed)),
        failed = role.failed() => Err(anyhow::anyhow!(failed)),
    };
    drained(async {
        beside.shutdown().await;
        bridge.stop().await;
        role.stop().await;
        served.cancel();
        // A panic of the server would have been its own end.
        let _ = server.await;
        transport.close().await;
        role.close_store().await;
        traces.stop().await;
    })
    .await;
    println!("stopped; start again with the same --data to go on");
    ended
}

/// A secret of this data folder: read, or made at the first start, for its owner's eyes only.
fn kept_secret(path: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => {
            anyhow::bail!("{} is empty: restore it, or begin with another data folder", path.display())
        }
        Ok(text) => return Ok(text.trim_end().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let secret = hex::encode(random);
    let write = || -> std::io::Result<()> {
        use std::io::Write as _;
        // Under its name only once it is whole.
        let part = path.with_extension("part");
        let mut file =
            std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        writeln!(file, "{secret}")?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(secret)
}

/// Makes the example hook, unless there is a hook by its name (perhaps changed since) or the data folder has hooks already.
async fn example_hook(role: &RouterRole, user: &str) -> anyhow::Result<String> {
    let text = EXAMPLE.replace("exchange/pulsehook/", &format!("exchange/{user}/"));
    let file = HookFile::parse(&text).map_err(|error| anyhow::anyhow!("config/hooks/demo.yml: {error}"))?;
    let hook = file.hook(None).map_err(|problems| anyhow::anyhow!("config/hooks/demo.yml: {problems:?}"))?;
    let shown = hook.name.to_string();
    let new =
        NewHook { name: hook.name.clone(), document: hook.to_json().to_string(), stale_bindings: Vec::new() };
    if role.store.hooks(None).await?.is_empty()
        && let Saved::Changed(row) = role.store.create_hook(new, crate::router::now_ms()).await?
    {
        role.router.hook_saved(&row).await?;
    }
    Ok(shown)
}

fn greet(address: SocketAddr, data: &Path, secret_path: &Path, secret: &str, example: &str) {
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_bytes()).unwrap_or_else(|_| unreachable!());
    mac.update(BODY.as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    println!(
        "\
listening on http://{address}
pulsehook dev: bridge, router, API and a queue that records tasks and runs nothing. Open to this machine only.

  address        http://{address} (open it in a browser)
  data           {data}
  example hook   {example} (http://{address}/api/hooks/v1/hooks/{example})
  webhooks       http://{address}/webhooks/{SOURCE}, signed with the secret in {secret_path}
  tasks          http://{address}/api/queue/v1/tasks

Send a signed event (each time, it becomes a new task):

  curl -sS http://{address}/webhooks/{SOURCE} \\
    -H 'Content-Type: application/json' -H 'X-GitHub-Event: push' -H \"X-GitHub-Delivery: $RANDOM-$RANDOM\" \\
    -H 'X-Hub-Signature-256: sha256={signature}' \\
    -d '{BODY}'

Ctrl-C stops. One line follows per fire.
",
        data = data.display(),
        secret_path = secret_path.display(),
    );
}
