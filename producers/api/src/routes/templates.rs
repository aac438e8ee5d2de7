//! A person's templates, and tasks from them.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use schemas::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::PgConnection;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::tasks::{person, write_new};
use crate::App;
use crate::answer::Answer;
use crate::extract::{CurrentUser, IfMatch, JsonObject, Prefer, path_id};
use crate::idempotency::IdempotencyKey;
use crate::input::{Field, Fields, Place, Problems, read};
use crate::metrics::TASKS_CREATED;
use crate::page::{Page, PageParameters};
use crate::problem::{Kind, Problem};
use crate::tasks::view::TaskView;
use crate::tasks::{self, Change, Person};
use crate::templates::view::{NewTemplate, TaskFromTemplate, TemplatePatch, TemplateView};
use crate::templates::{self, Template, TemplateInput, store};

/// `/api/templates…`
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read, update, delete))
        .routes(routes!(make_task))
}

path_id! {
    /// The id of a template, from the path.
    struct TemplateId else no_such_template
}

fn no_such_template() -> Problem {
    Problem::new(Kind::NotFound, "There is no template with this id.")
}

/// Create a template
///
/// From fields, or from a task. The due day of that is counted from the day on which it was made.
#[utoipa::path(
    post, path = "/api/templates", tag = "Templates", security(("bearer" = ["tasks:write"])),
    params(IdempotencyKey, Prefer),
    request_body = NewTemplate,
    responses((
        status = 201, description = "The template", body = TemplateView,
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
    let input = TemplateInput::create(body)?;
    let answer = app
        .once(user_id, key, move |tx| {
            Box::pin(async move {
                let from = match input.from_task {
                    Field::Value(id) => Some(source(tx, user_id, id).await?),
                    _ => None,
                };
                let template = templates::create(input, from.as_ref(), schemas::now())?;
                store::insert(tx, user_id, &template).await?;
                let location = format!("/api/templates/{}", template.id);
                Ok(shown(StatusCode::CREATED, &template)?.with(header::LOCATION, location))
            })
        })
        .await?;
    Ok(prefer.apply(answer))
}

/// The task that a template is made from.
async fn source(tx: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<schemas::Task, Problem> {
    let task = db::tasks::get(tx, user_id, id).await?;
    let mut problems = Problems::default();
    if task.is_none() {
        problems.add("/from_task", "is not the id of a task of yours");
    }
    problems.finish(task)
}

/// A page of templates.
#[derive(Serialize, ToSchema)]
struct TemplatePage<'a> {
    items: Vec<TemplateView<'a>>,
    /// Where the next page starts; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// List templates
///
/// Newest first.
#[utoipa::path(
    get, path = "/api/templates", tag = "Templates", security(("bearer" = ["tasks:read"])),
    params(PageParameters),
    responses((status = 200, description = "A page of templates", body = TemplatePage)),
)]
async fn list(State(app): State<App>, CurrentUser(user): CurrentUser, uri: Uri) -> Result<Response, Problem> {
    let page = Page::read(&uri, &app.cursors, "templates", user.user_id)?;
    let (rows, after) = (page.rows(), page.after);
    let mut found = app
        .database(async move |pool| Ok(store::list(&pool, user.user_id, after, rows).await?))
        .await?;
    let last = page.cut(&mut found).map(|last| last.id);
    let next_cursor = last.map(|last| page.cursor(&app.cursors, &last)).transpose()?;
    Ok(Json(TemplatePage {
        items: found.iter().map(TemplateView::from).collect(),
        next_cursor,
    })
    .into_response())
}

/// Get a template
#[utoipa::path(
    get, path = "/api/templates/{id}", tag = "Templates", security(("bearer" = ["tasks:read"])),
    params(TemplateId),
    responses((
        status = 200, description = "The template", body = TemplateView,
        headers(("ETag" = String, description = "Its version")),
    )),
)]
async fn read(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TemplateId(id): TemplateId,
) -> Result<Answer, Problem> {
    let template = app
        .database(async move |pool| Ok(store::get(&pool, user.user_id, id).await?))
        .await?;
    shown(StatusCode::OK, &template.ok_or_else(no_such_template)?)
}

/// Change a template
///
/// A JSON merge patch (RFC 7396): null puts a field back to its default, and a patch that changes nothing writes nothing.
/// Tasks that were made from it stay as they are.
#[utoipa::path(
    patch, path = "/api/templates/{id}", tag = "Templates", security(("bearer" = ["tasks:write"])),
    params(TemplateId, IfMatch, Prefer),
    request_body(content((TemplatePatch = "application/merge-patch+json"), (TemplatePatch = "application/json"))),
    responses((
        status = 200, description = "The template as it is then", body = TemplateView,
        headers(("ETag" = String, description = "Its version")),
    )),
)]
async fn update(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TemplateId(id): TemplateId,
    if_match: IfMatch,
    prefer: Prefer,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    let user_id = user.user_id;
    let patch = TemplateInput::patch(body)?;
    let answer = app
        .transaction(move |tx| {
            Box::pin(async move {
                let current = lock(tx, user_id, id, &if_match).await?;
                let Some(template) = templates::patch(patch, &current, schemas::now())? else {
                    return shown(StatusCode::OK, &current);
                };
                store::update(tx, user_id, &template).await?;
                shown(StatusCode::OK, &template)
            })
        })
        .await?;
    Ok(prefer.apply(answer))
}

/// Delete a template
///
/// For good. Tasks that were made from it stay.
#[utoipa::path(
    delete, path = "/api/templates/{id}", tag = "Templates", security(("bearer" = ["tasks:write"])),
    params(TemplateId, IfMatch),
    responses((status = 204, description = "It is deleted")),
)]
async fn delete(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TemplateId(id): TemplateId,
    if_match: IfMatch,
) -> Result<Answer, Problem> {
    let user_id = user.user_id;
    app.transaction(move |tx| {
        Box::pin(async move {
            lock(tx, user_id, id, &if_match).await?;
            Ok(store::delete(tx, user_id, id).await?)
        })
    })
    .await?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

/// Make a task from a template
///
/// It is due as many days after `base_date` as the template says.
#[utoipa::path(
    post, path = "/api/templates/{id}/tasks", tag = "Templates", security(("bearer" = ["tasks:write"])),
    params(TemplateId, IdempotencyKey, Prefer),
    request_body = TaskFromTemplate,
    responses((
        status = 201, description = "The task", body = TaskView,
        headers(("Location" = String, description = "Its path"), ("ETag" = String, description = "Its version")),
    )),
)]
async fn make_task(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TemplateId(id): TemplateId,
    key: IdempotencyKey,
    prefer: Prefer,
    JsonObject(asked): JsonObject,
) -> Result<Answer, Problem> {
    let user_id = user.user_id;
    let answer = app
        .once(user_id, key, move |tx| {
            Box::pin(async move {
                let template = store::get(&mut *tx, user_id, id)
                    .await?
                    .ok_or_else(no_such_template)?;
                let person = person(tx, user_id).await?;
                let change = task_from(&template, asked, &person, schemas::now())?;
                write_new(tx, user_id, change).await
            })
        })
        .await?;
    if !answer.is_replayed() {
        TASKS_CREATED.inc();
    }
    Ok(prefer.apply(answer))
}

/// The task that a client asks for.
fn task_from(
    template: &Template,
    mut asked: Map<String, Value>,
    person: &Person,
    now: Timestamp,
) -> Result<Change, Problem> {
    let mut problems = Problems::default();
    let base_date = asked
        .remove("base_date")
        .map(|value| ("base_date".to_owned(), value));
    let mut fields = Fields::new(base_date.into_iter().collect(), Place::root(&mut problems));
    let base_date = fields.take("base_date", read::date);
    fields.finish();
    // A zone that is none is refused with the other fields.
    let zone = asked
        .get("timezone")
        .and_then(Value::as_str)
        .unwrap_or(&person.timezone);
    let zone = schedule::parse_zone(zone).unwrap_or(schedule::Tz::UTC);
    let day = base_date
        .value()
        .unwrap_or_else(|| now.with_timezone(&zone).date_naive());
    let change = tasks::create(
        templates::task_body(&template.content, day, zone, asked),
        person,
        now,
    );
    if let Err(problem) = &change {
        problems.add_all("", problem);
    }
    problems.finish(change.ok())
}

/// The template, locked until the transaction ends, at a version that the client has seen.
async fn lock(
    tx: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    if_match: &IfMatch,
) -> Result<Template, Problem> {
    let current = store::lock(tx, user_id, id).await?.ok_or_else(no_such_template)?;
    if_match.check(current.version)?;
    Ok(current)
}

fn shown(status: StatusCode, template: &Template) -> Result<Answer, Problem> {
    let answer = Answer::json(status, &TemplateView::from(template))?;
    Ok(answer.with(header::ETAG, format!("\"{}\"", template.version)))
}
