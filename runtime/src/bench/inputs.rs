//! The bodies that are sent, from files, or made from what a model takes.
//!
//! Not here: requests that were recorded with their times.

use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::evidence::SplitMix64;
use crate::plain_file;
use bytes::Bytes;
use serde::de::IgnoredAny;
use serin_scorers::{ElementType, Signature, TensorSpec};

/// Most bytes of all bodies together: they are kept in memory, and both answers to each as well.
const BYTES_MAX: u64 = 256 << 20;

/// Most bodies: more than any comparison gets to.
const BODIES_MAX: usize = 1 << 20;

/// Most values of all bodies that are made; as text a value takes some 9 bytes.
const VALUES_MAX: usize = 1 << 24;

/// Bad bodies that are told one by one.
const TOLD_MAX: usize = 5;

/// Whole numbers that are made are below this: small enough to be a class or a token of any vocabulary.
const WHOLE_BELOW: usize = 10;

/// Texts that are made.
const TEXTS: &[&str] = &["red", "green", "blue", "a longer text of several words", ""];

/// Bodies of requests, at least one.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// In order; they are sent in turn.
    pub bodies: Vec<Bytes>,
    /// Where they come from, in words.
    pub words: String,
}

/// The reason why there are no inputs.
#[derive(Debug, thiserror::Error)]
pub enum InputsError {
    /// Not there, or not readable.
    #[error("cannot read the requests in {}", .path.display())]
    Read {
        /// The path that was to be read.
        path: PathBuf,
        /// The reason why it cannot be.
        source: io::Error,
    },
    /// A file of another kind.
    #[error("expected a .json file (one request), a .jsonl file (one request a line) or a folder of them, found {}", .path.display())]
    Kind {
        /// As it was given.
        path: PathBuf,
    },
    /// A folder without files, or files without a line.
    #[error("no requests in {}: expected {wanted}", .path.display())]
    Empty {
        /// As it was given.
        path: PathBuf,
        /// The form that should be there.
        wanted: &'static str,
    },
    /// Over the most bytes or bodies that a run takes.
    #[error(
        "{} holds more than {} MiB or {BODIES_MAX} requests: give fewer, they are all kept in memory",
        .path.display(), BYTES_MAX >> 20
    )]
    TooMuch {
        /// As it was given.
        path: PathBuf,
    },
    /// Bodies that are no JSON.
    #[error("expected JSON in each request, found\n{0}")]
    NotJson(BadBodies),
    /// More values than anybody would send.
    #[error(
        "a request of {values} values is more than the {VALUES_MAX} values that all together may have: ask for fewer rows, or give requests with --input"
    )]
    TooManyValues {
        /// Values of one.
        values: usize,
    },
    /// Several rows were asked for and the model takes its own number.
    #[error(
        "the model takes no {rows} rows in one request: {inputs}; ask for the rows that it has, or leave it open"
    )]
    Rows {
        /// The number that was asked for.
        rows: usize,
        /// Names and shapes.
        inputs: String,
    },
    /// No requests, or requests without rows, were asked for.
    #[error("expected at least one request of at least one row, found {count} of {rows}")]
    Nothing {
        /// Requests that were to be made.
        count: usize,
        /// Rows of each.
        rows: usize,
    },
}

/// The first bodies that are no JSON, each with its place, and how many others there are.
#[derive(Debug, Default)]
pub struct BadBodies {
    told: Vec<String>,
    others: usize,
}

impl BadBodies {
    fn add(&mut self, file: &Path, line: usize, problem: &serde_json::Error) {
        if self.told.len() == TOLD_MAX {
            self.others += 1;
            return;
        }
        let mut words = problem.to_string();
        // The line of the file is told in front.
        let place = format!(" at line {} column {}", problem.line(), problem.column());
        words.truncate(words.strip_suffix(&place).map_or(words.len(), str::len));
        let (file, column) = (file.display(), problem.column());
        self.told.push(format!("  {file}:{line}:{column}: {words}"));
    }

    fn is_empty(&self) -> bool {
        self.told.is_empty()
    }
}

impl fmt::Display for BadBodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told.join("\n"))?;
        match self.others {
            0 => Ok(()),
            others => write!(f, "\n  and {others} more"),
        }
    }
}

impl Inputs {
    /// Reads requests: a `.json` file is one, a `.jsonl` file has one on each line that is not empty, and of a folder all these
    /// files are read in the order of their names.
    ///
    /// # Errors
    ///
    /// [`InputsError`] when there is nothing, too much, or something that is no JSON; of the latter all files are read first.
    pub fn read(path: &Path) -> Result<Self, InputsError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| InputsError::Read { path, source }
        };
        let folder = fs::metadata(path).map_err(failed(path))?.is_dir();
        let files = if folder {
            files_of(path).map_err(failed(path))?
        } else {
            vec![path.to_owned()]
        };
        let mut reading = Reading::default();
        for file in &files {
            let form = Form::of(file).ok_or_else(|| InputsError::Kind { path: file.clone() })?;
            reading.bytes += fs::metadata(file).map_err(failed(file))?.len();
            if reading.bytes > BYTES_MAX {
                return Err(InputsError::TooMuch {
                    path: path.to_owned(),
                });
            }
            let content = plain_file::read(file, BYTES_MAX).map_err(failed(file))?;
            reading.add(file, form, content.into());
        }
        reading.inputs(path, folder)
    }

    /// Makes `count` different requests, or as many as fit in memory and the words say so, of `rows` rows from what a model takes, in the form of
    /// [`serin_scorers::JsonScorer::example_body`]. `rows` is the first size of an input where that is free; other free sizes are 1.
    /// The same seed makes the same requests: floats from 0 to 1, whole numbers from 0 to 9, some texts.
    ///
    /// # Errors
    ///
    /// [`InputsError::Rows`] when several rows are asked for and no input takes them, [`InputsError::TooManyValues`] when not
    /// one would fit in memory, [`InputsError::Nothing`] when none are asked for.
    pub fn made(
        signature: &Signature,
        rows: usize,
        count: usize,
        seed: u64,
    ) -> Result<Self, InputsError> {
        if rows == 0 || count == 0 {
            return Err(InputsError::Nothing { count, rows });
        }
        let inputs = &signature.inputs;
        if rows > 1 && !inputs.iter().any(|spec| takes_rows(spec, rows)) {
            let inputs: Vec<_> = inputs
                .iter()
                .map(|spec| format!("{:?} has shape {:?}", spec.name, spec.shape))
                .collect();
            return Err(InputsError::Rows {
                rows,
                inputs: inputs.join(", "),
            });
        }
        let sizes: Vec<Vec<usize>> = inputs.iter().map(|spec| sizes(spec, rows)).collect();
        let values = sizes.iter().map(|sizes| values(sizes));
        let values = values.fold(0, usize::saturating_add);
        // Of images fewer fit than anybody asks for.
        let fitting = count.min(VALUES_MAX / values.max(1));
        if fitting == 0 {
            return Err(InputsError::TooManyValues { values });
        }
        let mut random = SplitMix64::new(seed);
        let bodies = (0..fitting)
            .map(|_| made_body(inputs, &sizes, &mut random))
            .collect();
        let fewer = match fitting < count {
            true => format!(" (of {count} no more fit: each has {values} values)"),
            false => String::new(),
        };
        let words = format!(
            "{} made from the model's inputs, {rows} {} each, seed {seed}{fewer}",
            requests(fitting),
            if rows == 1 { "row" } else { "rows" }
        );
        Ok(Self { bodies, words })
    }
}

/// `1 request`, `64 requests`.
fn requests(count: usize) -> String {
    match count {
        1 => "1 request".to_owned(),
        count => format!("{count} requests"),
    }
}

/// The form in which a file holds requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole,
    Lines,
}

impl Form {
    fn of(file: &Path) -> Option<Self> {
        match file.extension()?.to_str()? {
            "json" => Some(Self::Whole),
            "jsonl" => Some(Self::Lines),
            _ => None,
        }
    }
}

/// The files of a folder that hold requests, by name.
fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if Form::of(&path).is_some() && path.is_file() {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The requests that were read so far.
#[derive(Default)]
struct Reading {
    bytes: u64,
    bodies: Vec<Bytes>,
    bad: BadBodies,
}

impl Reading {
    fn add(&mut self, file: &Path, form: Form, content: Bytes) {
        match form {
            Form::Whole => self.add_body(file, 0, content),
            Form::Lines => {
                for (number, line) in content.split(|byte| *byte == b'\n').enumerate() {
                    let line = line.trim_ascii();
                    if !line.is_empty() {
                        self.add_body(file, number, content.slice_ref(line));
                    }
                }
            }
        }
    }

    /// `lines_before` are those of the file in front of the body.
    fn add_body(&mut self, file: &Path, lines_before: usize, body: Bytes) {
        match serde_json::from_slice::<IgnoredAny>(&body) {
            Ok(_) => self.bodies.push(body),
            Err(problem) => self
                .bad
                .add(file, lines_before + problem.line().max(1), &problem),
        }
    }

    fn inputs(self, path: &Path, folder: bool) -> Result<Inputs, InputsError> {
        let path = path.to_owned();
        if !self.bad.is_empty() {
            return Err(InputsError::NotJson(self.bad));
        }
        if self.bodies.len() > BODIES_MAX {
            return Err(InputsError::TooMuch { path });
        }
        if self.bodies.is_empty() {
            let wanted = if folder {
                "*.json files (one request each) or *.jsonl files (one request a line)"
            } else {
                "one request a line"
            };
            return Err(InputsError::Empty { path, wanted });
        }
        let words = format!("{} of {}", requests(self.bodies.len()), path.display());
        let bodies = self.bodies;
        Ok(Inputs { bodies, words })
    }
}

/// Whether an input takes so many rows.
fn takes_rows(spec: &TensorSpec, rows: usize) -> bool {
    let first = spec.shape.first();
    spec.any_rank
        || first.is_some_and(|size| usize::try_from(*size).map_or(true, |size| size == rows))
}

/// Sizes of an input in a request, outermost first.
fn sizes(spec: &TensorSpec, rows: usize) -> Vec<usize> {
    let sizes = spec.shape.iter().enumerate();
    sizes
        .map(|(depth, size)| match usize::try_from(*size) {
            Ok(size) => size,
            // Negative: free.
            Err(_) if depth == 0 => rows,
            Err(_) => 1,
        })
        .chain(spec.any_rank.then_some(rows))
        .collect()
}

/// Values of an input, or more; the lists around nothing are written too, and so a size of 0 counts as 1.
fn values(sizes: &[usize]) -> usize {
    sizes
        .iter()
        .fold(1, |product, size| product.saturating_mul((*size).max(1)))
}

fn made_body(inputs: &[TensorSpec], sizes: &[Vec<usize>], random: &mut SplitMix64) -> Bytes {
    let mut out = "{\"data\":".to_owned();
    if let ([spec], [sizes]) = (inputs, sizes) {
        write_list(sizes, spec.datatype, random, &mut out);
    } else {
        out.push('{');
        for (at, (spec, sizes)) in inputs.iter().zip(sizes).enumerate() {
            if at > 0 {
                out.push(',');
            }
            push(&mut out, format_args!("{}:", serde_json::json!(spec.name)));
            write_list(sizes, spec.datatype, random, &mut out);
        }
        out.push('}');
    }
    out.push('}');
    out.into()
}

fn write_list(sizes: &[usize], datatype: ElementType, random: &mut SplitMix64, out: &mut String) {
    let [size, inner @ ..] = sizes else {
        write_value(datatype, random, out);
        return;
    };
    out.push('[');
    for at in 0..*size {
        if at > 0 {
            out.push(',');
        }
        write_list(inner, datatype, random, out);
    }
    out.push(']');
}

fn write_value(datatype: ElementType, random: &mut SplitMix64, out: &mut String) {
    match datatype {
        ElementType::Bool => out.push_str(if random.below(2) == 1 {
            "true"
        } else {
            "false"
        }),
        ElementType::Bytes => push(out, format_args!("{:?}", TEXTS[random.below(TEXTS.len())])),
        ElementType::Fp16 | ElementType::Bf16 | ElementType::Fp32 | ElementType::Fp64 => {
            // Six digits are what single precision keeps.
            push(out, format_args!("0.{:06}", random.below(1_000_000)));
        }
        ElementType::Uint8
        | ElementType::Uint16
        | ElementType::Uint32
        | ElementType::Uint64
        | ElementType::Int8
        | ElementType::Int16
        | ElementType::Int32
        | ElementType::Int64 => push(out, format_args!("{}", random.below(WHOLE_BELOW))),
    }
}

fn push(out: &mut String, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes any text");
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::error::Error;

    use proptest::prelude::*;
    use serin_scorers::{JsonScorer, Scorer};
    use tempfile::TempDir;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        folder
    }

    fn read(path: &Path) -> Vec<String> {
        let bodies = Inputs::read(path).expect("inputs").bodies;
        let text = |body: Bytes| String::from_utf8(body.to_vec()).expect("text");
        bodies.into_iter().map(text).collect()
    }

    fn problem(path: &Path) -> String {
        Inputs::read(path).expect_err("a problem").to_string()
    }

    fn signature(inputs: &[(&str, ElementType, &[i64])]) -> Signature {
        let input = |(name, datatype, shape): &(&str, ElementType, &[i64])| TensorSpec {
            name: (*name).to_owned(),
            datatype: *datatype,
            shape: shape.to_vec(),
            any_rank: false,
        };
        Signature {
            inputs: inputs.iter().map(input).collect(),
            outputs: Vec::new(),
        }
    }

    #[test]
    fn a_json_file_is_one_request_as_it_stands() {
        let folder = folder(&[("one.json", "{\n \"data\": [1]\n}\n")]);
        let path = folder.path().join("one.json");
        assert_eq!(read(&path), ["{\n \"data\": [1]\n}\n"]);
        let words = Inputs::read(&path).unwrap().words;
        assert_eq!(words, format!("1 request of {}", path.display()));
    }

    #[test]
    fn each_line_of_a_jsonl_file_is_a_request_but_for_empty_ones() {
        let folder = folder(&[("many.jsonl", "{\"data\":1}\r\n\n  \n{\"data\":2}")]);
        assert_eq!(
            read(&folder.path().join("many.jsonl")),
            ["{\"data\":1}", "{\"data\":2}"]
        );
    }

    #[test]
    fn the_files_of_a_folder_are_read_in_the_order_of_their_names() {
        let folder = folder(&[
            ("b.json", "2"),
            ("a.json", "1"),
            ("c.jsonl", "3\n4"),
            ("notes.txt", "not a request"),
        ]);
        assert_eq!(read(folder.path()), ["1", "2", "3", "4"]);
    }

    #[test]
    fn every_bad_request_is_told_with_its_file_and_line_up_to_five() {
        let lines = ["1", "{", "", "2", "x", "y", "z", "[", "{]", "nope"].join("\n");
        let folder = folder(&[("a.json", "{\n\"data\": oops}"), ("b.jsonl", &lines)]);
        let told = problem(folder.path());
        let place =
            |file: &str, rest: &str| format!("  {}:{rest}", folder.path().join(file).display());
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[0], "expected JSON in each request, found");
        assert_eq!(lines[1], place("a.json", "2:9: expected value"));
        assert_eq!(
            lines[2],
            place("b.jsonl", "2:1: EOF while parsing an object")
        );
        assert!(lines[3].starts_with(&place("b.jsonl", "5:1:")), "{told}");
        assert_eq!(lines.len(), 7);
        assert_eq!(lines[6], "  and 3 more");
    }

    #[test]
    fn nothing_to_send_is_told_with_what_should_be_there() {
        let folder = folder(&[
            ("notes.txt", "x"),
            ("empty.jsonl", "\n\n"),
            ("none.json", ""),
        ]);
        assert!(
            problem(&folder.path().join("empty.jsonl")).ends_with("expected one request a line")
        );
        assert!(problem(&folder.path().join("none.json")).contains("none.json:1:0: EOF"));
        let bare = tempfile::tempdir().unwrap();
        let told = problem(bare.path());
        assert!(
            told.starts_with("no requests in ") && told.contains("*.json files"),
            "{told}"
        );
    }

    #[test]
    fn what_is_not_there_or_of_another_kind_is_told() {
        let folder = folder(&[("notes.txt", "x")]);
        let error = Inputs::read(&folder.path().join("no.json")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot read the requests in ")
        );
        assert!(error.source().is_some());
        assert!(problem(&folder.path().join("notes.txt")).starts_with("expected a .json file"));
    }

    #[test]
    fn more_than_fits_in_memory_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge.jsonl");
        fs::File::create(&path)
            .unwrap()
            .set_len(BYTES_MAX + 1)
            .unwrap();
        assert!(problem(&path).contains("more than 256 MiB"));
    }

    #[test]
    fn requests_are_made_in_the_form_of_the_example() {
        let one = signature(&[("x", ElementType::Int64, &[-1, 2])]);
        let made = Inputs::made(&one, 3, 1, 1).unwrap();
        let text = String::from_utf8(made.bodies[0].to_vec()).unwrap();
        let shape: String = text
            .chars()
            .map(|c| if c.is_ascii_digit() { 'n' } else { c })
            .collect();
        assert_eq!(shape, "{\"data\":[[n,n],[n,n],[n,n]]}");
        assert_eq!(
            made.words,
            "1 request made from the model's inputs, 3 rows each, seed 1"
        );
        let none = Inputs::made(&signature(&[]), 1, 1, 1).unwrap();
        assert_eq!(
            none.bodies[0],
            JsonScorer::example_body(&signature(&[])).unwrap()
        );
    }

    #[test]
    fn a_seed_repeats_its_requests_which_differ_from_each_other() {
        let model = signature(&[("x", ElementType::Fp32, &[-1, 4])]);
        let bodies = |seed| Inputs::made(&model, 1, 64, seed).unwrap().bodies;
        assert_eq!(bodies(1), bodies(1));
        assert_ne!(bodies(1), bodies(2));
        assert_eq!(bodies(1).into_iter().collect::<HashSet<_>>().len(), 64);
    }

    #[test]
    fn rows_that_the_model_does_not_take_are_refused() {
        let fixed = signature(&[("x", ElementType::Fp32, &[1, 4])]);
        assert_eq!(
            Inputs::made(&fixed, 8, 1, 1).unwrap_err().to_string(),
            "the model takes no 8 rows in one request: \"x\" has shape [1, 4]; ask for the rows that it has, or leave it open"
        );
        assert!(Inputs::made(&fixed, 1, 1, 1).is_ok());
        assert!(Inputs::made(&signature(&[("x", ElementType::Fp32, &[8, 4])]), 8, 1, 1).is_ok());
    }

    #[test]
    fn of_images_as_many_are_made_as_fit_and_it_is_said() {
        let large = signature(&[("x", ElementType::Fp32, &[-1, 3, 1024, 1024])]);
        let made = Inputs::made(&large, 1, 256, 1).unwrap();
        assert_eq!(made.bodies.len(), 5);
        assert_eq!(
            made.words,
            "5 requests made from the model's inputs, 1 row each, seed 1 (of 256 no more fit: each has 3145728 values)"
        );
    }

    #[test]
    fn a_request_that_would_fill_the_memory_is_refused() {
        let image = signature(&[("x", ElementType::Fp32, &[-1, 3, 224, 224])]);
        let told = Inputs::made(&image, 128, 64, 1).unwrap_err().to_string();
        assert!(
            told.starts_with("a request of 19267584 values is more than"),
            "{told}"
        );
        let absurd = signature(&[("x", ElementType::Fp32, &[i64::MAX, i64::MAX])]);
        assert!(matches!(
            Inputs::made(&absurd, 1, 1, 1),
            Err(InputsError::TooManyValues { .. })
        ));
        assert!(matches!(
            Inputs::made(&image, 1, 0, 1),
            Err(InputsError::Nothing { .. })
        ));
        assert!(matches!(
            Inputs::made(&image, 0, 1, 1),
            Err(InputsError::Nothing { .. })
        ));
    }

    fn any_input() -> impl Strategy<Value = (ElementType, Vec<i64>)> {
        let datatype = prop::sample::select(vec![
            ElementType::Bool,
            ElementType::Uint8,
            ElementType::Uint16,
            ElementType::Uint32,
            ElementType::Uint64,
            ElementType::Int8,
            ElementType::Int16,
            ElementType::Int32,
            ElementType::Int64,
            ElementType::Fp16,
            ElementType::Bf16,
            ElementType::Fp32,
            ElementType::Fp64,
            ElementType::Bytes,
        ]);
        (datatype, prop::collection::vec(-1_i64..4, 0..4))
    }

    proptest! {
        #[test]
        fn the_scorer_takes_every_request_that_is_made(
            inputs in prop::collection::vec(any_input(), 0..4),
            rows in 1_usize..4,
            seed: u64,
        ) {
            let named = inputs.into_iter().enumerate().map(|(at, (datatype, shape))| TensorSpec {
                name: format!("input \"{at}\""),
                any_rank: shape.is_empty() && at == 0,
                datatype,
                shape,
            });
            let signature = Signature { inputs: named.collect(), outputs: Vec::new() };
            let made = match Inputs::made(&signature, rows, 3, seed) {
                Err(InputsError::Rows { .. }) => Inputs::made(&signature, 1, 3, seed),
                made => made,
            };
            let scorer = JsonScorer::new(signature);
            for body in made.unwrap().bodies {
                scorer.preprocess(&body).unwrap();
            }
        }
    }
}
