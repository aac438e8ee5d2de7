//! One's own sessions, each where one has logged in.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::accounts::sessions::{self, OpenSession};
use crate::extract::{FullSession, path_id};
use crate::page::{Page, PageParameters};
use crate::problem::{Kind, Problem};

/// `/api/me/sessions…`
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(delete))
}

path_id! {
    /// The id of a session, from the path.
    struct SessionId else no_such_session
}

fn no_such_session() -> Problem {
    Problem::new(Kind::NotFound, "There is no open session with this id.")
}

/// A page of sessions.
#[derive(Serialize, ToSchema)]
struct SessionPage {
    items: Vec<OpenSession>,
    /// Where the next page starts; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// List sessions
///
/// Those that have not ended, by when they began, newest first.
#[utoipa::path(
    get, path = "/api/me/sessions", tag = "Accounts", security(("bearer" = [])),
    params(PageParameters),
    responses(
        (status = 200, description = "A page of sessions", body = SessionPage),
    ),
)]
async fn list(State(app): State<App>, FullSession(user): FullSession, uri: Uri) -> Result<Response, Problem> {
    let page = Page::read(&uri, &app.cursors, "sessions", user.user_id)?;
    let (rows, after) = (page.rows(), page.after);
    let mut items = app
        .database(async move |pool| Ok(sessions::list(&pool, user.user_id, user.session, after, rows).await?))
        .await?;
    let last = page.cut(&mut items).map(|last| last.id);
    let next_cursor = last.map(|last| page.cursor(&app.cursors, &last)).transpose()?;
    Ok(Json(SessionPage { items, next_cursor }).into_response())
}

/// End a session
///
/// Its access tokens are refused from now on, and its refresh token renews nothing. It may be the one that asks.
#[utoipa::path(
    delete, path = "/api/me/sessions/{id}", tag = "Accounts", security(("bearer" = [])),
    params(SessionId),
    responses(
        (status = 204, description = "It has ended"),
    ),
)]
async fn delete(
    State(app): State<App>,
    FullSession(user): FullSession,
    SessionId(id): SessionId,
) -> Result<StatusCode, Problem> {
    let ended = app
        .database(async move |pool| Ok(sessions::end_one(&pool, user.user_id, id).await?))
        .await?;
    if !ended {
        return Err(no_such_session());
    }
    app.accounts.revocations.add([id]);
    Ok(StatusCode::NO_CONTENT)
}
