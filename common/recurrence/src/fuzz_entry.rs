//! What must hold for any text and any recurrence: one body for the fuzz targets and the property tests.
//!
//! The functions panic when something does not.

use chrono_tz::Tz;

use crate::error::Error;
use crate::moment::{Moment, Start};
use crate::rule::Rule;
use crate::set::Recurrence;

/// How many occurrences are looked at.
const MOST: usize = 24;

/// Any text either is refused or round-trips through its canonical form.
pub fn parser(text: &str) {
    match Rule::parse(text) {
        Ok(rule) => {
            let canonical = rule.to_string();
            assert_eq!(
                Rule::parse(&canonical).as_ref(),
                Ok(&rule),
                "{text:?} {canonical}"
            );
            assert!(rule.explain().starts_with("every "), "{text:?}");
        }
        Err(error) => assert!(!error.to_string().contains(['\n', '\r']), "{text:?} {error}"),
    }
    if let Ok(moment) = text.parse::<Moment>() {
        assert_eq!(
            moment.to_string().parse::<Moment>().map(|again| again.seconds()),
            Ok(whole(moment).seconds())
        );
    }
}

/// Moments are shown to the second.
fn whole(moment: Moment) -> Moment {
    use chrono::Timelike;
    let cut = |local: chrono::NaiveDateTime| local.with_nanosecond(0).unwrap_or(local);
    match moment {
        Moment::Date(_) => moment,
        Moment::Local(local) => Moment::Local(cut(local)),
        Moment::Instant(at) => Moment::Instant(at.with_nanosecond(0).unwrap_or(at)),
    }
}

/// A recurrence made of the bytes is sorted, has each moment once, stays within its budget and says the same whichever
/// way it is asked.
pub fn iterator(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    if let Some((set, query)) = bytes.recurrence() {
        match check(&set, query) {
            Ok(()) | Err(Error::TooMuchWork) => {}
            Err(error) => panic!("{error}: {set}"),
        }
    }
}

fn check(set: &Recurrence, query: Moment) -> Result<(), Error> {
    for rule in set.rules() {
        parser(&rule.to_string());
    }
    assert!(set.explain().starts_with("Starts on "));
    let all: Vec<Moment> = set.iter().take(MOST).collect::<Result<_, _>>()?;
    assert!(all.is_sorted_by(|one, next| one < next), "not ascending: {set}");
    assert_eq!(set.first()?, all.first().copied(), "{set}");
    for (index, at) in all.iter().enumerate() {
        assert!(set.contains(*at)?, "{at} is missing: {set}");
        assert_eq!(set.count_before(*at)?, index as u64, "before {at}: {set}");
        if let Some(next) = all.get(index + 1) {
            assert_eq!(set.after(*at)?, Some(*next), "after {at}: {set}");
            assert_eq!(set.before(*next)?, Some(*at), "before {next}: {set}");
        }
    }
    if let Some(last) = all.last() {
        if all.len() < MOST {
            assert_eq!(set.after(*last)?, None, "after {last}: {set}");
            assert_eq!(set.last()?, Some(*last), "{set}");
        }
        let mut back: Vec<Moment> = set.range(None, Some(*last))?.rev().collect::<Result<_, _>>()?;
        back.reverse();
        assert_eq!(back, all[..all.len() - 1], "{set}");
        let middle = all[all.len() / 2];
        let between = set.between(middle, *last)?.collect::<Result<Vec<_>, _>>()?;
        assert_eq!(between, all[all.len() / 2..all.len() - 1], "{set}");
    }

    // From anywhere, as a moment of the same kind.
    let query = set.moment(set.query(&query)?.0);
    let (after, before) = (set.after(query)?, set.before(query)?);
    let here = set.contains(query)?;
    assert!(
        before.is_none_or(|before| before.seconds() < query.seconds()),
        "before {query}: {set}"
    );
    assert!(
        after.is_none_or(|after| after.seconds() > query.seconds()),
        "after {query}: {set}"
    );
    let count = set.count_before(query)?;
    if let Some(after) = after {
        let expected = if here {
            Some(query.seconds())
        } else {
            before.map(|at| at.seconds())
        };
        assert_eq!(
            set.before(after)?.map(|at| at.seconds()),
            expected,
            "before {after}: {set}"
        );
        assert_eq!(
            set.count_before(after)?,
            count + u64::from(here),
            "before {after}: {set}"
        );
    }
    match before {
        Some(before) => assert_eq!(set.count_before(before)? + 1, count, "before {before}: {set}"),
        None => assert_eq!(count, 0, "before {query}: {set}"),
    }
    Ok(())
}

/// Choices made by bytes, the first of each when they have run out.
struct Bytes<'a>(&'a [u8]);

const ZONES: [Tz; 12] = [
    Tz::UTC,
    Tz::Europe__Berlin,
    Tz::America__New_York,
    Tz::Australia__Lord_Howe,
    Tz::Africa__Casablanca,
    Tz::America__St_Johns,
    Tz::Asia__Kathmandu,
    Tz::Pacific__Apia,
    Tz::Europe__Lisbon,
    Tz::America__Sao_Paulo,
    Tz::Antarctica__Troll,
    Tz::Pacific__Kwajalein,
];

/// Some local times shortly before something happens: gaps, folds, skipped days, turns of years and months.
const STARTS: [&str; 16] = [
    "2026-03-01T02:30:00",
    "1997-09-02T09:00:00",
    "2026-03-08T02:30:00",
    "2026-03-28T02:15:00",
    "2011-12-28T09:00:00",
    "2018-11-03T00:00:00",
    "2026-10-31T01:30:00",
    "2026-10-04T02:00:00",
    "2024-02-29T12:00:00",
    "2020-12-28T00:00:00",
    "2021-01-03T23:59:59",
    "1970-01-01T00:00:00",
    "1993-08-20T12:00:00",
    "2024-12-30T08:00:00",
    "2023-01-31T06:45:10",
    "9998-06-01T00:00:00",
];

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::from(self.byte()) % list.len()]
    }

    /// Mostly not.
    fn often(&mut self, of_256: u8) -> bool {
        self.byte() > 255 - of_256
    }

    fn list<T: ToString>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> String {
        let len = 1 + usize::from(self.byte() % 4);
        let items: Vec<String> = (0..len).map(|_| one(self).to_string()).collect();
        items.join(",")
    }

    fn signed(&mut self, most: u16) -> i32 {
        let number = i32::from(u16::from_be_bytes([self.byte(), self.byte()]) % (2 * most)) - i32::from(most);
        if number >= 0 { number + 1 } else { number }
    }

    fn rule(&mut self) -> Option<Rule> {
        let freq = self.pick(&[
            "DAILY", "WEEKLY", "MONTHLY", "YEARLY", "HOURLY", "MINUTELY", "SECONDLY",
        ]);
        let mut text = format!("FREQ={freq}");
        let mut add = |name: &str, value: String| text.push_str(&format!(";{name}={value}"));
        if self.often(100) {
            let wide = self.often(20);
            let interval = if wide {
                u32::from(self.byte()) * 997 + 1
            } else {
                u32::from(self.byte() % 30) + 1
            };
            add("INTERVAL", interval.to_string());
        }
        if self.often(80) {
            add("BYMONTH", self.list(|bytes| bytes.byte() % 12 + 1));
        }
        if freq == "YEARLY" && self.often(70) {
            add("BYWEEKNO", self.list(|bytes| bytes.signed(53)));
        }
        if !matches!(freq, "DAILY" | "WEEKLY" | "MONTHLY") && self.often(40) {
            add("BYYEARDAY", self.list(|bytes| bytes.signed(366)));
        }
        if freq != "WEEKLY" && self.often(80) {
            add("BYMONTHDAY", self.list(|bytes| bytes.signed(31)));
        }
        if self.often(100) {
            let numbered = matches!(freq, "MONTHLY" | "YEARLY") && self.often(120);
            add(
                "BYDAY",
                self.list(|bytes| {
                    let nth = if numbered {
                        bytes.signed(5).to_string()
                    } else {
                        String::new()
                    };
                    nth + bytes.pick(&["MO", "TU", "WE", "TH", "FR", "SA", "SU"])
                }),
            );
        }
        if self.often(60) {
            add("BYHOUR", self.list(|bytes| bytes.byte() % 24));
        }
        if self.often(60) {
            add("BYMINUTE", self.list(|bytes| bytes.byte() % 60));
        }
        if self.often(40) {
            add("BYSECOND", self.list(|bytes| bytes.byte() % 61));
        }
        if self.often(60) {
            add("BYSETPOS", self.list(|bytes| bytes.signed(6)));
        }
        if self.often(60) {
            add(
                "WKST",
                self.pick(&["SU", "TU", "WE", "TH", "FR", "SA"]).to_owned(),
            );
        }
        match self.byte() {
            0..150 => {}
            150..220 => add("COUNT", (u32::from(self.byte()) + 1).to_string()),
            220..240 => add("UNTIL", format!("20{:02}0615T120000Z", self.byte() % 100)),
            _ => add("UNTIL", format!("20{:02}1028", self.byte() % 100)),
        }
        if self.often(30) {
            add("RSCALE", "GREGORIAN".to_owned());
            add("SKIP", self.pick(&["FORWARD", "BACKWARD"]).to_owned());
        }
        Rule::parse(&text).ok()
    }

    fn moment(&mut self, near: chrono::NaiveDateTime, whole_days: bool) -> Moment {
        let minutes =
            i64::from(i16::from_be_bytes([self.byte(), self.byte()])) * if whole_days { 1440 } else { 15 };
        let local = near + chrono::TimeDelta::minutes(minutes);
        if whole_days {
            Moment::Date(local.date())
        } else {
            Moment::Local(local)
        }
    }

    fn recurrence(&mut self) -> Option<(Recurrence, Moment)> {
        let local: chrono::NaiveDateTime = self.pick(&STARTS).parse().ok()?;
        let local = local + chrono::TimeDelta::minutes(i64::from(self.byte()) * 15);
        let kind = self.byte() % 8;
        let start = match kind {
            0 => Start::new(Moment::Date(local.date()), None),
            1 => Start::new(Moment::Local(local), None),
            2 => Start::new(Moment::from(local.and_utc()), Some(self.pick(&ZONES))),
            _ => Start::new(Moment::Local(local), Some(self.pick(&ZONES))),
        };
        let start = start.ok()?;
        let rules: Vec<Rule> = (0..=self.byte() / 170).map_while(|_| self.rule()).collect();
        let dates = |bytes: &mut Self| -> Vec<Moment> {
            let len = bytes.byte().saturating_sub(200) / 10;
            (0..len).map(|_| bytes.moment(local, kind == 0)).collect()
        };
        let (further, exceptions) = (dates(self), dates(self));
        let query = self.moment(local, kind == 0);
        let set = Recurrence::new(start, &rules, &further, &exceptions).ok()?;
        Some((set, query))
    }
}
