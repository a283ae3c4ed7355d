//! The broker away: accepted events are on disk before the sender hears of it, come out in order, and are bounded.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bridge::{Bridge, Outside};
use serde_json::json;

use crate::support::{Broker, bridge, config, emptied, event, eventually, send};

pub fn with_spool(folder: &tempfile::TempDir, options: &str) -> String {
    format!(
        r#"
        publish_timeout_ms = 100
        [spool]
        path = "{}"
        {options}
        [[source]]
        name = "ci"
        provider = "hmac"
        secrets = ["key for tests"]
        [[source]]
        name = "other"
        provider = "hmac"
        secrets = ["key for tests"]
    "#,
        folder.path().join("spool.db").display()
    )
}

pub fn numbers(broker: &Broker, source: &str) -> Vec<u64> {
    let prefix = format!("{source}.");
    let of_source = broker.messages().into_iter().filter(|message| message.routing_key.starts_with(&prefix));
    of_source
        .map(|m| serde_json::from_slice::<serde_json::Value>(&m.body).unwrap()["n"].as_u64().unwrap())
        .collect()
}

pub async fn send_number(bridge: &Bridge, source: &str, number: u64) -> u16 {
    let answer = send(bridge, event(source, Some(&number.to_string()), &format!("{{\"n\":{number}}}"))).await;
    if answer.status == 202 {
        assert_eq!(answer.json()["spooled"], json!(true), "{}", answer.text);
        assert!(
            answer.json()["messageId"].is_string() && answer.json().get("routed").is_none(),
            "{}",
            answer.text
        );
    }
    answer.status
}

#[tokio::test]
async fn events_are_spooled_while_the_broker_is_away_and_published_in_order_before_newer_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (bridge, broker) = bridge(&with_spool(&folder, ""));
    bridge.start().await.unwrap();
    assert_eq!(send_number(&bridge, "ci", 0).await, 200);
    broker.down();
    for number in 1..=200 {
        assert_eq!(send_number(&bridge, "ci", number).await, 202);
        assert_eq!(send_number(&bridge, "other", number).await, 202);
    }
    let contents = bridge.spooled().unwrap();
    assert_eq!(contents.events, 400);
    assert!(contents.bytes > 0);
    broker.up();
    // Newer events while the older ones come out: each source's order stays.
    for number in 201..=400 {
        let status = send_number(&bridge, "ci", number).await;
        assert!(matches!(status, 200 | 202), "{status}");
    }
    emptied(&bridge).await;
    assert_eq!(numbers(&broker, "ci"), (0..=400).collect::<Vec<_>>());
    assert_eq!(numbers(&broker, "other"), (1..=200).collect::<Vec<_>>());
    assert_eq!(send_number(&bridge, "ci", 401).await, 200, "nothing waits any more");
    bridge.stop().await;
}

#[tokio::test]
async fn what_was_spooled_comes_out_in_groups_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (bridge, broker) = bridge(&with_spool(&folder, ""));
    broker.down();
    for number in 0..300 {
        assert_eq!(send_number(&bridge, "ci", number).await, 202);
    }
    broker.up();
    bridge.start().await.unwrap();
    emptied(&bridge).await;
    assert_eq!(numbers(&broker, "ci"), (0..300).collect::<Vec<_>>());
    assert!(broker.most_unconfirmed.load(Ordering::SeqCst) > 10, "one after the other takes too long");
    bridge.stop().await;
}

#[tokio::test]
async fn what_no_queue_takes_waits_while_the_broker_is_back_only_just_now() {
    let folder = tempfile::tempdir().unwrap();
    let (bridge, broker) = bridge(&with_spool(&folder, ""));
    broker.unrouted.store(true, Ordering::SeqCst);
    assert_eq!(send_number(&bridge, "ci", 0).await, 200, "that nobody listens is no news");
    broker.down();
    assert_eq!(send_number(&bridge, "ci", 1).await, 202);
    assert_eq!(send_number(&bridge, "ci", 2).await, 202);
    *broker.returned.lock().unwrap() = Some(Instant::now());
    broker.up();
    bridge.start().await.unwrap();
    broker.wait("the first two", |messages| messages.len() > 2).await;
    assert_eq!(send_number(&bridge, "ci", 3).await, 202);
    assert_eq!(send_number(&bridge, "other", 1).await, 202);
    assert_eq!(bridge.spooled().unwrap().events, 4);
    broker.unrouted.store(false, Ordering::SeqCst);
    emptied(&bridge).await;
    assert!(numbers(&broker, "ci").ends_with(&[1, 2, 3]), "{:?}", numbers(&broker, "ci"));
    // Later it is no news again.
    broker.unrouted.store(true, Ordering::SeqCst);
    *broker.returned.lock().unwrap() = Instant::now().checked_sub(Duration::from_secs(31));
    assert_eq!(send_number(&bridge, "ci", 4).await, 200);
    bridge.stop().await;
}

#[tokio::test]
async fn a_broker_that_does_not_confirm_in_time_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let (bridge, broker) = bridge(&with_spool(&folder, ""));
    broker.silent.store(true, Ordering::SeqCst);
    assert_eq!(send_number(&bridge, "ci", 1).await, 202);
    broker.silent.store(false, Ordering::SeqCst);
    bridge.start().await.unwrap();
    emptied(&bridge).await;
    assert_eq!(numbers(&broker, "ci"), [1]);
    bridge.stop().await;
}

#[tokio::test]
async fn what_was_accepted_is_there_after_a_restart_with_its_id_and_headers() {
    let folder = tempfile::tempdir().unwrap();
    let text = with_spool(&folder, "");
    let (first, broker) = bridge(&text);
    broker.down();
    let answer = send(&first, event("ci", Some("d-7"), "{ \"n\" : 7 }")).await;
    assert_eq!(answer.status, 202);
    // A second process on the same file would publish everything twice.
    let transport: Arc<dyn pulse::Transport> = Broker::new();
    let errors = Bridge::new(&config(&text), "pulsehook", transport).err().unwrap();
    assert!(errors[0].contains("another process uses this file"), "{errors:?}");
    drop(first);

    let (second, broker) = bridge(&text);
    assert_eq!(second.spooled().unwrap().events, 1);
    second.start().await.unwrap();
    let message = broker.wait("the spooled event", |messages| messages.len() == 1).await.remove(0);
    assert_eq!(message.properties.message_id.as_deref(), answer.json()["messageId"].as_str());
    assert_eq!((message.body.as_ref(), message.routing_key.as_str()), (b"{ \"n\" : 7 }".as_slice(), "ci._"));
    assert_eq!(message.properties.headers["x-pulsehook-delivery"], "d-7");
    emptied(&second).await;
    second.stop().await;
}

#[tokio::test]
async fn beyond_its_bounds_the_sender_is_told_to_come_again_and_nothing_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (bridge, broker) = bridge(&with_spool(&folder, "max_bytes = 600"));
    broker.down();
    let mut accepted = Vec::new();
    for number in 0..20 {
        match send_number(&bridge, "ci", number).await {
            202 => accepted.push(number),
            status => assert_eq!(status, 503),
        }
    }
    assert!(!accepted.is_empty() && accepted.len() < 20, "{accepted:?}");
    let answer = send(&bridge, event("ci", Some("x"), "{}")).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "Unavailable"));
    assert!(answer.headers.contains_key("retry-after"));
    bridge.start().await.unwrap();
    broker.up();
    emptied(&bridge).await;
    assert_eq!(numbers(&broker, "ci"), accepted);
    bridge.stop().await;
}

#[tokio::test]
async fn an_outage_that_is_too_long_closes_the_spool_for_new_events() {
    let folder = tempfile::tempdir().unwrap();
    let text = with_spool(&folder, "max_age_seconds = 60");
    let seconds = Arc::new(std::sync::atomic::AtomicI64::new(1_760_000_000));
    let clock = Arc::clone(&seconds);
    let outside = Outside {
        now: Arc::new(move || chrono::DateTime::from_timestamp(clock.load(Ordering::SeqCst), 0).unwrap()),
        ..Outside::default()
    };
    let (bridge, broker) = crate::support::bridge_with(&text, outside);
    broker.down();
    assert_eq!(send_number(&bridge, "ci", 1).await, 202);
    seconds.fetch_add(61, Ordering::SeqCst);
    assert_eq!(send_number(&bridge, "ci", 2).await, 503);
    assert_eq!(bridge.spooled().unwrap().oldest_seconds, 61);
}

#[tokio::test]
async fn a_broker_that_comes_and_goes_loses_and_disorders_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (bridge, broker) = bridge(&with_spool(&folder, ""));
    bridge.start().await.unwrap();
    let mut sent = 0;
    for round in 0..6 {
        if round % 2 == 0 {
            broker.down();
        } else {
            broker.up();
        }
        for _ in 0..40 {
            let status = send_number(&bridge, "ci", sent).await;
            assert!(matches!(status, 200 | 202), "{status}");
            sent += 1;
        }
    }
    broker.up();
    emptied(&bridge).await;
    assert_eq!(numbers(&broker, "ci"), (0..sent).collect::<Vec<_>>());
    bridge.stop().await;
}

#[tokio::test]
async fn coalescing_makes_a_storm_one_message_with_its_count() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = with_spool(&folder, "");
    text.push_str(
        "merge_seconds = 0\ncoalesce = { key = [\"body:/host\"], window_seconds = 1, keep = \"count\" }\n",
    );
    let (bridge, broker) = bridge(&text);
    bridge.start().await.unwrap();
    for number in 0..30 {
        let body = format!("{{\"host\":\"web{}\"}}", number % 2);
        let answer = send(&bridge, event("other", None, &body)).await;
        assert_eq!((answer.status, &answer.json()["coalesced"]), (202, &json!(true)), "{}", answer.text);
    }
    assert_eq!(bridge.spooled().unwrap().held, 2);
    let messages = broker.wait("both hosts", |messages| messages.len() == 2).await;
    let mut counts: Vec<(String, u64)> = messages
        .iter()
        .map(|message| {
            let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
            let count = message.properties.headers["x-pulsehook-count"].as_u64().unwrap();
            (body["host"].as_str().unwrap().to_owned(), count)
        })
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [("web0".to_owned(), 15), ("web1".to_owned(), 15)], "equal bodies count, too");
    eventually("nothing is held", async || (bridge.spooled().unwrap().held == 0).then_some(())).await;
    bridge.stop().await;
}

/// Variable by which the killed process learns its folder.
const FOLDER: &str = "PULSEHOOK_TEST_SPOOL_FOLDER";

#[tokio::test]
async fn a_killed_bridge_has_kept_every_event_that_it_answered() {
    use std::io::BufRead as _;

    let folder = tempfile::tempdir().unwrap();
    let mut process = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "spool::the_process_that_is_killed", "--ignored", "--nocapture"])
        .env(FOLDER, folder.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(process.stdout.take().unwrap()).lines();
    let mut accepted: Vec<String> = Vec::new();
    let mut keep = |line: String| accepted.extend(line.strip_prefix("accepted ").map(str::to_owned));
    for line in lines.by_ref().take(600) {
        keep(line.unwrap());
    }
    process.kill().unwrap();
    lines.map_while(Result::ok).for_each(&mut keep);
    process.wait().unwrap();
    assert!(accepted.len() > 500, "{}", accepted.len());

    let (bridge, broker) = bridge(&with_spool(&folder, ""));
    bridge.start().await.unwrap();
    emptied(&bridge).await;
    let mut published: Vec<String> = broker
        .messages()
        .into_iter()
        .map(|message| message.properties.headers["x-pulsehook-delivery"].as_str().unwrap().to_owned())
        .collect();
    published.sort_unstable();
    let count = published.len();
    published.dedup();
    assert_eq!(published.len(), count, "published twice");
    let lost: Vec<&String> = accepted.iter().filter(|id| published.binary_search(id).is_err()).collect();
    assert!(lost.is_empty(), "answered 202 and lost: {lost:?}");
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "killed by the test above, which starts it"]
async fn the_process_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let path = std::path::Path::new(&folder).join("spool.db");
    let text = format!(
        "spool = {{ path = {path:?} }}\n[limits]\nsource_per_second = 0\npeer_per_second = 0\n[[source]]\nname = \"ci\"\nprovider = \"hmac\"\nsecrets = [\"key for tests\"]\n"
    );
    let broker = Broker::new();
    broker.down();
    let config = toml::from_str(&text).unwrap();
    let bridge = Bridge::new(&config, "pulsehook", broker).unwrap();
    let routes = bridge.routes();
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..16 {
        let routes = routes.clone();
        senders.spawn(async move {
            for number in 0_u64.. {
                let id = format!("{sender}-{number}");
                let request = event("ci", Some(&id), &format!("{{\"n\":{number}}}"));
                let response = tower::ServiceExt::oneshot(routes.clone(), request).await.unwrap();
                assert_eq!(response.status(), 202);
                println!("accepted {id}");
            }
        });
    }
    senders.join_all().await;
}
