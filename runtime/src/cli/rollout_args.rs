//! The grammar of `serin rollout` and `serin verdict`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::spec::{DeploymentName, EndpointName};

/// `serin rollout`
#[derive(Debug, Subcommand)]
pub(super) enum Rollout {
    /// Begin to move traffic from one deployment to another, as far as the evidence goes
    Start(RolloutStart),
    /// Print where the rollout of an endpoint stands, and what each metric says
    #[command(alias = "show")]
    Status(RolloutStatus),
    /// Go on past a pause, a gate or an analysis; after a pause by hand too
    Promote(RolloutPromote),
    /// Stay as it is until `resume`
    Pause(OfEndpoint),
    /// Go on after a pause; traffic that somebody has changed meanwhile is made anew
    Resume(OfEndpoint),
    /// Give all traffic back, and end
    Abort(OfEndpoint),
    /// Give all traffic back after a promotion
    Undo(OfEndpoint),
    /// Print the journal of a rollout
    History(RolloutNumber),
    /// Tell in sentences, with the numbers, what was decided and why
    Explain(RolloutNumber),
    /// Make the journal again from the record, and say whether it is the same to the byte
    Replay(RolloutNumber),
    /// Write a page with the ramp, the evidence and the latency of both versions, which opens in any browser, offline
    Report(RolloutReport),
    /// Print all rollouts, newest first
    List,
}

/// An endpoint; the only one where none is named.
#[derive(Debug, Clone, Args)]
pub(super) struct OfEndpoint {
    /// Endpoint [default: the only one]
    #[arg(long, short, value_name = "ENDPOINT")]
    pub(super) endpoint_name: Option<EndpointName>,
}

/// `serin rollout start`
#[derive(Debug, Args)]
pub(super) struct RolloutStart {
    #[command(flatten)]
    pub(super) at: OfEndpoint,
    /// Deployment that has the traffic; beats the file's [default: the one with 100 %]
    #[arg(long, value_name = "DEPLOYMENT")]
    pub(super) from: Option<DeploymentName>,
    /// Deployment that is to have it; beats the file's [default: the only other one]
    #[arg(long, value_name = "DEPLOYMENT")]
    pub(super) to: Option<DeploymentName>,
    /// File of the rollout: serin's own, Argo's `strategy` or Flagger's `analysis`
    #[arg(long, short)]
    pub(super) file: Option<PathBuf>,
    /// Print the plan and what it will take, and begin nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Watch it until it has ended
    #[arg(long)]
    pub(super) watch: bool,
}

/// `serin rollout status`
#[derive(Debug, Args)]
pub(super) struct RolloutStatus {
    #[command(flatten)]
    pub(super) at: OfEndpoint,
    /// Watch it until it has ended
    #[arg(long)]
    pub(super) watch: bool,
}

/// `serin rollout promote`
#[derive(Debug, Args)]
pub(super) struct RolloutPromote {
    #[command(flatten)]
    pub(super) at: OfEndpoint,
    /// All traffic now, whatever steps are left
    #[arg(long)]
    pub(super) full: bool,
}

/// A rollout by its number.
#[derive(Debug, Args)]
pub(super) struct RolloutNumber {
    #[command(flatten)]
    pub(super) at: OfEndpoint,
    /// Number of the rollout [default: the newest of the endpoint]
    #[arg(long, value_name = "NUMBER")]
    pub(super) id: Option<u64>,
}

/// `serin feedback`
#[derive(Debug, Args)]
pub(super) struct Feedback {
    #[command(flatten)]
    pub(super) at: OfEndpoint,
    /// File with one label a line: {"id": "..", "right": true}, or "label": the right answer, or "score": 0 to 1; `-` is standard input
    #[arg(long, short)]
    pub(super) file: PathBuf,
}

/// `serin rollout report`
#[derive(Debug, Args)]
pub(super) struct RolloutReport {
    #[command(flatten)]
    pub(super) of: RolloutNumber,
    /// The page [default: rollout-NUMBER.html]
    #[arg(long, value_name = "FILE.HTML")]
    pub(super) html: Option<PathBuf>,
}

/// `serin verdict`
#[derive(Debug, Args)]
pub(super) struct Verdict {
    #[command(flatten)]
    pub(super) at: OfEndpoint,
    /// Deployment that the other one is compared with
    #[arg(long, value_name = "DEPLOYMENT")]
    pub(super) from: DeploymentName,
    /// Deployment that is judged
    #[arg(long, value_name = "DEPLOYMENT")]
    pub(super) to: DeploymentName,
    /// Data folder of a server that serves both too; once for each, and their evidence is merged; in place of --data
    #[arg(long, value_name = "FOLDER")]
    pub(super) server: Vec<PathBuf>,
}
