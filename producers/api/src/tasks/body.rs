//! What bodies about tasks look like, for the API's description; `input.rs` reads them. A test holds the two together.

use chrono::{DateTime, NaiveDate, Utc};
use utoipa::ToSchema;
use uuid::Uuid;

use super::view::PriorityName;

macro_rules! task_body {
    ($(#[$meta:meta])* $name:ident, title: $(#[$title_meta:meta])* $title:ty, reminders: $reminder:ty) => {
        $(#[$meta])*
        #[derive(ToSchema)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "a description of what is read field by field")]
        pub struct $name {
            /// One line, not blank.
            #[schema(min_length = 1, max_length = 500, example = "Water the plants")]
            $(#[$title_meta])*
            title: $title,
            /// Markdown, kept as is.
            #[schema(max_length = 10000)]
            description: Option<String>,
            #[schema(value_type = Option<PriorityName>)]
            priority: Option<PriorityName>,
            /// Each once, of 1 to 50 characters.
            #[schema(max_items = 20, example = json!(["home"]))]
            tags: Option<Vec<String>>,
            /// With an offset; kept to the microsecond. A task has `due_at` or `due_on` or neither.
            due_at: Option<DateTime<Utc>>,
            /// A whole day.
            due_on: Option<NaiveDate>,
            /// IANA zone; the person's own where it is absent.
            #[schema(example = "Europe/Berlin")]
            timezone: Option<String>,
            /// Whether `due_at` is a time on the wall that follows the person to another zone; its zone is the account's then. A
            /// whole day always follows.
            floating: Option<bool>,
            #[schema(max_items = 20)]
            reminders: Option<Vec<$reminder>>,
            /// Tasks that are to be done before.
            #[schema(max_items = 20)]
            depends_on: Option<Vec<Uuid>>,
            /// RRULE (RFC 5545). The due time or day is the first occurrence.
            #[schema(example = "FREQ=WEEKLY;BYDAY=MO")]
            recurrence: Option<String>,
        }
    };
}

task_body! {
    /// A new task. Only `title` is required; null stands for the default.
    NewTask, title: String, reminders: NewReminder
}

task_body! {
    /// A merge patch (RFC 7396) of a task: what is absent stays, null stands for the default.
    TaskPatch, title: #[schema(nullable = false)] Option<String>, reminders: ReminderPatch
}

/// Exactly one of `offset` and `at`.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
pub struct NewReminder {
    /// ISO 8601 duration from the due time, at most 366 days; on a whole day it counts from the account's `whole_day_time`.
    #[schema(example = "-PT10M")]
    offset: Option<String>,
    /// An instant.
    at: Option<DateTime<Utc>>,
    nag: Option<NewNag>,
    /// How late it may still ring when it could not in time: ISO 8601 duration, at most 366 days; `PT0S` drops it. The
    /// account's setting where it is absent.
    #[schema(example = "PT2H")]
    send_late_within: Option<String>,
}

/// Exactly one of `offset` and `at`.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
struct ReminderPatch {
    /// The reminder of this task that it is to stay.
    id: Option<Uuid>,
    /// ISO 8601 duration from the due time, at most 366 days; on a whole day it counts from the account's `whole_day_time`.
    #[schema(example = "-PT10M")]
    offset: Option<String>,
    /// An instant.
    at: Option<DateTime<Utc>>,
    nag: Option<NewNag>,
    /// How late it may still ring when it could not in time: ISO 8601 duration, at most 366 days; `PT0S` drops it. The
    /// account's setting where it is absent.
    #[schema(example = "PT2H")]
    send_late_within: Option<String>,
}

/// Repeats a reminder until its task is done.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
pub struct NewNag {
    /// ISO 8601 duration from one ring to the next: a minute to seven days, a day being 24 hours.
    #[schema(example = "PT10M")]
    every: String,
    /// How often it repeats, after the first ring.
    #[schema(minimum = 1, maximum = 100, example = 3)]
    times: u8,
}
