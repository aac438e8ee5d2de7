use chrono::{DateTime, Utc};
use chrono_tz::{America, Australia, Europe, Pacific, UTC};
use proptest::prelude::*;
use schedule::{Offset, OffsetError, Trigger};

use crate::{shown, utc};

#[test]
fn offsets_are_read_and_written_canonically() {
    let table = [
        ("-PT10M", "-PT10M"),
        ("+PT10M", "PT10M"),
        ("P1D", "P1D"),
        ("-P1W", "-P1W"),
        ("P7D", "P1W"),
        ("P8D", "P8D"),
        ("-P1DT2H", "-P1DT2H"),
        ("P15DT5H0M20S", "P15DT5H0M20S"),
        ("PT5H20S", "PT5H0M20S"),
        ("PT90M", "PT1H30M"),
        ("PT24H", "PT24H"),
        ("PT3600S", "PT1H"),
        ("P7DT1S", "P7DT1S"),
        ("PT0S", "PT0S"),
        ("-P0D", "PT0S"),
        ("P0DT0H0M0S", "PT0S"),
        ("P366D", "P366D"),
        ("-P52W", "-P52W"),
        ("P0000000000000000000000000001D", "P1D"),
    ];
    for (text, canonical) in table {
        assert_eq!(Offset::parse(text).unwrap().to_string(), canonical, "{text}");
    }
    assert_eq!(Offset::parse("PT0S"), Ok(Offset::ZERO));
    assert_ne!(Offset::parse("P1D"), Offset::parse("PT24H"));
}

#[test]
fn a_refused_offset_says_why() {
    let table = [
        ("", "the offset is empty"),
        ("-pt10m", "upper case"),
        ("10M", "must start with P"),
        ("--PT1M", "must start with P"),
        (" PT1M", "must start with P"),
        ("-", "must start with P"),
        ("P", "it has no number"),
        ("PT", "nothing follows T"),
        ("P1DT", "nothing follows T"),
        ("P1", "the last number has no unit"),
        ("PT1M ", "a whole number is missing"),
        ("P-1D", "a whole number is missing"),
        ("PTM", "a whole number is missing"),
        ("P1Y", "years or months"),
        ("P1M", "years or months"),
        ("P1W2D", "mixes weeks"),
        ("P1WT1H", "mixes weeks"),
        ("P1H", "follow a T"),
        ("P1S", "follow a T"),
        ("PT1D", "before the T"),
        ("PT1M1H", "large to small"),
        ("PT1M1M", "large to small"),
        ("P1D1W", "large to small"),
        ("PT1HT1M", "T stands twice"),
        ("PT1.5H", "fractions"),
        ("PT1,5H", "fractions"),
        ("PT1X", "one of W, D, H, M, S"),
        ("P1é", "one of W, D, H, M, S"),
        ("P٣D", "a whole number is missing"),
        ("P367D", "longer than 366 days"),
        ("P53W", "longer than 366 days"),
        ("P366DT1S", "longer than 366 days"),
        ("-PT31622401S", "longer than 366 days"),
        ("PT99999999999999999999S", "longer than 366 days"),
    ];
    for (text, reason) in table {
        let error = Offset::parse(text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    assert_eq!(
        Offset::parse("p1d"),
        Err(OffsetError::LowerCase {
            text: "p1d".to_owned()
        })
    );
}

#[test]
fn days_keep_the_wall_clock_and_hours_do_not() {
    let table = [
        // Clocks go forward in Berlin on 2026-03-29 and back on 2026-10-25.
        (
            Europe::Berlin,
            "2026-03-29T08:00:00Z",
            "-P1D",
            "2026-03-28T10:00:00+01:00",
        ),
        (
            Europe::Berlin,
            "2026-03-29T08:00:00Z",
            "-PT24H",
            "2026-03-28T09:00:00+01:00",
        ),
        (
            Europe::Berlin,
            "2026-10-25T09:00:00Z",
            "-P1D",
            "2026-10-24T10:00:00+02:00",
        ),
        (
            Europe::Berlin,
            "2026-10-25T09:00:00Z",
            "-P1W",
            "2026-10-18T10:00:00+02:00",
        ),
        // First the days, then the hours: 12:00 the day before is 12:00+01:00, less twelve hours.
        (
            Europe::Berlin,
            "2026-03-29T10:00:00Z",
            "-P1DT12H",
            "2026-03-28T00:00:00+01:00",
        ),
        // The day lands in the gap.
        (
            America::New_York,
            "2026-03-09T06:30:00Z",
            "-P1D",
            "2026-03-08T03:30:00-04:00",
        ),
        (
            Australia::Lord_Howe,
            "2026-10-02T15:45:00Z",
            "P1D",
            "2026-10-04T02:45:00+11:00",
        ),
        (
            Pacific::Apia,
            "2011-12-30T20:00:00Z",
            "-P1D",
            "2011-12-31T10:00:00+14:00",
        ),
        (
            America::Sao_Paulo,
            "2018-11-03T03:00:00Z",
            "P1D",
            "2018-11-04T01:00:00-02:00",
        ),
        // Exact time within the repeated hour: 01:10 EST less half an hour is 01:40 EDT.
        (
            America::New_York,
            "2026-11-01T06:10:00Z",
            "-PT30M",
            "2026-11-01T01:40:00-04:00",
        ),
        (
            America::New_York,
            "2026-11-01T06:10:00Z",
            "PT0S",
            "2026-11-01T01:10:00-05:00",
        ),
        (
            UTC,
            "2026-01-01T00:00:00.25Z",
            "-PT10M",
            "2025-12-31T23:50:00+00:00",
        ),
    ];
    for (zone, due, offset, expected) in table {
        let at = Offset::parse(offset).unwrap().apply(utc(due), zone).unwrap();
        assert_eq!(shown(at, zone), expected, "{offset} from {due} in {zone}");
    }
}

#[test]
fn offsets_past_the_calendar_have_no_instant() {
    assert_eq!(
        Offset::parse("PT1S")
            .unwrap()
            .apply(DateTime::<Utc>::MAX_UTC, UTC),
        None
    );
    assert_eq!(
        Offset::parse("P1D")
            .unwrap()
            .apply(DateTime::<Utc>::MAX_UTC, Europe::Berlin),
        None
    );
    assert_eq!(
        Offset::parse("-P1D")
            .unwrap()
            .apply(DateTime::<Utc>::MIN_UTC, America::New_York),
        None
    );
}

#[test]
fn an_offset_is_a_string_in_json() {
    let offset: Offset = serde_json::from_str("\"-P1DT2H\"").unwrap();
    assert_eq!(serde_json::to_string(&offset).unwrap(), "\"-P1DT2H\"");
    let error = serde_json::from_str::<Offset>("\"tomorrow\"")
        .unwrap_err()
        .to_string();
    assert!(error.contains("upper case"), "{error}");
    assert!(serde_json::from_str::<Offset>("600").is_err());
}

#[test]
fn a_relative_trigger_needs_a_due_time_and_a_fixed_one_does_not() {
    let due = utc("2026-05-01T12:00:00Z");
    let fixed = utc("2026-04-01T00:00:00Z");
    let relative = Trigger::Offset(Offset::parse("-PT10M").unwrap());
    assert_eq!(
        relative.fire_at(Some(due), UTC),
        Some(utc("2026-05-01T11:50:00Z"))
    );
    assert_eq!(relative.fire_at(None, UTC), None);
    assert_eq!(Trigger::At(fixed).fire_at(Some(due), UTC), Some(fixed));
    assert_eq!(Trigger::At(fixed).fire_at(None, UTC), Some(fixed));
}

proptest! {
    #[test]
    fn the_text_of_an_offset_reads_back_as_the_same_offset(
        negative: bool, days in 0_u32..365, seconds in 0_u32..86_400,
    ) {
        let sign = if negative { "-" } else { "" };
        let offset = Offset::parse(&format!("{sign}P{days}DT{seconds}S")).unwrap();
        let text = offset.to_string();
        prop_assert_eq!(Offset::parse(&text).unwrap(), offset);
        prop_assert_eq!(Offset::parse(&text).unwrap().to_string(), text);
    }

    #[test]
    fn reading_an_offset_never_panics(text in "\\PC*") {
        let _ = Offset::parse(&text);
    }

    #[test]
    fn what_looks_like_an_offset_round_trips_when_it_is_one(text in "[-+]?P([0-9]{0,3}[WDTHMS]){0,5}") {
        if let Ok(offset) = Offset::parse(&text) {
            prop_assert_eq!(Offset::parse(&offset.to_string()).unwrap(), offset);
            prop_assert!(offset.apply(utc("2026-03-29T01:30:00Z"), Europe::Berlin).is_some());
        }
    }
}

#[test]
fn the_time_between_two_instants_is_exact_and_bounded() {
    let due = utc("2026-03-29T12:00:00Z");
    // Over a change of clocks, too.
    for (at, expected) in [
        ("2026-03-28T12:00:00Z", Some("-PT24H")),
        ("2026-03-29T12:00:00Z", Some("PT0S")),
        ("2026-03-29T13:00:05Z", Some("PT1H0M5S")),
        ("2027-03-30T12:00:00Z", Some("PT8784H")),
        ("2027-03-30T12:00:01Z", None),
        ("2025-03-28T11:59:59Z", None),
    ] {
        let offset = Offset::between(due, utc(at));
        assert_eq!(
            offset.map(|offset| offset.to_string()).as_deref(),
            expected,
            "{at}"
        );
        if let Some(offset) = offset {
            assert_eq!(offset.apply(due, Europe::Berlin), Some(utc(at)));
        }
    }
}
