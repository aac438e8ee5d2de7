//! What happens around every request: its id, its span, its time limit, its log line and its metrics.

use std::any::Any;
use std::error::Error;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;
use uuid::Uuid;

use crate::metrics::{DURATION, REQUESTS};
use crate::problem::{Kind, Problem};

/// How long an answer may take. The handler is dropped then, but database work goes on to its end.
const TIME_LIMIT: Duration = Duration::from_secs(30);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken over from the client.
const MAX_ID_BYTES: usize = 128;

/// Observes one request from its head to the head of its answer.
pub async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_label(request.method());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let path = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
    let id = request_id(request.headers());

    let span = tracing::info_span!(
        "request",
        request.id = id,
        http.method = method,
        http.route = path
    );
    let answer = tokio::time::timeout(TIME_LIMIT, next.run(request))
        .instrument(span.clone())
        .await;
    let mut response = answer.unwrap_or_else(|_| {
        let detail = "The answer took too long. What the request asked for may have been done, or still be.";
        Problem::new(Kind::Timeout, detail).into_response()
    });

    let took = started.elapsed();
    if let Some(fault) = response.extensions_mut().remove::<Problem>() {
        response = fault.render(Some(&id));
        span.in_scope(|| log_fault(&fault, &response, took));
    } else {
        tracing::debug!(parent: &span, http.status = response.status().as_u16(), duration_ms = millis(took), "answered");
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    REQUESTS
        .with_label_values(&[method, path, response.status().as_str()])
        .inc();
    DURATION
        .with_label_values(&[method, path])
        .observe(took.as_secs_f64());
    response
}

/// The answer after a panic in a handler, which the panic hook has logged.
pub fn after_panic(_: Box<dyn Any + Send + 'static>) -> Response {
    Problem::internal(Panicked).into_response()
}

#[derive(Debug, thiserror::Error)]
#[error("the handler panicked")]
struct Panicked;

/// The one line about a request that failed by no fault of its own.
fn log_fault(fault: &Problem, response: &Response, took: Duration) {
    let status = response.status().as_u16();
    let error = fault
        .cause()
        .map_or_else(|| "none".to_owned(), |cause| chain(cause));
    if status == 500 {
        tracing::error!(
            http.status = status,
            duration_ms = millis(took),
            error,
            "a request failed"
        );
    } else {
        tracing::warn!(
            http.status = status,
            duration_ms = millis(took),
            error,
            "a request was turned away"
        );
    }
}

/// An error with what is behind it, unless it says so itself.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut behind = error.source();
    while let Some(error) = behind {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        behind = error.source();
    }
    text
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The client's id, if it is one that can be searched for and cannot hurt a log; a new one otherwise.
fn request_id(headers: &HeaderMap) -> String {
    let usable = |id: &&str| {
        (1..=MAX_ID_BYTES).contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b))
    };
    let theirs = headers
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .filter(usable);
    theirs.map_or_else(|| Uuid::now_v7().to_string(), ToOwned::to_owned)
}

/// A client can make up methods; labels must be few.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_request_id_is_kept_and_another_replaced() {
        let id_of = |id: &str| {
            request_id(&HeaderMap::from_iter([(
                REQUEST_ID,
                HeaderValue::from_str(id).unwrap(),
            )]))
        };
        assert_eq!(id_of("req-1.2_3:/+="), "req-1.2_3:/+=");
        for id in ["", "a b", "{\"a\"}", &"a".repeat(129)] {
            assert!(Uuid::try_parse(&id_of(id)).is_ok(), "{id}");
        }
        assert!(Uuid::try_parse(&request_id(&HeaderMap::new())).is_ok());
    }
}
