//! A source as it works: its provider's data with its own options and keys, checked.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderName;
use pulse::Message;
use serde_json::Value;

use crate::config::{Config, SourceConfig};
use crate::limits::SourceLimits;
use crate::place::{Place, Places};

use crate::provider::{self, Handshake, Provider, Scheme, TokenPlace};
use crate::signature::Verifier;
use crate::status::About;

mod coalesce;
mod counters;
mod schemes;

pub use coalesce::Coalesce;
use coalesce::coalesce;
use counters::Counters;
pub use schemes::schemes;

/// Longest name of a source: it is a word of routing keys, which have 255 bytes in all.
const MAX_NAME_BYTES: usize = 64;

/// Headers that would carry a secret, or forge what only the bridge may say, and so never go onto pulse.
const FORBIDDEN_HEADERS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "set-cookie"];

/// Every source by name.
pub type Sources = HashMap<String, Arc<Source>>;

/// Decides about a message and its parsed body: true to publish it; an error tells what could not be judged.
pub type Filter = Arc<dyn Fn(&Message, &Value) -> Result<bool, String> + Send + Sync>;

/// Makes a filter of an expression; an error tells what is wrong with it.
pub type CompileFilter = Arc<dyn Fn(&str) -> Result<Filter, String> + Send + Sync>;

/// A webhook source.
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
    /// What the source's own filter says.
    pub filter: Option<Filter>,
    /// Coalescing.
    pub coalesce: Option<Coalesce>,
    /// Refuse a body that came before under another, unsigned delivery id.
    pub refuse_repeats: bool,
    /// How long equal bodies without delivery ids count as one event.
    pub merge_window: Duration,
    /// Its share in a storm.
    pub limits: SourceLimits,
    /// What it is, in words.
    pub about: About,
    /// What is counted of it.
    pub counters: Counters,
    large_message_told: AtomicBool,
}

/// Builds every source.
///
/// # Errors
/// Everything that is wrong, each with the source's name and what to do; never a secret.
pub fn build(config: &Config, compile: Option<&CompileFilter>) -> Result<Sources, Vec<String>> {
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
        let values = secrets(source);
        match Source::new(source, provider, config, compile, values) {
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

/// One source, without its secrets: it can tell what an event would become and believes nobody.
///
/// # Errors
/// Everything that is wrong with it.
pub fn unproven(config: &Config, name: &str, compile: Option<&CompileFilter>) -> Result<Source, Vec<String>> {
    let (source, provider) = find(config, name).map_err(|error| vec![error])?;
    Source::new(source, &provider, config, compile, Ok(Vec::new()))
}

/// The configuration of one source, and its provider.
///
/// # Errors
/// That there is no such source or provider.
pub fn find<'a>(config: &'a Config, name: &str) -> Result<(&'a SourceConfig, Provider), String> {
    let Some(source) = config.source.iter().find(|source| source.name == name) else {
        let names: Vec<&str> = config.source.iter().map(|source| source.name.as_str()).collect();
        return Err(format!("there is no source {name:?}; there are: {}", names.join(", ")));
    };
    let mut providers = provider::load(config.providers.as_deref())?;
    match providers.remove(&source.provider) {
        Some(provider) => Ok((source, provider)),
        None => Err(format!("source {name:?}: there is no provider {:?}", source.provider)),
    }
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
    /// True the first time that it is asked.
    pub fn first_large_message(&self) -> bool {
        !self.large_message_told.swap(true, Ordering::Relaxed)
    }

    fn new(
        config: &SourceConfig,
        provider: &Provider,
        bridge: &Config,
        compile: Option<&CompileFilter>,
        secrets: Result<Vec<String>, Vec<String>>,
    ) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let filter = filter(config, compile).unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        let coalesce = coalesce(config, bridge).unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        let schemes = match schemes(config, provider) {
            Ok(schemes) => schemes,
            Err(error) => {
                errors.push(error);
                provider.verify.clone()
            }
        };
        let about = About::of(provider, &schemes, config.secrets.len());
        let verifier = secrets.and_then(|values| Verifier::new(&schemes, &values));
        let headers = headers(config, provider, &schemes, &mut errors);
        let event = config.event.clone().unwrap_or_else(|| provider.event.clone());
        let delivery = config.delivery.clone().unwrap_or_else(|| provider.delivery.clone());
        let words = config
            .words
            .clone()
            .unwrap_or_else(|| provider.words.iter().map(|word| word.from.clone()).collect());
        let shown = [&event, &delivery].into_iter().chain(&words).flat_map(|places| &places.0);
        if let Some(place) = shown.into_iter().find(|place| is_secret(place, &schemes)) {
            errors.push(format!("{place} carries a secret, and everybody may read what is on pulse"));
        }
        match verifier {
            Ok(verifier) if errors.is_empty() => Ok(Self {
                name: config.name.clone(),
                provider: config.provider.clone(),
                verifier,
                event,
                delivery_signed: config.delivery.is_none() && provider.delivery_signed,
                delivery,
                words,
                handshakes: provider.handshake.clone(),
                headers,
                wrong_signature_status: provider.wrong_signature_status,
                filter,
                coalesce,
                refuse_repeats: config.refuse_repeats,
                // Coalescing counts repeats itself, so it must see them.
                merge_window: Duration::from_secs(match (config.merge_seconds, &config.coalesce) {
                    (Some(seconds), _) => seconds,
                    (None, Some(_)) => 0,
                    (None, None) => bridge.merge_seconds,
                }),
                limits: SourceLimits::new(
                    config.per_second.unwrap_or(bridge.limits.source_per_second),
                    config.burst.unwrap_or(bridge.limits.source_burst),
                    config.concurrency.unwrap_or(bridge.limits.source_concurrency),
                ),
                about,
                counters: Counters::new(&config.name),
                large_message_told: AtomicBool::new(false),
            }),
            Ok(_) => Err(errors),
            Err(own) => Err(errors.into_iter().chain(own).collect()),
        }
    }
}

fn filter(config: &SourceConfig, compile: Option<&CompileFilter>) -> Result<Option<Filter>, String> {
    match (&config.filter, compile) {
        (None, _) => Ok(None),
        (Some(expression), Some(compile)) => {
            compile(expression).map(Some).map_err(|error| format!("filter: {error}"))
        }
        (Some(_), None) => Err("filter: filters are not available here".to_owned()),
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(fits) {
        return Err(format!("a source's name has 1 to {MAX_NAME_BYTES} letters, digits, - and _"));
    }
    Ok(())
}

/// True if what stands at this place proves the sender.
fn is_secret(place: &Place, schemes: &[Scheme]) -> bool {
    match place {
        Place::Header(name) => {
            FORBIDDEN_HEADERS.contains(&name.as_str())
                || schemes.iter().any(|scheme| scheme.secret_headers().contains(name))
        }
        Place::Query(name) => schemes.iter().any(|scheme| {
            matches!(scheme, Scheme::Token(token) if token.place == TokenPlace::Query && token.name == *name)
        }),
        Place::Body(_) | Place::Const(_) => false,
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
    for name in &headers {
        if is_secret(&Place::Header(name.clone()), schemes) {
            errors.push(format!("headers: {name} carries a secret, and everybody may read what is on pulse"));
        } else if name.as_str().starts_with("x-pulsehook-") {
            errors.push(format!("headers: {name} is a name that only the bridge may give"));
        }
    }
    headers.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    headers.dedup();
    headers
}
