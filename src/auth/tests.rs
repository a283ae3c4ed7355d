//! Whole calls: as the Python client signs them, as nobody should, and by way of an auth service.

use std::net::SocketAddr;

use axum::extract::State;
use axum::routing::post;
use http::HeaderValue;
use serde_json::{Value, json};

use super::signer::Signer;
use super::*;

const TOKEN: &str = "a-permanent-access-token";

fn config(text: &str) -> Config {
    toml::from_str(text).unwrap()
}

fn fixed() -> Authenticator {
    let config = config(
        r#"
        anonymous = ["hooks:list-hooks:open"]
        [[client]]
        client_id = "ci/admin"
        access_token = "a-permanent-access-token"
        scopes = ["hooks:*", "assume:hook-id:ci/*", "auth:create-client:ci/admin/*"]
        [[client]]
        client_id = "ci/reader"
        access_token = "another-token"
        scopes = ["hooks:list-hooks:*"]
        [[role]]
        role_id = "hook-id:ci/*"
        scopes = ["queue:create-task:low:proj-ci/*", "queue:scheduler-id:-"]
        [[role]]
        role_id = "anonymous"
        scopes = ["hooks:get:open:*"]
        "#,
    );
    Authenticator::new(&config, crate::queue::Config::default().deployment())
        .unwrap_or_else(|errors| panic!("{errors:?}"))
}

struct Request {
    method: String,
    target: String,
    host: String,
    headers: HeaderMap,
    body: String,
}

impl Request {
    fn get(target: &str) -> Self {
        Self {
            method: "GET".into(),
            target: target.into(),
            host: "example.com".into(),
            headers: HeaderMap::new(),
            body: String::new(),
        }
    }

    fn signed(mut self, client_id: &str, token: &str, scopes: Option<&[String]>) -> Self {
        let signer = Signer::new(client_id, token, None, "example.com", 80).unwrap();
        let value = signer.sign(&self.method, &self.target, scopes).unwrap();
        self.headers.insert(http::header::AUTHORIZATION, value);
        self
    }

    fn call(&self) -> Call<'_> {
        let (host, port) = self.host.split_once(':').unwrap_or((&self.host, "80"));
        Call {
            method: &self.method,
            target: &self.target,
            host,
            port: port.parse().unwrap(),
            headers: &self.headers,
            body: self.body.as_bytes(),
            source: None,
        }
    }
}

/// What the PyPI package `taskcluster` sends, and when.
fn python() -> (Vec<(String, Request)>, SystemTime) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/hawk/taskcluster-python.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let requests = cases["requests"].as_array().unwrap().iter().map(|case| {
        let mut headers = HeaderMap::new();
        for (name, field) in [("authorization", "authorization"), ("content-type", "content_type")] {
            if let Some(value) = text(&case[field]) {
                headers.insert(name, value.parse::<HeaderValue>().unwrap());
            }
        }
        let request = Request {
            method: text(&case["method"]).unwrap(),
            target: text(&case["target"]).unwrap(),
            host: text(&case["host"]).unwrap(),
            headers,
            body: text(&case["body"]).unwrap(),
        };
        (text(&case["call"]).unwrap(), request)
    });
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(cases["time"].as_u64().unwrap());
    (requests.collect(), time)
}

#[tokio::test]
async fn the_python_clients_calls_are_understood() {
    let auth = fixed();
    let (requests, time) = python();
    let mut identities = Vec::new();
    for (call, request) in &requests {
        let identity = auth.authenticate_at(&request.call(), time).await;
        identities.push(identity.unwrap_or_else(|error| panic!("{call}: {error}")));
    }
    let may = |index: usize, scope: &str| identities[index].scopes.satisfies(scope);
    assert_eq!(identities[0].client_id, "ci/admin");
    assert!(may(0, "hooks:modify-hook:ci/x") && may(0, "queue:create-task:low:proj-ci/linux"));
    assert!(may(0, "hooks:get:open:x"), "everybody has the anonymous role");
    assert!(may(2, "hooks:list-hooks:ci") && !may(2, "hooks:modify-hook:ci/x"));
    assert!(may(2, "hooks:get:open:x") && may(2, "hooks:list-hooks:open"));
    assert!(may(3, "hooks:list-hooks:ci") && !may(3, "hooks:modify-hook:ci/x"));
    assert_eq!(identities[3].client_id, "ci/admin");
    assert_eq!(identities[4].client_id, "ci/admin/bot");
    assert!(may(4, "hooks:trigger-hook:ci/nightly") && !may(4, "hooks:list-hooks:ci"));
    assert!(identities[4].expires.is_some());
    assert_eq!(identities[5].client_id, "ci/admin");

    // Each signed call was good once; a signed URL is good until it expires.
    for (call, request) in &requests[..5] {
        let error = auth.authenticate_at(&request.call(), time).await.unwrap_err();
        assert!(error.to_string().contains("already used"), "{call}: {error}");
    }
    auth.authenticate_at(&requests[5].1.call(), time).await.unwrap();
    let later = time + Duration::from_secs(2 * 86_400);
    assert!(
        auth.authenticate_at(&requests[5].1.call(), later).await.unwrap_err().to_string().contains("expired")
    );
    let error = fixed().authenticate_at(&requests[3].1.call(), later).await.unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
    assert!(!error.to_string().contains(TOKEN));
}

#[tokio::test]
async fn a_changed_body_or_target_is_refused() {
    let (mut requests, time) = python();
    requests[0].1.body.push(' ');
    let error = fixed().authenticate_at(&requests[0].1.call(), time).await.unwrap_err();
    assert!(error.to_string().contains("payload hash"), "{error}");
    for (call, mut request) in requests {
        request.target = request.target.replacen("/ci", "/cj", 1).replacen("/hooks", "/hoaks", 1);
        let error = fixed().authenticate_at(&request.call(), time).await.unwrap_err();
        assert!(matches!(error, AuthError::Failed(_)), "{call}: {error}");
    }
}

#[tokio::test]
async fn a_refused_body_does_not_use_up_the_nonce() {
    let auth = fixed();
    let (mut requests, time) = python();
    let good = requests[0].1.body.clone();
    requests[0].1.body.clear();
    auth.authenticate_at(&requests[0].1.call(), time).await.unwrap_err();
    requests[0].1.body = good;
    auth.authenticate_at(&requests[0].1.call(), time).await.unwrap();
}

#[tokio::test]
async fn who_is_not_known_or_claims_too_much_is_refused() {
    let auth = fixed();
    let failed = async |request: Request| match auth.authenticate(&request.call()).await.unwrap_err() {
        AuthError::Failed(message) => message,
        other => panic!("{other}"),
    };
    assert!(failed(Request::get("/x").signed("nobody", TOKEN, None)).await.contains("no client \"nobody\""));
    assert!(failed(Request::get("/x").signed("ci/admin", "wrong", None)).await.contains("signature"));
    let too_much = ["hooks:modify-hook:a/b".to_owned()];
    let message = failed(Request::get("/x").signed("ci/reader", "another-token", Some(&too_much))).await;
    assert!(message.contains("hooks:modify-hook:a/b"), "{message}");
    let mut basic = Request::get("/x");
    basic.headers.insert(http::header::AUTHORIZATION, HeaderValue::from_static("Basic dXNlcjpwYXNz"));
    assert!(failed(basic).await.contains("scheme Hawk"));

    let unsigned = auth.authenticate(&Request::get("/x").call()).await.unwrap();
    assert_eq!(unsigned.client_id, ANONYMOUS);
    assert_eq!(unsigned.scopes.as_slice(), ["assume:anonymous", "hooks:get:open:*", "hooks:list-hooks:open"]);
    let refusal = unsigned.require(&["hooks:list-hooks:ci".into()]).unwrap_err();
    assert_eq!(refusal.missing, ["hooks:list-hooks:ci"]);
}

fn certified(certificate: &Value, client_id: &str, token: &str) -> Request {
    let text = certificate.to_string();
    let signer = Signer::new(client_id, token, Some(&text), "example.com", 80).unwrap();
    let mut request = Request::get("/x");
    request.headers.insert(http::header::AUTHORIZATION, signer.sign("GET", "/x", None).unwrap());
    request
}

/// Temporary credentials as an issuer makes them, with one thing changed.
fn temporary(client_id: &str, issuer_token: &str, change: impl FnOnce(&mut Value)) -> Request {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    let key = ::hawk::Key::new(issuer_token, ::hawk::SHA256).unwrap();
    let now = Utc::now().timestamp_millis();
    let mut certificate = json!({
        "version": 1, "scopes": ["hooks:list-hooks:*"], "start": now - 60_000, "expiry": now + 60_000,
        "seed": "fN1SbArXTPSVFNUvaOlinQfN1SbArXTPSVFNUvaOlinQ", "issuer": "ci/admin",
    });
    change(&mut certificate);
    let mut lines = vec!["version:1".to_owned()];
    if let Some(issuer) = certificate["issuer"].as_str() {
        lines.push(format!("clientId:{client_id}"));
        lines.push(format!("issuer:{issuer}"));
    }
    for name in ["seed", "start", "expiry"] {
        let value = &certificate[name];
        lines.push(format!("{name}:{}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    }
    lines.push("scopes:".into());
    lines.extend(
        certificate["scopes"].as_array().unwrap().iter().map(|scope| scope.as_str().unwrap().to_owned()),
    );
    certificate["signature"] = STANDARD.encode(key.sign(lines.join("\n").as_bytes()).unwrap()).into();
    let token = URL_SAFE_NO_PAD.encode(key.sign(certificate["seed"].as_str().unwrap().as_bytes()).unwrap());
    certified(&certificate, client_id, &token)
}

#[tokio::test]
async fn temporary_credentials_give_what_their_issuer_may_give() {
    let auth = fixed();
    let good = auth.authenticate(&temporary("ci/admin/bot", TOKEN, |_| ()).call()).await.unwrap();
    assert!(good.scopes.satisfies("hooks:list-hooks:x") && !good.scopes.satisfies("hooks:modify-hook:x/y"));
    let unnamed = temporary("ci/admin", TOKEN, |certificate| {
        certificate.as_object_mut().unwrap().remove("issuer");
    });
    auth.authenticate(&unnamed.call()).await.unwrap();

    let now = Utc::now().timestamp_millis();
    let hour = 3_600_000;
    let refused: Vec<(&str, Request)> = vec![
        ("expired", temporary("ci/admin/bot", TOKEN, |c| c["expiry"] = (now - hour).into())),
        ("not yet valid", temporary("ci/admin/bot", TOKEN, |c| c["start"] = (now + hour).into())),
        ("31 days", temporary("ci/admin/bot", TOKEN, |c| c["expiry"] = (now + 800 * hour).into())),
        ("44 characters", temporary("ci/admin/bot", TOKEN, |c| c["seed"] = "short".into())),
        (
            "does not have secrets",
            temporary("ci/admin/bot", TOKEN, |c| c["scopes"] = json!(["secrets:get:x"])),
        ),
        ("auth:create-client:other", temporary("other", TOKEN, |_| ())),
        ("must not be the client", temporary("ci/admin", TOKEN, |_| ())),
        ("signature does not match", temporary("ci/admin/bot", "another-token", |_| ())),
        ("no client", temporary("ci/admin/bot", TOKEN, |c| c["issuer"] = "nobody".into())),
        ("no date", temporary("ci/admin/bot", TOKEN, |c| c["expiry"] = i64::MAX.into())),
    ];
    for (reason, request) in refused {
        let error = auth.authenticate(&request.call()).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{reason}: {error}");
        assert!(!error.contains(TOKEN));
    }
}

#[tokio::test]
async fn roles_are_expanded_for_whoever_asks() {
    let expanded = fixed().expand(&["assume:hook-id:ci/nightly".into()]).await.unwrap();
    assert!(expanded.satisfies("queue:create-task:low:proj-ci/linux"));
    assert!(!expanded.satisfies("queue:create-task:high:proj-ci/linux"));
}

#[test]
fn every_mistake_in_the_configuration_is_reported() {
    let wrong = config(
        r#"
        anonymous = ["a**"]
        [[client]]
        client_id = "a"
        access_token = "env:PULSEHOOK_NOT_SET"
        scopes = ["ü"]
        [[client]]
        client_id = "anonymous"
        access_token = "secret-token"
        scopes = []
        [[role]]
        role_id = "r"
        scopes = ["assume:r"]
        "#,
    );
    let errors = Authenticator::new(&wrong, crate::queue::Config::default().deployment()).err().unwrap();
    let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(text.len(), 5, "{text:#?}");
    assert!(text.iter().any(|error| error.contains("PULSEHOOK_NOT_SET")));
    assert!(!text.iter().any(|error| error.contains("secret-token")));
    assert!(toml::from_str::<Config>("mode = \"open\"").is_err());
    assert!(toml::from_str::<Config>("surprise = 1").is_err());
}

#[tokio::test]
async fn open_asks_nobody() {
    let auth = Authenticator::open();
    let unsigned = auth.authenticate(&Request::get("/x").call()).await.unwrap();
    assert_eq!((unsigned.client_id.as_str(), unsigned.scopes.satisfies("anything")), (ANONYMOUS, true));
    let signed = Request::get("/x").signed("me", "whatever", None);
    assert_eq!(auth.authenticate(&signed.call()).await.unwrap().client_id, "me");
}

/// An auth service that knows one client; counts its calls.
async fn auth_service() -> (SocketAddr, Arc<std::sync::Mutex<Vec<Value>>>) {
    type Calls = Arc<std::sync::Mutex<Vec<Value>>>;
    async fn hawk(State(calls): State<Calls>, axum::Json(question): axum::Json<Value>) -> axum::Json<Value> {
        calls.lock().unwrap().push(question.clone());
        let expires = Utc::now() + chrono::Duration::minutes(15);
        axum::Json(match question["authorization"].as_str() {
            None => json!({"status": "no-auth", "scheme": "none", "scopes": ["public"], "expires": expires}),
            Some(header) if header.contains("\"ci/admin\"") => json!({
                "status": "auth-success", "scheme": "hawk", "clientId": "ci/admin", "scopes": ["hooks:*"],
                "expires": expires,
            }),
            Some(_) => json!({"status": "auth-failed", "message": "Unauthorized: Bad mac"}),
        })
    }
    async fn expand(axum::Json(question): axum::Json<Value>) -> axum::Json<Value> {
        let mut scopes = question["scopes"].as_array().unwrap().clone();
        scopes.push("expanded".into());
        axum::Json(json!({ "scopes": scopes }))
    }
    let calls = Calls::default();
    let routes = axum::Router::new()
        .route("/api/auth/v1/authenticate-hawk", post(hawk))
        .route("/api/auth/v1/scopes/expand", post(expand))
        .with_state(calls.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(crate::server::serve(listener, routes, Default::default()));
    (address, calls)
}

fn by_service(root_url: String) -> Authenticator {
    let queue = crate::queue::Config {
        root_url,
        access_token: pulse::Secret::new("router-token"),
        ..crate::queue::Config::default()
    };
    Authenticator::new(&config("mode = \"taskcluster\""), queue.deployment())
        .unwrap_or_else(|errors| panic!("{errors:?}"))
}

#[tokio::test]
async fn the_auth_service_is_asked_about_every_signed_call() {
    let (address, calls) = auth_service().await;
    let auth = by_service(format!("http://{address}"));
    for _ in 0..2 {
        let signed = Request::get("/x?y=1").signed("ci/admin", "whatever", None);
        let identity = auth.authenticate(&signed.call()).await.unwrap();
        assert_eq!(identity.client_id, "ci/admin");
        assert!(identity.scopes.satisfies("hooks:get:a:b"));
        assert!(auth.authenticate(&signed.call()).await.is_err(), "a replay");
    }
    assert_eq!(calls.lock().unwrap().len(), 4);
    {
        let calls = calls.lock().unwrap();
        assert_eq!(calls[0]["method"], "get");
        assert_eq!(calls[0]["resource"], "/x?y=1");
        assert_eq!((&calls[0]["host"], &calls[0]["port"]), (&json!("example.com"), &json!(80)));
    }
    let unknown = Request::get("/x").signed("nobody", "whatever", None);
    let error = auth.authenticate(&unknown.call()).await.unwrap_err();
    assert_eq!(error, AuthError::Failed("Unauthorized: Bad mac".into()));
    for _ in 0..3 {
        let unsigned = auth.authenticate(&Request::get("/x").call()).await.unwrap();
        assert_eq!(
            (unsigned.client_id.as_str(), unsigned.scopes.as_slice()),
            (ANONYMOUS, &["public".into()][..])
        );
    }
    assert_eq!(calls.lock().unwrap().len(), 6, "what an unsigned call may do is kept for seconds");
    assert!(auth.expand(&["a".into()]).await.unwrap().satisfies("expanded"));
}

#[tokio::test]
async fn an_auth_service_that_is_away_is_not_the_callers_fault() {
    let (address, _) = auth_service().await;
    for root_url in ["http://127.0.0.1:1".to_owned(), format!("http://{address}/elsewhere")] {
        let auth = by_service(root_url);
        let signed = Request::get("/x").signed("ci/admin", "whatever", None);
        for request in [signed, Request::get("/x")] {
            let error = auth.authenticate(&request.call()).await.unwrap_err();
            assert!(matches!(error, AuthError::Unavailable { .. }), "{error}");
        }
    }
}

#[test]
fn the_modes_options_do_not_mix() {
    let mixed = config("mode = \"taskcluster\"\nanonymous = [\"x\"]");
    let queue =
        crate::queue::Config { access_token: pulse::Secret::new("t"), ..crate::queue::Config::default() };
    let errors = Authenticator::new(&mixed, queue.deployment()).err().unwrap();
    assert!(errors[0].to_string().contains("auth.anonymous"), "{errors:?}");
}
