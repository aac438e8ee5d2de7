//! The fields of a task as a client sends them, each checked for itself. What must hold between fields is in
//! `merge.rs`.

use std::collections::HashSet;

use chrono::NaiveDate;
use schedule::{Offset, Rule, Trigger, Tz};
use schemas::{Priority, Timestamp};
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
    /// At most 20.
    pub reminders: Field<Vec<ReminderInput>>,
    /// At most 20 tasks that are to be done before.
    pub depends_on: Field<Vec<Uuid>>,
    /// The rule of a series.
    pub recurrence: Field<Rule>,
}

/// A reminder as a client asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReminderInput {
    /// The reminder that it is to stay, in a patch.
    pub id: Option<Uuid>,
    /// When it rings.
    pub trigger: Trigger,
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
        let wrong = id.is_invalid() || offset.is_invalid() || at.is_invalid();
        let trigger = match (offset.value(), at.value()) {
            (Some(trigger), None) | (None, Some(trigger)) => Some(trigger),
            _ if wrong => None,
            _ => fields.refuse_all("must have exactly one of offset and at"),
        };
        fields.finish();
        (!wrong).then_some(ReminderInput {
            id: id.value(),
            trigger: trigger?,
        })
    })
}

/// A rule in full.
pub fn recurrence(place: &mut Place<'_>, value: Value) -> Option<Rule> {
    let text = read::string(place, value)?;
    match Rule::parse(&text) {
        Ok(rule) => Some(rule),
        Err(error) => place.refuse(error.to_string()),
    }
}
