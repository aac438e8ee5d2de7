//! The routes, one module a resource.

mod auth;
mod batch;
pub mod description;
mod find;
mod history;
pub mod mail_links;
mod me;
mod notifications;
pub mod pages;
mod recurring_tasks;
mod reminders;
mod sessions;
mod tags;
mod tasks;
mod templates;
mod tokens;
mod webhooks;

use utoipa_axum::router::OpenApiRouter;

use crate::{App, openapi};

/// Every route of the API, with its description.
pub fn all() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::base())
        .merge(auth::router())
        .merge(me::router())
        .merge(sessions::router())
        .merge(tokens::router())
        .merge(tasks::router())
        .merge(batch::router())
        .merge(find::router())
        .merge(tags::router())
        .merge(history::router())
        .merge(recurring_tasks::router())
        .merge(reminders::router())
        .merge(templates::router())
        .merge(webhooks::router())
        .merge(notifications::router())
}
