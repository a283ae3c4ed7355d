//! A provider's ways of verification with a source's own options: another header, encoding, timestamp, token place.
//!
//! An option that would mean nothing, or that would weaken the proof without anybody noticing, is a mistake.

use http::HeaderName;

use crate::config::SourceConfig;
use crate::provider::{
    self, Algorithm, KeyForm, Provider, Scheme, Timestamp, TimestampPlace, TokenPlace, Unit,
};

/// Tolerance of a timestamp header that a source configures without one, in seconds.
const DEFAULT_TOLERANCE_SECONDS: u32 = 300;

/// The provider's ways of verification with the source's own options.
pub fn schemes(config: &SourceConfig, provider: &Provider) -> Result<Vec<Scheme>, String> {
    let mut schemes = provider.verify.clone();
    if let Some(place) = config.token {
        schemes.retain(|scheme| matches!(scheme, Scheme::Token(scheme) if scheme.place == place));
        if schemes.is_empty() {
            return Err(format!("provider {:?} does not send a token there", config.provider));
        }
    }
    if let Some(name) = &config.parameter {
        let place =
            |scheme: &&mut Scheme| matches!(scheme, Scheme::Token(token) if token.place == TokenPlace::Query);
        match schemes.iter_mut().find(place) {
            Some(Scheme::Token(scheme)) => scheme.name.clone_from(name),
            _ => return Err("parameter is for a token in the query".to_owned()),
        }
    }
    let signature_options = config.algorithm.is_some()
        || config.encoding.is_some()
        || config.prefix.is_some()
        || config.separator.is_some()
        || config.signed.is_some()
        || config.timestamp_header.is_some()
        || config.tolerance_seconds.is_some();
    if !signature_options && config.header.is_none() {
        return Ok(schemes);
    }
    let header: Option<HeaderName> = match &config.header {
        Some(name) => Some(name.parse().map_err(|_| format!("header: {name:?} is no header name"))?),
        None => None,
    };
    let mut signatures = schemes.iter_mut().filter_map(|scheme| match scheme {
        Scheme::Signature(scheme) => Some(scheme),
        Scheme::Token(_) => None,
    });
    let Some(scheme) = signatures.next() else {
        if signature_options {
            return Err(format!(
                "provider {:?} does not sign: algorithm, encoding, prefix, separator, signed, timestamp_header and \
                 tolerance_seconds mean nothing here",
                config.provider
            ));
        }
        let token = schemes.iter_mut().find_map(|scheme| match scheme {
            Scheme::Token(scheme) if scheme.place == TokenPlace::Header => Some(scheme),
            _ => None,
        });
        match (token, header) {
            (Some(token), Some(name)) => token.name = name.to_string(),
            _ => return Err("header is for a token in a header".to_owned()),
        }
        return Ok(schemes);
    };
    if signatures.next().is_some() {
        return Err(format!(
            "provider {:?} signs in several ways, whose options cannot be changed by a source; use provider \"hmac\"",
            config.provider
        ));
    }
    if let Some(name) = header {
        scheme.headers = vec![provider::Name(name)];
        scheme.prefix = String::new();
    }
    if let Some(prefix) = &config.prefix {
        scheme.prefix.clone_from(prefix);
    }
    scheme.algorithm = config.algorithm.unwrap_or(scheme.algorithm);
    if config.algorithm == Some(Algorithm::Ed25519) && scheme.key == KeyForm::Text {
        // Public keys are handed out as digits; a text of 32 bytes would be none.
        scheme.key = KeyForm::Hex;
    }
    scheme.encoding = config.encoding.unwrap_or(scheme.encoding);
    scheme.separator = config.separator.or(scheme.separator);
    if let Some(name) = &config.timestamp_header {
        let name = name.parse().map_err(|_| format!("timestamp_header: {name:?} is no header name"))?;
        scheme.timestamp = Some(Timestamp {
            from: TimestampPlace::Header(provider::Name(name)),
            unit: Unit::Seconds,
            tolerance_seconds: DEFAULT_TOLERANCE_SECONDS,
        });
        match &scheme.signed_with_timestamp {
            Some(signed) => scheme.signed = signed.clone(),
            None if config.signed.is_none() => {
                return Err(
                    "timestamp_header needs signed, the text with {timestamp} that is signed".to_owned()
                );
            }
            None => {}
        }
    }
    if let Some(signed) = &config.signed {
        scheme.signed = signed.clone();
    }
    match (config.tolerance_seconds, &mut scheme.timestamp) {
        (Some(seconds), Some(timestamp)) => timestamp.tolerance_seconds = seconds,
        (Some(_), None) => return Err("tolerance_seconds needs a timestamp_header".to_owned()),
        (None, _) => {}
    }
    let stamped = scheme.signed.0.contains(&provider::Part::Timestamp);
    match &scheme.timestamp {
        None if stamped => Err("signed holds {timestamp}, so timestamp_header is needed".to_owned()),
        Some(Timestamp { from: TimestampPlace::Header(name), .. }) if !stamped => Err(format!(
            "signed does not cover {{timestamp}}: anybody could change {} and replay the request",
            name.0
        )),
        _ => Ok(schemes),
    }
}
