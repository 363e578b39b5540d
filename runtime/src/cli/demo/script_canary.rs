//! The second act of the demo: rollouts that judge themselves, of a version that is good and of two that are not.

use super::script::{ENDPOINT, End, Script, Step, Traffic};

/// A good version that is promoted by itself, and two bad ones that are caught.
pub(super) const CANARY: Script = Script {
    title: "Canaries that judge themselves, under live traffic",
    subtitle: "A rollout moves the traffic only as far as the evidence goes: a version that is proven safe gets all of it, one that is proven to \
               do harm gets none. Nobody watches.",
    failing: Some("brittle"),
    steps: &STEPS,
};

const STEPS: [Step; 5] = [
    Step {
        title: "Before: v1 of the model (blue) has all traffic",
        commands: &[
            &["endpoint", "create", "--file", "../migration/endpoint.yml"],
            &[
                "deployment",
                "create",
                "--file",
                "../canary/blue.yml",
                "--all-traffic",
            ],
        ],
        watch_ms: 1000,
        rollout: None,
        traffic: Traffic::Starts,
    },
    Step {
        title: "Rollout 1: v2 (green), which is good",
        commands: &[
            &["deployment", "create", "--file", "../canary/green.yml"],
            &[
                "rollout",
                "start",
                "--file",
                "../canary/rollout.yml",
                "--from",
                "blue",
                "--to",
                "green",
            ],
        ],
        watch_ms: 0,
        rollout: Some(End::Promoted),
        traffic: Traffic::Flows,
    },
    Step {
        title: "Rollout 2: a version that fails on 2 % of the rows (brittle)",
        commands: &[
            &["deployment", "create", "--file", "../canary/brittle.yml"],
            &[
                "rollout",
                "start",
                "--file",
                "../canary/rollout.yml",
                "--from",
                "green",
                "--to",
                "brittle",
            ],
        ],
        watch_ms: 0,
        rollout: Some(End::RolledBack),
        traffic: Traffic::Flows,
    },
    Step {
        title: "Rollout 3: a version that takes three times as long for the same answers (slow)",
        commands: &[
            &["deployment", "create", "--file", "../canary/slow.yml"],
            &[
                "rollout",
                "start",
                "--file",
                "../canary/rollout.yml",
                "--from",
                "green",
                "--to",
                "slow",
            ],
        ],
        watch_ms: 0,
        rollout: Some(End::RolledBack),
        traffic: Traffic::Flows,
    },
    Step {
        title: "Clean up: delete the endpoint",
        commands: &[&["endpoint", "delete", "--name", ENDPOINT, "--yes"]],
        watch_ms: 0,
        rollout: None,
        traffic: Traffic::EndsBefore,
    },
];
