//! `serin score-script check`: runs `init()` and one request of a scoring script where it lies, for people who write scripts.
//!
//! The answer goes to standard output; how it came about, and what the script prints, to standard error.
//! Not here: which files belong to the script (`script_folder`), how it runs (`app`).

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry;

use super::args::{Global, OutputFormat, ScriptCheck};
use super::exit::CliError;
use super::script_folder::ScriptFolder;
use super::{files, output};
use crate::app::{Checked, ScriptAnswer, check_script};
use crate::engine::{RequestHead, ScriptSpec};
use crate::environments::{BuildSettings, Environment, EnvironmentError, Environments, Recipe};
use crate::router::ScriptWords;

/// The beginning of a line of the log that a script has printed.
const PRINTED: &str = "script: ";

/// Tries the script, and tells what came out.
pub(super) fn check(typed: &ScriptCheck, global: &Global) -> Result<(), CliError> {
    let doing = format!("check the scoring script in {}", typed.code.display());
    let told = Told {
        is_quiet: global.only_show_errors,
    };
    // Fails where another has done so before: then that one tells.
    let _hears = tracing::subscriber::set_global_default(registry().with(Hears));
    let checked = try_out(typed, told).map_err(|error| error.while_doing(doing))?;
    let failure = checked.failure();
    match global.format_for_people() {
        OutputFormat::Table if !global.asks_for_part() => {
            told.line(&checked.story());
            if let Some(answer) = &checked.checked.answer {
                output::print_answer(&answer.body)?;
            }
        }
        format => output::print(&checked.report(), &global.form_as(format))?,
    }
    failure.map_or(Ok(()), |words| Err(CliError::OperationFailed(words)))
}

/// Tells people how it goes on.
#[derive(Debug, Clone, Copy)]
struct Told {
    is_quiet: bool,
}

impl Told {
    fn line(self, text: &str) {
        if !self.is_quiet {
            output::complain(&format!("{}\n", text.trim_end()));
        }
    }
}

/// A script that was tried, and what with.
struct Tried {
    found: ScriptFolder,
    environment: Environment,
    checked: Checked,
}

fn try_out(typed: &ScriptCheck, told: Told) -> Result<Tried, CliError> {
    let found = ScriptFolder::find(typed).map_err(CliError::BadInput)?;
    for note in &found.notes {
        told.line(&format!("note: {note}"));
    }
    let body = found.request.as_deref().map(files::request).transpose()?;
    let environment = environment(typed, told)?;
    told.line(&format!("script: {}", found.script.display()));
    let model = found
        .model
        .as_deref()
        .map(|path| path.display().to_string());
    told.line(&format!("model: {}", model.as_deref().unwrap_or("none")));
    told.line(&environment.description());
    let mounted = found.model.as_deref().map(mounted).transpose()?;
    let script = spec(&found, &environment, mounted.as_ref().map(TempDir::path));
    let request = body.map(|body| (RequestHead::default(), Bytes::from(body)));
    let checked = check_script(script, request);
    let checked = checked.map_err(|error| CliError::OperationFailed(error.to_string()))?;
    Ok(Tried {
        found,
        environment,
        checked,
    })
}

/// The environment of the file that was named, built if it is not there; else the Python of the path.
fn environment(typed: &ScriptCheck, told: Told) -> Result<Environment, CliError> {
    let recipe = typed.environment.as_deref().map(recipe).transpose()?;
    let environments = Environments::in_cache();
    let environments = environments.map_err(|error| CliError::BadInput(error.to_string()))?;
    let ready = match recipe {
        None => environments.python_of_the_path(),
        Some(recipe) => {
            let recipe = recipe.with_any_python(typed.any_python);
            for note in recipe.notes() {
                told.line(&format!("note: {note}"));
            }
            let settings = BuildSettings {
                tell: &|text| told.line(text),
                // Ctrl-C ends this process, and the commands that it started with it.
                cancel: &|| false,
            };
            environments.ready(&recipe, &settings)
        }
    };
    ready.map_err(|error| match error {
        EnvironmentError::NoPython(_) => CliError::BadInput(error.to_string()),
        _ => CliError::OperationFailed(error.to_string()),
    })
}

fn recipe(file: &Path) -> Result<Recipe, CliError> {
    let include = |path: &Path| files::text(path).map_err(|error| io::Error::other(error.text()));
    Ok(Recipe::read(file, &files::text(file)?, &include)?)
}

/// A folder where the model is under its name, as it is mounted for a deployment.
fn mounted(model: &Path) -> Result<TempDir, CliError> {
    let name = model.file_name();
    let name =
        name.ok_or_else(|| CliError::BadInput(format!("{} is no model", model.display())))?;
    let folder = TempDir::with_prefix("serin-check-").map_err(CliError::Start)?;
    symlink(model, folder.path().join(name)).map_err(CliError::Start)?;
    Ok(folder)
}

fn spec(found: &ScriptFolder, environment: &Environment, model: Option<&Path>) -> ScriptSpec {
    // A check leaves nothing behind in the folder of the code.
    let variables = [("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned())];
    ScriptSpec {
        python: environment.python().to_owned(),
        entry_script: found.script.clone(),
        source_directory: found.code.clone(),
        app_root: found.code.parent().unwrap_or(&found.code).to_owned(),
        model_dir: model.map(Path::to_owned),
        variables: BTreeMap::from(variables),
        environment: Some(environment.description()),
        keep: vec![Arc::new(environment.clone())],
    }
}

impl Tried {
    /// The reason why the answer is no success, in words.
    fn failure(&self) -> Option<String> {
        let answer = self.checked.answer.as_ref()?;
        let words = ScriptWords::of(answer.head.as_deref(), &answer.body);
        (!(200..400).contains(&words.status)).then(|| words.to_string())
    }

    /// What happened, for people.
    fn story(&self) -> String {
        let mut story = format!(
            "init() returned {:.3} s after the start of Python\n",
            self.checked.ready_after.as_secs_f64()
        );
        if let Some(answer) = &self.checked.answer {
            answered(answer, &mut story);
        }
        story
    }

    /// The same, for programs.
    fn report(&self) -> Value {
        let answer = self.checked.answer.as_ref().map(|answer| {
            json!({
                "status": status(answer),
                "failed": answer.head.as_ref().is_some_and(|head| head.failed),
                "headers": headers(answer),
                "body": body(&answer.body),
                "run_ms": answer.ran_for.map(|time| time.as_secs_f64() * 1e3),
            })
        });
        json!({
            "script": self.found.script,
            "model": self.found.model,
            "python": self.environment.version(),
            "environment": self.environment.description(),
            "ready_after_s": self.checked.ready_after.as_secs_f64(),
            "answer": answer,
        })
    }
}

fn answered(answer: &ScriptAnswer, story: &mut String) {
    let failed = answer.head.as_ref().is_some_and(|head| head.failed);
    let ran = match answer.ran_for {
        Some(time) if !failed => format!("took {:.3} ms", time.as_secs_f64() * 1e3),
        _ => "failed".to_owned(),
    };
    let status = status(answer);
    writeln!(story, "run() {ran}, and the answer has status {status}")
        .expect("text takes any text");
    for (name, value) in headers(answer) {
        writeln!(story, "{name}: {value}").expect("text takes any text");
    }
}

fn status(answer: &ScriptAnswer) -> u16 {
    answer.head.as_ref().map_or(200, |head| head.status)
}

fn headers(answer: &ScriptAnswer) -> Vec<(String, String)> {
    match &answer.head {
        Some(head) => head.headers.clone(),
        None => vec![("content-type".to_owned(), "application/json".to_owned())],
    }
}

/// JSON as it is, else the text.
fn body(bytes: &[u8]) -> Value {
    let json = serde_json::from_slice(bytes).ok();
    json.unwrap_or_else(|| String::from_utf8_lossy(bytes).into_owned().into())
}

/// Writes what the script prints, as it comes and all of it; and what the server would warn of.
struct Hears;

impl<S: Subscriber> Layer<S> for Hears {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() > Level::INFO {
            return;
        }
        let mut message = Message::default();
        event.record(&mut message);
        match message.0.strip_prefix(PRINTED) {
            Some(line) => output::complain(&format!("{line}\n")),
            None if *event.metadata().level() <= Level::WARN => {
                output::complain(&format!("{}\n", message.0));
            }
            None => {}
        }
    }
}

/// The message of an event.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Tries a script that has this text, with a sample.
    fn tried(script: &str) -> Result<Tried, CliError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("score.py"), script).unwrap();
        fs::write(folder.path().join("sample-request.json"), "[1, 2]").unwrap();
        fs::create_dir(folder.path().join("model")).unwrap();
        fs::write(folder.path().join("model/weights.txt"), "7").unwrap();
        let typed = ScriptCheck {
            code: folder.path().to_owned(),
            script: None,
            model: None,
            environment: None,
            any_python: false,
            request: None,
        };
        let tried = try_out(&typed, Told { is_quiet: true });
        assert!(!folder.path().join("__pycache__").exists());
        tried
    }

    const INIT: &str = "import json, os\ndef init():\n    pass\n";

    #[test]
    fn a_script_is_tried_with_its_model_and_its_sample() {
        let tried = tried(&format!(
            "{INIT}def run(data):\n    folder = os.path.join(os.environ['AZUREML_MODEL_DIR'], 'model')\n    \
             return json.loads(data) + [open(os.path.join(folder, 'weights.txt')).read()]\n"
        ))
        .unwrap();
        let report = tried.report();
        assert_eq!(report["answer"]["status"], 200, "{report}");
        assert_eq!(report["answer"]["body"], json!([1, 2, "7"]));
        assert_eq!(tried.failure(), None);
        assert!(
            tried.story().contains("the answer has status 200"),
            "{}",
            tried.story()
        );
    }

    #[test]
    fn a_run_that_fails_is_told_and_no_success() {
        let tried = tried(&format!(
            "{INIT}def run(data):\n    raise ValueError('no')\n"
        ))
        .unwrap();
        assert_eq!(tried.report()["answer"]["failed"], true);
        let story = tried.story();
        assert!(
            story.contains("run() failed, and the answer has status 500"),
            "{story}"
        );
        let words = tried.failure().unwrap();
        assert!(words.contains("status 500"), "{words}");
    }

    #[test]
    fn a_script_that_cannot_begin_is_told_in_its_own_words() {
        let Err(error) = tried("def init():\n    raise KeyError('colour')\ndef run(data): pass\n")
        else {
            panic!("it began");
        };
        assert!(error.to_string().contains("KeyError: 'colour'"), "{error}");
        assert_eq!(error.code(), super::super::exit::OPERATION_FAILED);
    }
}
