//! The demo as an audience sees it.

use crate::support::{folder, serin};

/// The sentences are in the text, in this order.
#[track_caller]
fn in_order(text: &str, sentences: &[&str]) {
    let mut rest = text;
    for sentence in sentences {
        let at = rest.find(sentence);
        let at =
            at.unwrap_or_else(|| panic!("expected {sentence:?} next, found {rest}\nin {text}"));
        rest = &rest[at + sentence.len()..];
    }
}

#[test]
fn rollouts_of_the_demo_promote_the_good_version_and_send_the_bad_ones_back() {
    let data = folder();
    let played = serin(data.path())
        .args(["demo", "--canary"])
        .output()
        .expect("the demo runs");
    let told = String::from_utf8(played.stdout).expect("UTF-8");
    let said = String::from_utf8_lossy(&played.stderr);
    assert_eq!(played.status.code(), Some(0), "{said}\n{told}");
    in_order(
        &told,
        &[
            "--to green\n",
            "the canary's share went from 0 to 10 %",
            "the canary's share went from 10 to 50 %",
            "the canary has all traffic: it was promoted\n",
            "green was promoted\n",
            "--to brittle\n",
            "the canary's share went from 0 to 10 %",
            "all traffic has gone back: errors: HARM",
            "brittle was rolled back: errors: HARM (canary ",
            "--to slow\n",
            "the canary's share went from 0 to 10 %",
            "all traffic has gone back: p50-service: HARM",
            "slow was rolled back: p50-service: HARM",
            "delete endpoint myEndpoint: Succeeded",
            "In all",
        ],
    );
}

#[test]
fn the_demo_plays_one_of_its_other_acts_alone() {
    let data = folder();
    let refused = serin(data.path())
        .args(["demo", "--canary", "--script"])
        .output()
        .expect("the command runs");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("cannot be used with"), "{said}");
}
