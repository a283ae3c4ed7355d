//! Trying out: what `source send` sends is believed by the bridge, for every provider that can sign; what `source routes`
//! shows is what is published.

use std::sync::Arc;

use axum::body::Body;
use bridge::trial::{self, Attempt, Preview};
use bytes::Bytes;
use chrono::Utc;
use serde_json::json;

use crate::support::{bridge, config, send};

/// A payload in which every provider finds what it needs.
fn payload() -> Bytes {
    let body = json!({
        "type": "built", "status": "firing", "object_kind": "push", "object": {"type": "TASK"},
        "event": {"event_type": "incident.triggered", "type": "message", "id": "e1"}, "id": "evt_1",
        "event_id": "Ev1", "transactions": [{"phid": "PHID-1"}], "push_data": {"pushed_at": 1, "tag": "t"},
    });
    Bytes::from(body.to_string())
}

fn text(name: &str) -> String {
    let secret = match name {
        "gitlab" | "standard-webhooks" => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
        "discord" => "00".repeat(32),
        _ => "key & for/tests".to_owned(),
    };
    format!("[[source]]\nname = \"s\"\nprovider = \"{name}\"\nsecrets = [\"{secret}\"]\n")
}

#[tokio::test]
async fn every_provider_that_can_sign_is_believed_and_previewed() {
    for (name, provider) in bridge::provider::load(None).unwrap() {
        let configured = config(&text(&name));
        let attempt = Attempt {
            source: "s",
            event: provider.event.header().map(|_| "built"),
            delivery: provider.delivery.header().map(|_| "d-1"),
            payload: payload(),
        };
        let request = trial::request(&configured, &attempt, Utc::now());
        if name == "discord" {
            assert!(request.unwrap_err().contains("public key"), "{name}");
            continue;
        }
        let (bridge, broker) = bridge(&text(&name));
        let answer = send(&bridge, request.unwrap().map(Body::from)).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
        let published = broker.messages().remove(0);
        let preview = trial::preview(&configured, "pulsehook", &attempt, None, Utc::now()).unwrap();
        let Preview::Message { message, filter: None } = preview else { panic!("{name}: {preview:?}") };
        assert_eq!(message.routing_key, published.routing_key, "{name}");
        // A trace begins with each: that one is random.
        let [shown, sent] = [&message, &published].map(|message| {
            let mut headers = message.properties.headers.clone();
            headers.remove("traceparent");
            headers
        });
        assert_eq!(shown, sent, "{name}");
        if attempt.delivery.is_some() && name != "linear" {
            assert_eq!(message.properties.message_id, published.properties.message_id, "{name}");
        }
    }
}

#[tokio::test]
async fn every_token_place_is_sent_and_believed() {
    for place in ["bearer", "basic", "header", "query", "path"] {
        let text = format!("{}token = \"{place}\"\n", text("token"));
        let attempt = Attempt { source: "s", payload: payload(), ..Attempt::default() };
        let request = trial::request(&config(&text), &attempt, Utc::now()).unwrap();
        let (bridge, broker) = bridge(&text);
        assert_eq!(send(&bridge, request.map(Body::from)).await.status, 200, "{place}");
        let all = format!("{:?}", broker.messages());
        assert!(!all.contains("key & for"), "{place}: {all}");
    }
}

#[test]
fn a_preview_needs_no_secret_and_tells_what_the_filter_says() {
    let text = "[[source]]\nname = \"s\"\nprovider = \"github\"\nsecrets = [\"env:PULSEHOOK_TEST_NOT_SET\"]\nfilter = \"x\"\n";
    let compile: bridge::CompileFilter = Arc::new(|_| {
        let filter: bridge::Filter = Arc::new(|message, _| Ok(message.routing_key.starts_with("s.push")));
        Ok(filter)
    });
    let mut attempt = Attempt { source: "s", event: Some("push"), delivery: None, payload: payload() };
    let preview = trial::preview(&config(text), "u", &attempt, Some(&compile), Utc::now()).unwrap();
    assert!(matches!(preview, Preview::Message { filter: Some(Ok(true)), .. }), "{preview:?}");
    attempt.event = Some("ping");
    let preview = trial::preview(&config(text), "u", &attempt, Some(&compile), Utc::now()).unwrap();
    assert!(matches!(preview, Preview::Handshake { status: 200, answer: Some(_) }), "{preview:?}");
    attempt.source = "none";
    let error = trial::preview(&config(text), "u", &attempt, None, Utc::now()).unwrap_err();
    assert!(error[0].contains("there is no source \"none\"; there are: s"), "{error:?}");
    let listed = trial::list(&config(text)).unwrap();
    assert_eq!((listed[0].path.as_str(), listed[0].secrets), ("/webhooks/s", 1));
}
