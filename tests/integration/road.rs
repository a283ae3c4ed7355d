//! The whole road: signed webhooks become tasks, over a real RabbitMQ, while processes die.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use harness::{Rabbit, eventually};
use serde_json::{Value, json};

use super::system::{SOON, System, hook, shared_rabbit};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_webhooks_become_a_thousand_tasks_while_router_and_broker_are_killed() {
    const EVENTS: usize = 1_000;
    const SENDERS: usize = 16;
    let mut rabbit = Rabbit::start().await.unwrap();
    let system = System::start(&rabbit.url("/")).await;
    system.create_hook("ci/push", &hook(&[("exchange/pulsehook/v1/webhook", "github.push.#")])).await;
    rabbit.settle().await;

    let sent = AtomicUsize::new(0);
    let sending = join_all((0..SENDERS).map(async |first| {
        for number in (first..EVENTS).step_by(SENDERS) {
            let body = json!({ "number": number, "repository": { "name": "r", "owner": { "login": "o" } } });
            system.send_until_taken("push", &format!("delivery-{number}"), body.to_string().as_bytes()).await;
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let killing = async {
        reached(&sent, EVENTS / 4).await;
        let mut router = system.router.lock().await;
        router.kill9().unwrap();
        router.start().await.unwrap();
        reached(&sent, EVENTS / 2).await;
        rabbit.kill9().unwrap();
        rabbit.restart().await.unwrap();
    };
    tokio::join!(sending, killing);

    let tasks = system.wait_for_tasks(EVENTS, SOON * 2).await;
    let numbers: BTreeSet<u64> =
        tasks.iter().filter_map(|task| task["task"]["payload"]["seen"]["number"].as_u64()).collect();
    assert_eq!(numbers.len(), EVENTS);
    // Nothing comes after: a repeated event is merged and answered like the first.
    system
        .send_until_taken(
            "push",
            "delivery-0",
            json!({ "number": 0, "repository": { "name": "r", "owner": { "login": "o" } } })
                .to_string()
                .as_bytes(),
        )
        .await;
    system.send_until_taken("push", "the-last", b"{\"number\":-1}").await;
    system.wait_for_tasks(EVENTS + 1, SOON).await;
}

async fn reached(counter: &AtomicUsize, count: usize) {
    eventually(SOON, async || (counter.load(Ordering::Relaxed) >= count).then_some(())).await;
}

/// Trimmed to the fields that count, from GitHub's documented deliveries: the same shapes, ids beyond 32 bits included.
const GITHUB_EVENTS: &str = include_str!("../cases/webhooks/github.json");

#[tokio::test(flavor = "multi_thread")]
async fn real_github_deliveries_become_tasks_with_their_values_unchanged() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("github").await.unwrap();
    let system = System::start(&rabbit.url("github")).await;
    system.create_hook("ci/all", &hook(&[("exchange/pulsehook/v1/webhook", "github.#")])).await;

    let events: Vec<Value> = serde_json::from_str(GITHUB_EVENTS).unwrap();
    for (number, event) in events.iter().enumerate() {
        let body = event["payload"].to_string();
        let name = event["event"].as_str().unwrap();
        let answer = system.send(name, &format!("real-{number}"), body.as_bytes()).await.unwrap();
        assert_eq!(answer.status, 200, "{name}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.json()["routed"], true, "{name}");
    }
    let tasks = system.wait_for_tasks(events.len(), SOON).await;
    for event in &events {
        let found = tasks.iter().find(|task| task["task"]["payload"]["seen"] == event["payload"]);
        let task = found.unwrap_or_else(|| panic!("no task shows the payload of {}", event["event"]));
        assert_eq!(task["authorizedScopes"], json!(["assume:hook-id:ci/all"]));
        assert_eq!(task["task"]["payload"]["key"], event["routingKey"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_follow_their_definition_at_run_time() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("lifecycle").await.unwrap();
    let system = System::start(&rabbit.url("lifecycle")).await;
    let url = format!("{}/hooks/ci/one", system.api_url);
    let webhook = "exchange/pulsehook/v1/webhook";
    system.create_hook("ci/one", &hook(&[(webhook, "github.push.#")])).await;
    system.send_until_taken("push", "1", b"{}").await;
    system.wait_for_tasks(1, SOON).await;

    // Updated: the old binding is gone, the new one stands.
    let updated = system.http.json("POST", &url, &hook(&[(webhook, "github.release.#")])).await.unwrap();
    assert_eq!(updated.status, 200);
    let answer = system.send("push", "2", b"{}").await.unwrap().json();
    assert_eq!(answer["routed"], false);
    system.send_until_taken("release", "3", b"{}").await;
    system.wait_for_tasks(2, SOON).await;

    // Deleted, and made again: a new incarnation with a record of its own.
    assert_eq!(system.http.json("DELETE", &url, &json!(null)).await.unwrap().status, 200);
    assert_eq!(system.http.get(&url).await.unwrap().status, 404);
    assert_eq!(system.send("release", "4", b"{}").await.unwrap().json()["routed"], false);
    system.create_hook("ci/one", &hook(&[(webhook, "github.release.#")])).await;
    system.send_until_taken("release", "5", b"{}").await;
    let tasks = system.wait_for_tasks(3, SOON).await;
    let ids: BTreeSet<&str> = tasks.iter().filter_map(|task| task["taskId"].as_str()).collect();
    assert_eq!(ids.len(), 3);

    let fires = system.http.get(&format!("{url}/last-fires")).await.unwrap().json();
    assert_eq!(fires["lastFires"].as_array().unwrap().len(), 1);
    assert_eq!(fires["lastFires"][0]["taskId"], tasks[2]["taskId"]);
}
