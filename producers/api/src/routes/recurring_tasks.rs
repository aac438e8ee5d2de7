//! A person's recurring tasks.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use db::series::{self, Series};
use schemas::{Encoded, Task, Timestamp};
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
use crate::idempotency::IdempotencyKey;
use crate::input::Problems;
use crate::metrics::TASKS_CREATED;
use crate::page::{Page, PageParameters, read_limit};
use crate::problem::{Kind, Problem, ProblemDocument};
use crate::query::Parameters;
use crate::recurring::body::{NewRecurringTask, RecurringTaskPatch};
use crate::recurring::view::{OccurrenceView, RecurringTaskView};
use crate::recurring::{self, RecurringInput};
use crate::tasks::{self, Change};

/// `/api/recurring-tasks…`
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read, update, delete))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(end))
        .routes(routes!(occurrences))
}

path_id! {
    /// The id of a recurring task, from the path.
    struct SeriesId else no_such_series
}

fn no_such_series() -> Problem {
    Problem::new(Kind::NotFound, "There is no recurring task with this id.")
}

/// Create a recurring task
///
/// And its first instance. A task that is created with a `recurrence` is one, too. Of each recurring task there is one open
/// instance; completing it brings the next.
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
                insert(tx, user_id, &first).await?;
                let location = format!("/api/recurring-tasks/{}", series.id);
                Ok(shown(StatusCode::CREATED, &series)?.with(header::LOCATION, location))
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
    let patch = RecurringInput::patch(body)?;
    let user_id = user.user_id;
    let answer = app
        .transaction(move |tx| {
            Box::pin(async move {
                let current = lock(tx, user_id, id, &if_match).await?;
                let (person, now) = (person(tx, user_id).await?, schemas::now());
                let Some(after) = recurring::patch(patch, &current, &person, now)? else {
                    return shown(StatusCode::OK, &current);
                };
                series::update(tx, user_id, &after).await?;
                carry_along(tx, user_id, &current, &after, now).await?;
                shown(StatusCode::OK, &after)
            })
        })
        .await?;
    Ok(prefer.apply(answer))
}

/// Takes the open instances along when their series changes.
async fn carry_along(
    tx: &mut PgConnection,
    user_id: Uuid,
    before: &Series,
    after: &Series,
    now: Timestamp,
) -> Result<(), Problem> {
    let open = db::tasks::lock_open_instances(tx, user_id, after.id).await?;
    let moved = moved(tx, user_id, before, after, &open, now).await?;
    let changes: Vec<Change> = open
        .iter()
        .filter_map(|task| {
            let place = match moved {
                Some((id, place)) if id == task.id => Some(place),
                _ => task.occurrence,
            };
            recurring::carry(before, after, task, place, now)
        })
        .collect();
    write(tx, user_id, changes).await
}

/// The open instance that stands where the changed rule has no occurrence, and where it goes: to the next one after now,
/// and after those of all other instances. Only the newest instance moves, so that their order stays.
async fn moved(
    tx: &mut PgConnection,
    user_id: Uuid,
    before: &Series,
    after: &Series,
    open: &[Task],
    now: Timestamp,
) -> Result<Option<(Uuid, Timestamp)>, Problem> {
    let timing = |series: &Series| (series.rrule.clone(), series.starts_at, series.timezone.clone());
    let places = open.iter().filter_map(|task| Some((task.id, task.occurrence?)));
    let Some((id, occurrence)) = places.max_by_key(|(_, occurrence)| *occurrence) else {
        return Ok(None);
    };
    if timing(before) == timing(after) || recurring::has_occurrence(after, occurrence)? {
        return Ok(None);
    }
    let others = series::latest_occurrence(tx, user_id, after.id, Some(id)).await?;
    if others.is_some_and(|others| others > occurrence) {
        return Ok(None);
    }
    match after.next_after(others.map_or(now, |others| others.max(now)))? {
        Some(place) => Ok(Some((id, place))),
        None => {
            let mut problems = Problems::default();
            problems.add(
                "",
                "leaves no occurrence after now: end the recurring task instead",
            );
            problems.finish(None)
        }
    }
}

/// Pause a recurring task
///
/// Completing the open instance brings no other until it is resumed.
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
    let user_id = user.user_id;
    let answer = app
        .once(user_id, key, move |tx| {
            Box::pin(async move {
                let current = lock(tx, user_id, id, &if_match).await?;
                let after = recurring::pause(&current, schemas::now())?;
                settle(tx, user_id, current, after).await
            })
        })
        .await?;
    Ok(prefer.apply(answer))
}

/// Resume a recurring task
///
/// If it has no open instance, the next occurrence after now becomes one; if there is none, it has ended.
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
    let user_id = user.user_id;
    let answer = app
        .once(user_id, key, move |tx| {
            Box::pin(async move {
                let current = lock(tx, user_id, id, &if_match).await?;
                let now = schemas::now();
                let resumed = recurring::resume(&current, now)?;
                // Locked, so that none is completed meanwhile by somebody who would be told that the series is paused.
                if !db::tasks::lock_open_instances(tx, user_id, id).await?.is_empty() {
                    return settle(tx, user_id, current, resumed).await;
                }
                let latest = series::latest_occurrence(tx, user_id, id, None).await?;
                let next = current.next_after(latest.map_or(now, |latest| latest.max(now)))?;
                let Some(next) = next else {
                    // The rule is over.
                    let ended = recurring::end(&current, now);
                    return settle(tx, user_id, current, ended).await;
                };
                insert(tx, user_id, &recurring::made(&current, next, now)).await?;
                settle(tx, user_id, current, resumed).await
            })
        })
        .await?;
    Ok(prefer.apply(answer))
}

/// End a recurring task
///
/// For good. The open instance stays, and is the last. One that has ended stays as it is.
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
    let user_id = user.user_id;
    let answer = app
        .once(user_id, key, move |tx| {
            Box::pin(async move {
                let current = lock(tx, user_id, id, &if_match).await?;
                let after = recurring::end(&current, schemas::now());
                settle(tx, user_id, current, after).await
            })
        })
        .await?;
    Ok(prefer.apply(answer))
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
    let user_id = user.user_id;
    app.transaction(move |tx| {
        Box::pin(async move {
            let current = lock(tx, user_id, id, &if_match).await?;
            let now = schemas::now();
            series::update(tx, user_id, &recurring::delete(&current, now)).await?;
            let open = db::tasks::lock_open_instances(tx, user_id, id).await?;
            write(
                tx,
                user_id,
                open.iter().map(|task| tasks::delete(task, now)).collect(),
            )
            .await
        })
    })
    .await?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
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
    let (series, open, closed) = app
        .database(async move |pool| {
            let mut connection = pool.acquire().await?;
            let series = series::get(&mut connection, user_id, id)
                .await?
                .ok_or_else(no_such_series)?;
            let open = db::tasks::open_instances(&mut *connection, user_id, id).await?;
            let closed = series::latest_closed(&mut connection, user_id, id).await?;
            Ok((series, open, closed))
        })
        .await?;
    let now = schemas::now();
    let after = closed.map_or(now, |closed| closed.max(now));
    let zone = schedule::parse_zone(&series.timezone).map_err(Problem::internal)?;
    let items = recurring::upcoming(&series, &open, after, limit)?
        .into_iter()
        .map(|occurrence| OccurrenceView::new(occurrence, zone))
        .collect();
    Ok(Json(Occurrences { items }).into_response())
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

/// The series, locked until the transaction ends, at a version that the client has seen.
async fn lock(tx: &mut PgConnection, user_id: Uuid, id: Uuid, if_match: &IfMatch) -> Result<Series, Problem> {
    let current = series::lock(tx, user_id, id).await?.ok_or_else(no_such_series)?;
    if_match.check(current.version)?;
    Ok(current)
}

/// Writes the series if it changes; the answer is the series as it is then.
async fn settle(
    tx: &mut PgConnection,
    user_id: Uuid,
    current: Series,
    after: Option<Series>,
) -> Result<Answer, Problem> {
    if let Some(after) = &after {
        series::update(tx, user_id, after).await?;
    }
    shown(StatusCode::OK, after.as_ref().unwrap_or(&current))
}

/// Writes a new instance and its event. Whoever makes it has locked the series and looked how far it has come.
async fn insert(tx: &mut PgConnection, user_id: Uuid, made: &Change) -> Result<(), Problem> {
    let written = db::tasks::insert(&mut *tx, user_id, &made.task, &made.event(user_id)?).await?;
    written
        .then_some(())
        .ok_or_else(|| Problem::internal(OccurrenceExists))
}

#[derive(Debug, thiserror::Error)]
#[error("the series has that occurrence already")]
struct OccurrenceExists;

/// Writes changed instances and their events.
async fn write(tx: &mut PgConnection, user_id: Uuid, changes: Vec<Change>) -> Result<(), Problem> {
    if changes.is_empty() {
        return Ok(());
    }
    let events: Vec<Encoded> = changes
        .iter()
        .map(|change| change.event(user_id))
        .collect::<Result<_, _>>()?;
    let tasks: Vec<Task> = changes.into_iter().map(|change| change.task).collect();
    Ok(db::tasks::update(tx, user_id, &tasks, &events).await?)
}

fn shown(status: StatusCode, series: &Series) -> Result<Answer, Problem> {
    let answer = Answer::json(status, &RecurringTaskView::from(series))?;
    Ok(answer.with(header::ETAG, format!("\"{}\"", series.version)))
}
