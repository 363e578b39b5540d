//! The requests that the versions are asked.

use std::error::Error;

use crate::bench::{Inputs, InputsError};
use crate::cli::args::Bench as Typed;
use crate::cli::bench::found::{Bodies, Found};
use crate::cli::exit::CliError;
use crate::cli::serve;
use crate::control::FoundModel;

/// The requests of each version, and where they come from in words.
pub(super) fn inputs(typed: &Typed, found: &[Found]) -> Result<(Vec<Bodies>, String), CliError> {
    let bad = |error: InputsError| CliError::BadInput(format!("--input: {}", with_cause(&error)));
    let shared = |inputs: Inputs| {
        let bodies: Bodies = inputs.bodies.into();
        (vec![bodies; found.len()], inputs.words)
    };
    match &typed.input[..] {
        [] => {}
        [one] => return Inputs::read(one).map(shared).map_err(bad),
        all if all.len() == found.len() => {
            let read = all.iter().map(|one| Inputs::read(one).map_err(bad));
            let read: Vec<_> = read.collect::<Result<_, _>>()?;
            let words: Vec<_> = read.iter().map(|one| one.words.as_str()).collect();
            let words = words.join("; ");
            return Ok((
                read.into_iter().map(|one| one.bodies.into()).collect(),
                words,
            ));
        }
        [..] => {
            return Err(CliError::BadInput(
                "--input is given once for all versions, or once for each of them".to_owned(),
            ));
        }
    }
    let model = found
        .iter()
        .find_map(|one| one.model.as_ref())
        .ok_or_else(|| {
            CliError::BadInput(
                "what a server at an address takes is not known: give requests with --input"
                    .to_owned(),
            )
        })?;
    of_model(model, typed).map(shared)
}

fn with_cause(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_cause(cause)),
        None => error.to_string(),
    }
}

/// The model's sample request, and others that are made from its shapes.
fn of_model(model: &FoundModel, typed: &Typed) -> Result<Inputs, CliError> {
    let bad = |words: String| CliError::BadInput(words);
    let prober = serve::prober(typed.model_memory_mb)
        .ok_or_else(|| bad("the path of this program is not known".to_owned()))?;
    let sample = model.sample_request.clone();
    let probed = prober
        .probe(&model.file, sample.as_deref())
        .map_err(|error| bad(error.to_string()))?;
    let count = usize::try_from(typed.made).unwrap_or(usize::MAX);
    let made = match (count, &sample) {
        (0, None) => {
            return Err(bad(
                "the model has no sample request, and none are to be made: give requests with --input"
                    .to_owned(),
            ));
        }
        (0, Some(_)) => Ok(None),
        _ => Inputs::made(&probed.signature, 1, count, typed.seed).map(Some),
    };
    match (sample, made) {
        (Some(sample), Ok(Some(mut made))) => {
            made.bodies.insert(0, sample);
            made.words = format!("the model's sample request, and {}", made.words);
            Ok(made)
        }
        (Some(sample), _) => Ok(Inputs {
            bodies: vec![sample],
            words: "the model's sample request".to_owned(),
        }),
        (None, Ok(Some(made))) => Ok(made),
        (None, Err(error)) => Err(bad(format!(
            "no requests can be made from the model's shapes: {error}; give some with --input"
        ))),
        (None, Ok(None)) => unreachable!("refused above"),
    }
}
