//! Pictures of a report: SVG for a page that says what the colours are. Pure.
//!
//! A picture is a list of marks in the units of the data. Colours are drawn as numbers that nothing else uses, and then become CSS
//! variables (`var(--base)`), so that the page decides on light and dark. Besides `tune`, the only file that names `plotters`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::bench::axes::{Axis, ROOM, ends, log_ends, share_words, trimmed};
use crate::bench::numbers::{interval, percent, short};
use crate::bench::report::{Block, Figures, Level, Metric, Phase, Report};
use crate::bench::sentence::{metric_words, slo_words};
use crate::bench::slo::SloReport;
use crate::evidence::{ProbeOutcome, Slo};
use crate::load::Summary;

/// Size that is drawn at, more than twice what is shown: places are whole pixels, and a curve must not have stairs.
const SIZE: (u32, u32) = (1440, 800);
const FONT: i32 = 43;
const MARGIN: i32 = 24;
/// Room at the top for the name of the upright axis.
const HEAD: i32 = 76;
const LABELS_BELOW: i32 = 116;
const LABELS_LEFT: i32 = 160;
/// Half of a label may stand beyond the right end of its axis.
const MARGIN_RIGHT: i32 = 64;
const STROKE: u32 = 4;
const HAIR: u32 = 2;
const DOT: u32 = 9;
/// How much of a band is seen.
const BAND: f64 = 0.18;
/// How much is seen of what does not count, like a warm-up.
const FAINT: f64 = 0.45;
/// Steps of a curve for each halving of the distance to 100 %.
const STEPS_PER_HALVING: u32 = 40;
/// Steps of the difference between two curves.
const SHIFT_STEPS: u32 = 200;
/// The difference is shown up to here: the tail of both would flatten all else.
const SHIFT_QUANTILE_MAX: f64 = 0.99;
/// Where an axis of numbers from 1 begins.
const FIRST: f64 = 0.5;

const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);
const BASE: RGBColor = RGBColor(3, 3, 3);
const OTHER: RGBColor = RGBColor(4, 4, 4);
const NOISE: RGBColor = RGBColor(5, 5, 5);
const LIMIT: RGBColor = RGBColor(6, 6, 6);
/// What each colour is called in CSS.
const NAMES: [(RGBColor, &str); 6] = [
    (INK, "ink"),
    (GRID, "grid"),
    (BASE, "base"),
    (OTHER, "other"),
    (NOISE, "noise"),
    (LIMIT, "limit"),
];

/// A picture could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw the plot: {0}")]
pub struct PlotError(String);

fn failed(error: impl fmt::Display) -> PlotError {
    PlotError(error.to_string())
}

/// A picture and what is said below it.
#[derive(Debug)]
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) caption: String,
    /// What the colours stand for: a CSS variable and words.
    pub(super) keys: Vec<(&'static str, String)>,
    /// The `<svg>` element.
    pub(super) svg: String,
}

/// Every picture that the report has the numbers for.
pub(super) fn plots(report: &Report) -> Result<Vec<Plot>, PlotError> {
    let mut plots: Vec<Plot> = curve(report)?.into_iter().collect();
    if let Some(slo) = &report.slo {
        plots.extend(probes(report, slo)?);
    }
    for level in &report.levels {
        plots.extend(latency(report, level)?);
        plots.extend(shift(report, level)?);
        plots.extend(pairs(report, level)?);
    }
    plots.extend(over_time(report)?);
    Ok(plots)
}

/// Something that is drawn, in the units of the axes.
enum Mark {
    Line(Vec<(f64, f64)>, Pen),
    Area(Vec<(f64, f64)>, Pen),
    Dot((f64, f64), Pen),
    Ring((f64, f64), Pen),
}

/// How it is drawn.
#[derive(Clone, Copy)]
struct Pen {
    colour: RGBColor,
    seen: f64,
    width: u32,
}

fn pen(colour: RGBColor) -> Pen {
    Pen {
        colour,
        seen: 1.0,
        width: STROKE,
    }
}

impl Pen {
    fn seen(self, seen: f64) -> Self {
        Self { seen, ..self }
    }

    fn width(self, width: u32) -> Self {
        Self { width, ..self }
    }

    fn style(self) -> ShapeStyle {
        self.colour.mix(self.seen).stroke_width(self.width)
    }
}

/// An axis as the plotting crate sees it: places only.
struct Places<'a>(&'a Axis);

impl Ranged for Places<'_> {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range()).map(place, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.0.ticks.iter().map(|(at, _)| *at).collect()
    }

    fn range(&self) -> Range<f64> {
        self.0.ends.0..self.0.ends.1
    }
}

impl ValueFormatter<f64> for Places<'_> {
    fn format_ext(&self, place: &f64) -> String {
        let near = |(at, _): &&(f64, String)| (at - place).abs() < 1e-9;
        let found = self.0.ticks.iter().find(near);
        found.map_or_else(String::new, |(_, label)| label.clone())
    }
}

/// Draws marks between axes.
fn draw(x: &Axis, y: &Axis, marks: &[Mark]) -> Result<String, PlotError> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let font = ("sans-serif", FONT).into_font().color(&INK.mix(0.75));
    let name = font.pos(Pos::new(HPos::Left, VPos::Top));
    area.draw(&Text::new(
        y.name.clone(),
        (MARGIN, MARGIN / 2),
        name.clone(),
    ))
    .map_err(failed)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(MARGIN)
        .margin_top(HEAD)
        .margin_right(MARGIN_RIGHT)
        .x_label_area_size(LABELS_BELOW)
        .y_label_area_size(LABELS_LEFT)
        .build_cartesian_2d(Places(x), Places(y))
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc(x.name.clone())
        .axis_style(GRID.stroke_width(HAIR))
        .bold_line_style(GRID.mix(0.6).stroke_width(HAIR))
        .light_line_style(GRID.mix(0.0))
        .label_style(name.clone())
        .axis_desc_style(name)
        .draw()
        .map_err(failed)?;
    let place = |(at, height): &(f64, f64)| (x.scale.place(*at), y.scale.place(*height));
    let places = |points: &[(f64, f64)]| points.iter().map(place).collect::<Vec<_>>();
    for mark in marks {
        match mark {
            Mark::Line(points, pen) => {
                chart.draw_series([PathElement::new(places(points), pen.style())])
            }
            Mark::Area(points, pen) => {
                chart.draw_series([Polygon::new(places(points), pen.style().filled())])
            }
            Mark::Dot(point, pen) => {
                chart.draw_series([Circle::new(place(point), DOT, pen.style().filled())])
            }
            Mark::Ring(point, pen) => {
                chart.draw_series([Circle::new(place(point), DOT, pen.style())])
            }
        }
        .map_err(failed)?;
    }
    area.present().map_err(failed)?;
    drop((chart, area));
    Ok(themed(&svg))
}

/// Gives colours their CSS names, and the size to the page.
fn themed(svg: &str) -> String {
    let (width, height) = SIZE;
    let head = format!("<svg viewBox=\"0 0 {width} {height}\" width=\"100%\">");
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    // Quotes within text are escaped, so that only attributes match.
    NAMES.iter().fold(head + body, |svg, (colour, name)| {
        let RGBColor(red, green, blue) = colour;
        let drawn = format!("\"#{red:02X}{green:02X}{blue:02X}\"");
        svg.replace(&drawn, &format!("\"var(--{name})\""))
    })
}

/// The baseline has one colour, the other version another.
fn colour(version: usize) -> RGBColor {
    if version == 0 { BASE } else { OTHER }
}

fn css(version: usize) -> &'static str {
    if version == 0 { "base" } else { "other" }
}

fn version_keys(report: &Report) -> Vec<(&'static str, String)> {
    let labels = report.versions.iter().enumerate();
    labels
        .map(|(version, one)| (css(version), one.label.clone()))
        .collect()
}

/// ` with 8 connections` where there are several loads.
fn with_load(report: &Report, level: &Level) -> String {
    if report.levels.len() > 1 {
        format!(" with {}", level.name)
    } else {
        String::new()
    }
}

fn milliseconds(summary: &Summary, quantile: f64) -> f64 {
    summary.quantile(quantile).as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "for a picture")]
fn number(count: u64) -> f64 {
    count as f64
}

/// Latency of each version, the rarer the further right.
fn latency(report: &Report, level: &Level) -> Result<Option<Plot>, PlotError> {
    let curve = |figures: &Figures| -> Vec<(f64, f64)> {
        let last = 1.0 - 1.0 / number(figures.latencies.count()).max(2.0);
        let steps = figures.latencies.percentiles(STEPS_PER_HALVING);
        let ms = |latency: std::time::Duration| latency.as_secs_f64() * 1e3;
        steps
            .map(|step| (step.quantile.min(last), ms(step.latency)))
            .collect()
    };
    let curves: Vec<_> = level.figures.iter().map(curve).collect();
    let most = level
        .figures
        .iter()
        .map(|figures| figures.latencies.count());
    let most = number(most.max().unwrap_or_default());
    let heights = curves.iter().flatten().map(|(_, ms)| *ms);
    if heights.clone().next().is_none() {
        return Ok(None);
    }
    let x = Axis::nines("share of requests that are not slower", most);
    let y = Axis::log("latency, ms", log_ends(heights));
    let lines = curves.iter().enumerate();
    let marks: Vec<Mark> = lines
        .map(|(version, curve)| Mark::Line(curve.clone(), pen(colour(version))))
        .collect();
    Ok(Some(Plot {
        title: format!("Latency{}", with_load(report, level)),
        caption: "Every request that was measured; towards the right, the rarer and slower ones. Lower is better.".to_owned(),
        keys: version_keys(report),
        svg: draw(&x, &y, &marks)?,
    }))
}

/// The other version's latency less the baseline's, over the quantiles, within a band.
fn shift(report: &Report, level: &Level) -> Result<Option<Plot>, PlotError> {
    let [base, other, ..] = level.figures.as_slice() else {
        return Ok(None);
    };
    let confidence = report.setup.confidence;
    let difference = differences(&base.latencies, &other.latencies, confidence);
    if difference.len() < 2 {
        return Ok(None);
    }
    let upper = difference.iter().map(|one| (one.quantile, one.high));
    let lower = difference.iter().rev().map(|one| (one.quantile, one.low));
    let heights = difference.iter().flat_map(|one| [one.low, one.high, 0.0]);
    let x = Axis::linear("quantile", (0.0, 1.0), share_words);
    let y = Axis::linear("difference, ms", ends(heights), trimmed);
    let middle = difference.iter().map(|one| (one.quantile, one.point));
    let marks = [
        Mark::Area(upper.chain(lower).collect(), pen(OTHER).seen(BAND)),
        Mark::Line(vec![(0.0, 0.0), (1.0, 0.0)], pen(INK).width(HAIR).seen(0.7)),
        Mark::Line(middle.collect(), pen(OTHER)),
    ];
    let labels: Vec<&str> = report
        .versions
        .iter()
        .map(|one| one.label.as_str())
        .collect();
    let [base, other, ..] = labels.as_slice() else {
        return Ok(None);
    };
    Ok(Some(Plot {
        title: format!("Where the difference lies{}", with_load(report, level)),
        caption: format!(
            "At each quantile up to {}, below the line {other} is quicker. The band holds the whole curve with {} confidence \
             (Dvoretzky-Kiefer-Wolfowitz bounds of both distributions), if requests are independent.",
            percent(SHIFT_QUANTILE_MAX),
            percent(confidence)
        ),
        keys: vec![("other", format!("{other} less {base}"))],
        svg: draw(&x, &y, &marks)?,
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
        (share / (2.0 * number(summary.count()).max(1.0))).sqrt()
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
fn pairs(report: &Report, level: &Level) -> Result<Option<Plot>, PlotError> {
    let [base, other, ..] = report.versions.as_slice() else {
        return Ok(None);
    };
    let metric = report.setup.primary;
    let of_noise = ratios(&level.blocks, Phase::Noise, metric);
    let of_pairs = ratios(&level.blocks, Phase::Pair, metric);
    let mut all: Vec<(f64, f64, RGBColor)> = Vec::new();
    all.extend(
        of_noise
            .iter()
            .map(|(start, ratio)| (*start, *ratio, NOISE)),
    );
    all.extend(
        of_pairs
            .iter()
            .map(|(start, ratio)| (*start, *ratio, OTHER)),
    );
    all.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
    if all.is_empty() {
        return Ok(None);
    }
    let found = level.comparisons.iter().find(|one| one.metric == metric);
    let found = found.map(|one| one.ratio.estimate);
    let band = found.and_then(interval);
    let last = all.iter().fold(FIRST, |at, _| at + 1.0);
    let heights = all.iter().map(|(_, ratio, _)| *ratio);
    let heights = heights
        .chain([1.0])
        .chain(band.into_iter().flat_map(|(low, high)| [low, high]));
    let x = Axis::linear("pair, in order of time", (FIRST, last), trimmed);
    let values: Vec<f64> = heights.collect();
    let y = Axis::linear("ratio", ends(values.iter().copied()), trimmed);
    let across = |height: f64| vec![(FIRST, height), (last, height)];
    let mut marks = vec![Mark::Line(across(1.0), pen(INK).width(HAIR).seen(0.7))];
    if let Some((low, high)) = band {
        let corners = vec![(FIRST, low), (last, low), (last, high), (FIRST, high)];
        marks.push(Mark::Area(corners, pen(OTHER).seen(BAND)));
        marks.extend(found.map(|found| Mark::Line(across(found.point), pen(OTHER).width(HAIR))));
    }
    let mut at = 0.0;
    for (_, ratio, colour) in &all {
        at += 1.0;
        marks.push(Mark::Dot((at, *ratio), pen(*colour)));
    }
    let mut keys = vec![("other", format!("{} / {}", other.label, base.label))];
    if !of_noise.is_empty() {
        keys.push(("noise", format!("{0} / {0}", base.label)));
    }
    Ok(Some(Plot {
        title: format!("Pair by pair{}", with_load(report, level)),
        caption: format!(
            "Ratio of {} of each pair; the band is the interval of their mean. Dots that climb or fall together are a drift.",
            metric_words(metric)
        ),
        keys,
        svg: draw(&x, &y, &marks)?,
    }))
}

/// When each pair began and its ratio: other by baseline, or of noise the second by the first.
fn ratios(blocks: &[Block], phase: Phase, metric: Metric) -> Vec<(f64, f64)> {
    let mut of_pair: BTreeMap<u32, Vec<&Block>> = BTreeMap::new();
    for block in blocks.iter().filter(|block| block.phase == phase) {
        of_pair.entry(block.pair).or_default().push(block);
    }
    let ratio = |blocks: Vec<&Block>| {
        let (base, other): (Vec<&Block>, Vec<&Block>) = match phase {
            Phase::Pair => blocks.iter().partition(|block| block.version == 0),
            Phase::Noise | Phase::WarmUp => {
                let (first, second) = blocks.split_at(blocks.len() / 2);
                (first.to_vec(), second.to_vec())
            }
        };
        let ratio = mean(&other, metric)? / mean(&base, metric)?;
        let start = blocks.first()?.start_s;
        ratio.is_finite().then_some((start, ratio))
    };
    of_pair.into_values().filter_map(ratio).collect()
}

fn mean(blocks: &[&Block], metric: Metric) -> Option<f64> {
    let values: Option<Vec<f64>> = blocks.iter().map(|block| value(block, metric)).collect();
    let values = values.filter(|values| !values.is_empty())?;
    let of = values.iter().fold(0.0, |of, _| of + 1.0);
    Some(values.iter().sum::<f64>() / of)
}

fn value(block: &Block, metric: Metric) -> Option<f64> {
    match metric {
        Metric::Throughput => Some(block.throughput_per_s),
        Metric::Mean => Some(block.mean_ms),
        Metric::P50 => Some(block.p50_ms),
        Metric::P90 => Some(block.p90_ms),
        Metric::P99 => Some(block.p99_ms),
        Metric::Cpu => block.cpu_s.map(|cpu| cpu / number(block.answers)),
    }
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
    let x = Axis::linear("seconds", (start, end), trimmed);
    let y = Axis::linear("answers a second", (0.0, top * (1.0 + ROOM)), short);
    let mark = |block: &Block| {
        let drawn = match block.phase {
            Phase::WarmUp => pen(colour(block.version)).seen(FAINT),
            Phase::Noise => pen(NOISE),
            Phase::Pair => pen(colour(block.version)),
        };
        let height = block.throughput_per_s;
        let ends = vec![
            (block.start_s, height),
            (block.start_s + block.elapsed_s, height),
        ];
        Mark::Line(ends, drawn.width(2 * STROKE))
    };
    let marks: Vec<Mark> = blocks().map(mark).collect();
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
        svg: draw(&x, &y, &marks)?,
    }))
}

/// Latency against throughput, a dot for each load.
fn curve(report: &Report) -> Result<Option<Plot>, PlotError> {
    if report.levels.len() < 2 {
        return Ok(None);
    }
    let slo = report.slo.as_ref().map(|slo| slo.slo);
    let quantile = curve_quantile(slo, report.setup.primary);
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
    let limit = slo.map(|slo| slo.limit_ms);
    let heights: Vec<f64> = all().map(|(_, latency)| latency).chain(limit).collect();
    let x = Axis::linear("answers a second", (0.0, right), short);
    let y = Axis::log(
        &format!("latency that {} keep, ms", share_words(quantile)),
        log_ends(heights.into_iter()),
    );
    let mut marks = Vec::new();
    if let Some(limit) = limit {
        marks.push(Mark::Line(
            vec![(0.0, limit), (right, limit)],
            pen(LIMIT).width(HAIR),
        ));
    }
    for version in 0..report.versions.len() {
        let of_version = report
            .levels
            .iter()
            .filter_map(|level| level.figures.get(version));
        let points: Vec<_> = of_version.map(point).collect();
        let line = points.iter().map(|(rate, latency)| (rate.point, *latency));
        let line: Vec<_> = line.collect();
        let drawn = pen(colour(version));
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
    let mut keys = version_keys(report);
    keys.extend(slo.map(|slo| ("limit", slo_words(slo))));
    Ok(Some(Plot {
        title: "Latency against throughput".to_owned(),
        caption:
            "A dot for each load; bars are intervals of the throughput. Right and low is better."
                .to_owned(),
        keys,
        svg: draw(&x, &y, &marks)?,
    }))
}

/// Which latency is drawn: that of the limit, else what is compared first, else p99.
fn curve_quantile(slo: Option<Slo>, primary: Metric) -> f64 {
    match (slo, primary) {
        (Some(slo), _) => slo.quantile,
        (None, Metric::P50) => 0.5,
        (None, Metric::P90) => 0.9,
        (None, Metric::P99 | Metric::Mean | Metric::Throughput | Metric::Cpu) => 0.99,
    }
}

/// Which rates were tried, and what came of them.
fn probes(report: &Report, slo: &SloReport) -> Result<Option<Plot>, PlotError> {
    let all = || slo.versions.iter().flat_map(|version| &version.probes);
    if all().next().is_none() {
        return Ok(None);
    }
    let tries = slo.versions.iter().map(|version| version.probes.iter());
    let last = tries.map(|probes| probes.fold(FIRST, |at, _| at + 1.0));
    let last = last.fold(0.0, f64::max);
    let x = Axis::linear("try", (FIRST, last), trimmed);
    let rates: Vec<f64> = all().map(|probe| probe.rate_per_s).collect();
    let y = Axis::log("requests a second", log_ends(rates.into_iter()));
    let mut marks = Vec::new();
    for (version, found) in slo.versions.iter().enumerate() {
        let drawn = pen(colour(version));
        let numbers = std::iter::successors(Some(1.0), |number| Some(number + 1.0));
        let points: Vec<_> = numbers
            .zip(found.probes.iter().map(|probe| probe.rate_per_s))
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
        caption: "Full dots kept the limit, rings did not, faint dots were not decided in time."
            .to_owned(),
        keys: version_keys(report),
        svg: draw(&x, &y, &marks)?,
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
        let pairs = ratios(blocks, Phase::Pair, Metric::Throughput);
        assert_eq!(pairs.len(), 10);
        assert!(
            pairs.iter().all(|(_, ratio)| (1.25..1.37).contains(ratio)),
            "{pairs:?}"
        );
        let noise = ratios(blocks, Phase::Noise, Metric::Throughput);
        assert_eq!(noise.len(), 5);
        assert!(
            noise.iter().all(|(_, ratio)| (0.97..1.03).contains(ratio)),
            "{noise:?}"
        );
    }
}
