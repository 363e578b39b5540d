//! The pictures of a report, for its page: which there are, and what each shows. Pure.
//!
//! Not here: how marks and axes are drawn (`crate::plot`).

use crate::bench::figures::{noise_pairs, pairs};
use crate::bench::numbers::{interval, percent};
use crate::bench::outline::has_several;
use crate::bench::report::{Block, Figures, Level, Metric, Phase, Report};
use crate::bench::sentence::{metric_words, slo_words};
use crate::bench::slo::SloReport;
use crate::evidence::ProbeOutcome;
use crate::load::Summary;
use crate::plot::{
    Axis, Colour, FAINT, HAIR, Mark, Picture, PlotError, ROOM, STROKE, ends, log_ends, pen,
    share_words,
};

/// The share of a band that is seen.
const BAND: f64 = 0.18;
/// Steps of a curve for each halving of the distance to 100 %.
const STEPS_PER_HALVING: u32 = 40;
/// Steps of the difference between two curves.
const SHIFT_STEPS: u32 = 200;
/// The difference is shown up to here: the tail of both would flatten all else.
const SHIFT_QUANTILE_MAX: f64 = 0.99;
/// Where an axis of numbers from 1 begins.
const FIRST: f64 = 0.5;

/// The names of the versions' colours in CSS.
const CSS: [&str; 8] = [
    "base", "other", "other2", "other3", "other4", "other5", "other6", "other7",
];

/// A picture and what is said below it.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) caption: String,
    /// The meaning of the colours: a CSS variable and words.
    pub(crate) keys: Vec<(&'static str, String)>,
    /// The `<svg>` element.
    pub(crate) svg: String,
}

/// Every picture that the report has the numbers for.
pub(super) fn plots(report: &Report) -> Result<Vec<Plot>, PlotError> {
    let mut plots: Vec<Plot> = curve(report)?.into_iter().collect();
    if let Some(slo) = &report.slo {
        plots.extend(probes(report, slo)?);
    }
    for level in &report.levels {
        plots.extend(latency(report, level)?);
        for version in 1..report.versions.len() {
            plots.extend(shift(report, level, version)?);
            plots.extend(pair_by_pair(report, level, version)?);
        }
    }
    plots.extend(over_time(report)?);
    Ok(plots)
}

/// The name of a version's colour in CSS.
pub(crate) fn css(version: usize) -> &'static str {
    CSS[version % CSS.len()]
}

fn svg(x: Axis, y: Axis, marks: Vec<Mark>) -> Result<String, PlotError> {
    Picture { x, y, marks }.for_page()
}

fn version_keys(report: &Report) -> Vec<(&'static str, String)> {
    let labels = report.versions.iter().enumerate();
    labels
        .map(|(version, one)| (css(version), one.label.clone()))
        .collect()
}

/// A title; ` with 8 connections` follows where there are several loads.
fn titled(title: &str, report: &Report, level: &Level) -> String {
    match report.levels.len() {
        0 | 1 => title.to_owned(),
        _ => format!("{title} with {}", level.name),
    }
}

fn milliseconds(summary: &Summary, quantile: f64) -> f64 {
    summary.quantile(quantile).as_secs_f64() * 1e3
}

/// A line of reference at this height.
pub(crate) fn level_line(ends: (f64, f64), height: f64) -> Mark {
    let line = vec![(ends.0, height), (ends.1, height)];
    Mark::Line(line, pen(Colour::Ink).width(HAIR).seen(0.7))
}

/// Latency of each version, the rarer the further right.
fn latency(report: &Report, level: &Level) -> Result<Option<Plot>, PlotError> {
    let curve = |figures: &Figures| -> Vec<(f64, f64)> {
        let last = 1.0 - 1.0 / (figures.latencies.count() as f64).max(2.0);
        let steps = figures.latencies.percentiles(STEPS_PER_HALVING);
        steps
            .map(|step| (step.quantile.min(last), step.latency.as_secs_f64() * 1e3))
            .collect()
    };
    let curves: Vec<_> = level.figures.iter().map(curve).collect();
    let counts = level.figures.iter().map(|one| one.latencies.count());
    let most = counts.max().unwrap_or_default() as f64;
    let heights = curves.iter().flatten().map(|(_, ms)| *ms);
    if heights.clone().next().is_none() {
        return Ok(None);
    }
    let x = Axis::nines("share of requests that are not slower", most);
    let y = Axis::log("latency, ms", log_ends(heights));
    let lines = curves.into_iter().enumerate();
    let marks = lines.map(|(version, curve)| Mark::Line(curve, pen(Colour::Line(version))));
    Ok(Some(Plot {
        title: titled("Latency", report, level),
        caption: "Every request that was measured; towards the right, the rarer and slower ones. Lower is better.".to_owned(),
        keys: version_keys(report),
        svg: svg(x, y, marks.collect())?,
    }))
}

/// The title of a picture of a version beside the baseline.
fn titled_of(title: &str, report: &Report, level: &Level, version: usize) -> String {
    let title = titled(title, report, level);
    match has_several(report) {
        true => format!("{title}: {}", report.versions[version].label),
        false => title,
    }
}

/// A version's latency less the baseline's, over the quantiles, within a band.
fn shift(report: &Report, level: &Level, version: usize) -> Result<Option<Plot>, PlotError> {
    let Some((base, other)) = level.figures.first().zip(level.figures.get(version)) else {
        return Ok(None);
    };
    let (base_label, other_label) = (&report.versions[0].label, &report.versions[version].label);
    let colour = Colour::Line(version);
    let confidence = report.setup.confidence;
    let difference = differences(&base.latencies, &other.latencies, confidence);
    if difference.len() < 2 {
        return Ok(None);
    }
    let upper = difference.iter().map(|one| (one.quantile, one.high));
    let lower = difference.iter().rev().map(|one| (one.quantile, one.low));
    let heights = difference.iter().flat_map(|one| [one.low, one.high, 0.0]);
    let y = Axis::linear("difference, ms", ends(heights));
    let middle = difference.iter().map(|one| (one.quantile, one.point));
    let marks = vec![
        Mark::Area(upper.chain(lower).collect(), pen(colour).seen(BAND)),
        level_line((0.0, 1.0), 0.0),
        Mark::Line(middle.collect(), pen(colour)),
    ];
    Ok(Some(Plot {
        title: titled_of("Where the difference lies", report, level, version),
        caption: format!(
            "At each quantile up to {}, below the line {other_label} is quicker. The band holds the whole curve with {} confidence \
             (Dvoretzky-Kiefer-Wolfowitz bounds of both distributions), if requests are independent.",
            percent(SHIFT_QUANTILE_MAX),
            percent(confidence)
        ),
        keys: vec![(css(version), format!("{other_label} less {base_label}"))],
        svg: svg(Axis::shares("quantile"), y, marks)?,
    }))
}

/// A difference at a quantile, in milliseconds.
struct Shift {
    quantile: f64,
    low: f64,
    point: f64,
    high: f64,
}

/// Other less baseline wherever both bounds exist, and the upper is not the slowest request by itself.
///
/// A distribution function is known to within `e = sqrt(ln(2 / a) / 2n)` at once everywhere with probability `1 - a`; each of the
/// two has half of what may fail. So a quantile `q` lies between the samples' at `q - e` and `q + e`.
fn differences(base: &Summary, other: &Summary, confidence: f64) -> Vec<Shift> {
    let width = |summary: &Summary| {
        let share = (4.0 / (1.0 - confidence).max(1e-9)).ln();
        (share / (2.0 * (summary.count() as f64).max(1.0))).sqrt()
    };
    let (of_base, of_other) = (width(base), width(other));
    let widest = of_base.max(of_other);
    let quantiles = (0..=SHIFT_STEPS).map(|step| f64::from(step) / f64::from(SHIFT_STEPS));
    quantiles
        .filter(|quantile| (widest..=1.0 - 2.0 * widest).contains(quantile))
        .filter(|quantile| *quantile <= SHIFT_QUANTILE_MAX)
        .map(|quantile| {
            let base = |shift: f64| milliseconds(base, quantile + shift * of_base);
            let other = |shift: f64| milliseconds(other, quantile + shift * of_other);
            Shift {
                quantile,
                low: other(-1.0) - base(1.0),
                point: other(0.0) - base(0.0),
                high: other(1.0) - base(-1.0),
            }
        })
        .collect()
}

/// The ratio of each pair in order of time: a drift is seen, and how far noise goes.
fn pair_by_pair(report: &Report, level: &Level, version: usize) -> Result<Option<Plot>, PlotError> {
    let (base, other) = (&report.versions[0], &report.versions[version]);
    let colour = Colour::Line(version);
    let metric = report.setup.primary;
    let of_noise = ratios(noise_pairs(&level.blocks), metric);
    let has_noise = !of_noise.is_empty();
    let coloured = |ratios: Vec<(f64, f64)>, colour| {
        ratios
            .into_iter()
            .map(move |(start, ratio)| (start, ratio, colour))
    };
    let mut all: Vec<_> = coloured(of_noise, Colour::Noise)
        .chain(coloured(
            ratios(pairs(&level.blocks, version), metric),
            colour,
        ))
        .collect();
    all.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
    if all.is_empty() {
        return Ok(None);
    }
    let found = level.of(version).find(|one| one.metric == metric);
    let found = found.map(|one| one.ratio.estimate);
    let band = found.and_then(interval);
    let width = (FIRST, all.len() as f64 + FIRST);
    let heights: Vec<f64> = all
        .iter()
        .map(|(_, ratio, _)| *ratio)
        .chain([1.0])
        .chain(band.into_iter().flat_map(|(low, high)| [low, high]))
        .collect();
    let mut marks = vec![level_line(width, 1.0)];
    if let Some((found, (low, high))) = found.zip(band) {
        let (left, right) = width;
        let corners = vec![(left, low), (right, low), (right, high), (left, high)];
        let middle = vec![(left, found.point), (right, found.point)];
        marks.push(Mark::Area(corners, pen(colour).seen(BAND)));
        marks.push(Mark::Line(middle, pen(colour).width(HAIR)));
    }
    let dots = all.iter().enumerate();
    marks.extend(
        dots.map(|(at, (_, ratio, colour))| Mark::Dot((at as f64 + 1.0, *ratio), pen(*colour))),
    );
    let mut keys = vec![(css(version), format!("{} / {}", other.label, base.label))];
    if has_noise {
        keys.push(("noise", format!("{0} / {0}", base.label)));
    }
    let y = Axis::linear("ratio", ends(heights.into_iter()));
    Ok(Some(Plot {
        title: titled_of("Pair by pair", report, level, version),
        caption: format!(
            "Ratio of {} of each pair; the band is the interval of the ratio over all pairs. Dots that climb or fall together are a drift.",
            metric_words(metric)
        ),
        keys,
        svg: svg(Axis::linear("pair, in order of time", width), y, marks)?,
    }))
}

/// The start of each pair and its ratio: other by baseline, or of noise the second by the first.
fn ratios(pairs: Vec<(&Block, &Block)>, metric: Metric) -> Vec<(f64, f64)> {
    let ratio = |(base, other): (&Block, &Block)| {
        let ratio = metric.of(other)? / metric.of(base)?;
        let start = base.start_s.min(other.start_s);
        ratio.is_finite().then_some((start, ratio))
    };
    pairs.into_iter().filter_map(ratio).collect()
}

/// Every block at its time, the warm-up too.
fn over_time(report: &Report) -> Result<Option<Plot>, PlotError> {
    let blocks = || report.levels.iter().flat_map(|level| &level.blocks);
    let end = blocks().map(|block| block.start_s + block.elapsed_s);
    let end = end.fold(0.0, f64::max);
    let top = blocks()
        .map(|block| block.throughput_per_s)
        .fold(0.0, f64::max);
    if end <= 0.0 || top <= 0.0 {
        return Ok(None);
    }
    let start = blocks().map(|block| block.start_s).fold(end, f64::min);
    let x = Axis::linear("seconds", (start, end));
    let y = Axis::linear("answers a second", (0.0, top * (1.0 + ROOM)));
    let mark = |block: &Block| {
        let drawn = match block.phase {
            Phase::WarmUp => pen(Colour::Line(block.version)).seen(FAINT),
            Phase::Noise => pen(Colour::Noise),
            Phase::Pair => pen(Colour::Line(block.version)),
        };
        let height = block.throughput_per_s;
        let ends = vec![
            (block.start_s, height),
            (block.start_s + block.elapsed_s, height),
        ];
        Mark::Line(ends, drawn.width(2 * STROKE))
    };
    let mut keys = version_keys(report);
    if blocks().any(|block| block.phase == Phase::Noise) {
        keys.push(("noise", "noise floor".to_owned()));
    }
    Ok(Some(Plot {
        title: "Throughput over time".to_owned(),
        caption:
            "Each stroke is one block of load. Faint ones are warm-up and are not in the figures."
                .to_owned(),
        keys,
        svg: svg(x, y, blocks().map(mark).collect())?,
    }))
}

/// Latency against throughput, a dot for each load.
fn curve(report: &Report) -> Result<Option<Plot>, PlotError> {
    if report.levels.len() < 2 {
        return Ok(None);
    }
    let quantile = curve_quantile(report.setup.primary);
    let point = |figures: &Figures| {
        let latency = milliseconds(&figures.latencies, quantile);
        (figures.throughput_per_s, latency)
    };
    let all = || {
        report
            .levels
            .iter()
            .flat_map(|level| &level.figures)
            .map(point)
    };
    let wide = all().flat_map(|(rate, _)| [Some(rate.point), rate.low, rate.high]);
    let (_, right) = ends(wide.flatten().collect::<Vec<_>>().into_iter());
    let heights: Vec<f64> = all().map(|(_, latency)| latency).collect();
    let x = Axis::linear("answers a second", (0.0, right));
    let y = Axis::log(
        &format!("latency that {} keep, ms", share_words(quantile)),
        log_ends(heights.into_iter()),
    );
    let mut marks = Vec::new();
    for version in 0..report.versions.len() {
        let of_version = report
            .levels
            .iter()
            .filter_map(|level| level.figures.get(version));
        let points: Vec<_> = of_version.map(point).collect();
        let line = points.iter().map(|(rate, latency)| (rate.point, *latency));
        let line: Vec<_> = line.collect();
        let drawn = pen(Colour::Line(version));
        marks.extend(line.iter().map(|point| Mark::Dot(*point, drawn)));
        marks.push(Mark::Line(line, drawn));
        marks.extend(points.iter().filter_map(|(rate, latency)| {
            let (low, high) = interval(*rate)?;
            Some(Mark::Line(
                vec![(low, *latency), (high, *latency)],
                drawn.width(2 * STROKE).seen(FAINT),
            ))
        }));
    }
    Ok(Some(Plot {
        title: "Latency against throughput".to_owned(),
        caption:
            "A dot for each load; bars are intervals of the throughput. Right and low is better."
                .to_owned(),
        keys: version_keys(report),
        svg: svg(x, y, marks)?,
    }))
}

/// The quantile whose latency is drawn: what is compared first, else p99.
fn curve_quantile(primary: Metric) -> f64 {
    match primary {
        Metric::P50 => 0.5,
        Metric::P90 => 0.9,
        Metric::P99 | Metric::Mean | Metric::Throughput | Metric::Cpu => 0.99,
    }
}

/// The rates that were tried, and what came of them.
fn probes(report: &Report, slo: &SloReport) -> Result<Option<Plot>, PlotError> {
    let all = || slo.versions.iter().flat_map(|version| &version.probes);
    if all().next().is_none() {
        return Ok(None);
    }
    let tries = slo.versions.iter().map(|version| version.probes.len());
    let last = tries.max().unwrap_or_default() as f64 + FIRST;
    let x = Axis::linear("try", (FIRST, last));
    let rates: Vec<f64> = all().map(|probe| probe.rate_per_s).collect();
    let y = Axis::log("requests a second", log_ends(rates.into_iter()));
    let mut marks = Vec::new();
    for (version, found) in slo.versions.iter().enumerate() {
        let drawn = pen(Colour::Line(version));
        let tries = found.probes.iter().enumerate();
        let points: Vec<_> = tries
            .map(|(at, probe)| (at as f64 + 1.0, probe.rate_per_s))
            .collect();
        marks.push(Mark::Line(points.clone(), drawn.width(HAIR).seen(FAINT)));
        let dots = points.iter().zip(&found.probes);
        marks.extend(dots.map(|(point, probe)| match probe.outcome {
            ProbeOutcome::Passed => Mark::Dot(*point, drawn),
            ProbeOutcome::Failed => Mark::Ring(*point, drawn),
            ProbeOutcome::Undecided => Mark::Dot(*point, drawn.seen(FAINT)),
        }));
    }
    Ok(Some(Plot {
        title: format!("Rates that were tried for {}", slo_words(slo.slo)),
        caption: "Full dots kept the limit, rings did not, of faint dots neither was shown."
            .to_owned(),
        keys: version_keys(report),
        svg: svg(x, y, marks)?,
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::sample;

    fn titles(report: &Report) -> Vec<String> {
        let plots = plots(report).unwrap();
        plots.into_iter().map(|plot| plot.title).collect()
    }

    #[test]
    fn each_report_has_the_plots_that_its_numbers_allow() {
        assert_eq!(
            titles(&sample::report()),
            [
                "Latency",
                "Where the difference lies",
                "Pair by pair",
                "Throughput over time"
            ]
        );
        assert_eq!(
            titles(&sample::alone()),
            ["Latency", "Throughput over time"]
        );
        let sweep = titles(&sample::sweep());
        assert_eq!(sweep.len(), 12);
        assert_eq!(
            sweep[..3],
            [
                "Latency against throughput",
                "Rates that were tried for p99 of 20 ms",
                "Latency with 1 connection"
            ]
        );
        assert_eq!(sweep[11], "Throughput over time");
    }

    #[test]
    fn colours_are_css_variables_and_nothing_else() {
        for plot in plots(&sample::sweep()).unwrap() {
            assert!(plot.svg.starts_with("<svg viewBox="), "{}", plot.svg);
            assert!(plot.svg.trim_end().ends_with("</svg>"), "{}", plot.svg);
            assert!(plot.svg.contains("var(--ink)"));
            assert!(!plot.svg.contains("\"#"), "{}", plot.svg);
            assert!(!plot.svg.contains("http"), "{}", plot.svg);
        }
    }

    #[test]
    fn a_report_of_nothing_has_no_plots() {
        let mut report = sample::report();
        report.levels[0].blocks.clear();
        for figures in &mut report.levels[0].figures {
            figures.latencies = Summary::new();
        }
        assert!(titles(&report).is_empty());
        report.levels.clear();
        assert!(titles(&report).is_empty());
    }

    #[test]
    fn points_that_lie_on_each_other_are_drawn_too() {
        let mut report = sample::sweep();
        for level in &mut report.levels {
            for figures in &mut level.figures {
                figures.latencies = Summary::new();
                figures
                    .latencies
                    .record_latency(Duration::from_micros(50), true);
                figures.throughput_per_s.point = 0.0;
            }
            for block in &mut level.blocks {
                block.throughput_per_s = 1.0;
            }
        }
        plots(&report).unwrap();
    }

    #[test]
    fn the_band_of_the_difference_holds_the_curve_and_narrows_with_more_requests() {
        let of = |requests: u32, times: u64| {
            let mut summary = Summary::new();
            for us in 0..requests {
                let latency = Duration::from_micros(u64::from(us % 100) * times + 50);
                summary.record_latency(latency, true);
            }
            summary
        };
        let at_the_middle = |requests| {
            let all = differences(&of(requests, 1), &of(requests, 2), 0.95);
            assert!(
                all.iter()
                    .all(|one| one.low <= one.point && one.point <= one.high)
            );
            let middle = all
                .into_iter()
                .find(|one| (one.quantile - 0.5).abs() < 1e-9);
            middle.unwrap()
        };
        let (few, many) = (at_the_middle(1_000), at_the_middle(100_000));
        assert!((many.point - 0.05).abs() < 0.002, "{}", many.point);
        assert!(many.high - many.low < (few.high - few.low) / 3.0);
        assert!(differences(&of(3, 1), &of(3, 2), 0.95).is_empty());
    }

    #[test]
    fn pairs_are_the_other_version_by_the_baseline_whatever_their_order() {
        let report = sample::report();
        let blocks = &report.levels[0].blocks;
        let pairs = ratios(pairs(blocks, 1), Metric::Throughput);
        assert_eq!(pairs.len(), 10);
        assert!(
            pairs.iter().all(|(_, ratio)| (1.25..1.37).contains(ratio)),
            "{pairs:?}"
        );
        let noise = ratios(noise_pairs(blocks), Metric::Throughput);
        assert_eq!(noise.len(), 5);
        assert!(
            noise.iter().all(|(_, ratio)| (0.97..1.03).contains(ratio)),
            "{noise:?}"
        );
    }
}
