//! The public face of the crate, as its users see it.

mod interval;
mod offset;
mod oracle;
mod rule_occurrences;
mod rule_text;
mod timeline;
mod zone;

use chrono::{DateTime, NaiveDateTime, Utc};
use schedule::Tz;

#[expect(clippy::unwrap_used, reason = "literals of tests")]
fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[expect(clippy::unwrap_used, reason = "literals of tests")]
fn wall(text: &str) -> NaiveDateTime {
    text.parse().unwrap()
}

/// Local time with its offset, the form in which tests read best.
fn shown(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%Y-%m-%dT%H:%M:%S%:z").to_string()
}
