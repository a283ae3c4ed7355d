//! A TCP proxy between a client and a real server, which cuts, refuses, stalls and delays on request.
//!
//! Stalled connections stay open and carry nothing: a peer that is half there, which only a deadline can notice.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What the proxy does to bytes right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Mood {
    refuse: bool,
    stall: bool,
    /// The same for what the server says alone.
    mute: bool,
    delay: Duration,
    /// One more with each cut: connections of an older age end.
    age: u64,
}

/// A running proxy; its connections end when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    mood: watch::Sender<Mood>,
    _stop: DropGuard,
}

impl Proxy {
    /// Listens on a free loopback port and forwards to `target`.
    pub async fn start(target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("the proxy cannot listen")?;
        let address = listener.local_addr()?;
        let (mood, moods) = watch::channel(Mood::default());
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, target, moods)));
        Ok(Self { address, mood, _stop: stop.drop_guard() })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection that is open now; new ones are accepted.
    pub fn cut(&self) {
        self.mood.send_modify(|mood| mood.age += 1);
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refuse: bool) {
        self.mood.send_modify(|mood| mood.refuse = refuse);
    }

    /// Whether bytes stop flowing, in both directions, without any connection being closed.
    pub fn stall(&self, stall: bool) {
        self.mood.send_modify(|mood| mood.stall = stall);
    }

    /// Whether nothing of what the server says reaches the client, while the server hears all that the client says.
    pub fn mute(&self, mute: bool) {
        self.mood.send_modify(|mood| mood.mute = mute);
    }

    /// Holds back each piece of data so long, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.mood.send_modify(|mood| mood.delay = delay);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, moods: watch::Receiver<Mood>) {
    while let Ok((client, _)) = listener.accept().await {
        if !moods.borrow().refuse {
            tokio::spawn(serve(client, target, moods.clone()));
        }
    }
}

async fn serve(client: TcpStream, target: SocketAddr, mut moods: watch::Receiver<Mood>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let age = moods.borrow().age;
    tokio::select! {
        () = pump(client_in, server_out, moods.clone(), |mood| mood.stall) => {}
        () = pump(server_in, client_out, moods.clone(), |mood| mood.stall || mood.mute) => {}
        _ = moods.wait_for(|mood| mood.age != age) => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut moods: watch::Receiver<Mood>,
    held: impl Fn(&Mood) -> bool,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        let delay = moods.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if moods.wait_for(|mood| !held(mood)).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
