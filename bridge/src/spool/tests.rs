//! What coalescing holds back, and its bounds.

use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinSet;

use super::writer::RELEASED;
use super::*;

const DUE: i64 = 60_000;

fn open(folder: &TempDir, max_bytes: u64) -> Spool {
    let bounds = Bounds { max_bytes, max_age: Duration::from_secs(3600) };
    Spool::open(&folder.path().join("spool.db"), bounds).unwrap()
}

fn message(body: &str) -> Message {
    Message {
        exchange: "e".into(),
        routing_key: "k".into(),
        body: body.to_owned().into(),
        ..Message::default()
    }
}

fn key(number: u64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key
}

async fn hold(spool: &Spool, number: u64, body: &str) -> Result<(), SpoolError> {
    spool.hold("s", key(number), &message(body), DUE, 0).await
}

#[tokio::test]
async fn what_is_held_back_counts_in_the_bound_of_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(&folder, 2000);
    let size = table::size(&message("old"));
    let room = 2000 / size;
    for number in 0..room {
        hold(&spool, number, "old").await.unwrap();
    }
    assert!(matches!(hold(&spool, room, "old").await, Err(SpoolError::Full(_))));
    assert!(matches!(spool.append("s", &message("old"), 0).await, Err(SpoolError::Full(_))));
    assert!(matches!(spool.check(0), Err(SpoolError::Full(_))));
    // A newer event of a key takes the older one's place, and may not go ahead of it.
    hold(&spool, 0, "new").await.unwrap();
    assert!(matches!(hold(&spool, 0, "larger").await, Err(SpoolError::Full(_))));
    let contents = spool.contents(0);
    assert_eq!((contents.held, contents.held_bytes, contents.bytes), (room, room * size, 0));
    drop(spool);

    let spool = open(&folder, 2000);
    assert_eq!(spool.contents(0).held_bytes, room * size, "also after a restart");
    spool.release(DUE).await.unwrap();
    let contents = spool.contents(0);
    assert_eq!((contents.held, contents.held_bytes, contents.bytes), (0, 0, room * size));
    let stored = spool.oldest("s", 100).await.unwrap();
    assert!(stored.iter().any(|stored| stored.message.body == "new"));
    spool.remove("s", stored.into_iter().map(|stored| stored.id).collect()).await.unwrap();
    assert_eq!(spool.contents(0).bytes, 0);
    hold(&spool, 0, "old").await.unwrap();
}

#[tokio::test]
async fn at_the_bound_of_keys_those_that_are_held_back_are_taken_on_and_all_come_out_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Arc::new(open(&folder, 1 << 30));
    // At the same time, so that they share fsyncs.
    let mut all = JoinSet::new();
    for number in 0..MAX_HELD {
        let spool = Arc::clone(&spool);
        all.spawn(async move { hold(&spool, number, "old").await });
    }
    assert!(all.join_all().await.iter().all(Result::is_ok));
    assert!(matches!(hold(&spool, MAX_HELD, "old").await, Err(SpoolError::Full(_))));
    hold(&spool, 7, "newer and longer").await.unwrap();
    assert_eq!(spool.contents(0).held, MAX_HELD);
    spool.release(DUE).await.unwrap();
    assert_eq!(spool.contents(0).events, u64::from(RELEASED), "not all of them are read into memory");
    hold(&spool, MAX_HELD, "old").await.unwrap();
    while spool.next_due().is_some_and(|due| due <= DUE) {
        spool.release(DUE).await.unwrap();
    }
    let contents = spool.contents(0);
    assert_eq!((contents.held, contents.held_bytes, contents.events), (0, 0, MAX_HELD + 1));
}
