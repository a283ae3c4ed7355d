//! The queue service is away for long: messages wait in the broker, memory and store stay flat, and it goes on by itself.

use std::time::Instant;

use harness::eventually;

use super::deployment::{Deployment, FOREIGN};
use super::lane::is_long;
use super::system::{SOON, hook, shared_rabbit};
use super::traffic::Senders;

/// Bytes of a message's body.
const BODY: usize = 4_000;

/// What a second load of messages may add to the router's memory, and to its store: far less than its size.
const FLAT: u64 = 4 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn while_the_queue_service_is_down_messages_wait_in_the_broker() {
    let load = if is_long() { 20_000 } else { 2_500 };
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("outage").await.unwrap();
    let bounds = [("PULSEHOOK_ROUTER__PENDING_FIRES_PER_HOOK", "200")];
    let mut all = Deployment::start(&rabbit, "outage", &bounds).await.unwrap();
    let senders = Senders::new(&all).await.unwrap();
    all.create_hook("out/age", &hook(&[(FOREIGN, "out.*")])).await;

    all.queue.stop().await.unwrap();
    senders.burst("out", "a", load, BODY).await.unwrap();
    let waiting = async |least: usize| {
        // What was delivered and not recorded goes back: nothing is out unacknowledged any more.
        eventually(SOON, async || {
            let listed = rabbit.ctl(&[
                "list_queues",
                "-p",
                "outage",
                "name",
                "messages_ready",
                "messages_unacknowledged",
            ]);
            let listed = listed.await.ok()?;
            let line = listed.lines().find(|line| line.starts_with("queue/pulsehook/out/age"))?;
            let mut figures = line.split_whitespace().skip(1).map(|figure| figure.parse::<usize>().unwrap());
            let (ready, out) = (figures.next()?, figures.next()?);
            (ready >= least && out == 0).then_some(ready)
        })
        .await
    };
    let first = waiting(load / 2).await;
    let (memory, stored) = (all.router.memory().unwrap(), all.store_bytes().unwrap());
    senders.burst("out", "b", load, BODY).await.unwrap();
    let both = waiting(first + load).await;
    let grown = all.router.memory().unwrap().saturating_sub(memory);
    let more_stored = all.store_bytes().unwrap().saturating_sub(stored);
    println!(
        "outage: {both} messages wait in the broker; {load} more of them cost the router {} KB of memory and {} KB of store",
        grown / 1024,
        more_stored / 1024
    );
    assert!(grown < FLAT && more_stored < FLAT, "grown by {grown}, stored {more_stored} more");

    let returned = Instant::now();
    all.queue.start().await.unwrap();
    eventually(SOON, async || (all.count_tasks().await.ok()? > 0).then_some(())).await;
    let resumed = returned.elapsed();
    eventually(SOON * 2, async || (all.count_tasks().await.ok()? == 2 * load).then_some(())).await;
    println!(
        "outage: first task {resumed:?} after the service's return, all {} after {:?}",
        2 * load,
        returned.elapsed()
    );
    assert!(all.dead_letters().await.unwrap().is_empty());
}
