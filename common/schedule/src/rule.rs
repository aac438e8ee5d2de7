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

use chrono::{DateTime, Datelike, SubsecRound, TimeDelta, Utc};
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

    /// The rule from its start on, made ready once to be asked often: with further `dates`, which need not fit the rule, and
    /// without `exceptions`. All are taken by the second.
    ///
    /// A rule that never has an occurrence leaves the dates alone.
    ///
    /// # Errors
    ///
    /// [`RuleError::StartOutOfRange`] for a start outside of the years 1900 to 2399, and [`RuleError::Rule`] for more than
    /// [`recurrence::MAX_DATES`] dates and exceptions together.
    ///
    /// ```
    /// use schedule::{Rule, parse_zone};
    ///
    /// let start = "2026-10-24T07:00:00Z".parse()?;
    /// let daily = Rule::parse("FREQ=DAILY")?;
    /// let timeline = daily.timeline(start, parse_zone("Europe/Berlin")?, &[], &["2026-10-25T08:00:00Z".parse()?])?;
    /// let next = timeline.after(start).next().transpose()?;
    /// assert_eq!(next, Some("2026-10-26T08:00:00Z".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn timeline(
        &self,
        dtstart: DateTime<Utc>,
        zone: Tz,
        dates: &[DateTime<Utc>],
        exceptions: &[DateTime<Utc>],
    ) -> Result<Timeline, RuleError> {
        let start = start(dtstart, zone)?;
        let moments = |instants: &[DateTime<Utc>]| -> Vec<Moment> {
            let whole = instants.iter().map(|at| at.trunc_subsecs(0));
            whole.map(Moment::from).collect()
        };
        let (dates, mut exceptions) = (moments(dates), moments(exceptions));
        match Recurrence::new(start, std::slice::from_ref(&self.0), &dates, &exceptions) {
            Ok(set) => Ok(Timeline(Some(set))),
            // Stored rules are asked again and again: that they have no occurrence is an answer.
            Err(Error::NeverMatches | Error::EndsBeforeStart | Error::EndsBeforeFirst) => {
                if dates.is_empty() {
                    return Ok(Timeline(None));
                }
                // Without a rule the start would be one of the dates.
                if !dates.contains(&Moment::from(dtstart.trunc_subsecs(0))) {
                    exceptions.push(dtstart.trunc_subsecs(0).into());
                }
                Ok(Timeline(Some(Recurrence::new(start, &[], &dates, &exceptions)?)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// FREQ.
    pub(crate) fn freq(&self) -> Freq {
        self.0.freq()
    }

    /// INTERVAL.
    pub(crate) fn interval(&self) -> u32 {
        self.0.interval()
    }

    /// COUNT.
    #[must_use]
    pub fn count(&self) -> Option<u32> {
        self.0.count()
    }

    /// The same rule with another end: no occurrence after `last`, and no COUNT.
    ///
    /// # Errors
    ///
    /// [`RuleError::Rule`] when the text gets longer than a rule may be.
    pub fn until(&self, last: DateTime<Utc>) -> Result<Self, RuleError> {
        self.ending(&format!(";UNTIL={}", last.format("%Y%m%dT%H%M%SZ")))
    }

    /// The same rule with that COUNT, and no UNTIL.
    ///
    /// # Errors
    ///
    /// As [`Rule::parse`] for a COUNT of none or of too many.
    pub fn counting(&self, count: u32) -> Result<Self, RuleError> {
        self.ending(&format!(";COUNT={count}"))
    }

    fn ending(&self, end: &str) -> Result<Self, RuleError> {
        let text = self.to_string();
        let parts = text
            .split(';')
            .filter(|part| !part.starts_with("COUNT=") && !part.starts_with("UNTIL="));
        Self::parse(&(parts.collect::<Vec<_>>().join(";") + end))
    }

    /// The first occurrence strictly after `after`, of the rule starting at `dtstart` in `zone`: the first of its
    /// [`timeline`](Rule::timeline).
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
        self.timeline(dtstart, zone, &[], &[])?
            .after(after)
            .next()
            .transpose()
    }

    /// Refuses a rule that has no occurrence with this start.
    ///
    /// # Errors
    ///
    /// [`RuleError::Rule`] with [`Error::EndsBeforeStart`], [`Error::EndsBeforeFirst`] or [`Error::NeverMatches`], and
    /// [`RuleError::StartOutOfRange`].
    pub fn check(&self, dtstart: DateTime<Utc>, zone: Tz) -> Result<(), RuleError> {
        Recurrence::new(start(dtstart, zone)?, std::slice::from_ref(&self.0), &[], &[])?;
        Ok(())
    }
}

fn start(dtstart: DateTime<Utc>, zone: Tz) -> Result<Start, RuleError> {
    if !STARTS.contains(&dtstart.with_timezone(&zone).year()) {
        return Err(RuleError::StartOutOfRange);
    }
    Ok(Start::new(Moment::from(dtstart), Some(zone))?)
}

/// The occurrences of a rule with its start, its further dates and its exceptions: see [`Rule::timeline`].
#[derive(Debug, Clone)]
pub struct Timeline(Option<Recurrence>);

impl Timeline {
    /// The occurrences strictly after `after`, in their order, each found when it is asked for. An error, of which there is
    /// none but that one took too much work to find, is the last item.
    pub fn after(&self, after: DateTime<Utc>) -> impl Iterator<Item = Result<DateTime<Utc>, RuleError>> {
        let range = self.0.as_ref().map(|set| set.range(Some(after.into()), None));
        let (found, failed) = match range.transpose() {
            Ok(found) => (found, None),
            Err(error) => (None, Some(Err(error))),
        };
        failed
            .into_iter()
            .chain(found.into_iter().flatten())
            .filter_map(|moment| match moment {
                Ok(moment) => moment.instant().map(Ok),
                Err(error) => Some(Err(error.into())),
            })
    }

    /// The last occurrence that is not after `until`.
    ///
    /// # Errors
    ///
    /// [`RuleError::Rule`] with [`Error::TooMuchWork`].
    pub fn last_until(&self, until: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, RuleError> {
        let Some(set) = &self.0 else { return Ok(None) };
        let before = until.trunc_subsecs(0) + TimeDelta::seconds(1);
        Ok(set.before(before.into())?.and_then(|last| last.instant()))
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
