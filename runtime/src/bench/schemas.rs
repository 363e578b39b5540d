//! The documented forms of what is printed and written, `docs/schemas/`, held against it.
//!
//! The words of JSON Schema that those files use are checked here: the well-kept validators bring thirty crates, and a second version of one
//! that is here.

use serde_json::{Value, json};

use crate::bench::report::Report;
use crate::bench::saved::Saved;
use crate::bench::unpaired::compare;
use crate::bench::{sample, unpaired};

const REPORT: &str = include_str!("../../../docs/schemas/bench-report.json");
const SAVED: &str = include_str!("../../../docs/schemas/bench-saved.json");
const COMPARISON: &str = include_str!("../../../docs/schemas/bench-comparison.json");

/// Words of a schema that are checked, or say nothing about values.
const KNOWN: [&str; 14] = [
    "$schema",
    "title",
    "description",
    "$defs",
    "$ref",
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
    "enum",
    "const",
];

fn schema(text: &str) -> Value {
    serde_json::from_str(text).expect("a schema is JSON")
}

/// Each place of a value that is not as a schema has it.
fn problems(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, schema, value, "", &mut found);
    found
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let place = name.trim_start_matches('#');
        let named = root.pointer(place).expect("what is named is there");
        check(root, named, value, at, found);
    }
    for word in schema.as_object().expect("a schema is an object").keys() {
        let is_known =
            KNOWN.contains(&word.as_str()) || ["anyOf", "minimum"].contains(&word.as_str());
        assert!(is_known, "{word} is not checked here");
    }
    let mut fails = |is_bad: bool, why: &str| {
        if is_bad {
            found.push(format!("{at}: {why}, found {value}"));
        }
    };
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        name => name.as_str().into_iter().collect(),
    };
    fails(
        !types.is_empty() && !types.iter().any(|name| is_of(name, value)),
        &format!("expected {types:?}"),
    );
    let allowed = schema["enum"].as_array();
    fails(
        allowed.is_some_and(|all| !all.contains(value)),
        "not of the list",
    );
    let only = schema.get("const");
    fails(only.is_some_and(|only| only != value), "not the constant");
    let least = schema["minimum"].as_f64();
    let number = value.as_f64();
    fails(
        number
            .zip(least)
            .is_some_and(|(number, least)| number < least),
        "too small",
    );
    if let Some(any) = schema["anyOf"].as_array() {
        let of = |one: &Value| {
            let mut own = Vec::new();
            check(root, one, value, at, &mut own);
            own
        };
        let each: Vec<_> = any.iter().map(of).collect();
        if each.iter().all(|own| !own.is_empty()) {
            found.extend(each.into_iter().flatten());
        }
    }
    check_parts(root, schema, value, at, found);
}

/// The fields and items of a value.
fn check_parts(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(fields) = value.as_object() {
        let properties = schema["properties"].as_object();
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().expect("a name");
            if !fields.contains_key(name) {
                found.push(format!("{at}: {name} is missing"));
            }
        }
        for (name, field) in fields {
            let at = format!("{at}/{name}");
            match properties.and_then(|all| all.get(name)) {
                Some(own) => check(root, own, field, &at, found),
                None if schema["additionalProperties"] == false => {
                    found.push(format!("{at}: not in the schema"));
                }
                None => {}
            }
        }
    }
    if let Some(items) = value.as_array() {
        let count = items.len() as u64;
        let least = schema["minItems"].as_u64().unwrap_or(0);
        let most = schema["maxItems"].as_u64().unwrap_or(u64::MAX);
        if count < least || count > most {
            found.push(format!("{at}: {count} items"));
        }
        if let Some(own) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                check(root, own, item, &format!("{at}/{index}"), found);
            }
        }
    }
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type {other}"),
    }
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
