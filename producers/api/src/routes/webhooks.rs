//! A person's webhooks, and the log of what was sent there.

use ::webhooks::{STATES, Secret};
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::App;
use crate::answer::Answer;
use crate::extract::{CurrentUser, FullSession, IfMatch, JsonObject, Prefer, path_id};
use crate::idempotency::IdempotencyKey;
use crate::input::read;
use crate::page::{Page, PageParameters};
use crate::problem::{Kind, Problem, ProblemDocument};
use crate::query::Parameters;
use crate::webhooks::view::{
    CreatedView, DeliveryView, NewWebhook, ReplayedView, SecretRotation, SecretView, WebhookPatch,
    WebhookReplay, WebhookView,
};
use crate::webhooks::{self, Replay, Rotation, Webhook, WebhookInput, store};

/// `/api/webhooks…`
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read, update, delete))
        .routes(routes!(show_secret, rotate_secret))
        .routes(routes!(test))
        .routes(routes!(deliveries))
        .routes(routes!(replay_all))
        .routes(routes!(replay))
}

path_id! {
    /// The id of a webhook, from the path.
    struct WebhookId else no_such_webhook
}

fn no_such_webhook() -> Problem {
    Problem::new(Kind::NotFound, "There is no webhook with this id.")
}

fn no_such_delivery() -> Problem {
    Problem::new(Kind::NotFound, "There is no delivery with this id.")
}

/// A delivery of a webhook, from the path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
struct DeliveryId {
    /// The webhook.
    id: Uuid,
    /// The delivery.
    delivery: Uuid,
}

impl<S: Send + Sync> FromRequestParts<S> for DeliveryId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((id, delivery)) = path.map_err(|_| no_such_webhook())?;
        Ok(Self {
            id: read::parse_uuid(&id).ok_or_else(no_such_webhook)?,
            delivery: read::parse_uuid(&delivery).ok_or_else(no_such_delivery)?,
        })
    }
}

/// Create a webhook
///
/// From then on every event of the person is sent there, or those of `event_types`, as
/// [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks) has it. The secret is in this answer, and
/// at `/api/webhooks/{id}/secret`.
#[utoipa::path(
    post, path = "/api/webhooks", tag = "Webhooks", security(("bearer" = ["tasks:write"])),
    params(IdempotencyKey, Prefer),
    request_body = NewWebhook,
    responses(
        (status = 201, description = "The webhook", body = CreatedView,
         headers(("Location" = String, description = "Its path"), ("ETag" = String, description = "Its version"),
                 ("Cache-Control" = String, description = "no-store"))),
        (status = 409, description = "There are as many as there may be", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn create(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    key: IdempotencyKey,
    prefer: Prefer,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    let user_id = user.user_id;
    let mut input = WebhookInput::create(body, &app.webhook_policy)?;
    let secret = own_or_new(std::mem::take(&mut input.secret).value())?;
    let answer = app
        .once(user_id, key, move |tx| {
            Box::pin(async move {
                let webhook = webhooks::create(input, schemas::now());
                store::insert(tx, user_id, &webhook, &secret).await?;
                let location = format!("/api/webhooks/{}", webhook.id);
                Ok(shown(StatusCode::CREATED, &webhook)?.with(header::LOCATION, location))
            })
        })
        .await?;
    Ok(prefer.apply(with_secret(&app, user_id, answer).await?))
}

fn own_or_new(own: Option<Secret>) -> Result<Secret, Problem> {
    own.map_or_else(Secret::generate, Ok).map_err(Problem::internal)
}

/// Adds the secret to the answer that made a webhook: what is kept of it for its `Idempotency-Key` has none.
async fn with_secret(app: &App, user_id: Uuid, answer: Answer) -> Result<Answer, Problem> {
    let mut members: Map<String, Value> = serde_json::from_slice(&answer.body).map_err(Problem::internal)?;
    let id = members
        .get("id")
        .and_then(Value::as_str)
        .and_then(read::parse_uuid);
    let secrets = app
        .database(async move |pool| Ok(store::secrets(&pool, user_id, id.unwrap_or_default()).await?))
        .await?;
    // None, if it was deleted since.
    let current = secrets.iter().find(|kept| kept.expires_at.is_none());
    members.insert(
        "secret".to_owned(),
        current.map(|kept| kept.secret.reveal()).into(),
    );
    let body = serde_json::to_vec(&members).map_err(Problem::internal)?;
    let answer = answer.with(header::CACHE_CONTROL, "no-store");
    Ok(Answer {
        body: body.into(),
        ..answer
    })
}

/// A page of webhooks.
#[derive(Serialize, ToSchema)]
struct WebhookPage<'a> {
    items: Vec<WebhookView<'a>>,
    /// Where the next page starts; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// List webhooks
///
/// Newest first.
#[utoipa::path(
    get, path = "/api/webhooks", tag = "Webhooks", security(("bearer" = ["tasks:read"])),
    params(PageParameters),
    responses((status = 200, description = "A page of webhooks", body = WebhookPage)),
)]
async fn list(State(app): State<App>, CurrentUser(user): CurrentUser, uri: Uri) -> Result<Response, Problem> {
    let page = Page::read(&uri, &app.cursors, "webhooks", user.user_id)?;
    let (rows, after) = (page.rows(), page.after);
    let mut found = app
        .database(async move |pool| Ok(store::list(&pool, user.user_id, after, rows).await?))
        .await?;
    let last = page.cut(&mut found).map(|last| last.id);
    let next_cursor = last.map(|last| page.cursor(&app.cursors, &last)).transpose()?;
    Ok(Json(WebhookPage {
        items: found.iter().map(WebhookView::from).collect(),
        next_cursor,
    })
    .into_response())
}

/// Get a webhook
#[utoipa::path(
    get, path = "/api/webhooks/{id}", tag = "Webhooks", security(("bearer" = ["tasks:read"])),
    params(WebhookId),
    responses((
        status = 200, description = "The webhook", body = WebhookView,
        headers(("ETag" = String, description = "Its version")),
    )),
)]
async fn read(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    WebhookId(id): WebhookId,
) -> Result<Answer, Problem> {
    let webhook = app
        .database(async move |pool| Ok(store::get(&pool, user.user_id, id).await?))
        .await?;
    shown(StatusCode::OK, &webhook.ok_or_else(no_such_webhook)?)
}

/// Change a webhook
///
/// A JSON merge patch (RFC 7396): null puts a field back to its default, and a patch that changes nothing writes nothing.
/// `enabled` stops it and starts it again, also one that was disabled because it failed.
#[utoipa::path(
    patch, path = "/api/webhooks/{id}", tag = "Webhooks", security(("bearer" = ["tasks:write"])),
    params(WebhookId, IfMatch, Prefer),
    request_body(content((WebhookPatch = "application/merge-patch+json"), (WebhookPatch = "application/json"))),
    responses((
        status = 200, description = "The webhook as it is then", body = WebhookView,
        headers(("ETag" = String, description = "Its version")),
    )),
)]
async fn update(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    WebhookId(id): WebhookId,
    if_match: IfMatch,
    prefer: Prefer,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    let user_id = user.user_id;
    let patch = WebhookInput::patch(body, &app.webhook_policy)?;
    let answer = app
        .transaction(move |tx| {
            Box::pin(async move {
                let current = lock(tx, user_id, id, &if_match).await?;
                let Some(webhook) = webhooks::patch(patch, &current, schemas::now()) else {
                    return shown(StatusCode::OK, &current);
                };
                let enabled = webhook.is_enabled() && !current.is_enabled();
                store::update(tx, user_id, &webhook, enabled || webhook.url != current.url).await?;
                shown(StatusCode::OK, &webhook)
            })
        })
        .await?;
    Ok(prefer.apply(answer))
}

/// Delete a webhook
///
/// For good, with its secrets. What waits to be sent there is not sent.
#[utoipa::path(
    delete, path = "/api/webhooks/{id}", tag = "Webhooks", security(("bearer" = ["tasks:write"])),
    params(WebhookId, IfMatch),
    responses((status = 204, description = "It is deleted")),
)]
async fn delete(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    WebhookId(id): WebhookId,
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

/// Show a webhook's secret
///
/// To a person who is logged in, not to a personal access token.
#[utoipa::path(
    get, path = "/api/webhooks/{id}/secret", tag = "Webhooks", security(("bearer" = [])),
    params(WebhookId),
    responses((
        status = 200, description = "The secrets that its requests are signed with", body = SecretView,
        headers(("Cache-Control" = String, description = "no-store")),
    )),
)]
async fn show_secret(
    State(app): State<App>,
    FullSession(user): FullSession,
    WebhookId(id): WebhookId,
) -> Result<Answer, Problem> {
    secrets_of(&app, user.user_id, id).await
}

/// Give a webhook another secret
///
/// The one before signs along for a while, 24 hours unless `old_valid_hours` says otherwise: requests carry a signature
/// of each. To a person who is logged in.
#[utoipa::path(
    post, path = "/api/webhooks/{id}/secret", tag = "Webhooks", security(("bearer" = [])),
    params(WebhookId, IdempotencyKey),
    request_body = SecretRotation,
    responses((
        status = 200, description = "The secrets that its requests are signed with now", body = SecretView,
        headers(("Cache-Control" = String, description = "no-store")),
    )),
)]
async fn rotate_secret(
    State(app): State<App>,
    FullSession(user): FullSession,
    WebhookId(id): WebhookId,
    key: IdempotencyKey,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    let user_id = user.user_id;
    let mut rotation = Rotation::read(body)?;
    let secret = own_or_new(rotation.secret.take())?;
    let done = app
        .once(user_id, key, move |tx| {
            Box::pin(async move {
                lock(tx, user_id, id, &IfMatch::Any).await?;
                store::rotate(tx, user_id, id, &secret, &rotation).await?;
                // What is kept of the answer has no secret.
                Ok(Answer::empty(StatusCode::OK))
            })
        })
        .await?;
    let shown = secrets_of(&app, user_id, id).await?;
    let mut headers = done.headers;
    headers.extend(shown.headers);
    Ok(Answer { headers, ..shown })
}

async fn secrets_of(app: &App, user_id: Uuid, id: Uuid) -> Result<Answer, Problem> {
    let secrets = app
        .database(async move |pool| Ok(store::secrets(&pool, user_id, id).await?))
        .await?;
    let view = SecretView::of(&secrets).ok_or_else(no_such_webhook)?;
    Ok(Answer::json(StatusCode::OK, &view)?.with(header::CACHE_CONTROL, "no-store"))
}

/// Test a webhook
///
/// Has a request of the type `webhook.test` sent there. Its delivery tells what came of it.
#[utoipa::path(
    post, path = "/api/webhooks/{id}/test", tag = "Webhooks", security(("bearer" = ["tasks:write"])),
    params(WebhookId, IdempotencyKey, Prefer),
    responses(
        (status = 202, description = "The delivery, which is sent now", body = DeliveryView),
        (status = 409, description = "Nothing is sent to it", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn test(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    WebhookId(id): WebhookId,
    key: IdempotencyKey,
    prefer: Prefer,
) -> Result<Answer, Problem> {
    let user_id = user.user_id;
    let answer = app
        .once(user_id, key, move |tx| {
            Box::pin(async move {
                enabled(tx, user_id, id).await?;
                let delivery = store::test(tx, user_id, id, schemas::now()).await?;
                Answer::json(StatusCode::ACCEPTED, &DeliveryView::from(&delivery))
            })
        })
        .await?;
    Ok(prefer.apply(answer))
}

/// What is read by [`deliveries`].
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description of what is read parameter by parameter")]
struct DeliveryParameters {
    /// Deliveries that are `pending`, `sent`, `failed`, `suppressed`, or one of these: give each.
    #[param(max_items = 4, example = json!(["failed"]))]
    state: Option<Vec<String>>,
}

/// A page of deliveries.
#[derive(Serialize, ToSchema)]
struct WebhookDeliveryPage<'a> {
    items: Vec<DeliveryView<'a>>,
    /// Where the next page starts; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// List a webhook's deliveries
///
/// Newest first, each with its requests and what was answered. They are kept for some months.
#[utoipa::path(
    get, path = "/api/webhooks/{id}/deliveries", tag = "Webhooks", security(("bearer" = ["tasks:read"])),
    params(WebhookId, DeliveryParameters, PageParameters),
    responses((status = 200, description = "A page of deliveries", body = WebhookDeliveryPage)),
)]
async fn deliveries(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    WebhookId(id): WebhookId,
    uri: Uri,
) -> Result<Response, Problem> {
    let user_id = user.user_id;
    let mut parameters = Parameters::of(&uri)?;
    let states = parameters.list("state", STATES.len(), |place, value| {
        read::choice(
            place,
            value,
            |name| STATES.into_iter().find(|state| *state == name),
            "pending, sent, failed, suppressed",
        )
    });
    let list = format!("{id} {states:?}");
    let page: Page<store::Position> =
        Page::take(&mut parameters, &app.cursors, "webhook deliveries", user_id, list);
    parameters.finish()?;
    let (rows, after) = (page.rows(), page.after);
    let mut found = app
        .transaction(move |tx| {
            Box::pin(async move {
                store::get(&mut *tx, user_id, id)
                    .await?
                    .ok_or_else(no_such_webhook)?;
                Ok(store::deliveries(tx, user_id, id, &states, after, rows).await?)
            })
        })
        .await?;
    let last = page.cut(&mut found).map(|last| store::Position {
        created_at: last.created_at,
        id: last.id,
    });
    let next_cursor = last.map(|last| page.cursor(&app.cursors, &last)).transpose()?;
    Ok(Json(WebhookDeliveryPage {
        items: found.iter().map(DeliveryView::from).collect(),
        next_cursor,
    })
    .into_response())
}

/// Send a delivery again
///
/// Under the same `webhook-id`, whatever became of it. One that waits for its next attempt is sent now.
#[utoipa::path(
    post, path = "/api/webhooks/{id}/deliveries/{delivery}/replay", tag = "Webhooks",
    security(("bearer" = ["tasks:write"])),
    params(DeliveryId, IdempotencyKey, Prefer),
    responses(
        (status = 202, description = "The delivery, which is sent now", body = DeliveryView),
        (status = 409, description = "Nothing is sent to the webhook", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn replay(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    DeliveryId { id, delivery }: DeliveryId,
    key: IdempotencyKey,
    prefer: Prefer,
) -> Result<Answer, Problem> {
    let user_id = user.user_id;
    let answer = app
        .once(user_id, key, move |tx| {
            Box::pin(async move {
                enabled(tx, user_id, id).await?;
                let delivery = store::replay(tx, user_id, id, delivery)
                    .await?
                    .ok_or_else(no_such_delivery)?;
                Answer::json(StatusCode::ACCEPTED, &DeliveryView::from(&delivery))
            })
        })
        .await?;
    Ok(prefer.apply(answer))
}

/// Send deliveries again
///
/// Those of a time that were not accepted, or with `only_failed: false` all that have ended; under the same `webhook-id`s.
/// At most 10,000 a request: `continue_from` says where there are more.
#[utoipa::path(
    post, path = "/api/webhooks/{id}/replay", tag = "Webhooks", security(("bearer" = ["tasks:write"])),
    params(WebhookId, IdempotencyKey, Prefer),
    request_body = WebhookReplay,
    responses(
        (status = 202, description = "How many are sent now", body = ReplayedView),
        (status = 409, description = "Nothing is sent to the webhook", body = ProblemDocument,
         content_type = "application/problem+json"),
    ),
)]
async fn replay_all(
    State(app): State<App>,
    CurrentUser(user): CurrentUser,
    WebhookId(id): WebhookId,
    key: IdempotencyKey,
    prefer: Prefer,
    JsonObject(body): JsonObject,
) -> Result<Answer, Problem> {
    let user_id = user.user_id;
    let asked = Replay::read(body, schemas::now())?;
    let answer = app
        .once(user_id, key, move |tx| {
            Box::pin(async move {
                enabled(tx, user_id, id).await?;
                let (replayed, continue_from) = store::replay_all(tx, user_id, id, &asked).await?;
                let view = ReplayedView {
                    replayed,
                    continue_from,
                };
                Answer::json(StatusCode::ACCEPTED, &view)
            })
        })
        .await?;
    Ok(prefer.apply(answer))
}

/// The webhook, locked until the transaction ends, at a version that the client has seen.
async fn lock(
    tx: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    if_match: &IfMatch,
) -> Result<Webhook, Problem> {
    let current = store::lock(tx, user_id, id).await?.ok_or_else(no_such_webhook)?;
    if_match.check(current.version)?;
    Ok(current)
}

/// Refuses to have anything sent to a webhook that nothing is sent to.
async fn enabled(tx: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<(), Problem> {
    let webhook = store::get(tx, user_id, id).await?.ok_or_else(no_such_webhook)?;
    if webhook.is_enabled() {
        return Ok(());
    }
    let detail = "It is disabled: enable it first.";
    Err(Problem::new(Kind::WebhookDisabled, detail))
}

fn shown(status: StatusCode, webhook: &Webhook) -> Result<Answer, Problem> {
    let answer = Answer::json(status, &WebhookView::from(webhook))?;
    Ok(answer.with(header::ETAG, format!("\"{}\"", webhook.version)))
}
