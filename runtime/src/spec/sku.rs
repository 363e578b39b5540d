//! Instance types: the sizes of Azure's managed endpoints, and the user's own.
//!
//! GPU sizes are in the table so that files name them; serin runs on the CPU.

use std::collections::BTreeMap;

use serde::Serialize;

use super::SpecError;

/// What one instance gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sku {
    /// As Azure or the user writes it. Case does not count.
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
    /// What was written.
    pub found: String,
    /// The nearest name.
    pub near: Option<String>,
}

/// All SKUs by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkuTable {
    /// By the name in lower case.
    skus: BTreeMap<String, Sku>,
}

impl SkuTable {
    /// Azure's sizes, and the alias `Standard_FS4_v2`.
    #[must_use]
    pub fn builtin() -> Self {
        todo!()
    }

    /// Finds a SKU by name; case does not count.
    ///
    /// # Errors
    ///
    /// [`UnknownSku`], with the nearest name.
    pub fn find(&self, name: &str) -> Result<&Sku, UnknownSku> {
        todo!("{name}")
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
    pub fn extend_from_yaml(&mut self, text: &str, file: &str) -> Result<(), SpecError> {
        todo!("{text} {file}")
    }
}
