//! The `[bridge]` section: where the bridge listens, its bounds, and its webhook sources.
//!
//! Secrets are references (`env:NAME`, `file:PATH`) and are read when the bridge is built or reloaded; see
//! [`crate::source`] for the checks, which report everything that is wrong at once.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use pulse::Secret;
use serde::Deserialize;

use crate::place::Places;
use crate::provider::{Algorithm, Encoding, SignedText, TokenPlace};

/// The `[bridge]` section.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of the webhook listener.
    pub listen: SocketAddr,
    /// Address on which it tells how it is, for the router's pages; `None`: nowhere.
    pub status_listen: Option<SocketAddr>,
    /// A file of the form of `config/providers.toml` whose entries replace and extend the presets.
    pub providers: Option<PathBuf>,
    /// Largest request body, and largest body after expansion, in bytes; larger ones are answered 413.
    pub max_body_bytes: usize,
    /// Largest body of a message on pulse, in bytes; larger ones are answered 413.
    pub max_message_bytes: usize,
    /// How long the broker may take to confirm, in milliseconds, before the event is spooled.
    pub publish_timeout_ms: u64,
    /// How long a sender may take for its body, in seconds.
    pub read_timeout_seconds: u64,
    /// How long a repeat of a delivery is answered with its first answer, in seconds; 0: not at all.
    pub once_seconds: u64,
    /// How long equal bodies of senders without delivery ids count as one event, in seconds; 0: not at all.
    pub merge_seconds: u64,
    /// Networks of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Events that are accepted while the broker is away.
    pub spool: SpoolConfig,
    /// Bounds in a storm.
    pub limits: LimitsConfig,
    /// The clock's ticks.
    pub clock: ClockConfig,
    /// Webhook sources.
    pub source: Vec<SourceConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            status_listen: None,
            providers: None,
            max_body_bytes: 4 << 20,
            max_message_bytes: 4 << 20,
            publish_timeout_ms: 2_000,
            read_timeout_seconds: 10,
            once_seconds: 3_600,
            merge_seconds: 60,
            trusted_proxies: Vec::new(),
            spool: SpoolConfig::default(),
            limits: LimitsConfig::default(),
            clock: ClockConfig::default(),
            source: Vec::new(),
        }
    }
}

/// The `[bridge.spool]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// Its file; empty: no spool, and events are refused while the broker is away.
    pub path: PathBuf,
    /// Most bytes that may wait.
    pub max_bytes: u64,
    /// Once the oldest event has waited so long, in seconds, no more are accepted.
    pub max_age_seconds: u64,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self { path: PathBuf::from("pulsehook-spool.db"), max_bytes: 1 << 30, max_age_seconds: 24 * 3_600 }
    }
}

/// The `[bridge.limits]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Requests per second of one peer address (IPv6: one /64 network); 0: any number.
    pub peer_per_second: u32,
    /// Requests that a peer may send at once before the rate counts.
    pub peer_burst: u32,
    /// Requests of one peer that may be under way at a time.
    pub peer_concurrency: usize,
    /// Verified events per second of one source; 0: any number. A source may have its own.
    pub source_per_second: u32,
    /// Events that a source may send at once before the rate counts.
    pub source_burst: u32,
    /// Verified events of one source that may be under way at a time.
    pub source_concurrency: usize,
    /// Bytes of bodies that may be in memory at a time, all requests together.
    pub body_memory_bytes: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            peer_per_second: 5_000,
            peer_burst: 10_000,
            peer_concurrency: 1_000,
            source_per_second: 5_000,
            source_burst: 10_000,
            source_concurrency: 1_000,
            body_memory_bytes: 256 << 20,
        }
    }
}

/// The `[bridge.clock]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockConfig {
    /// Whether this bridge publishes ticks. Several bridges may: equal ticks are one message.
    pub enabled: bool,
    /// Ticks that are made good after the broker, or this machine, was away: the newest so many.
    pub catch_up_minutes: u32,
}

impl Default for ClockConfig {
    fn default() -> Self {
        Self { enabled: true, catch_up_minutes: 60 }
    }
}

/// Coalescing: of the events with one key within a window, one message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoalesceConfig {
    /// What makes events alike, e.g. `["body:/host", "body:/service"]`.
    pub key: Vec<Places>,
    /// Length of the window, in seconds, from the first event of a key.
    pub window_seconds: u64,
    /// Which event becomes the message.
    pub keep: Keep,
}

/// Which event of a window becomes the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// The first, at once.
    First,
    /// The last, when the window ends.
    Last,
    /// As `last`, with the number of events in the header `x-pulsehook-count`.
    Count,
}

/// One `[[bridge.source]]`: requests to `/webhooks/<name>`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
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
    /// An expression over the message, as hooks have: what it says no to is not published.
    #[serde(default)]
    pub filter: Option<String>,
    /// Makes a storm of like events few messages.
    #[serde(default)]
    pub coalesce: Option<CoalesceConfig>,
    /// Refuses, instead of only flagging, a body that came before under another delivery id that is not signed.
    #[serde(default)]
    pub refuse_repeats: bool,
    /// Instead of the bridge's `merge_seconds`; with `coalesce` it is 0 unless given here.
    #[serde(default)]
    pub merge_seconds: Option<u64>,
    /// Instead of `limits.source_per_second`.
    #[serde(default)]
    pub per_second: Option<u32>,
    /// Instead of `limits.source_burst`.
    #[serde(default)]
    pub burst: Option<u32>,
    /// Instead of `limits.source_concurrency`.
    #[serde(default)]
    pub concurrency: Option<usize>,
}
