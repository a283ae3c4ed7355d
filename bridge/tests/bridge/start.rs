//! The start, with what it may find.

use std::sync::atomic::Ordering;

use crate::support::{bridge, emptied, event, send};

#[tokio::test]
async fn without_the_right_to_declare_exchanges_that_stand_are_used_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (bridge, broker) = bridge(&format!(
        "[clock]\n[spool]\npath = {:?}\n[[source]]\nname = \"ci\"\nprovider = \"hmac\"\nsecrets = [\"key for tests\"]\n",
        folder.path().join("spool.db")
    ));
    broker.undeclarable.store(true, Ordering::SeqCst);
    broker.down();
    assert_eq!(send(&bridge, event("ci", Some("1"), "{}")).await.status, 202);
    broker.up();
    assert!(bridge.start().await.is_err());
    emptied(&bridge).await;
    let messages = broker.wait("the event and a tick", |messages| messages.len() == 2).await;
    assert!(messages.iter().any(|message| message.exchange.ends_with("/clock")));
    assert!(bridge.start().await.is_err());
    broker.undeclarable.store(false, Ordering::SeqCst);
    bridge.start().await.unwrap();
    bridge.stop().await;
    assert!(broker.messages().len() <= 3, "the tasks run once, whatever minute it is");
}
