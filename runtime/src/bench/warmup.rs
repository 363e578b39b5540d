//! The moment from which a server is warm: it does not get faster any more. Pure.

/// Fewest requests before a server is taken for warm.
pub(super) const WARM_UP_REQUESTS_MIN: u64 = 50;

/// Fewest blocks that can be told apart: three for each third.
const BLOCKS_MIN: usize = 9;

/// A last third that is faster by less than this share is not worth waiting for.
const FASTER_MIN: f64 = 0.01;

/// A difference of so many of its standard errors is more than noise.
const NOISE_ERRORS: f64 = 2.0;

/// Whether the server is steady: the last third of the blocks is not faster than the middle third beyond noise, over at least
/// [`WARM_UP_REQUESTS_MIN`] (or other `requests_min`) requests and 9 blocks.
///
/// `block_means` are mean times of one request in short stretches of equal length, in order and from the very first request,
/// in any unit; less is faster. What was slow at the start weighs in the first third only once it is a third of all, so a longer
/// warm-up is watched for longer. Blocks without a mean (NaN, infinite) say that it is not steady.
#[must_use]
pub(super) fn is_steady(block_means: &[f64], requests: u64, requests_min: u64) -> bool {
    let known = block_means.iter().all(|mean| mean.is_finite());
    if !known || requests < requests_min || block_means.len() < BLOCKS_MIN {
        return false;
    }
    let third = block_means.len() / 3;
    let (_, watched) = block_means.split_at(block_means.len() - 2 * third);
    let (middle, last) = watched.split_at(third);
    let faster = mean(middle) - mean(last);
    let noise = NOISE_ERRORS * (2.0 * variance(watched) / third as f64).sqrt();
    faster <= noise.max(FASTER_MIN * mean(middle))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Variance by the differences of neighbours, in which a trend hardly shows (von Neumann 1941).
fn variance(values: &[f64]) -> f64 {
    let squares = values.windows(2).map(|two| (two[1] - two[0]).powi(2));
    squares.sum::<f64>() / 2.0 / (values.len() as f64 - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::SplitMix64;

    fn steady(block_means: &[f64]) -> bool {
        is_steady(block_means, 1000, WARM_UP_REQUESTS_MIN)
    }

    #[test]
    fn equal_blocks_are_steady() {
        assert!(steady(&[3.0; 9]));
        assert!(steady(&[3.0; 10]));
    }

    #[test]
    fn a_server_that_still_gets_faster_is_not_steady() {
        let falling: Vec<f64> = (0..30).map(|at| 10.0 - 0.2 * f64::from(at)).collect();
        assert!(!steady(&falling));
    }

    #[test]
    fn a_server_that_gets_slower_is_steady() {
        let rising: Vec<f64> = (0..30).map(|at| 10.0 + 0.2 * f64::from(at)).collect();
        assert!(steady(&rising));
    }

    #[test]
    fn a_slow_start_is_over_when_two_thirds_came_after_it() {
        let blocks = |fast: usize| [vec![9.0; 6], vec![3.0; fast]].concat();
        assert!(!steady(&blocks(3)));
        assert!(!steady(&blocks(4)));
        assert!(steady(&blocks(12)));
    }

    #[test]
    fn a_gain_within_noise_is_steady() {
        let noisy = [9.0, 5.0, 3.0, 2.8, 3.3, 3.1, 2.9, 3.1, 2.95];
        assert!(steady(&noisy));
    }

    #[test]
    fn too_few_requests_or_blocks_are_not_steady() {
        assert!(!is_steady(&[3.0; 9], 49, WARM_UP_REQUESTS_MIN));
        assert!(is_steady(&[3.0; 9], 50, WARM_UP_REQUESTS_MIN));
        assert!(!steady(&[3.0; 8]));
        assert!(!steady(&[]));
    }

    #[test]
    fn a_block_without_a_mean_is_not_steady() {
        let mut blocks = [3.0; 9];
        blocks[8] = f64::NAN;
        assert!(!steady(&blocks));
    }

    #[test]
    fn noise_alone_holds_a_warm_up_seldom_and_a_real_gain_mostly() {
        let mut random = SplitMix64::new(1);
        let mut held = |gain: f64| {
            let runs = 400;
            let held = (0..runs).filter(|_| {
                let blocks: Vec<f64> = (0..15)
                    .map(|at| 1.0 - gain * f64::from(at) / 15.0 + 0.02 * (random.unit() - 0.5))
                    .collect();
                !steady(&blocks)
            });
            held.count()
        };
        assert!(held(0.0) < 40);
        assert!(held(0.2) > 380);
    }
}
