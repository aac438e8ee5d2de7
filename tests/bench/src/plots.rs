//! Plots of what depends on something, as SVG files that a page can show.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use anyhow::Context as _;
use plotters::prelude::*;

use crate::table::{Chart, Point};

const SIZE: (u32, u32) = (760, 400);
/// Told apart without colours as well: by their order in the legend and the shape of what they show.
const COLOURS: [RGBColor; 3] = [RGBColor(0, 90, 181), RGBColor(220, 90, 20), RGBColor(90, 90, 90)];

impl Chart {
    const ALL: [Self; 2] = [Self::NextOccurrence, Self::Lateness];

    fn file(self) -> &'static str {
        match self {
            Self::NextOccurrence => "next-occurrence.svg",
            Self::Lateness => "lateness.svg",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::NextOccurrence => "Next occurrence, the slowest of eight common rules",
            Self::Lateness => "Lateness of reminders, 1,000 due a second",
        }
    }

    /// Of what is along and of what is up.
    fn axes(self) -> [&'static str; 2] {
        match self {
            Self::NextOccurrence => ["age of DTSTART, days", "µs"],
            Self::Lateness => ["armed reminders", "ms"],
        }
    }
}

/// Writes a file for each chart that has points. Both axes are logarithmic.
pub fn draw<'a>(points: impl Iterator<Item = &'a Point>, folder: &Path) -> anyhow::Result<()> {
    let points: Vec<&Point> = points.collect();
    for chart in Chart::ALL {
        let mut lines: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
        for point in points.iter().filter(|point| point.chart == chart) {
            lines.entry(&point.line).or_default().push((point.x, point.y));
        }
        if !lines.is_empty() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            let file = folder.join(chart.file());
            draw_one(chart, &lines, &file).with_context(|| file.display().to_string())?;
        }
    }
    Ok(())
}

fn draw_one(chart: Chart, lines: &BTreeMap<&str, Vec<(f64, f64)>>, file: &Path) -> anyhow::Result<()> {
    let all = || lines.values().flatten();
    let across = decades(all().map(|point| point.0));
    let up = decades(all().map(|point| point.1));
    let [along, upward] = chart.axes();

    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut context = ChartBuilder::on(&root)
        .caption(chart.title(), ("sans-serif", 18))
        .margin(14)
        .margin_right(44)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(across.log_scale(), up.log_scale())?;
    context
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(along)
        .y_desc(upward)
        .x_label_formatter(&|value| format!("{value}"))
        .y_label_formatter(&|value| format!("{value}"))
        .draw()?;
    for ((name, line), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        context
            .draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(2)).point_size(3))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    context
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    root.present()?;
    Ok(())
}

/// From the power of ten at or below the least to the one at or above the greatest.
fn decades(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (least, most) = values.fold((f64::INFINITY, f64::MIN_POSITIVE), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    let from = 10_f64.powf(least.log10().floor());
    let to = 10_f64.powf(most.log10().ceil());
    from..to.max(from * 10.0)
}
