//! Who may what: credentials, scopes, web pages from elsewhere.

use serde_json::{Value, json};

use super::super::system::hook;
use super::client::{TOKEN, call_as, deployment, send, signature};

fn refused(answer: &harness::http::Answer, status: u16, code: &str) -> Value {
    let body = answer.json();
    assert_eq!((answer.status.as_u16(), body["code"].as_str()), (status, Some(code)), "{body}");
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_needs_credentials_and_scopes() {
    let system = deployment("api-access").await;
    let (path, definition) = ("/hooks/ci/one", hook(&[]));
    let get = async |headers: &[(&str, &str)]| send(&system, "GET", path, headers, None).await;

    // Nobody, then somebody who may not, then with a wrong token, then somebody unknown.
    let answer = refused(&get(&[]).await, 403, "InsufficientScopes");
    assert!(answer["message"].as_str().unwrap().contains("hooks:get:ci:one"), "{answer}");
    let answer =
        refused(&call_as(&system, "nobody", "GET", path, &[], None).await, 403, "InsufficientScopes");
    assert!(answer["message"].as_str().unwrap().contains("Client ID nobody"), "{answer}");
    let wrong = signature(&system, "admin", "another token", "GET", path);
    refused(&get(&[("authorization", &wrong)]).await, 401, "AuthenticationFailed");
    let unknown = signature(&system, "unknown", TOKEN, "GET", path);
    refused(&get(&[("authorization", &unknown)]).await, 401, "AuthenticationFailed");
    for header in
        ["Hawk", "Bearer x", "Hawk id=\"admin\", ts=\"99999999999999999999\", nonce=\"n\", mac=\"AAAA\""]
    {
        refused(&get(&[("authorization", header)]).await, 401, "AuthenticationFailed");
    }
    // A refusal shows nothing of the access token.
    assert!(
        !String::from_utf8_lossy(&get(&[("authorization", &wrong)]).await.body).contains("another token")
    );

    let created = call_as(&system, "admin", "PUT", path, &[], Some(&definition)).await;
    assert_eq!(created.status, 200, "{}", String::from_utf8_lossy(&created.body));
    assert_eq!(call_as(&system, "reader", "GET", path, &[], None).await.status, 200);
    refused(&call_as(&system, "reader", "DELETE", path, &[], None).await, 403, "InsufficientScopes");
    let elsewhere = call_as(&system, "admin", "PUT", "/hooks/other/one", &[], Some(&definition)).await;
    let answer = refused(&elsewhere, 403, "InsufficientScopes");
    assert!(answer["message"].as_str().unwrap().contains("assume:hook-id:other/one"), "{answer}");

    // A signed call is good once, and for what was signed.
    let once = signature(&system, "reader", TOKEN, "GET", path);
    assert_eq!(get(&[("authorization", &once)]).await.status, 200);
    refused(&get(&[("authorization", &once)]).await, 401, "AuthenticationFailed");
    let other = signature(&system, "reader", TOKEN, "GET", "/hooks/ci/two");
    refused(&get(&[("authorization", &other)]).await, 401, "AuthenticationFailed");

    // What everybody may do, and what needs nobody.
    assert_eq!(send(&system, "GET", "/hooks", &[], None).await.json()["groups"], json!(["ci"]));
    assert_eq!(send(&system, "GET", "/ping", &[("authorization", "nonsense")], None).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_gets_no_scopes_that_its_role_has_not() {
    let system = deployment("api-scopes").await;
    let mut definition = hook(&[]);
    definition["task"]["scopes"] =
        json!(["queue:create-task:low:proj-ci/linux", "secrets:get:x", "{{ payload.s }}"]);
    let put = async |definition: &Value| {
        call_as(&system, "admin", "PUT", "/hooks/ci/x", &[], Some(definition)).await
    };
    let answer = refused(&put(&definition).await, 403, "InsufficientScopes");
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("secrets:get:x") && !message.contains("proj-ci/linux"), "{message}");
    definition["task"]["scopes"] = json!(["queue:create-task:low:proj-ci/linux", "{{ payload.s }}"]);
    assert_eq!(put(&definition).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanges_on_which_a_hook_would_never_end_may_not_be_bound() {
    let system = super::client::deployment_with("api-denied", "").await;
    for exchange in ["exchange/pulsehook/v1/fire", "exchange/taskcluster-queue/v1/task-created"] {
        let definition = hook(&[(exchange, "#")]);
        let answer = call_as(&system, "admin", "PUT", "/hooks/ci/x", &[], Some(&definition)).await;
        let answer = refused(&answer, 400, "InputError");
        assert!(answer["message"].as_str().unwrap().contains("bindings[0].exchange"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_from_elsewhere_may_call_with_a_signature() {
    let system = deployment("api-cors").await;
    let origin = [("origin", "https://ui.example.com"), ("access-control-request-method", "PUT")];
    let asked = send(&system, "OPTIONS", "/hooks/ci/x", &origin, None).await;
    assert_eq!(asked.status, 200);
    for answer in [asked, send(&system, "GET", "/hooks/ci/x", &origin, None).await] {
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        assert!(answer.headers["access-control-allow-headers"].to_str().unwrap().contains("Authorization"));
        assert!(answer.headers["access-control-allow-methods"].to_str().unwrap().contains("PUT"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_did_what_is_on_record_also_after_a_hook_is_gone() {
    let system = deployment("api-audit").await;
    let path = "/hooks/ci/audited";
    let mut definition = hook(&[]);
    for method in ["PUT", "POST", "POST"] {
        let saved = call_as(&system, "admin", method, path, &[], Some(&definition)).await;
        assert_eq!(saved.status, 200);
        definition["paused"] = json!(true);
    }
    assert_eq!(call_as(&system, "admin", "POST", &format!("{path}/token"), &[], None).await.status, 200);
    assert_eq!(call_as(&system, "admin", "DELETE", path, &[], None).await.status, 200);
    refused(
        &call_as(&system, "reader", "GET", &format!("{path}/audit"), &[], None).await,
        403,
        "InsufficientScopes",
    );

    let first = call_as(&system, "admin", "GET", &format!("{path}/audit?limit=2"), &[], None).await.json();
    let token = first["continuationToken"].as_str().unwrap();
    let rest =
        call_as(&system, "admin", "GET", &format!("{path}/audit?continuationToken={token}"), &[], None)
            .await
            .json();
    assert!(rest.get("continuationToken").is_none(), "{rest}");
    let entries: Vec<Value> =
        [first, rest].iter().flat_map(|page| page["audit"].as_array().unwrap().clone()).collect();
    let actions: Vec<&str> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    // The second update: the first changed nothing.
    assert_eq!(actions, ["delete-queue", "delete-hook", "reset-token", "update-hook", "create-hook"]);
    assert!(entries.iter().all(|entry| entry["hookId"] == "audited"));
    // What follows by itself from what somebody did.
    assert_eq!(
        (&entries[0]["clientId"], &entries[0]["detail"]),
        (&Value::Null, &json!({ "messagesDropped": 0 }))
    );
    assert!(entries[1..].iter().all(|entry| entry["clientId"] == "admin"));
    assert_eq!(entries[3]["detail"]["changed"], json!(["paused"]));
}
