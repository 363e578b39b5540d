//! A report as one HTML page that needs nothing else: no script, no font, no other host. Pure.
//!
//! Light or dark as the reader has it. The page itself is `templates/bench.html`, checked at build time. Every text is escaped there:
//! labels, paths and answers come from users and models. Here is what it asks for.

use askama::Template;

use crate::bench::numbers::{TOO_LITTLE, interval, inverse, ratio};
use crate::bench::outline::{Kind, Part, Section, has_several, mark, outline, scenario_words};
use crate::bench::plots::{Plot, css, plots};
use crate::bench::report::{
    CheckState, Comparison, GateReport, GateState, Level, Metric, Outcome, Report, Version,
};
use crate::bench::sentence::{metric_words, outcome_words};
use crate::evidence::Estimate;
use crate::plot::PlotError;

/// Least factor at the ends of the strip of ratios, so that noise looks small.
const STRIP_MIN: f64 = 1.05;

/// The page.
///
/// # Errors
///
/// [`PlotError`] with the plotting crate's reason.
pub fn html(report: &Report) -> Result<String, PlotError> {
    let labels = report.versions.iter().map(|one| one.label.as_str());
    let page = Page {
        report,
        labels: labels.collect(),
        strip: Strip::of(report),
        sections: outline(report),
        plots: plots(report)?,
        json: json(report),
    };
    Ok(page.render().expect("text takes any text") + "\n")
}

/// The values that the template is filled with.
#[derive(Template)]
#[template(path = "bench.html")]
struct Page<'a> {
    report: &'a Report,
    /// Of the versions, in their order.
    labels: Vec<&'a str>,
    strip: Strip,
    sections: Vec<Section>,
    plots: Vec<Plot>,
    /// The report as programs read it; safe within its element.
    json: String,
}

impl Page<'_> {
    fn mark(&self) -> Option<&'static str> {
        mark(self.report)
    }

    /// The words above the verdict: how it was loaded, and when.
    fn kicker(&self) -> Vec<String> {
        let Report {
            setup,
            levels,
            environment,
            ..
        } = self.report;
        let levels: Vec<&str> = levels.iter().map(|level| level.name.as_str()).collect();
        let words = [
            scenario_words(setup.scenario).to_owned(),
            levels.join(", "),
            environment.started.clone(),
        ];
        words.into_iter().filter(|one| !one.is_empty()).collect()
    }

    /// A condition with the version that it was judged of, where there are several.
    fn condition(&self, gate: &GateReport) -> String {
        match has_several(self.report) {
            true => format!("{}: {}", self.labels[gate.version], gate.condition),
            false => gate.condition.clone(),
        }
    }

    /// The versions with their colours.
    fn coloured(&self) -> impl Iterator<Item = (&'static str, &Version)> {
        let versions = self.report.versions.iter().enumerate();
        versions.map(|(at, version)| (css(at), version))
    }

    /// The colour of the version whose label a cell is.
    fn version(&self, cell: &str) -> Option<&'static str> {
        self.labels.iter().position(|label| *label == cell).map(css)
    }

    fn word_tone(&self, word: &str) -> &'static str {
        match word {
            "faster" | "less" | "passed" => "good",
            "slower" | "more" | "failed" => "bad",
            "withheld" | "undecided" | "fails more" => "warn",
            _ => "",
        }
    }

    fn line_tone(&self, line: &str) -> &'static str {
        match line.split_once(": ") {
            Some(("warning", _)) => "warn",
            Some(("invalid", _)) => "bad",
            _ => "",
        }
    }
}

/// Every ratio on one strip, turned so that to the right is better.
struct Strip {
    rows: Vec<Row>,
    /// Logarithm of the factor at its ends.
    reach: f64,
}

/// A row of the strip.
struct Row {
    name: String,
    /// Above 1 is better.
    estimate: Estimate,
    word: &'static str,
    tone: &'static str,
    noise: bool,
}

impl Strip {
    fn of(report: &Report) -> Self {
        let rows = |level| rows(level, report);
        let rows: Vec<Row> = report.levels.iter().flat_map(rows).collect();
        let ends = rows.iter().filter_map(Row::ends);
        let reach = ends
            .flat_map(|(low, high)| [low, high])
            .map(|end| end.ln().abs())
            .filter(|reach| reach.is_finite())
            .fold(STRIP_MIN.ln(), f64::max);
        Self {
            rows,
            reach: reach * 1.1,
        }
    }

    /// The left end of a row's bar, its width, and where its dot is: in percent of the width of the strip.
    fn places(&self, row: &Row) -> Option<[String; 3]> {
        let place = |ratio: f64| (50.0 + 50.0 * ratio.ln() / self.reach).clamp(0.0, 100.0);
        let (low, high) = row.ends()?;
        let (left, right) = (place(low), place(high));
        Some([left, right - left, place(row.estimate.point)].map(|place| format!("{place:.2}")))
    }
}

fn rows(level: &Level, report: &Report) -> Vec<Row> {
    let with = match report.levels.len() > 1 {
        true => format!(", {}", level.name),
        false => String::new(),
    };
    let of = |version: usize| match has_several(report) {
        true => format!("{}, ", report.versions[version].label),
        false => String::new(),
    };
    let row = |one: &Comparison| Row {
        name: format!("{}{}{with}", of(one.version), metric_words(one.metric)),
        estimate: outward(one),
        word: outcome_words(one.outcome, one.metric),
        tone: one.outcome.tone(),
        noise: false,
    };
    let noise = |one: &Comparison| Row {
        name: format!("noise floor{with}"),
        estimate: outward(one),
        word: "",
        tone: "",
        noise: true,
    };
    let found = level.comparisons.iter().map(row);
    found.chain(level.noise.as_ref().map(noise)).collect()
}

/// The ratio so that above 1 is better.
fn outward(comparison: &Comparison) -> Estimate {
    match comparison.metric {
        Metric::Throughput => comparison.ratio.estimate,
        _ => inverse(comparison.ratio.estimate),
    }
}

impl Row {
    fn ends(&self) -> Option<(f64, f64)> {
        interval(self.estimate)
    }

    fn ratio(&self) -> String {
        match self.ends() {
            Some(_) => ratio(self.estimate),
            None => TOO_LITTLE.to_owned(),
        }
    }
}

impl Outcome {
    fn tone(self) -> &'static str {
        match self {
            Self::Faster | Self::Same => "good",
            Self::Slower | Self::Invalid => "bad",
            Self::Withheld | Self::FailsMore => "warn",
            Self::NoEvidence | Self::Mixed | Self::Alone => "",
        }
    }
}

impl GateState {
    fn tone(self) -> &'static str {
        match self {
            Self::Passed => "good",
            Self::Failed => "bad",
            Self::Undecided => "warn",
        }
    }
}

fn json(report: &Report) -> String {
    let json = serde_json::to_string(report).expect("plain data, with text for keys");
    // In JSON this letter stands only within text, where its number means the same; nothing can end the element.
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample;

    #[test]
    fn the_page_names_no_other_host() {
        for report in [
            sample::report(),
            sample::alone(),
            sample::sweep(),
            sample::three(),
        ] {
            let page = html(&report).unwrap();
            for outside in [
                "http", "src=", "href=", "url(", "@import", "<link", "<iframe", "<object", "<img",
            ] {
                assert!(!page.contains(outside), "{outside}");
            }
        }
    }

    #[test]
    fn the_only_script_is_data() {
        let page = html(&sample::report()).unwrap();
        assert_eq!(page.matches("<script").count(), 1);
        let (_, rest) = page
            .split_once("<script type=\"application/json\" id=\"report\">")
            .unwrap();
        let (json, _) = rest.split_once("</script>").unwrap();
        let read: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(read["versions"][1]["label"], "green");
        assert_eq!(read["levels"][0]["comparisons"][0]["ratio"]["point"], 1.31);
    }

    #[test]
    fn text_of_users_stays_text() {
        let mut report = sample::sweep();
        let evil = "</script><script>alert('1')</script>\"&";
        report.versions[0].label = evil.to_owned();
        report.versions[1].what = evil.to_owned();
        report.levels[0].name = evil.to_owned();
        report.setup.inputs = evil.to_owned();
        report.verdict.words = format!("{evil}; {evil}");
        report.gates[0].condition = evil.to_owned();
        report.environment.processor = evil.to_owned();
        let answers = &mut report.answers[0].answers;
        answers.worst[0].path = evil.to_owned();
        answers.worst[0].base = evil.to_owned();
        report.environment.serin = evil.to_owned();
        report.environment.started = evil.to_owned();
        report.checks[0].state = CheckState::Warning;
        report.checks[0].words = evil.to_owned();
        let page = html(&report).unwrap();
        assert_eq!(page.matches("<script").count(), 1, "{page}");
        assert_eq!(page.matches("</script>").count(), 1);
        assert!(
            !page.contains("alert('1')</"),
            "quotes are escaped where text stands"
        );
        assert!(page.contains("&#60;/script&#62;&#60;script&#62;alert(&#39;1&#39;)"));
    }

    #[test]
    fn only_pictures_and_the_json_are_not_escaped() {
        let page = include_str!("../../templates/bench.html");
        let plots = include_str!("../../templates/plots.html");
        assert_eq!(
            [page, plots].map(|text| text.matches("safe").count()),
            [1; 2]
        );
        assert!(plots.contains("{{ plot.svg|safe }}") && page.contains("{{ json|safe }}"));
    }

    #[test]
    fn every_plot_is_in_the_page() {
        for report in [
            sample::report(),
            sample::alone(),
            sample::sweep(),
            sample::three(),
        ] {
            let page = html(&report).unwrap();
            let plots = plots(&report).unwrap();
            assert_eq!(page.matches("<svg ").count(), plots.len());
            for plot in plots {
                assert!(
                    page.contains(&format!("<h3>{}</h3>", plot.title)),
                    "{}",
                    plot.title
                );
            }
        }
    }

    #[test]
    fn the_verdict_is_the_heading() {
        let page = html(&sample::report()).unwrap();
        let heading =
            "<h1>green is 1.31x faster than blue <small>[1.28, 1.34] (throughput)</small></h1>";
        assert!(page.contains(heading), "{page}");
        assert!(page.contains("<p>0 of 4096 answers differ beyond 1e-4</p>"));
        assert!(page.contains("class=\"verdict good\""));
    }

    #[test]
    fn every_version_has_its_colour_its_rows_and_its_conditions() {
        let report = sample::three();
        let page = html(&report).unwrap();
        for told in [
            "class=\"key other2\"></i><b>red</b>",
            "<span>red, throughput</span>",
            "red: throughput&#60;0.97 passed",
            "Pair by pair: red",
        ] {
            assert!(page.contains(told), "{told}");
        }
        let css = include_str!("../../templates/bench.css");
        for version in 0..crate::bench::report::VERSIONS_MAX {
            let name = super::css(version);
            assert_eq!(css.matches(&format!("--{name}: ")).count(), 2, "{name}");
            let key = format!(".key.{name} {{ background: var(--{name}); }}");
            assert!(css.contains(&key), "{key}");
        }
    }

    #[test]
    fn an_incomplete_report_is_marked() {
        let mut report = sample::report();
        assert!(!html(&report).unwrap().contains("class=\"mark\""));
        report.complete = false;
        report.interrupted = true;
        let page = html(&report).unwrap();
        assert!(page.contains("<p class=\"mark\">incomplete: interrupted</p>"));
    }

    #[test]
    fn a_warning_stands_before_the_numbers() {
        let mut report = sample::report();
        report.checks[1].state = CheckState::Warning;
        report.checks[1].words = "a noisy neighbour".to_owned();
        let page = html(&report).unwrap();
        let (header, _) = page.split_once("</header>").unwrap();
        assert!(header.contains("a noisy neighbour"));
    }

    #[test]
    fn without_any_numbers_there_is_still_a_page() {
        let mut report = sample::report();
        report.levels.clear();
        report.answers.clear();
        report.checks.clear();
        let page = html(&report).unwrap();
        assert!(!page.contains("<svg") && page.ends_with("</html>\n"));
    }
}
