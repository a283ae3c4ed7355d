//! The one door to all handlers: who calls, may they, and is what they say well formed.
//!
//! In this order, so that a stranger learns nothing and costs little: route parameters, body (bounded in size, time and, all
//! callers together, in memory), credentials over the raw request, scopes, query, JSON, schema. What a handler answers is
//! held against its schema too. A refusal is logged by its code, never with credentials, tokens or payloads.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, header, request};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::endpoint::{Call, Endpoint};
use super::error::RequestInfo;
use super::{Api, ApiError, Code, schemas};
use crate::auth::{self, AuthError, Identity};

/// A sender gets so long for its body, with the wait for its room.
const BODY_TIME: Duration = Duration::from_secs(30);

/// What remains of a body that is too large is read and thrown away for so long, so that its sender hears why.
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// Bodies up to this size do not count against [`BODY_BUDGET_KIB`]: the bound on connections bounds them.
const SMALL_BODY: usize = 64 << 10;

/// Larger bodies that are held at a time, all callers together, in KiB (256 MiB).
pub(super) const BODY_BUDGET_KIB: usize = 256 << 10;

/// A handler that takes longer has failed; above the longest wait for a trigger's outcome.
const HANDLER_TIME: Duration = Duration::from_secs(90);

/// Lets a call in, or tells why not.
pub(super) async fn pass(
    api: Api,
    endpoint: &'static Endpoint,
    params: Result<BTreeMap<String, String>, String>,
    request: Request,
) -> Response {
    let mut info = RequestInfo::new(endpoint.name);
    match admit(api, endpoint, params, request, &mut info).await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => error.of(&info).into_response(),
    }
}

async fn admit(
    api: Api,
    endpoint: &'static Endpoint,
    params: Result<BTreeMap<String, String>, String>,
    request: Request,
    info: &mut RequestInfo,
) -> Result<Value, ApiError> {
    let params = params.map_err(|error| ApiError::new(Code::InvalidRequestArguments, error))?;
    info.set_params(&params);
    let (parts, body) = request.into_parts();
    // The room that a large body takes is given back when the call is over.
    let (raw, _room) = api.read_body(&parts.headers, body).await?;
    let identity = match endpoint.scopes {
        None => None,
        Some(_) => {
            let identity = authenticate(&api, &parts, &raw).await?;
            identity
                .require(&endpoint.scopes_for(&params))
                .map_err(|refusal| ApiError::new(Code::InsufficientScopes, refusal.to_string()))?;
            Some(identity)
        }
    };
    let query = query(endpoint, parts.uri.query().unwrap_or_default())?;
    for header in endpoint.headers {
        if let Some(value) = parts.headers.get(header.name) {
            let checked = value.to_str().map_err(|_| "it must be ASCII").and_then(header.check);
            checked.map_err(|why| bad_argument("header", header.name, why))?;
        }
    }
    let body = match endpoint.input {
        None => Value::Null,
        Some(schema) => {
            let body = parse(&parts.headers, &raw)?;
            info.set_payload(&body);
            schemas::check_input(schema, &body)?;
            body
        }
    };
    let call =
        Call { api, params, query, headers: parts.headers, body, raw, identity, expected_version: None };
    let answer = tokio::time::timeout(HANDLER_TIME, (endpoint.handler)(call)).await.map_err(|_| {
        tracing::error!(method = endpoint.name, "the request took too long");
        ApiError::new(
            Code::InternalServerError,
            "the request took too long; it may have been done all the same",
        )
    })??;
    held_to_schema(endpoint, answer)
}

/// Answers with hooks, which may have been stored by a version that took more than this one.
const AS_STORED: [&str; 2] = ["hook-definition", "list-hooks-response"];

/// An answer that is not what the API's description says is our fault; where it is being developed and tested it is an error.
fn held_to_schema(endpoint: &Endpoint, answer: Value) -> Result<Value, ApiError> {
    let problems = schemas::problems(endpoint.output, &answer);
    if let Some(problem) = problems.first() {
        tracing::error!(method = endpoint.name, %problem, "the answer does not satisfy its schema");
        if cfg!(debug_assertions) && !AS_STORED.contains(&endpoint.output) {
            return Err(ApiError::problems(Code::InternalServerError, "the answer is not valid", &problems));
        }
    }
    Ok(answer)
}

async fn authenticate(api: &Api, parts: &request::Parts, body: &[u8]) -> Result<Identity, ApiError> {
    let Some((host, port)) = auth::hawk::address(&parts.headers, &parts.uri) else {
        return Err(ApiError::new(Code::InvalidRequestArguments, "the request has no usable Host header"));
    };
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let call = auth::Call {
        method: parts.method.as_str(),
        target,
        host: &host,
        port,
        headers: &parts.headers,
        body,
        source: parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip()),
    };
    api.inner.authenticator.authenticate(&call).await.map_err(|error| refused(&error))
}

/// Why nobody was recognised.
pub(super) fn refused(error: &AuthError) -> ApiError {
    match error {
        AuthError::Failed(message) => ApiError::new(Code::AuthenticationFailed, message.clone()),
        AuthError::Unavailable { reason, retry_after } => {
            tracing::error!(reason, "the auth service is not available");
            let error = ApiError::new(
                Code::ServiceUnavailable,
                "the auth service, which knows who may do this, does not answer; try again",
            );
            error.retry_after(retry_after.unwrap_or(Duration::from_secs(1)))
        }
    }
}

fn bad_argument(what: &str, name: &str, why: &str) -> ApiError {
    ApiError::new(Code::InvalidRequestArguments, format!("{what} {name}: {why}"))
}

/// The parameter of a query that is a signature, and the authenticator's business.
const BEWIT: &str = "bewit";

/// The parameters of the query, each one that the entry knows: one that nobody reads is a mistake of whoever sent it.
fn query(endpoint: &Endpoint, text: &str) -> Result<BTreeMap<String, String>, ApiError> {
    let refused = |name: &str, why: &str| bad_argument("query parameter", name, why);
    let mut query = BTreeMap::new();
    for (name, value) in url::form_urlencoded::parse(text.as_bytes()).filter(|(name, _)| name != BEWIT) {
        let Some(parameter) = endpoint.query.iter().find(|parameter| parameter.name == name) else {
            return Err(refused(&format!("{name:?}"), "this method has no such parameter"));
        };
        (parameter.check)(&value).map_err(|why| refused(parameter.name, why))?;
        if query.insert(name.into_owned(), value.into_owned()).is_some() {
            return Err(refused(parameter.name, "it is given twice"));
        }
    }
    Ok(query)
}

fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Value, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(ApiError::new(Code::MalformedPayload, "the content-type must be application/json"));
    }
    serde_json::from_slice(body).map_err(|error| {
        ApiError::new(Code::MalformedPayload, format!("the request body is not JSON: {error}"))
    })
}

impl Api {
    /// The whole raw body, which the payload hash of a signature is over.
    async fn read_body(
        &self,
        headers: &HeaderMap,
        mut body: Body,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
        let most = self.inner.max_body_bytes;
        let declared: Option<usize> = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok())
            .and_then(|length| length.parse().ok());
        let mut read = BytesMut::new();
        let mut room = None;
        let mut waited = false;
        let mut too_large = declared.is_some_and(|length| length > most);
        let reading = async {
            while !too_large {
                let Some(frame) = body.frame().await else { return Ok::<_, ApiError>(()) };
                let Ok(data) = frame.map_err(|_| unreadable())?.into_data() else { continue };
                too_large = read.len() + data.len() > most;
                if read.len() + data.len() > SMALL_BODY && room.is_none() {
                    // As much as this caller may send: growing claims could wait for each other for ever.
                    let claim = declared.unwrap_or(most).min(most).div_ceil(1024).min(BODY_BUDGET_KIB);
                    let (budget, claim) = (&self.inner.body_budget, claim as u32);
                    room = budget.clone().try_acquire_many_owned(claim).ok();
                    if room.is_none() {
                        waited = true;
                        room = budget.clone().acquire_many_owned(claim).await.ok();
                    }
                }
                if !too_large {
                    read.extend_from_slice(&data);
                }
            }
            Ok(())
        };
        match tokio::time::timeout(BODY_TIME, reading).await {
            Ok(read) => read?,
            Err(_) if waited => {
                let message = "large bodies of others take all the room there is; try again";
                let error = ApiError::new(Code::ServiceUnavailable, message);
                return Err(error.retry_after(Duration::from_secs(1)));
            }
            Err(_) => {
                let seconds = BODY_TIME.as_secs();
                let message = format!("the request body did not arrive within {seconds} seconds");
                return Err(ApiError::new(Code::MalformedPayload, message));
            }
        }
        if too_large {
            drop(read);
            let discarding = async { while let Some(Ok(_)) = body.frame().await {} };
            // However it ends, the answer is the same.
            let _ = tokio::time::timeout(DISCARD_TIME, discarding).await;
            let message = format!("the request body is too large: {most} bytes are allowed");
            return Err(ApiError::new(Code::InputTooLarge, message));
        }
        Ok((read.freeze(), room))
    }
}

fn unreadable() -> ApiError {
    ApiError::new(Code::MalformedPayload, "the request body could not be read")
}
