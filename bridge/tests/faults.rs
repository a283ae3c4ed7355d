//! The bridge's promise under fire: while a real broker is stopped, killed and started again, and the bridge itself killed,
//! every event that was answered 2xx arrives on pulse, once per message id, and each source's events in their order.
//!
//! `PULSEHOOK_TEST_EVENTS` sizes it (default 4000).

// Helpers of tests may panic; the lint's own exception covers only test functions.
#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use harness::{Http, Proxy, Rabbit, eventually, free_port};
use pulse::{Binding, QueueKind, QueueSpec, Transport};
use tokio::sync::{mpsc, watch};

const SOURCES: u64 = 8;
const SECRET: &str = "key for tests";
const DEADLINE: Duration = Duration::from_secs(180);
const URL: &str = "PULSEHOOK_TEST_BROKER";
const LISTEN: &str = "PULSEHOOK_TEST_LISTEN";
const SPOOL: &str = "PULSEHOOK_TEST_SPOOL";

fn transport(url: &str) -> Arc<dyn Transport> {
    let config = pulse::Config { url: pulse::Secret::new(url), ..pulse::Config::default() };
    config.open(Path::new("."), "faults").unwrap()
}

/// A bridge in a process of its own; killed like by a crash when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which the missing events then tell.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts this very program as a bridge.
fn start_bridge(broker: &str, listen: SocketAddr, spool: &Path) -> Process {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_bridge", "--ignored", "--nocapture"])
        .env(URL, broker)
        .env(LISTEN, listen.to_string())
        .env(SPOOL, spool)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Process(child)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of the test below, which starts it"]
async fn the_bridge() {
    let Ok(broker) = std::env::var(URL) else { return };
    let listen = std::env::var(LISTEN).unwrap().parse().unwrap();
    serve(transport(&broker), listen, Path::new(&std::env::var(SPOOL).unwrap())).await;
}

/// A bridge with a source for each sender.
async fn serve(transport: Arc<dyn Transport>, listen: SocketAddr, spool: &Path) {
    let mut text =
        format!("publish_timeout_ms = 500\nspool = {{ path = {spool:?} }}\nclock = {{ enabled = false }}\n");
    for source in 0..SOURCES {
        text.push_str(&format!(
            "[[source]]\nname = \"s{source}\"\nprovider = \"hmac\"\nsecrets = [\"{SECRET}\"]\n"
        ));
    }
    let config = toml::from_str(&text).unwrap();
    let bridge = bridge::Bridge::new(&config, "pulsehook", transport).unwrap();
    while bridge.start().await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let listener = tokio::net::TcpListener::bind(listen).await.unwrap();
    axum::serve(listener, bridge.routes()).await.unwrap();
}

/// How far the senders and the events are.
struct Course {
    /// So many may be sent by now: what is left has to meet the faults that are still to come.
    allowed: watch::Sender<u64>,
    /// Answered 2xx.
    sent: AtomicU64,
    /// Consumed for the first time.
    arrived: AtomicU64,
}

impl Course {
    fn new(allowed: u64) -> Arc<Self> {
        let (sent, arrived) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { allowed: watch::Sender::new(allowed), sent, arrived })
    }

    /// Lets the senders go so far, and waits until they have.
    async fn reach(&self, events: u64) {
        self.allowed.send_replace(events);
        eventually(DEADLINE, async || (self.sent.load(Ordering::SeqCst) >= events).then_some(())).await;
    }

    /// Waits until more events have arrived than before: what comes next falls into the traffic.
    async fn flows(&self, before: u64) {
        eventually(DEADLINE, async || (self.arrived.load(Ordering::SeqCst) > before).then_some(())).await;
    }

    fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::SeqCst)
    }
}

/// An event that was answered 2xx.
struct Accepted {
    id: String,
    /// What to look at if it does not arrive.
    answer: serde_json::Value,
}

/// Sends one source's events one after another, each until it is answered 2xx, as far as the sources together may go.
async fn send_all(url: String, source: u64, numbers: Range<u64>, course: Arc<Course>) -> Vec<Accepted> {
    let http = Http::default();
    let mut accepted = Vec::new();
    let mut allowed = course.allowed.subscribe();
    for number in numbers {
        allowed.wait_for(|allowed| course.sent.load(Ordering::SeqCst) < *allowed).await.unwrap();
        let body = format!("{{\"n\":{number},\"source\":{source}}}");
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
        let signature = format!("sha256={}", hex::encode(ring::hmac::sign(&key, body.as_bytes())));
        let delivery = number.to_string();
        let headers = [
            ("content-type", "application/json"),
            ("x-hub-signature-256", signature.as_str()),
            ("x-delivery", delivery.as_str()),
        ];
        loop {
            match http.call("POST", &format!("{url}/webhooks/s{source}"), &headers, body.clone()).await {
                Ok(answer) if answer.status.is_success() => {
                    let answer = answer.json();
                    accepted.push(Accepted { id: answer["messageId"].as_str().unwrap().to_owned(), answer });
                    break;
                }
                Ok(answer) if answer.status.as_u16() < 500 && answer.status.as_u16() != 429 => {
                    panic!("{}: {}", answer.status, answer.json())
                }
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        course.sent.fetch_add(1, Ordering::SeqCst);
    }
    accepted
}

/// Collects what arrives: ids in the order of their first arrival.
async fn collect(
    transport: Arc<dyn Transport>,
    course: Arc<Course>,
) -> mpsc::UnboundedReceiver<(String, u64)> {
    transport.declare_exchange("exchange/pulsehook/v1/webhook").await.unwrap();
    let queue = QueueSpec {
        name: Arc::from("queue/pulsehook/faults"),
        // RabbitMQ 3.10 can lose a quorum queue for good when its only node is killed within a second of declaring it, which is
        // what a quick machine does here. The bridge's promise does not depend on the kind.
        kind: QueueKind::Classic,
        delivery_limit: None,
        dead_letter_exchange: None,
        max_length: None,
        bindings: vec![Binding { exchange: "exchange/pulsehook/v1/webhook".into(), pattern: "#".into() }],
        unbind: Vec::new(),
    };
    transport.declare_queue(queue).await.unwrap();
    let (sink, mut deliveries) = mpsc::channel(1000);
    transport.consume("queue/pulsehook/faults", 500, sink).await.unwrap();
    let (first, arrivals) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let _transport = transport;
        let mut seen = HashSet::new();
        while let Some(delivery) = deliveries.recv().await {
            let message = Arc::clone(&delivery.message);
            delivery.ack();
            let id = message.properties.message_id.clone().unwrap();
            if seen.insert(id.clone()) {
                course.arrived.fetch_add(1, Ordering::SeqCst);
                let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
                if first.send((id, body["source"].as_u64().unwrap())).is_err() {
                    return;
                }
            }
        }
    });
    arrivals
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_event_arrives_once_and_in_order() {
    let events =
        std::env::var("PULSEHOOK_TEST_EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(4_000_u64);
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool.db");
    let mut rabbit = Rabbit::start().await.unwrap();
    let broker = rabbit.url("/");
    let consumer = transport(&broker);
    eventually(DEADLINE, async || (*consumer.status().borrow() == pulse::Status::Up).then_some(())).await;
    let course = Course::new(0);
    let mut arrivals = collect(consumer, Arc::clone(&course)).await;
    rabbit.settle().await;
    let listen: SocketAddr = format!("127.0.0.1:{}", free_port().unwrap()).parse().unwrap();
    let process = start_bridge(&broker, listen, &spool);

    let mut senders = tokio::task::JoinSet::new();
    for source in 0..SOURCES {
        let (url, course) = (format!("http://{listen}"), Arc::clone(&course));
        senders.spawn(async move { (source, send_all(url, source, 0..events / SOURCES, course).await) });
    }
    // Each fault comes once a further tenth of the events was accepted, and while events arrive.
    let reach = |tenths: u64| course.reach(events * tenths / 10);
    reach(1).await;
    rabbit.kill9().unwrap();
    reach(2).await;
    let before = course.arrived();
    rabbit.restart().await.unwrap();
    course.flows(before).await;
    reach(3).await;
    rabbit.stop().await.unwrap();
    reach(4).await;
    drop(process);
    let process = start_bridge(&broker, listen, &spool);
    reach(5).await;
    let before = course.arrived();
    rabbit.restart().await.unwrap();
    course.flows(before).await;
    reach(6).await;
    rabbit.pause().unwrap();
    reach(7).await;
    drop(process);
    let before = course.arrived();
    rabbit.resume().unwrap();
    let process = start_bridge(&broker, listen, &spool);
    course.flows(before).await;
    reach(8).await;
    rabbit.kill9().unwrap();
    reach(9).await;
    rabbit.restart().await.unwrap();
    course.allowed.send_replace(u64::MAX);

    let accepted: HashMap<u64, Vec<Accepted>> = senders.join_all().await.into_iter().collect();
    let total = accepted.values().map(Vec::len).sum::<usize>();
    let mut arrived: HashMap<u64, Vec<String>> = HashMap::new();
    for number in 0..total {
        let Ok(arrival) = tokio::time::timeout(DEADLINE, arrivals.recv()).await else {
            let all: HashSet<&String> = arrived.values().flatten().collect();
            let missing = accepted.values().flatten().filter(|event| !all.contains(&event.id));
            let answers: Vec<&serde_json::Value> = missing.map(|event| &event.answer).take(20).collect();
            let status = Http::default().call("GET", &format!("http://{listen}/__status__"), &[], "").await;
            let status = status.map(|answer| answer.json());
            panic!("{number} of {total} arrived; of the missing: {answers:#?}; the bridge: {status:#?}");
        };
        let (id, source) = arrival.unwrap();
        arrived.entry(source).or_default().push(id);
    }
    drop(process);
    for (source, events) in accepted {
        let ids: Vec<&String> = events.iter().map(|event| &event.id).collect();
        let arrived: Vec<&String> = arrived[&source].iter().collect();
        assert_eq!(arrived.len(), ids.len(), "source {source}");
        let at = ids.iter().zip(&arrived).position(|(accepted, arrived)| accepted != arrived);
        assert!(at.is_none(), "source {source}: not in order from event {at:?} on");
    }
}

/// A broker that lost its disk comes back without queues, and whoever listened is back later than the bridge. What waited
/// for the broker, and what comes meanwhile, waits for them, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_comes_back_empty_loses_no_event_that_waited() {
    let folder = tempfile::tempdir().unwrap();
    let mut rabbit = Rabbit::start().await.unwrap();
    let proxy = Proxy::start(rabbit.address()).await.unwrap();
    let consumer =
        transport(&rabbit.url("/").replace(&rabbit.address().to_string(), &proxy.address().to_string()));
    eventually(DEADLINE, async || (*consumer.status().borrow() == pulse::Status::Up).then_some(())).await;
    let course = Course::new(u64::MAX);
    let mut arrivals = collect(consumer, Arc::clone(&course)).await;
    let listen: SocketAddr = format!("127.0.0.1:{}", free_port().unwrap()).parse().unwrap();
    let publishing = transport(&rabbit.url("/"));
    let bridge = tokio::spawn({
        let (publishing, spool) = (Arc::clone(&publishing), folder.path().join("spool.db"));
        async move { serve(publishing, listen, &spool).await }
    });
    let send = |numbers| send_all(format!("http://{listen}"), 0, numbers, Arc::clone(&course));
    let mut accepted = send(0..10).await;
    let mut arrived = Vec::new();
    while arrived.len() < accepted.len() {
        arrived.push(tokio::time::timeout(DEADLINE, arrivals.recv()).await.unwrap().unwrap().0);
    }
    proxy.refuse(true);
    proxy.cut();
    rabbit.kill9().unwrap();
    rabbit.forget().unwrap();
    accepted.extend(send(10..200).await);
    rabbit.restart().await.unwrap();
    eventually(DEADLINE, async || (*publishing.status().borrow() == pulse::Status::Up).then_some(())).await;
    accepted.extend(send(200..300).await);
    let spooled = &accepted.last().unwrap().answer["spooled"];
    assert_eq!(spooled, true, "no queue stands that it could be in");
    proxy.refuse(false);
    while arrived.len() < accepted.len() {
        let arrival = tokio::time::timeout(DEADLINE, arrivals.recv()).await;
        arrived.push(arrival.unwrap_or_else(|_| panic!("only {} arrived", arrived.len())).unwrap().0);
    }
    assert!(accepted.iter().map(|event| &event.id).eq(&arrived), "not in order");
    bridge.abort();
}
