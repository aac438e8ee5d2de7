//! The Gregorian calendar in whole numbers: days and seconds since 1970-01-01, without a zone.

use chrono::{DateTime, NaiveDateTime};

/// Days since 1970-01-01.
pub(crate) type Day = i32;
/// Seconds a wall clock shows since it showed 1970-01-01T00:00:00.
pub(crate) type Wall = i64;

pub(crate) const DAY: i64 = 86_400;

/// The years that can be written in iCalendar (and year 0, which nobody means, left out).
pub(crate) const FIRST_YEAR: i32 = 1;
pub(crate) const LAST_YEAR: i32 = 9999;
pub(crate) const FIRST_DAY: Day = new_year(FIRST_YEAR);
pub(crate) const LAST_DAY: Day = new_year(LAST_YEAR + 1) - 1;
pub(crate) const FIRST_WALL: Wall = FIRST_DAY as i64 * DAY;
pub(crate) const LAST_WALL: Wall = (LAST_DAY as i64 + 1) * DAY - 1;

pub(crate) const fn leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub(crate) const fn year_len(year: i32) -> i32 {
    if leap(year) { 366 } else { 365 }
}

/// The first of January.
pub(crate) const fn new_year(year: i32) -> Day {
    let before = year - 1;
    before * 365 + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) - 719_162
}

/// Days after which the calendar repeats, leap days and weekdays alike.
pub(crate) const FOUR_CENTURIES: i64 = 146_097;

/// The year a day lies in, and the days of that year before it.
pub(crate) fn year_of(day: Day) -> (i32, i32) {
    // From 0001-01-01: four centuries, then centuries, four years and years, of which the last is longer by a day.
    let day = day + 719_162;
    let (cycles, rest) = (
        day.div_euclid(FOUR_CENTURIES as i32),
        day.rem_euclid(FOUR_CENTURIES as i32),
    );
    let centuries = (rest / 36_524).min(3);
    let rest = rest - centuries * 36_524;
    let (fours, rest) = (rest / 1461, rest % 1461);
    let ones = (rest / 365).min(3);
    (
        cycles * 400 + centuries * 100 + fours * 4 + ones + 1,
        rest - ones * 365,
    )
}

/// Days of the year before each month and, last, of the whole year.
const MONTH_STARTS: [[i32; 13]; 2] = [
    [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365],
    [0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335, 366],
];

/// The days of the year before `month` (0 to 11; 12 for the length of the year).
pub(crate) fn month_start(year: i32, month: usize) -> i32 {
    MONTH_STARTS[usize::from(leap(year))][month]
}

pub(crate) fn month_len(year: i32, month: usize) -> i32 {
    month_start(year, month + 1) - month_start(year, month)
}

/// Year, month (0 to 11) and day of the month (from 1).
pub(crate) fn civil(day: Day) -> (i32, usize, i32) {
    let (year, in_year) = year_of(day);
    // No month is longer than 32 days, so this is the month or the one before it.
    let mut month = (in_year / 32) as usize;
    if month_start(year, month + 1) <= in_year {
        month += 1;
    }
    (year, month, in_year - month_start(year, month) + 1)
}

/// Days since Monday.
pub(crate) fn weekday(day: Day) -> i32 {
    (day + 3).rem_euclid(7)
}

/// The day a wall clock shows, and the seconds since its midnight.
pub(crate) fn split(wall: Wall) -> (Day, i64) {
    (wall.div_euclid(DAY) as Day, wall.rem_euclid(DAY))
}

pub(crate) fn join(day: Day, second: i64) -> Wall {
    i64::from(day) * DAY + second
}

pub(crate) fn wall_of(local: NaiveDateTime) -> Wall {
    local.and_utc().timestamp()
}

/// Total: chrono reaches far beyond the years 1 to 9999.
pub(crate) fn local_of(wall: Wall) -> NaiveDateTime {
    DateTime::from_timestamp(wall, 0).unwrap_or_default().naive_utc()
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, NaiveDate};

    use super::*;

    #[test]
    fn every_day_of_four_centuries_and_the_ends_is_the_one_chrono_knows() {
        for day in (-200_000..200_000)
            .chain(FIRST_DAY..FIRST_DAY + 800)
            .chain(LAST_DAY - 800..=LAST_DAY)
        {
            let date = local_of(join(day, 0)).date();
            assert_eq!(date.num_days_from_ce() - 719_163, day);
            let (year, month, in_month) = civil(day);
            assert_eq!(
                (year, month as u32, in_month as u32),
                (date.year(), date.month0(), date.day())
            );
            assert_eq!(weekday(day), date.weekday().num_days_from_monday() as i32);
            assert_eq!(new_year(year) + date.ordinal0() as i32, day);
            assert_eq!(year_of(day), (date.year(), date.ordinal0() as i32));
        }
        assert_eq!(
            local_of(FIRST_WALL).date(),
            NaiveDate::from_ymd_opt(1, 1, 1).unwrap()
        );
        assert_eq!(
            local_of(LAST_WALL).date(),
            NaiveDate::from_ymd_opt(9999, 12, 31).unwrap()
        );
    }
}
