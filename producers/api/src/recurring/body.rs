//! What bodies about recurring tasks look like, for the API's description; `input.rs` reads them.

use chrono::{DateTime, NaiveDate, Utc};
use utoipa::ToSchema;

use super::view::{Anchor, Overlap, RecurrenceType};
use crate::tasks::body::NewNag;
use crate::tasks::view::PriorityName;

macro_rules! recurring_body {
    ($(#[$meta:meta])* $name:ident, title: $(#[$title_meta:meta])* $title:ty
     $(, $(#[$more_meta:meta])* $more:ident: $more_type:ty)*) => {
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
            /// Whether the time of an instance follows the person; a whole day always does. The zone is the account's then.
            floating: Option<bool>,
            #[schema(max_items = 20)]
            reminders: Option<Vec<NewRecurringReminder>>,
            /// IANA zone in which the rule is meant; the person's own where it is absent.
            #[schema(example = "Europe/Berlin")]
            timezone: Option<String>,
            /// When the first instance is due, with an offset; cut to the second. Either this or `starts_on`.
            #[schema(nullable = false, example = "2027-02-01T09:00:00+01:00")]
            starts_at: Option<DateTime<Utc>>,
            /// The day on which the first instance is due; instances are due on a day then.
            #[schema(nullable = false)]
            starts_on: Option<NaiveDate>,
            /// RRULE (RFC 5545). Either this or `recurrence_type`.
            #[schema(nullable = false, example = "FREQ=WEEKLY;BYDAY=MO")]
            recurrence: Option<String>,
            #[schema(nullable = false)]
            recurrence_type: Option<RecurrenceType>,
            /// Every how many days, weeks, months or years; of the simple form.
            #[schema(minimum = 1, maximum = 65535)]
            interval: Option<u16>,
            /// How many occurrences there are; of the simple form.
            #[schema(minimum = 1, maximum = 10000)]
            count: Option<u32>,
            /// The last instant at which there may be one; of the simple form. At most one of `count` and `ends_at`.
            ends_at: Option<DateTime<Utc>>,
            /// Further occurrences, none before the first instance; to the second.
            #[schema(max_items = 500)]
            rdates: Option<Vec<DateTime<Utc>>>,
            /// What the rule has and is no occurrence; to the second.
            #[schema(max_items = 500)]
            exdates: Option<Vec<DateTime<Utc>>>,
            anchor: Option<Anchor>,
            overlap: Option<Overlap>,
            $($(#[$more_meta])* $more: $more_type,)*
        }
    };
}

recurring_body! {
    /// A new recurring task: `title`, a start and a rule are required.
    NewRecurringTask, title: String
}

recurring_body! {
    /// A merge patch (RFC 7396) of a recurring task: what is absent stays, null stands for the default.
    RecurringTaskPatch, title: #[schema(nullable = false)] Option<String>
}

recurring_body! {
    /// A merge patch that holds from an occurrence on.
    RecurringTaskSplit, title: #[schema(nullable = false)] Option<String>,
    /// The `occurrence` from which on it holds; not the first.
    #[schema(example = "2027-02-08T08:00:00Z")]
    from: DateTime<Utc>
}

/// Which occurrence does not take place.
#[derive(ToSchema)]
#[schema(as = SkippedOccurrence)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
pub struct Skipped {
    /// Its `occurrence`.
    #[schema(example = "2027-02-08T08:00:00Z")]
    occurrence: DateTime<Utc>,
}

/// Which occurrence takes place at another time.
#[derive(ToSchema)]
#[schema(as = MovedOccurrence)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
pub struct Moved {
    /// Its `occurrence`, which stays.
    #[schema(example = "2027-02-08T08:00:00Z")]
    occurrence: DateTime<Utc>,
    /// When it is due: an instant with its offset, or a day where instances are due on one.
    #[schema(example = "2027-02-01T18:00:00+01:00", max_length = 64)]
    to: String,
}

/// When to remind of each instance, or of each task of a template.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a description of what is read field by field")]
pub struct NewRecurringReminder {
    /// ISO 8601 duration from the due time, at most 366 days; on a whole day it counts from the account's `whole_day_time`.
    #[schema(example = "-PT10M")]
    offset: String,
    nag: Option<NewNag>,
    /// How late it may still ring: ISO 8601 duration, at most 366 days; `PT0S` drops it. The account's setting where it is
    /// absent.
    #[schema(example = "PT2H")]
    send_late_within: Option<String>,
}
