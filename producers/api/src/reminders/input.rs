//! Putting a reminder off: for how long, or until when.

use chrono::TimeDelta;
use schedule::duration::MAX_OFFSET_DAYS;
use schemas::Timestamp;
use serde_json::{Map, Value};

use crate::input::{Fields, Place, Problems, read};
use crate::problem::Problem;

const MAX_SECONDS: i64 = MAX_OFFSET_DAYS as i64 * 86_400;

/// How far a reminder is put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    /// So many seconds from now.
    For(i64),
    /// To that instant.
    Until(Timestamp),
}

impl Delay {
    /// Reads it; `now` is what an instant must be after.
    ///
    /// # Errors
    /// Everything that is wrong with the body.
    pub fn read(body: Map<String, Value>, now: Timestamp) -> Result<Self, Problem> {
        let mut problems = Problems::default();
        let mut fields = Fields::new(body, Place::root(&mut problems));
        let span = fields.take("for", |place, value| {
            read::duration(place, value, 1..=MAX_SECONDS, "PT1S and P366D")
                .map(|(_, seconds)| Self::For(seconds))
        });
        let until = fields.take("until", |place, value| {
            let at = read::timestamp(place, value)?;
            if at <= now {
                return place.refuse("must lie in the future");
            }
            if at > now + TimeDelta::seconds(MAX_SECONDS) {
                return place.refuse("must lie within the next 366 days");
            }
            Some(Self::Until(at))
        });
        let wrong = span.is_invalid() || until.is_invalid();
        let delay = match (span.value(), until.value()) {
            (Some(delay), None) | (None, Some(delay)) => Some(delay),
            _ if wrong => None,
            _ => fields.refuse_all("must have exactly one of for and until"),
        };
        fields.finish();
        problems.finish(delay)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::problem::FlawPlace;

    fn read(body: Value) -> Result<Delay, Vec<String>> {
        let Value::Object(members) = body else {
            panic!("an object")
        };
        let now = "2027-02-01T08:00:00Z".parse().unwrap();
        Delay::read(members, now).map_err(|problem| {
            let flaws = problem.flaws().iter();
            flaws
                .map(|flaw| match &flaw.place {
                    FlawPlace::Pointer(pointer) => pointer.clone(),
                    FlawPlace::Parameter(name) => panic!("{name}"),
                })
                .collect()
        })
    }

    #[test]
    fn a_delay_is_a_time_from_now_or_an_instant_to_come() {
        assert_eq!(read(json!({"for": "PT10M"})), Ok(Delay::For(600)));
        assert_eq!(
            read(json!({"for": "P366D", "until": null})),
            Ok(Delay::For(366 * 86_400))
        );
        let until = "2028-02-02T08:00:00Z";
        assert_eq!(
            read(json!({"until": until})),
            Ok(Delay::Until(until.parse().unwrap()))
        );
        for (body, places) in [
            (json!({}), vec![""]),
            (json!({"for": "PT1M", "until": until}), vec![""]),
            (json!({"for": "PT0S"}), vec!["/for"]),
            (json!({"for": "-PT1M"}), vec!["/for"]),
            (json!({"for": "P366DT1S"}), vec!["/for"]),
            (json!({"for": 10}), vec!["/for"]),
            (json!({"until": "2027-02-01T08:00:00Z"}), vec!["/until"]),
            (json!({"until": "2028-02-02T08:00:01Z"}), vec!["/until"]),
            (json!({"until": "soon", "at": 1}), vec!["/until", "/at"]),
        ] {
            assert_eq!(
                read(body.clone()),
                Err(places.into_iter().map(str::to_owned).collect()),
                "{body}"
            );
        }
    }
}
