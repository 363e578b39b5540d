//! Requirements as pip reads them: the lines of a `requirements.txt`, and of the `pip:` part of a conda file. Pure.
//!
//! Lines come out in their normal form: one option a line, without comments, with files that they name read in at their place. pip and
//! uv judge the rest of a line. Refused here is what cannot be had from the text alone: a folder or a file beside it is not kept with
//! a change, and would not be there at the next start.
//!
//! Not here: conda's own words (`conda`).

use std::io;
use std::path::{Path, PathBuf};

use crate::spec::{Place, Problem, nearest};

/// Most files that one file may read in, itself included, and so the deepest that they may be nested.
const INCLUDES_MAX: usize = 50;

/// Options that come with a value.
const WITH_VALUE: &[(&str, &str)] = &[
    ("-i", "--index-url"),
    ("--index-url", "--index-url"),
    ("--extra-index-url", "--extra-index-url"),
    ("-f", "--find-links"),
    ("--find-links", "--find-links"),
    ("--trusted-host", "--trusted-host"),
    ("--no-binary", "--no-binary"),
    ("--only-binary", "--only-binary"),
    ("--use-feature", "--use-feature"),
    ("-r", "--requirement"),
    ("--requirement", "--requirement"),
    ("-c", "--constraint"),
    ("--constraint", "--constraint"),
];

/// Options that stand alone.
const ALONE: &[&str] = &["--pre", "--no-index", "--prefer-binary", "--require-hashes"];

/// What pip is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Requirements {
    /// Requirements and options, in order.
    pub(super) lines: Vec<String>,
    /// Versions that nothing may leave, also of what others ask for.
    pub(super) constraints: Vec<String>,
}

/// Where a line stands.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The file.
    pub(super) file: PathBuf,
    /// The place in the file that somebody named: of the line, or of what reads its file in.
    pub(super) place: Option<Place>,
    /// The name of the field, or of the file that was read in.
    pub(super) field: String,
}

impl Origin {
    fn problem(&self, message: impl Into<String>) -> Problem {
        Problem {
            place: self.place,
            field: self.field.clone(),
            message: message.into(),
            suggestion: None,
        }
    }

    fn beside(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }
}

/// The kind of the file that a line stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Requirements,
    Constraints,
}

/// Reads lines and what they read in.
pub(super) struct Reader<'a> {
    include: &'a dyn Fn(&Path) -> io::Result<String>,
    problems: &'a mut Vec<Problem>,
    read: Requirements,
    /// Files that are being read, the outermost first.
    open: Vec<PathBuf>,
    includes: usize,
}

impl<'a> Reader<'a> {
    /// A reader that reads other files with `include` and adds to `problems`.
    pub(super) fn new(
        include: &'a dyn Fn(&Path) -> io::Result<String>,
        problems: &'a mut Vec<Problem>,
    ) -> Self {
        Self {
            include,
            problems,
            read: Requirements::default(),
            open: Vec::new(),
            includes: 0,
        }
    }

    /// All that was read.
    pub(super) fn finish(self) -> Requirements {
        self.read
    }

    /// Takes a line that is known already.
    pub(super) fn push(&mut self, line: String) {
        self.read.lines.push(line);
    }

    /// Reads a whole file, whose lines have places.
    pub(super) fn file(&mut self, file: &Path, text: &str) {
        self.text(file, text, None, Kind::Requirements);
    }

    /// Reads one line.
    pub(super) fn line(&mut self, line: &str, origin: &Origin) {
        self.judge(line, origin, Kind::Requirements);
    }

    fn text(&mut self, file: &Path, text: &str, included_at: Option<&Origin>, kind: Kind) {
        self.open.push(file.to_owned());
        for (number, line) in logical_lines(text) {
            let origin = match included_at {
                None => Origin {
                    file: file.to_owned(),
                    place: Some(Place {
                        line: number,
                        column: 1,
                    }),
                    field: String::new(),
                },
                Some(from) => Origin {
                    file: file.to_owned(),
                    place: from.place,
                    field: format!("{}:{number}", file.display()),
                },
            };
            self.judge(&line, &origin, kind);
        }
        self.open.pop();
    }

    fn judge(&mut self, line: &str, origin: &Origin, kind: Kind) {
        let line = without_comment(line);
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(first) = words.first() else {
            return;
        };
        let judged = if first.starts_with('-') {
            self.options(&words, origin, kind)
        } else {
            requirement(&words.join(" ")).map(|line| match kind {
                Kind::Requirements => self.read.lines.push(line),
                Kind::Constraints => self.read.constraints.push(line),
            })
        };
        if let Err(message) = judged {
            self.problems.push(origin.problem(message));
        }
    }

    fn options(&mut self, words: &[&str], origin: &Origin, kind: Kind) -> Result<(), String> {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (name, attached) = option_of(word);
            if let Some(alone) = ALONE.iter().find(|alone| **alone == name) {
                self.read.lines.push((*alone).to_owned());
                continue;
            }
            let Some((_, long)) = WITH_VALUE.iter().find(|(known, _)| *known == name) else {
                return Err(unknown_option(name));
            };
            let value = attached.or_else(|| words.next().copied());
            let value = value
                .map(unquoted)
                .filter(|value| !value.is_empty())
                .ok_or_else(|| format!("expected a value after `{name}`, found nothing"))?;
            self.option(long, value, origin, kind);
        }
        Ok(())
    }

    fn option(&mut self, name: &str, value: &str, origin: &Origin, kind: Kind) {
        match name {
            "--requirement" => self.include(value, origin, kind),
            "--constraint" => self.include(value, origin, Kind::Constraints),
            // Seen from the file, as its author did; the build runs in a folder of its own.
            "--find-links" if !value.contains("://") && !value.starts_with("${") => {
                let folder = origin.beside(value);
                self.read.lines.push(format!("{name} {}", folder.display()));
            }
            _ => self.read.lines.push(format!("{name} {value}")),
        }
    }

    fn include(&mut self, path: &str, origin: &Origin, kind: Kind) {
        let path = path.strip_prefix("file:").unwrap_or(path);
        let file = origin.beside(path);
        self.includes += 1;
        if self.includes > INCLUDES_MAX {
            // Told already, once.
            return;
        }
        let told = if path.contains("://") {
            Err(format!("expected a file beside this one, found {path:?}"))
        } else if self.open.contains(&file) {
            Err(format!("{} reads itself in", file.display()))
        } else if self.includes == INCLUDES_MAX {
            Err(format!(
                "expected at most {INCLUDES_MAX} files in all, found more"
            ))
        } else {
            (self.include)(&file)
                .map_err(|error| format!("cannot read {}: {error}", file.display()))
        };
        match told {
            Ok(text) => self.text(&file, &text, Some(origin), kind),
            Err(message) => self.problems.push(origin.problem(message)),
        }
    }
}

/// Lines that end with a backslash go on in the next one. Each with the number of its first.
fn logical_lines(text: &str) -> Vec<(u64, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines: Vec<(u64, String)> = Vec::new();
    let mut goes_on = false;
    for (number, line) in (1..).zip(text.lines()) {
        let is_comment = line.trim_start().starts_with('#');
        let continued = line.strip_suffix('\\').filter(|_| !is_comment);
        let part = continued.unwrap_or(line);
        match lines.last_mut() {
            Some((_, before)) if goes_on => {
                before.push(' ');
                before.push_str(part);
            }
            _ => lines.push((number, part.to_owned())),
        }
        goes_on = continued.is_some();
    }
    lines
}

/// A `#` begins a comment where it begins a word; elsewhere it belongs to an address.
fn without_comment(line: &str) -> &str {
    let begins = |at: usize| at == 0 || line[..at].ends_with(char::is_whitespace);
    let comment = line.match_indices('#').find(|(at, _)| begins(*at));
    comment.map_or(line, |(at, _)| &line[..at])
}

/// The name of an option, and the value that is written to it without a space: `--pre`, `--index-url=x`, `-rfile`.
fn option_of(word: &str) -> (&str, Option<&str>) {
    if word.starts_with("--") {
        return word
            .split_once('=')
            .map_or((word, None), |(name, value)| (name, Some(value)));
    }
    match word.char_indices().nth(2) {
        Some((at, _)) => {
            let (name, value) = word.split_at(at);
            (name, Some(value.trim_start_matches('=')))
        }
        None => (word, None),
    }
}

fn unquoted(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

fn unknown_option(name: &str) -> String {
    if matches!(name, "-e" | "--editable") {
        return "expected a package of an index or an address, found an editable install; only this text is kept with the \
                deployment: put the code into the folder of the scoring script, or name an address such as git+https://.."
            .to_owned();
    }
    let known = WITH_VALUE.iter().map(|(known, _)| *known);
    let known = known.chain(ALONE.iter().copied());
    let near = nearest(name, known.filter(|known| known.starts_with("--")));
    let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    format!("unknown option of pip `{name}`{near}")
}

/// A requirement as it is given to pip; refused when it cannot be had from the text alone, or is none.
fn requirement(line: &str) -> Result<String, String> {
    let (name, rest) = split_name(line);
    let address = rest.strip_prefix('@').map(str::trim_start);
    let target = address.unwrap_or(line);
    if is_local(target, address.is_some()) {
        return Err(format!(
            "expected a package of an index or an address, found the path {target:?}; only this text is kept with the deployment: \
             name a folder of packages with --find-links"
        ));
    }
    if address.is_none()
        && line
            .split(' ')
            .next()
            .is_some_and(|word| word.contains("://"))
    {
        return Ok(line.to_owned());
    }
    if name.is_empty() {
        return Err(format!(
            "expected a requirement such as numpy==1.21.2, found {line:?}"
        ));
    }
    if rest.starts_with('=') && !rest.starts_with("==") {
        return Err(format!(
            "expected `==`, found `=` in {line:?}; only conda's own part writes one"
        ));
    }
    let begins_well = ["[", "(", ";", "@", "<", ">", "=", "!", "~", "--"];
    if rest.is_empty() || begins_well.iter().any(|begin| rest.starts_with(begin)) {
        Ok(line.to_owned())
    } else {
        Err(format!(
            "expected a requirement such as numpy==1.21.2, found {line:?}"
        ))
    }
}

/// The name of a package, and what follows it.
pub(super) fn split_name(line: &str) -> (&str, &str) {
    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let end = line.find(|c| !in_name(c)).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    (if begins { name } else { "" }, rest.trim_start())
}

fn is_local(target: &str, is_address: bool) -> bool {
    let word = target.split([' ', ';']).next().unwrap_or_default();
    let of_a_package = [".whl", ".zip", ".tar.gz", ".tar.bz2"];
    word.starts_with(['.', '/', '~', '\\'])
        || word.starts_with("file:")
        || word.starts_with("git+file:")
        || (!word.contains("://") && (is_address || word.contains('/')))
        || (!word.contains("://") && of_a_package.iter().any(|end| word.ends_with(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `requirements.txt`, with other files by their paths.
    fn read(text: &str, others: &[(&str, &str)]) -> Result<Requirements, Vec<String>> {
        let include = |path: &Path| {
            let found = others.iter().find(|(name, _)| Path::new(name) == path);
            found
                .map(|(_, text)| (*text).to_owned())
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        };
        let mut problems = Vec::new();
        let mut reader = Reader::new(&include, &mut problems);
        reader.file(Path::new("/d/requirements.txt"), text);
        let read = reader.finish();
        if problems.is_empty() {
            return Ok(read);
        }
        let words = |problem: &Problem| {
            let line = problem.place.map_or(0, |place| place.line);
            format!("{line}: {problem}")
        };
        Err(problems.iter().map(words).collect())
    }

    fn lines(text: &str) -> Vec<String> {
        read(text, &[]).expect("requirements").lines
    }

    fn refused(text: &str) -> String {
        read(text, &[]).expect_err("refused").join("\n")
    }

    #[test]
    fn lines_come_out_in_their_normal_form() {
        assert_eq!(
            lines(
                "\u{feff}# two\r\nnumpy == 1.21.2   # why\r\n\r\nscikit-learn>=0.24,\\\n  <1.0\nuvicorn[standard]; python_version < '3.9'\n\
                 six==1.16.0 \\\n    --hash=sha256:ab\n"
            ),
            [
                "numpy == 1.21.2",
                "scikit-learn>=0.24, <1.0",
                "uvicorn[standard]; python_version < '3.9'",
                "six==1.16.0 --hash=sha256:ab",
            ]
        );
    }

    #[test]
    fn options_that_matter_are_kept_in_order() {
        assert_eq!(
            lines(
                "--extra-index-url=https://a/simple --pre\n-i 'https://b'\n-f wheels\n--find-links https://c/#x\n-f/abs\n--no-binary :all:\n"
            ),
            [
                "--extra-index-url https://a/simple",
                "--pre",
                "--index-url https://b",
                "--find-links /d/wheels",
                "--find-links https://c/#x",
                "--find-links /abs",
                "--no-binary :all:",
            ]
        );
    }

    #[test]
    fn files_that_are_named_are_read_in_relative_to_who_names_them() {
        let read = read(
            "-r more/a.txt\nsix\n-cmore/c.txt\n",
            &[
                ("/d/more/a.txt", "numpy\n--requirement b.txt\n"),
                ("/d/more/b.txt", "scipy\n"),
                ("/d/more/c.txt", "numpy==1.0\n-r d.txt\n"),
                ("/d/more/d.txt", "scipy==2.0\n"),
            ],
        );
        assert_eq!(
            read.expect("requirements"),
            Requirements {
                lines: vec!["numpy".to_owned(), "scipy".to_owned(), "six".to_owned()],
                constraints: vec!["numpy==1.0".to_owned(), "scipy==2.0".to_owned()],
            }
        );
    }

    #[test]
    fn a_file_that_reads_itself_in_is_refused() {
        let told = read("six\n-r a.txt\n", &[("/d/a.txt", "numpy\n-r a.txt\n")]);
        assert_eq!(
            told.expect_err("refused"),
            ["2: /d/a.txt:2: /d/a.txt reads itself in"]
        );
    }

    #[test]
    fn files_that_read_in_ever_more_are_refused() {
        let many = "-r b.txt\n".repeat(3 * INCLUDES_MAX);
        let told = read(&many, &[("/d/b.txt", "six\n")]).expect_err("refused");
        assert_eq!(told, ["50: expected at most 50 files in all, found more"]);
    }

    #[test]
    fn what_the_text_alone_does_not_give_is_refused_in_words() {
        for (line, words) in [
            ("-e .", "found an editable install"),
            ("--editable=git+https://a/b", "found an editable install"),
            (".", "found the path \".\""),
            ("./a.whl", "found the path \"./a.whl\""),
            ("dist/a-1-py3-none-any.whl", "found the path"),
            ("a-1-py3-none-any.whl", "found the path"),
            ("a @ file:///x", "found the path \"file:///x\""),
            ("a @ ../x", "found the path \"../x\""),
            ("-r", "expected a value after `-r`, found nothing"),
            ("-r gone.txt", "cannot read /d/gone.txt"),
            ("-r https://a/b.txt", "expected a file beside this one"),
            ("--extra-index-urls x", "did you mean `--extra-index-url`?"),
            ("-x", "unknown option of pip `-x`"),
            ("numpy=1.21", "expected `==`, found `=`"),
            ("numpy scipy", "expected a requirement such as"),
            ("=1", "expected a requirement such as"),
            ("[tool.poetry]", "expected a requirement such as"),
        ] {
            let told = refused(&format!("six\n{line}\n"));
            assert!(
                told.starts_with("2: ") && told.contains(words),
                "{line}: {told}"
            );
        }
    }

    #[test]
    fn addresses_are_kept() {
        let kept = [
            "https://a/b-1-py3-none-any.whl#sha256=1",
            "git+https://a/b@main#egg=b",
            "b @ https://a/b.tar.gz",
            "b[x]@git+ssh://git@a/b",
        ];
        assert_eq!(lines(&kept.join("\n")), kept);
    }

    #[test]
    fn every_wrong_line_is_told() {
        assert_eq!(refused("-e .\nsix\n./b\n").lines().count(), 2);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[-a-c=@:/.#\\\\ \n\u{e9}'\"]{0,60}") {
            drop(read(&text, &[]));
        }
    }
}
