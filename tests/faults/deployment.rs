//! A deployment that can be hurt everywhere: each process of its own, each connection through a proxy.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use harness::{Http, Process, Proxy, Rabbit, eventually, free_port};
use serde_json::{Value, json};

use super::system::{BINARY, SECRET, SOON};

/// Exchange of the foreign publisher.
pub const FOREIGN: &str = "exchange/foreign/v1/events";

/// Exchange of the bridge's webhooks.
pub const WEBHOOK: &str = "exchange/pulsehook/v1/webhook";

const TOKEN: &str = "a token of at least some length";

/// Bridge, router, standby and local queue on one virtual host.
pub struct Deployment {
    pub bridge: Process,
    pub router: Process,
    /// Another router on the same store, not started.
    pub standby: Process,
    pub queue: Process,
    pub bridge_to_broker: Proxy,
    pub router_to_broker: Proxy,
    pub router_to_queue: Proxy,
    pub bridge_url: String,
    /// The router's API and the standby's: whoever has the store answers.
    api_urls: [String; 2],
    pub queue_url: String,
    pub amqp_url: String,
    pub http: Http,
    folder: tempfile::TempDir,
}

impl Deployment {
    /// Starts all but the standby on this virtual host. `variables` are set for bridge and routers.
    pub async fn start(rabbit: &Rabbit, vhost: &str, variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let amqp_url = rabbit.url(vhost);
        let [queue, api, standby_api, bridge] = [free_port()?, free_port()?, free_port()?, free_port()?];
        let bridge_to_broker = Proxy::start(rabbit.address()).await?;
        let router_to_broker = Proxy::start(rabbit.address()).await?;
        let router_to_queue = Proxy::start(SocketAddr::from(([127, 0, 0, 1], queue))).await?;
        let role = |name: &str, role: &str, broker: &Proxy, api: u16| -> anyhow::Result<Process> {
            let pulse = amqp_url.replace(&rabbit.address().to_string(), &broker.address().to_string());
            let config = configuration(folder.path(), &pulse, router_to_queue.address(), api, bridge);
            let path = folder.path().join(format!("{name}.toml"));
            std::fs::write(&path, config)?;
            // With the signal ignored a write beyond the limit of the file's size is an error, as on a full disk.
            let mut process = Process::new(name, "sh").arg("-c").arg("trap '' XFSZ; exec \"$0\" \"$@\"");
            for argument in [BINARY, role, "--config"] {
                process = process.arg(argument);
            }
            for (name, value) in variables {
                process = process.env(name, *value);
            }
            Ok(process.arg(path.display().to_string()))
        };
        let mut deployment = Self {
            bridge: role("bridge", "bridge", &bridge_to_broker, api)?,
            router: role("router", "router", &router_to_broker, api)?,
            standby: role("standby", "router", &router_to_broker, standby_api)?,
            queue: Process::new("local-queue", BINARY)
                .arg("local-queue")
                .arg("--faults")
                .arg("--listen")
                .arg(format!("127.0.0.1:{queue}"))
                .arg("--data")
                .arg(folder.path().join("queue.db").display().to_string())
                .env("TASKCLUSTER_ACCESS_TOKEN", TOKEN),
            bridge_to_broker,
            router_to_broker,
            router_to_queue,
            bridge_url: format!("http://127.0.0.1:{bridge}"),
            api_urls: [api, standby_api].map(|port| format!("http://127.0.0.1:{port}/api/hooks/v1")),
            queue_url: format!("http://127.0.0.1:{queue}"),
            amqp_url,
            http: Http::default(),
            folder,
        };
        deployment.queue.start().await?;
        deployment.router.start().await?;
        deployment.bridge.start().await?;
        Ok(deployment)
    }

    /// What the API answers to a GET, from whichever router has the store.
    pub async fn api(&mut self, path: &str) -> anyhow::Result<Value> {
        let url = &self.api_urls[usize::from(!self.router.is_running())];
        let answer = self.http.get(&format!("{url}{path}")).await?;
        anyhow::ensure!(answer.status.is_success(), "{path}: {} {}", answer.status, answer.json());
        Ok(answer.json())
    }

    /// Where the APIs of router and standby are.
    pub fn api_urls(&self) -> &[String; 2] {
        &self.api_urls
    }

    /// Where the (first) router's API is.
    pub fn api_url(&self) -> &str {
        &self.api_urls[0]
    }

    /// Waits until the router has its store and answers.
    pub async fn router_serves(&self) {
        let url = format!("{}/ping", self.api_urls[0]);
        eventually(SOON, async || self.http.get(&url).await.ok()?.status.is_success().then_some(())).await;
    }

    /// Creates a hook and waits until each of its bindings stands.
    pub async fn create_hook(&mut self, name: &str, definition: &Value) {
        let url = format!("{}/hooks/{name}", self.api_urls[0]);
        eventually(SOON, || async {
            let answer = self.http.json("PUT", &url, definition).await.ok()?;
            assert!(answer.status.is_success(), "{}", answer.json());
            Some(())
        })
        .await;
        self.bound(name).await;
    }

    /// Waits until each binding of a hook stands.
    pub async fn bound(&mut self, name: &str) {
        let url = format!("{}/hooks/{name}/bindings", self.api_urls[0]);
        eventually(SOON, || async {
            let health = self.http.get(&url).await.ok()?.json();
            let bindings = health["bindings"].as_array()?;
            (!bindings.is_empty() && bindings.iter().all(|binding| binding["state"] == "bound")).then_some(())
        })
        .await;
    }

    /// Has the queue service fail by this rule (see `src/queue/local/faults.rs`).
    pub async fn provoke(&self, rule: Value) -> anyhow::Result<()> {
        let url = format!("{}/__faults__", self.queue_url);
        let rules = json!({ "rules": [rule], "seed": 1 });
        let answer = self.http.json("POST", &url, &rules).await?;
        anyhow::ensure!(answer.status.is_success(), "{}", answer.json());
        Ok(())
    }

    /// Has the queue service work again.
    pub async fn heal(&self) -> anyhow::Result<()> {
        self.http.call("DELETE", &format!("{}/__faults__", self.queue_url), &[], "").await.map(drop)
    }

    /// All recorded tasks, in the order of their arrival.
    pub async fn tasks(&self) -> anyhow::Result<Vec<Value>> {
        self.tasks_after(0).await
    }

    /// The same without the first ones, so many of them.
    pub async fn tasks_after(&self, count: usize) -> anyhow::Result<Vec<Value>> {
        let url = format!("{}/api/queue/v1/tasks?limit=1000", self.queue_url);
        pages(&self.http, &url, "tasks", format!("&continuationToken={count}")).await
    }

    /// Bytes of the router's store on disk.
    pub fn store_bytes(&self) -> anyhow::Result<u64> {
        ["pulsehook.db", "pulsehook.db-wal"].iter().try_fold(0, |sum, name| {
            Ok(sum + std::fs::metadata(self.folder.path().join(name)).map_or(0, |file| file.len()))
        })
    }

    /// How many tasks there are.
    pub async fn count_tasks(&self) -> anyhow::Result<usize> {
        let answer = self.http.get(&format!("{}/api/queue/v1/tasks?limit=1", self.queue_url)).await?.json();
        Ok(answer["total"].as_u64().context("the local queue does not say how many tasks it has")? as usize)
    }

    /// How many dead letters there are, as the (first) router says.
    pub async fn count_dead_letters(&self) -> anyhow::Result<usize> {
        let url = format!("{}/dead-letters?limit=100", self.api_url());
        Ok(pages(&self.http, &url, "deadLetters", String::new()).await?.len())
    }

    /// All dead letters.
    pub async fn dead_letters(&mut self) -> anyhow::Result<Vec<Value>> {
        let url = &self.api_urls[usize::from(!self.router.is_running())];
        pages(&self.http, &format!("{url}/dead-letters?limit=100"), "deadLetters", String::new()).await
    }

    /// Of all messages that did not fire a hook, what became of them.
    pub async fn decisions(&mut self, hook: &str) -> anyhow::Result<Vec<Value>> {
        let url = &self.api_urls[usize::from(!self.router.is_running())];
        pages(&self.http, &format!("{url}/hooks/{hook}/decisions?limit=1000"), "decisions", String::new())
            .await
    }
}

/// All pages of a list, or those from where `token`, a further parameter, points to.
async fn pages(http: &Http, url: &str, what: &str, mut token: String) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    loop {
        let page = http.get(&format!("{url}{token}")).await?;
        anyhow::ensure!(page.status.is_success(), "{url}: {}", page.status);
        let page = page.json();
        found.extend(page[what].as_array().context("no page")?.iter().cloned());
        match page["continuationToken"].as_str() {
            Some(next) => token = format!("&continuationToken={next}"),
            None => return Ok(found),
        }
    }
}

/// Deadlines are those of an impatient operator, so that a fault's row takes seconds. `api` and `bridge` are ports.
pub fn configuration(folder: &Path, pulse: &str, queue: SocketAddr, api: u16, bridge: u16) -> String {
    format!(
        r#"
[pulse]
url = "{pulse}"
[store]
path = "{store}"
[queue]
root_url = "http://{queue}"
access_token = "{TOKEN}"
timeout_seconds = 2
connect_timeout_seconds = 2
[router]
return_after_seconds = 2
# A long run makes thousands of them, and each is looked at.
decisions_kept = 1000000
[api]
listen = "127.0.0.1:{api}"
[bridge]
listen = "127.0.0.1:{bridge}"
[bridge.spool]
path = "{spool}"
[[bridge.source]]
name = "github"
provider = "github"
secrets = ["{SECRET}"]
[keys]
task_id = "0123456789abcdef0123456789abcdef"
[auth]
anonymous = ["*"]
"#,
        store = folder.join("pulsehook.db").display(),
        spool = folder.join("spool.db").display()
    )
}

/// Holds a fault for a while: the one wait that is no synchronisation but the fault itself.
pub async fn hold(time: Duration) {
    tokio::time::sleep(time).await;
}
