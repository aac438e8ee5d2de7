//! The report: a page that needs nothing beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;

use crate::journal::{Journal, Sample};

/// How wide a rate is looked at.
const WINDOW_SECONDS: usize = 5;
const LEFT: f64 = 130.0;
const PANEL_HEIGHT: f64 = 70.0;

/// What the template is given.
#[derive(Debug, Serialize)]
struct Page {
    seed: u64,
    seconds: u64,
    version: &'static str,
    findings: Vec<String>,
    figures: Vec<(String, String)>,
    width: f64,
    height: f64,
    left: f64,
    bars: Vec<Bar>,
    lanes: [Label; 2],
    panels: Vec<Panel>,
    ticks: Vec<Tick>,
    recoveries: Vec<Recovery>,
    faults: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Bar {
    lane: &'static str,
    x: f64,
    y: f64,
    width: f64,
    text: String,
}

#[derive(Debug, Serialize)]
struct Label {
    y: f64,
    text: &'static str,
}

#[derive(Debug, Serialize)]
struct Panel {
    y: f64,
    height: f64,
    text: &'static str,
    most: String,
    lines: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Tick {
    x: f64,
    text: String,
}

#[derive(Debug, Serialize)]
struct Row {
    from: String,
    until: String,
    text: String,
    recovered: String,
}

#[derive(Debug, Serialize)]
struct Recovery {
    kind: &'static str,
    count: usize,
    median: String,
    most: String,
}

/// Writes the page, and tells where.
///
/// # Panics
/// When it cannot be written.
pub fn write(journal: &Journal, seed: u64, lasting: Duration) -> PathBuf {
    let page = page(journal, seed, lasting);
    let path = folder().join("report.html");
    std::fs::write(&path, page).unwrap();
    path
}

/// `target/chaos`, whatever the target is.
fn folder() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).expect("target/debug/deps/test");
    let folder = target.join("chaos");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn page(journal: &Journal, seed: u64, lasting: Duration) -> String {
    let (samples, faults) = (journal.samples(), journal.faults());
    let seconds = samples
        .iter()
        .map(|sample| sample.at)
        .chain(faults.iter().map(|fault| fault.until))
        .max()
        .unwrap_or(lasting)
        .as_secs_f64();
    let scale = (1000.0 / seconds).clamp(3.0, 8.0);
    let x = |at: Duration| (LEFT + at.as_secs_f64() * scale).round();
    let lanes: [&str; 2] = ["services", "parts"];
    let lane_y = |lane: &str| if lane == "services" { 4.0 } else { 20.0 };
    let bars: Vec<Bar> = faults
        .iter()
        .map(|fault| Bar {
            lane: fault.lane,
            x: x(fault.from),
            y: lane_y(fault.lane),
            width: (x(fault.until) - x(fault.from)).max(2.0),
            text: format!("{:.0} s: {}", fault.from.as_secs_f64(), fault.text),
        })
        .collect();
    let rates: [(&str, Vec<Option<f64>>); 3] = [
        ("API answers", rate(&samples, |sample| Some(sample.answers))),
        ("mails", rate(&samples, |sample| sample.mails)),
        ("webhooks", rate(&samples, |sample| Some(sample.webhooks))),
    ];
    let panels: Vec<Panel> = (0_u8..)
        .zip(&rates)
        .map(|(n, (text, rate))| {
            let y = 40.0 + f64::from(n) * (PANEL_HEIGHT + 10.0);
            panel(text, y, &samples, rate, x)
        })
        .collect();
    let height = 40.0 + 3.0 * (PANEL_HEIGHT + 10.0) + 24.0;
    let every = if seconds > 300.0 { 60 } else { 10 };
    let ticks: Vec<Tick> = (0..=seconds as u64)
        .step_by(every)
        .map(|at| Tick {
            x: x(Duration::from_secs(at)),
            text: format!("{at} s"),
        })
        .collect();
    let recovered: Vec<Option<f64>> = faults
        .iter()
        .map(|fault| recovery(&samples, fault.until))
        .collect();
    let rows: Vec<Row> = faults
        .iter()
        .zip(&recovered)
        .map(|(fault, recovered)| Row {
            from: format!("{:.1}", fault.from.as_secs_f64()),
            until: format!("{:.1}", fault.until.as_secs_f64()),
            text: fault.text.clone(),
            recovered: recovered.map_or_else(|| "not seen".to_owned(), |seconds| format!("{seconds:.0}")),
        })
        .collect();
    let mut kinds: BTreeMap<&'static str, Vec<Option<f64>>> = BTreeMap::new();
    for (fault, recovered) in faults.iter().zip(recovered) {
        kinds.entry(fault.kind).or_default().push(recovered);
    }
    let recoveries: Vec<Recovery> = kinds.into_iter().map(|(kind, all)| summary(kind, &all)).collect();
    let mut environment = Environment::new();
    environment
        .add_template("report.html", include_str!("report.html"))
        .unwrap();
    let template = environment.get_template("report.html").unwrap();
    let page = Page {
        seed,
        seconds: lasting.as_secs(),
        version: env!("CARGO_PKG_VERSION"),
        findings: journal.findings(),
        figures: journal.figures(),
        width: x(Duration::from_secs_f64(seconds)) + 20.0,
        height,
        left: LEFT,
        bars,
        lanes: lanes.map(|text| Label {
            y: lane_y(text) + 8.0,
            text,
        }),
        panels,
        ticks,
        recoveries,
        faults: rows,
    };
    template.render(Serde(&page)).unwrap()
}

/// So many a second, over the window that ends with each sample; nothing where it cannot be told.
fn rate(samples: &[Sample], of: impl Fn(&Sample) -> Option<u64>) -> Vec<Option<f64>> {
    (0..samples.len())
        .map(|n| {
            let (from, until) = (samples.get(n.checked_sub(WINDOW_SECONDS)?)?, samples.get(n)?);
            let count = of(until)?.saturating_sub(of(from)?);
            Some(count as f64 / (until.at - from.at).as_secs_f64())
        })
        .collect()
}

fn panel(
    text: &'static str,
    y: f64,
    samples: &[Sample],
    rate: &[Option<f64>],
    x: impl Fn(Duration) -> f64,
) -> Panel {
    let most = rate.iter().flatten().copied().fold(1.0, f64::max);
    let mut lines = vec![String::new()];
    for (sample, rate) in samples.iter().zip(rate) {
        match (rate, lines.last_mut()) {
            (Some(rate), Some(line)) => {
                let at = y + PANEL_HEIGHT * (1.0 - rate / most);
                line.push_str(&format!("{},{at:.1} ", x(sample.at)));
            }
            // What is not known breaks the line.
            _ => lines.push(String::new()),
        }
    }
    lines.retain(|line| !line.is_empty());
    Panel {
        y,
        height: PANEL_HEIGHT,
        text,
        most: format!("{most:.0}/s"),
        lines,
    }
}

/// Seconds from the end of a fault until mails and webhooks come as they usually do.
fn recovery(samples: &[Sample], until: Duration) -> Option<f64> {
    let rates = rate(samples, |sample| Some(sample.mails? + sample.webhooks));
    let mut known: Vec<f64> = rates.iter().flatten().copied().collect();
    known.sort_by(f64::total_cmp);
    let usual = known.get(known.len() / 2)?;
    samples
        .iter()
        .zip(&rates)
        .filter(|(sample, _)| sample.at >= until)
        .find(|(_, rate)| rate.is_some_and(|rate| rate >= 0.95 * usual))
        .map(|(sample, _)| (sample.at - until).as_secs_f64().floor())
}

fn summary(kind: &'static str, all: &[Option<f64>]) -> Recovery {
    let mut seen: Vec<f64> = all.iter().flatten().copied().collect();
    seen.sort_by(f64::total_cmp);
    let text =
        |seconds: Option<&f64>| seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.0}"));
    Recovery {
        kind,
        count: all.len(),
        median: text(seen.get(seen.len() / 2)),
        most: text(seen.last()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Struck;

    #[test]
    fn the_page_tells_of_faults_findings_and_recoveries_and_escapes_them() {
        let journal = Journal::new();
        for at in 0..60 {
            let webhooks = if (20..30).contains(&at) { 400 } else { at * 20 };
            journal.sample(Sample {
                at: Duration::from_secs(at),
                answers: at * 8,
                mails: (at != 25).then_some(at * 5),
                webhooks,
            });
        }
        journal.struck(Struck {
            lane: "parts",
            kind: "restart",
            text: "restart: <kafka>".to_owned(),
            from: Duration::from_secs(20),
            until: Duration::from_secs(30),
        });
        journal.finding("lost: \"1 < 2\"".to_owned());
        let page = page(&journal, 7, Duration::from_secs(60));
        assert!(
            page.contains("CHAOS_SEED=7") && page.contains("1 findings"),
            "{page}"
        );
        assert!(
            page.contains("restart: &lt;kafka&gt;") && page.contains("1 &lt; 2"),
            "{page}"
        );
        assert_eq!(
            page.matches("<polyline").count(),
            5,
            "the mails' line is broken twice"
        );
    }
}
