//! Commands that can do harm: they ask, and an unset variable of a script is never taken for a wish.

use insta::assert_snapshot;

use crate::server::with_blue;
use crate::support::Place;

#[test]
fn end_of_input_is_no_consent_to_a_deletion() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    place.ok("endpoint update --name iris --traffic blue=0");
    for line in [
        "endpoint delete iris",
        "endpoint delete --deployment blue",
        "deployment delete blue --endpoint-name iris",
        "model delete digits --version 1",
    ] {
        let said = place.run(line);
        assert!(said.starts_with("code: 3\n"), "{line}: {said}");
        assert!(said.contains("nothing was deleted"), "{line}: {said}");
    }
    assert_snapshot!(place.run("endpoint delete iris"), @"
    code: 3
    --- stdout
    --- stderr
    Delete endpoint iris and all its deployments? (y/N):
    error: nothing was deleted: standard input ended before an answer; --yes deletes without asking
    ");
    assert!(place.ok("endpoint show iris").contains("\"blue\""));
}

#[test]
fn an_answer_is_taken_from_whatever_standard_input_is() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    place.ok("endpoint update --name iris --traffic blue=0");
    for no in ["n\n", "\n", "yess\n", "\u{0}y\n", &"y".repeat(100_000)] {
        let said = place.run_with("endpoint delete iris", no);
        assert!(said.starts_with("code: 2\n"), "{said}");
        assert!(said.contains("not confirmed"), "{said}");
    }
    // `yes` says it again and again, and a file may end without an end of its line.
    place.ok_with("endpoint delete --deployment blue", &"y\n".repeat(10_000));
    place.ok_with("endpoint delete iris", "YES");
    assert_eq!(place.ok("endpoint list").trim(), "[]");
}

#[test]
fn a_split_without_entries_is_refused_and_the_deliberate_way_is_told() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    for line in [
        "endpoint update --name iris --traffic ''",
        "endpoint update --name iris --traffic ' '",
        "endpoint update --name iris --traffic ,",
        "endpoint update --name iris --set 'traffic={}'",
        "endpoint update --name iris --set traffic=",
        "endpoint update --name iris --set traffic=null",
        "up nothing.onnx --traffic ''",
    ] {
        let said = place.run(line);
        assert!(said.starts_with("code: 3\n"), "{line}: {said}");
    }
    assert_snapshot!(place.run("endpoint update --name iris --traffic ''"), @"
    code: 3
    --- stdout
    --- stderr
    error: --traffic: expected entries such as blue:90,green:10 or blue=90 green=10, found none; to take all traffic away, write it out: blue=0
    ");
    assert!(place.ok("endpoint show iris").contains("\"blue\": 100"));
    place.ok("endpoint update --name iris --traffic blue=0");
    assert!(place.ok("endpoint show iris").contains("\"blue\": 0"));
}

#[test]
fn tags_are_text_as_it_was_typed_and_numbers_stay_numbers() {
    let place = Place::new();
    let _server = place.serve();
    with_blue(&place);
    place.ok("endpoint update --name iris --set tags.version=1.10 tags.on=true tags.none=null tags.no=007 tags.power=1e3 tags.day=2026-01-02 properties.p=1.0 description=1.10");
    let iris: serde_json::Value =
        serde_json::from_str(&place.ok("endpoint show iris")).expect("an endpoint");
    let tags = serde_json::json!({
        "version": "1.10", "on": "true", "none": "null", "no": "007", "power": "1e3", "day": "2026-01-02",
    });
    assert_eq!(iris["tags"], tags);
    assert_eq!(iris["properties"]["p"], "1.0");
    assert_eq!(iris["description"], "1.10");
    place.ok(
        "endpoint update --name iris --set deployments.blue.tags.v=1.10 deployments.blue.instance_count=2",
    );
    place.ok(r#"deployment update --name blue --endpoint iris --set 'tags.quoted="2.0"'"#);
    let blue: serde_json::Value =
        serde_json::from_str(&place.ok("deployment show blue --endpoint iris")).expect("one");
    assert_eq!(
        blue["tags"],
        serde_json::json!({"v": "1.10", "quoted": "2.0"})
    );
    assert_eq!(blue["instance_count"], 2);
}
