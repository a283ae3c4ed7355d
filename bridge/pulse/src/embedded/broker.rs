//! The thread that owns the file and the state drawn from it.
//!
//! It takes whatever commands wait, does them in one transaction, commits, and only then answers, delivers and tells.
//! When a transaction fails (a full disk), nothing of it has happened: the state is drawn from the file anew, publishers and
//! declarers are told, settlements are kept and repeated, and the status says why until it works again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::DropGuard;

use super::command::{Command, Settler};
use super::db::{Db, EntryRow};
use super::routes::Routes;
use crate::Message;
use crate::transport::{Binding, Delivery, Event, Settle, Settlement, Status};

/// One transaction takes at most so many commands: more would delay the first for little gain.
const MAX_BATCH: usize = 512;

/// A pause after a failed transaction: whatever fills the disk is seldom gone sooner.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(500);

pub(super) struct Broker {
    pub db: Db,
    pub routes: Routes,
    pub queues: HashMap<Arc<str>, Queue>,
    /// What consumers hold, by delivery tag.
    pub out: HashMap<u64, Out>,
    pub last_tag: u64,
    pub last_consumer: u64,
    /// Bytes of bodies that wait in memory beside the file.
    pub cached: usize,
    pub batch: Batch,
    pub settler: Arc<dyn Settle>,
    pub commands: std_mpsc::Sender<Command>,
    events: broadcast::Sender<Event>,
    status: watch::Sender<Status>,
    /// A transaction failed and the state has not been drawn from the file since.
    stale: bool,
}

pub(super) struct Queue {
    pub id: i64,
    pub dead_letter_exchange: Option<String>,
    pub max_length: Option<u32>,
    pub delivery_limit: Option<u32>,
    /// The highest entry ever handed out.
    pub delivered: i64,
    pub ready: BTreeMap<i64, Ready>,
    pub consumer: Option<Consumer>,
    /// The bindings of the spec that this process declared.
    pub wanted: BTreeSet<Binding>,
    /// Bindings to exchanges that nobody has declared yet.
    pub waiting: BTreeSet<Binding>,
}

/// A message that waits in a queue.
pub(super) struct Ready {
    pub message: i64,
    pub redeliveries: u32,
    pub redelivered: bool,
    /// The message itself, while there is room for it in memory.
    pub cached: Option<Arc<Message>>,
}

pub(super) struct Consumer {
    pub id: u64,
    pub prefetch: usize,
    pub held: usize,
    pub pump: mpsc::UnboundedSender<Delivery>,
    pub _stop: DropGuard,
}

/// A message that a consumer holds.
pub(super) struct Out {
    pub queue: Arc<str>,
    pub consumer: u64,
    pub entry: EntryRow,
    pub message: Arc<Message>,
}

/// The answer to one command, given after the commit (`None`) or with the reason why there was none.
type Answer = Box<dyn FnOnce(Option<&str>) + Send>;

/// What becomes true with the commit.
#[derive(Default)]
pub(super) struct Batch {
    pub answers: Vec<Answer>,
    pub deliveries: Vec<(mpsc::UnboundedSender<Delivery>, Delivery)>,
    pub events: Vec<Event>,
    /// Queues that may have something to deliver.
    pub dirty: BTreeSet<Arc<str>>,
    /// What was handed out in this transaction.
    pub assigned: Vec<u64>,
    /// What was settled in it, to be restored if it fails.
    pub settled: Vec<(u64, Settlement, Out)>,
}

impl Broker {
    pub fn new(
        db: Db,
        commands: std_mpsc::Sender<Command>,
        events: broadcast::Sender<Event>,
        status: watch::Sender<Status>,
    ) -> rusqlite::Result<Self> {
        let mut broker = Self {
            db,
            routes: Routes::default(),
            queues: HashMap::new(),
            out: HashMap::new(),
            last_tag: 0,
            last_consumer: 0,
            cached: 0,
            batch: Batch::default(),
            settler: Arc::new(Settler(commands.clone())),
            commands,
            events,
            status,
            stale: false,
        };
        broker.reload()?;
        Ok(broker)
    }

    /// Works until [`Command::Close`].
    pub fn run(mut self, inbox: std_mpsc::Receiver<Command>) {
        while let Ok(first) = inbox.recv() {
            let mut closing = None;
            let failed = self.transaction(first, &inbox, &mut closing).err();
            let reason = failed.map(|error| format!("the embedded transport cannot write its file: {error}"));
            self.finish(reason);
            if let Some(reply) = closing {
                // The consumers' pumps and the file end before the answer: who was answered may open the file again.
                drop(self);
                if let Some(reply) = reply {
                    let _ = reply.send(());
                }
                return;
            }
        }
    }

    fn transaction(
        &mut self,
        first: Command,
        inbox: &std_mpsc::Receiver<Command>,
        closing: &mut Option<Option<tokio::sync::oneshot::Sender<()>>>,
    ) -> rusqlite::Result<()> {
        let mut result = if self.stale { self.reload() } else { Ok(()) };
        result = result.and_then(|()| self.db.begin());
        let mut next = Some(first);
        let mut done = 0;
        while let Some(command) = next.take() {
            if let Command::Close { reply } = command {
                *closing = Some(reply);
                break;
            }
            // After the first failure the rest is only taken in, so that it can be answered.
            let applied = self.apply(command, result.is_ok());
            result = result.and(applied);
            done += 1;
            if done < MAX_BATCH {
                next = inbox.try_recv().ok();
            }
        }
        result?;
        self.deliver()?;
        self.db.commit()
    }

    fn apply(&mut self, command: Command, healthy: bool) -> rusqlite::Result<()> {
        match command {
            Command::Publish { message, mandatory, reply } => {
                self.publish(message, mandatory, reply, healthy)
            }
            Command::DeclareExchange { name, reply } => self.declare_exchange(name, reply, healthy),
            Command::ExchangeStands { name, reply } => {
                self.exchange_stands(&name, reply);
                Ok(())
            }
            Command::DeclareQueue { spec, reply } => self.declare_queue(spec, reply, healthy),
            Command::DeleteQueue { name, reply } => self.delete_queue(&name, reply, healthy),
            Command::Consume { queue, prefetch, pump, stop, reply } => {
                self.consume(&queue, prefetch, pump, stop, reply);
                Ok(())
            }
            Command::Cancel { queue, reply } => {
                self.cancel(&queue);
                self.batch.answers.push(Box::new(move |_| drop(reply.send(Ok(())))));
                Ok(())
            }
            Command::Waiting { queue, reply } => {
                self.waiting(&queue, reply);
                Ok(())
            }
            Command::SinkClosed { queue } => {
                self.cancel(&queue);
                Ok(())
            }
            Command::Settle { tag, how } => self.settle(tag, how, healthy),
            Command::Close { .. } => Ok(()),
        }
    }

    /// Makes the transaction's effects true, or undoes them.
    fn finish(&mut self, failed: Option<String>) {
        let batch = std::mem::take(&mut self.batch);
        match failed {
            None => {
                for event in batch.events {
                    let _ = self.events.send(event);
                }
                for answer in batch.answers {
                    answer(None);
                }
                for (pump, delivery) in batch.deliveries {
                    // Without its pump the delivery is dropped, and so put back.
                    let _ = pump.send(delivery);
                }
                self.status.send_if_modified(|status| std::mem::replace(status, Status::Up) != Status::Up);
            }
            Some(reason) => {
                self.db.rollback();
                self.stale = true;
                for tag in batch.assigned {
                    self.out.remove(&tag);
                }
                for (tag, how, out) in batch.settled {
                    self.out.insert(tag, out);
                    let _ = self.commands.send(Command::Settle { tag, how });
                }
                self.status.send_replace(Status::Down { reason: reason.clone() });
                for answer in batch.answers {
                    answer(Some(&reason));
                }
                std::thread::sleep(PAUSE_AFTER_FAILURE);
            }
        }
    }

    /// Draws queues, bindings and waiting messages from the file. Consumers and what they hold stay.
    fn reload(&mut self) -> rusqlite::Result<()> {
        let mut routes = Routes::default();
        for exchange in self.db.exchanges()? {
            routes.add_exchange(exchange);
        }
        let held: HashSet<i64> = self.out.values().map(|out| out.entry.seq).collect();
        let mut queues = HashMap::new();
        for row in self.db.queues()? {
            let name: Arc<str> = row.name.into();
            for binding in self.db.bindings(row.id)? {
                routes.bind(&name, &binding);
            }
            let ready = self.db.entries(row.id)?.into_iter().filter(|entry| !held.contains(&entry.seq));
            let ready = ready.map(|entry| (entry.seq, Ready::waiting(entry, row.delivered))).collect();
            let queue = Queue {
                id: row.id,
                dead_letter_exchange: row.dead_letter_exchange,
                max_length: row.max_length,
                delivery_limit: row.delivery_limit,
                delivered: row.delivered,
                ready,
                consumer: None,
                wanted: BTreeSet::new(),
                waiting: BTreeSet::new(),
            };
            queues.insert(name, queue);
        }
        for (name, old) in self.queues.drain() {
            if let Some(queue) = queues.get_mut(&name) {
                queue.wanted = old.wanted;
                queue.waiting = old.waiting;
                queue.consumer = old.consumer.map(|mut consumer| {
                    consumer.held = self.out.values().filter(|out| out.consumer == consumer.id).count();
                    consumer
                });
            }
        }
        self.batch.dirty.extend(queues.keys().cloned());
        self.queues = queues;
        self.routes = routes;
        self.cached = 0;
        self.stale = false;
        Ok(())
    }
}

impl Ready {
    fn waiting(entry: EntryRow, delivered: i64) -> Self {
        Self {
            message: entry.message,
            redeliveries: entry.redeliveries,
            redelivered: entry.seq <= delivered,
            cached: None,
        }
    }
}
