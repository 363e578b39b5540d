//! `--query`: the part of a result that a JMESPath expression asks for. Pure.
//!
//! The library computes; here is what `az` adds to it: `{..}` in an expression says the order of columns, and an expression
//! that is no sentence of the language is a mistake of the command line, found before anything is done.

use std::panic::resume_unwind;
use std::str::FromStr;
use std::thread;

use jmespath::ast::Ast;
use jmespath::{ErrorReason, Expression, JmespathError};
use serde_json::{Map, Value};

use super::exit::CliError;

/// Longest expression: the library goes some levels down for each operator and each bracket.
const BYTES_MAX: usize = 2048;

/// Room for that: 2048 levels of some 10 KiB, three times over. What is not used is never given by the system.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Most brackets within each other: a result is no deeper than these, and is printed on a common stack.
const DEPTH_MAX: usize = 64;

/// An expression that the language has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Query(String);

impl FromStr for Query {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > BYTES_MAX {
            let found = text.len();
            return Err(format!(
                "expected a JMESPath expression of at most {BYTES_MAX} bytes, found {found}"
            ));
        }
        if depth(text) > DEPTH_MAX {
            return Err(format!(
                "expected a JMESPath expression with at most {DEPTH_MAX} brackets within each other"
            ));
        }
        let mistake = with_room(|| compiled(text).err());
        match mistake {
            None => Ok(Self(text.to_owned())),
            Some(mistake) => Err(format!("expected a JMESPath expression: {mistake}")),
        }
    }
}

impl Query {
    /// The part of a result that is asked for; null where there is none.
    ///
    /// # Errors
    ///
    /// [`CliError::BadInput`] when a function of the expression cannot be computed of what it gets.
    pub(super) fn of(&self, result: &Value) -> Result<Value, CliError> {
        with_room(|| {
            let query = compiled(&self.0)?;
            let found = query.search(result).map_err(|error| words(&error))?;
            let mut found = serde_json::to_value(&*found).unwrap_or(Value::Null);
            let mut orders = Vec::new();
            gather_orders(query.as_ast(), &mut orders);
            arrange(&mut found, &orders);
            Ok(found)
        })
        .map_err(|mistake: String| CliError::BadInput(format!("--query {}: {mistake}", self.0)))
    }
}

fn compiled(text: &str) -> Result<Expression<'static>, String> {
    jmespath::compile(text).map_err(|error| words(&error))
}

fn words(error: &JmespathError) -> String {
    match &error.reason {
        ErrorReason::Parse(words) => words.clone(),
        ErrorReason::Runtime(error) => error.to_string(),
    }
}

/// Computes something on a stack that the longest expression does not fill.
fn with_room<T: Send>(compute: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("serin-query".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, compute)
            .expect("a process that prints one result may have a second thread");
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Most brackets that are open at once; those within quotes count too, which makes it a bound from above.
fn depth(text: &str) -> usize {
    let mut open: usize = 0;
    let mut most = 0;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// The keys of a `{..}` in an expression, in the order in which they stand there.
type Order<'a> = Vec<&'a str>;

/// All of them.
fn gather_orders<'a>(ast: &'a Ast, orders: &mut Vec<Order<'a>>) {
    let mut below = |asts: &[&'a Ast]| {
        for ast in asts {
            gather_orders(ast, orders);
        }
    };
    match ast {
        Ast::MultiHash { elements, .. } => {
            let values: Vec<&Ast> = elements.iter().map(|one| &one.value).collect();
            below(&values);
            orders.push(elements.iter().map(|one| one.key.as_str()).collect());
        }
        Ast::MultiList { elements, .. } => below(&elements.iter().collect::<Vec<_>>()),
        Ast::Function { args, .. } => below(&args.iter().collect::<Vec<_>>()),
        Ast::Condition {
            predicate, then, ..
        } => below(&[predicate, then]),
        Ast::Comparison { lhs, rhs, .. }
        | Ast::Projection { lhs, rhs, .. }
        | Ast::And { lhs, rhs, .. }
        | Ast::Or { lhs, rhs, .. }
        | Ast::Subexpr { lhs, rhs, .. } => below(&[lhs, rhs]),
        Ast::Expref { ast, .. } => below(&[ast]),
        Ast::Flatten { node, .. } | Ast::Not { node, .. } | Ast::ObjectValues { node, .. } => {
            below(&[node]);
        }
        Ast::Identity { .. }
        | Ast::Field { .. }
        | Ast::Index { .. }
        | Ast::Literal { .. }
        | Ast::Slice { .. } => {}
    }
}

/// Puts objects that have the keys of a `{..}` into its order; the library sorts all by their names.
fn arrange(value: &mut Value, orders: &[Order<'_>]) {
    match value {
        Value::Array(entries) => entries.iter_mut().for_each(|entry| arrange(entry, orders)),
        Value::Object(fields) => {
            fields.values_mut().for_each(|entry| arrange(entry, orders));
            let has_keys = |order: &&Order<'_>| {
                order.len() == fields.len() && order.iter().all(|key| fields.contains_key(*key))
            };
            if let Some(order) = orders.iter().find(has_keys) {
                let arranged: Map<String, Value> = order
                    .iter()
                    .filter_map(|key| fields.remove_entry(*key))
                    .collect();
                *fields = arranged;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(query: &str, expected: &str) {
        let iris = json!({
            "provisioning_state": "Succeeded",
            "properties": {"azureml.onlineendpointid": "/e/iris"},
            "count": 3,
            "share": 12.5,
            "deployments": [
                {"name": "blue", "provisioning_state": "Succeeded"},
                {"name": "green", "provisioning_state": "Failed"},
            ],
        });
        let query: Query = query.parse().unwrap();
        assert_eq!(query.of(&iris).unwrap().to_string(), expected);
    }

    #[test]
    fn the_queries_of_published_scripts_find_what_they_ask_for() {
        check("provisioning_state", r#""Succeeded""#);
        check(
            "deployments[?name=='green'].provisioning_state",
            r#"["Failed"]"#,
        );
        check("deployments[0].provisioning_state", r#""Succeeded""#);
        check(r#"properties."azureml.onlineendpointid""#, r#""/e/iris""#);
        check("[count, share]", "[3,12.5]");
        check("nothing", "null");
    }

    #[test]
    fn keys_that_an_expression_writes_stay_in_its_order() {
        check(
            "deployments[].{state: provisioning_state, name: name}",
            r#"[{"state":"Succeeded","name":"blue"},{"state":"Failed","name":"green"}]"#,
        );
        check(
            "{b: {z: count, a: share}, a: count}",
            r#"{"b":{"z":3,"a":12.5},"a":3}"#,
        );
    }

    #[test]
    fn what_is_no_expression_is_refused_with_its_mistake() {
        for text in [
            "",
            "a[",
            "a b",
            "deployments[?name='blue']",
            &"[".repeat(BYTES_MAX),
        ] {
            let refused = text.parse::<Query>().unwrap_err();
            assert!(
                refused.starts_with("expected a JMESPath expression"),
                "{refused}"
            );
        }
        assert!("a".repeat(BYTES_MAX + 1).parse::<Query>().is_err());
    }

    #[test]
    fn a_function_of_the_wrong_kind_of_value_is_told() {
        let query: Query = "length(count)".parse().unwrap();
        let refused = query.of(&json!({"count": 3})).unwrap_err();
        let text = refused.to_string();
        assert!(text.starts_with("--query length(count): "), "{text}");
    }

    #[test]
    fn no_expression_goes_deeper_than_the_stack() {
        let all = |part: &str, rest: &str| {
            let times = (BYTES_MAX - rest.len()) / part.len();
            part.repeat(times) + rest
        };
        let deep = "[".repeat(DEPTH_MAX) + "a" + &"]".repeat(DEPTH_MAX);
        let expressions = [
            all("!", "a"),
            all("a.", "a"),
            all("a|", "a"),
            all("a&&", "a"),
            all("[]", ""),
            all("*.", "a"),
            all("&", "a"),
            deep.clone(),
        ];
        for text in expressions {
            if let Ok(query) = text.parse::<Query>() {
                drop(query.of(&json!({"a": {"a": [1]}})));
            }
        }
        assert!(deep.parse::<Query>().is_ok());
        assert!(format!("[{deep}]").parse::<Query>().is_err());
    }
}
