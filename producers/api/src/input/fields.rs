//! Takes an object apart, field by field. What is left when all known fields are taken is unknown and refused: a
//! misspelled field must not be ignored.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value};

use crate::problem::{Flaw, FlawPlace, Kind, Problem};

/// Most flaws that one answer names: a body of nothing but unknown fields must not be answered with a larger one.
const MAX_FLAWS: usize = 100;

/// What is wrong with a body, as far as it was read.
#[derive(Debug, Default)]
pub struct Problems {
    flaws: Vec<Flaw>,
}

impl Problems {
    const DETAIL: &'static str =
        "See errors: each names a field by its JSON pointer and says what is wrong with it.";

    /// Adds one more.
    pub fn add(&mut self, pointer: impl fmt::Display, detail: impl Into<Cow<'static, str>>) {
        self.add_at(|| FlawPlace::Pointer(pointer.to_string()), detail.into());
    }

    fn add_at(&mut self, place: impl FnOnce() -> FlawPlace, detail: Cow<'static, str>) {
        if self.flaws.len() < MAX_FLAWS {
            let place = place();
            self.flaws.push(Flaw { place, detail });
        }
    }

    /// Adds what is wrong with a part of the body that was read as one of its own, and stands at `pointer` in it.
    pub fn add_all(&mut self, pointer: impl fmt::Display, problem: &Problem) {
        if problem.flaws().is_empty() {
            self.add(&pointer, problem.detail().to_owned());
        }
        for flaw in problem.flaws() {
            if let FlawPlace::Pointer(within) = &flaw.place {
                self.add(format_args!("{pointer}{within}"), flaw.detail.clone());
            }
        }
    }

    /// The refusal, of what is known to be wrong.
    pub fn refused(self) -> Problem {
        Problem::new(Kind::InvalidFields, Self::DETAIL).with_flaws(self.flaws)
    }

    /// The value, if nothing was wrong on the way to it.
    ///
    /// # Errors
    /// Everything that was wrong.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Problem> {
        self.finish_as(value, Kind::InvalidFields, Self::DETAIL)
    }

    /// The same for what is no body.
    ///
    /// # Errors
    /// Everything that was wrong.
    pub fn finish_as<T>(self, value: Option<T>, kind: Kind, detail: &'static str) -> Result<T, Problem> {
        match value {
            Some(value) if self.flaws.is_empty() => Ok(value),
            _ => Err(Problem::new(kind, detail).with_flaws(self.flaws)),
        }
    }
}

/// A JSON pointer (RFC 6901) that costs nothing until it is shown, or the name of a query parameter.
#[derive(Debug, Clone, Copy)]
enum Pointer<'a> {
    Parameter(&'a str),
    Root,
    Member(&'a Pointer<'a>, &'a str),
    Item(&'a Pointer<'a>, usize),
}

impl fmt::Display for Pointer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parameter(name) => f.write_str(name),
            Self::Root => Ok(()),
            Self::Member(parent, name) => {
                write!(f, "{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
            }
            Self::Item(parent, index) => write!(f, "{parent}/{index}"),
        }
    }
}

/// Where a value stands, for whoever reads it and may have to refuse it.
#[derive(Debug)]
pub struct Place<'p> {
    pointer: Pointer<'p>,
    problems: &'p mut Problems,
}

impl<'p> Place<'p> {
    /// The whole body.
    pub fn root(problems: &'p mut Problems) -> Self {
        Self {
            pointer: Pointer::Root,
            problems,
        }
    }

    /// A parameter of the query.
    pub fn parameter(name: &'p str, problems: &'p mut Problems) -> Self {
        Self {
            pointer: Pointer::Parameter(name),
            problems,
        }
    }

    /// The same place, for a reader that takes it.
    pub fn reborrow(&mut self) -> Place<'_> {
        Place {
            pointer: self.pointer,
            problems: self.problems,
        }
    }

    /// The item of that index, of the array that stands here.
    pub fn item(&mut self, index: usize) -> Place<'_> {
        Place {
            pointer: Pointer::Item(&self.pointer, index),
            problems: self.problems,
        }
    }

    /// The member of that name, of the object that stands here.
    pub fn member<'n>(&'n mut self, name: &'n str) -> Place<'n> {
        Place {
            pointer: Pointer::Member(&self.pointer, name),
            problems: self.problems,
        }
    }

    /// Writes down what is wrong with the value.
    pub fn refuse<T>(&mut self, detail: impl Into<Cow<'static, str>>) -> Option<T> {
        let place = || match self.pointer {
            Pointer::Parameter(name) => FlawPlace::Parameter(name.to_owned()),
            pointer => FlawPlace::Pointer(pointer.to_string()),
        };
        self.problems.add_at(place, detail.into());
        None
    }
}

/// A field of an object: JSON tells absent from null, and a merge patch (RFC 7396) means different things by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Field<T> {
    /// The object has no such member.
    #[default]
    Absent,
    /// The member is null.
    Null,
    /// The member is wrong, and that was written down: checks that build on it would only confuse.
    Invalid,
    /// The member is there and right.
    Value(T),
}

impl<T> Field<T> {
    /// The value, if there is one.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }

    /// The value; what was there before, where the field is absent; the default, where it is null (RFC 7396).
    pub fn merge(self, before: T, default: impl FnOnce() -> T) -> T {
        match self {
            Self::Value(value) => value,
            Self::Null => default(),
            // What comes of a refused field is thrown away; the checks of other fields go on meanwhile.
            Self::Absent | Self::Invalid => before,
        }
    }

    /// The same with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Field<U> {
        match self {
            Self::Absent => Field::Absent,
            Self::Null => Field::Null,
            Self::Invalid => Field::Invalid,
            Self::Value(value) => Field::Value(change(value)),
        }
    }

    /// Whether the client says anything about the field.
    pub fn is_given(&self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// Whether it was refused.
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Invalid)
    }
}

/// The members of an object that were not taken yet.
#[derive(Debug)]
#[must_use = "`finish` refuses what was not taken"]
pub struct Fields<'p> {
    members: Map<String, Value>,
    place: Place<'p>,
}

impl<'p> Fields<'p> {
    /// Starts with all members of the object that stands at `place`.
    pub fn new(members: Map<String, Value>, place: Place<'p>) -> Self {
        Self { members, place }
    }

    /// Takes a field that may be absent or null.
    pub fn take<T>(&mut self, name: &str, read: impl FnOnce(&mut Place<'_>, Value) -> Option<T>) -> Field<T> {
        match self.members.remove(name) {
            None => Field::Absent,
            Some(Value::Null) => Field::Null,
            Some(value) => read(&mut self.place.member(name), value).map_or(Field::Invalid, Field::Value),
        }
    }

    /// Takes a field that must be there.
    pub fn required<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Place<'_>, Value) -> Option<T>,
    ) -> Option<T> {
        match self.take(name, read) {
            Field::Absent => self.refuse(name, "is required"),
            Field::Null => self.refuse(name, "must not be null"),
            Field::Invalid => None,
            Field::Value(value) => Some(value),
        }
    }

    /// Takes a field that may be absent, and has no default that null could stand for.
    pub fn not_null<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Place<'_>, Value) -> Option<T>,
    ) -> Field<T> {
        match self.take(name, read) {
            Field::Null => {
                self.refuse::<()>(name, "must not be null");
                Field::Invalid
            }
            field => field,
        }
    }

    /// Writes down what is wrong with a field.
    pub fn refuse<T>(&mut self, name: &str, detail: impl Into<Cow<'static, str>>) -> Option<T> {
        self.place.member(name).refuse(detail)
    }

    /// Writes down what is wrong with the object as a whole.
    pub fn refuse_all<T>(&mut self, detail: impl Into<Cow<'static, str>>) -> Option<T> {
        self.place.refuse(detail)
    }

    /// Refuses what was not taken.
    pub fn finish(mut self) {
        for name in std::mem::take(&mut self.members).keys() {
            // A name can be as long as the body; nobody needs all of it to find it.
            let shown: String = name.chars().take(100).collect();
            self.place
                .member(&shown)
                .refuse::<()>("is not a field of this request");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value, take: impl FnOnce(&mut Fields<'_>)) -> Vec<(String, String)> {
        let mut problems = Problems::default();
        let Value::Object(members) = body else {
            panic!("an object")
        };
        let mut fields = Fields::new(members, Place::root(&mut problems));
        take(&mut fields);
        fields.finish();
        let flaws = problems.flaws.into_iter().map(|flaw| match flaw.place {
            FlawPlace::Pointer(pointer) => (pointer, flaw.detail.into_owned()),
            FlawPlace::Parameter(_) => panic!("a pointer"),
        });
        flaws.collect()
    }

    #[test]
    fn what_is_not_taken_is_unknown_and_its_name_is_escaped() {
        let flaws = read(json!({"a/b~c": 1, "": 2}), |_| {});
        let unknown = "is not a field of this request".to_owned();
        assert_eq!(
            flaws,
            [
                ("/".to_owned(), unknown.clone()),
                ("/a~1b~0c".to_owned(), unknown)
            ]
        );
    }

    #[test]
    fn absent_null_and_wrong_are_told_apart() {
        let flaws = read(json!({"null": null, "wrong": 1, "right": 1}), |fields| {
            assert_eq!(fields.take("absent", |_, _| Some(1)), Field::Absent);
            assert_eq!(fields.take("null", |_, _| Some(1)), Field::Null);
            assert_eq!(
                fields.take("wrong", |place, _| place.refuse::<i32>("is wrong")),
                Field::Invalid
            );
            assert_eq!(fields.take("right", |_, _| Some(1)), Field::Value(1));
        });
        assert_eq!(flaws, [("/wrong".to_owned(), "is wrong".to_owned())]);
    }

    #[test]
    fn a_required_field_is_named_when_it_is_absent_or_null() {
        let flaws = read(json!({"b": null}), |fields| {
            assert_eq!(fields.required("a", |_, _| Some(1)), None);
            assert_eq!(fields.required("b", |_, _| Some(1)), None);
        });
        assert_eq!(
            flaws
                .iter()
                .map(|(pointer, _)| pointer.as_str())
                .collect::<Vec<_>>(),
            ["/a", "/b"]
        );
    }

    #[test]
    fn places_nest() {
        let flaws = read(json!({"list": []}), |fields| {
            fields.take("list", |place, _| {
                place.item(3).member("x").refuse::<()>("is wrong")
            });
        });
        assert_eq!(flaws, [("/list/3/x".to_owned(), "is wrong".to_owned())]);
    }

    #[test]
    fn an_answer_names_a_bounded_number_of_flaws() {
        let members: Map<String, Value> = (0..1000).map(|n| (n.to_string(), Value::Null)).collect();
        assert_eq!(read(Value::Object(members), |_| {}).len(), MAX_FLAWS);
    }
}
