//! A private RabbitMQ node: own port, own folder, own name; stopped, killed, paused and restarted at will.
//!
//! It runs the broker's own start script as the caller's user, with an environment that leaves nothing to the machine's
//! configuration. Starting takes some six seconds, so that tests share a node and stay apart by virtual host or by
//! names; only tests that crash it need one of their own.

mod tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ports::{DISTRIBUTION_OFFSET, free_broker_port};

/// The scripts of the distribution's package `rabbitmq-server`.
const BIN: &str = "/usr/lib/rabbitmq/bin";

/// A start on a busy machine takes several times its usual six seconds.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// A node that does not stop on request in this time is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// Waits for the end of the process or of the node, whichever is first.
const WATCH: &str = r#"
    trap '' INT TERM HUP
    while kill -0 "$1" && kill -0 "$2"; do sleep 1; done
    kill -0 "$1" || { kill -9 "$2"; rm -rf "$3"; }
"#;

/// The user that every node has, with all rights in every virtual host that [`Rabbit::add_vhost`] makes.
pub const USER: &str = "guest";

/// Its password.
pub const PASSWORD: &str = "guest";

/// A running (or stopped) node. Killed, and its folder removed, when it is dropped or when this process is killed.
pub struct Rabbit {
    folder: TempDir,
    node: String,
    port: u16,
    tls_port: Option<u16>,
    child: Option<Child>,
}

impl Rabbit {
    /// Starts a node and waits until it speaks AMQP.
    pub async fn start() -> anyhow::Result<Self> {
        Self::launch(false).await
    }

    /// The same with a TLS listener too, its certificate signed by a CA of its own ([`ca_file`](Self::ca_file)).
    pub async fn start_with_tls() -> anyhow::Result<Self> {
        Self::launch(true).await
    }

    async fn launch(tls: bool) -> anyhow::Result<Self> {
        ensure!(Path::new(BIN).exists(), "{BIN} is missing: install the package rabbitmq-server");
        let folder = tempfile::Builder::new().prefix("rabbit-").tempdir()?;
        for name in ["home", "mnesia", "log", "schema"] {
            std::fs::create_dir(folder.path().join(name))?;
        }
        let port = free_broker_port()?;
        let tls_port = tls.then(free_broker_port).transpose()?;
        let mut conf = String::from("loopback_users = none\nlog.file.level = warning\n");
        if let Some(tls_port) = tls_port {
            conf.push_str(&tls::configure(folder.path(), tls_port)?);
        }
        std::fs::write(folder.path().join("rabbitmq.conf"), conf)?;
        std::fs::write(folder.path().join("enabled_plugins"), "[].\n")?;
        let node = format!("pulse-{}-{port}@localhost", std::process::id());
        let mut rabbit = Self { folder, node, port, tls_port, child: None };
        rabbit.restart().await?;
        Ok(rabbit)
    }

    /// Starts the node again on the same folder and port, after [`stop`](Self::stop) or [`kill9`](Self::kill9).
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "the node is running");
        let output = std::fs::File::create(self.path("log/output"))?;
        let child = self
            .command("rabbitmq-server")
            .stdout(output.try_clone()?)
            .stderr(output)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start rabbitmq-server")?;
        self.watch_over(child.id())?;
        self.child = Some(child);
        let ready = tokio::time::timeout(START_DEADLINE, async {
            while !self.speaks_amqp().await {
                if let Some(child) = self.child.as_mut()
                    && let Some(status) = child.try_wait()?
                {
                    bail!("the node ended at once: {status}");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        });
        match ready.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.context(self.output())),
            Err(_) => bail!("the node did not come up in {START_DEADLINE:?}: {}", self.output()),
        }
    }

    /// Has a small process end the node and remove its folder when this process is killed: nothing is dropped then.
    fn watch_over(&self, node: u32) -> anyhow::Result<()> {
        Command::new("sh")
            .args(["-c", WATCH, "watch", &std::process::id().to_string(), &node.to_string()])
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the node's watch")?;
        Ok(())
    }

    /// Stops the node in order, as an operator would.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.signal("-TERM")?;
        let mut child = self.child.take().context("the node is not running")?;
        let stopped = tokio::time::timeout(STOP_DEADLINE, async {
            while child.try_wait()?.is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        });
        if !matches!(stopped.await, Ok(Ok(()))) {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Waits until the node would know after [`kill9`](Self::kill9) what was declared before. RabbitMQ 3.10 writes down a second late
    /// which quorum queues have a leader here; one of which it has not done so may confirm nothing and be consumed by nobody for ever.
    pub async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }

    /// Kills the node as a crash would.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("the node is not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Has a stopped node forget everything: it starts again as a new one, without queues, exchanges and virtual hosts.
    pub fn forget(&self) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "the node is running");
        std::fs::remove_dir_all(self.path("mnesia"))?;
        Ok(std::fs::create_dir(self.path("mnesia"))?)
    }

    /// Freezes the node: connections stay open and nobody answers.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal("-STOP")
    }

    /// Lets a paused node go on.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let child = self.child.as_ref().context("the node is not running")?;
        let status = Command::new("kill").args([signal, &child.id().to_string()]).status()?;
        ensure!(status.success(), "kill {signal} failed");
        Ok(())
    }

    /// Runs `rabbitmqctl` against the node and returns what it printed. Takes a second or two.
    pub async fn ctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = tokio::process::Command::from(self.command("rabbitmqctl"));
        let output = command.args(["-q", "-n", &self.node]).args(arguments).output().await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "rabbitmqctl {arguments:?}: {text}{error}");
        Ok(text)
    }

    /// Makes a virtual host where the [`USER`] may do everything.
    pub async fn add_vhost(&self, name: &str) -> anyhow::Result<()> {
        // One call to Erlang instead of two of rabbitmqctl's commands, which spend their time on starting.
        let expression = format!(
            "rabbit_vhost:add(<<\"{name}\">>, <<\"tests\">>), \
             rabbit_auth_backend_internal:set_permissions(<<\"{USER}\">>, <<\"{name}\">>, \
             <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"tests\">>)."
        );
        self.ctl(&["eval", &expression]).await.map(drop)
    }

    /// `amqp://` URL of a virtual host (its name percent-encoded).
    pub fn url(&self, vhost: &str) -> String {
        format!("amqp://{USER}:{PASSWORD}@127.0.0.1:{}/{}", self.port, encode(vhost))
    }

    /// `amqps://` URL of a virtual host, for a node started with TLS.
    pub fn tls_url(&self, vhost: &str) -> Option<String> {
        let port = self.tls_port?;
        Some(format!("amqps://{USER}:{PASSWORD}@localhost:{port}/{}", encode(vhost)))
    }

    /// The CA that signed the TLS listener's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Where the node listens for plain AMQP.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.path("log/output")).unwrap_or_default()
    }

    async fn speaks_amqp(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address()).await else { return false };
        let mut first = [0];
        stream.write_all(b"AMQP\x00\x00\x09\x01").await.is_ok()
            && stream.read_exact(&mut first).await.is_ok()
            && first == [1]
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(Path::new(BIN).join(program));
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
        command
            .env_clear()
            .env("PATH", path)
            .env("LANG", "C.UTF-8")
            // The start script then replaces itself by the broker, whose process id is the child's.
            .env("RUNNING_UNDER_SYSTEMD", "1")
            .env("RABBITMQ_NODENAME", &self.node)
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", (self.port + DISTRIBUTION_OFFSET).to_string());
        for (variable, name) in [
            ("HOME", "home"),
            ("RABBITMQ_MNESIA_BASE", "mnesia"),
            ("RABBITMQ_LOG_BASE", "log"),
            ("RABBITMQ_LOGS", "log/rabbit.log"),
            ("RABBITMQ_PID_FILE", "pid"),
            ("RABBITMQ_CONF_ENV_FILE", "none"),
            ("RABBITMQ_CONFIG_FILE", "rabbitmq"),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
            ("RABBITMQ_GENERATED_CONFIG_DIR", "schema"),
            ("RABBITMQ_SCHEMA_DIR", "schema"),
        ] {
            command.env(variable, self.path(name));
        }
        command
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn encode(vhost: &str) -> String {
    vhost
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
