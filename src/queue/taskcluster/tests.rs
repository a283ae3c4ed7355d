//! The client against the local queue over real sockets, and what it makes of answers on a bad day.

use std::net::SocketAddr;

use chrono::{SecondsFormat, TimeDelta, Utc};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::queue::MAX_RETRY_AFTER;
use crate::queue::local::{Config as LocalConfig, Credentials, Data, LocalQueue};
use crate::queue::same_definition;

const ID: &str = "fN1SbArXTPSVFNUvaOlinQ";
const OTHER: &str = "bJjtJ_-IQg6szLKlrxfq7g";
const THIRD: &str = "dSlITZ4yQgmvxxAi4A8fHQ";
const TOKEN: &str = "a-token-for-tests";

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start(data: Data) -> Self {
        let credentials =
            Some(Credentials { client_id: "tests/router".into(), access_token: pulse::Secret::new(TOKEN) });
        let queue = LocalQueue::open(LocalConfig { data, credentials, faults: true }).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn({
            let stop = stop.clone();
            async move { queue.serve(listener, stop).await }
        });
        Self { address, stop, server }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.server.await.unwrap();
    }

    fn config(&self) -> Config {
        Config {
            root_url: format!("http://{}", self.address),
            client_id: "tests/router".into(),
            access_token: pulse::Secret::new(TOKEN),
            timeout_seconds: 1,
            ..Config::default()
        }
    }

    fn client(&self) -> Taskcluster {
        Taskcluster::new(&self.config()).unwrap()
    }

    async fn raw(&self, method: Method, path: &str, body: &str) -> Answer {
        let service = Service::new(&self.config().root_url, Limits::from(&self.config())).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        service
            .call(method, path.to_owned(), headers, Bytes::from(body.to_owned()), usize::MAX)
            .await
            .unwrap()
    }

    async fn faults(&self, rules: Value) {
        let answer = self.raw(Method::POST, "/__faults__", &json!({ "rules": rules }).to_string()).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
    }

    async fn listing(&self) -> Value {
        let answer = self.raw(Method::GET, "/api/queue/v1/tasks", "").await;
        serde_json::from_slice(&answer.body).unwrap()
    }
}

fn scopes() -> Vec<String> {
    vec!["assume:hook-id:ci/build".to_owned()]
}

fn task(name: &str) -> Bytes {
    let now = chrono::Utc::now();
    json!({
        "provisionerId": "proj-ci", "workerType": "linux", "created": now,
        "deadline": now + chrono::Duration::hours(1), "payload": {},
        "metadata": {"name": name, "description": "", "owner": "o@example.com", "source": "https://example.com"},
    })
    .to_string()
    .into()
}

#[tokio::test]
async fn a_task_is_created_once_however_often_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    for data in [Data::Memory, Data::File(folder.path().join("queue.db"))] {
        let running = Running::start(data.clone()).await;
        let client = running.client();
        client.probe().await.unwrap();
        assert_eq!(client.task(ID).await, Ok(None));
        let body = task("first");
        client.create_task(ID, body.clone(), &scopes(), None).await.unwrap();
        client.create_task(ID, body.clone(), &scopes(), None).await.unwrap();

        let kept = client.task(ID).await.unwrap().unwrap();
        assert_eq!(kept["metadata"]["name"], "first");
        assert_eq!(kept["taskGroupId"], ID);
        assert!(same_definition(ID, &body, &kept));

        let other = task("other");
        let conflict = client.create_task(ID, other.clone(), &scopes(), None).await.unwrap_err();
        assert!(
            matches!(&conflict, CreateError::Conflict { message } if message.contains(ID)),
            "{conflict:?}"
        );
        assert!(!same_definition(ID, &other, &kept));

        let listing = running.listing().await;
        assert_eq!(listing["total"], 1);
        assert_eq!(listing["tasks"][0]["taskId"], ID);
        assert_eq!(listing["tasks"][0]["clientId"], "tests/router");
        assert_eq!(listing["tasks"][0]["authorizedScopes"], json!(scopes()));
        let status = running.raw(Method::GET, &format!("/api/queue/v1/task/{ID}/status"), "").await;
        let status: Value = serde_json::from_slice(&status.body).unwrap();
        assert_eq!(status["status"]["state"], "pending");
        running.stop().await;

        if let Data::File(_) = data {
            let again = Running::start(data).await;
            assert!(same_definition(ID, &body, &again.client().task(ID).await.unwrap().unwrap()));
            again.client().create_task(ID, body, &scopes(), None).await.unwrap();
            again.stop().await;
        }
    }
}

#[tokio::test]
async fn what_the_queue_refuses_is_told_with_its_reason() {
    let running = Running::start(Data::Memory).await;
    let client = running.client();
    let refused = async |id: &str, body: Value| match client
        .create_task(id, body.to_string().into(), &scopes(), None)
        .await
        .unwrap_err()
    {
        CreateError::Refused { status, code, message } => (status, code, message),
        other => panic!("{other:?}"),
    };
    let good: Value = serde_json::from_slice(&task("t")).unwrap();
    let with = |name: &str, value: Value| {
        let mut task = good.clone();
        task[name] = value;
        task
    };
    let (status, code, message) = refused(ID, with("surprise", json!(1))).await;
    assert_eq!((status, code.as_str()), (400, "InputValidationError"));
    assert!(message.contains("surprise"), "{message}");
    let (_, code, message) = refused(ID, with("retries", json!(99))).await;
    assert_eq!(code, "InputValidationError");
    assert!(message.contains("data/retries"), "{message}");
    let (_, code, message) = refused(ID, with("created", json!("2020-01-01T00:00:00Z"))).await;
    assert_eq!(code, "InputError");
    assert!(message.contains("`created`"), "{message}");
    let (_, code, message) = refused(ID, with("dependencies", json!([OTHER]))).await;
    assert_eq!(code, "InputError");
    assert!(message.contains(OTHER), "{message}");
    let (_, code, _) = refused("short", good.clone()).await;
    assert_eq!(code, "InvalidRequestArguments");
    let (status, code, _) = refused(ID, with("payload", json!({ "x": "x".repeat(11 << 20) }))).await;
    assert_eq!((status, code.as_str()), (413, "InputTooLarge"));

    let unrestricted = client.create_task(ID, task("t"), &[], None).await.unwrap_err();
    assert!(matches!(unrestricted, CreateError::Refused { status: 403, .. }), "{unrestricted:?}");
    assert_eq!(running.listing().await["total"], 0);

    // What depends on itself waits to be scheduled by hand; nothing depends on what is gone before its deadline.
    let create = async |id: &str, body: Value| {
        client.create_task(id, body.to_string().into(), &scopes(), None).await.unwrap();
    };
    create(ID, with("dependencies", json!([ID]))).await;
    let soon = (Utc::now() + TimeDelta::minutes(10)).to_rfc3339_opts(SecondsFormat::Millis, true);
    let mut gone = with("expires", json!(soon));
    gone["deadline"] = json!(soon);
    create(OTHER, gone).await;
    let (_, code, message) = refused(THIRD, with("dependencies", json!([OTHER]))).await;
    assert_eq!(code, "InputError");
    assert!(message.contains("expire before its deadline") && message.contains(OTHER), "{message}");
    running.stop().await;
}

#[tokio::test]
async fn wrong_credentials_are_an_outage_and_not_the_tasks_fault() {
    let running = Running::start(Data::Memory).await;
    for (client_id, token) in [("tests/router", "wrong"), ("nobody", TOKEN)] {
        let config = Config {
            client_id: client_id.into(),
            access_token: pulse::Secret::new(token),
            ..running.config()
        };
        let client = Taskcluster::new(&config).unwrap();
        let error = client.create_task(ID, task("t"), &scopes(), None).await.unwrap_err();
        assert!(
            matches!(&error, CreateError::Outage { reason } if reason.contains("queue.client_id")),
            "{error:?}"
        );
        assert!(!error.to_string().contains(token) || token == "wrong");
    }
    running.stop().await;
}

#[tokio::test]
async fn each_fault_has_its_kind_and_a_repeat_makes_it_good() {
    let running = Running::start(Data::Memory).await;
    let client = running.client();
    let body = task("t");
    let create = async || client.create_task(ID, body.clone(), &scopes(), None).await;
    let retry = |result: Result<(), CreateError>| match result {
        Err(CreateError::Retry { retry_after, .. }) => retry_after.map(|wait| wait.as_secs()),
        other => panic!("{other:?}"),
    };
    for status in [500, 502, 503, 504, 429] {
        running.faults(json!([{"do": "status", "status": status, "retryAfter": 7, "next": 1}])).await;
        assert_eq!(retry(create().await), Some(7), "{status}");
    }
    running.faults(json!([{"do": "close", "next": 1}])).await;
    assert_eq!(retry(create().await), None);
    running.faults(json!([{"do": "hang", "next": 1}])).await;
    assert_eq!(retry(create().await), None);
    running.faults(json!([{"do": "slow", "milliseconds": 1500, "next": 1}])).await;
    assert_eq!(retry(create().await), None);
    running.faults(json!([{"do": "garbage", "next": 1}])).await;
    assert!(matches!(create().await, Err(CreateError::Outage { reason }) if reason.contains("text/html")));
    for (status, outage) in [(401, true), (404, true), (405, true), (403, false), (400, false)] {
        running.faults(json!([{"do": "status", "status": status, "next": 1}])).await;
        let error = create().await.unwrap_err();
        assert_eq!(matches!(error, CreateError::Outage { .. }), outage, "{status}: {error:?}");
        assert_eq!(matches!(error, CreateError::Refused { .. }), !outage, "{status}: {error:?}");
    }
    running.faults(json!([{"do": "status", "status": 409, "next": 1}])).await;
    assert!(matches!(create().await, Err(CreateError::Conflict { .. })));
    assert_eq!(client.task(ID).await, Ok(None), "no fault so far stored the task");

    // The answer is lost after the task was stored: the repeat succeeds, and there is one task.
    running.faults(json!([{"do": "close", "stored": true, "next": 1}])).await;
    assert_eq!(retry(create().await), None);
    assert_eq!(running.listing().await["total"], 1);
    create().await.unwrap();
    assert_eq!(running.listing().await["total"], 1);

    running.faults(json!([{"do": "status", "status": 503, "calls": "any", "next": 2}])).await;
    assert!(matches!(client.probe().await, Err(QueryError::Retry { .. })));
    assert!(matches!(client.task(ID).await, Err(QueryError::Retry { .. })));
    client.probe().await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn nobody_there_is_worth_a_repeat() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let root_url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let config = Config { root_url, access_token: pulse::Secret::new(TOKEN), ..Config::default() };
    let client = Taskcluster::new(&config).unwrap();
    let error = client.create_task(ID, task("t"), &scopes(), None).await.unwrap_err();
    assert!(
        matches!(&error, CreateError::Retry { reason, .. } if reason.to_lowercase().contains("refused")),
        "{error:?}"
    );
}

#[tokio::test]
async fn many_creates_share_connections_and_commits() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(Data::File(folder.path().join("queue.db"))).await;
    let client = std::sync::Arc::new(running.client());
    let calls = (0..300).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut id = *uuid::Uuid::new_v4().as_bytes();
            id[0] &= 0x7f;
            let id = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, id);
            let body = task("t");
            client.create_task(&id, body.clone(), &scopes(), None).await?;
            // Repeats leave gaps between the positions, which a listing must not mind.
            client.create_task(&id, body, &scopes(), None).await
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    let mut seen = std::collections::HashSet::new();
    let mut path = "/api/queue/v1/tasks?limit=120".to_owned();
    loop {
        let page: Value = serde_json::from_slice(&running.raw(Method::GET, &path, "").await.body).unwrap();
        assert_eq!(page["total"], 300);
        for task in page["tasks"].as_array().unwrap() {
            assert!(seen.insert(task["taskId"].to_string()));
        }
        let Some(token) = page["continuationToken"].as_str() else { break };
        path = format!("/api/queue/v1/tasks?limit=120&continuationToken={token}");
    }
    assert_eq!(seen.len(), 300);
    running.stop().await;
}

fn answer(status: u16, content_type: &'static str, body: &'static str) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        body: Bytes::from_static(body.as_bytes()),
    }
}

#[test]
fn an_answer_of_somebody_else_is_never_the_services_verdict() {
    for status in [200, 204, 301, 302, 307, 400, 401, 403, 404, 409, 418] {
        let error = classify(&answer(status, "text/html", "<html>Sign in"));
        assert!(matches!(error, CreateError::Outage { .. }), "{status}: {error:?}");
        assert!(!error.to_string().contains("Sign in"));
    }
    let too_large = classify(&answer(413, "text/html", "<html>nginx"));
    assert!(matches!(too_large, CreateError::Refused { status: 413, .. }));
    for status in [500, 502, 503, 504, 408, 429] {
        let error = classify(&answer(status, "text/html", "<html>Bad gateway"));
        assert!(matches!(error, CreateError::Retry { .. }), "{status}: {error:?}");
    }
}

#[test]
fn retry_after_is_seconds_or_a_date_and_bounded() {
    let of = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::RETRY_AFTER, text.parse().unwrap());
        retry_after(&headers)
    };
    assert_eq!(of("5"), Some(Duration::from_secs(5)));
    assert_eq!(of("999999999"), Some(MAX_RETRY_AFTER));
    assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
    assert_eq!(of("soon"), None);
    let soon =
        (chrono::Utc::now() + chrono::Duration::seconds(60)).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    assert!((50..=60).contains(&of(&soon).unwrap().as_secs()));
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let config = |root_url: &str, token: &str| Config {
        root_url: root_url.into(),
        access_token: pulse::Secret::new(token),
        ..Config::default()
    };
    for root_url in ["", "example.com", "ftp://example.com", "https://user:secret@example.com", "http://h/?q"]
    {
        let error = Taskcluster::new(&config(root_url, TOKEN)).err().unwrap().to_string();
        assert!(error.contains("queue.root_url") && !error.contains("secret"), "{root_url}: {error}");
    }
    assert!(matches!(Taskcluster::new(&config("http://h", "")), Err(BuildError::Credentials(_))));
    let error = Taskcluster::new(&config("http://h", "env:PULSEHOOK_NOT_SET")).err().unwrap().to_string();
    assert!(error.contains("queue.access_token") && error.contains("PULSEHOOK_NOT_SET"), "{error}");
    let service = Taskcluster::new(&config("https://tc.example.com/", TOKEN)).unwrap().service;
    assert_eq!((service.host(), service.port()), ("tc.example.com", 443));
    assert_eq!(service.target("/api/queue/v1/ping"), "/api/queue/v1/ping");
}
