//! What keeps hooks from harming themselves and others: the guard against loops, the rate limit, the circuit breaker.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use harness::eventually;
use pulse::{Amqp, Message, Properties, Transport as _};
use serde_json::{Value, json};

use super::system::{SOON, System, hook, shared_rabbit};

/// Where Taskcluster says that a task is done.
const COMPLETED: &str = "exchange/taskcluster-queue/v1/task-completed";

/// A deployment with this configuration, and a publisher on [`COMPLETED`].
async fn deployment(vhost: &str, limits: &str) -> (System, Amqp) {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost(vhost).await.unwrap();
    let url = rabbit.url(vhost);
    let publisher = Amqp::connect(pulse::amqp::AmqpConfig {
        url: &url,
        ca_file: None,
        name: "the queue service",
        publish_timeout: Duration::from_secs(10),
    })
    .unwrap();
    let mut status = publisher.status();
    tokio::time::timeout(SOON, status.wait_for(|status| *status == pulse::Status::Up))
        .await
        .unwrap()
        .unwrap();
    publisher.declare_exchange(COMPLETED).await.unwrap();
    let open = format!("[auth]\nanonymous = [\"*\"]\n[router.hook]\n{limits}");
    (System::start_configured(&url, &open, &[]).await, publisher)
}

async fn publish(publisher: &Amqp, routing_key: String, body: Value) {
    let properties = Properties { message_id: Some(routing_key.clone()), ..Properties::default() };
    let message =
        Message { exchange: COMPLETED.into(), routing_key, properties, body: body.to_string().into() };
    assert!(publisher.publish(&message, true).await.unwrap().routed);
}

async fn api(system: &System, path: &str) -> Value {
    system.http.get(&format!("{}{path}", system.api_url)).await.unwrap().json()
}

/// Waits for the hook's newest decision that `wanted` says yes to.
async fn decision(system: &System, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(SOON, async || {
        let page = api(system, &format!("/hooks/{name}/decisions")).await;
        page["decisions"].as_array()?.iter().find(|decision| wanted(decision)).cloned()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_does_not_fire_on_what_came_of_its_own_tasks() {
    let (system, queue) = deployment("loops", "").await;
    system.create_hook("loop/first", &hook(&[(COMPLETED, "first.#")])).await;
    system.create_hook("loop/second", &hook(&[(COMPLETED, "second.#")])).await;
    let trigger = format!("{}/hooks/loop/first/trigger", system.api_url);
    let fired = system.http.json("POST", &trigger, &json!({})).await.unwrap().json();
    let own = fired["taskId"].as_str().unwrap();

    // On its own task: not fired, with the reason on record.
    publish(&queue, format!("first.{own}.0"), json!({})).await;
    let direct = decision(&system, "loop/first", |decision| decision["outcome"] == "loop").await;
    let reason = direct["reason"].as_str().unwrap();
    assert!(reason.contains(own) && reason.contains("which this hook made"), "{reason}");

    // Another hook may fire on it; on what came of that, the first may not.
    publish(&queue, format!("second.{own}.0"), json!({})).await;
    let tasks = system.wait_for_tasks(2, SOON).await;
    let caused = tasks[1]["taskId"].as_str().unwrap();
    publish(&queue, format!("first.{caused}.0"), json!({})).await;
    let indirect = decision(&system, "loop/first", |decision| {
        decision["routingKey"] == format!("first.{caused}.0").as_str()
    })
    .await;
    let reason = indirect["reason"].as_str().unwrap();
    assert!(indirect["outcome"] == "loop" && reason.contains("through 1 other"), "{indirect}");

    // A task of somebody else's is an event like any other.
    publish(&queue, "first.fN1SbArXTPSVFNUvaOlinQ.0".into(), json!({})).await;
    system.wait_for_tasks(3, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_the_rate_limit_waits_and_fires_in_its_time() {
    const AT_ONCE: usize = 60;
    const MORE: usize = 15;
    let (system, publisher) = deployment("rate", "fires_per_minute = 60").await;
    system.create_hook("rate/busy", &hook(&[(COMPLETED, "busy.*")])).await;
    system.create_hook("rate/quiet", &hook(&[(COMPLETED, "quiet.*")])).await;
    let before = chrono::Utc::now().timestamp_millis();
    // All at once: the limit holds them for no longer than MORE seconds.
    join_all((0..AT_ONCE + MORE).map(|number| publish(&publisher, format!("busy.{number}"), json!({}))))
        .await;
    eventually(SOON, async || {
        let held = api(&system, "/hooks/rate/busy/bindings").await["held"].clone();
        held["reason"].as_str().filter(|reason| reason.contains("fires_per_minute")).map(drop)
    })
    .await;
    publish(&publisher, "quiet.0".into(), json!({})).await;
    let tasks = system.wait_for_tasks(AT_ONCE + MORE + 1, SOON).await;

    let received = |key: &str| -> Vec<i64> {
        let of_hook = tasks
            .iter()
            .filter(|task| task["task"]["payload"]["key"].as_str().is_some_and(|name| name.starts_with(key)));
        let time = |task: &Value| chrono::DateTime::parse_from_rfc3339(task["received"].as_str().unwrap());
        of_hook.map(|task| time(task).unwrap().timestamp_millis()).collect()
    };
    let busy = received("busy.");
    assert_eq!(busy.len(), AT_ONCE + MORE, "nothing is dropped");
    // One more each second, and so the last no sooner than that.
    let last = busy[AT_ONCE + MORE - 1] - before;
    assert!(last >= MORE as i64 * 1_000 - 100, "{last} ms");
    assert!(received("quiet.")[0] < busy[AT_ONCE + MORE - 1], "one hook's limit holds up no other");
    let fires = api(&system, "/hooks/rate/busy/last-fires").await;
    assert_eq!(fires["lastFires"].as_array().map(Vec::len), Some(AT_ONCE + MORE));
}

/// A hook whose template fails on request.
fn breakable() -> Value {
    let mut definition = hook(&[(COMPLETED, "break.*")]);
    definition["task"]["payload"] = json!({ "value": "{{ payload.good.deep }}" });
    definition
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_keeps_failing_rests_and_goes_on_when_it_works_again() {
    const GOOD: usize = 5;
    let (system, publisher) = deployment("breaker", "failures = 3\npause_seconds = 10").await;
    system.create_hook("breaker/hook", &breakable()).await;
    for number in 0..3 {
        publish(&publisher, format!("break.bad{number}"), json!({})).await;
    }
    let held = eventually(SOON, async || {
        let held = api(&system, "/hooks/breaker/hook/bindings").await["held"].clone();
        held.is_object().then_some(held)
    })
    .await;
    assert!(held["reason"].as_str().unwrap().contains("keep failing"), "{held}");
    let until = chrono::DateTime::parse_from_rfc3339(held["until"].as_str().unwrap()).unwrap();
    for number in 0..GOOD {
        publish(&publisher, format!("break.good{number}"), json!({ "good": { "deep": 1 } })).await;
    }
    let tasks = system.wait_for_tasks(GOOD, SOON).await;
    let first = chrono::DateTime::parse_from_rfc3339(tasks[0]["received"].as_str().unwrap()).unwrap();
    assert!(first >= until - chrono::Duration::milliseconds(100), "{first} {until}");
    assert_eq!(api(&system, "/hooks/breaker/hook/bindings").await["held"], Value::Null);
    let dead = api(&system, "/hooks/breaker/hook/dead-letters").await;
    assert_eq!(dead["deadLetters"].as_array().map(Vec::len), Some(3), "{dead}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mended_hook_rests_no_longer_and_a_deletion_counts_what_waited() {
    const WAITING: u64 = 30;
    let (system, publisher) = deployment("mended", "failures = 1\npause_seconds = 3600").await;
    system.create_hook("breaker/hook", &breakable()).await;
    let url = format!("{}/hooks/breaker/hook", system.api_url);
    let pause = async |label: &str| {
        publish(&publisher, format!("break.{label}"), json!({})).await;
        eventually(SOON, async || {
            api(&system, "/hooks/breaker/hook/bindings").await["held"].is_object().then_some(())
        })
        .await;
    };
    pause("first").await;
    publish(&publisher, "break.waits".into(), json!({})).await;
    let mut mended = breakable();
    mended["task"]["payload"] = json!({ "value": "{% if payload.good %}{{ payload.good.deep }}{% endif %}" });
    assert_eq!(system.http.json("POST", &url, &mended).await.unwrap().status, 200);
    system.wait_for_tasks(1, SOON).await;

    assert_eq!(system.http.json("POST", &url, &breakable()).await.unwrap().status, 200);
    pause("again").await;
    for number in 1..WAITING {
        publish(&publisher, format!("break.waiting{number}"), json!({})).await;
    }
    // A trigger waits with them, its caller does not.
    let asked = Instant::now();
    let trigger = system.http.json("POST", &format!("{url}/trigger?wait=20"), &json!({})).await.unwrap();
    assert!(trigger.json()["taskId"].is_string(), "{}", trigger.json());
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    assert_eq!(system.http.call("DELETE", &url, &[], "").await.unwrap().status, 200);
    let audit = api(&system, "/hooks/breaker/hook/audit").await;
    let newest = &audit["audit"][0];
    assert_eq!(
        (newest["action"].as_str(), newest["detail"]["messagesDropped"].as_u64(), &newest["clientId"]),
        (Some("delete-queue"), Some(WAITING), &Value::Null),
        "{audit}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_also_counts_what_the_router_had_taken_in_and_not_begun() {
    const MESSAGES: u64 = 30;
    let (system, publisher) = deployment("taken", "fires_per_minute = 1").await;
    system.create_hook("taken/hook", &hook(&[(COMPLETED, "taken.*")])).await;
    for number in 0..MESSAGES {
        publish(&publisher, format!("taken.{number}"), json!({})).await;
    }
    system.wait_for_tasks(1, SOON).await;
    let url = format!("{}/hooks/taken/hook", system.api_url);
    assert_eq!(system.http.call("DELETE", &url, &[], "").await.unwrap().status, 200);
    let audit = api(&system, "/hooks/taken/hook/audit").await;
    assert_eq!(audit["audit"][0]["detail"]["messagesDropped"], MESSAGES - 1, "{audit}");
}
