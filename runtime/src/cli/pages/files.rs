//! `docs/files.md`: every key of the files of endpoints and deployments, as their reader takes it.

use std::fmt::Write as _;

use super::cell::cell;
use crate::spec::{KeyAbout, bounds_of_texts, of_deployment, of_endpoint, reason_of_batch};

/// The whole page.
pub(super) fn page() -> String {
    let mut page = "# Files of endpoints and deployments\n\nMade by `serin __page files`: what is expected, and what becomes of a key, is asked of the \
        reader itself. A file is YAML of any generation of `az ml`; the keys are those of today, and older spellings mean the same. Two \
        spellings of one thing in one file are refused, and so is a key that nobody knows, with the one that may have been meant: all \
        problems of a file at once, each with its place. `serin convert FILE` prints a file in the form of today. `--set PATH=VALUE` \
        writes a key before anything is checked.\n\nA key *works*, is *kept* (shown again, without effect, and a note says so), is *dropped* \
        (nothing is kept), or is *refused* with the reason. "
        .to_owned();
    page.push_str(&bounds_of_texts());
    page.push_str(
        " A value that is left empty is as one that is not there.\n\nThe file of a rollout is in [canary.md](canary.md), flags in \
         [cli.md](cli.md).\n\n## A deployment\n\n",
    );
    write_keys(&mut page, &of_deployment());
    let mut reason = reason_of_batch().to_owned();
    reason.replace_range(..1, &reason[..1].to_uppercase());
    _ = writeln!(page, "\n{reason}.");
    page.push_str("\n## An endpoint\n\n");
    write_keys(&mut page, &of_endpoint());
    page
}

fn write_keys(page: &mut String, keys: &[KeyAbout]) {
    page.push_str("| key | expected | default | here | what it says |\n|---|---|---|---|---|\n");
    for key in keys {
        let older = match key.older.is_empty() {
            true => String::new(),
            false => format!("Once `{}`", key.older.join("`, `")),
        };
        let parts = [key.words.as_str(), older.as_str()];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} |",
            key.path,
            cell(&key.expected),
            cell(&key.default),
            cell(&key.fate),
            cell(&parts.join(". "))
        );
    }
}
