//! The same occurrences as the crate `rrule`, for the rules it gets right: no weeks of the year, no positions, UTC.

use proptest::prelude::*;
use recurrence::{Recurrence, Rule, Start};

use crate::moment;

fn theirs(rule: &str, start: &str, most: u16) -> Option<Vec<String>> {
    let text = format!("DTSTART:{start}\nRRULE:{rule}");
    let set: rrule::RRuleSet = text.parse().ok()?;
    let all = set.all(most).dates;
    Some(
        all.iter()
            .map(|at| at.format("%Y-%m-%dT%H:%M:%S+00:00").to_string())
            .collect(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn common_rules_have_the_occurrences_the_rrule_crate_gives(
        rule in "FREQ=(DAILY|WEEKLY|MONTHLY(;BYDAY=(MO,TU|2FR|-1SU,1SU|SA))?|YEARLY(;BYMONTH=[2-9];BYDAY=(1TU|-1WE|TH))?);\
                 INTERVAL=[1-9](;BYHOUR=(9|7,19))?(;BYMINUTE=(0|15,45))?(;WKST=(SU|WE))?(;COUNT=[1-9])?",
        filter in "(;BYMONTH=([1-9]|1,12|2,4,6))?(;BYMONTHDAY=([1-9]|-1|29,30,31|-5,13))?",
        weekday in "(;BYDAY=(MO|TU,TH|SA,SU,WE))?",
        day in 0_i64..20_000,
    ) {
        // Each part once, and no days of the month in a week.
        let mut rule = rule;
        if !rule.contains("WEEKLY") && !rule.contains("BYMONTH") {
            rule += &filter;
        }
        if !rule.contains("BYDAY") {
            rule += &weekday;
        }
        let start = chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::minutes(day * 1440 + 570);
        let start = start.format("%Y%m%dT%H%M%SZ").to_string();
        let set = Recurrence::new(Start::new(moment(&start), None).unwrap(), &[Rule::parse(&rule).unwrap()], &[], &[]);
        // Looking for what never comes takes that crate long.
        prop_assume!(set.is_ok());
        let ours = crate::list(&set.unwrap(), 10);
        prop_assume!(ours.len() == 10 || rule.contains("COUNT"));
        prop_assert_eq!(Some(ours), theirs(&rule, &start, 10), "{} {}", start, rule);
    }
}
