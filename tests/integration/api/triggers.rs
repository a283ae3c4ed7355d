//! Triggers: by client and by token, with the outcome, repeated, refused; over RabbitMQ.

use harness::eventually;
use serde_json::{Value, json};

use super::super::system::{SOON, System, hook};
use super::client::{call_as, deployment, send};

const HOOK: &str = "/hooks/ci/build%2Fall";

/// A hook that shows who triggered it, declines on request and fails on request.
fn definition() -> Value {
    let mut definition = hook(&[]);
    definition["triggerSchema"] = json!({
        "type": "object",
        "properties": { "kind": { "enum": ["good", "declined", "broken"] }, "taskId": { "type": "string" } },
        "required": ["kind"],
        "additionalProperties": false,
    });
    definition["filter"] = json!("payload.kind != 'declined'");
    definition["task"]["payload"] = json!({
        "by": "{{ firedBy }}", "client": "{{ clientId | default(none) }}",
        "value": "{% if payload.kind == 'broken' %}{{ payload.nothing.there }}{% endif %}",
    });
    definition
}

async fn trigger(system: &System, query: &str, headers: &[(&str, &str)], payload: &Value) -> (u16, Value) {
    let path = format!("{HOOK}/trigger{query}");
    let answer = call_as(system, "admin", "POST", &path, headers, Some(payload)).await;
    (answer.status.as_u16(), answer.json())
}

async fn task(system: &System, id: &str) -> Option<Value> {
    let answer = system.http.get(&format!("{}/task/{id}", system.queue_url)).await.ok()?;
    answer.status.is_success().then(|| answer.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_is_answered_with_what_became_of_it() {
    let system = deployment("api-trigger").await;
    let created = call_as(&system, "admin", "PUT", HOOK, &[], Some(&definition())).await;
    assert_eq!(created.status, 200, "{}", String::from_utf8_lossy(&created.body));

    let (status, answer) = trigger(&system, "", &[], &json!({ "kind": "good" })).await;
    assert_eq!(status, 200, "{answer}");
    let id = answer["taskId"].as_str().unwrap();
    assert_eq!(answer["status"]["taskId"], id);
    let made = task(&system, id).await.expect("the task is there when the answer is");
    assert_eq!(
        (made["payload"]["by"].as_str(), made["payload"]["client"].as_str()),
        (Some("triggerHook"), Some("admin"))
    );

    assert_eq!(trigger(&system, "", &[], &json!({ "kind": "declined" })).await, (200, json!({})));
    let (status, answer) = trigger(&system, "", &[], &json!({ "kind": "broken" })).await;
    assert_eq!((status, answer["code"].as_str()), (400, Some("InputError")), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("task.payload.value"), "{answer}");
    let (status, answer) = trigger(&system, "", &[], &json!({ "kind": "odd" })).await;
    assert_eq!((status, answer["code"].as_str()), (400, Some("InputError")), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("payload.kind"), "{answer}");
    let (status, answer) = trigger(&system, "", &[], &json!({ "kind": "good", "taskId": "no slugid" })).await;
    assert_eq!((status, answer["code"].as_str()), (400, Some("InputError")), "{answer}");
    let (status, answer) = trigger(&system, "?wait=soon", &[], &json!({ "kind": "good" })).await;
    assert_eq!((status, answer["code"].as_str()), (400, Some("InvalidRequestArguments")), "{answer}");
    for query in ["?wiat=0", "?wait=0&wait=1"] {
        let (status, answer) = trigger(&system, query, &[], &json!({ "kind": "good" })).await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("InvalidRequestArguments")), "{answer}");
    }

    // Without waiting: the id is known all the same, and the task comes to be under it.
    let (status, answer) = trigger(&system, "?wait=0", &[], &json!({ "kind": "good" })).await;
    assert_eq!(status, 200, "{answer}");
    let id = answer["taskId"].as_str().unwrap().to_owned();
    eventually(SOON, async || task(&system, &id).await).await;

    // A paused hook fires later, when nobody knows: its callers do not wait for that.
    let mut paused = definition();
    paused["paused"] = json!(true);
    assert_eq!(call_as(&system, "admin", "POST", HOOK, &[], Some(&paused)).await.status, 200);
    let asked = std::time::Instant::now();
    let (status, answer) = trigger(&system, "?wait=60", &[], &json!({ "kind": "good" })).await;
    assert!(status == 200 && asked.elapsed() < SOON / 2, "{answer} {:?}", asked.elapsed());
    let id = answer["taskId"].as_str().unwrap().to_owned();
    assert_eq!(call_as(&system, "admin", "POST", HOOK, &[], Some(&definition())).await.status, 200);
    eventually(SOON, async || task(&system, &id).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_trigger_makes_no_second_task() {
    let system = deployment("api-repeat").await;
    assert_eq!(call_as(&system, "admin", "PUT", HOOK, &[], Some(&definition())).await.status, 200);
    let chosen = "fN1SbArXTPSVFNUvaOlinQ";
    let payload = json!({ "kind": "good", "taskId": chosen });
    for _ in 0..2 {
        let (status, answer) = trigger(&system, "", &[], &payload).await;
        assert_eq!((status, answer["taskId"].as_str()), (200, Some(chosen)), "{answer}");
    }
    let key = [("idempotency-key", "deploy 7")];
    let (_, first) = trigger(&system, "", &key, &json!({ "kind": "good" })).await;
    let (_, again) = trigger(&system, "", &key, &json!({ "kind": "good" })).await;
    assert!(first["taskId"].is_string() && first == again, "{first} {again}");
    let (status, other) = trigger(&system, "", &key, &json!({ "kind": "declined" })).await;
    assert_eq!((status, other["code"].as_str()), (409, Some("RequestConflict")), "{other}");
    let (_, fresh) = trigger(&system, "", &[], &json!({ "kind": "good" })).await;
    assert_ne!(fresh["taskId"], first["taskId"]);
    system.wait_for_tasks(3, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_triggers_its_hook_until_it_is_reset() {
    let system = deployment("api-token").await;
    assert_eq!(call_as(&system, "admin", "PUT", HOOK, &[], Some(&definition())).await.status, 200);
    let path = format!("{HOOK}/token");
    assert_eq!(call_as(&system, "reader", "GET", &path, &[], None).await.status, 403);
    let token =
        call_as(&system, "admin", "GET", &path, &[], None).await.json()["token"].as_str().unwrap().to_owned();
    let with = async |token: &str| {
        send(&system, "POST", &format!("{HOOK}/trigger/{token}"), &[], Some(&json!({ "kind": "good" }))).await
    };
    let answer = with(&token).await.json();
    let made = task(&system, answer["taskId"].as_str().unwrap()).await.unwrap();
    assert_eq!(
        (made["payload"]["by"].as_str(), &made["payload"]["client"]),
        (Some("triggerHookWithToken"), &Value::Null)
    );
    // Who fires it again as a new task is who triggered that one.
    let replay = format!("{HOOK}/fires/{}/replay", answer["taskId"].as_str().unwrap());
    let replayed =
        call_as(&system, "admin", "POST", &replay, &[], Some(&json!({ "asNew": true }))).await.json();
    let new = replayed["taskId"].as_str().unwrap();
    let made = eventually(SOON, async || task(&system, new).await).await;
    assert_eq!(
        (made["payload"]["by"].as_str(), made["payload"]["client"].as_str()),
        (Some("triggerHook"), Some("admin"))
    );
    let header = format!("{HOOK}/trigger-with-token");
    let in_header =
        send(&system, "POST", &header, &[("x-hook-token", &token)], Some(&json!({ "kind": "good" }))).await;
    assert_eq!(in_header.status, 200, "{}", String::from_utf8_lossy(&in_header.body));

    for wrong in ["wrong", &token.to_uppercase(), "%00"] {
        let answer = with(wrong).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["code"].as_str()),
            (401, Some("AuthenticationFailed"))
        );
    }
    assert_eq!(send(&system, "POST", &header, &[], Some(&json!({ "kind": "good" }))).await.status, 401);
    let reset = call_as(&system, "admin", "POST", &path, &[], None).await.json();
    assert_ne!(reset["token"], token.as_str());
    assert_eq!(with(&token).await.status, 401);
    assert_eq!(with(reset["token"].as_str().unwrap()).await.status, 200);
    // A hook that is not there is not there, token or none.
    let nowhere =
        send(&system, "POST", &format!("/hooks/ci/none/trigger/{token}"), &[], Some(&json!({}))).await;
    assert_eq!(nowhere.status, 404);

    // No token is in an error, in the record or in the log.
    let mut body =
        send(&system, "POST", &format!("{HOOK}/trigger/{token}"), &[], Some(&json!({}))).await.body.to_vec();
    body.extend(send(&system, "GET", &format!("{HOOK}/trigger/{token}"), &[], None).await.body);
    body.extend(call_as(&system, "admin", "GET", &format!("{HOOK}/audit"), &[], None).await.body);
    let log = system.router.lock().await.lines().join("\n");
    for text in [String::from_utf8(body).unwrap(), log] {
        assert!(!text.contains(&token), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_queue_service_says_is_told_and_an_outage_is_not_the_caller_s_fault() {
    let system = deployment("api-outage").await;
    assert_eq!(call_as(&system, "admin", "PUT", HOOK, &[], Some(&definition())).await.status, 200);
    let faults = system.queue_url.replace("/api/queue/v1", "/__faults__");
    let provoke = async |status: u16, next: u64| {
        let rules = json!({ "rules": [{ "do": "status", "status": status, "next": next }] });
        assert_eq!(system.http.json("POST", &faults, &rules).await.unwrap().status, 200);
    };
    for (status, code) in [(403, "InsufficientScopes"), (400, "InputError")] {
        provoke(status, 1).await;
        let (answered, answer) = trigger(&system, "", &[], &json!({ "kind": "good" })).await;
        assert_eq!((answered, answer["code"].as_str()), (status, Some(code)), "{answer}");
        assert!(
            answer["message"].as_str().unwrap().contains("the queue service refused the task"),
            "{answer}"
        );
    }
    // It goes on by itself: the caller has the id, and the task comes to be under it.
    provoke(503, 2).await;
    let (status, answer) = trigger(&system, "?wait=0", &[], &json!({ "kind": "good" })).await;
    assert_eq!(status, 200, "{answer}");
    let id = answer["taskId"].as_str().unwrap().to_owned();
    eventually(SOON, async || task(&system, &id).await).await;
    system.wait_for_tasks(1, SOON).await;
}
