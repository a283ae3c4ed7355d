//! A deployment for a test: bridge, router and local queue as three processes on one RabbitMQ.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use harness::{Http, Process, Rabbit, eventually, free_port};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::{Mutex, OnceCell};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_pulsehook");

/// Secret of the webhook source `github`.
pub const SECRET: &str = "a secret between the test and the bridge";

/// Everybody may everything: for tests that are not about who may what.
const OPEN: &str = "[auth]\nanonymous = [\"*\"]";

/// Time for things that should take a moment, on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

static SHARED: OnceCell<Arc<Rabbit>> = OnceCell::const_new();

/// The broker that tests share, each with a virtual host of its own; tests that stop the broker start their own.
pub async fn shared_rabbit() -> Arc<Rabbit> {
    SHARED.get_or_init(|| async { Arc::new(Rabbit::start().await.unwrap()) }).await.clone()
}

/// The three processes, with their data in a folder that goes when the test ends.
pub struct System {
    pub bridge: Mutex<Process>,
    pub router: Mutex<Process>,
    pub queue: Mutex<Process>,
    pub bridge_url: String,
    pub api_url: String,
    pub queue_url: String,
    pub http: Http,
    /// Holds configuration and databases; removed with the system.
    folder: tempfile::TempDir,
}

impl System {
    /// Starts all three against the broker at `amqp_url`.
    pub async fn start(amqp_url: &str) -> Self {
        Self::start_with(amqp_url, &[]).await
    }

    /// The same with more environment variables for bridge and router.
    pub async fn start_with(amqp_url: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_configured(amqp_url, OPEN, variables).await
    }

    /// The same with more configuration, which says at least who may do what.
    pub async fn start_configured(amqp_url: &str, more: &str, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("pulsehook.toml");
        let (queue_port, api_port, bridge_port) = (port(), port(), port());
        std::fs::write(
            &config,
            format!(
                r#"
[pulse]
url = "{amqp_url}"
[store]
path = "{store}"
[queue]
root_url = "http://127.0.0.1:{queue_port}"
access_token = "a token of at least some length"
[api]
listen = "127.0.0.1:{api_port}"
[bridge]
listen = "127.0.0.1:{bridge_port}"
[bridge.spool]
path = "{spool}"
[[bridge.source]]
name = "github"
provider = "github"
secrets = ["{SECRET}"]
[keys]
task_id = "0123456789abcdef0123456789abcdef"
{more}
"#,
                store = folder.path().join("pulsehook.db").display(),
                spool = folder.path().join("spool.db").display()
            ),
        )
        .unwrap();
        let role = |name: &str| {
            // Without the signal XFSZ, so that a full disk can be played.
            let mut process = Process::new(name, "sh")
                .arg("-c")
                .arg("trap '' XFSZ; exec \"$0\" \"$@\"")
                .arg(BINARY)
                .arg(name)
                .arg("--config")
                .arg(config.display().to_string());
            for (name, value) in variables {
                process = process.env(name, *value);
            }
            process
        };
        let system = Self {
            bridge: Mutex::new(role("bridge")),
            router: Mutex::new(role("router")),
            queue: Mutex::new(local_queue(folder.path(), queue_port)),
            bridge_url: format!("http://127.0.0.1:{bridge_port}"),
            api_url: format!("http://127.0.0.1:{api_port}/api/hooks/v1"),
            queue_url: format!("http://127.0.0.1:{queue_port}/api/queue/v1"),
            http: Http::default(),
            folder,
        };
        system.queue.lock().await.start().await.unwrap();
        system.router.lock().await.start().await.unwrap();
        system.bridge.lock().await.start().await.unwrap();
        system
    }

    /// A path of the router's outside its API.
    pub fn router_url(&self, path: &str) -> String {
        self.api_url.replace("/api/hooks/v1", path)
    }

    /// Where the router's metrics are.
    pub fn metrics_url(&self) -> String {
        self.router_url("/metrics")
    }

    /// Where configuration (`pulsehook.toml`) and databases (`pulsehook.db`) are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Creates a hook and waits until each of its bindings stands.
    pub async fn create_hook(&self, name: &str, definition: &Value) {
        let url = format!("{}/hooks/{name}", self.api_url);
        eventually(SOON, || async {
            let answer = self.http.json("PUT", &url, definition).await.ok()?;
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
            Some(())
        })
        .await;
        eventually(SOON, || async {
            let health = self.http.get(&format!("{url}/bindings")).await.ok()?.json();
            let bindings = health["bindings"].as_array()?;
            (!bindings.is_empty() && bindings.iter().all(|binding| binding["state"] == "bound")).then_some(())
        })
        .await;
    }

    /// Sends a signed GitHub event once.
    pub async fn send(
        &self,
        event: &str,
        delivery: &str,
        body: &[u8],
    ) -> anyhow::Result<harness::http::Answer> {
        let signature = format!("sha256={}", sign(body));
        self.http
            .call(
                "POST",
                &format!("{}/webhooks/github", self.bridge_url),
                &[
                    ("content-type", "application/json"),
                    ("x-github-event", event),
                    ("x-github-delivery", delivery),
                    ("x-hub-signature-256", &signature),
                ],
                body.to_vec(),
            )
            .await
    }

    /// Sends a signed GitHub event until it is answered 2xx, as a sender that cares does.
    pub async fn send_until_taken(&self, event: &str, delivery: &str, body: &[u8]) {
        eventually(SOON * 2, || async {
            let answer = self.send(event, delivery, body).await.ok()?;
            if answer.status.is_success() {
                return Some(());
            }
            assert_eq!(answer.status, 503, "{}", String::from_utf8_lossy(&answer.body));
            // As Retry-After would have it, only sooner.
            tokio::time::sleep(Duration::from_millis(200)).await;
            None
        })
        .await;
    }

    /// All recorded tasks.
    pub async fn tasks(&self) -> Vec<Value> {
        let mut tasks = Vec::new();
        let mut token = String::new();
        loop {
            let page =
                self.http.get(&format!("{}/tasks?limit=1000{token}", self.queue_url)).await.unwrap().json();
            tasks.extend(page["tasks"].as_array().cloned().unwrap_or_default());
            match page["continuationToken"].as_str() {
                Some(next) => token = format!("&continuationToken={next}"),
                None => return tasks,
            }
        }
    }

    /// Waits until there are so many tasks, and fails when there are more.
    pub async fn wait_for_tasks(&self, count: usize, deadline: Duration) -> Vec<Value> {
        let url = format!("{}/tasks?limit=1", self.queue_url);
        eventually(deadline, || async {
            let total = self.http.get(&url).await.ok()?.json()["total"].as_u64()? as usize;
            assert!(total <= count, "{total} tasks where {count} are wanted");
            (total == count).then_some(())
        })
        .await;
        self.tasks().await
    }
}

fn port() -> u16 {
    free_port().unwrap()
}

fn local_queue(folder: &Path, port: u16) -> Process {
    let data: PathBuf = folder.join("queue.db");
    Process::new("local-queue", BINARY)
        .arg("local-queue")
        .arg("--faults")
        .arg("--listen")
        .arg(format!("127.0.0.1:{port}"))
        .arg("--data")
        .arg(data.display().to_string())
        .env("TASKCLUSTER_ACCESS_TOKEN", "a token of at least some length")
}

/// The signature of a GitHub event.
pub fn sign(body: &[u8]) -> String {
    sign_with(SECRET, body)
}

/// The same with another secret.
pub fn sign_with(secret: &str, body: &[u8]) -> String {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

/// A hook definition with these bindings and a task that shows what it was made from.
pub fn hook(bindings: &[(&str, &str)]) -> Value {
    let bindings: Vec<Value> = bindings
        .iter()
        .map(|(exchange, pattern)| json!({ "exchange": exchange, "routingKeyPattern": pattern }))
        .collect();
    json!({
        "metadata": { "name": "test", "description": "of the tests", "owner": "owner@example.com", "emailOnError": false },
        "bindings": bindings,
        "triggerSchema": { "type": "object" },
        "task": {
            "taskQueueId": "proj-test/ci",
            "payload": { "key": "{{ routingKey }}", "message": "{{ messageId | default(none) }}", "seen": "{{ payload }}" },
            "deadline": "{{2 hours | from-now}}",
            "metadata": {
                "name": "a task for {{ routingKey }}", "description": "d", "owner": "owner@example.com",
                "source": "https://example.com/"
            }
        }
    })
}
