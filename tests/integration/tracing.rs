//! One trace from a webhook to the queue service, seen by a collector; one line of the log for each event.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::routing::{get, post, put};
use harness::eventually;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use pulse::trace::TraceContext;
use serde_json::{Value, json};

use super::system::{SOON, System, hook, shared_rabbit, sign};

/// A queue service that notes the traces of its callers, and a collector, on one port.
#[derive(Clone, Default)]
struct Seen {
    calls: Arc<Mutex<Vec<(String, String)>>>,
    spans: Arc<Mutex<Vec<(String, Span)>>>,
}

async fn create(
    State(seen): State<Seen>,
    Path(task_id): Path<String>,
    headers: HeaderMap,
) -> axum::Json<Value> {
    let trace = headers.get("traceparent").map(|value| value.to_str().unwrap().to_owned());
    seen.calls.lock().unwrap().push((task_id.clone(), trace.unwrap_or_default()));
    axum::Json(json!({ "status": { "taskId": task_id } }))
}

async fn collect(State(seen): State<Seen>, headers: HeaderMap, body: Bytes) {
    assert_eq!(headers["authorization"], "Bearer for the collector");
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for resource in request.resource_spans {
        let attributes = resource.resource.unwrap().attributes;
        let service = attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
        let service = format!("{:?}", service.value);
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        seen.spans.lock().unwrap().extend(spans.map(|span| (service.clone(), span)));
    }
}

impl Seen {
    async fn serve(&self) -> String {
        let routes = Router::new()
            .route("/api/queue/v1/ping", get(async || axum::Json(json!({ "alive": true }))))
            .route("/api/queue/v1/task/{id}", put(create))
            .route("/v1/traces", post(collect))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let stop = tokio_util::sync::CancellationToken::new();
            pulsehook::server::serve(listener, routes, stop).await;
        });
        url
    }

    fn span(&self, name: &str, trace: &[u8]) -> Option<(String, Span)> {
        let spans = self.spans.lock().unwrap();
        spans.iter().find(|(_, span)| span.name == name && span.trace_id == trace).cloned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_goes_from_the_webhook_to_the_queue_service_and_logs_name_hook_message_and_task() {
    let seen = Seen::default();
    let url = seen.serve().await;
    let rabbit = shared_rabbit().await;
    rabbit.add_vhost("tracing").await.unwrap();
    let config = format!(
        "[auth]\nanonymous = [\"*\"]\n[telemetry]\notlp_endpoint = \"{url}/v1/traces\"\n\
         otlp_headers = {{ authorization = \"env:TEST_OTLP\" }}\n"
    );
    let variables = [
        ("PULSEHOOK_QUEUE__ROOT_URL", url.as_str()),
        ("TEST_OTLP", "Bearer for the collector"),
        ("PULSEHOOK_LOG_FORMAT", "json"),
    ];
    let system = System::start_configured(&rabbit.url("tracing"), &config, &variables).await;
    system.create_hook("ci/traced", &hook(&[("exchange/pulsehook/v1/webhook", "github.push.#")])).await;

    let sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let body = b"{\"n\": 1}";
    let signature = format!("sha256={}", sign(body));
    let headers = [
        ("content-type", "application/json"),
        ("x-github-event", "push"),
        ("x-github-delivery", "d-1"),
        ("x-hub-signature-256", signature.as_str()),
        ("traceparent", sent),
    ];
    let webhooks = format!("{}/webhooks/github", system.bridge_url);
    let answer = system.http.call("POST", &webhooks, &headers, body.to_vec()).await.unwrap();
    assert_eq!(answer.status, 200);
    let message_id = answer.json()["messageId"].as_str().unwrap().to_owned();
    let (task_id, called) = eventually(SOON, || async { seen.calls.lock().unwrap().first().cloned() }).await;
    let (sent, called) = (TraceContext::parse(sent).unwrap(), TraceContext::parse(&called).unwrap());
    assert_eq!(called.trace_id, sent.trace_id);

    // The collector sees the whole road, each span within the one before.
    let trace = sent.trace_id;
    let spans = eventually(SOON, || async {
        ["webhook", "fire", "decide", "createTask"]
            .map(|name| seen.span(name, &trace))
            .into_iter()
            .collect::<Option<Vec<_>>>()
    })
    .await;
    let [webhook, fire, decide, create] = spans.try_into().unwrap();
    assert!(webhook.0.contains("pulsehook-bridge") && fire.0.contains("pulsehook-router"));
    let ([webhook, fire, decide], create) = ([webhook.1, fire.1, decide.1], create.1);
    assert_eq!(webhook.parent_span_id, sent.span_id);
    assert_eq!(fire.parent_span_id, webhook.span_id);
    assert_eq!((&decide.parent_span_id, &create.parent_span_id), (&fire.span_id, &fire.span_id));
    assert_eq!(create.span_id, called.span_id);
    assert!(fire.attributes.iter().any(|attribute| attribute.key == "pulsehook.hook"));

    // Without one from its sender a webhook begins a trace of its own, which the queue service hears of too.
    system.send_until_taken("push", "d-2", b"{\"n\": 2}").await;
    let (_, called) = eventually(SOON, || async { seen.calls.lock().unwrap().get(1).cloned() }).await;
    let own = TraceContext::parse(&called).unwrap().trace_id;
    assert_ne!(own, trace);
    eventually(SOON, || async {
        seen.span("webhook", &own).filter(|(_, span)| span.parent_span_id.is_empty())
    })
    .await;

    // One line of the log for each end of a fire, with what it is about as fields.
    let ends: Vec<Value> = eventually(SOON, || async {
        let lines = system.router.lock().await.lines();
        let parsed = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ends: Vec<Value> = parsed.filter(|line| line["task_id"] == task_id.as_str()).collect();
        (!ends.is_empty()).then_some(ends)
    })
    .await;
    assert_eq!(ends.len(), 1, "{ends:#?}");
    assert_eq!((&ends[0]["hook"], &ends[0]["message_id"]), (&json!("ci/traced"), &json!(message_id)));
    assert_eq!(ends[0]["message"], "task created");
    let lines = system.bridge.lock().await.lines().join("\n");
    assert!(lines.contains(&message_id) && !lines.contains("Bearer"), "{lines}");
}
