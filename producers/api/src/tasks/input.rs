//! The fields of a task as a client sends them, each checked for itself. What must hold between fields is in
//! `merge.rs`.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use chrono::NaiveDate;
use schedule::duration::MAX_OFFSET_DAYS;
use schedule::{Offset, Rule, Trigger, Tz};
use schemas::{Nag, Priority, Timestamp};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::input::{Field, Fields, Place, Problems, read};
use crate::problem::Problem;

const MAX_TITLE_CHARS: usize = 500;
const MAX_DESCRIPTION_CHARS: usize = 10_000;
/// Most tags of a task.
pub const MAX_TAGS: usize = 20;
/// Longest tag.
pub const MAX_TAG_CHARS: usize = 50;
const MAX_DEPENDENCIES: usize = 20;
/// Most repetitions of a reminder.
const MAX_NAGS: i64 = 100;
/// How late a reminder may be said to ring, in seconds, and in words.
pub const LATE_SECONDS: RangeInclusive<i64> = 0..=MAX_OFFSET_DAYS as i64 * 86_400;
pub const LATE: &str = "PT0S and P366D";
/// Most reminders of a task.
pub const MAX_REMINDERS: usize = 20;

/// What the fields are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A new task: it needs a title, and its reminders have no ids yet.
    Create,
    /// A merge patch (RFC 7396): null puts a field back to its default.
    Patch,
}

/// The fields that a client may set.
#[derive(Debug, Default)]
pub struct TaskInput {
    /// 1 to 500 characters, not blank.
    pub title: Field<String>,
    /// Up to 10,000 characters, Markdown kept as is.
    pub description: Field<String>,
    /// How urgent it is.
    pub priority: Field<Priority>,
    /// At most 20 of 1 to 50 characters, each once.
    pub tags: Field<Vec<String>>,
    /// When it is due. Of `due_at` and `due_on` the one that is given replaces the other.
    pub due_at: Field<Timestamp>,
    /// The day on which it is due.
    pub due_on: Field<NaiveDate>,
    /// Where `due_at`, offsets and the recurrence are meant.
    pub timezone: Field<Tz>,
    /// Whether `due_at` follows the person.
    pub floating: Field<bool>,
    /// At most 20.
    pub reminders: Field<Vec<ReminderInput>>,
    /// At most 20 tasks that are to be done before.
    pub depends_on: Field<Vec<Uuid>>,
    /// The rule of a series.
    pub recurrence: Field<Rule>,
}

/// A reminder as a client asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReminderInput {
    /// The reminder that it is to stay, in a patch.
    pub id: Option<Uuid>,
    /// When it rings.
    pub trigger: Trigger,
    /// How it repeats.
    pub nag: Option<Nag>,
    /// How late it may still ring.
    pub send_late_within: Option<String>,
}

impl TaskInput {
    /// Reads a merge patch.
    ///
    /// # Errors
    /// Everything that is wrong with its fields, each for itself.
    pub fn patch(body: Map<String, Value>) -> Result<Self, Problem> {
        let mut problems = Problems::default();
        let patch = Self::read(body, Purpose::Patch, Place::root(&mut problems));
        problems.finish(Some(patch))
    }

    /// Reads all fields; what is wrong is written down at their `place`.
    pub fn read(body: Map<String, Value>, purpose: Purpose, place: Place<'_>) -> Self {
        let mut fields = Fields::new(body, place);
        let input = Self {
            title: title(&mut fields, purpose),
            description: description(&mut fields),
            priority: priority(&mut fields),
            tags: fields.take("tags", tags),
            due_at: fields.take("due_at", read::timestamp),
            due_on: fields.take("due_on", read::date),
            timezone: fields.take("timezone", read::zone),
            floating: fields.take("floating", read::boolean),
            reminders: fields.take("reminders", |place, value| reminders(place, value, purpose)),
            depends_on: fields.take("depends_on", depends_on),
            recurrence: fields.take("recurrence", recurrence),
        };
        if let (Field::Value(_), Field::Value(_)) = (input.due_at, input.due_on) {
            fields.refuse::<()>(
                "due_on",
                "cannot stand beside due_at: a task is due at a time or on a day",
            );
        }
        fields.finish();
        input
    }

    /// Whether the task may follow the person after it, or the person's own zone is asked for: what decides then is where the
    /// person is now, which a token does not know.
    pub fn asks_for_the_person(&self) -> bool {
        self.due_on.is_given() || self.floating.is_given() || self.timezone.is_given()
    }
}

/// Whether the task that a client asks for follows the person, so that it matters where the person is now.
pub fn follows(body: &Map<String, Value>) -> bool {
    ["due_on", "floating"].into_iter().any(|name| {
        body.get(name)
            .is_some_and(|value| !value.is_null() && *value != Value::Bool(false))
    })
}

/// Whatever has a title needs one.
pub fn title(fields: &mut Fields<'_>, purpose: Purpose) -> Field<String> {
    let title = |place: &mut Place<'_>, value| read::line(place, value, MAX_TITLE_CHARS);
    match purpose {
        Purpose::Create => fields
            .required("title", title)
            .map_or(Field::Invalid, Field::Value),
        Purpose::Patch => fields.not_null("title", title),
    }
}

/// Markdown, or nothing.
pub fn description(fields: &mut Fields<'_>) -> Field<String> {
    fields.take("description", |place, value| {
        read::text(place, value, MAX_DESCRIPTION_CHARS)
    })
}

/// How urgent something is.
pub fn priority(fields: &mut Fields<'_>) -> Field<Priority> {
    fields.take("priority", |place, value| {
        read::choice(place, value, Priority::from_name, "low, medium, high, urgent")
    })
}

/// A list of tags, each once.
pub fn tags(place: &mut Place<'_>, value: Value) -> Option<Vec<String>> {
    let mut seen = HashSet::new();
    read::items(place, value, MAX_TAGS, |place, value| {
        let tag = read::line(place, value, MAX_TAG_CHARS)?;
        if !seen.insert(tag.clone()) {
            return place.refuse("stands in the list already");
        }
        Some(tag)
    })
}

fn depends_on(place: &mut Place<'_>, value: Value) -> Option<Vec<Uuid>> {
    let mut seen = HashSet::new();
    read::items(place, value, MAX_DEPENDENCIES, |place, value| {
        let id = read::uuid(place, value)?;
        if !seen.insert(id) {
            return place.refuse("stands in the list already");
        }
        Some(id)
    })
}

fn reminders(place: &mut Place<'_>, value: Value, purpose: Purpose) -> Option<Vec<ReminderInput>> {
    let mut seen = HashSet::new();
    read::items(place, value, MAX_REMINDERS, |place, value| {
        let members = read::object(place, value)?;
        let mut fields = Fields::new(members, place.reborrow());
        let id = match purpose {
            Purpose::Create => Field::Absent,
            Purpose::Patch => fields.take("id", |place, value| {
                let id = read::uuid(place, value)?;
                if seen.insert(id) {
                    Some(id)
                } else {
                    place.refuse("stands in the list already")
                }
            }),
        };
        let offset = fields.take("offset", |place, value| {
            let text = read::string(place, value)?;
            match Offset::parse(&text) {
                Ok(offset) => Some(Trigger::Offset(offset)),
                Err(error) => place.refuse(error.to_string()),
            }
        });
        let at = fields.take("at", |place, value| {
            read::timestamp(place, value).map(Trigger::At)
        });
        let nag = fields.take("nag", nag);
        let send_late_within = fields.take("send_late_within", send_late_within);
        for name in ["snoozed_until", "dismissed_at"] {
            fields.take::<()>(name, |place, _| {
                place.refuse("is not set here: POST to the reminder's own path, /snooze or /dismiss")
            });
        }
        let wrong = id.is_invalid()
            || offset.is_invalid()
            || at.is_invalid()
            || nag.is_invalid()
            || send_late_within.is_invalid();
        let trigger = match (offset.value(), at.value()) {
            (Some(trigger), None) | (None, Some(trigger)) => Some(trigger),
            _ if wrong => None,
            _ => fields.refuse_all("must have exactly one of offset and at"),
        };
        fields.finish();
        (!wrong).then_some(ReminderInput {
            id: id.value(),
            trigger: trigger?,
            nag: nag.value(),
            send_late_within: send_late_within.value(),
        })
    })
}

/// How a reminder repeats: every minute to every week, up to a hundred times.
pub fn nag(place: &mut Place<'_>, value: Value) -> Option<Nag> {
    let mut fields = Fields::new(read::object(place, value)?, place.reborrow());
    let every = fields.required("every", |place, value| {
        read::duration(place, value, 60..=7 * 86_400, "PT1M and P7D")
    });
    let times = fields.required("times", |place, value| {
        let times = value.as_i64().filter(|times| (1..=MAX_NAGS).contains(times));
        match times.and_then(|times| i32::try_from(times).ok()) {
            Some(times) => Some(times),
            None => place.refuse(format!("must be a whole number from 1 to {MAX_NAGS}")),
        }
    });
    fields.finish();
    Some(Nag {
        every: every?.0,
        times: times?,
    })
}

/// How late a reminder may still ring, in the form that is stored.
pub fn send_late_within(place: &mut Place<'_>, value: Value) -> Option<String> {
    read::duration(place, value, LATE_SECONDS, LATE).map(|(text, _)| text)
}

/// A rule in full.
pub fn recurrence(place: &mut Place<'_>, value: Value) -> Option<Rule> {
    let text = read::string(place, value)?;
    match Rule::parse(&text) {
        Ok(rule) => Some(rule),
        Err(error) => place.refuse(error.to_string()),
    }
}
