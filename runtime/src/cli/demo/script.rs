//! The steps of the demo, and the very words that a person would type.

/// One step: what it is for, the commands, and how long to watch the traffic afterwards.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) title: &'static str,
    pub(super) commands: &'static [&'static [&'static str]],
    pub(super) watch_ms: u64,
    /// How the rollout ends that the last command has started.
    pub(super) rollout: Option<End>,
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

/// The end of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Promoted,
    /// The requests that the canary fails are what it is caught by.
    RolledBack,
}

/// What is played.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) title: &'static str,
    pub(super) subtitle: &'static str,
    /// The deployment whose failures are part of the play.
    pub(super) failing: Option<&'static str>,
    /// The last one cleans up.
    pub(super) steps: &'static [Step],
}

/// A canary release of two ONNX models. The files name scoring scripts, as the flow that they are of does; here the models are scored
/// without them.
pub(super) const NATIVE: Script = Script {
    title: "A canary release of two versions of a model, under live traffic",
    subtitle: "From step 1 on, rows that neither version was trained on are sent, and every answer is checked. The files name scoring \
               scripts; here serin scores the ONNX models without them (`scoring: native`).",
    failing: None,
    steps: &STEPS,
};

/// The way from a scoring script to the ONNX form of its model.
pub(super) const MIGRATION: Script = Script {
    title: "From a scoring script with a pickle to the same model as ONNX, under live traffic",
    subtitle: "From step 1 on, rows that the model was not trained on are sent, and every answer is checked.",
    failing: None,
    steps: &MIGRATION_STEPS,
};

/// The endpoint of the script.
pub(super) const ENDPOINT: &str = "myEndpoint";

/// The way from a script to ONNX.
const MIGRATION_STEPS: [Step; 8] = [
    Step {
        title: "Before: register the model twice, as a pickle and as ONNX",
        commands: &[
            &[
                "model",
                "create",
                "--name",
                "digits-pickle",
                "--version",
                "1",
                "--path",
                "../models/digits/script/model.pkl",
            ],
            &[
                "model",
                "create",
                "--name",
                "digits-onnx",
                "--version",
                "1",
                "--path",
                "../models/digits/1",
            ],
        ],
        watch_ms: 0,
        rollout: None,
        traffic: Traffic::Flows,
    },
    Step {
        title: "Step 1: deploy the scoring script (blue)",
        commands: &[
            &["endpoint", "create", "--file", "../migration/endpoint.yml"],
            &[
                "deployment",
                "create",
                "--file",
                "../migration/blue.yml",
                "--all-traffic",
            ],
        ],
        watch_ms: 4000,
        rollout: None,
        traffic: Traffic::Starts,
    },
    Step {
        title: "Step 2: deploy the ONNX model (green) without live traffic, and test it directly",
        commands: &[
            &["deployment", "create", "--file", "../migration/green.yml"],
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
        watch_ms: 2000,
        rollout: None,
        traffic: Traffic::Flows,
    },
    Step {
        title: "Step 3: compare the two: do they say the same, and which is faster?",
        commands: &[&[
            "bench",
            "blue",
            "green",
            "--endpoint-name",
            ENDPOINT,
            "--budget",
            "8",
            "--output",
            "table",
        ]],
        watch_ms: 0,
        rollout: None,
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
            "blue=90 green=10",
        ]],
        watch_ms: 5000,
        rollout: None,
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
            "blue=0 green=100",
        ]],
        watch_ms: 4000,
        rollout: None,
        traffic: Traffic::Flows,
    },
    Step {
        title: "Step 6: delete blue, and its Python with it",
        commands: &[&[
            "deployment",
            "delete",
            "--name",
            "blue",
            "--endpoint-name",
            ENDPOINT,
            "--yes",
        ]],
        watch_ms: 2000,
        rollout: None,
        traffic: Traffic::Flows,
    },
    Step {
        title: "Step 7: clean up: delete the endpoint",
        commands: &[&["endpoint", "delete", "--name", ENDPOINT, "--yes"]],
        watch_ms: 0,
        rollout: None,
        traffic: Traffic::EndsBefore,
    },
];

/// Registers the two versions that the deployments name.
const MODELS: Step = Step {
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
    rollout: None,
    traffic: Traffic::Flows,
};

/// The seven steps of the flow, and what comes before them.
const STEPS: [Step; 8] = [
    MODELS,
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
                "--set",
                "deployments.blue.scoring=native",
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
        rollout: None,
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
        rollout: None,
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
                "--set",
                "deployments.green.scoring=native",
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
        rollout: None,
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
        rollout: None,
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
        rollout: None,
        traffic: Traffic::Flows,
    },
    Step {
        title: "Step 6: delete blue",
        commands: &[&["endpoint", "delete", "--deployment", "blue", "--yes"]],
        watch_ms: 3000,
        rollout: None,
        traffic: Traffic::Flows,
    },
    Step {
        title: "Step 7: clean up: delete the endpoint",
        commands: &[&["endpoint", "delete", "--name", ENDPOINT, "--yes"]],
        watch_ms: 0,
        rollout: None,
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
        let line = typed(STEPS[4].commands[0]);
        assert_eq!(
            line,
            "serin endpoint update --name myEndpoint --traffic 'blue:90,green:10'"
        );
    }
}
