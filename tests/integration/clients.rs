//! Taskcluster's own clients, unmodified, against a running router: they must not notice that it is not Taskcluster Hooks.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::api::client::{TOKEN, deployment};
use super::local::Dev;
use super::packages;
use super::system::{SECRET, System};

/// The Python client, and a tool that keeps hooks as code with it.
const PYTHON: [&str; 2] = ["taskcluster==113.2.0", "tc-admin==6.0.0"];

/// The oldest Node.js that npm's client runs on.
const NODE: u32 = 20;

fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools").join(name)
}

/// Where Taskcluster's clients are told that the deployment is.
fn root_url(system: &System) -> &str {
    system.api_url.strip_suffix("/api/hooks/v1").unwrap()
}

fn queue_root_url(system: &System) -> &str {
    system.queue_url.strip_suffix("/api/queue/v1").unwrap()
}

/// Runs a program without blocking those who serve it.
async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_finds_every_method_as_it_knows_it() {
    let python = packages::python("taskcluster", &PYTHON);
    let system = deployment("client-python").await;
    let mut command = Command::new(python);
    command
        .arg(tool("taskcluster_client.py"))
        .env("TASKCLUSTER_ROOT_URL", root_url(&system))
        .env("ADMIN_TOKEN", TOKEN)
        .env("READER_TOKEN", TOKEN)
        .env("WEBHOOK_URL", format!("{}/webhooks/github", system.bridge_url))
        .env("WEBHOOK_SECRET", SECRET)
        .env("QUEUE_URL", queue_root_url(&system));
    let output = run(command).await;
    assert!(output.status.success(), "{}", shown(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_client_finds_every_method_as_it_knows_it() {
    let version = Command::new("node").arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let major = version.trim_start_matches('v').split('.').next().and_then(|text| text.parse::<u32>().ok());
    if major.is_none_or(|major| major < NODE) {
        eprintln!("skipped: taskcluster-client needs Node.js {NODE} or newer, this is {version}");
        return;
    }
    let folder = packages::node("taskcluster-client", "client.js");
    let system = deployment("client-javascript").await;
    let mut command = Command::new("node");
    command
        .arg("client.js")
        .current_dir(folder)
        .env("TASKCLUSTER_ROOT_URL", root_url(&system))
        .env("ADMIN_TOKEN", TOKEN);
    let output = run(command).await;
    assert!(output.status.success(), "{}", shown(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_keeps_hooks_as_code_applies_them_and_finds_no_difference_then() {
    let python = packages::python("taskcluster", &PYTHON);
    let dev = Dev::start().await;
    let tc_admin = async |action: &str, hooks: &str| {
        let mut command = Command::new(&python);
        command
            .arg(tool("tc_admin.py"))
            .arg(action)
            // As within a task, where Taskcluster's proxy has the credentials; a root URL may have no port there.
            .env("TASKCLUSTER_PROXY_URL", &dev.url)
            .env("TASKCLUSTER_ROOT_URL", "http://localhost")
            .env("HOOKS", hooks);
        let output = run(command).await;
        (output.status.code(), shown(&output))
    };
    for (hooks, change) in [("nightly on/push", "created"), ("nightly", "one fewer"), ("", "none left")] {
        let (code, text) = tc_admin("diff", hooks).await;
        assert_eq!(code, Some(2), "{change}: {text}");
        let (code, text) = tc_admin("apply", hooks).await;
        assert_eq!(code, Some(0), "{change}: {text}");
        let (code, text) = tc_admin("diff", hooks).await;
        assert_eq!(code, Some(0), "{change}: {text}");
    }
}
