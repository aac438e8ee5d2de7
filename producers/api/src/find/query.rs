//! What a request asks for.

use std::collections::BTreeSet;

use axum::http::Uri;
use schedule::Tz;
use schemas::{Priority, Timestamp};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::position::{Key, Position};
use super::question::Question;
use crate::cursor::Cursors;
use crate::input::{Place, read};
use crate::page::Page;
use crate::problem::Problem;
use crate::query::Parameters;
use crate::tasks::{MAX_TAG_CHARS, MAX_TAGS};
use crate::token::Bearer;

/// Longest text that is searched for.
const MAX_QUESTION_CHARS: usize = 500;

/// A page of tasks that is asked for.
#[derive(Debug)]
pub struct Find {
    /// Whose tasks.
    pub user_id: Uuid,
    /// The zone that says when today is.
    pub zone: Tz,
    /// Which.
    pub filter: Filter,
    /// In which order.
    pub sort: Sort,
    /// Whether all that match are to be counted.
    pub total: bool,
    /// Which part of them.
    pub page: Page<Position>,
}

/// Which tasks are asked for: those that all of this is true of.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// They hold these words.
    pub question: Option<Question>,
    /// They are open, or completed.
    pub status: Option<Status>,
    /// They have one of these priorities.
    pub priorities: BTreeSet<&'static str>,
    /// They have all of these tags.
    pub tags: BTreeSet<String>,
    /// They have one of these tags.
    pub tags_any: BTreeSet<String>,
    /// They are due in this way.
    pub due: Option<Due>,
    /// They are due before.
    pub due_before: Option<Timestamp>,
    /// They are due then or after.
    pub due_after: Option<Timestamp>,
    /// They belong to this series.
    pub series_id: Option<Uuid>,
    /// They were updated then or after.
    pub updated_since: Option<Timestamp>,
    /// They are deleted; otherwise they are not.
    pub deleted: bool,
}

/// Whether a task is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Status {
    /// Not yet.
    Open,
    /// It is.
    Completed,
}

/// In which way tasks are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Due {
    /// On the person's today.
    Today,
    /// They are open and should have been done: before now, or, due on a whole day, before today.
    Overdue,
    /// At some time.
    Any,
    /// Never.
    None,
}

/// What a list is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sort {
    /// The field.
    pub by: SortBy,
    /// The largest first.
    pub descending: bool,
}

/// A field to sort by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum SortBy {
    /// When they were created.
    Created,
    /// When they were updated.
    Updated,
    /// When they are due; those that never are come last.
    Due,
    /// How urgent they are.
    Priority,
    /// Their titles.
    Title,
    /// How well they match the words; always the best first.
    Rank,
}

impl Sort {
    const NEWEST_FIRST: Self = Self {
        by: SortBy::Created,
        descending: true,
    };
    const BEST_FIRST: Self = Self {
        by: SortBy::Rank,
        descending: true,
    };

    fn from_name(name: &str) -> Option<Self> {
        if name == "rank" {
            return Some(Self::BEST_FIRST);
        }
        let (name, descending) = match name.strip_prefix('-') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let by = match name {
            "created" => SortBy::Created,
            "updated" => SortBy::Updated,
            "due" => SortBy::Due,
            "priority" => SortBy::Priority,
            "title" => SortBy::Title,
            _ => return None,
        };
        Some(Self { by, descending })
    }
}

impl Find {
    /// Reads what this person asks for.
    ///
    /// # Errors
    /// Everything that is wrong with the query.
    pub fn read(uri: &Uri, user: &Bearer, cursors: &Cursors) -> Result<Self, Problem> {
        let mut parameters = Parameters::of(uri)?;
        let filter = Filter::read(&mut parameters);
        let sort = parameters.one("sort", |place, value| {
            let names = "created, updated, due, priority, title, each with a - before it for the other way round, and rank";
            read::choice(place, value, Sort::from_name, names)
        });
        if sort == Some(Sort::BEST_FIRST) && filter.question.is_none() {
            parameters.refuse("sort", "may be rank only together with q");
        }
        let sort = sort.unwrap_or(match filter.question {
            Some(_) => Sort::BEST_FIRST,
            None => Sort::NEWEST_FIRST,
        });
        let query = serde_json::to_string(&(&filter, sort)).map_err(Problem::internal)?;
        let page = Page::take(&mut parameters, cursors, "tasks", user.user_id, query);
        let total = parameters.one("total", boolean).unwrap_or(false);
        parameters.finish()?;
        Ok(Self {
            user_id: user.user_id,
            // A zone that this build does not know: an account of a build with other zone data.
            zone: schedule::parse_zone(&user.timezone).unwrap_or(Tz::UTC),
            filter,
            sort,
            total,
            page,
        })
    }

    /// Whether the page goes on with tasks whose titles are merely similar to the words.
    pub fn goes_on_with_similar(&self) -> bool {
        matches!(
            self.page.after,
            Some(Position {
                key: Key::Similarity(_),
                ..
            })
        )
    }
}

impl Filter {
    /// Whether it lets all tasks pass that exist.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    fn read(parameters: &mut Parameters) -> Self {
        let instant = |place: &mut Place<'_>, value: Value| {
            // A + that was not escaped arrives as a blank.
            read::timestamp(place, text(value).replace(' ', "+").into())
        };
        let tag = |place: &mut Place<'_>, value: Value| read::line(place, value, MAX_TAG_CHARS);
        Self {
            question: parameters.one("q", |place, value| {
                let text = read::line(place, value, MAX_QUESTION_CHARS)?;
                Question::parse(&text).map_or_else(|flaw| place.refuse(flaw), Some)
            }),
            status: parameters
                .one("status", |place, value| {
                    read::choice(place, value, status, "open, completed, all")
                })
                .flatten(),
            priorities: parameters
                .list("priority", 4, |place, value| {
                    let priority =
                        read::choice(place, value, Priority::from_name, "low, medium, high, urgent")?;
                    Some(priority.as_str())
                })
                .into_iter()
                .collect(),
            tags: parameters.list("tags", MAX_TAGS, tag).into_iter().collect(),
            tags_any: parameters.list("tags_any", MAX_TAGS, tag).into_iter().collect(),
            due: parameters.one("due", |place, value| {
                read::choice(place, value, due, "today, overdue, any, none")
            }),
            due_before: parameters.one("due_before", instant),
            due_after: parameters.one("due_after", instant),
            series_id: parameters.one("series_id", read::uuid),
            updated_since: parameters.one("updated_since", instant),
            deleted: parameters.one("deleted", boolean).unwrap_or(false),
        }
    }
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn boolean(place: &mut Place<'_>, value: Value) -> Option<bool> {
    read::choice(place, value, |name| name.parse().ok(), "true, false")
}

fn status(name: &str) -> Option<Option<Status>> {
    match name {
        "open" => Some(Some(Status::Open)),
        "completed" => Some(Some(Status::Completed)),
        "all" => Some(None),
        _ => None,
    }
}

fn due(name: &str) -> Option<Due> {
    match name {
        "today" => Some(Due::Today),
        "overdue" => Some(Due::Overdue),
        "any" => Some(Due::Any),
        "none" => Some(Due::None),
        _ => None,
    }
}
