//! Exchanges, queues and bindings on the broker.
//!
//! A refusal closes the channel on which it happens, and amqprs never uses a channel's number again. So all this happens on
//! a connection of its own, over a few channels that serve any request, and the connection is replaced when it
//! has seen many refusals ([`Topology::usable`]), long before its 2,047 numbers are used up.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use amqprs::channel::{
    BasicConsumeArguments, BasicQosArguments, ExchangeDeclareArguments, QueueBindArguments,
    QueueDeclareArguments, QueueDeleteArguments, QueueUnbindArguments,
};
use amqprs::error::Error;
use amqprs::{FieldTable, FieldValue};

use super::wire::{Chan, Refusal, RpcError, Silent, Wire};
use crate::transport::{Binding, QueueKind, QueueSpec};

/// Requests under way at once, each on its channel. More hardly hasten a broker.
pub(super) const CHANNELS: usize = 8;

/// Refusals after which the connection is replaced.
const WORN_AFTER: u32 = 500;

/// The connection for topology.
pub(super) struct Topology {
    pub wire: Wire,
    idle: Mutex<Vec<Chan>>,
    refusals: AtomicU32,
}

impl Topology {
    pub fn new(wire: Wire) -> Self {
        Self { wire, idle: Mutex::default(), refusals: AtomicU32::new(0) }
    }

    /// Whether the next request may use it: not worn, and not lost.
    pub fn usable(&self) -> bool {
        self.refusals.load(Ordering::Relaxed) < WORN_AFTER && !self.wire.link.has_ended()
    }

    /// Does one request on a channel that nobody else uses meanwhile.
    async fn request<T, F>(&self, what: &str, request: impl FnOnce(Chan) -> F) -> Result<T, RpcError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let chan = match idle {
            Some(chan) => chan,
            None => self.wire.channel(Silent).await?,
        };
        let answer = self.wire.rpc(&chan, what, request(chan.clone())).await;
        match &answer {
            Ok(_) => self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(chan),
            Err(RpcError::Refused(_)) => drop(self.refusals.fetch_add(1, Ordering::Relaxed)),
            Err(RpcError::Lost(_)) => {}
        }
        answer
    }

    /// Declares a durable topic exchange.
    pub async fn declare_exchange(&self, name: &str) -> Result<(), RpcError> {
        let arguments = ExchangeDeclareArguments::new(name, "topic").durable(true).finish();
        self.request(
            "declaring an exchange",
            |chan| async move { chan.channel.exchange_declare(arguments).await },
        )
        .await
    }

    /// Whether there is such an exchange. Asking for one that there is not costs a refusal.
    pub async fn exchange_stands(&self, name: &str) -> Result<bool, RpcError> {
        let arguments = ExchangeDeclareArguments::new(name, "topic").passive(true).finish();
        let looked = self
            .request("asking for an exchange", |chan| async move {
                chan.channel.exchange_declare(arguments).await
            })
            .await;
        match looked {
            Ok(()) => Ok(true),
            Err(RpcError::Refused(refusal)) if refusal.code == Refusal::NOT_FOUND => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Declares the queue without its bindings.
    pub async fn declare_queue(&self, spec: &QueueSpec) -> Result<(), RpcError> {
        let arguments =
            QueueDeclareArguments::durable_client_named(&spec.name).arguments(queue_arguments(spec)).finish();
        self.request("declaring a queue", |chan| async move {
            chan.channel.queue_declare(arguments).await.map(drop)
        })
        .await
    }

    /// How many messages wait in a queue that stands. Asking for one that does not costs a refusal.
    pub async fn waiting(&self, queue: &str) -> Result<u64, RpcError> {
        let arguments = QueueDeclareArguments::new(queue).passive(true).finish();
        let declared = self
            .request("asking for a queue", |chan| async move { chan.channel.queue_declare(arguments).await })
            .await?;
        Ok(declared.map_or(0, |(_, messages, _)| messages.into()))
    }

    pub async fn bind(&self, queue: &str, binding: &Binding) -> Result<(), RpcError> {
        let arguments = QueueBindArguments::new(queue, &binding.exchange, &binding.pattern);
        self.request("binding a queue", |chan| async move { chan.channel.queue_bind(arguments).await }).await
    }

    pub async fn unbind(&self, queue: &str, binding: &Binding) -> Result<(), RpcError> {
        let arguments = QueueUnbindArguments::new(queue, &binding.exchange, &binding.pattern);
        self.request("unbinding a queue", |chan| async move { chan.channel.queue_unbind(arguments).await })
            .await
    }

    /// Deletes a queue; returns how many messages waited in it.
    pub async fn delete_queue(&self, name: &str) -> Result<u64, RpcError> {
        let arguments = QueueDeleteArguments::new(name);
        let deleted = self
            .request("deleting a queue", |chan| async move { chan.channel.queue_delete(arguments).await })
            .await?;
        Ok(deleted.unwrap_or_default().into())
    }

    /// Tries whether this queue may be consumed, where a refusal hurts nobody. A message that comes meanwhile goes back.
    pub async fn may_consume(&self, queue: &str) -> Result<(), RpcError> {
        let chan = self.wire.channel(Silent).await?;
        let channel = chan.channel.clone();
        let arguments = BasicConsumeArguments::new(queue, "");
        let tried = self
            .wire
            .rpc(&chan, "consuming a queue", async move {
                channel.basic_qos(BasicQosArguments::new(0, 1, false)).await?;
                channel.basic_consume_rx(arguments).await
            })
            .await;
        if let Err(RpcError::Refused(_)) = tried {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
        let consumer = tried?;
        let channel = (*chan.channel).clone();
        let closed = self.wire.rpc(&chan, "closing a channel", channel.close()).await;
        drop(consumer);
        closed
    }
}

fn queue_arguments(spec: &QueueSpec) -> FieldTable {
    let mut table = FieldTable::new();
    let mut set = |name: &str, value: FieldValue| {
        if let Ok(name) = name.try_into() {
            table.insert(name, value);
        }
    };
    let text = |text: &str| FieldValue::from(text.to_owned());
    if spec.kind == QueueKind::Quorum {
        set("x-queue-type", text("quorum"));
        if let Some(limit) = spec.delivery_limit {
            set("x-delivery-limit", FieldValue::l(limit.into()));
        }
    }
    if let Some(exchange) = &spec.dead_letter_exchange {
        set("x-dead-letter-exchange", text(exchange));
    }
    if let Some(length) = spec.max_length {
        set("x-max-length", FieldValue::l(length.into()));
    }
    table
}
