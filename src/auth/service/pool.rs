//! Keep-alive connections that are driven by the call that uses them.
//!
//! hyper's pooling client gives each connection a task of its own, and every call crosses to it and back a few times. Here
//! the call itself moves the bytes: it wakes only when something has arrived for it. An idle connection is not looked at;
//! whether the other side has closed it shows when it is taken out.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Answer, CallError};
use crate::causes::with_causes;

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Moves the bytes of a connection when it is polled, and ends with it.
type Driver = Pin<Box<http1::Connection<Stream, Full<Bytes>>>>;

/// An open connection.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once it has ended.
    driver: Option<Driver>,
    /// When it was put aside.
    idle_since: Instant,
}

/// A request that did not leave because the connection had been closed meanwhile; it can go over another.
pub(super) struct NotSent(pub Request<Full<Bytes>>);

impl Connection {
    pub async fn open(stream: Stream) -> Result<Self, CallError> {
        let (sender, driver) = http1::handshake(stream).await.map_err(|error| broken(&error))?;
        Ok(Self { sender, driver: Some(Box::pin(driver)), idle_since: Instant::now() })
    }

    /// Sends one request and reads the whole answer, at most `max_answer` bytes.
    pub async fn call(
        &mut self,
        request: Request<Full<Bytes>>,
        max_answer: usize,
    ) -> Result<Result<Answer, CallError>, NotSent> {
        // Nobody has looked since it was put aside.
        let closed = std::future::poll_fn(|cx| Poll::Ready(self.drive(cx))).await;
        if closed || self.sender.is_closed() {
            return Err(NotSent(request));
        }
        let Self { sender, driver, .. } = self;
        let mut exchange = pin!(exchange(sender, request, max_answer));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(answer) = exchange.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            drive(driver, cx);
            exchange.as_mut().poll(cx)
        })
        .await
    }

    /// Whether it can take another request.
    async fn is_reusable(&mut self) -> bool {
        let closed = std::future::poll_fn(|cx| Poll::Ready(self.drive(cx))).await;
        !closed && self.sender.is_ready()
    }

    /// Moves what can be moved; true when the connection has ended.
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        drive(&mut self.driver, cx)
    }
}

fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) -> bool {
    // Why it ended is told to whoever waits for an answer.
    if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
        *driver = None;
    }
    driver.is_none()
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    max_answer: usize,
) -> Result<Result<Answer, CallError>, NotSent> {
    let response = match sender.try_send_request(request).await {
        Ok(response) => response,
        Err(mut error) => {
            return match error.take_message() {
                Some(request) => Err(NotSent(request)),
                None => Ok(Err(broken(error.error()))),
            };
        }
    };
    let (parts, body) = response.into_parts();
    Ok(match Limited::new(body, max_answer).collect().await {
        Ok(body) => Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() }),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(CallError::TooLong(max_answer)),
        Err(error) => Err(broken(&*error)),
    })
}

fn broken(error: &dyn std::error::Error) -> CallError {
    CallError::Connection(with_causes(error))
}

/// Connections that wait for their next call, the one that was used last at the end.
pub(super) struct Pool {
    idle: Mutex<Idle>,
    /// So many are kept.
    most: usize,
    /// After so long without use they are closed.
    patience: Duration,
}

#[derive(Default)]
struct Idle {
    connections: Vec<Connection>,
    /// Somebody closes those that have waited too long.
    watched: bool,
}

impl Pool {
    pub fn new(most: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), most, patience })
    }

    /// The one that was used last.
    pub fn take(&self) -> Option<Connection> {
        self.lock().connections.pop()
    }

    /// Puts one aside that has done its call, if it can take another.
    pub async fn put(self: &Arc<Self>, mut connection: Connection) {
        if !connection.is_reusable().await {
            return;
        }
        connection.idle_since = Instant::now();
        let mut idle = self.lock();
        if idle.connections.len() >= self.most {
            return;
        }
        idle.connections.push(connection);
        if !std::mem::replace(&mut idle.watched, true) {
            tokio::spawn(close_unused(Arc::downgrade(self), self.patience));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that have waited too long, until none is left.
async fn close_unused(pool: Weak<Pool>, patience: Duration) {
    let mut next = Instant::now() + patience;
    loop {
        tokio::time::sleep_until(next).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.lock();
        let old =
            idle.connections.partition_point(|connection| connection.idle_since + patience <= Instant::now());
        let closed: Vec<Connection> = idle.connections.drain(..old).collect();
        match idle.connections.first() {
            Some(oldest) => next = oldest.idle_since + patience,
            None => {
                idle.watched = false;
                return;
            }
        }
        drop(idle);
        drop(closed);
    }
}
