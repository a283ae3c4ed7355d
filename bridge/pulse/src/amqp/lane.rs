//! A channel for publishing, with its unconfirmed messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use amqprs::channel::ConfirmSelectArguments;
use amqprs::{BasicProperties, Return};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::encode;
use super::link::Post;
use super::nacks::Nacks;
use super::numbered::Numbered;
use super::wire::{Chan, Listener, Refusal, RpcError, Wire};
use crate::Message;
use crate::transport::{PublishError, Published};

/// Messages are not gathered beyond so many bytes.
const GATHERED: usize = 256 << 10;

/// A message on its way, and who waits for it.
pub(super) struct Job {
    pub message: Message,
    pub mandatory: bool,
    pub reply: Reply,
    /// Given back when the broker has spoken, or is gone.
    pub _permit: OwnedSemaphorePermit,
}

/// What becomes of a message.
pub(super) type Answer = Result<Published, PublishError>;

/// To whom that is told.
pub(super) enum Reply {
    One(oneshot::Sender<Answer>),
    /// The message's place in its group.
    OneOfMany(usize, Group),
}

/// Messages that are published together, in their order.
#[derive(Clone)]
pub(super) struct Group {
    pub answers: mpsc::UnboundedSender<(usize, Answer)>,
    /// The broker was away for one of them: the others do not set out any more, or they would overtake it when it is published again.
    pub broken: Arc<AtomicBool>,
    /// One of them goes out alone: the others follow it there, or they would overtake it.
    pub alone: Arc<AtomicBool>,
}

impl Group {
    pub fn new(answers: mpsc::UnboundedSender<(usize, Answer)>) -> Self {
        Self { answers, broken: Arc::default(), alone: Arc::default() }
    }

    pub fn answer(&self, place: usize, answer: Answer) {
        if let Err(PublishError::Unavailable(_)) = answer {
            self.broken.store(true, Ordering::Release);
        }
        // Nobody may wait for it any more.
        let _ = self.answers.send((place, answer));
    }
}

impl Job {
    pub fn answer(self, answer: Answer) {
        match self.reply {
            // Nobody may wait for it any more.
            Reply::One(reply) => drop(reply.send(answer)),
            Reply::OneOfMany(place, group) => group.answer(place, answer),
        }
    }

    /// It is to go out alone, and so is the rest of its group.
    pub fn goes_alone(&self) {
        if let Some(group) = self.group() {
            group.alone.store(true, Ordering::Release);
        }
    }

    /// An earlier message of its group goes out alone.
    pub fn follows_one_alone(&self) -> bool {
        self.group().is_some_and(|group| group.alone.load(Ordering::Acquire))
    }

    fn group(&self) -> Option<&Group> {
        match &self.reply {
            Reply::One(_) => None,
            Reply::OneOfMany(_, group) => Some(group),
        }
    }

    fn is_given_up(&self) -> bool {
        match &self.reply {
            Reply::One(reply) => reply.is_closed(),
            Reply::OneOfMany(_, group) => group.answers.is_closed(),
        }
    }

    /// An earlier message of its group was not taken.
    fn comes_too_late(&self) -> bool {
        self.group().is_some_and(|group| group.broken.load(Ordering::Acquire))
    }
}

/// What the broker says about published messages.
pub(super) enum Confirm {
    Ack { tag: u64, multiple: bool },
    Nack { tag: u64, multiple: bool },
    Returned { exchange: String, routing_key: String, message_id: Option<String> },
}

struct Forward(mpsc::UnboundedSender<Confirm>);

impl Listener for Forward {
    fn ack(&mut self, tag: u64, multiple: bool) {
        let _ = self.0.send(Confirm::Ack { tag, multiple });
    }

    fn nack(&mut self, tag: u64, multiple: bool) {
        let _ = self.0.send(Confirm::Nack { tag, multiple });
    }

    fn returned(&mut self, what: &Return, properties: &BasicProperties) {
        let _ = self.0.send(Confirm::Returned {
            exchange: what.exchange().clone(),
            routing_key: what.routing_key().clone(),
            message_id: properties.message_id().cloned(),
        });
    }
}

struct Pending {
    job: Job,
    since: Instant,
    returned: bool,
}

/// A confirming channel.
pub(super) struct Lane {
    chan: Chan,
    post: Post,
    frame_max: usize,
    /// Frames that have not set out yet.
    gathered: Vec<u8>,
    confirms: mpsc::UnboundedReceiver<Confirm>,
    pending: Numbered<Pending>,
}

impl Lane {
    pub async fn open(wire: &Wire) -> Result<Self, RpcError> {
        // Bounded by what is outstanding: a return and a confirm for each.
        let (sender, confirms) = mpsc::unbounded_channel();
        let chan = wire.channel(Forward(sender)).await?;
        let select = chan.channel.confirm_select(ConfirmSelectArguments::default());
        wire.rpc(&chan, "asking for confirms", select).await?;
        Ok(Self {
            post: wire.post(&chan),
            frame_max: wire.frame_max(),
            chan,
            gathered: Vec::new(),
            confirms,
            pending: Numbered::new(),
        })
    }

    /// The next confirm. `None`: the channel is closed; see [`refusal`](Self::refusal).
    pub async fn confirm(&mut self) -> Option<Confirm> {
        self.confirms.recv().await
    }

    /// Why the broker closed the channel.
    pub fn refusal(&self) -> Option<Refusal> {
        self.chan.refusal()
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Since when the oldest message waits for its confirm.
    pub fn oldest(&self) -> Option<Instant> {
        self.pending.iter().next().map(|pending| pending.since)
    }

    /// Whether an unconfirmed message is of the same group.
    pub fn carries_group_of(&self, job: &Job) -> bool {
        job.group().is_some_and(|group| {
            let of_group = |other: &Group| Arc::ptr_eq(&other.alone, &group.alone);
            self.pending.iter().any(|pending| pending.job.group().is_some_and(of_group))
        })
    }

    /// Publishes; the message sets out with others at the next [`send`](Self::send), or before. One that AMQP has no room for is
    /// refused, one whose caller has given up is dropped, and one that would overtake another of its group is not published.
    pub async fn publish(&mut self, job: Job) {
        if job.is_given_up() {
            return;
        }
        if job.comes_too_late() {
            let reason = "the broker was away for an earlier message of its group";
            return job.answer(Err(PublishError::Unavailable(reason.into())));
        }
        let channel = self.chan.channel.channel_id();
        if let Err(reason) =
            encode::publish(&job.message, job.mandatory, channel, self.frame_max, &mut self.gathered)
        {
            return job.answer(Err(PublishError::Refused(reason)));
        }
        self.pending.push(Pending { job, since: Instant::now(), returned: false });
        if self.gathered.len() >= GATHERED {
            self.send().await;
        }
    }

    /// Sends what has been published since the last time. If the connection is gone the lane ends, and what is pending is answered then.
    pub async fn send(&mut self) {
        if !self.gathered.is_empty() {
            self.post.send(std::mem::take(&mut self.gathered)).await;
        }
    }

    /// Answers whom the confirm concerns.
    pub fn settle(&mut self, confirm: Confirm, nacks: &mut Nacks) {
        match confirm {
            Confirm::Ack { tag, multiple } => {
                self.pending.settle(tag, multiple, |Pending { job, returned, .. }| {
                    job.answer(Ok(Published { routed: !returned }));
                });
            }
            Confirm::Nack { tag, multiple } => {
                let now = Instant::now();
                self.pending.settle(tag, multiple, |Pending { job, returned, .. }| {
                    let answer = nacks.answer(&job.message.exchange, returned, now);
                    job.answer(answer);
                });
            }
            Confirm::Returned { exchange, routing_key, message_id } => {
                // A return has no number and comes before its message's confirm, so that the first match is the one, also
                // where several messages share an id.
                let returned = self.pending.iter_mut().find(|pending| {
                    let message = &pending.job.message;
                    pending.job.mandatory
                        && !pending.returned
                        && message.properties.message_id == message_id
                        && message.routing_key == routing_key
                        && message.exchange == exchange
                });
                if let Some(pending) = returned {
                    pending.returned = true;
                }
            }
        }
    }

    /// The same for all confirms that have come by now.
    pub fn settle_with_all_that_wait(&mut self, confirm: Confirm, nacks: &mut Nacks) {
        self.settle(confirm, nacks);
        while let Ok(confirm) = self.confirms.try_recv() {
            self.settle(confirm, nacks);
        }
    }

    /// Takes out what is not confirmed, in order, when the lane is over.
    pub fn take_pending(&mut self, nacks: &mut Nacks) -> Vec<Job> {
        while let Ok(confirm) = self.confirms.try_recv() {
            self.settle(confirm, nacks);
        }
        self.pending.take().map(|pending| pending.job).collect()
    }
}
