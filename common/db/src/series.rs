//! Series: what recurs, and the rows of `tasks.series`. Their instances are tasks. Every function takes the owner first.
//!
//! **Lock order.** Whoever needs both locks the series first and then its instances, in the order of their ids. Whoever
//! needs a task alone locks no series after it. So nobody waits for somebody who waits for him.

// Before the modules, since they use both.
macro_rules! columns {
    () => {
        "id, version, rrule, starts_at, timezone, content, paused_at, ended_at, created_at, updated_at, deleted_at, \
         rdates, exdates, anchor, overlap, split_from"
    };
}

/// What is read: the columns, and how far the series has come, which rows of older versions do not say.
macro_rules! selected {
    () => {
        concat!(
            columns!(),
            ", coalesce(made_through, (select max(t.occurrence) from tasks.tasks t
                where t.user_id = series.user_id and t.series_id = series.id)) as made_through"
        )
    };
}

mod attend;
mod rows;
mod timeline;

use chrono::{NaiveDate, TimeDelta};
use schedule::{Due, Offset, Tz};
use schemas::{Nag, Priority, Task, TaskReminder, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

pub use attend::{Claimed, Progress, advance, claim, next_claim};
pub use rows::{
    Past, end, end_all, end_if_left, get, history, insert, latest_occurrence, list, lock, lock_following,
    lock_of_task, occurrences_among, taken_after, update,
};
pub use timeline::{Timeline, Unusable};

/// Most dates that a series has beside its rule, and most exceptions from it.
pub const MAX_DATES: usize = 500;

/// How long before a reminder rings an instance moves, so that the scanner has heard of it by then.
const ROLLS_BEFORE_A_RING: TimeDelta = TimeDelta::minutes(1);

/// A rule by which tasks recur, and what they are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Identity of the series.
    pub id: Uuid,
    /// Grows by one with every change, taken under the row's lock.
    pub version: i64,
    /// RRULE, canonical text (RFC 5545 section 3.3.10).
    pub rrule: String,
    /// DTSTART: the first occurrence.
    pub starts_at: Timestamp,
    /// IANA zone that the rule is meant in.
    pub timezone: String,
    /// RDATE: further occurrences, at most [`MAX_DATES`]. None before the start.
    pub rdates: Vec<Timestamp>,
    /// EXDATE: what would be an occurrence and is none, at most [`MAX_DATES`]. By the second.
    pub exdates: Vec<Timestamp>,
    /// What the next occurrence counts from.
    pub anchor: Anchor,
    /// What happens when an occurrence falls due while the instance of an earlier one is open.
    pub overlap: Overlap,
    /// The last occurrence that the series has come to: its instance is made, and what comes next is the first one after it.
    /// A person may have had a later one made to move it.
    pub made_through: Option<Timestamp>,
    /// The series that this one went on from.
    pub split_from: Option<Uuid>,
    /// What the next instance is made with.
    pub content: Content,
    /// Since when no instance follows a completed one, for the time being.
    pub paused_at: Option<Timestamp>,
    /// Since when no instance follows a completed one, for good.
    pub ended_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was deleted; it is ended then.
    pub deleted_at: Option<Timestamp>,
}

/// A choice that is stored by its name.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// The name, as it is stored and as clients write it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// What has that name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$variant),)+
                    _ => None,
                }
            }

            fn read(row: &PgRow, column: &str) -> Result<Self, sqlx::Error> {
                let name: &str = row.try_get(column)?;
                Self::from_name(name).ok_or_else(|| sqlx::Error::ColumnDecode {
                    index: column.to_owned(),
                    source: format!("{name:?} is none").into(),
                })
            }
        }
    };
}

named! {
    /// What the next occurrence of a series counts from.
    Anchor {
        /// The start: it is where the rule says, whenever the last was done.
        #[default]
        Schedule = "schedule",
        /// The completion of the last: it is an interval after that.
        Completion = "completion",
    }
}

named! {
    /// What happens when an occurrence of a series falls due while the instance of an earlier one is open.
    Overlap {
        /// It is passed over: there is one open instance, and what was missed until it is completed is not made up for.
        #[default]
        Skip = "skip",
        /// The open instance moves to it.
        RollForward = "roll_forward",
        /// It has an instance of its own, made ahead: every occurrence has one.
        PileUp = "pile_up",
    }
}

/// What the instances of a series have in common when they are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// See [`Task::title`].
    pub title: String,
    /// See [`Task::description`].
    #[serde(default)]
    pub description: Option<String>,
    /// See [`Task::priority`].
    pub priority: Priority,
    /// See [`Task::tags`].
    pub tags: Vec<String>,
    /// Whether an instance is due on the day of its occurrence, which is the start of that day then.
    #[serde(default)]
    pub whole_day: bool,
    /// Whether the time of an instance follows the person, as a whole day always does; see [`Task::floating`].
    #[serde(default)]
    pub floating: bool,
    /// See [`Task::whole_day_minute`].
    #[serde(default = "whole_day_minute")]
    pub whole_day_minute: i32,
    /// When an instance reminds.
    pub reminders: Vec<InstanceReminder>,
}

fn whole_day_minute() -> i32 {
    schemas::WHOLE_DAY_MINUTE
}

impl Default for Content {
    fn default() -> Self {
        Self {
            title: String::new(),
            description: None,
            priority: Priority::default(),
            tags: Vec::new(),
            whole_day: false,
            floating: false,
            whole_day_minute: whole_day_minute(),
            reminders: Vec::new(),
        }
    }
}

/// A reminder of instances to come: what a [`TaskReminder`] says that does not belong to one task alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredReminder", into = "StoredReminder")]
pub struct InstanceReminder {
    /// How far from the due time it rings, such as `-PT10M`.
    pub offset: String,
    /// See [`TaskReminder::nag`].
    pub nag: Option<Nag>,
    /// See [`TaskReminder::send_late_within`].
    pub send_late_within: Option<String>,
}

/// As it is stored. One that is nothing but its offset is that text, which versions of before wrote and can read.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredReminder {
    Offset(String),
    Full {
        offset: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nag: Option<Nag>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        send_late_within: Option<String>,
    },
}

impl From<StoredReminder> for InstanceReminder {
    fn from(stored: StoredReminder) -> Self {
        match stored {
            StoredReminder::Offset(offset) => Self::new(offset),
            StoredReminder::Full {
                offset,
                nag,
                send_late_within,
            } => Self {
                offset,
                nag,
                send_late_within,
            },
        }
    }
}

impl From<InstanceReminder> for StoredReminder {
    fn from(reminder: InstanceReminder) -> Self {
        match reminder {
            InstanceReminder {
                offset,
                nag: None,
                send_late_within: None,
            } => Self::Offset(offset),
            InstanceReminder {
                offset,
                nag,
                send_late_within,
            } => Self::Full {
                offset,
                nag,
                send_late_within,
            },
        }
    }
}

impl InstanceReminder {
    /// One that rings once, so far from the due time.
    #[must_use]
    pub fn new(offset: String) -> Self {
        Self {
            offset,
            nag: None,
            send_late_within: None,
        }
    }
}

/// The reminder of one instance, with an id of its own.
impl From<InstanceReminder> for TaskReminder {
    fn from(reminder: InstanceReminder) -> Self {
        Self {
            nag: reminder.nag,
            send_late_within: reminder.send_late_within,
            ..Self::relative(reminder.offset)
        }
    }
}

impl Series {
    /// A new series, whose first instance is made with it.
    #[must_use]
    pub fn new(
        rrule: String,
        starts_at: Timestamp,
        timezone: String,
        content: Content,
        now: Timestamp,
    ) -> Self {
        Self {
            id: Uuid::now_v7(),
            version: 1,
            rrule,
            starts_at,
            timezone,
            rdates: Vec::new(),
            exdates: Vec::new(),
            anchor: Anchor::default(),
            overlap: Overlap::default(),
            made_through: Some(starts_at),
            split_from: None,
            content,
            paused_at: None,
            ended_at: None,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        }
    }

    /// Whether completing an instance brings another.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.paused_at.is_none() && self.ended_at.is_none()
    }

    /// When whoever makes instances ahead, or moves them, is to look at the series: of one that piles up its next occurrence,
    /// of one that rolls forward [`Series::rolls_at`] of that. What waits for a completion, or cannot be used, has none.
    #[must_use]
    pub fn attend_at(&self) -> Option<Timestamp> {
        let before = self.starts_at - TimeDelta::seconds(1);
        self.attend_after(self.made_through.unwrap_or(before))
    }

    /// The same, if the series had come to that occurrence.
    #[must_use]
    pub fn attend_after(&self, occurrence: Timestamp) -> Option<Timestamp> {
        if !self.is_active() || self.overlap == Overlap::Skip {
            return None;
        }
        let next = self.next_after(occurrence).ok().flatten()?;
        Some(match self.overlap {
            Overlap::RollForward => self.rolls_at(occurrence, next),
            _ => next,
        })
    }

    /// When the instance of an occurrence that is still open moves to the next one: when that falls due, or a minute before the
    /// first of its reminders, so that those ring. A reminder that is so early that it would ring before the open instance is due
    /// itself is not waited for.
    #[must_use]
    pub fn rolls_at(&self, occurrence: Timestamp, next: Timestamp) -> Timestamp {
        let zone = schedule::parse_zone(&self.timezone).unwrap_or(Tz::UTC);
        let (due_at, due_on) = self.due(next);
        let anchor = Due::of(due_at, due_on).map(|due| due.anchor(zone, self.content.whole_day_minute));
        let rings = self.content.reminders.iter().filter_map(|reminder| {
            let offset = Offset::parse(&reminder.offset).ok()?;
            Some(offset.apply(anchor?, zone)? - ROLLS_BEFORE_A_RING)
        });
        rings
            .filter(|at| *at > occurrence)
            .fold(next, |first, at| first.min(at))
    }

    /// The `due_at` and `due_on` of the instance of an occurrence.
    #[must_use]
    pub fn due(&self, occurrence: Timestamp) -> (Option<Timestamp>, Option<NaiveDate>) {
        if self.content.whole_day {
            let zone = schedule::parse_zone(&self.timezone).unwrap_or(Tz::UTC);
            (None, Some(occurrence.with_timezone(&zone).date_naive()))
        } else {
            (Some(occurrence), None)
        }
    }

    /// A new, open instance, whoever makes it. Its reminders have ids of their own: a reminder rings once.
    #[must_use]
    pub fn instance(&self, occurrence: Timestamp, now: Timestamp) -> Task {
        let content = self.content.clone();
        let reminders = content.reminders.into_iter();
        let (due_at, due_on) = self.due(occurrence);
        Task {
            id: Uuid::now_v7(),
            version: 1,
            title: content.title,
            description: content.description,
            priority: content.priority,
            tags: content.tags,
            due_at,
            due_on,
            timezone: self.timezone.clone(),
            floating: content.floating && !content.whole_day,
            whole_day_minute: content.whole_day_minute,
            reminders: reminders.map(TaskReminder::from).collect(),
            depends_on: Vec::new(),
            series_id: Some(self.id),
            occurrence: Some(occurrence),
            recurrence: Some(self.rrule.clone()),
            created_at: now,
            updated_at: now,
            completed_at: None,
            deleted_at: None,
        }
    }
}

impl Content {
    /// What an instance holds, for the next ones: a reminder at a fixed instant becomes one as far from the due time. One
    /// that is further than an offset can be rings for this instance only.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        let zone = schedule::parse_zone(&task.timezone).unwrap_or(Tz::UTC);
        let due = Due::of(task.due_at, task.due_on)
            .map(|due| due.anchor(zone, task.whole_day_minute))
            .or(task.occurrence);
        let offset = |at: Timestamp| Some(Offset::between(due?, at)?.to_string());
        let reminders = task.reminders.iter();
        Self {
            title: task.title.clone(),
            description: task.description.clone(),
            priority: task.priority,
            tags: task.tags.clone(),
            whole_day: task.due_on.is_some(),
            floating: task.floating,
            whole_day_minute: task.whole_day_minute,
            reminders: reminders
                .filter_map(|reminder| {
                    Some(InstanceReminder {
                        offset: reminder.offset.clone().or_else(|| offset(reminder.at?))?,
                        nag: reminder.nag.clone(),
                        send_late_within: reminder.send_late_within.clone(),
                    })
                })
                .collect(),
        }
    }
}
