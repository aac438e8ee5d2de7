//! Getting an account, sessions and access tokens, and back into an account.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::App;
use crate::accounts::body;
use crate::accounts::links::{self, Purpose};
use crate::accounts::sessions::{self, Refresh, Session};
use crate::accounts::{
    self, Credentials, ForgotPassword, LinkToken, NewPassword, RefreshToken, Registration, ResetPassword,
    User, reset_requests,
};
use crate::client_address::{ClientAddress, UserAgent};
use crate::extract::{FullSession, JsonObject};
use crate::problem::{Kind, Problem, ProblemDocument};

/// `/api/auth/…` and `/.well-known/jwks.json`.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(logout_all))
        .routes(routes!(change_password))
        .routes(routes!(send_verification))
        .routes(routes!(verify_email))
        .routes(routes!(forgot_password))
        .routes(routes!(reset_password))
        .routes(routes!(change_email))
        .routes(routes!(jwks))
        .routes(routes!(jwks_again))
}

/// Register
///
/// Makes an account and logs in to it.
#[utoipa::path(
    post, path = "/api/auth/register", tag = "Accounts",
    request_body = body::NewAccount,
    responses(
        (status = 201, description = "The account, and tokens", body = SignedIn, headers(("Cache-Control" = String, description = "no-store"))),
        (status = 409, description = "The address has an account", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn register(
    State(app): State<App>,
    agent: UserAgent,
    JsonObject(body): JsonObject,
) -> Result<Response, Problem> {
    let registration = Registration::read(body)?;
    let password_hash = app.passwords.hash(registration.password.clone()).await?;
    let user = registration.into_user(Uuid::now_v7(), schemas::now());
    let (ttl, mail) = (app.accounts.refresh_ttl, app.accounts.verify_at_registration);
    let (user, session) = app
        .database(async move |pool| {
            let mut tx = pool.begin().await?;
            accounts::insert(&mut *tx, &user, Some(&password_hash)).await?;
            let session = sessions::begin(&mut *tx, user.id, ttl, &agent).await?;
            if mail {
                links::send(&mut *tx, user.id, Purpose::VerifyEmail, &user.email).await?;
            }
            tx.commit().await?;
            Ok((user, session))
        })
        .await?;
    signed_in(&app, StatusCode::CREATED, &user, &session)
}

/// Log in
#[utoipa::path(
    post, path = "/api/auth/login", tag = "Accounts",
    request_body = body::Login,
    responses(
        (status = 200, description = "The account, and tokens", body = SignedIn, headers(("Cache-Control" = String, description = "no-store"))),
        (status = 401, description = "No account has this address and password", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn login(
    State(app): State<App>,
    client: ClientAddress,
    agent: UserAgent,
    JsonObject(body): JsonObject,
) -> Result<Response, Problem> {
    let Credentials { email, password } = Credentials::read(body)?;
    app.accounts.throttle.attempt(&email, client.0)?;
    let asked = email.clone();
    let found = app
        .database(async move |pool| Ok(accounts::find_by_email(&pool, &asked).await?))
        .await?;
    let (user, hash) = found.unzip();
    let right = app.passwords.verify(password, hash.flatten()).await?;
    // One answer for an unknown address and for a wrong password.
    let user = user.filter(|_| right).ok_or_else(wrong_credentials)?;
    app.accounts.throttle.welcome(&email, client.0);
    let (user_id, ttl) = (user.id, app.accounts.refresh_ttl);
    let session = app
        .database(async move |pool| Ok(sessions::begin(&pool, user_id, ttl, &agent).await?))
        .await?;
    signed_in(&app, StatusCode::OK, &user, &session)
}

fn wrong_credentials() -> Problem {
    Problem::new(
        Kind::WrongCredentials,
        "No account has this address and this password.",
    )
}

/// Renew a session
///
/// The refresh token is good once: the answer has the next one. One that comes a second time ends its session.
#[utoipa::path(
    post, path = "/api/auth/refresh", tag = "Accounts",
    request_body = body::Refresh,
    responses(
        (status = 200, description = "The account, and new tokens", body = SignedIn, headers(("Cache-Control" = String, description = "no-store"))),
        (status = 401, description = "The refresh token is not good (any more)", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn refresh(
    State(app): State<App>,
    agent: UserAgent,
    JsonObject(body): JsonObject,
) -> Result<Response, Problem> {
    let RefreshToken(token) = RefreshToken::read(body)?;
    let ttl = app.accounts.refresh_ttl;
    let (outcome, user) = app
        .database(async move |pool| {
            let mut tx = pool.begin().await?;
            let outcome = sessions::refresh(&mut tx, token.expose_secret(), ttl, &agent).await?;
            let user = match &outcome {
                Refresh::Renewed(session) => accounts::find(&mut *tx, session.user_id).await?,
                _ => None,
            };
            // Commits the end of a session as well.
            tx.commit().await?;
            Ok((outcome, user))
        })
        .await?;
    let refused = |detail| Err(Problem::new(Kind::InvalidRefreshToken, detail));
    match (outcome, user) {
        (Refresh::Renewed(session), Some(user)) => signed_in(&app, StatusCode::OK, &user, &session),
        (Refresh::Reused(session), _) => {
            app.accounts.revocations.add([session]);
            tracing::info!(session.id = %session, "a refresh token came a second time; its session has ended");
            refused("The refresh token was used before, so its session has ended: log in again.")
        }
        _ => refused("The refresh token is not one of this service, or its session has ended: log in again."),
    }
}

/// Log out
///
/// Ends the session that the refresh token belongs to. Answers the same where there is none (RFC 7009 section 2.2).
#[utoipa::path(
    post, path = "/api/auth/logout", tag = "Accounts",
    request_body = body::Refresh,
    responses(
        (status = 204, description = "The session has ended"),
    ),
)]
async fn logout(State(app): State<App>, JsonObject(body): JsonObject) -> Result<StatusCode, Problem> {
    let RefreshToken(token) = RefreshToken::read(body)?;
    let ended = app
        .database(async move |pool| Ok(sessions::end(&pool, token.expose_secret()).await?))
        .await?;
    app.accounts.revocations.add(ended);
    Ok(StatusCode::NO_CONTENT)
}

/// Log out everywhere
///
/// Ends every session of the person. Personal access tokens stay.
#[utoipa::path(
    post, path = "/api/auth/logout-all", tag = "Accounts", security(("bearer" = [])),
    responses(
        (status = 204, description = "Every session has ended"),
    ),
)]
async fn logout_all(State(app): State<App>, FullSession(user): FullSession) -> Result<StatusCode, Problem> {
    let ended = app
        .database(async move |pool| Ok(sessions::end_all(&pool, user.user_id, None).await?))
        .await?;
    app.accounts.revocations.add(ended);
    Ok(StatusCode::NO_CONTENT)
}

/// Change the password
///
/// Ends every other session, and makes links void that would set another password or change the address.
#[utoipa::path(
    post, path = "/api/auth/password", tag = "Accounts", security(("bearer" = [])),
    request_body = body::PasswordChange,
    responses(
        (status = 204, description = "It is changed"),
        (status = 403, description = "The old password is wrong, or the token is no session's", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn change_password(
    State(app): State<App>,
    FullSession(user): FullSession,
    client: ClientAddress,
    JsonObject(body): JsonObject,
) -> Result<StatusCode, Problem> {
    let NewPassword { old, new } = NewPassword::read(body)?;
    let old_hash = confirm_password(&app, user.user_id, client, old).await?;
    let new_hash = app.passwords.hash(new).await?;
    let ended = app
        .database(async move |pool| {
            let mut tx = pool.begin().await?;
            if !accounts::change_password(&mut *tx, user.user_id, Some(&old_hash), &new_hash).await? {
                // Somebody was faster.
                return Err(wrong_password());
            }
            links::forget(&mut *tx, user.user_id).await?;
            let ended = sessions::end_all(&mut *tx, user.user_id, user.session).await?;
            tx.commit().await?;
            Ok(ended)
        })
        .await?;
    app.accounts.revocations.add(ended);
    Ok(StatusCode::NO_CONTENT)
}

/// Checks the password of someone who has a session already: a session that was left open is not enough for everything.
/// Returns its hash.
pub(super) async fn confirm_password(
    app: &App,
    user_id: Uuid,
    client: ClientAddress,
    password: secrecy::SecretString,
) -> Result<String, Problem> {
    let account = user_id.to_string();
    app.accounts.throttle.attempt(&account, client.0)?;
    let hash = app
        .database(async move |pool| Ok(accounts::password_hash(&pool, user_id).await?))
        .await?
        .ok_or_else(Problem::no_such_account)?;
    let right = app.passwords.verify(password, hash.clone()).await?;
    match hash.filter(|_| right) {
        Some(hash) => {
            app.accounts.throttle.welcome(&account, client.0);
            Ok(hash)
        }
        None => Err(wrong_password()),
    }
}

fn wrong_password() -> Problem {
    Problem::new(
        Kind::WrongPassword,
        "This is not the account's password. If it has none or you have forgotten it, ask for a mail.",
    )
}

/// Ask for a link to verify the address
///
/// Nothing is mailed when the address is verified, or a link went out less than a minute ago.
#[utoipa::path(
    post, path = "/api/auth/verify-email/send", tag = "Accounts", security(("bearer" = [])),
    responses(
        (status = 202, description = "The mail is on its way, if one is needed"),
    ),
)]
async fn send_verification(
    State(app): State<App>,
    FullSession(user): FullSession,
    client: ClientAddress,
) -> Result<StatusCode, Problem> {
    app.accounts.throttle.mail(client.0)?;
    app.database(async move |pool| {
        let user = accounts::find(&pool, user.user_id)
            .await?
            .ok_or_else(Problem::no_such_account)?;
        let wanted = !user.email_verified || accounts::suppressed(&pool, user.id).await?.is_some();
        if wanted {
            links::send(&pool, user.id, Purpose::VerifyEmail, &user.email).await?;
        }
        Ok(())
    })
    .await?;
    Ok(StatusCode::ACCEPTED)
}

/// Verify the address
///
/// By the secret of the link that was mailed to it.
#[utoipa::path(
    post, path = "/api/auth/verify-email", tag = "Accounts",
    request_body = body::Verification,
    responses(
        (status = 204, description = "It is verified"),
    ),
)]
async fn verify_email(State(app): State<App>, JsonObject(body): JsonObject) -> Result<StatusCode, Problem> {
    let LinkToken(token) = LinkToken::read(body)?;
    let verified = app
        .database(async move |pool| {
            let mut tx = pool.begin().await?;
            let verified = links::verify_email(&mut tx, token.expose_secret()).await?;
            tx.commit().await?;
            Ok(verified)
        })
        .await?;
    if verified {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(invalid_link())
    }
}

fn invalid_link() -> Problem {
    Problem::new(
        Kind::InvalidLink,
        "The link was used before, or it is too old: ask for a new one.",
    )
}

/// Ask for a link to set a new password
///
/// Answers the same whether the address has an account.
#[utoipa::path(
    post, path = "/api/auth/forgot-password", tag = "Accounts",
    request_body = body::Forgotten,
    responses(
        (status = 202, description = "The mail is on its way, if there is an account"),
    ),
)]
async fn forgot_password(
    State(app): State<App>,
    client: ClientAddress,
    JsonObject(body): JsonObject,
) -> Result<StatusCode, Problem> {
    let ForgotPassword { email } = ForgotPassword::read(body)?;
    app.accounts.throttle.mail(client.0)?;
    // Whether there is an account is not looked at here, so neither the answer nor its time can tell.
    app.database(async move |pool| Ok(reset_requests::insert(&pool, &email).await?))
        .await?;
    app.accounts.forgotten.notify_one();
    Ok(StatusCode::ACCEPTED)
}

/// Set a new password by a mailed link
///
/// Ends every session.
#[utoipa::path(
    post, path = "/api/auth/reset-password", tag = "Accounts",
    request_body = body::PasswordReset,
    responses(
        (status = 204, description = "It is set"),
    ),
)]
async fn reset_password(
    State(app): State<App>,
    client: ClientAddress,
    JsonObject(body): JsonObject,
) -> Result<StatusCode, Problem> {
    let ResetPassword { token, password } = ResetPassword::read(body)?;
    app.accounts.throttle.mail(client.0)?;
    let hash = app.passwords.hash(password).await?;
    let reset = app
        .database(async move |pool| {
            let mut tx = pool.begin().await?;
            let reset = links::reset_password(&mut tx, token.expose_secret(), &hash).await?;
            tx.commit().await?;
            Ok(reset)
        })
        .await?
        .ok_or_else(invalid_link)?;
    app.accounts.revocations.add(reset.sessions);
    app.accounts.throttle.welcome(&reset.email, client.0);
    Ok(StatusCode::NO_CONTENT)
}

/// Change the address by a mailed link
///
/// The account has the address that the link was mailed to from then on. `POST /api/me/email` mails it.
#[utoipa::path(
    post, path = "/api/auth/change-email", tag = "Accounts",
    request_body = body::Verification,
    responses(
        (status = 204, description = "It is changed"),
        (status = 409, description = "By now the address has an account of its own", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn change_email(State(app): State<App>, JsonObject(body): JsonObject) -> Result<StatusCode, Problem> {
    let LinkToken(token) = LinkToken::read(body)?;
    let changed = app
        .database(async move |pool| {
            let mut tx = pool.begin().await?;
            let changed = links::change_email(&mut tx, token.expose_secret()).await?;
            tx.commit().await?;
            Ok(changed)
        })
        .await?;
    if changed {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(invalid_link())
    }
}

/// A person, and what to ask with.
#[derive(Serialize, ToSchema)]
struct SignedIn<'a> {
    user: &'a User,
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Seconds for which the access token is good.
    expires_in: u64,
    /// Good once, for the next access token.
    refresh_token: &'a str,
    /// Seconds for which the refresh token is good.
    refresh_expires_in: u64,
}

fn signed_in(app: &App, status: StatusCode, user: &User, session: &Session) -> Result<Response, Problem> {
    let answer = SignedIn {
        user,
        access_token: app
            .tokens
            .issue_for_session(user.id, &user.timezone, session.id)
            .map_err(Problem::internal)?,
        token_type: "Bearer",
        expires_in: app.tokens.ttl().as_secs(),
        refresh_token: &session.refresh_token,
        refresh_expires_in: app.accounts.refresh_ttl.as_secs(),
    };
    // RFC 6749 section 5.1: tokens are never cached.
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((status, no_store, Json(answer)).into_response())
}

/// Public keys of the access tokens
///
/// A JWK set (RFC 7517).
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "Accounts",
    responses(
        (status = 200, description = "The keys", body = Object),
    ),
)]
async fn jwks(State(app): State<App>) -> Result<Response, Problem> {
    let cached = [(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=300"),
    )];
    let keys = app.tokens.jwks().map_err(Problem::internal)?;
    Ok((cached, Json(keys)).into_response())
}

/// Public keys of the access tokens, again
///
/// The same document for those who look for it here.
#[utoipa::path(
    get, path = "/api/auth/jwks", tag = "Accounts",
    responses((status = 200, description = "The keys", body = Object)),
)]
async fn jwks_again(app: State<App>) -> Result<Response, Problem> {
    jwks(app).await
}
