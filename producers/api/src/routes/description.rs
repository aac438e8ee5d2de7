//! The description of the API: for machines, and as a page that needs nothing from anywhere else.

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::routing::get;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::App;

const DOCUMENT: &str = "/openapi.json";

/// The page loads its own scripts and styles and asks this API; a browser refuses it everything else.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// `/openapi.json` and `/docs`
pub fn router(api: &OpenApi) -> Router<App> {
    // Written once: it never changes while the process lives.
    let document = Bytes::from(serde_json::to_vec(api).unwrap_or_default());
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=300"),
        ),
    ];
    let config = Config::from(DOCUMENT)
        .try_it_out_enabled(true)
        .persist_authorization(false);
    let page = Router::from(SwaggerUi::new("/docs").config(config));
    Router::new()
        .route(DOCUMENT, get(async move || (headers, document)))
        .merge(page.layer(axum::middleware::map_response(protected)))
}

async fn protected(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, PAGE_POLICY);
    response
}
