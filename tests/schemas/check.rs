//! Values held against schemas, for the tests of the library and those of the command line.
//!
//! The words of JSON Schema that the files in `docs/schemas/` use are checked here: the well-kept validators bring thirty crates, and a
//! second version of one that is here.

use serde_json::Value;

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

/// Each place of a value that is not as a schema has it.
pub(crate) fn problems(schema: &Value, value: &Value) -> Vec<String> {
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
                None if schema["additionalProperties"].is_object() => {
                    check(root, &schema["additionalProperties"], field, &at, found);
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
