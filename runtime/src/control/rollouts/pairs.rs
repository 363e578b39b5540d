//! Answers of both versions to the same requests, compared. Pure.

use bytes::Bytes;

use crate::canary::{Input, WorstPair};
use crate::evidence::{Answers, Tolerance, compare};
use crate::observe::Outcome;
use crate::router::pairs::{Pair, Side};

/// The confidence of intervals that nobody looks at here.
const CONFIDENCE: f64 = 0.95;
/// The most of a request that is kept beside answers that differ.
const REQUEST_CHARS_MAX: usize = 2000;

/// What the pairs say of the canary. A pair that neither answered says nothing; one that one alone answered is no agreement.
pub(super) fn compared(pairs: &[Pair]) -> Option<Input> {
    let body = |side: &Side| {
        (side.outcome == Outcome::Ok)
            .then(|| side.body.clone())
            .flatten()
    };
    let (stable, canary): (Vec<Option<Bytes>>, Vec<Option<Bytes>>) = pairs
        .iter()
        .map(|pair| (body(&pair.live), body(&pair.shadow)))
        .unzip();
    let Answers {
        compared,
        differing,
        worst,
        ..
    } = compare(&stable, &canary, Tolerance::default(), CONFIDENCE);
    let worst = worst.into_iter().filter_map(|one| {
        let pair = pairs.get(one.input)?;
        let request = String::from_utf8_lossy(&pair.request);
        Some(WorstPair {
            request: request.chars().take(REQUEST_CHARS_MAX).collect(),
            path: one.path,
            stable: one.base,
            canary: one.other,
            difference: one.difference,
        })
    });
    (compared > 0).then(|| Input::Compared {
        alike: (compared - differing) as u64,
        other: differing as u64,
        worst: worst.collect(),
    })
}
