//! Hostile requests: whatever strangers send, they get a 4xx in JSON, nothing is published, and nothing panics.

use axum::body::Body;
use bridge::Bridge;
use http::{HeaderName, HeaderValue, Request};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::support::{Answer, Broker, bridge};

/// Every preset, each with secrets that nobody guesses.
fn all_presets() -> (Bridge, std::sync::Arc<Broker>) {
    let mut text =
        String::from("max_body_bytes = 4096\n[limits]\npeer_per_second = 0\nsource_per_second = 0\n");
    for name in bridge::provider::load(None).unwrap().keys() {
        let secrets = match name.as_str() {
            "discord" => format!("{:?}", "7b".repeat(32)),
            "standard-webhooks" => {
                r#""whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whpk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=""#
                    .to_owned()
            }
            "gitlab" => r#""whsec_c2VjcmV0IG5vYm9keSBndWVzc2Vz", "nobody guesses this""#.to_owned(),
            _ => r#""nobody guesses this""#.to_owned(),
        };
        text.push_str(&format!(
            "[[source]]\nname = \"{name}\"\nprovider = \"{name}\"\nsecrets = [{secrets}]\n"
        ));
    }
    bridge(&text)
}

/// Headers that the providers look at.
const HEADERS: [&str; 30] = [
    "authorization",
    "content-encoding",
    "content-length",
    "content-type",
    "discord",
    "linear-signature",
    "sentry-hook-signature",
    "shopify-hmac-sha256",
    "stripe-signature",
    "traceparent",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
    "x-event-key",
    "x-forgejo-signature",
    "x-forwarded-for",
    "x-gitea-signature",
    "x-github-event",
    "x-gitlab-token",
    "x-grafana-alert-signature",
    "x-hub-signature",
    "x-hub-signature-256",
    "x-pagerduty-signature",
    "x-phabricator-webhook-signature",
    "x-shopify-hmac-sha256",
    "x-signature-ed25519",
    "x-signature-timestamp",
    "x-slack-request-timestamp",
    "x-slack-signature",
    "x-webhook-token",
];

type Headers = Vec<(&'static str, Vec<u8>)>;

fn header_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        "[a-z0-9]{0,8}=[0-9a-fA-F]{0,130}".prop_map(String::into_bytes),
        "(sha256=|v0=|v1=|t=|v1,|v1a,|Bearer |Basic )[A-Za-z0-9+/=, ]{0,100}".prop_map(String::into_bytes),
        "(t=-?[0-9]{1,25},)?v1=[0-9a-f]{64}".prop_map(String::into_bytes),
        "-?[0-9]{1,30}".prop_map(String::into_bytes),
        "(gzip|application/json|application/x-www-form-urlencoded|text/plain)(; ?charset=.{0,5})?"
            .prop_map(String::into_bytes),
    ]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "[\\[{]{1,3000}".prop_map(String::into_bytes),
        "payload=(%7B%22a%22%3A1%7D|.{0,40})".prop_map(String::into_bytes),
        Just(b"{\"type\":\"url_verification\",\"challenge\":\"x\"}".to_vec()),
        Just(vec![b'x'; 5000]),
        prop::collection::vec(any::<u8>(), 0..60).prop_map(|tail| [
            vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3],
            tail
        ]
        .concat()),
    ]
}

fn path() -> impl Strategy<Value = String> {
    let names: Vec<String> = bridge::provider::load(None).unwrap().into_keys().collect();
    prop_oneof![
        prop::sample::select(names).prop_map(|name| format!("/webhooks/{name}")),
        "/webhooks/(token|dockerhub)/[a-zA-Z0-9%._-]{1,20}",
        "/webhooks/(token|dockerhub)\\?token=[a-zA-Z0-9%&=+._-]{0,20}",
        "/webhooks/[a-zA-Z0-9%._-]{1,20}",
    ]
}

#[test]
fn strangers_get_4xx_and_publish_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (bridge, broker) = all_presets();
    let headers = prop::collection::vec((prop::sample::select(&HEADERS[..]), header_value()), 0..8);
    let mut runner = TestRunner::new(ProptestConfig { cases: 300, ..ProptestConfig::default() });
    let run = |(path, headers, body): (String, Headers, Vec<u8>)| {
        let Ok(mut request) = Request::post(&path).body(Body::from(body)) else { return Ok(()) };
        for (name, value) in &headers {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                request.headers_mut().append(HeaderName::from_static(name), value);
            }
        }
        let answer = runtime.block_on(async {
            Answer::of(tower::ServiceExt::oneshot(bridge.routes(), request).await.unwrap()).await
        });
        prop_assert!((400..500).contains(&answer.status), "{} {}", answer.status, answer.text);
        prop_assert!(!answer.code().is_empty());
        prop_assert!(!answer.text.contains("nobody guesses"), "{}", answer.text);
        prop_assert!(broker.messages().is_empty());
        Ok(())
    };
    runner.run(&(path(), headers, body()), run).unwrap();
}
