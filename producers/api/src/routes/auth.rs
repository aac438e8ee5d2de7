//! Getting an account, and access tokens.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use uuid::Uuid;

use crate::App;
use crate::accounts::{self, Credentials, Registration, User};
use crate::extract::JsonObject;
use crate::problem::{Kind, Problem};

/// `/api/auth/…` and `/.well-known/jwks.json`.
pub fn router() -> Router<App> {
    Router::new()
        .route("/api/auth/register", post(register))
        .route("/api/auth/login", post(login))
        .route("/.well-known/jwks.json", get(jwks))
}

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

fn signed_in(app: &App, status: StatusCode, user: &User) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct SignedIn<'a> {
        user: &'a User,
        access_token: String,
        token_type: &'static str,
        expires_in: u64,
    }
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

async fn jwks(State(app): State<App>) -> Response {
    let cached = [(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=300"),
    )];
    (cached, Json(app.tokens.jwks())).into_response()
}
