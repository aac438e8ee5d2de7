//! A person's tags.
use crate::App;
use utoipa_axum::router::OpenApiRouter;
/// `/api/tags…`
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
}
