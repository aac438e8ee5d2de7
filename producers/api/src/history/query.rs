//! Which part of the history is asked for.

use std::fmt;
use std::sync::LazyLock;

use axum::http::Uri;
use chrono::{DateTime, Utc};
use schemas::{Timestamp, short_type};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::cursor::Cursors;
use crate::input::{Place, read};
use crate::page::Page;
use crate::problem::Problem;
use crate::query::Parameters;

/// The types of events, as the API spells them and as they are stored.
static TYPES: LazyLock<Vec<(&'static str, &'static str)>> = LazyLock::new(|| {
    schemas::all_schemas()
        .iter()
        .map(|schema| (short_type(&schema.event_type), schema.event_type.as_str()))
        .collect()
});

/// Who causes events, spelled alike in both.
const ACTORS: [(&str, &str); 4] = [
    ("user", "user"),
    ("assistant", "assistant"),
    ("recurrence", "recurrence"),
    ("system", "system"),
];

/// A place in the history: what comes after it is older.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// When the event happened.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub occurred_at: Timestamp,
    /// Which of those of that instant.
    pub event_id: Uuid,
}

/// Which events are asked for. Everything absent means everything.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Types of events, as they are stored.
    pub types: Vec<&'static str>,
    /// Events about this task.
    pub task_id: Option<Uuid>,
    /// Events caused by these.
    pub actors: Vec<&'static str>,
    /// Events of this instant and later.
    pub since: Option<Timestamp>,
    /// Events before this instant.
    pub until: Option<Timestamp>,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Query {
    /// Which events.
    pub filter: Filter,
    /// Which page of them.
    pub page: Page<Position>,
}

/// What is read by [`Query::read`].
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description of what is read parameter by parameter")]
pub struct QueryParameters {
    /// Events of this type, or of one of these: give each.
    #[param(max_items = 13, example = json!(["task.created", "task.updated"]))]
    r#type: Option<Vec<String>>,
    /// Events caused by `user`, `assistant`, `recurrence`, `system`, or one of these: give each.
    #[param(max_items = 4, example = json!(["user"]))]
    actor: Option<Vec<String>>,
    /// The first instant.
    since: Option<DateTime<Utc>>,
    /// The first instant no more.
    until: Option<DateTime<Utc>>,
}

/// The description of the one parameter that a path may say instead.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description of what is read parameter by parameter")]
pub struct TaskParameter {
    /// Events about this task only.
    task_id: Option<Uuid>,
}

impl Query {
    /// Reads the query of a request for a person's history, of `task_id` if the path names one.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(uri: &Uri, cursors: &Cursors, user_id: Uuid, task_id: Option<Uuid>) -> Result<Self, Problem> {
        let mut parameters = Parameters::of(uri)?;
        let filter = Filter {
            types: parameters.list("type", TYPES.len(), |place, value| word(place, value, &TYPES)),
            actors: parameters.list("actor", ACTORS.len(), |place, value| word(place, value, &ACTORS)),
            task_id: task_id.or_else(|| parameters.one("task_id", read::uuid)),
            since: parameters.one("since", instant),
            until: parameters.one("until", instant),
        };
        let page = Page::take(&mut parameters, cursors, "history", user_id, filter.to_string());
        parameters.finish()?;
        Ok(Self { filter, page })
    }
}

/// One text for one filter.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut types, mut actors) = (self.types.clone(), self.actors.clone());
        types.sort_unstable();
        actors.sort_unstable();
        write!(
            f,
            "{types:?} {actors:?} {:?} {:?} {:?}",
            self.task_id, self.since, self.until
        )
    }
}

/// One of some words, as it is stored.
fn word(
    place: &mut Place<'_>,
    value: Value,
    known: &'static [(&'static str, &'static str)],
) -> Option<&'static str> {
    let text = read::string(place, value)?;
    match known.iter().find(|(name, _)| *name == text) {
        Some((_, stored)) => Some(stored),
        None => {
            let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            place.refuse(format!("must be one of {}", names.join(", ")))
        }
    }
}

/// An instant, with a word for those who wrote its offset as it is.
fn instant(place: &mut Place<'_>, value: Value) -> Option<Timestamp> {
    if value.as_str().is_some_and(|text| text.contains(' ')) {
        return place.refuse("has a blank in it: in a query the sign + is written %2B");
    }
    read::timestamp(place, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::SigningKey;
    use crate::token::tests::RFC_8037_KEY;

    fn read(query: &str, user_id: Uuid) -> Result<Query, Problem> {
        let cursors = Cursors::new(&SigningKey::from_pem(RFC_8037_KEY).unwrap()).unwrap();
        Query::read(
            &format!("/api/audit?{query}").parse().unwrap(),
            &cursors,
            user_id,
            None,
        )
    }

    #[test]
    fn types_are_spelled_without_what_they_have_in_common() {
        assert_eq!(TYPES.len(), 13);
        let query = read("type=task.created&type=notification.sent&actor=user", Uuid::nil()).unwrap();
        assert_eq!(
            query.filter.types,
            [
                "com.carillon.task.created.v1",
                "com.carillon.notification.sent.v1"
            ]
        );
        assert_eq!(query.filter.actors, ["user"]);
    }

    #[test]
    fn a_cursor_is_good_for_its_person_and_filter_in_whatever_order() {
        let cursors = Cursors::new(&SigningKey::from_pem(RFC_8037_KEY).unwrap()).unwrap();
        let position = Position {
            occurred_at: schemas::now(),
            event_id: Uuid::now_v7(),
        };
        let ada = Uuid::now_v7();
        let query = read("actor=user&actor=system&since=2027-01-01T00:00:00Z", ada).unwrap();
        let cursor = query.page.cursor(&cursors, &position).unwrap();
        let same = format!("since=2027-01-01T01:00:00%2B01:00&actor=system&actor=user&cursor={cursor}");
        assert_eq!(read(&same, ada).unwrap().page.after, Some(position));
        read(&same, Uuid::now_v7()).unwrap_err();
        read(&format!("actor=user&cursor={cursor}"), ada).unwrap_err();
    }

    #[test]
    fn a_plus_sign_in_an_instant_is_explained() {
        let problem = read("since=2027-05-01T09:30:00+02:00", Uuid::nil()).unwrap_err();
        assert!(problem.flaws()[0].detail.contains("%2B"));
    }
}
