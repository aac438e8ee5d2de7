//! A recurring task as the API shows it.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use db::series::{InstanceReminder, Past, Series};
use schedule::Tz;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Occurrence;
use super::rule::Simple;
use crate::tasks::view::{NagView, PriorityName, optional_timestamp, timestamp};

/// A recurring task: a rule, and what its instances are made with.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecurringTask)]
pub struct RecurringTaskView<'a> {
    /// The `series_id` of its instances.
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
    /// Whether the time of an instance follows the person; a whole day always does.
    floating: bool,
    reminders: Vec<OffsetView<'a>>,
    /// IANA zone in which the rule is meant.
    #[schema(example = "Europe/Berlin")]
    timezone: &'a str,
    /// When the first instance is due; null where instances are due on a day.
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    starts_at: Option<DateTime<Utc>>,
    /// The day on which the first instance is due.
    #[schema(required)]
    starts_on: Option<NaiveDate>,
    /// RRULE (RFC 5545).
    #[schema(example = "FREQ=WEEKLY;INTERVAL=2")]
    recurrence: &'a str,
    /// With `interval`, `count` and `ends_at` the rule in the simple form; null where that cannot say it.
    #[schema(required, value_type = Option<RecurrenceType>)]
    recurrence_type: Option<&'static str>,
    #[schema(required)]
    interval: Option<u16>,
    #[schema(required)]
    count: Option<u32>,
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    ends_at: Option<DateTime<Utc>>,
    /// Further occurrences.
    #[serde(serialize_with = "timestamps")]
    rdates: &'a [DateTime<Utc>],
    /// What would be an occurrence and is none.
    #[serde(serialize_with = "timestamps")]
    exdates: &'a [DateTime<Utc>],
    #[schema(value_type = Anchor)]
    anchor: &'static str,
    #[schema(value_type = Overlap)]
    overlap: &'static str,
    /// The recurring task that this one went on from.
    #[schema(required)]
    split_from: Option<Uuid>,
    #[schema(value_type = Status)]
    status: &'static str,
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    paused_at: Option<DateTime<Utc>>,
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    ended_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "timestamp")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "timestamp")]
    updated_at: DateTime<Utc>,
}

/// What a simple rule counts.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "a description of names that are written elsewhere")]
pub enum RecurrenceType {
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

/// What the next occurrence counts from: the start, or the completion of the last.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "a description of names that are written elsewhere")]
pub enum Anchor {
    Schedule,
    Completion,
}

/// What happens when an occurrence falls due while an earlier one is open: it is passed over, the open one moves to it, or
/// it is there too, as every occurrence is, made ahead.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "a description of names that are written elsewhere")]
pub enum Overlap {
    Skip,
    RollForward,
    PileUp,
}

#[derive(ToSchema)]
#[schema(as = RecurringTaskStatus, rename_all = "lowercase")]
#[expect(dead_code, reason = "a description of names that are written elsewhere")]
enum Status {
    Active,
    Paused,
    Ended,
}

/// When to remind of each instance, or of each task of a template.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecurringReminder)]
pub struct OffsetView<'a> {
    /// ISO 8601 duration from the due time; on a whole day it counts from the account's `whole_day_time`.
    #[schema(example = "-PT10M")]
    offset: &'a str,
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    nag: Option<NagView<'a>>,
    /// ISO 8601 duration; absent where the account's setting counts.
    #[schema(nullable = false, example = "PT2H")]
    #[serde(skip_serializing_if = "Option::is_none")]
    send_late_within: Option<&'a str>,
}

impl<'a> From<&'a InstanceReminder> for OffsetView<'a> {
    fn from(reminder: &'a InstanceReminder) -> Self {
        Self {
            offset: &reminder.offset,
            nag: reminder.nag.as_ref().map(NagView::from),
            send_late_within: reminder.send_late_within.as_deref(),
        }
    }
}

impl<'a> From<&'a Series> for RecurringTaskView<'a> {
    fn from(series: &'a Series) -> Self {
        let content = &series.content;
        let simple = Simple::of(&series.rrule);
        let (starts_at, starts_on) = series.due(series.starts_at);
        Self {
            id: series.id,
            version: series.version,
            title: &content.title,
            description: content.description.as_deref(),
            priority: content.priority.as_str(),
            tags: &content.tags,
            floating: content.floating,
            reminders: content.reminders.iter().map(OffsetView::from).collect(),
            timezone: &series.timezone,
            starts_at,
            starts_on,
            recurrence: &series.rrule,
            recurrence_type: simple.map(|simple| simple.recurrence_type),
            interval: simple.map(|simple| simple.interval),
            count: simple.and_then(|simple| simple.count),
            ends_at: simple.and_then(|simple| simple.ends_at),
            rdates: &series.rdates,
            exdates: &series.exdates,
            anchor: series.anchor.as_str(),
            overlap: series.overlap.as_str(),
            split_from: series.split_from,
            status: match series {
                Series {
                    ended_at: Some(_), ..
                } => "ended",
                Series {
                    paused_at: Some(_), ..
                } => "paused",
                _ => "active",
            },
            paused_at: series.paused_at,
            ended_at: series.ended_at,
            created_at: series.created_at,
            updated_at: series.updated_at,
        }
    }
}

/// An occurrence to come.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Occurrence)]
pub struct OccurrenceView {
    /// The instant, with the zone's offset from UTC then.
    #[schema(format = DateTime, example = "2027-02-01T09:00:00+01:00")]
    at: String,
    /// What clocks show there then.
    #[schema(example = "2027-02-01T09:00:00")]
    local: String,
    /// Its place in the series: when it was due before anybody moved it.
    #[serde(serialize_with = "timestamp")]
    occurrence: DateTime<Utc>,
    /// The instance that stands for it, if it is made already.
    #[schema(required)]
    task_id: Option<Uuid>,
}

/// What became of an occurrence.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PastOccurrence)]
pub struct HistoryView {
    /// Its place in the series.
    #[serde(serialize_with = "timestamp")]
    pub occurrence: DateTime<Utc>,
    #[schema(value_type = Outcome)]
    pub status: &'static str,
    /// Whether it is, or was, due at another time than its place.
    pub moved: bool,
    /// Its instance; of one that was skipped there may be none.
    #[schema(required)]
    pub task_id: Option<Uuid>,
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    pub due_at: Option<DateTime<Utc>>,
    #[schema(required)]
    pub due_on: Option<NaiveDate>,
    #[schema(required)]
    #[serde(serialize_with = "optional_timestamp")]
    pub completed_at: Option<DateTime<Utc>>,
}

impl From<Past> for HistoryView {
    fn from(past: Past) -> Self {
        let day = |at: DateTime<Utc>| {
            let zone = past
                .timezone
                .as_deref()
                .and_then(|name| schedule::parse_zone(name).ok());
            at.with_timezone(&zone.unwrap_or(Tz::UTC)).date_naive()
        };
        let elsewhere = match (past.due_at, past.due_on) {
            (Some(at), _) => at != past.occurrence,
            (None, Some(on)) => on != day(past.occurrence),
            (None, None) => false,
        };
        let status = match &past {
            past if past.skipped => "skipped",
            past if past.deleted => "deleted",
            past if past.completed_at.is_some() => "completed",
            _ => "open",
        };
        Self {
            occurrence: past.occurrence,
            status,
            moved: elsewhere,
            task_id: past.task_id,
            due_at: past.due_at,
            due_on: past.due_on,
            completed_at: past.completed_at,
        }
    }
}

#[derive(ToSchema)]
#[schema(as = PastOccurrenceStatus, rename_all = "lowercase")]
#[expect(dead_code, reason = "a description of names that are written elsewhere")]
enum Outcome {
    Open,
    Completed,
    Deleted,
    Skipped,
}

/// Instants as [`timestamp`] writes them.
fn timestamps<S: Serializer>(all: &[DateTime<Utc>], serializer: S) -> Result<S::Ok, S::Error> {
    struct One(DateTime<Utc>);
    impl Serialize for One {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            timestamp(&self.0, serializer)
        }
    }
    serializer.collect_seq(all.iter().copied().map(One))
}

impl OccurrenceView {
    /// As it is seen in `zone`.
    pub fn new(occurrence: Occurrence, zone: Tz) -> Self {
        let at = occurrence.at.with_timezone(&zone);
        Self {
            at: at.to_rfc3339_opts(SecondsFormat::AutoSi, false),
            local: at.naive_local().format("%Y-%m-%dT%H:%M:%S").to_string(),
            occurrence: occurrence.place,
            task_id: occurrence.task_id,
        }
    }
}
