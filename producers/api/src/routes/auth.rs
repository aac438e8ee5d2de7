//! Getting an account, and access tokens.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::App;
use crate::accounts::{self, Credentials, Login, NewAccount, Registration, User};
use crate::extract::JsonObject;
use crate::problem::{Kind, Problem, ProblemDocument};

/// `/api/auth/…` and `/.well-known/jwks.json`.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(jwks))
}

/// Register
///
/// Makes an account and logs in to it.
#[utoipa::path(
    post, path = "/api/auth/register", tag = "Accounts",
    request_body = NewAccount,
    responses(
        (status = 201, description = "The account, and a token", body = SignedIn),
        (status = 409, description = "The address has an account", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn register(State(app): State<App>, JsonObject(body): JsonObject) -> Result<Response, Problem> {
    let registration = Registration::read(body)?;
    let password_hash = app.passwords.hash(registration.password.clone()).await?;
    let user = registration.into_user(Uuid::now_v7(), schemas::now());
    let user = app
        .database(async move |pool| {
            accounts::insert(&pool, &user, &password_hash).await?;
            Ok(user)
        })
        .await?;
    signed_in(&app, StatusCode::CREATED, &user)
}

/// Log in
#[utoipa::path(
    post, path = "/api/auth/login", tag = "Accounts",
    request_body = Login,
    responses(
        (status = 200, description = "The account, and a token", body = SignedIn),
        (status = 401, description = "No account has this address and password", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn login(State(app): State<App>, JsonObject(body): JsonObject) -> Result<Response, Problem> {
    let Credentials { email, password } = Credentials::read(body)?;
    let found = app
        .database(async move |pool| Ok(accounts::find_by_email(&pool, &email).await?))
        .await?;
    let (user, hash) = found.unzip();
    let right = app.passwords.verify(password, hash).await?;
    // One answer for an unknown address and for a wrong password.
    match user.filter(|_| right) {
        Some(user) => signed_in(&app, StatusCode::OK, &user),
        None => Err(Problem::new(
            Kind::WrongCredentials,
            "No account has this address and this password.",
        )),
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
}

fn signed_in(app: &App, status: StatusCode, user: &User) -> Result<Response, Problem> {
    let answer = SignedIn {
        user,
        access_token: app
            .tokens
            .issue(user.id, &user.timezone)
            .map_err(Problem::internal)?,
        token_type: "Bearer",
        expires_in: app.tokens.ttl().as_secs(),
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
    responses((status = 200, description = "The keys", body = Object)),
)]
async fn jwks(State(app): State<App>) -> Response {
    let cached = [(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=300"),
    )];
    (cached, Json(app.tokens.jwks())).into_response()
}
