//! Traces for an OpenTelemetry collector: OTLP over HTTP, in batches, beside the work. A collector that is away costs the
//! spans and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _,
};
use pulse::Secret;
use pulse::trace::{self, Span, Tracing};
use tokio::runtime::Handle;

use super::Config;
use crate::auth::service::{Limits, Service};

/// Spans that wait to be sent; more are dropped.
const QUEUE: usize = 8_192;

/// Spans of one request.
const BATCH: usize = 512;

/// A batch that is not full goes out after so long.
const DELAY: Duration = Duration::from_secs(2);

/// One request takes no longer.
const CALL: Duration = Duration::from_secs(10);

/// For the last spans at the end.
const FLUSH: Duration = Duration::from_secs(3);

/// Collectors answer with a few bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The address.
    #[error("telemetry.otlp_endpoint = {0:?}: it must be a URL such as http://127.0.0.1:4318/v1/traces")]
    Endpoint(String),
    /// The client.
    #[error("telemetry.otlp_endpoint: {0}")]
    Client(String),
    /// A header.
    #[error("telemetry.otlp_headers.{name}: {source}")]
    Header {
        /// Its name.
        name: String,
        /// Why its value cannot be read.
        source: pulse::secret::SecretError,
    },
    /// The share.
    #[error("telemetry.otlp_ratio = {0}: it must be from 0 to 1")]
    Ratio(f64),
}

/// What sends spans; none if there is no collector.
pub struct Traces {
    tracing: Tracing,
    processor: Option<Arc<BatchSpanProcessor>>,
}

impl Traces {
    /// Begins to send spans of this role, if a collector is configured. Must be called within a tokio runtime.
    pub fn start(config: &Config, role: &'static str) -> Result<Self, OtlpError> {
        let ratio = config.otlp_ratio;
        if !(0.0..=1.0).contains(&ratio) {
            return Err(OtlpError::Ratio(ratio));
        }
        if config.otlp_endpoint.is_empty() {
            return Ok(Self { tracing: Tracing { ratio, spans: None }, processor: None });
        }
        let failed = |error: &dyn std::fmt::Display| OtlpError::Client(error.to_string());
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new(&config.otlp_endpoint)?)
            .with_endpoint(config.otlp_endpoint.as_str())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(CALL)
            .with_headers(headers(&config.otlp_headers)?)
            .build()
            .map_err(|error| failed(&error))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let resource = Resource::builder_empty()
            .with_service_name(format!("pulsehook-{role}"))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        processor.set_resource(&resource);
        let processor = Arc::new(processor);
        let (sink, scope) = (processor.clone(), InstrumentationScope::builder("pulsehook").build());
        let spans: trace::Spans = Arc::new(move |span| sink.on_end(data(span, &scope)));
        Ok(Self { tracing: Tracing { ratio, spans: Some(spans) }, processor: Some(processor) })
    }

    /// For those who trace.
    pub fn tracing(&self) -> Tracing {
        self.tracing.clone()
    }

    /// Sends what waits, within a bound.
    pub async fn stop(self) {
        if let Some(processor) = self.processor {
            // It blocks; what cannot be sent in time is lost.
            let _ = tokio::task::spawn_blocking(move || processor.shutdown_with_timeout(FLUSH)).await;
        }
    }
}

fn headers(configured: &BTreeMap<String, Secret>) -> Result<HashMap<String, String>, OtlpError> {
    let resolve = |(name, secret): (&String, &Secret)| {
        let value = secret.resolve().map_err(|source| OtlpError::Header { name: name.clone(), source })?;
        Ok((name.clone(), value))
    };
    configured.iter().map(resolve).collect()
}

fn data(span: Span, scope: &InstrumentationScope) -> SpanData {
    let context = span.context;
    SpanData {
        span_context: SpanContext::new(
            TraceId::from_bytes(context.trace_id),
            SpanId::from_bytes(context.span_id),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        ),
        parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: matches!(span.kind, trace::SpanKind::Producer | trace::SpanKind::Consumer),
        span_kind: match span.kind {
            trace::SpanKind::Producer => SpanKind::Producer,
            trace::SpanKind::Consumer => SpanKind::Consumer,
            trace::SpanKind::Internal => SpanKind::Internal,
            trace::SpanKind::Client => SpanKind::Client,
        },
        name: span.name.into(),
        start_time: span.start,
        end_time: span.end,
        attributes: span.attributes.into_iter().map(|(name, value)| KeyValue::new(name, value)).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: span.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: scope.clone(),
    }
}

/// The HTTP client of all other calls. The exporter has a thread of its own, which is none of the runtime's: so the calls
/// themselves are handed to the runtime.
struct Collector {
    service: Arc<Service>,
    runtime: Handle,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Collector")
    }
}

impl Collector {
    fn new(endpoint: &str) -> Result<Self, OtlpError> {
        let url = url::Url::parse(endpoint).map_err(|_| OtlpError::Endpoint(endpoint.to_owned()))?;
        let root = url.origin().ascii_serialization();
        let limits = Limits { call: CALL, connect: CALL, idle: Duration::from_secs(60), concurrency: 1 };
        let service = Service::new(&root, limits).map_err(|_| OtlpError::Endpoint(endpoint.to_owned()))?;
        Ok(Self { service: Arc::new(service), runtime: Handle::current() })
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let service = self.service.clone();
        let (parts, body) = request.into_parts();
        let called = self.runtime.spawn(async move {
            let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
            service.call(parts.method, target, parts.headers, body, MAX_ANSWER).await
        });
        let answer = called.await??;
        let mut response = Response::new(answer.body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}
