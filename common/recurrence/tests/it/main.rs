//! The public face of the crate, as its users see it.

mod calendar;
mod daylight;
mod properties;
mod rfc5545;
mod rrule_crate;

use recurrence::{Moment, Recurrence, Rule, Start};

/// A recurrence of literals; a zone of "" is none.
#[expect(clippy::unwrap_used, reason = "literals of tests")]
fn set(start: &str, zone: &str, rules: &[&str]) -> Recurrence {
    let zone = (!zone.is_empty()).then(|| zone.parse().unwrap());
    let rules: Vec<Rule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    Recurrence::new(Start::new(moment(start), zone).unwrap(), &rules, &[], &[]).unwrap()
}

#[expect(clippy::unwrap_used, reason = "literals of tests")]
fn moment(text: &str) -> Moment {
    text.parse().unwrap()
}

/// The first `most` occurrences.
#[expect(clippy::unwrap_used, reason = "rules of tests")]
fn list(set: &Recurrence, most: usize) -> Vec<String> {
    set.iter().take(most).map(|at| at.unwrap().to_string()).collect()
}
