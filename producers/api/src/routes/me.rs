//! One's own account.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::confirm_password;
use crate::App;
use crate::accounts::body::{AccountPatch, Confirmation, EmailChange};
use crate::accounts::{
    self, Deletion, NewEmail, ProfilePatch, Suppressed, User, deletion, export as exports, links, moves,
};
use crate::client_address::ClientAddress;
use crate::extract::{FullSession, IfMatch, JsonObject};
use crate::input::Problems;
use crate::problem::{Kind, Problem, ProblemDocument};

/// `/api/me`, `/api/me/email` and `/api/me/export`
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(read, update, delete))
        .routes(routes!(read_email, change_email))
        .routes(routes!(export))
}

/// Get the own account
#[utoipa::path(
    get, path = "/api/me", tag = "Accounts", security(("bearer" = [])),
    responses(
        (status = 200, description = "The account", body = User, headers(("ETag" = String, description = "Its version"))),
    ),
)]
async fn read(State(app): State<App>, FullSession(user): FullSession) -> Result<Response, Problem> {
    let user = app
        .database(async move |pool| Ok(accounts::find(&pool, user.user_id).await?))
        .await?;
    user.map(|user| shown(&user)).ok_or_else(Problem::no_such_account)
}

/// Change the own account
///
/// A merge patch. Access tokens that are out carry the zone that there was; the next one carries the new. With another zone
/// or `whole_day_time` open tasks and recurring tasks that follow the person are rewritten: most of the time they are when the
/// answer comes, and otherwise shortly after.
#[utoipa::path(
    patch, path = "/api/me", tag = "Accounts", security(("bearer" = [])),
    params(IfMatch),
    request_body = AccountPatch,
    responses(
        (status = 200, description = "The account as it is then", body = User, headers(("ETag" = String, description = "Its version"))),
    ),
)]
async fn update(
    State(app): State<App>,
    FullSession(user): FullSession,
    if_match: IfMatch,
    JsonObject(body): JsonObject,
) -> Result<Response, Problem> {
    let patch = ProfilePatch::read(body)?;
    let moved = Arc::clone(&app.accounts.moved);
    let user = app
        .database(async move |pool| {
            let mut tx = pool.begin().await?;
            let before = accounts::find(&mut *tx, user.user_id)
                .await?
                .ok_or_else(Problem::no_such_account)?;
            if_match.check(before.version)?;
            let Some(profile) = patch.apply(&before) else {
                return Ok(before);
            };
            let moves = profile.moves(&before);
            if moves {
                moves::ask(&mut tx, before.id).await?;
            }
            // Checked and raised in one statement: of two changes of one version, one wins.
            let after = accounts::update_profile(&mut *tx, &before, &profile)
                .await?
                .ok_or_else(|| {
                    Problem::new(Kind::StaleVersion, "The account has just changed: read it again.")
                })?;
            tx.commit().await?;
            if moves {
                moves::begin(&pool, after.id).await;
                moved.notify_one();
            }
            Ok(after)
        })
        .await?;
    Ok(shown(&user))
}

/// The own address, and whether mail arrives there.
#[derive(Serialize, ToSchema)]
struct Address {
    /// As given, its domain in lower case.
    email: String,
    /// Whether a mail to it was answered.
    verified: bool,
    /// Set while mail does not arrive there: no reminders are sent then. Verifying the address again ends it.
    #[schema(required)]
    suppressed: Option<Suppressed>,
}

/// Get the own address
///
/// And whether mail to it is suppressed, because it was refused for good or came back. `POST /api/auth/verify-email/send` mails a
/// link there all the same; using it ends the suppression.
#[utoipa::path(
    get, path = "/api/me/email", tag = "Accounts", security(("bearer" = [])),
    responses((status = 200, description = "The address", body = Address)),
)]
async fn read_email(
    State(app): State<App>,
    FullSession(user): FullSession,
) -> Result<Json<Address>, Problem> {
    let (user, suppressed) = app
        .database(async move |pool| {
            let found = accounts::find(&pool, user.user_id).await?;
            let found = found.ok_or_else(Problem::no_such_account)?;
            let suppressed = accounts::suppressed(&pool, found.id).await?;
            Ok((found, suppressed))
        })
        .await?;
    Ok(Json(Address {
        email: user.email,
        verified: user.email_verified,
        suppressed,
    }))
}

/// Change the address
///
/// Mails a link to the new address, and a notice to the one that there is. The address changes when the link is used. Answers
/// the same whether the new one has an account.
#[utoipa::path(
    post, path = "/api/me/email", tag = "Accounts", security(("bearer" = [])),
    request_body = EmailChange,
    responses(
        (status = 202, description = "The mails are on their way"),
        (status = 403, description = "The password is wrong, or the token is no session's", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn change_email(
    State(app): State<App>,
    FullSession(user): FullSession,
    client: ClientAddress,
    JsonObject(body): JsonObject,
) -> Result<StatusCode, Problem> {
    let NewEmail { email, password } = NewEmail::read(body)?;
    confirm_password(&app, user.user_id, client, password).await?;
    app.accounts.throttle.mail(client.0)?;
    let sent = app
        .database(async move |pool| {
            let user = accounts::find(&pool, user.user_id)
                .await?
                .ok_or_else(Problem::no_such_account)?;
            let mut problems = Problems::default();
            if user.email == email {
                problems.add("/email", "must be another one than the account has");
            }
            problems.finish(Some(()))?;
            Ok(links::send_change(&pool, user.id, &user.email, &email).await?)
        })
        .await?;
    if sent {
        return Ok(StatusCode::ACCEPTED);
    }
    // Said openly, for it depends on this person alone: else a second address would wait for a mail that does not come.
    let detail =
        "A mail went out less than a minute ago, or too many links are open: wait, or use one of them.";
    Err(Problem::new(Kind::TooManyAttempts, detail).with_retry_after(links::PAUSE))
}

/// Delete the own account
///
/// It is closed at once; its tasks are deleted within moments, everything else within the promised days.
#[utoipa::path(
    delete, path = "/api/me", tag = "Accounts", security(("bearer" = [])),
    request_body = Confirmation,
    responses(
        (status = 204, description = "It is closed"),
        (status = 403, description = "The password is wrong, or the token is no session's", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn delete(
    State(app): State<App>,
    FullSession(user): FullSession,
    client: ClientAddress,
    JsonObject(body): JsonObject,
) -> Result<StatusCode, Problem> {
    let Deletion { password } = Deletion::read(body)?;
    confirm_password(&app, user.user_id, client, password).await?;
    app.database(async move |pool| {
        let mut tx = pool.begin().await?;
        deletion::delete(&mut tx, user.user_id).await?;
        tx.commit().await?;
        Ok(())
    })
    .await?;
    app.accounts.revocations.add([user.user_id]);
    app.accounts.deleted.notify_one();
    Ok(StatusCode::NO_CONTENT)
}

/// Export everything
///
/// The account with all that is kept of it, as one document that is written while it is read.
#[utoipa::path(
    get, path = "/api/me/export", tag = "Accounts", security(("bearer" = [])),
    responses(
        (status = 200, description = "Everything", body = Object, headers(("Content-Disposition" = String, description = "attachment"))),
    ),
)]
async fn export(State(app): State<App>, FullSession(user): FullSession) -> Result<Response, Problem> {
    let user = app
        .database(async move |pool| Ok(accounts::find(&pool, user.user_id).await?))
        .await?
        .ok_or_else(Problem::no_such_account)?;
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"carillon.json\"",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, exports::document(app, user)).into_response())
}

fn shown(user: &User) -> Response {
    let mut response = Json(user).into_response();
    if let Ok(etag) = HeaderValue::try_from(format!("\"{}\"", user.version)) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}
