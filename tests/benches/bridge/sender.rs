//! Sends signed GitHub pushes over one keep-alive connection and measures each answer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::json;
use sha2::Sha256;

pub const SECRET: &str = "the benchmark's secret";

/// What a sender got.
#[derive(Default)]
pub struct Sent {
    /// Milliseconds to each 2xx.
    pub accepted: Vec<f64>,
    /// Number of 429.
    pub refused: usize,
}

impl Sent {
    pub fn add(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.refused += other.refused;
    }

    pub fn sorted(mut self) -> Self {
        self.accepted.sort_by(f64::total_cmp);
        self
    }
}

pub struct Sender {
    connection: SendRequest<Full<Bytes>>,
    path: String,
    /// Deliveries of one run never meet those of another.
    run: String,
    number: u64,
    sent: Sent,
}

impl Sender {
    pub async fn connect(address: SocketAddr, source: &str, connection: usize) -> anyhow::Result<Self> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        let run = format!("{}-{connection}", uuid::Uuid::new_v4());
        Ok(Self {
            connection: sender,
            path: format!("/webhooks/{source}"),
            run,
            number: 0,
            sent: Sent::default(),
        })
    }

    /// One after another without a pause.
    pub async fn flat_out(mut self, phase: Duration) -> anyhow::Result<Sent> {
        let end = Instant::now() + phase;
        while Instant::now() < end {
            self.send(Instant::now()).await?;
        }
        Ok(self.sent)
    }

    /// At a steady rate; a late answer delays the next request but not the moment from which it is measured. That the timer rings late, by
    /// up to two milliseconds, is not the bridge's delay.
    pub async fn paced(mut self, rate: f64, phase: Duration) -> anyhow::Result<Sent> {
        let start = Instant::now();
        let count = (phase.as_secs_f64() * rate) as u32;
        for number in 0..count {
            let mut due = start + Duration::from_secs_f64(f64::from(number) / rate);
            if Instant::now() < due {
                tokio::time::sleep_until(due.into()).await;
                due = Instant::now();
            }
            self.send(due).await?;
        }
        Ok(self.sent)
    }

    async fn send(&mut self, since: Instant) -> anyhow::Result<()> {
        self.number += 1;
        let delivery = format!("{}-{}", self.run, self.number);
        let body = json!({
            "ref": "refs/heads/main", "after": delivery, "pusher": { "name": "somebody", "email": "somebody@example.com" },
            "repository": { "id": 5_000_000_000_u64, "name": "gecko-dev", "owner": { "login": "mozilla" } },
            "commits": [{ "id": delivery, "message": "Mend what was broken", "modified": ["src/lib.rs", "README.md"] }],
        })
        .to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())?;
        mac.update(body.as_bytes());
        let request = hyper::Request::post(&self.path)
            .header("host", "bench")
            .header("content-type", "application/json")
            .header("x-github-event", "push")
            .header("x-github-delivery", delivery)
            .header("x-hub-signature-256", format!("sha256={}", hex::encode(mac.finalize().into_bytes())))
            .body(Full::new(Bytes::from(body)))?;
        self.connection.ready().await?;
        let answer = self.connection.send_request(request).await?;
        let status = answer.status();
        answer.into_body().collect().await?;
        match status.as_u16() {
            200..300 => self.sent.accepted.push(since.elapsed().as_secs_f64() * 1e3),
            429 => self.sent.refused += 1,
            other => anyhow::bail!("the bridge answered {other}"),
        }
        Ok(())
    }
}
