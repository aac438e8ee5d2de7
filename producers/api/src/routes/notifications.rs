//! How a person wants to be notified, of everything and of one task, and the list in the page.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::App;
use crate::answer::Answer;
use crate::extract::{CurrentUser, FullSession, IfMatch, JsonObject, TaskId, path_id};
use crate::idempotency::IdempotencyKey;
use crate::input::read;
use crate::notifications::store::{self, Position, Subject};
use crate::notifications::view::{
    NewTaskNotifications, NotificationSettingsPatch, NotificationView, NotificationsToRead, OverrideView,
    ReadView, SettingsView, UnreadView,
};
use crate::notifications::{SettingsPatch, read_override, read_until};
use crate::page::{Page, PageParameters};
use crate::problem::{Kind, Problem};
use crate::query::Parameters;

/// `/api/me/notifications`, `/api/tasks/{id}/notifications`, `/api/recurring-tasks/{id}/notifications`, `/api/notifications…`
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(settings, change_settings))
        .routes(routes!(of_task, say_of_task, unsay_of_task))
        .routes(routes!(of_series, say_of_series, unsay_of_series))
        .routes(routes!(list))
        .routes(routes!(unread))
        .routes(routes!(read_all))
        .routes(routes!(read_one))
}

path_id! {
    /// The id of a notification, from the path.
    struct NotificationId else no_such_notification
}

path_id! {
    /// The id of a recurring task, from the path.
    struct SeriesId else no_such_series
}

fn no_such_notification() -> Problem {
    Problem::new(Kind::NotFound, "There is no notification with this id.")
}

fn no_such_series() -> Problem {
    Problem::new(Kind::NotFound, "There is no recurring task with this id.")
}

/// How am I notified?
#[utoipa::path(
    get, path = "/api/me/notifications", tag = "Notifications", security(("bearer" = [])),
    responses((
        status = 200, description = "The settings, those of who never said anything included", body = SettingsView,
        headers(("ETag" = String, description = "Their version")),
    )),
)]
async fn settings(State(app): State<App>, FullSession(user): FullSession) -> Result<Answer, Problem> {
    let (version, settings) = app
        .database(async move |pool| Ok(store::settings(&pool, user.user_id).await?))
        .await?;
    shown(version, &settings)
}

/// Change how I am notified
///
/// A merge patch. What is decided already stays so: a mail that is held comes when it was to. Webhooks are none of this: each
/// says itself what it is told of.
#[utoipa::path(
    patch, path = "/api/me/notifications", tag = "Notifications", security(("bearer" = [])),
    params(IfMatch),
    request_body(content(
        (NotificationSettingsPatch = "application/merge-patch+json"), (NotificationSettingsPatch = "application/json")
    )),
    responses((
        status = 200, description = "The settings as they are then", body = SettingsView,
        headers(("ETag" = String, description = "Their version")),
    )),
)]
async fn change_settings(
    State(app): State<App>,
    FullSession(user): FullSession,
    if_match: IfMatch,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    let user_id = user.user_id;
    let patch = SettingsPatch::read(body)?;
    app.transaction(move |tx| {
        Box::pin(async move {
            let (version, before) = store::lock(&mut *tx, user_id).await?;
            if_match.check(version)?;
            let after = patch.apply(&before)?;
            if after == before {
                return shown(version, &before);
            }
            shown(store::write(tx, user_id, version, &after).await?, &after)
        })
    })
    .await
}

fn shown(version: i64, settings: &preferences::Settings) -> Result<Answer, Problem> {
    let answer = Answer::json(StatusCode::OK, &SettingsView::of(version, settings))?;
    Ok(answer.with(header::ETAG, format!("\"{version}\"")))
}

/// How am I notified of a task?
#[utoipa::path(
    get, path = "/api/tasks/{id}/notifications", tag = "Notifications", security(("bearer" = ["tasks:read"])),
    params(TaskId),
    responses((status = 200, description = "What is said of it", body = OverrideView)),
)]
async fn of_task(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TaskId(id): TaskId,
) -> Result<Answer, Problem> {
    said(&app, user.user_id, Subject::Task(id)).await
}

/// Be notified of a task in another way
///
/// It goes before the settings, and before what is said of the recurring task that it is an instance of.
#[utoipa::path(
    put, path = "/api/tasks/{id}/notifications", tag = "Notifications", security(("bearer" = ["tasks:write"])),
    params(TaskId),
    request_body = NewTaskNotifications,
    responses((status = 200, description = "What is said of it then", body = OverrideView)),
)]
async fn say_of_task(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TaskId(id): TaskId,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    say(&app, user.user_id, Subject::Task(id), body).await
}

/// Be notified of a task as of any other
#[utoipa::path(
    delete, path = "/api/tasks/{id}/notifications", tag = "Notifications", security(("bearer" = ["tasks:write"])),
    params(TaskId),
    responses((status = 204, description = "Nothing is said of it any more")),
)]
async fn unsay_of_task(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    TaskId(id): TaskId,
) -> Result<Answer, Problem> {
    unsay(&app, user.user_id, Subject::Task(id)).await
}

/// How am I notified of a recurring task?
#[utoipa::path(
    get, path = "/api/recurring-tasks/{id}/notifications", tag = "Notifications",
    security(("bearer" = ["tasks:read"])),
    params(SeriesId),
    responses((status = 200, description = "What is said of it", body = OverrideView)),
)]
async fn of_series(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    SeriesId(id): SeriesId,
) -> Result<Answer, Problem> {
    said(&app, user.user_id, Subject::Series(id)).await
}

/// Be notified of a recurring task in another way
///
/// Of all its instances, but those of which something else is said.
#[utoipa::path(
    put, path = "/api/recurring-tasks/{id}/notifications", tag = "Notifications",
    security(("bearer" = ["tasks:write"])),
    params(SeriesId),
    request_body = NewTaskNotifications,
    responses((status = 200, description = "What is said of it then", body = OverrideView)),
)]
async fn say_of_series(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    SeriesId(id): SeriesId,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    say(&app, user.user_id, Subject::Series(id), body).await
}

/// Be notified of a recurring task as of any other
#[utoipa::path(
    delete, path = "/api/recurring-tasks/{id}/notifications", tag = "Notifications",
    security(("bearer" = ["tasks:write"])),
    params(SeriesId),
    responses((status = 204, description = "Nothing is said of it any more")),
)]
async fn unsay_of_series(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    SeriesId(id): SeriesId,
) -> Result<Answer, Problem> {
    unsay(&app, user.user_id, Subject::Series(id)).await
}

fn no_such(subject: Subject) -> Problem {
    match subject {
        Subject::Task(_) => Problem::no_such_task(),
        Subject::Series(_) => no_such_series(),
    }
}

async fn said(app: &App, user_id: Uuid, subject: Subject) -> Result<Answer, Problem> {
    let said = app
        .database(async move |pool| Ok(store::said(&pool, user_id, subject).await?))
        .await?;
    let said = said.ok_or_else(|| no_such(subject))?;
    Answer::json(StatusCode::OK, &OverrideView::from(said))
}

async fn say(
    app: &App,
    user_id: Uuid,
    subject: Subject,
    body: Map<String, Value>,
) -> Result<Answer, Problem> {
    let said = read_override(body)?;
    app.transaction(move |tx| {
        Box::pin(async move {
            let before = store::said(&mut *tx, user_id, subject).await?;
            before.ok_or_else(|| no_such(subject))?;
            store::say(tx, user_id, subject, &said).await?;
            Answer::json(StatusCode::OK, &OverrideView::from(said))
        })
    })
    .await
}

async fn unsay(app: &App, user_id: Uuid, subject: Subject) -> Result<Answer, Problem> {
    app.transaction(move |tx| {
        Box::pin(async move {
            let before = store::said(&mut *tx, user_id, subject).await?;
            before.ok_or_else(|| no_such(subject))?;
            store::unsay(tx, user_id, subject).await?;
            Ok(Answer::empty(StatusCode::NO_CONTENT))
        })
    })
    .await
}

/// A page of notifications.
#[derive(Serialize, ToSchema)]
struct NotificationPage<'a> {
    items: Vec<NotificationView<'a>>,
    /// Where the next page starts; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which notifications are listed.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description of what is read parameter by parameter")]
struct Filters {
    /// Only those that are unread.
    #[param(default = false)]
    unread: Option<bool>,
}

/// List notifications
///
/// Newest first: what rang, what was missed, what could not be sent.
#[utoipa::path(
    get, path = "/api/notifications", tag = "Notifications", security(("bearer" = ["tasks:read"])),
    params(Filters, PageParameters),
    responses((status = 200, description = "A page of notifications", body = NotificationPage)),
)]
async fn list(State(app): State<App>, CurrentUser(user): CurrentUser, uri: Uri) -> Result<Response, Problem> {
    let user_id = user.user_id;
    let mut parameters = Parameters::of(&uri)?;
    let unread = parameters.one("unread", |place, value| {
        let truth = |name: &str| name.parse::<bool>().ok();
        read::choice(place, value, truth, "true, false")
    });
    let unread = unread.unwrap_or_default();
    let page: Page<Position> = Page::take(
        &mut parameters,
        &app.cursors,
        "notifications",
        user_id,
        unread.to_string(),
    );
    parameters.finish()?;
    let rows = page.rows();
    let (page, mut found) = app
        .database(async move |pool| {
            let mut page = page;
            let found = store::list(&pool, user_id, unread, page.after.take(), rows).await?;
            Ok((page, found))
        })
        .await?;
    let last = page.cut(&mut found).map(|last| Position {
        at: last.at,
        id: last.id,
    });
    let next_cursor = last.map(|last| page.cursor(&app.cursors, &last)).transpose()?;
    Ok(Json(NotificationPage {
        items: found.iter().map(NotificationView::from).collect(),
        next_cursor,
    })
    .into_response())
}

/// Count unread notifications
#[utoipa::path(
    get, path = "/api/notifications/unread", tag = "Notifications", security(("bearer" = ["tasks:read"])),
    responses((status = 200, description = "How many there are", body = UnreadView)),
)]
async fn unread(State(app): State<App>, CurrentUser(user): CurrentUser) -> Result<Response, Problem> {
    let unread = app
        .database(async move |pool| Ok(store::count_unread(&pool, user.user_id).await?))
        .await?;
    Ok(Json(UnreadView { unread }).into_response())
}

/// Mark a notification as read
#[utoipa::path(
    post, path = "/api/notifications/{id}/read", tag = "Notifications", security(("bearer" = ["tasks:write"])),
    params(NotificationId, IdempotencyKey),
    responses((status = 200, description = "The notification", body = NotificationView)),
)]
async fn read_one(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    NotificationId(id): NotificationId,
    key: IdempotencyKey,
) -> Result<Answer, Problem> {
    app.once_by_one_statement(user.user_id, key, move |tx| {
        Box::pin(async move {
            let read = store::read(tx, user.user_id, id).await?;
            let read = read.ok_or_else(no_such_notification)?;
            Answer::json(StatusCode::OK, &NotificationView::from(&read))
        })
    })
    .await
}

/// Mark notifications as read
///
/// With `until`, the time of the newest that was shown, those that came since stay unread.
#[utoipa::path(
    post, path = "/api/notifications/read", tag = "Notifications", security(("bearer" = ["tasks:write"])),
    params(IdempotencyKey),
    request_body = NotificationsToRead,
    responses((status = 200, description = "How many were unread", body = ReadView)),
)]
async fn read_all(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    key: IdempotencyKey,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    let until = read_until(body)?;
    app.once_by_one_statement(user.user_id, key, move |tx| {
        Box::pin(async move {
            let read = store::read_all(tx, user.user_id, until).await?;
            Answer::json(StatusCode::OK, &ReadView { read })
        })
    })
    .await
}
