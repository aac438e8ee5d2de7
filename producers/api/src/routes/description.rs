//! The description of the API, for machines.

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderValue, header};
use axum::routing::get;
use utoipa::openapi::OpenApi;

use crate::App;

/// `/openapi.json`
pub fn router(api: OpenApi) -> Router<App> {
    // Written once: it never changes while the process lives.
    let document = Bytes::from(serde_json::to_vec(&api).unwrap_or_default());
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=300"),
        ),
    ];
    Router::new().route("/openapi.json", get(async move || (headers, document)))
}
