//! Dates and times as they are given and shown.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};
use chrono_tz::Tz;

use crate::calendar::{DAY, FIRST_WALL, LAST_WALL, Wall, wall_of};
use crate::clock::{Clock, Tick};
use crate::error::Error;
use crate::parse::{basic_date, basic_date_time};
use crate::quote::quote;

/// A date, a local time, or an instant.
///
/// Reads and shows the forms of RFC 3339 (`2026-03-01`, `2026-03-01T09:30:00`, `2026-03-01T09:30:00+01:00`); those of
/// iCalendar (`20260301`, `20260301T093000`, `20260301T083000Z`) are read too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// A day, wherever one is.
    Date(NaiveDate),
    /// What the clock on the wall shows.
    Local(NaiveDateTime),
    /// A point on the time line, with the offset it is shown with.
    Instant(DateTime<FixedOffset>),
}

impl Moment {
    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Date(_) => "a date",
            Self::Local(_) => "a local time",
            Self::Instant(_) => "an instant",
        }
    }

    /// The instant, if it is one.
    #[must_use]
    pub fn instant(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Instant(at) => Some(at.to_utc()),
            _ => None,
        }
    }

    /// Second 60 is read as 59 (RFC 5545, section 3.3.12).
    fn without_leap_second(self) -> Self {
        match self {
            Self::Local(local) if local.nanosecond() >= 1_000_000_000 => {
                Self::Local(local.with_nanosecond(0).unwrap_or(local))
            }
            Self::Instant(at) if at.nanosecond() >= 1_000_000_000 => {
                Self::Instant(at.with_nanosecond(0).unwrap_or(at))
            }
            other => other,
        }
    }

    /// Seconds of its own clock since 1970, rounded down, and whether that cut something off.
    pub(crate) fn seconds(&self) -> (i64, bool) {
        match self {
            Self::Date(date) => (wall_of(date.and_time(NaiveTime::MIN)), false),
            Self::Local(local) => (wall_of(*local), local.nanosecond() > 0),
            Self::Instant(at) => (at.timestamp(), at.nanosecond() > 0),
        }
    }

    pub(crate) fn in_calendar(&self) -> Result<(), Error> {
        let seconds = self.seconds().0;
        let inside = match self {
            Self::Date(_) | Self::Local(_) => (FIRST_WALL..=LAST_WALL).contains(&seconds),
            // A day is kept free at both ends for the offsets of zones.
            Self::Instant(_) => (FIRST_WALL + DAY..=LAST_WALL - DAY).contains(&seconds),
        };
        if inside { Ok(()) } else { Err(Error::OutOfCalendar) }
    }
}

impl From<DateTime<Utc>> for Moment {
    fn from(at: DateTime<Utc>) -> Self {
        Self::Instant(at.fixed_offset())
    }
}

impl FromStr for Moment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let basic = || match text.strip_suffix('Z') {
            Some(utc) => basic_date_time(utc).map(|utc| Self::from(utc.and_utc())),
            None => basic_date(text)
                .map(Self::Date)
                .or_else(|| basic_date_time(text).map(Self::Local)),
        };
        // chrono would also take dates of more and of fewer digits, and signs.
        let plain = text.as_bytes().get(..10).is_some_and(|date| {
            let mut bytes = date.iter().enumerate();
            bytes.all(|(index, byte)| {
                if index == 4 || index == 7 {
                    *byte == b'-'
                } else {
                    byte.is_ascii_digit()
                }
            })
        });
        let extended = || {
            text.parse::<NaiveDate>()
                .map(Self::Date)
                .or_else(|_| text.parse::<NaiveDateTime>().map(Self::Local))
                .or_else(|_| DateTime::parse_from_rfc3339(text).map(Self::Instant))
                .ok()
        };
        let moment = basic().or_else(|| if plain { extended() } else { None });
        moment
            .map(Self::without_leap_second)
            .filter(|moment| moment.in_calendar().is_ok())
            .ok_or_else(|| Error::NotAMoment { text: quote(text) })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Date(date) => write!(f, "{}", date.format("%Y-%m-%d")),
            Self::Local(local) => write!(f, "{}", local.format("%Y-%m-%dT%H:%M:%S")),
            Self::Instant(at) => write!(f, "{}", at.format("%Y-%m-%dT%H:%M:%S%:z")),
        }
    }
}

/// Where a recurrence starts: it fixes what the rules leave open, and no rule has an occurrence before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    pub(crate) clock: Clock,
    pub(crate) wall: Wall,
    pub(crate) tick: Tick,
    pub(crate) whole_days: bool,
}

impl Start {
    /// A date; a local time, floating or of the zone; or an instant, with the zone in whose local time the rules run
    /// (UTC when there is none). Fractions of a second are cut off.
    ///
    /// A local time that a gap of the zone skips keeps what it says for the other days: daily from 02:30 in a gap is
    /// 03:30 that day and 02:30 on the next. An instant does not: it is 03:30 on all of them.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfCalendar`] outside of the years 1 to 9999.
    pub fn new(at: Moment, zone: Option<Tz>) -> Result<Self, Error> {
        at.in_calendar()?;
        let (seconds, _) = at.seconds();
        let (clock, wall, tick) = match (at, zone) {
            (Moment::Date(_), _) | (Moment::Local(_), None) => (Clock::Floating, seconds, seconds),
            (Moment::Local(_), Some(zone)) => {
                let clock = Clock::Zone(zone);
                (clock, seconds, clock.tick(seconds))
            }
            (Moment::Instant(_), zone) => {
                let clock = Clock::Zone(zone.unwrap_or(Tz::UTC));
                (clock, clock.wall(seconds), seconds)
            }
        };
        Ok(Self {
            clock,
            wall,
            tick,
            whole_days: matches!(at, Moment::Date(_)),
        })
    }

    /// What the start is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match (self.whole_days, self.clock) {
            (true, _) => "a date",
            (false, Clock::Floating) => "a local time without a zone",
            (false, Clock::Zone(_)) => "a time in a zone",
        }
    }
}
