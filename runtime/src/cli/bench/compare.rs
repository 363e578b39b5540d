//! `serin bench compare`: two runs that were written by `--save`, and what they say together.
//!
//! Not here: what that is (`crate::bench`).

use std::path::Path;

use crate::bench::{Saved, compare};
use crate::cli::args::{Global, OutputFormat};
use crate::cli::bench::words::part_text;
use crate::cli::exit::CliError;
use crate::cli::{files, output};

pub(super) fn run(old: &Path, new: &Path, global: &Global) -> Result<(), CliError> {
    let doing = format!("compare {} and {}", old.display(), new.display());
    let within = |error: CliError| error.while_doing(&doing);
    let (old, new) = (read(old).map_err(within)?, read(new).map_err(within)?);
    let found = compare(&old, &new);
    let found = found.map_err(|error| within(CliError::BadInput(error.to_string())))?;
    let format = match output::is_terminal() {
        true => global.format_for_people(),
        false => global.format(),
    };
    match format {
        OutputFormat::Table if !global.asks_for_part() => {
            let parts: Vec<_> = found.parts().iter().map(part_text).collect();
            output::print_text(&format!("{}\n\n{}", found.words, parts.join("\n")))
        }
        _ => {
            let value = serde_json::to_value(&found).expect("comparisons have a JSON form");
            output::print(&value, &global.form_as(format))
        }
    }
}

fn read(path: &Path) -> Result<Saved, CliError> {
    let text = files::request(path)?;
    Saved::parse(&text).map_err(|error| CliError::BadInput(format!("{}: {error}", path.display())))
}
