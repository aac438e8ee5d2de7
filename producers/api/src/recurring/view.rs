//! A recurring task as the API shows it.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use db::series::{InstanceReminder, Series};
use schedule::Tz;
use serde::Serialize;
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
    /// The instance that stands for it, if it is made already.
    #[schema(required)]
    task_id: Option<Uuid>,
}

impl OccurrenceView {
    /// As it is seen in `zone`.
    pub fn new(occurrence: Occurrence, zone: Tz) -> Self {
        let at = occurrence.at.with_timezone(&zone);
        Self {
            at: at.to_rfc3339_opts(SecondsFormat::AutoSi, false),
            local: at.naive_local().format("%Y-%m-%dT%H:%M:%S").to_string(),
            task_id: occurrence.task_id,
        }
    }
}
