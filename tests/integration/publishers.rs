//! Other publishers: a third party's client on an exchange of its own, and bindings that the broker refuses at first.

use std::process::Command;

use harness::eventually;

use super::packages;
use super::system::{SOON, System, hook, shared_rabbit};

/// Publishes as Mozilla's publishers do, with Python's pika: declares its exchange, sends one message with an id.
const PIKA: &str = include_str!("../tools/publish.py");

fn publish(url: &str, exchange: &str, key: &str, body: &str) {
    let status = Command::new(packages::python("pika", &["pika==1.3.2"]))
        .args(["-c", PIKA, url, exchange, key, body])
        .status()
        .unwrap();
    assert!(status.success(), "pika could not publish");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_publisher_fires_a_hook_and_a_refused_binding_heals() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("foreign").await.unwrap();
    let system = System::start(&rabbit.url("foreign")).await;
    let url = format!("{}/hooks/ci/foreign", system.api_url);
    let created =
        system.http.json("PUT", &url, &hook(&[("exchange/other/v1/changes", "tree.*.push")])).await.unwrap();
    assert_eq!(created.status, 200);

    // Nobody has declared the exchange: the binding's health says so.
    let health = eventually(SOON, || async {
        let health = system.http.get(&format!("{url}/bindings")).await.ok()?.json();
        let refused =
            health["bindings"].as_array()?.iter().find(|binding| binding["state"] == "refused")?.clone();
        Some(refused)
    })
    .await;
    assert_eq!(health["exchange"], "exchange/other/v1/changes");
    assert!(health["error"].as_str().unwrap().contains("exchange/other/v1/changes"), "{health}");

    // It appears: the binding heals without anybody's help, and messages fire.
    publish(&rabbit.url("foreign"), "exchange/other/v1/changes", "tree.try.other", "{\"n\": 0}");
    eventually(SOON, || async {
        let health = system.http.get(&format!("{url}/bindings")).await.ok()?.json();
        health["bindings"].as_array()?.iter().all(|binding| binding["state"] == "bound").then_some(())
    })
    .await;
    publish(&rabbit.url("foreign"), "exchange/other/v1/changes", "tree.try.push", "{\"n\": 1}");
    publish(&rabbit.url("foreign"), "exchange/other/v1/changes", "tree.try.other", "{\"n\": 2}");
    publish(&rabbit.url("foreign"), "exchange/other/v1/changes", "tree.autoland.push", "{\"n\": 3}");
    let tasks = system.wait_for_tasks(2, SOON).await;
    assert_eq!(tasks[0]["task"]["payload"]["seen"]["n"], 1);
    assert_eq!(tasks[1]["task"]["payload"]["key"], "tree.autoland.push");
}
