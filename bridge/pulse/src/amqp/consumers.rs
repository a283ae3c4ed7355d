//! The connection for consuming: a few channels, each with its share of the queues.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use amqprs::channel::{BasicCancelArguments, BasicConsumeArguments, BasicQosArguments};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::consumer::{self, Ended};
use super::settle::Settler;
use super::wire::{Chan, RpcError, Silent, Wire};
use crate::transport::Delivery;

/// Consumers share at most so many channels. The broker works on each by itself, and what closes one disturbs only its
/// share; a channel costs a task here and some processes there.
const CHANNELS: usize = 64;

/// Channels closed by the broker after which the connection is replaced: amqprs uses no number twice and has 2,047.
const WORN_AFTER: usize = 1000;

/// How often the connection has to prove that amqprs still reads it.
const PROOF_INTERVAL: Duration = Duration::from_secs(15);

/// The connection for consuming.
pub(super) struct Consumers {
    pub wire: Wire,
    channels: Mutex<Vec<Arc<ConsumerChannel>>>,
    /// One opens channels at a time, or each of many starts would open one.
    opening: tokio::sync::Mutex<()>,
    opened: AtomicUsize,
    proof: Chan,
}

struct ConsumerChannel {
    chan: Chan,
    /// Requests of one kind at the same time would get each other's answers. Holds the prefetch that is set.
    requests: tokio::sync::Mutex<u16>,
    consumers: AtomicUsize,
    settler: Arc<Settler>,
}

/// A consumer that runs.
pub(super) struct Running {
    channel: Arc<ConsumerChannel>,
    tag: String,
    /// Tells its own end from an older one's.
    pub id: u64,
    stopping: Arc<AtomicBool>,
    give_back: Arc<AtomicBool>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// What to consume.
pub(super) struct Start {
    pub queue: Arc<str>,
    pub prefetch: u16,
    pub sink: mpsc::Sender<Delivery>,
    pub generation: u64,
    pub id: u64,
    /// Told when the consumer ends by itself.
    pub ended: mpsc::UnboundedSender<Ended>,
}

impl Consumers {
    pub async fn new(wire: Wire) -> Result<Self, RpcError> {
        let proof = wire.channel(Silent).await?;
        Ok(Self {
            wire,
            channels: Mutex::default(),
            opening: Default::default(),
            opened: AtomicUsize::new(0),
            proof,
        })
    }

    /// Starts consuming.
    pub async fn start(&self, start: Start) -> Result<Running, RpcError> {
        let channel = self.channel().await?;
        let started = self.start_on(&channel, start).await;
        if started.is_err() {
            channel.consumers.fetch_sub(1, Ordering::Relaxed);
        }
        started
    }

    async fn start_on(&self, channel: &Arc<ConsumerChannel>, start: Start) -> Result<Running, RpcError> {
        let chan = &channel.chan;
        let tag = format!("pulsehook-{}", start.id);
        let arguments = BasicConsumeArguments::new(&start.queue, &tag);
        let mut prefetch = channel.requests.lock().await;
        if *prefetch != start.prefetch {
            // It counts for each consumer that is started after it was set.
            let qos = BasicQosArguments::new(0, start.prefetch, false);
            self.wire.rpc(chan, "setting prefetch", chan.channel.basic_qos(qos)).await?;
            *prefetch = start.prefetch;
            channel.settler.serves(start.prefetch);
        }
        let consumed = self.wire.rpc(chan, "consuming", chan.channel.basic_consume_rx(arguments)).await;
        let (tag, deliveries) = consumed?;
        drop(prefetch);
        let stop = CancellationToken::new();
        let (stopping, give_back) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let id = start.id;
        let task = consumer::Task {
            start,
            deliveries,
            settler: channel.settler.clone(),
            chan: chan.clone(),
            stop: stop.clone(),
            stopping: stopping.clone(),
            give_back: give_back.clone(),
        };
        let task = tokio::spawn(task.run());
        Ok(Running { channel: channel.clone(), tag, id, stopping, give_back, stop, task })
    }

    /// Stops a consumer: nothing reaches its sink any more, and what had not reached it goes back to the queue.
    pub async fn stop(&self, mut running: Running) -> Result<(), RpcError> {
        running.stopping.store(true, Ordering::Release);
        let chan = &running.channel.chan;
        let turn = running.channel.requests.lock().await;
        let cancel = chan.channel.basic_cancel(BasicCancelArguments::new(&running.tag));
        let stopped = self.wire.rpc(chan, "cancelling a consumer", cancel).await;
        drop(turn);
        running.give_back.store(true, Ordering::Release);
        running.stop.cancel();
        let _ = (&mut running.task).await;
        match stopped {
            // A channel that is closed has no consumers: stopped all the same.
            Ok(_) | Err(RpcError::Refused(_)) => Ok(()),
            Err(lost) => Err(lost),
        }
    }

    /// The channel with the fewest consumers, a new one while there may be more.
    async fn channel(&self) -> Result<Arc<ConsumerChannel>, RpcError> {
        let _turn = self.opening.lock().await;
        {
            let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
            channels.retain(|channel| channel.chan.channel.is_open() && channel.chan.refusal().is_none());
            let least = channels.iter().min_by_key(|channel| channel.consumers.load(Ordering::Relaxed));
            if let Some(channel) = least
                && (channels.len() == CHANNELS || channel.consumers.load(Ordering::Relaxed) == 0)
            {
                channel.consumers.fetch_add(1, Ordering::Relaxed);
                return Ok(channel.clone());
            }
        }
        let chan = self.wire.channel(Silent).await?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        let settler = Settler::start(Arc::downgrade(&chan.channel));
        let consumers = AtomicUsize::new(1);
        let channel = Arc::new(ConsumerChannel { chan, requests: Default::default(), consumers, settler });
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).push(channel.clone());
        Ok(channel)
    }

    /// Whether it is time for a new connection.
    pub fn worn(&self) -> bool {
        self.opened.load(Ordering::Relaxed) > WORN_AFTER
    }

    /// Asks for something now and then and returns when the answer stays out. Heartbeats would not tell: they
    /// come from the broker to the link, while this passes through all of amqprs.
    pub async fn watch(&self) {
        loop {
            tokio::time::sleep(PROOF_INTERVAL).await;
            let qos = self.proof.channel.basic_qos(BasicQosArguments::new(0, 1, false));
            if self.wire.rpc(&self.proof, "a proof of life", qos).await.is_err() {
                return;
            }
        }
    }

    /// Sends what was settled on its way.
    pub async fn flush(&self) {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for channel in channels {
            channel.settler.flush().await;
        }
    }
}

impl Drop for Running {
    /// Without [`Consumers::stop`] before it this is for a consumer that the broker has ended, or is about to: it takes back
    /// by itself what did not reach the sink.
    fn drop(&mut self) {
        self.channel.consumers.fetch_sub(1, Ordering::Relaxed);
        self.stopping.store(true, Ordering::Release);
        self.stop.cancel();
    }
}
