//! A band that holds the mean of bounded values at every time: the empirical Bernstein confidence sequence of Waudby-Smith and Ramdas. Pure.
//!
//! For values from 0 to 1, as differences of two answers to the same request, or shares of slots. Each value moves the centre by a bet that
//! was fixed before it, larger where the values vary less; the band is as narrow as their variance allows, whatever that turns out to be.
//! It holds where the mean of each value given those before is the same: the values themselves may vary and depend as they like.
//!
//! Not here: pairs that agree or not (`rate_test`).

use serde::{Deserialize, Serialize};

/// The state of a band.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeanBand {
    /// The chance that the mean is ever outside.
    alpha: f64,
    count: u64,
    sum: f64,
    /// Squared distances from the mean at their time.
    squares: f64,
    bets: f64,
    weighted: f64,
    spent: f64,
}

impl MeanBand {
    /// A band of no values yet.
    #[must_use]
    pub fn new(alpha: f64) -> Self {
        Self {
            alpha,
            count: 0,
            sum: 0.0,
            squares: 0.0,
            bets: 0.0,
            weighted: 0.0,
            spent: 0.0,
        }
    }

    /// Takes in a value; one outside of 0 to 1 is the nearest within, and what is no number says nothing.
    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        let value = value.clamp(0.0, 1.0);
        let (mean, variance) = (self.mean(), self.variance());
        self.count += 1;
        let count = self.count as f64;
        let bet = (2.0 * self.log() / (variance * count * count.ln_1p()))
            .sqrt()
            .min(0.5);
        self.spent += 4.0 * (value - mean).powi(2) * (-(-bet).ln_1p() - bet) / 4.0;
        self.bets += bet;
        self.weighted += bet * value;
        self.sum += value;
        self.squares += (value - self.mean()).powi(2);
    }

    /// The ends of the band, within 0 to 1.
    #[must_use]
    pub fn ends(&self) -> (f64, f64) {
        if self.count == 0 {
            return (0.0, 1.0);
        }
        let (centre, half) = (self.weighted / self.bets, self.half_width());
        ((centre - half).max(0.0), (centre + half).min(1.0))
    }

    /// Half of the width.
    #[must_use]
    pub fn half_width(&self) -> f64 {
        (self.log() + self.spent) / self.bets
    }

    /// The values so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    fn log(&self) -> f64 {
        (2.0 / self.alpha).ln()
    }

    fn mean(&self) -> f64 {
        (0.5 + self.sum) / (self.count as f64 + 1.0)
    }

    fn variance(&self) -> f64 {
        (0.25 + self.squares) / (self.count as f64 + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::random::SplitMix64;

    fn half_width(mut value: impl FnMut() -> f64) -> f64 {
        let mut band = MeanBand::new(0.05);
        (0..20_000).for_each(|_| band.add(value()));
        band.half_width()
    }

    #[test]
    fn the_band_is_as_wide_as_published() {
        let mut random = SplitMix64::new(1);
        let rare = half_width(|| f64::from(u8::from(random.unit() <= 0.01)));
        assert!((rare - 0.0028).abs() < 2e-4, "{rare}");
        let mut random = SplitMix64::new(2);
        let cubes = half_width(|| random.unit().powi(3));
        assert!((cubes - 0.0094).abs() < 5e-4, "{cubes}");
        assert!((half_width(|| 0.5) - 0.0004).abs() < 1e-4);
    }

    #[test]
    fn the_mean_leaves_the_band_as_seldom_as_is_asked_for_however_often_one_looks() {
        let mut random = SplitMix64::new(3);
        let left = (0..400).filter(|_| {
            let mut band = MeanBand::new(0.05);
            (0..2000).any(|_| {
                band.add(f64::from(u8::from(random.unit() <= 0.05)));
                let (low, high) = band.ends();
                !(low..=high).contains(&0.05)
            })
        });
        // 5 %, and three standard deviations of 4.4.
        let left = left.count();
        assert!(left <= 33, "{left} of 400");
    }

    #[test]
    fn what_is_no_number_says_nothing_and_what_is_outside_is_cut() {
        let mut band = MeanBand::new(0.05);
        band.add(f64::NAN);
        assert_eq!((band.count(), band.ends()), (0, (0.0, 1.0)));
        band.add(f64::INFINITY);
        band.add(-3.0);
        let (low, high) = band.ends();
        assert!(low >= 0.0 && high <= 1.0 && band.half_width().is_finite());
    }
}
