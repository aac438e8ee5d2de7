//! Webhooks and their log as the API shows them, and the bodies that make and change them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Webhook;
use super::store::{Attempt, Delivery, KeptSecret};
use crate::tasks::view::{optional_timestamp, timestamp};

/// A webhook: an endpoint of a person's that is told of events.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhook)]
pub struct WebhookView<'a> {
    id: Uuid,
    /// Grows by one with every change; the ETag is this number in quotes.
    #[schema(minimum = 1)]
    version: i64,
    #[schema(example = "https://example.org/hook")]
    url: &'a str,
    description: &'a str,
    /// The types of events that it is told of; none: all.
    #[schema(example = json!(["task.completed", "reminder.fired"]))]
    event_types: &'a [String],
    /// Whether anything is sent.
    enabled: bool,
    /// Why nothing is: `paused` by the person, `gone` (it answered 410), `failing` for days.
    #[schema(required, example = "failing")]
    disabled_reason: Option<&'a str>,
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    disabled_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "timestamp")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "timestamp")]
    updated_at: DateTime<Utc>,
}

impl<'a> From<&'a Webhook> for WebhookView<'a> {
    fn from(webhook: &'a Webhook) -> Self {
        Self {
            id: webhook.id,
            version: webhook.version,
            url: &webhook.url,
            description: &webhook.description,
            event_types: &webhook.event_types,
            enabled: webhook.is_enabled(),
            disabled_reason: webhook.disabled.as_ref().map(|(reason, _)| reason.as_str()),
            disabled_at: webhook.disabled.as_ref().map(|(_, at)| *at),
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
        }
    }
}

/// A new webhook, with its secret.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedWebhook)]
pub struct CreatedView<'a> {
    #[serde(flatten)]
    webhook: WebhookView<'a>,
    /// What its requests are signed with.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: Option<String>,
}

/// What requests are signed with.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookSecret)]
pub struct SecretView {
    /// The current one, for [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks)' libraries.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: String,
    /// Those before it that still sign along, and until when.
    old: Vec<OldSecretView>,
}

/// A secret that signs along for a while.
#[derive(Serialize, ToSchema)]
#[schema(as = OldWebhookSecret)]
struct OldSecretView {
    secret: String,
    #[serde(serialize_with = "timestamp")]
    expires_at: DateTime<Utc>,
}

impl SecretView {
    /// Of the secrets as they are kept; `None` when none is the current one.
    pub fn of(secrets: &[KeptSecret]) -> Option<Self> {
        let current = secrets.iter().find(|kept| kept.expires_at.is_none())?;
        Some(Self {
            secret: current.secret.reveal(),
            old: secrets
                .iter()
                .filter_map(|kept| {
                    Some(OldSecretView {
                        secret: kept.secret.reveal(),
                        expires_at: kept.expires_at?,
                    })
                })
                .collect(),
        })
    }
}

/// One event for one webhook, and what became of it.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookDelivery)]
pub struct DeliveryView<'a> {
    /// The `webhook-id` of its requests, at every attempt and replay.
    id: Uuid,
    event_id: Uuid,
    #[schema(example = "task.completed")]
    event_type: &'a str,
    #[serde(serialize_with = "timestamp")]
    occurred_at: DateTime<Utc>,
    /// `pending`, `sent`, `failed`, or `suppressed` when there was nobody to send it to.
    #[schema(example = "sent")]
    state: &'a str,
    /// How often it was sent.
    attempts: i32,
    /// When it is sent (again), while it is pending.
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    next_attempt_at: Option<DateTime<Utc>>,
    /// Why it was not accepted, at last.
    #[schema(required)]
    last_error: Option<&'a str>,
    #[serde(serialize_with = "timestamp")]
    created_at: DateTime<Utc>,
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    finished_at: Option<DateTime<Utc>>,
    /// The body of its requests, at most the first 4 KiB.
    request_body: &'a str,
    /// Its requests, newest first, at most 20.
    log: Vec<AttemptView<'a>>,
}

/// A request and its answer.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookAttempt)]
struct AttemptView<'a> {
    /// Counts from 1.
    number: i32,
    #[serde(serialize_with = "timestamp")]
    at: DateTime<Utc>,
    url: &'a str,
    request_headers: &'a BTreeMap<String, String>,
    /// Null when there was no answer.
    #[schema(required, example = 200)]
    status: Option<i32>,
    #[schema(required)]
    response_headers: Option<&'a BTreeMap<String, String>>,
    /// At most the first 4 KiB.
    #[schema(required)]
    response_body: Option<&'a str>,
    duration_ms: i64,
    /// Why there was no answer.
    #[schema(required)]
    error: Option<&'a str>,
}

impl<'a> From<&'a Delivery> for DeliveryView<'a> {
    fn from(delivery: &'a Delivery) -> Self {
        Self {
            id: delivery.id,
            event_id: delivery.event_id,
            event_type: &delivery.event_type,
            occurred_at: delivery.occurred_at,
            state: &delivery.state,
            attempts: delivery.attempts,
            next_attempt_at: delivery.next_attempt_at,
            last_error: delivery.last_error.as_deref(),
            created_at: delivery.created_at,
            finished_at: delivery.finished_at,
            request_body: &delivery.body,
            log: delivery.log.iter().map(AttemptView::from).collect(),
        }
    }
}

impl<'a> From<&'a Attempt> for AttemptView<'a> {
    fn from(attempt: &'a Attempt) -> Self {
        Self {
            number: attempt.number,
            at: attempt.at,
            url: &attempt.url,
            request_headers: &attempt.request_headers,
            status: attempt.status,
            response_headers: attempt.response_headers.as_ref(),
            response_body: attempt.response_body.as_deref(),
            duration_ms: attempt.duration_ms,
            error: attempt.error.as_deref(),
        }
    }
}

/// A new webhook.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
pub struct NewWebhook {
    /// `https`, with the port 443, 80, or one above 1023, and an address of the internet behind it.
    #[schema(max_length = 2000, example = "https://example.org/hook")]
    url: String,
    /// One line.
    #[schema(max_length = 200)]
    description: Option<String>,
    /// The types of events to be told of; absent, null or none: all.
    #[schema(max_items = 13, example = json!(["task.completed", "reminder.fired"]))]
    event_types: Option<Vec<String>>,
    /// True where it is absent.
    enabled: Option<bool>,
    /// One's own secret: `whsec_` and 24 to 64 bytes in base64. Made where it is absent.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: Option<String>,
}

/// A merge patch (RFC 7396) of a webhook: what is absent stays, null stands for the default.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
pub struct WebhookPatch {
    #[schema(nullable = false, max_length = 2000, example = "https://example.org/hook")]
    url: Option<String>,
    #[schema(max_length = 200)]
    description: Option<String>,
    #[schema(max_items = 13, example = json!(["task.completed"]))]
    event_types: Option<Vec<String>>,
    /// True makes good what it was disabled for: its failures count from zero.
    enabled: Option<bool>,
}

/// Another secret for a webhook.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
pub struct SecretRotation {
    /// One's own; made where it is absent.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: Option<String>,
    /// How long the ones before sign along. 0 where one may have become known to others.
    #[schema(minimum = 0, maximum = 168, default = 24)]
    old_valid_hours: Option<i64>,
}

/// Which deliveries are to be sent again.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
pub struct WebhookReplay {
    /// Deliveries made at this instant and later.
    #[schema(example = "2026-01-01T00:00:00Z")]
    from: DateTime<Utc>,
    /// And before this one; now where it is absent.
    to: Option<DateTime<Utc>>,
    /// Whether those that were accepted are left out.
    #[schema(default = true)]
    only_failed: Option<bool>,
}

/// What is sent again.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookReplayed)]
pub struct ReplayedView {
    /// How many deliveries.
    pub replayed: usize,
    /// Where there are more, which were not touched: ask again with `from` from here.
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    pub continue_from: Option<DateTime<Utc>>,
}
