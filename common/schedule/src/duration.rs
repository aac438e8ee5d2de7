//! Signed offsets relative to a due time, and what makes a reminder fire.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::zone::{local_time, resolve_local};
use recurrence::quote;

/// Largest offset in either direction, in days of 24 hours.
pub const MAX_OFFSET_DAYS: u32 = 366;

const SECONDS_PER_DAY: i64 = 24 * 3600;
const MAX_OFFSET_SECONDS: i64 = MAX_OFFSET_DAYS as i64 * SECONDS_PER_DAY;

/// Why an offset was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OffsetError {
    /// No text at all.
    #[error("the offset is empty; a duration such as -PT10M (ten minutes before) is needed")]
    Empty,
    /// Lower-case designators, which RFC 5545 does not know.
    #[error("the offset \"{text}\" must be written in upper case")]
    LowerCase {
        /// The offset as given, shortened.
        text: String,
    },
    /// No `P` after the sign.
    #[error("the offset \"{text}\" must start with P, -P or +P")]
    NoDesignator {
        /// The offset as given, shortened.
        text: String,
    },
    /// Years or months, whose length depends on the date.
    #[error(
        "the offset \"{text}\" counts years or months; use weeks (W), days (D) or hours, minutes, seconds"
    )]
    YearsOrMonths {
        /// The offset as given, shortened.
        text: String,
    },
    /// Weeks together with other units.
    #[error("the offset \"{text}\" mixes weeks with other units; write days instead of weeks")]
    MixedWeeks {
        /// The offset as given, shortened.
        text: String,
    },
    /// Any other departure from the grammar.
    #[error("the offset \"{text}\" is not a duration such as -P1DT2H30M: {reason}")]
    Malformed {
        /// The offset as given, shortened.
        text: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Further away than [`MAX_OFFSET_DAYS`].
    #[error("the offset \"{text}\" is longer than {MAX_OFFSET_DAYS} days")]
    TooLong {
        /// The offset as given, shortened.
        text: String,
    },
}

/// A signed duration relative to a due time: `-PT10M` is ten minutes before it, `P1D` one day after.
///
/// The text is that of RFC 5545 section 3.3.6, and ISO 8601's leave to skip a unit in the middle (`PT1H5S`)
/// is granted. Weeks and days are nominal, hours, minutes and seconds exact, see [`Offset::apply`]; so `P1D`
/// and `PT24H` differ while `P7D` and `P1W`, or `PT60M` and `PT1H`, are equal.
///
/// Invariant: both fields have the same sign and together stay within [`MAX_OFFSET_DAYS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Offset {
    /// Nominal part, in calendar days.
    days: i64,
    /// Exact part, in seconds.
    seconds: i64,
}

impl Offset {
    /// At the due time itself, `PT0S`.
    pub const ZERO: Self = Self { days: 0, seconds: 0 };

    /// Reads an offset; see [`Offset`] for the grammar.
    ///
    /// # Errors
    ///
    /// [`OffsetError`] names what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, OffsetError> {
        let refused = |reason| OffsetError::Malformed {
            text: quote(text),
            reason,
        };
        let too_long = || OffsetError::TooLong { text: quote(text) };

        if text.is_empty() {
            return Err(OffsetError::Empty);
        }
        if text.contains(|c: char| c.is_ascii_lowercase()) {
            return Err(OffsetError::LowerCase { text: quote(text) });
        }
        let (sign, unsigned) = match text.as_bytes() {
            [b'-', ..] => (-1, &text[1..]),
            [b'+', ..] => (1, &text[1..]),
            _ => (1, text),
        };
        let Some(mut rest) = unsigned.strip_prefix('P') else {
            return Err(OffsetError::NoDesignator { text: quote(text) });
        };
        if rest.is_empty() {
            return Err(refused("it has no number"));
        }

        let (mut days, mut seconds) = (0_i64, 0_i64);
        // Rank of the last unit read: the units must fall from weeks to seconds, each at most once.
        let mut last = 0;
        let mut in_time = false;
        while !rest.is_empty() {
            if let Some(time) = rest.strip_prefix('T') {
                if in_time {
                    return Err(refused("T stands twice"));
                }
                if time.is_empty() {
                    return Err(refused("nothing follows T"));
                }
                in_time = true;
                rest = time;
                continue;
            }
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            if number.is_empty() {
                return Err(refused("a whole number is missing"));
            }
            let mut tail = tail.chars();
            let (rank, unit) = match (tail.next(), in_time) {
                (Some('W'), false) => (1, 7 * SECONDS_PER_DAY),
                (Some('D'), false) => (2, SECONDS_PER_DAY),
                (Some('H'), true) => (3, 3600),
                (Some('M'), true) => (4, 60),
                (Some('S'), true) => (5, 1),
                (Some('Y' | 'M'), false) => return Err(OffsetError::YearsOrMonths { text: quote(text) }),
                (Some('H' | 'S'), false) => return Err(refused("hours, minutes and seconds follow a T")),
                (Some('W' | 'D'), true) => return Err(refused("weeks and days stand before the T")),
                (Some('.' | ','), _) => return Err(refused("fractions are not allowed")),
                (Some(_), _) => return Err(refused("a number is not followed by one of W, D, H, M, S")),
                (None, _) => return Err(refused("the last number has no unit")),
            };
            rest = tail.as_str();
            if last >= rank {
                return Err(refused("units must go from large to small, each once"));
            }
            if rank == 1 && !rest.is_empty() {
                return Err(OffsetError::MixedWeeks { text: quote(text) });
            }
            last = rank;
            // A number too large for i64 is too large for the bound as well.
            let value = number
                .parse::<i64>()
                .ok()
                .and_then(|n| n.checked_mul(unit))
                .ok_or_else(too_long)?;
            if value > MAX_OFFSET_SECONDS {
                return Err(too_long());
            }
            if in_time {
                seconds += value;
            } else {
                days += value / SECONDS_PER_DAY;
            }
        }
        if days * SECONDS_PER_DAY + seconds > MAX_OFFSET_SECONDS {
            return Err(too_long());
        }
        Ok(Self {
            days: sign * days,
            seconds: sign * seconds,
        })
    }

    /// The exact time from one instant to another, in whole seconds. `None` when that is more than [`MAX_OFFSET_DAYS`].
    #[must_use]
    pub fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> Option<Self> {
        let seconds = (to - from).num_seconds();
        (seconds.abs() <= MAX_OFFSET_SECONDS).then_some(Self { days: 0, seconds })
    }

    /// The instant this far from `at`, for someone living in `zone`.
    ///
    /// Weeks and days move the calendar date and keep the wall clock over daylight saving (with the rules of
    /// [`resolve_local`] where that wall clock is skipped or repeated); then hours, minutes and seconds are
    /// added as exact time (RFC 5545 section 3.3.6). `None` at the ends of chrono's calendar only.
    #[must_use]
    pub fn apply(&self, at: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        // Without a nominal part the detour over local time would lose the second pass of a repeated hour.
        let moved = if self.days == 0 {
            at
        } else {
            let local = local_time(at, zone)?.checked_add_signed(TimeDelta::days(self.days))?;
            resolve_local(local, zone)
        };
        moved.checked_add_signed(TimeDelta::seconds(self.seconds))
    }
}

impl FromStr for Offset {
    type Err = OffsetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// The canonical text: whole weeks as weeks, no unit larger than needed to keep nominal and exact apart.
impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, seconds) = (self.days.abs(), self.seconds.abs());
        if self.days < 0 || self.seconds < 0 {
            f.write_str("-")?;
        }
        f.write_str("P")?;
        if days > 0 && days % 7 == 0 && seconds == 0 {
            return write!(f, "{}W", days / 7);
        }
        if days > 0 {
            write!(f, "{days}D")?;
        }
        let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if seconds > 0 || days == 0 {
            f.write_str("T")?;
        }
        if hours > 0 {
            write!(f, "{hours}H")?;
        }
        // RFC 5545 knows no hours followed directly by seconds.
        if minutes > 0 || (hours > 0 && rest > 0) {
            write!(f, "{minutes}M")?;
        }
        if rest > 0 || (days == 0 && seconds == 0) {
            write!(f, "{rest}S")?;
        }
        Ok(())
    }
}

impl Serialize for Offset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Offset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Offset;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as -PT10M")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Offset, E> {
                Offset::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// What makes a reminder fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// Relative to the due time of its task.
    Offset(Offset),
    /// At a fixed instant, whatever the due time.
    At(DateTime<Utc>),
}

impl Trigger {
    /// When the reminder fires; `None` for an offset without a due time to count from.
    #[must_use]
    pub fn fire_at(&self, due_at: Option<DateTime<Utc>>, zone: Tz) -> Option<DateTime<Utc>> {
        match self {
            Self::Offset(offset) => offset.apply(due_at?, zone),
            Self::At(at) => Some(*at),
        }
    }
}
