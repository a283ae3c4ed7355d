//! Topic exchanges and durable queues inside this process, for one machine without a broker.
//!
//! The promises are a broker's: a publish that returned is in every queue bound at that moment and survives `kill -9`;
//! what was delivered and not settled is delivered again, in order and marked as redelivered; nobody waits for a slow
//! consumer but that consumer. One thread owns a SQLite file and the state drawn from it, and does all the work in
//! transactions that form by themselves: it takes whatever waits, commits once, and answers everybody. A channel in
//! memory would have been faster and would have lost messages, and files of our own would have had to learn what
//! SQLite knows about crashes.
//!
//! Differences to RabbitMQ: one kind of queue (it has the delivery limit of a quorum queue), no users, and a queue
//! declared with other arguments is changed where the broker would refuse.

mod broker;
mod command;
mod db;
mod dead_letter;
mod deliver;
mod pump;
mod routes;
mod settle;
#[cfg(test)]
mod tests;
mod topology;

use std::path::Path;
use std::sync::{Arc, mpsc as std_mpsc};

use async_trait::async_trait;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::naming::check_name;
use crate::transport::{
    BindingHealth, Delivery, EVENT_BACKLOG, Event, PublishError, Published, QueueSpec, Status, TopologyError,
    Transport,
};
use crate::{Message, embedded::command::Command};

pub use db::OpenError;

/// So many publishes may wait for their commit at once; more wait for their turn, so that a burst of large messages does
/// not pile up in memory. Twice what one commit takes keeps the thread busy.
const MAX_PUBLISHING: usize = 1024;

/// The only generation: this transport is never disconnected while the process lives.
const GENERATION: u64 = 1;

/// The embedded transport. See the [module](self) for what it promises.
pub struct Embedded {
    commands: std_mpsc::Sender<Command>,
    publishing: Semaphore,
    events: broadcast::Sender<Event>,
    status: watch::Receiver<Status>,
}

impl Embedded {
    /// Opens the file, or makes it, and goes on where an earlier process stopped. Blocks while it reads what waits.
    ///
    /// Only one process may have the file open.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::start(db::Db::open(path)?, path)
    }

    fn start(db: db::Db, path: &Path) -> Result<Self, OpenError> {
        let (commands, inbox) = std_mpsc::channel();
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let (status_tx, status) = watch::channel(Status::Up);
        let broker = broker::Broker::new(db, commands.clone(), events.clone(), status_tx)
            .map_err(|source| OpenError::Database { path: path.to_owned(), source })?;
        std::thread::Builder::new()
            .name("pulse-embedded".into())
            .spawn(move || broker.run(inbox))
            .map_err(OpenError::Thread)?;
        Ok(Self { commands, publishing: Semaphore::new(MAX_PUBLISHING), events, status })
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, String> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())
    }
}

fn closed() -> String {
    "the embedded transport is closed".into()
}

#[async_trait]
impl Transport for Embedded {
    async fn publish(&self, message: &Message, mandatory: bool) -> Result<Published, PublishError> {
        message.check().map_err(PublishError::Refused)?;
        let _turn = self.publishing.acquire().await.map_err(|_| PublishError::Unavailable(closed()))?;
        let message = Arc::new(message.clone());
        self.ask(|reply| Command::Publish { message, mandatory, reply })
            .await
            .map_err(PublishError::Unavailable)?
    }

    async fn declare_exchange(&self, name: &str) -> Result<(), TopologyError> {
        check_name("the exchange name", name).map_err(TopologyError::Refused)?;
        let name = name.to_owned();
        self.ask(|reply| Command::DeclareExchange { name, reply })
            .await
            .map_err(TopologyError::Unavailable)?
    }

    async fn exchange_stands(&self, name: &str) -> Result<bool, TopologyError> {
        let name = name.to_owned();
        self.ask(|reply| Command::ExchangeStands { name, reply }).await.map_err(TopologyError::Unavailable)?
    }

    async fn declare_queue(&self, spec: QueueSpec) -> Result<Vec<BindingHealth>, TopologyError> {
        check_name("the queue name", &spec.name).map_err(TopologyError::Refused)?;
        self.ask(|reply| Command::DeclareQueue { spec, reply }).await.map_err(TopologyError::Unavailable)?
    }

    async fn delete_queue(&self, name: &str) -> Result<u64, TopologyError> {
        let name = name.to_owned();
        self.ask(|reply| Command::DeleteQueue { name, reply }).await.map_err(TopologyError::Unavailable)?
    }

    async fn consume(
        &self,
        queue: &str,
        prefetch: u16,
        sink: mpsc::Sender<Delivery>,
    ) -> Result<(), TopologyError> {
        if prefetch == 0 {
            return Err(TopologyError::Refused("prefetch must not be 0".into()));
        }
        let queue = queue.to_owned();
        let stop = CancellationToken::new();
        let (pump, waiting) = mpsc::unbounded_channel();
        tokio::spawn(pump::run(queue.clone(), waiting, sink, stop.clone(), self.commands.clone()));
        let stop = stop.drop_guard();
        self.ask(|reply| Command::Consume { queue, prefetch, pump, stop, reply })
            .await
            .map_err(TopologyError::Unavailable)?
    }

    async fn cancel(&self, queue: &str) -> Result<(), TopologyError> {
        let queue = queue.to_owned();
        self.ask(|reply| Command::Cancel { queue, reply }).await.map_err(TopologyError::Unavailable)?
    }

    async fn waiting(&self, queue: &str) -> Result<u64, TopologyError> {
        let queue = queue.to_owned();
        self.ask(|reply| Command::Waiting { queue, reply }).await.map_err(TopologyError::Unavailable)?
    }

    fn unconfirmed(&self) -> usize {
        MAX_PUBLISHING - self.publishing.available_permits()
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    async fn close(&self) {
        let _ = self.ask(|reply| Command::Close { reply: Some(reply) }).await;
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Close { reply: None });
    }
}
