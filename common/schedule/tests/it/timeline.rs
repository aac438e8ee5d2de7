#![expect(clippy::unwrap_used, reason = "rules of tests")]

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::{Europe, UTC};
use schedule::{Rule, RuleError, Timeline};

use crate::utc;

fn timeline(rule: &str, dates: &[&str], exceptions: &[&str]) -> Timeline {
    let instants = |texts: &[&str]| texts.iter().map(|text| utc(text)).collect::<Vec<_>>();
    Rule::parse(rule)
        .unwrap()
        .timeline(
            utc("2026-03-27T08:00:00Z"),
            Europe::Berlin,
            &instants(dates),
            &instants(exceptions),
        )
        .unwrap()
}

fn list(timeline: &Timeline, after: &str, most: usize) -> Vec<DateTime<Utc>> {
    timeline
        .after(utc(after))
        .take(most)
        .collect::<Result<_, _>>()
        .unwrap()
}

#[test]
fn going_on_is_the_same_as_asking_again() {
    for rule in [
        "FREQ=DAILY",
        "FREQ=HOURLY;INTERVAL=5",
        "FREQ=MONTHLY;BYDAY=-1FR;COUNT=7",
        "FREQ=WEEKLY;UNTIL=20260501",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
    ] {
        let (rule, start) = (Rule::parse(rule).unwrap(), utc("2026-03-20T01:30:00Z"));
        let before = start - TimeDelta::seconds(1);
        let timeline = rule.timeline(start, Europe::Berlin, &[], &[]).unwrap();
        let going_on: Vec<_> = timeline.after(before).take(50).map(Result::unwrap).collect();
        let mut asked = Vec::new();
        let mut last = before;
        while let Some(next) = rule
            .next_after(start, Europe::Berlin, last)
            .unwrap()
            .filter(|_| asked.len() < 50)
        {
            assert_eq!(timeline.last_until(next).unwrap(), Some(next));
            assert_eq!(
                timeline.last_until(next - TimeDelta::milliseconds(1)).unwrap(),
                asked.last().copied()
            );
            asked.push(next);
            last = next;
        }
        assert_eq!(going_on, asked, "{rule}");
    }
}

#[test]
fn further_dates_are_in_it_and_exceptions_are_not() {
    let timeline = timeline(
        "FREQ=DAILY",
        &["2026-03-28T20:15:00.5Z", "2026-03-30T07:00:00Z"],
        &["2026-03-29T07:00:00.25Z"],
    );
    assert_eq!(
        list(&timeline, "2026-03-27T08:00:00Z", 4),
        [
            utc("2026-03-28T08:00:00Z"),
            utc("2026-03-28T20:15:00Z"),
            utc("2026-03-30T07:00:00Z"),
            utc("2026-03-31T07:00:00Z"),
        ]
    );
    assert_eq!(
        timeline.last_until(utc("2026-03-29T23:00:00Z")).unwrap(),
        Some(utc("2026-03-28T20:15:00Z"))
    );
}

#[test]
fn a_rule_that_is_over_leaves_its_further_dates() {
    let over = "FREQ=DAILY;UNTIL=20260101T000000Z";
    assert!(list(&timeline(over, &[], &[]), "2026-01-01T00:00:00Z", 3).is_empty());
    assert_eq!(
        timeline(over, &[], &[])
            .last_until(utc("2027-01-01T00:00:00Z"))
            .unwrap(),
        None
    );
    let dates = ["2026-04-01T10:00:00Z"];
    assert_eq!(
        list(&timeline(over, &dates, &[]), "2026-01-01T00:00:00Z", 3),
        [utc(dates[0])]
    );
}

#[test]
fn a_start_or_a_number_of_dates_that_no_series_has_is_refused() {
    let daily = Rule::parse("FREQ=DAILY").unwrap();
    assert_eq!(
        daily
            .timeline(utc("2500-01-01T00:00:00Z"), UTC, &[], &[])
            .unwrap_err(),
        RuleError::StartOutOfRange
    );
    let many = vec![utc("2026-03-27T08:00:00Z"); recurrence::MAX_DATES + 1];
    assert!(
        daily
            .timeline(utc("2026-03-27T08:00:00Z"), UTC, &many, &[])
            .is_err()
    );
}

#[test]
fn a_rule_gets_another_end_and_stays_the_same_otherwise() {
    let rule = Rule::parse("FREQ=WEEKLY;COUNT=10;BYDAY=MO,TH").unwrap();
    assert_eq!(rule.count(), Some(10));
    let until = rule.until(utc("2026-04-01T06:59:59Z")).unwrap();
    assert_eq!(
        until.to_string(),
        "FREQ=WEEKLY;UNTIL=20260401T065959Z;BYDAY=MO,TH"
    );
    assert_eq!(
        until.counting(3).unwrap().to_string(),
        "FREQ=WEEKLY;COUNT=3;BYDAY=MO,TH"
    );
    assert!(rule.counting(0).is_err());
}
