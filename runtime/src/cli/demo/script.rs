//! The steps of the demo, and the very words that a person would type.

/// One step: what it is for, the commands, and how long to watch the traffic afterwards.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) title: &'static str,
    pub(super) commands: &'static [&'static [&'static str]],
    pub(super) watch_ms: u64,
    /// Whether requests flow from the end of this step, or until its begin.
    pub(super) traffic: Traffic,
}

/// The effect of a step on the stream of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Traffic {
    Starts,
    Flows,
    EndsBefore,
}

/// The endpoint of the script.
pub(super) const ENDPOINT: &str = "myEndpoint";

/// Registers the two versions that the deployments name.
pub(super) const MODELS: Step = Step {
    title: "Before: register two versions of a model that reads handwritten digits",
    commands: &[
        &[
            "model",
            "create",
            "--name",
            "my-model-m1",
            "--version",
            "1",
            "--path",
            "../models/digits/1",
        ],
        &[
            "model",
            "create",
            "--name",
            "my-model-m2",
            "--version",
            "1",
            "--path",
            "../models/digits/2",
        ],
    ],
    watch_ms: 0,
    traffic: Traffic::Flows,
};

/// The seven steps.
pub(super) const STEPS: [Step; 7] = [
    Step {
        title: "Step 1: deploy v1 of the model (blue)",
        commands: &[
            &[
                "endpoint",
                "create",
                "--file",
                "../configs/online-endpoint/mir/standard/managed-1-create-OnlineEndpoint.yaml",
            ],
            &[
                "endpoint",
                "update",
                "--name",
                ENDPOINT,
                "--deployment",
                "blue",
                "--deployment-file",
                "../configs/online-endpoint/mir/standard/managed-2-blue-OnlineDeployment.yaml",
            ],
            &[
                "endpoint",
                "update",
                "--name",
                ENDPOINT,
                "--traffic",
                "blue:100",
            ],
        ],
        watch_ms: 4000,
        traffic: Traffic::Starts,
    },
    Step {
        title: "Step 2: scale blue for more traffic",
        commands: &[
            &[
                "endpoint",
                "update",
                "--name",
                ENDPOINT,
                "--deployment",
                "blue",
                "--instance-count",
                "5",
            ],
            &[
                "endpoint",
                "update",
                "--name",
                ENDPOINT,
                "--set",
                "deployments.blue.scale.instance_count=5",
            ],
        ],
        watch_ms: 3000,
        traffic: Traffic::Flows,
    },
    Step {
        title: "Step 3: deploy v2 (green) without live traffic, and test it directly",
        commands: &[
            &[
                "endpoint",
                "update",
                "--name",
                ENDPOINT,
                "--deployment",
                "green",
                "--deployment-file",
                "../configs/online-endpoint/mir/standard/managed-3-green-OnlineDeployment.yaml",
            ],
            &[
                "endpoint",
                "invoke",
                "--name",
                ENDPOINT,
                "--deployment",
                "green",
                "--request-file",
                "../configs/online-endpoint/sample-request.json",
            ],
        ],
        watch_ms: 3000,
        traffic: Traffic::Flows,
    },
    Step {
        title: "Step 4: move 10 % of the live traffic to green",
        commands: &[&[
            "endpoint",
            "update",
            "--name",
            ENDPOINT,
            "--traffic",
            "blue:90,green:10",
        ]],
        watch_ms: 6000,
        traffic: Traffic::Flows,
    },
    Step {
        title: "Step 5: let green take all traffic",
        commands: &[&[
            "endpoint",
            "update",
            "--name",
            ENDPOINT,
            "--traffic",
            "blue:0,green:100",
        ]],
        watch_ms: 4000,
        traffic: Traffic::Flows,
    },
    Step {
        title: "Step 6: delete blue",
        commands: &[&["endpoint", "delete", "--deployment", "blue", "--yes"]],
        watch_ms: 3000,
        traffic: Traffic::Flows,
    },
    Step {
        title: "Step 7: clean up: delete the endpoint",
        commands: &[&["endpoint", "delete", "--name", ENDPOINT, "--yes"]],
        watch_ms: 0,
        traffic: Traffic::EndsBefore,
    },
];

/// A command as it would be typed into a shell.
pub(super) fn typed(arguments: &[&str]) -> String {
    let mut line = "serin".to_owned();
    for argument in arguments {
        line.push(' ');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=".contains(c);
        if argument.chars().all(plain) {
            line.push_str(argument);
        } else {
            line.push('\'');
            line.push_str(argument);
            line.push('\'');
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_quoted_as_in_the_documents() {
        let line = typed(STEPS[3].commands[0]);
        assert_eq!(
            line,
            "serin endpoint update --name myEndpoint --traffic 'blue:90,green:10'"
        );
    }
}
