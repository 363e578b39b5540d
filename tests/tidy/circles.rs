//! Circles: files of the source that import each other, so that none can be understood before the others.
//!
//! A file imports what its paths name (`crate::..`, `super::..`, `self::..`), in `use` statements and in code, and a
//! `mod.rs` the files that it declares. A name that a `mod.rs` re-exports stands for the file that defines it.
//!
//! Not here: imports for tests alone. A test sees its module from outside, together with whatever it needs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Files by the files that they import.
pub(crate) type Graph = BTreeMap<String, BTreeSet<String>>;

/// A path such as `crate::spec::Percent`, without `crate`.
type Names = Vec<String>;

/// The graph of source files, given by their path below the source and their text.
pub(crate) fn graph(files: &[(String, String)]) -> Graph {
    let parsed: Vec<(Names, File)> = files
        .iter()
        .filter(|(name, _)| name != "main.rs")
        .map(|(name, text)| (module(name), File::parse(name, text)))
        .collect();
    let for_tests: BTreeSet<&Names> = parsed
        .iter()
        .flat_map(|(_, file)| &file.for_tests)
        .collect();
    let modules: BTreeMap<Names, &File> = parsed
        .iter()
        .filter(|(module, _)| !for_tests.contains(module))
        .map(|(module, file)| (module.clone(), file))
        .collect();
    modules
        .values()
        .map(|file| {
            let imported = file.imports.iter().map(|path| home(path, &modules));
            let others = imported.filter(|other| *other != file.name);
            (file.name.clone(), others.collect())
        })
        .collect()
}

/// The shortest circle through each file that is on one, each circle once; the first file stands at the end again.
pub(crate) fn circles(graph: &Graph) -> BTreeSet<Vec<String>> {
    graph
        .keys()
        .filter_map(|file| way_back(file, graph))
        .map(|mut circle| {
            let first = (0..circle.len()).min_by_key(|at| &circle[*at]);
            circle.rotate_left(first.unwrap_or_default());
            circle.push(circle[0].clone());
            circle
        })
        .collect()
}

/// The files on the shortest way from a file to itself.
fn way_back(file: &str, graph: &Graph) -> Option<Vec<String>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut waiting = VecDeque::from([file]);
    while let Some(next) = waiting.pop_front() {
        for other in graph.get(next).into_iter().flatten() {
            if other == file {
                let steps = std::iter::successors(Some(next), |at| before.get(at).copied());
                let mut way: Vec<String> = steps.map(str::to_owned).collect();
                way.reverse();
                return Some(way);
            }
            if !before.contains_key(other.as_str()) {
                before.insert(other, next);
                waiting.push_back(other);
            }
        }
    }
    None
}

/// The file in which a path ends.
fn home(path: &Names, modules: &BTreeMap<Names, &File>) -> String {
    let mut path = path.clone();
    loop {
        let known = (0..=path.len())
            .rev()
            .find(|end| modules.contains_key(&path[..*end]));
        let end = known.expect("lib.rs has the empty path");
        let file = modules[&path[..end]];
        let name = path.get(end).filter(|_| file.is_folder);
        match name.and_then(|name| file.uses.get(name)) {
            Some(source) => path = [source, &path[end + 1..]].concat(),
            None => return file.name.clone(),
        }
    }
}

/// The path of the module that a file holds.
fn module(file: &str) -> Names {
    let mut names: Names = file
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if names.last().is_some_and(|name| name == "mod") || names == ["lib"] {
        names.pop();
    }
    names
}

/// One file as far as its imports go.
#[derive(Debug)]
struct File {
    name: String,
    /// Whether it stands for a folder: `mod.rs`, `lib.rs`.
    is_folder: bool,
    /// Every path that it names.
    imports: BTreeSet<Names>,
    /// The names that `use` brings into it, and what they stand for.
    uses: BTreeMap<String, Names>,
    /// The modules that it declares for tests alone.
    for_tests: Vec<Names>,
}

impl File {
    fn parse(name: &str, text: &str) -> Self {
        let own = module(name);
        // Who may see a thing is no import of who may.
        let code = without_words(text).replace("pub(in crate::", "pub(in ");
        let (tokens, in_tests) = part_tests(tokens(&code));
        let mut file = Self {
            name: name.to_owned(),
            is_folder: name.ends_with("mod.rs") || name == "lib.rs",
            imports: BTreeSet::new(),
            uses: BTreeMap::new(),
            for_tests: declared(&in_tests)
                .map(|child| below(&own, child))
                .collect(),
        };
        if file.is_folder {
            file.imports
                .extend(declared(&tokens).map(|child| below(&own, child)));
        }
        file.read_paths(&own, &tokens);
        file
    }

    /// Collects the paths that begin with `crate`, `super` or `self`, and any path of a `use`.
    fn read_paths(&mut self, own: &Names, tokens: &[&str]) {
        let mut at = 0;
        while at < tokens.len() {
            let is_use = tokens[at] == "use";
            let begins = matches!(tokens[at], "crate" | "super" | "self")
                && tokens.get(at + 1) == Some(&"::")
                && !(at > 0 && matches!(tokens[at - 1], "::" | "$"));
            if !is_use && !begins {
                at += 1;
                continue;
            }
            let mut found = Vec::new();
            let from = at + usize::from(is_use);
            at = read_tree(tokens, from, &[], &mut found).max(at + 1);
            for (path, called) in found {
                let is_relative = matches!(path[0], "crate" | "super" | "self");
                let path = absolute(own, &path);
                if is_use {
                    self.uses.insert(called.to_owned(), path.clone());
                }
                if is_relative {
                    self.imports.insert(path);
                }
            }
        }
    }
}

/// Reads `a::b::{c, d as e}` from a token on: each path, and the name that it gets. Gives the token behind it.
fn read_tree<'t>(
    tokens: &[&'t str],
    mut at: usize,
    prefix: &[&'t str],
    found: &mut Vec<(Vec<&'t str>, &'t str)>,
) -> usize {
    let mut path = prefix.to_vec();
    while let Some(&token) = tokens.get(at) {
        if token == "{" {
            return read_branches(tokens, at + 1, &path, found);
        }
        if token != "*" && !token.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            // A turbofish, or no path at all.
            break;
        }
        if token != "self" || path.is_empty() {
            path.push(token);
        }
        at += 1;
        if tokens.get(at) != Some(&"::") {
            break;
        }
        at += 1;
    }
    let mut called = path.last().copied().unwrap_or_default();
    if tokens.get(at) == Some(&"as") {
        called = tokens.get(at + 1).copied().unwrap_or_default();
        at += 2;
    }
    if !path.is_empty() {
        found.push((path, called));
    }
    at
}

/// Reads what stands between braces, from the token behind the first one on.
fn read_branches<'t>(
    tokens: &[&'t str],
    mut at: usize,
    prefix: &[&'t str],
    found: &mut Vec<(Vec<&'t str>, &'t str)>,
) -> usize {
    while tokens.get(at).is_some_and(|token| *token != "}") {
        let behind = read_tree(tokens, at, prefix, found);
        // What is no path is passed over, like the comma behind one that is.
        at = behind + usize::from(behind == at || tokens.get(behind) == Some(&","));
    }
    at + 1
}

/// A path as seen from `crate`. One that begins with another name begins in the module itself.
fn absolute(own: &Names, path: &[&str]) -> Names {
    let mut names = own.clone();
    let mut rest = path;
    while let [first, more @ ..] = rest {
        match *first {
            "crate" => names.clear(),
            "super" => drop(names.pop()),
            "self" => {}
            _ => break,
        }
        rest = more;
    }
    names.extend(rest.iter().map(|name| (*name).to_owned()));
    names
}

fn below(own: &Names, child: &str) -> Names {
    [own.as_slice(), &[child.to_owned()]].concat()
}

/// The modules that have files of their own: `mod name;`.
fn declared<'t>(tokens: &[&'t str]) -> impl Iterator<Item = &'t str> {
    tokens
        .windows(3)
        .filter(|three| three[0] == "mod" && three[2] == ";")
        .map(|three| three[1])
}

/// Parts the items behind `#[cfg(test)]` from the others.
fn part_tests(tokens: Vec<&str>) -> (Vec<&str>, Vec<&str>) {
    const ATTRIBUTE: &[&str] = &["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut others, mut in_tests) = (Vec::new(), Vec::new());
    let mut rest = tokens.as_slice();
    while let [first, more @ ..] = rest {
        if rest.starts_with(ATTRIBUTE) {
            let (item, behind) = rest.split_at(item_len(rest));
            in_tests.extend_from_slice(item);
            rest = behind;
        } else {
            others.push(*first);
            rest = more;
        }
    }
    (others, in_tests)
}

/// Tokens of the item at the beginning: up to its first `;`, or the brace that closes its first one.
fn item_len(tokens: &[&str]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "{" => depth += 1,
            "}" if depth == 1 => return at + 1,
            "}" => depth = depth.saturating_sub(1),
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Names, `::`, and every other sign by itself.
fn tokens(code: &str) -> Vec<&str> {
    let is_inside = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = if is_inside(first) {
            rest.find(|c| !is_inside(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        found.push(&rest[..len]);
        rest = rest[len..].trim_start();
    }
    found
}

/// The code without comments, texts and characters.
fn without_words(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let in_a_name = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let skipped = words_len(rest, in_a_name);
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

/// Bytes of the comment, text or character at the beginning; 0 where there is none.
fn words_len(rest: &str, in_a_name: bool) -> usize {
    let until = |end: &str, from: usize| {
        let found = rest.get(from..).and_then(|rest| rest.find(end));
        found.map_or(rest.len(), |at| from + at + end.len())
    };
    if rest.starts_with("//") {
        return until("\n", 0);
    }
    if rest.starts_with("/*") {
        return until("*/", 2);
    }
    if !in_a_name && let Some(raw) = rest.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            return until(&format!("\"{}", "#".repeat(hashes)), hashes + 2);
        }
    }
    match rest.as_bytes() {
        [b'"', ..] => quoted_len(rest),
        [b'\'', b'\\', ..] => until("'", 3),
        [b'\'', ..] => character_len(rest),
        _ => 0,
    }
}

/// Bytes of a text in quotes.
fn quoted_len(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Bytes of a character in quotes; 0 for a lifetime.
fn character_len(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(2);
    match chars.next() {
        Some((at, '\'')) => at + 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles of a source on paper, as they are told.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let lib = ("lib.rs", "pub mod engine;\npub mod spec;");
        let files: Vec<_> = [&lib]
            .into_iter()
            .chain(files)
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        let told = circles(&graph(&files));
        told.iter().map(|circle| circle.join(" -> ")).collect()
    }

    const SPEC: (&str, &str) = (
        "spec/mod.rs",
        "mod names;\nmod set;\nmod model;\npub use names::Name;\npub use set::{Set, SetError as Wrong};",
    );

    #[test]
    fn files_that_import_each_other_are_a_circle() {
        let circle = ["spec/names.rs -> spec/set.rs -> spec/names.rs"];
        for there in ["use super::set::Set;", "use crate::spec::set::{Set};"] {
            for back in [
                "use super::names;",
                "use super::names::{self, Name};",
                "use crate::{spec::names::Name};",
                "fn f(name: super::names::Name) {}",
                "fn f() { g(crate::spec::names::new::<u8>) }",
            ] {
                let files = [SPEC, ("spec/names.rs", there), ("spec/set.rs", back)];
                assert_eq!(found(&files), circle, "{there} {back}");
            }
        }
    }

    #[test]
    fn a_name_that_the_folder_re_exports_counts_for_the_file_that_defines_it() {
        let circle = ["spec/names.rs -> spec/set.rs -> spec/names.rs"];
        for there in [
            "use super::Set;",
            "use crate::spec::{Set};",
            "use crate::spec::Wrong as W;",
            "use super::Set::New;",
        ] {
            let back = "use super::{Name};";
            let files = [SPEC, ("spec/names.rs", there), ("spec/set.rs", back)];
            assert_eq!(found(&files), circle, "{there}");
        }
    }

    #[test]
    fn a_name_is_followed_through_several_folders() {
        let files = [
            ("engine/mod.rs", "mod lane;\nmod work;\npub use work::Work;"),
            (
                "engine/work/mod.rs",
                "mod inner;\npub use self::inner::Work;",
            ),
            ("engine/work/inner.rs", "use crate::engine::lane::Lane;"),
            ("engine/lane.rs", "use super::Work;"),
        ];
        assert_eq!(
            found(&files),
            ["engine/lane.rs -> engine/work/inner.rs -> engine/lane.rs"]
        );
    }

    #[test]
    fn a_long_circle_is_told_once_from_its_first_file_on() {
        let files = [
            SPEC,
            ("spec/set.rs", "use super::names;"),
            ("spec/names.rs", "use super::model;"),
            ("spec/model.rs", "use super::set;"),
        ];
        assert_eq!(
            found(&files),
            ["spec/model.rs -> spec/set.rs -> spec/names.rs -> spec/model.rs"]
        );
    }

    #[test]
    fn each_circle_is_told() {
        let files = [
            SPEC,
            ("spec/set.rs", "use super::names;\nuse super::model;"),
            ("spec/names.rs", "use super::set;"),
            ("spec/model.rs", "use super::set;"),
        ];
        assert_eq!(
            found(&files),
            [
                "spec/model.rs -> spec/set.rs -> spec/model.rs",
                "spec/names.rs -> spec/set.rs -> spec/names.rs"
            ]
        );
    }

    #[test]
    fn a_chain_is_no_circle() {
        let files = [
            SPEC,
            (
                "spec/set.rs",
                "use super::{Name, model};\nuse super::set::Set;",
            ),
            ("spec/model.rs", "use super::Name;"),
            ("spec/names.rs", "use std::fmt;\nuse self::Name::New;"),
        ];
        assert_eq!(found(&files), [""; 0]);
    }

    #[test]
    fn a_file_that_uses_what_its_folder_defines_is_on_a_circle_with_it() {
        let folder = ("spec/mod.rs", "mod names;\npub struct Own;");
        for using in ["use super::Own;", "use crate::spec::Own;", "use super::*;"] {
            let files = [folder, ("spec/names.rs", using)];
            assert_eq!(
                found(&files),
                ["spec/mod.rs -> spec/names.rs -> spec/mod.rs"]
            );
        }
    }

    #[test]
    fn what_is_imported_for_tests_alone_is_no_import() {
        let files = [
            (
                "spec/mod.rs",
                "mod names;\nmod set;\npub use names::Name;\n#[cfg(test)]\nmod sample;",
            ),
            ("spec/set.rs", "use super::Name;"),
            ("spec/sample.rs", "use super::names;\nuse super::set;"),
            (
                "spec/names.rs",
                "#[cfg(test)]\nuse super::sample;\n#[cfg(test)]\nmod tests { use crate::spec::set; fn f() {} }",
            ),
        ];
        assert_eq!(found(&files), [""; 0]);
        let used = ("spec/names.rs", "#[cfg(test)]\nfn f() {}\nuse super::set;");
        assert_eq!(
            found(&[SPEC, ("spec/set.rs", "use super::Name;"), used]),
            ["spec/names.rs -> spec/set.rs -> spec/names.rs"]
        );
    }

    #[test]
    fn words_are_no_imports() {
        let words = r##"
            /// See [`Set`](super::set::Set).
            /* use super::set; */
            const A: &str = "\" use super::set;";
            const B: &str = r#""use super::set;"#;
            const C: [char; 2] = ['"', '\''];
            fn f<'a>(a: &'a str) { macro_of!($crate::spec::set) }
            pub(in crate::spec) fn g() {}
        "##;
        let back = ("spec/set.rs", "use super::Name;");
        assert_eq!(found(&[SPEC, ("spec/names.rs", words), back]), [""; 0]);
        let code = format!("{words}\nuse super::set;");
        assert_eq!(found(&[SPEC, ("spec/names.rs", &code), back]).len(), 1);
    }
}
