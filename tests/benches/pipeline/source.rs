//! Publishes the benchmark's messages, confirmed.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt as _;
use futures_util::stream;
use pulse::{Message, Properties, Transport};

/// The router's own webhook exchange: messages with ids that count alone.
pub const EXCHANGE: &str = "exchange/pulsehook/v1/webhook";

/// Publishes that are under way at a time.
const OUTSTANDING: usize = 1_000;

/// Messages that are handed over together.
const CHUNK: usize = 50;

pub struct Source {
    transport: Arc<dyn Transport>,
    /// The first word of its routing key.
    to: &'static str,
    /// Ids of one run never meet those of another.
    run: u128,
}

impl Source {
    /// Publishes to whatever is bound with [`pattern`](Self::pattern).
    pub fn connect(url: &str, to: &'static str) -> anyhow::Result<Self> {
        let config: pulse::Config = toml::from_str(&format!("url = {url:?}"))?;
        let transport = config.open(std::path::Path::new("."), "bench")?;
        Ok(Self { transport, to, run: SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() })
    }

    pub fn pattern(&self) -> String {
        format!("{}.#", self.to)
    }

    /// A push event of not quite 1 KB.
    pub fn body(&self, number: usize) -> Vec<u8> {
        let sent = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        let (before, after, repository) = (sha(number), sha(number + 1), "mozilla/gecko-dev");
        let mut body = format!(
            r#"{{"ref":"refs/heads/main","before":"{before}","after":"{after}","sent":{sent},"compare":"https://example.com/{repository}/compare/{number}","repository":{{"id":5000000000,"name":"gecko-dev","full_name":"{repository}","owner":{{"login":"mozilla"}}}},"pusher":{{"name":"somebody","email":"somebody@example.com"}},"commits":["#
        );
        for n in 0..3 {
            let (comma, id) = (if n > 0 { "," } else { "" }, sha(number * 3 + n));
            body += &format!(
                r#"{comma}{{"id":"{id}","message":"Mend what was broken","modified":["src/lib.rs","README.md"],"author":{{"name":"Somebody","email":"somebody@example.com"}}}}"#
            );
        }
        body += "]}";
        body.into_bytes()
    }

    fn message(&self, phase: u64, number: usize) -> Message {
        Message {
            exchange: EXCHANGE.into(),
            routing_key: format!("{}.push._.mozilla.gecko-dev", self.to),
            properties: Properties {
                message_id: Some(format!("{}-{phase}-{number}", self.run)),
                timestamp: None,
                content_type: Some("application/json".into()),
                headers: Default::default(),
            },
            body: self.body(number).into(),
        }
    }

    async fn send(&self, phase: u64, number: usize) {
        let message = self.message(phase, number);
        while let Err(error) = self.transport.publish(&message, false).await {
            eprintln!("publishing: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Publishes a chunk together, for what the benchmark itself takes of the machine.
    async fn send_chunk(&self, phase: u64, numbers: Range<usize>) {
        let messages = numbers.clone().map(|number| self.message(phase, number)).collect();
        let answers = self.transport.publish_all(messages, false).await;
        for (number, answer) in numbers.zip(answers) {
            if answer.is_err() {
                self.send(phase, number).await;
            }
        }
    }

    /// Publishes these, as fast as the broker confirms.
    pub async fn publish(&self, numbers: Range<usize>) {
        let (phase, end) = (phase(), numbers.end);
        stream::iter(numbers.step_by(CHUNK))
            .for_each_concurrent(OUTSTANDING / CHUNK, |first| {
                self.send_chunk(phase, first..end.min(first + CHUNK))
            })
            .await;
    }

    /// The same for a time; answers how many.
    pub async fn publish_for(&self, time: Duration) -> usize {
        let (phase, end) = (phase(), Instant::now() + time);
        let count = std::sync::atomic::AtomicUsize::new(0);
        stream::iter((0..).step_by(CHUNK))
            .take_while(|_| std::future::ready(Instant::now() < end))
            .for_each_concurrent(OUTSTANDING / CHUNK, |first| {
                count.fetch_add(CHUNK, std::sync::atomic::Ordering::Relaxed);
                self.send_chunk(phase, first..first + CHUNK)
            })
            .await;
        count.into_inner()
    }

    /// Publishes at a steady rate; answers how many.
    pub async fn publish_paced(&self, rate: f64, time: Duration) -> usize {
        let phase = phase();
        let total = (rate * time.as_secs_f64()) as usize;
        let started = Instant::now();
        stream::iter(0..total)
            .then(|number| async move {
                let due = started + Duration::from_secs_f64(number as f64 / rate);
                if due > Instant::now() {
                    tokio::time::sleep_until(due.into()).await;
                }
                number
            })
            .for_each_concurrent(OUTSTANDING, |number| self.send(phase, number))
            .await;
        total
    }
}

/// Keeps the ids of phases apart.
fn phase() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Looks as the hash of a commit does: mostly without long runs of digits.
fn sha(number: usize) -> String {
    let mixed = (number as u128 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    format!("{mixed:032x}{:08x}", (mixed >> 64) as u32)
}
