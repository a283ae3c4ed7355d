//! A RabbitMQ broker, through sessions that recover by themselves.
//!
//! Three connections: one publishes, one consumes, one declares; so a broker that blocks publishers goes on
//! delivering, and a refused binding disturbs neither. The `keeper` owns what callers want and keeps it standing; a
//! `link` stands between amqprs and the broker and makes up for what amqprs lacks. Deliveries of a connection that is
//! gone may still be ended: that leads nowhere, and the broker delivers them again.

mod backoff;
mod consumer;
mod consumers;
mod convert;
mod encode;
mod entry;
mod flags;
mod health;
mod keeper;
mod lane;
mod link;
mod nacks;
mod numbered;
mod publisher;
mod session;
mod settle;
mod target;
mod tls;
mod topology;
mod wire;
mod work;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Message;
use crate::naming::check_name;
use crate::transport::{
    BindingHealth, Delivery, EVENT_BACKLOG, Event, PublishError, Published, QueueSpec, Status, TopologyError,
    Transport,
};
use health::Health;
use keeper::{Command, Keeper};
use lane::{Answer, Group, Job, Reply};
use nacks::Nacks;
use publisher::{MAX_OUTSTANDING, Publisher};
use target::Target;

pub use publisher::CAREFUL_FOR;
pub use target::TargetError;

/// Requests for topology that wait; more callers wait for their turn.
const MAX_COMMANDS: usize = 1024;

/// The end of everything, however the broker behaves.
const CLOSE_DEADLINE: Duration = Duration::from_secs(15);

/// How to reach a broker.
pub struct AmqpConfig<'a> {
    /// `amqp://user:password@host:port/vhost` or `amqps://…`, each part percent-encoded.
    pub url: &'a str,
    /// CAs to trust (PEM) in place of the system's.
    pub ca_file: Option<&'a Path>,
    /// How the broker's operators see the connections.
    pub name: &'a str,
    /// A publish that is not confirmed within this time is reported as unavailable.
    pub publish_timeout: Duration,
}

impl AmqpConfig<'_> {
    /// Whether URL and CA file can be used, without connecting.
    pub fn check(&self) -> Result<(), TargetError> {
        Target::parse(self.url, self.ca_file).map(drop)
    }
}

/// Sessions on one RabbitMQ virtual host. See the [module](self).
pub struct Amqp {
    commands: mpsc::Sender<Command>,
    jobs: mpsc::Sender<Job>,
    outstanding: Arc<Semaphore>,
    publish_timeout: Duration,
    /// Confirmed, unavailable, refused.
    published: [metrics::Counter; 3],
    events: broadcast::Sender<Event>,
    health: Arc<Health>,
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl Amqp {
    /// Begins to connect and returns at once, whether or not there is a broker: [`status`](Transport::status) tells. Must be
    /// called within a tokio runtime. Fails only if the URL or the CA file is wrong.
    pub fn connect(config: AmqpConfig<'_>) -> Result<Self, TargetError> {
        Self::connect_with(config, nacks::PATIENCE)
    }

    /// The same with the time given for which a publish is reported as unavailable while one of the exchange's queues refuses it
    /// (`basic.nack`); after that it counts as published. [`connect`](Self::connect) takes 30 seconds.
    pub fn connect_with(config: AmqpConfig<'_>, nack_patience: Duration) -> Result<Self, TargetError> {
        let target = Arc::new(Target::parse(config.url, config.ca_file)?);
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let health = Arc::new(Health::new());
        let closing = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (commands, command_inbox) = mpsc::channel(MAX_COMMANDS);
        let (jobs, job_inbox) = mpsc::channel(MAX_OUTSTANDING);
        let keeper = Keeper::new(
            target.clone(),
            config.name.to_owned(),
            events.clone(),
            health.clone(),
            closing.clone(),
        );
        tasks.spawn(keeper.run(command_inbox));
        let publisher = Publisher {
            target,
            name: config.name.to_owned(),
            health: health.clone(),
            closing: closing.clone(),
            keeper: commands.clone(),
            refused: HashMap::new(),
            nacks: Nacks::new(nack_patience),
        };
        tasks.spawn(publisher.run(job_inbox));
        tasks.close();
        Ok(Self {
            commands,
            jobs,
            outstanding: Arc::new(Semaphore::new(MAX_OUTSTANDING)),
            publish_timeout: config.publish_timeout,
            published: ["confirmed", "unavailable", "refused"]
                .map(|outcome| metrics::counter!("pulsehook_pulse_published_total", "outcome" => outcome)),
            events,
            health,
            closing,
            tasks,
        })
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, TopologyError>>) -> Command,
    ) -> Result<T, TopologyError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.closing.run_until_cancelled(self.commands.send(command(reply))).await;
        if !matches!(sent, Some(Ok(()))) {
            return Err(TopologyError::Unavailable(closed()));
        }
        answer.await.unwrap_or_else(|_| Err(TopologyError::Unavailable(closed())))
    }

    async fn publish_now(&self, message: Message, mandatory: bool) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.hand_over(message, mandatory, Reply::One(reply)).await?;
        answer.await.unwrap_or_else(|_| Err(PublishError::Unavailable(closed())))
    }

    /// Gives a message to the publisher.
    async fn hand_over(&self, message: Message, mandatory: bool, reply: Reply) -> Result<(), PublishError> {
        let unavailable = || PublishError::Unavailable(closed());
        let permit = self.outstanding.clone().acquire_owned().await.map_err(|_| unavailable())?;
        let job = Job { message, mandatory, reply, _permit: permit };
        self.jobs.send(job).await.map_err(|_| unavailable())
    }

    /// Why a publish was not confirmed in time.
    fn late(&self) -> PublishError {
        PublishError::Unavailable(match &*self.health.watch().borrow() {
            Status::Down { reason } => reason.clone(),
            Status::Up => format!("no confirm within {:?}", self.publish_timeout),
        })
    }

    fn count(&self, answer: &Answer) {
        let [confirmed, unavailable, refused] = &self.published;
        match answer {
            Ok(_) => confirmed.increment(1),
            Err(PublishError::Unavailable(_)) => unavailable.increment(1),
            Err(PublishError::Refused(_)) => refused.increment(1),
        }
    }
}

/// The broker returns an unroutable message with nothing but its id to know it by.
fn returnable(message: &mut Message) {
    message.properties.message_id.get_or_insert_with(|| uuid::Uuid::new_v4().to_string());
}

fn closed() -> String {
    "the transport is closed".into()
}

#[async_trait]
impl Transport for Amqp {
    async fn publish(&self, message: &Message, mandatory: bool) -> Result<Published, PublishError> {
        message.check().map_err(PublishError::Refused)?;
        if let Some(reason) = self.health.blocked() {
            return Err(PublishError::Unavailable(reason));
        }
        let mut message = message.clone();
        if mandatory {
            returnable(&mut message);
        }
        let answer = match timeout(self.publish_timeout, self.publish_now(message, mandatory)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.late()),
        };
        self.count(&answer);
        answer
    }

    async fn publish_all(&self, messages: Vec<Message>, mandatory: bool) -> Vec<Answer> {
        let mut answers: Vec<Option<Answer>> = messages.iter().map(|_| None).collect();
        let (sender, mut replies) = mpsc::unbounded_channel();
        let group = Group::new(sender);
        let hand_over = async {
            // Ends with the last message, so that the replies end with the last answer.
            let group = group;
            for (place, mut message) in messages.into_iter().enumerate() {
                if mandatory {
                    returnable(&mut message);
                }
                let handed_over = match (message.check(), self.health.blocked()) {
                    (Err(reason), _) => Err(PublishError::Refused(reason)),
                    (_, Some(reason)) => Err(PublishError::Unavailable(reason)),
                    _ => self.hand_over(message, mandatory, Reply::OneOfMany(place, group.clone())).await,
                };
                if let Err(error) = handed_over {
                    group.answer(place, Err(error));
                }
            }
        };
        let mut arrived = Vec::with_capacity(answers.len());
        let collect = async {
            // Each part of them has the time that one message has.
            while let Ok(1..) =
                timeout(self.publish_timeout, replies.recv_many(&mut arrived, answers.len().max(1))).await
            {
                for (place, answer) in arrived.drain(..) {
                    self.count(&answer);
                    answers[place] = Some(answer);
                }
            }
        };
        tokio::select! {
            () = collect => {}
            () = async { hand_over.await; std::future::pending().await } => {}
        }
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(self.late()))).collect()
    }

    async fn declare_exchange(&self, name: &str) -> Result<(), TopologyError> {
        check_name("the exchange name", name).map_err(TopologyError::Refused)?;
        let name = name.to_owned();
        self.ask(|reply| Command::DeclareExchange { name, reply }).await
    }

    async fn exchange_stands(&self, name: &str) -> Result<bool, TopologyError> {
        check_name("the exchange name", name).map_err(TopologyError::Refused)?;
        let name = name.to_owned();
        self.ask(|reply| Command::ExchangeStands { name, reply }).await
    }

    async fn declare_queue(&self, spec: QueueSpec) -> Result<Vec<BindingHealth>, TopologyError> {
        check_name("the queue name", &spec.name).map_err(TopologyError::Refused)?;
        self.ask(|reply| Command::DeclareQueue { spec, reply }).await
    }

    async fn delete_queue(&self, name: &str) -> Result<u64, TopologyError> {
        check_name("the queue name", name).map_err(TopologyError::Refused)?;
        self.ask(|reply| Command::DeleteQueue { name: name.into(), reply }).await
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
        self.ask(|reply| Command::Consume { queue: queue.into(), prefetch, sink, reply }).await
    }

    async fn cancel(&self, queue: &str) -> Result<(), TopologyError> {
        self.ask(|reply| Command::Cancel { queue: queue.into(), reply: Some(reply) }).await
    }

    async fn waiting(&self, queue: &str) -> Result<u64, TopologyError> {
        self.ask(|reply| Command::Waiting { queue: queue.into(), reply }).await
    }

    fn returned(&self) -> Option<Instant> {
        self.health.returned()
    }

    fn unconfirmed(&self) -> usize {
        MAX_OUTSTANDING - self.outstanding.available_permits()
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.health.watch()
    }

    async fn close(&self) {
        self.closing.cancel();
        let _ = timeout(CLOSE_DEADLINE, self.tasks.wait()).await;
    }
}

impl Drop for Amqp {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}
