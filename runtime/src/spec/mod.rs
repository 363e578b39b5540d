//! What users write. Pure, and valid by construction.

mod deployment;
mod endpoint;
mod fields;
mod model;
mod names;
mod node;
mod problem;
mod request;
mod set;
mod sku;
mod spelling;
mod traffic;
mod yaml;

pub use deployment::{
    CodeConfiguration, DeploymentFile, DeploymentSpec, ScaleBounds, read_deployment,
};
pub use endpoint::{AuthMode, EndpointFile, EndpointSpec, read_endpoint};
pub use model::{ModelRef, VersionRef};
pub use names::{DeploymentName, EndpointName, ModelName, ModelVersion, NameError};
pub use problem::{Place, Problem, SpecError};
pub use request::RequestSettings;
pub use set::{Assignment, SetError, apply};
pub use sku::{Sku, SkuTable, UnknownSku};
pub use traffic::{Percent, Picker, TrafficError, TrafficSplit};

#[cfg(test)]
mod tests;
