//! Broker, store and queue service taken away one by one: the heartbeat says so, and only what depends on it stops. A standby
//! is alive and not ready.

use std::time::Duration;

use harness::{Process, Proxy, eventually, free_port};
use serde_json::Value;

use super::system::{BINARY, SOON, System, hook, shared_rabbit, sign};

async fn heartbeat(system: &System) -> (u16, Value) {
    let url = system.router_url("/__heartbeat__");
    let answer = system.http.get(&url).await.unwrap();
    (answer.status.as_u16(), answer.json())
}

/// Waits until the heartbeat says that these do not work, and all else does.
async fn failing(system: &System, expected: &[&str]) -> Value {
    eventually(SOON, || async {
        let (status, told) = heartbeat(system).await;
        let failing: Vec<&String> = told["checks"]
            .as_object()?
            .iter()
            .filter(|(_, check)| check["ok"] == false)
            .map(|(name, _)| name)
            .collect();
        let as_expected = failing == expected && (status == 200) == expected.is_empty();
        as_expected.then_some(told)
    })
    .await
}

async fn status(system: &System, path: &str) -> u16 {
    system.http.get(&system.router_url(path)).await.unwrap().status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_heartbeat_says_what_does_not_work_and_why_and_only_what_depends_on_it_stops() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("health").await.unwrap();
    let proxy = Proxy::start(rabbit.address()).await.unwrap();
    let url = rabbit.url("health").replace(&rabbit.address().to_string(), &proxy.address().to_string());
    assert!(url.contains(&proxy.address().to_string()), "{url}");
    let system = System::start(&url).await;
    system.create_hook("ci/push", &hook(&[("exchange/pulsehook/v1/webhook", "github.push.#")])).await;
    failing(&system, &[]).await;

    // The queue service: events are taken and wait.
    system.queue.lock().await.kill9().unwrap();
    let told = failing(&system, &["queueService"]).await;
    assert!(
        told["checks"]["queueService"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()),
        "{told}"
    );
    assert_eq!((status(&system, "/__ready__").await, status(&system, "/__lbheartbeat__").await), (200, 200));
    system.send_until_taken("push", "d-1", b"{\"n\": 1}").await;
    system.queue.lock().await.start().await.unwrap();
    failing(&system, &[]).await;
    system.wait_for_tasks(1, SOON).await;

    // The broker: the bridge spools, the API works.
    proxy.refuse(true);
    proxy.cut();
    failing(&system, &["broker"]).await;
    assert_eq!(status(&system, "/__ready__").await, 200);
    let listed = system.http.get(&format!("{}/hooks/ci", system.api_url)).await.unwrap();
    assert_eq!(listed.status, 200);
    let taken = system.send("push", "d-2", b"{\"n\": 2}").await.unwrap();
    assert_eq!(taken.status, 202, "{}", taken.json());
    proxy.refuse(false);
    failing(&system, &[]).await;
    system.wait_for_tasks(2, SOON).await;

    // The store: its disk is full.
    let store = system.folder().join("pulsehook.db-wal");
    let size = std::fs::metadata(&store).unwrap().len();
    system.router.lock().await.limit_file_size(Some(size.min(4096))).unwrap();
    let told = failing(&system, &["store"]).await;
    assert!(told["checks"]["store"]["reason"].as_str().unwrap().contains("pulsehook.db"), "{told}");
    let metrics = super::metrics::read_metrics(&system, &system.metrics_url()).await;
    assert!(metrics.value("pulsehook_store_failed_commits_total", &[]) >= Some(1.0));
    assert_eq!(system.send("push", "d-3", b"{\"n\": 3}").await.unwrap().status, 200);
    system.router.lock().await.limit_file_size(None).unwrap();
    failing(&system, &[]).await;
    system.wait_for_tasks(3, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_alive_and_not_ready_until_it_takes_over() {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("standby").await.unwrap();
    let system = System::start(&rabbit.url("standby")).await;
    let port = free_port().unwrap();
    let mut standby = Process::new("standby", BINARY)
        .arg("router")
        .arg("--config")
        .arg(system.folder().join("pulsehook.toml").display().to_string())
        .env("PULSEHOOK_API__LISTEN", format!("127.0.0.1:{port}"));
    standby.start().await.unwrap();
    let get = async |path: &str| {
        let answer = system.http.get(&format!("http://127.0.0.1:{port}{path}")).await.unwrap();
        (answer.status.as_u16(), answer.json())
    };
    let told = eventually(SOON, || async {
        Some(get("/__ready__").await).filter(|(_, told)| told["role"] == "standby")
    })
    .await;
    assert_eq!(told.0, 503);
    assert_eq!(get("/__heartbeat__").await.0, 200);
    let (status, told) = get("/api/hooks/v1/ping").await;
    assert_eq!((status, told["code"].as_str()), (503, Some("ServiceUnavailable")));
    system.router.lock().await.kill9().unwrap();
    eventually(SOON, || async { (get("/__ready__").await.0 == 200).then_some(()) }).await;
    assert_eq!(get("/api/hooks/v1/ping").await.0, 200);
    tokio::time::timeout(Duration::from_secs(60), standby.stop()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_stops_answers_what_it_has_begun_to_take() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("last-words").await.unwrap();
    let system = System::start(&rabbit.url("last-words")).await;
    system.send_until_taken("ping", "first", b"{}").await;

    let body = b"{\"half\": true, \"other half\": true}";
    let (head, tail) = body.split_at(14);
    let mut connection =
        tokio::net::TcpStream::connect(system.bridge_url.trim_start_matches("http://")).await.unwrap();
    let request = format!(
        "POST /webhooks/github HTTP/1.1\r\nhost: bridge\r\ncontent-type: application/json\r\nx-github-event: push\r\n\
         x-github-delivery: last\r\nx-hub-signature-256: sha256={}\r\ncontent-length: {}\r\n\
         expect: 100-continue\r\n\r\n",
        sign(body),
        body.len()
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    // It asks for the body, and so has the request before it is told to stop.
    let mut asked = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    tokio::time::timeout(SOON, connection.read_exact(&mut asked)).await.unwrap().unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.write_all(head).await.unwrap();
    let bridge = system.bridge.lock().await.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &bridge]).status().unwrap().success());
    eventually(SOON, async || {
        let refused = tokio::net::TcpStream::connect(system.bridge_url.trim_start_matches("http://")).await;
        refused.is_err().then_some(())
    })
    .await;
    connection.write_all(tail).await.unwrap();
    let mut answer = String::new();
    let read = connection.read_to_string(&mut answer);
    tokio::time::timeout(SOON, read).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
}
