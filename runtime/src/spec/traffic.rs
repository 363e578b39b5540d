//! The split of traffic: percent per deployment, exact in every aligned block of requests.
//!
//! Not here: which requests skip the split because they name a deployment.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{DeploymentName, NameError, shown};
use crate::config::PROGRAM_NAME_LEN_MAX;

/// Hundredths of a percent that make up the whole.
const WHOLE: u16 = 10_000;

/// Rounds of the permutation of a block. With four, ten neighbours fall on the same deployment noticeably more often than drawn ones.
const ROUNDS: u64 = 6;

/// Spreads consecutive numbers over 64 bits.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A share of the traffic from 0 to 100 percent, in steps of 0.01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Percent(u16);

impl Percent {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Everything.
    pub const HUNDRED: Self = Self(WHOLE);

    /// The share in hundredths of a percent, 0 to 10 000.
    #[must_use]
    pub fn hundredths(self) -> u16 {
        self.0
    }

    /// From hundredths of a percent; none above 10 000.
    #[must_use]
    pub fn from_hundredths(hundredths: u16) -> Option<Self> {
        (hundredths <= WHOLE).then_some(Self(hundredths))
    }
}

impl FromStr for Percent {
    type Err = TrafficError;

    fn from_str(text: &str) -> Result<Self, TrafficError> {
        let refused = || TrafficError::Percent {
            found: text.chars().take(PROGRAM_NAME_LEN_MAX).collect(),
        };
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        // Zeros after the second decimal say nothing, so that 12.500 is 12.5.
        let kept = fraction.trim_end_matches('0');
        if whole.is_empty()
            || fraction.is_empty()
            || !digits(whole)
            || !digits(fraction)
            || kept.len() > 2
        {
            return Err(refused());
        }
        let hundredths = format!("{whole}{kept:0<2}")
            .parse()
            .map_err(|_| refused())?;
        Self::from_hundredths(hundredths).ok_or_else(refused)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hundredths(f, u64::from(self.0))
    }
}

fn write_hundredths(f: &mut fmt::Formatter<'_>, hundredths: u64) -> fmt::Result {
    let (whole, rest) = (hundredths / 100, hundredths % 100);
    match (rest, rest % 10) {
        (0, _) => write!(f, "{whole}"),
        (_, 0) => write!(f, "{whole}.{}", rest / 10),
        _ => write!(f, "{whole}.{rest:02}"),
    }
}

impl Serialize for Percent {
    /// A whole number where it is one, as Azure writes it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(100) {
            serializer.serialize_u16(self.0 / 100)
        } else {
            serializer.serialize_f64(f64::from(self.0) / 100.0)
        }
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        number.to_string().parse().map_err(serde::de::Error::custom)
    }
}

/// The reason why a split is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrafficError {
    /// Not a percent.
    #[error("expected a percent from 0 to 100 with at most two decimals, found {found}")]
    Percent {
        /// The text as it was written.
        found: String,
    },
    /// The shares do not add up.
    #[error("expected a sum of 0 or 100, found {}", Sum(.0))]
    Sum(
        /// The entries as written.
        Vec<(DeploymentName, Percent)>,
    ),
    /// A deployment stands there twice.
    #[error("expected each deployment once, found `{0}` twice")]
    Twice(DeploymentName),
    /// Not a single entry, as of an unset variable of a script.
    #[error(
        "expected entries such as blue:90,green:10 or blue=90 green=10, found none; to take all traffic away, write it out: blue=0"
    )]
    Empty,
    /// Neither `blue:90` nor `blue=90`.
    #[error("expected entries such as blue:90,green:10 or blue=90 green=10, found {}", shown(.found))]
    Entry {
        /// The text as it was written.
        found: String,
    },
    /// The name of a deployment is not one.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Prints `90 (blue 60, green 30)`.
struct Sum<'a>(&'a [(DeploymentName, Percent)]);

impl fmt::Display for Sum<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hundredths(
            f,
            self.0.iter().map(|(_, percent)| u64::from(percent.0)).sum(),
        )?;
        for (index, (name, percent)) in self.0.iter().enumerate() {
            write!(
                f,
                "{}{name} {percent}",
                if index == 0 { " (" } else { ", " }
            )?;
        }
        f.write_str(")")
    }
}

/// Percent per deployment, in the order written. The sum is 0 or 100.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrafficSplit {
    entries: Vec<(DeploymentName, Percent)>,
}

impl TrafficSplit {
    /// Checks names and sum. Entries of 0 are kept: such a deployment is there and idle.
    ///
    /// # Errors
    ///
    /// [`TrafficError::Twice`] and [`TrafficError::Sum`].
    pub fn new(entries: Vec<(DeploymentName, Percent)>) -> Result<Self, TrafficError> {
        let mut known = BTreeSet::new();
        if let Some((twice, _)) = entries.iter().find(|(name, _)| !known.insert(name)) {
            return Err(TrafficError::Twice(twice.clone()));
        }
        let sum: u64 = entries
            .iter()
            .map(|(_, percent)| u64::from(percent.0))
            .sum();
        if sum != 0 && sum != u64::from(WHOLE) {
            return Err(TrafficError::Sum(entries));
        }
        Ok(Self { entries })
    }

    /// All traffic to one deployment.
    #[must_use]
    pub fn all_to(name: DeploymentName) -> Self {
        Self {
            entries: vec![(name, Percent::HUNDRED)],
        }
    }

    /// Reads `blue:90,green:10` or `blue=90 green=10`, as the two families of `az ml` commands write it, also with spaces around the
    /// sign and with `%` behind the number.
    ///
    /// # Errors
    ///
    /// Any [`TrafficError`].
    pub fn parse(text: &str) -> Result<Self, TrafficError> {
        Self::parse_with(text, str::parse)
    }

    /// Reads the same form, with names of a program.
    ///
    /// # Errors
    ///
    /// Any [`TrafficError`].
    pub fn of_program(text: &str) -> Result<Self, TrafficError> {
        Self::parse_with(text, DeploymentName::of_program)
    }

    fn parse_with(
        text: &str,
        name_of: impl Fn(&str) -> Result<DeploymentName, NameError>,
    ) -> Result<Self, TrafficError> {
        let mut entries = Vec::new();
        for entry in without_spaces_around_signs(text)
            .split([',', ' '])
            .filter(|entry| !entry.is_empty())
        {
            let Some((name, percent)) = entry.split_once([':', '=']) else {
                return Err(TrafficError::Entry {
                    found: entry.to_owned(),
                });
            };
            let percent = percent.strip_suffix('%').unwrap_or(percent);
            entries.push((name_of(name)?, percent.parse()?));
        }
        if entries.is_empty() {
            // An unset variable of a script must not take all traffic away.
            return Err(TrafficError::Empty);
        }
        Self::new(entries)
    }

    /// The share of a deployment; zero when it has no entry.
    #[must_use]
    pub fn percent_of(&self, name: &DeploymentName) -> Percent {
        self.entries
            .iter()
            .find(|(entry, _)| entry == name)
            .map_or(Percent::ZERO, |(_, percent)| *percent)
    }

    /// Deployments and their shares, in the order written.
    #[must_use]
    pub fn entries(&self) -> &[(DeploymentName, Percent)] {
        &self.entries
    }

    /// Whether there is not a single entry.
    pub(super) fn is_unwritten(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether no deployment has any weight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries
            .iter()
            .all(|(_, percent)| *percent == Percent::ZERO)
    }

    /// The same split with names spelled as these are, which may be written in another case.
    #[must_use]
    pub fn spelled_as<'a>(&self, names: impl Iterator<Item = &'a DeploymentName> + Clone) -> Self {
        let spelled = |(entry, percent): &(DeploymentName, Percent)| {
            let known = names.clone().find(|known| *known == entry);
            (known.unwrap_or(entry).clone(), *percent)
        };
        Self {
            entries: self.entries.iter().map(spelled).collect(),
        }
    }

    /// The split without the entry of a deployment.
    ///
    /// # Errors
    ///
    /// [`TrafficError::Sum`] when the deployment has weight and others have the rest.
    pub fn without(&self, name: &DeploymentName) -> Result<Self, TrafficError> {
        Self::new(
            self.entries
                .iter()
                .filter(|(entry, _)| entry != name)
                .cloned()
                .collect(),
        )
    }
}

/// The text with each sign right between a name and a number, in one pass however many spaces there are.
fn without_spaces_around_signs(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ' ' if joined.ends_with([':', '=']) => {}
            ':' | '=' => {
                joined.truncate(joined.trim_end_matches(' ').len());
                joined.push(character);
            }
            other => joined.push(other),
        }
    }
    joined
}

impl FromStr for TrafficSplit {
    type Err = TrafficError;

    fn from_str(text: &str) -> Result<Self, TrafficError> {
        Self::parse(text)
    }
}

impl fmt::Display for TrafficSplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, percent)) in self.entries.iter().enumerate() {
            write!(f, "{}{name}:{percent}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Serialize for TrafficSplit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.entries
                .iter()
                .map(|(name, percent)| (name.as_str(), percent)),
        )
    }
}

impl<'de> Deserialize<'de> for TrafficSplit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = serde_json::Map::deserialize(deserializer)?;
        let entries: Result<Vec<_>, TrafficError> = map
            .iter()
            .map(|(name, percent)| Ok((name.parse()?, percent.to_string().parse()?)))
            .collect();
        entries
            .and_then(Self::new)
            .map_err(serde::de::Error::custom)
    }
}

/// A split prepared for picking. Any aligned block of `block_len` tickets gets exactly its shares.
///
/// Within a block a keyed permutation spreads the shares, so that a client with a period of its own does not meet the same deployment
/// again and again. The threshold that the result falls under names the deployment. The permutation is a Feistel network over the
/// two digits of a place to the base of `side`: to know where some requests of a block went says nothing about others but that
/// their places are taken, also of neighbours, which tests of who gets the failures of a burst rest on.
#[derive(Debug, Clone)]
pub struct Picker {
    seed: u64,
    block_len: u64,
    /// The square root of `block_len`.
    side: u64,
    /// The running sums of the shares, one for each entry; empty when nothing has weight.
    thresholds: Vec<u64>,
}

impl Picker {
    /// Prepares a split. Blocks are 100 tickets long for whole percents, 10 000 for finer ones.
    #[must_use]
    pub fn new(split: &TrafficSplit, seed: u64) -> Self {
        let shares: Vec<_> = split.entries.iter().map(|(_, percent)| *percent).collect();
        Self::of_shares(&shares, seed)
    }

    /// Prepares a share of tickets: it is picked as the first entry, and nothing for the others.
    #[must_use]
    pub fn of_share(share: Percent, seed: u64) -> Self {
        Self::of_shares(&[share], seed)
    }

    fn of_shares(shares: &[Percent], seed: u64) -> Self {
        let is_whole = shares.iter().all(|percent| percent.0.is_multiple_of(100));
        let unit = if is_whole { 100 } else { 1 };
        let (block_len, side) = (u64::from(WHOLE) / unit, if unit == 1 { 100 } else { 10 });
        let mut sum = 0;
        let thresholds: Vec<_> = shares
            .iter()
            .map(|percent| {
                sum += u64::from(percent.0) / unit;
                sum
            })
            .collect();
        Self {
            seed,
            block_len,
            side,
            thresholds: if sum == 0 { Vec::new() } else { thresholds },
        }
    }

    /// The number of tickets in a block: 100 or 10 000.
    #[must_use]
    pub fn block_len(&self) -> u64 {
        self.block_len
    }

    /// The index into [`TrafficSplit::entries`] for a ticket; none when no deployment has weight.
    ///
    /// Tickets are consecutive numbers, one for each request that the split decides.
    #[must_use]
    pub fn pick(&self, ticket: u64) -> Option<usize> {
        let (block, position) = (ticket / self.block_len, ticket % self.block_len);
        let key = fmix64(self.seed ^ block.wrapping_mul(GOLDEN));
        let slot = (self.permuted(position, key) + (key >> 32)) % self.block_len;
        self.thresholds
            .iter()
            .position(|threshold| slot < *threshold)
    }

    /// The place that a position of a block has under a key: each round adds a digit that is drawn by the one to the other.
    fn permuted(&self, position: u64, key: u64) -> u64 {
        let (mut high, mut low) = (position / self.side, position % self.side);
        for round in 0..ROUNDS {
            let hash = fmix64(key.wrapping_add(GOLDEN.wrapping_mul(low + 1 + (round << 7))));
            let sum = high + (((hash >> 32) * self.side) >> 32);
            let digit = if sum < self.side {
                sum
            } else {
                sum - self.side
            };
            (high, low) = (low, digit);
        }
        high * self.side + low
    }
}

/// The finaliser of MurmurHash3: every bit of the input moves every bit of the output.
fn fmix64(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(text: &str) -> TrafficSplit {
        text.parse().expect("a split")
    }

    #[track_caller]
    fn check_refused(text: &str, message: &str) {
        assert_eq!(
            TrafficSplit::parse(text).expect_err("refused").to_string(),
            message
        );
    }

    fn counts(split: &TrafficSplit, picker: &Picker, block: u64) -> Vec<u64> {
        let mut counts = vec![0; split.entries().len()];
        for position in 0..picker.block_len() {
            let ticket = block * picker.block_len() + position;
            counts[picker.pick(ticket).expect("some deployment has weight")] += 1;
        }
        counts
    }

    #[test]
    fn both_spellings_of_the_command_line_mean_the_same() {
        assert_eq!(split("blue:90,green:10"), split("blue=90 green=10"));
        assert_eq!(split("blue:90, green:10").to_string(), "blue:90,green:10");
    }

    #[test]
    fn a_split_of_a_program_names_what_a_program_may_name() {
        let split = TrafficSplit::of_program("v1=90 my_model=10").expect("a split");
        assert_eq!(split.to_string(), "v1:90,my_model:10");
        let v1 = DeploymentName::of_program("V1").expect("a name");
        assert_eq!(split.percent_of(&v1).hundredths(), 9000);
        check_refused(
            "v1=90 my_model=10",
            "expected 3 to 32 letters, digits and dashes, from a letter to a letter or digit, found \"v1\"",
        );
        for wrong in ["", "v1", "v1=1", "v1=50 V1=50", "../x=100", "=100"] {
            let refused = TrafficSplit::of_program(wrong)
                .expect_err(wrong)
                .to_string();
            assert!(refused.starts_with("expected"), "{refused}");
        }
    }

    #[test]
    fn percents_print_without_trailing_zeros() {
        for (text, shown) in [
            ("10", "10"),
            ("0.01", "0.01"),
            ("12.5", "12.5"),
            ("12.500", "12.5"),
            ("007", "7"),
        ] {
            assert_eq!(
                text.parse::<Percent>().map(|percent| percent.to_string()),
                Ok(shown.to_owned())
            );
        }
    }

    #[test]
    fn what_is_not_a_percent_is_refused() {
        for text in [
            "-1",
            "100.01",
            "101",
            "0.001",
            "90%",
            "",
            ".5",
            "5.",
            "1e2",
            "+5",
            "99999999999999999999",
        ] {
            assert_eq!(
                text.parse::<Percent>().expect_err("refused").to_string(),
                format!("expected a percent from 0 to 100 with at most two decimals, found {text}")
            );
        }
    }

    #[test]
    fn a_split_that_sums_to_90_is_refused_with_its_parts() {
        check_refused(
            "blue:60,green:30",
            "expected a sum of 0 or 100, found 90 (blue 60, green 30)",
        );
        check_refused(
            "blue:60.5,green:50",
            "expected a sum of 0 or 100, found 110.5 (blue 60.5, green 50)",
        );
    }

    #[test]
    fn a_deployment_named_twice_is_refused_in_any_case() {
        check_refused(
            "blue:50,Blue:50",
            "expected each deployment once, found `Blue` twice",
        );
    }

    #[test]
    fn a_split_takes_the_spelling_of_the_names_that_are_known() {
        let known: Vec<DeploymentName> = ["blue", "green"]
            .iter()
            .map(|name| name.parse().unwrap())
            .collect();
        let spelled = split("BLUE:90,Red:10,Green:0").spelled_as(known.iter());
        assert_eq!(spelled.to_string(), "blue:90,Red:10,green:0");
    }

    /// Each pair of characters cost a pass over the whole: a megabyte of spaces kept a caller for hours.
    #[test]
    fn spaces_around_a_sign_are_read_over_however_many_there_are() {
        let spaces = " ".repeat(1 << 20);
        let text = format!("{spaces}blue{spaces}={spaces}90 green:{spaces}10%{spaces}");
        assert_eq!(split(&text), split("blue=90 green=10"));
    }

    #[test]
    fn other_text_is_refused() {
        for nothing in ["", " ", ","] {
            assert_eq!(TrafficSplit::parse(nothing), Err(TrafficError::Empty));
        }
        for number in ["NaN", "inf", "101", "-0", "1e2", "", "%1"] {
            check_refused(
                &format!("blue={number}"),
                &format!(
                    "expected a percent from 0 to 100 with at most two decimals, found {number}"
                ),
            );
        }
        check_refused(
            "blue",
            "expected entries such as blue:90,green:10 or blue=90 green=10, found \"blue\"",
        );
    }

    #[test]
    fn a_split_without_weight_picks_nothing() {
        for split in [TrafficSplit::default(), split("blue:0,green:0")] {
            assert!(split.is_empty());
            assert_eq!(Picker::new(&split, 1).pick(7), None);
        }
    }

    #[test]
    fn only_an_idle_deployment_can_leave_a_split_that_others_share() {
        let blue = "blue".parse().expect("a name");
        assert_eq!(
            split("blue:0,green:100").without(&blue),
            Ok(split("green:100"))
        );
        assert!(split("blue:10,green:90").without(&blue).is_err());
    }

    // The library alone needs no order of JSON, nor the crates that keep one.
    #[cfg(feature = "server")]
    #[test]
    fn json_keeps_the_order_and_writes_whole_numbers_whole() {
        let json = serde_json::to_string(&split("green:99.99,blue:0.01,red:0")).expect("JSON");
        assert_eq!(json, r#"{"green":99.99,"blue":0.01,"red":0}"#);
        assert_eq!(
            serde_json::from_str::<TrafficSplit>(&json).expect("a split"),
            split("green:99.99,blue:0.01,red:0")
        );
    }

    #[test]
    fn blocks_differ_so_that_a_periodic_client_does_not_meet_one_deployment_only() {
        let split = split("blue:90,green:10");
        let picker = Picker::new(&split, 42);
        let greens = (0..100_000)
            .step_by(10)
            .filter(|ticket| picker.pick(*ticket) == Some(1))
            .count();
        assert!((500..1500).contains(&greens), "{greens} of 10 000");
    }

    /// An affine permutation has neighbours side by side in every twentieth block, where all of a burst falls on one deployment.
    #[test]
    fn neighbours_and_every_third_request_fall_on_a_deployment_as_often_as_drawn_ones() {
        const BLOCKS: u64 = 20_000;
        for percent in [10, 50] {
            let split = split(&format!("blue:{},green:{percent}", 100 - percent));
            let picker = Picker::new(&split, 7);
            for (step, of) in [(1, 10), (3, 10), (1, 40), (2, 50), (10, 10)] {
                let greens = |block: u64| {
                    let tickets = (0..of).map(|at| block * 100 + (4 + at * step) % 100);
                    tickets
                        .filter(|ticket| picker.pick(*ticket) == Some(1))
                        .count() as f64
                };
                let mean = of as f64 * f64::from(percent) / 100.0;
                let left = (100 - of) as f64 / 99.0;
                let expected = mean * (1.0 - f64::from(percent) / 100.0) * left;
                let squares: f64 = (0..BLOCKS)
                    .map(|block| (greens(block) - mean).powi(2))
                    .sum();
                let found = squares / BLOCKS as f64;
                // Some five standard deviations of such a variance.
                assert!(
                    (found / expected - 1.0).abs() < 0.06,
                    "{percent} {step} {of}: {found} {expected}"
                );
            }
        }
    }

    prop_compose! {
        /// Two to five deployments; cut points in `unit` hundredths give shares that sum to 100.
        fn any_split()(
            unit in prop_oneof![Just(100_u16), Just(1)],
            cuts in prop::collection::vec(0.0..=1.0, 1..5),
        ) -> TrafficSplit {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 10 000")]
            let cut = |at: f64| (at * f64::from(WHOLE / unit)) as u16 * unit;
            let mut cuts: Vec<u16> = cuts.into_iter().map(cut).chain([0, WHOLE]).collect();
            cuts.sort_unstable();
            let shares = cuts.windows(2).map(|pair| Percent(pair[1] - pair[0]));
            let names = (0..).map(|n| format!("arm-{n}").parse().expect("a name"));
            TrafficSplit::new(names.zip(shares).collect()).expect("shares sum to 100")
        }
    }

    proptest! {
        #[test]
        fn every_aligned_block_is_exact(split in any_split(), seed: u64, block in 0..u64::from(u32::MAX)) {
            let picker = Picker::new(&split, seed);
            let unit = u64::from(WHOLE) / picker.block_len();
            let shares: Vec<u64> = split.entries().iter().map(|(_, percent)| u64::from(percent.0) / unit).collect();
            prop_assert_eq!(counts(&split, &picker, block), shares);
        }

        #[test]
        fn every_percent_survives_its_text(hundredths in 0..=WHOLE) {
            let percent = Percent(hundredths);
            prop_assert_eq!(percent.to_string().parse(), Ok(percent));
        }

        #[test]
        fn any_split_survives_json(split in any_split()) {
            let json = serde_json::to_string(&split).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<TrafficSplit>(&json).expect("a split"), split);
        }

        #[test]
        fn any_text_is_a_split_of_0_or_100_or_refused_with_words(
            text in "\\PC*|[a-b]{3}[=:][0-9.NaInfe+-]{0,4}([, ][a-b]{3}[=:][0-9.]{0,3}){0,3}"
        ) {
            match TrafficSplit::parse(&text) {
                Ok(split) => {
                    let shares = split.entries().iter().map(|(_, percent)| u64::from(percent.0));
                    let sum: u64 = shares.sum();
                    prop_assert!(sum == 0 || sum == u64::from(WHOLE), "{sum}");
                    prop_assert_eq!(TrafficSplit::new(split.entries.clone()), Ok(split));
                }
                Err(error) => prop_assert!(error.to_string().starts_with("expected"), "{error}"),
            }
        }
    }
}
