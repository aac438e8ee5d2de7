//! The simple form of a rule: a frequency, an interval and perhaps an end, in four fields of which no one has to know RRULE.

use chrono::{DateTime, NaiveDateTime};
use schedule::{Rule, RuleError};
use schemas::Timestamp;

/// The names of the frequencies, as the simple form and as RRULE spells them.
pub const FREQUENCIES: [(&str, &str); 4] = [
    ("daily", "DAILY"),
    ("weekly", "WEEKLY"),
    ("monthly", "MONTHLY"),
    ("yearly", "YEARLY"),
];

const UNTIL_FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// A rule that the simple form can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Simple {
    /// One of [`FREQUENCIES`], in the simple form's spelling.
    pub recurrence_type: &'static str,
    /// Every how many days, weeks, months or years.
    pub interval: u16,
    /// How many occurrences there are.
    pub count: Option<u32>,
    /// The last instant at which there may be one.
    pub ends_at: Option<Timestamp>,
}

impl Simple {
    /// The rule `rrule`, in canonical text, if the simple form can say it.
    pub fn of(rrule: &str) -> Option<Self> {
        let mut simple = Self {
            recurrence_type: "",
            interval: 1,
            count: None,
            ends_at: None,
        };
        for part in rrule.split(';') {
            let (name, value) = part.split_once('=')?;
            match name {
                "FREQ" => {
                    let frequency = FREQUENCIES.into_iter().find(|(_, freq)| *freq == value);
                    simple.recurrence_type = frequency?.0;
                }
                "INTERVAL" => simple.interval = value.parse().ok()?,
                "COUNT" => simple.count = Some(value.parse().ok()?),
                "UNTIL" => {
                    let until = NaiveDateTime::parse_from_str(value, UNTIL_FORMAT).ok()?;
                    simple.ends_at = Some(until.and_utc());
                }
                _ => return None,
            }
        }
        (!simple.recurrence_type.is_empty()).then_some(simple)
    }

    /// As a rule.
    ///
    /// # Errors
    /// When no rule has such numbers.
    pub fn to_rule(self) -> Result<Rule, RuleError> {
        let frequency = FREQUENCIES
            .into_iter()
            .find(|(name, _)| *name == self.recurrence_type);
        let mut rule = format!(
            "FREQ={};INTERVAL={}",
            frequency.map_or("", |(_, freq)| freq),
            self.interval
        );
        if let Some(count) = self.count {
            rule.push_str(&format!(";COUNT={count}"));
        }
        if let Some(ends_at) = self.ends_at {
            rule.push_str(&format!(";UNTIL={}", DateTime::format(&ends_at, UNTIL_FORMAT)));
        }
        Rule::parse(&rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_simple_form_can_say_goes_there_and_back() {
        for rrule in [
            "FREQ=DAILY",
            "FREQ=WEEKLY;INTERVAL=2",
            "FREQ=MONTHLY;COUNT=12",
            "FREQ=YEARLY;INTERVAL=4;UNTIL=20991231T235959Z",
        ] {
            let simple = Simple::of(rrule).unwrap();
            assert_eq!(simple.to_rule().unwrap().to_string(), rrule);
        }
        for rrule in [
            "FREQ=HOURLY",
            "FREQ=WEEKLY;BYDAY=MO",
            "FREQ=DAILY;UNTIL=20270101",
            "FREQ=DAILY;UNTIL=20270101T000000",
            "FREQ=WEEKLY;WKST=SU",
        ] {
            assert_eq!(Simple::of(rrule), None, "{rrule}");
        }
    }
}
