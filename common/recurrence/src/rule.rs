//! A rule as data, and its canonical text.

use std::fmt;
use std::str::FromStr;

use chrono::{NaiveDate, NaiveDateTime, Weekday};

use crate::error::Error;
use crate::parse;

/// Longest accepted rule, in characters, with its prefix.
pub const MAX_RULE_CHARS: usize = 1000;

/// How often, from rare to often: code compares frequencies with `<`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Freq {
    /// Every year.
    Yearly,
    /// Every month.
    Monthly,
    /// Every week.
    Weekly,
    /// Every day.
    Daily,
    /// Every hour.
    Hourly,
    /// Every minute.
    Minutely,
    /// Every second.
    Secondly,
}

impl Freq {
    /// The value of FREQ.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Yearly => "YEARLY",
            Self::Monthly => "MONTHLY",
            Self::Weekly => "WEEKLY",
            Self::Daily => "DAILY",
            Self::Hourly => "HOURLY",
            Self::Minutely => "MINUTELY",
            Self::Secondly => "SECONDLY",
        }
    }
}

/// The last moment of a rule, inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Until {
    /// An instant.
    Utc(NaiveDateTime),
    /// A local time of the zone the rule is used with.
    Local(NaiveDateTime),
    /// The end of a local day.
    Date(NaiveDate),
}

/// What becomes of a 30th of February (RFC 7529).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Skip {
    /// It is left out.
    #[default]
    Omit,
    /// It becomes the next day.
    Forward,
    /// It becomes the day before.
    Backward,
}

/// One element of BYDAY: `-1FR` is the last Friday of the month or year, and 0 stands for every one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NthWeekday {
    /// From -53 to 53; 0 for every one.
    pub nth: i8,
    /// The day of the week.
    pub weekday: Weekday,
}

/// A recurrence rule (RFC 5545 section 3.3.10, RFC 7529), validated as far as that is possible without its start.
///
/// Its [`Display`](fmt::Display) is the canonical text without the `RRULE:` prefix: upper case, parts in a fixed
/// order, lists sorted without repetitions, defaults left out. Equal rules have equal texts.
///
/// Invariants: the lists are sorted and free of repetitions, all numbers in the range of their part, and the
/// combinations section 3.3.10 forbids do not occur.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    pub(crate) freq: Freq,
    pub(crate) interval: u32,
    pub(crate) count: Option<u32>,
    pub(crate) until: Option<Until>,
    pub(crate) by_month: Vec<u8>,
    pub(crate) by_week_no: Vec<i8>,
    pub(crate) by_year_day: Vec<i16>,
    pub(crate) by_month_day: Vec<i8>,
    pub(crate) by_day: Vec<NthWeekday>,
    pub(crate) by_hour: Vec<u8>,
    pub(crate) by_minute: Vec<u8>,
    pub(crate) by_second: Vec<u8>,
    pub(crate) by_set_pos: Vec<i16>,
    pub(crate) week_start: Weekday,
    pub(crate) skip: Skip,
}

impl Rule {
    /// Reads a rule such as `FREQ=WEEKLY;BYDAY=MO,WE;COUNT=10`, with or without the prefix `RRULE:`.
    ///
    /// Names and values may be in either case (RFC 5545 section 2); one semicolon at the end, which calendars are
    /// seen to write, is passed over. UNTIL is taken in UTC (`20261231T170000Z`), as local time
    /// (`20261231T180000`) or as a date, which means the end of that local day; the form is kept.
    ///
    /// # Errors
    ///
    /// [`Error`] names the part that is wrong and why. Whether the rule has any occurrence depends on its start:
    /// that is for [`Recurrence::new`](crate::Recurrence::new) to say.
    pub fn parse(text: &str) -> Result<Self, Error> {
        parse::parse(text)
    }

    /// FREQ.
    #[must_use]
    pub fn freq(&self) -> Freq {
        self.freq
    }

    /// INTERVAL, 1 when not given.
    #[must_use]
    pub fn interval(&self) -> u32 {
        self.interval
    }

    /// COUNT.
    #[must_use]
    pub fn count(&self) -> Option<u32> {
        self.count
    }

    /// UNTIL.
    #[must_use]
    pub fn until(&self) -> Option<Until> {
        self.until
    }

    /// How many times of day the rule names, or goes through, on a day at most: before INTERVAL, BYSETPOS and the dates
    /// thin them out.
    #[must_use]
    pub fn times_per_day(&self) -> u32 {
        let part = |list: &[u8], all: u32, whole: bool| match u32::try_from(list.len()) {
            Ok(0) if whole => all,
            Ok(0) => 1,
            len => len.unwrap_or(all),
        };
        part(&self.by_hour, 24, self.freq >= Freq::Hourly)
            * part(&self.by_minute, 60, self.freq >= Freq::Minutely)
            * part(&self.by_second, 60, self.freq >= Freq::Secondly)
    }

    /// Whether the rule names more than one second of a minute.
    #[must_use]
    pub fn several_seconds(&self) -> bool {
        self.by_second.len() > 1
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.skip != Skip::Omit {
            f.write_str("RSCALE=GREGORIAN;")?;
        }
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
        match self.skip {
            Skip::Omit => Ok(()),
            Skip::Forward => f.write_str(";SKIP=FORWARD"),
            Skip::Backward => f.write_str(";SKIP=BACKWARD"),
        }
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

impl fmt::Display for NthWeekday {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nth != 0 {
            write!(f, "{}", self.nth)?;
        }
        f.write_str(weekday_name(self.weekday))
    }
}

pub(crate) fn weekday_name(weekday: Weekday) -> &'static str {
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
