//! Recurrence sets of RFC 5545 (sections 3.3.10 and 3.8.5) and RFC 7529: what recurs when, in any IANA zone.
//!
//! Pure: no clock, no I/O, never the zone of the machine. A [`Rule`] is data, read from and written as text. A
//! [`Recurrence`] is rules, further dates and exceptions from a [`Start`] on; it can be entered at any time, in either
//! direction, at the same small cost, as everything is found by arithmetic and nothing by going through what lies
//! before. Every call does a bounded amount of work and otherwise ends with [`Error::TooMuchWork`].
//!
//! ```
//! use recurrence::{Moment, Recurrence, Rule, Start};
//!
//! let start = Start::new("2026-03-06T02:30:00".parse()?, Some(chrono_tz::America::New_York))?;
//! let set = Recurrence::new(start, &[Rule::parse("FREQ=DAILY;COUNT=3")?], &[], &[])?;
//! let all: Vec<String> = set.iter().map(|at| at.map(|at| at.to_string())).collect::<Result<_, _>>()?;
//! assert_eq!(
//!     all,
//!     ["2026-03-06T02:30:00-05:00", "2026-03-07T02:30:00-05:00", "2026-03-08T03:30:00-04:00"]
//! );
//! let today: Moment = "2026-03-07T12:00:00-05:00".parse()?;
//! assert_eq!(set.after(today)?.map(|at| at.to_string()).as_deref(), Some("2026-03-08T03:30:00-04:00"));
//! assert_eq!(set.count_before(today)?, 2);
//! # Ok::<(), recurrence::Error>(())
//! ```
//!
//! What the RFCs leave open, and how others read them, is in `docs/RECURRENCE.md`.

mod bits;
mod calendar;
mod clock;
mod dates;
mod error;
mod explain;
#[doc(hidden)]
pub mod fuzz_entry;
mod moment;
mod parse;
mod pattern;
mod quote;
mod rule;
mod set;

pub use chrono_tz::Tz;
pub use clock::resolve;
pub use error::Error;
pub use moment::{Moment, Start};
pub use quote::quote;
pub use rule::{Freq, MAX_RULE_CHARS, NthWeekday, Rule, Skip, Until};
pub use set::{MAX_DATES, MAX_RULES, Occurrences, Recurrence};

/// The version of the IANA time zone data, such as `2025b`. It is compiled in: `cargo update -p chrono-tz` brings the
/// next.
#[must_use]
pub fn zone_data_version() -> &'static str {
    chrono_tz::IANA_TZDB_VERSION
}
