//! The course of the evidence of a rollout: what each metric had proven after so many requests, in a bounded number of points. Pure.
//!
//! It is for pictures, and nothing is decided by it: numbers have three digits after the point. Where it gets too long, every second point
//! goes and points are taken half as often, so that it always spans the whole rollout. It follows from the inputs of the rollout, as all of its
//! state does, and stays with it when its record is put together.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::canary::guard::Finding;
use crate::spec::Percent;

/// Points of a course at most.
const POINTS_MAX: usize = 256;

/// What was proven after so many requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Requests that the rollout had been told of.
    pub requests: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The canary's share.
    pub weight: Percent,
    /// The highest logarithms of the e-values so far, of harm and of safety, for each metric of the plan.
    pub log_e: Vec<(f64, f64)>,
}

/// The course of a rollout; cheap to clone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Course {
    /// In their order, with rising requests.
    #[serde(serialize_with = "write", deserialize_with = "read")]
    points: Arc<Vec<Point>>,
    /// Requests from one point to the next at least.
    stride: u64,
}

/// What all points share but the evidence.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) requests: u64,
    pub(super) at_ms: i64,
    pub(super) weight: Percent,
}

impl Course {
    /// The points, in their order.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Takes in what was found, where it is due; what has turned a verdict always is.
    pub(super) fn look(&mut self, at: At, findings: &[Finding], has_turned: bool) {
        let last = self.points.last().map(|point| point.requests);
        let since = last.map_or(u64::MAX, |last| at.requests.saturating_sub(last));
        if since < self.stride.max(1) && !has_turned {
            return;
        }
        let rounded = |log_e: f64| (log_e * 1000.0).round() / 1000.0;
        let log_e = findings.iter();
        let log_e = log_e.map(|one| (rounded(one.log_e_harm), rounded(one.log_e_safe)));
        let points = Arc::make_mut(&mut self.points);
        // Pairs and truths bring evidence without a request.
        points.pop_if(|point| point.requests >= at.requests);
        points.push(Point {
            requests: at.requests,
            at_ms: at.at_ms,
            weight: at.weight,
            log_e: log_e.collect(),
        });
        if points.len() > POINTS_MAX {
            self.thin();
        }
    }

    /// Leaves out every second point, but neither the first nor the last.
    fn thin(&mut self) {
        let points = Arc::make_mut(&mut self.points);
        let (last, mut number) = (points.len() - 1, 0);
        points.retain(|_| {
            let stays = number % 2 == 0 || number == last;
            number += 1;
            stays
        });
        let span = points[points.len() - 1].requests - points[0].requests;
        self.stride = (span / POINTS_MAX as u64).max(self.stride * 2).max(1);
    }
}

fn write<S: Serializer>(points: &Arc<Vec<Point>>, serializer: S) -> Result<S::Ok, S::Error> {
    points.as_slice().serialize(serializer)
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Vec<Point>>, D::Error> {
    Vec::deserialize(deserializer).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::guard::Guard;
    use crate::canary::guard_plan::GuardPlan;

    fn at(requests: u64) -> At {
        At {
            requests,
            at_ms: 7,
            weight: Percent::ZERO,
        }
    }

    fn findings(log_e: f64) -> Vec<Finding> {
        let mut findings = Guard::new(GuardPlan::default()).unwrap().findings();
        findings[0].log_e_harm = log_e;
        findings
    }

    fn requests(course: &Course) -> Vec<u64> {
        course.points().iter().map(|point| point.requests).collect()
    }

    #[test]
    fn however_long_a_rollout_is_its_course_is_short_and_spans_it() {
        for each in [1, 7, 1000] {
            let mut course = Course::default();
            for look in 0..=20_000 {
                course.look(at(look * each), &findings(0.0), false);
            }
            let requests = requests(&course);
            assert!((POINTS_MAX / 4..=POINTS_MAX).contains(&requests.len()));
            assert_eq!(requests[0], 0);
            let last = requests[requests.len() - 1];
            assert!(last >= 20_000 * each * 98 / 100, "{last}");
            assert!(requests.is_sorted_by(|one, next| one < next));
        }
    }

    #[test]
    fn a_verdict_that_turns_is_a_point_at_once_and_two_at_one_request_are_one() {
        let mut course = Course::default();
        for look in 0..1000 {
            course.look(at(look * 100), &findings(0.0), false);
        }
        let before = requests(&course);
        course.look(at(99_901), &findings(1.0), false);
        assert_eq!(requests(&course), before);
        course.look(at(99_901), &findings(4.567_891), true);
        course.look(at(99_901), &findings(5.5), true);
        let points = course.points();
        assert_eq!(points.len(), before.len() + 1);
        assert_eq!(points[points.len() - 1].log_e[0], (5.5, 0.0));
    }

    #[test]
    fn turns_alone_do_not_make_it_long() {
        let mut course = Course::default();
        for look in 0..5000 {
            course.look(at(look), &findings(0.0), true);
        }
        assert!(course.points().len() <= POINTS_MAX);
    }

    #[test]
    fn a_course_that_is_written_down_goes_on_to_the_same() {
        let (mut straight, mut kept) = (Course::default(), Course::default());
        for look in 0..3000_u64 {
            let found = findings((look as f64).sqrt());
            straight.look(at(look * 3), &found, look % 97 == 0);
            kept.look(at(look * 3), &found, look % 97 == 0);
            if look % 500 == 0 {
                kept = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
            }
        }
        assert_eq!(kept, straight);
    }
}
