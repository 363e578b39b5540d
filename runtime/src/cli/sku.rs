//! `serin sku`: the built-in instance types. Needs no server.

use super::args::{Global, Sku};
use super::exit::CliError;
use super::output;
use crate::spec::SkuTable;

/// Runs one of the instance type commands.
pub(super) fn run(command: &Sku, global: &Global) -> Result<(), CliError> {
    let table = SkuTable::builtin();
    let value = match command {
        Sku::List => serde_json::to_value(table.iter().collect::<Vec<_>>()),
        Sku::Show { name } => serde_json::to_value(table.find(name)?),
    };
    output::print(
        &value.expect("instance types have a JSON form"),
        global.output,
    )
}
