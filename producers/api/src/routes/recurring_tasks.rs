//! A person's recurring tasks.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use db::series::{self, Series};
use schemas::Timestamp;
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::tasks::person;
use crate::App;
use crate::answer::Answer;
use crate::extract::{CurrentUser, IfMatch, JsonObject, Prefer, path_id};
use crate::idempotency::{IdempotencyKey, Work};
use crate::metrics::TASKS_CREATED;
use crate::page::{Page, PageParameters, read_limit};
use crate::problem::{Problem, ProblemDocument};
use crate::query::Parameters;
use crate::recurring::body::{Moved, NewRecurringTask, RecurringTaskPatch, RecurringTaskSplit, Skipped};
use crate::recurring::view::{HistoryView, OccurrenceView, RecurringTaskView};
use crate::recurring::{self, Edit, Standing, no_such_series};
use crate::routes::tasks::Shown;
use crate::tasks::view::TaskView;

/// `/api/recurring-tasks…`
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read, update, delete))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(end))
        .routes(routes!(split))
        .routes(routes!(occurrences))
        .routes(routes!(skip))
        .routes(routes!(move_to))
        .routes(routes!(history))
}

path_id! {
    /// The id of a recurring task, from the path.
    struct SeriesId else no_such_series
}

/// Create a recurring task
///
/// And its first instance. A task that is created with a `recurrence` is one, too. Of each recurring task there is one open
/// instance, and completing it brings the next, unless it is to `pile_up`: then every occurrence has one, made ahead.
#[utoipa::path(
    post, path = "/api/recurring-tasks", tag = "Recurring tasks", security(("bearer" = ["tasks:write"])),
    params(IdempotencyKey, Prefer),
    request_body = NewRecurringTask,
    responses((
        status = 201, description = "The recurring task", body = RecurringTaskView,
        headers(("Location" = String, description = "Its path"), ("ETag" = String, description = "Its version")),
    )),
)]
async fn create(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    key: IdempotencyKey,
    prefer: Prefer,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    let user_id = user.user_id;
    let answer = app
        .once(user_id, key, move |tx| {
            Box::pin(async move {
                let person = person(tx, user_id).await?;
                let (series, first) = recurring::create(body, &person, schemas::now())?;
                series::insert(tx, user_id, &series).await?;
                recurring::insert(tx, user_id, &first).await?;
                created(&series)
            })
        })
        .await?;
    if !answer.is_replayed() {
        TASKS_CREATED.inc();
    }
    Ok(prefer.apply(answer))
}

/// A page of recurring tasks.
#[derive(Serialize, ToSchema)]
struct RecurringTaskPage<'a> {
    items: Vec<RecurringTaskView<'a>>,
    /// Where the next page starts; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// List recurring tasks
///
/// Newest first; ended ones, too.
#[utoipa::path(
    get, path = "/api/recurring-tasks", tag = "Recurring tasks", security(("bearer" = ["tasks:read"])),
    params(PageParameters),
    responses((status = 200, description = "A page of recurring tasks", body = RecurringTaskPage)),
)]
async fn list(State(app): State<App>, CurrentUser(user): CurrentUser, uri: Uri) -> Result<Response, Problem> {
    let page = Page::read(&uri, &app.cursors, "recurring-tasks", user.user_id)?;
    let (rows, after) = (page.rows(), page.after);
    let mut found = app
        .database(async move |pool| {
            let mut connection = pool.acquire().await?;
            Ok(series::list(&mut connection, user.user_id, after, rows).await?)
        })
        .await?;
    let last = page.cut(&mut found).map(|last| last.id);
    let next_cursor = last.map(|last| page.cursor(&app.cursors, &last)).transpose()?;
    Ok(Json(RecurringTaskPage {
        items: found.iter().map(RecurringTaskView::from).collect(),
        next_cursor,
    })
    .into_response())
}

/// Get a recurring task
#[utoipa::path(
    get, path = "/api/recurring-tasks/{id}", tag = "Recurring tasks", security(("bearer" = ["tasks:read"])),
    params(SeriesId),
    responses((
        status = 200, description = "The recurring task", body = RecurringTaskView,
        headers(("ETag" = String, description = "Its version")),
    )),
)]
async fn read(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    SeriesId(id): SeriesId,
) -> Result<Answer, Problem> {
    let series = app
        .database(async move |pool| Ok(series::get(&mut *pool.acquire().await?, user.user_id, id).await?))
        .await?;
    shown(StatusCode::OK, &series.ok_or_else(no_such_series)?)
}

/// Change a recurring task
///
/// A JSON merge patch (RFC 7396). It holds for the instances to come and for the open one: the fields that change here change
/// there, too. Where the new rule has no occurrence in its place, the open instance moves to the next one after now.
#[utoipa::path(
    patch, path = "/api/recurring-tasks/{id}", tag = "Recurring tasks", security(("bearer" = ["tasks:write"])),
    params(SeriesId, IfMatch, Prefer),
    request_body(content(
        (RecurringTaskPatch = "application/merge-patch+json"), (RecurringTaskPatch = "application/json"),
    )),
    responses(
        (status = 200, description = "The recurring task as it is then", body = RecurringTaskView,
         headers(("ETag" = String, description = "Its version"))),
        (status = 409, description = "It has ended", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn update(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    SeriesId(id): SeriesId,
    if_match: IfMatch,
    prefer: Prefer,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    let work = edit(user.user_id, id, if_match, Edit::patch(body)?);
    Ok(prefer.apply(app.transaction(work).await?))
}

/// Pause a recurring task
///
/// Completing the open instance brings no other until it is resumed, and none is made ahead.
#[utoipa::path(
    post, path = "/api/recurring-tasks/{id}/pause", tag = "Recurring tasks", security(("bearer" = ["tasks:write"])),
    params(SeriesId, IfMatch, IdempotencyKey, Prefer),
    responses(
        (status = 200, description = "The recurring task as it is then", body = RecurringTaskView,
         headers(("ETag" = String, description = "Its version"))),
        (status = 409, description = "It has ended", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn pause(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    SeriesId(id): SeriesId,
    if_match: IfMatch,
    key: IdempotencyKey,
    prefer: Prefer,
) -> Result<Answer, Problem> {
    let work = edit(user.user_id, id, if_match, Edit::pause());
    Ok(prefer.apply(app.once(user.user_id, key, work).await?))
}

/// Resume a recurring task
///
/// If it has no open instance, the next occurrence after now becomes one; if there is none, it has ended. One that piles up
/// goes on from now.
#[utoipa::path(
    post, path = "/api/recurring-tasks/{id}/resume", tag = "Recurring tasks", security(("bearer" = ["tasks:write"])),
    params(SeriesId, IfMatch, IdempotencyKey, Prefer),
    responses(
        (status = 200, description = "The recurring task as it is then", body = RecurringTaskView,
         headers(("ETag" = String, description = "Its version"))),
        (status = 409, description = "It has ended", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn resume(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    SeriesId(id): SeriesId,
    if_match: IfMatch,
    key: IdempotencyKey,
    prefer: Prefer,
) -> Result<Answer, Problem> {
    let work = edit(user.user_id, id, if_match, Edit::resume());
    Ok(prefer.apply(app.once(user.user_id, key, work).await?))
}

/// End a recurring task
///
/// For good. The open instance stays, and is the last; of one that piles up, those that were made ahead are deleted. One that
/// has ended stays as it is.
#[utoipa::path(
    post, path = "/api/recurring-tasks/{id}/end", tag = "Recurring tasks", security(("bearer" = ["tasks:write"])),
    params(SeriesId, IfMatch, IdempotencyKey, Prefer),
    responses((
        status = 200, description = "The recurring task as it is then", body = RecurringTaskView,
        headers(("ETag" = String, description = "Its version")),
    )),
)]
async fn end(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    SeriesId(id): SeriesId,
    if_match: IfMatch,
    key: IdempotencyKey,
    prefer: Prefer,
) -> Result<Answer, Problem> {
    let work = edit(user.user_id, id, if_match, Edit::end());
    Ok(prefer.apply(app.once(user.user_id, key, work).await?))
}

/// Delete a recurring task
///
/// It ends, and its open instances are deleted with it. Completed ones stay.
#[utoipa::path(
    delete, path = "/api/recurring-tasks/{id}", tag = "Recurring tasks", security(("bearer" = ["tasks:write"])),
    params(SeriesId, IfMatch),
    responses((status = 204, description = "It is deleted")),
)]
async fn delete(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    SeriesId(id): SeriesId,
    if_match: IfMatch,
) -> Result<Answer, Problem> {
    let work = edit(user.user_id, id, if_match, Edit::delete());
    app.transaction(work).await?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

/// Change this and following occurrences
///
/// The recurring task ends before the occurrence `from`, and a new one begins there with the change, a JSON merge patch. Open
/// instances from there on go along; what is done from there on stays done.
#[utoipa::path(
    post, path = "/api/recurring-tasks/{id}/split", tag = "Recurring tasks", security(("bearer" = ["tasks:write"])),
    params(SeriesId, IfMatch, IdempotencyKey, Prefer),
    request_body = RecurringTaskSplit,
    responses(
        (status = 201, description = "The new recurring task", body = RecurringTaskView,
         headers(("Location" = String, description = "Its path"), ("ETag" = String, description = "Its version"))),
        (status = 409, description = "It has ended", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn split(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    SeriesId(id): SeriesId,
    if_match: IfMatch,
    key: IdempotencyKey,
    prefer: Prefer,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    let work = edit(user.user_id, id, if_match, Edit::split(body)?);
    Ok(prefer.apply(app.once(user.user_id, key, work).await?))
}

/// Skip an occurrence
///
/// It does not take place: its open instance is deleted, and it is not made again. If it was the one to do, the next is made.
#[utoipa::path(
    post, path = "/api/recurring-tasks/{id}/occurrences/skip", tag = "Recurring tasks",
    security(("bearer" = ["tasks:write"])),
    params(SeriesId, IfMatch, IdempotencyKey, Prefer),
    request_body = Skipped,
    responses(
        (status = 200, description = "The recurring task as it is then", body = RecurringTaskView,
         headers(("ETag" = String, description = "Its version"))),
        (status = 409, description = "It has ended", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn skip(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    SeriesId(id): SeriesId,
    if_match: IfMatch,
    key: IdempotencyKey,
    prefer: Prefer,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    let work = edit(user.user_id, id, if_match, Edit::skip(body)?);
    Ok(prefer.apply(app.once(user.user_id, key, work).await?))
}

/// Move an occurrence
///
/// Its instance, made now if need be, is due then; its place in the series stays. `If-Match` is about the recurring task.
#[utoipa::path(
    post, path = "/api/recurring-tasks/{id}/occurrences/move", tag = "Recurring tasks",
    security(("bearer" = ["tasks:write"])),
    params(SeriesId, IfMatch, IdempotencyKey, Prefer),
    request_body = Moved,
    responses(
        (status = 200, description = "The instance as it is then", body = TaskView,
         headers(("ETag" = String, description = "Its version"))),
        (status = 409, description = "The recurring task has ended, and has no open instance there", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn move_to(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    SeriesId(id): SeriesId,
    if_match: IfMatch,
    key: IdempotencyKey,
    prefer: Prefer,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    let work = edit(user.user_id, id, if_match, Edit::move_to(body)?);
    Ok(prefer.apply(app.once(user.user_id, key, work).await?))
}

/// Occurrences to come.
#[derive(Serialize, ToSchema)]
struct Occurrences {
    items: Vec<OccurrenceView>,
}

/// Preview the next occurrences
///
/// Those after now, and after what is completed or deleted already.
#[utoipa::path(
    get, path = "/api/recurring-tasks/{id}/occurrences", tag = "Recurring tasks", security(("bearer" = ["tasks:read"])),
    params(SeriesId, LimitParameter),
    responses((status = 200, description = "The next occurrences", body = Occurrences)),
)]
async fn occurrences(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    SeriesId(id): SeriesId,
    uri: Uri,
) -> Result<Response, Problem> {
    let limit = read_preview(&uri)?;
    let user_id = user.user_id;
    let now = schemas::now();
    let standing = app
        .database(async move |pool| {
            let mut connection = pool.acquire().await?;
            let series = series::get(&mut connection, user_id, id)
                .await?
                .ok_or_else(no_such_series)?;
            let open = db::tasks::open_instances(&mut *connection, user_id, id).await?;
            Ok(Standing::read(&mut connection, user_id, series, open, now).await?)
        })
        .await?;
    let zone = schedule::parse_zone(&standing.series.timezone).map_err(Problem::internal)?;
    let items = standing
        .upcoming(now, limit)?
        .into_iter()
        .map(|occurrence| OccurrenceView::new(occurrence, zone))
        .collect();
    Ok(Json(Occurrences { items }).into_response())
}

/// A page of occurrences.
#[derive(Serialize, ToSchema)]
#[schema(as = OccurrencePage)]
struct HistoryPage {
    items: Vec<HistoryView>,
    /// Where the next page starts; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// What became of occurrences
///
/// Latest first: those that have an instance, and those that were skipped. Deleted ones are forgotten after 30 days.
#[utoipa::path(
    get, path = "/api/recurring-tasks/{id}/history", tag = "Recurring tasks", security(("bearer" = ["tasks:read"])),
    params(SeriesId, PageParameters),
    responses((status = 200, description = "A page of occurrences", body = HistoryPage)),
)]
async fn history(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    SeriesId(id): SeriesId,
    uri: Uri,
) -> Result<Response, Problem> {
    let user_id = user.user_id;
    let mut parameters = Parameters::of(&uri)?;
    let page: Page<Timestamp> = Page::take(
        &mut parameters,
        &app.cursors,
        "recurring-task-history",
        user_id,
        id.to_string(),
    );
    parameters.finish()?;
    let (rows, before) = (page.rows(), page.after);
    let mut found = app
        .database(async move |pool| {
            let mut connection = pool.acquire().await?;
            series::get(&mut connection, user_id, id)
                .await?
                .ok_or_else(no_such_series)?;
            Ok(series::history(&mut connection, user_id, id, before, rows).await?)
        })
        .await?;
    let last = page.cut(&mut found).map(|last| last.occurrence);
    let next_cursor = last.map(|last| page.cursor(&app.cursors, &last)).transpose()?;
    let items = found.into_iter().map(HistoryView::from).collect();
    Ok(Json(HistoryPage { items, next_cursor }).into_response())
}

/// What an occurrence preview takes.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description of what is read parameter by parameter")]
struct LimitParameter {
    /// Most occurrences.
    #[param(minimum = 1, maximum = 50, default = 10)]
    limit: Option<u8>,
}

fn read_preview(uri: &Uri) -> Result<usize, Problem> {
    let mut parameters = Parameters::of(uri)?;
    let limit = parameters.one("limit", |place, value| read_limit(place, value, 50));
    parameters.finish()?;
    Ok(limit.unwrap_or(10))
}

/// The work that carries out an edit. The answer is what came of it.
fn edit(
    user_id: Uuid,
    id: Uuid,
    if_match: IfMatch,
    edit: Edit,
) -> impl for<'c> FnOnce(&'c mut PgConnection) -> Work<'c, Answer> + Send + 'static {
    move |tx| {
        Box::pin(async move {
            let expected = |version| if_match.check(version);
            let edited = edit.carry_out(tx, user_id, id, expected, schemas::now).await?;
            if let Some(task) = edited.moved {
                return Shown::of(tx, user_id, task).await?.answer(StatusCode::OK);
            }
            match &edited.split {
                Some(split) => created(split),
                None => shown(StatusCode::OK, &edited.series),
            }
        })
    }
}

fn created(series: &Series) -> Result<Answer, Problem> {
    let location = format!("/api/recurring-tasks/{}", series.id);
    Ok(shown(StatusCode::CREATED, series)?.with(header::LOCATION, location))
}

fn shown(status: StatusCode, series: &Series) -> Result<Answer, Problem> {
    let answer = Answer::json(status, &RecurringTaskView::from(series))?;
    Ok(answer.with(header::ETAG, format!("\"{}\"", series.version)))
}
