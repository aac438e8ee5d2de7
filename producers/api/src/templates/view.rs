//! A template as the API shows it, and the bodies that make and change one.

use chrono::{DateTime, NaiveDate, NaiveTime, Timelike, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Due, Template};
use crate::recurring::body::NewRecurringReminder;
use crate::recurring::view::OffsetView;
use crate::tasks::body::NewReminder;
use crate::tasks::view::{PriorityName, timestamp};

/// A template: what tasks are made from, with dates relative to a day.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Template)]
pub struct TemplateView<'a> {
    id: Uuid,
    /// Grows by one with every change; the ETag is this number in quotes.
    #[schema(minimum = 1)]
    version: i64,
    title: &'a str,
    /// Markdown.
    #[schema(required)]
    description: Option<&'a str>,
    #[schema(value_type = PriorityName)]
    priority: &'static str,
    tags: &'a [String],
    /// How many days after the day that it is made for a task is due; null where it is not.
    #[schema(required, example = "P3D")]
    due_offset: Option<String>,
    /// At what time of that day; null where it is due on the whole day.
    #[schema(required, example = "09:30")]
    due_time: Option<String>,
    /// Whether that time follows the person; a whole day always does.
    floating: bool,
    reminders: Vec<OffsetView<'a>>,
    #[serde(serialize_with = "timestamp")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "timestamp")]
    updated_at: DateTime<Utc>,
}

impl<'a> From<&'a Template> for TemplateView<'a> {
    fn from(template: &'a Template) -> Self {
        let content = &template.content;
        Self {
            id: template.id,
            version: template.version,
            title: &content.title,
            description: content.description.as_deref(),
            priority: content.priority.as_str(),
            tags: &content.tags,
            due_offset: content.due.map(due_offset),
            due_time: content.due.and_then(|due| due.time).map(due_time),
            floating: content.floating,
            reminders: content.reminders.iter().map(OffsetView::from).collect(),
            created_at: template.created_at,
            updated_at: template.updated_at,
        }
    }
}

fn due_offset(due: Due) -> String {
    let sign = if due.days < 0 { "-" } else { "" };
    match due.days.abs() {
        days if days > 0 && days % 7 == 0 => format!("{sign}P{}W", days / 7),
        days => format!("{sign}P{days}D"),
    }
}

fn due_time(time: NaiveTime) -> String {
    let format = if time.second() == 0 { "%H:%M" } else { "%H:%M:%S" };
    time.format(format).to_string()
}

macro_rules! template_body {
    ($(#[$meta:meta])* $name:ident { $($(#[$own_meta:meta])* $own:ident: $own_type:ty,)* }) => {
        $(#[$meta])*
        #[derive(ToSchema)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "a description of what is read field by field")]
        pub struct $name {
            $($(#[$own_meta])* $own: $own_type,)*
            /// One line, not blank.
            #[schema(nullable = false, min_length = 1, max_length = 500, example = "Pack for the trip")]
            title: Option<String>,
            /// Markdown, kept as is.
            #[schema(max_length = 10000)]
            description: Option<String>,
            #[schema(value_type = Option<PriorityName>)]
            priority: Option<PriorityName>,
            /// Each once, of 1 to 50 characters.
            #[schema(max_items = 20, example = json!(["travel"]))]
            tags: Option<Vec<String>>,
            /// Whole days or weeks, at most 366 days, from the day that a task is made for.
            #[schema(example = "P3D")]
            due_offset: Option<String>,
            /// A time of that day; needs `due_offset`. Without it tasks are due on the whole day.
            #[schema(example = "09:30")]
            due_time: Option<String>,
            /// Whether that time follows the person; needs `due_time`.
            floating: Option<bool>,
            /// They count from the due time, so they need `due_offset`.
            #[schema(max_items = 20)]
            reminders: Option<Vec<NewRecurringReminder>>,
        }
    };
}

template_body! {
    /// A new template. `title` is required, unless `from_task` gives it.
    NewTemplate {
        /// A task of the person's, which gives what the other fields do not say.
        from_task: Option<Uuid>,
    }
}

template_body! {
    /// A merge patch (RFC 7396) of a template: what is absent stays, null stands for the default.
    TemplatePatch {}
}

/// A task from a template. Besides `base_date` it takes every field of a new task; what is given counts instead of what the
/// template says.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
pub struct TaskFromTemplate {
    /// The day that the task is made for; today in its zone where it is absent.
    base_date: Option<NaiveDate>,
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 500,
        example = "Pack for Lisbon"
    )]
    title: Option<String>,
    #[schema(max_length = 10000)]
    description: Option<String>,
    #[schema(value_type = Option<PriorityName>)]
    priority: Option<PriorityName>,
    #[schema(max_items = 20)]
    tags: Option<Vec<String>>,
    due_at: Option<DateTime<Utc>>,
    due_on: Option<NaiveDate>,
    /// IANA zone; the person's own where it is absent.
    #[schema(example = "Europe/Berlin")]
    timezone: Option<String>,
    /// Whether `due_at` is a time on the wall that follows the person.
    floating: Option<bool>,
    #[schema(max_items = 20)]
    reminders: Option<Vec<NewReminder>>,
    /// Tasks that are to be done before.
    #[schema(max_items = 20)]
    depends_on: Option<Vec<Uuid>>,
    /// RRULE (RFC 5545). The due time or day is the first occurrence.
    #[schema(example = "FREQ=WEEKLY;BYDAY=MO")]
    recurrence: Option<String>,
}
