//! The API is what its OpenAPI document says: schemathesis, unmodified, makes calls from the document and holds the answers to it.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::packages;
use super::system::{System, hook, shared_rabbit};

/// For so many seconds it makes calls, in two rounds, unless the variable says otherwise.
const SECONDS: u64 = 120;

const SECONDS_VARIABLE: &str = "PULSEHOOK_SCHEMATHESIS_SECONDS";

/// How it makes them.
const CONFIGURATION: &str = include_str!("../schemathesis/schemathesis.toml");

/// Calls that would take away what the second round is about.
const DESTRUCTIVE: [&str; 4] = ["removeHook", "updateHook", "patchHook", "resetTriggerToken"];

/// A hook with a token and a fire that failed. Answers values for the parameters of routes, as schemathesis' configuration has them.
async fn prepared(system: &System) -> String {
    let mut definition = hook(&[]);
    definition["task"]["payload"] = json!({ "value": "{{ payload.good.deep }}" });
    system.create_hook("ci/real", &definition).await;
    let url = format!("{}/hooks/ci/real", system.api_url);
    let token = system.http.get(&format!("{url}/token")).await.unwrap().json()["token"].clone();
    let failed = system.http.json("POST", &format!("{url}/trigger"), &json!({})).await.unwrap();
    assert_eq!(failed.status, 400, "{}", failed.json());
    let dead = system.http.get(&format!("{url}/dead-letters")).await.unwrap().json();
    let task_id = &dead["deadLetters"][0]["taskId"];
    format!(
        "\n[parameters]\n\"path.hookGroupId\" = \"ci\"\n\"path.hookId\" = \"real\"\n\"path.token\" = {token}\n\"path.taskId\" = {task_id}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: tests/schemathesis/run"]
async fn schemathesis_finds_no_failure() {
    let python = packages::python("schemathesis", &["schemathesis==4.32.5"]);
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("described").await.unwrap();
    let system = System::start(&rabbit.url("described")).await;
    let seconds = std::env::var(SECONDS_VARIABLE).ok().and_then(|seconds| seconds.parse().ok());
    let round = (seconds.unwrap_or(SECONDS) / 2).max(1).to_string();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemathesis");
    let program = python.with_file_name("schemathesis");
    // First with names of its own making, then with those of a hook that is there.
    for file in ["made.toml", "real.toml"] {
        let more = if file == "real.toml" { prepared(&system).await } else { String::new() };
        std::fs::write(folder.join(file), format!("{CONFIGURATION}{more}")).unwrap();
        let mut command = Command::new(&program);
        command.args(["--config-file", file, "--no-color", "run", "--max-time", &round]);
        for operation in DESTRUCTIVE.iter().filter(|_| !more.is_empty()) {
            command.args(["--exclude-operation-id", operation]);
        }
        // It leaves files where it runs.
        command.arg(format!("{}/openapi.json", system.api_url)).current_dir(&folder);
        let status = tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap();
        assert!(status.success(), "schemathesis: {status} (its report is above)");
    }
    let log = system.router.lock().await.lines().join("\n");
    for word in ["panicked", "does not satisfy its schema"] {
        assert!(!log.contains(word), "{log}");
    }
}
