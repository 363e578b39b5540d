//! The cost of a model, measured once when it is loaded: one run by rows, and whether larger batches pay.
//!
//! Times are the least of several, so that a busy machine does not make a model look slower than it is.
//!
//! Not here: who acts on it (`instance` executes small work inline, `lane` joins requests), where it is kept.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serin_scorers::{ElementType, JsonScorer, OutputKind, Scorer as _, Signature, Tensor};

use crate::config::{
    BATCH_GAIN_MIN, BATCH_SIZE_DEFAULT_MAX, EDGE_COMPUTE_MAX, INLINE_MAX, PROFILE_RUN_MAX,
};
use crate::engine::example_rows::example_rows;
use crate::engine::job::AnswerForm;
use crate::engine::session::{Session, views};
use crate::engine::{GraphFacts, Obstacle};

/// Runs of one size: at least, and at most unless they are over in no time.
const RUNS_MIN: usize = 3;
const RUNS_MAX: usize = 25;
/// Time after which no further run of one size is made.
const SIZE_TIME_MAX: Duration = Duration::from_millis(2);
/// Bytes that the shortest number and its comma take in a body.
const ELEMENT_BYTES_MIN: usize = 2;
/// How far two answers for the same row may lie apart, as a share of the larger number (or of 1): the order of additions
/// differs with the size of a batch.
const BATCH_TOLERANCE: f64 = 1e-4;
/// The same where independence is proven: what is looked for is then a mistake in the proof, or in the runtime, not the last bits of
/// numbers that the largest of the rows makes large.
const BATCH_TOLERANCE_PROVEN: f64 = 1e-3;
/// Time after which no more rows are tried together.
const TRIAL_TIME_MAX: Duration = Duration::from_millis(200);

/// The cost of a model on as many threads as a lane has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelProfile {
    /// Whether requests may share a run, and whether that pays.
    pub batching: Batching,
    /// Rows from which on more in one run do not pay any more; 1 unless batching pays.
    pub batch_rows_best: u32,
    /// Time of one run, by rows, rising.
    pub runs: Vec<RunTime>,
    /// Time to read a request body, in nanoseconds a byte.
    pub decode_ns_per_byte: f64,
    /// Time to write the answer of one row, in microseconds.
    pub encode_us_per_row: f64,
    /// Bytes of one row in a usual body; none where the work for a body cannot be told from its size: the model leaves the size
    /// of a row free, or it is not proven that the work grows with the rows and with nothing else.
    pub row_bytes: Option<RowBytes>,
    /// What the graph of the model proves.
    pub facts: GraphFacts,
}

/// The size of work before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkSize {
    /// Requests of any kind.
    pub requests: usize,
    /// Bytes of those that are bodies.
    pub body_bytes: usize,
    /// Rows of those that are tensors, which nobody reads or writes as text.
    pub tensor_rows: usize,
}

/// Time of one run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RunTime {
    /// Rows of each input.
    pub rows: u32,
    /// The least time of several runs, in microseconds.
    pub run_us: f64,
}

/// Size of one row in a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowBytes {
    /// As in the sample request, else as such numbers usually are.
    pub usual: usize,
    /// The shortest form.
    pub least: usize,
}

/// Whether several requests may share a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Batching {
    /// Several requests in one run take less time than one by one.
    Pays,
    /// They take as long as one by one.
    DoesNotPay,
    /// The model fixes the number of rows, or an output has no rows.
    FixedRows,
    /// The answer for a row was seen to change with the other rows.
    RowsDepend,
    /// It is not proven that the answer for a row is the same whatever the other rows are.
    Unproven,
    /// One run takes so long that a batch was not tried.
    SlowRun,
    /// The model did not run on inputs made from its shapes; a sample request in `model.yml` would tell.
    Unknown,
}

impl ModelProfile {
    /// Nothing is known, so each request runs alone, on a lane's own thread.
    fn unknown(facts: GraphFacts) -> Self {
        Self {
            batching: Batching::Unknown,
            batch_rows_best: 1,
            runs: Vec::new(),
            decode_ns_per_byte: 0.0,
            encode_us_per_row: 0.0,
            row_bytes: None,
            facts,
        }
    }

    /// The profile of a model that was not measured: the graph alone is known.
    pub(super) fn unmeasured(file: &Path) -> Self {
        Self::unknown(GraphFacts::of_file(file))
    }

    /// The profile of a scoring script: each request runs alone, and nobody knows for how long.
    pub(super) fn of_script() -> Self {
        let why = "a scoring script answers each request by itself";
        Self::unknown(GraphFacts::nothing(Obstacle::of_model(why)))
    }

    /// Measures a warm session of the model in this file on the sample request, else on inputs made from its shapes.
    pub(super) fn measure(
        file: &Path,
        session: &mut Session,
        scorer: &JsonScorer,
        sample_request: Option<&[u8]>,
    ) -> Self {
        let facts = GraphFacts::of_file(file);
        let has_rows = has_free_rows(session.signature());
        let measured = Measurement::new((session, &facts), scorer, sample_request);
        measured
            .and_then(Measurement::profile)
            .unwrap_or_else(|| match has_rows {
                true => Self::unknown(facts),
                false => Self {
                    batching: Batching::FixedRows,
                    ..Self::unknown(facts)
                },
            })
    }

    /// Most rows of a joint run: as asked for where the shapes of the model let it join requests, else what pays where rows are proven
    /// independent; 1 is no joining.
    #[must_use]
    pub fn rows_max(&self, asked: Option<u32>) -> usize {
        let rows = match (self.batching, asked) {
            (Batching::FixedRows, _) => 1,
            (_, Some(asked)) => asked,
            (Batching::Pays, None) if self.facts.rows.is_proven() => self.batch_rows_best,
            (_, None) => 1,
        };
        usize::try_from(rows).unwrap_or(usize::MAX).max(1)
    }

    /// Whether answering these requests takes less time than handing them to another thread is worth: by what such bodies usually
    /// hold less than [`INLINE_MAX`], and whatever they hold less than [`EDGE_COMPUTE_MAX`].
    #[must_use]
    pub fn is_small_work(&self, work: WorkSize, rows_max: usize) -> bool {
        self.row_bytes.is_some_and(|row| {
            let time = |row_bytes: usize| {
                let rows_of_bodies = work.body_bytes.div_ceil(row_bytes.max(1));
                self.time_of(work, rows_of_bodies, rows_max)
            };
            time(row.usual).is_some_and(|time| time <= INLINE_MAX)
                && time(row.least).is_some_and(|time| time <= EDGE_COMPUTE_MAX)
        })
    }

    /// Time to read, run and answer requests whose bodies hold so many rows together.
    fn time_of(&self, work: WorkSize, rows_of_bodies: usize, rows_max: usize) -> Option<Duration> {
        let WorkSize {
            requests,
            body_bytes,
            tensor_rows,
        } = work;
        let rows = rows_of_bodies.saturating_add(tensor_rows).max(requests);
        // Requests are not divided, so each is a run of its own where they are not joined.
        let runs = if rows_max > 1 {
            rows.div_ceil(rows_max)
        } else {
            requests
        };
        let run_us = self.run_us(rows.div_ceil(runs.max(1)))?;
        let us = to_f64(runs) * run_us
            + to_f64(body_bytes) * self.decode_ns_per_byte / 1e3
            + to_f64(rows.saturating_sub(tensor_rows)) * self.encode_us_per_row;
        Some(Duration::from_secs_f64(us / 1e6))
    }

    /// Time of one run, on a straight line between the sizes measured, in microseconds.
    fn run_us(&self, rows: usize) -> Option<f64> {
        let rows = to_f64(rows);
        let at = |run: &RunTime| (f64::from(run.rows), run.run_us);
        let above = self.runs.iter().find(|run| f64::from(run.rows) >= rows);
        let below = self.runs.iter().rfind(|run| f64::from(run.rows) <= rows);
        match (below.map(at), above.map(at)) {
            (Some((low, low_us)), Some((high, high_us))) if high > low => {
                Some(low_us + (high_us - low_us) * (rows - low) / (high - low))
            }
            (Some((_, us)), Some(_)) | (None, Some((_, us))) => Some(us),
            (Some((low, us)), None) => Some(us * rows / low),
            (None, None) => None,
        }
    }
}

/// One measurement under way.
struct Measurement<'a> {
    session: &'a mut Session,
    facts: &'a GraphFacts,
    scorer: &'a JsonScorer,
    body: Bytes,
    inputs: Vec<Tensor>,
    /// The body is the user's own.
    is_sample: bool,
}

impl<'a> Measurement<'a> {
    fn new(
        (session, facts): (&'a mut Session, &'a GraphFacts),
        scorer: &'a JsonScorer,
        sample_request: Option<&[u8]>,
    ) -> Option<Self> {
        let body = match sample_request {
            Some(body) => Bytes::copy_from_slice(body),
            None => JsonScorer::example_body(session.signature()).ok()?,
        };
        let inputs = scorer.preprocess(&body).ok()?;
        Some(Self {
            session,
            facts,
            scorer,
            body,
            inputs,
            is_sample: sample_request.is_some(),
        })
    }

    fn profile(mut self) -> Option<ModelProfile> {
        let rows = self.rows().unwrap_or(1);
        let mut decode = Fastest::default();
        while decode.wants_more() {
            let began = Instant::now();
            self.scorer.preprocess(&self.body).ok()?;
            decode.add(began.elapsed());
        }
        let (run_us, encode_us) = self.time(&self.inputs.clone())?;
        let mut profile = ModelProfile {
            batching: Batching::FixedRows,
            batch_rows_best: 1,
            runs: vec![RunTime {
                rows: u32::try_from(rows).ok()?,
                run_us,
            }],
            decode_ns_per_byte: thousandths(decode.us()? * 1e3 / to_f64(self.body.len().max(1))),
            encode_us_per_row: thousandths(encode_us / to_f64(rows.max(1))),
            row_bytes: self.row_bytes(rows),
            facts: self.facts.clone(),
        };
        if !has_free_rows(self.session.signature()) || self.rows().is_none() {
            return Some(profile);
        }
        if Duration::from_secs_f64(run_us / 1e6) > PROFILE_RUN_MAX {
            profile.batching = Batching::SlowRun;
            return Some(profile);
        }
        let stand_alone = self.rows_stand_alone()?;
        profile.batching = match (stand_alone, self.facts.rows.is_proven()) {
            (false, _) => Batching::RowsDepend,
            (true, false) => Batching::Unproven,
            (true, true) => Batching::DoesNotPay,
        };
        // Whoever asks for batches of a model all the same wants to know what they cost.
        if let Some(runs) = self.by_rows() {
            profile.runs = runs;
        }
        let best = best_rows(&profile.runs);
        if profile.batching == Batching::DoesNotPay && best > 1 {
            profile.batching = Batching::Pays;
            profile.batch_rows_best = best;
        }
        Some(profile)
    }

    /// Rows that all inputs have.
    fn rows(&self) -> Option<usize> {
        let mut rows = self
            .inputs
            .iter()
            .map(|input| input.shape().first().copied());
        let first = rows.next()??;
        (first > 0 && rows.all(|other| other == Some(first))).then_some(first)
    }

    fn row_bytes(&self, rows: usize) -> Option<RowBytes> {
        let inputs = &self.session.signature().inputs;
        // Rows that depend on each other may cost as much as there are pairs of them.
        let fixed = inputs
            .iter()
            .all(|input| input.shape.first().is_none_or(|size| *size >= 0));
        if !self.facts.work.is_proven() || !(fixed || self.facts.rows.is_proven()) {
            return None;
        }
        let (mut least, mut usual) = (0, 0);
        for input in inputs {
            let elements = input.shape.get(1..)?.iter().try_fold(1, |product, size| {
                usize::try_from(*size).ok().map(|size| product * size)
            })?;
            least += elements * ELEMENT_BYTES_MIN;
            usual += elements * usual_bytes(input.datatype);
        }
        if self.is_sample {
            usual = self.body.len() / rows.max(1);
        }
        Some(RowBytes { usual, least })
    }

    /// Fastest run and fastest encoding of its outputs, in microseconds.
    fn time(&mut self, inputs: &[Tensor]) -> Option<(f64, f64)> {
        let (mut run, mut encode) = (Fastest::default(), Fastest::default());
        while run.wants_more() {
            let began = Instant::now();
            let (ran, written) = self
                .session
                .run(&views(inputs), AnswerForm::Json, |outputs| {
                    let ran = began.elapsed();
                    let body = self.scorer.postprocess(outputs);
                    (ran, body.map(|_| began.elapsed()))
                })
                .ok()?;
            run.add(ran);
            encode.add(written.ok()?.saturating_sub(ran));
        }
        Some((run.us()?, encode.us()?))
    }

    /// 1, 2, 4 .. rows, as long as a run is quick.
    fn by_rows(&mut self) -> Option<Vec<RunTime>> {
        let mut runs = Vec::new();
        let mut rows = 1;
        while rows <= BATCH_SIZE_DEFAULT_MAX {
            let inputs = cycled(&self.inputs, usize::try_from(rows).ok()?)?;
            let (run_us, _) = self.time(&inputs)?;
            runs.push(RunTime { rows, run_us });
            if Duration::from_secs_f64(run_us / 1e6) > PROFILE_RUN_MAX {
                break;
            }
            rows *= 2;
        }
        Some(runs)
    }

    /// Whether rows get the same answer in one run as alone: rows of very different sizes, in both orders, in pairs and all together.
    /// Nothing where the model answers no row that is made for it.
    fn rows_stand_alone(&mut self) -> Option<bool> {
        let began = Instant::now();
        let mut known = Vec::new();
        for row in example_rows(&self.inputs) {
            known.extend(self.answer(&row).map(|answer| (row, answer)));
        }
        // One row twice where the model takes no other.
        let last = known.len().checked_sub(1)?;
        let all: Vec<usize> = (0..=last).chain((last == 0).then_some(0)).collect();
        let mut batches = vec![all.iter().rev().copied().collect(), all];
        batches.extend((1..=last).map(|at| vec![at - 1, at]));
        batches.extend((1..=last).map(|at| vec![at, at - 1]));
        for batch in batches {
            let rows: Vec<_> = batch.iter().map(|at| &known[*at]).collect();
            if !self.agree_together(&rows)? {
                return Some(false);
            }
            if began.elapsed() > TRIAL_TIME_MAX {
                break;
            }
        }
        Some(true)
    }

    /// Whether these rows get the answers together that they got alone.
    fn agree_together(&mut self, rows: &[&(Vec<Tensor>, serde_json::Value)]) -> Option<bool> {
        let inputs: Vec<_> = (0..self.inputs.len())
            .map(|input| {
                let parts: Vec<_> = rows.iter().map(|(row, _)| &row[input]).collect();
                Tensor::join(&parts)
            })
            .collect::<Option<_>>()?;
        let together = self
            .session
            .run(&views(&inputs), AnswerForm::Json, |outputs| {
                (0..rows.len())
                    .map(|row| {
                        let parts = outputs.iter().map(|output| output.part(&(row..row + 1)));
                        let outputs: Vec<_> = parts.collect::<Option<_>>()?;
                        read(&self.scorer.postprocess(&outputs).ok()?)
                    })
                    .collect::<Option<Vec<_>>>()
            });
        let Ok(Some(together)) = together else {
            return Some(false);
        };
        let tolerance = match self.facts.rows.is_proven() {
            true => BATCH_TOLERANCE_PROVEN,
            false => BATCH_TOLERANCE,
        };
        let mut pairs = rows.iter().zip(&together);
        Some(pairs.all(|((_, alone), together)| is_close(alone, together, tolerance)))
    }

    fn answer(&mut self, inputs: &[Tensor]) -> Option<serde_json::Value> {
        let body = self
            .session
            .run(&views(inputs), AnswerForm::Json, |outputs| {
                self.scorer.postprocess(outputs)
            });
        read(&body.ok()?.ok()?)
    }
}

fn read(body: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_slice(body).ok()
}

fn cycled(inputs: &[Tensor], rows: usize) -> Option<Vec<Tensor>> {
    inputs.iter().map(|input| input.cycled(rows)).collect()
}

/// Whether two answers agree up to a share of the larger number, or of 1.
fn is_close(one: &serde_json::Value, other: &serde_json::Value, tolerance: f64) -> bool {
    use serde_json::Value;
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| is_close(one, other, tolerance))
        }
        (Value::Object(one), Value::Object(other)) => {
            let mut pairs = one.iter().zip(other);
            one.len() == other.len()
                && pairs.all(|((key, one), (other_key, other))| {
                    key == other_key && is_close(one, other, tolerance)
                })
        }
        (Value::Number(one), Value::Number(other)) if one.is_f64() || other.is_f64() => {
            match (one.as_f64(), other.as_f64()) {
                (Some(one), Some(other)) => {
                    let scale = one.abs().max(other.abs()).max(1.0);
                    (one - other).abs() <= tolerance * scale
                }
                _ => false,
            }
        }
        (one, other) => one == other,
    }
}

/// Whether the model takes and gives any number of rows.
fn has_free_rows(signature: &Signature) -> bool {
    let free = |shape: &[i64]| shape.first().is_some_and(|size| *size < 0);
    signature.inputs.iter().all(|input| free(&input.shape))
        && signature.outputs.iter().all(|output| {
            matches!(&output.kind, OutputKind::Tensor { datatype, shape }
                if free(shape) && *datatype != ElementType::Bytes)
        })
}

/// The largest size that is faster by [`BATCH_GAIN_MIN`], row for row, than the size chosen before it.
fn best_rows(runs: &[RunTime]) -> u32 {
    let rate = |run: &RunTime| f64::from(run.rows) / run.run_us.max(1e-3);
    let mut runs = runs.iter();
    let Some(mut best) = runs.next() else {
        return 1;
    };
    for run in runs {
        if rate(run) >= BATCH_GAIN_MIN * rate(best) {
            best = run;
        }
    }
    best.rows
}

/// Bytes that an element and its comma usually take.
fn usual_bytes(datatype: ElementType) -> usize {
    match datatype {
        ElementType::Fp16 | ElementType::Bf16 | ElementType::Fp32 | ElementType::Fp64 => 8,
        ElementType::Bool => 5,
        ElementType::Bytes => 16,
        _ => 4,
    }
}

/// The least of several times.
#[derive(Default)]
struct Fastest {
    least: Option<Duration>,
    count: usize,
    total: Duration,
}

impl Fastest {
    fn wants_more(&self) -> bool {
        self.count < RUNS_MIN && self.total < PROFILE_RUN_MAX * 2
            || self.count < RUNS_MAX && self.total < SIZE_TIME_MAX
    }

    fn add(&mut self, time: Duration) {
        self.least = Some(self.least.map_or(time, |least| least.min(time)));
        self.count += 1;
        self.total += time;
    }

    fn us(&self) -> Option<f64> {
        self.least.map(|least| least.as_nanos() as f64 / 1e3)
    }
}

/// No clock tells more, and people read it.
fn thousandths(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// Exact below 2^53.
fn to_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
impl ModelProfile {
    /// As of a model that costs nothing: its work is always small, and up to `rows` rows run together.
    pub(crate) fn instant(rows: u32) -> Self {
        Self {
            batching: Batching::Pays,
            batch_rows_best: rows,
            runs: vec![RunTime {
                rows: 1,
                run_us: 0.0,
            }],
            row_bytes: Some(RowBytes { usual: 1, least: 1 }),
            ..Self::unknown(GraphFacts::proven())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bodies(requests: usize, body_bytes: usize) -> WorkSize {
        WorkSize {
            requests,
            body_bytes,
            tensor_rows: 0,
        }
    }

    fn profile(batching: Batching, runs: &[(u32, f64)]) -> ModelProfile {
        ModelProfile {
            batching,
            batch_rows_best: 16,
            runs: runs
                .iter()
                .map(|&(rows, run_us)| RunTime { rows, run_us })
                .collect(),
            decode_ns_per_byte: 10.0,
            encode_us_per_row: 1.0,
            row_bytes: Some(RowBytes {
                usual: 100,
                least: 50,
            }),
            facts: GraphFacts::proven(),
        }
    }

    #[test]
    fn a_run_costs_what_lies_between_the_sizes_measured() {
        let profile = profile(Batching::Pays, &[(1, 10.0), (2, 12.0), (4, 20.0)]);
        let us = |rows| profile.run_us(rows).unwrap();
        assert!((us(1) - 10.0).abs() < 1e-9);
        assert!((us(3) - 16.0).abs() < 1e-9);
        assert!(
            (us(8) - 40.0).abs() < 1e-9,
            "beyond the last, in proportion"
        );
        assert_eq!(ModelProfile::unknown(GraphFacts::proven()).run_us(1), None);
    }

    #[test]
    fn small_work_is_what_is_quick_for_usual_bodies_and_bearable_for_any() {
        let joined = profile(Batching::Pays, &[(1, 10.0), (16, 16.0)]);
        assert!(joined.is_small_work(bodies(1, 100), 16), "12 us");
        assert!(joined.is_small_work(bodies(8, 800), 16), "some 29 us");
        assert!(
            !joined.is_small_work(bodies(16, 1600), 1),
            "16 runs: more than 160 us"
        );
        assert!(
            !joined.is_small_work(bodies(1, 10_000), 16),
            "some 100 rows"
        );
        let mut short = joined;
        short.row_bytes = Some(RowBytes {
            usual: 1000,
            least: 1,
        });
        assert!(
            !short.is_small_work(bodies(1, 1000), 16),
            "it may hold 1000 rows"
        );
        short.row_bytes = None;
        assert!(!short.is_small_work(bodies(1, 1), 16), "rows of any size");
        assert!(!ModelProfile::unknown(GraphFacts::proven()).is_small_work(bodies(1, 1), 1));
    }

    #[test]
    fn the_best_size_is_the_last_that_gains_a_tenth() {
        let best = |runs: &[(u32, f64)]| best_rows(&profile(Batching::Pays, runs).runs);
        // 69, 140, 200, 220 and 239 thousand rows a second.
        let mlp = [(1, 14.5), (2, 14.3), (4, 20.0), (8, 36.2), (16, 67.0)];
        assert_eq!(best(&mlp), 8);
        assert_eq!(best(&[(1, 10.0), (2, 20.0), (4, 40.0)]), 1);
        assert_eq!(best(&[(1, 10.0), (2, 20.0), (4, 20.0)]), 4);
        assert_eq!(best(&[]), 1);
    }

    #[test]
    fn requests_are_joined_by_default_only_where_rows_are_proven_independent_and_it_pays() {
        let pays = profile(Batching::Pays, &[]);
        assert_eq!(pays.rows_max(None), 16);
        let unproven = ModelProfile {
            facts: GraphFacts::nothing(Obstacle::of_model("nobody knows")),
            ..pays
        };
        assert_eq!(unproven.rows_max(None), 1);
        for batching in [
            Batching::DoesNotPay,
            Batching::RowsDepend,
            Batching::Unproven,
            Batching::SlowRun,
            Batching::Unknown,
        ] {
            assert_eq!(profile(batching, &[]).rows_max(None), 1, "{batching:?}");
        }
    }

    #[test]
    fn a_batch_that_is_asked_for_is_made_wherever_the_shapes_allow() {
        let profile = |batching| ModelProfile {
            facts: GraphFacts::nothing(Obstacle::of_model("nobody knows")),
            ..profile(batching, &[])
        };
        for batching in [Batching::RowsDepend, Batching::Unproven, Batching::Unknown] {
            assert_eq!(profile(batching).rows_max(Some(4)), 4, "{batching:?}");
        }
        assert_eq!(profile(Batching::FixedRows).rows_max(Some(4)), 1);
    }

    #[test]
    fn answers_are_close_when_numbers_are_and_whole_numbers_are_equal() {
        assert!(is_close(
            &json!({"a": [[1.0, 200.0]]}),
            &json!({"a": [[1.00005, 200.01]]}),
            1e-4
        ));
        assert!(!is_close(&json!([1.0]), &json!([1.01]), 1e-4));
        assert!(!is_close(&json!([3]), &json!([4]), 1e-4));
        assert!(!is_close(&json!([1.0]), &json!([1.0, 1.0]), 1e-4));
        assert!(!is_close(&json!({"a": 1.0}), &json!({"b": 1.0}), 1e-4));
    }
}
