//! Sequence-numbered events through every entrance, at a steady pace, each repeated until somebody has taken it.
//!
//! The ledger knows what each sender knows. A webhook and a message with an id are repeated under the same identity and so are
//! one event, however often they are sent. A message without an id that nobody confirmed may have arrived or not; its sender
//! sends another, and that is another event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use harness::{Http, eventually};
use pulse::{Amqp, Message, Properties, PublishError, Transport};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::deployment::{Deployment, FOREIGN};
use super::system::sign;

/// The wait before an event that nobody took is sent again.
const AGAIN: Duration = Duration::from_millis(200);

/// After so long an event that nobody takes is a failure of the test.
const PATIENCE: Duration = Duration::from_secs(90);

/// So many events that are taken at each entrance are traffic.
const FLOWING: usize = 5;

/// A trigger that is not answered in this time is sent again.
const TRIGGER_PATIENCE: Duration = Duration::from_secs(5);

/// Messages of a burst that wait for their confirms.
const AT_ONCE: usize = 500;

/// Each so manieth event is one that the hooks' filter refuses.
const FILTERED: usize = 10;

/// Ways in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entrance {
    /// A signed webhook.
    Webhook,
    /// A foreign publisher that gives its messages ids.
    Ids,
    /// A foreign publisher that does not.
    Plain,
    /// A trigger by API, repeatable by its `Idempotency-Key`.
    Trigger,
}

impl Entrance {
    pub const ALL: [Entrance; 4] = [Entrance::Webhook, Entrance::Ids, Entrance::Plain, Entrance::Trigger];

    /// Name of the hook that takes what comes this way.
    pub fn hook(self) -> &'static str {
        match self {
            Entrance::Webhook => "storm/webhook",
            Entrance::Ids => "storm/ids",
            Entrance::Plain => "storm/plain",
            Entrance::Trigger => "storm/trigger",
        }
    }
}

/// What is known of an event from outside.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub entrance: Entrance,
    /// The hook's filter lets it through.
    pub fires: bool,
    /// Somebody answered that it is safe.
    pub confirmed: bool,
}

/// The message id of a trigger: a digest, since callers may choose keys of any length.
pub fn trigger_id(label: &str) -> String {
    let digest = Sha256::digest(format!("triggerHook\0anonymous\0{label}"));
    format!("key/{}", hex::encode(digest))
}

/// What was sent, by label. A label is the last word of the routing key, and in the payload; a trigger's is its `Idempotency-Key`.
pub type Ledger = BTreeMap<String, Sent>;

/// Senders at work.
pub struct Traffic {
    ledger: Arc<Mutex<Ledger>>,
    stop: CancellationToken,
    senders: JoinSet<anyhow::Result<()>>,
}

/// What the senders send with; made once for a deployment.
#[derive(Clone)]
pub struct Senders {
    http: Http,
    url: String,
    /// Whichever router has the store answers.
    trigger_urls: [String; 2],
    pub publisher: Arc<Amqp>,
}

impl Senders {
    pub async fn new(deployment: &Deployment) -> anyhow::Result<Self> {
        let publisher = Amqp::connect(pulse::amqp::AmqpConfig {
            url: &deployment.amqp_url,
            ca_file: None,
            name: "a foreign publisher",
            publish_timeout: Duration::from_secs(10),
        })?;
        let mut status = publisher.status();
        tokio::time::timeout(PATIENCE, status.wait_for(|status| *status == pulse::Status::Up)).await??;
        publisher.declare_exchange(FOREIGN).await?;
        let url = format!("{}/webhooks/github", deployment.bridge_url);
        let trigger_urls = deployment
            .api_urls()
            .clone()
            .map(|api| format!("{api}/hooks/{}/trigger?wait=0", Entrance::Trigger.hook()));
        Ok(Self { http: deployment.http.clone(), url, trigger_urls, publisher: Arc::new(publisher) })
    }

    /// Starts sending: at each entrance one event in each `interval`. `prefix` keeps the labels of one row apart from all others.
    pub fn start(&self, prefix: &str, interval: Duration) -> Traffic {
        let ledger = Arc::new(Mutex::new(Ledger::new()));
        let stop = CancellationToken::new();
        let mut senders = JoinSet::new();
        for entrance in Entrance::ALL {
            let (senders_tools, ledger, stop) = (self.clone(), ledger.clone(), stop.clone());
            let prefix = format!("{prefix}{entrance:?}").to_lowercase();
            senders.spawn(async move {
                let mut sending = JoinSet::new();
                let mut pace = tokio::time::interval(interval);
                pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                let mut number = 0;
                while stop.run_until_cancelled(pace.tick()).await.is_some() {
                    let (tools, ledger, label) =
                        (senders_tools.clone(), ledger.clone(), format!("{prefix}-{number}"));
                    let fires = number % FILTERED != FILTERED - 1;
                    sending.spawn(async move { tools.send(entrance, label, fires, &ledger).await });
                    number += 1;
                }
                while let Some(sent) = sending.join_next().await {
                    sent??;
                }
                anyhow::Ok(())
            });
        }
        Traffic { ledger, stop, senders }
    }

    async fn send(
        &self,
        entrance: Entrance,
        label: String,
        fires: bool,
        ledger: &Mutex<Ledger>,
    ) -> anyhow::Result<()> {
        let started = tokio::time::Instant::now();
        for attempt in 0_usize.. {
            let label = match entrance {
                Entrance::Plain => format!("{label}-{attempt}"),
                _ => label.clone(),
            };
            let note = |confirmed| {
                ledger.lock().unwrap().insert(label.clone(), Sent { entrance, fires, confirmed });
            };
            note(false);
            let taken = match entrance {
                Entrance::Webhook => self.post(&label, fires).await?,
                Entrance::Ids => self.publish("ids", &label, Some(label.clone()), fires).await?,
                Entrance::Plain => self.publish("plain", &label, None, fires).await?,
                Entrance::Trigger => self.trigger(attempt, &label, fires).await?,
            };
            let Some(why) = taken else {
                note(true);
                return Ok(());
            };
            anyhow::ensure!(started.elapsed() < PATIENCE, "nobody takes {label}: {why}");
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    }

    /// Publishes many messages at once, confirmed; under `ids` with ids, else without. `size` bytes are added to each body.
    pub async fn burst(&self, word: &str, prefix: &str, count: usize, size: usize) -> anyhow::Result<()> {
        let padding = "x".repeat(size);
        stream::iter(0..count)
            .map(|number| {
                let label = format!("{prefix}-{number}");
                let message = Message {
                    exchange: FOREIGN.to_owned(),
                    routing_key: format!("{word}.{label}"),
                    properties: Properties {
                        message_id: (word == "ids").then(|| label.clone()),
                        ..Properties::default()
                    },
                    body: json!({ "label": label, "padding": padding }).to_string().into(),
                };
                async move { self.publisher.publish(&message, false).await }
            })
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await?;
        Ok(())
    }

    /// `None` once it was taken, else why not; an answer that no sender should get is an error.
    pub async fn post(&self, label: &str, fires: bool) -> anyhow::Result<Option<String>> {
        let body = json!({ "label": label, "fires": fires, "repository": { "name": label, "owner": { "login": "o" } } });
        let body = body.to_string();
        let signature = format!("sha256={}", sign(body.as_bytes()));
        let headers = [
            ("content-type", "application/json"),
            ("x-github-event", "push"),
            ("x-github-delivery", label),
            ("x-hub-signature-256", &signature),
        ];
        match self.http.call("POST", &self.url, &headers, body).await {
            Err(error) => Ok(Some(format!("{error:#}"))),
            Ok(answer) if answer.status == 503 => Ok(Some(answer.json().to_string())),
            Ok(answer) if answer.status.is_success() => {
                let answer = answer.json();
                let safe = answer["routed"] == true || answer["spooled"] == true;
                anyhow::ensure!(safe, "{label} was taken and no queue had it: {answer}");
                Ok(None)
            }
            Ok(answer) => anyhow::bail!("{label} was answered {}: {}", answer.status, answer.json()),
        }
    }

    /// As [`post`](Self::post), at one router or, at the next attempt, the other.
    async fn trigger(&self, attempt: usize, label: &str, fires: bool) -> anyhow::Result<Option<String>> {
        let headers = [("content-type", "application/json"), ("idempotency-key", label)];
        let body = json!({ "label": label, "fires": fires }).to_string();
        let call = self.http.call("POST", &self.trigger_urls[attempt % 2], &headers, body);
        // A standby accepts connections and answers when it has the store.
        match tokio::time::timeout(TRIGGER_PATIENCE, call).await {
            Err(_) => Ok(Some("the router does not answer".to_owned())),
            Ok(Err(error)) => Ok(Some(format!("{error:#}"))),
            Ok(Ok(answer)) if answer.status.is_success() => Ok(None),
            Ok(Ok(answer)) if answer.status.is_server_error() => Ok(Some(answer.json().to_string())),
            Ok(Ok(answer)) => anyhow::bail!("{label} was answered {}: {}", answer.status, answer.json()),
        }
    }

    async fn publish(
        &self,
        word: &str,
        label: &str,
        id: Option<String>,
        fires: bool,
    ) -> anyhow::Result<Option<String>> {
        let message = Message {
            exchange: FOREIGN.to_owned(),
            routing_key: format!("{word}.{label}"),
            properties: Properties { message_id: id, ..Properties::default() },
            body: json!({ "label": label, "fires": fires }).to_string().into(),
        };
        match self.publisher.publish(&message, false).await {
            Ok(_) => Ok(None),
            Err(PublishError::Unavailable(why)) => Ok(Some(why)),
            Err(refused) => Err(refused.into()),
        }
    }
}

impl Traffic {
    /// Waits until some more events have been taken at every entrance.
    pub async fn flows(&self) {
        let before = self.taken();
        eventually(PATIENCE, async || {
            let now = self.taken();
            Entrance::ALL.iter().all(|entrance| now[entrance] >= before[entrance] + FLOWING).then_some(())
        })
        .await;
    }

    /// Waits until, at every entrance, an event that is taken from now on has become a task: what waited is done, all but
    /// what is held up by itself.
    pub async fn becomes_tasks(&self, deployment: &Deployment) -> anyhow::Result<()> {
        let started = tokio::time::Instant::now();
        let old: BTreeSet<String> = self.ledger.lock().unwrap().keys().cloned().collect();
        let mut seen = deployment.count_tasks().await?;
        let mut missing: BTreeSet<Entrance> = Entrance::ALL.into();
        while !missing.is_empty() {
            anyhow::ensure!(
                started.elapsed() < PATIENCE,
                "events are taken at {missing:?} and become no tasks"
            );
            tokio::time::sleep(AGAIN).await;
            let tasks = deployment.tasks_after(seen).await?;
            seen += tasks.len();
            let ledger = self.ledger.lock().unwrap();
            for task in &tasks {
                let label = task["task"]["payload"]["seen"]["label"].as_str().unwrap_or_default();
                if let Some(sent) = ledger.get(label).filter(|_| !old.contains(label)) {
                    missing.remove(&sent.entrance);
                }
            }
        }
        Ok(())
    }

    /// How many events have been taken so far.
    fn taken(&self) -> BTreeMap<Entrance, usize> {
        let mut taken = BTreeMap::from(Entrance::ALL.map(|entrance| (entrance, 0)));
        for sent in self.ledger.lock().unwrap().values().filter(|sent| sent.confirmed) {
            *taken.entry(sent.entrance).or_default() += 1;
        }
        taken
    }

    /// Sends nothing new, waits until everything that was sent has been taken, and hands over the ledger.
    pub async fn stop(mut self) -> anyhow::Result<Ledger> {
        self.stop.cancel();
        while let Some(sender) = self.senders.join_next().await {
            sender??;
        }
        let mut ledger = self.ledger.lock().unwrap();
        Ok(std::mem::take(&mut *ledger))
    }
}
