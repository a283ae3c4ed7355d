//! Hawk on the server's side: reads what a request claims, and verifies it once the key is known.
//!
//! The two steps are apart because the key depends on the claim (client id, certificate). The `hawk` crate
//! computes the MACs; reading is done here, because a hostile header must neither stop the process (the crate
//! panics on a timestamp beyond the clock's range) nor be refused without a reason that helps its sender.
//!
//! Promises: the MAC covers method, raw target with its query, host (in lower case) and port; it is compared
//! in constant time and before anything else is said about the request; timestamps are at most `skew` off,
//! either way. Replays are not noticed here (see `nonce`), and a payload hash is only handed on
//! ([`Claim::payload_hash`]): the body is checked with [`payload_matches`] when it has been read.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hawk::mac::{Mac, MacType};
use hawk::{Key, PayloadHasher, SHA256};

mod ext;
mod header;

pub use ext::{Certificate, Ext};

/// How far a client's clock may be off, either way: what Taskcluster's auth service allows.
pub const CLOCK_SKEW: Duration = Duration::from_secs(15 * 60);

/// What of a request a signature covers.
#[derive(Debug, Clone, Copy)]
pub struct SignedRequest<'a> {
    /// Method, upper case.
    pub method: &'a str,
    /// The raw request target: path and query as received, nothing decoded.
    pub target: &'a str,
    /// The host name that the client addressed.
    pub host: &'a str,
    /// The port that the client addressed.
    pub port: u16,
    /// The `Authorization` header, if there is one.
    pub authorization: Option<&'a str>,
}

/// Why a signature is not accepted. The texts are for the sender of the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HawkError {
    /// The header, bewit or `ext` cannot be read.
    #[error("the request's authorization cannot be read: {0}")]
    Malformed(Cow<'static, str>),
    /// The MAC is not the one that the key makes of this request.
    #[error(
        "the request's signature does not match: wrong access token, or the request was changed on its way"
    )]
    BadMac,
    /// The timestamp is too far from the server's clock.
    #[error("the request's timestamp is {0} seconds off the server's clock: correct the client's clock")]
    Stale(u64),
    /// A bewit beyond its expiry.
    #[error("the URL's bewit has expired")]
    BewitExpired,
    /// A bewit on anything but GET or HEAD.
    #[error("a bewit is only good for GET")]
    BewitMethod,
    /// The payload hash does not match the body.
    #[error("the request's body does not match the payload hash of its authorization")]
    PayloadHash,
}

/// What a request claims about its sender. Nothing of it is true until [`verify`](Self::verify) says so.
#[derive(Debug)]
pub struct Claim<'a> {
    /// The client id.
    pub client_id: Cow<'a, str>,
    /// Certificate and authorized scopes.
    pub ext: Ext,
    kind: Kind<'a>,
    raw_ext: Option<Cow<'a, str>>,
}

#[derive(Debug)]
enum Kind<'a> {
    Header { ts: u64, nonce: &'a str, mac: Mac, hash: Option<Vec<u8>> },
    Bewit { exp: u64, mac: Mac, target: String },
}

impl<'a> Claim<'a> {
    /// Reads a request's claim; `None` if it makes none (no `Authorization` header of scheme Hawk, no bewit).
    pub fn read(request: &SignedRequest<'a>) -> Result<Option<Self>, HawkError> {
        match request.authorization {
            Some(value) => header::read(value).map(Some),
            None => header::read_bewit(request),
        }
    }

    /// The header's nonce and timestamp (seconds since the epoch); a bewit has none: it may be used repeatedly.
    pub fn nonce(&self) -> Option<(&str, u64)> {
        match &self.kind {
            Kind::Header { ts, nonce, .. } => Some((nonce, *ts)),
            Kind::Bewit { .. } => None,
        }
    }

    /// The hash that the body must have, if the client sent one.
    pub fn payload_hash(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Header { hash, .. } => hash.as_deref(),
            Kind::Bewit { .. } => None,
        }
    }

    /// Checks the claim's MAC with `key`, then its time.
    pub fn verify(
        &self,
        request: &SignedRequest<'_>,
        key: &Key,
        now: SystemTime,
        skew: Duration,
    ) -> Result<(), HawkError> {
        let host = if request.host.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(request.host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(request.host)
        };
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let ext = self.raw_ext.as_deref();
        match &self.kind {
            Kind::Header { ts, nonce, mac, hash } => {
                let time = UNIX_EPOCH + Duration::from_secs(*ts);
                let expected = Mac::new(
                    MacType::Header,
                    key,
                    time,
                    nonce,
                    request.method,
                    &host,
                    request.port,
                    request.target,
                    hash.as_deref(),
                    ext,
                );
                if expected.ok().as_ref() != Some(mac) {
                    return Err(HawkError::BadMac);
                }
                let off = now.abs_diff(*ts);
                if off > skew.as_secs() {
                    return Err(HawkError::Stale(off));
                }
            }
            Kind::Bewit { exp, mac, target } => {
                if request.method != "GET" && request.method != "HEAD" {
                    return Err(HawkError::BewitMethod);
                }
                let time = UNIX_EPOCH + Duration::from_secs(*exp);
                // A bewit is made for GET; HEAD is the same question without the body.
                let expected =
                    Mac::new(MacType::Bewit, key, time, "", "GET", &host, request.port, target, None, ext);
                if expected.ok().as_ref() != Some(mac) {
                    return Err(HawkError::BadMac);
                }
                if *exp <= now {
                    return Err(HawkError::BewitExpired);
                }
            }
        }
        Ok(())
    }
}

/// Whether `body` is the one that was hashed; `content_type` is the request's header, if it has one.
pub fn payload_matches(hash: &[u8], content_type: Option<&str>, body: &[u8]) -> Result<(), HawkError> {
    let media_type = content_type.unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let expected = PayloadHasher::hash(media_type, SHA256, body).map_err(|_| HawkError::PayloadHash)?;
    // Mac's comparison takes constant time.
    if Mac::from(expected) == Mac::from(hash.to_vec()) { Ok(()) } else { Err(HawkError::PayloadHash) }
}

/// The host and port that a request was addressed to, from its `Host` header (`authority` for an absolute
/// target) and, behind a proxy that ends TLS, `X-Forwarded-Port` or `X-Forwarded-Proto`. Trusting these is
/// harmless: they only choose what the signature is compared with.
pub fn address(headers: &http::HeaderMap, uri: &http::Uri) -> Option<(String, u16)> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let authority = match uri.authority() {
        Some(authority) => authority.clone(),
        None => http::uri::Authority::from_str(text("host")?).ok()?,
    };
    let forwarded = text("x-forwarded-port").and_then(|port| port.parse().ok());
    let port = forwarded.or_else(|| match text("x-forwarded-proto") {
        Some("https") => Some(443),
        _ => authority.port_u16(),
    });
    Some((authority.host().to_owned(), port.unwrap_or(80)))
}

fn decode_mac(text: &str) -> Result<Mac, HawkError> {
    STANDARD.decode(text).map(Mac::from).map_err(|_| HawkError::Malformed("mac is not base64".into()))
}

#[cfg(test)]
mod tests;
