//! Trying sources out: the request that a provider would send, and the message that a payload would become.
//!
//! Both go the way of real requests, so what they show is what happens.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use pulse::Message;
use pulse::trace::Tracing;
use serde::Serialize;
use serde_json::Value;

use crate::body::Form;
use crate::config::Config;
use crate::event::{self, Reading};
use crate::place::Places;
use crate::provider::{Scheme, TimestampPlace, Unit};
use crate::signature::Verifier;
use crate::source::{self, CompileFilter};

/// A source as `source list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its provider.
    pub provider: String,
    /// The provider's name for people; none if there is no such provider.
    pub title: Option<String>,
    /// The provider's own documentation.
    pub documentation: Option<String>,
    /// Where it takes events, below the bridge's address.
    pub path: String,
    /// Number of its live secrets.
    pub secrets: usize,
}

/// An event to try out.
#[derive(Debug, Clone, Default)]
pub struct Attempt<'a> {
    /// The source's name.
    pub source: &'a str,
    /// The event's name, for providers that send it in a header.
    pub event: Option<&'a str>,
    /// The delivery id, for providers that send it in a header; none: a random one.
    pub delivery: Option<&'a str>,
    /// The body: JSON.
    pub payload: Bytes,
}

/// What a payload would become.
#[derive(Debug)]
pub enum Preview {
    /// A handshake, answered and not published.
    Handshake {
        /// HTTP status of the answer.
        status: u16,
        /// Its JSON.
        answer: Option<Value>,
    },
    /// A message.
    Message {
        /// The message, as it would be published.
        message: Box<Message>,
        /// The filter's word: true to publish; none without a filter.
        filter: Option<Result<bool, String>>,
    },
}

/// Every configured source.
///
/// # Errors
/// That the file of providers cannot be read.
pub fn list(config: &Config) -> Result<Vec<Listed>, String> {
    let providers = crate::provider::load(config.providers.as_deref())?;
    let listed = config.source.iter().map(|source| {
        let provider = providers.get(&source.provider);
        Listed {
            name: source.name.clone(),
            provider: source.provider.clone(),
            title: provider.map(|provider| provider.title.clone()),
            documentation: provider.map(|provider| provider.documentation.clone()),
            path: format!("/webhooks/{}", source.name),
            secrets: source.secrets.len(),
        }
    });
    Ok(listed.collect())
}

/// The request that the provider would send, signed with the first secret that can; its URI is a path below the
/// bridge's address.
///
/// # Errors
/// Text for people: no such source, a secret that cannot be read, a provider that signs with a key which only it has.
pub fn request(config: &Config, attempt: &Attempt<'_>, now: DateTime<Utc>) -> Result<Request<Bytes>, String> {
    let (own, provider) = source::find(config, attempt.source)?;
    let secrets = source::secrets(own).map_err(|errors| errors.join("; "))?;
    let schemes = source::schemes(own, &provider)?;
    let verifier = Verifier::new(&schemes, &secrets).map_err(|errors| errors.join("; "))?;
    let mut headers = headers(
        attempt,
        own.event.as_ref().unwrap_or(&provider.event),
        own.delivery.as_ref().unwrap_or(&provider.delivery),
    )?;
    let payload = stamped(attempt.payload.clone(), &schemes, now)?;
    let signed = verifier.sign(&secrets, &mut headers, &payload, now)?;
    let query = signed.query.map(|query| format!("?{query}")).unwrap_or_default();
    let mut request = Request::post(format!("/webhooks/{}{}{query}", attempt.source, signed.path_suffix))
        .body(payload)
        .map_err(|error| error.to_string())?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The message that the payload would become, or the handshake that it is. Needs no secret.
///
/// # Errors
/// Everything that is wrong with the source, or with the payload.
pub fn preview(
    config: &Config,
    user: &str,
    attempt: &Attempt<'_>,
    compile: Option<&CompileFilter>,
    now: DateTime<Utc>,
) -> Result<Preview, Vec<String>> {
    let source = source::unproven(config, attempt.source, compile)?;
    let headers = headers(attempt, &source.event, &source.delivery).map_err(|error| vec![error])?;
    let refused = |refusal: crate::refusal::Refusal| vec![refusal.to_string()];
    let form = Form { urlencoded: false, gzip: false };
    let payload = form.parse(attempt.payload.clone()).map_err(refused)?;
    let exchange = pulse::naming::exchange(user, "webhook");
    match event::read(&source, &exchange, &headers, None, payload, now, &Tracing::default())
        .map_err(refused)?
    {
        Reading::Handshake { status, answer } => Ok(Preview::Handshake { status, answer }),
        Reading::Event(event) => {
            let filter = source.filter.as_ref().map(|filter| filter(&event.message, &event.value));
            Ok(Preview::Message { message: Box::new(event.message), filter })
        }
    }
}

fn headers(attempt: &Attempt<'_>, event: &Places, delivery: &Places) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(name) = attempt.event {
        let Some(header) = event.header() else {
            return Err(format!(
                "source {:?} finds its event's name in the {event}: put it there instead of naming it",
                attempt.source
            ));
        };
        insert(&mut headers, header, name)?;
    }
    match (delivery.header(), attempt.delivery) {
        (Some(header), Some(id)) => insert(&mut headers, header, id)?,
        (Some(header), None) => insert(&mut headers, header, &uuid::Uuid::new_v4().to_string())?,
        (None, Some(_)) => {
            return Err(format!("source {:?} has no delivery id in a header", attempt.source));
        }
        (None, None) => {}
    }
    Ok(headers)
}

fn insert(headers: &mut HeaderMap, name: &HeaderName, value: &str) -> Result<(), String> {
    let value = HeaderValue::from_str(value).map_err(|_| format!("{value:?} cannot be sent in a header"))?;
    headers.insert(name, value);
    Ok(())
}

/// The payload with the moment in it, for providers that sign one in the body.
fn stamped(payload: Bytes, schemes: &[Scheme], now: DateTime<Utc>) -> Result<Bytes, String> {
    let place = schemes.iter().find_map(|scheme| match scheme {
        Scheme::Signature(scheme) => scheme.timestamp.as_ref().and_then(|timestamp| match &timestamp.from {
            TimestampPlace::Body(pointer) => Some((pointer, timestamp.unit)),
            TimestampPlace::Header(_) | TimestampPlace::Signature(_) => None,
        }),
        Scheme::Token(_) => None,
    });
    let Some((pointer, unit)) = place else { return Ok(payload) };
    let mut body: Value =
        serde_json::from_slice(&payload).map_err(|error| format!("the payload is not JSON: {error}"))?;
    let moment = match unit {
        Unit::Seconds => now.timestamp(),
        Unit::Milliseconds => now.timestamp_millis(),
    };
    match body.pointer_mut(pointer) {
        Some(field) => *field = moment.into(),
        None => match (body.as_object_mut(), pointer.strip_prefix('/')) {
            (Some(object), Some(name)) if !name.contains('/') => {
                object.insert(name.to_owned(), moment.into());
            }
            _ => return Err(format!("the payload has no {pointer}, where this provider signs the moment")),
        },
    }
    Ok(Bytes::from(body.to_string()))
}
