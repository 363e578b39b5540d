//! A model where it lies now: which files belong to it, and whether all of them are there.
//!
//! A single file that is ONNX, by its name or else by its content, becomes `model.onnx`, and the files that it keeps data in come
//! along under the places that it names. Any other file keeps its name, for a script may know what to do with it. In a folder
//! every file keeps its name; hidden files are left out, unless the model keeps data in them.
//!
//! Threads: everything blocks. Not here: copying (`files`), how an ONNX file is read (`engine::ExternalTensors`).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use crate::control::models::ModelStoreError;
use crate::control::models::error::{folder_of, unread};
use crate::control::models::folder::{Whose, files_of, text};
use crate::engine::{ExternalTensor, ExternalTensors, is_onnx, is_ort_format};
use crate::plain_file;

/// The file that a single ONNX file becomes, and the one that is taken where a folder holds several.
pub(super) const MODEL_FILE: &str = "model.onnx";

/// Names that a model without an ONNX file is told by.
const NAMES_TOLD_MAX: usize = 5;

/// The files of a model, by the name they get, sorted by it.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) files: BTreeMap<String, PathBuf>,
    /// The name of the ONNX file, where there is one.
    onnx: Option<String>,
}

impl Source {
    /// The model at a path as a person gives it: a file, or a folder.
    ///
    /// # Errors
    ///
    /// [`ModelStoreError`] when nothing is there, or it is not clear which file is the model, or data that it needs are not there.
    pub(super) fn at(path: &Path) -> Result<Self, ModelStoreError> {
        let kind = match fs::metadata(path) {
            Ok(kind) => kind,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ModelStoreError::NoSuchPath(path.to_owned()));
            }
            Err(error) => return Err(unread(path)(error)),
        };
        let mut source = if kind.is_dir() {
            Self::of_folder(path)?
        } else if !kind.is_file() {
            // A pipe or a device may have no end.
            plain_file::check_kind(kind.file_type()).map_err(unread(path))?;
            return Err(ModelStoreError::NoSuchPath(path.to_owned()));
        } else if kind.len() == 0 {
            return Err(ModelStoreError::Empty(path.to_owned()));
        } else {
            Self::of_file(path)?
        };
        if let Some(onnx) = source.onnx_path() {
            if is_ort_format(&onnx).map_err(unread(&onnx))? {
                return Err(ModelStoreError::OrtFormat(onnx));
            }
            source.add_data(&onnx)?;
        }
        Ok(source)
    }

    fn of_folder(folder: &Path) -> Result<Self, ModelStoreError> {
        let files = files_of(folder, Whose::Given)?;
        if files.is_empty() {
            return Err(ModelStoreError::NoModel(folder.to_owned()));
        }
        let onnx = onnx_among(folder, &files)?;
        Ok(Self { files, onnx })
    }

    fn of_file(file: &Path) -> Result<Self, ModelStoreError> {
        let name = file.file_name().unwrap_or_default();
        let onnx = has_onnx_ending(name.as_bytes()) || is_onnx(file).map_err(unread(file))?;
        let name = if onnx {
            MODEL_FILE.to_owned()
        } else {
            text(name, file)?
        };
        Ok(Self {
            onnx: onnx.then(|| name.clone()),
            files: BTreeMap::from([(name, file.to_owned())]),
        })
    }

    /// Adds the files that the ONNX file keeps data in, unless they are known already.
    fn add_data(&mut self, onnx: &Path) -> Result<(), ModelStoreError> {
        let folder = self.onnx.as_deref().and_then(|name| name.rsplit_once('/'));
        let folder = folder.map(|(folder, _)| folder.to_owned());
        for (name, data) in data_files(onnx)? {
            let name = match &folder {
                Some(folder) => format!("{folder}/{name}"),
                None => name,
            };
            match self.files.get(&name) {
                // A single file that becomes `model.onnx` beside another one of that name, which holds its data.
                Some(known) if *known == *onnx && data != *onnx => {
                    let path = folder_of(onnx).to_owned();
                    let found = [onnx, &data].map(|path| path.display().to_string()).into();
                    return Err(ModelStoreError::SeveralModels { path, found });
                }
                Some(_) => {}
                None => drop(self.files.insert(name, data)),
            }
        }
        Ok(())
    }

    /// Where the ONNX file is.
    pub(super) fn onnx_path(&self) -> Option<PathBuf> {
        self.files.get(self.onnx.as_ref()?).cloned()
    }

    /// The first few names, where none is that of an ONNX file.
    pub(super) fn without_onnx(&self) -> Option<Vec<String>> {
        self.onnx.is_none().then(|| first_names(&self.files))
    }

    /// Whether a copy of the files is a whole model too: another one may have taken their place while they were copied.
    pub(super) fn is_whole_in(&self, copy: &Path) -> bool {
        let onnx = self.onnx.as_ref().map(|name| copy.join(name));
        onnx.is_none_or(|onnx| data_files(&onnx).is_ok())
    }
}

fn has_onnx_ending(name: &[u8]) -> bool {
    let ending = name.rsplit(|byte| *byte == b'.').next();
    ending.is_some_and(|ending| ending.len() < name.len() && ending.eq_ignore_ascii_case(b"onnx"))
}

/// The ONNX file of a folder: `model.onnx`, else the only `.onnx` at its top, else that of a folder named by its version.
pub(super) fn onnx_among(
    folder: &Path,
    files: &BTreeMap<String, PathBuf>,
) -> Result<Option<String>, ModelStoreError> {
    if files.contains_key(MODEL_FILE) {
        return Ok(Some(MODEL_FILE.to_owned()));
    }
    let on_top = |name: &&String| !name.contains('/') && has_onnx_ending(name.as_bytes());
    let mut found: Vec<_> = files.keys().filter(on_top).cloned().collect();
    if found.len() > 1 {
        let path = folder.to_owned();
        return Err(ModelStoreError::SeveralModels { path, found });
    }
    match found.pop() {
        None => in_versions(folder, files),
        found => Ok(found),
    }
}

/// The ONNX file of a folder as Triton has it: `1/model.onnx`, or `NAME/1/model.onnx`. Of several versions the highest, also where it
/// holds none: a lower one in its stead would be served without a word.
fn in_versions(
    folder: &Path,
    files: &BTreeMap<String, PathBuf>,
) -> Result<Option<String>, ModelStoreError> {
    let mut highest: BTreeMap<&str, (u64, Vec<&String>)> = BTreeMap::new();
    for name in files.keys() {
        let Some((model, version)) = version_of(name) else {
            continue;
        };
        let known = highest.entry(model).or_default();
        if version > known.0 {
            *known = (version, Vec::new());
        }
        if version == known.0 && has_onnx_ending(name.as_bytes()) {
            known.1.push(name);
        }
    }
    let mut found: Vec<&String> = Vec::new();
    for (_, names) in highest.into_values() {
        let named = names.iter().find(|name| name.ends_with("/model.onnx"));
        match named {
            Some(named) => found.push(named),
            None => found.extend(names),
        }
    }
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some((*one).clone())),
        several => Err(ModelStoreError::SeveralModels {
            path: folder.to_owned(),
            found: several.iter().map(|name| (*name).clone()).collect(),
        }),
    }
}

/// The model and the version in the name of a file in a folder of versions; the model is empty where the folder is that of one.
fn version_of(name: &str) -> Option<(&str, u64)> {
    let (folder, _) = name.rsplit_once('/')?;
    let (model, version) = folder.rsplit_once('/').unwrap_or(("", folder));
    let is_number = version.bytes().all(|byte| byte.is_ascii_digit());
    let version = version.parse().ok().filter(|_| is_number)?;
    (!model.contains('/')).then_some((model, version))
}

/// A few names for people, the rest as dots.
pub(super) fn first_names(files: &BTreeMap<String, PathBuf>) -> Vec<String> {
    let mut names: Vec<_> = files.keys().take(NAMES_TOLD_MAX).cloned().collect();
    if files.len() > NAMES_TOLD_MAX {
        names.push("..".to_owned());
    }
    names
}

/// The files that an ONNX file keeps data in, by their place below its folder. A file that is no ONNX names none.
///
/// # Errors
///
/// When one is missing, lies outside of the folder, or is too short for what it should hold.
fn data_files(model: &Path) -> Result<BTreeMap<String, PathBuf>, ModelStoreError> {
    let mut tensors = ExternalTensors::of(model).map_err(unread(model))?;
    let mut known: BTreeMap<String, (PathBuf, u64)> = BTreeMap::new();
    while let Some(tensor) = tensors.next_tensor().map_err(unread(model))? {
        let name = name_of_data(model, &tensor)?;
        let (path, bytes) = match known.get(&name) {
            Some(known) => known.clone(),
            None => find_data(model, &name, &tensor)?,
        };
        let end = tensor.offset.saturating_add(tensor.length.unwrap_or(0));
        if end > bytes {
            return Err(ModelStoreError::DataTooShort {
                model: model.to_owned(),
                data: path,
                tensor: tensor.name,
                bytes,
                offset: tensor.offset,
                end,
            });
        }
        known.entry(name).or_insert((path, bytes));
    }
    let paths = known.into_iter().map(|(name, (path, _))| (name, path));
    Ok(paths.collect())
}

/// The place of a tensor's data below the folder of its model, in one form of the many that it may be written in.
fn name_of_data(model: &Path, tensor: &ExternalTensor) -> Result<String, ModelStoreError> {
    let written = Path::new(OsStr::from_bytes(&tensor.location));
    let mut parts = Vec::new();
    for part in written.components() {
        match part {
            Component::Normal(part) => parts.push(text(part, &folder_of(model).join(written))?),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(outside(model, tensor));
            }
        }
    }
    Ok(parts.join("/"))
}

/// Where the data are, and how many bytes they have.
fn find_data(
    model: &Path,
    name: &str,
    tensor: &ExternalTensor,
) -> Result<(PathBuf, u64), ModelStoreError> {
    let folder = folder_of(model);
    let path = folder.join(name);
    let real = match fs::canonicalize(&path) {
        Ok(real) => real,
        Err(error) if is_about_the_name(&error) => return Err(missing(model, tensor)),
        Err(error) => return Err(unread(&path)(error)),
    };
    let folder = fs::canonicalize(folder).map_err(unread(folder))?;
    if !real.starts_with(folder) {
        return Err(outside(model, tensor));
    }
    let kind = fs::metadata(&real).map_err(unread(&path))?;
    if !kind.is_file() {
        return Err(missing(model, tensor));
    }
    Ok((path, kind.len()))
}

/// Whether no file has this name, or none could.
fn is_about_the_name(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidFilename
    )
}

fn missing(model: &Path, tensor: &ExternalTensor) -> ModelStoreError {
    ModelStoreError::MissingData {
        model: model.to_owned(),
        tensor: tensor.name.clone(),
        location: String::from_utf8_lossy(&tensor.location).into_owned(),
    }
}

fn outside(model: &Path, tensor: &ExternalTensor) -> ModelStoreError {
    ModelStoreError::DataOutside {
        model: model.to_owned(),
        tensor: tensor.name.clone(),
        location: String::from_utf8_lossy(&tensor.location).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::control::refusal::ErrorKind;
    use crate::engine::written::{bytes, external, model, model_with_data};

    /// A folder with files, and a model in it.
    struct Place(tempfile::TempDir);

    impl Place {
        fn with(files: &[(&str, &[u8])]) -> Self {
            let place = Self(tempfile::tempdir().expect("a folder"));
            for (name, content) in files {
                let path = place.path(name);
                fs::create_dir_all(folder_of(&path)).expect("made");
                fs::write(path, content).expect("written");
            }
            place
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// Names of the files that belong to the model at a path.
        fn names(&self, name: &str) -> Vec<String> {
            let source = Source::at(&self.path(name)).expect("a model");
            source.files.into_keys().collect()
        }

        /// Why the model at a path is refused; the folder is `[folder]`.
        fn refusal(&self, name: &str) -> String {
            let refused = Source::at(&self.path(name)).expect_err("refused");
            assert_eq!(refused.kind(), ErrorKind::Invalid);
            let folder = self.0.path().display().to_string();
            let said = refused.to_string().replace(&folder, "[folder]");
            said.replace("/./", "/")
        }
    }

    #[test]
    fn a_file_takes_the_files_along_that_it_keeps_data_in() {
        let tensors = [("x.onnx_data", "0"), ("./deep/.w", "2"), ("deep//w", "0")].map(
            |(location, offset)| {
                let entries = [("location", location), ("offset", offset), ("length", "2")];
                bytes(5, &external("w", &entries))
            },
        );
        let place = Place::with(&[
            ("x.onnx", &model(&tensors.concat())),
            ("x.onnx_data", b"12"),
            ("deep/.w", b"1234"),
            ("deep/w", b"12"),
            ("other.txt", b"no part of it"),
        ]);
        let all = ["deep/.w", "deep/w", "model.onnx", "x.onnx_data"];
        assert_eq!(place.names("x.onnx"), all);
        // A folder has its other files too.
        let all = ["deep/.w", "deep/w", "other.txt", "x.onnx", "x.onnx_data"];
        assert_eq!(place.names("."), all);
    }

    #[test]
    fn a_model_whose_data_is_missing_is_refused_with_what_to_do() {
        let place = Place::with(&[("x.onnx", &model_with_data("x.onnx_data", 8))]);
        let said = "[folder]/x.onnx keeps its tensor \"w\" in \"x.onnx_data\", which is not beside it: put that file into [folder], \
                    or export the model with its data inside";
        assert_eq!(place.refusal("x.onnx"), said);
        assert_eq!(place.refusal("."), said);
        // A folder of that name holds no data, and some names no file can have.
        let long = "n".repeat(300);
        for location in ["sub", "", "x.onnx/w", "a\0b", &long] {
            let place = Place::with(&[
                ("x.onnx", &model_with_data(location, 8)),
                ("sub/w", b"12345678"),
            ]);
            let said = place.refusal("x.onnx");
            assert!(
                said.contains("which is not beside it"),
                "{location:?}: {said}"
            );
        }
    }

    #[test]
    fn data_outside_of_the_folder_is_refused() {
        let outside = Place::with(&[("w", b"12345678")]);
        let elsewhere = outside.path("w").display().to_string();
        for location in ["../w", "sub/../../w", &elsewhere, "link", "linked/w"] {
            let place = Place::with(&[
                ("m/x.onnx", &model_with_data(location, 8)),
                ("w", b"12345678"),
            ]);
            symlink(outside.path("w"), place.path("m/link")).expect("a link");
            symlink(outside.0.path(), place.path("m/linked")).expect("a link");
            assert_eq!(
                place.refusal("m/x.onnx"),
                format!(
                    "[folder]/m/x.onnx keeps its tensor \"w\" in {location:?}, which leads out of [folder]/m: put the data itself \
                     there, and name it in the model by its path from there"
                )
            );
            assert!(
                place.refusal("m").contains("out of [folder]/m"),
                "{location}"
            );
        }
    }

    #[test]
    fn a_link_within_the_folder_is_followed() {
        let place = Place::with(&[
            ("x.onnx", &model_with_data("here/w", 8)),
            ("sub/w", b"12345678"),
        ]);
        symlink("sub", place.path("here")).expect("a link");
        assert_eq!(place.names("x.onnx"), ["here/w", "model.onnx"]);
        assert_eq!(place.names("."), ["here/w", "sub/w", "x.onnx"]);
    }

    #[test]
    fn data_that_was_cut_off_is_refused() {
        let entries = [("location", "w"), ("offset", "4"), ("length", "8")];
        let graph = [
            bytes(5, &external("fits", &[("location", "w"), ("length", "10")])),
            bytes(5, &external("bias", &entries)),
        ];
        let place = Place::with(&[("x.onnx", &model(&graph.concat())), ("w", b"1234567890")]);
        assert_eq!(
            place.refusal("x.onnx"),
            "[folder]/w has 10 bytes, and [folder]/x.onnx keeps its tensor \"bias\" in bytes 4 to 12 of it: copy it again, or export \
             the model anew"
        );
        let huge = [
            ("location", "w"),
            ("offset", "18446744073709551615"),
            ("length", "8"),
        ];
        let place = Place::with(&[
            ("x.onnx", &model(&bytes(5, &external("w", &huge)))),
            ("w", b"1"),
        ]);
        assert!(place.refusal(".").contains("has 1 bytes"));
    }

    #[test]
    fn a_folder_of_versions_is_taken_by_the_highest_of_one_model() {
        let onnx = |files: &[&str]| {
            let files: Vec<(&str, &[u8])> = files.iter().map(|name| (*name, &b"x"[..])).collect();
            let place = Place::with(&files);
            let files = files_of(place.0.path(), Whose::Given).expect("files");
            onnx_among(place.0.path(), &files)
        };
        for (files, model) in [
            (
                &["1/model.onnx", "2/model.onnx", "10/model.onnx"][..],
                Some("10/model.onnx"),
            ),
            (
                &["digits/1/model.onnx", "digits/config.pbtxt"],
                Some("digits/1/model.onnx"),
            ),
            (
                &["digits/3/a.onnx", "digits/3/model.onnx"],
                Some("digits/3/model.onnx"),
            ),
            (
                &["digits/3/a.ONNX", "digits/2/b.onnx"],
                Some("digits/3/a.ONNX"),
            ),
            (&["top.onnx", "1/model.onnx"], Some("top.onnx")),
            (&["1/model.onnx", "2/model.pt"], None),
            (&["a/b/1/model.onnx"], None),
            (
                &[
                    "v1/model.onnx",
                    "-1/model.onnx",
                    "+1/model.onnx",
                    "model.pkl",
                ],
                None,
            ),
            (&["99999999999999999999/model.onnx"], None),
        ] {
            assert_eq!(
                onnx(files).expect("one model").as_deref(),
                model,
                "{files:?}"
            );
        }
        for several in [
            &["a/1/model.onnx", "b/1/model.onnx"][..],
            &["1/a.onnx", "1/b.onnx"],
        ] {
            let refused = onnx(several).expect_err("refused").to_string();
            assert!(
                refused.contains(several[0]) && refused.contains(several[1]),
                "{refused}"
            );
        }
    }

    #[test]
    fn data_beside_a_model_in_a_folder_of_versions_stays_there() {
        let place = Place::with(&[("m/1/x.onnx", &model_with_data("w", 1)), ("m/1/w", b"1")]);
        assert_eq!(place.names("."), ["m/1/w", "m/1/x.onnx"]);
        let hidden = Place::with(&[("m/1/x.onnx", &model_with_data(".w", 1)), ("m/1/.w", b"1")]);
        assert_eq!(hidden.names("."), ["m/1/.w", "m/1/x.onnx"]);
        let source = Source::at(place.0.path()).expect("a model");
        assert!(source.is_whole_in(place.0.path()));
        assert!(!source.is_whole_in(hidden.path("m").as_path()));
    }

    #[test]
    fn a_copy_whose_model_names_other_data_is_not_whole() {
        let files: &[(&str, &[u8])] = &[("x.onnx", &model_with_data("w", 1)), ("w", b"1")];
        let place = Place::with(files);
        let source = Source::at(&place.path("x.onnx")).expect("a model");
        let copy = |model: &[u8]| Place::with(&[("model.onnx", model), ("w", b"1")]);
        assert!(source.is_whole_in(copy(&model_with_data("w", 1)).0.path()));
        assert!(!source.is_whole_in(copy(&model_with_data("v", 1)).0.path()));
        assert!(!source.is_whole_in(copy(&model_with_data("w", 2)).0.path()));
    }

    #[test]
    fn data_that_would_take_the_place_of_the_model_is_refused() {
        let place = Place::with(&[
            ("x.onnx", &model_with_data("model.onnx", 1)),
            ("model.onnx", b"1"),
        ]);
        assert_eq!(
            place.refusal("x.onnx"),
            "[folder] holds several models ([folder]/x.onnx, [folder]/model.onnx): keep one, or name one `model.onnx`"
        );
    }

    #[test]
    fn a_file_in_ort_format_is_named_as_such_alone_and_in_a_folder() {
        let place = Place::with(&[("converted.onnx", b"\x18\0\0\0ORTM\0\0\0\0")]);
        for path in ["converted.onnx", "."] {
            let words = place.refusal(path);
            assert!(
                words.contains("converted.onnx is in ONNX Runtime's own format (ORT)"),
                "{words}"
            );
        }
    }

    #[test]
    fn what_only_resembles_a_model_is_not_judged_here() {
        let cut = model_with_data("nowhere", 1);
        let place = Place::with(&[("cut.onnx", &cut[..cut.len() - 4]), ("text.onnx", b"hello")]);
        for name in ["cut.onnx", "text.onnx"] {
            assert_eq!(place.names(name), ["model.onnx"]);
        }
    }

    #[test]
    fn a_single_file_is_onnx_by_its_ending_or_else_by_its_content() {
        let onnx = model(b"");
        let place = Place::with(&[
            ("a.OnNx", b"x"),
            ("blob", &onnx),
            ("model.bin", &onnx),
            ("model.pkl", b"x"),
            ("onnx", b"x"),
        ]);
        for name in ["a.OnNx", "blob", "model.bin"] {
            assert_eq!(place.names(name), ["model.onnx"], "{name}");
        }
        for name in ["model.pkl", "onnx"] {
            assert_eq!(place.names(name), [name]);
        }
    }

    #[test]
    fn a_folder_without_onnx_is_a_model_that_is_told_by_its_first_files() {
        let place = Place::with(&[("b.pkl", b"b"), ("sub/x.onnx", b"x"), ("a.json", b"a")]);
        let source = Source::at(&place.path(".")).expect("a model");
        let told = source.without_onnx().expect("no ONNX file");
        assert_eq!(told, ["a.json", "b.pkl", "sub/x.onnx"]);
        let many: Vec<_> = (0..9).map(|no| (no.to_string(), &b"x"[..])).collect();
        let many: Vec<_> = many
            .iter()
            .map(|(name, content)| (name.as_str(), *content))
            .collect();
        let source = Source::at(Place::with(&many).0.path()).expect("a model");
        let told = source.without_onnx().expect("no ONNX file");
        assert_eq!(told, ["0", "1", "2", "3", "4", ".."]);
    }

    #[test]
    fn a_name_that_is_not_utf8_is_refused_and_not_made_into_another() {
        let place = Place::with(&[("model.onnx", b"m")]);
        let name = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        for bytes in [&b"w\xff.bin"[..], b"w\xfe.bin"] {
            fs::write(place.0.path().join(name(bytes)), "w").expect("written");
        }
        let said = place.refusal(".");
        assert!(said.starts_with("the name of \"[folder]/w\\xF"), "{said}");
        assert!(said.ends_with(".bin\" is not UTF-8: rename it"), "{said}");
        // The name of a file that becomes `model.onnx` is not kept.
        fs::write(place.0.path().join(name(b"\xff.onnx")), "m").expect("written");
        let source = Source::at(&place.0.path().join(name(b"\xff.onnx"))).expect("a model");
        assert!(source.files.contains_key(MODEL_FILE));
    }
}
