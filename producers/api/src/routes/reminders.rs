//! A person's reminders: when they ring, and putting them off. They are said in their tasks; what became of them is what the
//! reminder scanner has written down.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use chrono::TimeDelta;
use db::reminders::State as Life;
use schemas::{Task, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::tasks::{Reach, change};
use crate::App;
use crate::answer::Answer;
use crate::extract::{CurrentUser, IfMatch, JsonObject, Prefer, path_id};
use crate::idempotency::{IdempotencyKey, Work};
use crate::input::read;
use crate::page::{Page, PageParameters};
use crate::problem::{Kind, Problem, ProblemDocument};
use crate::query::Parameters;
use crate::reminders::view::{ReminderState, ReminderStatus, Snooze, Why};
use crate::reminders::{Delay, STATES};
use crate::tasks::view::TaskView;
use crate::tasks::{self, Change, Person};

/// `/api/reminders…`
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(read_one))
        .routes(routes!(snooze))
        .routes(routes!(dismiss))
        .routes(routes!(why))
}

path_id! {
    /// The id of a reminder, from the path.
    struct ReminderId else no_such_reminder
}

fn no_such_reminder() -> Problem {
    Problem::new(Kind::NotFound, "There is no reminder with this id.")
}

/// A page of reminders.
#[derive(Serialize, ToSchema)]
struct ReminderPage<'a> {
    items: Vec<ReminderStatus<'a>>,
    /// Where the next page starts; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which reminders are listed.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description of what is read parameter by parameter")]
struct Filters {
    /// In that state.
    #[param(inline, default = "armed")]
    state: Option<ReminderState>,
    /// Of that task.
    task: Option<Uuid>,
}

/// List reminders
///
/// Armed ones soonest first, those of another state latest first. A reminder is listed a moment after its task was written; one
/// whose time was past then is not.
#[utoipa::path(
    get, path = "/api/reminders", tag = "Reminders", security(("bearer" = ["tasks:read"])),
    params(Filters, PageParameters),
    responses((status = 200, description = "A page of reminders", body = ReminderPage)),
)]
async fn list(State(app): State<App>, CurrentUser(user): CurrentUser, uri: Uri) -> Result<Response, Problem> {
    let user_id = user.user_id;
    let mut parameters = Parameters::of(&uri)?;
    let state = parameters.one("state", |place, value| {
        read::choice(place, value, Life::from_name, STATES)
    });
    let state = state.unwrap_or(Life::Armed);
    let task = parameters.one("task", read::uuid);
    let query = format!("{} {task:?}", state.as_str());
    let page = Page::take(&mut parameters, &app.cursors, "reminders", user_id, query);
    parameters.finish()?;
    let (rows, after) = (page.rows(), page.after);
    let (mut found, tasks) = app
        .database(async move |pool| {
            let found = db::reminders::list(&pool, user_id, state, task, after, rows).await?;
            let mut ids: Vec<Uuid> = found.iter().map(|reminder| reminder.task_id).collect();
            ids.sort_unstable();
            ids.dedup();
            let tasks = db::tasks::get_many(&pool, user_id, &ids).await?;
            Ok((found, tasks))
        })
        .await?;
    let last = page.cut(&mut found).map(|last| (last.fire_at, last.id));
    let next_cursor = last.map(|last| page.cursor(&app.cursors, &last)).transpose()?;
    // One whose task was deleted between the two looks is left out.
    let items = found
        .iter()
        .filter_map(|known| {
            let task = tasks.iter().find(|task| task.id == known.task_id)?;
            Some(ReminderStatus::new(known.id, task, Some(known)))
        })
        .collect();
    Ok(Json(ReminderPage { items, next_cursor }).into_response())
}

/// Get a reminder
///
/// What its task says of it, and what became of it.
#[utoipa::path(
    get, path = "/api/reminders/{id}", tag = "Reminders", security(("bearer" = ["tasks:read"])),
    params(ReminderId),
    responses((status = 200, description = "The reminder", body = ReminderStatus)),
)]
async fn read_one(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    ReminderId(id): ReminderId,
) -> Result<Response, Problem> {
    let user_id = user.user_id;
    let (known, task) = app
        .database(async move |pool| {
            let known = db::reminders::get(&pool, user_id, id).await?;
            let task = match &known {
                Some(known) => db::tasks::get(&pool, user_id, known.task_id).await?,
                None => db::tasks::with_reminder(&pool, user_id, id).await?,
            };
            Ok((known, task.ok_or_else(no_such_reminder)?))
        })
        .await?;
    Ok(Json(ReminderStatus::new(id, &task, known.as_ref())).into_response())
}

/// Why a reminder rang, or did not
///
/// In sentences: from which rule and in which zone its time is computed, what happened, and what will. What happened is known a
/// moment later than it happens, and for as long as events are kept.
#[utoipa::path(
    get, path = "/api/reminders/{id}/why", tag = "Reminders", security(("bearer" = ["tasks:read"])),
    params(ReminderId),
    responses((status = 200, description = "What is known of it", body = Why)),
)]
async fn why(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    ReminderId(id): ReminderId,
) -> Result<Response, Problem> {
    let user_id = user.user_id;
    let fate = app
        .database(async move |pool| Ok(::why::of_reminder(&mut *pool.acquire().await?, user_id, id).await?))
        .await?;
    let fate = fate
        .filter(|fate| fate.task.deleted_at.is_none())
        .ok_or_else(no_such_reminder)?;
    Ok(Json(Why::of(&fate)).into_response())
}

/// Put a reminder off
///
/// It rings then instead, also when it has rung already or was dismissed, and repeats from there. It is a change of its task,
/// which is the answer; `If-Match` takes the task's ETag. The next change of the reminder's own time forgets it.
#[utoipa::path(
    post, path = "/api/reminders/{id}/snooze", tag = "Reminders", security(("bearer" = ["tasks:write"])),
    params(ReminderId, IfMatch, IdempotencyKey, Prefer),
    request_body = Snooze,
    responses(
        (status = 200, description = "The task as it is then", body = TaskView,
         headers(("ETag" = String, description = "Its version"))),
        (status = 409, description = "The task is completed", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn snooze(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    ReminderId(id): ReminderId,
    if_match: IfMatch,
    key: IdempotencyKey,
    prefer: Prefer,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    let user_id = user.user_id;
    let answer = app
        .once(user_id, key, move |tx| {
            Box::pin(async move {
                let task = task_of(tx, user_id, id).await?;
                let until = snoozed_until(tx, body).await?;
                let decide = move |task: &Task, now| tasks::snooze(task, id, until, now);
                act(user_id, task, if_match, user.timezone, decide)(tx).await
            })
        })
        .await?;
    Ok(prefer.apply(answer))
}

/// Dismiss a reminder
///
/// None of its rings that are left comes; a dismissed one stays as it is. It is a change of its task, which is the answer;
/// `If-Match` takes the task's ETag. The next change of the reminder's own time forgets it.
#[utoipa::path(
    post, path = "/api/reminders/{id}/dismiss", tag = "Reminders", security(("bearer" = ["tasks:write"])),
    params(ReminderId, IfMatch, IdempotencyKey, Prefer),
    responses(
        (status = 200, description = "The task as it is then", body = TaskView,
         headers(("ETag" = String, description = "Its version"))),
        (status = 409, description = "The task is completed", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn dismiss(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    ReminderId(id): ReminderId,
    if_match: IfMatch,
    key: IdempotencyKey,
    prefer: Prefer,
) -> Result<Answer, Problem> {
    let user_id = user.user_id;
    let answer = app
        .once(user_id, key, move |tx| {
            Box::pin(async move {
                let task = task_of(tx, user_id, id).await?;
                let decide = move |task: &Task, now| tasks::dismiss(task, id, now);
                act(user_id, task, if_match, user.timezone, decide)(tx).await
            })
        })
        .await?;
    Ok(prefer.apply(answer))
}

/// The task of a reminder. The scanner's row leads there; where it has none yet, the task says so itself.
pub(super) async fn task_of(tx: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<Uuid, Problem> {
    if let Some(known) = db::reminders::get(&mut *tx, user_id, id).await? {
        return Ok(known.task_id);
    }
    let task = db::tasks::with_reminder(tx, user_id, id).await?;
    task.map(|task| task.id).ok_or_else(no_such_reminder)
}

/// When a reminder that is put off rings, by the clock that it rings by.
async fn snoozed_until(tx: &mut PgConnection, body: Map<String, Value>) -> Result<Timestamp, Problem> {
    let now: Timestamp = sqlx::query_scalar("select now()").fetch_one(tx).await?;
    match Delay::read(body, now)? {
        Delay::For(seconds) => Ok(now + TimeDelta::seconds(seconds)),
        Delay::Until(until) => Ok(until),
    }
}

/// The work that does something with a reminder of an open task. `decide` is `None` where the task has it no more.
pub(super) fn act(
    user_id: Uuid,
    task_id: Uuid,
    if_match: IfMatch,
    timezone: String,
    decide: impl FnOnce(&Task, Timestamp) -> Option<Option<Change>> + Send + 'static,
) -> impl for<'c> FnOnce(&'c mut PgConnection) -> Work<'c, Answer> + Send + 'static {
    let decide = move |task: &Task, _: &Person, now| {
        if task.completed_at.is_some() {
            let detail = "None of its reminders rings any more: reopen it first.";
            return Err(Problem::new(Kind::TaskNotOpen, detail));
        }
        decide(task, now).ok_or_else(no_such_reminder)
    };
    let known = Some(Person::of_token(timezone));
    change(user_id, task_id, if_match, Reach::Task, known, decide)
}
