//! Many tasks at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use schemas::Task;
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::PgConnection;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::tasks::{dependency_problems, person};
use crate::App;
use crate::answer::Answer;
use crate::extract::{CurrentUser, JsonObject};
use crate::idempotency::IdempotencyKey;
use crate::input::{Fields, Place, Problems, read};
use crate::metrics::TASKS_CREATED;
use crate::problem::{Problem, ProblemDocument};
use crate::tasks::body::NewTask;
use crate::tasks::view::TaskView;
use crate::tasks::{self, Change};

/// Most tasks of one request.
const MAX_ITEMS: usize = 500;

/// `/api/tasks/batch…`
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(complete))
}

/// What becomes of the others when one of many is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "snake_case")]
enum Mode {
    /// Nothing is done.
    AllOrNothing,
    /// They are done.
    PerItem,
}

impl Mode {
    fn take(fields: &mut Fields<'_>) -> Self {
        let from_name = |name: &str| match name {
            "all_or_nothing" => Some(Self::AllOrNothing),
            "per_item" => Some(Self::PerItem),
            _ => None,
        };
        let mode = fields.take("mode", |place, value| {
            read::choice(place, value, from_name, "all_or_nothing, per_item")
        });
        mode.value().unwrap_or(Self::AllOrNothing)
    }

    /// Refuses the whole request when one item is refused, if the mode says so; `name` is where the items stand in it.
    fn settle<T>(
        self,
        name: &str,
        items: Vec<Result<T, Problem>>,
    ) -> Result<Vec<Result<T, Problem>>, Problem> {
        if self == Self::PerItem {
            return Ok(items);
        }
        let mut problems = Problems::default();
        for (index, item) in items.iter().enumerate() {
            if let Err(problem) = item {
                problems.add_all(format_args!("/{name}/{index}"), problem);
            }
        }
        problems.finish(Some(items))
    }
}

/// Many new tasks.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
struct NewTasks {
    #[schema(default = "all_or_nothing")]
    mode: Option<Mode>,
    #[schema(min_items = 1, max_items = 500)]
    tasks: Vec<NewTask>,
}

/// Many tasks, each once.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
struct TaskIds {
    #[schema(default = "all_or_nothing")]
    mode: Option<Mode>,
    #[schema(min_items = 1, max_items = 500)]
    ids: Vec<Uuid>,
}

/// What became of each, in the order of the request.
#[derive(Debug, Serialize, ToSchema)]
struct Outcomes<'a> {
    items: Vec<Outcome<'a>>,
}

/// What became of one: `task` or `problem`.
#[derive(Debug, Serialize, ToSchema)]
struct Outcome<'a> {
    /// The status that a request for it alone would have had.
    status: u16,
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskView<'a>>,
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<ProblemDocument<'a>>,
}

/// Create many tasks
///
/// `all_or_nothing` (the default) makes all of them in one transaction, or refuses the request with everything that is
/// wrong. `per_item` makes those that can be made.
#[utoipa::path(
    post, path = "/api/tasks/batch", tag = "Tasks", security(("bearer" = ["tasks:write"])),
    params(IdempotencyKey),
    request_body = NewTasks,
    responses((status = 200, description = "What became of each", body = Outcomes)),
)]
async fn create(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    key: IdempotencyKey,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    let (mode, bodies) = read_batch(body, "tasks", read::object)?;
    let user_id = user.user_id;
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let answer = app
        .once(user_id, key, move |tx| {
            Box::pin(async move {
                let (person, now) = (person(tx, user_id).await?, schemas::now());
                let mut changes: Vec<Result<Change, Problem>> = bodies
                    .into_iter()
                    .map(|body| tasks::create(body, &person, now))
                    .collect();
                for change in &mut changes {
                    if let Ok(valid) = change {
                        let problems = dependency_problems(tx, user_id, &valid.task, &[]).await?;
                        if let Err(problem) = problems.finish(Some(())) {
                            *change = Err(problem);
                        }
                    }
                }
                let changes = mode.settle("tasks", changes)?;
                let made: Vec<&Change> = changes.iter().flatten().collect();
                for series in made.iter().filter_map(|change| change.series.as_ref()) {
                    db::series::insert(tx, user_id, series).await?;
                }
                let (written, events) = tasks::with_events(user_id, made.into_iter().cloned())?;
                db::tasks::insert_many(tx, user_id, &written, &events).await?;
                counted.store(written.len() as u64, Ordering::Relaxed);
                let results: Vec<_> = changes
                    .into_iter()
                    .map(|change| change.map(|change| change.task))
                    .collect();
                let open = open_behind(tx, user_id, &results).await?;
                answer(StatusCode::CREATED, &results, &open)
            })
        })
        .await?;
    TASKS_CREATED.inc_by(count.load(Ordering::Relaxed));
    Ok(answer)
}

/// Complete many tasks
///
/// Completed ones stay as they are. `all_or_nothing` (the default) completes all of them in one transaction, or refuses the
/// request when one does not exist.
#[utoipa::path(
    post, path = "/api/tasks/batch/complete", tag = "Tasks", security(("bearer" = ["tasks:write"])),
    params(IdempotencyKey),
    request_body = TaskIds,
    responses((status = 200, description = "What became of each", body = Outcomes)),
)]
async fn complete(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    key: IdempotencyKey,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    let mut seen = HashSet::new();
    let (mode, ids) = read_batch(body, "ids", |place, value| {
        let id = read::uuid(place, value)?;
        if seen.insert(id) {
            Some(id)
        } else {
            place.refuse("stands in the list already")
        }
    })?;
    let user_id = user.user_id;
    app.once(user_id, key, move |tx| {
        Box::pin(async move {
            let found = db::tasks::lock_many(tx, user_id, &ids).await?;
            let mut found: HashMap<Uuid, Task> = found
                .into_iter()
                .filter(|task| task.deleted_at.is_none())
                .map(|task| (task.id, task))
                .collect();
            let results = ids
                .iter()
                .map(|id| found.remove(id).ok_or_else(Problem::no_such_task))
                .collect();
            let mut results = mode.settle("ids", results)?;
            let mut changes = Vec::new();
            let now = schemas::now();
            for task in results.iter_mut().flatten() {
                if let Some(change) = tasks::complete(task, now) {
                    *task = change.task.clone();
                    changes.push(change);
                }
            }
            let (written, events) = tasks::with_events(user_id, changes)?;
            db::tasks::update(tx, user_id, &written, &events).await?;
            let open = open_behind(tx, user_id, &results).await?;
            answer(StatusCode::OK, &results, &open)
        })
    })
    .await
}

/// Reads the mode and the items of a batch.
fn read_batch<T>(
    body: Map<String, Value>,
    name: &str,
    read_item: impl FnMut(&mut Place<'_>, Value) -> Option<T>,
) -> Result<(Mode, Vec<T>), Problem> {
    let mut problems = Problems::default();
    let mut fields = Fields::new(body, Place::root(&mut problems));
    let mode = Mode::take(&mut fields);
    let items = fields.required(name, |place, value| {
        let items = read::items(place, value, MAX_ITEMS, read_item)?;
        if items.is_empty() {
            return place.refuse("must not be empty");
        }
        Some(items)
    });
    fields.finish();
    problems.finish(items.map(|items| (mode, items)))
}

/// Which of the tasks that those depend on are still to be done.
async fn open_behind(
    tx: &mut PgConnection,
    user_id: Uuid,
    results: &[Result<Task, Problem>],
) -> Result<Vec<Uuid>, Problem> {
    let wanted: Vec<Uuid> = results
        .iter()
        .flatten()
        .flat_map(|task| task.depends_on.clone())
        .collect();
    Ok(db::tasks::open_among(tx, user_id, &wanted).await?)
}

/// `done` is the status of each that went well; that of the whole says only that the items are to be looked at.
fn answer(done: StatusCode, results: &[Result<Task, Problem>], open: &[Uuid]) -> Result<Answer, Problem> {
    let items = results
        .iter()
        .map(|result| match result {
            Ok(task) => Outcome {
                status: done.as_u16(),
                task: Some(TaskView::new(task, open)),
                problem: None,
            },
            Err(problem) => Outcome {
                status: problem.status().as_u16(),
                task: None,
                problem: Some(problem.document(None)),
            },
        })
        .collect();
    Answer::json(StatusCode::OK, &Outcomes { items })
}
