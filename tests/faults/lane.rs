//! A lane: one deployment, and one fault after the other while events go through it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use harness::Rabbit;
use serde_json::json;

use super::account::{self, Row};
use super::deployment::{Deployment, FOREIGN, WEBHOOK};
use super::system::hook;
use super::traffic::{Entrance, Senders};

/// How hard it is tried.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// How often each fault strikes within its row.
    pub strikes: u32,
    /// How long each lasts.
    pub hold: Duration,
    /// Between two events at one entrance.
    pub interval: Duration,
}

impl Scale {
    /// Bounded, or long where `PULSEHOOK_FAULTS` is `long`.
    pub fn from_environment() -> Self {
        if is_long() {
            Self { strikes: 5, hold: Duration::from_secs(5), interval: Duration::from_millis(25) }
        } else {
            Self { strikes: 1, hold: Duration::from_millis(1_500), interval: Duration::from_millis(50) }
        }
    }
}

/// Whether the long run is asked for.
pub fn is_long() -> bool {
    std::env::var("PULSEHOOK_FAULTS").is_ok_and(|run| run == "long")
}

/// The hook that fires by time all the while.
const SCHEDULED: &str = "storm/schedule";

/// Seconds between its moments.
const MOMENTS: i64 = 5;

/// Ticks come each minute, and what was missed comes with the next one.
const NEXT_TICK: Duration = Duration::from_secs(180);

/// A deployment under traffic.
pub struct Lane {
    pub deployment: Deployment,
    pub scale: Scale,
    pub senders: Senders,
    rows: Vec<Row>,
    /// Since when there is a hook that fires by time.
    scheduled: Option<DateTime<Utc>>,
}

impl Lane {
    /// Starts a deployment on a virtual host that exists, with a hook for each entrance. In the long run every lane has one
    /// that fires by time, too, else only the one that asks for it: to account for it costs a minute.
    pub async fn start(rabbit: &Rabbit, vhost: &str) -> anyhow::Result<Self> {
        let mut deployment = Deployment::start(rabbit, vhost, &[]).await?;
        let senders = Senders::new(&deployment).await?;
        let bindings: [(Entrance, &[(&str, &str)]); 4] = [
            (Entrance::Webhook, &[(WEBHOOK, "github.push.#")]),
            (Entrance::Ids, &[(FOREIGN, "ids.*")]),
            (Entrance::Plain, &[(FOREIGN, "plain.*")]),
            (Entrance::Trigger, &[]),
        ];
        for (entrance, bindings) in bindings {
            let mut definition = hook(bindings);
            definition["filter"] = json!("payload.fires");
            deployment.create_hook(entrance.hook(), &definition).await;
        }
        let scale = Scale::from_environment();
        let lane = Self { deployment, scale, senders, rows: Vec::new(), scheduled: None };
        Ok(if is_long() { lane.with_schedule().await } else { lane })
    }

    /// One row: events flow, the fault strikes and is over, events flow on, and all of them are accounted for.
    pub async fn row(
        &mut self,
        fault: &str,
        mut strike: impl AsyncFnMut(&mut Deployment, Duration) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        // Words of a routing key and of a repository's name: letters and digits.
        let prefix = format!("r{}", self.rows.len());
        let traffic = self.senders.start(&prefix, self.scale.interval);
        for strikes in 0..self.scale.strikes {
            // Each strike meets traffic, and none the consequences of the last one.
            if strikes > 0 {
                let well = traffic.becomes_tasks(&self.deployment).await;
                well.map_err(|error| error.context(fault.to_owned()))?;
            }
            traffic.flows().await;
            strike(&mut self.deployment, self.scale.hold)
                .await
                .map_err(|error| error.context(fault.to_owned()))?;
        }
        traffic.flows().await;
        let ledger = traffic.stop().await.map_err(|error| error.context(fault.to_owned()))?;
        let row = account::settle(&mut self.deployment, fault, &ledger).await?;
        eprintln!("{}", account::table(std::slice::from_ref(&row)).lines().nth(1).unwrap_or_default());
        self.rows.push(row);
        Ok(())
    }

    /// Adds a hook that fires by time, unless there is one.
    pub async fn with_schedule(mut self) -> Self {
        if self.scheduled.is_some() {
            return self;
        }
        let mut definition = hook(&[]);
        definition["schedule"] = json!([format!("*/{MOMENTS} * * * * *")]);
        definition["catchUp"] = json!("all");
        self.deployment.create_hook(SCHEDULED, &definition).await;
        self.scheduled = Some(Utc::now());
        self
    }

    /// The rows, when nothing more is to come. Whatever had been doubled late would be seen now.
    pub async fn finish(mut self) -> anyhow::Result<Vec<Row>> {
        if let Some(since) = self.scheduled {
            let until = Utc::now();
            let due = |second: i64| second % MOMENTS == 0;
            let moments: Vec<DateTime<Utc>> = (since.timestamp() + 1..=until.timestamp())
                .filter(|second| due(*second))
                .filter_map(|second| DateTime::from_timestamp(second, 0))
                .collect();
            let started = tokio::time::Instant::now();
            let row = loop {
                let row = account::moments(&mut self.deployment, SCHEDULED, &moments).await?;
                if row.lost.is_empty() || started.elapsed() > NEXT_TICK {
                    break row;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            };
            self.rows.push(row);
        }
        Ok(self.rows)
    }
}
