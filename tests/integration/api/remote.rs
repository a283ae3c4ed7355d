//! `[auth] mode = "taskcluster"`: the deployment's auth service knows who may what, and is asked about each call.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use harness::{Http, Process, eventually};
use pulsehook::auth::signer::Signer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::super::system::{BINARY, SOON, hook, shared_rabbit};

/// What the stand-in knows; changed while it runs.
#[derive(Default)]
struct Known {
    /// The scopes of the client `ci/admin`; `None`: it was revoked.
    scopes: Option<Vec<String>>,
    /// Answers nothing but this.
    failing: Option<StatusCode>,
    /// The questions that it was asked.
    asked: Vec<Value>,
}

type Shared = Arc<Mutex<Known>>;

/// As the auth service's authenticateHawk, which checks signatures; this one goes by the client id alone.
async fn authenticate(State(known): State<Shared>, Json(question): Json<Value>) -> Response {
    let mut known = known.lock().unwrap();
    known.asked.push(question.clone());
    if let Some(status) = known.failing {
        return (status, "<html>Bad Gateway</html>").into_response();
    }
    let expires = chrono::Utc::now() + chrono::Duration::minutes(15);
    let scopes = known.scopes.clone().unwrap_or_default();
    Json(match question["authorization"].as_str() {
        None => json!({ "status": "no-auth", "scheme": "none", "scopes": [], "expires": expires }),
        Some(header) if header.contains("id=\"ci/admin\"") && known.scopes.is_some() => json!({
            "status": "auth-success", "scheme": "hawk", "clientId": "ci/admin", "scopes": scopes, "expires": expires,
        }),
        Some(_) => json!({ "status": "auth-failed", "message": "Unauthorized: no such client" }),
    })
    .into_response()
}

async fn expand(Json(question): Json<Value>) -> Json<Value> {
    let mut scopes = question["scopes"].as_array().unwrap().clone();
    scopes.push(json!("queue:create-task:low:proj-ci/*"));
    Json(json!({ "scopes": scopes }))
}

struct Deployment {
    known: Shared,
    http: Http,
    router: Process,
    port: u16,
    auth: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Deployment {
    async fn start(vhost: &str) -> Self {
        let rabbit = shared_rabbit().await;
        rabbit.add_vhost(vhost).await.unwrap();
        let known = Shared::default();
        let routes = axum::Router::new()
            .route("/api/auth/v1/authenticate-hawk", post(authenticate))
            .route("/api/auth/v1/scopes/expand", post(expand))
            .with_state(known.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root_url = format!("http://{}", listener.local_addr().unwrap());
        let auth = CancellationToken::new();
        tokio::spawn(pulsehook::server::serve(listener, routes, auth.clone()));
        let folder = tempfile::tempdir().unwrap();
        let mut router = Process::new("router", BINARY)
            .arg("router")
            .env("PULSEHOOK_PULSE__URL", rabbit.url(vhost))
            .env("PULSEHOOK_STORE__PATH", folder.path().join("pulsehook.db").display().to_string())
            .env("PULSEHOOK_QUEUE__ROOT_URL", root_url)
            .env("PULSEHOOK_QUEUE__ACCESS_TOKEN", "a token of at least some length")
            .env("PULSEHOOK_API__LISTEN", "127.0.0.1:0")
            .env("PULSEHOOK_AUTH__MODE", "taskcluster")
            .env("PULSEHOOK_KEYS__TASK_ID", "0123456789abcdef0123456789abcdef");
        let port = router.start().await.unwrap().port();
        Self { known, http: Http::default(), router, port, auth, _folder: folder }
    }

    fn may(&self, scopes: &[&str]) {
        self.known.lock().unwrap().scopes = Some(scopes.iter().map(ToString::to_string).collect());
    }

    async fn call(
        &self,
        client: Option<&str>,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let target = format!("/api/hooks/v1{path}");
        let mut headers = Vec::new();
        let authorization = client.map(|client| {
            let signer = Signer::new(client, "token", None, "127.0.0.1", self.port).unwrap();
            signer.sign(method, &target, None).unwrap().to_str().unwrap().to_owned()
        });
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        headers.extend(body.map(|_| ("content-type", "application/json")));
        let url = format!("http://127.0.0.1:{}{target}", self.port);
        let body = body.map(Value::to_string).unwrap_or_default();
        let answer = self.http.call(method, &url, &headers, body).await.unwrap();
        (answer.status.as_u16(), answer.json())
    }
}

fn code((status, body): &(u16, Value)) -> (u16, &str) {
    (*status, body["code"].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deployment_s_auth_service_decides_and_a_revocation_counts_at_once() {
    let all = Deployment::start("remote").await;
    let admin = Some("ci/admin");
    all.may(&["hooks:*", "assume:hook-id:ci/*"]);
    let mut definition = hook(&[]);
    definition["task"]["scopes"] = json!(["queue:create-task:low:proj-ci/linux"]);
    let saved = all.call(admin, "PUT", "/hooks/ci/a%2Fb", Some(&definition)).await;
    assert_eq!(saved.0, 200, "{saved:?}");
    {
        let known = all.known.lock().unwrap();
        let question = &known.asked[0];
        // What was signed, not what it means: the path with its escapes.
        assert_eq!(question["resource"], "/api/hooks/v1/hooks/ci/a%2Fb");
        assert_eq!((&question["method"], &question["host"]), (&json!("put"), &json!("127.0.0.1")));
        assert_eq!((&question["port"], &question["sourceIp"]), (&json!(all.port), &json!("127.0.0.1")));
    }
    definition["task"]["scopes"] = json!(["secrets:get:x"]);
    let more = all.call(admin, "POST", "/hooks/ci/a%2Fb", Some(&definition)).await;
    assert_eq!(code(&more), (403, "InsufficientScopes"), "{more:?}");

    // Unsigned, unknown.
    assert_eq!(code(&all.call(None, "GET", "/hooks/ci", None).await), (403, "InsufficientScopes"));
    let unknown = all.call(Some("ci/other"), "GET", "/hooks/ci", None).await;
    assert_eq!(code(&unknown), (401, "AuthenticationFailed"));
    assert!(unknown.1["message"].as_str().unwrap().contains("no such client"), "{unknown:?}");

    // Fewer scopes, and then none: with the very next call.
    assert_eq!(all.call(admin, "GET", "/hooks/ci", None).await.0, 200);
    all.may(&["hooks:get:ci:*"]);
    assert_eq!(code(&all.call(admin, "GET", "/hooks/ci", None).await), (403, "InsufficientScopes"));
    all.known.lock().unwrap().scopes = None;
    assert_eq!(code(&all.call(admin, "GET", "/hooks/ci", None).await), (401, "AuthenticationFailed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auth_service_that_is_away_is_a_503_that_says_so() {
    let mut all = Deployment::start("remote-away").await;
    let admin = Some("ci/admin");
    all.may(&["hooks:*"]);
    assert_eq!(all.call(admin, "GET", "/hooks", None).await.0, 200);
    let failing = Some(StatusCode::BAD_GATEWAY);
    all.known.lock().unwrap().failing = failing;
    for away in [false, true] {
        if away {
            all.auth.cancel();
        }
        let answer = eventually(SOON, async || {
            let answer = all.call(admin, "GET", "/hooks", None).await;
            (answer.0 == 503).then_some(answer)
        })
        .await;
        assert_eq!(code(&answer), (503, "ServiceUnavailable"));
        assert!(answer.1["message"].as_str().unwrap().contains("auth service"), "{answer:?}");
    }
    let asked = Instant::now();
    let waited = all.call(admin, "GET", "/hooks", None).await;
    assert!(waited.0 == 503 && asked.elapsed() < Duration::from_secs(15), "{waited:?} {:?}", asked.elapsed());
    // What needs nobody goes on, and the log tells the operator what the caller need not know.
    assert_eq!(all.call(None, "GET", "/ping", None).await.0, 200);
    assert!(all.router.lines().iter().any(|line| line.contains("the auth service is not available")));
    all.router.stop().await.unwrap();
}
