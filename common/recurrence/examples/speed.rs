//! How long the next occurrence takes, by the age of the start: `cargo run --release -p recurrence --example speed`.
//!
//! For each rule and start the median of many calls from points of time all over a year. `made` is reading the rule and
//! putting the recurrence together.

use std::hint::black_box;
use std::time::{Duration, Instant};

use recurrence::{Error, Moment, Recurrence, Rule, Start, Tz};

const RULES: [&str; 21] = [
    "FREQ=DAILY",
    "FREQ=WEEKLY;BYDAY=MO,WE,FR",
    "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,TH;WKST=SU",
    "FREQ=MONTHLY",
    "FREQ=MONTHLY;BYDAY=-1FR",
    "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
    "FREQ=YEARLY",
    "FREQ=YEARLY;BYWEEKNO=53;BYDAY=FR",
    "FREQ=HOURLY;INTERVAL=7",
    "FREQ=DAILY;COUNT=100000",
    "FREQ=MONTHLY;BYMONTHDAY=-1;COUNT=5000",
    "FREQ=DAILY;INTERVAL=7;BYMONTH=2;BYMONTHDAY=29",
    "FREQ=HOURLY;INTERVAL=23;BYHOUR=5;BYMONTH=2;BYMONTHDAY=29",
    "FREQ=YEARLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=9,10,11,12;BYSETPOS=-1,366,200,100,1",
    "FREQ=MINUTELY;INTERVAL=1441;BYHOUR=0;BYMINUTE=0",
    "FREQ=SECONDLY",
    "FREQ=DAILY;INTERVAL=366;BYMONTH=1;BYMONTHDAY=1",
    "FREQ=WEEKLY;INTERVAL=52;BYMONTH=2;BYDAY=SU",
    "FREQ=HOURLY;INTERVAL=997;BYHOUR=5;BYMONTH=2;BYMONTHDAY=29",
    "FREQ=HOURLY;COUNT=10000",
    "FREQ=SECONDLY;INTERVAL=86399;BYHOUR=9;BYMINUTE=30;BYSECOND=0",
];

const STARTS: [&str; 4] = [
    "2026-11-20T09:30:00",
    "2016-11-20T09:30:00",
    "1996-11-20T09:30:00",
    "1970-01-01T09:30:00",
];

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

fn measure(rule: &str, start: &str) -> Result<(f64, f64), Error> {
    let mut made = Vec::new();
    let mut next = Vec::new();
    for round in 0..400 {
        let began = Instant::now();
        let start = Start::new(start.parse()?, Some(Tz::Europe__Berlin))?;
        let set = Recurrence::new(start, &[Rule::parse(black_box(rule))?], &[], &[])?;
        made.push(began.elapsed());
        let now: Moment = "2026-11-21T12:00:00Z".parse()?;
        let from = match now {
            Moment::Instant(at) => Moment::Instant(at + chrono::TimeDelta::hours(round * 22)),
            other => other,
        };
        // The first call works out the kinds of years it meets.
        set.after(from)?;
        let began = Instant::now();
        black_box(set.after(black_box(from))?);
        next.push(began.elapsed());
    }
    Ok((median(made), median(next)))
}

#[expect(clippy::print_stdout, reason = "its answer")]
fn main() -> Result<(), Error> {
    println!(
        "{:78} {:>8} then next, in µs, for starts of {STARTS:?}",
        "", "made"
    );
    for rule in RULES {
        let mut line = String::new();
        let mut first = 0.0;
        for (index, start) in STARTS.iter().enumerate() {
            let (made, next) = measure(rule, start)?;
            if index == STARTS.len() - 1 {
                first = made;
            }
            line.push_str(&format!(" {next:8.2}"));
        }
        println!("{rule:78} {first:8.2}{line}");
    }
    Ok(())
}
