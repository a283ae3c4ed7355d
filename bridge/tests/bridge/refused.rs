//! Spooled events that the broker refuses: nobody's are lost, and one that is refused alone holds up nobody.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bridge::Bridge;

use crate::spool::{numbers, send_number, with_spool};
use crate::support::{bridge, emptied, eventually};

#[tokio::test]
async fn an_event_that_alone_is_refused_is_set_aside_and_blocks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (bridge, broker) = bridge(&with_spool(&folder, ""));
    *broker.poison.lock().unwrap() = Some("\"n\":2}");
    broker.down();
    for number in 1..=5 {
        assert_eq!(send_number(&bridge, "ci", number).await, 202);
    }
    bridge.start().await.unwrap();
    broker.up();
    emptied(&bridge).await;
    assert_eq!(numbers(&broker, "ci"), [1, 3, 4, 5]);
    assert_eq!(bridge.spooled().unwrap().refused, 1);
    assert_eq!(send_number(&bridge, "ci", 6).await, 200);
    // Its cause is mended, and the bridge told so.
    *broker.poison.lock().unwrap() = None;
    bridge.retry_refused().await;
    assert_eq!(bridge.spooled().unwrap().refused, 0);
    emptied(&bridge).await;
    assert_eq!(numbers(&broker, "ci"), [1, 3, 4, 5, 6, 2]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_lone_refused_event_is_set_aside_once_the_broker_takes_another_sources() {
    let folder = tempfile::tempdir().unwrap();
    let (bridge, broker) = bridge(&with_spool(&folder, ""));
    bridge.start().await.unwrap();
    *broker.poison.lock().unwrap() = Some("\"n\":1}");
    assert_eq!(send_number(&bridge, "ci", 1).await, 202);
    let refused = async || (broker.refusals.load(Ordering::SeqCst) > 4).then_some(());
    eventually("several refusals", refused).await;
    assert_eq!(bridge.spooled().unwrap().events, 1, "it may not be its fault");
    assert_eq!(send_number(&bridge, "other", 2).await, 200);
    emptied(&bridge).await;
    assert_eq!(bridge.spooled().unwrap().refused, 1);
    bridge.stop().await;
}

/// Lets hours pass until the spool is empty; false if it takes longer than so many seconds.
async fn emptied_within(bridge: &Bridge, longest: u64) -> bool {
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(longest) {
        if bridge.spooled().unwrap().events == 0 {
            return true;
        }
        // The file takes real time.
        std::thread::sleep(Duration::from_millis(5));
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    false
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_the_only_one_to_be_refused_is_set_aside_after_an_hour() {
    let folder = tempfile::tempdir().unwrap();
    let (bridge, broker) = bridge(&with_spool(&folder, ""));
    bridge.start().await.unwrap();
    broker.refusing.store(true, Ordering::SeqCst);
    assert_eq!(send_number(&bridge, "ci", 1).await, 202);
    assert_eq!(send_number(&bridge, "other", 1).await, 202);
    assert!(!emptied_within(&bridge, 4 * 3600).await, "everybody's are refused");
    broker.refusing.store(false, Ordering::SeqCst);
    assert!(emptied_within(&bridge, 3600).await);
    *broker.poison.lock().unwrap() = Some("\"n\":2}");
    let begun = tokio::time::Instant::now();
    assert_eq!(send_number(&bridge, "ci", 2).await, 202);
    assert!(emptied_within(&bridge, 2 * 3600).await);
    assert!(begun.elapsed() > Duration::from_secs(3600), "{:?}", begun.elapsed());
    assert_eq!(bridge.spooled().unwrap().refused, 1);
    bridge.stop().await;
}

#[tokio::test]
async fn while_everything_is_refused_everything_waits() {
    let folder = tempfile::tempdir().unwrap();
    let (bridge, broker) = bridge(&with_spool(&folder, ""));
    bridge.start().await.unwrap();
    // No such exchange, no permission: it is put right some time.
    broker.refusing.store(true, Ordering::SeqCst);
    for number in 1..=3 {
        assert_eq!(send_number(&bridge, "ci", number).await, 202);
    }
    eventually("several refusals", async || (broker.refusals.load(Ordering::SeqCst) > 8).then_some(())).await;
    assert_eq!((bridge.spooled().unwrap().events, bridge.spooled().unwrap().refused), (3, 0));
    broker.refusing.store(false, Ordering::SeqCst);
    emptied(&bridge).await;
    assert_eq!(numbers(&broker, "ci"), [1, 2, 3]);
    bridge.stop().await;
}
