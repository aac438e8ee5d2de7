//! One's own personal access tokens.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::accounts::NewToken;
use crate::accounts::body::NewPersonalToken;
use crate::accounts::personal_tokens::{self, PersonalToken};
use crate::extract::{FullSession, JsonObject, path_id};
use crate::problem::{Kind, Problem, ProblemDocument};

/// `/api/me/tokens…`
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(read, delete))
}

path_id! {
    /// The id of a personal access token, from the path.
    struct TokenId else no_such_token
}

fn no_such_token() -> Problem {
    Problem::new(Kind::NotFound, "There is no token with this id.")
}

/// A personal access token with its secret, which is shown this once.
#[derive(Serialize, ToSchema)]
struct CreatedToken<'a> {
    #[serde(flatten)]
    shown: &'a PersonalToken,
    /// The secret.
    token: &'a str,
}

/// All personal access tokens of a person.
#[derive(Serialize, ToSchema)]
struct TokenList {
    items: Vec<PersonalToken>,
}

/// Make a personal access token
///
/// For scripts. The secret is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/api/me/tokens", tag = "Accounts", security(("bearer" = [])),
    request_body = NewPersonalToken,
    responses(
        (status = 201, description = "The token", body = CreatedToken,
         headers(("Location" = String, description = "Its path"), ("Cache-Control" = String, description = "no-store"))),
        (status = 409, description = "There are as many as there may be", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn create(
    State(app): State<App>,
    FullSession(user): FullSession,
    JsonObject(body): JsonObject,
) -> Result<Response, Problem> {
    let asked = NewToken::read(body, schemas::now())?;
    let (shown, token) = app
        .database(async move |pool| personal_tokens::create(&pool, user.user_id, asked).await)
        .await?;
    let created = CreatedToken {
        shown: &shown,
        token: &token,
    };
    let mut response = (StatusCode::CREATED, Json(created)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(location) = HeaderValue::try_from(format!("/api/me/tokens/{}", shown.id)) {
        headers.insert(header::LOCATION, location);
    }
    Ok(response)
}

/// List personal access tokens
///
/// All of them, newest first: at most 50.
#[utoipa::path(
    get, path = "/api/me/tokens", tag = "Accounts", security(("bearer" = [])),
    responses(
        (status = 200, description = "The tokens", body = TokenList),
    ),
)]
async fn list(State(app): State<App>, FullSession(user): FullSession) -> Result<Response, Problem> {
    let items = app
        .database(async move |pool| Ok(personal_tokens::list(&pool, user.user_id).await?))
        .await?;
    Ok(Json(TokenList { items }).into_response())
}

/// Get a personal access token
#[utoipa::path(
    get, path = "/api/me/tokens/{id}", tag = "Accounts", security(("bearer" = [])),
    params(TokenId),
    responses(
        (status = 200, description = "The token", body = PersonalToken),
    ),
)]
async fn read(
    State(app): State<App>,
    FullSession(user): FullSession,
    TokenId(id): TokenId,
) -> Result<Response, Problem> {
    let token = app
        .database(async move |pool| Ok(personal_tokens::get(&pool, user.user_id, id).await?))
        .await?;
    token
        .map(|token| Json(token).into_response())
        .ok_or_else(no_such_token)
}

/// Take a personal access token back
#[utoipa::path(
    delete, path = "/api/me/tokens/{id}", tag = "Accounts", security(("bearer" = [])),
    params(TokenId),
    responses(
        (status = 204, description = "It opens nothing any more"),
    ),
)]
async fn delete(
    State(app): State<App>,
    FullSession(user): FullSession,
    TokenId(id): TokenId,
) -> Result<StatusCode, Problem> {
    let deleted = app
        .database(async move |pool| Ok(personal_tokens::delete(&pool, user.user_id, id).await?))
        .await?;
    if deleted {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_such_token())
    }
}
