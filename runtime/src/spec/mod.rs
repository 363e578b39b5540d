//! What users write. Pure, and valid by construction.

mod deployment;
mod endpoint;
mod model;
mod names;
mod problem;
mod request;
mod set;
mod sku;
mod traffic;
mod yaml;

pub use names::{DeploymentName, EndpointName, ModelName, ModelVersion, NameError};
pub use traffic::TrafficSplit;
