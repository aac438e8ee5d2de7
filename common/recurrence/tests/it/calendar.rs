//! Ends of months, leap days, weeks of the year, positions: expected values by hand, with a calendar.

use recurrence::{Error, Recurrence, Rule, Start};

use crate::{list, moment, set};

#[test]
fn dates_a_month_or_year_lacks_are_left_out_or_moved() {
    let on_31st = |skip: &str| list(&set("2026-01-31", "", &[&format!("{skip}FREQ=MONTHLY")]), 4);
    assert_eq!(
        on_31st(""),
        ["2026-01-31", "2026-03-31", "2026-05-31", "2026-07-31"]
    );
    assert_eq!(
        on_31st("RSCALE=GREGORIAN;SKIP=BACKWARD;"),
        ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30"]
    );
    assert_eq!(
        on_31st("RSCALE=GREGORIAN;SKIP=FORWARD;"),
        ["2026-01-31", "2026-03-01", "2026-03-31", "2026-05-01"]
    );
    let leap_day = |skip: &str| list(&set("2024-02-29", "", &[&format!("{skip}FREQ=YEARLY")]), 3);
    assert_eq!(leap_day(""), ["2024-02-29", "2028-02-29", "2032-02-29"]);
    assert_eq!(
        leap_day("RSCALE=GREGORIAN;SKIP=BACKWARD;"),
        ["2024-02-29", "2025-02-28", "2026-02-28"]
    );
    assert_eq!(
        leap_day("RSCALE=GREGORIAN;SKIP=FORWARD;"),
        ["2024-02-29", "2025-03-01", "2026-03-01"]
    );
    // 2100 is no leap year.
    let set = set("2024-02-29", "", &["FREQ=YEARLY"]);
    assert_eq!(
        set.after(moment("2096-02-29")).unwrap(),
        Some(moment("2104-02-29"))
    );
    assert_eq!(
        set.before(moment("2104-02-29")).unwrap(),
        Some(moment("2096-02-29"))
    );
}

#[test]
fn what_skip_moves_onto_another_occurrence_is_one_with_it() {
    let set = set(
        "2026-01-01",
        "",
        &["RSCALE=GREGORIAN;FREQ=MONTHLY;BYMONTHDAY=1,31;SKIP=FORWARD;COUNT=6"],
    );
    // 31 February and 1 March are the same day.
    let expected = [
        "2026-01-01",
        "2026-01-31",
        "2026-02-01",
        "2026-03-01",
        "2026-03-31",
        "2026-04-01",
    ];
    assert_eq!(list(&set, 9), expected);
    assert_eq!(set.count_before(moment("2026-03-31")).unwrap(), 4);
    let mut back: Vec<String> = set.iter().rev().map(|at| at.unwrap().to_string()).collect();
    back.reverse();
    assert_eq!(back, expected);
    // Day 366 of a year of 365 is New Year's Day, of the year before.
    let days = crate::set(
        "2023-12-31",
        "",
        &["RSCALE=GREGORIAN;FREQ=YEARLY;BYYEARDAY=366;SKIP=FORWARD"],
    );
    assert_eq!(list(&days, 3), ["2024-01-01", "2024-12-31", "2026-01-01"]);
}

#[test]
fn weeks_belong_to_the_year_that_has_most_of_them() {
    // 2020 and 2026 have 53 weeks.
    let on = |rule: &str| list(&set("2019-06-01", "", &[rule]), 3);
    assert_eq!(
        on("FREQ=YEARLY;BYWEEKNO=53;BYDAY=FR"),
        ["2021-01-01", "2027-01-01", "2032-12-31"]
    );
    assert_eq!(
        on("FREQ=YEARLY;BYWEEKNO=-1;BYDAY=SU"),
        ["2019-12-29", "2021-01-03", "2022-01-02"]
    );
    assert_eq!(
        on("FREQ=YEARLY;BYWEEKNO=1;BYDAY=MO"),
        ["2019-12-30", "2021-01-04", "2022-01-03"]
    );
    // The positions are those of the whole week, though it begins in December.
    assert_eq!(
        on("FREQ=YEARLY;BYWEEKNO=1;BYDAY=MO,TU,WE;BYSETPOS=1"),
        ["2019-12-30", "2021-01-04", "2022-01-03"]
    );
    // Every other year of weeks, when the start is in one.
    let every_other = set("2024-12-30", "", &["FREQ=YEARLY;INTERVAL=2;BYWEEKNO=1;BYDAY=MO"]);
    assert_eq!(list(&every_other, 3), ["2024-12-30", "2027-01-04", "2029-01-01"]);
    // Without a day it is the weekday of the start.
    assert_eq!(
        list(&set("2026-05-13", "", &["FREQ=YEARLY;BYWEEKNO=20"]), 2),
        ["2026-05-13", "2027-05-19"]
    );
}

#[test]
fn positions_are_counted_within_the_whole_period() {
    let last_workday = set(
        "2026-01-01",
        "",
        &["FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1"],
    );
    assert_eq!(
        list(&last_workday, 4),
        ["2026-01-30", "2026-02-27", "2026-03-31", "2026-04-30"]
    );
    // The start is a Wednesday; Monday of its week is past.
    let first_of_week = set("2026-01-07", "", &["FREQ=WEEKLY;BYDAY=MO,WE,FR;BYSETPOS=1"]);
    assert_eq!(list(&first_of_week, 2), ["2026-01-12", "2026-01-19"]);
    let last_time = set(
        "2026-02-26T09:00:00",
        "",
        &["FREQ=MONTHLY;BYMONTHDAY=-1;BYHOUR=9,17;BYSETPOS=-1"],
    );
    assert_eq!(
        list(&last_time, 2),
        ["2026-02-28T17:00:00", "2026-03-31T17:00:00"]
    );
    let of_year = set("2026-01-01", "", &["FREQ=YEARLY;BYDAY=SA,SU;BYSETPOS=-1,1"]);
    assert_eq!(list(&of_year, 3), ["2026-01-03", "2026-12-27", "2027-01-02"]);
    // The same position from both ends is one.
    let both = set(
        "2026-01-01",
        "",
        &["FREQ=MONTHLY;BYMONTHDAY=5;BYSETPOS=1,-1;COUNT=2"],
    );
    assert_eq!(list(&both, 9), ["2026-01-05", "2026-02-05"]);
}

#[test]
fn numbered_and_plain_weekdays_add_up() {
    let set = set("2026-01-01", "", &["FREQ=MONTHLY;BYDAY=MO,2TU;COUNT=5"]);
    assert_eq!(
        list(&set, 9),
        [
            "2026-01-05",
            "2026-01-12",
            "2026-01-13",
            "2026-01-19",
            "2026-01-26"
        ]
    );
}

#[test]
fn rules_dates_and_exceptions_make_one_set() {
    let start = Start::new(moment("2026-01-01T09:00:00"), None).unwrap();
    let rules: Vec<Rule> = ["FREQ=DAILY;COUNT=3", "FREQ=DAILY;INTERVAL=2;COUNT=3"]
        .map(|rule| rule.parse().unwrap())
        .to_vec();
    let dates = ["2026-01-02T09:00:00", "2026-01-10T12:00:00"].map(moment);
    let exceptions = ["2026-01-01T09:00:00", "2026-01-10T12:00:01"].map(moment);
    let set = Recurrence::new(start, &rules, &dates, &exceptions).unwrap();
    let expected = [
        "2026-01-02T09:00:00",
        "2026-01-03T09:00:00",
        "2026-01-05T09:00:00",
        "2026-01-10T12:00:00",
    ];
    assert_eq!(list(&set, 9), expected);
    assert_eq!(set.count_before(moment("2026-01-10T12:00:00")).unwrap(), 3);
    assert_eq!(
        set.to_string(),
        "DTSTART:20260101T090000\nRRULE:FREQ=DAILY;COUNT=3\nRRULE:FREQ=DAILY;INTERVAL=2;COUNT=3\n\
         RDATE:20260102T090000,20260110T120000\nEXDATE:20260101T090000,20260110T120001"
    );
    // Without a rule the start stands for itself.
    let dates = Recurrence::new(start, &[], &dates, &[]).unwrap();
    assert_eq!(
        list(&dates, 9),
        [
            "2026-01-01T09:00:00",
            "2026-01-02T09:00:00",
            "2026-01-10T12:00:00"
        ]
    );
    assert_eq!(dates.count_before(moment("2026-01-10T12:00:00")).unwrap(), 2);
}

#[test]
fn until_is_inclusive_in_all_forms_and_for_all_kinds_of_starts() {
    let last = |start: &str, zone: &str, until: &str| {
        let set = set(start, zone, &[&format!("FREQ=DAILY;UNTIL={until}")]);
        set.last().unwrap().unwrap().to_string()
    };
    let zoned = |until: &str| last("2026-01-01T18:00:00", "Asia/Kathmandu", until);
    // 18:00 in Kathmandu is 12:15 in UTC.
    assert_eq!(zoned("20260103T121500Z"), "2026-01-03T18:00:00+05:45");
    assert_eq!(zoned("20260103T121459Z"), "2026-01-02T18:00:00+05:45");
    assert_eq!(zoned("20260103T180000"), "2026-01-03T18:00:00+05:45");
    assert_eq!(zoned("20260103T175959"), "2026-01-02T18:00:00+05:45");
    assert_eq!(zoned("20260103"), "2026-01-03T18:00:00+05:45");
    let floating = |until: &str| last("2026-01-01T18:00:00", "", until);
    assert_eq!(floating("20260103T180000"), "2026-01-03T18:00:00");
    assert_eq!(floating("20260103"), "2026-01-03T18:00:00");
    assert_eq!(floating("20260103T175959Z"), "2026-01-02T18:00:00");
    assert_eq!(last("2026-01-01", "", "20260103"), "2026-01-03");
    assert_eq!(last("2026-01-01", "", "20260103T120000Z"), "2026-01-03");
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let refused = |start: &str, zone: &str, rule: &str| {
        let zone = (!zone.is_empty()).then(|| zone.parse().unwrap());
        let rule: Rule = rule.parse().unwrap();
        Recurrence::new(Start::new(moment(start), zone).unwrap(), &[rule], &[], &[]).unwrap_err()
    };
    for rule in [
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=SECONDLY;BYMONTH=4;BYMONTHDAY=31",
        "FREQ=YEARLY;INTERVAL=4;BYMONTH=2;BYMONTHDAY=29",
        "FREQ=YEARLY;BYWEEKNO=20;BYMONTH=1",
        "FREQ=WEEKLY;BYDAY=MO;BYSETPOS=2",
        "FREQ=DAILY;INTERVAL=7;BYDAY=TU",
        "FREQ=HOURLY;INTERVAL=2;BYHOUR=11",
        "FREQ=HOURLY;INTERVAL=48;BYDAY=TU,TH;BYHOUR=11",
        "FREQ=MINUTELY;INTERVAL=90;BYMINUTE=15",
        "FREQ=SECONDLY;INTERVAL=2;BYSECOND=1,3",
        "FREQ=SECONDLY;BYSECOND=0;BYSETPOS=2",
    ] {
        assert_eq!(
            refused("2026-01-05T10:00:00", "Europe/Berlin", rule),
            Error::NeverMatches,
            "{rule}"
        );
    }
    assert_eq!(
        refused("2026-01-05", "", "FREQ=DAILY;UNTIL=20260104"),
        Error::EndsBeforeStart
    );
    assert_eq!(
        refused("2026-01-05", "", "FREQ=DAILY;BYMONTH=7;UNTIL=20260201"),
        Error::EndsBeforeFirst
    );
    assert_eq!(refused("2026-01-05", "", "FREQ=HOURLY"), Error::NoTimeOfDay);
    let start = Start::new(moment("2026-01-05"), None).unwrap();
    let mixed = Recurrence::new(start, &[], &[moment("2026-01-06T09:00:00")], &[]).unwrap_err();
    assert_eq!(
        mixed.to_string(),
        "a local time does not go with a start that is a date"
    );
    for (rule, reason) in [
        (
            "FREQ=DAILY;COUNT=1;UNTIL=20260101",
            "COUNT cannot be used with UNTIL",
        ),
        ("FREQ=DAILY;SKIP=FORWARD", "SKIP needs RSCALE"),
        ("RSCALE=HEBREW;FREQ=DAILY", "GREGORIAN is the only calendar"),
        (
            "FREQ=YEARLY;BYMONTH=5L;RSCALE=GREGORIAN",
            "BYMONTH cannot be \"5L\"",
        ),
        ("FREQ=DAILY;UNTIL=00000101", "UNTIL cannot be"),
    ] {
        let error = Rule::parse(rule).unwrap_err().to_string();
        assert!(error.contains(reason), "{rule}: {error}");
    }
}

#[test]
fn the_hours_of_a_rule_are_ignored_when_the_start_is_a_date() {
    let set = set(
        "2024-10-18",
        "",
        &["FREQ=DAILY;BYMINUTE=1,2,3,4;INTERVAL=2;COUNT=3"],
    );
    assert_eq!(list(&set, 9), ["2024-10-18", "2024-10-20", "2024-10-22"]);
}

#[test]
fn rules_and_recurrences_are_explained_in_plain_english() {
    for (rule, english) in [
        ("FREQ=DAILY", "every day"),
        (
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,TH;WKST=SU;COUNT=8",
            "every 2 weeks on Tuesday and Thursday, with weeks that begin on Sunday, 8 times",
        ),
        (
            "FREQ=MONTHLY;BYDAY=-1FR",
            "every month on the last Friday of the month",
        ),
        (
            "FREQ=YEARLY;BYDAY=20MO",
            "every year on the 20th Monday of the year",
        ),
        (
            "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
            "every month on the 13th of the month if that is Friday",
        ),
        (
            "FREQ=MONTHLY;BYMONTHDAY=1,-1",
            "every month on the last day and the 1st of the month",
        ),
        (
            "FREQ=YEARLY;BYYEARDAY=100,-1",
            "every year on the last day and day 100 of the year",
        ),
        (
            "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO",
            "every year in week 20 of the year on Monday",
        ),
        (
            "FREQ=DAILY;BYHOUR=9,17;BYMINUTE=30;BYSECOND=0;UNTIL=20261231",
            "every day at 09:30 and 17:30, until the end of Thursday, 31 December 2026",
        ),
        (
            "FREQ=HOURLY;INTERVAL=3;BYMINUTE=0,30",
            "every 3 hours in minutes 0 and 30",
        ),
    ] {
        assert_eq!(Rule::parse(rule).unwrap().explain(), english, "{rule}");
    }
    assert_eq!(
        set("2026-03-31T09:00:00", "Europe/Berlin", &["FREQ=MONTHLY;COUNT=3"]).explain(),
        "Starts on Tuesday, 31 March 2026 at 09:00 (Europe/Berlin). Recurs every month on the 31st at 09:00, 3 times."
    );
}

#[test]
fn old_and_far_away_starts_are_entered_where_asked() {
    let set = set(
        "1970-01-01T09:00:00",
        "Europe/Berlin",
        &["FREQ=DAILY;INTERVAL=11"],
    );
    let at = set.after(moment("2026-06-01T00:00:00")).unwrap().unwrap();
    assert_eq!(at.to_string(), "2026-06-10T09:00:00+02:00");
    assert_eq!(
        set.before(at).unwrap().unwrap().to_string(),
        "2026-05-30T09:00:00+02:00"
    );
    assert_eq!(set.count_before(at).unwrap() * 11, 20_614);
    let counted = crate::set(
        "1970-01-01T09:00:00",
        "Europe/Berlin",
        &["FREQ=WEEKLY;BYDAY=MO,WE;COUNT=5000"],
    );
    assert_eq!(counted.count_before(moment("9999-01-01T00:00:00")).unwrap(), 5000);
    // Few dates, and hours that none of them goes with.
    let few = crate::set(
        "1983-02-01T03:30:00",
        "",
        &["FREQ=HOURLY;INTERVAL=70;BYMONTHDAY=-30;BYDAY=MO;COUNT=4"],
    );
    assert_eq!(
        list(&few, 9),
        [
            "1983-05-02T13:30:00",
            "1984-01-02T13:30:00",
            "1985-04-01T13:30:00",
            "1985-12-02T13:30:00"
        ]
    );
    assert!(recurrence::zone_data_version().starts_with("20"));
}
