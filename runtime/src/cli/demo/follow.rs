//! A rollout as the audience sees it: each line of its journal as it comes.

use super::screen::Screen;
use super::script::{ENDPOINT, End};
use crate::admin::Client;
use crate::canary::{Phase, Verdict};
use crate::cli::exit::CliError;
use crate::control::RolloutView;
use crate::spec::{EndpointName, Percent};

/// The newest rollout of the endpoint, and how much of it was told.
#[derive(Debug)]
pub(super) struct Follow<'a> {
    screen: &'a Screen,
    client: Client,
    endpoint: EndpointName,
    told: usize,
    seen: Option<Seen>,
}

/// What a line of the journal changes.
type Seen = (Phase, Percent, bool, Vec<Verdict>);

impl<'a> Follow<'a> {
    pub(super) fn new(screen: &'a Screen, client: Client) -> Self {
        Self {
            screen,
            client,
            endpoint: ENDPOINT.parse().expect("a name of the script is a name"),
            told: 0,
            seen: None,
        }
    }

    /// Tells what is new; the rollout once it has ended.
    pub(super) fn look(&mut self) -> Result<Option<RolloutView>, CliError> {
        let view = self.client.rollout(&self.endpoint)?;
        let now = seen_of(&view);
        // The whole record is played again for its journal, so it is asked for only where there is something new.
        if self.seen.as_ref() != Some(&now) {
            self.tell(view.id)?;
            self.seen = Some(now);
        }
        Ok(view.phase.has_ended().then_some(view))
    }

    fn tell(&mut self, id: u64) -> Result<(), CliError> {
        let record = self.client.replay(id)?;
        let started_ms = record.replay.rollout.started_ms;
        for entry in record.replay.entries.iter().skip(self.told) {
            self.screen
                .journal(entry.at_ms - started_ms, &entry.to_string());
        }
        self.told = self.told.max(record.replay.entries.len());
        Ok(())
    }
}

fn seen_of(view: &RolloutView) -> Seen {
    let verdicts = view.findings.iter().map(|finding| finding.verdict);
    (
        view.phase.clone(),
        view.weight,
        view.is_moving,
        verdicts.collect(),
    )
}

/// The rollout in a sentence.
///
/// # Errors
///
/// It has ended in another way than the play wants.
pub(super) fn judge(view: &RolloutView, wanted: End) -> Result<String, CliError> {
    let said = view.standing();
    let is_as_wanted = match wanted {
        End::Promoted => view.phase == Phase::Promoted && !view.is_flagged,
        End::RolledBack => matches!(view.phase, Phase::RolledBack { .. }),
    };
    let wanted = match wanted {
        End::Promoted => "promoted by its proof",
        End::RolledBack => "rolled back",
    };
    is_as_wanted.then(|| said.clone()).ok_or_else(|| {
        CliError::Demo(format!(
            "expected {} to be {wanted}, found: {said}",
            view.to
        ))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(phase: &Phase, is_flagged: bool) -> RolloutView {
        let mut view = json!({
            "id": 1, "endpoint": ENDPOINT, "from": "blue", "to": "green", "weight": 10, "is_moving": false,
            "is_flagged": is_flagged, "steps": [], "requests": 0, "pairs": 0, "requests_per_s": 0.0, "alpha": 0.01,
            "findings": [], "verdict": "UNDECIDED", "started_ms": 0, "now_ms": 0,
        });
        let phase = serde_json::to_value(phase).unwrap();
        for (key, value) in phase.as_object().unwrap() {
            view[key] = value.clone();
        }
        serde_json::from_value(view).unwrap()
    }

    fn words(phase: &Phase, is_flagged: bool, wanted: End) -> String {
        match judge(&view(phase, is_flagged), wanted) {
            Ok(said) => said,
            Err(error) => format!("no: {error}"),
        }
    }

    #[test]
    fn a_rollout_with_another_end_than_that_of_the_play_fails_the_demo() {
        let why = "errors".to_owned();
        let back = Phase::RolledBack { why: why.clone() };
        let aborted = Phase::Aborted { why };
        for (phase, is_flagged, wanted, said) in [
            (&Phase::Promoted, false, End::Promoted, "green was promoted"),
            (
                &Phase::Promoted,
                true,
                End::Promoted,
                "no: expected green to be promoted by its proof, found: green was promoted, and not all of the proof was there",
            ),
            (
                &Phase::Promoted,
                false,
                End::RolledBack,
                "no: expected green to be rolled back, found: green was promoted",
            ),
            (
                &back,
                false,
                End::RolledBack,
                "green was rolled back: errors",
            ),
            (
                &back,
                false,
                End::Promoted,
                "no: expected green to be promoted by its proof, found: green was rolled back: errors",
            ),
            (
                &aborted,
                false,
                End::RolledBack,
                "no: expected green to be rolled back, found: the rollout was aborted: errors",
            ),
        ] {
            assert_eq!(words(phase, is_flagged, wanted), said);
        }
    }
}
