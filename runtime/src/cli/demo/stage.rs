//! The stage of the demo: a folder with the files of the seed, and a server of its own.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::traffic::Row;
use crate::app::ChildServer;
use crate::cli::exit::CliError;

/// Files by their path below the folder. The YAML files are those of the flow that the demo follows, unchanged.
const FILES: &[(&str, &[u8])] = &[
    (
        "configs/online-endpoint/mir/standard/managed-1-create-OnlineEndpoint.yaml",
        include_bytes!("../../../demo/seed/managed-1-create-OnlineEndpoint.yaml"),
    ),
    (
        "configs/online-endpoint/mir/standard/managed-2-blue-OnlineDeployment.yaml",
        include_bytes!("../../../demo/seed/managed-2-blue-OnlineDeployment.yaml"),
    ),
    (
        "configs/online-endpoint/mir/standard/managed-3-green-OnlineDeployment.yaml",
        include_bytes!("../../../demo/seed/managed-3-green-OnlineDeployment.yaml"),
    ),
    (
        "configs/online-endpoint/sample-request.json",
        include_bytes!("../../../demo/digits/2/sample-request.json"),
    ),
    (
        "models/digits/script/model.pkl",
        include_bytes!("../../../demo/digits/script/model.pkl"),
    ),
    (
        "migration/src/score.py",
        include_bytes!("../../../demo/digits/script/src/score.py"),
    ),
    (
        "migration/endpoint.yml",
        include_bytes!("../../../demo/digits/script/endpoint.yml"),
    ),
    (
        "migration/blue.yml",
        include_bytes!("../../../demo/digits/script/blue.yml"),
    ),
    (
        "migration/green.yml",
        include_bytes!("../../../demo/digits/script/green.yml"),
    ),
    (
        "canary/blue.yml",
        include_bytes!("../../../demo/digits/canary/blue.yml"),
    ),
    (
        "canary/green.yml",
        include_bytes!("../../../demo/digits/canary/green.yml"),
    ),
    (
        "canary/brittle.yml",
        include_bytes!("../../../demo/digits/canary/brittle.yml"),
    ),
    (
        "canary/slow.yml",
        include_bytes!("../../../demo/digits/canary/slow.yml"),
    ),
    (
        "canary/rollout.yml",
        include_bytes!("../../../demo/digits/canary/rollout.yml"),
    ),
    (
        "models/digits/canary/blue.onnx",
        include_bytes!("../../../demo/digits/canary/blue.onnx"),
    ),
    (
        "models/digits/canary/green.onnx",
        include_bytes!("../../../demo/digits/canary/green.onnx"),
    ),
    (
        "models/digits/canary/brittle.onnx",
        include_bytes!("../../../demo/digits/canary/brittle.onnx"),
    ),
    (
        "models/digits/canary/slow.onnx",
        include_bytes!("../../../demo/digits/canary/slow.onnx"),
    ),
    (
        "models/digits/1/model.onnx",
        include_bytes!("../../../demo/digits/1/model.onnx"),
    ),
    (
        "models/digits/2/model.onnx",
        include_bytes!("../../../demo/digits/2/model.onnx"),
    ),
];

/// Rows that neither version was trained on, each with the digit that it is.
const HELD_OUT: &str = include_str!("../../../demo/digits/held-out.jsonl");

/// The folder and the server. Both go with the value.
#[derive(Debug)]
pub(super) struct Stage {
    exe: PathBuf,
    // Before the folder, so that the server is gone when its folder goes.
    server: ChildServer,
    folder: TempDir,
}

impl Stage {
    /// Writes the files and starts the server; with `outlives` it does not end with this process.
    pub(super) fn set(outlives: bool) -> Result<Self, CliError> {
        let exe = env::current_exe().map_err(CliError::Start)?;
        let folder = write_files().map_err(CliError::Start)?;
        let server = ChildServer::start(&exe, folder.path(), &[], outlives)?;
        Ok(Self {
            exe,
            server,
            folder,
        })
    }

    pub(super) fn exe(&self) -> &Path {
        &self.exe
    }

    pub(super) fn data(&self) -> PathBuf {
        self.server.data().to_owned()
    }

    /// The folder in which a person would type: beside `configs` and `models`.
    pub(super) fn working_folder(&self) -> PathBuf {
        self.folder.path().join("cli")
    }

    pub(super) fn held_out() -> Vec<Row> {
        HELD_OUT.lines().filter_map(Row::parse).collect()
    }

    /// Leaves server and folder to the user; the words that say how to go on.
    pub(super) fn leave_up(self) -> String {
        let pid = self.server.pid();
        let exe = self.exe.display().to_string();
        let data = self.data();
        self.server.leave();
        let folder = self.folder.keep();
        format!(
            "export SERIN_DATA={data}\n\
             {exe} deployment list --endpoint-name {endpoint} --output table\n\
             {exe} endpoint invoke {endpoint} --request-file {folder}/configs/online-endpoint/sample-request.json\n\
             to end it: kill {pid}; rm -r {folder}\n",
            data = data.display(),
            endpoint = super::script::ENDPOINT,
            folder = folder.display(),
        )
    }
}

fn write_files() -> io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("serin-demo-").tempdir()?;
    fs::create_dir(folder.path().join("cli"))?;
    for (path, bytes) in FILES {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("every file is in a folder"))?;
        fs::write(path, bytes)?;
    }
    Ok(folder)
}
