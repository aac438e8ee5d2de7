//! What a client sends about webhooks, each field checked for itself.

use ::webhooks::{Policy, Secret, types};
use schemas::Timestamp;
use serde_json::{Map, Value};

use crate::input::{Field, Fields, Place, Problems, read};
use crate::problem::Problem;

const MAX_DESCRIPTION_CHARS: usize = 200;

/// How long an old secret signs along, unless it is said.
const OLD_VALID_HOURS: i32 = 24;
/// And at most.
const MAX_OLD_VALID_HOURS: i64 = 7 * 24;

/// The fields that a client may set.
#[derive(Debug, Default)]
pub struct WebhookInput {
    /// Where requests go, in its one spelling.
    pub url: Field<String>,
    /// A name for people.
    pub description: Field<String>,
    /// The types of events to be told of; none: all.
    pub event_types: Field<Vec<String>>,
    /// Whether anything is sent.
    pub enabled: Field<bool>,
    /// What requests are signed with; of a new one only.
    pub secret: Field<Secret>,
}

impl WebhookInput {
    /// Reads the fields of a new one.
    ///
    /// # Errors
    /// Everything that is wrong with them, each for itself.
    pub fn create(body: Map<String, Value>, policy: &Policy) -> Result<Self, Problem> {
        let mut problems = Problems::default();
        let mut fields = Fields::new(body, Place::root(&mut problems));
        let url = fields.required("url", |place, value| url(place, value, policy));
        let input = Self {
            url: url.map_or(Field::Invalid, Field::Value),
            secret: fields.take("secret", secret),
            ..Self::common(&mut fields)
        };
        fields.finish();
        problems.finish(Some(input))
    }

    /// Reads a merge patch.
    ///
    /// # Errors
    /// Everything that is wrong with its fields, each for itself.
    pub fn patch(body: Map<String, Value>, policy: &Policy) -> Result<Self, Problem> {
        let mut problems = Problems::default();
        let mut fields = Fields::new(body, Place::root(&mut problems));
        let input = Self {
            url: fields.not_null("url", |place, value| url(place, value, policy)),
            ..Self::common(&mut fields)
        };
        fields.finish();
        problems.finish(Some(input))
    }

    fn common(fields: &mut Fields<'_>) -> Self {
        Self {
            description: fields.take("description", |place, value| {
                let text = read::text(place, value, MAX_DESCRIPTION_CHARS)?;
                if text.contains(['\n', '\r']) {
                    return place.refuse("must be one line");
                }
                Some(text)
            }),
            event_types: fields.take("event_types", event_types),
            enabled: fields.take("enabled", read::boolean),
            ..Self::default()
        }
    }
}

fn url(place: &mut Place<'_>, value: Value, policy: &Policy) -> Option<String> {
    let text = read::string(place, value)?;
    match policy.check(&text) {
        Ok(url) => Some(url.into()),
        Err(problem) => place.refuse(problem.to_string()),
    }
}

fn secret(place: &mut Place<'_>, value: Value) -> Option<Secret> {
    let text = read::string(place, value)?;
    match Secret::parse(&text) {
        Ok(secret) => Some(secret),
        Err(problem) => place.refuse(problem.to_string()),
    }
}

/// Each once, in one order.
fn event_types(place: &mut Place<'_>, value: Value) -> Option<Vec<String>> {
    let mut wanted = read::items(place, value, types().len(), |place, value| {
        let name = read::string(place, value)?;
        if types().contains(&name.as_str()) {
            Some(name)
        } else {
            place.refuse(format!("must be one of {}", types().join(", ")))
        }
    })?;
    wanted.sort_unstable();
    wanted.dedup();
    Some(wanted)
}

/// Another secret.
#[derive(Debug)]
pub struct Rotation {
    /// The client's own, if it brings one.
    pub secret: Option<Secret>,
    /// How long the ones before sign along.
    pub old_valid_hours: i32,
}

impl Rotation {
    /// Reads what is asked for.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(body: Map<String, Value>) -> Result<Self, Problem> {
        let mut problems = Problems::default();
        let mut fields = Fields::new(body, Place::root(&mut problems));
        let secret = fields.take("secret", secret).value();
        let old_valid_hours = fields.take("old_valid_hours", |place, value| {
            let hours = value
                .as_i64()
                .filter(|hours| (0..=MAX_OLD_VALID_HOURS).contains(hours));
            match hours.and_then(|hours| i32::try_from(hours).ok()) {
                Some(hours) => Some(hours),
                None => place.refuse(format!("must be a number from 0 to {MAX_OLD_VALID_HOURS}")),
            }
        });
        fields.finish();
        problems.finish(Some(Self {
            secret,
            old_valid_hours: old_valid_hours.value().unwrap_or(OLD_VALID_HOURS),
        }))
    }
}

/// Which deliveries are to be sent again.
#[derive(Debug)]
pub struct Replay {
    /// Those made at this instant and later.
    pub from: Timestamp,
    /// And before this one.
    pub to: Timestamp,
    /// Only those that were not accepted.
    pub only_failed: bool,
}

impl Replay {
    /// Reads what is asked for.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(body: Map<String, Value>, now: Timestamp) -> Result<Self, Problem> {
        let mut problems = Problems::default();
        let mut fields = Fields::new(body, Place::root(&mut problems));
        let from = fields.required("from", read::timestamp);
        let to = fields.take("to", read::timestamp).value().unwrap_or(now);
        let only_failed = fields.take("only_failed", read::boolean).value().unwrap_or(true);
        if from.is_some_and(|from| from >= to) {
            fields.refuse::<()>("to", "must be after from");
        }
        fields.finish();
        problems.finish(from.map(|from| Self {
            from,
            to,
            only_failed,
        }))
    }
}
