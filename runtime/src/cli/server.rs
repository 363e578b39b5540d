//! The server that a command talks to: found by the data folder, asked for a change, waited for.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::args::{Global, Waiting};
use super::az_form::AzForm;
use super::exit::CliError;
use super::form::Form;
use super::output::{self, Columns};
use super::progress::{Progress, TICK};
use super::workspace::Workspace;
use crate::admin::{ChangeRequest, Client, user_of_process};
use crate::config::BY_BYTES_MAX;
use crate::control::{Change, Operation, ProvisioningState, Revision};

/// The most of what is done that the line of progress says: one that wraps cannot be written anew.
const PROGRESS_CHARS_MAX: usize = 56;

/// A server, and how the person at the keyboard wants to hear of it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) client: Client,
    form: Form,
    quiet: bool,
    /// How endpoints and deployments are printed.
    pub(super) az: AzForm,
}

/// The data folder: `--data`, else `SERIN_DATA`, else `serin` in the user's data home.
pub(super) fn data_folder(global: &Global) -> Result<PathBuf, CliError> {
    if let Some(data) = &global.data {
        return Ok(data.clone());
    }
    let chosen = env::var_os("SERIN_DATA").filter(|folder| !folder.is_empty());
    if let Some(chosen) = chosen {
        return Ok(chosen.into());
    }
    let folder = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    folder("XDG_DATA_HOME")
        .or_else(|| Some(folder("HOME")?.join(".local/share")))
        .map(|home| home.join("serin"))
        .ok_or_else(|| {
            CliError::BadInput(
                "no data folder: HOME is not set; name one with --data or SERIN_DATA".to_owned(),
            )
        })
}

impl Server {
    /// Finds the server of the data folder.
    pub(super) fn find(global: &Global) -> Result<Self, CliError> {
        Self::at(&data_folder(global)?, global)
    }

    /// Finds the server of another data folder.
    pub(super) fn at(data: &Path, global: &Global) -> Result<Self, CliError> {
        let client = Client::connect(data)?;
        Ok(Self {
            client: match global.only_show_errors {
                true => client,
                false => client.telling(tell_of_silence),
            },
            form: global.form(),
            quiet: global.only_show_errors,
            az: AzForm::new(Workspace::of(global)),
        })
    }

    /// Asks for a change and waits until it is in force. False when the caller did not want to wait.
    pub(super) fn carry_out(&self, change: Change, waiting: Waiting) -> Result<bool, CliError> {
        self.carry_out_since(None, change, waiting)
    }

    /// The same for a change that was worked out on what the server said of a revision: refused where there is another by now.
    pub(super) fn carry_out_since(
        &self,
        expected_revision: Option<Revision>,
        change: Change,
        waiting: Waiting,
    ) -> Result<bool, CliError> {
        let doing = change.to_string();
        let started = Instant::now();
        let accepted = self
            .client
            .change(&ChangeRequest {
                change,
                by: who(),
                expected_revision,
            })
            .map_err(|e| CliError::from(e).while_doing(&doing))?;
        if let Some(note) = note_of(&accepted) {
            self.tell(&note);
        }
        if waiting.no_wait {
            self.tell(&format!(
                "{doing}: accepted as revision {}\n",
                accepted.revision
            ));
            return Ok(false);
        }
        let ended = self.wait(accepted, &doing, started)?;
        let seconds = started.elapsed().as_secs_f64();
        let state = in_force(ended, &doing)?;
        self.tell(&format!("{doing}: {state} in {seconds:.1} s\n"));
        Ok(true)
    }

    /// Waits for the end, and shows what is done meanwhile.
    fn wait(
        &self,
        mut operation: Operation,
        doing: &str,
        started: Instant,
    ) -> Result<Operation, CliError> {
        let shortly: String = doing.chars().take(PROGRESS_CHARS_MAX).collect();
        let mut progress = Progress::new(!self.quiet, started);
        while !operation.provisioning_state.has_ended() {
            let known = self.client.operation(operation.id, TICK);
            operation = known.map_err(|e| CliError::from(e).while_doing(doing))?;
            if !operation.provisioning_state.has_ended() {
                let state = || operation.provisioning_state.to_string();
                let step = self.step_of(&operation).unwrap_or_else(state);
                progress.show(&shortly, &step, Instant::now());
            }
        }
        progress.end();
        Ok(operation)
    }

    /// The step that an operation waits for: that of its first deployment that has one.
    fn step_of(&self, operation: &Operation) -> Option<String> {
        // Who wants to hear nothing of it asks for nothing.
        let endpoint = (!self.quiet).then(|| self.client.endpoint(&operation.endpoint))?;
        let endpoint = endpoint.ok()?;
        operation.deployments.iter().find_map(|name| {
            let step = endpoint["deployments"][name.as_str()]["progress"].as_str()?;
            Some(step.to_owned())
        })
    }

    /// Progress, unless nobody wants it.
    pub(super) fn tell(&self, text: &str) {
        if !self.quiet {
            output::complain(text);
        }
    }

    /// Prints a result; a table of it has all that fits in a cell.
    pub(super) fn print(&self, result: &impl Serialize) -> Result<(), CliError> {
        self.print_as(result, &[])
    }

    /// Prints a result; a table of it has these columns.
    pub(super) fn print_as(
        &self,
        result: &impl Serialize,
        columns: Columns,
    ) -> Result<(), CliError> {
        let value: Value = serde_json::to_value(result).expect("results have a JSON form");
        output::print_as(&value, columns, &self.form)
    }
}

/// What a person should know beside a result: why something failed, and what is not as it was asked for.
pub(super) fn notes_of(said: &Value) -> Vec<String> {
    let name = said["name"].as_str().unwrap_or_default();
    let reason = said["reason"].as_str();
    let reason = reason.map(|reason| format!("note: {name} failed: {reason}\n"));
    let notes = said["notes"].as_array().into_iter().flatten();
    let notes = notes.filter_map(|note| Some(format!("note: {}\n", note.as_str()?)));
    reason.into_iter().chain(notes).collect()
}

/// Tells that the server is silent, in place of a line of progress that stands there.
fn tell_of_silence(words: &str) {
    if output::is_live(&io::stderr()) {
        output::redraw("");
    }
    output::complain(words);
}

/// What a change does beyond its words, as a line for the person who asked for it.
fn note_of(operation: &Operation) -> Option<String> {
    let note = operation.note.as_ref()?;
    Some(format!("note: {note}\n"))
}

/// The state of an operation that has ended well, or why its change is not in force.
fn in_force(ended: Operation, doing: &str) -> Result<ProvisioningState, CliError> {
    let reason = ended.reason;
    let reason = || reason.unwrap_or_else(|| "no reason is known".to_owned());
    match ended.provisioning_state {
        ProvisioningState::Failed => Err(CliError::OperationFailed(reason()).while_doing(doing)),
        ProvisioningState::Canceled => Err(CliError::Replaced(reason())),
        state @ (ProvisioningState::Creating
        | ProvisioningState::Updating
        | ProvisioningState::Deleting
        | ProvisioningState::Succeeded) => Ok(state),
    }
}

/// The name of who asks, for the journal.
pub(super) fn who() -> Option<String> {
    let variable = |name| env::var(name).ok().filter(|name| !name.is_empty());
    variable("USER")
        .or_else(|| variable("LOGNAME"))
        .or_else(|| Some(user_of_process()))
        .map(|name| shortened(name, BY_BYTES_MAX))
}

/// The beginning of a text, at most so many bytes of it.
fn shortened(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::exit::{OPERATION_FAILED, OPERATION_REPLACED};

    /// An operation as it comes over the wire.
    fn ended(state: &str, reason: Option<&str>) -> Operation {
        let mut operation = json!({
            "id": 7,
            "endpoint": "iris",
            "change": "update endpoint iris",
            "revision": 7,
            "provisioning_state": state,
            "started": "2026-01-01T00:00:00Z",
        });
        if let Some(reason) = reason {
            operation["reason"] = reason.into();
        }
        serde_json::from_value(operation).unwrap()
    }

    #[track_caller]
    fn check(operation: Operation, text: &str, code: u8) {
        assert!(operation.provisioning_state.has_ended());
        let error = in_force(operation, "update endpoint iris").unwrap_err();
        assert_eq!((error.text().as_str(), error.code()), (text, code));
    }

    #[test]
    fn a_change_that_was_replaced_says_by_what_and_has_a_code_of_its_own() {
        check(
            ended("Canceled", Some("revision 8 updates endpoint iris")),
            "error: the change was replaced: revision 8 updates endpoint iris\n",
            OPERATION_REPLACED,
        );
        check(
            ended("Canceled", None),
            "error: the change was replaced: no reason is known\n",
            OPERATION_REPLACED,
        );
    }

    #[test]
    fn a_change_that_failed_says_what_was_being_done() {
        check(
            ended("Failed", Some("no memory")),
            "error: cannot update endpoint iris\ncaused by: no memory\n",
            OPERATION_FAILED,
        );
    }

    #[test]
    fn a_change_that_succeeded_is_in_force() {
        assert_eq!(
            in_force(ended("Succeeded", None), "update endpoint iris").unwrap(),
            ProvisioningState::Succeeded
        );
    }

    #[test]
    fn what_a_change_does_beyond_its_words_is_told() {
        let mut operation = ended("Succeeded", None);
        assert_eq!(note_of(&operation), None);
        operation.note = Some("deployment green takes the place of one that failed".to_owned());
        assert_eq!(
            note_of(&operation).as_deref(),
            Some("note: deployment green takes the place of one that failed\n")
        );
    }

    #[test]
    fn a_replaced_operation_reads_the_same_after_it_was_written() {
        let operation = ended("Canceled", Some("revision 8"));
        let written = serde_json::to_value(&operation).unwrap();
        assert_eq!(written["provisioning_state"], "Canceled");
        assert_eq!(
            serde_json::from_value::<Operation>(written).unwrap(),
            operation
        );
    }
}
