//! The result: rows for people, and the same as JSON.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::Part;
use crate::machine::Machine;
use crate::stats::Runs;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Things a second.
    #[serde(rename = "per second")]
    PerSecond,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Mebibytes.
    #[serde(rename = "MiB")]
    Mebibytes,
    /// Microseconds.
    #[serde(rename = "µs")]
    Microseconds,
    /// Hundredths.
    #[serde(rename = "%")]
    Percent,
}

/// What is drawn, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Chart {
    /// Microseconds over the age of the start, in days.
    NextOccurrence,
    /// Milliseconds over armed reminders.
    Lateness,
}

/// A point of a line in a chart.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// In which.
    pub chart: Chart,
    /// Of which line.
    pub line: String,
    /// What it depends on.
    pub x: f64,
    /// What was measured.
    pub y: f64,
}

/// What a row should reach.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Ours is at least so much.
    AtLeast(f64),
    /// Ours is at most so much.
    AtMost(f64),
    /// Ours is below so much.
    Below(f64),
    /// The ratio of ours to bare is at least so much.
    RatioAtLeast(f64),
    /// The ratio of ours to bare is at most so much.
    RatioAtMost(f64),
}

/// One measured path.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Which.
    pub path: String,
    /// What the numbers count.
    pub unit: Unit,
    /// What ours reaches.
    pub ours: Runs,
    /// What is possible without our code.
    pub bare: Option<Runs>,
    /// What is to be reached, if it is said.
    pub target: Option<Target>,
    /// Whatever else was seen.
    pub details: Value,
    /// What is drawn of it.
    pub points: Vec<Point>,
}

impl Row {
    /// A row without a bare limit and without a target.
    pub fn new(path: impl Into<String>, unit: Unit, ours: Runs) -> Self {
        Self {
            path: path.into(),
            unit,
            ours,
            bare: None,
            target: None,
            details: Value::Null,
            points: Vec::new(),
        }
    }

    /// Draws that line, too.
    pub fn plot(&mut self, chart: Chart, line: &str, points: impl IntoIterator<Item = (f64, f64)>) {
        self.points.extend(points.into_iter().map(|(x, y)| Point {
            chart,
            line: line.to_owned(),
            x,
            y,
        }));
    }

    /// With the bare limit.
    pub fn bare(mut self, bare: Runs) -> Self {
        self.bare = Some(bare);
        self
    }

    /// With a target.
    pub fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Without a target, after all.
    pub fn without_target(mut self) -> Self {
        self.target = None;
        self
    }

    /// With what else was seen.
    pub fn details(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    fn ratio(&self) -> Option<Runs> {
        self.bare.as_ref().map(|bare| self.ours.ratio(bare))
    }

    /// Whether it reaches its target; `None` without one.
    fn reached(&self) -> Option<bool> {
        Some(match self.target? {
            Target::AtLeast(least) => self.ours.median >= least,
            Target::AtMost(most) => self.ours.median <= most,
            Target::Below(limit) => self.ours.median < limit,
            Target::RatioAtLeast(least) => self.ratio()?.median >= least,
            Target::RatioAtMost(most) => self.ratio()?.median <= most,
        })
    }

    fn cells(&self) -> [String; 6] {
        [
            self.path.clone(),
            show(&self.ours, self.unit),
            self.bare
                .as_ref()
                .map_or_else(String::new, |bare| show(bare, self.unit)),
            self.ratio().map_or_else(String::new, |ratio| share(ratio.median)),
            self.target.map_or_else(String::new, |target| match target {
                Target::AtLeast(least) => format!("≥ {}", number(least, self.unit)),
                Target::AtMost(most) => format!("≤ {}", number(most, self.unit)),
                Target::Below(limit) => format!("< {}", number(limit, self.unit)),
                Target::RatioAtLeast(least) => format!("ratio ≥ {least}"),
                Target::RatioAtMost(most) => format!("ratio ≤ {most}"),
            }),
            match self.reached() {
                Some(true) => "ok".to_owned(),
                Some(false) => "below target".to_owned(),
                None => String::new(),
            },
        ]
    }
}

/// Everything that was measured, and on what.
#[derive(Debug)]
pub struct Report {
    machine: Machine,
    quick: bool,
    parts: Vec<(Part, f64, f64, Vec<Row>)>,
}

impl Report {
    /// Nothing yet.
    pub fn new(machine: Machine, quick: bool) -> Self {
        Self {
            machine,
            quick,
            parts: Vec::new(),
        }
    }

    /// Adds a part: its rows, and how busy the machine was with other things before and after, from 0 to 1.
    pub fn add(&mut self, part: Part, busy_before: f64, busy_after: f64, rows: Vec<Row>) {
        self.parts.push((part, busy_before, busy_after, rows));
    }

    /// Whether a target was missed.
    pub fn missed(&self) -> bool {
        self.rows().any(|row| row.reached() == Some(false))
    }

    /// Every point that is to be drawn.
    pub fn points(&self) -> impl Iterator<Item = &Point> {
        self.rows().flat_map(|row| &row.points)
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.parts.iter().flat_map(|(.., rows)| rows)
    }

    /// Writes everything as JSON.
    pub fn write_json(&self, file: &Path) -> anyhow::Result<()> {
        let parts: Vec<Value> = self
            .parts
            .iter()
            .map(|(part, before, after, rows)| {
                let rows: Vec<Value> = rows
                    .iter()
                    .map(|row| {
                        json!({"path": row.path, "unit": row.unit, "ours": row.ours, "bare": row.bare,
                               "ratio": row.ratio(), "target": row.target, "reached": row.reached(),
                               "details": row.details, "points": row.points})
                    })
                    .collect();
                json!({"part": part.name(), "busy_before": before, "busy_after": after, "rows": rows})
            })
            .collect();
        let all = json!({"machine": self.machine, "quick": self.quick, "parts": parts});
        let text = serde_json::to_string_pretty(&all)?;
        std::fs::write(file, format!("{text}\n"))
            .with_context(|| format!("{} cannot be written", file.display()))
    }

    /// Prints the table, in Markdown.
    pub fn print(&self) -> anyhow::Result<()> {
        let head = ["path", "ours", "bare", "ratio", "target", "ok?"].map(str::to_owned);
        let rows: Vec<[String; 6]> = self.rows().map(Row::cells).collect();
        let widths: Vec<usize> = (0..head.len())
            .map(|column| {
                let cells = rows.iter().chain([&head]);
                cells
                    .filter_map(|cells| cells.get(column))
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let line = |cells: &[String; 6]| {
            let padded: Vec<String> = cells
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            format!("| {} |", padded.join(" | "))
        };
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "{}{}\n",
            self.machine.line(),
            if self.quick { "; --quick" } else { "" }
        )?;
        let busy: Vec<String> = self
            .parts
            .iter()
            .map(|(part, before, after, _)| {
                format!(
                    "{} {:.0} % and {:.0} %",
                    part.name(),
                    before * 100.0,
                    after * 100.0
                )
            })
            .collect();
        writeln!(
            out,
            "Busy with other things right before and right after: {}.\n",
            busy.join(", ")
        )?;
        writeln!(out, "{}", line(&head))?;
        writeln!(out, "| {} |", rule.join(" | "))?;
        for cells in &rows {
            writeln!(out, "{}", line(cells))?;
        }
        Ok(())
    }
}

/// The median, and what it lay between.
fn show(runs: &Runs, unit: Unit) -> String {
    let middle = number(runs.median, unit);
    if runs.runs.len() < 2 {
        return middle;
    }
    format!("{middle} ({}–{})", plain(runs.min, unit), plain(runs.max, unit))
}

fn number(value: f64, unit: Unit) -> String {
    let value = plain(value, unit);
    match unit {
        Unit::PerSecond => format!("{value}/s"),
        Unit::Milliseconds => format!("{value} ms"),
        Unit::Microseconds => format!("{value} µs"),
        Unit::Mebibytes => format!("{value} MiB"),
        Unit::Percent => format!("{value} %"),
    }
}

/// As many digits as mean something.
fn plain(value: f64, unit: Unit) -> String {
    match unit {
        Unit::PerSecond => thousands(value),
        Unit::Milliseconds | Unit::Microseconds if value >= 100.0 => thousands(value),
        Unit::Microseconds if value < 10.0 => format!("{value:.2}"),
        Unit::Milliseconds | Unit::Microseconds | Unit::Mebibytes | Unit::Percent => {
            let text = format!("{value:.1}");
            text.strip_suffix(".0")
                .map_or_else(|| text.clone(), str::to_owned)
        }
    }
}

/// A ratio. One of a hundredth and less says by how much.
fn share(ratio: f64) -> String {
    if ratio >= 0.01 {
        format!("{ratio:.2}")
    } else {
        format!("1 / {}", thousands(ratio.recip()))
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_the_digits_that_mean_something() {
        assert_eq!(number(1_234_567.8, Unit::PerSecond), "1,234,568/s");
        assert_eq!(number(999.0, Unit::PerSecond), "999/s");
        assert_eq!(number(4.25, Unit::Milliseconds), "4.2 ms");
        assert_eq!(number(25.0, Unit::Milliseconds), "25 ms");
        assert_eq!(number(1234.0, Unit::Milliseconds), "1,234 ms");
        assert_eq!(show(&Runs::of([1.0, 2.0, 4.0]), Unit::Mebibytes), "2 MiB (1–4)");
    }

    #[test]
    fn a_target_is_reached_by_the_median() {
        let row = |target| Row::new("p", Unit::PerSecond, Runs::of([70.0])).target(target);
        assert_eq!(row(Target::AtLeast(70.0)).reached(), Some(true));
        assert_eq!(row(Target::Below(70.0)).reached(), Some(false));
        assert_eq!(row(Target::AtMost(70.0)).reached(), Some(true));
        let with_bare = |bare| row(Target::RatioAtLeast(0.7)).bare(Runs::of([bare])).reached();
        assert_eq!(with_bare(100.0), Some(true));
        assert_eq!(with_bare(101.0), Some(false));
        let with_bare = |bare| row(Target::RatioAtMost(2.0)).bare(Runs::of([bare])).reached();
        assert_eq!(with_bare(35.0), Some(true));
        assert_eq!(with_bare(34.0), Some(false));
    }
}
