//! What happened to a person's tasks.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::extract::{CurrentUser, TaskId};
use crate::history::{self, Entry, Query, QueryParameters, TaskParameter};
use crate::page::PageParameters;
use crate::problem::Problem;

/// `/api/audit` and `/api/tasks/{id}/history`
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(audit))
        .routes(routes!(of_task))
}

/// A page of what happened.
#[derive(Serialize, ToSchema)]
struct HistoryPage<'a> {
    items: &'a [Entry],
    /// Where the next page starts; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// What happened to all that is the person's
///
/// Newest first. Events come here by way of Kafka, a moment after they happened, and stay for 90 days.
#[utoipa::path(
    get, path = "/api/audit", tag = "History", security(("bearer" = ["tasks:read"])),
    params(QueryParameters, TaskParameter, PageParameters),
    responses((status = 200, description = "A page of events", body = HistoryPage)),
)]
async fn audit(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = Query::read(&uri, &app.cursors, user.user_id, None)?;
    let (found, query) = app
        .database(async move |pool| {
            let found = history::page(&mut *pool.acquire().await?, user.user_id, &query).await?;
            Ok((found, query))
        })
        .await?;
    shown(&app, &query, found)
}

/// What happened to a task
///
/// Newest first; of a deleted task, too. A task that was made a moment ago may have no history yet.
#[utoipa::path(
    get, path = "/api/tasks/{id}/history", tag = "History", security(("bearer" = ["tasks:read"])),
    params(TaskId, QueryParameters, PageParameters),
    responses((status = 200, description = "A page of events", body = HistoryPage)),
)]
async fn of_task(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TaskId(id): TaskId,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = Query::read(&uri, &app.cursors, user.user_id, Some(id))?;
    let (found, query) = app
        .database(async move |pool| {
            let mut connection = pool.acquire().await?;
            let found = history::page(&mut connection, user.user_id, &query).await?;
            // A task that was made a moment ago has no history yet; one that never was has no page.
            if found.is_empty() && !history::task_is_known(&mut connection, user.user_id, id).await? {
                return Err(Problem::no_such_task());
            }
            Ok((found, query))
        })
        .await?;
    shown(&app, &query, found)
}

fn shown(app: &App, query: &Query, mut found: Vec<Entry>) -> Result<Response, Problem> {
    let last = query.page.cut(&mut found).map(Entry::position);
    let next_cursor = last.map(|last| query.page.cursor(&app.cursors, &last));
    let page = HistoryPage {
        items: &found,
        next_cursor: next_cursor.transpose()?,
    };
    Ok(Json(page).into_response())
}
