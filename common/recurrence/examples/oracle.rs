//! The side of the oracle comparison that runs this crate: see `oracle/compare.py`.
//!
//! Reads lines `start TAB zone TAB rules TAB most TAB before` (rules with spaces between them) and answers each with
//! `= occurrences`, separated by spaces, or `! reason`.

use std::io::{BufRead, BufWriter, Write};

use recurrence::{Error, Moment, Recurrence, Rule, Start};

fn answer(line: &str) -> Result<Vec<String>, Error> {
    let mut fields = line.split('\t');
    let mut field = || fields.next().unwrap_or_default();
    let (start, zone, rules, most, before) = (field(), field(), field(), field(), field());
    let rules: Vec<Rule> = rules.split(' ').map(Rule::parse).collect::<Result<_, _>>()?;
    let before: Moment = before.parse()?;
    let set = Recurrence::new(Start::new(start.parse()?, zone.parse().ok())?, &rules, &[], &[])?;
    set.range(None, Some(before))?
        .take(most.parse().unwrap_or(0))
        .map(|at| at.map(|at| at.to_string()))
        .collect()
}

fn main() -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        match answer(&line?) {
            Ok(occurrences) => writeln!(out, "= {}", occurrences.join(" "))?,
            Err(error) => writeln!(out, "! {error}")?,
        }
    }
    out.flush()
}
