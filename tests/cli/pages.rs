//! Pages of `docs/` that are made from the program are what it prints, and name what the sources read.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::{Place, repository};

/// A page as the program makes it, which is its file.
fn page(name: &str) -> String {
    let made = Place::new().ok(&format!("__page {name}"));
    let path = format!("docs/{name}.md");
    let kept = fs::read_to_string(repository(&path)).unwrap_or_default();
    assert!(
        made == kept,
        "{path} is not what the program says; make it anew: serin __page {name} > {path}\n{}",
        first_difference(&made, &kept)
    );
    made
}

/// The first lines that differ.
fn first_difference(made: &str, kept: &str) -> String {
    let mut lines = made
        .lines()
        .zip(kept.lines().chain(std::iter::repeat("(nothing)")));
    let differ = lines.find(|(made, kept)| made != kept);
    differ.map_or_else(String::new, |(made, kept)| {
        format!("made: {made}\nkept: {kept}")
    })
}

#[test]
fn the_page_of_commands_is_what_the_grammar_says() {
    let page = page("cli");
    for shown in [
        "### `serin endpoint create`",
        "SERIN_DATA",
        "## Exit codes",
        "| 130 |",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
    for hidden in ["__probe", "__lane", "`serin workspace"] {
        assert!(!page.contains(hidden), "{hidden}");
    }
}

#[test]
fn the_page_of_files_is_what_the_reader_says() {
    let page = page("files");
    for (key, here) in [
        (
            "`instance_count`",
            "a whole number from 1 to 50 | 1 | works",
        ),
        (
            "`request_settings.max_queue_wait_ms`",
            "kept without effect",
        ),
        (
            "`model.datastore`",
            "refused: files in the cloud are not read here",
        ),
        ("`sticky.header`", "works"),
    ] {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| {key} |")));
        assert!(row.is_some_and(|row| row.contains(here)), "{key}: {row:?}");
    }
}

#[test]
fn the_page_of_settings_names_every_variable_that_the_sources_read_and_no_other() {
    let page = page("settings");
    let mut text = String::new();
    for folder in ["runtime/src", "runtime/build.rs"] {
        read_all(&repository(folder), &mut text);
    }
    let read = variables(&text);
    assert!(read.len() > 10, "{read:?}");
    for name in &read {
        assert!(
            page.contains(&format!("`{name}`")),
            "{name} is read, and docs/settings.md does not name it: runtime/src/cli/pages/settings.rs has the table"
        );
    }
    let own = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `SERIN_"));
    for name in own.filter_map(|rest| rest.split('`').next()) {
        let name = format!("SERIN_{name}");
        assert!(read.contains(&name), "{name} is read by nobody");
    }
}

/// The text of all sources below a path.
fn read_all(path: &Path, text: &mut String) {
    if !path.is_dir() {
        if path.extension().is_some_and(|ending| ending == "rs") {
            text.push_str(&fs::read_to_string(path).expect("a source file"));
        }
        return;
    }
    for entry in fs::read_dir(path).expect("a folder") {
        let path = entry.expect("an entry").path();
        // The table itself proves nothing.
        if !path.ends_with("cli/pages") {
            read_all(&path, text);
        }
    }
}

/// Variables of serin, and those that are read by their name; not those of tests, and of the build for itself.
fn variables(text: &str) -> BTreeSet<String> {
    let before = [
        "\"SERIN_",
        "env::var(\"",
        "env::var_os(\"",
        "folder(\"",
        "variable(\"",
    ];
    let mut found = BTreeSet::new();
    for before in before {
        for (at, _) in text.match_indices(before) {
            let begin = at + before.find('"').expect("a quote") + 1;
            let name = text[begin..].split('"').next().unwrap_or_default();
            let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
            let is_inner = [
                "SERIN_TEST_",
                "SERIN_SIMULATION_",
                "SERIN_ONNXRUNTIME_VERSION",
            ];
            let is_inner = is_inner.iter().any(|inner| name.starts_with(inner));
            if !name.is_empty() && name.chars().all(is_name) && !is_inner && !of_cargo(name) {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

/// Whether it is told to a build by cargo.
fn of_cargo(name: &str) -> bool {
    name.starts_with("CARGO_") || ["OUT_DIR", "TARGET", "HOST", "PROFILE"].contains(&name)
}
