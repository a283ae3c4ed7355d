//! How the bridge is, for those who operate it: its sources, what became of their last deliveries, what lies in the spool.
//!
//! It is told on an address of its own (`bridge.status_listen`), because the bridge's other address faces strangers. No secret is in
//! it, and of an event only its place on pulse: never a body.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::accept::Accepted;
use crate::bridge::Shared;
use crate::provider::{Algorithm, Encoding, Part, Provider, Scheme, SignatureScheme, TokenPlace};
use crate::refusal::Refusal;
use crate::source::Source;
use crate::spool::Contents;

/// Deliveries that are remembered of each source.
const DELIVERIES: usize = 25;

/// Longest reason that is kept, in characters: a sender's words may be in it.
const LONGEST_REASON: usize = 300;

/// How the bridge is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Why the broker cannot be used; `None`: it can.
    pub broker_down: Option<String>,
    /// Why the spool takes nothing; `None`: it would take an event of usual size, or there is none.
    #[serde(default)]
    pub spool_down: Option<String>,
    /// What lies in the spool; `None`: there is no spool.
    pub spool: Option<Contents>,
    /// The sources, in the order of their names.
    pub sources: Vec<SourceStatus>,
}

/// A source.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// Its provider.
    pub provider: String,
    /// What it is, and how it is set up.
    #[serde(flatten)]
    pub about: About,
    /// Its last deliveries, newest first.
    pub deliveries: Vec<Delivery>,
}

/// What a source is, in words.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// The provider's name for people.
    pub title: String,
    /// The provider's own documentation, an URL.
    pub documentation: String,
    /// Ways to prove the sender, one of which must succeed: a sentence each.
    pub proofs: Vec<String>,
    /// Live secrets.
    pub secrets: usize,
    /// Where the event's name stands.
    pub event: String,
    /// Where the delivery id stands; empty: the sender has none.
    pub delivery: String,
    /// The words of its routing keys: what each is.
    pub words: Vec<String>,
}

/// What became of one delivery.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// When it was answered: milliseconds since the epoch.
    pub at: i64,
    /// Who sent it.
    pub peer: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// What became of it in a word: `published`, `spooled`, `repeat`, `handshake`, or the code of the refusal.
    pub verdict: String,
    /// Why it was refused, for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Its routing key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub routing_key: Option<String>,
    /// The id of its message.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message_id: Option<String>,
    /// Whether any queue took it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub routed: Option<bool>,
}

/// The last deliveries of each source that there is.
#[derive(Default)]
pub struct Deliveries(Mutex<HashMap<String, VecDeque<Delivery>>>);

impl Deliveries {
    /// Remembers one. The name must be that of a source: strangers' words would be endless.
    pub fn note(&self, source: &str, delivery: Delivery) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_source = all.entry(source.to_owned()).or_default();
        of_source.push_front(delivery);
        of_source.truncate(DELIVERIES);
    }

    fn of(&self, source: &str) -> Vec<Delivery> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(source).map(|of_source| of_source.iter().cloned().collect()).unwrap_or_default()
    }
}

impl Delivery {
    /// An event that is safe.
    pub fn accepted(at: i64, peer: IpAddr, accepted: &Accepted, repeated: bool) -> Self {
        let verdict = match (repeated, accepted) {
            (true, _) => "repeat",
            (_, Accepted { filtered: true, .. }) => "filtered",
            (_, Accepted { coalesced: true, .. }) => "coalesced",
            (_, Accepted { spooled: true, .. }) => "spooled",
            _ => "published",
        };
        Self {
            at,
            peer: peer.to_string(),
            status: accepted.status.as_u16(),
            verdict: verdict.to_owned(),
            reason: None,
            routing_key: Some(accepted.routing_key.clone()),
            message_id: Some(accepted.message_id.clone()),
            routed: accepted.routed,
        }
    }

    /// A request with which the provider tried the source out.
    pub fn handshake(at: i64, peer: IpAddr, status: u16) -> Self {
        Self {
            at,
            peer: peer.to_string(),
            status,
            verdict: "handshake".to_owned(),
            reason: None,
            routing_key: None,
            message_id: None,
            routed: None,
        }
    }

    /// One that was refused.
    pub fn refused(at: i64, peer: IpAddr, refusal: &Refusal) -> Self {
        let (status, code) = refusal.status();
        let reason = refusal.inside().chars().take(LONGEST_REASON).collect();
        Self {
            at,
            peer: peer.to_string(),
            status: status.as_u16(),
            verdict: code.to_owned(),
            reason: Some(reason),
            routing_key: None,
            message_id: None,
            routed: None,
        }
    }
}

impl About {
    /// What a source is, with its own options.
    pub(crate) fn of(provider: &Provider, schemes: &[Scheme], secrets: usize) -> Self {
        Self {
            title: provider.title.clone(),
            documentation: provider.documentation.clone(),
            proofs: schemes.iter().map(proof).collect(),
            secrets,
            event: provider.event.to_string(),
            delivery: provider.delivery.to_string(),
            words: provider.words.iter().map(|word| word.name.clone()).collect(),
        }
    }
}

fn proof(scheme: &Scheme) -> String {
    match scheme {
        Scheme::Signature(scheme) => signature(scheme),
        Scheme::Token(scheme) => match scheme.place {
            TokenPlace::Bearer => "the secret as Authorization: Bearer …".to_owned(),
            TokenPlace::Basic => "the secret as the password of Authorization: Basic …".to_owned(),
            TokenPlace::Header => format!("the secret in the header {}", scheme.name),
            TokenPlace::Query => format!("the secret in the query: ?{}=…", scheme.name),
            TokenPlace::Path => "the secret at the end of the address: /webhooks/SOURCE/SECRET".to_owned(),
        },
    }
}

fn signature(scheme: &SignatureScheme) -> String {
    let headers: Vec<&str> = scheme.headers.iter().map(|name| name.0.as_str()).collect();
    let algorithm = match scheme.algorithm {
        Algorithm::Sha1 => "HMAC-SHA1",
        Algorithm::Sha256 => "HMAC-SHA256",
        Algorithm::Sha512 => "HMAC-SHA512",
        Algorithm::Ed25519 => "Ed25519",
    };
    let encoding = match scheme.encoding {
        Encoding::Hex => "hex",
        Encoding::Base64 => "base64",
    };
    let signed: String = scheme
        .signed
        .0
        .iter()
        .map(|part| match part {
            Part::Literal(text) => text.clone(),
            Part::Body => "{body}".to_owned(),
            Part::Timestamp => "{timestamp}".to_owned(),
            Part::Header(name) => format!("{{{name}}}"),
        })
        .collect();
    format!(
        "{algorithm} over {signed}, in {encoding}, as {}… in the header {}",
        scheme.prefix,
        headers.join(" or ")
    )
}

impl Shared {
    /// How everything is.
    pub(crate) fn status(&self) -> Status {
        let mut sources = self.all_sources();
        sources.sort_by(|one, other| one.name.cmp(&other.name));
        let broker_down = match &*self.publisher.status().borrow() {
            pulse::Status::Up => None,
            pulse::Status::Down { reason } => Some(reason.clone()),
        };
        let now = (self.now)().timestamp_millis();
        let spool = self.spool.as_ref();
        Status {
            broker_down,
            spool_down: spool.and_then(|spool| spool.check(now).err()).map(|error| error.to_string()),
            spool: spool.map(|spool| spool.contents(now)),
            sources: sources.iter().map(|source| self.status_of(source)).collect(),
        }
    }

    fn status_of(&self, source: &Source) -> SourceStatus {
        SourceStatus {
            name: source.name.clone(),
            provider: source.provider.clone(),
            about: About {
                event: source.event.to_string(),
                delivery: source.delivery.to_string(),
                ..source.about.clone()
            },
            deliveries: self.deliveries.of(&source.name),
        }
    }
}

/// `/__status__`, for `bridge.status_listen`.
pub(crate) fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/__status__", get(async |State(shared): State<Arc<Shared>>| Json(shared.status())))
        .with_state(shared)
}
