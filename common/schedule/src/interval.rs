//! What comes some time after it was last done: "three days after I watered them".

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, Timelike, Utc};
use chrono_tz::Tz;
use recurrence::Freq;

use crate::rule::Rule;
use crate::zone::resolve_local;

/// The last year that an occurrence may lie in.
const LAST_YEAR: i32 = 9999;

/// So many days, weeks, months or years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    unit: Unit,
    number: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Days,
    Months,
}

/// Why a rule is no interval: it says more than how long to wait.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{part} cannot count from when it was last done: only FREQ (DAILY, WEEKLY, MONTHLY, YEARLY) and INTERVAL can"
)]
pub struct NotAnInterval {
    /// The part of the rule, such as `BYDAY`.
    pub part: String,
}

impl Interval {
    /// The interval that the rule is made of.
    ///
    /// # Errors
    ///
    /// [`NotAnInterval`] names the first part that no interval has.
    pub fn of(rule: &Rule) -> Result<Self, NotAnInterval> {
        let text = rule.to_string();
        let mut names = text.split(';').map(|part| part.split('=').next().unwrap_or(part));
        if let Some(part) = names.find(|name| !matches!(*name, "FREQ" | "INTERVAL")) {
            let part = part.to_owned();
            return Err(NotAnInterval { part });
        }
        let (unit, times) = match rule.freq() {
            Freq::Daily => (Unit::Days, 1),
            Freq::Weekly => (Unit::Days, 7),
            Freq::Monthly => (Unit::Months, 1),
            Freq::Yearly => (Unit::Months, 12),
            other => {
                let part = format!("FREQ={}", other.name());
                return Err(NotAnInterval { part });
            }
        };
        let number = rule.interval().saturating_mul(times);
        Ok(Self { unit, number })
    }

    /// When it is due after it was done at `done_at`: on the day of `zone` that is an interval later, at the time on the
    /// wall that `starts_at` shows there, to the second. Behind it what is due twice, three times that interval later, and
    /// so on. Each is after `done_at`, and after the one before it.
    ///
    /// A month later than the 31st is the last day of a month that is shorter. A time that does not exist, or exists twice,
    /// is read as [`resolve_local`] says. Ends with the year 9999.
    ///
    /// ```
    /// use schedule::{Interval, Rule, parse_zone};
    ///
    /// let interval = Interval::of(&Rule::parse("FREQ=DAILY;INTERVAL=3")?)?;
    /// let berlin = parse_zone("Europe/Berlin")?;
    /// let starts_at = "2026-03-02T08:00:00Z".parse()?; // 09:00
    /// let done_at = "2026-03-27T22:30:00Z".parse()?; // 23:30
    /// let due = interval.after(starts_at, berlin, done_at).next();
    /// assert_eq!(due, Some("2026-03-30T07:00:00Z".parse()?)); // 09:00 summer time
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn after(
        self,
        starts_at: DateTime<Utc>,
        zone: Tz,
        done_at: DateTime<Utc>,
    ) -> impl Iterator<Item = DateTime<Utc>> {
        let time = starts_at.with_timezone(&zone).time();
        let time = time.with_nanosecond(0).unwrap_or(time);
        let day = done_at.with_timezone(&zone).date_naive();
        let mut last = done_at;
        (1..)
            .map_while(move |times| self.later(day, times))
            .map(move |day| resolve_local(day.and_time(time), zone))
            // The next day comes earlier than it should where clocks go back over midnight, and at once with the one after it
            // where a whole day is skipped.
            .filter(move |next| {
                let later = *next > last;
                last = last.max(*next);
                later
            })
    }

    fn later(self, day: NaiveDate, times: u32) -> Option<NaiveDate> {
        let number = self.number.checked_mul(times)?;
        let later = match self.unit {
            Unit::Days => day.checked_add_days(Days::new(number.into())),
            Unit::Months => day.checked_add_months(Months::new(number)),
        };
        later.filter(|day| day.year() <= LAST_YEAR)
    }
}
