//! One request and its answer, both bounded. hyper's client follows no redirect and reads no proxy from the environment;
//! its connections come from `connect.rs` and nowhere else.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::RETRY_AFTER;
use hyper::{HeaderMap, Method, Request};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;
use webhooks::Policy;

use crate::SendConfig;
use crate::connect::{ConnectError, Guarded};

/// Of an answer's body, and of a request's in the log.
pub const MAX_KEPT_BODY_BYTES: usize = 4 * 1024;
/// What of an answer's body is read on, so that the connection can be used again. With more to come it is closed.
const MAX_READ_BODY_BYTES: usize = 64 * 1024;
/// An answer's head.
const MAX_HEAD_BYTES: usize = 32 * 1024;
const MAX_HEADERS: usize = 100;
/// Headers that are kept, and of each.
const MAX_KEPT_HEADERS: usize = 40;
const MAX_KEPT_HEADER_BYTES: usize = 500;
/// There are many endpoints, and most of them hear little: connections are not kept for long.
const IDLE_LIMIT: Duration = Duration::from_secs(5);
const MAX_IDLE_PER_HOST: usize = 16;

type Connector = HttpsConnector<Guarded>;

/// Sends requests.
#[derive(Clone)]
pub struct Client {
    inner: legacy::Client<Connector, Full<Bytes>>,
    policy: Arc<Policy>,
    timeout: Duration,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// How long it asks to be left alone.
    pub retry_after: Option<Duration>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoAnswer {
    pub reason: String,
    /// The request may have arrived.
    pub ambiguous: bool,
}

impl NoAnswer {
    fn certain(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            ambiguous: false,
        }
    }

    fn ambiguous(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            ambiguous: true,
        }
    }
}

impl Client {
    /// One that goes where the policy lets it.
    ///
    /// # Errors
    /// When the system has no certificates to trust.
    pub fn new(policy: &Policy, config: &SendConfig) -> std::io::Result<Self> {
        let policy = Arc::new(policy.clone());
        let guarded = Guarded::new(Arc::clone(&policy), config.connect_timeout);
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()?
            .https_or_http()
            .enable_http1()
            .wrap_connector(guarded);
        Ok(Self::with(connector, policy, config.timeout))
    }

    fn with(connector: Connector, policy: Arc<Policy>, timeout: Duration) -> Self {
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .http1_max_headers(MAX_HEADERS)
            .build(connector);
        Self {
            inner,
            policy,
            timeout,
        }
    }

    /// Posts `body` and reads what is answered.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn post(&self, url: &str, headers: HeaderMap, body: String) -> Result<Answer, NoAnswer> {
        // The settings may have changed since the endpoint was made.
        let url = self
            .policy
            .check(url)
            .map_err(|problem| NoAnswer::certain(format!("the URL {problem}")))?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = headers;
        *request.uri_mut() = url
            .as_str()
            .parse()
            .map_err(|_| NoAnswer::certain("the URL cannot be sent to"))?;
        match timeout(self.timeout, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) => Err(NoAnswer::ambiguous("there was no answer in time")),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
        let response = self
            .inner
            .request(request)
            .await
            .map_err(|error| no_answer(&error))?;
        let (head, body) = response.into_parts();
        let body = read(body).await?;
        Ok(Answer {
            status: head.status.as_u16(),
            retry_after: retry_after(&head.headers, Utc::now()),
            headers: kept(&head.headers),
            body,
        })
    }
}

/// The beginning of a body. The rest is read on for as long as that is cheaper than another connection.
async fn read(mut body: Incoming) -> Result<String, NoAnswer> {
    let mut start = Vec::new();
    let mut bytes = 0;
    while bytes < MAX_READ_BODY_BYTES && !body.is_end_stream() {
        let Some(frame) = body.frame().await else {
            break;
        };
        let frame =
            frame.map_err(|_| NoAnswer::ambiguous("the connection broke in the middle of the answer"))?;
        if let Some(data) = frame.data_ref() {
            bytes += data.len();
            let room = MAX_KEPT_BODY_BYTES.saturating_sub(start.len());
            start.extend(data.iter().take(room));
        }
    }
    Ok(printable(&String::from_utf8_lossy(&start), MAX_KEPT_BODY_BYTES))
}

/// What of an answer's headers is kept.
fn kept(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .take(MAX_KEPT_HEADERS)
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (
                printable(name.as_str(), MAX_KEPT_HEADER_BYTES),
                printable(&value, MAX_KEPT_HEADER_BYTES),
            )
        })
        .collect()
}

/// The beginning of a text, without U+0000, which Postgres does not take.
pub fn printable(text: &str, max_bytes: usize) -> String {
    let mut end = text.len().min(max_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().replace('\0', "\u{fffd}")
}

/// `Retry-After`, in seconds or as a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::parse_from_rfc2822(text).ok()?;
    (at.to_utc() - now).to_std().ok()
}

/// What hyper's error means.
fn no_answer(error: &legacy::Error) -> NoAnswer {
    let mut cause: &(dyn Error + 'static) = error;
    loop {
        if let Some(known) = cause.downcast_ref::<ConnectError>() {
            return NoAnswer::certain(known.to_string());
        }
        match cause.source() {
            Some(source) => cause = source,
            None => break,
        }
    }
    if error.is_connect() {
        // The only other step of connecting.
        return NoAnswer::certain(printable(&format!("TLS failed: {cause}"), MAX_KEPT_HEADER_BYTES));
    }
    NoAnswer::ambiguous(printable(
        &format!("the connection broke before the answer: {cause}"),
        MAX_KEPT_HEADER_BYTES,
    ))
}

#[cfg(test)]
mod tests;
