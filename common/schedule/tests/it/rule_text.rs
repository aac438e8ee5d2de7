use proptest::prelude::*;
use recurrence::Error;
use schedule::{Rule, RuleError};

#[test]
fn rules_are_written_canonically() {
    let table = [
        ("FREQ=DAILY", "FREQ=DAILY"),
        ("RRULE:FREQ=DAILY", "FREQ=DAILY"),
        ("rrule:freq=weekly;byday=we,mo,mo", "FREQ=WEEKLY;BYDAY=MO,WE"),
        ("COUNT=5;INTERVAL=2;FREQ=DAILY", "FREQ=DAILY;INTERVAL=2;COUNT=5"),
        ("FREQ=DAILY;INTERVAL=1;WKST=MO", "FREQ=DAILY"),
        (
            "FREQ=MONTHLY;BYDAY=-1FR,1MO,+2TU",
            "FREQ=MONTHLY;BYDAY=-1FR,1MO,2TU",
        ),
        (
            "FREQ=YEARLY;BYMONTH=12,01;BYMONTHDAY=-1,5",
            "FREQ=YEARLY;BYMONTH=1,12;BYMONTHDAY=-1,5",
        ),
        (
            "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO;WKST=SU",
            "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO;WKST=SU",
        ),
        ("FREQ=YEARLY;BYYEARDAY=1,-366", "FREQ=YEARLY;BYYEARDAY=-366,1"),
        ("FREQ=DAILY;UNTIL=20261231", "FREQ=DAILY;UNTIL=20261231"),
        (
            "FREQ=DAILY;UNTIL=20261231T180000",
            "FREQ=DAILY;UNTIL=20261231T180000",
        ),
        (
            "FREQ=DAILY;UNTIL=20261231T180000z",
            "FREQ=DAILY;UNTIL=20261231T180000Z",
        ),
        (
            "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
            "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
        ),
        (
            "FREQ=DAILY;BYHOUR=9;BYMINUTE=30;BYSECOND=0",
            "FREQ=DAILY;BYHOUR=9;BYMINUTE=30;BYSECOND=0",
        ),
        // The text of 1MO is not MO.
        ("FREQ=MONTHLY;BYDAY=1MO", "FREQ=MONTHLY;BYDAY=1MO"),
    ];
    for (text, canonical) in table {
        let rule = Rule::parse(text).unwrap();
        assert_eq!(rule.to_string(), canonical, "{text}");
        assert_eq!(Rule::parse(canonical).unwrap(), rule, "{text}");
    }
}

#[test]
fn a_refused_rule_names_the_part_and_says_why() {
    let table = [
        ("", "the rule is empty"),
        ("RRULE:", "the rule is empty"),
        ("RRULE:RRULE:FREQ=DAILY", "not a part"),
        ("DAILY", "\"DAILY\" is not one"),
        ("FREQ=DAILY;;", "\"\" is not one"),
        ("FREQ=DAILY\nRRULE:FREQ=HOURLY", "FREQ cannot be"),
        ("FREQ=DAILY;X-EVERY=2", "\"X-EVERY\" is not a part"),
        ("FREQ=DAILY; COUNT=2", "\" COUNT\" is not a part"),
        ("FREQ=DAILY;BYEASTER=0", "not a part"),
        ("FREQ=DAILY;BYWEEKDAY=MO", "not a part"),
        ("FREQ=DAILY;DTSTART=20260101", "not a part"),
        ("INTERVAL=2", "FREQ is missing"),
        ("FREQ=DAILY;FREQ=DAILY", "FREQ is given more than once"),
        ("FREQ=DAILY;COUNT=1;COUNT=1", "COUNT is given more than once"),
        ("FREQ=FORTNIGHTLY", "one of SECONDLY, MINUTELY, HOURLY"),
        ("FREQ=SECONDLY", "more frequent than hourly"),
        ("FREQ=MINUTELY;INTERVAL=90", "more frequent than hourly"),
        (
            "FREQ=HOURLY;BYMINUTE=0,30",
            "BYMINUTE makes the rule more frequent than hourly",
        ),
        (
            "FREQ=DAILY;BYHOUR=1,2,3,4,5;BYMINUTE=1,2,3;BYSECOND=1,2",
            "BYSECOND makes the rule more frequent",
        ),
        (
            "FREQ=DAILY;INTERVAL=0",
            "INTERVAL cannot be \"0\": it is a whole number from 1",
        ),
        ("FREQ=DAILY;INTERVAL=-1", "INTERVAL cannot be"),
        ("FREQ=DAILY;INTERVAL=+1", "INTERVAL cannot be"),
        ("FREQ=DAILY;INTERVAL=1000000000", "INTERVAL cannot be"),
        ("FREQ=DAILY;INTERVAL=", "INTERVAL cannot be"),
        (
            "FREQ=DAILY;COUNT=0",
            "COUNT cannot be \"0\": it is a whole number from 1",
        ),
        ("FREQ=DAILY;COUNT=10001", "COUNT is at most 10000"),
        ("FREQ=DAILY;COUNT=99999999999999999999", "COUNT cannot be"),
        (
            "FREQ=DAILY;COUNT=2;UNTIL=20261231",
            "COUNT cannot be used with UNTIL",
        ),
        ("FREQ=DAILY;UNTIL=20260230", "UNTIL cannot be"),
        ("FREQ=DAILY;UNTIL=2026-12-31", "UNTIL cannot be"),
        ("FREQ=DAILY;UNTIL=20261231T250000Z", "UNTIL cannot be"),
        ("FREQ=DAILY;UNTIL=20261231T100000+", "UNTIL cannot be"),
        ("FREQ=DAILY;UNTIL=20261231X100000Z", "UNTIL cannot be"),
        ("FREQ=DAILY;UNTIL=202612é1", "UNTIL cannot be"),
        ("FREQ=YEARLY;BYMONTH=13", "BYMONTH cannot be"),
        ("FREQ=YEARLY;BYMONTH=-1", "BYMONTH cannot be"),
        ("FREQ=YEARLY;BYMONTH=1,,2", "BYMONTH cannot be"),
        ("FREQ=MONTHLY;BYMONTHDAY=32", "BYMONTHDAY cannot be"),
        ("FREQ=MONTHLY;BYMONTHDAY=0", "BYMONTHDAY cannot be"),
        (
            "FREQ=WEEKLY;BYMONTHDAY=1",
            "BYMONTHDAY cannot be used with FREQ=WEEKLY",
        ),
        ("FREQ=YEARLY;BYYEARDAY=367", "BYYEARDAY cannot be"),
        (
            "FREQ=DAILY;BYYEARDAY=1",
            "BYYEARDAY cannot be used with FREQ=DAILY",
        ),
        ("FREQ=YEARLY;BYWEEKNO=54", "BYWEEKNO cannot be"),
        (
            "FREQ=MONTHLY;BYWEEKNO=1",
            "BYWEEKNO cannot be used with FREQ=MONTHLY",
        ),
        (
            "FREQ=WEEKLY;BYDAY=6MO",
            "BYDAY with a number cannot be used with FREQ=WEEKLY",
        ),
        (
            "FREQ=DAILY;BYDAY=1MO",
            "BYDAY with a number cannot be used with FREQ=DAILY",
        ),
        ("FREQ=MONTHLY;BYDAY=6MO", "at most five"),
        ("FREQ=YEARLY;BYMONTH=3;BYDAY=6MO", "at most five"),
        ("FREQ=YEARLY;BYWEEKNO=3;BYDAY=1MO", "cannot be used with BYWEEKNO"),
        ("FREQ=MONTHLY;BYDAY=0MO", "BYDAY cannot be"),
        ("FREQ=YEARLY;BYDAY=54MO", "BYDAY cannot be"),
        ("FREQ=WEEKLY;BYDAY=XX", "BYDAY cannot be"),
        ("FREQ=WEEKLY;BYDAY=FOOMO", "BYDAY cannot be"),
        ("FREQ=WEEKLY;BYDAY=éO", "BYDAY cannot be"),
        ("FREQ=WEEKLY;BYDAY=MO TU", "BYDAY cannot be"),
        ("FREQ=DAILY;BYHOUR=24", "BYHOUR cannot be"),
        ("FREQ=DAILY;BYMINUTE=60", "BYMINUTE cannot be"),
        ("FREQ=DAILY;BYSECOND=61", "BYSECOND cannot be"),
        ("FREQ=DAILY;BYSETPOS=1", "BYSETPOS picks from"),
        ("FREQ=DAILY;BYHOUR=9;BYSETPOS=0", "BYSETPOS cannot be"),
        ("FREQ=WEEKLY;WKST=1", "WKST cannot be"),
    ];
    for (text, reason) in table {
        let error = Rule::parse(text).expect_err(text).to_string();
        assert!(error.contains(reason), "{text}: {error}");
        assert!(!error.contains('\n'), "{text}: {error}");
    }
}

#[test]
fn a_rule_may_be_a_thousand_characters_long_and_no_more() {
    let long = |values: usize| format!("FREQ=DAILY;BYMONTH={}", vec!["1"; values].join(","));
    assert_eq!(long(491).len(), 1000);
    assert!(Rule::parse(&long(491)).is_ok());
    assert_eq!(Rule::parse(&long(492)), Err(RuleError::Rule(Error::TooLong)));
}

#[test]
fn the_examples_of_rfc_5545_up_to_hourly_are_accepted() {
    for text in [
        "FREQ=DAILY;COUNT=10",
        "FREQ=DAILY;UNTIL=19971224T000000Z",
        "FREQ=DAILY;INTERVAL=10;COUNT=5",
        "FREQ=YEARLY;UNTIL=20000131T140000Z;BYMONTH=1;BYDAY=SU,MO,TU,WE,TH,FR,SA",
        "FREQ=DAILY;UNTIL=20000131T140000Z;BYMONTH=1",
        "FREQ=WEEKLY;INTERVAL=2;UNTIL=19971224T000000Z;WKST=SU;BYDAY=MO,WE,FR",
        "FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU",
        "FREQ=MONTHLY;COUNT=6;BYDAY=-2MO",
        "FREQ=MONTHLY;BYMONTHDAY=-3",
        "FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1",
        "FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200",
        "FREQ=YEARLY;BYDAY=20MO",
        "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO",
        "FREQ=YEARLY;BYMONTH=3;BYDAY=TH",
        "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
        "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
        "FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3",
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
        "FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T170000Z",
        "FREQ=DAILY;BYHOUR=9,10,11,12,13,14,15,16;BYMINUTE=0,20,40",
        "FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5",
    ] {
        assert!(Rule::parse(text).is_ok(), "{text}: {:?}", Rule::parse(text));
    }
}

proptest! {
    #[test]
    fn reading_a_rule_never_panics(text in "\\PC*") {
        let _ = Rule::parse(&text);
    }

    #[test]
    fn what_looks_like_a_rule_round_trips_when_it_is_one(
        text in "FREQ=(YEARLY|MONTHLY|WEEKLY|DAILY|HOURLY)(;(INTERVAL|COUNT|UNTIL|BYMONTH|BYWEEKNO|BYYEARDAY|\
                 BYMONTHDAY|BYDAY|BYHOUR|BYMINUTE|BYSECOND|BYSETPOS|WKST)=[-+]?[0-9]{0,2}(MO|SU|é)?(,-?[1-9])?){0,3}",
    ) {
        if let Ok(rule) = Rule::parse(&text) {
            prop_assert_eq!(Rule::parse(&rule.to_string()).unwrap(), rule);
        }
    }
}
