//! Empties the spool when the broker is back: each source's events in order, confirmed; sources beside each other. Also lets
//! go of what coalescing held back, once its time has come.
//!
//! Events leave in groups, on one channel, which keeps their order: an hour's events shall not take another hour to come out, one
//! confirm after the other. Where the connection breaks in the middle of a group the rest of it stays. After a failure they go one
//! at a time until all is well again, so that what the broker refuses, or no queue takes, holds up what comes after it; only those of
//! its own group may be there already.
//!
//! A refusal is hardly ever the message's fault: the exchange is missing, or a right. Such an event waits like one that
//! meets no broker. Only when it is refused again and again while the broker takes others on the same exchange is it set aside, so that
//! it does not block its source for ever, and with its age the whole spool. The next event of its source is tried for that; where there is none,
//! what other sources publish tells as well. And where nobody publishes anything, an event that is the only one to be refused is
//! set aside after an hour.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use pulse::{Message, Status};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::bridge::Now;
use crate::publisher::{NotPublished, Publisher};
use crate::spool::{Spool, SpoolError};

/// Events read and forgotten at a time: few enough to repeat after a crash, enough to share an fsync.
const BATCH: u32 = 64;

/// First and longest pause after a failed attempt.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

// What is refused again meanwhile costs the messages of others no channel.
const _: () = assert!(PAUSE.1.as_secs() < pulse::amqp::CAREFUL_FOR.as_secs());

/// After so many refusals of one event in a row it is looked for whose fault it is.
const REFUSALS: u32 = 3;

/// An event that the broker refuses for so long, and no other, is set aside although nothing else was published.
const ALONE_FOR: Duration = Duration::from_secs(3600);

/// How often the wall clock is looked at for held events: it may jump.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until `stop`.
pub async fn run(spool: Arc<Spool>, publisher: Arc<Publisher>, now: Now, stop: CancellationToken) {
    let mut running: HashSet<String> = HashSet::new();
    let mut workers = JoinSet::new();
    loop {
        let at = now().timestamp_millis();
        while spool.next_due().is_some_and(|due| due <= at) {
            if let Err(error) = spool.release(at).await {
                error!(%error, "held events cannot be released yet");
                break;
            }
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
struct Refused {
    id: i64,
    /// How often it has.
    times: u32,
    /// Since when.
    since: Instant,
    /// The broker took later ones of its group.
    others_taken: bool,
}

impl Refused {
    /// Counts a refusal of this event; another one's begins anew.
    fn note(last: &mut Option<Self>, id: i64) -> &mut Self {
        let first = Self { id, times: 0, since: Instant::now(), others_taken: false };
        let refused = match last.take() {
            Some(refused) if refused.id == id => refused,
            _ => first,
        };
        last.insert(Self { times: refused.times + 1, ..refused })
    }

    /// Whether it is this event's own fault: the broker takes others.
    fn is_its_own_fault(&self, publisher: &Publisher, message: &Message) -> bool {
        self.times >= REFUSALS
            && (self.others_taken
                || publisher.confirmed_since(&message.exchange, self.since)
                || publisher.alone_refused_for(message) >= ALONE_FOR)
    }
}

/// Publishes a source's events until none is left.
async fn drain(spool: &Spool, publisher: &Publisher, source: &str) {
    let mut status = publisher.status();
    let mut pause = PAUSE.0;
    let mut published = 0_u64;
    let mut refused = None;
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
    refused: &mut Option<Refused>,
) -> Result<u64, String> {
    let batch = spool.oldest(source, BATCH).await.map_err(text)?;
    let messages = batch.iter().map(|stored| stored.message.clone()).collect();
    let mut published = Vec::with_capacity(batch.len());
    let mut failure = None;
    let mut others_taken = false;
    for (stored, answer) in batch.into_iter().zip(publisher.publish_all_patiently(messages).await) {
        match answer {
            Ok(()) => {
                others_taken |= failure.is_some();
                published.push(stored.id);
            }
            Err(error) => drop(failure.get_or_insert((stored.id, error))),
        }
    }
    if let Some((id, NotPublished::Refused(_))) = failure {
        Refused::note(refused, id).others_taken |= others_taken;
    }
    forget(spool, source, published, failure.map(|(_, error)| error.reason())).await
}

/// Publishes some events one after the other; those before a failure are forgotten all the same.
async fn drain_singly(
    spool: &Spool,
    publisher: &Publisher,
    source: &str,
    refused: &mut Option<Refused>,
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
            let refused = Refused::note(refused, stored.id);
            if refused.times >= REFUSALS
                && !refused.is_its_own_fault(publisher, &stored.message)
                && let Some(next) = left.next()
                && publisher.publish_patiently(&next.message).await.is_ok()
            {
                published.push(next.id);
            }
            if refused.is_its_own_fault(publisher, &stored.message) {
                let (id, reason) = (stored.message.properties.message_id.as_deref(), error.reason());
                error!(
                    source,
                    message_id = id.unwrap_or_default(),
                    reason,
                    "the broker refuses this event and takes others; it is set aside"
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
