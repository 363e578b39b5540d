//! What the log of a deployment says of the way of its model and of its instances. Pure.
//!
//! Not here: who asked for a change and how it ended, which the journal has; where the log is (`observe`).

use crate::control::books::{Books, DeploymentBook, Phase};
use crate::control::build::{InstanceNo, Need};
use crate::control::event::{Event, Facts, Key, NewInstance};
use crate::observe::NoteOn;

/// A line for the log of a deployment.
pub(super) type Note = (Key, NoteOn, String);

/// The notes on an event, before the books take it in.
pub(super) fn of_event(books: &Books, event: &Event) -> Vec<Note> {
    match event {
        Event::Stage { need, stage } => of_need(books, need, stage),
        Event::NeedReady { need, outcome } => {
            let words = match (outcome, need) {
                (Ok(notes), Need::Environment(_)) => match &notes.environment {
                    Some(facts) => format!("the environment is ready: {}", facts.description),
                    None => "the environment is ready".to_owned(),
                },
                (Ok(notes), Need::Model(_)) => match &notes.note {
                    Some(note) => note.clone(),
                    None => "the model may be loaded".to_owned(),
                },
                (Err(reason), _) => reason.clone(),
            };
            of_need(books, need, &words)
        }
        Event::Started { no, outcome } => of_start(books, *no, outcome),
        Event::Died(no) => of_instance(books, *no, "died"),
        Event::Troubled { no, what } => of_instance(books, *no, what),
        Event::Retired(numbers) => numbers
            .iter()
            .flat_map(|no| of_instance(books, *no, "has ended"))
            .collect(),
        Event::Recover { .. }
        | Event::Accepted { .. }
        | Event::Settled { .. }
        | Event::Tick
        | Event::Shutdown => Vec::new(),
    }
}

/// The note on an instance that is about to be started.
pub(super) fn of_new(new: &NewInstance) -> Note {
    let manner = match (&new.isolated, new.background) {
        (Some(why), _) => format!(" in a process of its own: {why}"),
        (None, true) => " in the background".to_owned(),
        (None, false) => String::new(),
    };
    let words = format!("instance {}: starts{manner}", new.no.0);
    (new.key.clone(), NoteOn::Instance, words)
}

fn of_start(books: &Books, no: InstanceNo, outcome: &Result<Facts, String>) -> Vec<Note> {
    let since = match books.instances.get(&no).map(|one| one.phase) {
        Some(Phase::Starting { since }) => Some(since),
        _ => None,
    };
    let words = match (outcome, since) {
        (Ok(_), Some(since)) => format!(
            "loaded, warmed up and ready after {:.3} s",
            since.elapsed().as_secs_f64()
        ),
        (Ok(_), None) => "ready, and nobody waits for it any more".to_owned(),
        (Err(reason), _) => format!("did not start: {reason}"),
    };
    of_instance(books, no, &words)
}

fn of_instance(books: &Books, no: InstanceNo, words: &str) -> Vec<Note> {
    let key = books.instances.get(&no).map(|one| one.key.clone());
    key.map(|key| (key, NoteOn::Instance, format!("instance {}: {words}", no.0)))
        .into_iter()
        .collect()
}

/// The same note for each deployment that waits for a model or an environment.
fn of_need(books: &Books, need: &Need, words: &str) -> Vec<Note> {
    waiting_for(books, need)
        .map(|key| (key.clone(), NoteOn::Preparation, words.to_owned()))
        .collect()
}

/// The deployments that wait for a model or an environment.
pub(super) fn waiting_for<'a>(books: &'a Books, need: &Need) -> impl Iterator<Item = &'a Key> {
    let need = need.clone();
    let waits = move |key: &Key, book: &DeploymentBook| {
        let of_attempt = book.attempt.as_ref();
        let of_attempt = of_attempt.is_some_and(|attempt| attempt.aim.build.need() == need);
        let good = books.wanted(key).and_then(|one| one.last_good.as_ref());
        of_attempt || book.recovering && good.is_some_and(|good| good.aim().build.need() == need)
    };
    let deployments = books.deployments.iter();
    deployments
        .filter(move |(key, book)| waits(key, book))
        .map(|(key, _)| key)
}
