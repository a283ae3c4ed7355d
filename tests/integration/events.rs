//! What the router publishes: fires that ended and hooks that changed, as their schemas say. And what it hears: ends of tasks.

use harness::eventually;
use serde_json::{Value, json};

use super::listener::{Listener, heard};
use super::system::{SOON, System, hook, shared_rabbit};

/// Holds a value to a schema of `schemas/`.
fn valid(schema: &str, value: &Value) {
    let path = format!("{}/schemas/{schema}.json", env!("CARGO_MANIFEST_DIR"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let validator = jsonschema::draft7::options().should_validate_formats(true).build(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{value}: {errors:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fires_and_changes_are_published_as_their_schemas_say() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("events").await.unwrap();
    let system = System::start(&rabbit.url("events")).await;
    let listener = Listener::connect(&rabbit.url("events")).await;
    for what in ["hook-created", "hook-updated", "hook-deleted", "fire"] {
        listener.declare(&format!("exchange/pulsehook/v1/{what}")).await;
    }
    let changes = ["created", "updated", "deleted"].map(|what| format!("exchange/pulsehook/v1/hook-{what}"));
    let mut changes = listener.listen("queue/test/changes", &changes.each_ref().map(String::as_str)).await;
    let mut fires = listener.listen("queue/test/fires", &["exchange/pulsehook/v1/fire"]).await;

    let mut definition = hook(&[("exchange/pulsehook/v1/webhook", "github.push.#")]);
    system.create_hook("ci/watched", &definition).await;
    let created = heard(&mut changes).await;
    assert_eq!(
        (created.exchange.as_str(), created.routing_key.as_str()),
        ("exchange/pulsehook/v1/hook-created", "ci.watched")
    );
    system.send_until_taken("push", "d-1", b"{\"n\": 1}").await;
    let fire = heard(&mut fires).await;
    assert_eq!(fire.routing_key, "success.ci.watched");
    let success: Value = serde_json::from_slice(&fire.body).unwrap();
    valid("fire-event", &success);
    assert_eq!(success["taskId"], system.wait_for_tasks(1, SOON).await[0]["taskId"]);
    assert_eq!(success["routingKey"], "github.push._._._");

    definition["task"]["payload"]["rev"] = json!("{{ payload.missing.rev }}");
    let url = format!("{}/hooks/ci/watched", system.api_url);
    assert_eq!(system.http.json("POST", &url, &definition).await.unwrap().status, 200);
    let updated = heard(&mut changes).await;
    assert_eq!(updated.exchange, "exchange/pulsehook/v1/hook-updated");
    system.send_until_taken("push", "d-2", b"{\"n\": 2}").await;
    let fire = heard(&mut fires).await;
    assert_eq!(fire.routing_key, "dead.ci.watched");
    let dead: Value = serde_json::from_slice(&fire.body).unwrap();
    valid("fire-event", &dead);
    assert_eq!(dead["error"]["code"], "template-error", "{dead}");

    let answer = system.http.call("DELETE", &url, &[], Vec::new()).await.unwrap();
    assert_eq!(answer.status, 200);
    let deleted = heard(&mut changes).await;
    assert_eq!(deleted.exchange, "exchange/pulsehook/v1/hook-deleted");
    for message in [&created, &updated, &deleted] {
        valid("hook-changed", &serde_json::from_slice(&message.body).unwrap());
        assert!(message.properties.message_id.is_some() && message.properties.timestamp.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_task_is_in_its_hooks_history() {
    const EXCHANGE: &str = "exchange/taskcluster-queue/v1/task-";
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("task-state").await.unwrap();
    let listener = Listener::connect(&rabbit.url("task-state")).await;
    for state in ["completed", "failed", "exception"] {
        listener.declare(&format!("{EXCHANGE}{state}")).await;
    }
    let system = System::start(&rabbit.url("task-state")).await;
    system.create_hook("ci/told", &hook(&[("exchange/pulsehook/v1/webhook", "github.push.#")])).await;
    system.send_until_taken("push", "d-1", b"{\"n\": 1}").await;
    let task = system.wait_for_tasks(1, SOON).await[0]["taskId"].as_str().unwrap().to_owned();
    let state = async || {
        let url = format!("{}/hooks/ci/told/last-fires", system.api_url);
        system.http.get(&url).await.unwrap().json()["lastFires"][0]["taskState"].clone()
    };
    // The queue service has the task a moment before the router has noted that.
    eventually(SOON, async || (state().await == "unscheduled").then_some(())).await;
    // Failed and run again: the newest word counts. Another's task is nobody's business here.
    for (ended, id) in
        [("failed", task.as_str()), ("exception", "AAAAAAAAQAGAAAAAAAAAAA"), ("completed", &task)]
    {
        let key = format!("primary.{id}.0.group.worker.proj-test.ci.-.{id}._");
        let body = json!({ "status": { "taskId": id, "state": ended }, "runId": 0 });
        eventually(SOON, || async {
            listener.publish(&format!("{EXCHANGE}{ended}"), &key, &body).await.then_some(())
        })
        .await;
        if id == task {
            eventually(SOON, || async { (state().await == ended).then_some(()) }).await;
        }
    }
    let fire =
        system.http.get(&format!("{}/hooks/ci/told/fires/{task}", system.api_url)).await.unwrap().json();
    assert_eq!(fire["taskState"], "completed");
}
