//! The page that mailed links lead to: it asks, and then calls the API. Nothing happens by opening a link alone, because
//! mail programs do that too.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::App;

/// The page loads what is ours and asks this API; a browser refuses it everything else.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// `/verify-email`, `/reset-password` and `/change-email`, and what they load.
pub fn router() -> Router<App> {
    let page = async || file("text/html; charset=utf-8", include_str!("pages/link.html"));
    let style = async || file("text/css; charset=utf-8", include_str!("pages/link.css"));
    let script = async || file("text/javascript; charset=utf-8", include_str!("pages/link.js"));
    Router::new()
        .route("/verify-email", get(page))
        .route("/reset-password", get(page))
        .route("/change-email", get(page))
        .route("/link.css", get(style))
        .route("/link.js", get(script))
}

fn file(media_type: &'static str, content: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, HeaderValue); 4] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ];
    (headers, content)
}
