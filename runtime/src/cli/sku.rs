//! `serin sku`: the instance types, and which of them fit this machine. Needs no server.

use std::cmp::Ordering;

use serde::Serialize;
use serde_json::json;

use super::args::{Global, OwnSkus, Sku};
use super::exit::CliError;
use super::output::Columns;
use super::{files, output};
use crate::engine::Topology;
use crate::observe::memory_limit;
use crate::spec::SkuTable;

/// The columns of a table of instance types.
const COLUMNS: Columns = &[
    ("name", &["/name"]),
    ("vcpus", &["/vcpus"]),
    ("memory_mib", &["/memory_mib"]),
    ("gpus", &["/gpus"]),
    ("fits", &["/fits"]),
    ("why not", &["/why_not"]),
];

/// An instance type, and whether one instance of it has here what it is to have.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    sku: &'a crate::spec::Sku,
    /// Whether this machine has as many cores, and as much memory.
    fits: bool,
    /// What it has less of.
    why_not: Option<String>,
}

/// What this machine has to give.
#[derive(Debug, Clone, Copy)]
struct Machine {
    cores: usize,
    /// None where the kernel does not tell.
    memory_bytes: Option<u64>,
}

/// Runs one of the instance type commands.
pub(super) fn run(command: Sku, global: &Global) -> Result<(), CliError> {
    match command {
        Sku::List(own) => {
            let table = table(&own)?;
            let listed = json!(listed(&table, Machine::this()));
            output::print_as_az(&listed, COLUMNS, &global.form())
        }
        Sku::Show { named, own } => {
            output::print(&json!(table(&own)?.find(&named.name())?), &global.form())
        }
    }
}

/// The built-in instance types and the user's own.
pub(super) fn table(own: &OwnSkus) -> Result<SkuTable, CliError> {
    let mut table = SkuTable::builtin();
    if let Some(path) = &own.skus {
        table.extend_from_yaml(&files::text(path)?, &path.display().to_string())?;
    }
    Ok(table)
}

impl Machine {
    fn this() -> Self {
        Self {
            cores: Topology::read().len(),
            memory_bytes: memory_limit(),
        }
    }

    /// The reason why an instance would have less than its type says; none where it has it all.
    fn why_not(self, sku: &crate::spec::Sku) -> Option<String> {
        let cores = match self.cores {
            1 => "1 core".to_owned(),
            cores => format!("{cores} cores"),
        };
        let cores = usize::try_from(sku.vcpus)
            .is_ok_and(|vcpus| vcpus > self.cores)
            .then_some(cores);
        let memory = self
            .memory_bytes
            .filter(|bytes| sku.memory_mib.saturating_mul(1 << 20) > *bytes)
            .map(gib);
        let less: Vec<String> = cores.into_iter().chain(memory).collect();
        (!less.is_empty()).then(|| format!("this machine has {}", less.join(" and ")))
    }
}

/// `7.7 GiB`, rounded down: what is a little less than 8 is not 8.
fn gib(bytes: u64) -> String {
    let tenths = u128::from(bytes) * 10 / (1 << 30);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

/// All instance types, in the order in which people count.
fn listed(table: &SkuTable, machine: Machine) -> Vec<Listed<'_>> {
    let listed = table.iter().map(|sku| {
        let why_not = machine.why_not(sku);
        Listed {
            sku,
            fits: why_not.is_none(),
            why_not,
        }
    });
    let mut listed: Vec<_> = listed.collect();
    listed.sort_by(|one, other| natural(&one.sku.name, &other.sku.name));
    listed
}

/// The order of names in which numbers count as numbers: `F2` before `F16`. Case does not count.
fn natural(one: &str, other: &str) -> Ordering {
    let (one, other) = (one.to_lowercase(), other.to_lowercase());
    let (mut left, mut right) = (one.as_str(), other.as_str());
    while !left.is_empty() && !right.is_empty() {
        let ((a, left_rest), (b, right_rest)) = (run_of(left), run_of(right));
        let order = match (number(a), number(b)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.cmp(b),
        };
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    // Names that count alike, such as 2 and 02, have an order nonetheless.
    left.len().cmp(&right.len()).then_with(|| one.cmp(&other))
}

/// The digits, or what is not digits, that a text begins with; and the rest.
fn run_of(text: &str) -> (&str, &str) {
    let is_digit = |c: char| c.is_ascii_digit();
    let first = text.chars().next().is_some_and(is_digit);
    let end = text.find(|c| is_digit(c) != first);
    text.split_at(end.unwrap_or(text.len()))
}

/// Digits without leading zeros, the longer the more: no number is too large.
fn number(run: &str) -> Option<(usize, &str)> {
    let digits = run.trim_start_matches('0');
    run.starts_with(|c: char| c.is_ascii_digit())
        .then_some((digits.len(), digits))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cli::output::table_of;

    const SMALL: Machine = Machine {
        cores: 2,
        memory_bytes: Some(4 << 30),
    };

    fn why_not(name: &str, machine: Machine) -> Option<String> {
        machine.why_not(SkuTable::builtin().find(name).unwrap())
    }

    #[test]
    fn small_sizes_come_before_large_ones_of_their_kind() {
        let table = SkuTable::builtin();
        let names: Vec<_> = listed(&table, SMALL)
            .iter()
            .map(|one| one.sku.name.clone())
            .collect();
        let place = |name: &str| names.iter().position(|one| one == name).unwrap();
        assert!(place("Standard_F2s_v2") < place("Standard_F4s_v2"));
        assert!(place("Standard_F8s_v2") < place("Standard_F16s_v2"));
        assert!(place("Standard_F16s_v2") < place("Standard_F72s_v2"));
        assert_eq!(names.len(), table.iter().count());
    }

    #[test]
    fn what_does_not_fit_says_what_the_machine_has() {
        // F2s_v2 has 2 vCPUs and 4 GiB, F4s_v2 4 and 8.
        assert_eq!(why_not("Standard_F2s_v2", SMALL), None);
        assert_eq!(
            why_not("Standard_F4s_v2", SMALL).as_deref(),
            Some("this machine has 2 cores and 4.0 GiB")
        );
        let one = Machine { cores: 1, ..SMALL };
        assert_eq!(
            why_not("Standard_F2s_v2", one).as_deref(),
            Some("this machine has 1 core")
        );
        let little = Machine {
            memory_bytes: Some((4 << 30) - 1),
            ..SMALL
        };
        assert_eq!(
            why_not("Standard_F2s_v2", little).as_deref(),
            Some("this machine has 3.9 GiB")
        );
        let untold = Machine {
            memory_bytes: None,
            ..SMALL
        };
        assert_eq!(why_not("Standard_F2s_v2", untold), None);
    }

    #[test]
    fn the_table_has_a_hundred_columns_at_most() {
        let table = SkuTable::builtin();
        let huge = Machine {
            cores: 1,
            memory_bytes: Some(1),
        };
        for machine in [SMALL, huge] {
            let drawn = table_of(&json!(listed(&table, machine)), COLUMNS);
            let widest = drawn.lines().map(|line| line.chars().count()).max();
            assert!(widest.unwrap() <= 100, "{drawn}");
        }
    }

    proptest! {
        #[test]
        fn the_natural_order_is_an_order(names in proptest::collection::vec("[a-b0-2]{0,4}", 3)) {
            let [a, b, c] = &names[..] else { unreachable!() };
            prop_assert_eq!(natural(a, b), natural(b, a).reverse());
            prop_assert_eq!(natural(a, b) == Ordering::Equal, a == b);
            if natural(a, b).is_le() && natural(b, c).is_le() {
                prop_assert!(natural(a, c).is_le(), "{:?}", names);
            }
        }
    }
}
