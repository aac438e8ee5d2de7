//! The fields of a template as a client sends them, each checked for itself.

use chrono::{DateTime, NaiveTime, Utc};
use db::series::InstanceReminder;
use schedule::{Offset, Tz};
use schemas::Priority;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::input::{Field, Fields, Place, Problems, read};
use crate::problem::Problem;
use crate::recurring;
use crate::tasks::input::{self, Purpose};

/// The fields that a client may set.
#[derive(Debug, Default)]
pub struct TemplateInput {
    /// The task that gives what the other fields do not say; of a new one only.
    pub from_task: Field<Uuid>,
    /// See `TaskInput`.
    pub title: Field<String>,
    /// See `TaskInput`.
    pub description: Field<Option<String>>,
    /// See `TaskInput`.
    pub priority: Field<Priority>,
    /// See `TaskInput`.
    pub tags: Field<Vec<String>>,
    /// Counted from the due time.
    pub reminders: Field<Vec<InstanceReminder>>,
    /// On which day a task is due: so many days after the one that it is made for.
    pub due_offset: Field<i64>,
    /// At what time of that day.
    pub due_time: Field<NaiveTime>,
    /// Whether that time follows the person.
    pub floating: Field<bool>,
}

impl TemplateInput {
    /// Reads the fields of a new one.
    ///
    /// # Errors
    /// Everything that is wrong with them, each for itself.
    pub fn create(body: Map<String, Value>) -> Result<Self, Problem> {
        Self::read(body, Purpose::Create)
    }

    /// Reads a merge patch.
    ///
    /// # Errors
    /// Everything that is wrong with its fields, each for itself.
    pub fn patch(body: Map<String, Value>) -> Result<Self, Problem> {
        Self::read(body, Purpose::Patch)
    }

    fn read(body: Map<String, Value>, purpose: Purpose) -> Result<Self, Problem> {
        let mut problems = Problems::default();
        let mut fields = Fields::new(body, Place::root(&mut problems));
        let from_task = match purpose {
            Purpose::Create => fields.take("from_task", read::uuid),
            Purpose::Patch => Field::Absent,
        };
        // A task has a title to give.
        let purpose = if matches!(from_task, Field::Value(_) | Field::Invalid) {
            Purpose::Patch
        } else {
            purpose
        };
        let input = Self {
            title: input::title(&mut fields, purpose),
            description: input::description(&mut fields).map(Some),
            priority: input::priority(&mut fields),
            tags: fields.take("tags", input::tags),
            due_offset: fields.take("due_offset", days),
            due_time: fields.take("due_time", read::time),
            reminders: fields.take("reminders", recurring::reminders),
            floating: fields.take("floating", read::boolean),
            from_task,
        };
        fields.finish();
        problems.finish(Some(input))
    }
}

/// A duration of whole days, as their number.
fn days(place: &mut Place<'_>, value: Value) -> Option<i64> {
    let text = read::string(place, value)?;
    let offset = match Offset::parse(&text) {
        Ok(offset) => offset,
        Err(error) => return place.refuse(error.to_string()),
    };
    // Days are nominal, and only days move a date and leave the time of day alone.
    let epoch = DateTime::<Utc>::UNIX_EPOCH;
    let moved = offset.apply(epoch, Tz::UTC).map(|moved| moved - epoch);
    match moved.filter(|moved| moved.num_seconds() == moved.num_days() * 86_400 && !text.contains('T')) {
        Some(moved) => Some(moved.num_days()),
        None => place.refuse("must be whole days or weeks, such as P3D; the time of day is due_time"),
    }
}
