//! When the instances of a series are due.

use chrono::{SubsecRound, TimeDelta};
use schedule::{Interval, NotAnInterval, Rule, RuleError, Tz, ZoneError};
use schemas::Timestamp;
use uuid::Uuid;

use super::{Anchor, Series};

impl Series {
    /// The occurrences, made ready once to be asked often.
    ///
    /// # Errors
    /// When the rule or the zone cannot be used.
    pub fn timeline(&self) -> Result<Timeline<'_>, Unusable> {
        let zone = schedule::parse_zone(&self.timezone).map_err(|source| Unusable::Zone {
            series_id: self.id,
            source,
        })?;
        let unusable = |source| self.unusable(source);
        let rule = Rule::parse(&self.rrule).map_err(unusable)?;
        let occurrences = match self.anchor {
            Anchor::Schedule => Occurrences::Rule(
                rule.timeline(self.starts_at, zone, &self.rdates, &self.exdates)
                    .map_err(unusable)?,
            ),
            Anchor::Completion => {
                let interval = Interval::of(&rule).map_err(|source| Unusable::Interval {
                    series_id: self.id,
                    rrule: self.rrule.clone(),
                    source,
                })?;
                Occurrences::Interval(interval, zone)
            }
        };
        Ok(Timeline {
            series: self,
            occurrences,
        })
    }

    fn unusable(&self, source: RuleError) -> Unusable {
        Unusable::Rule {
            series_id: self.id,
            rrule: self.rrule.clone(),
            source,
        }
    }

    /// The first occurrence strictly after `after`: see [`Timeline::after`].
    ///
    /// # Errors
    /// When the rule or the zone cannot be used.
    pub fn next_after(&self, after: Timestamp) -> Result<Option<Timestamp>, Unusable> {
        self.timeline()?.after(after).next().transpose()
    }
}

/// The occurrences of a series: see [`Series::timeline`].
#[derive(Debug, Clone)]
pub struct Timeline<'a> {
    series: &'a Series,
    occurrences: Occurrences,
}

#[derive(Debug, Clone)]
enum Occurrences {
    Rule(schedule::Timeline),
    Interval(Interval, Tz),
}

impl Timeline<'_> {
    /// The occurrences strictly after `after`, in their order, each found when it is asked for. The first of all is the start,
    /// even where it does not match the rule, unless it is an exception. Of a series that counts from completions it is
    /// where they are if one was completed at `after`, the next on its day, and so on.
    pub fn after(&self, after: Timestamp) -> impl Iterator<Item = Result<Timestamp, Unusable>> {
        let series = self.series;
        let excepted = |at: Timestamp| {
            let mut exdates = series.exdates.iter();
            exdates.any(|exdate| exdate.trunc_subsecs(0) == at.trunc_subsecs(0))
        };
        let start = Some(series.starts_at).filter(|start| {
            *start > after && matches!(self.occurrences, Occurrences::Rule(_)) && !excepted(*start)
        });
        let (by_rule, by_interval) = match &self.occurrences {
            Occurrences::Rule(rule) => (Some(rule.after(after.max(series.starts_at))), None),
            Occurrences::Interval(interval, zone) => {
                (None, Some(interval.after(series.starts_at, *zone, after)))
            }
        };
        let by_rule = by_rule.into_iter().flatten();
        start
            .map(Ok)
            .into_iter()
            .chain(by_rule.map(|found| found.map_err(|source| series.unusable(source))))
            .chain(by_interval.into_iter().flatten().map(Ok))
    }

    /// The last occurrence that is not after `until`; of a series that counts from completions there is none.
    ///
    /// # Errors
    /// When it takes too much work to find.
    pub fn last_until(&self, until: Timestamp) -> Result<Option<Timestamp>, Unusable> {
        let Occurrences::Rule(rule) = &self.occurrences else {
            return Ok(None);
        };
        let series = self.series;
        let last = rule.last_until(until).map_err(|source| series.unusable(source))?;
        // Dates before the start are none, and the start may be one by itself.
        let start = series.starts_at;
        match last.filter(|last| *last > start) {
            Some(last) => Ok(Some(last)),
            None => {
                let first = self
                    .after(start - TimeDelta::microseconds(1))
                    .next()
                    .transpose()?;
                Ok(first.filter(|first| *first == start && start <= until))
            }
        }
    }

    /// The occurrence of that second, as the series has it: only its start has fractions. Where it counts from completions
    /// every instant may be one.
    ///
    /// # Errors
    /// When it takes too much work to find.
    pub fn at(&self, at: Timestamp) -> Result<Option<Timestamp>, Unusable> {
        if matches!(self.occurrences, Occurrences::Interval(..)) {
            return Ok(Some(at));
        }
        let second = at.trunc_subsecs(0);
        let next = self
            .after(second - TimeDelta::microseconds(1))
            .next()
            .transpose()?;
        Ok(next.filter(|next| next.trunc_subsecs(0) == second))
    }
}

/// Why a series has no next occurrence that could be computed. Trying again gives the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Its rule is none.
    #[error("the rule {rrule:?} of series {series_id} cannot be used: {source}")]
    Rule {
        /// The series.
        series_id: Uuid,
        /// Its rule.
        rrule: String,
        /// What is wrong with it.
        source: RuleError,
    },
    /// Its rule says more than how long after a completion the next is due.
    #[error("the rule {rrule:?} of series {series_id} cannot be used: {source}")]
    Interval {
        /// The series.
        series_id: Uuid,
        /// Its rule.
        rrule: String,
        /// What is wrong with it.
        source: NotAnInterval,
    },
    /// Its zone is none.
    #[error("series {series_id} has no usable time zone: {source}")]
    Zone {
        /// The series.
        series_id: Uuid,
        /// What is wrong with it.
        source: ZoneError,
    },
}
