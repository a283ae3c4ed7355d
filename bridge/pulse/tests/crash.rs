//! The embedded transport killed with -9 in the middle of its work, again and again.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pulse::{Binding, Delivery, Embedded, Message, QueueSpec, Transport};
use tokio::sync::mpsc;

/// Tells the child process where to work.
const FILE: &str = "PULSE_CRASH_FILE";
const PREFETCH: u16 = 20;
const ROUNDS: usize = 4;
const DEADLINE: Duration = Duration::from_secs(30);

async fn open(path: &Path) -> (Arc<Embedded>, mpsc::Receiver<Delivery>) {
    let transport = Arc::new(Embedded::open(path).unwrap());
    transport.declare_exchange("e").await.unwrap();
    let spec = QueueSpec {
        name: "q".into(),
        kind: Default::default(),
        delivery_limit: None,
        dead_letter_exchange: None,
        max_length: None,
        bindings: vec![Binding { exchange: "e".into(), pattern: "#".into() }],
        unbind: Vec::new(),
    };
    transport.declare_queue(spec).await.unwrap();
    let (sink, deliveries) = mpsc::channel(PREFETCH.into());
    transport.consume("q", PREFETCH, sink).await.unwrap();
    (transport, deliveries)
}

/// The process that is killed: publishes ever higher numbers, consumes, and says what is certain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the test below"]
async fn child() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let first: u64 = std::env::var("FIRST").unwrap().parse().unwrap();
    let (transport, mut deliveries) = open(Path::new(&path)).await;
    for lane in 0..8 {
        let transport = transport.clone();
        tokio::spawn(async move {
            for n in (first + lane..).step_by(8) {
                let body = n.to_string().into_bytes().into();
                let message = Message { exchange: "e".into(), body, ..Message::default() };
                assert!(transport.publish(&message, true).await.unwrap().routed);
                println!("confirmed {n}");
            }
        });
    }
    let mut turn = 0;
    while let Some(delivery) = deliveries.recv().await {
        turn += 1;
        let n = String::from_utf8_lossy(&delivery.message.body).into_owned();
        println!("delivered {n}");
        // Fewer are taken than come, so that a backlog is left.
        tokio::time::sleep(Duration::from_micros(300)).await;
        if turn % 7 == 0 {
            delivery.retry();
        } else {
            println!("acked {n}");
            delivery.ack();
        }
    }
}

#[tokio::test]
async fn nothing_is_lost_and_redeliveries_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pulse.db");
    let (mut confirmed, mut acked, mut delivered) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for round in 0..ROUNDS {
        let first = 1_000_000 * (round as u64 + 1);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child", "--nocapture"])
            .env(FILE, &path)
            .env("FIRST", first.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut seen = 0;
        let mut take = |line: String| {
            let Some((what, number)) = line.split_once(' ') else { return 0 };
            let Ok(number) = number.parse::<u64>() else { return 0 };
            match what {
                "confirmed" => drop(confirmed.insert(number)),
                "delivered" => drop(delivered.insert(number)),
                "acked" => drop(acked.insert(number)),
                _ => return 0,
            }
            1
        };
        while seen < 600 + 137 * round {
            seen += take(lines.next().expect("the child ended by itself"));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            take(line);
        }
    }
    let (transport, mut deliveries) = open(&path).await;
    let mut left: BTreeSet<u64> = confirmed.difference(&acked).copied().collect();
    assert!(!left.is_empty() && !delivered.is_empty());
    let mut unmarked = 0;
    let mut not_delivered_but_marked = 0;
    while !left.is_empty() {
        let delivery =
            tokio::time::timeout(DEADLINE, deliveries.recv()).await.expect("messages were lost").unwrap();
        let number: u64 = String::from_utf8_lossy(&delivery.message.body).parse().unwrap();
        assert!(delivery.redelivered || !delivered.contains(&number), "{number} came again as if new");
        not_delivered_but_marked += usize::from(delivery.redelivered && !delivered.contains(&number));
        unmarked += usize::from(!delivery.redelivered);
        assert!(!delivery.redelivered || unmarked == 0, "out of order: redeliveries come first");
        left.remove(&number);
        delivery.ack();
    }
    // Handed out, but killed before it could say so: no more than was on its way in each round.
    assert!(not_delivered_but_marked <= usize::from(PREFETCH) * ROUNDS, "{not_delivered_but_marked}");
    transport.close().await;
}
