//! The source keeps its own rules: module ranks, no circles of files, who may name which crate, words that stay out.

#[path = "tidy/circles.rs"]
mod circles;

use std::fs;
use std::path::{Path, PathBuf};

/// Modules by rank; a module imports only modules of a lower rank. `runtime/ARCHITECTURE.md` has the same table.
const RANKS: &[(&str, u8)] = &[
    ("spec", 0),
    ("cache_folder", 0),
    ("config", 0),
    ("deadline", 0),
    ("plain_file", 0),
    ("trust", 0),
    ("black_box", 1),
    ("budget", 1),
    ("environments", 1),
    ("evidence", 1),
    ("observe", 1),
    ("plot", 1),
    ("canary", 2),
    ("load", 2),
    ("engine", 2),
    ("router", 3),
    ("serve", 4),
    ("control", 4),
    ("admin", 5),
    ("embedded", 5),
    ("app", 6),
    ("bench", 7),
    ("tune", 8),
    ("rollout_report", 8),
    ("cli", 9),
];

/// Modules that only a feature compiles; the others are the library. `runtime/ARCHITECTURE.md` has the same table.
const FEATURES: &[(&str, &str)] = &[
    ("budget", "cli"),
    ("load", "cli"),
    ("plot", "cli"),
    ("trust", "server"),
    ("canary", "server"),
    ("serve", "server"),
    ("admin", "server"),
    ("app", "server"),
    ("bench", "cli"),
    ("tune", "cli"),
    ("rollout_report", "cli"),
    ("cli", "cli"),
];

/// Crates that only some places may name.
const NAMED_ONLY_IN: &[(&str, &[&str])] = &[
    ("ort", &["engine/session.rs", "engine/session/tests.rs"]),
    ("axum", &["serve/", "admin/"]),
    ("rusqlite", &["control/store/"]),
    ("serde_saphyr", &["spec/yaml.rs"]),
    ("clap", &["cli/"]),
    ("askama", &["bench/page.rs", "rollout_report/page.rs"]),
    ("plotters", &["plot/"]),
    (
        "rustls",
        &["trust.rs", "load/link.rs", "load/connection.rs"],
    ),
    ("tokio_rustls", &["control/rollouts/hooks.rs"]),
    ("ureq", &["admin/client.rs"]),
];

/// Words that have no place in the source.
const BANNED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("#[ign", "ore"),
    concat!("#[should", "_panic"),
    concat!("dbg", "!("),
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("runtime/ is in the repository")
        .to_owned()
}

/// Every file below `folder` with one of the endings, sorted.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry of the folder").path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Source files of the runtime: path below `runtime/src`, text.
fn sources() -> Vec<(String, String)> {
    let source = repository().join("runtime/src");
    let read = |file: PathBuf| {
        let name = file.strip_prefix(&source).expect("below the source");
        let text = fs::read_to_string(&file).expect("a source file is UTF-8");
        (name.to_string_lossy().into_owned(), text)
    };
    files(&source, &[".rs"]).into_iter().map(read).collect()
}

/// Source lines of the runtime without comments: (path below `runtime/src`, line number, text).
fn code_lines() -> Vec<(String, usize, String)> {
    let mut lines = Vec::new();
    for (name, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !code.trim().is_empty() {
                lines.push((name.clone(), number + 1, code.to_owned()));
            }
        }
    }
    assert!(lines.len() > 1000, "the source was not found");
    lines
}

fn rank(module: &str) -> Option<u8> {
    RANKS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, rank)| *rank)
}

/// Names that follow `crate::` in a line.
fn imported(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crate::").filter_map(|(at, found)| {
        let inside_a_word =
            line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$');
        let rest = &line[at + found.len()..];
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        (!inside_a_word).then_some(&rest[..end])
    })
}

#[test]
fn a_module_imports_only_modules_of_a_lower_rank() {
    let mut wrong = Vec::new();
    for (file, number, line) in code_lines() {
        let module = file.split(['/', '.']).next().unwrap_or_default();
        if module == "lib" || module == "main" {
            continue;
        }
        let Some(own) = rank(module) else {
            wrong.push(format!("{file}: module {module:?} has no rank"));
            continue;
        };
        for other in imported(&line) {
            match rank(other) {
                _ if other == module => {}
                Some(rank) if rank < own => {}
                // Shared by all of rank 0: bounds are plain numbers.
                Some(0) if own == 0 => {}
                Some(_) => wrong.push(format!(
                    "{file}:{number}: {module} imports {other}, which is not of a lower rank"
                )),
                None => wrong.push(format!(
                    "{file}:{number}: import one module a statement, found `crate::{other}`"
                )),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The feature that compiles a module; none for the library.
fn feature(module: &str) -> Option<&'static str> {
    FEATURES
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, feature)| *feature)
}

/// Whether code of one feature is there wherever code of the other is: `cli` has all of `server`.
fn has(own: Option<&str>, other: Option<&str>) -> bool {
    other.is_none() || own == other || (own, other) == (Some("cli"), Some("server"))
}

/// The feature behind which a module declares the folder that the file is in: `control/rollouts/judge.rs` by `control/mod.rs`.
fn feature_of_folder(file: &str, lines: &[(String, usize, String)]) -> Option<&'static str> {
    let mut parts = file.split('/');
    let (module, folder) = (parts.next()?, parts.next()?);
    parts.next()?;
    let (parent, declared) = (format!("{module}/mod.rs"), format!("mod {folder};"));
    let at = lines
        .iter()
        .position(|(file, _, line)| *file == parent && line.trim().ends_with(&declared))?;
    let gate = &lines[at.checked_sub(1)?].2;
    let mut features = ["server", "cli"].into_iter();
    features.find(|feature| gate.contains(&format!("cfg(feature = \"{feature}\")")))
}

#[test]
fn what_a_feature_compiles_is_imported_only_where_the_feature_is() {
    let mut wrong = Vec::new();
    let lines = code_lines();
    for (at, (file, number, line)) in lines.iter().enumerate() {
        let own = file.split(['/', '.']).next().and_then(feature);
        let own = own.or_else(|| feature_of_folder(file, &lines));
        let before = at.checked_sub(1).map(|at| lines[at].2.trim());
        let is_gated = before.is_some_and(|line| line.starts_with("#[cfg("));
        for other in imported(line) {
            if file != "lib.rs" && file != "main.rs" && !is_gated && !has(own, feature(other)) {
                wrong.push(format!(
                    "{file}:{number}: imports {other}, which only the feature {} compiles",
                    feature(other).unwrap_or_default()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_module_is_declared_for_its_feature() {
    let root = fs::read_to_string(repository().join("runtime/src/lib.rs")).expect("lib.rs");
    let mut attributes = String::new();
    for line in root.lines().map(str::trim) {
        if line.starts_with("#[") {
            attributes += line;
            continue;
        }
        let declared = line.trim_start_matches("pub ").strip_prefix("mod ");
        // One with its body in `lib.rs` is a part of the public face, and has no file.
        let file = declared.and_then(|rest| rest.strip_suffix(';'));
        if let Some(module) = file {
            for named in ["server", "cli"] {
                let asks = attributes.contains(&format!("feature = \"{named}\""));
                assert_eq!(
                    asks,
                    feature(module) == Some(named),
                    "lib.rs and FEATURES do not agree on whether {module} belongs to {named}"
                );
            }
            let is_hidden = attributes.contains("#[doc(hidden)]")
                && attributes.contains("unstable")
                || feature(module) == Some("cli");
            assert!(
                !line.starts_with("pub ") || is_hidden,
                "module {module} is public without the feature `unstable`"
            );
        }
        attributes.clear();
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let circles = circles::circles(&circles::graph(&sources()));
    let circles: Vec<String> = circles.iter().map(|circle| circle.join(" -> ")).collect();
    assert!(
        circles.is_empty(),
        "files that import each other in a circle; move what they share into a file below them:\n{}",
        circles.join("\n")
    );
}

#[test]
fn a_crate_is_named_only_where_it_belongs() {
    let mut wrong = Vec::new();
    for (file, number, line) in code_lines() {
        for (name, places) in NAMED_ONLY_IN {
            let named = [
                format!("use {name}::"),
                format!("use {name};"),
                format!(" {name}::"),
                format!("({name}::"),
                format!("<{name}::"),
            ]
            .iter()
            .any(|form| format!(" {line}").contains(form.as_str()));
            if named && !places.iter().any(|place| file.starts_with(place)) {
                wrong.push(format!(
                    "{file}:{number}: names {name}, which only {places:?} may"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_source_file_has_a_banned_word() {
    let root = repository();
    let mut wrong = Vec::new();
    for file in files(&root, &[".rs", ".py", ".md", ".toml", ".yml", ".yaml"]) {
        let text = fs::read_to_string(&file).expect("a source file is UTF-8");
        for (number, line) in text.lines().enumerate() {
            for word in BANNED {
                if line.contains(word) {
                    wrong.push(format!(
                        "{}:{}: {word}",
                        file.strip_prefix(&root).expect("below the root").display(),
                        number + 1
                    ));
                }
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            wrong.push(format!("{}: no newline at the end", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_public_function_of_the_runtime_lacks_its_body() {
    let unfinished: Vec<String> = code_lines()
        .into_iter()
        .filter(|(_, _, line)| {
            line.contains(concat!("to", "do!(")) || line.contains(concat!("unimpl", "emented!("))
        })
        .map(|(file, number, _)| format!("{file}:{number}"))
        .collect();
    assert!(unfinished.is_empty(), "{}", unfinished.join("\n"));
}

#[test]
fn the_architecture_page_names_every_module() {
    let page = fs::read_to_string(repository().join("runtime/ARCHITECTURE.md"))
        .expect("the architecture page");
    for (module, rank) in RANKS {
        let feature = feature(module).map_or(String::new(), |feature| format!("`{feature}`"));
        let has_line = page.lines().any(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            matches!(cells[..], ["", at, names, of, _, ""]
                if at == rank.to_string() && names.contains(&format!("`{module}`")) && of == feature)
        });
        assert!(
            has_line,
            "the table of runtime/ARCHITECTURE.md has no line for `{module}` with rank {rank} and feature {feature:?}"
        );
    }
    let source = repository().join("runtime/src");
    for entry in fs::read_dir(&source).expect("the source") {
        let name = entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .trim_end_matches(".rs")
            .to_owned();
        assert!(
            name == "lib" || name == "main" || rank(&name).is_some(),
            "module {name:?} has no rank in tests/tidy.rs"
        );
    }
}
