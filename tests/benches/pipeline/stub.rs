//! A queue service that takes everything and remembers when: the limit is the pipeline, not the stub.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

#[derive(Default)]
struct Seen {
    count: AtomicUsize,
    times: Mutex<Times>,
    body: Mutex<Bytes>,
}

#[derive(Default)]
struct Times {
    first: Option<Instant>,
    latencies: Vec<f64>,
}

/// See the module.
pub struct Stub {
    port: u16,
    seen: Arc<Seen>,
}

impl Stub {
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let seen = Arc::new(Seen::default());
        let shared = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Small answers should leave at once.
                let _ = stream.set_nodelay(true);
                let seen = shared.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(seen.clone(), request));
                    // The router closes its connections as it likes.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self { port, seen })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Forgets what was seen.
    pub fn reset(&self) {
        self.seen.count.store(0, Ordering::SeqCst);
        if let Ok(mut times) = self.seen.times.lock() {
            *times = Times::default();
        }
    }

    /// Tasks since the last reset.
    pub fn count(&self) -> usize {
        self.seen.count.load(Ordering::SeqCst)
    }

    /// The body of some task.
    pub fn a_task(&self) -> Bytes {
        self.seen.body.lock().map(|body| body.clone()).unwrap_or_default()
    }

    /// Waits until so many tasks have come.
    pub async fn wait_for(&self, count: usize, patience: Duration) {
        harness::eventually(patience, async || (self.count() >= count).then_some(())).await;
    }

    /// Waits until so many tasks have come; answers tasks per second between the first and the last.
    pub async fn rate(&self, count: usize, patience: Duration) -> f64 {
        self.wait_for(count, patience).await;
        let first = self.seen.times.lock().ok().and_then(|times| times.first);
        count as f64 / first.map_or(f64::NAN, |first| first.elapsed().as_secs_f64())
    }

    /// Milliseconds from publishing to arrival, sorted.
    pub fn latencies(&self) -> Vec<f64> {
        let mut latencies = self.seen.times.lock().map(|times| times.latencies.clone()).unwrap_or_default();
        latencies.sort_by(f64::total_cmp);
        latencies
    }
}

async fn answer(seen: Arc<Seen>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let put = request.method() == hyper::Method::PUT;
    // The router takes an answer for the service's only if it names the task.
    let task_id = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if put {
        note(&seen, &body);
    }
    let mut response =
        Response::new(Full::new(Bytes::from(format!("{{\"status\":{{\"taskId\":\"{task_id}\"}}}}"))));
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}

fn note(seen: &Seen, body: &Bytes) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as f64;
    if let Ok(mut times) = seen.times.lock() {
        times.first.get_or_insert_with(Instant::now);
        if let Some(sent) = sent(body) {
            times.latencies.push((now - sent) / 1000.0);
        }
    }
    if seen.count.fetch_add(1, Ordering::SeqCst) == 0
        && let Ok(mut kept) = seen.body.lock()
    {
        *kept = body.clone();
    }
}

/// The number after `"sent":`.
fn sent(body: &[u8]) -> Option<f64> {
    const MARK: &[u8] = b"\"sent\":";
    let at = body.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let digits: Vec<u8> = body[at..].iter().copied().take_while(u8::is_ascii_digit).collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}
