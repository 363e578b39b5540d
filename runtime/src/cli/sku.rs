//! `serin sku`: the instance types. Needs no server.

use super::args::{Global, OwnSkus, Sku};
use super::exit::CliError;
use super::{files, output};
use crate::spec::SkuTable;

/// Runs one of the instance type commands.
pub(super) fn run(command: Sku, global: &Global) -> Result<(), CliError> {
    let value = match command {
        Sku::List(own) => serde_json::to_value(table(&own)?.iter().collect::<Vec<_>>()),
        Sku::Show { named, own } => serde_json::to_value(table(&own)?.find(&named.name())?),
    };
    output::print(
        &value.expect("instance types have a JSON form"),
        &global.form(),
    )
}

/// The built-in instance types and the user's own.
pub(super) fn table(own: &OwnSkus) -> Result<SkuTable, CliError> {
    let mut table = SkuTable::builtin();
    if let Some(path) = &own.skus {
        table.extend_from_yaml(&files::text(path)?, &path.display().to_string())?;
    }
    Ok(table)
}
