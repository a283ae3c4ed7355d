//! A client that signs, and a deployment with clients that may different things.

use harness::http::Answer;
use pulsehook::auth::signer::Signer;
use serde_json::Value;

use super::super::system::{System, shared_rabbit};

/// The token of every client of [`AUTH`].
pub const TOKEN: &str = "an access token that is long enough to be one";

/// Three clients: one that may everything with the hooks of group `ci`, one that may only read, one without scopes.
const AUTH: &str = r#"
[auth]
anonymous = ["hooks:list-hooks:"]
[[auth.client]]
client_id = "admin"
access_token = "an access token that is long enough to be one"
scopes = ["hooks:*", "assume:hook-id:ci/*", "auth:create-client:admin/*"]
[[auth.client]]
client_id = "reader"
access_token = "an access token that is long enough to be one"
scopes = ["hooks:get:ci:*", "hooks:list-last-fires:ci/*"]
[[auth.client]]
client_id = "nobody"
access_token = "an access token that is long enough to be one"
scopes = []
[[auth.role]]
role_id = "hook-id:ci/*"
scopes = ["queue:create-task:low:proj-ci/*"]
"#;

/// A deployment with these clients, on a virtual host of its own.
pub async fn deployment(vhost: &str) -> System {
    deployment_with(vhost, "").await
}

/// The same with more configuration.
pub async fn deployment_with(vhost: &str, more: &str) -> System {
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost(vhost).await.unwrap();
    System::start_configured(&rabbit.url(vhost), &format!("{more}\n{AUTH}"), &[]).await
}

/// Calls as a client, signed; `path` is below `/api/hooks/v1`.
pub async fn call_as(
    system: &System,
    client: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Answer {
    let authorization = signature(system, client, TOKEN, method, path);
    let mut all = vec![("authorization", authorization.as_str())];
    all.extend(headers);
    send(system, method, path, &all, body).await
}

/// The value of the Authorization header.
pub fn signature(system: &System, client: &str, token: &str, method: &str, path: &str) -> String {
    let port = system.api_url.split(':').nth(2).unwrap().split('/').next().unwrap().parse().unwrap();
    let signer = Signer::new(client, token, None, "127.0.0.1", port).unwrap();
    signer.sign(method, &format!("/api/hooks/v1{path}"), None).unwrap().to_str().unwrap().to_owned()
}

/// Calls with just these headers.
pub async fn send(
    system: &System,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Answer {
    let mut all = headers.to_vec();
    if body.is_some() {
        all.push(("content-type", "application/json"));
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    system.http.call(method, &format!("{}{path}", system.api_url), &all, body).await.unwrap()
}
