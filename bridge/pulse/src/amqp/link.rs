//! A private link between amqprs and the broker, in this process.
//!
//! amqprs 2.1 has four defects that no caller can work around: text that is not UTF-8 kills the connection, and the
//! message comes again, and kills the next one; `connection.blocked` and a clear refusal of a password are never asked for; TLS
//! writes are not flushed; and there is no deadline on anything. So amqprs connects in plain to a one-shot listener on
//! loopback, and the link carries the bytes to and from the broker: it adds what the client's greeting lacks,
//! mends what amqprs could not read, takes note of what the broker says about the connection, flushes, and ends a
//! connection on which the broker has fallen silent, and it keeps back what amqprs still sends on a channel that the
//! broker has closed. Everything else passes untouched. Containing the effects
//! instead (connections of their own for suspect queues) was the alternative; it would have let one foreign
//! message disturb a hook for minutes.
//!
//! Messages to publish join the bytes here, as whole frames ([`Post`]): amqprs would send each by itself.

mod frames;
mod greeting;
mod mend;
mod outgoing;
mod table;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::target::Target;
pub(super) use frames::{BODY, CONTENT_HEADER, FRAME_END, HEADER, METHOD};
use frames::{Note, Scanner};
pub(super) use mend::MENDED;
use outgoing::Outgoing;

/// Connecting, with TLS, takes at most so long.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// amqprs is in this process: if it does not connect or read for so long, it never will again.
const LOCAL_DEADLINE: Duration = Duration::from_secs(20);

/// Heartbeats that may be missed before the broker counts as gone.
const MISSED_HEARTBEATS: u32 = 2;

/// Posted pieces that wait to be written; who posts more waits as for a full socket.
const POSTED: usize = 4;

/// Bytes taken from a socket at once.
const BUFFER: usize = 64 << 10;

/// One connection to the broker. It ends when either side closes, when the broker falls silent, or when it is cut; dropping this
/// alone does not end it, so that amqprs can say goodbye.
pub(super) struct Link {
    /// Where amqprs connects, once.
    pub address: SocketAddr,
    post: mpsc::Sender<Piece>,
    state: Arc<State>,
}

/// Whole frames of one channel.
struct Piece {
    channel: u16,
    frames: Bytes,
}

/// A way to the broker past amqprs, for one channel.
pub(super) struct Post {
    channel: u16,
    sender: mpsc::Sender<Piece>,
}

impl Post {
    /// Sends whole frames, all at once. If the connection is gone they go nowhere, which the channel tells.
    pub async fn send(&self, frames: Vec<u8>) {
        let _ = self.sender.send(Piece { channel: self.channel, frames: frames.into() }).await;
    }
}

#[derive(Default)]
struct State {
    /// Why the broker takes no publishes at the moment.
    blocked: watch::Sender<Option<String>>,
    /// What the broker said when it closed the connection.
    farewell: Mutex<Option<String>>,
    /// Why the link ended.
    end: Mutex<Option<String>>,
    cut: CancellationToken,
    ended: CancellationToken,
}

impl Link {
    /// Connects to the broker; `name` is how its operators see the connection. Errors name host and port, never a secret.
    pub async fn open(target: &Target, name: &str, heartbeat: Duration) -> Result<Self, String> {
        let place = format!("{}:{}", target.host, target.port);
        let connect = async {
            let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        };
        let stream = timeout(CONNECT_DEADLINE, connect)
            .await
            .map_err(|_| format!("no connection to {place} within {CONNECT_DEADLINE:?}"))?
            .map_err(|error| format!("no connection to {place}: {error}"))?;
        let local =
            |error: std::io::Error| format!("no loopback listener for the connection to {place}: {error}");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(local)?;
        let address = listener.local_addr().map_err(local)?;
        let state = Arc::new(State::default());
        let (post, posted) = mpsc::channel(POSTED);
        let pump = Pump {
            posted,
            state: state.clone(),
            silence: heartbeat * MISSED_HEARTBEATS,
            name: name.to_owned(),
        };
        match &target.tls {
            None => tokio::spawn(pump.run(listener, stream)),
            Some(tls) => {
                let handshake = tls.connector.connect(tls.server_name.clone(), stream);
                let stream = timeout(CONNECT_DEADLINE, handshake)
                    .await
                    .map_err(|_| format!("no TLS handshake with {place} within {CONNECT_DEADLINE:?}"))?
                    .map_err(|error| format!("TLS with {place} failed: {error}"))?;
                tokio::spawn(pump.run(listener, stream))
            }
        };
        Ok(Self { address, post, state })
    }

    /// A way for whole frames of a channel that amqprs has opened.
    pub fn post(&self, channel: u16) -> Post {
        Post { channel, sender: self.post.clone() }
    }

    /// Ends the connection at once.
    pub fn cut(&self, reason: &str) {
        self.state.ended_because(reason.to_owned());
        self.state.cut.cancel();
    }

    /// Returns when the connection has ended, whoever ended it.
    pub async fn ended(&self) {
        self.state.ended.cancelled().await;
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.state.ended.is_cancelled() || self.state.cut.is_cancelled()
    }

    /// Why it ended, as the broker said it if it did.
    pub fn reason(&self) -> String {
        let farewell = lock(&self.state.farewell).clone();
        farewell
            .or_else(|| lock(&self.state.end).clone())
            .unwrap_or_else(|| "the connection was closed".into())
    }

    /// What the broker said when it closed the connection.
    pub fn farewell(&self) -> Option<String> {
        lock(&self.state.farewell).clone()
    }

    /// Why the broker takes no publishes at the moment; `None` while it does.
    pub fn blocked(&self) -> watch::Receiver<Option<String>> {
        self.state.blocked.subscribe()
    }
}

impl State {
    fn ended_because(&self, reason: String) {
        lock(&self.end).get_or_insert(reason);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Pump {
    posted: mpsc::Receiver<Piece>,
    state: Arc<State>,
    silence: Duration,
    name: String,
}

impl Pump {
    async fn run<S: AsyncRead + AsyncWrite>(self, listener: TcpListener, broker: S) {
        let state = self.state.clone();
        let reason = tokio::select! {
            () = state.cut.cancelled() => "the connection was ended on our side".to_owned(),
            reason = self.carry(listener, broker) => reason,
        };
        state.ended_because(reason);
        state.ended.cancel();
    }

    async fn carry<S: AsyncRead + AsyncWrite>(self, listener: TcpListener, broker: S) -> String {
        let client = match timeout(LOCAL_DEADLINE, listener.accept()).await {
            Ok(Ok((client, _))) => client,
            _ => return "the client did not connect to its own link".into(),
        };
        drop(listener);
        let _ = client.set_nodelay(true);
        let (from_client, to_client) = client.into_split();
        let (from_broker, to_broker) = tokio::io::split(broker);
        let Self { posted, state, silence, name } = self;
        tokio::select! {
            reason = up(from_client, posted, to_broker, &name) => reason,
            reason = down(&state, silence, from_broker, to_client) => reason,
        }
    }
}

/// From the broker to amqprs, frame by frame.
async fn down(
    state: &State,
    silence: Duration,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> String {
    let mut scanner = Scanner::default();
    let mut received = BytesMut::with_capacity(BUFFER);
    let mut forward = Vec::new();
    loop {
        received.reserve(BUFFER);
        match timeout(silence, from.read_buf(&mut received)).await {
            Err(_) => return format!("the broker was silent for {:?}", silence),
            Ok(Err(error)) => return format!("the connection broke: {error}"),
            Ok(Ok(0)) => return "the broker closed the connection".into(),
            Ok(Ok(_)) => {}
        }
        let mut notes = Vec::new();
        let scanned = scanner.scan(&mut received, &mut forward, &mut notes);
        for note in notes {
            match note {
                Note::Blocked(reason) => drop(state.blocked.send_replace(Some(reason))),
                Note::Unblocked => drop(state.blocked.send_replace(None)),
                Note::Closed(text) => *lock(&state.farewell) = Some(text),
            }
        }
        for piece in forward.drain(..) {
            match timeout(LOCAL_DEADLINE, to.write_all(&piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return "the client closed the connection".into(),
                Err(_) => return "the client stopped reading".into(),
            }
        }
        if let Err(corrupt) = scanned {
            return format!("what the broker sends is not AMQP: {corrupt}");
        }
    }
}

/// From amqprs to the broker, and what is posted past it.
async fn up(
    mut from: impl AsyncRead + Unpin,
    mut posted: mpsc::Receiver<Piece>,
    mut to: impl AsyncWrite + Unpin,
    name: &str,
) -> String {
    let mut received = BytesMut::with_capacity(BUFFER);
    let mut greeted = false;
    let mut outgoing = Outgoing::default();
    let mut forward = Vec::new();
    loop {
        received.reserve(BUFFER);
        tokio::select! {
            read = from.read_buf(&mut received) => match read {
                Ok(1..) => {}
                _ => return "the client closed the connection".into(),
            },
            // Not in the middle of a frame.
            Some(piece) = posted.recv(), if outgoing.is_between_frames() => {
                if !outgoing.is_closed(piece.channel) {
                    forward.push(piece.frames);
                }
            }
        }
        if !greeted {
            greeted = greeting::complete(&mut received, name);
        }
        if greeted {
            outgoing.pass(&mut received, &mut forward);
        } else {
            // The protocol header alone has to go out: the broker speaks only after it.
            forward.push(received.split_to(greeting::sendable(&received)).freeze());
        }
        let sent = async {
            for piece in forward.drain(..) {
                to.write_all(&piece).await?;
            }
            to.flush().await
        };
        // No deadline: a broker that blocks publishers stops reading, rightly. One that is gone is noticed by its silence.
        if let Err(error) = sent.await {
            return format!("the connection broke: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    const CLOSE_OK: &[u8] = &[0, 20, 0, 41];

    fn frame(channel: u8, payload: &[u8]) -> Vec<u8> {
        [&[METHOD, 0, channel, 0, 0, 0, payload.len() as u8], payload, &[FRAME_END]].concat()
    }

    async fn arrives(broker: &mut DuplexStream, wanted: &[u8]) {
        let mut got = vec![0; wanted.len()];
        broker.read_exact(&mut got).await.unwrap();
        assert_eq!(got, wanted);
    }

    #[tokio::test]
    async fn what_is_posted_goes_between_the_frames_of_amqprs_and_not_onto_a_closed_channel() {
        let (mut amqprs, from) = duplex(BUFFER);
        let (to, mut broker) = duplex(BUFFER);
        let (sender, posted) = mpsc::channel(POSTED);
        let post = |channel| Post { channel, sender: sender.clone() };
        tokio::spawn(async move { up(from, posted, to, "name").await });
        let (first, second) = (frame(1, b"\0\x14\0\x0a\0"), frame(1, b"\0\x3c\0\x50 of two halves"));
        amqprs.write_all(&first).await.unwrap();
        arrives(&mut broker, &first).await;

        let (half, rest) = second.split_at(15);
        amqprs.write_all(half).await.unwrap();
        arrives(&mut broker, half).await;
        post(1).send(b"piece".to_vec()).await;
        amqprs.write_all(rest).await.unwrap();
        arrives(&mut broker, &[rest, b"piece"].concat()).await;

        let agreed = frame(2, CLOSE_OK);
        amqprs.write_all(&agreed).await.unwrap();
        arrives(&mut broker, &agreed).await;
        post(2).send(b"to nobody".to_vec()).await;
        post(1).send(b"to somebody".to_vec()).await;
        arrives(&mut broker, b"to somebody").await;
    }
}
