//! Specs as users write them: endpoints, deployments, models, traffic, instance types. Pure, and valid by construction.
//!
//! Azure's files have had five forms. Keys decide which one a file is in, never its `$schema`: `yaml` turns the text
//! into a tree of values with places, `spelling` renames old keys to the current ones, and one reader per file judges
//! the result. Stored JSON and assignments of the command line (`assignment`, `set`) go the same way, so that no check has
//! a second home. Every problem of a file is told, each with its place and in the spelling of the file.
//!
//! Not here: files and folders (texts come in as `&str`), and whether the deployments that traffic names exist.

mod assignment;
#[cfg(feature = "server")]
mod batch;
mod bounds;
mod code;
mod cohorts;
mod deployment;
mod endpoint;
#[cfg(feature = "server")]
mod environment_file;
mod fields;
mod kept;
#[cfg(feature = "cli")]
mod keys;
#[cfg(feature = "server")]
mod kind;
#[cfg(feature = "server")]
mod model;
mod model_about;
mod model_ref;
mod names;
mod node;
mod paths;
#[cfg(feature = "server")]
mod placeholder;
mod problem;
mod program;
mod request;
mod scoring;
mod set;
mod sku;
mod spelling;
mod sticky;
mod traffic;
#[cfg(feature = "server")]
mod yaml;

pub use assignment::{Assignment, SetError};
pub use code::{CodeConfiguration, EnvironmentPython, Scoring, ScoringKind};
pub use cohorts::{Cohorts, hash64, place_on_line};
#[cfg(feature = "server")]
pub use deployment::read_deployment;
pub use deployment::{DeploymentFile, DeploymentSpec, ScaleBounds};
#[cfg(feature = "server")]
pub use endpoint::read_endpoint;
pub use endpoint::{AuthMode, EndpointFile, EndpointSpec};
#[cfg(feature = "server")]
pub use environment_file::{EnvironmentSpec, read_environment};
#[cfg(feature = "server")]
pub use kind::{FileKind, kind_of_file, lacks_model_and_type};
#[cfg(feature = "server")]
pub use model::{ModelSpec, read_model};
pub use model_about::ModelAbout;
pub use model_ref::{ModelRef, VersionRef};
pub use names::{DeploymentName, EndpointName, ModelName, ModelVersion, NameError};
pub use problem::{Place, Problem, SpecError};
pub use program::ProgramSettings;
pub use request::{Isolation, Queueing, RequestSettings};
pub use scoring::EnvironmentSource;
pub use set::apply;
pub use sku::{Sku, SkuTable, UnknownSku};
pub use sticky::Sticky;
pub(crate) use sticky::pointer;
pub use traffic::{Percent, Picker, TrafficError, TrafficSplit};

// The reader of files with places, for the environment files of deployments.
pub(crate) use fields::{Fields, nearest, text};
#[cfg(feature = "server")]
pub(crate) use fields::{one_of, parsed, whole, yes_or_no};
#[cfg(feature = "cli")]
pub(crate) use keys::{KeyAbout, bounds_of_texts, of_deployment, of_endpoint, reason_of_batch};
pub(crate) use names::shown;
pub(crate) use node::{Content, Node};
#[cfg(feature = "server")]
pub(crate) use paths::expanded as expanded_home;
#[cfg(feature = "cli")]
pub(crate) use paths::resolve as resolve_path;
#[cfg(feature = "server")]
pub(crate) use yaml::parse;

#[cfg(test)]
#[cfg(feature = "server")]
mod tests;
