//! What is not to fire now waits in the broker, and not half way.

use std::time::Duration;

use harness::{Rabbit, eventually};
use pulse::{Amqp, Message, Properties, QueueKind, QueueSpec, Transport as _};
use pulsehook::store::FireState;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::system::{SOON, System, hook, shared_rabbit};

/// Somebody else's exchange.
const EXCHANGE: &str = "exchange/somebody/v1/things";

/// A deployment on a virtual host of its own, and a publisher on [`EXCHANGE`].
async fn deployment(rabbit: &Rabbit, vhost: &str, config: &str) -> (System, Amqp) {
    let publisher = publisher(rabbit, vhost).await;
    let config = format!("[auth]\nanonymous = [\"*\"]\n{config}");
    (System::start_configured(&rabbit.url(vhost), &config, &[]).await, publisher)
}

async fn publisher(rabbit: &Rabbit, vhost: &str) -> Amqp {
    rabbit.add_vhost(vhost).await.unwrap();
    let url = rabbit.url(vhost);
    let publish_timeout = Duration::from_secs(10);
    let publisher = Amqp::connect(pulse::amqp::AmqpConfig {
        url: &url,
        ca_file: None,
        name: "somebody",
        publish_timeout,
    });
    let publisher = publisher.unwrap();
    let mut status = publisher.status();
    tokio::time::timeout(SOON, status.wait_for(|status| *status == pulse::Status::Up))
        .await
        .unwrap()
        .unwrap();
    publisher.declare_exchange(EXCHANGE).await.unwrap();
    publisher
}

async fn publish(publisher: &Amqp, routing_key: String, body: Value) {
    let properties = Properties { message_id: Some(routing_key.clone()), ..Properties::default() };
    let body = body.to_string().into();
    let message = Message { exchange: EXCHANGE.into(), routing_key, properties, body };
    assert!(publisher.publish(&message, true).await.unwrap().routed);
}

/// A hook's queue as the broker sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Depth {
    ready: usize,
    unacknowledged: usize,
    consumers: usize,
}

async fn depth(rabbit: &Rabbit, vhost: &str, hook: &str) -> Option<Depth> {
    let columns = ["name", "messages_ready", "messages_unacknowledged", "consumers"];
    let listed = rabbit.ctl(&[&["list_queues", "-p", vhost], &columns[..]].concat()).await.ok()?;
    let name = format!("queue/pulsehook/{hook}");
    let line = listed.lines().find(|line| line.split_whitespace().next() == Some(&name))?;
    let mut figures = line.split_whitespace().skip(1).filter_map(|figure| figure.parse().ok());
    Some(Depth { ready: figures.next()?, unacknowledged: figures.next()?, consumers: figures.next()? })
}

async fn until(rabbit: &Rabbit, vhost: &str, hook: &str, wanted: impl Fn(Depth) -> bool) -> Depth {
    eventually(SOON, async || depth(rabbit, vhost, hook).await.filter(|depth| wanted(*depth))).await
}

async fn faults(system: &System, rules: Value) {
    let url = system.queue_url.replace("/api/queue/v1", "/__faults__");
    let answer = system.http.json("POST", &url, &json!({ "rules": rules })).await.unwrap();
    assert_eq!(answer.status, 200);
}

fn store(system: &System) -> Connection {
    let store = Connection::open(system.folder().join("pulsehook.db")).unwrap();
    store.busy_timeout(SOON).unwrap();
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_rests_does_so_also_when_the_queue_service_is_back() {
    let rabbit = shared_rabbit().await;
    let config = "[router]\nreturn_after_seconds = 1\n[router.hook]\nfailures = 1\npause_seconds = 3600";
    let (system, publisher) = deployment(&rabbit, "rests", config).await;
    let mut breakable = hook(&[(EXCHANGE, "break.*")]);
    breakable["task"]["payload"] = json!({ "value": "{{ payload.good.deep }}" });
    system.create_hook("rests/broken", &breakable).await;
    system.create_hook("rests/good", &hook(&[(EXCHANGE, "good.*")])).await;
    // The first breaks it, the next comes back to the broker, which is when it rests.
    publish(&publisher, "break.0".into(), json!({})).await;
    let dead = format!("{}/hooks/rests/broken/dead-letters", system.api_url);
    eventually(SOON, async || {
        let dead = system.http.get(&dead).await.ok()?.json();
        (dead["deadLetters"].as_array()?.len() == 1).then_some(())
    })
    .await;
    publish(&publisher, "break.1".into(), json!({})).await;
    let rests = Depth { ready: 1, unacknowledged: 0, consumers: 0 };
    until(&rabbit, "rests", "rests/broken", |depth| depth == rests).await;

    faults(&system, json!([{ "calls": "any", "do": "status", "status": 503 }])).await;
    for number in 0..5 {
        publish(&publisher, format!("good.{number}"), json!({})).await;
    }
    until(&rabbit, "rests", "rests/good", |depth| depth.consumers == 0).await;
    faults(&system, json!([])).await;
    system.wait_for_tasks(5, SOON).await;
    until(&rabbit, "rests", "rests/good", |depth| depth.consumers == 1).await;
    assert_eq!(depth(&rabbit, "rests", "rests/broken").await, Some(rests));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_had_come_in_advance_goes_back_when_a_hook_is_paused() {
    // The next one has its turn only after a minute. A hook gets ten minutes' worth in advance.
    const AT_ONCE: usize = 1;
    const MORE: usize = 9;
    let rabbit = shared_rabbit().await;
    let config = format!("[router.hook]\nfires_per_minute = {AT_ONCE}");
    let (system, publisher) = deployment(&rabbit, "pauses", &config).await;
    let mut definition = hook(&[(EXCHANGE, "#")]);
    system.create_hook("pauses/hook", &definition).await;
    for number in 0..AT_ONCE + MORE {
        publish(&publisher, format!("thing.{number}"), json!({})).await;
    }
    system.wait_for_tasks(AT_ONCE, SOON).await;
    until(&rabbit, "pauses", "pauses/hook", |depth| depth.unacknowledged >= MORE - 1).await;
    let url = format!("{}/hooks/pauses/hook", system.api_url);
    definition["paused"] = json!(true);
    assert_eq!(system.http.json("POST", &url, &definition).await.unwrap().status, 200);
    let paused = until(&rabbit, "pauses", "pauses/hook", |depth| depth.unacknowledged == 0).await;
    // One or two more may have had their turn in the meantime.
    assert!(paused.ready >= MORE - 2 && paused.consumers == 0, "{paused:?}");
    definition["paused"] = json!(false);
    assert_eq!(system.http.json("POST", &url, &definition).await.unwrap().status, 200);
    until(&rabbit, "pauses", "pauses/hook", |depth| depth.unacknowledged > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_come_few_at_a_time() {
    const AT_ONCE: usize = 100;
    const MORE: usize = 200;
    let rabbit = shared_rabbit().await;
    let config = format!("[router]\nheld_megabytes = 4\n[router.hook]\nfires_per_minute = {AT_ONCE}");
    let (system, publisher) = deployment(&rabbit, "large", &config).await;
    system.create_hook("large/hook", &hook(&[(EXCHANGE, "#")])).await;
    let body = json!({ "filling": "x".repeat(64 << 10) });
    for number in 0..AT_ONCE + MORE {
        publish(&publisher, format!("thing.{number}"), body.clone()).await;
    }
    // Without a bound of bytes all of them would be out: their number is no reason to stop.
    until(&rabbit, "large", "large/hook", |depth| depth.ready >= MORE / 4).await;
    let url = format!("{}/hooks/large/hook", system.api_url);
    assert_eq!(system.http.call("DELETE", &url, &[], "").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn fires_of_a_hook_that_this_version_cannot_read_wait_for_one_that_can() {
    let rabbit = shared_rabbit().await;
    let (system, publisher) = deployment(&rabbit, "unread", "").await;
    system.create_hook("unread/hook", &hook(&[(EXCHANGE, "#")])).await;
    faults(&system, json!([{ "calls": "any", "do": "status", "status": 503 }])).await;
    publish(&publisher, "thing".into(), json!({})).await;
    let pending = || -> i64 {
        store(&system).query_row("SELECT count(*) FROM fire WHERE state = 0", [], |row| row.get(0)).unwrap()
    };
    eventually(SOON, async || (pending() == 1).then_some(())).await;

    let mut router = system.router.lock().await;
    router.stop().await.unwrap();
    store(&system).execute("UPDATE hook SET document = json_remove(document, '$.metadata')", []).unwrap();
    router.start().await.unwrap();
    drop(router);
    assert_eq!(pending(), 1);
    faults(&system, json!([])).await;
    // Somebody corrects it.
    let url = format!("{}/hooks/unread/hook", system.api_url);
    let corrected = system.http.json("POST", &url, &hook(&[(EXCHANGE, "#")])).await.unwrap();
    assert_eq!(corrected.status, 200, "{}", corrected.json());
    system.wait_for_tasks(1, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_used_again_fires_again_also_when_its_message_had_to_go_back() {
    const PENDING: usize = 5;
    let rabbit = shared_rabbit().await;
    let config = format!(
        "[router]\nreturn_after_seconds = 1\nidentity_window_seconds = 0\npending_fires_per_hook = {PENDING}"
    );
    let (system, publisher) = deployment(&rabbit, "again", &config).await;
    system.create_hook("again/hook", &hook(&[(EXCHANGE, "#")])).await;
    publish(&publisher, "thing".into(), json!({})).await;
    system.wait_for_tasks(1, SOON).await;
    // Behind fires that cannot end it is taken in, and not recorded.
    faults(&system, json!([{ "calls": "any", "do": "status", "status": 503 }])).await;
    for number in 0..PENDING {
        publish(&publisher, format!("other.{number}"), json!({})).await;
    }
    publish(&publisher, "thing".into(), json!({})).await;
    let back = Depth { ready: 1, unacknowledged: 0, consumers: 0 };
    until(&rabbit, "again", "again/hook", |depth| depth == back).await;
    faults(&system, json!([])).await;
    system.wait_for_tasks(1 + PENDING + 1, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_counts_only_once_it_is_known_that_no_task_was_made_before_it() {
    let rabbit = shared_rabbit().await;
    let (system, publisher) = deployment(&rabbit, "refusal", "").await;
    system.create_hook("refusal/hook", &hook(&[(EXCHANGE, "#")])).await;
    // The task is made and the answer lost; then the service changes its mind; and it cannot be asked either.
    let rules = json!([
        { "do": "close", "stored": true, "next": 1 },
        { "do": "status", "status": 403, "next": 1 },
        { "calls": "task", "do": "status", "status": 503, "next": 1 },
    ]);
    faults(&system, rules).await;
    publish(&publisher, "thing".into(), json!({})).await;
    let ended = eventually(SOON, async || {
        let store = store(&system);
        let ended = store.query_row("SELECT state, attempts FROM fire WHERE state != 0", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        });
        ended.ok()
    })
    .await;
    assert_eq!(ended, (FireState::Success as i64, 3));
    system.wait_for_tasks(1, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_rests_is_consumed_again_though_nothing_waited_for_it() {
    let rabbit = shared_rabbit().await;
    let config = "[router]\nreturn_after_seconds = 1\n[router.hook]\nfailures = 1\npause_seconds = 20";
    let (system, publisher) = deployment(&rabbit, "awakes", config).await;
    let mut breakable = hook(&[(EXCHANGE, "break.*")]);
    breakable["task"]["payload"] = json!({ "value": "{{ payload.good.deep }}" });
    system.create_hook("awakes/broken", &breakable).await;
    system.create_hook("awakes/good", &hook(&[(EXCHANGE, "good.*")])).await;
    // Its last message breaks it. Nothing comes that would hear so before all consumers end, and begin again.
    publish(&publisher, "break.0".into(), json!({})).await;
    let dead = format!("{}/hooks/awakes/broken/dead-letters", system.api_url);
    eventually(SOON, async || {
        let dead = system.http.get(&dead).await.ok()?.json();
        (dead["deadLetters"].as_array()?.len() == 1).then_some(())
    })
    .await;
    faults(&system, json!([{ "calls": "any", "do": "status", "status": 503 }])).await;
    for number in 0..5 {
        publish(&publisher, format!("good.{number}"), json!({})).await;
    }
    until(&rabbit, "awakes", "awakes/broken", |depth| depth.consumers == 0).await;
    faults(&system, json!([])).await;
    system.wait_for_tasks(5, SOON).await;
    publish(&publisher, "break.1".into(), json!({ "good": { "deep": 1 } })).await;
    system.wait_for_tasks(6, SOON).await;
    until(&rabbit, "awakes", "awakes/broken", |depth| depth.consumers == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_of_a_hook_that_waits_holds_up_no_other() {
    const WAITING: usize = 250;
    let rabbit = shared_rabbit().await;
    let publisher = publisher(&rabbit, "set-back").await;
    // As earlier versions declared it.
    let spec = QueueSpec {
        name: "queue/pulsehook/undeliverable".into(),
        kind: QueueKind::Quorum,
        delivery_limit: None,
        dead_letter_exchange: None,
        max_length: None,
        bindings: Vec::new(),
        unbind: Vec::new(),
    };
    publisher.declare_queue(spec).await.unwrap();
    let system =
        System::start_configured(&rabbit.url("set-back"), "[auth]\nanonymous = [\"*\"]\n", &[]).await;
    let mut paused = hook(&[(EXCHANGE, "paused.*")]);
    paused["paused"] = json!(true);
    system.create_hook("set-back/paused", &paused).await;
    system.create_hook("set-back/good", &hook(&[(EXCHANGE, "good.*")])).await;
    // As the broker moves messages there.
    let give_up = async |hook: &str, routing_key: String| {
        let death = json!([{
            "queue": format!("queue/pulsehook/set-back/{hook}"), "exchange": EXCHANGE, "routing-keys": [routing_key],
            "reason": "delivery_limit", "count": 1,
        }]);
        let mut properties = Properties { message_id: Some(routing_key.clone()), ..Properties::default() };
        properties.headers.insert("x-death".into(), death);
        let exchange = "exchange/pulsehook/v1/undeliverable".into();
        let message = Message { exchange, routing_key, properties, body: "{}".into() };
        assert!(publisher.publish(&message, true).await.unwrap().routed);
    };
    for number in 0..WAITING {
        give_up("paused", format!("paused.{number}")).await;
    }
    give_up("good", "good.0".into()).await;
    let tasks = system.wait_for_tasks(1, SOON).await;
    assert_eq!(tasks[0]["task"]["payload"]["key"], "good.0", "{tasks:?}");
    paused["paused"] = json!(false);
    let answer =
        system.http.json("POST", &format!("{}/hooks/set-back/paused", system.api_url), &paused).await;
    assert_eq!(answer.unwrap().status, 200);
    system.wait_for_tasks(WAITING + 1, SOON).await;
}
