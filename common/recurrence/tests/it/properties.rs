//! What holds for any rule: the bodies are those of the fuzz targets. PROPTEST_CASES=100000 makes a long run of it.

use proptest::prelude::*;
use recurrence::{Moment, Recurrence, Rule, Start, fuzz_entry};

proptest! {
    #[test]
    fn any_text_is_refused_or_round_trips(text in "\\PC*") {
        fuzz_entry::parser(&text);
    }

    #[test]
    fn what_looks_like_a_rule_round_trips_when_it_is_one(
        text in "(RRULE:)?FREQ=(YEARLY|MONTHLY|WEEKLY|DAILY|HOURLY|MINUTELY|SECONDLY)(;(INTERVAL|COUNT|UNTIL|BYMONTH|\
                 BYWEEKNO|BYYEARDAY|BYMONTHDAY|BYDAY|BYHOUR|BYMINUTE|BYSECOND|BYSETPOS|WKST|RSCALE|SKIP)=\
                 [-+]?([0-9]{0,2}|20261231(T[0-9]{6}Z?)?|GREGORIAN|FORWARD)(MO|SU|é)?(,-?[1-9])?){0,3};?",
    ) {
        fuzz_entry::parser(&text);
    }

    #[test]
    fn any_recurrence_says_the_same_whichever_way_it_is_asked(
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        fuzz_entry::iterator(&bytes);
    }

    /// The calendar repeats every 400 years, leap days and weekdays alike.
    #[test]
    fn a_start_four_centuries_later_moves_everything_by_as_much(
        rule in "FREQ=(YEARLY(;BYWEEKNO=(1|53|-1))?|MONTHLY(;BYMONTHDAY=(31|-1|15,29))?|WEEKLY;BYDAY=(MO|TU,SU)|\
                 DAILY(;BYMONTH=(2|1,12))?|HOURLY(;BYHOUR=(3|4,23))?|MINUTELY;BYMINUTE=7);INTERVAL=[1-9][0-9]?\
                 (;WKST=(SU|WE))?(;BYDAY=FR;BYSETPOS=(1|-1))?",
        day in 0_i64..146_097,
        hour in 0_i64..24,
    ) {
        let Ok(rule) = Rule::parse(&rule) else { return Ok(()) };
        let interval_is_wide = rule.interval() > 20;
        let start = chrono::DateTime::UNIX_EPOCH.naive_utc() + chrono::TimeDelta::hours(24 * day + hour);
        let moved = |moments: &[Moment]| -> Vec<String> {
            let cycle = chrono::TimeDelta::days(146_097);
            moments.iter().map(|at| match at {
                Moment::Local(at) => Moment::Local(*at + cycle).to_string(),
                other => other.to_string(),
            }).collect()
        };
        let first = |start: chrono::NaiveDateTime| -> Result<Vec<Moment>, recurrence::Error> {
            let start = Start::new(Moment::Local(start), None)?;
            Recurrence::new(start, std::slice::from_ref(&rule), &[], &[])?.iter().take(8).collect()
        };
        let (here, there) = (first(start), first(start + chrono::TimeDelta::days(146_097)));
        match (here, there) {
            (Ok(here), Ok(there)) => {
                let there: Vec<String> = there.iter().map(Moment::to_string).collect();
                // The calendar ends sooner there.
                prop_assert_eq!(&moved(&here)[..there.len()], &there);
            }
            (Err(here), Err(there)) => prop_assert_eq!(here, there),
            (here, there) => prop_assert!(here.is_ok() && interval_is_wide, "{:?}", there),
        }
    }
}
