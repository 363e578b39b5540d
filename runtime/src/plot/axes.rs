//! Axes of a plot: how values become places, and which numbers are written where. Pure.

/// About so many labels on an axis.
const TICKS: f64 = 5.0;
/// More labels than any axis has: ends a loop that rounding would not.
const TICKS_MAX: usize = 24;
/// Room around the data, in parts of it.
pub const ROOM: f64 = 0.08;

/// The rule by which values become places along an axis.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scale {
    Linear,
    Log,
    /// For shares: 90 %, 99 %, 99.9 % are equally far apart.
    Nines,
}

impl Scale {
    /// The place of a value.
    pub(super) fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            // A logarithmic axis has no zero.
            Self::Log => value.max(1e-9).log10(),
            Self::Nines => -(1.0 - value).max(1e-12).log10(),
        }
    }
}

/// An axis: its ends and labels.
#[derive(Debug)]
pub struct Axis {
    pub(super) name: String,
    pub(super) scale: Scale,
    /// As places.
    pub(super) ends: (f64, f64),
    /// Places and what stands there.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Equal steps are equally far apart.
    #[must_use]
    pub fn linear(name: &str, (low, high): (f64, f64)) -> Self {
        let ticks = steps(low, high);
        Self {
            name: name.to_owned(),
            scale: Scale::Linear,
            ends: (low, high),
            ticks: ticks.into_iter().map(|at| (at, label(at))).collect(),
        }
    }

    /// Shares from none to all, equal steps equally far apart.
    #[must_use]
    pub fn shares(name: &str) -> Self {
        let mut axis = Self::linear(name, (0.0, 1.0));
        for (at, label) in &mut axis.ticks {
            *label = share_words(*at);
        }
        axis
    }

    /// Equal ratios are equally far apart.
    #[must_use]
    pub fn log(name: &str, (low, high): (f64, f64)) -> Self {
        let scale = Scale::Log;
        let ends = (scale.place(low), scale.place(high));
        let tick = |value: f64| (scale.place(value), label(value));
        Self {
            name: name.to_owned(),
            scale,
            ends,
            ticks: log_steps(low, high).into_iter().map(tick).collect(),
        }
    }

    /// Shares up to that which one of so many requests stands for; 90 %, 99 %, 99.9 % are equally far apart.
    #[must_use]
    pub fn nines(name: &str, requests: f64) -> Self {
        let most = requests.max(10.0).log10();
        let label = |share: f64| (Scale::Nines.place(share), share_words(share));
        let shares = [
            0.5,
            0.9,
            0.99,
            0.999,
            0.9999,
            0.99999,
            0.999_999,
            0.999_999_9,
        ];
        let ticks = shares.into_iter().map(label);
        Self {
            name: name.to_owned(),
            scale: Scale::Nines,
            ends: (0.0, most),
            ticks: ticks.filter(|(at, _)| *at <= most + 1e-9).collect(),
        }
    }
}

/// Round numbers from `low` to `high`, about [`TICKS`] of them.
fn steps(low: f64, high: f64) -> Vec<f64> {
    let raw = ((high - low) / TICKS).max(f64::MIN_POSITIVE);
    let unit = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|times| times * unit)
        .find(|step| *step >= raw)
        .unwrap_or(unit);
    let first = (low / step).ceil();
    let numbers = std::iter::successors(Some(first), |number| Some(number + 1.0));
    numbers
        .map(|number| number * step)
        .take_while(|at| *at <= high + step * 1e-6)
        .take(TICKS_MAX)
        .collect()
}

/// 1, 2, 5 of each power of ten; powers only where there are many, [`steps`] where there is hardly one.
fn log_steps(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.max(1e-9).log10(), high.max(1e-9).log10());
    if last - first < 0.7 {
        return steps(low, high);
    }
    let times: &[f64] = if last - first > 2.6 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let powers = std::iter::successors(Some(first.floor()), |power| Some(power + 1.0));
    powers
        .take_while(|power| *power <= last)
        .take(TICKS_MAX)
        .flat_map(|power| times.iter().map(move |times| times * 10_f64.powf(power)))
        .filter(|value| (low..=high).contains(value))
        .collect()
}

/// A number as short as it can be: `0.3` and not `0.30000000000000004`, `20,000`.
fn label(value: f64) -> String {
    // Zero has no sign.
    let text = ((value * 1e9).round() / 1e9 + 0.0).to_string();
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (at, letter) in whole.char_indices() {
        let left = whole.len() - at;
        if left % 3 == 0 && grouped.ends_with(|c: char| c.is_ascii_digit()) {
            grouped.push(',');
        }
        grouped.push(letter);
    }
    grouped + rest
}

/// A share, 0 to 1, in percent: `99.9 %`.
#[must_use]
pub fn share_words(share: f64) -> String {
    let percent = format!("{:.5}", share * 100.0);
    format!("{} %", percent.trim_end_matches('0').trim_end_matches('.'))
}

/// The ends of what is shown, with room around.
#[must_use]
pub fn ends(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return (0.0, 1.0);
    }
    let room = (high - low).max(high.abs() * 1e-3).max(1e-6) * ROOM;
    (low - room, high + room)
}

/// The same for an axis with logarithms.
#[must_use]
pub fn log_ends(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let (low, high) = ends(values.map(|value| Scale::Log.place(value)));
    (10_f64.powf(low), 10_f64.powf(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_as_short_as_it_can_be() {
        assert_eq!(
            [
                0.1 + 0.2,
                20.0,
                0.001,
                1.005,
                20_000.0,
                -1_234_567.5,
                -100.0,
                -0.0
            ]
            .map(label),
            [
                "0.3",
                "20",
                "0.001",
                "1.005",
                "20,000",
                "-1,234,567.5",
                "-100",
                "0"
            ]
        );
    }

    #[test]
    fn labels_stand_at_round_numbers() {
        assert_eq!(
            steps(0.0, 1.0)
                .iter()
                .copied()
                .map(label)
                .collect::<Vec<_>>(),
            ["0", "0.2", "0.4", "0.6", "0.8", "1"]
        );
        assert_eq!(
            log_steps(0.03, 3.0)
                .into_iter()
                .map(label)
                .collect::<Vec<_>>(),
            ["0.05", "0.1", "0.2", "0.5", "1", "2"]
        );
        let axis = Axis::nines("", 20_000.0);
        let labels: Vec<&str> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }
}
