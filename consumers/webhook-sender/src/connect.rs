//! The only place that opens a connection to an endpoint. A name is looked up once, every address that comes back must be
//! allowed, and the connection goes to one of those very addresses: nobody looks the name up again in between.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tower::Service;
use webhooks::Policy;

/// Looks a name up.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;
/// Connects to an address.
pub type Dial = Arc<dyn Fn(SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> + Send + Sync>;

/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

/// Why there is no connection. It names no address: what is inside is nobody's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// There is no such name, or nobody says so.
    #[error("the name cannot be looked up")]
    Name,
    /// It leads inside, wholly or in part.
    #[error("the name leads to an address that is not of the internet")]
    Forbidden,
    /// Nobody takes connections there.
    #[error("nobody takes connections there")]
    Refused,
    /// It took too long.
    #[error("there was no connection in time")]
    Timeout,
}

/// Connects to where a policy lets it, for `hyper_util`'s client.
#[derive(Clone)]
pub struct Guarded {
    policy: Arc<Policy>,
    timeout: Duration,
    lookup: Lookup,
    dial: Dial,
}

impl Guarded {
    /// With the system's resolver.
    pub fn new(policy: Arc<Policy>, timeout: Duration) -> Self {
        let lookup: Lookup = Arc::new(|name| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        });
        let dial: Dial = Arc::new(|address| Box::pin(TcpStream::connect(address)));
        Self::with(policy, timeout, lookup, dial)
    }

    /// With another one, and another way to connect.
    pub fn with(policy: Arc<Policy>, timeout: Duration, lookup: Lookup, dial: Dial) -> Self {
        Self {
            policy,
            timeout,
            lookup,
            dial,
        }
    }

    async fn connect(self, uri: Uri) -> Result<TcpStream, ConnectError> {
        let until = Instant::now() + self.timeout;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        });
        let host = uri.host().unwrap_or_default();
        let addresses = match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) => vec![address],
            Err(_) => timeout_at(until, (self.lookup)(host.to_owned()))
                .await
                .map_err(|_| ConnectError::Timeout)?
                .map_err(|_| ConnectError::Name)?,
        };
        // All of them: one that is allowed beside one that is not is how names are made to lead inside.
        if !addresses.iter().all(|address| self.policy.allows(*address)) {
            return Err(ConnectError::Forbidden);
        }
        let mut failure = ConnectError::Name;
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            match timeout_at(until, (self.dial)(SocketAddr::new(address, port))).await {
                Ok(Ok(stream)) => {
                    // Head and body are written apart.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(_)) => failure = ConnectError::Refused,
                Err(_) => return Err(ConnectError::Timeout),
            }
        }
        Err(failure)
    }
}

impl Service<Uri> for Guarded {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let guarded = self.clone();
        Box::pin(async move { guarded.connect(uri).await.map(TokioIo::new) })
    }
}
