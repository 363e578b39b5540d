//! A scoring script as an instance is told of it.
//!
//! Not here: where its files come from (`control`), the process that runs it (`lane`).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whatever must be there for as long as processes of a script run: folders that were made for them, locks.
pub trait KeptAlive: Debug + Send + Sync {}

impl<T: Debug + Send + Sync> KeptAlive for T {}

/// A scoring script that the lanes of an instance run, each in a Python process of its own.
#[derive(Debug, Clone)]
pub struct ScriptSpec {
    /// The Python that runs it.
    pub python: PathBuf,
    /// The file with `init` and `run`. Its folder is where the process works.
    pub entry_script: PathBuf,
    /// The folder of the code (`AZUREML_SOURCE_DIRECTORY`).
    pub source_directory: PathBuf,
    /// The folder that the code is in (`AML_APP_ROOT`).
    pub app_root: PathBuf,
    /// The folder of the model (`AZUREML_MODEL_DIR`).
    pub model_dir: Option<PathBuf>,
    /// Variables of the process (`environment_variables` of the file).
    pub variables: BTreeMap<String, String>,
    /// The place that its packages come from, in words, for the message of one that is missing.
    pub environment: Option<String>,
    /// What outlives its processes.
    pub keep: Vec<Arc<dyn KeptAlive>>,
}

/// What a script says of its requests and answers, by the decorators of `inference_schema`: schemas in the form of OpenAPI, which are taken
/// as they are said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScriptSchemas {
    /// The schema of a request.
    pub request: Value,
    /// The schema of an answer.
    pub response: Value,
}
