use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::{America, Asia, Australia, Europe, Pacific, UTC};
use recurrence::Error;
use schedule::{Rule, RuleError, Tz};

use crate::{shown, utc};

/// The first `most` occurrences, found one from the other as the recurrence generator does.
#[expect(clippy::unwrap_used, reason = "rules of tests")]
fn list(rule: &str, start: &str, zone: Tz, most: usize) -> Vec<String> {
    let rule = Rule::parse(rule).unwrap();
    let start = utc(start);
    let mut found = Vec::new();
    let mut after = start - TimeDelta::seconds(1);
    while found.len() < most
        && let Some(next) = rule.next_after(start, zone, after).unwrap()
    {
        assert!(next > after, "{rule}");
        found.push(shown(next, zone));
        after = next;
    }
    found
}

#[expect(clippy::unwrap_used, reason = "rules of tests")]
fn next(rule: &str, start: &str, zone: Tz, after: &str) -> Option<DateTime<Utc>> {
    Rule::parse(rule)
        .unwrap()
        .next_after(utc(start), zone, utc(after))
        .unwrap()
}

#[test]
fn a_time_in_the_gap_moves_that_day_only() {
    assert_eq!(
        list("FREQ=DAILY", "2026-03-07T07:30:00Z", America::New_York, 3),
        [
            "2026-03-07T02:30:00-05:00",
            "2026-03-08T03:30:00-04:00",
            "2026-03-09T02:30:00-04:00"
        ]
    );
    assert_eq!(
        list("FREQ=WEEKLY", "2026-03-22T01:30:00Z", Europe::Berlin, 3),
        [
            "2026-03-22T02:30:00+01:00",
            "2026-03-29T03:30:00+02:00",
            "2026-04-05T02:30:00+02:00"
        ]
    );
    assert_eq!(
        list("FREQ=DAILY", "2026-10-02T15:45:00Z", Australia::Lord_Howe, 3),
        [
            "2026-10-03T02:15:00+10:30",
            "2026-10-04T02:45:00+11:00",
            "2026-10-05T02:15:00+11:00"
        ]
    );
    assert_eq!(
        list("FREQ=DAILY", "2018-11-03T03:00:00Z", America::Sao_Paulo, 3),
        [
            "2018-11-03T00:00:00-03:00",
            "2018-11-04T01:00:00-02:00",
            "2018-11-05T00:00:00-02:00"
        ]
    );
}

#[test]
fn the_wall_clock_is_kept_over_daylight_saving() {
    assert_eq!(
        list("FREQ=WEEKLY;BYDAY=MO", "2026-10-19T07:00:00Z", Europe::Berlin, 2),
        ["2026-10-19T09:00:00+02:00", "2026-10-26T09:00:00+01:00"]
    );
    assert_eq!(
        list(
            "FREQ=HOURLY;INTERVAL=6",
            "2026-03-28T17:00:00Z",
            Europe::Berlin,
            4
        ),
        [
            "2026-03-28T18:00:00+01:00",
            "2026-03-29T00:00:00+01:00",
            "2026-03-29T06:00:00+02:00",
            "2026-03-29T12:00:00+02:00"
        ]
    );
}

#[test]
fn a_repeated_time_comes_once_and_first() {
    assert_eq!(
        list("FREQ=DAILY", "2026-10-31T05:30:00Z", America::New_York, 3),
        [
            "2026-10-31T01:30:00-04:00",
            "2026-11-01T01:30:00-04:00",
            "2026-11-02T01:30:00-05:00"
        ]
    );
}

#[test]
fn a_start_in_the_second_pass_of_a_repeated_hour_stays_there() {
    assert_eq!(
        list(
            "FREQ=DAILY;BYHOUR=1;BYMINUTE=30,40",
            "2026-11-01T06:30:00Z",
            America::New_York,
            3
        ),
        [
            "2026-11-01T01:30:00-05:00",
            "2026-11-02T01:30:00-05:00",
            "2026-11-02T01:40:00-05:00"
        ]
    );
}

#[test]
fn a_day_that_does_not_exist_falls_together_with_the_next() {
    assert_eq!(
        list("FREQ=DAILY", "2011-12-29T19:00:00Z", Pacific::Apia, 3),
        [
            "2011-12-29T09:00:00-10:00",
            "2011-12-31T09:00:00+14:00",
            "2012-01-01T09:00:00+14:00"
        ]
    );
    // COUNT counts what is left of them.
    assert_eq!(
        list("FREQ=DAILY;COUNT=3", "2011-12-29T19:00:00Z", Pacific::Apia, 9).len(),
        3
    );
}

#[test]
fn hourly_over_the_gap_has_no_instant_twice() {
    assert_eq!(
        list("FREQ=HOURLY", "2026-03-08T06:00:00Z", America::New_York, 4),
        [
            "2026-03-08T01:00:00-05:00",
            "2026-03-08T03:00:00-04:00",
            "2026-03-08T04:00:00-04:00",
            "2026-03-08T05:00:00-04:00"
        ]
    );
}

#[test]
fn hourly_over_the_repeated_hour_fires_once_for_it() {
    assert_eq!(
        list("FREQ=HOURLY", "2026-11-01T04:00:00Z", America::New_York, 4),
        [
            "2026-11-01T00:00:00-04:00",
            "2026-11-01T01:00:00-04:00",
            "2026-11-01T02:00:00-05:00",
            "2026-11-01T03:00:00-05:00"
        ]
    );
}

#[test]
fn times_around_a_gap_come_in_the_order_of_their_instants() {
    // 02:40 is read as 03:40 and so comes after 03:10.
    assert_eq!(
        list(
            "FREQ=DAILY;BYHOUR=2,3;BYMINUTE=10,40",
            "2026-03-08T06:00:00Z",
            America::New_York,
            4
        ),
        [
            "2026-03-08T03:10:00-04:00",
            "2026-03-08T03:40:00-04:00",
            "2026-03-09T02:10:00-04:00",
            "2026-03-09T02:40:00-04:00"
        ]
    );
}

#[test]
fn a_search_beginning_right_after_the_gap_still_finds_the_times_within() {
    assert_eq!(
        next(
            "FREQ=DAILY;BYHOUR=2;BYMINUTE=30",
            "2026-01-01T12:00:00Z",
            America::New_York,
            "2026-03-08T07:10:00Z"
        ),
        Some(utc("2026-03-08T07:30:00Z"))
    );
    assert_eq!(
        next(
            "FREQ=DAILY",
            "2011-12-01T09:00:00Z",
            Pacific::Apia,
            "2011-12-30T10:00:00Z"
        ),
        Some(utc("2011-12-31T09:00:00Z"))
    );
}

#[test]
fn dates_a_month_lacks_are_left_out() {
    assert_eq!(
        list("FREQ=MONTHLY", "2026-01-31T12:00:00Z", UTC, 3),
        [
            "2026-01-31T12:00:00+00:00",
            "2026-03-31T12:00:00+00:00",
            "2026-05-31T12:00:00+00:00"
        ]
    );
    assert_eq!(
        list("FREQ=YEARLY", "2024-02-29T12:00:00Z", UTC, 2),
        ["2024-02-29T12:00:00+00:00", "2028-02-29T12:00:00+00:00"]
    );
    assert_eq!(
        next("FREQ=YEARLY", "2024-02-29T12:00:00Z", UTC, "2097-01-01T00:00:00Z"),
        Some(utc("2104-02-29T12:00:00Z"))
    );
}

#[test]
fn days_from_the_end_and_positions_are_found() {
    assert_eq!(
        list("FREQ=MONTHLY;BYMONTHDAY=-1", "2026-01-31T12:00:00Z", UTC, 3),
        [
            "2026-01-31T12:00:00+00:00",
            "2026-02-28T12:00:00+00:00",
            "2026-03-31T12:00:00+00:00"
        ]
    );
    assert_eq!(
        list(
            "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
            "2026-01-01T12:00:00Z",
            UTC,
            2
        ),
        ["2026-01-30T12:00:00+00:00", "2026-02-27T12:00:00+00:00"]
    );
    assert_eq!(
        list(
            "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
            "2026-01-01T12:00:00Z",
            UTC,
            3
        ),
        [
            "2026-02-13T12:00:00+00:00",
            "2026-03-13T12:00:00+00:00",
            "2026-11-13T12:00:00+00:00"
        ]
    );
    assert_eq!(
        list(
            "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO",
            "1997-05-12T13:00:00Z",
            America::New_York,
            3
        ),
        [
            "1997-05-12T09:00:00-04:00",
            "1998-05-11T09:00:00-04:00",
            "1999-05-17T09:00:00-04:00"
        ]
    );
}

#[test]
fn the_first_week_counts_whole_for_positions() {
    // The start is a Wednesday; the first of Monday, Wednesday and Friday in its week is past.
    assert_eq!(
        list(
            "FREQ=WEEKLY;BYDAY=MO,WE,FR;BYSETPOS=1",
            "2026-01-07T12:00:00Z",
            UTC,
            2
        ),
        ["2026-01-12T12:00:00+00:00", "2026-01-19T12:00:00+00:00"]
    );
}

#[test]
fn numbered_and_plain_weekdays_add_up() {
    assert_eq!(
        list("FREQ=MONTHLY;BYDAY=MO,2TU", "2026-01-01T12:00:00Z", UTC, 5),
        [
            "2026-01-05T12:00:00+00:00",
            "2026-01-12T12:00:00+00:00",
            "2026-01-13T12:00:00+00:00",
            "2026-01-19T12:00:00+00:00",
            "2026-01-26T12:00:00+00:00"
        ]
    );
}

#[test]
fn a_week_of_the_year_without_a_day_means_the_weekday_of_the_start() {
    assert_eq!(
        list("FREQ=YEARLY;BYWEEKNO=20", "2026-05-13T12:00:00Z", UTC, 2),
        ["2026-05-13T12:00:00+00:00", "2027-05-19T12:00:00+00:00"]
    );
}

#[test]
fn days_of_january_may_belong_to_the_last_week_of_the_old_year() {
    // 2010 has 52 weeks, of which the last ends on 2011-01-02; 2015 has 53.
    let last = |week| {
        list(
            &format!("FREQ=YEARLY;BYWEEKNO={week};BYDAY=SU"),
            "2010-12-01T12:00:00Z",
            UTC,
            2,
        )
    };
    assert_eq!(
        last("52"),
        ["2011-01-02T12:00:00+00:00", "2012-01-01T12:00:00+00:00"]
    );
    assert_eq!(
        last("53"),
        ["2016-01-03T12:00:00+00:00", "2021-01-03T12:00:00+00:00"]
    );
    assert_eq!(
        last("-53"),
        ["2015-01-04T12:00:00+00:00", "2020-01-05T12:00:00+00:00"]
    );
}

#[test]
fn the_start_of_the_week_matters_to_every_other_week() {
    // RFC 5545 section 3.8.5.3.
    let list = |rule| list(rule, "1997-08-05T13:00:00Z", America::New_York, 9);
    assert_eq!(
        list("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO"),
        [
            "1997-08-05T09:00:00-04:00",
            "1997-08-10T09:00:00-04:00",
            "1997-08-19T09:00:00-04:00",
            "1997-08-24T09:00:00-04:00"
        ]
    );
    assert_eq!(
        list("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU"),
        [
            "1997-08-05T09:00:00-04:00",
            "1997-08-17T09:00:00-04:00",
            "1997-08-19T09:00:00-04:00",
            "1997-08-31T09:00:00-04:00"
        ]
    );
}

#[test]
fn a_start_that_does_not_match_its_rule_is_no_occurrence() {
    assert_eq!(
        list("FREQ=WEEKLY;BYDAY=MO;COUNT=2", "2026-01-07T12:00:00Z", UTC, 9),
        ["2026-01-12T12:00:00+00:00", "2026-01-19T12:00:00+00:00"]
    );
}

#[test]
fn fractions_of_a_second_of_the_start_are_cut_off() {
    assert_eq!(
        next(
            "FREQ=DAILY",
            "2026-01-01T12:00:00.75Z",
            UTC,
            "2026-01-01T12:00:00.5Z"
        ),
        Some(utc("2026-01-02T12:00:00Z"))
    );
    assert_eq!(
        next(
            "FREQ=DAILY",
            "2026-01-01T12:00:00.75Z",
            UTC,
            "2026-01-01T11:59:59.9Z"
        ),
        Some(utc("2026-01-01T12:00:00Z"))
    );
}

#[test]
fn count_counts_from_the_start_whatever_the_instant_asked_for() {
    let rule = "FREQ=DAILY;COUNT=3";
    let start = "2026-01-01T12:00:00Z";
    assert_eq!(next(rule, start, UTC, "2000-01-01T00:00:00Z"), Some(utc(start)));
    assert_eq!(
        next(rule, start, UTC, "2026-01-02T12:00:00Z"),
        Some(utc("2026-01-03T12:00:00Z"))
    );
    assert_eq!(next(rule, start, UTC, "2026-01-03T12:00:00Z"), None);
    assert_eq!(next(rule, start, UTC, "2030-01-01T00:00:00Z"), None);
}

#[test]
fn until_is_inclusive_in_all_three_forms() {
    // 18:00 in Kathmandu is 12:15 in UTC.
    let zone = Asia::Kathmandu;
    let start = "2026-01-01T12:15:00Z";
    for (until, expected) in [
        ("20260103T121500Z", 3),
        ("20260103T121459Z", 2),
        ("20260103T180000", 3),
        ("20260103T175959", 2),
        ("20260103", 3),
        ("20260102", 2),
        ("20260101", 1),
        ("20251231", 0),
    ] {
        assert_eq!(
            list(&format!("FREQ=DAILY;UNTIL={until}"), start, zone, 9).len(),
            expected,
            "{until}"
        );
    }
}

#[test]
fn an_until_date_ends_with_the_local_day_even_where_midnight_is_odd() {
    // Clocks went back from midnight to 23:00 on 2018-02-17, so that day had 25 hours.
    assert_eq!(
        list(
            "FREQ=DAILY;UNTIL=20180217;BYHOUR=23;BYMINUTE=59",
            "2018-02-16T12:00:00Z",
            America::Sao_Paulo,
            9
        ),
        ["2018-02-16T23:59:00-02:00", "2018-02-17T23:59:00-02:00"]
    );
    // And forward from midnight to 01:00 on 2018-11-04: midnight of that day is not part of the day before.
    assert_eq!(
        list(
            "FREQ=DAILY;UNTIL=20181103",
            "2018-11-02T03:00:00Z",
            America::Sao_Paulo,
            9
        ),
        ["2018-11-02T00:00:00-03:00", "2018-11-03T00:00:00-03:00"]
    );
}

#[test]
fn the_phase_of_the_interval_survives_years() {
    let table = [
        (
            "FREQ=HOURLY;INTERVAL=7",
            "2020-01-01T05:20:00Z",
            "2026-06-01T00:00:00Z",
            7 * 3600,
        ),
        (
            "FREQ=DAILY;INTERVAL=11",
            "2020-01-01T05:20:00Z",
            "2026-06-01T00:00:00Z",
            11 * 86400,
        ),
        (
            "FREQ=WEEKLY;INTERVAL=3",
            "2020-01-01T05:20:00Z",
            "2026-06-01T00:00:00Z",
            21 * 86400,
        ),
    ];
    for (rule, start, after, step) in table {
        let found = next(rule, start, UTC, after).unwrap();
        assert!(
            found > utc(after) && found <= utc(after) + TimeDelta::seconds(step),
            "{rule}"
        );
        assert_eq!((found - utc(start)).num_seconds() % step, 0, "{rule}");
    }
    assert_eq!(
        next(
            "FREQ=MONTHLY;INTERVAL=5",
            "2020-11-15T05:20:00Z",
            UTC,
            "2026-06-01T00:00:00Z"
        ),
        Some(utc("2026-09-15T05:20:00Z"))
    );
    assert_eq!(
        next(
            "FREQ=YEARLY;INTERVAL=4",
            "2001-11-15T05:20:00Z",
            UTC,
            "2026-06-01T00:00:00Z"
        ),
        Some(utc("2029-11-15T05:20:00Z"))
    );
}

#[test]
fn rules_that_never_match_are_refused_soon() {
    let start = utc("2026-01-05T09:00:00Z");
    for text in [
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;INTERVAL=2;BYHOUR=11",
        "FREQ=HOURLY;BYMINUTE=0;BYSETPOS=2",
        "FREQ=DAILY;INTERVAL=7;BYDAY=TU",
        "FREQ=YEARLY;INTERVAL=4;BYMONTH=2;BYMONTHDAY=29",
        "FREQ=YEARLY;BYWEEKNO=20;BYMONTH=1",
        "FREQ=WEEKLY;BYDAY=MO;BYSETPOS=2",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30;COUNT=3",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30;UNTIL=20300101",
    ] {
        let rule = Rule::parse(text).unwrap();
        let began = Instant::now();
        assert_eq!(
            rule.check(start, Europe::Berlin),
            Err(RuleError::Rule(Error::NeverMatches)),
            "{text}"
        );
        assert_eq!(rule.next_after(start, Europe::Berlin, start), Ok(None), "{text}");
        // Some milliseconds when optimised; this bound only tells a search from a hang.
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{text}: {:?}",
            began.elapsed()
        );
        println!("{text}: {:?}", began.elapsed());
    }
}

#[test]
fn a_rule_ending_before_its_start_is_refused_as_such() {
    let start = utc("2026-01-05T09:00:00Z");
    for until in ["20260105T085959Z", "20260105T095959", "20260104"] {
        let rule = Rule::parse(&format!("FREQ=DAILY;UNTIL={until}")).unwrap();
        assert_eq!(
            rule.check(start, Europe::Berlin),
            Err(RuleError::Rule(Error::EndsBeforeStart)),
            "{until}"
        );
        assert_eq!(rule.next_after(start, Europe::Berlin, start), Ok(None), "{until}");
    }
    assert_eq!(
        Rule::parse("FREQ=DAILY;BYMONTH=7;UNTIL=20260201")
            .unwrap()
            .check(start, Europe::Berlin),
        Err(RuleError::Rule(Error::EndsBeforeFirst))
    );
    assert_eq!(
        Rule::parse("FREQ=DAILY;UNTIL=20260105")
            .unwrap()
            .check(start, Europe::Berlin),
        Ok(())
    );
}

#[test]
fn an_old_start_costs_no_more_than_a_new_one() {
    let rules = [
        "FREQ=HOURLY",
        "FREQ=HOURLY;INTERVAL=5;BYMONTH=6",
        "FREQ=DAILY",
        "FREQ=WEEKLY;BYDAY=MO,WE,FR",
        "FREQ=MONTHLY;BYDAY=-1FR",
        "FREQ=YEARLY",
        "FREQ=HOURLY;COUNT=10000",
        "FREQ=YEARLY;COUNT=10000;BYMONTH=2;BYMONTHDAY=29",
    ];
    for text in rules {
        let rule = Rule::parse(text).unwrap();
        let began = Instant::now();
        let _ = rule
            .next_after(
                utc("1900-01-02T00:00:00Z"),
                Europe::Berlin,
                utc("2026-06-01T00:00:00Z"),
            )
            .unwrap();
        println!("{text}: {:?}", began.elapsed());
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{text}: {:?}",
            began.elapsed()
        );
    }
}

#[test]
fn starts_and_instants_outside_of_the_calendar_are_dealt_with() {
    let rule = Rule::parse("FREQ=DAILY").unwrap();
    let start = utc("2026-01-05T09:00:00Z");
    for far in [
        utc("1899-12-31T00:00:00Z"),
        utc("2400-01-02T00:00:00Z"),
        DateTime::<Utc>::MIN_UTC,
        DateTime::<Utc>::MAX_UTC,
    ] {
        assert_eq!(
            rule.next_after(far, Europe::Berlin, start),
            Err(RuleError::StartOutOfRange)
        );
        assert_eq!(
            rule.check(far, America::New_York),
            Err(RuleError::StartOutOfRange)
        );
    }
    assert_eq!(
        rule.next_after(start, Europe::Berlin, DateTime::<Utc>::MIN_UTC),
        Ok(Some(start))
    );
    assert_eq!(
        rule.next_after(start, Asia::Tokyo, DateTime::<Utc>::MAX_UTC),
        Ok(None)
    );
    assert_eq!(rule.next_after(start, UTC, utc("9999-12-31T09:00:00Z")), Ok(None));
    assert_eq!(
        rule.next_after(start, UTC, utc("9999-12-30T09:00:00Z")),
        Ok(Some(utc("9999-12-31T09:00:00Z")))
    );
    assert_eq!(rule.check(utc("1900-01-01T00:00:00Z"), UTC), Ok(()));
    assert_eq!(rule.check(utc("2399-12-31T23:59:59Z"), UTC), Ok(()));
}
