//! A person's tasks, one at a time.

use axum::extract::State;
use axum::http::{StatusCode, header};
use db::tasks::DependencyFlaw;
use schemas::{Encoded, Task, Timestamp};
use serde_json::{Map, Value};
use sqlx::{PgConnection, PgExecutor};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::App;
use crate::accounts::moves;
use crate::answer::Answer;
use crate::extract::{CurrentUser, IfMatch, JsonObject, Prefer, TaskId};
use crate::idempotency::{IdempotencyKey, Work};
use crate::input::Problems;
use crate::metrics::TASKS_CREATED;
use crate::problem::Problem;
use crate::tasks::body::{NewTask, TaskPatch};
use crate::tasks::view::TaskView;
use crate::tasks::{self, Change, Person, TaskInput};
use crate::token::Bearer;

/// `/api/tasks…`
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(read, update, delete))
        .routes(routes!(complete))
        .routes(routes!(reopen))
        .routes(routes!(restore))
}

/// Create a task
///
/// With `recurrence` the task is the first occurrence of a new series.
#[utoipa::path(
    post, path = "/api/tasks", tag = "Tasks", security(("bearer" = ["tasks:write"])),
    params(IdempotencyKey, Prefer),
    request_body = NewTask,
    responses((
        status = 201, description = "The task", body = TaskView,
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
    let answer = if tasks::follows(&body) {
        app.once(user.user_id, key, move |tx| {
            Box::pin(async move {
                let person = person(tx, user.user_id).await?;
                write_new(tx, user.user_id, tasks::create(body, &person, schemas::now())?).await
            })
        })
        .await?
    } else {
        create_of_a_zone(&app, user, key, body).await?
    };
    if !answer.is_replayed() {
        TASKS_CREATED.inc();
    }
    Ok(prefer.apply(answer))
}

/// Makes a task that does not follow its person: where that is now does not matter then.
async fn create_of_a_zone(
    app: &App,
    user: Bearer,
    key: IdempotencyKey,
    body: Map<String, Value>,
) -> Result<Answer, Problem> {
    let user_id = user.user_id;
    let change = tasks::create(body, &Person::of_token(user.timezone), schemas::now())?;
    let event = change.event(user_id)?;
    if change.series.is_none() && change.task.depends_on.is_empty() {
        app.once_by_one_statement(user_id, key, move |db| {
            Box::pin(async move { insert(db, user_id, change.task, &event).await })
        })
        .await
    } else {
        app.once(user_id, key, move |tx| {
            Box::pin(async move { write_new(tx, user_id, change).await })
        })
        .await
    }
}

/// Where the person is until the transaction ends.
pub(super) async fn person(tx: &mut PgConnection, user_id: Uuid) -> Result<Person, Problem> {
    moves::person(tx, user_id)
        .await?
        .ok_or_else(Problem::no_such_account)
}

/// Writes a new task and what must be there before it is; the answer is the task.
pub(super) async fn write_new(
    tx: &mut PgConnection,
    user_id: Uuid,
    change: Change,
) -> Result<Answer, Problem> {
    before_writing(tx, user_id, &change, &[]).await?;
    let event = change.event(user_id)?;
    insert(tx, user_id, change.task, &event).await
}

async fn insert(
    db: &mut PgConnection,
    user_id: Uuid,
    task: Task,
    event: &Encoded,
) -> Result<Answer, Problem> {
    if !db::tasks::insert(&mut *db, user_id, &task, event).await? {
        return Err(Problem::internal(OccurrenceExists));
    }
    let location = format!("/api/tasks/{}", task.id);
    let shown = Shown::of(db, user_id, task).await?;
    Ok(shown
        .answer(StatusCode::CREATED)?
        .with(header::LOCATION, location))
}

/// A series that was made a moment ago has no occurrence yet.
#[derive(Debug, thiserror::Error)]
#[error("a new series already has its first occurrence")]
struct OccurrenceExists;

/// Get a task
#[utoipa::path(
    get, path = "/api/tasks/{id}", tag = "Tasks", security(("bearer" = ["tasks:read"])),
    params(TaskId),
    responses((
        status = 200, description = "The task", body = TaskView,
        headers(("ETag" = String, description = "Its version")),
    )),
)]
async fn read(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TaskId(id): TaskId,
) -> Result<Answer, Problem> {
    let shown = app
        .database(async move |pool| {
            let task = db::tasks::get(&pool, user.user_id, id).await?;
            let task = task.ok_or_else(Problem::no_such_task)?;
            Shown::of(&pool, user.user_id, task).await
        })
        .await?;
    shown.answer(StatusCode::OK)
}

/// Change a task
///
/// A JSON merge patch (RFC 7396): null puts a field back to its default, and a patch that changes nothing writes nothing.
/// Of `due_at` and `due_on` the one that is given replaces the other.
#[utoipa::path(
    patch, path = "/api/tasks/{id}", tag = "Tasks", security(("bearer" = ["tasks:write"])),
    params(TaskId, IfMatch, Prefer),
    request_body(content((TaskPatch = "application/merge-patch+json"), (TaskPatch = "application/json"))),
    responses((
        status = 200, description = "The task as it is then", body = TaskView,
        headers(("ETag" = String, description = "Its version")),
    )),
)]
async fn update(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TaskId(id): TaskId,
    if_match: IfMatch,
    prefer: Prefer,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    let patch = TaskInput::patch(body)?;
    let reach = if patch.recurrence.is_given() {
        Reach::Series
    } else {
        Reach::Task
    };
    let known = (!patch.asks_for_the_person()).then(|| Person::of_token(user.timezone));
    let decide = move |task: &Task, person: &Person, now| tasks::patch(patch, task, person, now);
    let work = change(user.user_id, id, if_match, reach, known, decide);
    Ok(prefer.apply(app.transaction(work).await?))
}

/// Delete a task
///
/// It can be restored for 30 days.
#[utoipa::path(
    delete, path = "/api/tasks/{id}", tag = "Tasks", security(("bearer" = ["tasks:write"])),
    params(TaskId, IfMatch),
    responses((status = 204, description = "It is deleted")),
)]
async fn delete(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TaskId(id): TaskId,
    if_match: IfMatch,
) -> Result<Answer, Problem> {
    let decide = |task: &Task, _: &Person, now| Ok(Some(tasks::delete(task, now)));
    let known = Some(Person::of_token(user.timezone));
    let work = change(user.user_id, id, if_match, Reach::Task, known, decide);
    app.transaction(work).await?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

/// Complete a task
///
/// A completed one stays as it is. If the task recurs, its next occurrence is made shortly after.
#[utoipa::path(
    post, path = "/api/tasks/{id}/complete", tag = "Tasks", security(("bearer" = ["tasks:write"])),
    params(TaskId, IfMatch, IdempotencyKey, Prefer),
    responses((
        status = 200, description = "The task as it is then", body = TaskView,
        headers(("ETag" = String, description = "Its version")),
    )),
)]
async fn complete(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TaskId(id): TaskId,
    if_match: IfMatch,
    key: IdempotencyKey,
    prefer: Prefer,
) -> Result<Answer, Problem> {
    let decide = |task: &Task, _: &Person, now| Ok(tasks::complete(task, now));
    let known = Some(Person::of_token(user.timezone));
    let work = change(user.user_id, id, if_match, Reach::Task, known, decide);
    Ok(prefer.apply(app.once(user.user_id, key, work).await?))
}

/// Reopen a task
///
/// An open one stays as it is.
#[utoipa::path(
    post, path = "/api/tasks/{id}/reopen", tag = "Tasks", security(("bearer" = ["tasks:write"])),
    params(TaskId, IfMatch, IdempotencyKey, Prefer),
    responses((
        status = 200, description = "The task as it is then", body = TaskView,
        headers(("ETag" = String, description = "Its version")),
    )),
)]
async fn reopen(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TaskId(id): TaskId,
    if_match: IfMatch,
    key: IdempotencyKey,
    prefer: Prefer,
) -> Result<Answer, Problem> {
    let decide = |task: &Task, person: &Person, now| Ok(tasks::reopen(task, person, now));
    let work = change(user.user_id, id, if_match, Reach::Task, None, decide);
    Ok(prefer.apply(app.once(user.user_id, key, work).await?))
}

/// Restore a deleted task
///
/// Possible for 30 days after it was deleted. One that is not deleted stays as it is.
#[utoipa::path(
    post, path = "/api/tasks/{id}/restore", tag = "Tasks", security(("bearer" = ["tasks:write"])),
    params(TaskId, IfMatch, IdempotencyKey, Prefer),
    responses((
        status = 200, description = "The task as it is then", body = TaskView,
        headers(("ETag" = String, description = "Its version")),
    )),
)]
async fn restore(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TaskId(id): TaskId,
    if_match: IfMatch,
    key: IdempotencyKey,
    prefer: Prefer,
) -> Result<Answer, Problem> {
    let decide = |task: &Task, person: &Person, now| Ok(tasks::restore(task, person, now));
    let work = change(user.user_id, id, if_match, Reach::Deleted, None, decide);
    Ok(prefer.apply(app.once(user.user_id, key, work).await?))
}

/// What a request may be about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// A task; a deleted one answers like one that does not exist.
    Task,
    /// A task and the series that it leaves.
    Series,
    /// A task, deleted or not.
    Deleted,
}

/// The work that changes a task as `decide` says, under its lock: the version is read, checked and raised by one writer at a
/// time, and the event's place in the outbox is taken in that order too. The answer is the task as it is then. Where the
/// person is is asked unless it is `known` well enough.
pub(super) fn change(
    user_id: Uuid,
    id: Uuid,
    if_match: IfMatch,
    reach: Reach,
    known: Option<Person>,
    decide: impl FnOnce(&Task, &Person, Timestamp) -> Result<Option<Change>, Problem> + Send + 'static,
) -> impl for<'c> FnOnce(&'c mut PgConnection) -> Work<'c, Answer> + Send + 'static {
    move |tx| {
        Box::pin(async move {
            if reach == Reach::Series {
                db::series::lock_of_task(tx, user_id, id).await?;
            }
            let current = db::tasks::lock(tx, user_id, id)
                .await?
                .filter(|task| reach == Reach::Deleted || task.deleted_at.is_none())
                .ok_or_else(Problem::no_such_task)?;
            if_match.check(current.version)?;
            let person = match known {
                Some(person) => person,
                None => person(tx, user_id).await?,
            };
            let task = match decide(&current, &person, schemas::now())? {
                None => current,
                Some(change) => {
                    before_writing(tx, user_id, &change, &current.depends_on).await?;
                    let event = change.event(user_id)?;
                    db::tasks::update(tx, user_id, std::slice::from_ref(&change.task), &[event]).await?;
                    if let Some(left) = current
                        .series_id
                        .filter(|_| change.task.series_id != current.series_id)
                    {
                        db::series::end_if_left(tx, user_id, left, change.task.updated_at).await?;
                    }
                    change.task
                }
            };
            Shown::of(tx, user_id, task).await?.answer(StatusCode::OK)
        })
    }
}

/// Writes what must be there before the task is, and refuses what it cannot depend on. `depends_on` are the tasks that it
/// depended on before.
async fn before_writing(
    tx: &mut PgConnection,
    user_id: Uuid,
    change: &Change,
    depends_on: &[Uuid],
) -> Result<(), Problem> {
    dependency_problems(tx, user_id, &change.task, depends_on)
        .await?
        .finish(Some(()))?;
    if let Some(series) = &change.series {
        db::series::insert(tx, user_id, series).await?;
    }
    Ok(())
}

/// What is wrong with the tasks that `task` is to depend on and did not `before`.
pub(super) async fn dependency_problems(
    tx: &mut PgConnection,
    user_id: Uuid,
    task: &Task,
    before: &[Uuid],
) -> Result<Problems, sqlx::Error> {
    let mut problems = Problems::default();
    let added: Vec<Uuid> = task
        .depends_on
        .iter()
        .filter(|id| !before.contains(id))
        .copied()
        .collect();
    if added.is_empty() {
        return Ok(problems);
    }
    let flaws = db::tasks::check_dependencies(tx, user_id, task.id, &added).await?;
    for (index, wanted) in task.depends_on.iter().enumerate() {
        let flaw = flaws.iter().find(|(id, _)| id == wanted);
        let detail = match flaw {
            None => continue,
            Some((_, DependencyFlaw::Unknown)) => "is not the id of a task of yours",
            Some((_, DependencyFlaw::Cycle)) => "depends on this task, directly or by way of others",
        };
        problems.add(format_args!("/depends_on/{index}"), detail);
    }
    Ok(problems)
}

/// A task, and what its answer says beyond its own row.
pub(super) struct Shown {
    pub(super) task: Task,
    open: Vec<Uuid>,
}

impl Shown {
    pub(super) async fn of(db: impl PgExecutor<'_>, user_id: Uuid, task: Task) -> Result<Self, Problem> {
        let open = db::tasks::open_among(db, user_id, &task.depends_on).await?;
        Ok(Self { task, open })
    }

    /// The version; with it, while the task waits for others, for which: that changes without a new version.
    fn tag(&self) -> String {
        let version = self.task.version;
        match self
            .open
            .iter()
            .map(|id| id.as_u64_pair().1)
            .reduce(|all, id| all ^ id)
        {
            None => format!("\"{version}\""),
            Some(open) => format!("\"{version}-{open:x}\""),
        }
    }

    pub(super) fn answer(&self, status: StatusCode) -> Result<Answer, Problem> {
        let answer = Answer::json(status, &TaskView::new(&self.task, &self.open))?;
        Ok(answer.with(header::ETAG, self.tag()))
    }
}
