//! `pulsehook import`: from one deployment into another, over the API that both speak; and what it says about what it finds.

use std::process::{Command, Output};

use axum::Router;
use axum::routing::get;
use harness::eventually;
use serde_json::{Value, json};

use super::system::{BINARY, SOON, System, hook, shared_rabbit};

fn import(arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("import").args(arguments).env("PULSEHOOK_LOG", "error");
    for name in ["TASKCLUSTER_CLIENT_ID", "PULSEHOOK_CLIENT_ID"] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn root(system: &System) -> String {
    system.router_url("").trim_end_matches('/').to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hook_of_one_deployment_stands_and_fires_in_another() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("import-from").await.unwrap();
    rabbit.add_vhost("import-to").await.unwrap();
    let (from, to) = (rabbit.url("import-from"), rabbit.url("import-to"));
    let (source, target) = tokio::join!(System::start(&from), System::start(&to));
    let push = hook(&[("exchange/pulsehook/v1/webhook", "github.push.#")]);
    source.create_hook("ci/push", &push).await;
    let mut closed = push.clone();
    closed["triggerSchema"] = json!({ "type": "object", "additionalProperties": false });
    source.create_hook("ci/sub%2Fclosed", &closed).await;
    let mut nightly = hook(&[]);
    nightly["schedule"] = json!(["0 0 3 * * *"]);
    source.create_hook("other/nightly", &nightly).await;

    let (from, to) = (root(&source), root(&target));
    let text = import(&["--root-url", &from, "--to", &to, "--group", "ci", "--paused"]);
    let shown = String::from_utf8_lossy(&text.stdout);
    assert!(text.status.success(), "{shown}{}", String::from_utf8_lossy(&text.stderr));
    for part in [
        "created    ci/push",
        "created    ci/sub/closed",
        "its triggerSchema takes only {}",
        "To check by hand",
        "Trigger tokens",
    ] {
        assert!(shown.contains(part), "{part:?} is missing:\n{shown}");
    }
    assert!(!shown.contains("other/nightly"));

    // Again, all of them, live: what differs is left alone unless it is to be overwritten.
    let again = import(&["--root-url", &from, "--to", &to, "--output", "json"]);
    let outcomes = |output: &Output| {
        let mut found: Vec<(String, String)> = lines(output)
            .iter()
            .map(|line| (line["hook"].as_str().unwrap().into(), line["outcome"].as_str().unwrap().into()))
            .collect();
        found.sort();
        found
    };
    let expected = |outcomes: [&str; 3]| {
        let names = ["ci/push", "ci/sub/closed", "other/nightly"];
        names
            .into_iter()
            .zip(outcomes)
            .map(|(name, outcome)| (name.into(), outcome.into()))
            .collect::<Vec<_>>()
    };
    assert_eq!(outcomes(&again), expected(["differs", "differs", "created"]));
    let over = import(&["--root-url", &from, "--to", &to, "--output", "json", "--overwrite"]);
    assert_eq!(outcomes(&over), expected(["replaced", "replaced", "same"]));
    let nightly = lines(&over).into_iter().find(|line| line["hook"] == "other/nightly").unwrap();
    assert!(nightly["check"][0].as_str().unwrap().contains("0 0 3 * * *"), "{nightly}");

    for path in ["ci/push", "ci/sub%2Fclosed", "other/nightly"] {
        let [theirs, ours] = [&source, &target].map(|system| format!("{}/hooks/{path}", system.api_url));
        let theirs = source.http.get(&theirs).await.unwrap().json();
        assert_eq!(target.http.get(&ours).await.unwrap().json(), theirs);
    }
    eventually(SOON, || async {
        let url = format!("{}/hooks/ci/push/bindings", target.api_url);
        let health = target.http.get(&url).await.ok()?.json();
        health["bindings"].as_array()?.iter().all(|binding| binding["state"] == "bound").then_some(())
    })
    .await;
    target.send_until_taken("push", "d-1", b"{\"n\": 1}").await;
    target.wait_for_tasks(1, SOON).await;
}

/// A deployment that lets one client in, with these scopes.
async fn closed(vhost: &str, client: &str, scopes: &str) -> System {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost(vhost).await.unwrap();
    let auth = format!(
        "[[auth.client]]\nclient_id = \"{client}\"\naccess_token = \"a token of {client} that is long enough\"\nscopes = {scopes}"
    );
    // Whoever makes the source's hooks is not who copies them.
    let auth = format!(
        "[auth]\n{auth}\n[[auth.client]]\nclient_id = \"owner\"\naccess_token = \"a token of owner that is long enough\"\nscopes = [\"hooks:*\", \"assume:hook-id:*\"]\n"
    );
    System::start_configured(&rabbit.url(vhost), &auth, &[]).await
}

/// A command with the credentials of these clients: of the source or whatever is spoken to, and of the router to copy to.
fn run_as(taskcluster: (&str, &str), pulsehook: Option<&str>, arguments: &[&str]) -> (bool, String) {
    let token = |client: &str| format!("a token of {client} that is long enough");
    let (root, client) = taskcluster;
    let mut command = Command::new(BINARY);
    command.args(arguments).env("PULSEHOOK_LOG", "error").env("TASKCLUSTER_ROOT_URL", root);
    command.env("TASKCLUSTER_CLIENT_ID", client).env("TASKCLUSTER_ACCESS_TOKEN", token(client));
    if let Some(client) = pulsehook {
        command.env("PULSEHOOK_CLIENT_ID", client).env("PULSEHOOK_ACCESS_TOKEN", token(client));
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

/// Step by step as config/README.md has it, with the scopes that it names.
#[tokio::test(flavor = "multi_thread")]
async fn moving_works_as_the_documentation_says() {
    let document = include_str!("../../config/README.md");
    for scopes in ["# at the source: hooks:list-hooks:*\n", "# at the router: hooks:*, assume:hook-id:*\n"] {
        assert!(document.contains(scopes), "{scopes}");
    }
    let (source, target) = tokio::join!(
        closed("moving-from", "mover", "[\"hooks:list-hooks:*\"]"),
        closed("moving-to", "mover", "[\"hooks:*\", \"assume:hook-id:*\"]")
    );
    let folder = tempfile::tempdir().unwrap();
    let of_source = folder.path().join("push.json");
    std::fs::write(&of_source, hook(&[("exchange/pulsehook/v1/webhook", "github.push.#")]).to_string())
        .unwrap();
    let (from, to) = (root(&source), root(&target));
    let create = ["hook", "create", "--name", "ci/push", of_source.to_str().unwrap()];
    let (ok, text) = run_as((&from, "owner"), None, &create);
    assert!(ok, "{text}");

    let files = folder.path().join("hooks").display().to_string();
    let (ok, text) = run_as((&from, "mover"), Some("mover"), &["import", "--to", &to, "--paused"]);
    assert!(ok && text.contains("created    ci/push"), "{text}");
    let (ok, text) = run_as((&from, "mover"), None, &["import", "--files", &files]);
    assert!(ok && text.contains("written    ci/push"), "{text}");

    let router = |arguments: &[&str]| run_as((&to, "mover"), None, arguments);
    let (_, text) = router(&["hook", "trigger", "ci/push"]);
    assert!(!text.contains("403"), "{text}");
    let url = format!("{}/tasks?limit=1", target.queue_url);
    let tasks = async || target.http.get(&url).await.unwrap().json()["total"].as_u64();
    assert_eq!(tasks().await, Some(0), "it waits");
    let (ok, text) = router(&["apply", &files]);
    assert!(ok, "{text}");
    eventually(SOON, async || (tasks().await == Some(1)).then_some(())).await;
    let (ok, text) = router(&["hook", "token", "ci/push"]);
    assert!(ok, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_copied_is_named_and_files_are_written_for_the_rest() {
    let definition = |id: &str, task: Value| {
        json!({
            "hookGroupId": "ci", "hookId": id, "bindings": [], "schedule": [], "triggerSchema": {"type": "object"},
            "metadata": { "name": "n", "description": "", "owner": "o@example.com", "emailOnError": true },
            "task": task
        })
    };
    let hooks = json!({ "hooks": [
        definition("sub/good", json!({ "payload": { "$eval": "payload" } })),
        definition("both", json!({ "a": "${payload.x}", "b": "{{ payload.y }}" })),
    ] });
    let routes = Router::new()
        .route("/api/hooks/v1/hooks", get(async || axum::Json(json!({ "groups": ["ci"] }))))
        .route("/api/hooks/v1/hooks/ci", get(async move || axum::Json(hooks.clone())));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = tokio_util::sync::CancellationToken::new();
    tokio::spawn(pulsehook::server::serve(listener, routes, stop.clone()));
    let _stop = stop.drop_guard();

    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().display().to_string();
    let output = tokio::task::spawn_blocking(move || {
        import(&["--root-url", &url, "--files", &files, "--output", "json"])
    })
    .await
    .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let failed = lines(&output).into_iter().find(|line| line["hook"] == "ci/both").unwrap();
    assert_eq!(failed["outcome"], "failed");
    assert!(failed["error"].as_str().unwrap().contains("templateEngine"), "{failed}");
    let written = folder.path().join("ci/sub/good.json");
    let checked = Command::new(BINARY).args(["hook", "validate"]).arg(&written).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert!(!folder.path().join("ci/both.json").exists());
}
