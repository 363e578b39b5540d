//! The data folder, lent to a process that is to take this server's place: from then on that is the writer, and this one serves on
//! without. Taken back when the other does not become ready.
//!
//! Nothing may be under way when it is lent, so that nothing is lost that only this process knows. A folder that came back written by
//! a later release, or with other changes, stays where it is: this server serves on and says why it takes no changes.
//!
//! Threads: control. Not here: how the two processes talk (`app`).

use tokio::sync::oneshot;

use crate::black_box;
use crate::control::controller::Controller;
use crate::control::lent::Lent;
use crate::control::mailbox::{ControllerHandle, Mail};
use crate::control::refusal::ChangeError;
use crate::control::store::{DataFolder, OnLoss, Store, StoreError, StoreThread};

impl Controller {
    /// Closes the store and unlocks its folder.
    pub(super) fn lend(&mut self) -> Result<(), ChangeError> {
        if self.stopping.is_some() {
            return Err(ChangeError::Stopped);
        }
        if let Some(lent @ (Lent::Given | Lent::Wanted(_))) = &self.lent {
            return Err(lent.refusal());
        }
        if let Some(what) = self.under_way() {
            return Err(ChangeError::Replaced(format!(
                "{what}: try again when that is over"
            )));
        }
        self.store.close();
        if self.black_box {
            // Another file for the next one, so that what ends here does not write into it.
            black_box::leave(&self.data);
        }
        self.lent = Some(Lent::Given);
        Ok(())
    }

    /// What the next process would not know of.
    fn under_way(&self) -> Option<String> {
        if !self.is_settled() {
            return Some("the server is still starting".to_owned());
        }
        if self.registry.under_way > 0 {
            return Some("a model is being copied in".to_owned());
        }
        let operation = self.books.operations.keys().next();
        operation.map(|id| format!("operation {id} is under way"))
    }

    /// Wants the folder back, and takes it if it is free.
    pub(super) fn want_back(&mut self, taken: oneshot::Sender<()>) {
        if matches!(self.lent, Some(Lent::Given)) {
            self.lent = Some(Lent::Wanted(Some(taken)));
            self.take_back();
        }
    }

    /// Takes the folder back, if it is wanted and free; else it is tried again.
    pub(super) fn take_back(&mut self) {
        let Some(Lent::Wanted(waiting)) = &mut self.lent else {
            return;
        };
        let waiting = waiting.take();
        match self.reopened() {
            Ok(store) => {
                self.store = store;
                self.lent = None;
                tracing::info!(
                    "this server takes changes again; were it to die now, the next one would not know of what"
                );
            }
            Err(StoreError::InUse { .. }) => {
                self.lent = Some(Lent::Wanted(waiting));
                return;
            }
            Err(error) => {
                tracing::error!(%error, "this server serves on and takes no changes");
                self.lent = Some(Lent::Lost(error.to_string()));
            }
        }
        // Who waits may have gone.
        let _heard = waiting.is_none_or(|taken| taken.send(()).is_ok());
        self.collect_models();
    }

    fn reopened(&self) -> Result<StoreThread, StoreError> {
        let folder = DataFolder::open(&self.data)?;
        let store = Store::open(&folder, OnLoss::Refuse)?;
        let found = store.load(&self.onnx_runtime)?.revision;
        if found != self.revision {
            return Err(StoreError::Changed {
                expected: self.revision,
                found,
            });
        }
        StoreThread::start(store, folder).map_err(|source| StoreError::Folder {
            path: self.data.clone(),
            source,
        })
    }
}

impl ControllerHandle {
    /// Closes the store and unlocks the data folder for another process. Until it is taken back no change is accepted; what is served
    /// stays served.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] when something is under way, or another process has it already.
    pub async fn lend(&self) -> Result<(), ChangeError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.mailbox.send(Mail::Lend(reply)).await;
        sent.map_err(|_| ChangeError::Stopped)?;
        answer.await.unwrap_or(Err(ChangeError::Stopped))
    }

    /// Takes the data folder back as soon as the other process has left it; returns when that is done, or can never be.
    pub async fn take_back(&self) {
        let (taken, is_taken) = oneshot::channel();
        if self.mailbox.send(Mail::TakeBack(taken)).await.is_ok() {
            // It is dropped where the folder was not lent.
            let _taken = is_taken.await.is_ok();
        }
    }
}
