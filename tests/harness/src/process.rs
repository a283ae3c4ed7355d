//! A program under test as a process of its own, which can be killed, paused and started again.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// How long a process may take until it says that it listens.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// How long an orderly stop may take.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// Lines of output that are kept for the message of a failed test.
const KEPT_LINES: usize = 2_000;

/// A program, how it is started, and its running process if there is one. Killed on drop.
pub struct Process {
    name: String,
    binary: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    output: Arc<Mutex<VecDeque<String>>>,
}

impl Process {
    /// A program that is not started yet.
    pub fn new(name: &str, binary: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            binary: binary.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            child: None,
            output: Default::default(),
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Sets an environment variable for the starts to come; `None` takes it away again.
    pub fn set_env(&mut self, name: &str, value: Option<&str>) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    /// Starts it, and waits for the line `listening on http://ADDRESS` on its standard output.
    pub async fn start(&mut self) -> anyhow::Result<SocketAddr> {
        self.spawn()?;
        let started = Instant::now();
        loop {
            let found = self.lines().iter().rev().find_map(|line| address(line));
            if let Some(address) = found {
                return Ok(address);
            }
            let child = self.child.as_mut().context("it was not started")?;
            if let Some(status) = child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.name, self.lines().join("\n"));
            }
            ensure!(
                started.elapsed() < START_DEADLINE,
                "{} does not listen:\n{}",
                self.name,
                self.lines().join("\n")
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts it without waiting for anything.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        ensure!(self.child.is_none(), "{} is running", self.name);
        if let Ok(mut output) = self.output.lock() {
            output.clear();
        }
        let mut child = Command::new(&self.binary)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        if let Some(stdout) = child.stdout.take() {
            keep(self.output.clone(), stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            keep(self.output.clone(), stderr);
        }
        self.child = Some(child);
        Ok(())
    }

    /// What it has printed since it was last started, on both outputs.
    pub fn lines(&self) -> Vec<String> {
        self.output.lock().map(|output| output.iter().cloned().collect()).unwrap_or_default()
    }

    /// True while the process runs.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Process id of the running process.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills it as a crash would.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("it is not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Stops it as a service manager would, and fails if it does not end, or not well.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.signal("-TERM")?;
        let mut child = self.child.take().context("it is not running")?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if started.elapsed() > STOP_DEADLINE {
                child.kill()?;
                child.wait()?;
                bail!("{} did not stop within {STOP_DEADLINE:?}:\n{}", self.name, self.lines().join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        ensure!(status.success(), "{} ended with {status}:\n{}", self.name, self.lines().join("\n"));
        Ok(())
    }

    /// Waits until it ends by itself, in whatever way.
    pub async fn ended(&mut self, deadline: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        while self.is_running() {
            ensure!(started.elapsed() < deadline, "{} still runs:\n{}", self.name, self.lines().join("\n"));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(())
    }

    /// From now on every write beyond this offset of a file fails, as on a disk that is full; `None` ends that. The program must
    /// have been started with the signal XFSZ ignored, which would end it otherwise.
    pub fn limit_file_size(&self, bytes: Option<u64>) -> anyhow::Result<()> {
        let id = self.id().context("it is not running")?;
        let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        // The soft limit alone, so that it can be raised again by anybody.
        let limits = [format!("--fsize={limit}:"), format!("--pid={id}")];
        let status = Command::new("prlimit").args(limits).status().context("cannot run prlimit")?;
        ensure!(status.success(), "prlimit {} failed", self.name);
        Ok(())
    }

    /// Resident memory of the running process, in bytes.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let id = self.id().context("it is not running")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let kilobytes = status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        Ok(kilobytes.context("no VmRSS in /proc")? * 1024)
    }

    /// Freezes it: its connections stay open and nobody answers.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal("-STOP")
    }

    /// Lets a paused process go on.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let id = self.id().context("it is not running")?;
        let status = Command::new("kill").args([signal, &id.to_string()]).status()?;
        ensure!(status.success(), "kill {signal} {} failed", self.name);
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Already gone is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let lines = self.lines();
            let shown = lines.len().saturating_sub(60);
            eprintln!("--- last output of {}:\n{}", self.name, lines[shown..].join("\n"));
        }
    }
}

fn address(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening on http://")?.trim().parse().ok()
}

fn keep(output: Arc<Mutex<VecDeque<String>>>, stream: impl std::io::Read + Send + 'static) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Ok(mut output) = output.lock() {
                if output.len() >= KEPT_LINES {
                    output.pop_front();
                }
                output.push_back(line);
            }
        }
    });
}
