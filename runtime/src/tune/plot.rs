//! The settings as a picture: answers a second against p99, a dot for each with the interval of its throughput, the chosen one in a ring.
//! Pure.
//!
//! Not here: what the settings are (`report`), how marks and axes are drawn (`crate::plot`).

use crate::bench::Figures;
use crate::plot::{Axis, Colour, HAIR, Mark, Picture, PlotError, ROOM, log_ends, pen};
use crate::tune::report::Report;

/// Draws a report; the text of an SVG file.
///
/// # Errors
///
/// [`PlotError`] with the plotting crate's reason.
pub fn draw(report: &Report, title: &str) -> Result<String, PlotError> {
    let level = report.search.levels.first();
    let figures: &[Figures] = level.map_or(&[], |level| &level.figures);
    let mut marks = Vec::new();
    let mut keys = Vec::new();
    for (number, (setting, one)) in report.settings.iter().zip(figures).enumerate() {
        let pen = pen(Colour::Line(number));
        let (x, y) = place(one);
        let ends = one.throughput_per_s.low.zip(one.throughput_per_s.high);
        marks.extend(ends.map(|(low, high)| Mark::Line(vec![(x, low), (x, high)], pen)));
        marks.push(Mark::Dot((x, y), pen));
        let now = if number == 0 { " (now)" } else { "" };
        let words = format!("{}{now}", setting.words(report.cores));
        keys.push((Mark::Line(Vec::new(), pen), words));
    }
    let chosen = report.chosen();
    let chosen = report
        .settings
        .iter()
        .zip(figures)
        .find(|(setting, _)| Some(**setting) == chosen);
    if let Some((_, figures)) = chosen {
        let ring = Mark::Around(place(figures), pen(Colour::Ink).width(HAIR));
        keys.push((ring.clone(), "chosen".to_owned()));
        marks.push(ring);
    }
    let (x, y) = axes(figures);
    Picture { x, y, marks }.alone(title, &keys)
}

/// The place of a setting: p99 in milliseconds, answers a second.
fn place(figures: &Figures) -> (f64, f64) {
    // A logarithmic axis has no zero, and no end.
    let p99_ms = if figures.p99_ms.is_finite() {
        figures.p99_ms
    } else {
        figures.max_ms
    };
    let p99_ms = if p99_ms.is_finite() { p99_ms } else { 1e6 };
    (p99_ms.max(0.001), figures.throughput_per_s.point)
}

/// Axes with some room around the dots.
fn axes(figures: &[Figures]) -> (Axis, Axis) {
    let p99s = figures.iter().map(|one| place(one).0);
    let highs = figures.iter().map(|one| one.throughput_per_s);
    let top = highs
        .map(|one| one.high.unwrap_or(one.point))
        .fold(0.0, f64::max);
    let top = if top > 0.0 { top } else { 1.0 };
    (
        Axis::log("p99, ms", log_ends(p99s)),
        Axis::linear("requests a second", (0.0, top * (1.0 + ROOM))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::choice::Advice;
    use crate::tune::report::tests::report;

    /// In the SVG.
    const RING: &str = "r=\"20\"";

    #[test]
    fn the_picture_names_every_setting_and_has_one_ring() {
        let svg = draw(&report(), "digits <1> & more").unwrap();
        assert!(svg.starts_with("<svg "), "{svg}");
        assert!(svg.trim_end().ends_with("</svg>"), "{svg}");
        assert_eq!(svg.matches(RING).count(), 1, "{svg}");
        for words in [
            "2 lanes x 1 thread, batches as by default (now)",
            "1 lane x 2 threads, batches of at most 4",
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
        report.advice = Advice::Unknown(String::new());
        assert!(!draw(&report, "digits").unwrap().contains(RING));
    }

    #[test]
    fn settings_without_an_end_or_without_figures_are_drawn_too() {
        let mut report = report();
        let figures = &mut report.search.levels[0].figures;
        (figures[1].p99_ms, figures[1].max_ms) = (f64::INFINITY, f64::INFINITY);
        figures[2].throughput_per_s.point = 0.0;
        draw(&report, "no end").unwrap();
        report.search.levels.clear();
        draw(&report, "none").unwrap();
    }
}
