//! Files that a person names: read up to a bound, and seen from the folder they are in.
//!
//! A named pipe or a device is refused, because it may have no writer or no end. What the shell hands over (standard input, and
//! `/dev/fd/63` of `<(..)`) may be a pipe: it is read to its end as other commands do, up to the same bound, and a person who waits is
//! told for what.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use serde_json::Value;

use super::exit::CliError;
use super::{kept_environments, output};
use crate::admin::attended;
use crate::config::{REQUEST_FILE_BYTES_MAX, SILENCE_TOLD_AFTER, SPEC_FILE_BYTES_MAX};
use crate::plain_file;
pub(super) use crate::plain_file::check_text;
use crate::spec::{
    Assignment, DeploymentName, DeploymentSpec, EndpointFile, EndpointName, EnvironmentSpec,
    ModelSpec, expanded_home, lacks_model_and_type, read_deployment, read_endpoint,
    read_environment, read_model,
};

/// Reads an endpoint file; what the command line says beats what the file says.
pub(super) fn endpoint(path: &Path, overrides: &[Assignment]) -> Result<EndpointFile, CliError> {
    let mut file = read_endpoint(&text(path)?, &shown(path), overrides)?;
    let folder = folder(path)?;
    for deployment in file.deployments.iter_mut().flatten() {
        expand_home(deployment);
        deployment.resolve_paths(&folder);
        kept_environments::resolve(deployment);
    }
    Ok(file)
}

/// Reads a deployment file; what the command line says beats what the file says.
pub(super) fn deployment(
    path: &Path,
    (endpoint, name): (Option<&EndpointName>, Option<&DeploymentName>),
    overrides: &[Assignment],
) -> Result<DeploymentSpec, CliError> {
    let mut all: Vec<Assignment> = name
        .map(|name| assign("name", name.as_str()))
        .into_iter()
        .collect();
    all.extend_from_slice(overrides);
    all.extend(endpoint.map(|endpoint| assign("endpoint_name", endpoint.as_str())));
    let mut deployment = read_deployment(&text(path)?, &shown(path), &all)?;
    expand_home(&mut deployment);
    deployment.resolve_paths(&folder(path)?);
    kept_environments::resolve(&mut deployment);
    Ok(deployment)
}

/// The file of an update.
#[derive(Debug)]
pub(super) enum UpdateFile {
    /// All that a deployment needs.
    Whole(Box<DeploymentSpec>),
    /// Some of it: what it says is assigned, and the rest stays.
    Part {
        name: DeploymentName,
        endpoint_name: Option<EndpointName>,
        set: Vec<Assignment>,
    },
}

/// Reads the file of an update, which may leave out what stays as it is.
pub(super) fn deployment_update(
    path: &Path,
    flags: (Option<&EndpointName>, Option<&DeploymentName>),
    overrides: &[Assignment],
) -> Result<UpdateFile, CliError> {
    let is_set = |key: &str| overrides.iter().any(|one| one.path() == key);
    let (model, kind) = lacks_model_and_type(&text(path)?, &shown(path))?;
    let (lacks_model, lacks_type) = (model && !is_set("model"), kind && !is_set("instance_type"));
    if !lacks_model && !lacks_type {
        let whole = deployment(path, flags, overrides)?;
        return Ok(UpdateFile::Whole(Box::new(whole)));
    }
    let mut all = overrides.to_vec();
    // Read in their place and taken out again: all other checks of a file hold.
    let stand_ins = [
        (lacks_model, "model", "azureml:stand-in:1"),
        (lacks_type, "instance_type", "Standard_F2s_v2"),
    ];
    for (_, key, value) in stand_ins.iter().filter(|(lacks, ..)| *lacks) {
        all.push(assign(key, *value));
    }
    let read = deployment(path, flags, &all)?;
    let mut fields = serde_json::to_value(&read).unwrap_or_default();
    if let Some(fields) = fields.as_object_mut() {
        for (_, key, _) in stand_ins.iter().filter(|(lacks, ..)| *lacks) {
            fields.shift_remove(*key);
        }
        fields.shift_remove("name");
        fields.shift_remove("endpoint_name");
    }
    let mut set = Vec::new();
    assign_each("", &fields, &mut set);
    Ok(UpdateFile::Part {
        name: read.name,
        endpoint_name: read.endpoint_name,
        set,
    })
}

/// Mappings of which an update brings entries, and does not replace the others.
const MERGED: &[&str] = &["properties", "request_settings", "tags"];

/// An assignment for each value. What is nothing in Python does not overwrite.
fn assign_each(path: &str, value: &Value, set: &mut Vec<Assignment>) {
    let is_nothing = match value {
        Value::Null => true,
        Value::Bool(bool) => !bool,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    };
    match value {
        _ if is_nothing => {}
        Value::Object(fields) if path.is_empty() || MERGED.contains(&path) => {
            for (key, value) in fields {
                let below = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                assign_each(&below, value, set);
            }
        }
        value => set.extend(Assignment::new(path, value.clone())),
    }
}

fn home() -> Option<OsString> {
    std::env::var_os("HOME").filter(|home| !home.is_empty())
}

/// Puts the user's home folder into the paths of a file, and says so.
fn expand_home(deployment: &mut DeploymentSpec) {
    if let Some(home) = home() {
        for note in deployment.expand_home(Path::new(&home)) {
            output::complain(&format!("note: {note}\n"));
        }
    }
}

/// Reads an environment file; what the command line says beats what the file says.
pub(super) fn environment(
    path: &Path,
    overrides: &[Assignment],
) -> Result<EnvironmentSpec, CliError> {
    let mut environment = read_environment(&text(path)?, &shown(path), overrides)?;
    kept_environments::resolve_paths(&mut environment.content, &folder(path)?);
    Ok(environment)
}

/// Reads a model file; what the command line says beats what the file says.
pub(super) fn model(path: &Path, overrides: &[Assignment]) -> Result<ModelSpec, CliError> {
    let mut model = read_model(&text(path)?, &shown(path), overrides)?;
    model.path = match home().and_then(|home| expanded_home(&model.path, Path::new(&home))) {
        Some(expanded) => {
            let (written, taken) = (model.path.display(), expanded.display());
            output::complain(&format!("note: {written} is taken as {taken}\n"));
            expanded
        }
        None => path.parent().unwrap_or(Path::new("")).join(model.path),
    };
    Ok(model)
}

/// The share that a file's `mirror_traffic` would have: `green=10`.
pub(super) fn mirror(words: &[String]) -> Result<Assignment, CliError> {
    let mut shares = serde_json::Map::new();
    let text = words.join(" ").replace(" = ", "=");
    for entry in text.split([',', ' ']).filter(|entry| !entry.is_empty()) {
        let (name, share) = entry.split_once([':', '=']).ok_or_else(|| {
            CliError::BadInput(format!(
                "--mirror-traffic: expected a deployment and its percent such as green=10, found {entry:?}"
            ))
        })?;
        let share = share.strip_suffix('%').unwrap_or(share);
        let number = share
            .parse::<i64>()
            .map_or_else(|_| share.into(), Value::from);
        shares.insert(name.to_owned(), number);
    }
    if shares.is_empty() {
        // An unset variable of a script takes nothing away.
        return Err(CliError::BadInput(
            "--mirror-traffic: expected a deployment and its percent such as green=10, found none; green=0 takes it away".to_owned(),
        ));
    }
    Ok(assign("mirror_traffic", shares))
}

/// Assignments as they were typed here; the server has another working folder.
pub(super) fn typed_here(mut assignments: Vec<Assignment>) -> Result<Vec<Assignment>, CliError> {
    if !assignments.is_empty() {
        let here = absolute(Path::new("."))?;
        for assignment in &mut assignments {
            assignment.resolve_paths(&here);
        }
    }
    Ok(assignments)
}

/// A scoring request: the bytes of a file, or of standard input for `-`.
pub(super) fn request(path: &Path) -> Result<Vec<u8>, CliError> {
    bytes(path, REQUEST_FILE_BYTES_MAX)
}

/// Writes a file, or what the shell hands over; a named pipe that nobody reads is not waited for.
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK;
    let flags = flags | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, 0o666.into())?);
    wait_from_now_on(&file)?;
    io::Write::write_all(&mut file, content)
}

/// Has all files and folders that this process makes from now on belong to this user alone, whatever the umask lets others do.
pub(super) fn keep_private() {
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    rustix::process::umask(before | Mode::RWXG | Mode::RWXO);
}

/// The bytes of a file, or of standard input for `-`, at most so many.
fn bytes(path: &Path, bytes_max: u64) -> Result<Vec<u8>, CliError> {
    let read = match HandedOver::at(path) {
        Some(from) => with_words(path, || from.read(path, bytes_max)),
        None => plain_file::read(path, bytes_max),
    };
    read.map_err(|source| CliError::Read {
        path: path.to_owned(),
        source,
    })
}

/// A file descriptor that this process was started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HandedOver {
    Stdin,
    Other,
}

impl HandedOver {
    /// What a path stands for, if not for a file.
    fn at(path: &Path) -> Option<Self> {
        let text = path.to_str()?;
        if matches!(text, "-" | "/dev/stdin") {
            return Some(Self::Stdin);
        }
        let folders = ["/dev/fd/", "/proc/self/fd/"];
        let number = folders
            .iter()
            .find_map(|folder| text.strip_prefix(folder))?;
        match number.parse::<u32>().ok()? {
            0 => Some(Self::Stdin),
            _ => Some(Self::Other),
        }
    }

    fn read(self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        match self {
            Self::Stdin => plain_file::read_up_to(io::stdin().lock(), bytes_max),
            Self::Other => {
                // To open it anew could wait for a writer that has gone; to read it does not.
                let file = plain_file::open_any(path)?;
                wait_from_now_on(&file)?;
                plain_file::read_up_to(file, bytes_max)
            }
        }
    }
}

/// Has a file that was opened without waiting wait when it is used.
fn wait_from_now_on(file: &File) -> io::Result<()> {
    let flags = fcntl_getfl(file)?;
    Ok(fcntl_setfl(file, flags.difference(OFlags::NONBLOCK))?)
}

/// Does something, and tells a person after a while that it waits for this input.
fn with_words<T>(path: &Path, doing: impl FnOnce() -> T) -> T {
    let words = match path == Path::new("-") {
        true => "waiting for the end of standard input\n".to_owned(),
        false => format!("waiting for the end of {}\n", path.display()),
    };
    let tell: fn(&str) = output::complain;
    let tell = io::stderr().is_terminal().then_some(tell);
    attended(tell, SILENCE_TOLD_AFTER, &words, doing)
}

/// The text of a file.
pub(super) fn text(path: &Path) -> Result<String, CliError> {
    String::from_utf8(bytes(path, SPEC_FILE_BYTES_MAX)?).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        CliError::BadInput(format!(
            "{}: expected UTF-8 text, found another byte at offset {at}",
            shown(path)
        ))
    })
}

/// A path seen from anywhere, for the server has another working folder.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    let absolute = fs::canonicalize(path).map_err(|source| CliError::Read {
        path: path.to_owned(),
        source,
    })?;
    check_text(&absolute).map_err(CliError::BadInput)?;
    Ok(absolute)
}

/// An assignment that stands for a flag such as `--name`.
pub(super) fn assign(path: &str, value: impl Into<Value>) -> Assignment {
    Assignment::new(path, value.into()).expect("the paths of flags have no empty part")
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The folder that a file's relative paths start from; the working folder for standard input.
pub(super) fn folder(path: &Path) -> Result<PathBuf, CliError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    absolute(parent)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;
    use crate::cli::exit::BAD_INPUT;

    #[test]
    fn a_folder_whose_name_is_not_text_is_refused_by_its_name() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join(OsStr::from_bytes(b"mod\xe8les"));
        fs::create_dir(&folder).unwrap();
        let file = folder.join("blue.yml");
        fs::write(
            &file,
            "name: blue\nmodel: ./m.onnx\ninstance_type: Standard_F2s_v2\n",
        )
        .unwrap();
        let refused = deployment(&file, (None, None), &[]).unwrap_err();
        assert_eq!(refused.code(), BAD_INPUT);
        let text = refused.to_string();
        assert!(
            text.starts_with("expected a path of UTF-8 text, found ")
                && text.contains(r"mod\xE8les"),
            "{text}"
        );
    }

    #[test]
    fn a_path_of_any_letters_is_text() {
        assert_eq!(check_text(Path::new("modèles/été.onnx")), Ok(()));
    }
}
