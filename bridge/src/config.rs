//! The `[bridge]` section: where the bridge listens, its bounds, and its webhook sources.
//!
//! Secrets are references (`env:NAME`, `file:PATH`) and are read when the bridge is built or reloaded; see
//! [`crate::source`] for the checks, which report everything that is wrong at once.

use std::net::SocketAddr;
use std::path::PathBuf;

use pulse::Secret;
use serde::Deserialize;

use crate::place::Places;
use crate::provider::{Algorithm, Encoding, SignedText, TokenPlace};

/// The `[bridge]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of the webhook listener.
    pub listen: SocketAddr,
    /// A file of the form of `config/providers.toml` whose entries replace and extend the presets.
    pub providers: Option<PathBuf>,
    /// Largest request body, and largest body after expansion, in bytes; larger ones are answered 413.
    pub max_body_bytes: usize,
    /// How long the broker may take to confirm, in milliseconds, before the sender hears of it.
    pub publish_timeout_ms: u64,
    /// How long a sender may take for its body, in seconds.
    pub read_timeout_seconds: u64,
    /// Webhook sources.
    pub source: Vec<SourceConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            providers: None,
            max_body_bytes: 4 << 20,
            publish_timeout_ms: 2_000,
            read_timeout_seconds: 10,
            source: Vec::new(),
        }
    }
}

/// One `[[bridge.source]]`: requests to `/webhooks/<name>`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Its name: the end of its address, and the first word of its routing keys.
    pub name: String,
    /// Its provider: an entry of `config/providers.toml`.
    pub provider: String,
    /// Live secrets, at least one. Several while a secret is being changed.
    pub secrets: Vec<Secret>,
    /// Instead of the provider's signature or token header.
    #[serde(default)]
    pub header: Option<String>,
    /// Instead of the provider's signature algorithm.
    #[serde(default)]
    pub algorithm: Option<Algorithm>,
    /// Instead of the provider's signature encoding.
    #[serde(default)]
    pub encoding: Option<Encoding>,
    /// Instead of the provider's signature prefix. With `header` and without this there is none.
    #[serde(default)]
    pub prefix: Option<String>,
    /// What stands between several signatures in one header.
    #[serde(default)]
    pub separator: Option<char>,
    /// Instead of the provider's signed text, e.g. `{timestamp}.{body}`.
    #[serde(default)]
    pub signed: Option<SignedText>,
    /// Header with the signed timestamp, in seconds.
    #[serde(default)]
    pub timestamp_header: Option<String>,
    /// How far a signed timestamp may be from now, in seconds.
    #[serde(default)]
    pub tolerance_seconds: Option<u32>,
    /// Where a `token` source's secret stands; unset: wherever the provider allows.
    #[serde(default)]
    pub token: Option<TokenPlace>,
    /// Query parameter of a token, for `token = "query"`.
    #[serde(default)]
    pub parameter: Option<String>,
    /// Instead of the provider's places of the event's name.
    #[serde(default)]
    pub event: Option<Places>,
    /// Instead of the provider's places of the delivery id.
    #[serde(default)]
    pub delivery: Option<Places>,
    /// Instead of the provider's routing-key words after source and event: the places of each.
    #[serde(default)]
    pub words: Option<Vec<Places>>,
    /// Request headers that are copied into the message, beside the provider's.
    #[serde(default)]
    pub headers: Vec<String>,
}
