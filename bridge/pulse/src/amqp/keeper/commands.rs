//! What callers ask of the keeper, with and without a broker.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Finished, Keeper};
use crate::amqp::entry::{Entry, Reply, Want};
use crate::amqp::session::Session;
use crate::amqp::wire::RpcError;
use crate::transport::{BindingHealth, Delivery, QueueSpec, TopologyError};

/// One request and the place for its answer.
pub(in crate::amqp) enum Command {
    DeclareExchange {
        name: String,
        reply: Reply<()>,
    },
    /// Whether there is such an exchange.
    ExchangeStands {
        name: String,
        reply: Reply<bool>,
    },
    /// A publish met no such exchange: if it is one of ours it has to be declared again.
    ExchangeMissing {
        name: String,
    },
    DeclareQueue {
        spec: QueueSpec,
        reply: Reply<Vec<BindingHealth>>,
    },
    DeleteQueue {
        name: Arc<str>,
        reply: Reply<u64>,
    },
    Consume {
        queue: Arc<str>,
        prefetch: u16,
        sink: mpsc::Sender<Delivery>,
        reply: Reply<()>,
    },
    Cancel {
        queue: Arc<str>,
        reply: Option<Reply<()>>,
    },
    /// How many messages wait in the queue.
    Waiting {
        queue: Arc<str>,
        reply: Reply<u64>,
    },
}

impl Command {
    fn queue(&self) -> Option<&Arc<str>> {
        match self {
            // Asking changes nothing, so it need not wait for anything.
            Self::DeclareExchange { .. }
            | Self::ExchangeStands { .. }
            | Self::ExchangeMissing { .. }
            | Self::Waiting { .. } => None,
            Self::DeclareQueue { spec, .. } => Some(&spec.name),
            Self::DeleteQueue { name, .. } => Some(name),
            Self::Consume { queue, .. } | Self::Cancel { queue, .. } => Some(queue),
        }
    }
}

impl Keeper {
    /// Whether the queue was declared, and nothing says that it is not there.
    fn stands(&self, queue: &str) -> bool {
        self.entries
            .get(queue)
            .is_some_and(|entry| entry.error.is_none() && !entry.deleting && !entry.undeclared)
    }

    /// Without a connection: what is wanted is noted, and made when there is one.
    pub(super) fn offline(&mut self, command: Command) {
        let unavailable = TopologyError::Unavailable(self.reason.clone());
        match command {
            Command::DeclareExchange { name, reply } => {
                self.exchanges.insert(name);
                let _ = reply.send(Err(unavailable));
            }
            Command::ExchangeStands { reply, .. } => drop(reply.send(Err(unavailable))),
            Command::Waiting { reply, .. } => drop(reply.send(Err(unavailable))),
            // All exchanges are declared when there is a connection.
            Command::ExchangeMissing { .. } => {}
            Command::DeclareQueue { spec, reply } => {
                self.entries.entry(spec.name.clone()).or_insert_with(Entry::new).respecify(spec);
                let _ = reply.send(Err(unavailable));
            }
            Command::DeleteQueue { name, reply } => {
                if let Some(entry) = self.entries.get_mut(&name) {
                    entry.want = None;
                }
                let _ = reply.send(Err(unavailable));
            }
            Command::Consume { queue, prefetch, sink, reply } => {
                let answer = match self.entries.get_mut(&queue) {
                    Some(entry) => {
                        entry.want = Some(Want { prefetch, sink });
                        unavailable
                    }
                    None => undeclared(&queue),
                };
                let _ = reply.send(Err(answer));
            }
            Command::Cancel { queue, reply } => {
                if let Some(entry) = self.entries.get_mut(&queue) {
                    entry.want = None;
                }
                // Without a connection nothing is consumed: done.
                if let Some(reply) = reply {
                    let _ = reply.send(Ok(()));
                }
            }
        }
    }

    /// With a connection.
    pub(super) fn online(&mut self, command: Command, session: &Arc<Session>, tasks: &mut JoinSet<Finished>) {
        // What concerns a queue that is being deleted concerns the next queue of that name.
        if let Some(name) = command.queue()
            && self.entries.get(name).is_some_and(|entry| entry.deleting)
            && !matches!(command, Command::DeleteQueue { .. })
        {
            self.postponed.entry(name.clone()).or_default().push_back(command);
            return;
        }
        match command {
            Command::DeclareExchange { name, reply } => {
                self.exchanges.insert(name.clone());
                declare_exchange(name, Some(reply), session, tasks);
            }
            Command::ExchangeMissing { name } if self.exchanges.contains(&name) => {
                declare_exchange(name, None, session, tasks);
            }
            Command::ExchangeMissing { .. } => {}
            Command::ExchangeStands { name, reply } => {
                let session = session.clone();
                tokio::spawn(async move { drop(reply.send(exchange_stands(&session, &name).await)) });
            }
            Command::Waiting { queue, reply } if self.stands(&queue) => {
                let session = session.clone();
                // Beside the rounds, whose number is bounded: whoever asks bounds how often.
                tokio::spawn(async move { drop(reply.send(waiting(&session, &queue).await)) });
            }
            Command::Waiting { queue, reply } => drop(reply.send(Err(undeclared(&queue)))),
            Command::DeclareQueue { spec, reply } => {
                let name = spec.name.clone();
                let entry = self.entries.entry(name.clone()).or_insert_with(Entry::new);
                entry.respecify(spec);
                entry.waiting.declare.push(reply);
                self.mark(&name, true);
            }
            Command::DeleteQueue { name, reply } => {
                let entry = self.entries.entry(name.clone()).or_insert_with(Entry::new);
                entry.deleting = true;
                entry.want = None;
                entry.waiting.delete.push(reply);
                self.mark(&name, true);
            }
            Command::Consume { queue, prefetch, sink, reply } => {
                let Some(entry) = self.entries.get_mut(&queue) else {
                    let _ = reply.send(Err(undeclared(&queue)));
                    return;
                };
                entry.want = Some(Want { prefetch, sink });
                entry.rewanted = true;
                entry.waiting.consume.push(reply);
                self.mark(&queue, true);
            }
            Command::Cancel { queue, reply } => {
                let Some(entry) = self.entries.get_mut(&queue) else {
                    if let Some(reply) = reply {
                        let _ = reply.send(Ok(()));
                    }
                    return;
                };
                entry.want = None;
                entry.waiting.cancel.extend(reply);
                self.mark(&queue, true);
            }
        }
    }
}

fn declare_exchange(
    name: String,
    reply: Option<Reply<()>>,
    session: &Arc<Session>,
    tasks: &mut JoinSet<Finished>,
) {
    let session = session.clone();
    tasks.spawn(async move {
        let result = match session.topology().await {
            Ok(topology) => topology.declare_exchange(&name).await,
            Err(error) => Err(error),
        };
        Finished::Exchange { name, reply, result }
    });
}

async fn exchange_stands(session: &Session, name: &str) -> Result<bool, TopologyError> {
    let topology = session.topology().await.map_err(not_told)?;
    topology.exchange_stands(name).await.map_err(not_told)
}

async fn waiting(session: &Session, queue: &str) -> Result<u64, TopologyError> {
    let topology = session.topology().await.map_err(not_told)?;
    topology.waiting(queue).await.map_err(not_told)
}

fn not_told(error: RpcError) -> TopologyError {
    match error {
        RpcError::Refused(refusal) => TopologyError::Refused(refusal.text),
        RpcError::Lost(reason) => TopologyError::Unavailable(reason),
    }
}

fn undeclared(queue: &str) -> TopologyError {
    TopologyError::Refused(format!("no queue '{queue}' was declared"))
}
