//! One HTTP client of one Taskcluster deployment: pooled keep-alive connections, bounded in every direction.
//!
//! It knows connections, limits, time-outs and signatures; what an answer means is its callers' business (the
//! client of the Queue in `queue`, that of the auth service here). TLS trusts the system's certificate store,
//! which the environment variables `SSL_CERT_FILE` and `SSL_CERT_DIR` replace.

mod pool;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use pool::{Connection, NotSent, Pool};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use crate::causes::with_causes;

/// The longest wait that a `Retry-After` can ask for: a service that says "next week" is asked again sooner.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);

/// Limits of a [`Service`].
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time for one call, from the moment that it may use a connection to the last byte of the answer.
    pub call: Duration,
    /// Time for connecting, TLS not included (the call's time covers it).
    pub connect: Duration,
    /// After this long without use a connection is closed.
    pub idle: Duration,
    /// Calls at the same time; further ones wait their turn.
    pub concurrency: usize,
}

/// Why the client cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The root URL is not `http://host[:port]` or `https://host[:port]`.
    #[error("the root URL {url:?} is not usable: {reason}")]
    RootUrl {
        /// As configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up for {url}: {reason}")]
    Tls {
        /// As configured.
        url: String,
        /// The library's reason.
        reason: String,
    },
}

/// Why there is no answer. In each case the service may have got the request.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No complete answer within the call's time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The connection could not be made, or broke.
    #[error("{0}")]
    Connection(String),
    /// The answer is longer than the caller takes.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// The client of one deployment.
pub struct Service {
    connector: HttpsConnector<HttpConnector>,
    pool: Arc<Pool>,
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    base: String,
    limits: Limits,
    permits: Semaphore,
}

impl Service {
    /// A client for `root_url`; nothing is connected yet.
    pub fn new(root_url: &str, limits: Limits) -> Result<Self, ServiceError> {
        Self::trusting(root_url, limits, None)
    }

    /// With `roots` in place of the system's certificate store.
    fn trusting(root_url: &str, limits: Limits, roots: Option<RootCertStore>) -> Result<Self, ServiceError> {
        let bad = |reason: &str| ServiceError::RootUrl { url: shown(root_url), reason: reason.to_owned() };
        let uri: Uri = root_url.parse().map_err(|_| bad("it is not a URL"))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::HTTP,
            Some("https") => Scheme::HTTPS,
            _ => return Err(bad("it must begin with http:// or https://")),
        };
        let authority = uri.authority().cloned().ok_or_else(|| bad("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("it must not hold a user name or password"));
        }
        if uri.query().is_some() {
            return Err(bad("it must not have a query"));
        }
        let base = uri.path().trim_end_matches('/').to_owned();

        let tls = |reason: String| ServiceError::Tls { url: root_url.to_owned(), reason };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| tls(error.to_string()))?;
        let config = match roots {
            Some(roots) => builder.with_root_certificates(roots),
            None if scheme == Scheme::HTTPS => {
                builder.with_native_roots().map_err(|error| tls(error.to_string()))?
            }
            // Plain HTTP must work on a machine without any certificates.
            None => builder.with_root_certificates(RootCertStore::empty()),
        }
        .with_no_client_auth();

        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limits.connect));
        connector.set_keepalive(Some(Duration::from_secs(30)));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| bad("its host is not one"))?;
        Ok(Self {
            connector,
            pool: Pool::new(limits.concurrency, limits.idle),
            scheme,
            authority,
            host,
            base,
            limits,
            permits: Semaphore::new(limits.concurrency.max(1)),
        })
    }

    /// Host name of the service, as signatures cover it.
    pub fn host(&self) -> &str {
        self.authority.host()
    }

    /// Port of the service, as signatures cover it.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.scheme == Scheme::HTTPS { 443 } else { 80 })
    }

    /// The request target for a path that begins with `/api/`, with the root URL's own path before it.
    pub fn target(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Sends one request and reads the whole answer, at most `max_answer` bytes. `target` is from [`target`](Self::target).
    pub async fn call(
        &self,
        method: Method,
        target: String,
        headers: HeaderMap,
        body: Bytes,
        max_answer: usize,
    ) -> Result<Answer, CallError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = PathAndQuery::from_maybe_shared(Bytes::from(target))
            .map_err(|error| CallError::Connection(format!("invalid target: {error}")))?
            .into();
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, self.host.clone());
        // The semaphore is never closed; should it be, the call proceeds unbounded rather than not at all.
        let _permit = self.permits.acquire().await.ok();
        tokio::time::timeout(self.limits.call, self.exchange(request, max_answer))
            .await
            .map_err(|_| CallError::TimedOut(self.limits.call))?
    }

    async fn exchange(
        &self,
        mut request: Request<Full<Bytes>>,
        max_answer: usize,
    ) -> Result<Answer, CallError> {
        loop {
            let (mut connection, is_new) = match self.pool.take() {
                Some(connection) => (connection, false),
                // Boxed: connecting is seldom, and larger than all the rest.
                None => (Box::pin(self.connect()).await?, true),
            };
            match connection.call(request, max_answer).await {
                Ok(answer) => {
                    if answer.is_ok() {
                        self.pool.put(connection).await;
                    }
                    return answer;
                }
                Err(_) if is_new => {
                    return Err(CallError::Connection("the service closed the connection at once".into()));
                }
                Err(NotSent(unsent)) => request = unsent,
            }
        }
    }

    async fn connect(&self) -> Result<Connection, CallError> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
        let uri = Uri::from_parts(parts)
            .map_err(|error| CallError::Connection(format!("invalid target: {error}")))?;
        let stream = self.connector.clone().oneshot(uri).await;
        Connection::open(stream.map_err(|error| CallError::Connection(with_causes(&*error)))?).await
    }
}

/// When an answer asks to come back: `Retry-After` in seconds or as a date, at most [`MAX_RETRY_AFTER`].
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = chrono::DateTime::parse_from_rfc2822(text).ok()?;
            (date.to_utc() - chrono::Utc::now()).to_std().unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// A URL without what might be a password.
pub(crate) fn shown(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests;
