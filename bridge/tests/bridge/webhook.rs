//! The road of one webhook: verified, keyed, published, answered; and each way to be refused.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use bridge::{Bridge, Config};
use http::Request;
use pulse::trace::TraceContext;
use serde_json::json;

use crate::support::{Answer, Broker, DEADLINE, bridge, config, hmac_sha256, post, send};

const SECRET: &str = "It's a Secret to Everybody";
const GITHUB: &str = r#"
    max_body_bytes = 20000
    publish_timeout_ms = 200
    [[source]]
    name = "github"
    provider = "github"
    secrets = ["old secret", "It's a Secret to Everybody"]
"#;
const PUSH: &str = r#"{ "ref":"refs/heads/main", "x": 1.0, "repository": {"name": "gecko-dev", "owner": {"login": "mozilla"}} }"#;

fn github(event: &str, delivery: &str, secret: &str, body: &str) -> Request<Body> {
    let signature = format!("sha256={}", hmac_sha256(secret, body.as_bytes()));
    let headers = [
        ("content-type", "application/json"),
        ("x-github-event", event),
        ("x-github-delivery", delivery),
        ("x-hub-signature-256", &signature),
        ("x-github-hook-id", "42"),
        ("authorization", "Bearer not for pulse"),
        ("cookie", "not=for-pulse"),
    ];
    post("/webhooks/github", &headers, body.to_owned())
}

#[tokio::test]
async fn a_signed_event_is_published_as_sent_and_its_retry_has_the_same_id() {
    let (bridge, broker) = bridge(GITHUB);
    bridge.start().await.unwrap();
    let answer = send(&bridge, github("push", "d-1", SECRET, PUSH)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let message = broker.messages().remove(0);
    let id = message.properties.message_id.clone().unwrap();
    assert_eq!(
        answer.json(),
        json!({"messageId": id, "exchange": "exchange/pulsehook/v1/webhook",
               "routingKey": "github.push._.mozilla.gecko-dev", "routed": true})
    );
    assert_eq!(
        (message.exchange.as_str(), message.body.as_ref()),
        ("exchange/pulsehook/v1/webhook", PUSH.as_bytes())
    );
    assert_eq!(message.routing_key, "github.push._.mozilla.gecko-dev");
    assert_eq!(message.properties.content_type.as_deref(), Some("application/json"));
    assert!(message.properties.timestamp.is_some());
    let mut headers = serde_json::to_value(&message.properties.headers).unwrap();
    // Each event is in a trace: one that begins with it, where its sender names none.
    let trace = headers.as_object_mut().unwrap().remove("traceparent").unwrap();
    assert!(TraceContext::parse(trace.as_str().unwrap()).is_some(), "{trace}");
    assert_eq!(
        headers,
        json!({"x-pulsehook-source": "github", "x-pulsehook-event": "push", "x-pulsehook-delivery": "d-1",
               "x-github-hook-id": "42"})
    );

    let traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut request = github("push", "d-traced", SECRET, PUSH);
    request.headers_mut().insert("traceparent", traced.parse().unwrap());
    assert_eq!(send(&bridge, request).await.status, 200);
    assert_eq!(broker.messages()[1].properties.headers["traceparent"], traced);

    let (again, second) = crate::support::bridge(GITHUB);
    let answer = send(&again, github("push", "d-1", "old secret", PUSH)).await;
    assert_eq!(
        answer.json()["messageId"],
        id.as_str(),
        "another bridge, another live secret, the same message"
    );
    let other = send(&again, github("push", "d-2", SECRET, PUSH)).await;
    assert_ne!(other.json()["messageId"], id.as_str());
    let other = send(&again, github("push", "d-1", SECRET, &PUSH.replace("main", "else"))).await;
    assert_ne!(other.json()["messageId"], id.as_str());
    assert_eq!(second.messages().len(), 3);
}

#[tokio::test]
async fn an_action_and_an_organisation_have_their_places_in_the_key() {
    let (bridge, broker) = bridge(GITHUB);
    let body = r#"{"action":"closed","repository":{"name":"a.b","owner":{"login":"moz"}}}"#;
    send(&bridge, github("pull_request", "1", SECRET, body)).await;
    send(&bridge, github("member", "2", SECRET, r#"{"action":"added","organization":{"login":"moz"}}"#))
        .await;
    let keys: Vec<String> = broker.messages().into_iter().map(|message| message.routing_key).collect();
    assert_eq!(keys, ["github.pull_request.closed.moz.a%2Eb", "github.member.added.moz._"]);
}

#[tokio::test]
async fn githubs_own_vector_passes_the_signature() {
    let (bridge, broker) = bridge(GITHUB);
    let headers = [
        ("content-type", "application/json"),
        ("x-github-event", "push"),
        ("x-hub-signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"),
    ];
    let answer = send(&bridge, post("/webhooks/github", &headers, "Hello, World!")).await;
    // Verified, and only then found not to be JSON.
    assert_eq!((answer.status, answer.code().as_str()), (400, "MalformedPayload"));
    assert!(broker.messages().is_empty());
}

#[tokio::test]
async fn ping_is_answered_and_not_published() {
    let (bridge, broker) = bridge(GITHUB);
    let answer = send(&bridge, github("ping", "d", SECRET, r#"{"zen":"Keep it logically awesome."}"#)).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"message": "pong"})));
    assert_eq!(send(&bridge, github("ping", "d", "wrong", "{}")).await.status, 403);
    assert!(broker.messages().is_empty());
}

#[tokio::test]
async fn every_refusal_has_its_status_and_code_and_publishes_nothing() {
    let (bridge, broker) = bridge(GITHUB);
    let signed = |body: &str| format!("sha256={}", hmac_sha256(SECRET, body.as_bytes()));
    let good = signed("{}");
    let bare = good.trim_start_matches("sha256=").to_owned();
    let large = format!("\"{}\"", "x".repeat(20_000));
    let upper = format!("sha256={}", bare.to_uppercase());
    let json = ("content-type", "application/json");
    let event = ("x-github-event", "push");
    let name = "x-hub-signature-256";
    let long = format!("{good}00");
    let large_signature = signed(&large);
    let not_json = signed("{");
    let cases: Vec<(&str, u16, &str, Request<Body>)> = vec![
        ("no signature", 401, "SignatureMissing", post("/webhooks/github", &[json, event], "{}")),
        (
            "tampered body",
            403,
            "SignatureWrong",
            post("/webhooks/github", &[json, event, (name, &good)], "{ }"),
        ),
        (
            "truncated",
            403,
            "SignatureWrong",
            post("/webhooks/github", &[json, event, (name, &good[..60])], "{}"),
        ),
        ("lengthened", 403, "SignatureWrong", post("/webhooks/github", &[json, event, (name, &long)], "{}")),
        ("no prefix", 403, "SignatureWrong", post("/webhooks/github", &[json, event, (name, &bare)], "{}")),
        ("empty", 403, "SignatureWrong", post("/webhooks/github", &[json, event, (name, "sha256=")], "{}")),
        (
            "not hex",
            403,
            "SignatureWrong",
            post("/webhooks/github", &[json, event, (name, "sha256=zz")], "{}"),
        ),
        (
            "unknown source",
            404,
            "ResourceNotFound",
            post("/webhooks/other", &[json, event, (name, &good)], "{}"),
        ),
        (
            "not JSON",
            400,
            "MalformedPayload",
            post("/webhooks/github", &[json, event, (name, &not_json)], "{"),
        ),
        ("no event", 400, "MalformedPayload", post("/webhooks/github", &[json, (name, &good)], "{}")),
        (
            "too large",
            413,
            "PayloadTooLarge",
            post("/webhooks/github", &[json, event, (name, &large_signature)], large.clone()),
        ),
        (
            "text",
            415,
            "UnsupportedMediaType",
            post("/webhooks/github", &[("content-type", "text/plain"), event, (name, &good)], "{}"),
        ),
    ];
    for (what, status, code, request) in cases {
        let answer = send(&bridge, request).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {}", answer.text);
        assert!(!answer.json()["message"].as_str().unwrap().is_empty(), "{what}");
        assert!(!answer.text.contains(SECRET) && !answer.text.contains(&bare), "{what}");
    }
    let get = send(&bridge, Request::get("/webhooks/github").body(Body::empty()).unwrap()).await;
    assert_eq!((get.status, get.code().as_str()), (405, "MethodNotAllowed"));
    assert_eq!(get.headers["allow"], "POST");
    assert!(broker.messages().is_empty());
    // Hexadecimal digits have no case.
    assert_eq!(
        send(&bridge, post("/webhooks/github", &[json, event, (name, &upper)], "{}")).await.status,
        200
    );
}

#[tokio::test]
async fn a_broker_that_is_away_or_silent_means_503_and_try_again() {
    let (bridge, broker) = bridge(GITHUB);
    broker.down();
    let answer = send(&bridge, github("push", "1", SECRET, PUSH)).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "Unavailable"));
    assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    broker.up();
    broker.silent.store(true, Ordering::SeqCst);
    let answer =
        tokio::time::timeout(DEADLINE, send(&bridge, github("push", "1", SECRET, PUSH))).await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text);
    broker.silent.store(false, Ordering::SeqCst);
    assert_eq!(send(&bridge, github("push", "1", SECRET, PUSH)).await.status, 200);
    broker.unrouted.store(true, Ordering::SeqCst);
    let answer = send(&bridge, github("push", "2", SECRET, PUSH)).await;
    assert_eq!((answer.status, &answer.json()["routed"]), (200, &json!(false)));
    *broker.returned.lock().unwrap() = Some(std::time::Instant::now());
    let answer = send(&bridge, github("push", "3", SECRET, PUSH)).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "Unavailable"),
        "its queue may be about to come back"
    );
}

#[tokio::test]
async fn a_general_hmac_source_is_configured_field_by_field() {
    let (bridge, broker) = bridge(
        r#"
        [[source]]
        name = "ci"
        provider = "hmac"
        secrets = ["k"]
        header = "X-Signature"
        algorithm = "sha512"
        encoding = "base64"
        prefix = "v1:"
        event = "header:X-Kind"
        delivery = ["header:X-Id"]
        words = ["body:/project", ["body:/none", "const:fixed"]]
    "#,
    );
    let body = r#"{"project":"a/b"}"#;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA512, b"k");
    let tag = ring::hmac::sign(&key, body.as_bytes());
    let signature = format!("v1:{}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, tag));
    let headers = [("x-signature", signature.as_str()), ("x-kind", "build done"), ("x-id", "7")];
    let answer = send(&bridge, post("/webhooks/ci", &headers, body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(broker.messages()[0].routing_key, "ci.build%20done.a/b.fixed");
}

#[tokio::test]
async fn the_road_works_over_a_real_socket() {
    let (bridge, broker) = bridge(GITHUB);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, bridge.routes()).into_future());
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    let client = tokio::spawn(connection);
    let mut request = github("push", "1", SECRET, PUSH);
    request.headers_mut().insert("host", address.to_string().parse().unwrap());
    let response = sender.send_request(request).await.unwrap();
    let answer = Answer::of(response.map(Body::new)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(broker.messages().len(), 1);
    server.abort();
    client.abort();
}

#[test]
fn every_mistake_in_the_configuration_is_told_at_once_and_no_secret() {
    let config: Config = config(
        r#"
        publish_timeout_ms = 0
        [[source]]
        name = "a b"
        provider = "github"
        secrets = ["hunter2"]
        [[source]]
        name = "unknown"
        provider = "svn"
        secrets = ["hunter2"]
        [[source]]
        name = "none"
        provider = "github"
        secrets = []
        [[source]]
        name = "missing"
        provider = "github"
        secrets = ["env:PULSEHOOK_TEST_NOT_SET"]
        [[source]]
        name = "leaky"
        provider = "github"
        secrets = ["hunter2"]
        headers = ["Authorization", "X-Hub-Signature-256", "X-Pulsehook-Source"]
        [[source]]
        name = "twice"
        provider = "github"
        secrets = ["hunter2"]
        [[source]]
        name = "delivers-its-secret"
        provider = "token"
        secrets = ["hunter2"]
        delivery = "query:token"
        [[source]]
        name = "twice"
        provider = "github"
        secrets = ["hunter2"]
    "#,
    );
    let broker: Arc<dyn pulse::Transport> = Broker::new();
    let errors = Bridge::new(&config, "pulsehook", broker).err().unwrap();
    let all = errors.join("\n");
    for expected in [
        "publish_timeout_ms is 0",
        "\"a b\"",
        "no provider \"svn\"",
        "secrets is empty",
        "PULSEHOOK_TEST_NOT_SET",
        "authorization carries a secret",
        "x-hub-signature-256 carries a secret",
        "x-pulsehook-source",
        "query parameter token carries a secret",
        "used twice",
    ] {
        assert!(all.contains(expected), "{expected:?} is not in\n{all}");
    }
    assert!(!all.contains("hunter2"), "{all}");
}
