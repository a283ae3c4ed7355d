//! Rounds of work: which queue is next, and what follows from the outcome.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tracing::{info, warn};

use super::{Finished, Keeper};
use crate::amqp::backoff::jitter;
use crate::amqp::consumer::Ended;
use crate::amqp::consumers::{Running, Start};
use crate::amqp::session::Session;
use crate::amqp::topology::CHANNELS;
use crate::amqp::wire::RpcError;
use crate::amqp::work::{self, Done, Failure, Outcome, Work};
use crate::transport::{BindingHealth, Event, TopologyError};

/// What stands is declared again now and then: a binding goes with a foreign exchange that somebody deletes and makes
/// again, and nobody says so. All queues together twenty times a second at most, each as often as that allows within these
/// bounds: a few hundred hooks have their binding back in half a minute, and ten thousand cost the broker no more.
const REASSERT: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
const REASSERT_SPREAD: Duration = Duration::from_millis(50);

/// All refused queues together are tried again about ten times a second, however many they are …
const SPREAD: Duration = Duration::from_millis(100);

/// … but each at least so often.
const LONGEST_SPREAD: Duration = Duration::from_secs(300);

impl Keeper {
    /// Starts rounds while there is room.
    pub(super) fn dispatch(&mut self, session: &Arc<Session>, tasks: &mut JoinSet<Finished>) {
        while tasks.len() < CHANNELS {
            let Some(name) = self.urgent.pop_front().or_else(|| self.routine.pop_front()) else { return };
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            if entry.busy || !entry.dirty {
                // A busy queue is looked at again when its round is over.
                continue;
            }
            entry.busy = true;
            entry.dirty = false;
            entry.due = None;
            entry.serving = std::mem::take(&mut entry.waiting);
            let restart = entry.want.is_none() || entry.rewanted || entry.deleting;
            let stop = if restart { entry.running.take() } else { None };
            let declare = entry.spec.clone().filter(|_| entry.undeclared && !entry.deleting);
            let start = match &entry.want {
                Some(want) if entry.running.is_none() => {
                    self.last_consumer += 1;
                    Some(Start {
                        queue: name.clone(),
                        prefetch: want.prefetch,
                        sink: want.sink.clone(),
                        generation: self.generation,
                        id: self.last_consumer,
                        ended: self.ended.clone(),
                    })
                }
                _ => None,
            };
            entry.rewanted = false;
            entry.undeclared = false;
            let work = Work {
                queue: name,
                stop,
                delete: entry.deleting,
                declare,
                unbind: entry.unbind.clone(),
                start,
                suspect: entry.suspect,
            };
            let session = session.clone();
            tasks.spawn(async move { Finished::Queue(Box::new(work::run(session, work).await)) });
        }
    }

    pub(super) fn finished(
        &mut self,
        finished: Finished,
        session: &Arc<Session>,
        tasks: &mut JoinSet<Finished>,
    ) {
        match finished {
            Finished::Exchange { name, reply, result } => {
                self.exchange_declared(name, reply, result, session)
            }
            Finished::Queue(done) => {
                let name = done.queue.clone();
                self.round_over(*done);
                // Deleted, or not to be deleted: what was asked for meanwhile has its turn.
                if !self.entries.get(&name).is_some_and(|entry| entry.deleting) {
                    for command in self.postponed.remove(&name).unwrap_or_default() {
                        self.online(command, session, tasks);
                    }
                }
            }
        }
    }

    fn exchange_declared(
        &mut self,
        name: String,
        reply: Option<super::Reply<()>>,
        result: Result<(), RpcError>,
        session: &Session,
    ) {
        let answer = match result {
            Ok(()) => {
                session.note_declared(&name);
                // Without a caller it is one that somebody deleted, and all bindings with it.
                let restored = reply.is_none();
                let affected: Vec<Arc<str>> = self
                    .entries
                    .iter_mut()
                    .filter_map(|(queue, entry)| {
                        let mut bindings = entry.spec.iter().flat_map(|spec| &spec.bindings);
                        let healths = &entry.healths;
                        let hit = bindings.any(|binding| {
                            binding.exchange == name
                                && (restored || healths.get(binding).is_some_and(Option::is_some))
                        });
                        entry.undeclared |= hit;
                        hit.then(|| queue.clone())
                    })
                    .collect();
                affected.iter().for_each(|queue| self.mark(queue, false));
                Ok(())
            }
            Err(RpcError::Refused(refusal)) => Err(TopologyError::Refused(refusal.text)),
            Err(RpcError::Lost(reason)) => Err(TopologyError::Unavailable(reason)),
        };
        match reply {
            Some(reply) => drop(reply.send(answer)),
            None => match answer {
                Ok(()) => warn!(exchange = name, "an exchange of ours was missing and was declared again"),
                Err(error) => warn!(exchange = name, %error, "an exchange of ours is missing"),
            },
        }
    }

    fn round_over(&mut self, done: Done) {
        let Some(entry) = self.entries.get_mut(&done.queue) else { return };
        let name = done.queue.clone();
        entry.busy = false;
        entry.unbind.retain(|binding| !done.unbound.contains(binding));
        let mut events = Vec::new();
        for health in done.healths {
            let wanted = entry.spec.as_ref().is_some_and(|spec| spec.bindings.contains(&health.binding));
            let before = entry.healths.get(&health.binding).cloned().unwrap_or_default();
            if wanted && before != health.error {
                events.push(Event::Binding { queue: name.clone(), health: health.clone() });
            }
            if wanted {
                let BindingHealth { binding, error } = health;
                entry.healths.insert(binding, error);
            }
        }
        let mut serving = std::mem::take(&mut entry.serving);
        let mut retry = true;
        let error = match done.result {
            Ok(Outcome::Deleted(messages)) => {
                // Whoever asked meanwhile is answered too: what comes later was postponed.
                let mut waiting = std::mem::take(&mut entry.waiting);
                self.refused.remove(&name);
                self.entries.remove(&name);
                for waiters in [&mut serving, &mut waiting] {
                    waiters.delete.drain(..).for_each(|waiter| drop(waiter.send(Ok(messages))));
                    waiters.cancel.drain(..).for_each(|waiter| drop(waiter.send(Ok(()))));
                    waiters
                        .fail(&TopologyError::Refused(format!("the queue '{name}' was deleted meanwhile")));
                }
                return;
            }
            Ok(Outcome::Stands(running)) => {
                entry.suspect &= running.is_none();
                entry.running = running.or(entry.running.take());
                retry = entry.has_refused_bindings();
                None
            }
            Err(Failure::Consumer(reason)) => {
                entry.suspect = true;
                for waiter in serving.consume.drain(..) {
                    let _ = waiter.send(Err(TopologyError::Refused(reason.clone())));
                }
                Some(reason)
            }
            Err(Failure::Queue(reason)) => {
                serving.fail(&TopologyError::Refused(reason.clone()));
                entry.deleting = !entry.waiting.delete.is_empty();
                Some(reason)
            }
            Err(Failure::Lost(reason)) => {
                // If all connections are lost everything begins anew, and else this queue after a moment.
                serving.fail(&TopologyError::Unavailable(reason));
                entry.undeclared = entry.spec.is_some();
                entry.deleting = !entry.waiting.delete.is_empty();
                entry.ended_early = None;
                self.schedule(&name, true);
                return;
            }
        };
        let health = entry.health();
        serving.declare.into_iter().for_each(|waiter| drop(waiter.send(Ok(health.clone()))));
        serving.consume.into_iter().chain(serving.cancel).for_each(|waiter| drop(waiter.send(Ok(()))));
        let early = entry.ended_early.take();
        self.report(&name, error);
        for event in events {
            let _ = self.events.send(event);
        }
        if let Some((id, reason)) = early {
            self.ended(Ended { queue: name.clone(), id, reason });
        }
        self.schedule(&name, retry);
    }

    /// When to look at this queue again.
    fn schedule(&mut self, name: &Arc<str>, retry: bool) {
        let queues = self.entries.len();
        let Some(entry) = self.entries.get_mut(name) else { return };
        if entry.dirty {
            // Something was asked for during the round.
            self.mark(name, true);
            return;
        }
        if entry.spec.is_none() {
            // Its deletion was refused; there is nothing to keep.
            self.entries.remove(name);
            return;
        }
        let wait = if retry {
            self.refused.insert(name.clone());
            let spread = SPREAD * u32::try_from(self.refused.len()).unwrap_or(u32::MAX);
            entry.backoff.wait().max(jitter(spread.min(LONGEST_SPREAD)))
        } else {
            self.refused.remove(name);
            entry.backoff.reset();
            let spread = REASSERT_SPREAD * u32::try_from(queues).unwrap_or(u32::MAX);
            jitter(spread.clamp(REASSERT.0, REASSERT.1))
        };
        let due = Instant::now() + wait;
        entry.due = Some(due);
        self.due.push(Reverse((due, name.clone())));
    }

    /// Starts rounds for the queues whose time has come.
    pub(super) fn wake(&mut self) {
        let now = Instant::now();
        while self.due.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            let Some(Reverse((due, name))) = self.due.pop() else { return };
            // Another round came between if the entry knows of another time.
            if let Some(entry) = self.entries.get_mut(&name).filter(|entry| entry.due == Some(due)) {
                entry.undeclared = true;
                self.mark(&name, false);
            }
        }
    }

    /// A consumer ended without being asked to.
    pub(super) fn ended(&mut self, ended: Ended) {
        let Some(entry) = self.entries.get_mut(&ended.queue) else { return };
        if entry.running.as_ref().map(|running: &Running| running.id) != Some(ended.id) {
            if entry.busy {
                entry.ended_early = Some((ended.id, ended.reason));
            }
            return;
        }
        match ended.reason {
            // Nobody listens any more: it is stopped like any other.
            None => entry.want = None,
            Some(reason) => {
                entry.running = None;
                entry.undeclared = true;
                // What it held is delivered again: under a later generation, so that it is not taken for new.
                self.generation += 1;
                self.report(&ended.queue, Some(reason));
            }
        }
        self.mark(&ended.queue, true);
    }

    /// Says so when a queue's state has changed.
    fn report(&mut self, name: &Arc<str>, error: Option<String>) {
        let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.error != error) else { return };
        match &error {
            Some(reason) => warn!(queue = %name, reason, "a queue does not work; trying again with backoff"),
            None => info!(queue = %name, "a queue works again"),
        }
        entry.error.clone_from(&error);
        let _ = self.events.send(Event::Queue { queue: name.clone(), error });
    }
}
