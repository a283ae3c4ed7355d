//! What is on record of a hook, and what others hear of its changes.

use std::sync::Arc;

use harness::eventually;
use pulse::{Amqp, Binding, QueueKind, QueueSpec, Transport as _};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::super::system::{SOON, System, hook, shared_rabbit};

async fn get(system: &System, path: &str) -> Value {
    let answer = system.http.get(&format!("{}{path}", system.api_url)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

/// The newest decisions, when the newest of all is about this event.
async fn decisions(system: &System, path: &str, newest: &str) -> Vec<Value> {
    eventually(SOON, async || {
        let found = get(system, path).await["decisions"].as_array()?.clone();
        (found.first()?["routingKey"].as_str()?.split('.').nth(1) == Some(newest)).then_some(found)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_fire_is_on_record_with_its_reason_and_stays_there() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("api-record").await.unwrap();
    let system = System::start(&rabbit.url("api-record")).await;
    let mut definition = hook(&[("exchange/pulsehook/v1/webhook", "github.#")]);
    definition["filter"] = json!("payload.count > 2 and payload.branch != 'try'");
    definition["triggerSchema"] =
        json!({ "type": "object", "properties": { "branch": { "type": "string" } } });
    definition["task"]["payload"] = json!({ "value": "{{ payload.good.deep }}" });
    system.create_hook("ci/recorded", &definition).await;
    let path = "/hooks/ci/recorded/decisions";

    system.send_until_taken("filtered", "1", br#"{"count": 7, "branch": "try"}"#).await;
    let found = decisions(&system, path, "filtered").await;
    let said = &found[0];
    assert_eq!(said["outcome"], "filtered", "{said}");
    let reason = said["reason"].as_str().unwrap();
    assert!(reason.contains("payload.branch is \"try\"") && !reason.contains("payload.count is"), "{said}");
    assert_eq!(said["exchange"], "exchange/pulsehook/v1/webhook");
    assert!(said["messageId"].is_string() && said["time"].is_string() && said["detail"]["term"].is_string());

    system.send_until_taken("schema", "2", br#"{"count": 7, "branch": 5}"#).await;
    let found = decisions(&system, path, "schema").await;
    assert_eq!((found[0]["outcome"].as_str(), found.len()), (Some("schema-mismatch"), 2), "{found:?}");
    assert_eq!(found[0]["detail"]["problems"][0]["path"], "payload.branch", "{found:?}");

    // What should have fired and cannot is a fire that failed, with the place in the template.
    system.send_until_taken("template", "3", br#"{"count": 7, "branch": "main"}"#).await;
    let fire = eventually(SOON, async || {
        let url = format!("{}/hooks/ci/recorded/last-fires", system.api_url);
        system.http.get(&url).await.ok()?.json()["lastFires"].get(0).cloned()
    })
    .await;
    assert_eq!(fire["result"], "error", "{fire}");
    assert!(fire["error"].as_str().unwrap().contains("task.payload.value"), "{fire}");
    let status = get(&system, "/hooks/ci/recorded/status").await;
    assert_eq!(status["lastFire"]["error"]["code"], "template-error", "{status}");

    // As it was, also for a router that knows of it from the store alone.
    let mut router = system.router.lock().await;
    router.kill9().unwrap();
    router.start().await.unwrap();
    drop(router);
    eventually(SOON, async || system.http.get(&format!("{}/ping", system.api_url)).await.ok()).await;
    assert_eq!(get(&system, path).await["decisions"], Value::Array(found));

    // The newest first.
    system.send_until_taken("more", "4", br#"{"count": 0}"#).await;
    assert_eq!(decisions(&system, path, "more").await.len(), 3);
    let all = get(&system, path).await;
    assert!(all.get("continuationToken").is_none(), "{all}");
    let mut paged = Vec::new();
    let mut page = get(&system, &format!("{path}?limit=2")).await;
    while let Some(token) = page["continuationToken"].as_str() {
        paged.extend(page["decisions"].as_array().unwrap().clone());
        assert_eq!(paged.len() % 2, 0, "a page that is not the last is full");
        page = get(&system, &format!("{path}?limit=2&continuationToken={token}")).await;
    }
    paged.extend(page["decisions"].as_array().unwrap().clone());
    assert_eq!(Value::Array(paged), all["decisions"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_hooks_are_told_on_pulse() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("api-told").await.unwrap();
    let url = rabbit.url("api-told");
    let system = System::start(&url).await;
    let listener = Amqp::connect(pulse::amqp::AmqpConfig {
        url: &url,
        ca_file: None,
        name: "a listener",
        publish_timeout: SOON,
    })
    .unwrap();
    let mut status = listener.status();
    tokio::time::timeout(SOON, status.wait_for(|status| *status == pulse::Status::Up))
        .await
        .unwrap()
        .unwrap();
    let changes = ["hook-created", "hook-updated", "hook-deleted"];
    let name: Arc<str> = "queue/foreign/changes".into();
    for what in changes {
        listener.declare_exchange(&format!("exchange/pulsehook/v1/{what}")).await.unwrap();
    }
    let bindings = changes
        .iter()
        .map(|what| Binding { exchange: format!("exchange/pulsehook/v1/{what}"), pattern: "ci.*".into() })
        .collect();
    let spec = QueueSpec {
        name: name.clone(),
        kind: QueueKind::Classic,
        delivery_limit: None,
        dead_letter_exchange: None,
        max_length: None,
        bindings,
        unbind: Vec::new(),
    };
    listener.declare_queue(spec).await.unwrap();
    let (sink, mut heard) = mpsc::channel(10);
    listener.consume(&name, 10, sink).await.unwrap();

    let hook_url = format!("{}/hooks/ci/a%2Fb", system.api_url);
    let mut definition = hook(&[]);
    for (what, method) in changes.iter().zip(["PUT", "POST", "DELETE"]) {
        definition["metadata"]["description"] = json!(what);
        assert_eq!(system.http.json(method, &hook_url, &definition).await.unwrap().status, 200);
        let delivery = tokio::time::timeout(SOON, heard.recv()).await.unwrap().unwrap();
        assert_eq!(delivery.message.exchange, format!("exchange/pulsehook/v1/{what}"));
        assert_eq!(delivery.message.routing_key, "ci.a/b");
        let body: Value = serde_json::from_slice(&delivery.message.body).unwrap();
        assert_eq!(body, json!({ "hookGroupId": "ci", "hookId": "a/b" }));
        delivery.ack();
    }
}
