//! What the broker and foreign publishers may do to a hook costs that hook at most, and is on record.

use std::time::{Duration, Instant};

use harness::{Process, RawMessage, RawPublisher, eventually};
use serde_json::{Value, json};

use super::deployment::{Deployment, FOREIGN, WEBHOOK, configuration};
use super::lane::is_long;
use super::system::{BINARY, SOON, hook, shared_rabbit};
use super::traffic::Senders;

/// Property flag of `headers` (AMQP 0-9-1, class `basic`).
const HEADERS: u16 = 1 << 13;

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_messages_end_on_record_and_disturb_nobody() {
    let rabbit = shared_rabbit().await;
    // A slash in its name, as the default virtual host has.
    let vhost = "a/slash";
    rabbit.add_vhost(vhost).await.unwrap();
    let mut all = Deployment::start(&rabbit, vhost, &[]).await.unwrap();
    let senders = Senders::new(&all).await.unwrap();
    all.create_hook("traps/odd", &hook(&[(FOREIGN, "odd.#")])).await;
    all.create_hook("traps/even", &hook(&[(FOREIGN, "even.#")])).await;
    let mut long = hook(&[(WEBHOOK, "github.push.#")]);
    // The task's name would be too long with the key in it.
    long["task"]["metadata"]["name"] = json!("a task");
    all.create_hook("traps/long", &long).await;

    let mut raw = RawPublisher::connect(rabbit.address(), vhost).await.unwrap();
    let base = RawMessage {
        exchange: FOREIGN.as_bytes(),
        routing_key: b"odd.one",
        body: b"{\"n\":1}",
        ..Default::default()
    };
    let not_utf8 = b"\x00\x00\x00\x0d\x03whoS\x00\x00\x00\x04gr\xFCn";
    raw.publish(&RawMessage { flags: HEADERS, properties: not_utf8, ..base.clone() }).await.unwrap();
    raw.publish(&RawMessage { routing_key: b"odd.\xFC", ..base.clone() }).await.unwrap();
    raw.publish(&RawMessage { body: b"\xFF\xFEno JSON", ..base.clone() }).await.unwrap();
    raw.publish(&RawMessage { body: b"", ..base.clone() }).await.unwrap();
    senders.burst("even", "e", 1, 0).await.unwrap();
    // Two can be read well enough to become tasks, as can everybody else's.
    eventually(SOON, async || (all.count_tasks().await.ok()? == 3).then_some(())).await;
    eventually(SOON, async || {
        let page = all.http.get(&format!("{}/hooks/traps/odd/decisions", all.api_url())).await.ok()?.json();
        let rows = page["decisions"].as_array()?;
        assert!(rows.iter().all(|row| row["outcome"] == "not-json"), "{page}");
        (rows.len() == 2).then_some(())
    })
    .await;
    let lines = eventually(SOON, async || {
        let lines = all.router.lines();
        lines.iter().any(|line| line.contains("mended")).then_some(lines)
    })
    .await;
    assert!(!lines.iter().any(|line| line.contains("lost the broker")), "{}", lines.join("\n"));

    // A routing key that would have 300 bytes and more is cut, and the event is a task like any other.
    assert_eq!(senders.post(&"x".repeat(300), true).await.unwrap(), None);
    eventually(SOON, async || (all.count_tasks().await.ok()? == 4).then_some(())).await;
    let tasks = all.tasks().await.unwrap();
    let key = tasks[3]["task"]["payload"]["key"].as_str().unwrap();
    assert!(key.starts_with("github.push._.o.xxx") && key.len() <= 255, "{key}");
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_refused_bindings_are_their_own_hooks_affair() {
    const PER_HOOK: usize = 100;
    let hooks = if is_long() { 30 } else { 10 };
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("refused").await.unwrap();
    let mut all = Deployment::start(&rabbit, "refused", &[]).await.unwrap();
    let senders = Senders::new(&all).await.unwrap();
    all.create_hook("traps/good", &hook(&[(FOREIGN, "good.#")])).await;
    let names: Vec<String> = (0..PER_HOOK).map(|number| format!("exchange/nobody/v1/{number}")).collect();
    let bindings: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "#")).collect();
    let refused = hook(&bindings);
    let (http, api) = (all.http.clone(), all.api_url().to_owned());
    let creating = tokio::spawn(async move {
        for number in 0..hooks {
            let answer = http.json("PUT", &format!("{api}/hooks/traps/bad{number}"), &refused).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.json());
        }
    });
    let mut longest = Duration::ZERO;
    let mut count = 0;
    while !creating.is_finished() || count < 5 {
        let sent = Instant::now();
        senders.burst("good", &format!("g{count}"), 1, 0).await.unwrap();
        count += 1;
        eventually(SOON, async || (all.count_tasks().await.ok()? == count).then_some(())).await;
        longest = longest.max(sent.elapsed());
    }
    creating.await.unwrap();
    println!(
        "refused bindings: {} of them; a good hook's message was a task after at most {longest:?}",
        hooks * PER_HOOK
    );
    let health = all.api("/hooks/traps/bad0/bindings").await.unwrap();
    let bindings = health["bindings"].as_array().unwrap();
    let is_refused = |binding: &&Value| binding["state"] == "refused" && binding["error"].is_string();
    assert_eq!(bindings.iter().filter(is_refused).count(), PER_HOOK, "{health}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_named_and_not_shown() {
    let rabbit = shared_rabbit().await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("pulsehook.toml");
    let queue = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let url = rabbit.url("/").replace(":guest@", ":hunter2@");
    std::fs::write(&config, configuration(folder.path(), &url, queue, 0, 0)).unwrap();
    let mut router =
        Process::new("router", BINARY).arg("router").arg("--config").arg(config.display().to_string());
    router.start().await.unwrap();
    eventually(SOON, async || {
        router.lines().iter().any(|line| line.contains("Login was refused")).then_some(())
    })
    .await;
    assert!(!router.lines().join("\n").contains("hunter2"));
    assert!(router.is_running());
    router.stop().await.unwrap();
}

/// A standby has nothing to finish, and yet it once waited for the store when it was told to stop.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_stops_when_it_is_told_to() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("standby").await.unwrap();
    let mut all = Deployment::start(&rabbit, "standby", &[]).await.unwrap();
    all.standby.start().await.unwrap();
    eventually(SOON, async || {
        all.standby.lines().iter().any(|line| line.contains("standing by")).then_some(())
    })
    .await;
    all.standby.stop().await.unwrap();
    assert_eq!(all.api("/ping").await.unwrap()["alive"], json!(true));
}
