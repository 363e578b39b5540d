//! The pictures of a rollout: which there are, and what each shows. Pure.

use crate::admin::RolloutRecord;
use crate::bench::{Plot, css, level_line};
use crate::canary::{Event, Finding};
use crate::control::RolloutView;
use crate::plot::{Axis, Colour, Mark, Picture, PlotError, ROOM, ends, log_ends, pen};

/// Every picture that the record has the numbers for.
pub(super) fn plots(record: &RolloutRecord) -> Result<Vec<Plot>, PlotError> {
    if record.replay.rollout.requests == 0 {
        return Ok(Vec::new());
    }
    let mut plots = vec![
        ramp(record)?,
        evidence(record, &Side::HARM)?,
        evidence(record, &Side::SAFE)?,
    ];
    plots.extend(latency(record)?);
    Ok(plots)
}

fn requests_axis(view: &RolloutView) -> (Axis, (f64, f64)) {
    let ends = (0.0, (view.requests as f64).max(1.0));
    (Axis::linear("requests", ends), ends)
}

fn svg(x: Axis, y: Axis, marks: Vec<Mark>) -> Result<String, PlotError> {
    Picture { x, y, marks }.for_page()
}

/// The canary's share over the requests.
fn ramp(record: &RolloutRecord) -> Result<Plot, PlotError> {
    let view = &record.replay.rollout;
    let (x, (_, last)) = requests_axis(view);
    let percent = |share: crate::spec::Percent| f64::from(share.hundredths()) / 100.0;
    let mut line = vec![(0.0, 0.0)];
    for entry in &record.replay.entries {
        if let Event::Moved { before } = &entry.event {
            let at = entry.requests as f64;
            line.extend([(at, percent(*before)), (at, percent(entry.weight))]);
        }
    }
    let now = line.last().map_or(0.0, |(_, share)| *share);
    line.push((last, now));
    Ok(Plot {
        title: "The ramp".to_owned(),
        caption: "The canary's share of the traffic, as it was in force after so many requests."
            .to_owned(),
        keys: vec![(css(1), view.to.to_string())],
        svg: svg(
            x,
            Axis::linear("traffic, %", (0.0, 100.0 * (1.0 + ROOM))),
            vec![Mark::Line(line, pen(Colour::Line(1)))],
        )?,
    })
}

/// What the evidence is for.
struct Side {
    title: &'static str,
    caption: &'static str,
    /// That of a point of the course.
    of_point: fn((f64, f64)) -> f64,
    /// The highest so far, and what proves it.
    of_finding: fn(&Finding) -> (f64, f64),
}

impl Side {
    const HARM: Self = Self {
        title: "Evidence of harm",
        caption: "The highest logarithm of each metric's e-value so far, in parts of what proves harm. One metric that reaches the line is enough.",
        of_point: |(harm, _)| harm,
        of_finding: |finding| (finding.log_e_harm, finding.threshold_harm),
    };
    const SAFE: Self = Self {
        title: "Evidence of safety",
        caption: "The same of what proves that a metric is not worse by more than its margin. All have to reach the line.",
        of_point: |(_, safe)| safe,
        of_finding: |finding| (finding.log_e_safe, finding.threshold_safe),
    };
}

fn evidence(record: &RolloutRecord, side: &Side) -> Result<Plot, PlotError> {
    let view = &record.replay.rollout;
    let (x, width) = requests_axis(view);
    let curve = |(index, finding): (usize, &Finding)| {
        let (now, threshold) = (side.of_finding)(finding);
        let points = record.course.points().iter();
        let points = points.filter_map(|point| {
            let log_e = (side.of_point)(*point.log_e.get(index)?);
            Some((point.requests as f64, log_e / threshold))
        });
        let last = (width.1, now / threshold);
        points.chain([last]).collect::<Vec<_>>()
    };
    let curves: Vec<_> = view.findings.iter().enumerate().map(curve).collect();
    let heights = curves.iter().flatten().map(|(_, height)| *height);
    let y = Axis::linear("part of the proof", ends(heights.chain([0.0, 1.0])));
    let mut marks = vec![level_line(width, 1.0)];
    let lines = curves.into_iter().enumerate();
    marks.extend(lines.map(|(index, curve)| Mark::Line(curve, pen(Colour::Line(index)))));
    let names = view.findings.iter().enumerate();
    let names = names.map(|(index, finding)| (css(index), finding.plan.metric.to_string()));
    Ok(Plot {
        title: side.title.to_owned(),
        caption: side.caption.to_owned(),
        keys: names.collect(),
        svg: svg(x, y, marks)?,
    })
}

/// The latency of both, the rarer the further right.
fn latency(record: &RolloutRecord) -> Result<Option<Plot>, PlotError> {
    let view = &record.replay.rollout;
    let most = view.requests.max(10) as f64;
    let last = 1.0 - 1.0 / most;
    let curve = |of: fn(&crate::control::LatencyAt) -> Option<u64>| {
        let told = record.latency.iter().filter(|one| one.quantile <= last);
        // A logarithmic axis has no zero.
        let told = told.filter_map(|one| Some((one.quantile, of(one)?.max(1) as f64 / 1e3)));
        told.collect::<Vec<_>>()
    };
    let curves = [curve(|one| one.stable_us), curve(|one| one.canary_us)];
    let heights = curves.iter().flatten().map(|(_, ms)| *ms);
    if heights.clone().next().is_none() {
        return Ok(None);
    }
    let y = Axis::log("latency, ms", log_ends(heights));
    let lines = curves.into_iter().enumerate();
    let marks = lines.map(|(arm, curve)| Mark::Line(curve, pen(Colour::Line(arm))));
    Ok(Some(Plot {
        title: "Latency".to_owned(),
        caption: "Every request of the rollout but the first of each instance; what timed out has no end and no place. Lower is better.".to_owned(),
        keys: vec![(css(0), view.from.to_string()), (css(1), view.to.to_string())],
        svg: svg(
            Axis::nines("share of requests that are not slower", most),
            y,
            marks.collect(),
        )?,
    }))
}
