//! Publishing with confirms, many at a time.
//!
//! One task owns the connection. Messages are pipelined on one channel; each caller is answered when the broker has
//! confirmed its message, and when the connection breaks, everybody whose message is not confirmed is told so.
//!
//! A message that the broker refuses (no such exchange, no permission) closes the channel, and nothing says which of
//! those under way it was. So these are published again one at a time on a second channel, where a refusal meets the
//! message that earned it; the others are confirmed as if nothing had been. The broker may get such a message twice, with
//! the same message id, as it would from any caller that repeats. What is published together keeps its order: of a group of which
//! a message goes out alone, all later ones do. Exchanges that were refused stay with the second
//! channel for a while.
//!
//! A message that one of several queues refuses (`basic.nack`) is neither: see the module `nacks`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::health::{Health, Part};
use super::keeper::{Command, FIRST_RECONNECT, GOOD_CONNECTION, LONGEST_RECONNECT};
use super::lane::{Job, Lane};
use super::nacks::Nacks;
use super::target::Target;
use super::wire::{Refusal, RpcError, Wire};
use crate::transport::PublishError;

/// So many messages may wait for their confirm: a broker on this side of a network is busy with a thousand or two.
pub(super) const MAX_OUTSTANDING: usize = 2000;

/// An exchange that was refused is published to one message at a time for so long. Whoever repeats a refused message sooner disturbs no
/// other exchange's; later, all that are under way lose their channel over it.
pub const CAREFUL_FOR: Duration = Duration::from_secs(30);

/// A confirm that takes longer, while the broker does not say that it blocks, will never come.
const LATEST_CONFIRM: Duration = Duration::from_secs(60);

/// Channels closed by the broker after which the connection is replaced: amqprs uses no number twice and has 2,047.
const WORN_AFTER: u32 = 1000;

/// The same though messages are under way, whose callers then repeat them: without a number for its next channel amqprs panics.
const WORN_OUT: u32 = 1900;

/// Why it is replaced then.
const WORN: &str = "too many of its channels were closed";

/// Messages taken one after the other before confirms are looked at again.
const BURST: usize = 64;

/// How often old confirms are looked for.
const TICK: Duration = Duration::from_secs(1);

/// For the last confirms at the end.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

pub(super) struct Publisher {
    pub target: Arc<Target>,
    pub name: String,
    pub health: Arc<Health>,
    pub closing: CancellationToken,
    /// Told when an exchange is missing.
    pub keeper: mpsc::Sender<Command>,
    /// Exchanges that were refused, and when.
    pub refused: HashMap<String, Instant>,
    pub nacks: Nacks,
}

/// A connection with its channels.
struct Serving {
    wire: Wire,
    main: Lane,
    careful: Option<Lane>,
    /// To be published one at a time; the messages of one group in their order.
    waiting: VecDeque<Job>,
    closed_channels: u32,
}

impl Publisher {
    /// Works until `closing` is cancelled. Jobs are dropped then, which their callers notice.
    pub async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let closing = self.closing.clone();
        let mut backoff = Backoff::new(FIRST_RECONNECT, LONGEST_RECONNECT);
        let mut last = String::new();
        let mut away = false;
        loop {
            let reason = match closing.run_until_cancelled(self.open()).await {
                None => return,
                Some(Ok(mut serving)) => {
                    let since = Instant::now();
                    if std::mem::replace(&mut away, true) {
                        self.health.set_returned();
                    }
                    self.health.set(Part::Publishing, None);
                    metrics::counter!("pulsehook_pulse_connections_total", "connection" => "publishing")
                        .increment(1);
                    last.clear();
                    let reason = self.serve(&mut serving, &mut jobs).await;
                    serving.fail(&reason, &mut self.nacks);
                    self.health.set(Part::Blocked, None);
                    if closing.is_cancelled() {
                        serving.wire.close().await;
                        return;
                    }
                    warn!(reason, "the publishing connection to the broker is lost; connecting again");
                    self.health.set(Part::Publishing, Some(reason.clone()));
                    if since.elapsed() >= GOOD_CONNECTION {
                        backoff.reset();
                        continue;
                    }
                    reason
                }
                Some(Err(reason)) => {
                    away = true;
                    reason
                }
            };
            if reason != last {
                info!(reason, "cannot publish; trying again with backoff");
                last.clone_from(&reason);
            }
            self.health.set(Part::Publishing, Some(reason.clone()));
            // Who waited for this attempt, or comes before the next, is told at once.
            let wait = tokio::time::sleep(backoff.wait());
            tokio::pin!(wait);
            loop {
                tokio::select! {
                    () = closing.cancelled() => return,
                    () = &mut wait => break,
                    Some(job) = jobs.recv() => job.answer(Err(PublishError::Unavailable(reason.clone()))),
                }
            }
        }
    }

    async fn open(&self) -> Result<Serving, String> {
        let wire = Wire::open(&self.target, &format!("{} publishing", self.name)).await?;
        let main = Lane::open(&wire).await.map_err(reason)?;
        Ok(Serving { wire, main, careful: None, waiting: VecDeque::new(), closed_channels: 0 })
    }

    /// Publishes until the connection ends; returns why.
    async fn serve(&mut self, serving: &mut Serving, jobs: &mut mpsc::Receiver<Job>) -> String {
        let mut blocked = serving.wire.link.blocked();
        let mut tick = tokio::time::interval(TICK);
        let closing = self.closing.clone();
        loop {
            if serving.closed_channels > WORN_OUT {
                serving.wire.link.cut(WORN);
                return WORN.to_owned();
            }
            if let Err(lost) = self.feed(serving).await {
                return reason(lost);
            }
            tokio::select! {
                biased;
                () = closing.cancelled() => break,
                () = serving.wire.link.ended() => return serving.wire.link.reason(),
                Ok(()) = blocked.changed() => {
                    let why = blocked.borrow_and_update().clone();
                    match &why {
                        Some(why) => warn!(reason = why, "the broker blocks publishers"),
                        None => info!("the broker takes messages again"),
                    }
                    let why = why.map(|why| format!("the broker blocks publishers: {why}"));
                    self.health.set(Part::Blocked, why);
                }
                confirm = serving.main.confirm() => match confirm {
                    Some(confirm) => serving.main.settle_with_all_that_wait(confirm, &mut self.nacks),
                    None => if let Err(lost) = serving.replace_main(&mut self.nacks).await { return reason(lost) },
                },
                confirm = confirm_of(&mut serving.careful) => match confirm {
                    Some(confirm) => self.settle_careful(serving, confirm),
                    None => self.careful_closed(serving),
                },
                Some(job) = jobs.recv() => {
                    self.take(serving, job).await;
                    for _ in 1..BURST {
                        let Ok(job) = jobs.try_recv() else { break };
                        self.take(serving, job).await;
                    }
                    serving.main.send().await;
                }
                _ = tick.tick() => if let Some(stale) = self.look_for_stale(serving) { return stale },
            }
        }
        // Whoever still waits gets a last chance.
        let drain = async {
            while !serving.main.is_empty()
                && let Some(confirm) = serving.main.confirm().await
            {
                serving.main.settle(confirm, &mut self.nacks);
            }
        };
        let _ = tokio::time::timeout(DRAIN_DEADLINE, drain).await;
        "the transport is closed".into()
    }

    async fn take(&mut self, serving: &mut Serving, job: Job) {
        let careful =
            self.refused.get(&job.message.exchange).is_some_and(|since| since.elapsed() < CAREFUL_FOR);
        if careful || job.follows_one_alone() {
            job.goes_alone();
            serving.waiting.push_back(job);
        } else {
            serving.main.publish(job).await;
        }
    }

    /// Publishes the next message that has to go alone, if none is under way.
    async fn feed(&mut self, serving: &mut Serving) -> Result<(), RpcError> {
        // What is dropped or answered at once leaves the lane empty.
        while serving.careful.as_ref().is_none_or(Lane::is_empty)
            && let Some(next) = serving.waiting.front()
            // Those of its group that set out before are heard of first: they may have to go out again, before it.
            && !serving.main.carries_group_of(next)
        {
            if serving.careful.is_none() {
                serving.careful = Some(Lane::open(&serving.wire).await?);
            }
            if let Some(lane) = serving.careful.as_mut()
                && let Some(job) = serving.waiting.pop_front()
            {
                lane.publish(job).await;
                lane.send().await;
            }
        }
        Ok(())
    }

    fn settle_careful(&mut self, serving: &mut Serving, confirm: super::lane::Confirm) {
        if let Some(lane) = serving.careful.as_mut() {
            lane.settle(confirm, &mut self.nacks);
        }
        if serving.waiting.is_empty() {
            self.refused.retain(|_, since| since.elapsed() < CAREFUL_FOR);
        }
    }

    /// The message that was alone under way is the one that the broker refuses.
    fn careful_closed(&mut self, serving: &mut Serving) {
        serving.closed_channels += 1;
        let Some(mut lane) = serving.careful.take() else { return };
        let refusal = lane.refusal();
        for job in lane.take_pending(&mut self.nacks) {
            let Some(refusal) = &refusal else {
                job.answer(Err(PublishError::Unavailable(serving.wire.link.reason())));
                continue;
            };
            let exchange = job.message.exchange.clone();
            debug!(exchange, %refusal, "the broker refuses a message");
            match refusal.code {
                Refusal::NOT_FOUND => {
                    // If it is one of ours, somebody deleted it. Without room the next refusal tells.
                    let missing = Command::ExchangeMissing { name: exchange.clone() };
                    let _ = self.keeper.try_send(missing);
                    self.refused.insert(exchange, Instant::now());
                    job.answer(Err(PublishError::Refused(refusal.text.clone())));
                }
                Refusal::ACCESS_REFUSED | Refusal::PRECONDITION_FAILED => {
                    self.refused.insert(exchange, Instant::now());
                    job.answer(Err(PublishError::Refused(refusal.text.clone())));
                }
                _ => job.answer(Err(PublishError::Unavailable(refusal.text.clone()))),
            }
        }
    }

    /// Why the connection is of no use any more.
    fn look_for_stale(&self, serving: &Serving) -> Option<String> {
        let blocked = serving.wire.link.blocked().borrow().is_some();
        let careful = serving.careful.as_ref().and_then(Lane::oldest);
        let oldest = [serving.main.oldest(), careful].into_iter().flatten().min();
        let stale = if !blocked && oldest.is_some_and(|since| since.elapsed() > LATEST_CONFIRM) {
            format!("no confirm within {LATEST_CONFIRM:?}")
        } else if serving.closed_channels > WORN_AFTER && oldest.is_none() {
            WORN.to_owned()
        } else {
            return None;
        };
        serving.wire.link.cut(&stale);
        Some(stale)
    }
}

impl Serving {
    /// The broker closed the main channel over one of the messages under way.
    async fn replace_main(&mut self, nacks: &mut Nacks) -> Result<(), RpcError> {
        self.closed_channels += 1;
        let lane = Lane::open(&self.wire).await?;
        let mut closed = std::mem::replace(&mut self.main, lane);
        // Before those that wait already: of one group they came earlier.
        for job in closed.take_pending(nacks).into_iter().rev() {
            job.goes_alone();
            self.waiting.push_front(job);
        }
        Ok(())
    }

    /// Tells everybody whose message is not confirmed.
    fn fail(&mut self, reason: &str, nacks: &mut Nacks) {
        let jobs = std::mem::take(&mut self.waiting).into_iter();
        let careful = self.careful.take().map(|mut lane| lane.take_pending(nacks)).unwrap_or_default();
        for job in jobs.chain(careful).chain(self.main.take_pending(nacks)) {
            job.answer(Err(PublishError::Unavailable(reason.to_owned())));
        }
    }
}

/// Waits for ever without a channel.
async fn confirm_of(lane: &mut Option<Lane>) -> Option<super::lane::Confirm> {
    match lane {
        Some(lane) => lane.confirm().await,
        None => std::future::pending().await,
    }
}

fn reason(error: RpcError) -> String {
    match error {
        RpcError::Lost(reason) => reason,
        RpcError::Refused(refusal) => refusal.text,
    }
}
