//! What may be typed.

use insta::assert_snapshot;

use crate::support::Place;

#[test]
fn the_help_names_every_command() {
    assert_snapshot!(Place::new().run("--help"), @"");
}

#[test]
fn the_version_names_that_of_onnx_runtime() {
    assert_snapshot!(Place::new().run("--version"), @"");
}

#[test]
fn the_help_of_an_update_names_every_flag() {
    assert_snapshot!(Place::new().run("endpoint update --help"), @"");
}

#[test]
fn a_misspelt_command_is_corrected() {
    assert_snapshot!(Place::new().run("endpoint upgrade"), @"");
}

#[test]
fn an_update_of_nothing_is_refused() {
    assert_snapshot!(Place::new().run("endpoint update --name iris"), @"");
}

#[test]
fn a_name_out_of_bounds_is_refused() {
    assert_snapshot!(Place::new().run("endpoint show --name 1st"), @"");
}

#[test]
fn a_split_that_sums_to_90_is_refused() {
    assert_snapshot!(Place::new().run("endpoint update --name iris --traffic blue:60,green:30"), @"");
}

#[test]
fn a_negative_share_is_refused() {
    assert_snapshot!(Place::new().run("online-endpoint update -n iris --traffic 'blue=110 green=-10'"), @"");
}

#[test]
fn an_assignment_without_a_value_is_refused() {
    assert_snapshot!(Place::new().run("deployment update -n blue -e iris --set instance_count"), @"");
}

#[test]
fn an_instance_type_is_found_in_any_case() {
    assert_snapshot!(Place::new().run("sku show --name standard_fs4_V2 -o table"), @"");
}

#[test]
fn a_misspelt_instance_type_is_corrected() {
    assert_snapshot!(Place::new().run("sku show --name Standard_F4_v2"), @"");
}

#[test]
fn without_a_server_a_command_says_how_to_start_one() {
    assert_snapshot!(Place::new().run("endpoint list"), @"");
}

/// Scripts of `az` shorten flags and name the workspace with every command.
#[test]
fn shortened_flags_and_those_of_the_cloud_are_taken() {
    let place = Place::new();
    assert_snapshot!(place.run("online-deployment show --name blue --endpoint iris -g group -w workspace --local"), @"");
}
