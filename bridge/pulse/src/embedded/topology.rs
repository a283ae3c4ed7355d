//! Exchanges, queues, bindings and consumers of the embedded transport.

use std::collections::BTreeSet;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::DropGuard;

use super::broker::{Broker, Consumer, Queue};
use crate::naming::check_name;
use crate::transport::{Binding, BindingHealth, Delivery, Event, QueueSpec, TopologyError};

type Reply<T> = oneshot::Sender<Result<T, TopologyError>>;

impl Broker {
    /// Answers after the commit.
    fn answer<T: Send + 'static>(&mut self, reply: Reply<T>, answer: Result<T, TopologyError>) {
        self.batch.answers.push(Box::new(move |failed| {
            let answer = match failed {
                Some(reason) => Err(TopologyError::Unavailable(reason.to_owned())),
                None => answer,
            };
            let _ = reply.send(answer);
        }));
    }

    pub fn declare_exchange(
        &mut self,
        name: String,
        reply: Reply<()>,
        healthy: bool,
    ) -> rusqlite::Result<()> {
        self.answer(reply, Ok(()));
        if !healthy || self.routes.has_exchange(&name) {
            return Ok(());
        }
        self.db.add_exchange(&name)?;
        self.routes.add_exchange(name.clone());
        // What was bound to it before it existed stands from now on.
        for (queue_name, queue) in &mut self.queues {
            let (healed, waiting): (BTreeSet<_>, BTreeSet<_>) =
                std::mem::take(&mut queue.waiting).into_iter().partition(|binding| binding.exchange == name);
            queue.waiting = waiting;
            for binding in healed {
                self.db.bind(queue.id, &binding)?;
                self.routes.bind(queue_name, &binding);
                let health = BindingHealth { binding, error: None };
                self.batch.events.push(Event::Binding { queue: queue_name.clone(), health });
            }
        }
        Ok(())
    }

    pub fn exchange_stands(&mut self, name: &str, reply: Reply<bool>) {
        let stands = self.routes.has_exchange(name);
        self.answer(reply, Ok(stands));
    }

    pub fn declare_queue(
        &mut self,
        spec: QueueSpec,
        reply: Reply<Vec<BindingHealth>>,
        healthy: bool,
    ) -> rusqlite::Result<()> {
        let made = if healthy { self.make_queue(&spec) } else { Ok(Vec::new()) };
        self.answer(reply, Ok(made.as_ref().cloned().unwrap_or_default()));
        made.map(drop)
    }

    fn make_queue(&mut self, spec: &QueueSpec) -> rusqlite::Result<Vec<BindingHealth>> {
        let id = self.db.put_queue(spec)?;
        let queue = self.queues.entry(spec.name.clone()).or_insert_with(|| Queue {
            id,
            dead_letter_exchange: None,
            max_length: None,
            delivery_limit: None,
            delivered: 0,
            ready: Default::default(),
            consumer: None,
            wanted: BTreeSet::new(),
            waiting: BTreeSet::new(),
        });
        queue.dead_letter_exchange.clone_from(&spec.dead_letter_exchange);
        queue.max_length = spec.max_length;
        queue.delivery_limit = spec.delivery_limit;
        queue.waiting.clear();
        let wanted: BTreeSet<Binding> = spec.bindings.iter().cloned().collect();
        let before = std::mem::replace(&mut queue.wanted, wanted);
        // As on a broker, a binding of an earlier process stands until somebody names it.
        for binding in before.iter().chain(&spec.unbind).filter(|b| !queue.wanted.contains(b)) {
            self.db.unbind(id, binding)?;
            self.routes.unbind(&spec.name, binding);
        }
        let mut healths = Vec::with_capacity(spec.bindings.len());
        for binding in &spec.bindings {
            let error = if let Err(reason) = check_name("the pattern", &binding.pattern) {
                Some(reason)
            } else if self.routes.bind(&spec.name, binding) {
                self.db.bind(id, binding)?;
                None
            } else {
                queue.waiting.insert(binding.clone());
                Some(format!("no exchange '{}'", binding.exchange))
            };
            healths.push(BindingHealth { binding: binding.clone(), error });
        }
        Ok(healths)
    }

    pub fn delete_queue(&mut self, name: &str, reply: Reply<u64>, healthy: bool) -> rusqlite::Result<()> {
        let Some(queue) = healthy.then(|| self.queues.remove(name)).flatten() else {
            self.answer(reply, Ok(0));
            return Ok(());
        };
        // A queue made again under the same name must not meet what was delivered from this one.
        self.out.retain(|_, out| &*out.queue != name);
        self.answer(reply, Ok(queue.ready.len() as u64));
        let cached = queue.ready.values().filter_map(|ready| ready.cached.as_ref());
        self.cached = self.cached.saturating_sub(cached.map(|message| message.body.len()).sum());
        self.routes.unbind_all(name);
        self.db.delete_queue(queue.id)
    }

    /// How many messages wait in a queue.
    pub fn waiting(&mut self, name: &str, reply: Reply<u64>) {
        let answer = match self.queues.get(name) {
            Some(queue) => Ok(queue.ready.len() as u64),
            None => Err(TopologyError::Refused(format!("no queue '{name}' was declared"))),
        };
        self.answer(reply, answer);
    }

    pub fn consume(
        &mut self,
        name: &str,
        prefetch: u16,
        pump: mpsc::UnboundedSender<Delivery>,
        stop: DropGuard,
        reply: Reply<()>,
    ) {
        let Some(queue) = self.queues.get_mut(name) else {
            let unknown = TopologyError::Refused(format!("no queue '{name}' was declared"));
            return self.answer(reply, Err(unknown));
        };
        self.last_consumer += 1;
        let id = self.last_consumer;
        queue.consumer = Some(Consumer { id, prefetch: prefetch.into(), held: 0, pump, _stop: stop });
        self.batch.dirty.insert(name.into());
        self.answer(reply, Ok(()));
    }

    /// Stops the queue's consumer; its pump puts back what has not reached the sink.
    pub fn cancel(&mut self, name: &str) {
        if let Some(queue) = self.queues.get_mut(name) {
            queue.consumer = None;
        }
    }
}
