//! Empties the spool when the broker is back: each source's events in order, confirmed; sources beside each other. Also lets
//! go of what coalescing held back, once its time has come.
//!
//! Events leave in groups, on one channel, which keeps their order: an hour's events shall not take another hour to come out, one
//! confirm after the other. Where the connection breaks in the middle of a group the rest of it stays. After a failure they go one
//! at a time until all is well again, so that what the broker refuses, or no queue takes, holds up what comes after it; only those of
//! its own group may be there already.
//!
//! A refusal is hardly ever the message's fault: the exchange is missing, or a right. Such an event waits like one that
//! meets no broker. Only when it is refused again and again while the broker takes the next one is it set aside, so that
//! it does not block its source for ever.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use pulse::Status;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::bridge::Now;
use crate::publisher::{NotPublished, Publisher};
use crate::spool::{Spool, SpoolError};

/// Events read and forgotten at a time: few enough to repeat after a crash, enough to share an fsync.
const BATCH: u32 = 64;

/// First and longest pause after a failed attempt.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// After so many refusals of one event in a row the next one is tried, to tell whose fault it is.
const REFUSALS: u32 = 3;

/// How often the wall clock is looked at for held events: it may jump.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until `stop`.
pub async fn run(spool: Arc<Spool>, publisher: Arc<Publisher>, now: Now, stop: CancellationToken) {
    let mut running: HashSet<String> = HashSet::new();
    let mut workers = JoinSet::new();
    loop {
        let at = now().timestamp_millis();
        let due = spool.next_due();
        if due.is_some_and(|due| due <= at)
            && let Err(error) = spool.release(at).await
        {
            error!(%error, "held events cannot be released yet");
        }
        for source in spool.sources() {
            if running.insert(source.clone()) {
                let (spool, publisher, stop) = (Arc::clone(&spool), Arc::clone(&publisher), stop.clone());
                workers.spawn(async move {
                    tokio::select! {
                        () = drain(&spool, &publisher, &source) => {}
                        () = stop.cancelled() => {}
                    }
                    source
                });
            }
        }
        let look = async {
            match spool.next_due() {
                Some(_) => tokio::time::sleep(LOOK).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = spool.filled.notified() => {}
            Some(ended) = workers.join_next() => {
                match ended {
                    Ok(source) => drop(running.remove(&source)),
                    // Which one is not known, so each is looked at again; two workers of one source cannot be, since
                    // the others are stopped first.
                    Err(error) => {
                        error!(%error, "a worker of the spool ended unexpectedly; all start again");
                        workers.shutdown().await;
                        running.clear();
                    }
                }
            }
            () = look => {}
            () = stop.cancelled() => break,
        }
    }
    while workers.join_next().await.is_some() {}
}

/// An event that the broker refuses.
#[derive(Default)]
struct Refused {
    id: i64,
    /// How often it has.
    times: u32,
    /// It took others of the same group.
    alone: bool,
}

/// Publishes a source's events until none is left.
async fn drain(spool: &Spool, publisher: &Publisher, source: &str) {
    let mut status = publisher.status();
    let mut pause = PAUSE.0;
    let mut published = 0_u64;
    let mut refused = Refused::default();
    let mut careful = false;
    while spool.holds(source) {
        // An error means that the transport is gone for good; the process is stopping.
        if status.wait_for(|status| *status == Status::Up).await.is_err() {
            return;
        }
        let drained = match careful {
            false => drain_together(spool, publisher, source, &mut refused).await,
            true => drain_singly(spool, publisher, source, &mut refused).await,
        };
        careful = drained.is_err();
        match drained {
            Ok(0) => tokio::time::sleep(PAUSE.0).await,
            Ok(events) => {
                published += events;
                pause = PAUSE.0;
            }
            Err(reason) => {
                warn!(source, reason, "the spool waits");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
    info!(source, published, "the spool has no more events of this source");
}

/// Publishes some events together; those that the broker took are forgotten.
async fn drain_together(
    spool: &Spool,
    publisher: &Publisher,
    source: &str,
    refused: &mut Refused,
) -> Result<u64, String> {
    let batch = spool.oldest(source, BATCH).await.map_err(text)?;
    let messages = batch.iter().map(|stored| stored.message.clone()).collect();
    let mut published = Vec::with_capacity(batch.len());
    let mut failure = None;
    for (stored, answer) in batch.into_iter().zip(publisher.publish_all_patiently(messages).await) {
        match answer {
            Ok(()) => published.push(stored.id),
            Err(error) => drop(failure.get_or_insert((stored.id, error))),
        }
    }
    if let Some((id, NotPublished::Refused(_))) = failure {
        *refused = Refused { id, times: 1, alone: !published.is_empty() };
    }
    forget(spool, source, published, failure.map(|(_, error)| error.reason())).await
}

/// Publishes some events one after the other; those before a failure are forgotten all the same.
async fn drain_singly(
    spool: &Spool,
    publisher: &Publisher,
    source: &str,
    refused: &mut Refused,
) -> Result<u64, String> {
    let batch = spool.oldest(source, BATCH).await.map_err(text)?;
    let mut published = Vec::with_capacity(batch.len());
    let mut failure = None;
    let mut left = batch.into_iter();
    while let Some(stored) = left.next() {
        let error = match publisher.publish_patiently(&stored.message).await {
            Ok(_) => {
                published.push(stored.id);
                continue;
            }
            Err(error) => error,
        };
        if matches!(error, NotPublished::Refused(_)) {
            if refused.id != stored.id {
                *refused = Refused { id: stored.id, ..Refused::default() };
            }
            refused.times += 1;
            if refused.times >= REFUSALS && !refused.alone {
                // Whose fault is it?
                if let Some(next) = left.next()
                    && publisher.publish_patiently(&next.message).await.is_ok()
                {
                    published.push(next.id);
                    refused.alone = true;
                }
            }
            if refused.times >= REFUSALS && refused.alone {
                let (id, reason) = (stored.message.properties.message_id.as_deref(), error.reason());
                error!(
                    source,
                    message_id = id.unwrap_or_default(),
                    reason,
                    "the broker takes other events and not this one; it is set aside"
                );
                spool.refuse(source, stored.id, reason).await.map_err(text)?;
                continue;
            }
        }
        failure = Some(error.reason());
        break;
    }
    forget(spool, source, published, failure).await
}

/// Answers how many were published, or why others were not.
async fn forget(
    spool: &Spool,
    source: &str,
    published: Vec<i64>,
    failure: Option<String>,
) -> Result<u64, String> {
    let events = published.len() as u64;
    spool.remove(source, published).await.map_err(text)?;
    metrics::counter!("pulsehook_bridge_unspooled_total", "source" => source.to_owned()).increment(events);
    match failure {
        None => Ok(events),
        Some(reason) => Err(reason),
    }
}

fn text(error: SpoolError) -> String {
    error.to_string()
}
