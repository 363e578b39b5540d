//! Refusals of changes, with their reasons.

use crate::control::needs::Needs;
use crate::control::revision::Revision;
use crate::spec::{DeploymentName, EndpointName, Percent, shown};

/// The kind of a refusal; administration answers with a status by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The thing that the request names does not exist.
    NotFound,
    /// The thing that it would create exists.
    AlreadyExists,
    /// It asks for what cannot be.
    Invalid,
    /// It does not fit the present state.
    Conflict,
    /// The disk refused.
    Storage,
    /// Too many wait already, or the server is stopping: try again.
    Busy,
}

/// The reason why a change was refused. Nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The thing that the change names does not exist; says what does.
    #[error("{0}")]
    NotFound(String),
    /// The thing that the change would create exists.
    #[error("{0}")]
    AlreadyExists(String),
    /// Everything that is wrong with it. Never empty.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
    /// It does not fit the present state, such as traffic that a deployment still has.
    #[error("{0}")]
    Conflict(String),
    /// A deployment that is to go has traffic.
    #[error(
        "the deployment {deployment} has live traffic ({percent} %) and can't be deleted: scale down its traffic to 0 first, \
         with `serin endpoint update --name {endpoint} --traffic {without}`"
    )]
    LiveTraffic {
        deployment: DeploymentName,
        percent: Percent,
        endpoint: EndpointName,
        /// A split without it, as it is typed.
        without: String,
    },
    /// Somebody else changed something since the caller looked.
    #[error(
        "revision {expected} was expected, the current one is {current}: look again, then decide"
    )]
    Outdated {
        expected: Revision,
        current: Revision,
    },
    /// The change could not be made durable, so it was not accepted.
    #[error("the change cannot be stored, so nothing was changed: {0}")]
    Storage(String),
    /// The mailbox is full.
    #[error("too many changes wait already: try again")]
    Busy,
    /// Another process has the data folder, or cannot get it now.
    #[error("{0}")]
    Replaced(String),
    /// The server is going away.
    #[error("the server is stopping")]
    Stopped,
}

impl ChangeError {
    /// Refusal to create what is there.
    pub(super) fn exists(what: &str) -> Self {
        Self::AlreadyExists(format!(
            "{what} exists: update or replace it, or choose another name"
        ))
    }

    /// Refusal to change a deployment that is not there; says which are.
    pub(super) fn no_deployment<'a>(
        endpoint: &EndpointName,
        name: &DeploymentName,
        known: impl Iterator<Item = &'a DeploymentName>,
    ) -> Self {
        let known: Vec<_> = known.map(DeploymentName::as_str).collect();
        let known = if known.is_empty() {
            "none yet".to_owned()
        } else {
            known.join(", ")
        };
        Self::NotFound(format!(
            "endpoint {endpoint} has no deployment {}; it has {known}",
            shown(name.as_str())
        ))
    }

    /// The kind of the refusal.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::AlreadyExists(_) => ErrorKind::AlreadyExists,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Conflict(_) | Self::LiveTraffic { .. } | Self::Outdated { .. } => {
                ErrorKind::Conflict
            }
            Self::Storage(_) => ErrorKind::Storage,
            Self::Busy | Self::Replaced(_) | Self::Stopped => ErrorKind::Busy,
        }
    }

    /// Each problem by itself, where there are several.
    #[must_use]
    pub fn details(&self) -> &[String] {
        match self {
            Self::Invalid(problems) => problems,
            _ => &[],
        }
    }
}

/// The reason why there is no next state.
#[derive(Debug)]
pub(super) enum NotApplied {
    Refused(ChangeError),
    /// Gather these and apply again.
    Needs(Needs),
}

impl From<ChangeError> for NotApplied {
    fn from(error: ChangeError) -> Self {
        Self::Refused(error)
    }
}
