//! When reminders fire and when tasks recur.
//!
//! Pure functions over instants and IANA zones: no clock, no I/O, no dependence on the zone of the machine.
//! The API validates with this crate, the reminder scanner computes fire times with it and the recurrence
//! generator the next occurrence, so that all three agree to the second.
//!
//! - [`zone`]: zone names, and which instant a local time stands for.
//! - [`due`]: a due time or a whole day, and the instants that they stand for.
//! - [`duration`]: signed offsets such as `-PT10M` relative to a due time, and reminder triggers.
//! - [`rule`]: recurrence rules, those of the crate `recurrence` as far as the product takes them.
//! - [`interval`]: what comes some time after it was last done, whenever that was.
//!
//! Zone data is compiled in by `chrono-tz`, which holds transitions up to the year 2099; later instants keep
//! the last offset of their zone.

pub mod due;
pub mod duration;
pub mod interval;
pub mod rule;
pub mod zone;

pub use chrono_tz::Tz;
pub use due::Due;
pub use duration::{Offset, OffsetError, Trigger};
pub use interval::{Interval, NotAnInterval};
pub use rule::{Rule, RuleError, Timeline};
pub use zone::{ZoneError, parse_zone, resolve_local};
