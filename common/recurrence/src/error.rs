//! What can be wrong with a rule or a set, as sentences for the person who wrote it.

/// Why something was refused. The texts may be shown to users: foreign text in them is shortened and escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No text at all.
    #[error("the rule is empty; at least FREQ is needed, for example FREQ=DAILY")]
    Empty,
    /// Longer than [`MAX_RULE_CHARS`](crate::MAX_RULE_CHARS).
    #[error("the rule is longer than {} characters", crate::MAX_RULE_CHARS)]
    TooLong,
    /// A piece between semicolons that is not `NAME=VALUE`.
    #[error("a rule consists of parts NAME=VALUE with semicolons between them, but \"{text}\" is not one")]
    NotAPart {
        /// The piece as given, shortened.
        text: String,
    },
    /// A name neither RFC 5545 nor RFC 7529 knows.
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
    /// SKIP without RSCALE.
    #[error("SKIP needs RSCALE=GREGORIAN beside it (RFC 7529, section 4)")]
    LoneSkip,
    /// A date or time that cannot be read.
    #[error(
        "\"{text}\" is not a date or time such as 2026-03-01, 2026-03-01T09:30:00 or 2026-03-01T09:30:00+01:00"
    )]
    NotAMoment {
        /// The text as given, shortened.
        text: String,
    },
    /// A date among times, an instant among times without a zone and the like.
    #[error("{given} does not go with a start that is {start}")]
    Mixed {
        /// What was given.
        given: &'static str,
        /// What the start is.
        start: &'static str,
    },
    /// A rule with a frequency below a day for a start that is a date.
    #[error("a start that is a date needs FREQ=DAILY or rarer, as a day has no hours to go through")]
    NoTimeOfDay,
    /// The start or another date lies outside of the calendar.
    #[error("dates lie between the years 1 and 9999")]
    OutOfCalendar,
    /// More dates than [`MAX_DATES`](crate::MAX_DATES) or rules than [`MAX_RULES`](crate::MAX_RULES).
    #[error(
        "a recurrence has at most {} rules and {} dates",
        crate::MAX_RULES,
        crate::MAX_DATES
    )]
    TooMany,
    /// UNTIL lies before the start.
    #[error("UNTIL lies before the start, so the rule has no occurrence")]
    EndsBeforeStart,
    /// There would be occurrences, but UNTIL lies before the first.
    #[error("UNTIL lies before the first occurrence")]
    EndsBeforeFirst,
    /// No occurrence at all.
    #[error("no date matches all parts of the rule, so it has no occurrence")]
    NeverMatches,
    /// The work budget of one call was used up.
    #[error("this takes too much work: the occurrences of the rule are too far apart or too many to count")]
    TooMuchWork,
}

/// What a call may do, in steps of some nanoseconds, so that none of them hangs.
#[derive(Debug)]
pub(crate) struct Budget(u32);

impl Budget {
    /// A search through all weeks of the calendar fits in four times.
    const PER_CALL: u32 = 2_000_000;

    pub(crate) fn new() -> Self {
        Self(Self::PER_CALL)
    }

    #[inline]
    pub(crate) fn step(&mut self) -> Result<(), Error> {
        self.0 = self.0.checked_sub(1).ok_or(Error::TooMuchWork)?;
        Ok(())
    }
}
