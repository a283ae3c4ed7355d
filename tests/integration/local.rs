//! `pulsehook dev` for a test: everything in one process, on a free port, in a folder that goes when the test ends.

use std::path::Path;
use std::process::Output;

use harness::{Http, Process};

use super::system::BINARY;

/// A running `pulsehook dev`, and the command line that talks to it.
pub struct Dev {
    pub url: String,
    pub http: Http,
    _process: Process,
    folder: tempfile::TempDir,
}

/// Starts `pulsehook dev` on this folder. Answers the process and its URL.
pub async fn start_in(folder: &Path) -> (Process, String) {
    let mut process = Process::new("dev", BINARY)
        .arg("dev")
        .arg("--listen")
        .arg("127.0.0.1:0")
        .arg("--data")
        .arg(folder.display().to_string());
    let address = process.start().await.unwrap();
    (process, format!("http://{address}"))
}

impl Dev {
    /// Starts one on a folder of its own.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (process, url) = start_in(folder.path()).await;
        Self { url, http: Http::default(), _process: process, folder }
    }

    /// The secret of its webhook source.
    pub fn secret(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("demo.secret")).unwrap().trim().to_owned()
    }

    /// A command of `pulsehook` with these arguments against this server, as a client named `somebody`.
    pub fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(BINARY);
        command
            .args(arguments)
            .env("TASKCLUSTER_ROOT_URL", &self.url)
            .env("TASKCLUSTER_CLIENT_ID", "somebody")
            .env("TASKCLUSTER_ACCESS_TOKEN", "open to all");
        command
    }

    /// Runs it; answers its exit code and what it printed, errors last.
    pub fn run(&self, arguments: &[&str]) -> (i32, String) {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        (status.code().unwrap(), String::from_utf8([stdout, stderr].concat()).unwrap())
    }
}
