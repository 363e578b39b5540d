//! Flags of `az ml` that ask for what is not here. They are known so that a sentence can say so.

use clap::ArgMatches;
use clap::parser::ValueSource;

/// The reason for everything that batch endpoints have.
pub(super) const BATCH: &str = "batch endpoints are not served here: make an online endpoint of it, and send the rows of a file with `serin endpoint \
                     invoke --request-file`";
const WEB: &str = "serin has no page in a browser; `show --detail` prints all that is known";

/// Arguments by their names in the grammar, and why none of them can be obeyed.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("web", WEB),
    ("web_short", WEB),
    (
        "vscode_debug",
        "serin starts no container to debug in; `serin score-script check` runs a script where it lies",
    ),
    ("local_enable_gpu", "serin computes on processors alone"),
    (
        "package_model",
        "serin packs no images; it serves the model as it is",
    ),
    ("input_data", BATCH),
    ("input_datastore", BATCH),
    ("input_local_path", BATCH),
    ("input_path", BATCH),
    ("batch_instance_count", BATCH),
    ("mini_batch_size", BATCH),
    ("output_datastore", BATCH),
    ("output_path", BATCH),
    ("batch_set", BATCH),
];

/// The verb that batch endpoints alone have.
pub(super) const OF_BATCH: &str = "list-jobs";

/// The reason why what was typed cannot be obeyed, with the flag, where there is one.
pub(super) fn of(matches: &ArgMatches) -> Option<String> {
    let typed = |id: &str| {
        // An argument of another command is none of this one's.
        matches.ids().any(|known| known.as_str() == id)
            && matches.value_source(id) == Some(ValueSource::CommandLine)
    };
    let refused = REFUSED.iter().find(|(id, _)| typed(id));
    if let Some((id, words)) = refused {
        return Some(format!("{}: {words}", flag(id)));
    }
    let is_batch = |kind: &String| kind.eq_ignore_ascii_case("batch");
    let kind = typed("kind").then(|| matches.try_get_one("kind").ok().flatten());
    if kind.flatten().is_some_and(is_batch) {
        return Some(format!("--type batch: {BATCH}"));
    }
    match matches.subcommand()? {
        (OF_BATCH, _) => Some(format!("{OF_BATCH}: {BATCH}")),
        (_, below) => of(below),
    }
}

/// The flag of an argument, as it is typed.
fn flag(id: &str) -> String {
    match id {
        "web_short" => "-e (--web)".to_owned(),
        "batch_set" => "--set".to_owned(),
        "batch_instance_count" => "--instance-count".to_owned(),
        id => format!("--{}", id.replace('_', "-")),
    }
}
