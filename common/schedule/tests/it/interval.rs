use chrono::{Datelike, Days, Months, TimeDelta};
use chrono_tz::{America, Asia, Europe, Pacific, UTC};
use proptest::prelude::*;
use schedule::{Interval, Rule, Tz};

use crate::{shown, utc};

#[expect(clippy::unwrap_used, reason = "rules of tests")]
fn interval(rule: &str) -> Interval {
    Interval::of(&Rule::parse(rule).unwrap()).unwrap()
}

#[expect(clippy::unwrap_used, reason = "rules of tests")]
fn due(rule: &str, starts_at: &str, zone: Tz, done_at: &str) -> String {
    let mut due = interval(rule).after(utc(starts_at), zone, utc(done_at));
    shown(due.next().unwrap(), zone)
}

#[test]
fn it_is_due_an_interval_after_the_day_it_was_done_on_at_the_time_of_the_series() {
    let start = "2026-03-02T08:00:00Z"; // 09:00 in Berlin
    for (rule, done_at, expected) in [
        ("FREQ=DAILY", "2026-03-05T22:30:00Z", "2026-03-06T09:00:00+01:00"),
        // Half an hour later it is the next day there.
        ("FREQ=DAILY", "2026-03-05T23:00:00Z", "2026-03-07T09:00:00+01:00"),
        (
            "FREQ=DAILY;INTERVAL=3",
            "2026-03-05T05:00:00Z",
            "2026-03-08T09:00:00+01:00",
        ),
        (
            "FREQ=WEEKLY;INTERVAL=2",
            "2026-03-05T05:00:00Z",
            "2026-03-19T09:00:00+01:00",
        ),
        (
            "FREQ=MONTHLY",
            "2026-01-31T12:00:00Z",
            "2026-02-28T09:00:00+01:00",
        ),
        ("FREQ=YEARLY", "2028-02-29T12:00:00Z", "2029-02-28T09:00:00+01:00"),
    ] {
        assert_eq!(
            due(rule, start, Europe::Berlin, done_at),
            expected,
            "{rule} {done_at}"
        );
    }
}

#[test]
fn the_time_on_the_wall_stays_when_clocks_change() {
    for (zone, starts_at, done_at, expected) in [
        // To summer time, and back.
        (
            Europe::Berlin,
            "2026-03-02T08:00:00Z",
            "2026-03-28T12:00:00Z",
            "2026-03-29T09:00:00+02:00",
        ),
        (
            Europe::Berlin,
            "2026-07-02T07:00:00Z",
            "2026-10-24T12:00:00Z",
            "2026-10-25T09:00:00+01:00",
        ),
        // In the gap: read with the offset before it. Twice: the first of the two.
        (
            Europe::Berlin,
            "2026-03-02T01:30:00Z",
            "2026-03-28T12:00:00Z",
            "2026-03-29T03:30:00+02:00",
        ),
        (
            Europe::Berlin,
            "2026-03-02T01:30:00Z",
            "2026-10-24T12:00:00Z",
            "2026-10-25T02:30:00+02:00",
        ),
        (
            America::New_York,
            "2026-03-02T07:30:00Z",
            "2026-03-07T12:00:00Z",
            "2026-03-08T03:30:00-04:00",
        ),
        // Samoa had no 30 December 2011.
        (
            Pacific::Apia,
            "2011-12-01T19:00:00Z",
            "2011-12-29T20:00:00Z",
            "2011-12-31T09:00:00+14:00",
        ),
        // Half an hour only.
        (
            Asia::Kolkata,
            "2026-03-02T08:00:00Z",
            "2026-03-28T12:00:00Z",
            "2026-03-29T13:30:00+05:30",
        ),
    ] {
        assert_eq!(
            due("FREQ=DAILY", starts_at, zone, done_at),
            expected,
            "{zone} {done_at}"
        );
    }
}

#[test]
fn a_day_that_begins_twice_is_not_due_before_it_was_done() {
    // Newfoundland went back from 00:01 to 23:01 the day before; what is due at 00:00:30 was so before that.
    let zone = America::St_Johns;
    let done_at = "2006-10-29T03:00:00Z";
    assert_eq!(shown(utc(done_at), zone), "2006-10-28T23:30:00-03:30");
    let next = due("FREQ=DAILY", "2006-07-01T02:30:30Z", zone, done_at);
    assert_eq!(next, "2006-10-30T00:00:30-03:30");
}

#[test]
fn a_rule_that_says_more_than_how_long_to_wait_is_refused_with_the_part_that_does() {
    for (rule, part) in [
        ("FREQ=WEEKLY;BYDAY=MO", "BYDAY"),
        ("FREQ=DAILY;COUNT=3", "COUNT"),
        ("FREQ=DAILY;UNTIL=20270101", "UNTIL"),
        ("FREQ=MONTHLY;INTERVAL=2;BYMONTHDAY=1", "BYMONTHDAY"),
        ("FREQ=WEEKLY;WKST=SU", "WKST"),
        ("FREQ=HOURLY", "FREQ=HOURLY"),
    ] {
        let refused = Interval::of(&Rule::parse(rule).unwrap()).unwrap_err();
        assert_eq!(refused.part, part);
        assert!(refused.to_string().contains(part), "{refused}");
    }
}

#[test]
fn it_ends_with_the_calendar() {
    let mut due = interval("FREQ=YEARLY;INTERVAL=4000").after(
        utc("2026-01-01T00:00:00Z"),
        UTC,
        utc("2026-01-01T00:00:00Z"),
    );
    assert_eq!(due.next(), Some(utc("6026-01-01T00:00:00Z")));
    assert_eq!(due.next(), None);
}

proptest! {
    #[test]
    fn whenever_it_was_done_it_is_due_later_on_the_right_day_at_the_right_time(
        zone in proptest::sample::select(schedule_zones()),
        unit in 0..4_usize,
        number in 1..40_u32,
        starts in 0..4_000_000_000_i64,
        done in 0..4_000_000_000_i64,
    ) {
        let unit = ["DAILY", "WEEKLY", "MONTHLY", "YEARLY"][unit];
        let at = |seconds| utc("1970-01-01T00:00:00Z") + TimeDelta::seconds(seconds);
        let (starts_at, done_at) = (at(starts), at(done));
        let interval = interval(&format!("FREQ={unit};INTERVAL={number}"));
        let next: Vec<_> = interval.after(starts_at, zone, done_at).take(3).collect();
        prop_assert_eq!(next.len(), 3);
        prop_assert!(done_at < next[0] && next[0] < next[1] && next[1] < next[2]);

        let day = done_at.with_timezone(&zone).date_naive();
        let wanted = match unit {
            "DAILY" => day + Days::new(number.into()),
            "WEEKLY" => day + Days::new(u64::from(number) * 7),
            "MONTHLY" => day + Months::new(number),
            _ => day + Months::new(number * 12),
        };
        let time = starts_at.with_timezone(&zone).time();
        let found = next[0].with_timezone(&zone).naive_local();
        // Elsewhere only where that time does not exist on that day.
        if chrono::TimeZone::from_local_datetime(&zone, &wanted.and_time(time)).earliest().is_some_and(|at| at > done_at) {
            prop_assert_eq!(found, wanted.and_time(time));
        } else {
            prop_assert!((0..=1 + 366 * i32::from(unit != "DAILY")).contains(&(found.date().num_days_from_ce() - wanted.num_days_from_ce())));
        }
    }
}

/// Zones with all sorts of changes.
fn schedule_zones() -> Vec<Tz> {
    vec![
        UTC,
        Europe::Berlin,
        America::New_York,
        America::St_Johns,
        America::Sao_Paulo,
        Pacific::Apia,
        Asia::Kolkata,
        chrono_tz::Australia::Lord_Howe,
    ]
}
