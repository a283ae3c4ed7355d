//! `POST /webhooks/{source}`: a request becomes a verified event, and the event a message on pulse.
//!
//! A 2xx is sent only once the event is safe. Whatever is refused is answered `{code, message}`, nothing of it is
//! published, and one line of the log says why, without secret or body. The order of the checks is the order of their
//! cost, and nothing of a source is told before the proof was checked.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use metrics::counter;
use pulse::trace::{Span, SpanKind};
use tracing::{info, warn};

use crate::accept::Answered;
use crate::body::{Form, Payload};
use crate::bridge::Shared;
use crate::event::{self, Event, Reading};
use crate::limits::Share;
use crate::peer;
use crate::refusal::Refusal;
use crate::signature::{Proof, SignatureError};
use crate::source::Source;
use crate::status::Delivery;

/// Header of an answer that was given before.
const REPEATED: HeaderName = HeaderName::from_static("x-pulsehook-repeated");

/// Bodies from this size on are expanded on a thread of their own, so that they keep nobody waiting; in bytes.
const EXPAND_ASIDE: usize = 16 << 10;

/// The webhook routes.
pub fn routes(shared: Arc<Shared>) -> Router {
    let webhook = post(receive).fallback(async || Refusal::Method.into_response());
    Router::new()
        .route("/webhooks/{source}", webhook.clone())
        .route("/webhooks/{source}/{token}", webhook)
        .with_state(shared)
}

/// What a request asks for: its address taken apart.
struct Address<'a> {
    source: String,
    token: Option<String>,
    query: Option<&'a str>,
}

/// What a request was.
enum Handled {
    /// The provider tried the source out.
    Handshake { status: u16, answer: Option<serde_json::Value> },
    /// An event that is safe.
    Event(Box<Answered>),
}

async fn receive(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let connection = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let (parts, body) = request.into_parts();
    let (source, token) = path(parts.uri.path());
    let address = Address { source, token, query: parts.uri.query() };
    // A stranger's words get into the log and the metrics only once they are known to be a name.
    let known =
        shared.source(&address.source).map_or_else(|| "(unknown)".to_owned(), |source| source.name.clone());
    let sender = peer::sender(connection, &parts.headers, &shared.trusted_proxies);
    let name = address.source.clone();
    let is_known = shared.source(&name).is_some();
    let note = |delivery: Delivery| {
        if is_known {
            shared.deliveries.note(&name, delivery);
        }
    };
    let at = || (shared.now)().timestamp_millis();
    match handle(&shared, sender, address, &parts.headers, body).await {
        Ok(Handled::Handshake { status, answer }) => {
            note(Delivery::handshake(at(), sender, status));
            handshake(status, answer)
        }
        Ok(Handled::Event(answered)) => {
            note(Delivery::accepted(at(), sender, &answered.accepted, answered.repeated));
            let mut response = (answered.accepted.status, Json(&answered.accepted)).into_response();
            if answered.repeated {
                response.headers_mut().insert(REPEATED, HeaderValue::from_static("true"));
            }
            response
        }
        Err(refusal) => {
            note(Delivery::refused(at(), sender, &refusal));
            let (status, code) = refusal.status();
            counter!("pulsehook_bridge_refused_total", "source" => known.clone(), "code" => code)
                .increment(1);
            warn!(source = known, peer = %sender, status = status.as_u16(), code, reason = %refusal, "webhook refused");
            refusal.into_response()
        }
    }
}

/// Source and token of `/webhooks/SOURCE[/TOKEN]`, decoded.
fn path(path: &str) -> (String, Option<String>) {
    let mut parts = path
        .trim_start_matches('/')
        .splitn(3, '/')
        .skip(1)
        .map(|part| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned());
    (parts.next().unwrap_or_default(), parts.next())
}

async fn handle(
    shared: &Shared,
    sender: IpAddr,
    address: Address<'_>,
    headers: &HeaderMap,
    body: axum::body::Body,
) -> Result<Handled, Refusal> {
    let begun = SystemTime::now();
    let _slot = shared.peers.enter(sender)?;
    let source = shared.source(&address.source).ok_or(Refusal::NoSource)?;
    let form = Form::of(headers)?;
    let mut share = shared.memory.share();
    let body = read_body(shared, headers, body, &mut share).await?;
    let proof = Proof {
        headers,
        query: address.query,
        path_token: address.token.as_deref(),
        body: &[],
        form_field: None,
    };
    let payload = verify(shared, &source, form, proof, body, &mut share).await?;
    let _permit = source.limits.enter()?;
    let now = (shared.now)();
    match event::read(&source, &shared.exchange, headers, address.query, payload, now, &shared.tracing)? {
        Reading::Handshake { status, answer } => {
            info!(source = %source.name, "handshake answered");
            Ok(Handled::Handshake { status, answer })
        }
        Reading::Event(event) => {
            let (context, parent) = (event.context, event.parent);
            let about = shared.tracing.spans.is_some().then(|| about(&source, &event));
            let outcome = shared.accept(&source, *event).await;
            shared.tracing.record(context, || {
                let mut span = Span {
                    context,
                    parent,
                    name: "webhook",
                    kind: SpanKind::Producer,
                    start: begun,
                    end: SystemTime::now(),
                    attributes: about.unwrap_or_default(),
                    error: outcome.as_ref().err().map(ToString::to_string),
                };
                if let Ok(answered) = &outcome {
                    span.attributes
                        .push(("http.response.status_code", answered.accepted.status.as_u16().to_string()));
                }
                span
            });
            Ok(Handled::Event(Box::new(outcome?)))
        }
    }
}

/// What a span tells of an event; names as OpenTelemetry has them where it has any.
fn about(source: &Source, event: &Event) -> Vec<(&'static str, String)> {
    let message = &event.message;
    vec![
        ("pulsehook.source", source.name.clone()),
        ("messaging.system", "rabbitmq".to_owned()),
        ("messaging.destination.name", message.exchange.clone()),
        ("messaging.rabbitmq.destination.routing_key", message.routing_key.clone()),
        ("messaging.message.id", event.message_id.clone()),
    ]
}

fn handshake(status: u16, answer: Option<serde_json::Value>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    match answer {
        Some(answer) => (status, Json(answer)).into_response(),
        // A type even without a body: Discord asks for one.
        None => (status, [(header::CONTENT_TYPE, "application/json")]).into_response(),
    }
}

async fn read_body(
    shared: &Shared,
    headers: &HeaderMap,
    mut body: axum::body::Body,
    share: &mut Share,
) -> Result<Bytes, Refusal> {
    let max = shared.max_body_bytes;
    let too_large = || Refusal::TooLarge(format!("the body is larger than {max} bytes"));
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    let read = async {
        // Grows with what arrives: a length that is only declared costs nothing.
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::Malformed("the body ended before its end".to_owned()))?;
            if let Ok(data) = frame.into_data() {
                if read.len() + data.len() > max {
                    return Err(too_large());
                }
                share.grow(read.len() + data.len())?;
                read.extend_from_slice(&data);
            }
        }
        Ok(read.freeze())
    };
    tokio::time::timeout(shared.read_timeout, read)
        .await
        .unwrap_or_else(|_| Err(Refusal::TooSlow(shared.read_timeout.as_secs())))
}

/// Believes the sender, then parses. Signatures cover the bytes as received; a sender whose HTTP library compresses
/// what was signed before is believed too, since the expanded bytes are as good a proof.
async fn verify(
    shared: &Shared,
    source: &Source,
    form: Form,
    proof: Proof<'_>,
    body: Bytes,
    share: &mut Share,
) -> Result<Payload, Refusal> {
    let refuse = |error| Refusal::Signature { error, status: source.wrong_signature_status };
    let check = |body: &[u8]| {
        let field = form.field(body);
        let form_field = field.as_deref().map(str::as_bytes);
        source.verifier.verify(&Proof { body, form_field, ..proof }, (shared.now)())
    };
    let first = check(&body);
    if !form.gzip {
        first.map_err(refuse)?;
        return form.parse(body);
    }
    if let Err(error @ SignatureError::Missing(_)) = first {
        return Err(refuse(error));
    }
    let max = shared.max_body_bytes;
    let expanded = if body.len() < EXPAND_ASIDE {
        form.expand(body, max)
    } else {
        share.grow(body.len() + max)?;
        tokio::task::spawn_blocking(move || form.expand(body, max))
            .await
            .unwrap_or_else(|_| Err(Refusal::Malformed("the body could not be expanded".to_owned())))
    }?;
    if first.is_err() {
        check(&expanded).map_err(refuse)?;
    }
    form.parse(expanded)
}
