//! The choice where the lanes of an instance compute: on threads of this process, or in processes that a model can end without ending
//! anything else.
//!
//! Pure. Not here: the lanes themselves (`lane`), what the graph proves (`graph`).

use crate::engine::graph::Fact;
use crate::engine::{BackendKind, StartError};
use crate::spec::Isolation;

/// Facts by which the place is chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grounds<'a> {
    /// As the user's file says.
    pub(super) asked: Isolation,
    /// The reason why the model is suspected to have ended a process before.
    pub(super) suspicion: Option<&'a str>,
    /// Whether no value can end the process that computes it.
    pub(super) trap: &'a Fact,
    /// Whether there is a binary to start.
    pub(super) has_binary: bool,
}

/// The place, and the reason for it in words.
///
/// # Errors
///
/// [`StartError::NoBinary`] when processes are asked for and there is nothing to start.
pub(super) fn choose(grounds: &Grounds<'_>) -> Result<(BackendKind, String), StartError> {
    use BackendKind::{Process, Thread};
    let chosen = match (grounds.asked, grounds.suspicion) {
        (Isolation::Process, _) if grounds.has_binary => (Process, "asked for".to_owned()),
        (Isolation::Process, _) => return Err(StartError::NoBinary),
        // Also where a thread is asked for: who asked did not know, and all others would end with it once more.
        (_, Some(why)) if grounds.has_binary => (Process, why.to_owned()),
        (Isolation::Thread, _) => (Thread, "asked for".to_owned()),
        (Isolation::Auto, _) => match grounds.trap {
            Fact::Unproven(obstacle) if grounds.has_binary => (Process, obstacle.to_string()),
            Fact::Proven => {
                let why = "the graph proves that no value ends the process";
                (Thread, why.to_owned())
            }
            Fact::Unproven(_) => {
                let why = "there is no serin binary to start for a process";
                (Thread, why.to_owned())
            }
        },
    };
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::graph::Obstacle;

    fn chosen(asked: Isolation, grounds: (Option<&str>, bool, bool)) -> Option<BackendKind> {
        let (suspicion, is_proven, has_binary) = grounds;
        let trap = match is_proven {
            true => Fact::Proven,
            false => Fact::Unproven(Obstacle::of_model("it may end")),
        };
        let grounds = Grounds {
            asked,
            suspicion,
            trap: &trap,
            has_binary,
        };
        choose(&grounds).ok().map(|(kind, _)| kind)
    }

    #[test]
    fn what_is_asked_for_is_done_where_it_can_be() {
        for grounds in [(None, true, true), (None, false, true)] {
            let kind = |asked| chosen(asked, grounds).unwrap();
            assert_eq!(kind(Isolation::Thread), BackendKind::Thread);
            assert_eq!(kind(Isolation::Process), BackendKind::Process);
        }
        assert_eq!(chosen(Isolation::Process, (None, true, false)), None);
    }

    #[test]
    fn what_has_ended_a_server_once_is_isolated_whatever_is_asked_for() {
        for asked in [Isolation::Auto, Isolation::Thread, Isolation::Process] {
            let kind = chosen(asked, (Some("it fell"), true, true));
            assert_eq!(kind, Some(BackendKind::Process), "{asked:?}");
        }
    }

    #[test]
    fn a_thread_is_chosen_where_no_value_can_end_it_and_nothing_has() {
        let auto = |grounds| chosen(Isolation::Auto, grounds).unwrap();
        assert_eq!(auto((None, true, true)), BackendKind::Thread);
        assert_eq!(auto((None, false, true)), BackendKind::Process);
        // Somebody else's program has no binary to start.
        assert_eq!(auto((Some("it fell"), false, false)), BackendKind::Thread);
    }
}
