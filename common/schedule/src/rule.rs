//! Recurrence rules as the product takes them: those of the crate `recurrence`, no more often than once an hour.
//!
//! - **Start.** An instant with a zone: the rule runs over the wall clock of the zone from what it shows then. A start
//!   that does not match its own rule is no occurrence. Fractions of its second are cut off.
//! - **COUNT** counts distinct instants, and is at most [`MAX_COUNT`].
//!
//! Everything else is as docs/RECURRENCE.md says.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use chrono::{DateTime, Datelike, Utc};
use chrono_tz::Tz;
use recurrence::{Error, Freq, Moment, Recurrence, Start};

pub use recurrence::MAX_RULE_CHARS;

/// Largest accepted COUNT.
pub const MAX_COUNT: u32 = 10_000;

/// Years a series may start in, by the clock of its zone. Zone data ends with 2099, and nobody means the year 9000.
const STARTS: RangeInclusive<i32> = 1900..=2399;

/// Times a rule may name per day: those of an hourly rule.
const MAX_TIMES_PER_DAY: u32 = 24;

/// Why a rule was refused. The texts may be shown to users: foreign text in them is shortened and escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// No rule of RFC 5545, or one without an occurrence.
    #[error(transparent)]
    Rule(#[from] Error),
    /// COUNT above [`MAX_COUNT`].
    #[error("COUNT is at most {MAX_COUNT}")]
    CountTooLarge,
    /// More often than once an hour.
    #[error("{part} makes the rule more frequent than hourly, the most a rule may be")]
    TooFrequent {
        /// Name of the part.
        part: &'static str,
    },
    /// The start lies outside of the years a series may start in.
    #[error("the start of a rule must lie between the years 1900 and 2399")]
    StartOutOfRange,
}

/// A recurrence rule that has been validated as far as that is possible without its start.
///
/// Its [`Display`](fmt::Display) is the canonical text without the `RRULE:` prefix. Equal rules have equal texts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule(recurrence::Rule);

impl Rule {
    /// Reads a rule such as `FREQ=WEEKLY;BYDAY=MO,WE;COUNT=10`, with or without the prefix `RRULE:`.
    ///
    /// A rule may name at most 24 times a day, hourly being the most frequent the reminder path is made for. UNTIL is
    /// taken in UTC (`20261231T170000Z`), as local time of the zone the rule is used with (`20261231T180000`), or as a
    /// date, which means the end of that local day; the form is kept.
    ///
    /// # Errors
    ///
    /// [`RuleError`] names the part that is wrong and why. Whether the rule has any occurrence depends on its
    /// start: see [`Rule::check`].
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let rule = recurrence::Rule::parse(text)?;
        check_rate(&rule)?;
        if rule.count().is_some_and(|count| count > MAX_COUNT) {
            return Err(RuleError::CountTooLarge);
        }
        Ok(Self(rule))
    }

    /// The first occurrence strictly after `after`, of the rule starting at `dtstart` in `zone`.
    ///
    /// `None` when the rule has ended, or never has an occurrence. Takes microseconds, whatever the age of the start.
    ///
    /// # Errors
    ///
    /// [`RuleError::StartOutOfRange`] for a start outside of the years 1900 to 2399.
    ///
    /// ```
    /// use schedule::{Rule, parse_zone};
    ///
    /// let berlin = parse_zone("Europe/Berlin")?;
    /// let start = "2026-10-24T07:00:00Z".parse()?; // 09:00 summer time
    /// let next = Rule::parse("FREQ=DAILY")?.next_after(start, berlin, start)?;
    /// assert_eq!(next, Some("2026-10-25T08:00:00Z".parse()?)); // 09:00 winter time
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_after(
        &self,
        dtstart: DateTime<Utc>,
        zone: Tz,
        after: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, RuleError> {
        match self.recurrence(dtstart, zone) {
            Ok(set) => Ok(set.after(after.into())?.and_then(|next| next.instant())),
            // Stored rules are asked again and again: that they have no occurrence is an answer.
            Err(RuleError::Rule(Error::NeverMatches | Error::EndsBeforeStart | Error::EndsBeforeFirst)) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Refuses a rule that has no occurrence with this start.
    ///
    /// # Errors
    ///
    /// [`RuleError::Rule`] with [`Error::EndsBeforeStart`], [`Error::EndsBeforeFirst`] or [`Error::NeverMatches`], and
    /// [`RuleError::StartOutOfRange`].
    pub fn check(&self, dtstart: DateTime<Utc>, zone: Tz) -> Result<(), RuleError> {
        self.recurrence(dtstart, zone).map(|_| ())
    }

    fn recurrence(&self, dtstart: DateTime<Utc>, zone: Tz) -> Result<Recurrence, RuleError> {
        if !STARTS.contains(&dtstart.with_timezone(&zone).year()) {
            return Err(RuleError::StartOutOfRange);
        }
        let start = Start::new(Moment::from(dtstart), Some(zone))?;
        Ok(Recurrence::new(start, std::slice::from_ref(&self.0), &[], &[])?)
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Holds rules to an average of one occurrence per hour.
///
/// FREQ alone does not: `FREQ=HOURLY;BYMINUTE=0,1,2,…` is minutely by another name.
fn check_rate(rule: &recurrence::Rule) -> Result<(), RuleError> {
    let part = match rule.freq() {
        Freq::Secondly => "FREQ=SECONDLY",
        Freq::Minutely => "FREQ=MINUTELY",
        _ if rule.times_per_day() <= MAX_TIMES_PER_DAY => return Ok(()),
        _ if rule.several_seconds() => "BYSECOND",
        _ => "BYMINUTE",
    };
    Err(RuleError::TooFrequent { part })
}
