//! Keeps what callers declared standing: connects, declares, consumes, and does it all again after every loss.
//!
//! One task owns what is wanted. It compares that with what stands and gives each queue that differs a round of
//! [`work`](super::work), a few at a time; whatever goes wrong makes the queue differ again. So the first
//! declaration, recovery, retries and changes are one and the same path.

mod commands;
mod rounds;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(super) use commands::Command;

use super::backoff::Backoff;
use super::consumer::Ended;
use super::entry::{Entry, Reply};
use super::health::{Health, Part};
use super::session::Session;
use super::target::Target;
use super::wire::RpcError;
use super::work::Done;
use crate::transport::{Event, TopologyError};

/// The first wait after a failed connection; a broken one is made anew at once.
pub(super) const FIRST_RECONNECT: Duration = Duration::from_millis(200);

/// The longest wait between attempts to connect: a broker that is back is noticed within seconds.
pub(super) const LONGEST_RECONNECT: Duration = Duration::from_secs(3);

/// A connection that lasted so long was a good one: the next attempt does not wait.
pub(super) const GOOD_CONNECTION: Duration = Duration::from_secs(5);

/// For the last acknowledgements at the end.
const FLUSH_DEADLINE: Duration = Duration::from_secs(5);

pub(super) struct Keeper {
    pub target: Arc<Target>,
    /// How the broker's operators see our connections.
    pub name: String,
    pub events: broadcast::Sender<Event>,
    pub health: Arc<Health>,
    pub closing: CancellationToken,
    exchanges: BTreeSet<String>,
    entries: HashMap<Arc<str>, Entry>,
    /// Queues with a caller waiting, or just lost; they go first.
    urgent: VecDeque<Arc<str>>,
    routine: VecDeque<Arc<str>>,
    due: BinaryHeap<Reverse<(Instant, Arc<str>)>>,
    /// Queues with refused bindings: the more, the slower each is tried again.
    refused: HashSet<Arc<str>>,
    generation: u64,
    last_consumer: u64,
    ended: mpsc::UnboundedSender<Ended>,
    /// Commands for queues that are being deleted.
    postponed: HashMap<Arc<str>, VecDeque<Command>>,
    /// Why there is no connection.
    reason: String,
}

/// What a finished piece of work brings back.
enum Finished {
    Queue(Box<Done>),
    Exchange { name: String, reply: Option<Reply<()>>, result: Result<(), RpcError> },
}

impl Keeper {
    pub fn new(
        target: Arc<Target>,
        name: String,
        events: broadcast::Sender<Event>,
        health: Arc<Health>,
        closing: CancellationToken,
    ) -> Self {
        Self {
            target,
            name,
            events,
            health,
            closing,
            exchanges: BTreeSet::new(),
            entries: HashMap::new(),
            urgent: VecDeque::new(),
            routine: VecDeque::new(),
            due: BinaryHeap::new(),
            refused: HashSet::new(),
            generation: 0,
            last_consumer: 0,
            ended: mpsc::unbounded_channel().0,
            postponed: HashMap::new(),
            reason: String::new(),
        }
    }

    /// Works until `closing` is cancelled.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let closing = self.closing.clone();
        let mut backoff = Backoff::new(FIRST_RECONNECT, LONGEST_RECONNECT);
        loop {
            let opened = closing.run_until_cancelled(Session::open(self.target.clone(), &self.name));
            match opened.await {
                None => break,
                Some(Ok(session)) => {
                    let since = Instant::now();
                    let reason = self.serve(Arc::new(session), &mut commands).await;
                    if closing.is_cancelled() {
                        break;
                    }
                    self.lose(reason);
                    if since.elapsed() >= GOOD_CONNECTION {
                        backoff.reset();
                        continue;
                    }
                }
                Some(Err(reason)) => {
                    if reason != self.reason {
                        warn!(reason, "no connection to the broker; trying again with backoff");
                    }
                    self.health.set(Part::Consuming, Some(reason.clone()));
                    self.reason = reason;
                }
            }
            // Commands that came meanwhile, and that come while we wait, are remembered and told that there is no broker.
            let wait = tokio::time::sleep(backoff.wait());
            tokio::pin!(wait);
            loop {
                tokio::select! {
                    () = closing.cancelled() => break,
                    () = &mut wait => break,
                    Some(command) = commands.recv() => self.offline(command),
                }
            }
        }
        let closed = TopologyError::Unavailable("the transport is closed".into());
        for entry in self.entries.values_mut() {
            entry.lose(&closed);
        }
    }

    /// Serves one session; returns why it ended.
    async fn serve(&mut self, session: Arc<Session>, commands: &mut mpsc::Receiver<Command>) -> String {
        self.generation += 1;
        for name in self.exchanges.clone() {
            match session.current_topology().declare_exchange(&name).await {
                Ok(()) => {}
                Err(RpcError::Refused(refusal)) => {
                    warn!(exchange = name, %refusal, "the broker refuses an exchange");
                }
                Err(RpcError::Lost(reason)) => return reason,
            }
        }
        info!(generation = self.generation, broker = self.target.describe(), "connected to the broker");
        self.reason.clear();
        metrics::counter!("pulsehook_pulse_connections_total", "connection" => "consuming").increment(1);
        let _ = self.events.send(Event::Connected { generation: self.generation });
        self.health.set(Part::Consuming, None);
        let (ended, mut ends) = mpsc::unbounded_channel();
        self.ended = ended;
        let names: Vec<Arc<str>> = self.entries.keys().cloned().collect();
        for name in names {
            self.mark(&name, false);
        }
        let mut tasks = JoinSet::new();
        let watch = session.consumers.watch();
        tokio::pin!(watch);
        let closing = self.closing.clone();
        let reason = loop {
            self.dispatch(&session, &mut tasks);
            if session.consumers.worn() {
                break "too many of its channels were closed".into();
            }
            let next_due = self.due.peek().map(|Reverse((due, _))| *due);
            tokio::select! {
                biased;
                () = closing.cancelled() => break "closed".into(),
                () = session.consumers.wire.link.ended() => break session.consumers.wire.link.reason(),
                () = &mut watch => break session.consumers.wire.link.reason(),
                Some(ended) = ends.recv() => self.ended(ended),
                Some(finished) = tasks.join_next(), if !tasks.is_empty() => match finished {
                    Ok(finished) => self.finished(finished, &session, &mut tasks),
                    // A round that panicked would leave its queue busy for ever.
                    Err(error) => break format!("internal error: {error}"),
                },
                Some(command) = commands.recv() => self.online(command, &session, &mut tasks),
                () = sleep_until(next_due), if next_due.is_some() => self.wake(),
            }
        };
        // What is under way fails by itself; aborting it in the middle would upset amqprs.
        tasks.detach_all();
        if closing.is_cancelled() {
            self.farewell(&session).await;
        }
        reason
    }

    /// Ends a session in order: no new deliveries, acknowledgements flushed, connections closed.
    async fn farewell(&mut self, session: &Session) {
        for entry in self.entries.values_mut() {
            entry.running = None;
        }
        let _ = tokio::time::timeout(FLUSH_DEADLINE, session.consumers.flush()).await;
        tokio::join!(session.consumers.wire.close(), async { session.current_topology().wire.close().await });
    }

    fn lose(&mut self, reason: String) {
        warn!(generation = self.generation, reason, "the connection to the broker is lost; connecting again");
        self.health.set(Part::Consuming, Some(reason.clone()));
        let error = TopologyError::Unavailable(reason.clone());
        for entry in self.entries.values_mut() {
            entry.lose(&error);
        }
        for (_, commands) in std::mem::take(&mut self.postponed) {
            commands.into_iter().for_each(|command| self.offline(command));
        }
        // Never declared, only deleted: the caller repeats it.
        self.entries.retain(|_, entry| entry.spec.is_some());
        self.urgent.clear();
        self.routine.clear();
        self.due.clear();
        let _ = self.events.send(Event::Disconnected { generation: self.generation, reason: reason.clone() });
        self.reason = reason;
    }

    /// This queue needs a round.
    fn mark(&mut self, name: &Arc<str>, urgent: bool) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.dirty = true;
        if urgent {
            self.urgent.push_back(name.clone());
        } else {
            self.routine.push_back(name.clone());
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due.into()).await;
    }
}
