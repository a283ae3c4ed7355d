//! Ticks on pulse: each minute once, also across an outage of the broker, and the same from every bridge.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bridge::Outside;
use pulse::Message;

use crate::support::{bridge_with, eventually};

fn ids(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.properties.message_id.clone().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn ticks_follow_the_wall_clock_and_wait_for_the_broker() {
    // 2026-11-22T10:05:30Z
    let seconds = Arc::new(AtomicI64::new(1_795_341_930));
    let outside = || {
        let clock = Arc::clone(&seconds);
        let now = move || chrono::DateTime::from_timestamp(clock.load(Ordering::SeqCst), 0).unwrap();
        Outside { now: Arc::new(now), ..Outside::default() }
    };
    let (first, broker) = bridge_with("[clock]\ncatch_up_minutes = 3", outside());
    let (second, other) = bridge_with("[clock]", outside());
    first.start().await.unwrap();
    second.start().await.unwrap();
    let messages = broker.wait("the first tick", |messages| messages.len() == 1).await;
    assert_eq!(messages[0].exchange, "exchange/pulsehook/v1/clock");
    assert_eq!(messages[0].routing_key, "time.2026.11.22.sun.10.05");
    let same = other.wait("the other bridge's tick", |messages| messages.len() == 1).await;
    assert_eq!(ids(&same), ids(&messages), "whichever bridge ticks, the message is one");

    broker.down();
    seconds.fetch_add(600, Ordering::SeqCst);
    other.wait("the other bridge has the ten minutes", |messages| messages.len() == 11).await;
    assert_eq!(broker.messages().len(), 1);
    broker.refusing.store(true, Ordering::SeqCst);
    broker.up();
    eventually("a refusal", async || (broker.refusals.load(Ordering::SeqCst) > 0).then_some(())).await;
    broker.refusing.store(false, Ordering::SeqCst);
    let messages = broker.wait("the newest ticks", |messages| messages.len() == 5).await;
    let expected =
        ["10:05", "10:12", "10:13", "10:14", "10:15"].map(|time| format!("tick-2026-11-22T{time}:00Z"));
    assert_eq!(ids(&messages), expected);
    first.stop().await;
    second.stop().await;
}
