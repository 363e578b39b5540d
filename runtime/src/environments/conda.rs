//! Conda files, read as what pip is asked for. Pure.
//!
//! Packages come from the Python index, under the name that it has for them. What only conda's channels have is refused, all of it in
//! one message: an environment that lacks something would fail later, and less clearly.
//!
//! Not here: lines of pip (`requirements`), and which Python is found (`python`).

use std::io;
use std::path::Path;

use super::requirements::{Origin, Reader, Requirements, split_name};
use super::wish::PythonWish;
use crate::spec::{Content, Fields, Node, Place, Problem, text};

/// Packages that the Python index has under another name.
const RENAMED: &[(&str, &str)] = &[
    ("_py-xgboost-cpu", "xgboost"),
    ("black-jupyter", "black"),
    ("dask-core", "dask"),
    ("faiss", "faiss-cpu"),
    ("matplotlib-base", "matplotlib"),
    ("msgpack-python", "msgpack"),
    ("opencv", "opencv-python-headless"),
    ("psycopg2", "psycopg2-binary"),
    ("py-opencv", "opencv-python-headless"),
    ("py-xgboost", "xgboost"),
    ("py-xgboost-cpu", "xgboost"),
    ("pyqt", "pyqt5"),
    ("pytables", "tables"),
    ("python-flatbuffers", "flatbuffers"),
    ("python-graphviz", "graphviz"),
    ("pytorch", "torch"),
    ("pytorch-cpu", "torch"),
    ("ruamel-yaml", "ruamel.yaml"),
    ("seaborn-base", "seaborn"),
    ("tensorflow-base", "tensorflow"),
    ("tensorflow-mkl", "tensorflow"),
];

/// Packages that only conda's channels have, or that are something else on the Python index.
const CHANNELS_ALONE: &[&str] = &[
    "bash",
    "binutils",
    "blas",
    "boost",
    "bzip2",
    "c-compiler",
    "ca-certificates",
    "cairo",
    "compilers",
    "conda",
    "cpuonly",
    "cudatoolkit",
    "cudnn",
    "curl",
    "cxx-compiler",
    "expat",
    "ffmpeg",
    "fontconfig",
    "fortran-compiler",
    "freetype",
    "gcc",
    "geos",
    "gettext",
    "gfortran",
    "giflib",
    "git",
    "git-lfs",
    "glib",
    "gmp",
    "gnutls",
    "graphviz",
    "gxx",
    "hdf5",
    "icu",
    "jpeg",
    "krb5",
    "lame",
    "lcms2",
    "ld-impl-linux-64",
    "llvm-openmp",
    "make",
    "mamba",
    "micromamba",
    "mpfr",
    "mpich",
    "nccl",
    "ncurses",
    "nettle",
    "nodejs",
    "nomkl",
    "openblas",
    "openh264",
    "openjdk",
    "openmpi",
    "openssl",
    "pandoc",
    "pcre",
    "pcre2",
    "perl",
    "pixman",
    "pkg-config",
    "proj",
    "python-abi",
    "pytorch-cuda",
    "pytorch-mutex",
    "r-base",
    "readline",
    "ruby",
    "rust",
    "snappy",
    "sqlite",
    "sysroot-linux-64",
    "tesseract",
    "tk",
    "unixodbc",
    "unzip",
    "wget",
    "xz",
    "yaml",
    "zeromq",
    "zlib",
    "zstd",
];

/// Beginnings of names that only conda's channels have.
const CHANNELS_PREFIXES: &[&str] = &[
    "aws-c-",
    "aws-sdk-cpp",
    "clang",
    "cuda-",
    "gcc-",
    "gxx-",
    "gfortran-",
    "lib",
    "openmp-",
    "r-",
    "spacy-model-",
    "xorg-",
];

/// Names that begin so and are on the Python index all the same.
const INDEX_AFTER_ALL: &[&str] = &[
    "cuda-python",
    "libcst",
    "liblinear-official",
    "libpysal",
    "librosa",
    "libsass",
    "libsvm-official",
    "libclang",
    "libtmux",
    "libarchive-c",
    "libretranslate",
    "clang-format",
];

/// What a conda file says.
#[derive(Debug, Default)]
pub(super) struct CondaFile {
    pub(super) name: Option<String>,
    pub(super) python: Option<PythonWish>,
    pub(super) requirements: Requirements,
    /// Words on what has no effect.
    pub(super) notes: Vec<String>,
}

/// Reads a conda file that is a tree of values already.
pub(super) fn read(
    node: Node,
    file: &Path,
    include: &dyn Fn(&Path) -> io::Result<String>,
    problems: &mut Vec<Problem>,
) -> CondaFile {
    let mut fields = Fields::open(node, problems);
    let mut read = CondaFile {
        name: fields.read("name", text),
        ..CondaFile::default()
    };
    if let Some(channels) = fields.take("channels") {
        read.notes.extend(channels_note(&channels));
    }
    if fields.take("variables").is_some() {
        let note = "variables of the conda file are kept without effect; write environment_variables of the deployment instead";
        read.notes.push(note.to_owned());
    }
    fields.ignore(&["prefix", "platforms", "category"]);
    let items = fields.read("dependencies", list).unwrap_or_default();
    fields.finish(&[]);
    let mut found = Found::default();
    let mut reader = Reader::new(include, problems);
    let mut wrong = Vec::new();
    for item in items {
        if let Err(problem) = found.dependency(item, file, &mut reader) {
            wrong.push(problem);
        }
    }
    read.requirements = reader.finish();
    problems.extend(wrong);
    problems.extend(found.channels_alone());
    read.python = found.python.map(|(wish, _)| wish);
    read
}

fn list(node: Node) -> Result<Vec<Node>, Problem> {
    let wrong = node.expected("a list");
    match node.content {
        Content::List(items) => Ok(items),
        _ => Err(wrong),
    }
}

/// The default channel says nothing; any other may have had other builds of a package.
fn channels_note(channels: &Node) -> Option<String> {
    let Content::List(items) = &channels.content else {
        return None;
    };
    let names = items.iter().filter_map(|item| match &item.content {
        Content::Text(name) if name != "defaults" && name != "nodefaults" => Some(name.as_str()),
        _ => None,
    });
    let names = names.collect::<Vec<_>>().join(", ");
    (!names.is_empty()).then(|| {
        format!("channels ({names}) are kept without effect; packages come from the Python index")
    })
}

/// What the list of dependencies has named so far.
#[derive(Default)]
struct Found {
    python: Option<(PythonWish, Option<Place>)>,
    /// Names that only conda's channels have, with their lines.
    alone: Vec<(String, Option<Place>)>,
}

impl Found {
    fn dependency(
        &mut self,
        item: Node,
        file: &Path,
        reader: &mut Reader<'_>,
    ) -> Result<(), Problem> {
        match &item.content {
            Content::Text(spec) => self.spec(spec, &item, reader),
            Content::Map(entries) => match &entries[..] {
                [(key, lines)] if key == "pip" => pip_part(lines, file, reader),
                _ => {
                    Err(item
                        .problem("expected a package or `pip:` with a list, found another mapping"))
                }
            },
            _ => Err(item.expected("a package such as numpy=1.21, or `pip:` with a list")),
        }
    }

    fn spec(&mut self, spec: &str, at: &Node, reader: &mut Reader<'_>) -> Result<(), Problem> {
        let spec = MatchSpec::parse(spec).map_err(|message| at.problem(message))?;
        let name = normalised(&spec.name);
        match name.as_str() {
            // The tool that installs; which version of it is no part of what it installs.
            "pip" => Ok(()),
            "python" => self.python(&spec.version, at),
            _ if is_channels_alone(&name) => {
                self.alone.push((spec.name, at.place));
                Ok(())
            }
            _ => {
                let renamed = RENAMED.iter().find(|(conda, _)| *conda == name);
                let name = renamed.map_or(name.as_str(), |(_, index)| index);
                let version = pip_version(&spec.version).map_err(|message| at.problem(message))?;
                reader.push(format!("{name}{version}"));
                Ok(())
            }
        }
    }

    fn python(&mut self, version: &str, at: &Node) -> Result<(), Problem> {
        if version.is_empty() || version == "*" {
            return Ok(());
        }
        let wish: PythonWish = version
            .parse()
            .map_err(|message: String| at.problem(message))?;
        if let Some((first, place)) = &self.python {
            let line = place.map_or_else(String::new, |place| format!(" on line {}", place.line));
            return Err(at.problem(format!(
                "expected one Python, found {wish} here and {first}{line}"
            )));
        }
        self.python = Some((wish, at.place));
        Ok(())
    }

    /// One problem for all of them.
    fn channels_alone(&self) -> Option<Problem> {
        let (_, place) = self.alone.first()?;
        let words = self.alone.iter().map(|(name, place)| {
            let line = place.map_or_else(String::new, |place| format!(" (line {})", place.line));
            format!("{name}{line}")
        });
        let words = words.collect::<Vec<_>>().join(", ");
        Some(Problem {
            place: *place,
            field: "dependencies".to_owned(),
            message: format!(
                "expected packages of the Python index, found what only conda's channels have: {words}; take them out, and install \
                 with the system's own tools what the script needs of them"
            ),
            suggestion: None,
        })
    }
}

fn pip_part(lines: &Node, file: &Path, reader: &mut Reader<'_>) -> Result<(), Problem> {
    let items = match &lines.content {
        Content::List(items) => items,
        Content::Nothing => return Ok(()),
        _ => return Err(lines.expected("a list")),
    };
    for item in items {
        let Content::Text(line) = &item.content else {
            return Err(item.expected("a requirement such as numpy==1.21.2"));
        };
        let origin = Origin {
            file: file.to_owned(),
            place: item.place,
            field: item.field.clone(),
        };
        reader.line(line, &origin);
    }
    Ok(())
}

/// A package as conda's files name it: `conda-forge::numpy >=1.21,<2`, `numpy=1.21.2=py38_0`.
#[derive(Debug, PartialEq, Eq)]
struct MatchSpec {
    name: String,
    /// As it is written, without the build; empty for any.
    version: String,
}

impl MatchSpec {
    fn parse(text: &str) -> Result<Self, String> {
        // A channel, and its part for a processor: `conda-forge/linux-64::numpy`.
        let spec = text.rsplit("::").next().unwrap_or(text).trim();
        let (name, rest) = split_conda_name(spec);
        if name.is_empty() {
            return Err(format!(
                "expected a package such as numpy=1.21, found {text:?}"
            ));
        }
        if rest.contains('[') {
            return Err(format!(
                "expected a package such as numpy=1.21, found brackets in {text:?}; write it below `pip:`"
            ));
        }
        if rest.contains('|') {
            return Err(format!(
                "expected one version or bounds joined by commas, found alternatives in {text:?}; write the one that is meant"
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            version: without_build(rest),
        })
    }
}

/// Conda's names may begin with an underscore.
fn split_conda_name(spec: &str) -> (&str, &str) {
    let bare = spec.trim_start_matches('_');
    let (name, rest) = split_name(bare);
    if name.is_empty() {
        return ("", rest);
    }
    let end = spec.len() - bare.len() + name.len();
    (&spec[..end], rest)
}

/// The version alone: `=1.21.2=py38_0` and ` 1.21.2 py38_0` name a build of conda's, which nobody else has.
fn without_build(rest: &str) -> String {
    let begins_with_sign = rest.starts_with(['=', '<', '>', '!', '~']);
    let words: Vec<&str> = rest.split_whitespace().collect();
    // `numpy >= 1.21 , < 2` has spaces and no build.
    let joins = |c: char| matches!(c, ',' | '=' | '<' | '>' | '!' | '~');
    let version = match words[..] {
        [version] | [version, _] if !begins_with_sign => format!("=={version}"),
        [version, build] if !version.ends_with(joins) && !build.starts_with(joins) => {
            version.to_owned()
        }
        _ => words.concat(),
    };
    let sign = version.find(|c| !matches!(c, '=' | '<' | '>' | '!' | '~'));
    let (sign, number) = version.split_at(sign.unwrap_or(version.len()));
    match number.split_once('=') {
        // In `>=1.21,<=2` the sign belongs to the next bound.
        Some((exact, _build)) if sign.starts_with('=') && !exact.contains(',') => {
            format!("=={exact}")
        }
        _ => version,
    }
}

/// The version of a conda spec as pip writes it: `=1.21` becomes `==1.21.*`.
fn pip_version(version: &str) -> Result<String, String> {
    if version.is_empty() || version == "==*" || version == "=*" {
        return Ok(String::new());
    }
    let clauses = version.split(',').map(|clause| pip_clause(clause.trim()));
    Ok(clauses.collect::<Result<Vec<_>, _>>()?.join(","))
}

fn pip_clause(clause: &str) -> Result<String, String> {
    let sign = clause.find(|c| !matches!(c, '=' | '<' | '>' | '!' | '~'));
    let (sign, number) = clause.split_at(sign.unwrap_or(clause.len()));
    let glob = number
        .strip_suffix(".*")
        .or_else(|| number.strip_suffix('*'));
    let bare = glob.unwrap_or(number);
    let in_version =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '!' | '_' | '-');
    if !bare.starts_with(|c: char| c.is_ascii_digit()) || !bare.chars().all(in_version) {
        return Err(format!(
            "expected a version such as 1.21.2, 1.21.* or >=1.21,<2, found {clause:?}"
        ));
    }
    // pip knows a series of releases, and no series of release candidates.
    let is_release = bare.chars().all(|c| c.is_ascii_digit() || c == '.');
    match sign {
        "=" | "" if is_release => Ok(format!("=={bare}.*")),
        "==" | "!=" if glob.is_some() && is_release => Ok(format!("{sign}{bare}.*")),
        "=" | "" => Ok(format!("=={bare}")),
        "==" | "!=" | ">=" | "<=" | ">" | "<" | "~=" => Ok(format!("{sign}{bare}")),
        _ => Err(format!(
            "expected one of =, ==, !=, >=, <=, >, < and ~= before a version, found {sign:?}"
        )),
    }
}

/// The name by which the Python index compares: lower case, one dash for any of `-`, `_` and `.`.
fn normalised(name: &str) -> String {
    let mut normalised = String::new();
    for c in name.chars() {
        if !matches!(c, '-' | '_' | '.') {
            normalised.push(c.to_ascii_lowercase());
        } else if !normalised.ends_with('-') {
            normalised.push('-');
        }
    }
    // Names of conda's own begin with an underscore.
    if name.starts_with('_') {
        normalised.replace_range(..1, "_");
    }
    normalised
}

fn is_channels_alone(name: &str) -> bool {
    if RENAMED.iter().any(|(conda, _)| *conda == name) || INDEX_AFTER_ALL.contains(&name) {
        return false;
    }
    name.starts_with('_')
        || CHANNELS_ALONE.contains(&name)
        || CHANNELS_PREFIXES
            .iter()
            .any(|begin| name.starts_with(begin))
        || ["-linux-64", "-linux-aarch64", "-mutex"]
            .iter()
            .any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<CondaFile, String> {
        let node = crate::spec::parse(text, "env.yml").map_err(|error| error.to_string())?;
        let include = |_: &Path| Ok("six\n".to_owned());
        let mut problems = Vec::new();
        let read = read(node, Path::new("/d/env.yml"), &include, &mut problems);
        let words = |problem: &Problem| {
            let line = problem.place.map_or(0, |place| place.line);
            format!("{line}: {problem}")
        };
        if problems.is_empty() {
            Ok(read)
        } else {
            Err(problems.iter().map(words).collect::<Vec<_>>().join("\n"))
        }
    }

    fn line_of(spec: &str) -> Result<String, String> {
        let read = read_text(&format!("dependencies:\n  - {spec:?}\n"))?;
        Ok(read.requirements.lines.join(" "))
    }

    #[test]
    fn the_usual_file_reads_as_it_is_meant() {
        let text = "name: project_environment\n\
                    channels:\n  - defaults\n\
                    dependencies:\n  - python=3.8\n  - pip=20.2\n  - numpy=1.21.2\n  - scikit-learn=0.24\n  - pip:\n    - azureml-defaults\n    \
                    - inference-schema[numpy-support]>=1.3\n    - -r more.txt\n";
        let read = read_text(text).expect("a conda file");
        assert_eq!(read.name.as_deref(), Some("project_environment"));
        assert_eq!(read.python, Some("3.8".parse().expect("a wish")));
        assert_eq!(
            read.requirements.lines,
            [
                "numpy==1.21.2.*",
                "scikit-learn==0.24.*",
                "azureml-defaults",
                "inference-schema[numpy-support]>=1.3",
                "six",
            ]
        );
        assert!(read.notes.is_empty(), "{:?}", read.notes);
    }

    #[test]
    fn specs_of_conda_become_requirements_of_pip() {
        for (spec, line) in [
            ("numpy", "numpy"),
            ("numpy=1.21", "numpy==1.21.*"),
            ("numpy=1.21.*", "numpy==1.21.*"),
            ("numpy==1.21.*", "numpy==1.21.*"),
            ("numpy==1.21.2", "numpy==1.21.2"),
            ("numpy=1.21.2=py38h1234_0", "numpy==1.21.2"),
            ("numpy==1.21.2=py38h1234_0", "numpy==1.21.2"),
            ("numpy 1.21.2 py38h1234_0", "numpy==1.21.2"),
            ("numpy 1.21.*", "numpy==1.21.*"),
            ("numpy 1.21.2", "numpy==1.21.2"),
            ("numpy >=1.21,<2", "numpy>=1.21,<2"),
            ("numpy >=1.21,<2 py38_0", "numpy>=1.21,<2"),
            ("numpy >= 1.21, <= 2", "numpy>=1.21,<=2"),
            ("numpy>=1.21.*", "numpy>=1.21"),
            ("numpy=1.21,!=1.21.3", "numpy==1.21.*,!=1.21.3"),
            ("numpy!=1.21.*", "numpy!=1.21.*"),
            ("numpy~=1.21", "numpy~=1.21"),
            ("numpy=*", "numpy"),
            ("numpy *", "numpy"),
            ("xgboost=1.0rc1", "xgboost==1.0rc1"),
            ("conda-forge::lightgbm>=3", "lightgbm>=3"),
            ("conda-forge/linux-64::lightgbm>=3", "lightgbm>=3"),
            ("PyTorch=1.8", "torch==1.8.*"),
            ("ruamel_yaml", "ruamel.yaml"),
            ("typing_extensions=4", "typing-extensions==4.*"),
            ("py-xgboost", "xgboost"),
            ("pyyaml", "pyyaml"),
            ("librosa", "librosa"),
        ] {
            assert_eq!(line_of(spec).as_deref(), Ok(line), "{spec}");
        }
    }

    #[test]
    fn specs_that_pip_cannot_follow_are_refused_with_their_line() {
        for (spec, words) in [
            (
                "numpy=1.20|1.21",
                "2: dependencies[0]: expected one version or bounds joined by commas",
            ),
            ("numpy[version='>=1']", "found brackets"),
            ("numpy=one", "expected a version such as"),
            ("numpy===", "expected a version such as"),
            ("numpy><1", "expected one of ="),
            ("=1", "expected a package such as"),
            ("::", "expected a package such as"),
            ("python=three", "expected a version of Python such as 3.8"),
        ] {
            let told = line_of(spec).expect_err(spec);
            assert!(told.contains(words), "{spec}: {told}");
        }
    }

    #[test]
    fn all_that_only_channels_have_is_refused_in_one_message() {
        let text = "dependencies:\n  - _libgcc_mutex=0.1\n  - numpy\n  - cudatoolkit=11.1\n  - gcc_linux-64\n  - libstdcxx-ng\n  - r-base\n  - openssl\n";
        assert_eq!(
            read_text(text).expect_err("refused"),
            "2: dependencies: expected packages of the Python index, found what only conda's channels have: _libgcc_mutex (line 2), \
             cudatoolkit (line 4), gcc_linux-64 (line 5), libstdcxx-ng (line 6), r-base (line 7), openssl (line 8); take them out, and \
             install with the system's own tools what the script needs of them"
        );
    }

    #[test]
    fn two_pythons_are_refused() {
        assert_eq!(
            read_text("dependencies:\n  - python=3.8\n  - six\n  - python>=3.9\n")
                .expect_err("refused"),
            "4: dependencies[2]: expected one Python, found >=3.9 here and 3.8 on line 2"
        );
    }

    #[test]
    fn what_is_no_list_or_no_package_is_refused() {
        for (text, words) in [
            ("dependencies: numpy\n", "expected a list, found \"numpy\""),
            ("dependencies: [3]\n", "found 3"),
            ("dependencies: [{npm: [x]}]\n", "found another mapping"),
            ("dependencies: [{pip: x}]\n", "expected a list, found \"x\""),
            ("dependencies: [{pip: [[x]]}]\n", "found a list"),
            (
                "dependancies: [numpy]\n",
                "unknown key; did you mean `dependencies`?",
            ),
            (
                "dependencies: [{pip: ['-e .']}]\n",
                "found an editable install",
            ),
        ] {
            let told = read_text(text).expect_err(text);
            assert!(told.contains(words), "{text}: {told}");
        }
    }

    #[test]
    fn what_has_no_effect_is_noted() {
        let read =
            read_text("channels: [conda-forge]\nvariables: {A: b}\nprefix: /x\n").expect("a file");
        assert_eq!(read.notes.len(), 2);
        assert!(read.notes[0].starts_with("channels (conda-forge) are kept"));
    }

    proptest::proptest! {
        #[test]
        fn no_spec_panics(spec in "[_a-c:=<>!~*|,. 0-9\u{e9}-]{0,24}") {
            drop(MatchSpec::parse(&spec).and_then(|spec| pip_version(&spec.version)));
        }
    }
}
