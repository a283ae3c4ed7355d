//! `/metrics` in the Prometheus text format, for machines of configured networks.
//!
//! It stands beside a role's other routes, and the bridge's are open to the internet: so it answers only peers of
//! `telemetry.metrics_from`, and nobody who comes through a proxy, whose address would be the proxy's.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use ipnet::IpNet;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::Config;
use super::names::{Kind, METRICS, PIECES, SECONDS};

/// Measurements of histograms are gathered into their buckets this often, so that they do not pile up unread.
const UPKEEP: Duration = Duration::from_secs(1);

/// Headers that only proxies set.
const PROXIED: [&str; 2] = ["forwarded", "x-forwarded-for"];

type Before = Box<dyn Fn() + Send + Sync>;
type Also = Box<dyn Fn(&mut String) + Send + Sync>;

/// The metrics of this process. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    handle: PrometheusHandle,
    allowed: Vec<IpNet>,
    before: Mutex<Vec<Before>>,
    also: Mutex<Vec<Also>>,
}

impl Metrics {
    /// Collects this process's metrics from now on. Only one can do so; what was counted before is lost.
    pub fn install(config: &Config, role: &'static str) -> anyhow::Result<Self> {
        let mut builder = PrometheusBuilder::new();
        for metric in METRICS {
            let buckets: &[f64] = match metric.kind {
                Kind::Seconds => &SECONDS,
                Kind::Pieces => &PIECES,
                Kind::Counter | Kind::Gauge => continue,
            };
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)?;
        }
        let handle = builder.install_recorder()?;
        for metric in METRICS {
            match metric.kind {
                Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
                Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
                Kind::Seconds | Kind::Pieces => metrics::describe_histogram!(metric.name, metric.help),
            }
        }
        metrics::gauge!("pulsehook_build_info", "version" => env!("CARGO_PKG_VERSION"), "role" => role)
            .set(1.0);
        let inner = Inner {
            handle,
            allowed: config.metrics_from.clone(),
            before: Mutex::default(),
            also: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Has `sample` called before each reading, to set gauges. It must be quick.
    pub fn before_each(&self, sample: impl Fn() + Send + Sync + 'static) {
        lock(&self.inner.before).push(Box::new(sample));
    }

    /// Has `write` add lines to each reading: for series that come and go.
    pub fn also(&self, write: impl Fn(&mut String) + Send + Sync + 'static) {
        lock(&self.inner.also).push(Box::new(write));
    }

    /// Keeps what was measured in order, until dropped.
    pub async fn keep(&self) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.inner.handle.run_upkeep();
        }
    }

    /// `/metrics`.
    pub fn routes(&self) -> Router {
        Router::new().route("/metrics", get(read)).with_state(self.clone())
    }

    fn text(&self) -> String {
        lock(&self.inner.before).iter().for_each(|sample| sample());
        let mut text = self.inner.handle.render();
        lock(&self.inner.also).iter().for_each(|write| write(&mut text));
        text
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read(State(metrics): State<Metrics>, request: Request) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip().to_canonical());
    let proxied = PROXIED.iter().any(|name| request.headers().contains_key(*name));
    if proxied || !peer.is_some_and(|peer| is_allowed(&metrics.inner.allowed, peer)) {
        let why = "metrics are for machines of telemetry.metrics_from, without a proxy between\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.text()).into_response()
}

fn is_allowed(networks: &[IpNet], peer: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&peer))
}

/// One line of a series with one label.
pub fn line(text: &mut String, name: &str, label: &str, value: &str, number: f64) {
    use std::fmt::Write as _;
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    // Writing into a string cannot fail.
    let _ = writeln!(text, "{name}{{{label}=\"{value}\"}} {number}");
}

/// The lines that begin a series.
pub fn head(text: &mut String, name: &str) {
    use std::fmt::Write as _;
    if let Some(metric) = super::names::find(name) {
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} gauge", metric.help);
    }
}

/// What every role that talks to a broker says of it.
pub struct BrokerGauges {
    up: metrics::Gauge,
    unconfirmed: metrics::Gauge,
}

impl Default for BrokerGauges {
    fn default() -> Self {
        Self {
            up: metrics::gauge!("pulsehook_pulse_up"),
            unconfirmed: metrics::gauge!("pulsehook_pulse_unconfirmed"),
        }
    }
}

impl BrokerGauges {
    /// Sets the gauges.
    pub fn sample(&self, transport: &dyn pulse::Transport) {
        let up = *transport.status().borrow() == pulse::Status::Up;
        self.up.set(if up { 1.0 } else { 0.0 });
        self.unconfirmed.set(transport.unconfirmed() as f64);
    }
}
