//! One connection of amqprs over its [`Link`], with a deadline on everything and errors that say what the broker said.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use amqprs::callbacks::ChannelCallback;
use amqprs::channel::Channel;
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::error::Error;
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, Nack, Return};
use async_trait::async_trait;
use tokio::time::timeout;

use super::link::{Link, Post};
use super::target::Target;

/// Frequent enough to notice a silent broker within seconds, rare enough to cost nothing.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The whole handshake of a connection.
const OPEN_DEADLINE: Duration = Duration::from_secs(15);

/// One request and its answer. A broker that is gone is noticed by its silence, long before; one that is busy with ten
/// thousand queues may take its time, and one that needs longer than this will never answer.
const RPC_DEADLINE: Duration = Duration::from_secs(60);

/// The largest frame to a broker that has no limit: RabbitMQ's own.
const UNBOUNDED_FRAME: usize = 128 << 10;

/// An orderly end. Whatever is not done by then is left to the broker.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// An open connection. When dropped, amqprs closes it in order.
pub(super) struct Wire {
    /// For its end and its notes.
    pub link: Link,
    connection: Connection,
}

/// Why a request failed.
#[derive(Debug, Clone)]
pub(super) enum RpcError {
    /// The connection is gone, or had to be cut.
    Lost(String),
    /// The broker refused and has closed the channel, with its code and text.
    Refused(Refusal),
}

/// What a broker says when it closes a channel.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub code: u16,
    pub text: String,
}

impl Refusal {
    /// No such exchange or queue.
    pub const NOT_FOUND: u16 = 404;
    /// No permission.
    pub const ACCESS_REFUSED: u16 = 403;
    /// Other arguments, or a message that is too large.
    pub const PRECONDITION_FAILED: u16 = 406;
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// A channel that remembers why the broker closed it.
#[derive(Clone)]
pub(super) struct Chan {
    pub channel: Arc<Channel>,
    refusal: Arc<Mutex<Option<Refusal>>>,
}

/// What a channel tells while it is open. The sender's end is the channel's.
pub(super) trait Listener: Send + 'static {
    fn ack(&mut self, _tag: u64, _multiple: bool) {}
    fn nack(&mut self, _tag: u64, _multiple: bool) {}
    fn returned(&mut self, _what: &Return, _properties: &BasicProperties) {}
}

/// For channels that expect nothing.
pub(super) struct Silent;

impl Listener for Silent {}

impl Wire {
    /// Connects and logs in. The error is for people and holds no secret.
    pub async fn open(target: &Target, name: &str) -> Result<Self, String> {
        let link = Link::open(target, name, HEARTBEAT).await?;
        let mut arguments = OpenConnectionArguments::new(
            &link.address.ip().to_string(),
            link.address.port(),
            &target.user,
            &target.password,
        );
        arguments.virtual_host(&target.vhost).connection_name(name).heartbeat(HEARTBEAT.as_secs() as u16);
        // In a task of its own, because amqprs panics at a greeting of the broker that it does not expect.
        let open = tokio::spawn(async move { Connection::open(&arguments).await });
        let reason = match timeout(OPEN_DEADLINE, open).await {
            Ok(Ok(Ok(connection))) => return Ok(Self { link, connection }),
            Ok(Ok(Err(_))) => {
                // The farewell passes through the link before amqprs fails over it, so that it is known by now.
                link.farewell().unwrap_or_else(|| {
                    let reason = link.reason();
                    format!(
                        "{reason} during the handshake; is this an AMQP port, do user and virtual host exist?"
                    )
                })
            }
            Ok(Err(_)) => "the broker's greeting was not understood".into(),
            Err(_) => format!("no answer to the handshake within {OPEN_DEADLINE:?}"),
        };
        link.cut(&reason);
        Err(format!("{}: {reason}", target.describe()))
    }

    /// The way past amqprs for messages of a channel.
    pub fn post(&self, chan: &Chan) -> Post {
        self.link.post(chan.channel.channel_id())
    }

    /// The largest frame that the broker takes, in bytes.
    pub fn frame_max(&self) -> usize {
        match self.connection.frame_max() {
            0 => UNBOUNDED_FRAME,
            most => most as usize,
        }
    }

    /// Opens a channel. After an error the connection is cut.
    pub async fn channel(&self, listener: impl Listener) -> Result<Chan, RpcError> {
        let refusal = Arc::new(Mutex::new(None));
        let callback = Callback { refusal: refusal.clone(), listener };
        let channel = match timeout(RPC_DEADLINE, self.connection.open_channel(None)).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(self.lost(&format!("no channel: {error}"))),
            Err(_) => return Err(self.lost("no answer to the request for a channel")),
        };
        if let Err(error) = channel.register_callback(callback).await {
            return Err(self.lost(&format!("no channel: {error}")));
        }
        Ok(Chan { channel: Arc::new(channel), refusal })
    }

    /// Waits for the answer to one request on `chan`. Only one may be under way on a channel at a time. A request that is
    /// not answered in time leaves amqprs in no state to go on with, so that the connection is cut.
    pub async fn rpc<T>(
        &self,
        chan: &Chan,
        what: &str,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, RpcError> {
        if let Some(refusal) = chan.refusal() {
            return Err(RpcError::Refused(refusal));
        }
        match timeout(RPC_DEADLINE, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => match chan.refusal() {
                Some(refusal) => Err(RpcError::Refused(refusal)),
                None => Err(self.lost(&format!("{what}: {error}"))),
            },
            Err(_) => Err(self.lost(&format!("no answer within {RPC_DEADLINE:?}: {what}"))),
        }
    }

    /// Cuts the connection if it stands; says why it is gone.
    fn lost(&self, reason: &str) -> RpcError {
        self.link.cut(reason);
        RpcError::Lost(self.link.reason())
    }

    /// Says goodbye.
    pub async fn close(&self) {
        let _ = timeout(CLOSE_DEADLINE, self.connection.clone().close()).await;
        self.link.cut("closed");
    }
}

impl Chan {
    /// Why the broker closed the channel, once it has.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Callback<L> {
    refusal: Arc<Mutex<Option<Refusal>>>,
    listener: L,
}

#[async_trait]
impl<L: Listener> ChannelCallback for Callback<L> {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Result<(), Error> {
        let refusal = Refusal { code: close.reply_code(), text: close.reply_text().clone() };
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), Error> {
        // amqprs then ends the consumer's stream, which tells its task.
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, Error> {
        Ok(active)
    }

    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        self.listener.ack(ack.delivery_tag(), ack.mutiple());
    }

    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        self.listener.nack(nack.delivery_tag(), nack.multiple());
    }

    async fn publish_return(&mut self, _: &Channel, what: Return, properties: BasicProperties, _: Vec<u8>) {
        self.listener.returned(&what, &properties);
    }
}
