//! Serving HTTP: the routes that operators need, and a server that a slow or stalled client cannot exhaust.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::{Health, metrics};

/// How long open requests may go on once a stop is requested.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// How long a client may take to send the head of a request. It also ends keep-alive connections that are
/// idle.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a request's head is read before it is answered 431, give or take one read: far more than ours need, and all
/// that a client can make us hold before it has said what it wants.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Pause after the operating system refused a connection, most likely for want of file descriptors: retrying
/// at once would only burn a core until some are closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for HTTP on {address} (HTTP_HOST, HTTP_PORT)")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// Listens on an address; port 0 takes a free one.
///
/// # Errors
///
/// When the address is taken, is not one of this machine, or needs a privilege.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| BindError { address, source })
}

/// The routes every service has: `/livez` and its alias `/health`, `/readyz`, and `/metrics` for Prometheus.
pub fn admin_router(health: Health) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/health", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(exposition))
        .with_state(health)
}

/// Serves `router` over HTTP/1.1 until `shutdown`, then closes the listener and lets open requests finish,
/// for at most [`DRAIN_LIMIT`]. Handlers find the client's address in [`ConnectInfo<SocketAddr>`], and may
/// upgrade the connection; an upgraded connection (a `WebSocket`) is theirs to close.
///
/// `axum::serve` is not used because it sets no timeout for reading a request's head, so that clients which
/// send nothing hold their connections for ever.
///
/// # Errors
///
/// None: failures of one connection end that connection. The type fits
/// [`Supervisor::spawn`](crate::Supervisor::spawn).
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> anyhow::Result<()> {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "listening for HTTP");
    }
    let connections = TaskTracker::new();
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => {
                connections.spawn(serve_connection(stream, peer, router.clone(), shutdown.clone()));
            }
            Err(error) if is_clients_fault(&error) => {}
            Err(error) => {
                tracing::error!(%error, "cannot accept HTTP connections");
                shutdown
                    .run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE))
                    .await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN_LIMIT, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "HTTP requests still open at the end of the drain limit"
        );
    }
    Ok(())
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, router: Router, shutdown: CancellationToken) {
    // Small answers should leave at once. A socket that refuses the option still works.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        answer(router.clone(), request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, client.address = %peer, "HTTP connection ended early");
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> Result<Response, Infallible> {
    router.oneshot(request.map(Body::new)).await
}

/// Errors of `accept` that concern one connection, which is gone; see accept(2).
fn is_clients_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

async fn livez(State(health): State<Health>) -> impl IntoResponse {
    let report = health.report();
    (
        status(report.is_alive()),
        [(header::CACHE_CONTROL, "no-store")],
        Json(report),
    )
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    let report = health.report();
    (
        status(report.is_ready()),
        [(header::CACHE_CONTROL, "no-store")],
        Json(report),
    )
}

async fn exposition() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        metrics::render(),
    )
}

fn status(good: bool) -> StatusCode {
    if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

#[cfg(test)]
mod tests;
