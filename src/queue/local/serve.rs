//! Serves the local queue on a listener of its own, where a provoked fault may also close the connection.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use super::faults::HangUp;

/// How long open connections may take to finish their call when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Time for a request's head: a connection that says nothing is given up.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause after a failed accept (no file descriptors left, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `routes` until `shutdown` ends, then lets open calls finish, for a bounded time.
pub async fn serve(listener: TcpListener, routes: axum::Router, shutdown: impl Future<Output = ()> + Send) {
    let graceful = GracefulShutdown::new();
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    tokio::pin!(shutdown);
    loop {
        let stream = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the local queue cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        // Small answers should leave at once; without it they are only slower.
        let _ = stream.set_nodelay(true);
        let routes = routes.clone();
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let routes = routes.clone();
            async move {
                let answer: Result<_, Infallible> = routes.oneshot(request.map(Body::new)).await;
                match answer {
                    Ok(response) if response.extensions().get::<HangUp>().is_some() => {
                        Err(std::io::Error::other("closed by a rule of /__faults__"))
                    }
                    Ok(response) => Ok(response),
                    Err(never) => match never {},
                }
            }
        });
        let connection = graceful.watch(server.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // Connections break all the time, and the other side knows why.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the local queue ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("the local queue stopped with calls still open");
    }
}
