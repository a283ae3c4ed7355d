//! A deployment with people of three kinds, and hooks that have something to show.

use harness::http::Answer;
use harness::{eventually, free_port};
use pulsehook::auth::signer::Signer;
use serde_json::{Value, json};

use super::super::system::{SOON, System, hook, shared_rabbit};

/// The token of every client.
pub const TOKEN: &str = "an access token that is long enough to be one";

/// One who may everything, one who may read what happens to the hooks of group `ci`, one who may nothing.
const AUTH: &str = r#"
[auth]
[[auth.client]]
client_id = "admin"
access_token = "an access token that is long enough to be one"
scopes = ["hooks:*", "assume:hook-id:*"]
[[auth.client]]
client_id = "reader"
access_token = "an access token that is long enough to be one"
scopes = ["hooks:list-hooks:ci", "hooks:get:ci:*", "hooks:list-last-fires:ci/*", "hooks:status:ci/*"]
[[auth.client]]
client_id = "nobody"
access_token = "an access token that is long enough to be one"
scopes = []
"#;

/// The exchange of webhooks.
pub const WEBHOOKS: &str = "exchange/pulsehook/v1/webhook";

/// Bridge, router and queue on a virtual host of their own; the bridge tells the router how it is.
pub async fn deployment(vhost: &str) -> System {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost(vhost).await.unwrap();
    let status = format!("127.0.0.1:{}", free_port().unwrap());
    let variables = [
        ("PULSEHOOK_BRIDGE__STATUS_LISTEN", status.as_str()),
        ("PULSEHOOK_UI__BRIDGE_STATUS", &format!("http://{status}")),
        ("PULSEHOOK_UI__WEBHOOK_URL", "https://hooks.example.com"),
    ];
    System::start_configured(&rabbit.url(vhost), AUTH, &variables).await
}

/// Where the pages are.
pub fn base(system: &System) -> String {
    system.api_url.strip_suffix("/api/hooks/v1").unwrap().to_owned()
}

/// Calls the API as the admin.
pub async fn call(system: &System, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let port = base(system).rsplit(':').next().unwrap().parse().unwrap();
    let signer = Signer::new("admin", TOKEN, None, "127.0.0.1", port).unwrap();
    let signature = signer.sign(method, &format!("/api/hooks/v1{path}"), None).unwrap();
    let headers = [("authorization", signature.to_str().unwrap()), ("content-type", "application/json")];
    let body = body.map(Value::to_string).unwrap_or_default();
    system.http.call(method, &format!("{}{path}", system.api_url), &headers, body).await.unwrap()
}

/// Makes a hook; `name` is as in a path, e.g. `ci/on%2Fpush`.
pub async fn create(system: &System, name: &str, definition: &Value) {
    let answer = call(system, "PUT", &format!("/hooks/{name}"), Some(definition)).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
}

/// A hook that fires on pushes to main.
pub fn on_push() -> Value {
    let mut definition = hook(&[(WEBHOOKS, "github.push.#")]);
    definition["metadata"]["name"] = json!("Build pushes");
    definition["filter"] = json!("payload.ref == \"refs/heads/main\"");
    definition
}

/// Sends a push, and waits until the hook has it on record.
pub async fn push(system: &System, hook: &str, delivery: &str, payload: &Value) {
    let count = async || {
        let fires = call(system, "GET", &format!("/hooks/{hook}/last-fires"), None).await.json();
        let decisions = call(system, "GET", &format!("/hooks/{hook}/decisions"), None).await.json();
        fires["lastFires"].as_array().map_or(0, Vec::len)
            + decisions["decisions"].as_array().map_or(0, Vec::len)
    };
    let before = count().await;
    system.send_until_taken("push", delivery, payload.to_string().as_bytes()).await;
    eventually(SOON, async || (count().await > before).then_some(())).await;
}

/// The newest fire of a hook: its task id.
pub async fn last_fire(system: &System, hook: &str) -> String {
    let fires = call(system, "GET", &format!("/hooks/{hook}/last-fires"), None).await.json();
    fires["lastFires"][0]["taskId"].as_str().unwrap().to_owned()
}

/// Hooks with fires, decisions, dead letters, refused bindings and schedules.
pub async fn populated(vhost: &str) -> System {
    let system = deployment(vhost).await;
    create(&system, "ci/on-push", &on_push()).await;
    let mut broken = hook(&[(WEBHOOKS, "github.push.#")]);
    broken["task"]["payload"] = json!({ "rev": "{{ payload.missing.there }}" });
    create(&system, "ci/broken", &broken).await;
    let mut nightly = hook(&[]);
    nightly["schedule"] = json!(["0 30 2 * * *", "@hourly"]);
    nightly["triggerSchema"] = json!({
        "type": "object",
        "properties": {
            "days": { "type": "integer", "minimum": 1, "default": 30, "description": "How many." },
            "kind": { "enum": ["full", "quick"] },
            "list": { "type": "array" },
        },
        "required": ["days"],
    });
    create(&system, "ci/nightly%2Fclean", &nightly).await;
    create(&system, "ops/foreign", &hook(&[("exchange/not/there", "#")])).await;
    let payload = |branch: &str| json!({ "ref": format!("refs/heads/{branch}"), "after": "abc", "repository": { "name": "r", "owner": { "login": "o" } } });
    push(&system, "ci/on-push", "one", &payload("main")).await;
    push(&system, "ci/on-push", "two", &payload("try")).await;
    system
}
