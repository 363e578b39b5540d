//! The keys of endpoint and deployment files, as a page tells them: what is said of a key stands here, and all else is asked of the
//! reader itself.
//!
//! The reader is given a file with a wrong value, whose refusal says what it expects, and one with a right value, whose notes say whether
//! the key has an effect. A test finds in these tables whatever key the reader takes. Not here: the page (`cli`).

use serde_json::{Map, Value, json};

use super::node::Node;
use super::spelling::{self, Spelling, modernise};
use super::{DeploymentSpec, EndpointSpec, ModelRef, Problem, batch, deployment, endpoint};
use crate::config::{
    BATCH_SIZE_DEFAULT_MAX, DESCRIPTION_BYTES_MAX, TAG_NAME_BYTES_MAX, TAG_VALUE_BYTES_MAX,
    TAGS_MAX,
};

/// A key as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyAbout {
    /// The path of the key in a file of today.
    pub(crate) path: String,
    /// Older spellings of the path.
    pub(crate) older: Vec<String>,
    /// What the reader expects.
    pub(crate) expected: String,
    /// The value where the key is left out.
    pub(crate) default: String,
    /// What becomes of it: works, is kept, has no effect or is refused, with the reason.
    pub(crate) fate: String,
    /// What it says.
    pub(crate) words: String,
}

/// A row of the tables: a path, a value that is right and one that is wrong as JSON, the value in force without it, what it says.
struct Key {
    path: &'static str,
    right: &'static str,
    wrong: &'static str,
    default: fn() -> String,
    words: &'static str,
}

const fn key(
    path: &'static str,
    (right, wrong): (&'static str, &'static str),
    default: fn() -> String,
    words: &'static str,
) -> Key {
    Key {
        path,
        right,
        wrong,
        default,
        words,
    }
}

/// Values of which the second is no text.
const TEXT: (&str, &str) = ("\"a\"", "[]");
const NUMBER: (&str, &str) = ("2", "[]");
const MAP: (&str, &str) = ("{\"a\": \"b\"}", "3");

fn none() -> String {
    String::new()
}

fn required() -> String {
    "required".to_owned()
}

fn plain() -> DeploymentSpec {
    let name = "blue".parse().expect("a name");
    let model = ModelRef::parse("azureml:m:1").expect("a model");
    DeploymentSpec::new(name, model, "Standard_DS3_v2")
}

fn word(value: impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).expect("a setting has a JSON form");
    value.as_str().map_or(value.to_string(), str::to_owned)
}

/// The base of each table: the least that a file says.
fn least_of_deployment() -> Value {
    json!({"name": "blue", "model": "azureml:m:1", "instance_type": "Standard_DS3_v2"})
}

fn least_of_endpoint() -> Value {
    json!({"name": "iris"})
}

const DEPLOYMENT: &[Key] = &[
    key(
        "name",
        ("\"blue\"", "\"?\""),
        required,
        "The name, unique within its endpoint; case does not count",
    ),
    key(
        "endpoint_name",
        ("\"iris\"", "\"?\""),
        none,
        "The endpoint; `--endpoint-name` counts before it",
    ),
    key(
        "type",
        ("\"managed\"", "\"x\""),
        none,
        "For whom it was written. With `kubernetes` the instance type may be left out",
    ),
    key(
        "model",
        ("\"azureml:m:1\"", "\"azureml:\""),
        required,
        "A registered model, its latest version by `azureml:NAME@latest`, or a path seen from the file",
    ),
    key(
        "model.name",
        ("\"m\"", "\"?\""),
        none,
        "With `version`: the name under which the path is registered",
    ),
    key(
        "model.version",
        ("\"1\"", "\"?/\""),
        none,
        "The version under which the path is registered",
    ),
    key(
        "model.path",
        ("\"m.onnx\"", "[]"),
        required,
        "A file or folder on this machine",
    ),
    key(
        "model.type",
        ("\"custom_model\"", "\"x\""),
        none,
        "The form of its files",
    ),
    key(
        "model.datastore",
        ("\"x\"", "\"x\""),
        none,
        "Files in the cloud",
    ),
    key(
        "instance_type",
        TEXT,
        required,
        "The cores and memory of one instance; `serin sku list` has them, `serve --skus` takes more",
    ),
    key(
        "instance_count",
        NUMBER,
        || plain().instance_count().to_string(),
        "Instances: copies of the model, each on cores of its own",
    ),
    key(
        "request_settings.request_timeout_ms",
        NUMBER,
        || word(u64::try_from(plain().request_settings().request_timeout().as_millis()).ok()),
        "Longest that a request may take, waiting included; then it is 408. In force at once",
    ),
    key(
        "request_settings.max_concurrent_requests_per_instance",
        NUMBER,
        || {
            word(
                plain()
                    .request_settings()
                    .max_concurrent_requests_per_instance(),
            )
        },
        "Requests that one instance runs at once",
    ),
    key(
        "request_settings.max_waiting_requests_per_instance",
        NUMBER,
        || "as many as run at once".to_owned(),
        "Requests that wait for a slot, for each instance; the next is 429. 0: what cannot run at once is refused. In force at once",
    ),
    key(
        "request_settings.max_queue_wait_ms",
        NUMBER,
        none,
        "Longest wait in the queue",
    ),
    key(
        "request_settings.lanes",
        ("1", "[]"),
        || "one for each request at once, up to the vCPUs".to_owned(),
        "Score threads of an instance; each runs one request or batch at a time on its share of the vCPUs. More than the vCPUs, or than run at once, are refused",
    ),
    key(
        "request_settings.max_batch_size",
        NUMBER,
        || {
            format!(
                "by the model's measured profile, at most {BATCH_SIZE_DEFAULT_MAX}, where rows are proven independent, else 1"
            )
        },
        "Most rows that one run takes together; 1 turns batching off, a number above 1 joins requests even where an answer may depend on the others",
    ),
    key(
        "request_settings.max_batch_delay_us",
        NUMBER,
        || word(u64::try_from(plain().request_settings().max_batch_delay().as_micros()).ok()),
        "Longest that a lane waits for more requests before it runs what it has; less than the timeout",
    ),
    key(
        "request_settings.isolation",
        ("\"process\"", "\"x\""),
        || word(plain().request_settings().isolation()),
        "Where lanes compute: `thread` in the server's process, `process` in one each, `auto` by what the graph proves",
    ),
    key(
        "request_settings.non_finite",
        ("\"tokens\"", "\"x\""),
        || word(plain().request_settings().non_finite()),
        "The form of NaN and infinities in answers: `nulls`, or `tokens` as Python's `json` writes them",
    ),
    key(
        "request_settings.spin",
        ("true", "3"),
        || word(plain().request_settings().spin()),
        "The threads of a lane spin instead of sleeping while they wait, within a run and for some tens of milliseconds after it",
    ),
    key(
        "scale_settings.type",
        ("\"target_utilization\"", "\"x\""),
        none,
        "Whether it was to scale by itself",
    ),
    key(
        "scale_settings.min_instances",
        NUMBER,
        none,
        "Fewest instances; where it was to scale by itself and `instance_count` is left out, how many run",
    ),
    key(
        "scale_settings.max_instances",
        NUMBER,
        none,
        "Most instances; at least `min_instances`",
    ),
    key(
        "scale_settings.polling_interval",
        NUMBER,
        none,
        "How often it was to look",
    ),
    key(
        "scale_settings.target_utilization_percentage",
        NUMBER,
        none,
        "The load that it was to keep",
    ),
    key(
        "code_configuration.code",
        TEXT,
        none,
        "The folder of a scoring script; it is copied when the change is accepted",
    ),
    key(
        "code_configuration.scoring_script",
        TEXT,
        none,
        "The script, seen from `code` or from the file",
    ),
    key(
        "scoring",
        ("\"native\"", "\"x\""),
        || "script where a `scoring_script` is written, else native".to_owned(),
        "serin's own: whether the script or the ONNX model itself scores",
    ),
    key(
        "environment",
        ("\"conda.yml\"", "3"),
        || "the Python of the path".to_owned(),
        "For a script: a conda file or a `requirements.txt`, or a mapping with `conda_file`. `image` and `inference_config` in it have no effect, `build` is refused where a script runs; `azureml:NAME:VERSION` is put in from `serin environment` when the file is sent",
    ),
    key(
        "environment_python",
        ("\"any\"", "\"x\""),
        || "exact".to_owned(),
        "serin's own: whether the nearest Python will do for the environment",
    ),
    key(
        "environment_variables",
        MAP,
        none,
        "Variables of the script's processes: texts, numbers, or true and false",
    ),
    key("description", TEXT, none, "For people"),
    key("tags", MAP, none, "For people"),
    key("properties", MAP, none, "For people and programs"),
];

const ENDPOINT: &[Key] = &[
    key(
        "name",
        ("\"iris\"", "\"?\""),
        required,
        "The name, unique on a server; case does not count",
    ),
    key(
        "auth_mode",
        ("\"key\"", "\"x\""),
        || word(EndpointSpec::new("iris".parse().expect("a name")).auth_mode()),
        "How clients prove who they are: two keys, or tokens with an expiry. `aad_token` is taken as `key`",
    ),
    key(
        "traffic",
        ("{\"blue\": 100}", "3"),
        none,
        "Percent per deployment, in sum 0 or 100, down to 0.01. One that is not named gets nothing",
    ),
    key(
        "mirror_traffic",
        ("{\"green\": 10}", "3"),
        none,
        "A deployment without live traffic that gets copies of so many requests; nobody sees its answers",
    ),
    key(
        "shadow_traffic",
        ("{\"green\": 100}", "3"),
        none,
        "serin's own: the same for several deployments, up to all requests",
    ),
    key(
        "sticky",
        ("{\"cookie\": \"session\"}", "3"),
        none,
        "serin's own, one of the next four: a client stays with its deployment, and a split that changes moves no more clients than it must",
    ),
    key(
        "sticky.header",
        TEXT,
        none,
        "The header that has the key of a client",
    ),
    key("sticky.cookie", TEXT, none, "The cookie that has it"),
    key(
        "sticky.json_path",
        ("\"/user\"", "\"x\""),
        none,
        "The JSON pointer at which a body has it, within its first 16 KiB",
    ),
    key(
        "sticky.client_ip",
        ("true", "false"),
        none,
        "The address of the client is its key; clients behind one proxy are one",
    ),
    key(
        "type",
        ("\"managed\"", "\"x\""),
        none,
        "For whom it was written",
    ),
    key("description", TEXT, none, "For people"),
    key("tags", MAP, none, "For people"),
    key("properties", MAP, none, "For people and programs"),
];

/// Every key of a deployment's file.
pub(crate) fn of_deployment() -> Vec<KeyAbout> {
    let read = |file| {
        let (spec, problems) = read_deployment(file);
        let scripted = spec
            .as_ref()
            .is_some_and(|spec| spec.code_configuration.is_some());
        let notes = spec.map(|spec| spec.notes()).unwrap_or_default();
        // Half of a script is refused by what is missing, which says nothing of the key.
        (problems, if scripted { Vec::new() } else { notes })
    };
    let mut keys: Vec<_> = DEPLOYMENT
        .iter()
        .map(|key| about(key, least_of_deployment(), spelling::DEPLOYMENT, &read))
        .collect();
    let kept = deployment::KEPT
        .iter()
        .map(|(key, shape)| (*key, shape.expected()));
    keys.extend(kept_keys(kept, &keys));
    keys.extend(dropped(
        deployment::READ_ONLY,
        "",
        "Azure writes it into its answers",
    ));
    let of_models = "It says nothing to serin; `serin model create` keeps what describes a model";
    keys.extend(dropped(deployment::IGNORED_OF_MODELS, "model.", of_models));
    keys.extend(batch::KEYS.iter().map(|key| refused(key)));
    keys
}

/// Every key of an endpoint's file.
pub(crate) fn of_endpoint() -> Vec<KeyAbout> {
    let read = |file| {
        let mut problems = Vec::new();
        let mut root = Node::from_value(String::new(), file);
        modernise(&mut root, spelling::ENDPOINT, &mut problems);
        let spec = endpoint::read(root, &mut problems);
        (problems, spec.map(|spec| spec.notes()).unwrap_or_default())
    };
    let mut keys: Vec<_> = ENDPOINT
        .iter()
        .map(|key| about(key, least_of_endpoint(), spelling::ENDPOINT, &read))
        .collect();
    keys.push(KeyAbout {
        path: "deployments".to_owned(),
        older: Vec::new(),
        expected: "a list, or a mapping from names".to_owned(),
        default: String::new(),
        fate: "works".to_owned(),
        words: "Deployments, as files of older forms have them beside their endpoint".to_owned(),
    });
    let kept = endpoint::KEPT
        .iter()
        .map(|(key, shape)| (*key, shape.expected()));
    keys.extend(kept_keys(kept, &keys));
    keys.extend(dropped(
        endpoint::READ_ONLY,
        "",
        "Azure writes it into its answers",
    ));
    keys
}

/// Why files of batch endpoints are refused.
pub(crate) fn reason_of_batch() -> &'static str {
    batch::REASON
}

/// Bounds of what a file says to people, in a sentence.
pub(crate) fn bounds_of_texts() -> String {
    format!(
        "A `description` has at most {DESCRIPTION_BYTES_MAX} bytes; `tags` and `properties` at most {TAGS_MAX} entries each, names of at most \
         {TAG_NAME_BYTES_MAX} bytes and values of at most {TAG_VALUE_BYTES_MAX}."
    )
}

fn read_deployment(file: Value) -> (Option<DeploymentSpec>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut root = Node::from_value(String::new(), file);
    modernise(&mut root, spelling::DEPLOYMENT, &mut problems);
    (deployment::read(root, &mut problems), problems)
}

fn about(
    key: &Key,
    least: Value,
    spellings: &[Spelling],
    read: &dyn Fn(Value) -> (Vec<Problem>, Vec<String>),
) -> KeyAbout {
    // The bounds of scaling mean something only together.
    let least = match key.path.starts_with("scale_settings.") {
        true => with(least, "scale_settings.type", "\"target_utilization\""),
        false => least,
    };
    let (problems, _) = read(with(least.clone(), key.path, key.wrong));
    let told = problems.iter().find(|problem| problem.field == key.path);
    let expected = told.map_or_else(String::new, |problem| expected(&problem.message));
    let (problems, notes) = read(with(least, key.path, key.right));
    let refusal = problems.iter().find(|problem| problem.field == key.path);
    let leaf = key.path.rsplit('.').next().unwrap_or(key.path);
    let section = key.path.split('.').next().unwrap_or(key.path);
    let is_of_it = |note: &&String| {
        let says = note.contains("without effect");
        says && (note.contains(leaf) || note.starts_with(section))
    };
    let note = notes.iter().find(is_of_it);
    let of_scripts = ["environment", "environment_variables", "environment_python"];
    KeyAbout {
        path: key.path.to_owned(),
        older: older(key.path, spellings),
        expected: if refusal.is_some() {
            String::new()
        } else {
            expected
        },
        default: (key.default)(),
        fate: match (refusal, note) {
            (Some(problem), _) => format!("refused: {}", problem.message),
            (None, Some(_)) if of_scripts.contains(&key.path) => {
                "works for a script, else kept without effect".to_owned()
            }
            (None, Some(note)) => kept_in_words(note),
            (None, None) => "works".to_owned(),
        },
        words: key.words.to_owned(),
    }
}

/// A file with one more value in it, at a path.
fn with(mut file: Value, path: &str, value: &str) -> Value {
    let value: Value = serde_json::from_str(value).expect("values of the tables are JSON");
    let mut at = &mut file;
    for part in path.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[part];
    }
    *at = value;
    file
}

/// A note without the name of the key, which stands beside it.
fn kept_in_words(note: &str) -> String {
    let from = note.find("kept without effect").unwrap_or_default();
    note[from..].to_owned()
}

/// What a refusal says that it expected.
fn expected(message: &str) -> String {
    let words = message.strip_prefix("expected ").unwrap_or(message);
    let words = words
        .rsplit_once(", found")
        .map_or(words, |(words, _)| words);
    words.to_owned()
}

/// The paths that once were this one, also through a section that had another name.
fn older(path: &str, spellings: &[Spelling]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (old, new) in spellings.iter().rev() {
        let mut all: Vec<&str> = vec![path];
        all.extend(found.iter().map(String::as_str));
        let more: Vec<String> = all
            .into_iter()
            .filter_map(|one| {
                let rest = one.strip_prefix(new)?;
                (rest.is_empty() || rest.starts_with('.')).then(|| format!("{old}{rest}"))
            })
            .filter(|one| !one.starts_with(&format!("{path}.")) && !found.contains(one))
            .collect();
        found.extend(more);
    }
    found.retain(|old| old != path && !is_mixed(old, spellings));
    found
}

/// Whether a section of today has a key of before, which is read and which no file ever had.
fn is_mixed(path: &str, spellings: &[Spelling]) -> bool {
    let Some((section, _)) = path.split_once('.') else {
        return false;
    };
    let is_renamed = spellings.iter().any(|(_, new)| *new == section);
    is_renamed && section != "code_configuration"
}

/// Keys that are kept without being understood and that no row tells of.
fn kept_keys<'a>(
    kept: impl Iterator<Item = (&'static str, &'static str)> + 'a,
    told: &'a [KeyAbout],
) -> Vec<KeyAbout> {
    kept.filter(|(key, _)| !told.iter().any(|one| one.path == *key))
        .map(|(key, expected)| KeyAbout {
            path: key.to_owned(),
            older: Vec::new(),
            expected: expected.to_owned(),
            default: String::new(),
            fate: "kept without effect".to_owned(),
            words: String::new(),
        })
        .collect()
}

fn dropped(keys: &[&str], section: &str, words: &str) -> Vec<KeyAbout> {
    let about = |key: &&str| KeyAbout {
        path: format!("{section}{key}"),
        older: Vec::new(),
        expected: String::new(),
        default: String::new(),
        fate: "dropped".to_owned(),
        words: words.to_owned(),
    };
    keys.iter().map(about).collect()
}

fn refused(key: &str) -> KeyAbout {
    KeyAbout {
        path: key.to_owned(),
        older: Vec::new(),
        expected: String::new(),
        default: String::new(),
        fate: "refused".to_owned(),
        words: "Of batch endpoints and deployments".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys that a source takes by their names.
    fn taken(source: &str) -> Vec<&str> {
        let code = source.split("#[cfg(test)]").next().unwrap_or(source);
        let mut found = Vec::new();
        for call in [".read(", ".take(", ".require("] {
            for (at, _) in code.match_indices(call) {
                let rest = code[at + call.len()..].trim_start();
                if let Some(rest) = rest.strip_prefix('"') {
                    found.extend(rest.split('"').next());
                }
            }
        }
        found
    }

    #[test]
    fn each_key_that_a_reader_takes_is_told() {
        let (deployment, endpoint) = (of_deployment(), of_endpoint());
        let sources = [
            (&deployment, include_str!("deployment.rs")),
            (&deployment, include_str!("code.rs")),
            (&endpoint, include_str!("endpoint.rs")),
            (&endpoint, include_str!("sticky.rs")),
        ];
        for (keys, source) in sources {
            let taken = taken(source);
            assert!(taken.len() > 1, "{taken:?}");
            for key in taken {
                let is_told = |one: &KeyAbout| one.path.split('.').any(|part| part == key);
                // The folder of the file is written by the command, not by people.
                assert!(key == "relative_to" || keys.iter().any(is_told), "{key}");
            }
        }
    }

    #[test]
    fn each_key_that_is_told_is_one_that_the_reader_takes_with_its_bounds() {
        for key in of_deployment().iter().chain(&of_endpoint()) {
            assert!(
                !key.fate.contains("unknown key"),
                "{}: {}",
                key.path,
                key.fate
            );
            assert!(!key.expected.contains("unknown key"), "{}", key.path);
            let has_form = !key.expected.is_empty() || key.fate == "dropped";
            assert!(has_form || key.fate.starts_with("refused"), "{key:?}");
        }
        let keys = of_deployment();
        let key = |path: &str| keys.iter().find(|key| key.path == path).unwrap();
        let count = key("instance_count");
        assert_eq!(count.expected, "a whole number from 1 to 50");
        assert_eq!(count.older, ["scale.instance_count"]);
        assert!(
            key("request_settings.max_queue_wait_ms")
                .fate
                .contains("without effect")
        );
        assert!(key("model.datastore").fate.starts_with("refused"));
        assert_eq!(key("request_settings.lanes").fate, "works");
    }
}
