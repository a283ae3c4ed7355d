//! Owners are told: a real mail server with TLS and sign-in, failures by the thousand, a server that is away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::future::join_all;
use harness::{Process, eventually, free_port};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::metrics::{Reading, read_metrics};
use super::python::{python, script};
use super::system::{SOON, System, hook, shared_rabbit};

const USER: &str = "pulsehook";
const PASSWORD: &str = "a password for the mail server";

/// A mail server that is started and stopped at will.
pub struct MailServer {
    pub process: Process,
    pub port: u16,
    pub ca_file: PathBuf,
    taken: PathBuf,
    _folder: tempfile::TempDir,
}

impl MailServer {
    /// A server that is not started yet. `mode` is `smtps` or `starttls`.
    pub fn new(mode: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ca_file, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&ca_file, certified.cert.pem()).unwrap();
        std::fs::write(&key_file, certified.signing_key.serialize_pem()).unwrap();
        let (port, taken) = (free_port().unwrap(), folder.path().join("taken.jsonl"));
        let process = Process::new("mail server", python())
            .arg(script("smtp_server.py").display().to_string())
            .arg(port.to_string())
            .arg(mode)
            .arg(ca_file.display().to_string())
            .arg(key_file.display().to_string())
            .arg(USER)
            .arg(PASSWORD)
            .arg(taken.display().to_string());
        Self { process, port, ca_file, taken, _folder: folder }
    }

    /// Each time that it has taken a mail.
    fn deliveries(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.taken).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The mails that it has taken. One that came again, because the router was killed before it knew, has the same id.
    pub fn taken(&self) -> Vec<Value> {
        let mut ids = BTreeSet::new();
        self.deliveries().into_iter().filter(|mail| ids.insert(mail["id"].to_string())).collect()
    }

    /// The configuration of pulsehook for this server.
    pub fn config(&self, scheme: &str, interval: u64, more: &str) -> String {
        format!(
            r#"
[auth]
anonymous = ["*"]
[router.hook]
failures = 0
[notify]
smtp = "{scheme}://localhost:{port}"
smtp_user = "{USER}"
smtp_password = "env:TEST_MAIL_PASSWORD"
smtp_ca_file = "{ca}"
from = "pulsehook <pulsehook@example.com>"
root_url = "https://hooks.example.com"
interval_seconds = {interval}
settle_seconds = 1
deny = ["*@denied.example.com"]
{more}
"#,
            port = self.port,
            ca = self.ca_file.display()
        )
    }
}

/// A hook on all webhooks of an event, which fails: `task` and `filter` say how.
fn failing(event: &str, owner: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut hook = hook(&[("exchange/pulsehook/v1/webhook", &format!("github.{event}.#"))]);
    hook["metadata"]["owner"] = json!(owner);
    hook["metadata"]["emailOnError"] = json!(true);
    change(&mut hook);
    hook
}

fn broken_template(hook: &mut Value) {
    hook["task"]["payload"]["rev"] = json!("{{ payload.commit.id }}");
}

/// So many failures a mail tells of.
fn failures(mail: &Value) -> usize {
    let subject = mail["subject"].as_str().unwrap();
    let count = subject.strip_prefix("[pulsehook] ").and_then(|rest| rest.split_once(" failures of "));
    count.map_or(1, |(count, _)| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_by_the_thousand_are_one_mail_and_a_later_digest_also_over_a_restart() {
    const FAILURES: usize = 1_000;
    const INTERVAL: u64 = 20;
    let mut server = MailServer::new("starttls");
    server.process.start().await.unwrap();
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("mail").await.unwrap();
    let config = server.config("smtp", INTERVAL, "");
    let system =
        System::start_configured(&rabbit.url("mail"), &config, &[("TEST_MAIL_PASSWORD", PASSWORD)]).await;
    let owner = "owner@example.com";
    system.create_hook("ci/broken", &failing("push", owner, broken_template)).await;
    let filtered = |hook: &mut Value| hook["filter"] = json!("payload.nothing.there > 1");
    system.create_hook("ci/filter", &failing("issues", owner, filtered)).await;
    system.create_hook("ci/denied", &failing("issues", "x@denied.example.com", broken_template)).await;
    let silent = |hook: &mut Value| {
        broken_template(hook);
        hook["metadata"]["emailOnError"] = json!(false);
    };
    system.create_hook("ci/silent", &failing("issues", "silent@example.com", silent)).await;

    system.send_until_taken("push", "d-0", b"{\"n\": 0}").await;
    let first = eventually(SOON, || async { server.taken().into_iter().next() }).await;
    assert_eq!(first["to"], json!([owner]));
    assert_eq!(first["subject"], "[pulsehook] ci/broken: its task template fails");
    assert_eq!((&first["tls"], &first["signed_in"]), (&json!(true), &json!(true)), "{first}");
    let body = first["body"].as_str().unwrap();
    for part in [
        "task.payload.rev",
        "https://hooks.example.com/hooks/ci/broken/fires/",
        "8 bytes, SHA-256 ",
        "github.push",
        "What to do:",
        "pulsehook dead requeue ci/broken ",
    ] {
        assert!(body.contains(part), "{part:?} is missing:\n{body}");
    }

    // The limit is in the store, not in the process.
    {
        let mut router = system.router.lock().await;
        router.kill9().unwrap();
        router.start().await.unwrap();
    }
    join_all((0..16).map(async |first| {
        for number in (1 + first..FAILURES - 1).step_by(16) {
            let body = json!({ "n": number }).to_string();
            system.send_until_taken("push", &format!("d-{number}"), body.as_bytes()).await;
        }
    }))
    .await;
    system.send_until_taken("issues", "i-0", b"{\"n\": 0}").await;

    let mails = eventually(SOON * 2, || async {
        let mails = server.taken();
        let told: usize = mails.iter().map(failures).sum();
        assert!(told <= FAILURES, "{told} failures were told");
        (told == FAILURES).then_some(mails)
    })
    .await;
    // On a machine so slow that it takes longer than the interval to fail so often there are more digests.
    for pair in mails.windows(2) {
        let gap = pair[1]["at"].as_f64().unwrap() - pair[0]["at"].as_f64().unwrap();
        assert!(gap >= INTERVAL as f64 - 1.0, "two mails within {gap} s");
    }
    assert!(mails.iter().all(|mail| mail["to"] == json!([owner])), "{mails:#?}");
    let digests: String = mails[1..].iter().map(|mail| mail["body"].as_str().unwrap()).collect();
    for part in ["* ci/broken: its task template fails (", "* ci/filter: its filter fails (once)"] {
        assert!(digests.contains(part), "{part:?} is missing:\n{digests}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_is_away_or_refuses_holds_up_nothing_and_mail_goes_out_later() {
    let mut server = MailServer::new("smtps");
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("mail-away").await.unwrap();
    let config = server.config("smtps", 3600, "");
    let system =
        System::start_configured(&rabbit.url("mail-away"), &config, &[("TEST_MAIL_PASSWORD", PASSWORD)])
            .await;
    let good = hook(&[("exchange/pulsehook/v1/webhook", "github.push.#")]);
    system.create_hook("ci/good", &good).await;
    system.create_hook("ci/broken", &failing("push", "owner@example.com", broken_template)).await;
    system.create_hook("ci/gone", &failing("push", "gone@example.com", broken_template)).await;
    // Its exchange does not exist: refused, and that lasts.
    let mut refused = hook(&[("exchange/nobody/v1/nothing", "#")]);
    refused["metadata"]["owner"] = json!("bound@example.com");
    refused["metadata"]["emailOnError"] = json!(true);
    let url = format!("{}/hooks/ci/refused", system.api_url);
    assert_eq!(system.http.json("PUT", &url, &refused).await.unwrap().status, 200);

    for number in 0..3 {
        system.send_until_taken("push", &format!("d-{number}"), b"{\"n\": 0}").await;
    }
    system.wait_for_tasks(3, SOON).await;
    let metrics = system.metrics_url();
    let waiting = |reading: &Reading| reading.value("pulsehook_mail_waiting", &[]);
    eventually(SOON, || async {
        let reading = read_metrics(&system, &metrics).await;
        (waiting(&reading) == Some(3.0)).then_some(())
    })
    .await;
    let retried =
        read_metrics(&system, &metrics).await.value("pulsehook_mail_total", &[("outcome", "retried")]);
    assert!(retried >= Some(1.0), "{retried:?}");
    // What does not depend on mail goes on.
    system.send_until_taken("push", "d-3", b"{\"n\": 0}").await;
    system.wait_for_tasks(4, SOON).await;
    assert!(server.taken().is_empty());

    server.process.start().await.unwrap();
    let mails = eventually(SOON * 2, || async {
        let mails = server.taken();
        let reading = read_metrics(&system, &metrics).await;
        (mails.len() >= 2 && waiting(&reading) == Some(0.0)).then_some(mails)
    })
    .await;
    let by_owner: BTreeMap<&str, &Value> =
        mails.iter().map(|mail| (mail["to"][0].as_str().unwrap(), mail)).collect();
    assert_eq!(by_owner.keys().collect::<Vec<_>>(), [&"bound@example.com", &"owner@example.com"]);
    assert_eq!(mails.len(), 2);
    let binding = by_owner["bound@example.com"]["body"].as_str().unwrap();
    assert!(binding.contains("exchange/nobody/v1/nothing"), "{binding}");
    let reading = read_metrics(&system, &metrics).await;
    assert_eq!(reading.value("pulsehook_mail_total", &[("outcome", "refused")]), Some(1.0));
    assert_eq!(reading.value("pulsehook_mail_total", &[("outcome", "sent")]), Some(2.0));

    // A server that breaks off once it has the mail does not get it again and again.
    system.create_hook("ci/cut", &failing("issues", "cut@example.com", broken_template)).await;
    system.send_until_taken("issues", "i-0", b"{\"n\": 0}").await;
    let told = "trying again when the next one would be due";
    eventually(SOON, || async {
        system.router.lock().await.lines().iter().any(|line| line.contains(told)).then_some(())
    })
    .await;
    let cut = server.deliveries().into_iter().filter(|mail| mail["to"] == json!(["cut@example.com"]));
    assert_eq!(cut.count(), 1);

    // No secret is in any line of the log.
    let lines = system.router.lock().await.lines().join("\n");
    assert!(!lines.contains(PASSWORD), "the password is in the log");
    tokio::time::timeout(Duration::from_secs(60), async { system.router.lock().await.stop().await })
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_notify_service_of_a_deployment_is_asked_with_the_credentials_of_the_queue() {
    type Asked = Arc<Mutex<Vec<(String, Value)>>>;
    async fn email(
        State(asked): State<Asked>,
        headers: HeaderMap,
        body: Json<Value>,
    ) -> (StatusCode, Json<Value>) {
        let signed = headers["authorization"].to_str().unwrap().to_owned();
        let mut asked = asked.lock().unwrap();
        asked.push((signed, body.0));
        // Busy at first; then it takes the mail.
        match asked.len() {
            1 => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({}))),
            _ => (StatusCode::OK, Json(json!({}))),
        }
    }
    let asked = Asked::default();
    let routes = Router::new()
        .route("/api/queue/v1/ping", get(async || Json(json!({ "alive": true }))))
        .route("/api/notify/v1/email", post(email))
        .with_state(asked.clone());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(pulsehook::server::serve(listener, routes, CancellationToken::new()));

    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("notify").await.unwrap();
    let config = "[auth]\nanonymous = [\"*\"]\n[notify]\ntaskcluster = true\nsettle_seconds = 0\n";
    let variables = [("PULSEHOOK_QUEUE__ROOT_URL", url.as_str())];
    let system = System::start_configured(&rabbit.url("notify"), config, &variables).await;
    system.create_hook("ci/broken", &failing("push", "owner@example.com", broken_template)).await;
    system.send_until_taken("push", "d-1", b"{\"n\": 1}").await;
    let (signed, mail) = eventually(SOON, || async { asked.lock().unwrap().get(1).cloned() }).await;
    assert!(signed.starts_with("Hawk id=\"pulsehook\""), "{signed}");
    assert_eq!(mail["address"], "owner@example.com");
    assert_eq!(mail["subject"], "[pulsehook] ci/broken: its task template fails");
    // Markdown: all of it is one block, so that nobody's words become markup.
    assert!(mail["content"].as_str().unwrap().lines().all(|line| line.starts_with("    ")), "{mail}");
    eventually(SOON, || async {
        let reading = read_metrics(&system, &system.metrics_url()).await;
        (reading.value("pulsehook_mail_total", &[("outcome", "sent")]) == Some(1.0)).then_some(())
    })
    .await;
}
