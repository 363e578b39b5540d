//! The split of traffic: percent per deployment, exact in every aligned block (canary.md 3.1).

// Percent: hundredths of a percent in a u16, 0..=10_000; parses "10", "0.01", "12.5"; Display without trailing zeros.
// TrafficSplit: ordered map DeploymentName -> Percent, sum 0 or 100 %, valid by construction:
//   TrafficSplit::new(Vec<(DeploymentName, Percent)>) -> Result<Self, TrafficError>   (entries of 0 are kept: deployed and idle)
//   TrafficSplit::parse("blue:90,green:10" | "blue=90 green=10") ; FromStr
//   percent_of(&DeploymentName) -> Percent (0 when absent); entries(); is_empty() (no weight at all); without(&name)
//   serde as a map name -> number.
// Picker: the split prepared for picking: Picker::new(&TrafficSplit, seed: u64); pick(&self, ticket: u64) -> Option<usize>
//   (index into entries()); keyed affine permuted block, B = 100 for whole percents, else 10_000. Pure: the ticket is an argument.

/// See the comment above; bodies to come.
#[derive(Debug, Clone, Default)]
pub struct TrafficSplit {}
