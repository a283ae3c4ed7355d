//! Queues and hooks that are deleted, by an operator of the broker or by their owner, wherever the router dies meanwhile.

use std::time::Instant;

use harness::eventually;
use serde_json::{Value, json};

use super::deployment::{Deployment, FOREIGN};
use super::system::{SOON, hook, shared_rabbit};
use super::traffic::Senders;

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_an_operator_deleted_stands_again_within_seconds() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("deleted").await.unwrap();
    let mut all = Deployment::start(&rabbit, "deleted", &[]).await.unwrap();
    let senders = Senders::new(&all).await.unwrap();
    all.create_hook("del/a", &hook(&[(FOREIGN, "a.*")])).await;
    all.create_hook("del/b", &hook(&[(FOREIGN, "b.*")])).await;
    rabbit.ctl(&["delete_queue", "-p", "deleted", "queue/pulsehook/del/a"]).await.unwrap();
    let deleted = Instant::now();
    let sent = std::sync::atomic::AtomicUsize::new(0);
    eventually(SOON, async || {
        let number = sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        senders.burst("a", &format!("a{number}"), 1, 0).await.ok()?;
        (all.count_tasks().await.ok()? > 0).then_some(())
    })
    .await;
    println!("deleted queue: a task again {:?} after the deletion", deleted.elapsed());
    // It is on record, and nobody else noticed.
    let lines = eventually(SOON, async || {
        let lines = all.router.lines();
        let told = |wanted: &str| {
            lines.iter().any(|line| line.contains("queue/pulsehook/del/a") && line.contains(wanted))
        };
        (told("cannot be consumed") && told("consumed again")).then_some(lines)
    })
    .await;
    assert!(!lines.iter().any(|line| line.contains("lost the broker")), "{}", lines.join("\n"));
    let health = all.api("/hooks/del/a/bindings").await.unwrap();
    assert_eq!(health["queueError"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_hook_stays_deleted_wherever_the_router_dies() {
    const WAITING: usize = 20;
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("deletions").await.unwrap();
    let mut all = Deployment::start(&rabbit, "deletions", &[]).await.unwrap();
    let senders = Senders::new(&all).await.unwrap();
    for (round, point) in ["router.tombstone", "router.queue-deleted"].into_iter().enumerate() {
        let before = all.count_tasks().await.unwrap();
        let url = format!("{}/hooks/del/hook", all.api_url());
        all.create_hook("del/hook", &hook(&[(FOREIGN, "hook.*")])).await;
        all.provoke(json!({ "do": "status", "status": 503 })).await.unwrap();
        // Some of these are recorded, and pending for want of a queue service; the others wait.
        senders.burst("hook", "old", WAITING, 0).await.unwrap();
        eventually(SOON, async || {
            let fires = all.http.get(&format!("{url}/last-fires")).await.ok()?.json();
            (!fires["lastFires"].as_array()?.is_empty()).then_some(())
        })
        .await;
        all.router.stop().await.unwrap();
        all.router.set_env(pulse::crash::VARIABLE, Some(point));
        all.router.start().await.unwrap();
        all.bound("del/hook").await;
        let dying = all.http.json("DELETE", &url, &json!(null)).await;
        assert!(dying.is_err(), "{dying:?}");
        all.router.ended(SOON).await.unwrap();
        all.router.set_env(pulse::crash::VARIABLE, None);
        all.router.start().await.unwrap();
        all.heal().await.unwrap();

        // Made again, by the same name: the very same messages are new ones, and those of before never fire.
        all.create_hook("del/hook", &hook(&[(FOREIGN, "hook.*")])).await;
        senders.burst("hook", "old", 1, 0).await.unwrap();
        senders.burst("hook", "new", 1, 0).await.unwrap();
        eventually(SOON, async || (all.count_tasks().await.ok()? >= before + 2).then_some(())).await;
        let fires = all.api("/hooks/del/hook/last-fires").await.unwrap();
        assert_eq!(fires["lastFires"].as_array().map(Vec::len), Some(2), "round {round}: {fires}");
        assert_eq!(all.count_tasks().await.unwrap(), before + 2);
        assert_eq!(all.http.json("DELETE", &url, &json!(null)).await.unwrap().status, 200);
    }
}
