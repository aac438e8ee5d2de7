//! A person's tags. A tag is a word on tasks and nothing for itself: it exists while a task has it.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use db::tasks::TagCount;
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::PgPool;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::App;
use crate::extract::{CurrentUser, JsonObject};
use crate::input::{Fields, Place, Problems, read};
use crate::page::{Page, PageParameters};
use crate::problem::{Kind, Problem, ProblemDocument};
use crate::tasks::{self, MAX_TAG_CHARS};

/// How many tasks are read, changed and written at a time. All of it is one transaction; this bounds what is in memory.
const BITE: i64 = 500;

/// `/api/tags…`
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(rename, delete))
}

/// A tag.
#[derive(Debug, Serialize, ToSchema)]
struct Tag<'a> {
    /// As it stands on the tasks.
    name: &'a str,
    /// How many tasks have it; deleted ones do not count.
    #[schema(minimum = 1)]
    count: i64,
    /// How many of them are open.
    #[schema(minimum = 0)]
    open_count: i64,
}

impl<'a> From<&'a TagCount> for Tag<'a> {
    fn from(tag: &'a TagCount) -> Self {
        Self {
            name: &tag.tag,
            count: tag.tasks,
            open_count: tag.open,
        }
    }
}

/// A page of tags.
#[derive(Debug, Serialize, ToSchema)]
struct TagPage<'a> {
    items: Vec<Tag<'a>>,
    /// Where the next page starts; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// List tags
///
/// Those of tasks that are not deleted, by name.
#[utoipa::path(
    get, path = "/api/tags", tag = "Tags", security(("bearer" = ["tasks:read"])),
    params(PageParameters),
    responses((status = 200, description = "A page of tags", body = TagPage)),
)]
async fn list(State(app): State<App>, CurrentUser(user): CurrentUser, uri: Uri) -> Result<Response, Problem> {
    let page = Page::<String>::read(&uri, &app.cursors, "tags", user.user_id)?;
    let (mut found, page) = app
        .database(async move |pool| {
            let found = db::tasks::tags(&pool, user.user_id, page.after.as_deref(), page.rows()).await?;
            Ok((found, page))
        })
        .await?;
    let last = page.cut(&mut found).map(|last| last.tag.clone());
    let next_cursor = last.map(|last| page.cursor(&app.cursors, &last)).transpose()?;
    Ok(Json(TagPage {
        items: found.iter().map(Tag::from).collect(),
        next_cursor,
    })
    .into_response())
}

/// A new name for a tag.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
struct TagPatch {
    /// What it is to be called.
    #[schema(min_length = 1, max_length = 50, example = "household")]
    name: String,
    /// Whether it may become one with the tag that has that name.
    #[schema(default = false)]
    merge: Option<bool>,
}

/// Rename or merge a tag
///
/// Every task that has the tag, completed ones too, gets the new name instead, its next version and an event, all in one
/// transaction. If there is a tag of the new name already, `merge` makes one of the two.
#[utoipa::path(
    patch, path = "/api/tags/{name}", tag = "Tags", security(("bearer" = ["tasks:write"])),
    params(("name" = String, Path, description = "The tag", min_length = 1, max_length = 50, example = "home")),
    request_body(content((TagPatch = "application/merge-patch+json"), (TagPatch = "application/json"))),
    responses(
        (status = 200, description = "The tag as it is then", body = Tag),
        (status = 409, description = "There is a tag of this name already", body = ProblemDocument,
            content_type = "application/problem+json"),
    ),
)]
async fn rename(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    tag: Result<Path<String>, PathRejection>,
    JsonObject(body): JsonObject,
) -> Result<Response, Problem> {
    let (name, merge) = read_patch(body)?;
    let tag = tag_name(tag)?;
    let found = app
        .database(async move |pool| {
            let count = async |tag: &str| db::tasks::tag(&pool, user.user_id, tag).await;
            let current = count(&tag).await?.ok_or_else(no_such_tag)?;
            if name == tag {
                return Ok(current);
            }
            if !merge && count(&name).await?.is_some() {
                let detail = "Send \"merge\": true to make one tag of both.";
                return Err(Problem::new(Kind::TagExists, detail));
            }
            retag(&pool, user.user_id, &tag, Some(&name)).await?;
            count(&name).await?.ok_or_else(no_such_tag)
        })
        .await?;
    Ok(Json(Tag::from(&found)).into_response())
}

/// Delete a tag
///
/// Takes it away from every task, as renaming does.
#[utoipa::path(
    delete, path = "/api/tags/{name}", tag = "Tags", security(("bearer" = ["tasks:write"])),
    params(("name" = String, Path, description = "The tag", min_length = 1, max_length = 50, example = "home")),
    responses((status = 204, description = "No task has it")),
)]
async fn delete(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    tag: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let tag = tag_name(tag)?;
    app.database(async move |pool| retag(&pool, user.user_id, &tag, None).await)
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The tag that a path names. What no tag can be called is the name of none.
fn tag_name(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    let Ok(Path(name)) = path else {
        return Err(no_such_tag());
    };
    let mut problems = Problems::default();
    let name = read::line(&mut Place::root(&mut problems), name.into(), MAX_TAG_CHARS);
    name.ok_or_else(no_such_tag)
}

fn no_such_tag() -> Problem {
    Problem::new(Kind::NotFound, "No task of yours has this tag.")
}

fn read_patch(body: Map<String, Value>) -> Result<(String, bool), Problem> {
    let mut problems = Problems::default();
    let mut fields = Fields::new(body, Place::root(&mut problems));
    let name = fields.required("name", |place, value| read::line(place, value, MAX_TAG_CHARS));
    let merge = fields.take("merge", |place, value| match value {
        Value::Bool(merge) => Some(merge),
        _ => place.refuse("must be true or false"),
    });
    fields.finish();
    problems.finish(name.map(|name| (name, merge.value().unwrap_or(false))))
}

/// Calls a tag by another name on every task that has it, or takes it away: each task under its lock, in the order of ids,
/// with its next version and its event, all in one transaction.
async fn retag(pool: &PgPool, user_id: Uuid, tag: &str, name: Option<&str>) -> Result<(), Problem> {
    let mut tx = pool.begin().await?;
    let mut after = Uuid::nil();
    loop {
        let found = db::tasks::lock_tagged(&mut tx, user_id, tag, after, BITE).await?;
        let Some(last) = found.last().map(|task| task.id) else {
            break;
        };
        after = last;
        let now = schemas::now();
        let changes = found.iter().map(|task| tasks::retag(task, tag, name, now));
        let (changed, events) = tasks::with_events(user_id, changes)?;
        db::tasks::update(&mut tx, user_id, &changed, &events).await?;
    }
    if after.is_nil() {
        return Err(no_such_tag());
    }
    tx.commit().await?;
    Ok(())
}
