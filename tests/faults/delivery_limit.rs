//! A message that is in flight whenever the router dies: the broker gives it up, and it comes back all the same.

use harness::eventually;

use super::deployment::{Deployment, FOREIGN};
use super::system::{SOON, hook, shared_rabbit};
use super::traffic::Senders;

/// More deaths than the delivery limit allows.
const DEATHS: usize = 4;

async fn die_with_it(point: &str, vhost: &str) {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost(vhost).await.unwrap();
    let mut all =
        Deployment::start(&rabbit, vhost, &[("PULSEHOOK_ROUTER__DELIVERY_LIMIT", "2")]).await.unwrap();
    let senders = Senders::new(&all).await.unwrap();
    all.create_hook("limit/ids", &hook(&[(FOREIGN, "ids.*")])).await;
    all.create_hook("limit/plain", &hook(&[(FOREIGN, "plain.*")])).await;
    all.router.stop().await.unwrap();
    senders.burst("ids", "i", 3, 0).await.unwrap();
    senders.burst("plain", "p", 3, 0).await.unwrap();
    all.router.set_env(pulse::crash::VARIABLE, Some(point));
    for _ in 0..DEATHS {
        all.router.start().await.unwrap();
        all.router.ended(SOON).await.unwrap();
    }
    all.router.set_env(pulse::crash::VARIABLE, None);
    all.router.start().await.unwrap();
    eventually(SOON, async || (all.count_tasks().await.ok()? >= 6).then_some(())).await;
    // Whatever else were to come would come before this.
    senders.burst("ids", "last", 1, 0).await.unwrap();
    senders.burst("plain", "last", 1, 0).await.unwrap();
    eventually(SOON, async || (all.count_tasks().await.ok()? >= 8).then_some(())).await;
    let tasks = all.tasks().await.unwrap();
    let mut labels: Vec<_> = tasks.iter().map(|task| task["task"]["payload"]["key"].to_string()).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!((tasks.len(), labels.len()), (8, 8), "{labels:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn given_up_before_it_was_recorded() {
    die_with_it("router.delivered", "limit-delivered").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_up_after_it_was_recorded() {
    die_with_it("router.recorded", "limit-recorded").await;
}
