//! One engine that proves every sender: signatures over raw bytes and shared secrets, compared in constant time.
//!
//! Which headers, encodings and texts it looks at is data ([`Scheme`]). A request passes when one scheme of the
//! provider succeeds with one of the source's live secrets; several may be live while a secret is changed. Nothing
//! here ever shows a secret, a signature or a body.

use chrono::{DateTime, Utc};
use http::HeaderMap;

use crate::place::header_text;
use crate::provider::{
    Part, Scheme, SignatureScheme, SignedText, Timestamp, TimestampPlace, TokenScheme, Unit,
};

mod key;
mod sign;
mod token;

use key::Key;

/// Values of one signature header that are looked at; senders put two or three there while they rotate keys, and a
/// header of thousands would cost a comparison each, or the check of an Ed25519 signature.
const MAX_VALUES: usize = 16;

/// What a sender shows as proof.
#[derive(Clone, Copy)]
pub struct Proof<'a> {
    /// Request headers.
    pub headers: &'a HeaderMap,
    /// The query, without `?`.
    pub query: Option<&'a str>,
    /// What follows the source's name in the path, decoded.
    pub path_token: Option<&'a str>,
    /// The body as received.
    pub body: &'a [u8],
    /// The decoded `payload` field of a form.
    pub form_field: Option<&'a [u8]>,
}

/// Why a sender is not believed. The texts are safe to send back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The request carries no proof at all.
    #[error("the request carries no {0}")]
    Missing(String),
    /// There is one and it is not right: another secret, another body, or not written as it should be.
    #[error("the {0} does not match: another secret, a changed body, or another encoding")]
    Wrong(String),
    /// The signature is right and too old, or from the future: a replay, or a clock that is wrong.
    #[error("the signature was made {seconds} seconds {direction}, more than the {tolerance} allowed")]
    Stale {
        /// Distance from now.
        seconds: u64,
        /// `ago` or `ahead`.
        direction: &'static str,
        /// The tolerance in seconds.
        tolerance: u32,
    },
}

/// A provider's schemes with a source's keys.
#[derive(Clone)]
pub struct Verifier {
    schemes: Vec<(Scheme, Vec<Key>)>,
}

impl Verifier {
    /// Keys made from secrets, each for the schemes that take it.
    ///
    /// # Errors
    /// One text per secret that no scheme can use; it tells the secret's position, not the secret.
    pub fn new(schemes: &[Scheme], secrets: &[String]) -> Result<Self, Vec<String>> {
        let claimed = |secret: &str| {
            schemes.iter().filter_map(Scheme::secret_prefix).any(|prefix| secret.starts_with(prefix))
        };
        let mut keyed: Vec<(Scheme, Vec<Key>)> =
            schemes.iter().map(|scheme| (scheme.clone(), Vec::new())).collect();
        let mut errors = Vec::new();
        for (index, secret) in secrets.iter().enumerate() {
            let mut used = false;
            let mut reason = "no way of verification takes it".to_owned();
            for (scheme, keys) in &mut keyed {
                let takes = match scheme.secret_prefix() {
                    Some(prefix) => secret.starts_with(prefix),
                    None => !claimed(secret),
                };
                if !takes {
                    continue;
                }
                match Key::new(scheme, secret) {
                    Ok(key) => {
                        keys.push(key);
                        used = true;
                    }
                    Err(error) => reason = error,
                }
            }
            if !used {
                errors.push(format!("secrets[{index}] cannot be used: {reason}"));
            }
        }
        if errors.is_empty() { Ok(Self { schemes: keyed }) } else { Err(errors) }
    }

    /// Believes the sender, or says why not.
    ///
    /// # Errors
    /// See [`SignatureError`]; the most telling one when several schemes were tried.
    pub fn verify(&self, proof: &Proof<'_>, now: DateTime<Utc>) -> Result<(), SignatureError> {
        let mut worst: Option<SignatureError> = None;
        for (scheme, keys) in &self.schemes {
            let result = match scheme {
                Scheme::Signature(scheme) => verify_signature(scheme, keys, proof, now),
                Scheme::Token(scheme) => verify_token(scheme, keys, proof),
            };
            match (result, &worst) {
                (Ok(()), _) => return Ok(()),
                (Err(SignatureError::Missing(what)), Some(SignatureError::Missing(before))) => {
                    if *before != what {
                        worst = Some(SignatureError::Missing(format!("{before} or {what}")));
                    }
                }
                (Err(SignatureError::Missing(_)), Some(_)) => {}
                (Err(error), Some(SignatureError::Missing(_)) | None) => worst = Some(error),
                (Err(error @ SignatureError::Stale { .. }), Some(_)) => worst = Some(error),
                (Err(SignatureError::Wrong(_)), Some(_)) => {}
            }
        }
        Err(worst.unwrap_or_else(|| SignatureError::Missing("proof that is known here".to_owned())))
    }
}

/// Keys are not for printing.
impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verifier({} schemes)", self.schemes.len())
    }
}

fn verify_signature(
    scheme: &SignatureScheme,
    keys: &[Key],
    proof: &Proof<'_>,
    now: DateTime<Utc>,
) -> Result<(), SignatureError> {
    let Some(name) = scheme.headers.iter().map(|name| &name.0).find(|name| proof.headers.contains_key(*name))
    else {
        let names: Vec<&str> = scheme.headers.iter().map(|name| name.0.as_str()).collect();
        return Err(SignatureError::Missing(format!("{} header", names.join(" or "))));
    };
    let wrong = || SignatureError::Wrong(format!("signature in {name}"));
    let value = header_text(proof.headers, name).ok_or_else(wrong)?;
    let values: Vec<&str> = match scheme.separator {
        Some(separator) => value.split(separator).map(str::trim).take(MAX_VALUES).collect(),
        None => vec![value],
    };
    let body = match proof.form_field {
        Some(field) if scheme.signs_form_field => field,
        _ => proof.body,
    };
    let stamp = match &scheme.timestamp {
        Some(timestamp) => Some(timestamp_text(timestamp, &values, proof)?),
        None => None,
    };
    let signed = signed_bytes(&scheme.signed, body, stamp.as_deref(), proof.headers)?;
    let signatures: Vec<Vec<u8>> = values
        .iter()
        .filter_map(|value| value.strip_prefix(scheme.prefix.as_str()))
        .filter_map(|signature| key::decode(scheme.encoding, signature))
        .collect();
    // Every value with every key, without stopping at the first match, so that time tells nothing about which key it was.
    let mut matched = false;
    if !signatures.is_empty() {
        for key in keys {
            matched |= key.verify(scheme.algorithm, &signed, &signatures);
        }
    }
    if !matched {
        return Err(wrong());
    }
    match &scheme.timestamp {
        Some(timestamp) => check_time(timestamp, stamp.as_deref(), body, now).unwrap_or_else(|| Err(wrong())),
        None => Ok(()),
    }
}

fn verify_token(scheme: &TokenScheme, keys: &[Key], proof: &Proof<'_>) -> Result<(), SignatureError> {
    let presented = token::presented(scheme, proof);
    if presented.is_empty() {
        return Err(SignatureError::Missing(token::describe(scheme)));
    }
    let mut matched = false;
    for text in &presented {
        let digest = key::token_digest(text);
        for key in keys {
            matched |= key.is_token(&digest);
        }
    }
    if matched { Ok(()) } else { Err(SignatureError::Wrong(token::describe(scheme))) }
}

/// The timestamp as the sender wrote it; empty where it stands in the body, which is read only once it is verified.
fn timestamp_text(
    timestamp: &Timestamp,
    values: &[&str],
    proof: &Proof<'_>,
) -> Result<String, SignatureError> {
    match &timestamp.from {
        TimestampPlace::Header(name) => header_text(proof.headers, &name.0)
            .map(str::to_owned)
            .ok_or_else(|| SignatureError::Missing(format!("{} header", name.0))),
        TimestampPlace::Signature(prefix) => values
            .iter()
            .find_map(|value| value.strip_prefix(prefix.as_str()))
            .map(str::to_owned)
            .ok_or_else(|| SignatureError::Missing(format!("timestamp {prefix} in its signature header"))),
        TimestampPlace::Body(_) => Ok(String::new()),
    }
}

fn signed_bytes(
    pattern: &SignedText,
    body: &[u8],
    stamp: Option<&str>,
    headers: &HeaderMap,
) -> Result<Vec<u8>, SignatureError> {
    let mut signed = Vec::with_capacity(body.len() + 96);
    for part in &pattern.0 {
        match part {
            Part::Literal(text) => signed.extend_from_slice(text.as_bytes()),
            Part::Body => signed.extend_from_slice(body),
            Part::Timestamp => signed.extend_from_slice(stamp.unwrap_or_default().as_bytes()),
            Part::Header(name) => {
                let value = header_text(headers, name)
                    .ok_or_else(|| SignatureError::Missing(format!("{name} header")))?;
                signed.extend_from_slice(value.as_bytes());
            }
        }
    }
    Ok(signed)
}

/// None: what stands there is no timestamp.
fn check_time(
    timestamp: &Timestamp,
    stamp: Option<&str>,
    body: &[u8],
    now: DateTime<Utc>,
) -> Option<Result<(), SignatureError>> {
    let value: i64 = match &timestamp.from {
        TimestampPlace::Body(pointer) => {
            let body: serde_json::Value = serde_json::from_slice(body).ok()?;
            body.pointer(pointer)?.as_i64()?
        }
        TimestampPlace::Header(_) | TimestampPlace::Signature(_) => stamp?.parse().ok()?,
    };
    let seconds = match timestamp.unit {
        Unit::Seconds => value,
        Unit::Milliseconds => value.div_euclid(1000),
    };
    let distance = now.timestamp().saturating_sub(seconds);
    if timestamp.tolerance_seconds != 0 && distance.unsigned_abs() > u64::from(timestamp.tolerance_seconds) {
        return Some(Err(SignatureError::Stale {
            seconds: distance.unsigned_abs(),
            direction: if distance > 0 { "ago" } else { "ahead" },
            tolerance: timestamp.tolerance_seconds,
        }));
    }
    Some(Ok(()))
}
