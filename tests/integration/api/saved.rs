//! What a 200 to a saved hook means: it listens. And what becomes of one that a later version would not take.

use futures_util::future::join_all;
use harness::Http;
use serde_json::json;

use super::super::local::start_in;
use super::super::system::{SOON, System, hook, shared_rabbit};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_published_a_moment_after_the_answer_fires_the_hook() {
    const HOOKS: usize = 30;
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("moment").await.unwrap();
    let system = System::start(&rabbit.url("moment")).await;
    // Several at a time, as a tool that applies a folder does it; each with a message of its own, at once and unrepeated.
    join_all((0..HOOKS).map(async |number| {
        let url = format!("{}/hooks/moment/hook-{number}", system.api_url);
        let pattern = format!("github.event{number}.#");
        let definition = hook(&[("exchange/pulsehook/v1/webhook", &pattern)]);
        let saved = system.http.json("PUT", &url, &definition).await.unwrap();
        assert_eq!(saved.status, 200, "{}", saved.json());
        let sent = system.send(&format!("event{number}"), &format!("d{number}"), b"{}").await.unwrap().json();
        assert_eq!(sent["routed"], true, "{sent}");
    }))
    .await;
    system.wait_for_tasks(HOOKS, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_hook_that_is_no_longer_taken_is_shown_and_can_be_corrected() {
    let folder = tempfile::tempdir().unwrap();
    let http = Http::default();
    let (mut process, url) = start_in(folder.path()).await;
    let path = |id: &str| format!("/api/hooks/v1/hooks/ci/{id}");
    let good = hook(&[("exchange/pulsehook/v1/webhook", "demo.push.#")]);
    for id in ["old", "other"] {
        let saved = http.json("PUT", &format!("{url}{}", path(id)), &good).await.unwrap();
        assert_eq!(saved.status, 200, "{}", saved.json());
    }
    process.stop().await.unwrap();
    // As a version without the bound on the length of a schedule stored it.
    let store = rusqlite::Connection::open(folder.path().join("pulsehook.db")).unwrap();
    let expressions: Vec<String> = (0..200).map(|n| format!("{} {} * * *", n % 60, n / 60)).collect();
    let change =
        "UPDATE hook SET document = json_set(document, '$.schedule', json(?1)) WHERE hook_id = 'old'";
    assert_eq!(store.execute(change, [json!(expressions).to_string()]).unwrap(), 1);
    drop(store);

    let (_process, url) = start_in(folder.path()).await;
    let listed = http.get(&format!("{url}/api/hooks/v1/hooks/ci")).await.unwrap();
    assert_eq!(listed.status, 200, "{}", listed.json());
    assert_eq!(listed.json()["hooks"].as_array().map(Vec::len), Some(2));
    let shown = http.get(&format!("{url}{}", path("old"))).await.unwrap().json();
    assert_eq!(shown["schedule"], json!(expressions), "{shown}");
    let again = http.json("PUT", &format!("{url}{}", path("old")), &good).await.unwrap();
    assert_eq!(again.status, 409, "{}", again.json());
    let mut corrected = good.clone();
    corrected["schedule"] = json!(["0 0 * * *"]);
    corrected.as_object_mut().unwrap().remove("bindings");
    let saved = http.json("POST", &format!("{url}{}", path("old")), &corrected).await.unwrap();
    assert_eq!(saved.status, 200, "{}", saved.json());
    assert_eq!(saved.json()["bindings"], good["bindings"], "absent bindings stay");
    assert_eq!(saved.json()["schedule"], json!(["0 0 * * *"]));
}
