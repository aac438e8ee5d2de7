//! What can be wrong with a rule, as sentences for the person who wrote it.

use super::{MAX_COUNT, MAX_RULE_CHARS};

/// Why a rule was refused. The texts may be shown to users: foreign text in them is shortened and escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// No text at all.
    #[error("the rule is empty; at least FREQ is needed, for example FREQ=DAILY")]
    Empty,
    /// Longer than [`MAX_RULE_CHARS`].
    #[error("the rule is longer than {MAX_RULE_CHARS} characters")]
    TooLong,
    /// A piece between semicolons that is not `NAME=VALUE`.
    #[error("a rule consists of parts NAME=VALUE with semicolons between them, but \"{text}\" is not one")]
    NotAPart {
        /// The piece as given, shortened.
        text: String,
    },
    /// A name RFC 5545 does not know.
    #[error("\"{name}\" is not a part of a recurrence rule")]
    UnknownPart {
        /// The name as given, shortened.
        name: String,
    },
    /// The same part given twice.
    #[error("{part} is given more than once")]
    RepeatedPart {
        /// Name of the part.
        part: &'static str,
    },
    /// No FREQ.
    #[error("FREQ is missing, for example FREQ=DAILY")]
    MissingFreq,
    /// A value outside of the grammar or range of its part.
    #[error("{part} cannot be \"{value}\": {expected}")]
    InvalidValue {
        /// Name of the part.
        part: &'static str,
        /// The value as given, shortened.
        value: String,
        /// What the part takes.
        expected: &'static str,
    },
    /// COUNT of zero or above [`MAX_COUNT`].
    #[error("COUNT cannot be \"{value}\": it is a whole number from 1 to {MAX_COUNT}")]
    InvalidCount {
        /// The value as given, shortened.
        value: String,
    },
    /// Parts that must not stand together.
    #[error("{part} cannot be used with {with}: {reason}")]
    Conflict {
        /// Name of the part.
        part: &'static str,
        /// The part, or part and value, it collides with.
        with: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// BYSETPOS alone.
    #[error("BYSETPOS picks from the days or times of another BY part, and the rule has none")]
    LoneSetPos,
    /// More often than once an hour.
    #[error("{part} makes the rule more frequent than hourly, the most a rule may be")]
    TooFrequent {
        /// Name of the part.
        part: &'static str,
    },
    /// The start lies outside of the calendar of this crate.
    #[error("the start of a rule must lie between the years 1900 and 2399")]
    StartOutOfRange,
    /// UNTIL lies before the start.
    #[error("UNTIL lies before the start, so the rule has no occurrence")]
    EndsBeforeStart,
    /// No occurrence at all, or none before UNTIL.
    #[error("no date matches all parts of the rule, so it has no occurrence")]
    NeverMatches,
    /// The engine under this crate refused what the rules above let through.
    #[error("the rule is not supported: {reason}")]
    Unsupported {
        /// The engine's words.
        reason: String,
    },
}
