//! Numbers for people: as many digits as mean something. Pure.

use crate::evidence::Estimate;

/// Stands where a number is not known.
pub(super) const UNKNOWN: &str = "-";
/// Stands where there is no interval.
pub(super) const TOO_LITTLE: &str = "too little to say";
/// Stands for the ratio of a value without an end.
const ENDLESS: &str = "failures reach it";
/// Most digits after the point.
const DECIMALS_MAX: usize = 9;
/// Most digits after the point of a ratio.
const RATIO_DECIMALS_MAX: usize = 4;

/// Three digits: `0.0623`, `1.23`, `123`, `1,234`.
pub(super) fn short(value: f64) -> String {
    match value.is_infinite() {
        // A quantile that failures reach.
        true => "no end".to_owned(),
        false => fixed(value, decimals(value, 3)),
    }
}

/// A number as somebody wrote it: `20`, `0.5`.
pub(super) fn plain(value: f64) -> String {
    fixed(value, 6)
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

/// [`short`], or [`UNKNOWN`].
pub(super) fn short_or_unknown(value: Option<f64>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), short)
}

/// A number of things: `1,234,567`.
pub(super) fn count(value: u64) -> String {
    grouped(&value.to_string())
}

/// A share, 0 to 1, or a relative difference: `1.4 %`.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    format!("{} %", fixed(percent, decimals(percent, 2)))
}

/// A share with its interval: `99.2 % [98.9, 99.4]`.
pub(super) fn percent_estimate(estimate: Estimate) -> String {
    let point = fixed(estimate.point * 100.0, 2);
    match interval(estimate) {
        Some((low, high)) => format!("{point} % [{:.2}, {:.2}]", low * 100.0, high * 100.0),
        None => format!("{point} %"),
    }
}

/// A rate with its interval: `103,412/s [101,204 to 105,620]`.
pub(super) fn rate(estimate: Estimate) -> String {
    let point = short(estimate.point);
    match interval(estimate) {
        Some((low, high)) => format!("{point}/s [{} to {}]", short(low), short(high)),
        None => format!("{point}/s"),
    }
}

/// A ratio with its interval: `1.31x [1.28, 1.34]`. Never the one without the other.
pub(super) fn ratio(estimate: Estimate) -> String {
    ratio_with(estimate, "")
}

/// Whether a ratio is that of a value without an end: failures are no latency.
pub(super) fn is_endless(estimate: Estimate) -> bool {
    let is_point = estimate.low.is_some() && estimate.low == estimate.high;
    is_point && (estimate.point.is_infinite() || estimate.point == 0.0)
}

/// A ratio, words, and its interval: `1.31x faster [1.28, 1.34]`.
pub(super) fn ratio_with(estimate: Estimate, words: &str) -> String {
    let Some((low, high)) = interval(estimate) else {
        return TOO_LITTLE.to_owned();
    };
    if is_endless(estimate) {
        return ENDLESS.to_owned();
    }
    let digits = ratio_decimals(estimate.point, low, high);
    let gap = if words.is_empty() { "" } else { " " };
    format!(
        "{}x{gap}{words} [{}, {}]",
        fixed(estimate.point, digits),
        fixed(low, digits),
        fixed(high, digits)
    )
}

/// A ratio or a share as conditions have it: `0.998 [0.996, 0.999]`.
pub(super) fn bare(estimate: Estimate) -> String {
    ratio(estimate).replacen('x', "", 1)
}

/// The ends, where both are known.
pub(super) fn interval(estimate: Estimate) -> Option<(f64, f64)> {
    estimate.low.zip(estimate.high)
}

/// The same ratio seen from the other side.
pub(super) fn inverse(estimate: Estimate) -> Estimate {
    Estimate {
        point: estimate.point.recip(),
        low: estimate.high.map(f64::recip),
        high: estimate.low.map(f64::recip),
    }
}

/// So many that the width of the interval shows, and that an end which is not 1 does not look like it.
fn ratio_decimals(point: f64, low: f64, high: f64) -> usize {
    let mut digits = decimals(point.max(1.0), 3);
    let mut unit = 0.1_f64.powi(i32::try_from(digits).unwrap_or_default());
    let half_width = (high - low) / 2.0;
    let looks_like_one = |end: f64, unit: f64| (end - 1.0).abs() < unit / 2.0;
    while digits < RATIO_DECIMALS_MAX
        && (half_width < unit * 0.999 || [low, high].iter().any(|end| looks_like_one(*end, unit)))
    {
        digits += 1;
        unit /= 10.0;
    }
    digits
}

/// Digits after the point that show so many in all.
fn decimals(value: f64, digits: usize) -> usize {
    let size = value.abs();
    let mut decimals = digits.saturating_sub(1);
    let (mut top, mut floor) = (10.0, 1.0);
    while size >= top && decimals > 0 {
        decimals -= 1;
        top *= 10.0;
    }
    while size > 0.0 && size < floor && decimals < DECIMALS_MAX {
        decimals += 1;
        floor /= 10.0;
    }
    if size > 0.0 { decimals } else { 0 }
}

pub(super) fn fixed(value: f64, decimals: usize) -> String {
    if value.is_finite() {
        grouped(&format!("{value:.decimals$}"))
    } else {
        UNKNOWN.to_owned()
    }
}

/// Puts commas between thousands.
fn grouped(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let digits = whole.trim_start_matches('-').len();
    let mut text = String::with_capacity(number.len() + digits / 3);
    for (at, digit) in whole.chars().enumerate() {
        let left = whole.len() - at;
        if left % 3 == 0 && left < digits {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(point: f64, low: f64, high: f64) -> Estimate {
        Estimate {
            point,
            low: Some(low),
            high: Some(high),
        }
    }

    #[test]
    fn a_number_has_three_digits_or_all_before_the_point() {
        let found = [0.062_34, 0.5, 1.234, 56.78, 456.7, 103_411.6, -1_234.0, 0.0].map(short);
        let wanted = [
            "0.0623", "0.500", "1.23", "56.8", "457", "103,412", "-1,234", "0",
        ];
        assert_eq!(found, wanted);
        assert_eq!(short(f64::NAN), UNKNOWN);
        assert_eq!(
            [999, 1000, 1_234_567].map(count),
            ["999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0.014, 0.2, 0.000_31, 1.0].map(percent),
            ["1.4 %", "20 %", "0.031 %", "100 %"]
        );
    }

    #[test]
    fn a_ratio_shows_the_width_of_its_interval() {
        assert_eq!(ratio(estimate(1.312, 1.281, 1.344)), "1.31x [1.28, 1.34]");
        assert_eq!(
            ratio(estimate(1.0021, 0.9961, 1.0082)),
            "1.002x [0.996, 1.008]"
        );
        assert_eq!(ratio(estimate(12.34, 11.0, 13.8)), "12.3x [11.0, 13.8]");
        assert_eq!(
            ratio_with(estimate(1.312, 1.281, 1.344), "faster"),
            "1.31x faster [1.28, 1.34]"
        );
    }

    #[test]
    fn an_end_that_is_not_one_does_not_look_like_it() {
        assert_eq!(
            ratio(estimate(1.0304, 1.0004, 1.0604)),
            "1.0304x [1.0004, 1.0604]"
        );
    }

    #[test]
    fn no_ratio_stands_without_its_interval() {
        let mut bare = estimate(1.3, 1.2, 1.4);
        bare.low = None;
        assert_eq!(ratio(bare), TOO_LITTLE);
        assert_eq!(ratio_with(bare, "faster"), TOO_LITTLE);
    }

    #[test]
    fn the_inverse_of_an_interval_keeps_its_ends_in_order() {
        let found = inverse(estimate(0.5, 0.4, 0.8));
        assert_eq!(found, estimate(2.0, 1.25, 2.5));
    }
}
