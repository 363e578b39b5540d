//! The measured points as a picture: throughput against p99, a line for each setting, the chosen point in a ring. Pure.
//!
//! Not here: what the points are (`report`), how marks and axes are drawn (`crate::plot`).

use std::collections::BTreeMap;

use crate::plot::{Axis, Colour, HAIR, Mark, Picture, PlotError, ROOM, log_ends, pen};
use crate::tune::choice::{Measured, milliseconds};
use crate::tune::grid::Setting;
use crate::tune::report::Report;

/// Draws a report; the text of an SVG file.
///
/// # Errors
///
/// [`PlotError`] with the plotting crate's reason.
pub fn draw(report: &Report, title: &str) -> Result<String, PlotError> {
    let mut marks = Vec::new();
    let mut keys = Vec::new();
    for (number, (setting, points)) in lines(&report.measured).into_iter().enumerate() {
        let pen = pen(Colour::Line(number));
        marks.extend(points.iter().map(|point| Mark::Dot(*point, pen)));
        keys.push((Mark::Line(Vec::new(), pen), setting.words(report.cores)));
        marks.push(Mark::Line(points, pen));
    }
    if let Some(choice) = report.choice() {
        let ring = Mark::Around(
            place(&report.measured[choice.index]),
            pen(Colour::Ink).width(HAIR),
        );
        keys.push((ring.clone(), "chosen".to_owned()));
        marks.push(ring);
    }
    let (x, y) = axes(&report.measured);
    Picture { x, y, marks }.alone(title, &keys)
}

/// The place of a point: p99 in milliseconds, throughput.
fn place(one: &Measured) -> (f64, f64) {
    // A logarithmic axis has no zero.
    (milliseconds(one.p99()).max(0.001), one.throughput())
}

/// The points of each setting, by rising load.
fn lines(measured: &[Measured]) -> BTreeMap<Setting, Vec<(f64, f64)>> {
    let mut by_load: Vec<_> = measured.iter().collect();
    by_load.sort_by_key(|one| one.point.clients);
    let mut lines: BTreeMap<Setting, Vec<_>> = BTreeMap::new();
    for one in by_load {
        lines.entry(one.point.setting).or_default().push(place(one));
    }
    lines
}

/// Axes with some room around the points.
fn axes(measured: &[Measured]) -> (Axis, Axis) {
    let (p99s, throughputs): (Vec<f64>, Vec<f64>) = measured.iter().map(place).unzip();
    let top = throughputs.into_iter().fold(0.0, f64::max);
    let top = if top > 0.0 { top } else { 1.0 };
    (
        Axis::log("p99, ms", log_ends(p99s.into_iter())),
        Axis::linear("requests a second", (0.0, top * (1.0 + ROOM))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::report::tests::report;

    /// In the SVG.
    const RING: &str = "r=\"20\"";

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
        assert_eq!(svg.matches(RING).count(), 1, "{svg}");
        for words in [
            "2 lanes x 1 thread, batches of at most 4",
            "chosen",
            "p99, ms",
            "&lt;1&gt; &amp; more",
        ] {
            assert!(svg.contains(words), "{words}: {svg}");
        }
    }

    #[test]
    fn without_a_choice_there_is_no_ring() {
        let mut report = report();
        report.goal = crate::tune::Goal::P99(std::time::Duration::ZERO);
        assert!(!draw(&report, "digits").unwrap().contains(RING));
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
