//! The next occurrence of a rule, by the age of its start: our engine beside the `rrule` crate and python-dateutil, which both
//! walk there from the start. For every question that all three are asked they must agree, or the benchmark fails.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chrono::{DateTime, Months, NaiveDateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use recurrence::{Moment, Recurrence, Rule, Start, Tz};
use rrule::RRuleSet;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::say;
use crate::stats::Runs;
use crate::table::{Chart, Row, Target, Unit};

/// What people repeat by.
const COMMON: [&str; 8] = [
    "FREQ=DAILY",
    "FREQ=WEEKLY;BYDAY=MO,WE,FR",
    "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,TH;WKST=SU",
    "FREQ=MONTHLY",
    "FREQ=MONTHLY;BYDAY=-1FR",
    "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
    "FREQ=YEARLY",
    "FREQ=HOURLY;INTERVAL=7",
];
/// Rules tried for the dearest.
const RANDOM: usize = 20_000;
/// What they are made of: nothing, or one of these.
const PARTS: [&[&str]; 9] = [
    &[
        "1", "2", "3", "5", "7", "11", "13", "23", "29", "31", "53", "97", "365", "366", "997", "9973",
    ],
    &["BYMONTH=1", "BYMONTH=2", "BYMONTH=12"],
    &[
        "BYMONTHDAY=1",
        "BYMONTHDAY=13",
        "BYMONTHDAY=29",
        "BYMONTHDAY=30",
        "BYMONTHDAY=31",
        "BYMONTHDAY=-1",
    ],
    &["BYDAY=MO", "BYDAY=SU", "BYDAY=TU,TH", "BYDAY=SA,SU"],
    &["BYWEEKNO=1", "BYWEEKNO=20", "BYWEEKNO=53"],
    &["BYYEARDAY=1", "BYYEARDAY=100", "BYYEARDAY=366", "BYYEARDAY=-366"],
    &["BYHOUR=5", "BYHOUR=0,12", "BYHOUR=1,2,3,4,5"],
    &["BYSETPOS=1", "BYSETPOS=2", "BYSETPOS=-1"],
    &["COUNT=10", "COUNT=1000", "COUNT=100000"],
];
/// The ages of the starts, in days. The last one is of 1970.
const AGES_DAYS: [u32; 8] = [1, 10, 100, 365, 1_826, 3_652, 10_957, 20_779];
/// When it is asked.
const NOW: &str = "2026-11-21T12:00:00Z";
const ZONE: Tz = Tz::Europe__Berlin;
/// Questions of each kind: ours answers all of them, those that walk as many as they can in the time.
const QUESTIONS: u32 = 400;
/// The time of a rule and start for those that walk. They answer at least one question.
const PATIENCE: Duration = Duration::from_millis(100);
/// Asks python-dateutil.
const DATEUTIL: &str = include_str!("../dateutil_next.py");

/// What is asked: what comes after `from`.
#[derive(Debug, Clone, Copy)]
struct Question {
    rule: &'static str,
    start: NaiveDateTime,
    from: DateTime<Utc>,
}

/// Measures it.
pub fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    let (rounds, questions) = if quick {
        (1, QUESTIONS / 10)
    } else {
        (3, QUESTIONS)
    };
    let mut ours = Sides::default();
    let mut from_text = Sides::default();
    let mut crates = Sides::default();
    let mut python = Sides::default();
    for round in 1..=rounds {
        for age in AGES_DAYS {
            for rule in COMMON {
                let [next, first] = ours_of(rule, age, questions)?;
                ours.put(rule, age, next);
                from_text.put(rule, age, first);
            }
            for rule in COMMON {
                crates.put(rule, age, walks(rule, age, questions)?);
            }
            python.extend(age, dateutil(age, questions)?);
        }
        say(&format!("next: round {round} of {rounds}"));
    }

    let (young, old) = (AGES_DAYS[0], AGES_DAYS[AGES_DAYS.len() - 1]);
    let (dearest_us, dearest) = dearest(if quick { RANDOM / 10 } else { RANDOM })?;
    let row = |path: String, runs: Runs| Row::new(path, Unit::Microseconds, runs);
    let mut rows = vec![
        row(
            "next occurrence, common rules, start of yesterday".to_owned(),
            ours.slowest(&COMMON, young),
        )
        .target(Target::AtMost(5.0))
        .details(json!({"ours_us": ours.of(young)})),
        row(
            "next occurrence, common rules, start of 1970".to_owned(),
            ours.slowest(&COMMON, old),
        )
        .target(Target::AtMost(5.0))
        .details(json!({"ours_us": ours.of(old)})),
        row(
            "next occurrence, start of 1970 beside yesterday".to_owned(),
            ours.slowest(&COMMON, old),
        )
        .bare(ours.slowest(&COMMON, young))
        .target(Target::RatioAtMost(1.5)),
        row(
            "from a rule's text to its next occurrence, common rules, start of 1970".to_owned(),
            from_text.slowest(&COMMON, old),
        )
        .details(json!({"ours_us": from_text.of(old)})),
        row(
            "next occurrence, the dearest of many random rules".to_owned(),
            Runs::of([dearest_us]),
        )
        .target(Target::AtMost(50.0))
        .details(json!({"rule": dearest})),
    ];
    for (name, side, target) in [("rrule", &crates, None), ("python-dateutil", &python, Some(0.01))] {
        // The rule at which we win least.
        let rule = COMMON
            .into_iter()
            .max_by(|a, b| ours.against(side, a, old).total_cmp(&ours.against(side, b, old)))
            .context("there are rules")?;
        let row = row(
            format!("next occurrence, start of 1970, beside {name}, {rule}"),
            ours.runs(rule, old),
        )
        .bare(side.runs(rule, old))
        .details(json!({"theirs_us": side.of(old)}));
        rows.push(match target {
            Some(most) => row.target(Target::RatioAtMost(most)),
            None => row,
        });
    }
    // One plot of all: the slowest of the common rules.
    let points = |side: &Sides| AGES_DAYS.map(|age| (f64::from(age), side.slowest(&COMMON, age).median));
    if let Some(first) = rows.first_mut() {
        first.plot(Chart::NextOccurrence, "Carillon", points(&ours));
        first.plot(Chart::NextOccurrence, "rrule (Rust)", points(&crates));
        first.plot(Chart::NextOccurrence, "python-dateutil", points(&python));
    }
    Ok(rows)
}

/// Medians in microseconds, one of each round, by rule and age.
#[derive(Debug, Default)]
struct Sides(BTreeMap<(String, u32), Vec<f64>>);

impl Sides {
    fn put(&mut self, rule: &str, age: u32, median_us: f64) {
        self.0.entry((rule.to_owned(), age)).or_default().push(median_us);
    }

    fn extend(&mut self, age: u32, medians_us: BTreeMap<String, f64>) {
        for (rule, median_us) in medians_us {
            self.put(&rule, age, median_us);
        }
    }

    fn runs(&self, rule: &str, age: u32) -> Runs {
        Runs::of(self.0.get(&(rule.to_owned(), age)).cloned().unwrap_or_default())
    }

    /// The slowest of those rules.
    fn slowest(&self, rules: &[&str], age: u32) -> Runs {
        rules
            .iter()
            .map(|rule| self.runs(rule, age))
            .max_by(|a, b| a.median.total_cmp(&b.median))
            .unwrap_or_else(|| Runs::of([]))
    }

    /// Ours by the other's.
    fn against(&self, other: &Self, rule: &str, age: u32) -> f64 {
        self.runs(rule, age).median / other.runs(rule, age).median
    }

    fn of(&self, age: u32) -> BTreeMap<&str, f64> {
        self.0
            .iter()
            .filter(|((_, of), _)| *of == age)
            .map(|((rule, _), runs)| (rule.as_str(), Runs::of(runs.iter().copied()).median))
            .collect()
    }
}

/// Questions from points of time all over a year.
fn questions(rule: &'static str, age_days: u32, count: u32) -> anyhow::Result<Vec<Question>> {
    let now: DateTime<Utc> = NOW.parse()?;
    let start =
        now.with_timezone(&ZONE).naive_local() - TimeDelta::days(age_days.into()) - TimeDelta::minutes(150);
    let year = now.checked_add_months(Months::new(12)).context("a year on")? - now;
    Ok((0..count)
        .map(|n| Question {
            rule,
            start,
            from: now + year * i32::try_from(n).unwrap_or(0) / i32::try_from(count).unwrap_or(1),
        })
        .collect())
}

/// Ours: the next occurrence of a rule that is in use, and that of one which is only a text yet.
fn ours_of(rule: &'static str, age: u32, count: u32) -> anyhow::Result<[f64; 2]> {
    let (mut times, mut first_times) = (Vec::new(), Vec::new());
    for question in questions(rule, age, count)? {
        let began = Instant::now();
        let set = recurrence(&question)?;
        let from = Moment::Instant(question.from.fixed_offset());
        // The first call works out the kinds of years that it meets.
        black_box(set.after(black_box(from))?);
        first_times.push(began.elapsed().as_secs_f64() * 1e6);
        let began = Instant::now();
        black_box(set.after(black_box(from))?);
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok([Runs::of(times).median, Runs::of(first_times).median])
}

/// The dearest next occurrence of random rules, in microseconds, and the rule with its start. Each is asked five times, of which
/// the fastest counts: what is looked for is a dear rule, not a moment in which the machine did something else.
fn dearest(count: usize) -> anyhow::Result<(f64, String)> {
    let mut random = StdRng::seed_from_u64(1);
    let mut dearest = (0.0, String::new());
    let mut tried = 0;
    while tried < count {
        let freq = ["HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"][random.random_range(0..5)];
        let mut text = format!("FREQ={freq};INTERVAL=");
        for (index, part) in PARTS.iter().enumerate() {
            if index == 0 || random.random_ratio(1, 3) {
                text.push_str(if index == 0 { "" } else { ";" });
                text.push_str(part.choose(&mut random).context("an empty part")?);
            }
        }
        let age = *AGES_DAYS.choose(&mut random).context("there are ages")?;
        let Question { start, from, .. } = *questions("", age, 1)?.first().context("no question")?;
        // Many make no sense, and are refused.
        let Ok(rule) = Rule::parse(&text) else { continue };
        let Ok(set) = Recurrence::new(Start::new(Moment::Local(start), Some(ZONE))?, &[rule], &[], &[])
        else {
            continue;
        };
        let from = Moment::Instant(from.fixed_offset());
        let mut fastest = f64::INFINITY;
        for _ in 0..5 {
            let began = Instant::now();
            black_box(set.after(black_box(from))?);
            fastest = fastest.min(began.elapsed().as_secs_f64() * 1e6);
        }
        tried += 1;
        if fastest > dearest.0 {
            dearest = (fastest, format!("{text} from {start}"));
        }
    }
    Ok(dearest)
}

fn recurrence(question: &Question) -> anyhow::Result<Recurrence> {
    let start = Start::new(Moment::Local(question.start), Some(ZONE))?;
    Ok(Recurrence::new(start, &[Rule::parse(question.rule)?], &[], &[])?)
}

/// What ours says, for comparison.
fn answer(question: &Question) -> anyhow::Result<DateTime<Utc>> {
    let next = recurrence(question)?.after(Moment::Instant(question.from.fixed_offset()))?;
    next.and_then(|next| next.instant())
        .with_context(|| format!("{question:?}: {next:?}"))
}

/// The `rrule` crate.
fn walks(rule: &'static str, age: u32, count: u32) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut times = Vec::new();
    for question in questions(rule, age, count)? {
        let start = question.start.format("%Y%m%dT%H%M%S");
        let set: RRuleSet = format!("DTSTART;TZID={}:{start}\nRRULE:{rule}", ZONE.name()).parse()?;
        let from = question.from.with_timezone(&rrule::Tz::UTC);
        let asked = Instant::now();
        let found = black_box(set.after(black_box(from)).all(2));
        times.push(asked.elapsed().as_secs_f64() * 1e6);
        // What comes at the very time counts as after it there.
        let next = found.dates.into_iter().find(|at| *at > from).context("an end")?;
        ensure!(next == answer(&question)?, "rrule says {next} of {question:?}");
        if began.elapsed() > PATIENCE {
            break;
        }
    }
    Ok(Runs::of(times).median)
}

/// What python-dateutil is asked.
#[derive(Debug, Serialize)]
struct Asked {
    zone: &'static str,
    start: String,
    rules: [&'static str; COMMON.len()],
    from: Vec<String>,
    patience_seconds: f64,
}

/// What it took for a rule, and its answers.
#[derive(Debug, Deserialize)]
struct Answered {
    median_us: f64,
    next: Vec<DateTime<Utc>>,
}

/// python-dateutil, in a process of its own that measures itself.
fn dateutil(age: u32, count: u32) -> anyhow::Result<BTreeMap<String, f64>> {
    let all = questions(COMMON[0], age, count)?;
    let asked = Asked {
        zone: ZONE.name(),
        start: all.first().context("no question")?.start.to_string(),
        rules: COMMON,
        from: all.iter().map(|question| question.from.to_rfc3339()).collect(),
        patience_seconds: PATIENCE.as_secs_f64(),
    };
    let python =
        std::env::var_os("DATEUTIL_PYTHON").context("DATEUTIL_PYTHON is not set: scripts/bench sets it")?;
    let mut child = Command::new(python)
        .args(["-I", "-c", DATEUTIL])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    // It reads all of it before it answers.
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(&serde_json::to_vec(&asked)?)?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "python-dateutil: {}", output.status);
    let answered: BTreeMap<String, Answered> = serde_json::from_slice(&output.stdout)?;
    let mut medians = BTreeMap::new();
    for rule in COMMON {
        let Answered { median_us, next } = answered
            .get(rule)
            .with_context(|| format!("no answer for {rule}"))?;
        for (question, next) in questions(rule, age, count)?.iter().zip(next) {
            ensure!(*next == answer(question)?, "dateutil says {next} of {question:?}");
        }
        medians.insert(rule.to_owned(), *median_us);
    }
    Ok(medians)
}
