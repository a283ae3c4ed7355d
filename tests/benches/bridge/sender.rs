//! Sends signed GitHub pushes over one keep-alive connection and measures each answer. It shares the processor with the bridge, so it
//! does what a request needs and no more.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub const SECRET: &str = "the benchmark's secret";

/// A push, shortened.
const BODY: &str = r#"{"ref":"refs/heads/main","after":"DELIVERY","pusher":{"name":"somebody","email":"somebody@example.com"},"repository":{"id":5000000000,"name":"gecko-dev","owner":{"login":"mozilla"}},"commits":[{"id":"DELIVERY","message":"Mend what was broken","modified":["src/lib.rs","README.md"]}]}"#;

/// What a sender got.
#[derive(Default)]
pub struct Sent {
    /// Milliseconds to each 2xx.
    pub accepted: Vec<f64>,
    /// Those of them that went into the spool.
    pub spooled: usize,
    /// Number of 429.
    pub refused: usize,
}

impl Sent {
    pub fn add(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.spooled += other.spooled;
        self.refused += other.refused;
    }

    pub fn sorted(mut self) -> Self {
        self.accepted.sort_by(f64::total_cmp);
        self
    }
}

pub struct Sender {
    stream: TcpStream,
    source: String,
    /// Deliveries of one run never meet those of another.
    run: String,
    number: u64,
    mac: Hmac<Sha256>,
    received: Vec<u8>,
    sent: Sent,
}

impl Sender {
    pub async fn connect(address: SocketAddr, source: &str, connection: usize) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            source: source.to_owned(),
            run: format!("{}-{connection}", uuid::Uuid::new_v4()),
            number: 0,
            mac: Hmac::new_from_slice(SECRET.as_bytes())?,
            received: Vec::new(),
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
        let body = BODY.replace("DELIVERY", &delivery);
        let mut mac = self.mac.clone();
        mac.update(body.as_bytes());
        let request = format!(
            "POST /webhooks/{} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             x-github-event: push\r\nx-github-delivery: {delivery}\r\nx-hub-signature-256: sha256={}\r\n\r\n{body}",
            self.source,
            body.len(),
            hex::encode(mac.finalize().into_bytes())
        );
        self.stream.write_all(request.as_bytes()).await?;
        let status = self.answer().await?;
        match status {
            200..300 => {
                self.sent.accepted.push(since.elapsed().as_secs_f64() * 1e3);
                self.sent.spooled += usize::from(status == 202);
            }
            429 => self.sent.refused += 1,
            other => anyhow::bail!("the bridge answered {other}"),
        }
        Ok(())
    }

    /// The status of the next answer, all of which is read.
    async fn answer(&mut self) -> anyhow::Result<u16> {
        self.received.clear();
        loop {
            let read = self.stream.read_buf(&mut self.received).await?;
            anyhow::ensure!(read > 0, "the bridge closed the connection");
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut answer = httparse::Response::new(&mut headers);
            let httparse::Status::Complete(head) = answer.parse(&self.received)? else { continue };
            let status = answer.code.context("no status")?;
            let length =
                answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
            let length: usize =
                length.map_or(Ok("0"), |header| std::str::from_utf8(header.value))?.parse()?;
            if self.received.len() >= head + length {
                return Ok(status);
            }
        }
    }
}
