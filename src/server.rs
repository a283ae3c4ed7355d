//! Serves HTTP: hyper's connections with a bound on their number and on slow headers, and an orderly stop.
//!
//! The one accept loop of the program: what it promises holds for API, bridge and local queue alike.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Connections at a time; more wait in the listen queue.
const CONNECTIONS: usize = 2_048;

/// Length of the listen queue, as far as the system grants it (Linux: `net.core.somaxconn`). A connection that finds no room there is
/// tried again by its peer's system a second later at the earliest, so that a burst of senders should find room.
const BACKLOG: u32 = 4_096;

/// A peer that takes longer for its request line and headers is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests under way get so long to finish after the stop.
const DRAIN: Duration = Duration::from_secs(10);

/// How long accepting pauses after an error, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// On a response: the connection is closed in its place. For servers that fail on request.
#[derive(Debug, Clone, Copy)]
pub struct HangUp;

/// Listens on an address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As everywhere: connections of a process that has ended do not keep the next one from its port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `routes` until `stop`, then lets requests under way finish, within a bound. Each request carries the
/// `ConnectInfo` of its peer.
pub async fn serve(listener: TcpListener, routes: axum::Router, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = tokio::select! {
            place = places.clone().acquire_owned() => match place {
                Ok(place) => place,
                Err(_) => break,
            },
            () = stop.cancelled() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Without it the answer only comes later.
        let _ = stream.set_nodelay(true);
        let routes = routes.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let routes = routes.clone();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            async move {
                let answer = routes.oneshot(request).await.unwrap_or_else(|never| match never {});
                match answer.extensions().get::<HangUp>() {
                    None => Ok(answer),
                    // An error of the service is what makes hyper close without a word.
                    Some(HangUp) => Err(io::Error::other("closed on request")),
                }
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way at the stop");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_burst_of_connections_finds_room_before_anybody_accepts_them() {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let granted = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
        let granted = granted.and_then(|text| text.trim().parse().ok()).unwrap_or(128);
        let patience = Duration::from_millis(900);
        let connected: Vec<_> = (0..granted.min(500))
            .map(|_| std::net::TcpStream::connect_timeout(&address, patience).unwrap())
            .collect();
        assert!(connected.len() >= 128);
    }
}
