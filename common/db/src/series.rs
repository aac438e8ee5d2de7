//! Series: what recurs, and the rows of `tasks.series`. Their instances are tasks. Every function takes the owner first.
//!
//! **Lock order.** Whoever needs both locks the series first and then its instances, in the order of their ids. Whoever
//! needs a task alone locks no series after it. So nobody waits for somebody who waits for him.

use std::collections::BTreeMap;

use chrono::{NaiveDate, SubsecRound, TimeDelta};
use schedule::{Due, Interval, NotAnInterval, Offset, Rule, RuleError, Tz, ZoneError};
use schemas::{Nag, Priority, Task, TaskReminder, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::tasks;

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

    /// The occurrences, made ready once to be asked often.
    ///
    /// # Errors
    /// When the rule or the zone cannot be used.
    pub fn timeline(&self) -> Result<Timeline<'_>, Unusable> {
        let zone = schedule::parse_zone(&self.timezone).map_err(|source| Unusable::Zone {
            series_id: self.id,
            source,
        })?;
        let unusable = |source| self.unusable(source);
        let rule = Rule::parse(&self.rrule).map_err(unusable)?;
        let occurrences = match self.anchor {
            Anchor::Schedule => Occurrences::Rule(
                rule.timeline(self.starts_at, zone, &self.rdates, &self.exdates)
                    .map_err(unusable)?,
            ),
            Anchor::Completion => {
                let interval = Interval::of(&rule).map_err(|source| Unusable::Interval {
                    series_id: self.id,
                    rrule: self.rrule.clone(),
                    source,
                })?;
                Occurrences::Interval(interval, zone)
            }
        };
        Ok(Timeline {
            series: self,
            occurrences,
        })
    }

    fn unusable(&self, source: RuleError) -> Unusable {
        Unusable::Rule {
            series_id: self.id,
            rrule: self.rrule.clone(),
            source,
        }
    }

    /// The first occurrence strictly after `after`: see [`Timeline::after`].
    ///
    /// # Errors
    /// When the rule or the zone cannot be used.
    pub fn next_after(&self, after: Timestamp) -> Result<Option<Timestamp>, Unusable> {
        self.timeline()?.after(after).next().transpose()
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

/// The occurrences of a series: see [`Series::timeline`].
#[derive(Debug, Clone)]
pub struct Timeline<'a> {
    series: &'a Series,
    occurrences: Occurrences,
}

#[derive(Debug, Clone)]
enum Occurrences {
    Rule(schedule::Timeline),
    Interval(Interval, Tz),
}

impl Timeline<'_> {
    /// The occurrences strictly after `after`, in their order, each found when it is asked for. The first of all is the start,
    /// even where it does not match the rule, unless it is an exception. Of a series that counts from completions it is
    /// where they are if one was completed at `after`, the next on its day, and so on.
    pub fn after(&self, after: Timestamp) -> impl Iterator<Item = Result<Timestamp, Unusable>> {
        let series = self.series;
        let excepted = |at: Timestamp| {
            let mut exdates = series.exdates.iter();
            exdates.any(|exdate| exdate.trunc_subsecs(0) == at.trunc_subsecs(0))
        };
        let start = Some(series.starts_at).filter(|start| {
            *start > after && matches!(self.occurrences, Occurrences::Rule(_)) && !excepted(*start)
        });
        let (by_rule, by_interval) = match &self.occurrences {
            Occurrences::Rule(rule) => (Some(rule.after(after.max(series.starts_at))), None),
            Occurrences::Interval(interval, zone) => {
                (None, Some(interval.after(series.starts_at, *zone, after)))
            }
        };
        let by_rule = by_rule.into_iter().flatten();
        start
            .map(Ok)
            .into_iter()
            .chain(by_rule.map(|found| found.map_err(|source| series.unusable(source))))
            .chain(by_interval.into_iter().flatten().map(Ok))
    }

    /// The last occurrence that is not after `until`; of a series that counts from completions there is none.
    ///
    /// # Errors
    /// When it takes too much work to find.
    pub fn last_until(&self, until: Timestamp) -> Result<Option<Timestamp>, Unusable> {
        let Occurrences::Rule(rule) = &self.occurrences else {
            return Ok(None);
        };
        let series = self.series;
        let last = rule.last_until(until).map_err(|source| series.unusable(source))?;
        // Dates before the start are none, and the start may be one by itself.
        let start = series.starts_at;
        match last.filter(|last| *last > start) {
            Some(last) => Ok(Some(last)),
            None => {
                let first = self
                    .after(start - TimeDelta::microseconds(1))
                    .next()
                    .transpose()?;
                Ok(first.filter(|first| *first == start && start <= until))
            }
        }
    }

    /// The occurrence of that second, as the series has it: only its start has fractions. Where it counts from completions
    /// every instant may be one.
    ///
    /// # Errors
    /// When it takes too much work to find.
    pub fn at(&self, at: Timestamp) -> Result<Option<Timestamp>, Unusable> {
        if matches!(self.occurrences, Occurrences::Interval(..)) {
            return Ok(Some(at));
        }
        let second = at.trunc_subsecs(0);
        let next = self
            .after(second - TimeDelta::microseconds(1))
            .next()
            .transpose()?;
        Ok(next.filter(|next| next.trunc_subsecs(0) == second))
    }
}

/// Why a series has no next occurrence that could be computed. Trying again gives the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Its rule is none.
    #[error("the rule {rrule:?} of series {series_id} cannot be used: {source}")]
    Rule {
        /// The series.
        series_id: Uuid,
        /// Its rule.
        rrule: String,
        /// What is wrong with it.
        source: RuleError,
    },
    /// Its rule says more than how long after a completion the next is due.
    #[error("the rule {rrule:?} of series {series_id} cannot be used: {source}")]
    Interval {
        /// The series.
        series_id: Uuid,
        /// Its rule.
        rrule: String,
        /// What is wrong with it.
        source: NotAnInterval,
    },
    /// Its zone is none.
    #[error("series {series_id} has no usable time zone: {source}")]
    Zone {
        /// The series.
        series_id: Uuid,
        /// What is wrong with it.
        source: ZoneError,
    },
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

/// A row as it is; the content is missing in rows of older versions.
fn from_row(row: &PgRow) -> Result<(Series, bool), sqlx::Error> {
    let content: Option<Json<Content>> = row.try_get("content")?;
    let complete = content.is_some();
    let series = Series {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        rrule: row.try_get("rrule")?,
        starts_at: row.try_get("starts_at")?,
        timezone: row.try_get("timezone")?,
        rdates: row.try_get("rdates")?,
        exdates: row.try_get("exdates")?,
        anchor: Anchor::read(row, "anchor")?,
        overlap: Overlap::read(row, "overlap")?,
        made_through: row.try_get("made_through")?,
        split_from: row.try_get("split_from")?,
        content: content.map(|Json(content)| content).unwrap_or_default(),
        paused_at: row.try_get("paused_at")?,
        ended_at: row.try_get("ended_at")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        deleted_at: row.try_get("deleted_at")?,
    };
    Ok((series, complete))
}

/// A row with its content. Where it has none, that is what its newest instance holds.
async fn read(db: &mut PgConnection, user_id: Uuid, row: &PgRow) -> Result<Series, sqlx::Error> {
    let (mut series, complete) = from_row(row)?;
    if !complete && let Some(task) = tasks::newest_instance(db, user_id, series.id).await? {
        series.content = Content::of(&task);
    }
    Ok(series)
}

/// Writes a new series.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn insert(tx: &mut PgConnection, user_id: Uuid, series: &Series) -> Result<(), sqlx::Error> {
    sqlx::query(concat!(
        "insert into tasks.series (user_id, ",
        columns!(),
        ", made_through, attend_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)"
    ))
    .bind(user_id)
    .bind(series.id)
    .bind(series.version)
    .bind(&series.rrule)
    .bind(series.starts_at)
    .bind(&series.timezone)
    .bind(Json(&series.content))
    .bind(series.paused_at)
    .bind(series.ended_at)
    .bind(series.created_at)
    .bind(series.updated_at)
    .bind(series.deleted_at)
    .bind(&series.rdates)
    .bind(&series.exdates)
    .bind(series.anchor.as_str())
    .bind(series.overlap.as_str())
    .bind(series.split_from)
    .bind(series.made_through)
    .bind(series.attend_at())
    .execute(tx)
    .await?;
    Ok(())
}

/// The person's series of that id, unless it is deleted.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn get(db: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<Option<Series>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "select ",
        selected!(),
        " from tasks.series where user_id = $1 and id = $2 and deleted_at is null"
    ))
    .bind(user_id)
    .bind(id)
    .fetch_optional(&mut *db)
    .await?;
    match row {
        Some(row) => read(db, user_id, &row).await.map(Some),
        None => Ok(None),
    }
}

/// A page of the person's series that are not deleted, newest first, those created before `before` only.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn list(
    db: &mut PgConnection,
    user_id: Uuid,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Series>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "select ",
        selected!(),
        " from tasks.series
          where user_id = $1 and id < coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid) and deleted_at is null
          order by id desc limit $3"
    ))
    .bind(user_id)
    .bind(before)
    .bind(limit)
    .fetch_all(&mut *db)
    .await?;
    let mut series = Vec::with_capacity(rows.len());
    for row in &rows {
        series.push(read(db, user_id, row).await?);
    }
    Ok(series)
}

/// The person's series of that id, locked until the transaction ends, so that its instances are made by one at a time.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn lock(tx: &mut PgConnection, user_id: Uuid, id: Uuid) -> Result<Option<Series>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "select ",
        selected!(),
        " from tasks.series where user_id = $1 and id = $2 and deleted_at is null for update"
    ))
    .bind(user_id)
    .bind(id)
    .fetch_optional(&mut *tx)
    .await?;
    match row {
        Some(row) => read(tx, user_id, &row).await.map(Some),
        None => Ok(None),
    }
}

/// A series of the person that follows them and is not in that zone yet, or counts from another minute of whole days; locked
/// until the transaction ends. Ended ones stay where they are, and those without a content follow nobody: they are of
/// versions that knew no time but a zone's.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn lock_following(
    tx: &mut PgConnection,
    user_id: Uuid,
    timezone: &str,
    whole_day_minute: i32,
) -> Result<Option<Series>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "select ",
        selected!(),
        " from tasks.series
          where user_id = $1 and ended_at is null
            and ((content ->> 'whole_day')::boolean or (content ->> 'floating')::boolean)
            and (timezone <> $2 or coalesce((content ->> 'whole_day_minute')::integer, 540) <> $3)
          order by id limit 1 for update"
    ))
    .bind(user_id)
    .bind(timezone)
    .bind(whole_day_minute)
    .fetch_optional(&mut *tx)
    .await?;
    row.as_ref()
        .map(|row| from_row(row).map(|(series, _)| series))
        .transpose()
}

/// Locks the series of the person's task, if it has one: what is done before a task is locked that may leave it.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn lock_of_task(tx: &mut PgConnection, user_id: Uuid, task_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "select from tasks.series
         where user_id = $1 and id = (select series_id from tasks.tasks where user_id = $1 and id = $2)
         for update",
    )
    .bind(user_id)
    .bind(task_id)
    .execute(tx)
    .await?;
    Ok(())
}

/// Writes a changed series, locked before in the same transaction.
///
/// # Errors
/// When the database does not answer or refuses; [`sqlx::Error::RowNotFound`] when the row is not the version before
/// `series.version`, which the lock rules out.
pub async fn update(tx: &mut PgConnection, user_id: Uuid, series: &Series) -> Result<(), sqlx::Error> {
    let done = sqlx::query(
        "update tasks.series
         set version = $3, rrule = $4, starts_at = $5, timezone = $6, content = $7, paused_at = $8, ended_at = $9,
             updated_at = $10, deleted_at = $11, rdates = $12, exdates = $13, anchor = $14, overlap = $15,
             made_through = $16, attend_at = $17
         where user_id = $1 and id = $2 and version = $3 - 1",
    )
    .bind(user_id)
    .bind(series.id)
    .bind(series.version)
    .bind(&series.rrule)
    .bind(series.starts_at)
    .bind(&series.timezone)
    .bind(Json(&series.content))
    .bind(series.paused_at)
    .bind(series.ended_at)
    .bind(series.updated_at)
    .bind(series.deleted_at)
    .bind(&series.rdates)
    .bind(&series.exdates)
    .bind(series.anchor.as_str())
    .bind(series.overlap.as_str())
    .bind(series.made_through)
    .bind(series.attend_at())
    .execute(tx)
    .await?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(sqlx::Error::RowNotFound)
    }
}

/// Ends a series, locked before in the same transaction, unless it has ended already: the one change of its version that the
/// recurrence generator makes, and may make.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn end(tx: &mut PgConnection, user_id: Uuid, id: Uuid, at: Timestamp) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update tasks.series
         set version = version + 1, ended_at = $3, updated_at = greatest($3, updated_at), attend_at = null
         where user_id = $1 and id = $2 and ended_at is null",
    )
    .bind(user_id)
    .bind(id)
    .bind(at)
    .execute(tx)
    .await?;
    Ok(())
}

/// Ends a series that a task has left, unless it has another open instance: nobody could complete one any more.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn end_if_left(
    tx: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    if tasks::open_instances(&mut *tx, user_id, id).await?.is_empty() {
        end(tx, user_id, id, at).await?;
    }
    Ok(())
}

/// The latest occurrence that the series has an instance for, of those before `before`. Deleted ones count: a deleted
/// instance must not come back.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn latest_occurrence(
    tx: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    before: Option<Timestamp>,
) -> Result<Option<Timestamp>, sqlx::Error> {
    sqlx::query_scalar(
        "select max(occurrence) from tasks.tasks
         where user_id = $1 and series_id = $2 and occurrence < coalesce($3, 'infinity'::timestamptz)",
    )
    .bind(user_id)
    .bind(id)
    .bind(before)
    .fetch_one(tx)
    .await
}

/// Which of those occurrences, each of a series of the person, have an instance, open or not.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn occurrences_among(
    tx: &mut PgConnection,
    user_id: Uuid,
    occurrences: &[(Uuid, Timestamp)],
) -> Result<Vec<(Uuid, Timestamp)>, sqlx::Error> {
    if occurrences.is_empty() {
        return Ok(Vec::new());
    }
    let (series, at): (Vec<Uuid>, Vec<Timestamp>) = occurrences.iter().copied().unzip();
    sqlx::query_as(
        "select series_id, occurrence from tasks.tasks
         where user_id = $1 and (series_id, occurrence) in (select * from unnest($2::uuid[], $3::timestamptz[]))",
    )
    .bind(user_id)
    .bind(series)
    .bind(at)
    .fetch_all(tx)
    .await
}

/// What became of an occurrence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Its place in the series.
    pub occurrence: Timestamp,
    /// Whether it is an exception.
    pub skipped: bool,
    /// Its instance, if there is one.
    pub task_id: Option<Uuid>,
    /// See [`Task::due_at`].
    pub due_at: Option<Timestamp>,
    /// See [`Task::due_on`].
    pub due_on: Option<NaiveDate>,
    /// See [`Task::timezone`].
    pub timezone: Option<String>,
    /// See [`Task::completed_at`].
    pub completed_at: Option<Timestamp>,
    /// Whether its instance is deleted.
    pub deleted: bool,
}

/// The occurrences of a person's series before `before` that have an instance or are exceptions, the latest `limit` of them,
/// latest first.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn history(
    db: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    before: Option<Timestamp>,
    limit: i64,
) -> Result<Vec<Past>, sqlx::Error> {
    let rows = sqlx::query(
        "with excepted as (
             select exdate from tasks.series, unnest(exdates) exdate where user_id = $1 and id = $2
         )
         select occurrence, exists (select from excepted where exdate = date_trunc('second', occurrence)) as skipped,
                id, due_at, due_on, timezone, completed_at, deleted_at is not null as deleted
         from tasks.tasks
         where user_id = $1 and series_id = $2 and occurrence < coalesce($3, 'infinity'::timestamptz)
         union all
         select exdate, true, null, null, null, null, null, false
         from excepted
         where exdate < coalesce($3, 'infinity'::timestamptz) and not exists (
             select from tasks.tasks
             where user_id = $1 and series_id = $2
               and occurrence >= exdate and occurrence < exdate + interval '1 second')
         order by occurrence desc limit $4",
    )
    .bind(user_id)
    .bind(id)
    .bind(before)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Past {
                occurrence: row.try_get("occurrence")?,
                skipped: row.try_get("skipped")?,
                task_id: row.try_get("id")?,
                due_at: row.try_get("due_at")?,
                due_on: row.try_get("due_on")?,
                timezone: row.try_get("timezone")?,
                completed_at: row.try_get("completed_at")?,
                deleted: row.try_get("deleted")?,
            })
        })
        .collect()
}

/// Which occurrences after `after` have an instance already, and whether it is open: at most 10,000 of them, in their order.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn taken_after(
    db: &mut PgConnection,
    user_id: Uuid,
    id: Uuid,
    after: Timestamp,
) -> Result<BTreeMap<Timestamp, bool>, sqlx::Error> {
    let rows: Vec<(Timestamp, bool)> = sqlx::query_as(
        "select occurrence, completed_at is null and deleted_at is null from tasks.tasks
         where user_id = $1 and series_id = $2 and occurrence > $3 order by occurrence limit 10000",
    )
    .bind(user_id)
    .bind(id)
    .bind(after)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Ends all series of a person who leaves.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn end_all(tx: &mut PgConnection, user_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update tasks.series set version = version + 1, ended_at = now(), updated_at = now(), attend_at = null
         where user_id = $1 and ended_at is null",
    )
    .bind(user_id)
    .execute(tx)
    .await?;
    Ok(())
}

/// A series that somebody is to look at, and when that is by the database's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Whose it is.
    pub user_id: Uuid,
    /// The series, locked.
    pub series: Series,
    /// The database's time.
    pub now: Timestamp,
}

/// Series of that policy whose next occurrence is no further than `ahead` from now by the database's clock, whoever's they
/// are: at most `limit`, longest due first, locked until the transaction ends. Those that others hold are left out.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn claim(
    tx: &mut PgConnection,
    overlap: Overlap,
    ahead: TimeDelta,
    limit: i64,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "select user_id, now() as now, ",
        selected!(),
        " from tasks.series
          where overlap = $1 and attend_at <= now() + $2
          order by attend_at limit $3 for update skip locked"
    ))
    .bind(overlap.as_str())
    .bind(ahead)
    .bind(limit)
    .fetch_all(&mut *tx)
    .await?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in &rows {
        let user_id = row.try_get("user_id")?;
        claimed.push(Claimed {
            user_id,
            series: read(tx, user_id, row).await?,
            now: row.try_get("now")?,
        });
    }
    Ok(claimed)
}

/// How many seconds from now, by the database's clock, the next series of that policy is to be looked at `ahead` of its
/// occurrence: none or less when one is already. `None` when there is none.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn next_claim(
    db: &mut PgConnection,
    overlap: Overlap,
    ahead: TimeDelta,
) -> Result<Option<f64>, sqlx::Error> {
    sqlx::query_scalar(
        "select extract(epoch from min(attend_at) - $2 - now())::float8 from tasks.series
         where overlap = $1 and attend_at is not null",
    )
    .bind(overlap.as_str())
    .bind(ahead)
    .fetch_one(db)
    .await
}

/// How far a series has come, and when somebody is to look at it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Whose it is.
    pub user_id: Uuid,
    /// The series, locked.
    pub id: Uuid,
    /// See [`Series::made_through`].
    pub made_through: Option<Timestamp>,
    /// See [`Series::attend_at`].
    pub attend_at: Option<Timestamp>,
}

impl Progress {
    /// As the series says.
    #[must_use]
    pub fn of(user_id: Uuid, series: &Series) -> Self {
        Self {
            user_id,
            id: series.id,
            made_through: series.made_through,
            attend_at: series.attend_at(),
        }
    }
}

/// Writes how far series have come, all locked before in the same transaction. That is no change that a client could see
/// in the series: its version stays.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn advance(tx: &mut PgConnection, progress: &[Progress]) -> Result<(), sqlx::Error> {
    if progress.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update tasks.series s set made_through = p.made_through, attend_at = p.attend_at
         from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[])
              as p (user_id, id, made_through, attend_at)
         where s.user_id = p.user_id and s.id = p.id",
    )
    .bind(progress.iter().map(|p| p.user_id).collect::<Vec<_>>())
    .bind(progress.iter().map(|p| p.id).collect::<Vec<_>>())
    .bind(progress.iter().map(|p| p.made_through).collect::<Vec<_>>())
    .bind(progress.iter().map(|p| p.attend_at).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}
