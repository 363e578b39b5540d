//! The output of pip and uv: what of it tells how a build goes on, and the reason in it for a failure. Pure.

/// Most characters of a reason that is told; the log has all of it.
const REASON_CHARS_MAX: usize = 600;
/// Packages that are told by name when they are installed.
const NAMES_TOLD: usize = 3;
/// Most lines of a reason.
const REASON_LINES_MAX: usize = 12;

/// The words on how far a build is, if a line of output has news.
pub(super) fn progress(line: &str) -> Option<String> {
    let line = line.trim();
    let (verb, rest) = line.split_once(' ')?;
    match verb {
        "Collecting" => Some(format!("collecting {}", first_word(rest))),
        "Downloading" => Some(format!("downloading {}", file_words(rest))),
        "Building" => {
            let what = rest
                .strip_prefix("wheel for ")
                .or_else(|| rest.strip_prefix("wheels for "));
            let what = what.unwrap_or(rest);
            (!what.starts_with("collected")).then(|| format!("building {}", first_word(what)))
        }
        "Installing" => {
            let names = rest.strip_prefix("collected packages: ")?;
            let names: Vec<&str> = names.split(", ").collect();
            let (told, more) = names.split_at(names.len().min(NAMES_TOLD));
            let more = match more.len() {
                0 => String::new(),
                count => format!(" and {count} more"),
            };
            Some(format!("installing {}{more}", told.join(", ")))
        }
        "Resolved" | "Prepared" | "Installed" => {
            let rest = rest.split(" in ").next().unwrap_or(rest);
            Some(format!("{} {rest}", verb.to_lowercase()))
        }
        _ => None,
    }
}

fn first_word(text: &str) -> &str {
    text.split_whitespace()
        .next()
        .unwrap_or_default()
        .trim_end_matches([',', ':'])
}

/// `numpy-1.26.4-cp311-cp311-manylinux.whl (18.2 MB)` as `numpy 1.26.4 (18.2 MB)`.
fn file_words(text: &str) -> String {
    let file = first_word(text).rsplit('/').next().unwrap_or_default();
    let size = text
        .rsplit_once(" (")
        .filter(|(_, size)| size.ends_with(')'));
    let size = size.map_or_else(String::new, |(_, size)| format!(" ({size}"));
    let mut parts = file.splitn(3, '-');
    let is_file = file.ends_with(".whl") || file.ends_with(".tar.gz") || file.ends_with(".zip");
    match (parts.next(), parts.next()) {
        (Some(name), Some(version)) if is_file => {
            let version = version.trim_end_matches(".tar.gz").trim_end_matches(".zip");
            format!("{name} {version}{size}")
        }
        _ => format!("{file}{size}"),
    }
}

/// The reason for a failure, in the tool's own words and short, from the last lines of its output. Where it names lines of the file of
/// requirements, it has the requirements instead: nobody has seen that file.
pub(super) fn reason(lines: &[String], requirements: &[String]) -> String {
    let reason = no_space(lines)
        .or_else(|| conflict(lines))
        .or_else(|| no_distribution(lines))
        .or_else(|| unsolved(lines))
        .or_else(|| error_line(lines))
        .unwrap_or_else(|| last_words(lines));
    cut(with_requirements(&reason, requirements).trim_end_matches('.'))
}

/// Puts requirements in the place of `-r <file> (line 3)`.
fn with_requirements(reason: &str, requirements: &[String]) -> String {
    let mut parts = reason.split("-r ");
    let mut named = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let found = part.split_once(" (line ").and_then(|(file, rest)| {
            let (number, rest) = rest.split_once(')')?;
            let number: usize = number.parse().ok()?;
            let line = requirements.get(number.checked_sub(1)?)?;
            file.ends_with("requirements.txt").then_some((line, rest))
        });
        match found {
            Some((line, rest)) => named.extend([line, rest]),
            None => named.extend(["-r ", part]),
        }
    }
    named
}

fn no_space(lines: &[String]) -> Option<String> {
    let told = ["No space left on device", "Disk quota exceeded"];
    let found = |words: &&&str| lines.iter().any(|line| line.contains(**words));
    told.iter().find(found).map(|words| (*words).to_owned())
}

/// pip's `Cannot install .. because ..`, with who wants what.
fn conflict(lines: &[String]) -> Option<String> {
    let at = lines
        .iter()
        .position(|line| line.starts_with("ERROR: Cannot install "))?;
    let mut reason = without_label(&lines[at]).to_owned();
    let told = lines[at..]
        .iter()
        .position(|line| line.starts_with("The conflict is caused by:"));
    if let Some(told) = told {
        let wishes = lines[at + told + 1..]
            .iter()
            .take_while(|line| line.starts_with("    "));
        let wishes: Vec<&str> = wishes
            .map(|line| line.trim())
            .take(REASON_LINES_MAX)
            .collect();
        reason = format!("{} {}", reason.trim_end_matches('.'), wishes.join("; "));
        reason = reason.replace("conflicting dependencies ", "conflicting dependencies: ");
    }
    Some(reason)
}

/// pip's `No matching distribution found for ..`, with what there is instead.
fn no_distribution(lines: &[String]) -> Option<String> {
    let missing = lines
        .iter()
        .find(|line| line.contains("No matching distribution found for "))?;
    let mut reason = without_label(missing).to_owned();
    let listed = lines.iter().rev().find_map(|line| {
        line.split_once("(from versions: ")?
            .1
            .trim_end()
            .strip_suffix(')')
    });
    if let Some(versions) = listed.filter(|versions| *versions != "none") {
        let last: Vec<&str> = versions.rsplit(", ").take(3).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        reason.push_str("; the last versions for this Python are ");
        reason.push_str(&last.join(", "));
    }
    if lines.iter().any(|line| line.contains("Retrying (Retry(")) {
        reason.push_str("; the index could not be reached");
    }
    Some(reason)
}

/// uv's error with its causes, which go on in lines that stand further in.
fn unsolved(lines: &[String]) -> Option<String> {
    let at = (0..lines.len())
        .rev()
        .find(|at| is_error_of_uv(lines, *at))?;
    let causes = lines[at + 1..]
        .iter()
        .take_while(|line| line.starts_with(' ') || line.is_empty());
    let causes: Vec<&str> = causes
        .map(|line| {
            line.trim_start_matches([' ', '│', '╰', '├', '─', '▶'])
                .trim()
        })
        .map(|line| {
            without_label(
                line.trim_start_matches("cause: ")
                    .trim_start_matches("Caused by: "),
            )
        })
        .filter(|line| !line.is_empty())
        .take(REASON_LINES_MAX)
        .collect();
    let head = without_label(&lines[at]).trim_end_matches(':');
    Some(format!("{head}: {}", causes.join(" ")))
}

/// An error of uv is known by its causes: pip and what it runs begin lines alike.
fn is_error_of_uv(lines: &[String], at: usize) -> bool {
    let line = lines[at].trim_start();
    let next = lines.get(at + 1).map_or("", |line| line.trim_start());
    (line.starts_with("error: ")
        && (next.starts_with("cause: ") || next.starts_with("Caused by: ")))
        || (line.starts_with("× ") && (next.starts_with("╰─▶") || next.starts_with("├─▶")))
}

fn error_line(lines: &[String]) -> Option<String> {
    let is_error = |line: &&String| {
        let line = line.trim_start();
        let is_of_python = line
            .split_once(": ")
            .is_some_and(|(name, _)| name.ends_with("Error") && !name.contains(' '));
        line.starts_with("ERROR: ") || line.starts_with("Error: ") || is_of_python
    };
    let told = lines.iter().rfind(is_error)?;
    // The cause of a package that does not build stands within the output of its own build.
    let inner = lines.iter().rfind(|line| {
        let line = line.trim_start();
        line.starts_with("error: ") && !line.contains("subprocess-exited")
    });
    let told = without_label(told);
    Some(match inner {
        Some(inner) => format!("{told}: {}", without_label(inner)),
        None => told.to_owned(),
    })
}

fn last_words(lines: &[String]) -> String {
    let mut last: Vec<&str> = lines
        .iter()
        .rev()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty())
        .take(3)
        .collect();
    last.reverse();
    if last.is_empty() {
        "it wrote nothing".to_owned()
    } else {
        last.join("; ")
    }
}

fn without_label(line: &str) -> &str {
    let line = line.trim();
    ["ERROR: ", "Error: ", "error: ", "× "]
        .iter()
        .find_map(|label| line.strip_prefix(label))
        .unwrap_or(line)
}

fn cut(reason: &str) -> String {
    match reason.char_indices().nth(REASON_CHARS_MAX) {
        Some((at, _)) => format!("{}..", &reason[..at]),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason_of(output: &str) -> String {
        reason(
            &output.lines().map(str::to_owned).collect::<Vec<_>>(),
            &["--pre".to_owned(), "a".to_owned()],
        )
    }

    #[test]
    fn lines_with_news_become_progress() {
        for (line, words) in [
            (
                "Collecting numpy==1.26.4 (from -r x (line 1))",
                Some("collecting numpy==1.26.4"),
            ),
            (
                "  Downloading numpy-1.26.4-cp311-cp311-manylinux_2_17_x86_64.whl (18.2 MB)",
                Some("downloading numpy 1.26.4 (18.2 MB)"),
            ),
            (
                "  Downloading https://a/b/six-1.0.tar.gz (1 kB)",
                Some("downloading six 1.0 (1 kB)"),
            ),
            (
                "Downloading numpy (17.1MiB)",
                Some("downloading numpy (17.1MiB)"),
            ),
            (
                "  Building wheel for b (setup.py): started",
                Some("building b"),
            ),
            ("Building wheels for collected packages: b", None),
            ("   Building b==1.0", Some("building b==1.0")),
            (
                "Installing collected packages: a, b, c, d, e",
                Some("installing a, b, c and 2 more"),
            ),
            (
                "Installing collected packages: a, b",
                Some("installing a, b"),
            ),
            ("Resolved 5 packages in 84ms", Some("resolved 5 packages")),
            (" + six==1.17.0", None),
            ("", None),
        ] {
            assert_eq!(progress(line).as_deref(), words, "{line}");
        }
    }

    #[test]
    fn the_reason_of_pip_is_told_short() {
        assert_eq!(
            reason_of(
                "Looking\nERROR: Could not find a version that satisfies the requirement x==9 (from versions: 1.0, 1.1, 1.2, 1.3)\n\
                 ERROR: No matching distribution found for x==9"
            ),
            "No matching distribution found for x==9; the last versions for this Python are 1.1, 1.2, 1.3"
        );
        assert_eq!(
            reason_of(
                "WARNING: Retrying (Retry(total=0)) after connection broken\n\
                 ERROR: Could not find a version that satisfies the requirement x (from versions: none)\n\
                 ERROR: No matching distribution found for x"
            ),
            "No matching distribution found for x; the index could not be reached"
        );
        assert_eq!(
            reason_of(
                "ERROR: Cannot install -r /x/requirements.txt (line 2) and b because these package versions have conflicting dependencies.\n\n\
                 The conflict is caused by:\n    The user requested b==1\n    a 2 depends on b>=2\n\nTo fix this you could try to:\n1. loosen\n\
                 ERROR: ResolutionImpossible: for help visit https://x"
            ),
            "Cannot install a and b because these package versions have conflicting dependencies: The user requested b==1; a 2 depends on b>=2"
        );
        assert_eq!(
            reason_of(
                "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
            ),
            "No space left on device"
        );
        assert_eq!(
            reason_of(
                "  error: subprocess-exited-with-error\n  × Building b did not run\n  ╰─> [2 lines]\n  x.c:1: fatal\n  error: command 'gcc' failed: No such file\n  [end of output]\n\
                 ERROR: Failed building wheel for b\n"
            ),
            "Failed building wheel for b: command 'gcc' failed: No such file"
        );
    }

    #[test]
    fn the_reason_of_uv_is_told_short() {
        assert_eq!(
            reason_of(
                "Using Python 3.11.7 environment at: u\nerror: No solution found when resolving dependencies\n  \
                 cause: Because a depends on b>=2 and you require a, we can conclude that you require b>=2.\n         \
                 And because you require b==1, we can conclude that your requirements are unsatisfiable."
            ),
            "No solution found when resolving dependencies: Because a depends on b>=2 and you require a, we can conclude that you \
             require b>=2. And because you require b==1, we can conclude that your requirements are unsatisfiable"
        );
        assert_eq!(
            reason_of(
                "  × No solution found when resolving dependencies:\n  ╰─▶ Because a was not found, done.\n"
            ),
            "No solution found when resolving dependencies: Because a was not found, done"
        );
    }

    #[test]
    fn without_an_error_the_last_lines_are_the_reason() {
        assert_eq!(reason_of("a\n\nb\nc\nd\n"), "b; c; d");
        assert_eq!(reason_of("\n"), "it wrote nothing");
        assert_eq!(
            reason_of("Traceback\n  x\nModuleNotFoundError: No module named 'ensurepip'\nbye\n"),
            "ModuleNotFoundError: No module named 'ensurepip'"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_output_panics_and_every_reason_is_short(text in "(ERROR: |error: |\u{d7} |cause: |[a-c(,: \n\u{e9}]){0,80}") {
            drop(text.lines().map(progress).collect::<Vec<_>>());
            assert!(reason_of(&text).chars().count() <= REASON_CHARS_MAX + 2);
        }
    }
}
