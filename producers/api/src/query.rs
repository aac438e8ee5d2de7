//! Reads the parameters of a query, each for itself, so that one answer names everything that is wrong.

use std::fmt;

use axum::extract::Query;
use axum::http::Uri;
use serde_json::Value;

use crate::input::{Place, Problems};
use crate::problem::{Kind, Problem};

const DETAIL: &str = "See errors: each names a query parameter and says what is wrong with it.";

/// The parameters that were not taken yet.
#[derive(Debug)]
#[must_use = "`finish` refuses what was not taken"]
pub struct Parameters {
    pairs: Vec<(String, String)>,
    problems: Problems,
}

impl Parameters {
    /// Those of this address.
    ///
    /// # Errors
    /// When the query is none.
    pub fn of(uri: &Uri) -> Result<Self, Problem> {
        let Ok(Query(pairs)) = Query::try_from_uri(uri) else {
            return Err(Problem::new(Kind::InvalidQuery, "The query cannot be read."));
        };
        let problems = Problems::default();
        Ok(Self { pairs, problems })
    }

    /// Takes every value of a parameter that may be given several times, `max` times at most.
    pub fn list<T>(
        &mut self,
        name: &str,
        max: usize,
        mut read: impl FnMut(&mut Place<'_>, Value) -> Option<T>,
    ) -> Vec<T> {
        let (taken, left) = std::mem::take(&mut self.pairs)
            .into_iter()
            .partition::<Vec<_>, _>(|(given, _)| given == name);
        self.pairs = left;
        let mut place = Place::parameter(name, &mut self.problems);
        if taken.len() > max {
            let detail = match max {
                1 => "is given twice".to_owned(),
                _ => format!("may be given {max} times at most, not {}", taken.len()),
            };
            place.refuse::<()>(detail);
            return Vec::new();
        }
        taken
            .into_iter()
            .filter_map(|(_, value)| read(&mut place, Value::String(value)))
            .collect()
    }

    /// Takes a parameter that may be given once.
    pub fn one<T>(&mut self, name: &str, read: impl FnMut(&mut Place<'_>, Value) -> Option<T>) -> Option<T> {
        self.list(name, 1, read).pop()
    }

    /// Writes down what is wrong with a parameter.
    pub fn refuse(&mut self, name: &str, detail: impl fmt::Display) {
        Place::parameter(name, &mut self.problems).refuse::<()>(detail.to_string());
    }

    /// Refuses what was not taken, and everything that was wrong.
    ///
    /// # Errors
    /// All of that.
    pub fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in std::mem::take(&mut self.pairs) {
            let shown: String = name.chars().take(100).collect();
            self.refuse(&shown, "is not a parameter of this request");
        }
        self.problems.finish_as(Some(()), Kind::InvalidQuery, DETAIL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::read;
    use crate::problem::FlawPlace;

    fn flaws(query: &'static str, take: impl FnOnce(&mut Parameters)) -> Vec<String> {
        let uri = Uri::from_static(query);
        let mut parameters = Parameters::of(&uri).unwrap();
        take(&mut parameters);
        let problem = parameters.finish().err();
        let flaws = problem.iter().flat_map(|problem| problem.flaws());
        flaws
            .map(|flaw| match &flaw.place {
                FlawPlace::Parameter(name) => format!("{name} {}", flaw.detail),
                FlawPlace::Pointer(_) => panic!("a parameter"),
            })
            .collect()
    }

    #[test]
    fn parameters_are_taken_by_name_and_what_is_left_is_refused() {
        assert_eq!(
            flaws("/?a=1&b=x&b=y%20z&c=2", |parameters| {
                assert_eq!(parameters.one("a", read::string).as_deref(), Some("1"));
                assert_eq!(parameters.list("b", 2, read::string), ["x", "y z"]);
                assert_eq!(parameters.one("d", read::string), None);
            }),
            ["c is not a parameter of this request"]
        );
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        assert_eq!(
            flaws("/?a=1&a=2&b=1&b=2&b=3&c=x&=", |parameters| {
                assert_eq!(parameters.one("a", read::string), None);
                assert!(parameters.list("b", 2, read::string).is_empty());
                assert_eq!(parameters.one("c", read::uuid), None);
            }),
            [
                "a is given twice",
                "b may be given 2 times at most, not 3",
                "c must be a UUID",
                " is not a parameter of this request"
            ]
        );
    }
}
