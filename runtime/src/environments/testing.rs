//! Programs that tests make up.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a shell script that can be run. Another process writes it: a file that this one has open for writing, or a child that another
/// test is just starting, could not be run.
pub(super) fn write_program(file: &Path, script: &str) {
    let mut writer = Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\" && chmod +x \"$0\""])
        .arg(file)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut stdin = writer.stdin.take().expect("a pipe");
    write!(stdin, "#!/bin/sh\n{script}\n").expect("it reads");
    drop(stdin);
    assert!(writer.wait().expect("it ends").success());
}
