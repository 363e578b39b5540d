//! What the page about installing says of the binary.

use std::fs;
use std::path::Path;

use crate::support::repository;

/// The newest `GLIBC_2.N` that the file asks for: its names of versions are texts that end in a zero.
fn newest_glibc(file: &Path) -> u32 {
    let bytes = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let names = bytes.split(|byte| *byte == 0);
    let minors = names.filter_map(|name| {
        let version = str::from_utf8(name.strip_prefix(b"GLIBC_2.")?).ok()?;
        version.split('.').next()?.parse().ok()
    });
    minors.max().expect("a symbol of glibc")
}

/// The number after these words of the page.
fn said(page: &str, words: &str) -> u32 {
    let after = page
        .split(words)
        .nth(1)
        .unwrap_or_else(|| panic!("no {words}"));
    let digits = after.split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).expect(words)
}

#[test]
fn the_c_library_that_is_needed_is_no_newer_than_the_page_says() {
    let page = fs::read_to_string(repository("docs/install.md")).expect("the page");
    let binary = Path::new(env!("CARGO_BIN_EXE_serin"));
    let needed = newest_glibc(binary);
    let floor = said(&page, "the version that the binary was linked for: 2.");
    // What a binary is linked for is the machine's that builds it; the page names one.
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if page.contains("built on Debian 12") && system.contains("PRETTY_NAME=\"Debian GNU/Linux 12") {
        assert_eq!(needed, floor, "glibc 2.{needed}");
    }
    let target = binary.ancestors().nth(2).expect("a folder of builds");
    let kept = fs::read_dir(target.join("onnxruntime"))
        .into_iter()
        .flatten();
    let kept =
        kept.filter_map(|entry| fs::read_dir(entry.ok()?.path().join("onnxruntime/capi")).ok());
    let mut files = kept.flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let unpacked = files.find(|path| path.to_string_lossy().contains("libonnxruntime.so"));
    let library = std::env::var_os("SERIN_ONNXRUNTIME_LIB")
        .map(Into::into)
        .or(unpacked);
    let needed = newest_glibc(&library.expect("the library of ONNX Runtime"));
    assert!(
        needed <= said(&page, "ONNX Runtime itself asks for 2."),
        "glibc 2.{needed}"
    );
}
