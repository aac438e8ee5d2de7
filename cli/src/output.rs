//! What commands print: a table for people, or JSON for programs.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::ValueEnum;
use serde::Serialize;

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    #[value(alias = "text")]
    Table,
    /// For programs.
    Json,
}

/// Whether a command found what it is there to find. It decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All is well.
    Fine,
    /// Something is wrong, and the answer says what.
    Wrong,
}

impl Verdict {
    pub(crate) fn wrong_if(wrong: bool) -> Self {
        if wrong { Self::Wrong } else { Self::Fine }
    }
}

/// What is wrong with how the command was called. Exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A line of a command's answer.
pub(crate) fn say(line: impl Display) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}") {
        // `| head` has seen enough.
        let code = i32::from(error.kind() != ErrorKind::BrokenPipe);
        std::process::exit(code);
    }
}

/// A line beside the answer: how far it is, or what to do next.
pub(crate) fn note(line: impl Display) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// Prints rows: as an array of objects, or below each other under their names.
pub(crate) fn print<T: Serialize, const N: usize>(
    format: Format,
    rows: &[T],
    names: [&str; N],
    cells: impl Fn(&T) -> [String; N],
) -> anyhow::Result<()> {
    match format {
        Format::Json => json(&rows)?,
        Format::Table if rows.is_empty() => {}
        Format::Table => table(std::iter::once(names.map(str::to_uppercase)).chain(rows.iter().map(cells))),
    }
    Ok(())
}

/// Prints anything as JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    say(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints rows below each other, each column as wide as it must be.
pub(crate) fn table<const N: usize>(rows: impl Iterator<Item = [String; N]>) {
    // What others wrote (a reason, a text from a database) must not move the cursor of the terminal.
    let rows: Vec<[String; N]> = rows.map(|row| row.map(|cell| printable(&cell))).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
        let line: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        say(line.join("  ").trim_end());
    }
}

/// The text without what a terminal would act on.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// The same of several lines.
pub(crate) fn printable_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(printable).collect();
    lines.join("\n")
}

/// A time as it is printed: to the second, in UTC.
pub(crate) fn time(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(
        || "-".to_owned(),
        |at| at.to_rfc3339_opts(SecondsFormat::Secs, true),
    )
}

/// So many of something.
pub(crate) fn count(n: impl TryInto<u64>, what: &str) -> String {
    match n.try_into().unwrap_or(0) {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// A number of seconds, in the unit that suits it.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_does_not_move_the_terminals_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
    }

    #[test]
    fn one_is_not_told_as_many() {
        assert_eq!(
            [count(0, "letter"), count(1, "letter"), count(2, "letter")],
            ["0 letters", "1 letter", "2 letters"]
        );
    }

    #[test]
    fn seconds_are_told_in_the_unit_that_suits_them() {
        for (seconds, expected) in [
            (0.04, "0.0 s"),
            (90.0, "90.0 s"),
            (600.0, "10 min"),
            (86_400.0, "24.0 h"),
            (604_800.0, "7.0 d"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
