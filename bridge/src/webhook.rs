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
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use metrics::counter;
use pulse::trace::{Span, SpanKind};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{info, warn};

use crate::accept::Answered;
use crate::body::{Form, Payload};
use crate::bridge::Shared;
use crate::event::{self, Event, Reading};
use crate::limits::{PeerSlot, Share};
use crate::peer;
use crate::refusal::Refusal;
use crate::signature::{Proof, SignatureError};
use crate::source::Source;
use crate::status::Delivery;
use crate::unbroken::Unbroken;

/// Header of an answer that was given before.
const REPEATED: HeaderName = HeaderName::from_static("x-pulsehook-repeated");

/// Bodies that are at most so large, compressed and expanded, in bytes, are expanded at once: it takes less than a millisecond. Larger ones keep a
/// thread of their own busy and nobody waiting.
const EXPAND_AT_ONCE: (usize, usize) = (16 << 10, 64 << 10);

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
            warn!(source = known, peer = %sender, status = status.as_u16(), code, reason = refusal.inside(), "webhook refused");
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
    shared: &Arc<Shared>,
    sender: IpAddr,
    address: Address<'_>,
    headers: &HeaderMap,
    body: axum::body::Body,
) -> Result<Handled, Refusal> {
    let begun = SystemTime::now();
    let slot = shared.peers.enter(sender)?;
    let source = shared.source(&address.source).ok_or(Refusal::NoSource)?;
    let form = Form::of(headers)?;
    let mut share = shared.memory.share(slot.peer());
    let body = read_body(shared, headers, body, &mut share).await?;
    let proof = Proof {
        headers,
        query: address.query,
        path_token: address.token.as_deref(),
        body: &[],
        form_field: None,
    };
    let (payload, share) = verify(shared, &source, form, proof, body, share).await?;
    let permit = source.limits.enter()?;
    let now = (shared.now)();
    match event::read(&source, &shared.exchange, headers, address.query, payload, now, &shared.tracing)? {
        Reading::Handshake { status, answer } => {
            info!(source = %source.name, "handshake answered");
            Ok(Handled::Handshake { status, answer })
        }
        Reading::Event(event) => {
            let held = Held { _slot: slot, _share: share, _permit: permit };
            let accepting = accept(Arc::clone(shared), source, *event, begun, held);
            let answered = Unbroken::new(accepting, &shared.accepting).await?;
            Ok(Handled::Event(Box::new(answered)))
        }
    }
}

/// What an event that is being accepted takes of the limits.
struct Held {
    _slot: PeerSlot,
    _share: Share,
    _permit: OwnedSemaphorePermit,
}

/// Makes the event safe, and records what that took. To be [`Unbroken`]: a sender that goes away meanwhile ends the request and not
/// this, or its next attempt would find half of it done.
async fn accept(
    shared: Arc<Shared>,
    source: Arc<Source>,
    event: Event,
    begun: SystemTime,
    _held: Held,
) -> Result<Answered, Refusal> {
    let (context, parent) = (event.context, event.parent);
    let about = shared.tracing.spans.is_some().then(|| about(&source, &event));
    let outcome = shared.accept(&source, event).await;
    shared.tracing.record(context, || {
        let mut span = Span {
            context,
            parent,
            name: "webhook",
            kind: SpanKind::Producer,
            start: begun,
            end: SystemTime::now(),
            attributes: about.unwrap_or_default(),
            error: outcome.as_ref().err().map(Refusal::inside),
        };
        if let Ok(answered) = &outcome {
            let status = answered.accepted.status.as_u16().to_string();
            span.attributes.push(("http.response.status_code", status));
        }
        span
    });
    outcome
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
    source: &Arc<Source>,
    form: Form,
    proof: Proof<'_>,
    body: Bytes,
    mut share: Share,
) -> Result<(Payload, Share), Refusal> {
    let now = (shared.now)();
    let first = check(source, form, Proof { body: &body, ..proof }, now);
    if !form.gzip {
        first?;
        return Ok((form.parse(body)?, share));
    }
    let proven = match first {
        Err(missing @ Refusal::Signature { error: SignatureError::Missing(_), .. }) => return Err(missing),
        first => first.is_ok(),
    };
    let max = shared.max_body_bytes;
    let (compressed, expanded) = EXPAND_AT_ONCE;
    if body.len() <= compressed {
        match form.expand(body.clone(), expanded.min(max)) {
            Err(Refusal::TooLarge(_)) if expanded < max => {}
            expanded => {
                let expanded = expanded?;
                if !proven {
                    check(source, form, Proof { body: &expanded, ..proof }, now)?;
                }
                return Ok((form.parse(expanded)?, share));
            }
        }
    }
    // A few kilobytes of a stranger's may be the work of many milliseconds: he waits for his turn, and pays in memory first.
    let turn = match proven {
        true => None,
        false => Some(shared.expanding.take().await?),
    };
    share.grow(body.len() + max)?;
    let headers = proof.headers.clone();
    let (query, path_token) = (proof.query.map(str::to_owned), proof.path_token.map(str::to_owned));
    let source = Arc::clone(source);
    let (expanded, share) = tokio::task::spawn_blocking(move || {
        // Here, as the work goes on if the sender goes away.
        let _turn = turn;
        let received = body.len();
        let expanded = form.expand(body, max)?;
        if !proven {
            let (query, path_token) = (query.as_deref(), path_token.as_deref());
            let proof = Proof { headers: &headers, query, path_token, body: &expanded, form_field: None };
            check(&source, form, proof, now)?;
        }
        share.shrink(received + expanded.len());
        Ok((expanded, share))
    })
    .await
    .unwrap_or_else(|_| Err(Refusal::Malformed("the body could not be expanded".to_owned())))?;
    Ok((form.parse(expanded)?, share))
}

/// Believes the sender of these bytes, or says why not.
fn check(source: &Source, form: Form, proof: Proof<'_>, now: DateTime<Utc>) -> Result<(), Refusal> {
    let field = form.field(proof.body);
    let form_field = field.as_deref().map(str::as_bytes);
    let refuse = |error| Refusal::Signature { error, status: source.wrong_signature_status };
    source.verifier.verify(&Proof { form_field, ..proof }, now).map_err(refuse)
}
