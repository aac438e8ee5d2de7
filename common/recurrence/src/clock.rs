//! Wall clocks: which second a local time is.
//!
//! A local time that does not exist, because clocks were put forward over it, is read with the offset in force before
//! the gap; one that exists twice is its first, earlier second (RFC 5545, section 3.3.5, and its erratum 4271). Apart
//! from those in gaps, then, later local times are later seconds.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use crate::calendar::{DAY, Wall, local_of, new_year};

/// The years the zone data has changes in: the first left local mean time in the nineteenth century, and the data ends with
/// the year 2099.
const CHANGES: (Tick, Tick) = (new_year(1830) as i64 * DAY, new_year(2101) as i64 * DAY);

/// Seconds since 1970: of an instant where there is a zone, of the wall clock where there is none.
pub(crate) type Tick = i64;

/// The zone data has no two changes nearer to each other (the nearest are just under four days apart), and no change is
/// longer than a day: the tests go through all of it.
const STEP: i64 = 2 * DAY;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    Floating,
    Zone(Tz),
}

/// A change of a zone's offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    /// The first second of the new offset.
    pub(crate) at: Tick,
    before: i64,
    after: i64,
}

impl Change {
    /// Seconds the clocks are put forward.
    pub(crate) fn gap(self) -> i64 {
        self.after - self.before
    }

    /// What clocks would have shown at the change: where a gap begins or a fold ends.
    pub(crate) fn old_wall(self) -> Wall {
        self.at + self.before
    }

    /// What clocks show at the change: where a gap ends or a fold begins.
    pub(crate) fn new_wall(self) -> Wall {
        self.at + self.after
    }
}

/// What a second is to the change of offset before it.
pub(crate) enum Place {
    /// Local times run on.
    Plain,
    /// Local times of the gap are read as seconds around this one.
    AfterGap(Change),
    /// The clock shows times that it has shown before.
    SecondPass(Change),
}

impl Clock {
    fn offset(self, tick: Tick) -> i64 {
        match self {
            Self::Floating => 0,
            Self::Zone(zone) => i64::from(
                zone.offset_from_utc_datetime(&local_of(tick))
                    .fix()
                    .local_minus_utc(),
            ),
        }
    }

    pub(crate) fn wall(self, tick: Tick) -> Wall {
        tick + self.offset(tick)
    }

    /// The second a local time is, and the gap it lies in.
    pub(crate) fn read(self, wall: Wall) -> (Tick, Option<Change>) {
        let Self::Zone(zone) = self else {
            return (wall, None);
        };
        let offset = |offset: &<Tz as TimeZone>::Offset| i64::from(offset.fix().local_minus_utc());
        match zone.offset_from_local_datetime(&local_of(wall)) {
            MappedLocalTime::Single(only) => (wall - offset(&only), None),
            MappedLocalTime::Ambiguous(one, other) => (wall - offset(&one).max(offset(&other)), None),
            MappedLocalTime::None => {
                let gap = self.gap_around(wall);
                (wall - gap.before, Some(gap))
            }
        }
    }

    pub(crate) fn tick(self, wall: Wall) -> Tick {
        self.read(wall).0
    }

    /// Searches for the second at which the clock goes from before `wall` to after it. One exists between the two ends,
    /// and as no second shows `wall` itself it can only be the gap, whatever other changes are near.
    fn gap_around(self, wall: Wall) -> Change {
        let (mut low, mut high) = (wall - 2 * DAY, wall + 2 * DAY);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.wall(middle) > wall {
                high = middle;
            } else {
                low = middle;
            }
        }
        Change {
            at: high,
            before: self.offset(low),
            after: self.offset(high),
        }
    }

    /// The change after `low` and not after `high`, which are at most [`STEP`] apart.
    fn change(self, mut low: Tick, mut high: Tick) -> Option<Change> {
        let (before, after) = (self.offset(low), self.offset(high));
        if before == after {
            return None;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.offset(middle) == before {
                low = middle;
            } else {
                high = middle;
            }
        }
        Some(Change {
            at: high,
            before,
            after,
        })
    }

    pub(crate) fn place(self, tick: Tick) -> Place {
        if self == Self::Floating {
            return Place::Plain;
        }
        match self.change(tick - DAY, tick) {
            Some(change) if tick < change.at + change.gap() => Place::AfterGap(change),
            Some(change) if tick < change.at - change.gap() => Place::SecondPass(change),
            _ => Place::Plain,
        }
    }

    /// The gaps that begin after `from` and not after `to`.
    pub(crate) fn gaps(self, from: Tick, to: Tick) -> impl Iterator<Item = Change> {
        let (from, to) = (from.max(CHANGES.0), to.min(CHANGES.1));
        let steps = match self {
            Self::Floating => 0,
            Self::Zone(_) => (to - from).max(0) / STEP + 1,
        };
        (0..steps)
            .map(move |step| (from + step * STEP, (from + (step + 1) * STEP).min(to)))
            .filter_map(move |(low, high)| self.change(low, high))
            .filter(|change| change.gap() > 0)
    }
}

pub(crate) fn tick_of(utc: NaiveDateTime) -> Tick {
    utc.and_utc().timestamp()
}

/// The instant a local time of a zone stands for (RFC 5545 section 3.3.5).
///
/// A local time that does not exist, because clocks were put forward over it, is read with the offset in force before
/// the gap; one that exists twice is its first, earlier instant. Total: beyond the years chrono can represent the result
/// is the nearest instant it can.
#[must_use]
pub fn resolve(local: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    let tick = Clock::Zone(zone).tick(tick_of(local));
    let end = if tick < 0 {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    };
    DateTime::from_timestamp(tick, local.nanosecond()).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use chrono_tz::TZ_VARIANTS;

    use super::*;

    #[test]
    fn the_zone_data_has_no_changes_nearer_than_a_step_and_none_outside_of_its_years() {
        for zone in TZ_VARIANTS {
            let clock = Clock::Zone(zone);
            let (mut offset, mut last) = (clock.offset(CHANGES.0), CHANGES.0);
            assert_eq!(offset, clock.offset(CHANGES.0 - 1700 * 365 * DAY), "{zone}");
            for tick in (CHANGES.0..CHANGES.1).step_by(86_400) {
                let now = clock.offset(tick);
                if now != offset {
                    // Each seen up to a day late.
                    assert!(tick - last >= STEP + DAY, "{zone} {}", local_of(tick));
                    assert!((now - offset).abs() <= DAY, "{zone} {}", local_of(tick));
                    (offset, last) = (now, tick);
                }
            }
            assert!(last < CHANGES.1 - 365 * DAY, "{zone}");
            assert_eq!(offset, clock.offset(CHANGES.1 + 7000 * 365 * DAY), "{zone}");
        }
    }
}
