//! The command line against a running server: declarative sync, triggers by hand, what is on record.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::api::client::{TOKEN, call_as, deployment};
use super::local::Dev;
use super::system::{BINARY, SOON, hook};

fn write(folder: &Path, number: usize, change: &str) {
    let mut document = hook(&[]);
    document["hookGroupId"] = json!("many");
    document["hookId"] = json!(format!("hook-{number:04}"));
    document["metadata"]["description"] = json!(change);
    let file = folder.join(format!("group-{}", number % 7)).join(format!("{number}.json"));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, document.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_applied_and_the_second_time_nothing_changes() {
    // A thousand, and how long that takes: tests/benches/apply.rs.
    const HOOKS: usize = 60;
    let dev = Dev::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    for number in 0..HOOKS {
        write(folder.path(), number, "first");
    }
    let (code, text) = dev.run(&["apply", &path, "--dry-run"]);
    assert!(code == 2 && text.contains("60 to be created"), "{code} {text}");
    let (code, text) = dev.run(&["apply", &path]);
    assert!(code == 0 && text.contains("+ many/hook-0000") && text.contains("60 created"), "{code} {text}");

    let (code, text) = dev.run(&["apply", &path]);
    assert!(code == 0, "{text}");
    assert_eq!(text.trim(), "0 created, 0 updated, 0 deleted, 60 unchanged");

    write(folder.path(), 7, "second");
    std::fs::remove_file(folder.path().join("group-1/8.json")).unwrap();
    let (code, text) = dev.run(&["apply", &path, "--prune", "--dry-run"]);
    assert_eq!(code, 2, "{text}");
    for line in [
        "~ many/hook-0007",
        "    metadata.description",
        "    - \"first\"",
        "    + \"second\"",
        "- many/hook-0008",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let (code, text) = dev.run(&["apply", &path, "--prune", "--output", "json"]);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = &lines.last().unwrap()["summary"];
    assert_eq!((code, &summary["updated"], &summary["deleted"]), (0, &json!(1), &json!(1)), "{text}");
    let (code, text) = dev.run(&["hook", "show", "many/hook-0008"]);
    assert!(code == 1 && text.contains("no hook many/hook-0008"), "{text}");
    // Other groups are not touched.
    assert!(dev.run(&["hook", "list"]).1.contains("proj-demo/on-webhook"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_pruned_where_something_else_failed() {
    let dev = Dev::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    write(folder.path(), 1, "under its first name");
    assert_eq!(dev.run(&["apply", &path]).0, 0);
    // Renamed, and nobody may be bound so.
    std::fs::remove_file(folder.path().join("group-1/1.json")).unwrap();
    let mut document = hook(&[("exchange/pulsehook/v1/trigger", "#")]);
    document["hookGroupId"] = json!("many");
    document["hookId"] = json!("renamed");
    let renamed = folder.path().join("renamed.json");
    std::fs::write(&renamed, document.to_string()).unwrap();
    let (code, text) = dev.run(&["apply", &path, "--prune"]);
    assert!(code == 1 && text.contains("many/hook-0001: not deleted"), "{code} {text}");
    assert!(dev.run(&["hook", "list"]).1.contains("many/hook-0001"));
    document["bindings"] = json!([]);
    std::fs::write(&renamed, document.to_string()).unwrap();
    assert_eq!(dev.run(&["apply", &path, "--prune"]).0, 0);
    let listed = dev.run(&["hook", "list"]).1;
    assert!(listed.contains("many/renamed") && !listed.contains("many/hook-0001"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_page_is_no_success() {
    let routes = axum::Router::new().fallback(async || axum::response::Html("<title>Sign in</title>"));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = tokio_util::sync::CancellationToken::new();
    tokio::spawn(pulsehook::server::serve(listener, routes, stop.clone()));
    let _stop = stop.drop_guard();
    let output = tokio::task::spawn_blocking(move || {
        std::process::Command::new(BINARY)
            .args(["hook", "delete", "a/b", "--root-url", &url])
            .env_remove("TASKCLUSTER_CLIENT_ID")
            .output()
            .unwrap()
    });
    let output = output.await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("is that a pulsehook router?"), "{told}");
}

/// The path of a file with the value in it.
fn json_file(folder: &std::path::Path, name: &str, value: &Value) -> String {
    let path = folder.join(name);
    std::fs::write(&path, value.to_string()).unwrap();
    path.display().to_string()
}

#[test]
fn a_task_that_would_be_refused_is_not_as_expected() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, value: &Value| json_file(folder.path(), name, value);
    let mut document = hook(&[("exchange/e", "#")]);
    document["hookGroupId"] = json!("a");
    document["hookId"] = json!("b");
    document["task"]["deadline"] = json!("{{ 9 days | from-now }}");
    let event = json!({ "exchange": "exchange/e", "routingKey": "k", "payload": {} });
    let (document, event) = (file("hook.json", &document), file("event.json", &event));
    let run = |more: &[&str]| {
        let mut command = std::process::Command::new(BINARY);
        command.args(["hook", "render", &document, "--message", &event, "--output", "json"]);
        command.args(["--now", "2026-11-22T10:05:00Z"]).args(more).output().unwrap()
    };
    let rendered: Value = serde_json::from_slice(&run(&[]).stdout).unwrap();
    assert_eq!(rendered["outcome"], "invalid-task");
    let expected = file("task.json", &rendered["task"]);
    assert_eq!(run(&["--expect", &expected]).status.code(), Some(1));
}

#[test]
fn null_is_what_to_expect_of_an_event_that_is_not_to_fire() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, value: &Value| json_file(folder.path(), name, value);
    let mut document = hook(&[("exchange/e", "#")]);
    document["hookGroupId"] = json!("a");
    document["hookId"] = json!("b");
    document["filter"] = json!("payload.fire");
    let event = |payload: Value| json!({ "exchange": "exchange/e", "routingKey": "k", "payload": payload });
    let (document, null) = (file("hook.json", &document), file("null.json", &json!(null)));
    let expected = |payload: Value| {
        let event = file("event.json", &event(payload));
        let mut command = std::process::Command::new(BINARY);
        command.args(["hook", "render", &document, "--message", &event, "--expect", &null]);
        command.output().unwrap()
    };
    let filtered = expected(json!({ "fire": false }));
    assert_eq!(filtered.status.code(), Some(0), "{}", String::from_utf8_lossy(&filtered.stdout));
    let fires = expected(json!({ "fire": true }));
    assert_eq!(fires.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&fires.stdout).starts_with("task\n- null\n+ {"), "{fires:?}");
    // A filter that fails says neither.
    assert_eq!(expected(json!({})).status.code(), Some(1));
    std::fs::write(&null, "").unwrap();
    let empty = expected(json!({ "fire": false }));
    assert!(String::from_utf8_lossy(&empty.stderr).contains("null.json is empty"), "{empty:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_with_faults_change_nothing_and_each_fault_has_its_place() {
    let dev = Dev::start().await;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 1, "good");
    let bad = "hookGroupId: many\nhookId: bad\nmetadata: {name: bad, description: of the test, owner: o@example.com}\nfilter: payload.ref ==\ntask:\n  payload: '{{ x'\n";
    std::fs::write(folder.path().join("bad.yml"), bad).unwrap();
    let (code, text) = dev.run(&["apply", &folder.path().display().to_string()]);
    assert!(code == 1 && text.contains("nothing was changed"), "{text}");
    assert!(text.contains("bad.yml:4: filter") && text.contains("bad.yml:6: task.payload"), "{text}");
    assert!(!dev.run(&["hook", "list"]).1.contains("many/"), "{text}");
    std::fs::write(folder.path().join("bad.yml"), "metadata: [").unwrap();
    let (code, text) = dev.run(&["apply", &folder.path().display().to_string()]);
    assert!(code == 1 && text.contains("bad.yml: line"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_is_triggered_by_hand_and_its_record_read() {
    let dev = Dev::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hook.json");
    let mut document = hook(&[]);
    document["filter"] = json!("payload.go");
    std::fs::write(&file, document.to_string()).unwrap();
    let (code, text) = dev.run(&["hook", "create", &file.display().to_string(), "--name", "ci/by/hand"]);
    assert!(code == 0 && text.contains("created ci/by/hand"), "{text}");

    let (code, id) = dev.run(&["hook", "trigger", "ci/by/hand", "--payload", "{go: true}"]);
    assert!(code == 0 && id.trim().len() == 22, "{id}");
    let (_, text) = dev.run(&["hook", "trigger", "ci/by/hand", "--payload", "{\"go\": false}"]);
    assert!(text.contains("declined"), "{text}");
    let (code, text) = dev.run(&["hook", "trigger", "ci/by/hand", "--payload", "[1]"]);
    assert!(code == 1 && text.contains("must be of type object"), "{text}");

    let (_, fires) = dev.run(&["hook", "fires", "ci/by/hand"]);
    assert!(
        fires.lines().count() == 1 && fires.contains(id.trim()) && fires.contains("triggerHook"),
        "{fires}"
    );
    let (_, decisions) = dev.run(&["hook", "decisions", "ci/by/hand"]);
    assert!(decisions.contains("filtered") && decisions.contains("payload.go"), "{decisions}");
    let (_, audit) = dev.run(&["hook", "audit", "ci/by/hand"]);
    assert!(audit.contains("somebody\tcreate-hook") && audit.contains("trigger-hook"), "{audit}");
    let (_, yaml) = dev.run(&["hook", "fires", "ci/by/hand", "--output", "yaml"]);
    assert!(yaml.starts_with("---") && yaml.contains(&format!("taskId: {}", id.trim())), "{yaml}");

    let token = dev.run(&["hook", "token", "ci/by/hand"]).1;
    assert_eq!(token, dev.run(&["hook", "token", "ci/by/hand"]).1);
    assert_ne!(token, dev.run(&["hook", "reset-token", "ci/by/hand"]).1);
    let (code, script) = dev.run(&["completions", "bash"]);
    assert!(code == 0 && script.contains("reset-token"));
}

/// A file that only the router can refuse: an exchange that may not be bound.
const DENIED: &str = "hookGroupId: many
hookId: denied
metadata: {name: denied, description: of the test, owner: o@example.com}
bindings:
  - exchange: exchange/pulsehook/v1/webhook
    routingKeyPattern: '#'
  - exchange: exchange/pulsehook/v1/fire
    routingKeyPattern: '#'
task: {payload: {}}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_has_its_place_whoever_finds_it() {
    let dev = Dev::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("denied.yml");
    std::fs::write(&file, DENIED).unwrap();
    write(folder.path(), 1, "good");
    let place = file.display().to_string();
    let (code, text) = dev.run(&["hook", "create", &place]);
    let fault = format!("{place}:7: bindings[1].exchange: may not be bound");
    assert!(code == 1 && text.contains(&fault), "{text}");
    let (code, text) = dev.run(&["apply", &folder.path().display().to_string()]);
    assert!(code == 1 && text.contains(&fault), "{text}");
    assert!(text.contains("1 created, 0 updated, 0 deleted, 0 unchanged, 1 failed"), "{text}");

    // Found before anybody is asked: the address leads nowhere.
    std::fs::write(&file, DENIED.replace("payload: {}", "payload: '{{ x'")).unwrap();
    let (code, text) = dev.run(&["hook", "update", &place, "--root-url", "http://127.0.0.1:1"]);
    assert!(code == 1 && text.contains(&format!("{place}:9: task.payload")), "{text}");
    let (code, text) = dev.run(&["hook", "render", &place, "--message", &place]);
    assert!(code == 1 && text.contains(&format!("{place}:9: task.payload")), "{text}");
    let (_, json) = dev.run(&["hook", "validate", &place, "--output", "json"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["valid"], &report["faults"][0]["line"]), (&json!(false), &json!(9)), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_for_programs_too() {
    let dev = Dev::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (hook_file, event) = (folder.path().join("hook.json"), folder.path().join("event.json"));
    let mut document = hook(&[("exchange/x/v1/y", "a.*")]);
    document["hookGroupId"] = json!("ci");
    document["hookId"] = json!("scheduled");
    document["schedule"] = json!(["0 4 * * *"]);
    std::fs::write(&hook_file, document.to_string()).unwrap();
    let message = json!({ "exchange": "exchange/x/v1/y", "routingKey": "a.b", "payload": { "n": 1 } });
    std::fs::write(&event, message.to_string()).unwrap();
    let (hook_file, event) = (hook_file.display().to_string(), event.display().to_string());
    let value = |arguments: &[&str]| -> Value {
        let (_, text) = dev.run(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(text.lines().next().filter(|_| !text.starts_with("{\n")).unwrap_or(&text))
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    };
    assert_eq!(value(&["hook", "create", &hook_file])["hookId"], "scheduled");
    assert_eq!(value(&["hook", "show", "ci/scheduled"])["schedule"], json!(["0 4 * * *"]));
    assert_eq!(value(&["hook", "list", "ci"])["hooks"][0]["hookGroupId"], "ci");
    for of in [hook_file.as_str(), "ci/scheduled"] {
        assert_eq!(value(&["hook", "schedule", of, "--count", "3"])["next"].as_array().unwrap().len(), 3);
    }
    let rendered = value(&["hook", "render", &hook_file, "--message", &event]);
    assert_eq!(
        (&rendered["outcome"], &rendered["task"]["payload"]["seen"]["n"]),
        (&json!("fire"), &json!(1))
    );
    assert!(value(&["hook", "functions"])["usage"].is_string());
    assert!(value(&["hook", "token", "ci/scheduled"])["token"].is_string());
    assert_eq!(value(&["hook", "audit", "ci/scheduled"])["audit"][0]["action"], "create-hook");
    assert_eq!(value(&["hook", "decisions", "ci/scheduled"])["decisions"], json!([]));
    assert_eq!(value(&["hook", "delete", "ci/scheduled"]), json!({}));
    for shell in ["bash", "zsh", "fish"] {
        let (code, script) = dev.run(&["completions", shell]);
        assert!(code == 0 && script.contains("reset-token"), "{shell}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fires_are_followed_as_they_come() {
    let dev = Dev::start().await;
    let url = format!("{}/api/hooks/v1/hooks/ci/followed", dev.url);
    assert_eq!(dev.http.json("PUT", &url, &hook(&[])).await.unwrap().status, 200);
    let mut follow = dev
        .command(&["hook", "fires", "ci/followed", "--follow", "--output", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let output = BufReader::new(follow.stdout.take().unwrap());
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    for _ in 0..2 {
        let fired = dev.http.json("POST", &format!("{url}/trigger"), &json!({})).await.unwrap().json();
        let done = async {
            while let Some(line) = lines.recv().await {
                let fire: Value = serde_json::from_str(&line).unwrap();
                if fire["taskId"] == fired["taskId"] && fire["taskState"] == "unscheduled" {
                    return;
                }
            }
            panic!("it ended");
        };
        tokio::time::timeout(SOON, done).await.expect("the fire is shown");
    }
    follow.kill().unwrap();
    follow.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_signed_with_what_the_environment_has() {
    let system = deployment("cli-auth").await;
    let root_url = system.api_url.strip_suffix("/api/hooks/v1").unwrap().to_owned();
    let run = async |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = std::process::Command::new(BINARY);
        command.args(arguments).args(["--root-url", &root_url]).envs(variables.iter().copied());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!text.contains(TOKEN), "{text}");
        (output.status.success(), text)
    };
    let saved = call_as(&system, "admin", "PUT", "/hooks/ci/x", &[], Some(&hook(&[]))).await;
    assert_eq!(saved.status, 200);
    let show = ["hook", "show", "ci/x", "--output", "json"];
    let admin = [("TASKCLUSTER_CLIENT_ID", "admin"), ("TASKCLUSTER_ACCESS_TOKEN", TOKEN)];
    let (ok, text) = run(&admin, &show).await;
    assert!(ok, "{text}");
    let (ok, text) = run(&[], &show).await;
    assert!(!ok && text.contains("set TASKCLUSTER_CLIENT_ID"), "{text}");
    let (ok, text) = run(&admin[..1], &show).await;
    assert!(!ok && text.contains("TASKCLUSTER_ACCESS_TOKEN is not"), "{text}");
    let (ok, text) = run(&[admin[0], ("TASKCLUSTER_ACCESS_TOKEN", "another")], &show).await;
    assert!(!ok && text.contains("signature does not match"), "{text}");

    // Temporary credentials: good for what they are for, and until they expire.
    let mac = |data: &str| {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(TOKEN.as_bytes()).unwrap();
        mac.update(data.as_bytes());
        mac.finalize().into_bytes()
    };
    let seed = "fN1SbArXTPSVFNUvaOlinQfN1SbArXTPSVFNUvaOlinQ";
    let (token, now) = (URL_SAFE_NO_PAD.encode(mac(seed)), chrono::Utc::now().timestamp_millis());
    let certificate = |expiry: i64| {
        let (start, scope) = (expiry - 7_200_000, "hooks:get:ci:*");
        let text = format!("version:1\nseed:{seed}\nstart:{start}\nexpiry:{expiry}\nscopes:\n{scope}");
        let signature = STANDARD.encode(mac(&text));
        json!({ "version": 1, "scopes": [scope], "start": start, "expiry": expiry, "seed": seed, "signature": signature })
            .to_string()
    };
    let with = async |expiry: i64, arguments: &[&str]| {
        let certificate = certificate(expiry);
        let variables =
            [admin[0], ("TASKCLUSTER_ACCESS_TOKEN", &token), ("TASKCLUSTER_CERTIFICATE", &certificate)];
        run(&variables, arguments).await
    };
    let (ok, text) = with(now + 3_600_000, &show).await;
    assert!(ok, "{text}");
    let (ok, text) = with(now + 3_600_000, &["hook", "delete", "ci/x"]).await;
    assert!(!ok && text.contains("hooks:modify-hook:ci/x"), "{text}");
    let (ok, text) = with(now - 3_600_000, &show).await;
    assert!(!ok && text.contains("expired"), "{text}");
}
