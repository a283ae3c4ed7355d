//! The sender's side: the headers (and the address) that a provider would send. For `source send` and for tests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Verifier, key, signed_bytes};
use crate::provider::{
    Algorithm, Part, Scheme, SignatureScheme, TimestampPlace, TokenPlace, TokenScheme, Unit,
};

/// What proves the sender of one request.
#[derive(Debug, Default)]
pub struct Signed {
    /// Appended to the path, percent-encoded already.
    pub path_suffix: String,
    /// The query, without `?`.
    pub query: Option<String>,
}

impl Verifier {
    /// Adds what the provider would send as proof of `body` to `headers`, with the first secret that can sign.
    /// `secrets` are those that the verifier was made of: for shared secrets it keeps only digests.
    ///
    /// # Errors
    /// Text for people, e.g. that a public key cannot sign.
    pub fn sign(
        &self,
        secrets: &[String],
        headers: &mut HeaderMap,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Signed, String> {
        let mut reason = "the source has no secret that can sign".to_owned();
        for (scheme, keys) in &self.schemes {
            if keys.is_empty() {
                continue;
            }
            match scheme {
                Scheme::Token(scheme) => {
                    let others: Vec<&str> =
                        self.schemes.iter().filter_map(|(s, _)| s.secret_prefix()).collect();
                    let mine = |secret: &&String| match &scheme.secret_prefix {
                        Some(prefix) => secret.starts_with(prefix.as_str()),
                        None => !others.iter().any(|prefix| secret.starts_with(prefix)),
                    };
                    if let Some(secret) = secrets.iter().find(mine) {
                        return present(scheme, secret, headers);
                    }
                }
                Scheme::Signature(scheme) if scheme.algorithm == Algorithm::Ed25519 => {
                    reason = "the source holds only the sender's public key, which cannot sign".to_owned();
                }
                Scheme::Signature(scheme) => {
                    sign(scheme, &keys[0], headers, body, now)?;
                    return Ok(Signed::default());
                }
            }
        }
        Err(reason)
    }
}

fn sign(
    scheme: &SignatureScheme,
    key: &key::Key,
    headers: &mut HeaderMap,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<(), String> {
    let stamp = scheme.timestamp.as_ref().map(|timestamp| match timestamp.unit {
        Unit::Seconds => now.timestamp().to_string(),
        Unit::Milliseconds => now.timestamp_millis().to_string(),
    });
    let mut values = Vec::new();
    if let (Some(timestamp), Some(stamp)) = (&scheme.timestamp, &stamp) {
        match &timestamp.from {
            TimestampPlace::Header(name) => insert(headers, name.0.clone(), stamp)?,
            TimestampPlace::Signature(prefix) => values.push(format!("{prefix}{stamp}")),
            TimestampPlace::Body(_) => {}
        }
    }
    for part in &scheme.signed.0 {
        if let Part::Header(name) = part
            && !headers.contains_key(name)
        {
            insert(headers, name.clone(), &format!("msg_{}", uuid::Uuid::new_v4().simple()))?;
        }
    }
    let signed =
        signed_bytes(&scheme.signed, body, stamp.as_deref(), headers).map_err(|error| error.to_string())?;
    let bytes = key.sign(scheme.algorithm, &signed).ok_or("this key cannot sign")?;
    values.push(format!("{}{}", scheme.prefix, key::encode(scheme.encoding, &bytes)));
    let separator = scheme.separator.unwrap_or(',').to_string();
    insert(headers, scheme.headers[0].0.clone(), &values.join(&separator))
}

fn present(scheme: &TokenScheme, secret: &str, headers: &mut HeaderMap) -> Result<Signed, String> {
    let mut signed = Signed::default();
    match scheme.place {
        TokenPlace::Bearer => insert(headers, http::header::AUTHORIZATION, &format!("Bearer {secret}"))?,
        TokenPlace::Basic => {
            let pair = if secret.contains(':') { secret.to_owned() } else { format!("pulsehook:{secret}") };
            insert(headers, http::header::AUTHORIZATION, &format!("Basic {}", STANDARD.encode(pair)))?;
        }
        TokenPlace::Header => {
            let name: HeaderName = scheme.name.parse().map_err(|_| "the token's header has no valid name")?;
            insert(headers, name, secret)?;
        }
        TokenPlace::Query => {
            signed.query = Some(
                form_urlencoded::Serializer::new(String::new()).append_pair(&scheme.name, secret).finish(),
            );
        }
        TokenPlace::Path => {
            let encoded = percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC);
            signed.path_suffix = format!("/{encoded}");
        }
    }
    Ok(signed)
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), String> {
    let mut value =
        HeaderValue::from_str(value).map_err(|_| format!("a value for {name} cannot be sent in a header"))?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}
