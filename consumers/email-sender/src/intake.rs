//! Where a mail server hands over what comes back: `POST /bounces` takes a mail and, if it is a report of non-delivery about one of
//! ours, suppresses the address. Reports come from anywhere, so nothing in one is believed but the Message-ID of a delivery,
//! which only those know who have had the mail; and no address is suppressed but the one that the delivery's account has.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sqlx::PgPool;

use crate::bounce::Report;
use crate::{deliveries, metrics};

/// The largest mail that is read. A report returns a mail of ours, or its headers.
const MAX_MAIL_BYTES: usize = 256 * 1024;
/// How long it may take to arrive.
const TIME_LIMIT: Duration = Duration::from_secs(10);

struct Intake {
    pool: PgPool,
    token: SecretString,
    message_id_domain: String,
}

/// `POST /bounces`, for whoever knows the token.
pub fn router(pool: PgPool, token: SecretString, message_id_domain: String) -> Router {
    let intake = Intake {
        pool,
        token,
        message_id_domain,
    };
    Router::new()
        .route("/bounces", post(take))
        .with_state(Arc::new(intake))
}

async fn take(State(intake): State<Arc<Intake>>, headers: HeaderMap, body: Body) -> Response {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let token = intake.token.expose_secret().as_bytes();
    if given.is_none_or(|given| verify_slices_are_equal(given, token).is_err()) {
        let mut refusal = problem(
            StatusCode::UNAUTHORIZED,
            "The header Authorization must be Bearer and the token of BOUNCE_TOKEN.",
        );
        refusal.headers_mut().insert(
            header::WWW_AUTHENTICATE,
            header::HeaderValue::from_static("Bearer"),
        );
        return refusal;
    }
    let mail = match tokio::time::timeout(TIME_LIMIT, to_bytes(body, MAX_MAIL_BYTES)).await {
        Ok(Ok(mail)) => mail,
        Ok(Err(_)) => {
            return problem(
                StatusCode::PAYLOAD_TOO_LARGE,
                "The body may have at most 256 KiB.",
            );
        }
        Err(_) => {
            return problem(
                StatusCode::REQUEST_TIMEOUT,
                "The body did not arrive within 10 seconds.",
            );
        }
    };
    let report = match Report::read(&mail, &intake.message_id_domain) {
        Ok(report) => report,
        Err(unusable) => return problem(StatusCode::UNPROCESSABLE_ENTITY, &sentence(&unusable.to_string())),
    };
    // A request that is given up must not give up a connection in the middle of its work.
    let outcome = db::detached(async move {
        let mut suppressed = 0;
        for dead in &report.dead {
            let news =
                deliveries::suppress_reported(&intake.pool, report.delivery, &dead.addresses, &dead.reason).await?;
            if news {
                suppressed += 1;
                metrics::BOUNCES.with_label_values(&["report"]).inc();
                tracing::info!(delivery.id = %report.delivery, reason = dead.reason, "mail came back; the address is suppressed");
            }
        }
        Ok::<_, sqlx::Error>(suppressed)
    })
    .await;
    match outcome {
        Ok(suppressed) => Json(json!({"suppressed": suppressed})).into_response(),
        Err(error) => {
            tracing::warn!(%error, "a report of non-delivery cannot be written down");
            problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "The database is not available: send it again.",
            )
        }
    }
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).chain(['.']).collect()
}

/// Problem details (RFC 9457).
fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason();
    let body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
    let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, content_type, body.to_string()).into_response()
}
