//! Zone names, and which instant a local time stands for.

use chrono::{DateTime, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};

use recurrence::quote;

/// Why a zone name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneError {
    /// No name at all.
    #[error("the time zone is empty; an IANA name such as Europe/Berlin is needed")]
    Empty,
    /// Blanks or control characters somewhere in the name.
    #[error("the time zone \"{name}\" contains blanks or control characters")]
    Blank {
        /// The name as given, shortened.
        name: String,
    },
    /// A known name in another case.
    #[error("the time zone \"{name}\" is spelled {expected}")]
    Spelling {
        /// The name as given, shortened.
        name: String,
        /// The spelling of the IANA database.
        expected: &'static str,
    },
    /// A fixed offset, which says nothing about daylight saving.
    #[error("\"{name}\" is an offset, not a time zone; an IANA name such as Europe/Berlin is needed")]
    FixedOffset {
        /// The name as given, shortened.
        name: String,
    },
    /// Not in the IANA database.
    #[error("\"{name}\" is not a time zone of the IANA database")]
    Unknown {
        /// The name as given, shortened.
        name: String,
    },
}

/// Reads an IANA zone name in its exact spelling; names kept for compatibility (`US/Eastern`) are zones too.
///
/// Names are compared byte by byte so that one zone has one text in every store and cache.
///
/// # Errors
///
/// [`ZoneError`] says what is wrong with the name, with the right spelling where only the case differs.
pub fn parse_zone(name: &str) -> Result<Tz, ZoneError> {
    if name.is_empty() {
        return Err(ZoneError::Empty);
    }
    if let Ok(zone) = name.parse::<Tz>() {
        return Ok(zone);
    }
    let given = quote(name);
    if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(ZoneError::Blank { name: given });
    }
    if let Some(zone) = TZ_VARIANTS
        .iter()
        .find(|zone| zone.name().eq_ignore_ascii_case(name))
    {
        return Err(ZoneError::Spelling {
            name: given,
            expected: zone.name(),
        });
    }
    if name.starts_with(['+', '-']) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(ZoneError::FixedOffset { name: given });
    }
    Err(ZoneError::Unknown { name: given })
}

/// The instant a local time stands for (RFC 5545 section 3.3.5).
///
/// A local time that does not exist, because clocks were put forward over it, is read with the offset in
/// force before the gap; one that exists twice is its first, earlier instant. Total: beyond the years chrono
/// can represent the result is the nearest instant it can.
///
/// ```
/// use schedule::{parse_zone, resolve_local};
///
/// let new_york = parse_zone("America/New_York")?;
/// let skipped = "2026-03-08T02:30:00".parse()?;
/// assert_eq!(resolve_local(skipped, new_york).to_rfc3339(), "2026-03-08T07:30:00+00:00"); // 03:30 EDT
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn resolve_local(local: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    recurrence::resolve(local, zone)
}

/// The local time at an instant; `None` only at the very ends of chrono's calendar.
pub(crate) fn local_time(at: DateTime<Utc>, zone: Tz) -> Option<NaiveDateTime> {
    let utc = at.naive_utc();
    utc.checked_add_offset(zone.offset_from_utc_datetime(&utc).fix())
}
