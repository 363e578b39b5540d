//! Servers and loads of known theory, in virtual time: the grid on which the estimators were chosen, and are held to.
//!
//! A closed loop has connections that send their next request when the last is answered, over as many or fewer lanes; service times
//! are constant, exponential, bimodal or lognormal, all of mean 1. An open loop has Poisson arrivals. Tests only.

use std::collections::VecDeque;

use crate::evidence::random::SplitMix64;
use crate::evidence::stats::{Estimate, Part, Ratio, gaussian, pooled_ratio};
use crate::evidence::steadiness::{Course, Steadiness, steadiness};

/// Share of a block that is left out, as in `bench`.
const LEFT_OUT: f64 = 0.25;

/// A distribution of service times, of mean 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    Constant,
    Exponential,
    /// Nine of ten take a half, one takes 5.5.
    Bimodal,
    /// The logarithm has the standard deviation 1.
    Lognormal,
}

const SHAPES: [Shape; 4] = [
    Shape::Constant,
    Shape::Exponential,
    Shape::Bimodal,
    Shape::Lognormal,
];

impl Shape {
    fn service(self, random: &mut SplitMix64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Exponential => -random.unit().ln(),
            Self::Bimodal if random.unit() <= 0.1 => 5.5,
            Self::Bimodal => 0.5,
            Self::Lognormal => (gaussian(random) - 0.5).exp(),
        }
    }
}

/// A server with a queue, and its clients.
#[derive(Debug, Clone, Copy)]
struct System {
    connections: usize,
    lanes: usize,
    /// Time of a block, in mean latencies of a request.
    cycles: f64,
}

/// One block by the estimators that were weighed.
#[derive(Debug, Clone, Copy)]
struct Estimates {
    /// Answers within the block, by the time of the last of them.
    to_the_last_answer: Part,
    /// From the first answer of each connection after the part that is left out to its first after the end.
    whole_cycles: Part,
}

impl System {
    fn length(self) -> f64 {
        self.cycles * self.connections as f64 / self.lanes as f64
    }

    /// The times of the answers of each connection, up to its first after the end.
    fn answers(self, shape: Shape, random: &mut SplitMix64) -> Vec<Vec<f64>> {
        let end = self.length();
        let mut waiting: VecDeque<usize> = (0..self.connections).collect();
        let mut busy: Vec<(f64, usize)> = Vec::new();
        let mut answers = vec![Vec::new(); self.connections];
        let (mut now, mut unfinished) = (0.0, self.connections);
        while unfinished > 0 {
            while busy.len() < self.lanes
                && let Some(connection) = waiting.pop_front()
            {
                busy.push((now + shape.service(random), connection));
            }
            let next = (0..busy.len()).min_by(|one, two| busy[*one].0.total_cmp(&busy[*two].0));
            let (done, connection) = busy.swap_remove(next.expect("a request is under way"));
            now = done;
            let mine: &mut Vec<f64> = &mut answers[connection];
            if mine.last().is_none_or(|last| *last < end) {
                mine.push(done);
                unfinished -= usize::from(done >= end);
            }
            waiting.push_back(connection);
        }
        answers
    }

    fn block(self, shape: Shape, random: &mut SplitMix64) -> Estimates {
        let answers = self.answers(shape, random);
        let end = self.length();
        let within = || answers.iter().flatten().filter(|done| **done < end);
        let mut cycles = Part {
            amount: 0.0,
            per: 0.0,
        };
        for times in &answers {
            let begun = times.partition_point(|done| *done < LEFT_OUT * end);
            let last = times.len() - 1;
            cycles.amount += (last - begun) as f64;
            cycles.per += (times[last] - times[begun]) / self.connections as f64;
        }
        Estimates {
            to_the_last_answer: Part {
                amount: within().count() as f64,
                per: within().copied().fold(f64::MIN_POSITIVE, f64::max),
            },
            whole_cycles: cycles,
        }
    }

    fn runs(self, shape: Shape, runs: usize, pairs: usize, seed: u64) -> Vec<Vec<Estimates>> {
        let mut random = SplitMix64::new(seed);
        let mut run = || (0..pairs).map(|_| self.block(shape, &mut random)).collect();
        (0..runs).map(|_| run()).collect()
    }
}

/// Pairs of blocks of each of two runs, by one estimator.
fn compared(base: &[Estimates], other: &[Estimates], by: fn(&Estimates) -> Part) -> Option<Ratio> {
    let pairs: Vec<_> = base
        .iter()
        .zip(other)
        .map(|(base, other)| [by(base), by(other)])
        .collect();
    pooled_ratio(&pairs, 0.95, 1)
}

/// The share of runs that name a winner, and the mean of the logarithms of the ratios.
fn outcome(
    base: &[Vec<Estimates>],
    other: &[Vec<Estimates>],
    by: fn(&Estimates) -> Part,
) -> (f64, f64) {
    let found: Vec<_> = base
        .iter()
        .zip(other)
        .filter_map(|(base, other)| compared(base, other, by))
        .collect();
    let runs = base.len() as f64;
    let wins = |ratio: &&Ratio| {
        let Estimate { low, high, .. } = ratio.estimate;
        // Constant times have an interval without a width: what rounding does is no win.
        low.is_some_and(|low| low > 1.0 + 1e-9) || high.is_some_and(|high| high < 1.0 - 1e-9)
    };
    let bias = found
        .iter()
        .map(|ratio| ratio.estimate.point.ln())
        .sum::<f64>();
    (found.iter().filter(wins).count() as f64 / runs, bias / runs)
}

#[test]
fn no_shape_of_service_times_wins_a_closed_loop() {
    const RUNS: usize = 400;
    for (connections, lanes, cycles) in [
        (1, 1, 20.0),
        (1, 1, 60.0),
        (4, 4, 20.0),
        (8, 4, 20.0),
        (4, 1, 20.0),
    ] {
        let system = System {
            connections,
            lanes,
            cycles,
        };
        let runs = SHAPES.map(|shape| (shape, system.runs(shape, RUNS, 10, 1)));
        let again = (
            Shape::Exponential,
            system.runs(Shape::Exponential, RUNS, 10, 2),
        );
        for (index, (one, base)) in runs.iter().enumerate() {
            for (two, other) in runs[index + 1..].iter().chain([&again]) {
                let (winners, bias) = outcome(base, other, |block| block.whole_cycles);
                // 5 %, and three and a half standard deviations of a share of 400, for there are fifty points.
                assert!(
                    winners <= 0.088,
                    "{winners} of runs of {one:?} against {two:?} name a winner: {system:?}"
                );
                assert!(bias.abs() < 0.02, "{bias}: {one:?} {two:?} {system:?}");
            }
        }
    }
}

#[test]
fn answers_by_the_time_of_the_last_let_a_shape_win() {
    // The grid tells estimators apart: the plain one names one of two equals.
    let system = System {
        connections: 8,
        lanes: 8,
        cycles: 10.0,
    };
    let base = system.runs(Shape::Constant, 100, 10, 1);
    let other = system.runs(Shape::Bimodal, 100, 10, 2);
    let (winners, bias) = outcome(&base, &other, |block| block.to_the_last_answer);
    assert!(winners > 0.2 && bias > 0.04, "{winners} {bias}");
    let (winners, bias) = outcome(&base, &other, |block| block.whole_cycles);
    assert!(winners < 0.12 && bias.abs() < 0.02, "{winners} {bias}");
}

#[test]
fn a_server_that_is_faster_by_a_fifth_wins_whatever_its_shape() {
    let system = System {
        connections: 4,
        lanes: 4,
        cycles: 40.0,
    };
    let base = system.runs(Shape::Exponential, 40, 10, 3);
    for shape in SHAPES {
        let other = system.runs(shape, 40, 10, 4);
        let faster = |block: &Estimates| Estimates {
            whole_cycles: Part {
                amount: block.whole_cycles.amount * 1.2,
                ..block.whole_cycles
            },
            ..*block
        };
        let found = base.iter().zip(&other).filter(|(base, other)| {
            let other: Vec<_> = other.iter().map(faster).collect();
            let ratio = compared(base, &other, |block| block.whole_cycles).unwrap();
            ratio.estimate.low.unwrap() > 1.0
        });
        let found = found.count();
        assert!(found >= 30, "{found} of 40 with {shape:?}");
    }
}

/// A queue of known theory, and an open loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queue {
    pub(crate) shape: Shape,
    pub(crate) lanes: usize,
    /// Offered by what the lanes can do.
    pub(crate) load: f64,
}

impl Queue {
    /// The latencies of those that arrive within a time, in order, at a server that is idle at first.
    pub(crate) fn latencies(self, length: f64, random: &mut SplitMix64) -> Vec<(f64, f64)> {
        let per_s = self.load * self.lanes as f64;
        let mut free = vec![0.0_f64; self.lanes];
        let mut latencies = Vec::new();
        let mut due = 0.0;
        loop {
            due += -random.unit().ln() / per_s;
            if due >= length {
                return latencies;
            }
            let lane = free.iter_mut().min_by(|one, two| one.total_cmp(two));
            let lane = lane.expect("a server has lanes");
            *lane = lane.max(due) + self.shape.service(random);
            latencies.push((due, *lane - due));
        }
    }

    /// A block that begins with an idle server.
    fn block(self, length: f64, random: &mut SplitMix64) -> Course {
        let per_s = self.load * self.lanes as f64;
        let from = LEFT_OUT * length;
        let nothing = Part {
            amount: 0.0,
            per: 0.0,
        };
        let mut course = Course {
            halves: [nothing; 2],
            offered: 0.0,
            answered: 0.0,
        };
        let mut free = vec![0.0_f64; self.lanes];
        let mut due = 0.0;
        loop {
            due += -random.unit().ln() / per_s;
            if due >= length {
                return course;
            }
            let lane = free.iter_mut().min_by(|one, two| one.total_cmp(two));
            let lane = lane.expect("a server has lanes");
            let done = lane.max(due) + self.shape.service(random);
            *lane = done;
            course.answered += f64::from(u8::from(done >= from && done < length));
            if due >= from {
                let half = &mut course.halves[usize::from(due >= f64::midpoint(from, length))];
                half.amount += done - due;
                half.per += 1.0;
                course.offered += 1.0;
            }
        }
    }

    fn run(self, length: f64, random: &mut SplitMix64) -> Vec<Course> {
        (0..15).map(|_| self.block(length, random)).collect()
    }
}

/// The mean latency of what was due.
fn mean(blocks: &[Course]) -> f64 {
    let halves = || blocks.iter().flat_map(|block| block.halves);
    halves().map(|half| half.amount).sum::<f64>() / halves().map(|half| half.per).sum::<f64>()
}

/// The mean wait of an M/D/4 queue, in service times: that of an M/M/4 (Erlang's C) by the factor of Cosmetatos (1976), which is
/// right to a hundredth.
fn wait_of_four(load: f64) -> f64 {
    let offered = 4.0 * load;
    let terms = [1.0, offered, offered.powi(2) / 2.0, offered.powi(3) / 6.0];
    let last = offered.powi(4) / 24.0 / (1.0 - load);
    let waits = last / (terms.iter().sum::<f64>() + last);
    let exponential = waits / (4.0 * (1.0 - load));
    let factor = 1.0 + (1.0 - load) * 3.0 * (24.0_f64.sqrt() - 2.0) / (64.0 * load);
    exponential * factor / 2.0
}

/// The queues with their mean latencies in theory.
fn queues() -> Vec<(Queue, f64)> {
    let mut queues = Vec::new();
    for load in [0.5, 0.7, 0.8, 0.9, 0.95] {
        let queue = |shape, lanes| Queue { shape, lanes, load };
        let idle = 1.0 - load;
        queues.push((queue(Shape::Exponential, 1), 1.0 / idle));
        queues.push((queue(Shape::Constant, 1), 1.0 + load / 2.0 / idle));
        queues.push((queue(Shape::Constant, 4), 1.0 + wait_of_four(load)));
    }
    queues
}

#[test]
fn an_open_loop_is_near_theory_or_said_to_be_unsettled() {
    let runs = 30;
    let (mut settled, mut all) = (0, 0);
    for (queue, theory) in queues() {
        // Down to where no block comes to what it would stay at, and as long as a debug build bears.
        let longest = if queue.load < 0.85 { 300.0 } else { 60.0 };
        for latencies in [10.0, 30.0, longest] {
            let mut random = SplitMix64::new(7);
            let wrong = (0..runs).filter(|_| {
                let blocks = queue.run(latencies * theory, &mut random);
                let is_settled = steadiness(&blocks) == Steadiness::Settled;
                settled += usize::from(is_settled);
                is_settled && (mean(&blocks) / theory).ln().abs() > 1.15_f64.ln()
            });
            let wrong = wrong.count();
            assert!(wrong <= 2, "{wrong} of {runs}: {queue:?} {latencies}");
            all += runs;
        }
    }
    // Not everything is called unsettled.
    assert!(settled * 10 > all, "{settled} of {all}");
}

#[test]
fn long_blocks_settle_at_the_latency_of_theory() {
    for (queue, theory) in queues() {
        if queue.load < 0.6 {
            let blocks = queue.run(2000.0 * theory, &mut SplitMix64::new(9));
            assert_eq!(steadiness(&blocks), Steadiness::Settled, "{queue:?}");
            let off = mean(&blocks) / theory;
            assert!((0.9..1.1).contains(&off), "{off}: {queue:?}");
        }
    }
}

#[test]
fn overload_is_said_and_a_high_load_that_is_borne_is_not_taken_for_it() {
    for (shape, lanes) in [
        (Shape::Exponential, 1),
        (Shape::Constant, 1),
        (Shape::Constant, 4),
    ] {
        let overloaded = |load, length, seed| {
            let queue = Queue { shape, lanes, load };
            let blocks = queue.run(length, &mut SplitMix64::new(seed));
            matches!(steadiness(&blocks), Steadiness::Overloaded { .. })
        };
        for (load, length) in [(1.5, 200.0), (1.1, 4000.0)] {
            let said = (0..20)
                .filter(|seed| overloaded(load, length, *seed))
                .count();
            assert!(said >= 18, "{said} of 20: {shape:?} {lanes} {load}");
        }
        for length in [30.0, 300.0, 3000.0] {
            let said = (0..20)
                .filter(|seed| overloaded(0.95, length, *seed))
                .count();
            assert!(said <= 1, "{said} of 20: {shape:?} {lanes} {length}");
        }
    }
}

#[test]
fn a_queue_of_a_rate_that_is_above_what_is_answered_is_never_called_settled() {
    for load in [1.0, 1.02, 1.1, 2.0] {
        for shape in SHAPES {
            let queue = Queue {
                shape,
                lanes: 2,
                load,
            };
            let found = steadiness(&queue.run(400.0, &mut SplitMix64::new(11)));
            assert_ne!(found, Steadiness::Settled, "{queue:?}");
        }
    }
}
