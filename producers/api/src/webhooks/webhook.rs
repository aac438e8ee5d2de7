//! What a webhook may be. Pure: no database, no HTTP.

use chrono::TimeDelta;
use schemas::Timestamp;
use uuid::Uuid;

use super::WebhookInput;

/// No person has more.
pub const MAX_WEBHOOKS: i64 = 20;

/// Why nothing is sent when the person wants it so.
const PAUSED: &str = "paused";

/// A webhook: an endpoint that is told of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Identity of the webhook.
    pub id: Uuid,
    /// Grows by one with every change, taken under the row's lock.
    pub version: i64,
    /// Where requests go.
    pub url: String,
    /// A name for people.
    pub description: String,
    /// The types of events it is told of; none: all.
    pub event_types: Vec<String>,
    /// Why nothing is sent, and since when; `None` when something is.
    pub disabled: Option<(String, Timestamp)>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Webhook {
    /// Whether anything is sent.
    pub fn is_enabled(&self) -> bool {
        self.disabled.is_none()
    }
}

/// Makes a webhook.
pub fn create(input: WebhookInput, now: Timestamp) -> Webhook {
    let new = Webhook {
        id: Uuid::now_v7(),
        version: 1,
        url: String::new(),
        description: String::new(),
        event_types: Vec::new(),
        disabled: None,
        created_at: now,
        updated_at: now,
    };
    put_over(input, &new, now)
}

/// Puts a patch over a webhook; `None` when it changes nothing.
pub fn patch(input: WebhookInput, current: &Webhook, now: Timestamp) -> Option<Webhook> {
    let changed = put_over(input, current, now);
    (changed != *current).then(|| Webhook {
        version: current.version + 1,
        // Times of a webhook only grow, whatever this machine's clock says.
        updated_at: now.max(current.updated_at + TimeDelta::microseconds(1)),
        ..changed
    })
}

fn put_over(input: WebhookInput, base: &Webhook, now: Timestamp) -> Webhook {
    let enabled = input.enabled.merge(base.is_enabled(), || true);
    Webhook {
        url: input.url.merge(base.url.clone(), String::new),
        description: input.description.merge(base.description.clone(), String::new),
        event_types: input.event_types.merge(base.event_types.clone(), Vec::new),
        disabled: match &base.disabled {
            _ if enabled => None,
            Some(disabled) => Some(disabled.clone()),
            None => Some((PAUSED.to_owned(), now)),
        },
        ..base.clone()
    }
}
