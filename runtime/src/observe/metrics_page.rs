//! `docs/metrics.md`, made of the series as they are registered, and held against the file.

use std::path::Path;

use super::canary_series::NotCopied;
use super::metrics::{Metrics, MetricsFormat};

const HEAD: &str = include_str!("metrics_page_head.md");
const TAIL: &str = include_str!("metrics_page_tail.md");

/// A family of series, as it is shown.
#[derive(Debug, Default)]
struct FamilyLine<'a> {
    name: &'a str,
    kind: &'a str,
    unit: &'a str,
    help: &'a str,
    labels: Vec<&'a str>,
}

/// Every family, each with a sample at least.
fn everything() -> String {
    let metrics = Metrics::new();
    drop(metrics.deployment("iris", "blue"));
    metrics.refused("iris", 404);
    metrics.bytes_in_flight().refused_body();
    metrics.sticky_misses("iris").count();
    metrics
        .shadow("iris", "green")
        .not_copied(NotCopied::NoSlot);
    metrics.page(MetricsFormat::OpenMetrics)
}

fn families(page: &str) -> Vec<FamilyLine<'_>> {
    let mut families: Vec<FamilyLine<'_>> = Vec::new();
    for line in page.lines() {
        let mut words = line.splitn(4, ' ');
        let (Some(mark), Some(what)) = (words.next(), words.next()) else {
            continue;
        };
        let (name, text) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        match (mark, what) {
            ("#", "HELP") => families.push(FamilyLine {
                name,
                help: text,
                ..FamilyLine::default()
            }),
            ("#", "TYPE") => last(&mut families).kind = text,
            ("#", "UNIT") => last(&mut families).unit = text,
            ("#", _) => {}
            _ => add_labels(last(&mut families), line),
        }
    }
    families.sort_by_key(|family| family.name);
    families
}

fn last<'a, 'b>(families: &'b mut [FamilyLine<'a>]) -> &'b mut FamilyLine<'a> {
    families.last_mut().expect("a family before its lines")
}

fn add_labels<'a>(family: &mut FamilyLine<'a>, sample: &'a str) {
    let labels = sample
        .split_once('{')
        .and_then(|(_, rest)| rest.rsplit_once('}'));
    let labels = labels.map_or("", |(labels, _)| labels);
    for label in labels.split(',').filter_map(|label| label.split_once('=')) {
        if label.0 != "le" && !family.labels.contains(&label.0) {
            family.labels.push(label.0);
        }
    }
}

/// From when to when a family counts, by what its labels say whose it is.
fn life(family: &FamilyLine<'_>) -> &'static str {
    match (family.name, family.kind) {
        ("serin_build", _) => "always 1",
        ("serin_requests_refused", _) => {
            "since the first; until the endpoint is deleted, and without one for the process"
        }
        ("serin_sticky_misses", _) => "while the endpoint has cohorts",
        ("serin_mirrored_requests" | "serin_mirror_dropped", _) => {
            "while the deployment is a shadow"
        }
        ("serin_bytes_in_flight_refused", _) => "since the first; for the process",
        ("serin_instance_load_seconds", _) => {
            "of the newest instance that serves; 0 before the first"
        }
        (_, "gauge") if family.labels.contains(&"deployment") => {
            "now; until the deployment is deleted"
        }
        (_, "gauge") => "now",
        _ if family.labels.contains(&"deployment") => {
            "since the deployment was made, or the server began; until it is deleted"
        }
        _ => "since the process began",
    }
}

fn table(families: &[FamilyLine<'_>]) -> String {
    let rows = families.iter().map(|family| {
        let suffix = match family.kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: Vec<_> = family
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        format!(
            "| `{}{suffix}` | {} | {} | {} | {} | {} |\n",
            family.name,
            family.kind,
            labels.join(", "),
            family.unit,
            family.help,
            life(family)
        )
    });
    let head = "| name | type | labels | unit | meaning | counts |\n|---|---|---|---|---|---|\n";
    std::iter::once(head.to_owned()).chain(rows).collect()
}

#[test]
fn the_page_has_a_line_for_each_series_as_it_is() {
    let all = everything();
    let made = format!("{HEAD}\n{}\n{TAIL}", table(&families(&all)));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let kept = std::fs::read_to_string(root.join("docs/metrics.md")).unwrap_or_default();
    if made != kept {
        std::fs::write(root.join("target/metrics.md"), &made).expect("a file under target");
    }
    let differ = made.lines().zip(kept.lines()).find(|(one, two)| one != two);
    assert!(
        made == kept,
        "make it anew: cp target/metrics.md docs/metrics.md; the first line that differs: {differ:?}"
    );
}

/// No escape is written for what stands above the samples.
#[test]
fn no_help_needs_an_escape_and_each_says_something() {
    let all = everything();
    for family in families(&all) {
        assert!(!family.help.contains(['\\', '"', '|']), "{family:?}");
        assert!(
            family.help.len() > 10 && family.help.ends_with('.'),
            "{family:?}"
        );
        assert!(!family.help.ends_with(".."), "{family:?}");
        assert!(!family.kind.is_empty(), "{family:?}");
    }
}

/// The queries of the page name series that are there.
#[test]
fn every_series_that_the_page_asks_for_is_there() {
    let (all, text) = (everything(), Metrics::new().page(MetricsFormat::Text));
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let names = TAIL.split(|character| !is_word(character));
    let names: Vec<_> = names
        .filter(|word| {
            ["serin_", "process_"]
                .iter()
                .any(|start| word.starts_with(start) && word != start)
        })
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let is_there = |page: &str| {
            page.lines().any(|line| {
                let rest = line.strip_prefix(name);
                rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            })
        };
        assert!(is_there(&all) || is_there(&text), "{name}");
    }
}
