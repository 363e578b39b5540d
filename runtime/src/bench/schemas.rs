//! The documented forms of what is printed and written, `docs/schemas/`, held against it.

#[path = "../../../tests/schemas/check.rs"]
pub(crate) mod check;

use serde_json::{Value, json};

use crate::bench::report::Report;
use crate::bench::saved::Saved;
use crate::bench::unpaired::compare;
use crate::bench::{sample, unpaired};
use check::problems;

const REPORT: &str = include_str!("../../../docs/schemas/bench-report.json");
const SAVED: &str = include_str!("../../../docs/schemas/bench-saved.json");
const COMPARISON: &str = include_str!("../../../docs/schemas/bench-comparison.json");

fn schema(text: &str) -> Value {
    serde_json::from_str(text).expect("a schema is JSON")
}

fn reports() -> [Report; 4] {
    [
        sample::report(),
        sample::alone(),
        sample::sweep(),
        sample::three(),
    ]
}

/// As it is printed: text, read again.
fn printed(value: &impl serde::Serialize) -> Value {
    let text = serde_json::to_string(value).expect("it has a JSON form");
    serde_json::from_str(&text).expect("it is JSON")
}

#[test]
fn every_report_is_as_its_schema_says() {
    let schema = schema(REPORT);
    for report in reports() {
        assert_eq!(problems(&schema, &printed(&report)), Vec::<String>::new());
    }
    // What has no end is null.
    let mut endless = sample::report();
    endless.levels[0].figures[1].p99_ms = f64::INFINITY;
    endless.levels[0].comparisons[2].ratio.estimate.point = f64::INFINITY;
    endless.levels[0].noise = None;
    endless.answers[0].answers.top1 = None;
    assert_eq!(problems(&schema, &printed(&endless)), Vec::<String>::new());
}

#[test]
fn what_is_saved_and_what_two_of_it_say_is_as_the_schemas_say() {
    let (saved, comparison) = (schema(SAVED), schema(COMPARISON));
    for report in reports() {
        let run = Saved::of(&report);
        assert_eq!(problems(&saved, &printed(&run)), Vec::<String>::new());
        let found: unpaired::RunComparison = compare(&run, &run).expect("one run twice");
        assert_eq!(
            problems(&comparison, &printed(&found)),
            Vec::<String>::new()
        );
    }
}

#[test]
fn the_numbers_of_the_forms_are_those_of_the_schemas() {
    let number = |text: &str, name: &str| schema(text)["properties"][name]["const"].clone();
    assert_eq!(number(REPORT, "schema"), crate::bench::report::SCHEMA);
    assert_eq!(number(SAVED, "saved"), crate::bench::saved::FORM);
    assert_eq!(number(COMPARISON, "schema"), unpaired::SCHEMA);
}

#[test]
fn a_field_more_or_less_or_of_another_type_is_found() {
    let schema = schema(REPORT);
    let broken = |change: fn(&mut Value)| {
        let mut report = printed(&sample::report());
        change(&mut report);
        problems(&schema, &report)
    };
    let more = broken(|report| report["setup"]["more"] = 1.into());
    assert_eq!(more, ["/setup/more: not in the schema"]);
    let less = broken(|report| drop(report.as_object_mut().unwrap().remove("gates")));
    assert_eq!(less, [": gates is missing"]);
    let other = broken(|report| report["levels"][0]["name"] = json!(8));
    assert_eq!(other, ["/levels/0/name: expected [\"string\"], found 8"]);
    let word = broken(|report| report["verdict"]["outcome"] = "won".into());
    assert_eq!(word.len(), 1);
    let inside = broken(|report| report["levels"][0]["noise"]["ratio"]["pairs"] = json!(-1));
    assert!(!inside.is_empty(), "{inside:?}");
    assert!(!broken(|report| report["schema"] = 2.into()).is_empty());
}
