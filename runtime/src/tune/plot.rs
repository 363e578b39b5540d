//! The measured points as a picture: throughput against p99, a line for each setting, the chosen point in a ring.
//!
//! SVG with its own light ground and dark strokes, so that it reads the same on a light and on a dark page. The only file that
//! names `plotters`.
//!
//! Not here: what the points are (`report`).

use std::collections::BTreeMap;
use std::fmt;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::tune::choice::{Measured, milliseconds};
use crate::tune::grid::Setting;
use crate::tune::report::Report;

/// Width of the picture, in pixels.
const WIDTH: u32 = 1040;
/// Width of the chart within it; the rest is for the legend.
const CHART_WIDTH: u32 = 740;
/// Least height; a long legend makes it higher.
const HEIGHT_MIN: i32 = 560;
/// Height of a line of the legend.
const ROW: i32 = 20;
/// Radius of the ring around the chosen point.
const RING: i32 = 9;
const GROUND: RGBColor = RGBColor(0xfb, 0xfb, 0xf9);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xd8);
/// Of the lines, told apart by people who see few colours too.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xb0, 0x8d, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x7a, 0x3e, 0x9d),
    RGBColor(0x60, 0x60, 0x60),
];

/// Where is drawn.
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// The points of each setting, by rising load.
type Lines = BTreeMap<Setting, Vec<(f64, f64)>>;

/// The picture could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw the plot: {0}")]
pub struct PlotError(String);

fn failed(error: impl fmt::Display) -> PlotError {
    PlotError(error.to_string())
}

/// Draws a report; the text of an SVG file.
///
/// # Errors
///
/// [`PlotError`] with the plotting crate's reason.
pub fn draw(report: &Report, title: &str) -> Result<String, PlotError> {
    let lines = lines(&report.measured);
    let rows = i32::try_from(lines.len()).unwrap_or(i32::MAX);
    let height = ROW.saturating_mul(rows.saturating_add(8)).max(HEIGHT_MIN);
    let mut svg = String::new();
    let size = (WIDTH, height.unsigned_abs());
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    area.fill(&GROUND).map_err(failed)?;
    let (left, right) = area.split_horizontally(CHART_WIDTH);
    chart(&left, report, &lines, title)?;
    legend(&right, report, &lines)?;
    area.present().map_err(failed)?;
    drop((area, left, right));
    Ok(svg)
}

fn chart(area: &Area<'_>, report: &Report, lines: &Lines, title: &str) -> Result<(), PlotError> {
    let (least, most, top) = ranges(&report.measured);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18).into_font().color(&INK))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(80)
        .build_cartesian_2d((least..most).log_scale(), 0.0..top)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc("p99 in ms")
        .y_desc("requests a second")
        .x_labels(6)
        .x_label_formatter(&|ms| tick(*ms))
        .y_label_formatter(&|throughput| format!("{throughput:.0}"))
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(GROUND)
        .label_style(("sans-serif", 14).into_font().color(&INK))
        .draw()
        .map_err(failed)?;
    for ((_, points), style) in lines.iter().zip(styles()) {
        let dots: Vec<_> = points
            .iter()
            .map(|point| Circle::new(*point, 3, style.filled()))
            .collect();
        let line = LineSeries::new(points.iter().copied(), style);
        chart.draw_series(line).map_err(failed)?;
        chart.draw_series(dots).map_err(failed)?;
    }
    if let Some(choice) = report.choice() {
        let chosen = place(&report.measured[choice.index]);
        let ring = Circle::new(chosen, RING, INK.stroke_width(2));
        chart.draw_series([ring]).map_err(failed)?;
    }
    Ok(())
}

/// Beside the chart, so that it hides no point.
fn legend(area: &Area<'_>, report: &Report, lines: &Lines) -> Result<(), PlotError> {
    let font = ("sans-serif", 13).into_font().color(&INK);
    let words = |text: String, y| Text::new(text, (30, y - 6), font.clone());
    let mut y = 3 * ROW;
    for ((setting, _), style) in lines.iter().zip(styles()) {
        let dash = PathElement::new([(4, y), (22, y)], style);
        area.draw(&dash).map_err(failed)?;
        area.draw(&words(setting.words(report.cores), y))
            .map_err(failed)?;
        y += ROW;
    }
    if report.choice().is_some() {
        let ring = Circle::new((13, y), RING - 3, INK.stroke_width(2));
        area.draw(&ring).map_err(failed)?;
        area.draw(&words("chosen".to_owned(), y)).map_err(failed)?;
    }
    Ok(())
}

/// A number of milliseconds beside the axis: `0.3`, not `0.30000000000000004`.
fn tick(ms: f64) -> String {
    ((ms * 1e4).round() / 1e4).to_string()
}

/// How the lines are drawn, one after another.
fn styles() -> impl Iterator<Item = ShapeStyle> {
    COLOURS.iter().cycle().map(|colour| colour.stroke_width(2))
}

/// Where a point stands: p99 in milliseconds, throughput.
fn place(one: &Measured) -> (f64, f64) {
    // A logarithmic axis has no zero.
    (milliseconds(one.p99()).max(0.001), one.throughput())
}

fn lines(measured: &[Measured]) -> Lines {
    let mut lines: BTreeMap<Setting, Vec<_>> = BTreeMap::new();
    for one in measured {
        lines
            .entry(one.point.setting)
            .or_default()
            .push((one.point.clients, place(one)));
    }
    let in_order = |mut points: Vec<(u32, (f64, f64))>| {
        points.sort_by_key(|(clients, _)| *clients);
        points.into_iter().map(|(_, place)| place).collect()
    };
    lines
        .into_iter()
        .map(|(setting, points)| (setting, in_order(points)))
        .collect()
}

/// The ends of the axes, with some room around the points.
fn ranges(measured: &[Measured]) -> (f64, f64, f64) {
    let places = || measured.iter().map(place);
    let least = places().map(|(p99, _)| p99).fold(f64::INFINITY, f64::min);
    let most = places().map(|(p99, _)| p99).fold(0.0, f64::max);
    let top = places()
        .map(|(_, throughput)| throughput)
        .fold(0.0, f64::max);
    if measured.is_empty() {
        return (0.1, 10.0, 1.0);
    }
    (least * 0.7, most * 1.6, top.max(f64::MIN_POSITIVE) * 1.12)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::report::tests::report;

    #[test]
    fn the_picture_has_a_line_for_each_setting_and_one_ring() {
        let svg = draw(&report(), "digits <1> & more").unwrap();
        assert!(svg.starts_with("<svg "), "{svg}");
        assert!(svg.trim_end().ends_with("</svg>"), "{svg}");
        // Three settings, of which one has two points: a line each, in the chart and in the legend.
        assert_eq!(
            svg.matches("<polyline fill=\"none\" opacity=\"1\" stroke=\"#0072B2\"")
                .count(),
            2,
            "{svg}"
        );
        assert_eq!(svg.matches("r=\"9\"").count(), 1, "{svg}");
        for words in [
            "2 lanes x 1 thread, batches of at most 4",
            "chosen",
            "p99 in ms",
            "&lt;1&gt; &amp; more",
        ] {
            assert!(svg.contains(words), "{words}: {svg}");
        }
    }

    #[test]
    fn a_tick_is_as_short_as_it_can_be() {
        assert_eq!([0.1 + 0.2, 20.0, 0.001].map(tick), ["0.3", "20", "0.001"]);
    }

    #[test]
    fn without_a_choice_there_is_no_ring() {
        let mut report = report();
        report.goal = crate::tune::Goal::P99(std::time::Duration::ZERO);
        assert!(!draw(&report, "digits").unwrap().contains("r=\"9\""));
    }

    #[test]
    fn points_that_lie_on_each_other_are_drawn_too() {
        let mut report = report();
        report.measured.truncate(1);
        draw(&report, "one point").unwrap();
        report.measured.clear();
        draw(&report, "none").unwrap();
    }
}
