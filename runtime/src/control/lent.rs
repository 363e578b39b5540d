//! Where the data folder is when this process has lent it, and what people are told then. Pure. Not here: lending it (`lending`).

use tokio::sync::oneshot;

use crate::control::refusal::ChangeError;

/// Why the folder is not here.
#[derive(Debug)]
pub(super) enum Lent {
    /// Another process has it.
    Given,
    /// It is wanted back; who waits for that.
    Wanted(Option<oneshot::Sender<()>>),
    /// It came back as something that this process cannot go on with.
    Lost(String),
}

impl Lent {
    /// The refusal of whatever would have to be written there.
    pub(super) fn refusal(&self) -> ChangeError {
        ChangeError::Replaced(match self {
            Self::Given | Self::Wanted(_) => {
                "the server is being replaced: try again in a moment".to_owned()
            }
            Self::Lost(why) => format!("this server serves on and takes no changes: {why}"),
        })
    }
}
