//! Obtains the ONNX Runtime library that the binary carries inside, with the feature `carry-onnxruntime`; without it, nothing.
//!
//! From the path in `SERIN_ONNXRUNTIME_LIB`, else out of the pinned Python package `onnxruntime` by pip (checksum checked).
//! Both the library and its compressed form are kept under the target folder, so a second build needs no network. Where it cannot be
//! had, a release build fails; any other goes on with a warning, and finds its library at run time.

#[cfg(feature = "carry-onnxruntime")]
#[path = "src/engine/shared_library.rs"]
mod shared_library;

#[cfg(not(feature = "carry-onnxruntime"))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(carries_onnxruntime)");
    println!("cargo::rustc-env=SERIN_ONNXRUNTIME_VERSION=found at run time");
}

#[cfg(feature = "carry-onnxruntime")]
fn main() {
    carry::main();
}

#[cfg(feature = "carry-onnxruntime")]
mod carry {
    use std::fs;
    use std::io::Read as _;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use sha2::{Digest as _, Sha256};

    /// Names a library of the user's choice.
    const LIBRARY_VARIABLE: &str = "SERIN_ONNXRUNTIME_LIB";
    /// Says that nothing may be downloaded.
    const OFFLINE_VARIABLE: &str = "CARGO_NET_OFFLINE";
    /// Says that documentation is built, and nothing else.
    const DOCS_VARIABLE: &str = "DOCS_RS";
    /// Version of the Python package.
    const VERSION: &str = "1.32.0";
    /// Level 12 takes some seconds and saves a third against the default; more takes far longer and saves little.
    const ZSTD_LEVEL: i32 = 12;

    /// The wheel for a platform: its tag, and the SHA-256 of the file.
    struct Wheel {
        platform: &'static str,
        sha256: &'static str,
    }

    fn wheel(os: &str, arch: &str) -> Option<Wheel> {
        match (os, arch) {
            ("linux", "x86_64") => Some(Wheel {
                platform: "manylinux_2_28_x86_64",
                sha256: "5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d",
            }),
            ("linux", "aarch64") => Some(Wheel {
                platform: "manylinux_2_28_aarch64",
                sha256: "2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c",
            }),
            _ => None,
        }
    }

    pub(super) fn main() {
        println!("cargo::rerun-if-changed=build.rs");
        println!("cargo::rerun-if-changed=src/engine/shared_library.rs");
        println!("cargo::rustc-check-cfg=cfg(carries_onnxruntime)");
        for name in [LIBRARY_VARIABLE, OFFLINE_VARIABLE, DOCS_VARIABLE] {
            println!("cargo::rerun-if-env-changed={name}");
        }
        match embed() {
            Ok(()) => println!("cargo::rustc-cfg=carries_onnxruntime"),
            Err(Problem::Named(problem)) => println!("cargo::error={problem}"),
            Err(Problem::Unobtainable(problem)) if is_release() => {
                println!("cargo::error=cannot obtain ONNX Runtime: {problem}");
                println!("cargo::error={}", way_out());
            }
            Err(Problem::Unobtainable(problem)) => {
                println!(
                    "cargo::warning=this build carries no ONNX Runtime, and looks for one when it runs: {problem}; {}",
                    way_out()
                );
                println!("cargo::rustc-env=SERIN_ONNXRUNTIME_VERSION=found at run time");
                // Nothing is there, so the next build tries again.
                println!("cargo::rerun-if-changed=src/onnxruntime-was-not-obtained");
            }
        }
    }

    fn way_out() -> String {
        format!(
            "either set {LIBRARY_VARIABLE} to the path of an ONNX Runtime library (libonnxruntime.so), \
         or make `python3 -m pip download onnxruntime=={VERSION}` work"
        )
    }

    /// Documentation is built without a network, and is never run.
    fn is_release() -> bool {
        let profile = std::env::var("PROFILE");
        profile.is_ok_and(|profile| profile == "release")
            && std::env::var_os(DOCS_VARIABLE).is_none()
    }

    /// The reason why there is no library to carry.
    enum Problem {
        /// The one that was named is not right, and no other will do.
        Named(String),
        /// None was named, and the pinned one cannot be had.
        Unobtainable(String),
    }

    impl From<String> for Problem {
        fn from(problem: String) -> Self {
            Self::Unobtainable(problem)
        }
    }

    /// Writes the compressed library and its description into `OUT_DIR`.
    fn embed() -> Result<(), Problem> {
        let out = PathBuf::from(variable("OUT_DIR")?);
        // OUT_DIR is <target>/<profile>/build/<package>/out.
        let cache = out
            .ancestors()
            .nth(4)
            .ok_or_else(|| "OUT_DIR is not below a target folder".to_owned())?
            .join("onnxruntime");
        fs::create_dir_all(&cache).map_err(|error| at(&cache, &error))?;
        let (library, version) = match std::env::var_os(LIBRARY_VARIABLE) {
            Some(path) if !path.is_empty() => named(PathBuf::from(path))?,
            _ => (packaged(&cache)?, VERSION.to_owned()),
        };
        println!("cargo::rustc-env=SERIN_ONNXRUNTIME_VERSION={version}");
        let bytes = fs::read(&library).map_err(|error| at(&library, &error))?;
        let sha256 = hex(&Sha256::digest(&bytes));
        let compressed = cache.join(format!("{sha256}.zst"));
        if !compressed.is_file() {
            let packed =
                zstd::encode_all(&bytes[..], ZSTD_LEVEL).map_err(|error| at(&library, &error))?;
            write_whole(&compressed, &packed)?;
        }
        let description = format!(
            "/// SHA-256 of the library, in hexadecimal.\n\
         pub(super) const SHA256: &str = {sha256:?};\n\
         /// Size of the library, in bytes.\n\
         pub(super) const BYTES: u64 = {};\n\
         /// CRC-32 of the library.\n\
         pub(super) const CRC32: u32 = {};\n\
         /// The library, compressed with zstd.\n\
         pub(super) static COMPRESSED: &[u8] = include_bytes!({:?});\n",
            bytes.len(),
            crc32fast::hash(&bytes),
            compressed.display(),
        );
        fs::write(out.join("onnxruntime.rs"), description).map_err(|error| at(&out, &error))?;
        Ok(())
    }

    /// The library of the user's choice, when it is one for the machine that is built for, and its version.
    fn named(path: PathBuf) -> Result<(PathBuf, String), Problem> {
        println!("cargo::rerun-if-changed={}", path.display());
        let (os, arch) = (
            variable("CARGO_CFG_TARGET_OS")?,
            variable("CARGO_CFG_TARGET_ARCH")?,
        );
        let version = super::shared_library::inspect(&path, &os, &arch).map_err(|found| {
        Problem::Named(format!(
            "{LIBRARY_VARIABLE} names {}: expected an ONNX Runtime library for {os} on {arch} (libonnxruntime.so), found {found}",
            path.display()
        ))
    })?;
        let version = version.unwrap_or_else(|| "of unknown version".to_owned());
        Ok((
            path,
            format!("{version}, from a library of the builder's choice"),
        ))
    }

    /// The library of the pinned Python package, downloaded and unpacked unless it is in the cache.
    fn packaged(cache: &Path) -> Result<PathBuf, String> {
        let (os, arch) = (
            variable("CARGO_CFG_TARGET_OS")?,
            variable("CARGO_CFG_TARGET_ARCH")?,
        );
        let wheel =
            wheel(&os, &arch).ok_or_else(|| format!("no package is pinned for {os} on {arch}"))?;
        let folder = cache.join(wheel.sha256);
        let library = folder.join(format!("onnxruntime/capi/libonnxruntime.so.{VERSION}"));
        if library.is_file() {
            return Ok(library);
        }
        for name in [OFFLINE_VARIABLE, DOCS_VARIABLE] {
            if std::env::var(name).is_ok_and(|value| !["", "0", "false"].contains(&value.as_str()))
            {
                return Err(format!("{name} is set, so nothing is downloaded"));
            }
        }
        let download = cache.join(format!("download-{}", std::process::id()));
        python(&[
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--retries",
            "2",
            "--no-deps",
            "--only-binary=:all:",
            "--platform",
            wheel.platform,
            "--python-version",
            "3.11",
            "--dest",
            &download.to_string_lossy(),
            &format!("onnxruntime=={VERSION}"),
        ])?;
        let file = download.join(format!(
            "onnxruntime-{VERSION}-cp311-cp311-{}.whl",
            wheel.platform
        ));
        let found = sha256_of(&file)?;
        if found != wheel.sha256 {
            return Err(format!(
                "checksum of {}: expected {}, found {found}",
                file.display(),
                wheel.sha256
            ));
        }
        let unpacked = download.join("unpacked");
        python(&[
            "-m",
            "zipfile",
            "-e",
            &file.to_string_lossy(),
            &unpacked.to_string_lossy(),
        ])?;
        match fs::rename(&unpacked, &folder) {
            // Another build was faster, or left half of one behind: the check below decides.
            Ok(()) | Err(_) => {
                fs::remove_dir_all(&download).map_err(|error| at(&download, &error))?;
            }
        }
        library
            .is_file()
            .then_some(library)
            .ok_or_else(|| format!("the package has no library below {}", folder.display()))
    }

    fn python(arguments: &[&str]) -> Result<(), String> {
        let output = Command::new("python3")
            .args(arguments)
            .output()
            .map_err(|error| format!("cannot run python3: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = words.lines().rev().take(3).collect();
        Err(format!(
            "python3 {} {} failed: {}",
            arguments[0],
            arguments[1],
            last.into_iter().rev().collect::<Vec<_>>().join(" | ")
        ))
    }

    fn sha256_of(file: &Path) -> Result<String, String> {
        let mut bytes = Vec::new();
        fs::File::open(file)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(|error| at(file, &error))?;
        Ok(hex(&Sha256::digest(&bytes)))
    }

    fn hex(digest: &[u8]) -> String {
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Writes beside the file and renames, so that a build which is interrupted leaves nothing half done.
    fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), String> {
        let beside = path.with_extension(format!("{}.part", std::process::id()));
        fs::write(&beside, bytes)
            .and_then(|()| fs::rename(&beside, path))
            .map_err(|error| at(path, &error))
    }

    fn variable(name: &str) -> Result<String, String> {
        std::env::var(name).map_err(|_| format!("cargo did not set {name}"))
    }

    fn at(path: &Path, error: &std::io::Error) -> String {
        format!("{}: {error}", path.display())
    }
}
