//! A person's tasks.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use schemas::{Task, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use crate::App;
use crate::extract::{self, CurrentUser, IfMatch, JsonObject, Page, TaskId};
use crate::metrics::TASKS_CREATED;
use crate::problem::Problem;
use crate::tasks::view::TaskView;
use crate::tasks::{self, Change, TaskInput};

/// `/api/tasks…`
pub fn router() -> Router<App> {
    Router::new()
        .route("/api/tasks", post(create).get(list))
        .route("/api/tasks/{id}", get(read).patch(update).delete(delete))
        .route("/api/tasks/{id}/complete", post(complete))
        .route("/api/tasks/{id}/reopen", post(reopen))
}

async fn create(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    JsonObject(body): JsonObject,
) -> Result<Response, Problem> {
    let change = tasks::create(body, &user.timezone, schemas::now())?;
    let event = change.event(user.user_id)?;
    let task = app
        .database(async move |pool| {
            let Change { task, series, .. } = change;
            let written = match series {
                // One statement, which is one transaction and one round trip.
                None => db::tasks::insert(&pool, user.user_id, &task, &event).await?,
                Some(series) => {
                    let mut tx = pool.begin().await?;
                    db::tasks::insert_series(&mut tx, user.user_id, &series).await?;
                    let written = db::tasks::insert(&mut *tx, user.user_id, &task, &event).await?;
                    tx.commit().await?;
                    written
                }
            };
            if written {
                Ok(task)
            } else {
                Err(Problem::internal(OccurrenceExists))
            }
        })
        .await?;
    TASKS_CREATED.inc();
    let mut response = shown(StatusCode::CREATED, &task);
    if let Ok(location) = HeaderValue::try_from(format!("/api/tasks/{}", task.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// A series that was made a moment ago has no occurrence yet.
#[derive(Debug, thiserror::Error)]
#[error("a new series already has its first occurrence")]
struct OccurrenceExists;

async fn list(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    page: Page,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct List<'a> {
        items: Vec<TaskView<'a>>,
        next_cursor: Option<String>,
    }
    // One more than asked for tells whether there is a next page.
    let rows = i64::try_from(page.limit + 1).unwrap_or(i64::MAX);
    let mut found = app
        .database(async move |pool| Ok(db::tasks::list(&pool, user.user_id, page.after, rows).await?))
        .await?;
    let more = found.len() > page.limit;
    found.truncate(page.limit);
    let next_cursor = found.last().filter(|_| more).map(|task| extract::cursor(task.id));
    Ok(Json(List {
        items: found.iter().map(TaskView::from).collect(),
        next_cursor,
    })
    .into_response())
}

async fn read(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TaskId(id): TaskId,
) -> Result<Response, Problem> {
    let task = app
        .database(async move |pool| Ok(db::tasks::get(&pool, user.user_id, id).await?))
        .await?;
    task.map(|task| shown(StatusCode::OK, &task))
        .ok_or_else(Problem::no_such_task)
}

async fn update(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TaskId(id): TaskId,
    if_match: IfMatch,
    JsonObject(body): JsonObject,
) -> Result<Response, Problem> {
    let patch = TaskInput::patch(body)?;
    let decide = move |task: &Task, now| tasks::patch(patch, task, &user.timezone, now);
    let task = change(&app, user.user_id, id, if_match, decide).await?;
    Ok(shown(StatusCode::OK, &task))
}

async fn delete(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TaskId(id): TaskId,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    change(&app, user.user_id, id, if_match, |task, now| {
        Ok(Some(tasks::delete(task, now)))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn complete(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TaskId(id): TaskId,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let task = change(&app, user.user_id, id, if_match, |task, now| {
        Ok(tasks::complete(task, now))
    })
    .await?;
    Ok(shown(StatusCode::OK, &task))
}

async fn reopen(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TaskId(id): TaskId,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let task = change(&app, user.user_id, id, if_match, |task, now| {
        Ok(tasks::reopen(task, now))
    })
    .await?;
    Ok(shown(StatusCode::OK, &task))
}

/// Changes a task as `decide` says, under its lock: the version is read, checked and raised by one writer at a time, and
/// the event's place in the outbox is taken in that order too. Returns the task as it is then.
async fn change(
    app: &App,
    user_id: Uuid,
    id: Uuid,
    if_match: IfMatch,
    decide: impl FnOnce(&Task, Timestamp) -> Result<Option<Change>, Problem> + Send + 'static,
) -> Result<Task, Problem> {
    app.database(async move |pool| {
        let mut tx = pool.begin().await?;
        let current = db::tasks::lock(&mut tx, user_id, id)
            .await?
            .ok_or_else(Problem::no_such_task)?;
        if_match.check(current.version)?;
        let Some(change) = decide(&current, schemas::now())? else {
            return Ok(current);
        };
        if let Some(series) = &change.series {
            db::tasks::insert_series(&mut tx, user_id, series).await?;
        }
        db::tasks::update(&mut tx, user_id, &change.task, &change.event(user_id)?).await?;
        tx.commit().await?;
        Ok(change.task)
    })
    .await
}

fn shown(status: StatusCode, task: &Task) -> Response {
    let mut response = (status, Json(TaskView::from(task))).into_response();
    if let Ok(etag) = HeaderValue::try_from(format!("\"{}\"", task.version)) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}
