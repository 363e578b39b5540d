//! The form in which a result is printed, and the part of it that is asked for: what `-o` and `--query` say.

use clap::ValueEnum;

use super::query::Query;

/// The form in which results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum OutputFormat {
    /// Indented JSON.
    #[default]
    Json,
    /// The same in colours, where a terminal shows them.
    Jsonc,
    /// YAML.
    Yaml,
    /// The same in colours.
    Yamlc,
    /// Columns for people.
    Table,
    /// Values between tabs, for scripts.
    Tsv,
    /// Nothing.
    None,
}

/// The form in which results are printed, and the part of them that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Form {
    pub(super) format: OutputFormat,
    pub(super) query: Option<Query>,
}

impl From<OutputFormat> for Form {
    /// The whole result.
    fn from(format: OutputFormat) -> Self {
        Self {
            format,
            query: None,
        }
    }
}
