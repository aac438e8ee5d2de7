//! What a template may be, and the task that comes of it. Pure: no database, no HTTP.

use chrono::{Days, NaiveDate, NaiveTime, SecondsFormat, TimeDelta};
use db::series::{self, InstanceReminder};
use schedule::{Tz, resolve_local};
use schemas::{Priority, Task, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::TemplateInput;
use crate::input::{Field, Problems};
use crate::problem::Problem;

/// The furthest that a due day may be from the day that a task is made for, as with every offset.
const MAX_DAYS: i64 = schedule::duration::MAX_OFFSET_DAYS as i64;

/// A template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Identity of the template.
    pub id: Uuid,
    /// Grows by one with every change, taken under the row's lock.
    pub version: i64,
    /// What its tasks are made with.
    pub content: Content,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What the tasks of a template are made with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// When a task is due, if it is.
    #[serde(default)]
    pub due: Option<Due>,
    /// Whether a due time follows the person; see [`Task::floating`].
    #[serde(default)]
    pub floating: bool,
    /// When a task reminds.
    pub reminders: Vec<InstanceReminder>,
}

/// When a task is due, seen from the day that it is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// So many days later.
    pub days: i64,
    /// At that time of day; on the whole day where there is none.
    #[serde(default)]
    pub time: Option<NaiveTime>,
}

impl Content {
    /// What a task holds. Its due day is counted from the day on which it was made, in its zone; one that is further away
    /// than an offset can be is left out, and the reminders with it.
    pub fn of(task: &Task) -> Self {
        let zone = schedule::parse_zone(&task.timezone).unwrap_or(Tz::UTC);
        let made = task.created_at.with_timezone(&zone).date_naive();
        let local = task.due_at.map(|at| at.with_timezone(&zone).naive_local());
        let day = task.due_on.or(local.map(|local| local.date()));
        let due = day.map(|day| Due {
            days: (day - made).num_days(),
            time: local.map(|local| local.time()),
        });
        let due = due.filter(|due| due.days.abs() <= MAX_DAYS);
        let content = series::Content::of(task);
        Self {
            title: content.title,
            description: content.description,
            priority: content.priority,
            tags: content.tags,
            reminders: if due.is_some() {
                content.reminders
            } else {
                Vec::new()
            },
            floating: task.floating && due.is_some(),
            due,
        }
    }
}

/// Makes a template. `from` is the task that gives what `input` does not say.
///
/// # Errors
/// What must hold between the fields and would not.
pub fn create(input: TemplateInput, from: Option<&Task>, now: Timestamp) -> Result<Template, Problem> {
    Ok(Template {
        id: Uuid::now_v7(),
        version: 1,
        content: put_over(input, from.map(Content::of).unwrap_or_default())?,
        created_at: now,
        updated_at: now,
    })
}

/// Puts a patch over a template; `None` when it changes nothing.
///
/// # Errors
/// What must hold between the fields and would not.
pub fn patch(input: TemplateInput, current: &Template, now: Timestamp) -> Result<Option<Template>, Problem> {
    let content = put_over(input, current.content.clone())?;
    Ok((content != current.content).then(|| Template {
        version: current.version + 1,
        content,
        // Times of a template only grow, whatever this machine's clock says.
        updated_at: now.max(current.updated_at + TimeDelta::microseconds(1)),
        ..current.clone()
    }))
}

fn put_over(input: TemplateInput, base: Content) -> Result<Content, Problem> {
    let mut problems = Problems::default();
    let days = input
        .due_offset
        .map(Some)
        .merge(base.due.map(|due| due.days), || None);
    let time = match input.due_time {
        Field::Value(_) if days.is_none() => {
            problems.add("/due_time", "needs due_offset, which says the day");
            None
        }
        time => time.map(Some).merge(base.due.and_then(|due| due.time), || None),
    };
    let floating_given = matches!(input.floating, Field::Value(true));
    let blamed = if input.reminders.is_given() {
        "/reminders"
    } else {
        "/due_offset"
    };
    let content = Content {
        title: input.title.merge(base.title, String::new),
        description: input.description.merge(base.description, || None),
        priority: input.priority.merge(base.priority, Default::default),
        tags: input.tags.merge(base.tags, Vec::new),
        due: days.map(|days| Due { days, time }),
        // Without a time of day there is nothing that could float: a whole day follows anyway.
        floating: input.floating.merge(base.floating, || false) && days.is_some() && time.is_some(),
        reminders: input.reminders.merge(base.reminders, Vec::new),
    };
    if floating_given && !content.floating {
        problems.add(
            "/floating",
            "needs due_time: a whole day follows the person anyway",
        );
    }
    if content.due.is_none() && !content.reminders.is_empty() {
        let detail = match blamed {
            "/reminders" => "need due_offset, which they count from",
            _ => "must stay while reminders count from it",
        };
        problems.add(blamed, detail);
    }
    problems.finish(Some(content))
}

/// The body of a request for the task that comes of a template on that day, in that zone. The members of `asked` count
/// instead of the template's.
pub fn task_body(
    content: &Content,
    day: NaiveDate,
    zone: Tz,
    asked: Map<String, Value>,
) -> Map<String, Value> {
    let mut body = Map::from_iter([
        ("title".to_owned(), json!(content.title)),
        ("description".to_owned(), json!(content.description)),
        ("priority".to_owned(), json!(content.priority.as_str())),
        ("tags".to_owned(), json!(content.tags)),
    ]);
    let due_asked = ["due_at", "due_on"].map(|name| asked.get(name));
    // Asked for without a due time, it has nothing that reminders could count from.
    if due_asked == [None, None] || due_asked.iter().flatten().any(|value| !value.is_null()) {
        let reminders: Vec<_> = content
            .reminders
            .iter()
            .map(
                |InstanceReminder {
                     offset,
                     nag,
                     send_late_within,
                 }| {
                    json!({"offset": offset, "nag": nag, "send_late_within": send_late_within})
                },
            )
            .collect();
        body.insert("reminders".to_owned(), json!(reminders));
    }
    if let Some(due) = content.due.filter(|_| due_asked == [None, None]) {
        let shift = Days::new(due.days.unsigned_abs());
        let moved = if due.days < 0 {
            day.checked_sub_days(shift)
        } else {
            day.checked_add_days(shift)
        };
        // Beyond the calendar the day is refused like any other that is too far away.
        let day = moved.unwrap_or(NaiveDate::MAX);
        match due.time {
            Some(time) => {
                let at = resolve_local(day.and_time(time), zone);
                let text = at.to_rfc3339_opts(SecondsFormat::Micros, true);
                body.insert("due_at".to_owned(), json!(text));
                // A zone that is asked for is meant: the time stays in it.
                let follows = content.floating && asked.get("timezone").is_none_or(Value::is_null);
                body.insert("floating".to_owned(), json!(follows));
            }
            None => {
                body.insert("due_on".to_owned(), json!(day.to_string()));
            }
        }
    }
    body.extend(asked);
    body
}
