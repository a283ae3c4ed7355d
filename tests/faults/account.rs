//! The account after a fault: what became of each event.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::time::Instant;

use super::deployment::Deployment;
use super::traffic::{Entrance, Ledger, Sent, trigger_id};

/// Until then everything has become a task or a record.
const DEADLINE: Duration = Duration::from_secs(90);

/// What the queue service says where a rule has it refuse a task for good: of all faults only that may leave dead letters.
const REFUSED: &str = "provoked by a rule";

/// What was found of one event.
#[derive(Debug, Clone, Default)]
struct Found {
    tasks: usize,
    dead: usize,
    decisions: usize,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Row {
    pub fault: String,
    pub events: usize,
    pub tasks: usize,
    /// Dead letters: no task, and the reason on record.
    pub dead: usize,
    /// Labels of events that somebody confirmed, without a task or a reason.
    pub lost: Vec<String>,
    /// Labels of events with more than one fire.
    pub doubled: Vec<String>,
    /// Longest time without a new task at any entrance.
    pub recovery: Duration,
}

/// Waits until all events of the ledger are accounted for, or the deadline, and says what became of them.
pub async fn settle(deployment: &mut Deployment, fault: &str, ledger: &Ledger) -> anyhow::Result<Row> {
    let started = Instant::now();
    loop {
        let row = look(deployment, fault, ledger).await?;
        if row.lost.is_empty() || started.elapsed() > DEADLINE {
            return Ok(row);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn look(deployment: &mut Deployment, fault: &str, ledger: &Ledger) -> anyhow::Result<Row> {
    let mut found: BTreeMap<&str, Found> =
        ledger.keys().map(|label| (label.as_str(), Found::default())).collect();
    let tasks = deployment.tasks().await?;
    let dead = deployment.dead_letters().await?;
    let mut arrivals: BTreeMap<Entrance, Vec<i64>> = BTreeMap::new();
    let triggers: BTreeMap<String, &str> = ledger
        .iter()
        .filter(|(_, sent)| sent.entrance == Entrance::Trigger)
        .map(|(label, _)| (trigger_id(label), label.as_str()))
        .collect();
    let label_of = |record: &Value| -> String {
        let word = |text: &str| text.rsplit('.').next().unwrap_or_default().to_owned();
        let trigger = record["messageId"].as_str().and_then(|id| triggers.get(id));
        trigger
            .map_or_else(|| record["routingKey"].as_str().map(word).unwrap_or_default(), ToString::to_string)
    };
    let (mut made, mut ids) = (0, BTreeSet::new());
    for task in &tasks {
        anyhow::ensure!(ids.insert(task["taskId"].as_str()), "a task id is listed twice");
        let label = task["task"]["payload"]["seen"]["label"].as_str().unwrap_or_default();
        let (Some(found), Some(sent)) = (found.get_mut(label), ledger.get(label)) else { continue };
        found.tasks += 1;
        made += 1;
        arrivals.entry(sent.entrance).or_default().push(received(task)?);
    }
    for letter in &dead {
        if let Some(found) = found.get_mut(label_of(letter).as_str()) {
            let why = letter["error"]["message"].as_str().unwrap_or_default();
            anyhow::ensure!(why.contains(REFUSED), "a dead letter that no fault explains: {letter}");
            found.dead += 1;
        }
    }
    for entrance in Entrance::ALL {
        for decision in deployment.decisions(entrance.hook()).await? {
            if let Some(found) = found.get_mut(label_of(&decision).as_str()) {
                anyhow::ensure!(decision["outcome"] == "filtered", "{decision}");
                found.decisions += 1;
            }
        }
    }
    let with = |wanted: fn(&Sent, &Found) -> bool| -> Vec<String> {
        let matching = ledger.iter().filter(|(label, sent)| wanted(sent, &found[label.as_str()]));
        matching.map(|(label, _)| label.clone()).collect()
    };
    Ok(Row {
        fault: fault.to_owned(),
        // What nobody confirmed and nobody saw was no event.
        events: with(|sent, found| sent.confirmed || found.tasks + found.dead + found.decisions > 0).len(),
        tasks: made,
        dead: found.values().map(|found| found.dead).sum(),
        lost: with(|sent, found| {
            sent.confirmed && if sent.fires { found.tasks + found.dead == 0 } else { found.decisions == 0 }
        }),
        doubled: with(|sent, found| found.tasks + found.dead > usize::from(sent.fires)),
        recovery: arrivals.values().map(|times| longest_gap(times)).max().unwrap_or_default(),
    })
}

/// What became of the moments of a hook that fires by time, whatever struck meanwhile.
pub async fn moments(
    deployment: &mut Deployment,
    hook: &str,
    moments: &[DateTime<Utc>],
) -> anyhow::Result<Row> {
    // The message id of a scheduled fire ends in its moment: schedule-<incarnation>-<moment>.
    let moment = |id: &Value| -> Option<DateTime<Utc>> {
        id.as_str()?.strip_prefix("schedule-")?.split_once('-')?.1.parse().ok()
    };
    let mut found: BTreeMap<DateTime<Utc>, usize> = BTreeMap::new();
    let tasks = deployment.tasks().await?;
    let tasks = tasks.iter().filter_map(|task| moment(&task["task"]["payload"]["message"]));
    tasks.for_each(|moment| *found.entry(moment).or_default() += 1);
    // Those that came due while it was waited for the last ones are not of the row.
    let made = moments.iter().filter(|moment| found.contains_key(*moment)).count();
    let letters = deployment.dead_letters().await?;
    let dead: Vec<_> = letters.iter().filter_map(|letter| moment(&letter["messageId"])).collect();
    dead.iter().for_each(|moment| *found.entry(*moment).or_default() += 1);
    let with = |wanted: fn(usize) -> bool| -> Vec<String> {
        let matching = moments.iter().filter(|moment| wanted(found.get(moment).copied().unwrap_or(0)));
        matching.map(|moment| format!("{hook} at {moment}")).collect()
    };
    Ok(Row {
        fault: "all of these, for what is due by time".to_owned(),
        events: moments.len(),
        tasks: made,
        dead: dead.len(),
        lost: with(|count| count == 0),
        doubled: with(|count| count > 1),
        recovery: Duration::ZERO,
    })
}

fn received(task: &Value) -> anyhow::Result<i64> {
    let text = task["received"].as_str().unwrap_or_default();
    Ok(chrono::DateTime::parse_from_rfc3339(text)?.timestamp_millis())
}

fn longest_gap(times: &[i64]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    Duration::from_millis(longest.unsigned_abs())
}

/// The table, as it is printed.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<58} {:>7} {:>7} {:>7} {:>6} {:>8} {:>10}\n",
        "fault", "events", "tasks", "dead", "lost", "doubled", "recovery"
    );
    for row in rows {
        text.push_str(&format!(
            "{:<58} {:>7} {:>7} {:>7} {:>6} {:>8} {:>8.1} s\n",
            row.fault,
            row.events,
            row.tasks,
            row.dead,
            row.lost.len(),
            row.doubled.len(),
            row.recovery.as_secs_f64()
        ));
    }
    let sum = |of: fn(&Row) -> usize| rows.iter().map(of).sum::<usize>();
    text.push_str(&format!(
        "{:<58} {:>7} {:>7} {:>7} {:>6} {:>8}\n",
        "all",
        sum(|row| row.events),
        sum(|row| row.tasks),
        sum(|row| row.dead),
        sum(|row| row.lost.len()),
        sum(|row| row.doubled.len())
    ));
    text
}
