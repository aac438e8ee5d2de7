//! What happens around every request: its id, its trace, its span, its limits, its log line and its metrics, and what
//! HTTP has to say about answers whatever is in them.

use std::any::Any;
use std::error::Error;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use service::trace::{Kind as SpanKind, Span, TRACEPARENT, Trace};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::Instrument;
use uuid::Uuid;

use crate::config::Origins;
use crate::idempotency::{IDEMPOTENCY_KEY, REPLAYED};
use crate::metrics::{DURATION, REQUESTS};
use crate::problem::{Kind, Problem};
use crate::rate_limit::{RATE_LIMIT, RATE_LIMIT_POLICY};

/// How long an answer may take. The handler is dropped then, but database work goes on to its end.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The longest path with its query that is looked at.
const MAX_URL_BYTES: usize = 8 * 1024;

/// The largest answer that an `ETag` is made of.
const MAX_TAGGED_BYTES: u64 = 1024 * 1024;

/// Paths whose requests make no spans.
const UNTRACED: [&str; 4] = ["/livez", "/readyz", "/health", "/metrics"];

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
    let parent = parent(request.headers());
    // Probes and scrapes are nobody's work.
    let mut work = (!UNTRACED.contains(&path))
        .then(|| Span::begin(format_args!("{method} {path}"), SpanKind::Server, parent));
    let trace = work.as_ref().map_or_else(|| Trace::below(parent), Span::trace);

    let span = tracing::info_span!(
        "request",
        request.id = id,
        trace.id = trace.id(),
        span.id = trace.span_id(),
        http.method = method,
        http.route = path
    );
    let answer = tokio::time::timeout(TIME_LIMIT, trace.scope(next.run(request)))
        .instrument(span.clone())
        .await;
    let mut response = answer.unwrap_or_else(|_| {
        let detail = "The answer took too long. What the request asked for may have been done, or still be.";
        Problem::new(Kind::Timeout, detail).into_response()
    });

    let took = started.elapsed();
    if let Some(fault) = response.extensions_mut().remove::<Problem>() {
        // The same answer again, now with the id; its headers may have been added to meanwhile.
        *response.body_mut() = fault.render(Some(&id)).into_body();
        span.in_scope(|| log_fault(&fault, &response, took));
    } else {
        tracing::debug!(parent: &span, http.status = response.status().as_u16(), duration_ms = millis(took), "answered");
    }
    if let Some(work) = work.as_mut().filter(|_| service::trace::is_on()) {
        work.set("http.request.method", method);
        work.set("http.route", path.to_owned());
        work.set("http.response.status_code", i64::from(response.status().as_u16()));
        if response.status().is_server_error() {
            work.fail(response.status().as_str().to_owned());
        }
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

/// Refuses URLs that no request of ours needs, before anything is done with them.
pub async fn bound_url(request: Request, next: Next) -> Response {
    let length = request.uri().path_and_query().map_or(0, |url| url.as_str().len());
    if length > MAX_URL_BYTES {
        let detail = "The path and the query together may have at most 8 KiB.";
        return Problem::new(Kind::UriTooLong, detail).into_response();
    }
    next.run(request).await
}

/// Answers 304 to a client that has what it would be sent (`If-None-Match`, RFC 9110 section 13.1.2). An answer to GET
/// that has no `ETag` of its own gets a weak one, made of its body; one that is not there as a whole, or that nobody may
/// keep, gets none.
pub async fn not_modified(request: Request, next: Next) -> Response {
    let get = request.method() == Method::GET || request.method() == Method::HEAD;
    let seen = IfNoneMatch::of(request.headers());
    let response = next.run(request).await;
    if !get || response.status() != StatusCode::OK {
        return response;
    }
    let mut response = tagged(response).await;
    let known = response
        .headers()
        .get(header::ETAG)
        .is_some_and(|tag| seen.names(tag.as_bytes()));
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH] {
            response.headers_mut().remove(name);
        }
    }
    response
}

async fn tagged(response: Response) -> Response {
    let no_store = response
        .headers()
        .get(header::CACHE_CONTROL)
        .is_some_and(|value| value == "no-store");
    let length = response.body().size_hint().exact();
    let whole = length.is_some_and(|bytes| (1..=MAX_TAGGED_BYTES).contains(&bytes));
    if no_store || !whole || response.headers().contains_key(header::ETAG) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return Problem::internal(BodyLost).into_response();
    };
    let hash = digest(&SHA256, &bytes);
    let tag = BASE64_URL_SAFE_NO_PAD.encode(hash.as_ref().get(..16).unwrap_or_default());
    if let Ok(tag) = HeaderValue::try_from(format!("W/\"{tag}\"")) {
        parts.headers.insert(header::ETAG, tag);
    }
    Response::from_parts(parts, Body::from(bytes))
}

#[derive(Debug, thiserror::Error)]
#[error("a body that was there as a whole could not be read")]
struct BodyLost;

/// The tags of what a client has. What cannot be read is nothing it has: it gets the answer itself.
struct IfNoneMatch(Vec<HeaderValue>);

impl IfNoneMatch {
    fn of(headers: &HeaderMap) -> Self {
        Self(headers.get_all(header::IF_NONE_MATCH).iter().cloned().collect())
    }

    /// Compares weakly (section 8.8.3.2): `W/` makes no difference. Tags of ours hold no comma.
    fn names(&self, tag: &[u8]) -> bool {
        let opaque = |tag: &[u8]| {
            tag.trim_ascii()
                .strip_prefix(b"W/")
                .unwrap_or(tag.trim_ascii())
                .to_vec()
        };
        let ours = opaque(tag);
        self.0
            .iter()
            .flat_map(|value| value.as_bytes().split(|b| *b == b','))
            .any(|theirs| theirs.trim_ascii() == b"*" || opaque(theirs) == ours)
    }
}

/// What is worth compressing, and harmless: an attacker who can see how long an answer is could guess at a secret in it if
/// he can also choose a part of it (BREACH). Answers with secrets are those that are not to be stored. Whose answers to
/// read takes a header that no other site's page can add, so the rest is nobody's to choose.
pub fn compressible(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let is = |name: HeaderName, text: &str| {
        headers
            .get(name)
            .is_some_and(|value| value.as_bytes().starts_with(text.as_bytes()))
    };
    !is(header::CACHE_CONTROL, "no-store")
        && (is(header::CONTENT_TYPE, "application/json")
            || is(header::CONTENT_TYPE, "text/")
            || is(header::CONTENT_TYPE, "application/javascript"))
}

/// Pages of these origins may call the API from a browser: with a token, which they must have; never with cookies, which
/// mean nothing here.
pub fn cors(origins: &Origins) -> Option<CorsLayer> {
    let allowed = match origins {
        Origins::Any => AllowOrigin::any(),
        Origins::These(origins) if origins.is_empty() => return None,
        Origins::These(origins) => AllowOrigin::list(origins.clone()),
    };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            IDEMPOTENCY_KEY,
            HeaderName::from_static("prefer"),
            REQUEST_ID,
            HeaderName::from_static(TRACEPARENT),
        ])
        .expose_headers([
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
            REPLAYED,
            HeaderName::from_static("preference-applied"),
            RATE_LIMIT,
            RATE_LIMIT_POLICY,
            REQUEST_ID,
        ])
        .max_age(Duration::from_hours(1));
    Some(layer)
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

/// The trace that the client says the request is part of. What cannot be read is none, as the standard asks, and neither are
/// two.
fn parent(headers: &HeaderMap) -> Option<Trace> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let parent = values.next().filter(|_| values.next().is_none())?;
    Trace::parse(parent.to_str().ok()?)
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
    fn a_client_has_what_any_of_its_tags_names() {
        let names = |theirs: &[&'static str], tag: &str| {
            let values = theirs.iter().map(|value| HeaderValue::from_static(value));
            IfNoneMatch(values.collect()).names(tag.as_bytes())
        };
        assert!(names(&["\"3\""], "\"3\""));
        assert!(names(&["W/\"3\""], "\"3\"") && names(&["\"3\""], "W/\"3\""));
        assert!(names(&["\"1\", W/\"3\" ,\"5\""], "\"3\""));
        assert!(names(&["\"1\"", "\"3\""], "\"3\""));
        assert!(names(&["*"], "\"3\""));
        for theirs in [[].as_slice(), &["\"4\""], &["3"], &[""], &["W/"], &["\"3"]] {
            assert!(!names(theirs, "\"3\""), "{theirs:?}");
        }
    }

    #[test]
    fn a_request_goes_on_with_one_parent_and_with_none_of_two() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-b7496b7169203331-01";
        let name = HeaderName::from_static(TRACEPARENT);
        let mut headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static(text))]);
        assert_eq!(parent(&headers), Trace::parse(text));
        headers.append(name.clone(), HeaderValue::from_static(text));
        assert_eq!(parent(&headers), None);
        headers.insert(name, HeaderValue::from_static("nonsense"));
        assert_eq!(parent(&headers), None);
    }

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
