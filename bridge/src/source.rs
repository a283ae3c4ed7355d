//! A source as it works: its provider's data with its own options and keys, checked.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderName;

use crate::config::{Config, SourceConfig};
use crate::place::Places;
use crate::provider::{self, Handshake, Provider, Scheme, Timestamp, TimestampPlace, TokenPlace, Unit};
use crate::signature::Verifier;

/// Longest name of a source: it is a word of routing keys, which have 255 bytes in all.
const MAX_NAME_BYTES: usize = 64;

/// Tolerance of a timestamp header that a source configures without one, in seconds.
const DEFAULT_TOLERANCE_SECONDS: u32 = 300;

/// Headers that would carry a secret, or forge what only the bridge may say, and so never go onto pulse.
const FORBIDDEN_HEADERS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "set-cookie"];

/// Every source by name.
pub type Sources = HashMap<String, Arc<Source>>;

/// A webhook source.
#[derive(Debug)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its provider's name.
    pub provider: String,
    /// Proves its senders.
    pub verifier: Verifier,
    /// Where the event's name stands.
    pub event: Places,
    /// Where the delivery id stands.
    pub delivery: Places,
    /// True if the delivery id is covered by the signature.
    pub delivery_signed: bool,
    /// Words of the routing key after source and event.
    pub words: Vec<Places>,
    /// Requests that are answered and not published.
    pub handshakes: Vec<Handshake>,
    /// Headers that go into the message.
    pub headers: Vec<HeaderName>,
    /// HTTP status of a wrong signature.
    pub wrong_signature_status: u16,
}

/// Builds every source.
///
/// # Errors
/// Everything that is wrong, each with the source's name and what to do; never a secret.
pub fn build(config: &Config) -> Result<Sources, Vec<String>> {
    let providers = provider::load(config.providers.as_deref()).map_err(|error| vec![error])?;
    let mut errors = Vec::new();
    let mut sources = Sources::new();
    for source in &config.source {
        let place = format!("bridge.source {:?}", source.name);
        if let Err(error) = check_name(&source.name) {
            errors.push(format!("{place}: {error}"));
        }
        let Some(provider) = providers.get(&source.provider) else {
            let known: Vec<&str> = providers.keys().map(String::as_str).collect();
            errors.push(format!(
                "{place}: there is no provider {:?}; there are {}",
                source.provider,
                known.join(", ")
            ));
            continue;
        };
        match Source::new(source, provider) {
            Ok(built) => {
                if sources.insert(source.name.clone(), Arc::new(built)).is_some() {
                    errors.push(format!("{place}: the name is used twice; names of sources are unique"));
                }
            }
            Err(own) => errors.extend(own.into_iter().map(|error| format!("{place}: {error}"))),
        }
    }
    if errors.is_empty() { Ok(sources) } else { Err(errors) }
}

/// The values of a source's secrets.
///
/// # Errors
/// One text for each that cannot be read.
pub fn secrets(config: &SourceConfig) -> Result<Vec<String>, Vec<String>> {
    let mut values = Vec::new();
    let mut errors = Vec::new();
    for (index, secret) in config.secrets.iter().enumerate() {
        match secret.resolve() {
            Ok(value) if value.is_empty() => errors.push(format!("secrets[{index}] is empty")),
            Ok(value) => values.push(value),
            Err(error) => errors.push(format!("secrets[{index}]: {error}")),
        }
    }
    if config.secrets.is_empty() {
        errors.push("secrets is empty: whoever knows the address could send events".to_owned());
    }
    if errors.is_empty() { Ok(values) } else { Err(errors) }
}

impl Source {
    fn new(config: &SourceConfig, provider: &Provider) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let schemes = match schemes(config, provider) {
            Ok(schemes) => schemes,
            Err(error) => {
                errors.push(error);
                provider.verify.clone()
            }
        };
        let verifier = secrets(config).and_then(|values| Verifier::new(&schemes, &values));
        let headers = headers(config, provider, &schemes, &mut errors);
        match verifier {
            Ok(verifier) if errors.is_empty() => Ok(Self {
                name: config.name.clone(),
                provider: config.provider.clone(),
                verifier,
                event: config.event.clone().unwrap_or_else(|| provider.event.clone()),
                delivery_signed: config.delivery.is_none() && provider.delivery_signed,
                delivery: config.delivery.clone().unwrap_or_else(|| provider.delivery.clone()),
                words: config
                    .words
                    .clone()
                    .unwrap_or_else(|| provider.words.iter().map(|word| word.from.clone()).collect()),
                handshakes: provider.handshake.clone(),
                headers,
                wrong_signature_status: provider.wrong_signature_status,
            }),
            Ok(_) => Err(errors),
            Err(own) => Err(errors.into_iter().chain(own).collect()),
        }
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(fits) {
        return Err(format!("a source's name has 1 to {MAX_NAME_BYTES} letters, digits, - and _"));
    }
    Ok(())
}

/// The provider's ways of verification with the source's own options.
fn schemes(config: &SourceConfig, provider: &Provider) -> Result<Vec<Scheme>, String> {
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

fn headers(
    config: &SourceConfig,
    provider: &Provider,
    schemes: &[Scheme],
    errors: &mut Vec<String>,
) -> Vec<HeaderName> {
    let mut headers: Vec<HeaderName> = provider.headers.iter().map(|name| name.0.clone()).collect();
    for name in &config.headers {
        match name.parse::<HeaderName>() {
            Ok(name) => headers.push(name),
            Err(_) => errors.push(format!("headers: {name:?} is no header name")),
        }
    }
    let secret: Vec<HeaderName> = schemes.iter().flat_map(Scheme::secret_headers).collect();
    for name in &headers {
        if FORBIDDEN_HEADERS.contains(&name.as_str()) || secret.contains(name) {
            errors.push(format!("headers: {name} carries a secret, and everybody may read what is on pulse"));
        } else if name.as_str().starts_with("x-pulsehook-") {
            errors.push(format!("headers: {name} is a name that only the bridge may give"));
        }
    }
    headers.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    headers.dedup();
    headers
}
