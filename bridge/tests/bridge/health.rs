//! Health routes and the reload of secrets.

use axum::body::Body;
use http::Request;
use tower::ServiceExt as _;

use crate::support::{Answer, bridge, config, event, send};

async fn get(bridge: &bridge::Bridge, path: &str) -> Answer {
    let request = Request::get(path).body(Body::empty()).unwrap();
    Answer::of(bridge.health_routes().oneshot(request).await.unwrap()).await
}

fn source(secret: &str, spool: &str) -> String {
    format!("{spool}\n[[source]]\nname = \"ci\"\nprovider = \"hmac\"\nsecrets = [\"{secret}\"]\n")
}

#[tokio::test]
async fn the_heartbeat_fails_when_the_bridge_can_neither_publish_nor_spool() {
    let (plain, broker) = bridge(&source("key for tests", ""));
    assert_eq!(get(&plain, "/__heartbeat__").await.status, 200);
    broker.down();
    let answer = get(&plain, "/__heartbeat__").await;
    assert_eq!((answer.status, &answer.json()["checks"]["broker"]["ok"]), (503, &false.into()));
    assert_eq!(get(&plain, "/__ready__").await.status, 503);
    assert_eq!(get(&plain, "/__lbheartbeat__").await.status, 200);
    assert_eq!(get(&plain, "/__version__").await.json()["version"], env!("CARGO_PKG_VERSION"));

    let folder = tempfile::tempdir().unwrap();
    let spool =
        format!("[spool]\npath = \"{}\"\nmax_bytes = 1500\n", folder.path().join("spool.db").display());
    let (spooling, broker) = bridge(&source("key for tests", &spool));
    broker.down();
    assert_eq!(get(&spooling, "/__heartbeat__").await.status, 200);
    assert_eq!(get(&spooling, "/__ready__").await.status, 200);
    assert_eq!(
        send(&spooling, event("ci", Some("1"), &format!("\"{}\"", "x".repeat(700)))).await.status,
        202
    );
    let full = get(&spooling, "/__heartbeat__").await;
    assert_eq!((full.status, &full.json()["spool"]["events"]), (503, &1.into()), "{}", full.text);
    assert_eq!(
        send(&spooling, event("ci", Some("2"), &format!("\"{}\"", "y".repeat(700)))).await.status,
        503
    );
    broker.up();
    assert_eq!(get(&spooling, "/__heartbeat__").await.status, 200);
}

#[tokio::test]
async fn strangers_are_not_told_what_the_broker_and_the_spool_said() {
    const SAID: [&str; 3] = ["stopped by the test", "refused by the test", "may hold"];
    let folder = tempfile::tempdir().unwrap();
    let spool = format!("[spool]\npath = {:?}\nmax_bytes = 10\n", folder.path().join("spool.db"));
    for (spool, inside) in [("", &SAID[..2]), (spool.as_str(), &SAID[..])] {
        let (bridge, broker) = bridge(&source("key for tests", spool));
        broker.refusing.store(true, std::sync::atomic::Ordering::SeqCst);
        let refused = send(&bridge, event("ci", Some("1"), "{}")).await;
        assert_eq!(refused.status, if spool.is_empty() { 502 } else { 503 });
        broker.down();
        let away = send(&bridge, event("ci", Some("2"), "{}")).await;
        assert_eq!((away.status, away.code().as_str()), (503, "Unavailable"));
        let heartbeat = get(&bridge, "/__heartbeat__").await;
        assert!(heartbeat.json()["checks"]["broker"]["reason"].as_str().unwrap().contains("away"));
        for answer in [refused, away, heartbeat] {
            assert!(!SAID.iter().any(|said| answer.text.contains(said)), "{}", answer.text);
        }
        let request = Request::get("/__status__").body(Body::empty()).unwrap();
        let status = Answer::of(bridge.status_routes().oneshot(request).await.unwrap()).await.text;
        assert!(inside.iter().all(|said| status.contains(said)), "{status}");
    }
}

#[tokio::test]
async fn a_reload_changes_secrets_and_sources_at_once_or_nothing() {
    let (bridge, broker) = bridge(&source("key for tests", ""));
    assert_eq!(send(&bridge, event("ci", Some("1"), "{}")).await.status, 200);
    bridge.reload(&config(&source("a new key", ""))).unwrap();
    assert_eq!(send(&bridge, event("ci", Some("2"), "{}")).await.status, 403);
    assert!(bridge.reload(&config(&source("", ""))).is_err());
    assert_eq!(send(&bridge, event("ci", Some("3"), "{}")).await.status, 403, "nothing has changed");
    bridge.reload(&config(&source("a new key\", \"key for tests", ""))).unwrap();
    assert_eq!(send(&bridge, event("ci", Some("4"), "{}")).await.status, 200);
    bridge.reload(&config("")).unwrap();
    assert_eq!(send(&bridge, event("ci", Some("5"), "{}")).await.status, 404);
    assert_eq!(broker.messages().len(), 2);
}
