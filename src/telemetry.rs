//! What operators see: metrics for Prometheus, traces for OpenTelemetry.
//!
//! Every metric stands in one table, [`names::METRICS`], with its help text and buckets; dashboards and alert rules are tested
//! against it. The hot paths hold handles that were made once, so that counting costs an atomic addition. What can only be
//! asked (how much waits in a queue, say) is asked beside the work, or at the moment when somebody reads.

pub mod metrics;
pub mod names;
pub mod otlp;

use std::collections::BTreeMap;

use ipnet::IpNet;
use pulse::Secret;
use serde::Deserialize;

pub use metrics::Metrics;
pub use otlp::Traces;

/// `[telemetry]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Networks whose machines may read `/metrics`.
    pub metrics_from: Vec<IpNet>,
    /// Hooks with the fullest queues that have metrics of their own.
    pub metrics_hooks: usize,
    /// Where traces go: the URL of an OpenTelemetry collector's OTLP receiver; empty: nowhere.
    pub otlp_endpoint: String,
    /// Headers of those requests.
    pub otlp_headers: BTreeMap<String, Secret>,
    /// The share of traces begun here that are recorded, from 0 to 1.
    pub otlp_ratio: f64,
}

/// More series of hooks than this are more than a Prometheus is thankful for.
const MOST_HOOKS: usize = 1_000;

impl Config {
    /// Checks what only this module understands.
    pub fn check(&self) -> Result<(), String> {
        if self.metrics_hooks > MOST_HOOKS {
            return Err(format!(
                "telemetry.metrics_hooks = {}: at most {MOST_HOOKS} hooks have metrics of their own",
                self.metrics_hooks
            ));
        }
        Ok(())
    }
}
