//! `carillon occurrences`: what a recurrence comes to.

use std::io::{BufWriter, ErrorKind, Write};

use anyhow::Context;
use clap::Args;
use recurrence::{Error, Moment, Recurrence, Rule, Start, Tz};

use crate::output::{Format, Verdict};

/// How many occurrences of a recurrence without an end are printed when nothing says how many.
const OF_ENDLESS: usize = 100;

#[derive(Debug, Args)]
pub(crate) struct Occurrences {
    /// Where it starts: a date (2026-03-01), a local time (2026-03-01T02:30:00), or an instant (…Z, …+01:00).
    #[arg(long)]
    dtstart: Moment,
    /// The IANA time zone that local times are of. Without it they float.
    #[arg(long, value_parser = zone)]
    tz: Option<Tz>,
    /// A rule of RFC 5545, such as FREQ=WEEKLY;BYDAY=MO,TH. May be given several times.
    #[arg(long)]
    rrule: Vec<Rule>,
    /// A date or time to add, of the kind of the start. Several with commas, or given several times.
    #[arg(long, value_delimiter = ',')]
    rdate: Vec<Moment>,
    /// A date or time to leave out, of the kind of the start. Several with commas, or given several times.
    #[arg(long, value_delimiter = ',')]
    exdate: Vec<Moment>,
    /// Only those later than this.
    #[arg(long)]
    after: Option<Moment>,
    /// Only those earlier than this.
    #[arg(long)]
    before: Option<Moment>,
    /// At most so many. Without it, all; but 100 of a recurrence that has no end.
    #[arg(long)]
    limit: Option<usize>,
}

fn zone(name: &str) -> Result<Tz, String> {
    name.parse()
        .map_err(|_| "it is not a time zone of the IANA database, such as Europe/Berlin".to_owned())
}

pub(crate) fn run(arguments: &Occurrences, format: Format) -> anyhow::Result<Verdict> {
    let found = match find(arguments) {
        Ok(found) => found,
        // As for any other argument that is no good: the reason, and exit code 2.
        Err(reason) => {
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{reason}\n")).exit()
        }
    };
    match print(&found, format) {
        // `| head` has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        printed => printed.context("cannot print")?,
    }
    Ok(Verdict::Fine)
}

fn find(arguments: &Occurrences) -> Result<Vec<Moment>, Error> {
    let start = Start::new(arguments.dtstart, arguments.tz)?;
    let set = Recurrence::new(start, &arguments.rrule, &arguments.rdate, &arguments.exdate)?;
    let ends = |rule: &Rule| rule.count().is_some() || rule.until().is_some();
    let limit = match arguments.limit {
        Some(limit) => limit,
        None if arguments.before.is_some() || arguments.rrule.iter().all(ends) => usize::MAX,
        None => OF_ENDLESS,
    };
    set.range(arguments.after, arguments.before)?
        .take(limit)
        .collect()
}

fn print(found: &[Moment], format: Format) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    match format {
        Format::Table => {
            for at in found {
                writeln!(out, "{at}")?;
            }
        }
        // The strings are digits and punctuation that JSON takes as they are.
        Format::Json => {
            let strings: Vec<String> = found.iter().map(|at| format!("\"{at}\"")).collect();
            writeln!(out, "[{}]", strings.join(","))?;
        }
    }
    out.flush()
}
