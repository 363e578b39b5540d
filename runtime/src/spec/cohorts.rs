//! Cohorts: which deployment a client belongs to, by a hash of its key alone.
//!
//! The hash of a key is a point on a line, and each deployment has ranges of that line, as long as its share. Nothing is kept of a
//! client, so its deployment is the same after a restart and on every machine with the same salt and ranges. When the split changes,
//! ranges move only from deployments that shrink to those that grow, and no more of them than the split has moved: so nobody comes
//! back from a deployment whose share only grows, and nobody else moves. With two deployments the one that was added has the keys
//! below its share.
//!
//! Pure. Not here: where the key of a request stands (`sticky`), the salt of a rollout (`control::rollouts::wishes`).

use std::collections::BTreeMap;
use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

use super::{DeploymentName, Percent, TrafficSplit};

/// A hash of the bytes of all parts, as if they were one text: the same in every run, on every machine and in every release. Never 0,
/// which stands for none.
#[must_use]
pub fn hash64(parts: &[&[u8]]) -> u64 {
    let mut hasher = SipHasher24::new();
    for part in parts {
        hasher.write(part);
    }
    hasher.finish().max(1)
}

/// A part of the line in hundredths of a percent, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Range(u16, u16);

impl Range {
    fn len(self) -> u16 {
        self.1 - self.0
    }

    fn begins_at_end_of(self, other: &[Self]) -> bool {
        other.iter().any(|other| other.1 == self.0)
    }

    fn ends_where_begins(self, other: &[Self]) -> bool {
        other.iter().any(|other| other.0 == self.1)
    }

    fn touches(self, other: &[Self]) -> bool {
        self.begins_at_end_of(other) || self.ends_where_begins(other)
    }
}

type Ranges = BTreeMap<DeploymentName, Vec<Range>>;

/// The ranges of all deployments of an endpoint, and the salt of its keys. Stored as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Cohorts {
    salt: String,
    /// Those of each in the order in which it got them.
    ranges: Ranges,
}

#[derive(Deserialize)]
struct Stored {
    salt: String,
    ranges: Ranges,
}

impl TryFrom<Stored> for Cohorts {
    type Error = String;

    fn try_from(Stored { salt, ranges }: Stored) -> Result<Self, String> {
        let mut all: Vec<_> = ranges.values().flatten().collect();
        all.sort_unstable_by_key(|range| range.0);
        let mut end = 0;
        for range in all {
            if range.0 != end || range.1 <= range.0 {
                return Err(format!(
                    "expected ranges one behind the other, found one from {} to {} behind {end}",
                    range.0, range.1
                ));
            }
            end = range.1;
        }
        let whole = Percent::HUNDRED.hundredths();
        if end != 0 && end != whole {
            return Err(format!(
                "expected ranges up to {whole}, found them up to {end}"
            ));
        }
        Ok(Self { salt, ranges })
    }
}

impl Cohorts {
    /// The cohorts of a split that nothing came before: the smaller deployments have the lower ends of the line.
    #[must_use]
    pub fn new(salt: impl Into<String>, split: &TrafficSplit) -> Self {
        let empty = Self {
            salt: salt.into(),
            ranges: Ranges::new(),
        };
        empty.follow(split)
    }

    /// The salt of the keys.
    #[must_use]
    pub fn salt(&self) -> &str {
        &self.salt
    }

    /// The same ranges under another salt: others are in them.
    #[must_use]
    pub fn salted(self, salt: impl Into<String>) -> Self {
        Self {
            salt: salt.into(),
            ..self
        }
    }

    /// The point of a client on the line.
    #[must_use]
    pub fn point(&self, key: &[u8]) -> u64 {
        hash64(&[self.salt.as_bytes(), b"\0", key])
    }

    /// The cohorts under another split, with as few moves as it needs. While a split has no weight, everybody stays who they were.
    #[must_use]
    pub fn follow(&self, split: &TrafficSplit) -> Self {
        let mut next = self.clone();
        if split.is_empty() {
            return next;
        }
        if next.ranges.is_empty() {
            let shares = split.entries().iter().rev();
            // Of equal ones the first that is written.
            if let Some((name, _)) = shares.max_by_key(|(_, percent)| *percent) {
                let all = Range(0, Percent::HUNDRED.hundredths());
                next.ranges.insert(name.clone(), vec![all]);
            }
        }
        for (name, _) in split.entries() {
            while let Some(lack) = next.lack(name, split)
                && let Some((donor, surplus)) = next.donor(split)
            {
                next.give(&donor, name, lack.min(surplus));
            }
        }
        next
    }

    /// The ranges in order: the end of each, and whose it is.
    pub fn ends(&self) -> impl Iterator<Item = (u16, &DeploymentName)> {
        let ranges = self.ranges.iter();
        let mut ends: Vec<_> = ranges
            .flat_map(|(name, ranges)| ranges.iter().map(move |range| (range.1, name)))
            .collect();
        ends.sort_unstable_by_key(|(end, _)| *end);
        ends.into_iter()
    }

    fn has(&self, name: &DeploymentName) -> u16 {
        let ranges = self.ranges.get(name).into_iter().flatten();
        ranges.map(|range| range.len()).sum()
    }

    /// What a deployment has too little; none where it has enough.
    fn lack(&self, name: &DeploymentName, split: &TrafficSplit) -> Option<u16> {
        let wanted = split.percent_of(name).hundredths();
        let lack = wanted.saturating_sub(self.has(name));
        (lack > 0).then_some(lack)
    }

    /// One that has too much, and by how much.
    fn donor(&self, split: &TrafficSplit) -> Option<(DeploymentName, u16)> {
        self.ranges.keys().find_map(|name| {
            let kept = split.percent_of(name).hundredths();
            let surplus = self.has(name).saturating_sub(kept);
            (surplus > 0).then(|| (name.clone(), surplus))
        })
    }

    /// Moves some of one deployment's line to another: where they touch, so that what was given comes back first; else of what it got
    /// last.
    fn give(&mut self, from: &DeploymentName, to: &DeploymentName, most: u16) {
        let theirs = self.ranges.get(to).cloned().unwrap_or_default();
        let Some(ours) = self.ranges.get_mut(from) else {
            return;
        };
        let touching = ours.iter().rposition(|range| range.touches(&theirs));
        let Some(at) = touching.or(ours.len().checked_sub(1)) else {
            return;
        };
        let range = ours[at];
        let count = most.min(range.len());
        let is_above = range.ends_where_begins(&theirs) && !range.begins_at_end_of(&theirs);
        let (given, left) = if is_above {
            let cut = range.1 - count;
            (Range(cut, range.1), Range(range.0, cut))
        } else {
            let cut = range.0 + count;
            (Range(range.0, cut), Range(cut, range.1))
        };
        if left.len() > 0 {
            ours[at] = left;
        } else {
            ours.remove(at);
        }
        if ours.is_empty() {
            self.ranges.remove(from);
        }
        add(self.ranges.entry(to.clone()).or_default(), given);
    }
}

/// Adds a range behind the others, or to the oldest that it touches; two between which it fits become one.
fn add(ranges: &mut Vec<Range>, mut given: Range) {
    let mut place = None;
    while let Some(at) = ranges.iter().position(|range| range.touches(&[given])) {
        let joined = ranges.remove(at);
        given = Range(given.0.min(joined.0), given.1.max(joined.1));
        place = place.or(Some(at));
    }
    ranges.insert(place.unwrap_or(ranges.len()), given);
}

/// The hundredth of a percent in which a point lies.
#[must_use]
pub fn place_on_line(point: u64) -> u16 {
    let place = (u128::from(point) * u128::from(Percent::HUNDRED.hundredths())) >> 64;
    u16::try_from(place).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: u32 = 100_000;

    fn split(text: &str) -> TrafficSplit {
        text.parse().expect("a split")
    }

    fn name(text: &str) -> DeploymentName {
        text.parse().expect("a name")
    }

    /// The deployment of each hundredth of a percent.
    fn line(cohorts: &Cohorts) -> Vec<DeploymentName> {
        let mut line = Vec::new();
        for (end, name) in cohorts.ends() {
            line.resize(usize::from(end), name.clone());
        }
        line
    }

    fn moved(before: &[DeploymentName], after: &[DeploymentName]) -> usize {
        let both = before.iter().zip(after);
        both.filter(|(before, after)| before != after).count()
    }

    fn of_key(cohorts: &Cohorts, key: u32) -> DeploymentName {
        let point = cohorts.point(format!("user-{key}").as_bytes());
        let place = place_on_line(point);
        let mut ends = cohorts.ends();
        let found = ends.find(|(end, _)| place < *end);
        found.expect("the whole line").1.clone()
    }

    fn written(cohorts: &Cohorts) -> String {
        let ranges = cohorts.ranges.iter().map(|(name, ranges)| {
            let ranges = ranges
                .iter()
                .map(|range| format!("{}..{}", range.0, range.1));
            format!("{name} {}", ranges.collect::<Vec<_>>().join(" "))
        });
        ranges.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_hash_is_that_of_every_other_run_however_the_text_is_cut() {
        // From the reference implementation, for a key of zeros.
        assert_eq!(hash64(&[]), 0x1E92_4B9D_7377_00D7);
        assert_eq!(hash64(&[b"us", b"er"]), hash64(&[b"", b"user"]));
        assert_ne!(hash64(&[b"us", b"\0", b"er"]), hash64(&[b"user"]));
    }

    #[test]
    fn a_hundred_thousand_keys_join_over_a_ramp_and_none_comes_back() {
        let mut cohorts = Cohorts::new("r-1", &split("blue:100"));
        let mut greens = vec![false; usize::try_from(KEYS).unwrap()];
        for percent in [1, 5, 10, 25, 50, 100] {
            cohorts = cohorts.follow(&split(&format!("blue:{},green:{percent}", 100 - percent)));
            let mut count = 0_u32;
            for (key, was_green) in (0..KEYS).zip(&mut greens) {
                let is_green = of_key(&cohorts, key) == name("green");
                assert!(is_green || !*was_green, "key {key} at {percent} %");
                *was_green = is_green;
                count += u32::from(is_green);
            }
            // Five standard deviations of the hash.
            let (share, keys) = (f64::from(percent) / 100.0, f64::from(KEYS));
            let deviation = (f64::from(count) - share * keys).abs();
            assert!(
                deviation <= 5.0 * (keys * share * (1.0 - share)).sqrt(),
                "{count}"
            );
        }
    }

    #[test]
    fn of_two_deployments_the_one_that_was_added_has_the_keys_below_its_share_up_and_down_the_ramp()
    {
        let mut cohorts = Cohorts::new("r-1", &split("blue:100"));
        for percent in [1, 5, 50, 20, 3, 25, 100] {
            cohorts = cohorts.follow(&split(&format!("green:{percent},blue:{}", 100 - percent)));
            let cut = percent * 100;
            let expected = match percent {
                100 => "green 0..10000".to_owned(),
                _ => format!("blue {cut}..10000, green 0..{cut}"),
            };
            assert_eq!(written(&cohorts), expected);
        }
        // Now blue is the one that is added.
        let back = cohorts.follow(&split("green:40,blue:60"));
        assert_eq!(written(&back), "blue 0..6000, green 6000..10000");
    }

    #[test]
    fn a_new_deployment_takes_its_range_from_the_one_that_shrinks_alone() {
        let two = Cohorts::new("r-1", &split("blue:90,green:10"));
        let three = two.follow(&split("blue:70,green:10,red:20"));
        assert_eq!(
            written(&three),
            "blue 3000..10000, green 0..1000, red 1000..3000"
        );
        let grown = three.follow(&split("blue:60,green:20,red:20"));
        assert_eq!(
            written(&grown),
            "blue 4000..10000, green 0..1000 3000..4000, red 1000..3000"
        );
        // What came last goes first.
        assert_eq!(
            written(&grown.follow(&split("blue:70,green:10,red:20"))),
            written(&three)
        );
    }

    #[test]
    fn without_traffic_everybody_stays_who_they_were() {
        let cohorts = Cohorts::new("r-1", &split("blue:90,green:10"));
        assert_eq!(cohorts.follow(&split("blue:0,green:0")), cohorts);
        assert_eq!(cohorts.follow(&TrafficSplit::default()), cohorts);
        // Who is gone meanwhile leaves its part to the others.
        let alone = cohorts.follow(&split("blue:100"));
        assert_eq!(written(&alone), "blue 0..10000");
        let nobody = Cohorts::new("r-1", &split("blue:0"));
        assert_eq!(nobody.ends().count(), 0);
        assert_eq!(written(&nobody.follow(&split("blue:100"))), "blue 0..10000");
    }

    #[test]
    fn another_salt_is_another_cohort_and_the_same_is_the_same_after_a_restart() {
        let one = Cohorts::new("r-1", &split("blue:90,green:10"));
        let text = serde_json::to_string(&one).unwrap();
        let again: Cohorts = serde_json::from_str(&text).unwrap();
        let other = one.clone().salted("r-2");
        let greens = |cohorts: &Cohorts| -> Vec<u32> {
            let keys = 0..1000;
            keys.filter(|key| of_key(cohorts, *key) == name("green"))
                .collect()
        };
        assert_eq!(greens(&again), greens(&one));
        assert_ne!(greens(&other), greens(&one));
    }

    #[test]
    fn ranges_that_do_not_fit_are_not_read() {
        for ranges in [
            r#"{"blue": [[0, 9000]]}"#,
            r#"{"blue": [[0, 9000]], "green": [[8000, 10000]]}"#,
            r#"{"blue": [[0, 9000]], "green": [[9500, 10000]]}"#,
            r#"{"blue": [[0, 0], [0, 10000]]}"#,
            r#"{"blue": [[9000, 0]]}"#,
        ] {
            let text = format!(r#"{{"salt": "r-1", "ranges": {ranges}}}"#);
            assert!(serde_json::from_str::<Cohorts>(&text).is_err(), "{ranges}");
        }
    }

    #[test]
    fn every_point_has_a_place() {
        assert_eq!(place_on_line(0), 0);
        assert_eq!(place_on_line(u64::MAX), 9999);
    }

    /// Shares of up to five deployments that add up to the whole.
    fn shares() -> impl Strategy<Value = TrafficSplit> {
        proptest::collection::vec(0_u16..=10_000, 4).prop_map(|mut cuts| {
            cuts.extend([0, 10_000]);
            cuts.sort_unstable();
            let names = ["blue", "green", "red", "gold", "grey"];
            let shares = names.iter().zip(cuts.windows(2)).map(|(arm, ends)| {
                let percent = Percent::from_hundredths(ends[1] - ends[0]);
                (name(arm), percent.expect("a part of the whole"))
            });
            TrafficSplit::new(shares.collect()).expect("the whole")
        })
    }

    proptest! {
        #[test]
        fn whatever_splits_follow_each_other_shares_are_exact_and_no_more_moves_than_they_do(
            splits in proptest::collection::vec(shares(), 1..8),
        ) {
            let mut cohorts = Cohorts::new("r-1", &splits[0]);
            for (before, after) in splits.iter().zip(&splits[1..]) {
                let next = cohorts.follow(after);
                let grown = after.entries().iter().map(|(name, percent)| {
                    let before = before.percent_of(name).hundredths();
                    usize::from(percent.hundredths().saturating_sub(before))
                });
                prop_assert_eq!(moved(&line(&cohorts), &line(&next)), grown.sum::<usize>());
                for (name, percent) in after.entries() {
                    prop_assert_eq!(next.has(name), percent.hundredths());
                }
                let text = serde_json::to_string(&next).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Cohorts>(&text).unwrap(), &next);
                cohorts = next;
            }
        }
    }
}
