//! How many requests a proof will take, before there are any. Pure.
//!
//! A bad event of the canary's rate `phi` adds `KL(theta || w)` to the logarithm of the e-value in the mean, and events come at the rate
//! `p (w phi + 1 - w)`. A mixture of `J` beliefs costs half of `ln J` in practice. Against simulated medians it is a tenth to two fifths too many.

/// The requests of both arms until harm is proven to so high a logarithm, where the stable version has bad events at the rate `rate`, the
/// canary `ratio` times as often, and gets the share `weight`. None where it never will be.
#[must_use]
pub fn requests_to_prove(log_e: f64, rate: f64, ratio: f64, weight: f64) -> Option<u64> {
    requests_to_prove_beyond(log_e, rate, (ratio, 1.0), weight)
}

/// The same until it is proven that the canary has more than `edge` times as many bad events, where it has `ratio` times as many.
#[must_use]
pub fn requests_to_prove_beyond(
    log_e: f64,
    rate: f64,
    (ratio, edge): (f64, f64),
    weight: f64,
) -> Option<u64> {
    let events = rate * (weight * ratio + 1.0 - weight);
    let gain = information(share(ratio, weight), share(edge, weight));
    requests(log_e + 16_f64.ln() / 2.0, events, gain).filter(|_| ratio > edge)
}

/// The requests of both arms until it is proven that the canary has fewer than `edge` times as many bad events, where it has as many.
#[must_use]
pub fn requests_to_rule_out(log_e: f64, rate: f64, edge: f64, weight: f64) -> Option<u64> {
    let beliefs = 12_f64.ln() / 2.0;
    let gain = information(weight, share(edge, weight));
    requests(log_e + beliefs, rate, gain).filter(|_| edge > 1.0)
}

fn requests(log_e: f64, events: f64, gain: f64) -> Option<u64> {
    let count = (log_e / (events * gain)).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive and below 10^15"
    )]
    let whole = |count: f64| count as u64;
    // A forecast of more than that is none.
    (count > 0.0 && count < 1e15).then(|| whole(count))
}

/// The chance that a bad event is the canary's.
fn share(ratio: f64, weight: f64) -> f64 {
    ratio * weight / (ratio * weight + 1.0 - weight)
}

/// The divergence of two such chances (Kullback and Leibler).
fn information(one: f64, other: f64) -> f64 {
    one * (one / other).ln() + (1.0 - one) * ((1.0 - one) / (1.0 - other)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forecasts_of_harm_are_the_published_ones() {
        for (rate, ratio, weight, expected) in [
            (0.001, 5.0, 0.1, 13_100.0),
            (0.01, 2.0, 0.1, 13_000.0),
            (0.01, 2.0, 0.5, 5160.0),
            (0.01, 1.5, 0.1, 45_700.0),
            (0.01, 2.0, 0.01, 115_000.0),
        ] {
            let found = requests_to_prove(20_f64.ln(), rate, ratio, weight).unwrap();
            let off = found as f64 / expected - 1.0;
            assert!(off.abs() < 0.01, "{rate} {ratio} {weight}: {found}");
        }
    }

    #[test]
    fn a_forecast_of_safety_is_more_than_the_simulated_median_and_less_than_twice_that() {
        for (rate, edge, weight, median) in [
            (0.01, 1.5, 0.1, 37_700.0),
            (0.01, 2.0, 0.1, 10_500.0),
            (0.01, 3.0, 0.1, 3600.0),
            (0.01, 2.0, 0.5, 4900.0),
            (0.001, 5.0, 0.1, 15_000.0),
        ] {
            let found = requests_to_rule_out(20_f64.ln(), rate, edge, weight).unwrap();
            let times = found as f64 / median;
            assert!(
                (1.0..2.0).contains(&times),
                "{rate} {edge} {weight}: {found}"
            );
        }
    }

    #[test]
    fn a_version_that_may_fail_more_is_found_later_and_within_its_margin_never() {
        let of = |edge| requests_to_prove_beyond(3.0, 0.01, (2.0, edge), 0.1);
        assert!(of(1.2) > of(1.0), "{:?}", of(1.2));
        assert_eq!([of(2.0), of(3.0)], [None, None]);
    }

    #[test]
    fn what_never_happens_has_no_forecast() {
        assert_eq!(requests_to_prove(3.0, 0.0, 2.0, 0.1), None);
        assert_eq!(requests_to_prove(3.0, 0.01, 1.0, 0.1), None);
        assert_eq!(requests_to_prove(3.0, 0.01, 2.0, 0.0), None);
        assert_eq!(requests_to_rule_out(3.0, 0.01, 1.0, 0.1), None);
        assert_eq!(requests_to_rule_out(3.0, f64::NAN, 2.0, 0.1), None);
    }
}
