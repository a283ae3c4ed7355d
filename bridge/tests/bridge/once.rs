//! One event, one message: repeats, merged bodies, replays under another id, coalescing to the first, filters.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bridge::{CompileFilter, Filter, Outside};
use serde_json::json;

use crate::support::{bridge, bridge_with, event, send};

fn source(options: &str) -> String {
    format!(
        "publish_timeout_ms = 100\n[[source]]\nname = \"ci\"\nprovider = \"hmac\"\nsecrets = [\"key for tests\"]\n{options}\n"
    )
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_only_2xx_is_remembered() {
    let (bridge, broker) = bridge(&source(""));
    broker.failing.store(true, Ordering::SeqCst);
    assert_eq!(send(&bridge, event("ci", Some("1"), "{}")).await.status, 503);
    broker.failing.store(false, Ordering::SeqCst);
    let first = send(&bridge, event("ci", Some("1"), "{}")).await;
    assert_eq!(first.status, 200);
    broker.failing.store(true, Ordering::SeqCst);
    let again = send(&bridge, event("ci", Some("1"), "{}")).await;
    assert_eq!((again.status, again.text), (200, first.text));
    assert_eq!(broker.messages().len(), 1);
}

#[tokio::test]
async fn repeats_at_the_same_time_become_one_message() {
    let (bridge, broker) = bridge(&source(""));
    let mut all = tokio::task::JoinSet::new();
    let routes = bridge.routes();
    for _ in 0..20 {
        let routes = routes.clone();
        all.spawn(async move {
            let response = tower::ServiceExt::oneshot(routes, event("ci", Some("1"), "{}")).await.unwrap();
            crate::support::Answer::of(response).await
        });
    }
    let answers = all.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.text == answers[0].text));
    assert_eq!(broker.messages().len(), 1);
}

/// Sends a request whose sender goes away while the broker keeps its confirm back.
async fn abandoned(
    bridge: &bridge::Bridge,
    broker: &crate::support::Broker,
    request: http::Request<axum::body::Body>,
) {
    broker.silent.store(true, Ordering::SeqCst);
    let response = tower::ServiceExt::oneshot(bridge.routes(), request);
    let gone = tokio::time::timeout(std::time::Duration::from_millis(20), response).await;
    assert!(gone.is_err(), "it was answered");
}

#[tokio::test]
async fn an_event_whose_sender_goes_away_is_made_safe_all_the_same_and_its_repeat_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let spool = format!("[spool]\npath = {:?}\n", folder.path().join("spool.db"));
    let text = source("").replacen("[[source]]", &format!("{spool}[[source]]"), 1);
    let (bridge, broker) = bridge(&text);
    abandoned(&bridge, &broker, event("ci", None, "{\"state\":\"DOWN\"}")).await;
    let spooled = async || (bridge.spooled().unwrap().events == 1).then_some(());
    crate::support::eventually("the event is safe", spooled).await;
    let again = send(&bridge, event("ci", None, "{\"state\":\"DOWN\"}")).await;
    assert_eq!((again.status, bridge.spooled().unwrap().events), (202, 1));
    broker.silent.store(false, Ordering::SeqCst);
    bridge.start().await.unwrap();
    let messages = broker.wait("the event", |messages| messages.len() == 1).await;
    assert_eq!(again.json()["messageId"].as_str(), messages[0].properties.message_id.as_deref());
    bridge.stop().await;
}

#[tokio::test]
async fn a_body_whose_sender_went_away_before_it_was_published_is_no_repeat() {
    let (bridge, broker) = bridge(&source("refuse_repeats = true"));
    abandoned(&bridge, &broker, event("ci", Some("1"), "{}")).await;
    // Stopping waits for what is under way.
    bridge.stop().await;
    broker.silent.store(false, Ordering::SeqCst);
    assert_eq!(send(&bridge, event("ci", Some("2"), "{}")).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn equal_bodies_without_delivery_ids_are_merged_only_within_the_window() {
    let (bridge, broker) = bridge(&source("merge_seconds = 60"));
    let first = send(&bridge, event("ci", None, "{\"state\":\"DOWN\"}")).await.json();
    tokio::time::advance(std::time::Duration::from_secs(59)).await;
    assert_eq!(send(&bridge, event("ci", None, "{\"state\":\"DOWN\"}")).await.json(), first);
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    let later = send(&bridge, event("ci", None, "{\"state\":\"DOWN\"}")).await.json();
    assert_ne!(later["messageId"], first["messageId"], "a repeated alert must not vanish");
    assert_eq!(broker.messages().len(), 2);
}

#[tokio::test]
async fn a_body_under_another_unsigned_id_is_flagged_and_by_option_refused() {
    let (bridge, broker) = bridge(&source(""));
    let first = send(&bridge, event("ci", Some("1"), "{}")).await.json();
    assert_eq!(send(&bridge, event("ci", Some("2"), "{}")).await.status, 200);
    let messages = broker.messages();
    assert!(!messages[0].properties.headers.contains_key("x-pulsehook-repeats"));
    assert_eq!(messages[1].properties.headers["x-pulsehook-repeats"], first["messageId"]);

    let (strict, broker) = crate::support::bridge(&source("refuse_repeats = true"));
    assert_eq!(send(&strict, event("ci", Some("1"), "{}")).await.status, 200);
    let refused = send(&strict, event("ci", Some("2"), "{}")).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "RepeatedBody"));
    assert_eq!(send(&strict, event("ci", Some("1"), "{}")).await.status, 200, "the sender's own retry");
    assert_eq!(broker.messages().len(), 1);
}

#[tokio::test]
async fn coalescing_to_the_first_answers_the_others_without_a_message() {
    let options = "coalesce = { key = \"body:/host\", window_seconds = 60, keep = \"first\" }";
    let options = options.replace("\"body:/host\"", "[\"body:/host\"]");
    let (bridge, broker) = bridge(&source(&options));
    let first = send(&bridge, event("ci", Some("1"), "{\"host\":\"a\",\"n\":1}")).await.json();
    let second = send(&bridge, event("ci", Some("2"), "{\"host\":\"a\",\"n\":2}")).await;
    assert_eq!((second.status, &second.json()["coalesced"]), (200, &json!(true)));
    assert_eq!(second.json()["messageId"], first["messageId"]);
    assert_eq!(send(&bridge, event("ci", Some("3"), "{\"host\":\"b\"}")).await.json().get("coalesced"), None);
    assert_eq!(broker.messages().len(), 2);
}

#[tokio::test]
async fn a_filter_keeps_events_off_pulse_and_its_errors_do_not() {
    let compile: CompileFilter = Arc::new(|expression| {
        if expression == "broken" {
            return Err("syntax error".to_owned());
        }
        let filter: Filter = Arc::new(|message, body| match body["keep"].as_bool() {
            Some(keep) => Ok(keep && message.routing_key.starts_with("ci.")),
            None => Err("payload.keep is undefined".to_owned()),
        });
        Ok(filter)
    });
    let outside = Outside { compile_filter: Some(compile), ..Outside::default() };
    let (bridge, broker) = bridge_with(&source("filter = \"payload.keep\""), outside.clone());
    let no = send(&bridge, event("ci", Some("1"), "{\"keep\":false}")).await;
    assert_eq!((no.status, &no.json()["filtered"]), (200, &json!(true)));
    assert!(broker.messages().is_empty());
    assert_eq!(send(&bridge, event("ci", Some("2"), "{\"keep\":true}")).await.json().get("filtered"), None);
    assert_eq!(send(&bridge, event("ci", Some("3"), "{}")).await.status, 200);
    assert_eq!(broker.messages().len(), 2);

    let config = crate::support::config(&source("filter = \"broken\""));
    let errors = bridge::check(&config, outside.compile_filter.as_ref()).err().unwrap();
    assert!(errors[0].contains("filter: syntax error"), "{errors:?}");
    assert!(bridge::check(&config, None).is_err());
}
