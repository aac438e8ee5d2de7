//! Recurrence rules (RFC 5545 section 3.3.10).
//!
//! What the RFC leaves open is decided here:
//!
//! - **Wall clock.** Every frequency, HOURLY too, steps over the wall clock of the zone, as other calendar
//!   programs do; each local time found is then placed by [`resolve_local`]. So a daily 02:30 in a gap fires
//!   at 03:30 that day and at 02:30 on the next, and FREQ=HOURLY fires once, not twice, where clocks skip an
//!   hour and once for the hour they repeat. (Section 3.3.10 would drop local times that do not exist; a
//!   reminder must not be lost, so section 3.3.5 is followed instead.)
//! - **Start.** Occurrences are those of the rule from the start on; a start that does not match its own rule
//!   is no occurrence. Fractions of its second are cut off. `FREQ=YEARLY;BYWEEKNO=20` without a day means the
//!   weekday of the start.
//! - **COUNT** counts distinct instants.
//! - **Calendar.** Starts lie between 1900 and 2399 and no occurrence is looked for beyond 2399, which bounds
//!   the work for rules that never match.
//! - **Not supported yet**, though RFC 5545 has it: SECONDLY and MINUTELY, more than 24 times a day, a COUNT
//!   above [`MAX_COUNT`], `-5MO` in a month and `-53MO` in a year, BYSETPOS above 31 in a month, 53 in a week
//!   and 24 in an hour, and BYWEEKNO with INTERVAL or BYSETPOS. [`Rule::parse`] refuses them.

mod engine;
mod error;
mod parse;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc, Weekday};
use chrono_tz::Tz;

use crate::zone::resolve_local;

pub use error::RuleError;

/// Longest accepted rule, in characters, with its prefix.
pub const MAX_RULE_CHARS: usize = 1000;
/// Largest accepted COUNT; a rule with COUNT is counted through from its start at every call.
pub const MAX_COUNT: u32 = 10_000;

/// How often, from rare to often: code compares frequencies with `<`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Freq {
    Yearly,
    Monthly,
    Weekly,
    Daily,
    Hourly,
}

impl Freq {
    fn name(self) -> &'static str {
        match self {
            Self::Yearly => "YEARLY",
            Self::Monthly => "MONTHLY",
            Self::Weekly => "WEEKLY",
            Self::Daily => "DAILY",
            Self::Hourly => "HOURLY",
        }
    }
}

/// The last instant, inclusive; only the UTC form is independent of the zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Until {
    Utc(NaiveDateTime),
    Local(NaiveDateTime),
    Date(NaiveDate),
}

impl Until {
    /// The first whole second past the end.
    fn end(self, zone: Tz) -> DateTime<Utc> {
        let past = |at: DateTime<Utc>| at.checked_add_signed(TimeDelta::seconds(1)).unwrap_or(at);
        match self {
            Self::Utc(utc) => past(utc.and_utc()),
            Self::Local(local) => past(resolve_local(local, zone)),
            // The next day and not 23:59:59, which exists twice where clocks go back at midnight.
            Self::Date(date) => {
                resolve_local((date + TimeDelta::days(1)).and_time(chrono::NaiveTime::MIN), zone)
            }
        }
    }
}

/// One element of BYDAY: `-1FR` is the last Friday of the month or year, and 0 stands for every one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Day {
    nth: i8,
    weekday: Weekday,
}

/// A recurrence rule that has been validated as far as that is possible without its start.
///
/// Its [`Display`](fmt::Display) is the canonical text without the `RRULE:` prefix: upper case, parts in a
/// fixed order, lists sorted without repetitions, defaults left out. Equal rules have equal texts.
///
/// Invariants: the lists are sorted and free of repetitions, and the combinations section 3.3.10 forbids do
/// not occur.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    freq: Freq,
    interval: u16,
    count: Option<u32>,
    until: Option<Until>,
    by_month: Vec<u8>,
    by_week_no: Vec<i8>,
    by_year_day: Vec<i16>,
    by_month_day: Vec<i8>,
    by_day: Vec<Day>,
    by_hour: Vec<u8>,
    by_minute: Vec<u8>,
    by_second: Vec<u8>,
    by_set_pos: Vec<i16>,
    week_start: Weekday,
}

impl Rule {
    /// Reads a rule such as `FREQ=WEEKLY;BYDAY=MO,WE;COUNT=10`, with or without the prefix `RRULE:`.
    ///
    /// Names and values may be in either case (RFC 5545 section 2). A rule may name at most 24 times a day,
    /// hourly being the most frequent the reminder path is made for. UNTIL is taken in UTC
    /// (`20261231T170000Z`), as local time of the zone the rule is used with (`20261231T180000`), or as a
    /// date, which means the end of that local day; the form is kept.
    ///
    /// # Errors
    ///
    /// [`RuleError`] names the part that is wrong and why. Whether the rule has any occurrence depends on its
    /// start: see [`Rule::check`].
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        parse::parse(text)
    }

    /// The first occurrence strictly after `after`, of the rule starting at `dtstart` in `zone`.
    ///
    /// `None` when the rule has ended or never matches. Takes microseconds for usual rules and some
    /// milliseconds for those that never match; see the [module](self) for gaps, repeated hours and the
    /// calendar.
    ///
    /// # Errors
    ///
    /// [`RuleError::StartOutOfRange`] for a start outside of the years 1900 to 2399.
    ///
    /// ```
    /// use schedule::{Rule, parse_zone};
    ///
    /// let rule = Rule::parse("FREQ=MONTHLY;BYDAY=-1FR")?;
    /// let start = "2026-01-30T08:00:00Z".parse()?; // 09:00 in Berlin
    /// let next = rule.next_after(start, parse_zone("Europe/Berlin")?, "2026-04-01T00:00:00Z".parse()?)?;
    /// assert_eq!(next, Some("2026-04-24T07:00:00Z".parse()?)); // 09:00 still, now in summer time
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_after(
        &self,
        dtstart: DateTime<Utc>,
        zone: Tz,
        after: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, RuleError> {
        // COUNT needs every occurrence from the start on; without it the search may begin just before
        // `after`.
        let from = if self.count.is_some() { dtstart } else { after };
        Ok(engine::occurrences(self, dtstart, zone, from)?.find(|at| *at > after))
    }

    /// Refuses a rule that has no occurrence with this start.
    ///
    /// # Errors
    ///
    /// [`RuleError::EndsBeforeStart`], [`RuleError::NeverMatches`] or [`RuleError::StartOutOfRange`].
    pub fn check(&self, dtstart: DateTime<Utc>, zone: Tz) -> Result<(), RuleError> {
        if engine::occurrences(self, dtstart, zone, dtstart)?
            .next()
            .is_some()
        {
            return Ok(());
        }
        match self.until {
            Some(until) if until.end(zone) <= dtstart => Err(RuleError::EndsBeforeStart),
            _ => Err(RuleError::NeverMatches),
        }
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
        write!(f, "FREQ={}", self.freq.name())?;
        if self.interval != 1 {
            write!(f, ";INTERVAL={}", self.interval)?;
        }
        if let Some(count) = self.count {
            write!(f, ";COUNT={count}")?;
        }
        match self.until {
            Some(Until::Utc(utc)) => write!(f, ";UNTIL={}", utc.format("%Y%m%dT%H%M%SZ"))?,
            Some(Until::Local(local)) => write!(f, ";UNTIL={}", local.format("%Y%m%dT%H%M%S"))?,
            Some(Until::Date(date)) => write!(f, ";UNTIL={}", date.format("%Y%m%d"))?,
            None => {}
        }
        list(f, "BYMONTH", &self.by_month)?;
        list(f, "BYWEEKNO", &self.by_week_no)?;
        list(f, "BYYEARDAY", &self.by_year_day)?;
        list(f, "BYMONTHDAY", &self.by_month_day)?;
        list(f, "BYDAY", &self.by_day)?;
        list(f, "BYHOUR", &self.by_hour)?;
        list(f, "BYMINUTE", &self.by_minute)?;
        list(f, "BYSECOND", &self.by_second)?;
        list(f, "BYSETPOS", &self.by_set_pos)?;
        if self.week_start != Weekday::Mon {
            write!(f, ";WKST={}", weekday_name(self.week_start))?;
        }
        Ok(())
    }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, part: &str, values: &[T]) -> fmt::Result {
    for (index, value) in values.iter().enumerate() {
        if index == 0 {
            write!(f, ";{part}={value}")?;
        } else {
            write!(f, ",{value}")?;
        }
    }
    Ok(())
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nth != 0 {
            write!(f, "{}", self.nth)?;
        }
        f.write_str(weekday_name(self.weekday))
    }
}

fn weekday_name(weekday: Weekday) -> &'static str {
    match weekday {
        Weekday::Mon => "MO",
        Weekday::Tue => "TU",
        Weekday::Wed => "WE",
        Weekday::Thu => "TH",
        Weekday::Fri => "FR",
        Weekday::Sat => "SA",
        Weekday::Sun => "SU",
    }
}
