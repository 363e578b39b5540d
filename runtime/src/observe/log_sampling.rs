//! Which lines are worth writing: of one kind some in a second, and then how many more there were.
//!
//! A kind is a place in the source and the endpoint and deployment that its line names, so that a flood of one hides no line of
//! another. Lines of `debug` and `trace` were asked for and are never left out.
//!
//! Threads: any. Not here: how many lines the log holds (`log_writer`).

use std::collections::HashMap;
use std::fmt::{self, Debug, Write as _};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::config::{LOG_KINDS_MAX, LOG_LINES_PER_WINDOW, LOG_WINDOW};

/// The layer that leaves lines out. Clones are one.
#[derive(Clone)]
pub(super) struct Sampling {
    sampler: Arc<Mutex<Sampler<Kind>>>,
    left_out: Counter,
    /// Called with the first line that is left out after a look.
    on_first: Arc<dyn Fn() + Send + Sync>,
}

/// A kind of line.
#[derive(Clone, Debug)]
struct Kind {
    place: Identifier,
    /// Endpoint and deployment, as far as the line names them.
    of: String,
    /// The words of the first line. They may differ from line to line, and make no kind of their own.
    words: String,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place && self.of == other.of
    }
}

impl Eq for Kind {}

impl Hash for Kind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place.hash(state);
        self.of.hash(state);
    }
}

impl Debug for Sampling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampling")
            .field("left_out", &self.left_out)
            .finish_non_exhaustive()
    }
}

impl Sampling {
    pub(super) fn new(left_out: Counter, on_first: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            sampler: Arc::default(),
            left_out,
            on_first: Arc::new(on_first),
        }
    }

    /// Writes a line for each kind of which some were left out.
    pub(super) fn tell(&self) {
        for (kind, count) in self.lock().take_left_out(Instant::now()) {
            // None of these is left out: there is one for each kind at most.
            tracing::warn!(
                left_out = count,
                like = kind.words,
                of = (!kind.of.is_empty()).then_some(kind.of),
                "more lines like this one were left out"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sampler<Kind>> {
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Sampling {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // More verbose levels are the greater ones.
        if *metadata.level() > Level::INFO || metadata.target() == module_path!() {
            return true;
        }
        let mut kind = Kind {
            place: metadata.callsite(),
            of: String::new(),
            words: String::new(),
        };
        event.record(&mut kind);
        let admitted = self.lock().admit(kind, Instant::now());
        if admitted != Admitted::Yes {
            self.left_out.inc();
        }
        if admitted == Admitted::FirstLeftOut {
            (self.on_first)();
        }
        admitted == Admitted::Yes
    }
}

impl Visit for Kind {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "endpoint" | "deployment" => self.name(value),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "endpoint" | "deployment" => self.name(&format!("{value:?}")),
            "message" => write!(self.words, "{value:?}").expect("text takes any text"),
            _ => {}
        }
    }
}

impl Kind {
    fn name(&mut self, name: &str) {
        if !self.of.is_empty() {
            self.of.push('/');
        }
        self.of.push_str(name);
    }
}

/// Whether a line may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admitted {
    Yes,
    /// It is the first one that is left out of any kind.
    FirstLeftOut,
    No,
}

/// The count of lines of each kind. Pure: the time is an argument.
#[derive(Debug)]
struct Sampler<K> {
    kinds: HashMap<K, Window>,
    /// Lines of kinds that had no place in the table.
    others: Option<(K, Window)>,
    /// Whether any was left out since the last look.
    any: bool,
}

/// The lines of one kind since some moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    since: Instant,
    admitted: u32,
    left_out: u64,
}

impl<K> Default for Sampler<K> {
    fn default() -> Self {
        Self {
            kinds: HashMap::new(),
            others: None,
            any: false,
        }
    }
}

impl<K: Clone + Eq + Hash> Sampler<K> {
    fn admit(&mut self, kind: K, now: Instant) -> Admitted {
        if self.kinds.len() >= LOG_KINDS_MAX && !self.kinds.contains_key(&kind) {
            self.kinds.retain(|_, window| !window.is_over(now));
        }
        let is_known = self.kinds.len() < LOG_KINDS_MAX || self.kinds.contains_key(&kind);
        let window = if is_known {
            self.kinds.entry(kind).or_insert_with(|| Window::new(now))
        } else {
            let others = self.others.get_or_insert_with(|| (kind, Window::new(now)));
            &mut others.1
        };
        if window.admit(now, LOG_LINES_PER_WINDOW) {
            return Admitted::Yes;
        }
        if std::mem::replace(&mut self.any, true) {
            Admitted::No
        } else {
            Admitted::FirstLeftOut
        }
    }

    /// The kinds of which lines were left out since the last look, and how many of each.
    fn take_left_out(&mut self, now: Instant) -> Vec<(K, u64)> {
        self.any = false;
        let others = self
            .others
            .iter_mut()
            .map(|(kind, window)| (&*kind, window));
        let left_out = self.kinds.iter_mut().chain(others);
        let told = left_out
            .filter(|(_, window)| window.left_out > 0)
            .map(|(kind, window)| (kind.clone(), std::mem::take(&mut window.left_out)))
            .collect();
        self.kinds.retain(|_, window| !window.is_over(now));
        self.others.take_if(|(_, window)| window.is_over(now));
        told
    }
}

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            admitted: 0,
            left_out: 0,
        }
    }

    /// Whether one more line is written; else it is counted.
    pub(super) fn admit(&mut self, now: Instant, lines_max: u32) -> bool {
        if now.saturating_duration_since(self.since) >= LOG_WINDOW {
            self.since = now;
            self.admitted = 0;
        }
        if self.admitted < lines_max {
            self.admitted += 1;
            return true;
        }
        self.left_out += 1;
        false
    }

    /// Lines that were counted and not yet told of.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The same, once for each line, when the time has passed in which they are counted.
    pub(super) fn take_when_over(&mut self, now: Instant) -> Option<u64> {
        let is_over = now.saturating_duration_since(self.since) >= LOG_WINDOW;
        (is_over && self.left_out > 0).then(|| std::mem::take(&mut self.left_out))
    }

    /// Whether nothing is lost when it is forgotten.
    fn is_over(&self, now: Instant) -> bool {
        self.left_out == 0 && now.saturating_duration_since(self.since) >= LOG_WINDOW
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LINES: u64 = LOG_LINES_PER_WINDOW as u64;

    fn admitted(sampler: &mut Sampler<u64>, kind: u64, lines: u64, now: Instant) -> u64 {
        let admitted = (0..lines).filter(|_| sampler.admit(kind, now) == Admitted::Yes);
        u64::try_from(admitted.count()).unwrap()
    }

    #[test]
    fn of_a_flood_some_lines_are_written_each_second_and_the_rest_is_counted() {
        let (mut sampler, begun) = (Sampler::default(), Instant::now());
        let mut told = 0;
        for second in 0..10 {
            let now = begun + LOG_WINDOW * second;
            assert_eq!(admitted(&mut sampler, 1, 1000, now), LINES);
            told += sampler
                .take_left_out(now)
                .iter()
                .map(|(_, n)| n)
                .sum::<u64>();
        }
        assert_eq!(told, 10 * (1000 - LINES), "each one is told of once");
        assert!(sampler.take_left_out(begun + LOG_WINDOW * 10).is_empty());
    }

    #[test]
    fn a_flood_of_one_kind_hides_no_line_of_another() {
        let (mut sampler, now) = (Sampler::default(), Instant::now());
        admitted(&mut sampler, 1, 1000, now);
        assert_eq!(admitted(&mut sampler, 2, 1, now), 1);
        assert_eq!(sampler.take_left_out(now), [(1, 1000 - LINES)]);
    }

    #[test]
    fn the_first_line_that_is_left_out_asks_for_a_look_and_further_ones_do_not() {
        let (mut sampler, now) = (Sampler::default(), Instant::now());
        for turn in 0..2 {
            admitted(&mut sampler, 1, LINES * (1 - turn), now);
            assert_eq!(sampler.admit(1, now), Admitted::FirstLeftOut);
            assert_eq!(sampler.admit(1, now), Admitted::No);
            sampler.take_left_out(now);
        }
    }

    #[test]
    fn any_number_of_kinds_takes_bounded_memory_and_no_line_goes_uncounted() {
        let (mut sampler, now) = (Sampler::default(), Instant::now());
        let kinds = 10 * u64::try_from(LOG_KINDS_MAX).unwrap();
        let written: u64 = (0..kinds)
            .map(|kind| admitted(&mut sampler, kind, 2, now))
            .sum();
        assert!(sampler.kinds.len() <= LOG_KINDS_MAX);
        let told: u64 = sampler.take_left_out(now).iter().map(|(_, n)| n).sum();
        assert!(told > 0);
        assert_eq!(written + told, 2 * kinds);
        // When their second is over they make room.
        let later = now + LOG_WINDOW;
        assert_eq!(admitted(&mut sampler, kinds, 1, later), 1);
        assert_eq!(sampler.kinds.len(), 1);
    }

    #[test]
    fn a_clock_that_stands_still_lets_no_more_through() {
        let (mut sampler, now) = (Sampler::default(), Instant::now());
        assert_eq!(admitted(&mut sampler, 1, 1000, now), LINES);
        let before = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        assert_eq!(admitted(&mut sampler, 1, 1000, before), 0);
    }
}
