//! `POST /webhooks/{source}`: a request becomes a verified event, and the event a message on pulse.
//!
//! A 2xx is sent only once the broker has confirmed the message. Whatever is refused is answered `{code, message}`,
//! and nothing of it is published. The order of the checks is the order of their cost, and nothing that only a
//! verified sender may know is told before the proof was checked.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use serde::Serialize;
use tracing::{info, warn};

use crate::body::{Form, Payload};
use crate::bridge::Shared;
use crate::event::{self, Reading};
use crate::publisher::NotPublished;
use crate::refusal::Refusal;
use crate::signature::{Proof, SignatureError};
use crate::source::Source;

/// When a sender shall come again after the broker was away.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The answer to an event that is on pulse.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    message_id: String,
    exchange: String,
    routing_key: String,
    routed: bool,
}

/// The webhook routes.
pub fn routes(shared: Arc<Shared>) -> Router {
    let webhook = post(receive).fallback(async || Refusal::Method.into_response());
    Router::new()
        .route("/webhooks/{source}", webhook.clone())
        .route("/webhooks/{source}/{token}", webhook)
        .with_state(shared)
}

async fn receive(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (name, token) = path(parts.uri.path());
    // A stranger's words get into the log only once they are known to be a name.
    let known = shared.source(&name).map_or_else(|| "(unknown)".to_owned(), |source| source.name.clone());
    match handle(&shared, &name, token.as_deref(), &parts.headers, parts.uri.query(), body).await {
        Ok(response) => response,
        Err(refusal) => {
            let (status, code) = refusal.status();
            warn!(source = known, status = status.as_u16(), code, reason = %refusal, "webhook refused");
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
    name: &str,
    token: Option<&str>,
    headers: &HeaderMap,
    query: Option<&str>,
    body: axum::body::Body,
) -> Result<Response, Refusal> {
    let source = shared.source(name).ok_or(Refusal::NoSource)?;
    let form = Form::of(headers)?;
    let body = read_body(shared, headers, body).await?;
    let payload = verify(
        shared,
        &source,
        form,
        Proof { headers, query, path_token: token, body: &body, form_field: None },
    )?;
    let event = match event::read(&source, &shared.exchange, headers, query, &payload, (shared.now)())? {
        Reading::Event(event) => event,
        Reading::Handshake { status, answer } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            info!(source = %source.name, "handshake answered");
            return Ok(match answer {
                Some(answer) => (status, Json(answer)).into_response(),
                // A type even without a body: Discord asks for one.
                None => (status, [(header::CONTENT_TYPE, "application/json")]).into_response(),
            });
        }
    };
    match shared.publisher.publish(&event.message).await {
        Ok(routed) => {
            let message = event.message;
            info!(source = %source.name, message_id = %event.message_id, routing_key = %message.routing_key, routed, "webhook published");
            Ok(Json(Answer {
                message_id: event.message_id,
                exchange: message.exchange,
                routing_key: message.routing_key,
                routed,
            })
            .into_response())
        }
        Err(NotPublished::Refused(reason)) => {
            Err(Refusal::TooLarge(format!("the broker refuses the message: {reason}")))
        }
        Err(NotPublished::Unavailable(reason)) => Err(Refusal::Unavailable {
            reason: format!("the broker is not available ({reason})"),
            retry_after: RETRY_AFTER,
        }),
    }
}

async fn read_body(
    shared: &Shared,
    headers: &HeaderMap,
    mut body: axum::body::Body,
) -> Result<Bytes, Refusal> {
    let max = shared.max_body_bytes;
    let too_large = || Refusal::TooLarge(format!("the body is larger than {max} bytes"));
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    let read = async {
        let mut read = BytesMut::with_capacity(declared.unwrap_or_default());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::Malformed("the body ended before its end".to_owned()))?;
            if let Ok(data) = frame.into_data() {
                if read.len() + data.len() > max {
                    return Err(too_large());
                }
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
fn verify(shared: &Shared, source: &Source, form: Form, proof: Proof<'_>) -> Result<Payload, Refusal> {
    let refuse = |error| Refusal::Signature { error, status: source.wrong_signature_status };
    let check = |body: &[u8]| {
        let field = form.field(body);
        source
            .verifier
            .verify(&Proof { body, form_field: field.as_deref().map(str::as_bytes), ..proof }, (shared.now)())
    };
    let received = Bytes::copy_from_slice(proof.body);
    let first = check(&received);
    if !form.gzip {
        first.map_err(refuse)?;
        return form.parse(received);
    }
    if let Err(error @ SignatureError::Missing(_)) = first {
        return Err(refuse(error));
    }
    let expanded = form.expand(received, shared.max_body_bytes)?;
    if first.is_err() {
        check(&expanded).map_err(refuse)?;
    }
    form.parse(expanded)
}
