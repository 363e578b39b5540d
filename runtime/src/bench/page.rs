//! A report as one HTML page that needs nothing else: no script, no font, no other host. Pure.
//!
//! Light or dark as the reader has it. Every text is escaped: labels, paths and answers come from users and models.

use crate::bench::gate::{GateReport, GateState};
use crate::bench::numbers::{TOO_LITTLE, interval, inverse, ratio};
use crate::bench::outline::{
    Kind, Part, Section, Table, gate_words, mark, outline, scenario_words,
};
use crate::bench::plots::{Plot, css, plots};
use crate::bench::report::{Check, CheckState, Comparison, Level, Metric, Outcome, Report};
use crate::bench::sentence::{metric_words, outcome_words};
use crate::evidence::Estimate;
use crate::plot::PlotError;

const STYLE: &str = include_str!("page.css");
/// Least factor at the ends of the strip of ratios, so that noise looks small.
const STRIP_MIN: f64 = 1.05;

/// The page.
///
/// # Errors
///
/// [`PlotError`] with the plotting crate's reason.
pub fn html(report: &Report) -> Result<String, PlotError> {
    let labels = labels(report);
    let sections: Vec<String> = outline(report)
        .iter()
        .map(|section| match section.kind {
            // The plots stand between what was found and how.
            Kind::Versions => Ok(section_html(section, &labels) + &gallery(&plots(report)?)),
            _ => Ok(section_html(section, &labels)),
        })
        .collect::<Result<_, PlotError>>()?;
    let title = escaped(&labels.join(" and "));
    let body = [
        header(report),
        glance(report),
        sections.concat(),
        footer(report),
    ]
    .concat();
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title} - serin bench</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n{body}</main>\n{}\n</body>\n</html>\n",
        data(report)
    ))
}

/// Of the versions, in their order.
fn labels(report: &Report) -> Vec<String> {
    let versions = report.versions.iter();
    versions.map(|version| version.label.clone()).collect()
}

fn header(report: &Report) -> String {
    let mut clauses = report.verdict.words.split("; ");
    let first = clauses.next().unwrap_or_default();
    let rest: String = clauses
        .map(|clause| format!("<p>{}</p>\n", escaped(clause)))
        .collect();
    let mark = mark(report).map_or_else(String::new, |mark| {
        format!("<p class=\"mark\">{}</p>\n", escaped(mark))
    });
    format!(
        "<header>\n<p class=\"kicker\">{}</p>\n{mark}\
         <div class=\"verdict {}\">\n<h1>{}</h1>\n{rest}</div>\n{}{}{}</header>\n",
        kicker(report),
        outcome_tone(report.verdict.outcome),
        heading(first),
        who(report),
        chips(&report.gates),
        cautions(&report.checks)
    )
}

/// What is said stands out; the interval and the metric follow in smaller letters.
fn heading(clause: &str) -> String {
    match clause.split_once(" [") {
        Some((said, interval)) => {
            format!("{} <small>[{}</small>", escaped(said), escaped(interval))
        }
        None => escaped(clause),
    }
}

fn kicker(report: &Report) -> String {
    let levels: Vec<&str> = report
        .levels
        .iter()
        .map(|level| level.name.as_str())
        .collect();
    let words = [
        scenario_words(report.setup.scenario),
        &levels.join(", "),
        &report.environment.started,
    ]
    .into_iter()
    .filter(|words| !words.is_empty())
    .map(escaped)
    .collect::<Vec<_>>();
    format!("<b>serin bench</b> &middot; {}", words.join(" &middot; "))
}

/// Which colour is which version.
fn who(report: &Report) -> String {
    let versions = report.versions.iter().enumerate();
    let items: String = versions
        .map(|(at, version)| {
            format!(
                "<li>{}<b>{}</b> {}</li>\n",
                key(css(at)),
                escaped(&version.label),
                escaped(&version.what)
            )
        })
        .collect();
    format!("<ul class=\"who\">\n{items}</ul>\n")
}

fn chips(gates: &[GateReport]) -> String {
    let chip = |gate: &GateReport| {
        format!(
            "<li class=\"{}\">{} {}</li>\n",
            gate_tone(gate.state),
            escaped(&gate.condition),
            gate_words(gate.state)
        )
    };
    if gates.is_empty() {
        return String::new();
    }
    let chips: String = gates.iter().map(chip).collect();
    format!("<ul class=\"chips\">\n{chips}</ul>\n")
}

/// What a reader of the numbers must know, before them.
fn cautions(checks: &[Check]) -> String {
    checks
        .iter()
        .filter(|check| check.state == CheckState::Warning)
        .map(|check| format!("<p class=\"warn\">{}</p>\n", escaped(&check.words)))
        .collect()
}

/// Every ratio on one strip, turned so that to the right is better.
fn glance(report: &Report) -> String {
    let rows: Vec<Ratio> = report
        .levels
        .iter()
        .flat_map(|level| ratios(report, level))
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let widest = rows.iter().filter_map(|row| interval(row.estimate));
    let widest = widest.flat_map(|(low, high)| [low, high]);
    let reach = widest
        .map(|end| end.ln().abs())
        .filter(|reach| reach.is_finite());
    let reach = reach.fold(STRIP_MIN.ln(), f64::max) * 1.1;
    let rows: String = rows.iter().map(|row| row.html(reach)).collect();
    format!(
        "<section>\n<h2>At a glance</h2>\n<div class=\"forest\">\n{rows}</div>\n\
         <p class=\"note\">How many times better; the line is 1, no difference. A bar is the interval.</p>\n</section>\n"
    )
}

/// A row of the strip.
struct Ratio {
    name: String,
    /// Above 1 is better.
    estimate: Estimate,
    word: &'static str,
    tone: &'static str,
    noise: bool,
}

fn ratios(report: &Report, level: &Level) -> Vec<Ratio> {
    let with = if report.levels.len() > 1 {
        format!(", {}", level.name)
    } else {
        String::new()
    };
    let row = |comparison: &Comparison, noise: bool| Ratio {
        name: if noise {
            format!("noise floor{with}")
        } else {
            format!("{}{with}", metric_words(comparison.metric))
        },
        estimate: if comparison.metric == Metric::Throughput {
            comparison.ratio.estimate
        } else {
            inverse(comparison.ratio.estimate)
        },
        word: if noise {
            ""
        } else {
            outcome_words(comparison.outcome, comparison.metric)
        },
        tone: if noise {
            ""
        } else {
            outcome_tone(comparison.outcome)
        },
        noise,
    };
    let found = level.comparisons.iter().map(|one| row(one, false));
    found
        .chain(level.noise.iter().map(|one| row(one, true)))
        .collect()
}

impl Ratio {
    fn html(&self, reach: f64) -> String {
        let at = |value: f64| (50.0 + 50.0 * value.ln() / reach).clamp(0.0, 100.0);
        let drawn = interval(self.estimate).map_or_else(String::new, |(low, high)| {
            format!(
                "<i class=\"bar\" style=\"left:{:.2}%;width:{:.2}%\"></i><i class=\"dot\" style=\"left:{:.2}%\"></i>",
                at(low),
                at(high) - at(low),
                at(self.estimate.point)
            )
        });
        let kind = if self.noise { "track noise" } else { "track" };
        let words = match interval(self.estimate) {
            Some(_) => ratio(self.estimate),
            None => TOO_LITTLE.to_owned(),
        };
        format!(
            "<div><span>{}</span><div class=\"{kind}\"><i class=\"one\"></i>{drawn}</div>\
             <span class=\"n\">{words}</span><span class=\"word {}\">{}</span></div>\n",
            escaped(&self.name),
            self.tone,
            self.word
        )
    }
}

fn gallery(plots: &[Plot]) -> String {
    if plots.is_empty() {
        return String::new();
    }
    let figures: String = plots.iter().map(figure).collect();
    format!("<section>\n<h2>Plots</h2>\n<div class=\"plots\">\n{figures}</div>\n</section>\n")
}

fn figure(plot: &Plot) -> String {
    let keys = plot.keys.iter();
    let keys: String = keys
        .map(|(css, words)| format!("<span>{}{}</span>", key(css), escaped(words)))
        .collect();
    let title = escaped(&plot.title);
    format!(
        "<figure>\n<h3>{title}</h3>\n<p class=\"keys\">{keys}</p>\n\
         <div role=\"img\" aria-label=\"{title}\">\n{}</div>\n<figcaption>{}</figcaption>\n</figure>\n",
        plot.svg,
        escaped(&plot.caption)
    )
}

fn section_html(section: &Section, labels: &[String]) -> String {
    let parts = section.parts.iter();
    let parts: String = parts.map(|part| part_html(part, labels)).collect();
    let title = section.kind.title();
    format!("<section>\n<h2>{title}</h2>\n{parts}</section>\n")
}

fn part_html(part: &Part, labels: &[String]) -> String {
    match part {
        Part::Line(line) => format!("<p class=\"{}\">{}</p>\n", line_tone(line), escaped(line)),
        Part::Facts(facts) => {
            let facts = facts.iter();
            let facts: String = facts
                .map(|(name, words)| {
                    format!("<dt>{}</dt><dd>{}</dd>\n", escaped(name), escaped(words))
                })
                .collect();
            format!("<dl>\n{facts}</dl>\n")
        }
        Part::Table(table) => table_html(table, labels),
    }
}

fn table_html(table: &Table, labels: &[String]) -> String {
    let side = |numbers: bool| if numbers { " class=\"n\"" } else { "" };
    let head: String = table
        .head
        .iter()
        .map(|column| format!("<th{}>{}</th>", side(column.numbers), escaped(&column.name)))
        .collect();
    let cell = |(cell, numbers): (&String, bool)| {
        if numbers {
            format!("<td{}>{}</td>", side(true), escaped(cell))
        } else {
            words_cell(cell, labels)
        }
    };
    let row = |row: &Vec<String>| {
        let numbers = table.head.iter().map(|column| column.numbers);
        let cells: String = row.iter().zip(numbers).map(cell).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = table.rows.iter().map(row).collect();
    format!(
        "<div class=\"scroll\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
    )
}

/// A version has its colour before it, an outcome its tone.
fn words_cell(cell: &str, labels: &[String]) -> String {
    let text = escaped(cell);
    match labels.iter().position(|label| label == cell) {
        Some(at) => format!("<td>{}{text}</td>", key(css(at))),
        None => format!("<td class=\"{}\">{text}</td>", word_tone(cell)),
    }
}

fn key(css: &str) -> String {
    format!("<i class=\"key {css}\"></i>")
}

fn outcome_tone(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Faster => "good",
        Outcome::Slower | Outcome::Invalid => "bad",
        Outcome::Withheld => "warn",
        Outcome::NoEvidence | Outcome::Alone => "",
    }
}

fn gate_tone(state: GateState) -> &'static str {
    match state {
        GateState::Passed => "good",
        GateState::Failed => "bad",
        GateState::Undecided => "warn",
    }
}

fn word_tone(word: &str) -> &'static str {
    match word {
        "faster" | "less" | "passed" => "good",
        "slower" | "more" | "failed" => "bad",
        "withheld" | "undecided" => "warn",
        _ => "",
    }
}

fn line_tone(line: &str) -> &'static str {
    if line.starts_with("warning: ") {
        "warn"
    } else if line.starts_with("invalid: ") {
        "bad"
    } else {
        ""
    }
}

fn footer(report: &Report) -> String {
    format!(
        "<footer>serin {}. The numbers are in this page too: JSON, in the element <code>report</code>.</footer>\n",
        escaped(&report.environment.serin)
    )
}

/// The report as programs read it.
fn data(report: &Report) -> String {
    let json = serde_json::to_string(report).expect("plain data, with text for keys");
    // In JSON this letter stands only within text, where its number means the same; nothing can end the element.
    let json = json.replace('<', "\\u003c");
    format!("<script type=\"application/json\" id=\"report\">{json}</script>")
}

/// Keeps text from being read as HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample;

    #[test]
    fn the_page_names_no_other_host() {
        for report in [sample::report(), sample::alone(), sample::sweep()] {
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
        let answers = report.answers.as_mut().unwrap();
        answers.worst[0].path = evil.to_owned();
        answers.worst[0].base = evil.to_owned();
        let page = html(&report).unwrap();
        assert_eq!(page.matches("<script").count(), 1, "{page}");
        assert_eq!(page.matches("</script>").count(), 1);
        assert!(
            !page.contains("alert('1')</"),
            "quotes are escaped where text stands"
        );
        assert!(page.contains("&lt;/script&gt;&lt;script&gt;alert(&#39;1&#39;)"));
    }

    #[test]
    fn every_plot_is_in_the_page() {
        for report in [sample::report(), sample::alone(), sample::sweep()] {
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
        report.answers = None;
        report.checks.clear();
        let page = html(&report).unwrap();
        assert!(!page.contains("<svg") && page.ends_with("</html>\n"));
    }
}
