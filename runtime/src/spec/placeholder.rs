//! Placeholders that nobody filled in: `{{NAME}}` of templates, and `<NAME>` of documents. Pure.
//!
//! They are looked for where serin acts upon a value, and after the command line had its say. What is said to people, what a script reads
//! and what is kept without effect may hold such text.

use super::node::{Content, Node, find, join};
use super::{Place, Problem};

/// The sections in which a placeholder is a mistake.
const SECTIONS: &[&str] = &[
    "auth_mode",
    "code_configuration",
    "endpoint_name",
    "instance_count",
    "instance_type",
    "model",
    "name",
    "path",
    "request_settings",
    "scale_settings",
    "traffic",
    "version",
];

/// What a model says to people.
const FOR_PEOPLE: &[&str] = &["description", "properties", "tags"];

/// The templates in a text, which YAML takes for mappings within mappings; comments may have them.
pub(super) fn in_text(text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let code = text.split(" #").next().unwrap_or(text);
        let word = code.trim_start().trim_start_matches("- ").trim_start();
        let Some(template) = between(code, "{{", "}}").filter(|_| !word.starts_with('#')) else {
            continue;
        };
        let before = text.chars().count() - text.trim_start().chars().count();
        let key = word.split_once(':').map_or("", |(key, _)| key);
        let column = u64::try_from(before).unwrap_or(0) + 1;
        problems.push(Problem {
            place: Some(Place { line, column }),
            field: key.to_owned(),
            message: format!(
                "found {template:?}, a template that was not filled in: put the value in its place, as the script that comes with such a file does"
            ),
            suggestion: None,
        });
    }
    problems
}

/// The placeholders in a file in current spelling, each with the flag that beats it.
pub(super) fn in_tree(root: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Content::Map(entries) = &root.content {
        for section in SECTIONS {
            if let Some(node) = find(entries, section) {
                look_through(node, &mut problems);
            }
        }
    }
    problems
}

/// Takes over the placeholders in place of whatever else is wrong with the same values.
pub(super) fn tell(placeholders: Vec<Problem>, problems: &mut Vec<Problem>) {
    problems.retain(|problem| !placeholders.iter().any(|one| one.field == problem.field));
    problems.extend(placeholders);
}

fn look_through(node: &Node, problems: &mut Vec<Problem>) {
    match &node.content {
        Content::Text(text) => {
            let found = between(text, "{{", "}}").or_else(|| between(text, "<", ">"));
            problems.extend(found.map(|found| told(node, found)));
        }
        Content::List(items) => items.iter().for_each(|item| look_through(item, problems)),
        Content::Map(entries) => {
            for (key, inner) in entries {
                if between(key, "{{", "}}")
                    .or_else(|| between(key, "<", ">"))
                    .is_some()
                {
                    let at = Node {
                        field: join(&node.field, key),
                        ..inner.clone()
                    };
                    problems.push(told(&at, key));
                } else if !FOR_PEOPLE.contains(&key.as_str()) {
                    look_through(inner, problems);
                }
            }
        }
        Content::Nothing | Content::Bool(_) | Content::Number(_) => {}
    }
}

fn told(node: &Node, found: &str) -> Problem {
    node.problem(format!(
        "found {found:?}, a placeholder that was not filled in: write the value there, or give it with --set {}=VALUE",
        node.field
    ))
}

/// A word in brackets, with them.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (before, rest) = text.split_once(open)?;
    let (word, _) = rest.split_once(close)?;
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ');
    let fits = word.chars().all(is_word) && word.chars().any(char::is_alphanumeric);
    let end = before.len() + open.len() + word.len() + close.len();
    fits.then(|| text.get(before.len()..end)).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::{read_deployment, read_endpoint};

    const BLUE: &str = "name: blue\nmodel: m.onnx\ninstance_type: Standard_DS3_v2\n";

    #[track_caller]
    fn check(text: &str, message: &str) {
        let refused = read_deployment(text, "d.yml", &[]).expect_err("refused");
        assert_eq!(refused.to_string(), message);
    }

    #[test]
    fn a_template_that_was_not_filled_in_is_named_with_its_line() {
        check(
            "# {{COMMENT}}\nname: blue # {{COMMENT}}\nendpoint_name: {{ENDPOINT_NAME}}\nenvironment:\n  image: {{ acr_name }}.example/x\n",
            "d.yml:3:1: endpoint_name: found \"{{ENDPOINT_NAME}}\", a template that was not filled in: put the value in its place, as the script that comes with such a file does\n\
             d.yml:5:3: image: found \"{{ acr_name }}\", a template that was not filled in: put the value in its place, as the script that comes with such a file does",
        );
        check(
            &format!("{BLUE}endpoint_name: '{{{{E}}}}'\n"),
            "d.yml:4:1: endpoint_name: found \"{{E}}\", a placeholder that was not filled in: write the value there, or give it with --set endpoint_name=VALUE",
        );
    }

    #[test]
    fn a_placeholder_is_named_once_and_beaten_by_the_command_line() {
        let text = "name: blue\nendpoint_name: <ENDPOINT_NAME>\nmodel: azureml:<MODEL>:1\ninstance_type: Standard_DS3_v2\n";
        check(
            text,
            "d.yml:2:1: endpoint_name: found \"<ENDPOINT_NAME>\", a placeholder that was not filled in: write the value there, or give it with --set endpoint_name=VALUE\n\
             d.yml:3:1: model: found \"<MODEL>\", a placeholder that was not filled in: write the value there, or give it with --set model=VALUE",
        );
        let flags = ["endpoint_name=iris", "model=azureml:iris:1"];
        let flags = flags.map(|flag| flag.parse().expect("an assignment"));
        let read = read_deployment(text, "d.yml", &flags).expect("a deployment");
        assert_eq!(read.endpoint_name, Some("iris".parse().expect("a name")));
        assert_eq!(read.model.to_string(), "azureml:iris:1");
        let text = "name: iris\ntraffic: {'<BLUE>': 100}\ndeployments:\n- {name: blue, model: '<M>', sku: S}\n";
        let refused = read_endpoint(text, "e.yml", &[]).expect_err("refused");
        let fields = refused.problems.iter().map(|one| one.field.as_str());
        assert_eq!(
            fields.collect::<Vec<_>>(),
            ["traffic.<BLUE>", "deployments[0].model"]
        );
    }

    #[test]
    fn what_is_for_people_and_for_scripts_may_hold_such_text() {
        for more in [
            "tags: {a: '{{x}}'}\ndescription: as <b>\n",
            "environment_variables: {PROMPT: 'Hello {{name}}'}\n",
            "environment: {image: '<ACR>.example/x'}\n",
            "model: {path: m.onnx, tags: {a: <b>}}\n",
            "model: 'a < b > c'\n",
            "model: a<>b{{}}\n",
        ] {
            let text = match more.starts_with("model") {
                true => BLUE.replace("model: m.onnx\n", more),
                false => format!("{BLUE}{more}"),
            };
            let read = read_deployment(&text, "d.yml", &[]);
            let is_read = read.is_ok();
            assert_eq!(is_read, !more.contains("a < b"), "{more}: {read:?}");
        }
    }
}
