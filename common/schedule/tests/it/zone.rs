use chrono::{NaiveDateTime, TimeDelta};
use chrono_tz::{Africa, America, Asia, Australia, Europe, Pacific, TZ_VARIANTS};
use proptest::prelude::*;
use schedule::{Tz, ZoneError, parse_zone, resolve_local};

use crate::{shown, utc, wall};

#[test]
fn every_iana_name_is_read_and_keeps_its_spelling() {
    for zone in TZ_VARIANTS {
        assert_eq!(parse_zone(zone.name()).unwrap().name(), zone.name());
    }
    assert_eq!(parse_zone("US/Eastern").unwrap().name(), "US/Eastern");
}

#[test]
fn a_refused_zone_name_says_why() {
    assert_eq!(parse_zone(""), Err(ZoneError::Empty));
    for blank in [
        " Europe/Berlin",
        "Europe/Berlin ",
        "Europe/Berlin\n",
        "America/New York",
        " ",
        "\0",
    ] {
        assert!(
            matches!(parse_zone(blank), Err(ZoneError::Blank { .. })),
            "{blank:?}"
        );
    }
    for spelling in ["europe/berlin", "EUROPE/BERLIN", "utc", "Gmt"] {
        assert!(
            matches!(parse_zone(spelling), Err(ZoneError::Spelling { .. })),
            "{spelling}"
        );
    }
    for offset in ["+02:00", "-0500", "2"] {
        assert!(
            matches!(parse_zone(offset), Err(ZoneError::FixedOffset { .. })),
            "{offset}"
        );
    }
    for unknown in ["Europe/Berln", "CEST", "Berlin", "Local", "Europe/", "Зона"] {
        assert!(
            matches!(parse_zone(unknown), Err(ZoneError::Unknown { .. })),
            "{unknown}"
        );
    }
    assert_eq!(
        parse_zone("europe/berlin").unwrap_err().to_string(),
        "the time zone \"europe/berlin\" is spelled Europe/Berlin"
    );
}

#[test]
fn local_times_are_placed_by_the_rules_of_rfc_5545() {
    let table = [
        // Ordinary.
        (Europe::Berlin, "2026-01-15T09:00:00", "2026-01-15T09:00:00+01:00"),
        (Europe::Berlin, "2026-07-15T09:00:00", "2026-07-15T09:00:00+02:00"),
        // Gaps: the offset before the gap, shown with the one after it.
        (Europe::Berlin, "2026-03-29T01:59:59", "2026-03-29T01:59:59+01:00"),
        (Europe::Berlin, "2026-03-29T02:00:00", "2026-03-29T03:00:00+02:00"),
        (Europe::Berlin, "2026-03-29T02:30:00", "2026-03-29T03:30:00+02:00"),
        (Europe::Berlin, "2026-03-29T02:59:59", "2026-03-29T03:59:59+02:00"),
        (Europe::Berlin, "2026-03-29T03:00:00", "2026-03-29T03:00:00+02:00"),
        (
            America::New_York,
            "2026-03-08T02:30:00",
            "2026-03-08T03:30:00-04:00",
        ),
        // Half an hour only.
        (
            Australia::Lord_Howe,
            "2026-10-04T02:15:00",
            "2026-10-04T02:45:00+11:00",
        ),
        // Midnight does not exist.
        (
            America::Sao_Paulo,
            "2018-11-04T00:00:00",
            "2018-11-04T01:00:00-02:00",
        ),
        (
            America::Sao_Paulo,
            "2018-11-04T00:59:59",
            "2018-11-04T01:59:59-02:00",
        ),
        (Africa::Cairo, "2026-04-24T00:30:00", "2026-04-24T01:30:00+03:00"),
        // A whole day does not exist.
        (Pacific::Apia, "2011-12-29T23:59:59", "2011-12-29T23:59:59-10:00"),
        (Pacific::Apia, "2011-12-30T00:00:00", "2011-12-31T00:00:00+14:00"),
        (Pacific::Apia, "2011-12-30T12:00:00", "2011-12-31T12:00:00+14:00"),
        (Pacific::Apia, "2011-12-30T23:59:59", "2011-12-31T23:59:59+14:00"),
        (Pacific::Apia, "2011-12-31T00:00:00", "2011-12-31T00:00:00+14:00"),
        // Folds: the first of two.
        (Europe::Berlin, "2026-10-25T02:30:00", "2026-10-25T02:30:00+02:00"),
        (
            America::New_York,
            "2026-11-01T01:30:00",
            "2026-11-01T01:30:00-04:00",
        ),
        (
            America::New_York,
            "2026-11-01T02:00:00",
            "2026-11-01T02:00:00-05:00",
        ),
        (
            Australia::Lord_Howe,
            "2026-04-05T01:45:00",
            "2026-04-05T01:45:00+11:00",
        ),
        (
            America::Sao_Paulo,
            "2018-02-17T23:30:00",
            "2018-02-17T23:30:00-02:00",
        ),
        (
            Asia::Kathmandu,
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00+05:45",
        ),
    ];
    for (zone, local, expected) in table {
        assert_eq!(
            shown(resolve_local(wall(local), zone), zone),
            expected,
            "{local} in {zone}"
        );
    }
}

#[test]
fn the_ends_of_the_calendar_do_not_panic() {
    for zone in TZ_VARIANTS {
        let _ = resolve_local(NaiveDateTime::MIN, zone);
        let _ = resolve_local(NaiveDateTime::MAX, zone);
    }
    assert!(resolve_local(NaiveDateTime::MAX, Asia::Tokyo) > utc("2400-01-01T00:00:00Z"));
}

proptest! {
    #[test]
    fn a_local_time_that_exists_is_shown_by_its_instant(
        seconds in 0_i64..4_000_000_000, zone in proptest::sample::select(TZ_VARIANTS.to_vec()),
    ) {
        let at = chrono::DateTime::from_timestamp(seconds, 0).unwrap();
        let local = at.with_timezone(&zone).naive_local();
        let resolved = resolve_local(local, zone);
        prop_assert_eq!(resolved.with_timezone(&zone).naive_local(), local);
        prop_assert!(resolved <= at);
    }

    #[test]
    fn any_local_time_is_read_with_the_offset_in_force_before_a_gap(
        seconds in 0_i64..4_000_000_000, zone in proptest::sample::select(TZ_VARIANTS.to_vec()),
    ) {
        let local = chrono::DateTime::from_timestamp(seconds, 0).unwrap().naive_utc();
        let resolved = resolve_local(local, zone);
        let moved = resolved.with_timezone(&zone).naive_local() - local;
        prop_assert!(moved >= TimeDelta::zero() && moved <= TimeDelta::hours(24));
        if moved > TimeDelta::zero() {
            // The clock `moved` before shows less than what was asked for: the gap lies in between.
            let before = (resolved - moved).with_timezone(&zone).naive_local();
            prop_assert!(before < local);
        }
    }

    #[test]
    fn reading_a_zone_never_panics(name in "\\PC*") {
        let _: Result<Tz, ZoneError> = parse_zone(&name);
    }
}
