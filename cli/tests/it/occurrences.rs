//! `carillon occurrences` as a shell sees it.

use std::process::{Command, Output};

#[expect(clippy::unwrap_used, reason = "the binary is there: cargo has just built it")]
fn occurrences(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_carillon"))
        .arg("occurrences")
        .args(arguments)
        .output()
        .unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = occurrences(arguments);
    assert!(output.status.success(), "{arguments:?} {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn times_in_a_zone_have_their_offset_floating_ones_none_and_dates_no_time() {
    let rule = ["--rrule", "FREQ=DAILY", "--limit", "2"];
    let with = |start: &[&str]| printed(&[start, &rule].concat());
    assert_eq!(
        with(&["--dtstart", "2026-03-07T02:30:00", "--tz", "America/New_York"]),
        "2026-03-07T02:30:00-05:00\n2026-03-08T03:30:00-04:00\n"
    );
    assert_eq!(
        with(&["--dtstart", "2026-03-07T02:30:00"]),
        "2026-03-07T02:30:00\n2026-03-08T02:30:00\n"
    );
    assert_eq!(with(&["--dtstart", "2026-03-07"]), "2026-03-07\n2026-03-08\n");
}

#[test]
fn json_is_one_array_of_strings() {
    let rule = [
        "--rrule",
        "FREQ=MONTHLY;BYMONTHDAY=-1;COUNT=2",
        "--format",
        "json",
    ];
    assert_eq!(
        printed(&[&["--dtstart", "2026-01-31"], rule.as_slice()].concat()),
        "[\"2026-01-31\",\"2026-02-28\"]\n"
    );
    assert_eq!(
        printed(
            &[
                &["--dtstart", "2026-01-31", "--before", "2026-01-31"],
                rule.as_slice()
            ]
            .concat()
        ),
        "[]\n"
    );
}

#[test]
fn rules_dates_exceptions_and_bounds_are_taken_together() {
    let arguments = [
        "--dtstart",
        "2026-03-01T09:00:00",
        "--rrule",
        "FREQ=DAILY",
        "--rrule",
        "FREQ=WEEKLY;BYDAY=TU;BYHOUR=18",
        "--rdate",
        "2026-03-04T12:00:00",
        "--exdate",
        "2026-03-03T09:00:00,2026-03-05T09:00:00",
        "--after",
        "2026-03-02T09:00:00",
        "--before",
        "2026-03-06T09:00:00",
    ];
    assert_eq!(
        printed(&arguments),
        "2026-03-03T18:00:00\n2026-03-04T09:00:00\n2026-03-04T12:00:00\n"
    );
}

#[test]
fn a_recurrence_without_an_end_is_cut_and_one_with_an_end_is_not() {
    let lines = |rule: &str| {
        printed(&["--dtstart", "2026-03-01", "--rrule", rule])
            .lines()
            .count()
    };
    assert_eq!(lines("FREQ=DAILY"), 100);
    assert_eq!(lines("FREQ=DAILY;COUNT=250"), 250);
}

#[test]
fn what_is_no_good_ends_with_2_and_the_reason() {
    let refused = |arguments: &[&str], reason: &str| {
        let output = occurrences(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {said}");
        assert!(said.contains(reason), "{arguments:?} {said}");
        assert!(output.stdout.is_empty());
    };
    let start = "2026-03-01T09:00:00";
    refused(
        &["--dtstart", start, "--rrule", "FREQ=MONTHLY;BYMONTHDAY=32"],
        "BYMONTHDAY cannot be \"32\"",
    );
    refused(
        &[
            "--dtstart",
            start,
            "--rrule",
            "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        ],
        "no date matches all parts of the rule",
    );
    refused(
        &["--dtstart", start, "--rrule", "FREQ=DAILY;COUNT=2;UNTIL=20270101"],
        "a rule ends in one way only",
    );
    refused(
        &["--dtstart", "soon", "--rrule", "FREQ=DAILY"],
        "\"soon\" is not a date or time",
    );
    refused(
        &["--dtstart", start, "--tz", "Mars/Base", "--rrule", "FREQ=DAILY"],
        "not a time zone",
    );
    refused(
        &["--dtstart", "2026-03-01", "--rdate", start],
        "a local time does not go with a start that is a date",
    );
}
