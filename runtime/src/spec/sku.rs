//! Instance types: the sizes of Azure's managed endpoints, and the user's own.
//!
//! GPU sizes are in the table so that files name them; serin runs on the CPU.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Serialize;

use super::fields::{Fields, nearest, text, whole};
use super::node::{Content, Node};
#[cfg(feature = "server")]
use super::yaml;
use super::{Problem, SpecError};
use crate::config::VCPUS_MAX;

/// The instance type of a cluster's deployment that names none, by its name in Azure.
pub(super) const KUBERNETES_DEFAULT: &str = "defaultinstancetype";

/// The size that stands for it, with 2 vCPUs and 8 GiB.
const KUBERNETES_SIZE: &str = "Standard_D2a_v4";

/// The share of the machine that one instance gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sku {
    /// The name, as Azure or the user writes it. Case does not count.
    pub name: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// GPUs as Azure states them, a whole number or a fraction such as `1/6`. Not used: serin runs on the CPU.
    pub gpus: String,
}

/// No SKU has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an instance type of `serin sku list`, found {found:?}{}", near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
pub struct UnknownSku {
    /// The name as it was written.
    pub found: String,
    /// The nearest name.
    pub near: Option<String>,
}

/// All SKUs by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkuTable {
    /// Instance types by their name in lower case.
    skus: BTreeMap<String, Sku>,
}

impl SkuTable {
    /// Azure's sizes, and the alias `Standard_FS4_v2`.
    #[must_use]
    pub fn builtin() -> Self {
        let rows = include_str!("skus.csv").lines().skip(1);
        let skus = rows.map(|row| Sku::parse(row).expect("skus.csv is tested row by row"));
        Self {
            skus: skus.map(|sku| (sku.name.to_lowercase(), sku)).collect(),
        }
    }

    /// Adds a size of so many virtual CPUs under a name that no file can have, and gives that name.
    pub fn add_size(&mut self, vcpus: u32) -> String {
        let name = format!("{vcpus} vCPUs");
        let sku = Sku {
            name: name.clone(),
            vcpus,
            memory_mib: 0,
            gpus: "0".to_owned(),
        };
        self.skus.insert(name.to_lowercase(), sku);
        name
    }

    /// The instance types of both tables; of two with one name that of the other.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Self {
        let both = self.skus.iter().chain(&other.skus);
        Self {
            skus: both
                .map(|(name, sku)| (name.clone(), sku.clone()))
                .collect(),
        }
    }

    /// Finds a SKU by name; case does not count.
    ///
    /// # Errors
    ///
    /// [`UnknownSku`], with the nearest name.
    pub fn find(&self, name: &str) -> Result<&Sku, UnknownSku> {
        let key = name.to_lowercase();
        let known = self.skus.get(&key);
        // A size of the user's own may have this name.
        let stands_for = || self.skus.get(&KUBERNETES_SIZE.to_lowercase());
        known
            .or_else(|| stands_for().filter(|_| key == KUBERNETES_DEFAULT))
            .ok_or_else(|| UnknownSku {
                found: name.to_owned(),
                near: nearest(name, self.iter().map(|sku| sku.name.as_str())),
            })
    }

    /// All SKUs, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = &Sku> {
        self.skus.values()
    }

    /// Adds the profiles of a file, all or none:
    ///
    /// ```yaml
    /// skus:
    ///   half-core: {vcpus: 1, memory_gib: 0.5}
    /// ```
    ///
    /// # Errors
    ///
    /// All problems of the file; a name that is taken is one.
    #[cfg(feature = "server")]
    pub fn extend_from_yaml(&mut self, text: &str, file: &str) -> Result<(), SpecError> {
        let root = yaml::parse(text, file)?;
        let mut problems = Vec::new();
        let mut fields = Fields::open(root, &mut problems);
        let skus = fields.require("skus", "a mapping from names to profiles", |node| {
            let wrong = node.expected("a mapping from names to profiles");
            match node.content {
                Content::Map(entries) => Ok(entries),
                _ => Err(wrong),
            }
        });
        fields.finish(&[]);
        let mut added = BTreeMap::new();
        for (name, node) in skus.unwrap_or_default() {
            let key = name.to_lowercase();
            if self.skus.contains_key(&key) || added.contains_key(&key) {
                problems.push(node.problem("expected a name of its own, found one that is taken"));
            }
            if let Some(sku) = read_profile(name, node, &mut problems) {
                added.insert(key, sku);
            }
        }
        self.skus
            .extend(SpecError::unless_clean(file, Some(added), problems)?);
        Ok(())
    }
}

impl Default for SkuTable {
    fn default() -> Self {
        Self::builtin()
    }
}

impl Sku {
    /// Reads a row of the table.
    fn parse(row: &str) -> Option<Self> {
        let mut columns = row.split(',');
        Some(Self {
            name: columns.next()?.to_owned(),
            vcpus: columns.next()?.parse().ok()?,
            memory_mib: mib(columns.next()?)?,
            gpus: columns.next()?.to_owned(),
        })
    }
}

/// A sentence for the instance type of a deployment that was written for a cluster, without one.
pub(super) fn note_of_kubernetes(name: &str) -> Option<String> {
    name.eq_ignore_ascii_case(KUBERNETES_DEFAULT).then(|| {
        format!("instance_type is {KUBERNETES_DEFAULT}, as in clusters where none is named: unless it is a size of your own, it is taken as {KUBERNETES_SIZE}")
    })
}

/// What is to be said of an instance type that has GPUs in Azure; nothing of all others.
pub(super) fn note_of_gpus(instance_type: &str) -> Option<String> {
    static BUILTIN: LazyLock<SkuTable> = LazyLock::new(SkuTable::builtin);
    let sku = BUILTIN.find(instance_type).ok()?;
    let gpus = match sku.gpus.as_str() {
        "0" => return None,
        "1" => "a GPU".to_owned(),
        part if part.contains('/') => format!("{part} of a GPU"),
        several => format!("{several} GPUs"),
    };
    Some(format!(
        "{} has {gpus} in Azure: here the model is scored on the CPU",
        sku.name
    ))
}

fn read_profile(name: String, node: Node, problems: &mut Vec<Problem>) -> Option<Sku> {
    let mut fields = Fields::open(node, problems);
    let vcpus = fields.require("vcpus", "a number of virtual CPUs", whole(1..=VCPUS_MAX));
    let memory_mib = fields.require("memory_gib", "memory in GiB", |node| {
        let Content::Number(number) = &node.content else {
            return Err(node.expected("memory in GiB such as 0.5"));
        };
        mib(&number.to_string())
            .filter(|mib| *mib > 0)
            .ok_or_else(|| node.expected("memory in GiB such as 0.5"))
    });
    let gpus = fields.read("gpus", text);
    fields.finish(&[]);
    Some(Sku {
        name,
        vcpus: vcpus?,
        memory_mib: memory_mib?,
        gpus: gpus.unwrap_or_else(|| "0".to_owned()),
    })
}

/// MiB of a text in GiB with decimals, such as `3.5`.
fn mib(gib: &str) -> Option<u64> {
    let (whole, fraction) = gib.split_once('.').unwrap_or((gib, "0"));
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = fraction.parse::<u64>().ok()?.checked_mul(1024)? / scale;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)?
        .checked_add(part)
}
