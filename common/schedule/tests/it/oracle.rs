//! Rules compared with their definition: go through every local hour or day and ask whether it belongs.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, TimeDelta, Timelike, Utc};
use chrono_tz::{America, Australia, Europe, Pacific, UTC};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use schedule::{Rule, Tz, resolve_local};

const WEEKDAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];

#[derive(Debug, Clone, Default)]
struct Parts {
    freq: &'static str,
    interval: i64,
    by_month: Vec<i64>,
    by_week_no: Vec<i64>,
    by_year_day: Vec<i64>,
    by_month_day: Vec<i64>,
    by_day: Vec<(i64, usize)>,
    by_hour: Vec<i64>,
    by_minute: Vec<i64>,
    by_set_pos: Vec<i64>,
    week_start: usize,
}

impl Parts {
    fn text(&self) -> String {
        let mut text = format!("FREQ={};INTERVAL={}", self.freq, self.interval);
        let mut list = |name: &str, values: Vec<String>| {
            if !values.is_empty() {
                text.push_str(&format!(";{name}={}", values.join(",")));
            }
        };
        let numbers = |values: &[i64]| values.iter().map(i64::to_string).collect::<Vec<_>>();
        list("BYMONTH", numbers(&self.by_month));
        list("BYWEEKNO", numbers(&self.by_week_no));
        list("BYYEARDAY", numbers(&self.by_year_day));
        list("BYMONTHDAY", numbers(&self.by_month_day));
        let day = |(nth, day): &(i64, usize)| match nth {
            0 => WEEKDAYS[*day].to_owned(),
            _ => format!("{nth}{}", WEEKDAYS[*day]),
        };
        list("BYDAY", self.by_day.iter().map(day).collect());
        list("BYHOUR", numbers(&self.by_hour));
        list("BYMINUTE", numbers(&self.by_minute));
        list("BYSETPOS", numbers(&self.by_set_pos));
        list("WKST", vec![WEEKDAYS[self.week_start].to_owned()]);
        text
    }

    /// The number of the period a local time lies in, counted from some fixed one.
    fn period(&self, wall: NaiveDateTime) -> i64 {
        let day = i64::from(wall.num_days_from_ce());
        match self.freq {
            "YEARLY" => i64::from(wall.year()),
            "MONTHLY" => i64::from(wall.year()) * 12 + i64::from(wall.month0()),
            // Day 1 of the common era was a Monday.
            "WEEKLY" => (day - 1 - self.week_start as i64).div_euclid(7),
            "DAILY" => day,
            _ => day * 24 + i64::from(wall.hour()),
        }
    }

    fn takes(&self, date: NaiveDate, start: NaiveDateTime) -> bool {
        let has =
            |list: &[i64], value: i64, len: i64| list.contains(&value) || list.contains(&(value - len - 1));
        let of = |list: &[i64], value: i64, len: i64| list.is_empty() || has(list, value, len);
        let year_len = if date.leap_year() { 366 } else { 365 };
        let month_len = i64::from(date.num_days_in_month());
        let (month, day, ordinal) = (
            i64::from(date.month()),
            i64::from(date.day()),
            i64::from(date.ordinal()),
        );
        let weekday = date.weekday().num_days_from_monday() as usize;

        if !of(&self.by_month, month, 1000)
            || !of(&self.by_year_day, ordinal, year_len)
            || !of(&self.by_month_day, day, month_len)
        {
            return false;
        }
        if !self.by_week_no.is_empty() {
            // A week belongs to the year that has its fourth day.
            let into_week = (weekday + 7 - self.week_start) % 7;
            let fourth = date - Days::new(into_week as u64) + Days::new(3);
            let weeks_before = |day: NaiveDate| i64::from(day.ordinal0() / 7);
            let weeks = (1..=7)
                .filter_map(|back| {
                    NaiveDate::from_ymd_opt(fourth.year() + 1, 1, 1).map(|day| day - Days::new(back))
                })
                .find(|day| day.weekday() == fourth.weekday())
                .map_or(0, |last| weeks_before(last) + 1);
            if !has(&self.by_week_no, weeks_before(fourth) + 1, weeks) {
                return false;
            }
        }
        let in_year = self.freq == "YEARLY" && self.by_month.is_empty();
        let (index, len) = if in_year {
            (ordinal, year_len)
        } else {
            (day, month_len)
        };
        let (nth, nth_last) = ((index - 1) / 7 + 1, -((len - index) / 7 + 1));
        if !self.by_day.is_empty() {
            return self
                .by_day
                .iter()
                .any(|(n, day)| *day == weekday && (*n == 0 || *n == nth || *n == nth_last));
        }
        let no_day = self.by_year_day.is_empty() && self.by_month_day.is_empty();
        match self.freq {
            "YEARLY" if no_day && !self.by_week_no.is_empty() => date.weekday() == start.weekday(),
            "YEARLY" if no_day => {
                date.day() == start.day() && (!self.by_month.is_empty() || date.month() == start.month())
            }
            "MONTHLY" if no_day => date.day() == start.day(),
            "WEEKLY" => date.weekday() == start.weekday(),
            _ => true,
        }
    }

    /// All occurrences from `start` for `days` days.
    fn occurrences(&self, start: DateTime<Utc>, zone: Tz, days: u64) -> Vec<DateTime<Utc>> {
        let start_wall = start.with_timezone(&zone).naive_local();
        let or = |list: &[i64], other: u32| {
            if list.is_empty() {
                vec![i64::from(other)]
            } else {
                list.to_vec()
            }
        };
        let hours = match self.freq {
            "HOURLY" if self.by_hour.is_empty() => (0..24).collect(),
            _ => or(&self.by_hour, start_wall.hour()),
        };
        let mut periods: BTreeMap<i64, Vec<NaiveDateTime>> = BTreeMap::new();
        // A year more at both ends, as positions count within whole periods.
        let first = start_wall.date() - Days::new(366);
        for date in first.iter_days().take(2 * 366 + days as usize) {
            if !self.takes(date, start_wall) {
                continue;
            }
            for hour in &hours {
                for minute in or(&self.by_minute, start_wall.minute()) {
                    let wall = date.and_hms_opt(*hour as u32, minute as u32, start_wall.second());
                    let period = wall.map(|wall| self.period(wall));
                    if let (Some(wall), Some(period)) = (wall, period)
                        && (period - self.period(start_wall)).rem_euclid(self.interval) == 0
                    {
                        periods.entry(period).or_default().push(wall);
                    }
                }
            }
        }
        let mut found: Vec<DateTime<Utc>> = periods
            .into_values()
            .flat_map(|walls| {
                let len = walls.len() as i64;
                let picked = |index: usize| {
                    let position = index as i64 + 1;
                    self.by_set_pos.is_empty()
                        || self.by_set_pos.contains(&position)
                        || self.by_set_pos.contains(&(position - len - 1))
                };
                walls
                    .into_iter()
                    .enumerate()
                    .filter(move |(index, _)| picked(*index))
                    .map(|(_, wall)| wall)
                    .collect::<Vec<_>>()
            })
            .filter(|wall| *wall >= start_wall)
            .map(|wall| {
                if wall == start_wall {
                    start
                } else {
                    resolve_local(wall, zone)
                }
            })
            .filter(|at| *at >= start)
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn some<T: Clone + std::fmt::Debug + 'static>(values: Vec<T>, most: usize) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![3 => Just(Vec::new()), 2 => subsequence(values, 1..=most)]
}

prop_compose! {
    fn parts()(
        freq in select(vec!["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY"]),
        interval in prop_oneof![Just(1_i64), 1_i64..8],
        by_month in some((1..=12).collect(), 4),
        by_week_no in some(vec![-53, -52, -51, -2, -1, 1, 2, 20, 51, 52, 53], 3),
        by_year_day in some(vec![-366, -365, -1, 1, 2, 59, 60, 61, 200, 365, 366], 4),
        by_month_day in some(vec![-31, -30, -28, -2, -1, 1, 2, 13, 28, 29, 30, 31], 4),
        by_day in some((0..7).collect::<Vec<usize>>(), 5),
        ordinals in proptest::collection::vec(select(vec![0_i64, 0, 1, 2, 4, 5, -1, -2, -4]), 7),
        by_hour in some(vec![0_i64, 1, 2, 3, 12, 23], 4),
        by_minute in some(vec![0_i64, 15, 30, 45], 3),
        by_set_pos in some(vec![1_i64, 2, 3, 10, -1, -2, -7], 2),
        week_start in 0_usize..7,
    ) -> Parts {
        let hourly = freq == "HOURLY";
        let yearly = freq == "YEARLY";
        let weeks = yearly && interval == 1 && by_set_pos.is_empty();
        let by_week_no = if weeks { by_week_no } else { Vec::new() };
        let counted = yearly && by_week_no.is_empty() || freq == "MONTHLY";
        // Weekdays are counted up to 53 in a year, up to 5 in a month.
        let scale = if yearly && by_month.is_empty() { 10 } else { 1 };
        let mut parts = Parts {
            freq,
            interval,
            by_month,
            by_year_day: if yearly || hourly { by_year_day } else { Vec::new() },
            by_month_day: if freq == "WEEKLY" { Vec::new() } else { by_month_day },
            by_day: by_day.into_iter().map(|day| (if counted { ordinals[day] * scale } else { 0 }, day)).collect(),
            by_week_no,
            by_hour,
            by_minute: if hourly { by_minute.into_iter().take(1).collect() } else { by_minute },
            by_set_pos,
            week_start,
        };
        let lone = parts.by_month.is_empty() && parts.by_year_day.is_empty() && parts.by_month_day.is_empty()
            && parts.by_day.is_empty() && parts.by_hour.is_empty() && parts.by_minute.is_empty();
        if lone {
            parts.by_set_pos.clear();
        }
        parts
    }
}

fn zones() -> impl Strategy<Value = Tz> {
    select(vec![
        UTC,
        Europe::Berlin,
        America::New_York,
        Australia::Lord_Howe,
        Pacific::Apia,
        America::Sao_Paulo,
    ])
}

/// Whole minutes from 2009 to 2019, which has gaps in all of the zones.
fn instants() -> impl Strategy<Value = DateTime<Utc>> {
    (20_500_000_i64..26_200_000)
        .prop_filter_map("in range", |minutes| DateTime::from_timestamp(minutes * 60, 0))
}

const DAYS: u64 = 800;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn next_occurrences_are_those_of_the_definition(
        parts in parts(), start in instants(), zone in zones(), ahead in 0_i64..(DAYS as i64 - 60) * 1440,
    ) {
        let rule = Rule::parse(&parts.text()).unwrap();
        // The last days are left out: what lies in a gap there may come after the first beyond.
        let end = start + TimeDelta::days(DAYS as i64 - 3);
        let all = parts.occurrences(start, zone, DAYS);
        let known = |after: DateTime<Utc>| all.iter().copied().find(|at| *at > after).filter(|at| *at < end);

        let mut after = start + TimeDelta::minutes(ahead);
        for _ in 0..5 {
            let next = rule.next_after(start, zone, after).unwrap();
            prop_assert_eq!(next.filter(|at| *at < end), known(after), "{} after {}", rule, after);
            let Some(next) = next else { break };
            prop_assert!(next > after);
            after = next;
        }
        let first = all.first().copied().filter(|at| *at < end);
        if first.is_some() {
            prop_assert_eq!(rule.next_after(start, zone, DateTime::<Utc>::MIN_UTC).unwrap(), first);
            prop_assert!(rule.check(start, zone).is_ok());
        }
    }

    #[test]
    fn count_and_until_cut_the_same_occurrences_short(
        parts in parts(), start in instants(), zone in zones(), count in 1_usize..20,
    ) {
        let all = parts.occurrences(start, zone, DAYS);
        prop_assume!(all.len() > count && all[count] < start + TimeDelta::days(DAYS as i64 - 3));
        let last = all[count - 1];
        let until = last.format("%Y%m%dT%H%M%SZ");
        for ended in [format!("{};COUNT={count}", parts.text()), format!("{};UNTIL={until}", parts.text())] {
            let rule = Rule::parse(&ended).unwrap();
            let mut found = Vec::new();
            let mut after = start - TimeDelta::seconds(1);
            while let Some(next) = rule.next_after(start, zone, after).unwrap() {
                found.push(next);
                after = next;
            }
            prop_assert_eq!(&found, &all[..count], "{}", rule);
        }
    }
}
