//! The grammar: what a person may type. What it means is decided by the module of each command.
//!
//! Two generations of `az ml` are one grammar here: `endpoint` and `online-endpoint` are the same command and take the
//! flags of both, as do `deployment` and `online-deployment`. A long flag may be shortened to any clear beginning
//! (`--endpoint` for `--endpoint-name`), which scripts written for `az` rely on.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::form::Form;
pub(super) use super::form::OutputFormat;
use super::query::Query;
use super::rollout_args::{Feedback, Rollout, Verdict};
use super::set_text::SetText;
use crate::app::{HandedOver, MetricsAt};
use crate::bench::Condition;
use crate::evidence::Slo;
use crate::plain_file::check_text;
use crate::spec::{DeploymentName, EndpointName, ModelName, ModelVersion};

/// Azure ML style online endpoints for ONNX models on one machine.
#[derive(Debug, Parser)]
#[command(
    name = "serin",
    version,
    long_version = super::version::long(),
    infer_long_args = true,
    disable_help_subcommand = true,
    max_term_width = 110,
    after_help = "Start with `serin demo`, or with `serin serve` in one terminal and `serin endpoint create --file endpoint.yml` in another."
)]
pub(super) struct Typed {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(super) struct Global {
    /// Folder of the server's data; commands find the server by it [default: SERIN_DATA, else ~/.local/share/serin]
    // The variable is not the grammar's to read: it would take the flag as given, and name it in usage lines.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(super) data: Option<PathBuf>,
    /// Form of the result: json, jsonc, yaml, yamlc, table, tsv or none [default: json]
    #[arg(
        long,
        short,
        global = true,
        value_enum,
        ignore_case = true,
        hide_possible_values = true,
        value_name = "FORMAT"
    )]
    output: Option<OutputFormat>,
    /// Part of the result, in the language of JMESPath: `provisioning_state`
    #[arg(long, global = true, value_name = "JMESPATH")]
    query: Option<Query>,
    /// No progress, only errors
    #[arg(long, global = true)]
    pub(super) only_show_errors: bool,
    /// Kept for scripts of `az ml`: `SERIN_LOG` is the level of the server's log.
    #[arg(long, global = true, hide = true)]
    pub(super) debug: bool,
    /// Kept for scripts of `az ml`: `SERIN_LOG` is the level of the server's log.
    #[arg(long, global = true, hide = true)]
    pub(super) verbose: bool,
    /// Flags of `az ml` that ask for what is not here.
    #[command(flatten)]
    pub(super) foreign: Foreign,
    /// Kept for scripts of `az ml`: there is one workspace, the data folder.
    #[arg(long, short = 'g', global = true, hide = true, value_name = "NAME")]
    pub(super) resource_group: Option<String>,
    /// Kept for scripts of `az ml`: it stands in ids.
    #[arg(long, short = 'w', global = true, hide = true, value_name = "NAME")]
    pub(super) workspace_name: Option<String>,
    /// Kept for scripts of `az ml`: it stands in ids.
    #[arg(long, global = true, hide = true, value_name = "NAME")]
    pub(super) subscription: Option<String>,
    /// Whether the program was called `az`.
    #[arg(skip)]
    pub(super) as_az: bool,
    /// The reason why the command cannot be obeyed, where it asks for what is not here.
    #[arg(skip)]
    pub(super) refusal: Option<String>,
}

/// Flags of `az ml` that ask for what serin has not. They are known so that a sentence can say so.
#[derive(Debug, Args)]
pub(super) struct Foreign {
    #[arg(long, global = true, hide = true)]
    web: bool,
    #[arg(long, global = true, hide = true)]
    vscode_debug: bool,
    #[arg(long, global = true, hide = true)]
    local_enable_gpu: bool,
    #[arg(long, global = true, hide = true)]
    package_model: bool,
}

impl Global {
    /// The form in which the result is printed.
    pub(super) fn format(&self) -> OutputFormat {
        self.output.unwrap_or_default()
    }

    /// The same, where a result that nobody gave a format for goes to people rather than to programs.
    pub(super) fn format_for_people(&self) -> OutputFormat {
        // Words for people have no parts that could be asked for.
        match self.query {
            Some(_) => self.format(),
            None => self.output.unwrap_or(OutputFormat::Table),
        }
    }

    /// The same, where a result goes to people when it goes to a terminal.
    pub(super) fn format_on(&self, is_terminal: bool) -> OutputFormat {
        match is_terminal {
            true => self.format_for_people(),
            false => self.format(),
        }
    }

    /// The form of the result, and the part of it that is asked for.
    pub(super) fn form(&self) -> Form {
        self.form_as(self.format())
    }

    /// The part that is asked for, in another form.
    pub(super) fn form_as(&self, format: OutputFormat) -> Form {
        Form {
            format,
            query: self.query.clone(),
        }
    }

    /// Whether a part of the result is asked for, rather than the whole.
    pub(super) fn asks_for_part(&self) -> bool {
        self.query.is_some()
    }
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Play a canary release on sample models, under live traffic
    Demo(Demo),
    /// Run the server in the foreground
    Serve(Serve),
    /// Serve bare model files in the foreground, with nothing stored
    Up(Up),
    /// Endpoints: what clients call, and how traffic is split [alias: online-endpoint]
    #[command(subcommand)]
    Endpoint(Endpoint),
    /// Endpoints, in the words of `az ml` of today
    #[command(hide = true, subcommand)]
    OnlineEndpoint(Endpoint),
    /// Deployments: a model on instances, behind an endpoint
    #[command(visible_alias = "online-deployment", subcommand)]
    Deployment(Deployment),
    /// Models by name and version
    #[command(subcommand)]
    Model(Model),
    /// Scoring scripts: try one outside any server
    #[command(subcommand)]
    ScoreScript(ScoreScript),
    /// Instance types: cores and memory of one instance
    #[command(subcommand)]
    Sku(Sku),
    /// Measure which lanes and batches serve a model best on this machine
    Tune(Tune),
    /// Compare two versions under load, with a verdict that holds, or measure one
    Bench(Box<Bench>),
    /// The name `az`, under which scripts of `az ml` run: `serin az install DIR` makes it
    Az {
        /// The words that stand behind `az`
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "WORDS"
        )]
        words: Vec<std::ffi::OsString>,
    },
    /// Environments of scripts by name and version, as this user keeps them
    #[command(subcommand)]
    Environment(Environment),
    /// What a shell completes behind `serin`
    Completions {
        /// The shell
        #[arg(value_enum, value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Manual pages, one for each command
    Man(ManPages),
    /// The workspace that scripts of `az ml` name: there is one.
    #[command(hide = true, subcommand)]
    Workspace(WorkspaceCommand),
    /// Move traffic to a new version as far as the evidence goes, and back where it does harm
    #[command(subcommand)]
    Rollout(Rollout),
    /// Tell the rollout of an endpoint which answers turned out to be right
    Feedback(Feedback),
    /// What two deployments say of each other: 0 safe, 1 harm, 2 undecided
    Verdict(Verdict),
    /// What the server does now, deployment by deployment
    ///
    /// A table on a terminal, JSON elsewhere. Requests a second are counted while the command waits.
    Status(Status),
    /// Make files so on one server or several: nothing is done where all is like them already
    Apply(Apply),
    /// Print a file of any generation in the form of today
    Convert(Convert),
    /// Changes of what should run: who, when, what, from what to what, and how each ended
    History(History),
    /// Bring back what was in force as of an earlier revision
    Rollback(RollBack),
    /// Journal of changes: who made them, and how they ended
    ///
    /// With `-o table` each change is a sentence, newest first; else each line is as it was written, oldest first.
    Journal(Journal),
    /// Copy the whole state of a server, running or not, to a new folder
    Backup(Backup),
    /// Bring a backup into the data folder of a stopped server
    Restore(Restore),
    /// Prints a page of the documentation that is made from the program.
    #[command(name = "__page", hide = true)]
    Page {
        /// The page
        #[arg(value_enum)]
        page: Page,
    },
    /// Computes for a lane; the server runs it as a child.
    #[command(name = "__lane", hide = true)]
    Lane,
    /// Tries a model; the server runs it as a child.
    #[command(name = "__probe", hide = true)]
    Probe {
        /// The arguments that the server passes on.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

/// A page that is made from the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Page {
    /// Every command, argument, default and exit code.
    Cli,
    /// Every key of the files of endpoints and deployments.
    Files,
    /// Every environment variable, folder and signal.
    Settings,
}

/// `serin environment`
#[derive(Debug, Subcommand)]
pub(super) enum Environment {
    /// Keep an environment under a name and version
    Create(EnvironmentCreate),
    /// Print all environments, or all versions of one
    List {
        /// Only this environment
        #[arg(long, short)]
        name: Option<ModelName>,
    },
    /// Print one version of an environment
    Show(EnvironmentVersion),
    /// Leave a version out of lists; files may go on naming it
    Archive(EnvironmentVersion),
    /// The same, for scripts of `az ml`.
    #[command(hide = true)]
    Delete(EnvironmentVersion),
    /// Take a version into lists again
    Restore(EnvironmentVersion),
}

/// `serin environment create`
#[derive(Debug, Args)]
pub(super) struct EnvironmentCreate {
    /// YAML file of the environment
    #[arg(long, short)]
    pub(super) file: Option<PathBuf>,
    /// Name of the environment; beats the file's
    #[arg(long, short, required_unless_present = "file")]
    pub(super) name: Option<ModelName>,
    /// Version; beats the file's [default: one more than the latest]
    #[arg(long, short)]
    pub(super) version: Option<ModelVersion>,
    /// Image; kept and shown, serin runs none
    #[arg(long, short)]
    pub(super) image: Option<String>,
    /// conda file; beats the file's
    #[arg(long, short, value_name = "FILE")]
    pub(super) conda_file: Option<PathBuf>,
    /// Attributes that beat the file's
    #[arg(long, num_args = 1.., value_name = "PATH=VALUE")]
    pub(super) set: Vec<SetText>,
}

/// A version of an environment.
#[derive(Debug, Args)]
pub(super) struct EnvironmentVersion {
    #[command(flatten)]
    pub(super) named: Named<ModelName>,
    /// Version of the environment [default: the last that was made]
    #[arg(long, short)]
    pub(super) version: Option<ModelVersion>,
    /// Kept for scripts of `az ml`: nothing is lost that could be asked about.
    #[arg(long, short, hide = true)]
    pub(super) yes: bool,
}

/// `serin workspace`
#[derive(Debug, Subcommand)]
pub(super) enum WorkspaceCommand {
    /// Print the workspace
    #[command(aliases = ["update", "provision-network", "diagnose"])]
    Show(NamedWorkspace),
    /// Print the workspace, which is there
    Create(NamedWorkspace),
    /// Print all workspaces, which is one
    List,
}

/// A workspace by name; whatever its file and other flags say is of the cloud.
#[derive(Debug, Args)]
pub(super) struct NamedWorkspace {
    /// Name
    #[arg(long, short)]
    pub(super) name: Option<String>,
    /// Kept for scripts of `az ml`: what it says is of the cloud.
    #[arg(long, short, hide = true, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// Kept for scripts of `az ml`: there is no network of a workspace.
    #[arg(long, short = 'm', hide = true, value_name = "MODE")]
    pub(super) managed_network: Option<String>,
    /// Kept for scripts of `az ml`: it is this machine.
    #[arg(long, short, hide = true, value_name = "PLACE")]
    pub(super) location: Option<String>,
    #[command(flatten)]
    pub(super) waiting: Waiting,
}

/// `serin backup`
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// Folder that is made: a data folder itself, with the database, the secret and all models
    #[arg(value_name = "FOLDER")]
    pub(super) to: PathBuf,
}

/// `serin restore`
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// Folder that `serin backup` has made
    #[arg(value_name = "BACKUP")]
    pub(super) from: PathBuf,
    /// Replace the state that is in the data folder; it is kept aside there
    #[arg(long)]
    pub(super) force: bool,
}

/// Flags of `az ml` that change nothing here.
#[derive(Debug, Args)]
pub(super) struct Accepted {
    /// Kept for scripts of `az ml`: `online` is the only type.
    #[arg(long = "type", short = 't', hide = true, ignore_case = true, value_parser = ["online", "managed", "batch"], value_name = "TYPE")]
    pub(super) kind: Option<String>,
    /// Kept for scripts of `az ml`: everything is local.
    #[arg(long, hide = true)]
    pub(super) local: bool,
    /// Kept for scripts of `az ml`: a script is tried when it is loaded.
    #[arg(long, hide = true)]
    pub(super) skip_script_validation: bool,
    /// Kept for scripts of `az ml`: a command waits unless --no-wait says otherwise.
    #[arg(long, hide = true)]
    pub(super) wait: bool,
}

/// Whether the command waits until the change is in force.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Waiting {
    /// Return when the change is accepted, not when it is in force
    #[arg(long)]
    pub(super) no_wait: bool,
}

/// `serin endpoint`
#[derive(Debug, Subcommand)]
pub(super) enum Endpoint {
    /// Create an endpoint from a file, with the deployments that the file has
    Create(EndpointCreate),
    /// Change an endpoint: its file, traffic, one deployment, or any attribute
    Update(EndpointUpdate),
    /// Delete an endpoint with all its deployments, or one deployment
    Delete(EndpointDelete),
    /// Print one endpoint
    Show(EndpointShow),
    /// Print all endpoints
    List(EndpointList),
    /// Send a request and print the answer
    Invoke(Invoke),
    /// Print the keys, or a fresh token
    #[command(visible_alias = "list-keys")]
    GetCredentials(NamedEndpoint),
    /// Print what a file would change, and change nothing
    Diff(Diff),
    /// Replace one of the two keys
    RegenerateKeys(RegenerateKeys),
    /// Print what was noted of a deployment
    #[command(alias = "log")]
    GetLogs(EndpointLogs),
    /// Jobs of batch endpoints, which are not served here
    #[command(hide = true)]
    ListJobs(OfBatch),
}

/// The name of what a command is about: bare, or after `--name` as `az ml` has it.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Named<N>
where
    N: FromStr<Err: Into<Box<dyn Error + Send + Sync>>> + Clone + Send + Sync + 'static,
{
    /// Name, with or without the flag
    #[arg(value_name = "NAME")]
    bare: Option<N>,
    /// The same
    #[arg(long, short)]
    name: Option<N>,
}

impl<N> Named<N>
where
    N: FromStr<Err: Into<Box<dyn Error + Send + Sync>>> + Clone + Send + Sync + 'static,
{
    /// The name, wherever it stood.
    pub(super) fn as_name(&self) -> &N {
        let name = self.bare.as_ref().or(self.name.as_ref());
        name.expect("the grammar asks for one of the two")
    }

    /// The same, for who keeps it.
    pub(super) fn name(self) -> N {
        self.bare
            .or(self.name)
            .expect("the grammar asks for one of the two")
    }
}

/// A registered model by name, or a file that is one.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct NamedOrFile {
    /// Name, with or without the flag
    #[arg(value_name = "NAME")]
    bare: Option<ModelName>,
    /// The same
    #[arg(long, short)]
    name: Option<ModelName>,
    /// An .onnx file, or a folder with one, instead of a registered model; needs no server
    #[arg(long, short, value_parser = text_path())]
    path: Option<PathBuf>,
}

impl NamedOrFile {
    /// The name of a registered model, or else the path of a file.
    pub(super) fn which(self) -> Result<ModelName, PathBuf> {
        let name = self.bare.or(self.name);
        name.ok_or_else(|| self.path.expect("the grammar asks for one of the three"))
    }
}

/// An endpoint by name.
#[derive(Debug, Args)]
pub(super) struct NamedEndpoint {
    #[command(flatten)]
    pub(super) named: Named<EndpointName>,
    #[command(flatten)]
    pub(super) accepted: Accepted,
}

/// `serin endpoint show`
#[derive(Debug, Args)]
pub(super) struct EndpointShow {
    #[command(flatten)]
    pub(super) named: Named<EndpointName>,
    #[command(flatten)]
    web: WebShort,
    #[command(flatten)]
    pub(super) detail: Detail,
    #[command(flatten)]
    pub(super) accepted: Accepted,
}

/// `serin endpoint list`
#[derive(Debug, Args)]
pub(super) struct EndpointList {
    #[command(flatten)]
    pub(super) detail: Detail,
    #[command(flatten)]
    pub(super) accepted: Accepted,
}

/// How much is printed.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Detail {
    /// Print all that is known beyond the fields of Azure: cores, threads, measurements, notes
    #[arg(long)]
    pub(super) detail: bool,
}

/// Attributes that are changed one by one.
#[derive(Debug, Args)]
pub(super) struct Edits {
    /// Any attribute, by its path: `instance_count=5`, `deployments.blue.scale.instance_count=5`
    #[arg(long, num_args = 1.., value_name = "PATH=VALUE")]
    pub(super) set: Vec<SetText>,
    /// Entry for a list or a mapping: `tags team=vision`
    #[arg(long, num_args = 1.., value_name = "PATH KEY=VALUE")]
    pub(super) add: Vec<String>,
    /// Attribute to take away, or the number of an entry behind the path of its list: `tags.team`
    #[arg(long, num_args = 1.., value_name = "PATH")]
    pub(super) remove: Vec<String>,
    /// Take each value as text, whatever it looks like
    #[arg(long)]
    pub(super) force_string: bool,
}

impl Edits {
    /// Whether what is there must be known to work them out.
    pub(super) fn depend_on_what_is(&self) -> bool {
        !self.add.is_empty() || !self.remove.is_empty()
    }
}

/// `serin endpoint create`
#[derive(Debug, Args)]
pub(super) struct EndpointCreate {
    /// Name of the endpoint; beats the file's
    #[arg(long, short)]
    pub(super) name: Option<EndpointName>,
    /// YAML file of the endpoint
    #[arg(long, short, required_unless_present = "name")]
    pub(super) file: Option<PathBuf>,
    /// Way in which clients prove who they are
    #[arg(long, value_enum, ignore_case = true)]
    pub(super) auth_mode: Option<Auth>,
    /// Attributes that beat the file's: `description=text tags.team=vision`
    #[arg(long, num_args = 1.., value_name = "PATH=VALUE")]
    pub(super) set: Vec<SetText>,
    #[command(flatten)]
    web: WebShort,
    #[command(flatten)]
    pub(super) waiting: Waiting,
    #[command(flatten)]
    pub(super) accepted: Accepted,
}

/// The way in which clients prove who they are.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Auth {
    /// One of two keys that do not expire.
    Key,
    /// A token that expires.
    #[value(alias = "AMLToken")]
    AmlToken,
}

/// `serin endpoint update`
#[derive(Debug, Args)]
#[command(override_usage = "serin endpoint update --name <NAME> <CHANGES>...")]
#[command(group = clap::ArgGroup::new("change").args([
    "file", "deployment_file", "instance_count", "model", "traffic", "mirror_traffic", "set", "add", "remove",
]).multiple(true).required(true))]
pub(super) struct EndpointUpdate {
    /// Name of the endpoint; beats the file's
    #[arg(long, short, required_unless_present = "file")]
    pub(super) name: Option<EndpointName>,
    /// YAML file of the endpoint; a file with deployments is the whole truth: those that it leaves out are deleted
    #[arg(long, short)]
    pub(super) file: Option<PathBuf>,
    /// Deployment to change, or to make from `--deployment-file`
    #[arg(long, short)]
    pub(super) deployment: Option<DeploymentName>,
    /// YAML file of the deployment
    #[arg(long, short = 'e')]
    pub(super) deployment_file: Option<PathBuf>,
    /// Instances of the deployment
    #[arg(long, short, requires = "deployment", value_name = "N")]
    pub(super) instance_count: Option<u32>,
    /// Model of the deployment: azureml:NAME:VERSION, or a path
    #[arg(long, requires = "deployment", value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// Percent per deployment: 'blue:90,green:10' or "blue=90 green=10"
    #[arg(long, short = 'r', num_args = 1.., value_name = "SPLIT")]
    pub(super) traffic: Vec<String>,
    /// Percent of the requests that a deployment gets a copy of: green=10
    #[arg(long, num_args = 1.., value_name = "SHARE")]
    pub(super) mirror_traffic: Vec<String>,
    #[command(flatten)]
    pub(super) edits: Edits,
    #[command(flatten)]
    pub(super) waiting: Waiting,
    #[command(flatten)]
    pub(super) accepted: Accepted,
}

/// `serin endpoint delete`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").args(["bare", "name", "deployment"]).multiple(true).required(true))]
pub(super) struct EndpointDelete {
    /// Name of the endpoint; may be left out with `--deployment` when only one endpoint has it
    #[arg(value_name = "NAME")]
    pub(super) bare: Option<EndpointName>,
    /// The same
    #[arg(long, short, conflicts_with = "bare")]
    pub(super) name: Option<EndpointName>,
    /// Delete this deployment only
    #[arg(long, short)]
    pub(super) deployment: Option<DeploymentName>,
    #[command(flatten)]
    pub(super) consent: Consent,
    #[command(flatten)]
    pub(super) waiting: Waiting,
    #[command(flatten)]
    pub(super) accepted: Accepted,
}

/// Consent to a deletion.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Consent {
    /// Do not ask first
    #[arg(long, short)]
    pub(super) yes: bool,
}

/// What stands in place of a request where a batch endpoint is asked.
const BATCH_INPUTS: [&str; 4] = [
    "input_data",
    "input_datastore",
    "input_local_path",
    "input_path",
];

/// `serin endpoint invoke`
#[derive(Debug, Args)]
pub(super) struct Invoke {
    #[command(flatten)]
    pub(super) named: Named<EndpointName>,
    /// JSON file with the request; `-` is standard input
    #[arg(long, short, required_unless_present_any = BATCH_INPUTS)]
    pub(super) request_file: Option<PathBuf>,
    /// Deployment that answers, whatever the traffic
    #[arg(long, short, alias = "deployment-name")]
    pub(super) deployment: Option<DeploymentName>,
    #[command(flatten)]
    batch: BatchInput,
    #[command(flatten)]
    pub(super) accepted: Accepted,
}

/// A verb that batch endpoints alone have.
#[derive(Debug, Args)]
pub(super) struct OfBatch {
    #[arg(long, short, hide = true, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    accepted: Accepted,
}

/// Flags of `invoke` that batch endpoints alone have.
#[derive(Debug, Args)]
pub(super) struct BatchInput {
    #[arg(long, short = 'i', hide = true, value_name = "DATA")]
    input_data: Option<String>,
    #[arg(long, short = 'u', hide = true, value_name = "STORE")]
    input_datastore: Option<String>,
    #[arg(long, short = 'l', hide = true, value_name = "PATH")]
    input_local_path: Option<String>,
    #[arg(long, short = 'p', hide = true, value_name = "PATH")]
    input_path: Option<String>,
    #[arg(
        id = "batch_instance_count",
        long = "instance-count",
        short = 'c',
        hide = true,
        value_name = "N"
    )]
    instance_count: Option<String>,
    #[arg(long, short = 'm', hide = true, value_name = "N")]
    mini_batch_size: Option<String>,
    #[arg(long, short = 's', hide = true, value_name = "STORE")]
    output_datastore: Option<String>,
    #[arg(long, short = 'x', hide = true, value_name = "PATH")]
    output_path: Option<String>,
    #[arg(id = "batch_set", long = "set", num_args = 1.., hide = true, value_name = "PATH=VALUE")]
    set: Vec<String>,
}

/// The short form of `--web`, which `az ml online-endpoint` has.
#[derive(Debug, Args)]
pub(super) struct WebShort {
    #[arg(id = "web_short", short = 'e', hide = true)]
    web: bool,
}

/// `serin endpoint regenerate-keys`
#[derive(Debug, Args)]
pub(super) struct RegenerateKeys {
    #[command(flatten)]
    pub(super) named: Named<EndpointName>,
    /// Key to make anew
    #[arg(long, value_enum, ignore_case = true, default_value_t)]
    pub(super) key_type: Key,
    #[command(flatten)]
    pub(super) waiting: Waiting,
    #[command(flatten)]
    pub(super) accepted: Accepted,
}

/// `serin endpoint get-logs`
#[derive(Debug, Args)]
pub(super) struct EndpointLogs {
    #[command(flatten)]
    pub(super) named: Named<EndpointName>,
    /// Name of the deployment
    #[arg(long, short)]
    pub(super) deployment: DeploymentName,
    #[command(flatten)]
    pub(super) lines: LogLines,
    #[command(flatten)]
    pub(super) accepted: Accepted,
}

/// How much of what was noted is printed.
#[derive(Debug, Args)]
pub(super) struct LogLines {
    /// Most lines, the newest
    #[arg(long, short, alias = "tail", default_value_t = 5000, value_name = "N")]
    pub(super) lines: usize,
    /// Part of the log: inference-server is all of it, storage-initializer the way of the model to the instances
    #[arg(
        long,
        short,
        ignore_case = true,
        value_enum,
        hide_possible_values = true,
        value_name = "CONTAINER"
    )]
    pub(super) container: Option<Container>,
}

/// The containers of Azure, as parts of a log: serin has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Container {
    /// All that was noted.
    InferenceServer,
    /// The way of the model, or of the environment, to the instances.
    #[value(alias = "storage-init")]
    StorageInitializer,
}

/// One of the two keys of an endpoint.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(super) enum Key {
    #[default]
    Primary,
    Secondary,
}

/// `serin deployment`
#[derive(Debug, Subcommand)]
pub(super) enum Deployment {
    /// Create a deployment from a file
    Create(DeploymentCreate),
    /// Change a deployment: its file, or any attribute
    Update(DeploymentUpdate),
    /// Delete a deployment
    Delete(DeploymentDelete),
    /// Print one deployment
    Show(DeploymentShow),
    /// Print all deployments of an endpoint
    List(DeploymentList),
    /// Print what was noted of a deployment
    GetLogs(DeploymentLogs),
}

/// `serin deployment get-logs`
#[derive(Debug, Args)]
pub(super) struct DeploymentLogs {
    #[command(flatten)]
    pub(super) named: Named<DeploymentName>,
    /// Name of the endpoint
    #[arg(long, short)]
    pub(super) endpoint_name: EndpointName,
    #[command(flatten)]
    pub(super) lines: LogLines,
    #[command(flatten)]
    pub(super) accepted: Accepted,
}

/// `serin deployment create`
#[derive(Debug, Args)]
pub(super) struct DeploymentCreate {
    /// YAML file of the deployment
    #[arg(long, short)]
    pub(super) file: PathBuf,
    /// Name of the endpoint; beats the file's
    #[arg(long, short)]
    pub(super) endpoint_name: Option<EndpointName>,
    /// Name of the deployment; beats the file's
    #[arg(long, short)]
    pub(super) name: Option<DeploymentName>,
    /// Give it all traffic once it is ready
    #[arg(long)]
    pub(super) all_traffic: bool,
    /// Attributes that beat the file's
    #[arg(long, num_args = 1.., value_name = "PATH=VALUE")]
    pub(super) set: Vec<SetText>,
    #[command(flatten)]
    pub(super) waiting: Waiting,
    #[command(flatten)]
    pub(super) accepted: Accepted,
}

/// `serin deployment update`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").args(["file", "set", "add", "remove"]).multiple(true).required(true))]
pub(super) struct DeploymentUpdate {
    /// YAML file of the deployment
    #[arg(long, short)]
    pub(super) file: Option<PathBuf>,
    /// Name of the endpoint; beats the file's
    #[arg(long, short, required_unless_present = "file")]
    pub(super) endpoint_name: Option<EndpointName>,
    /// Name of the deployment; beats the file's
    #[arg(long, short, required_unless_present = "file")]
    pub(super) name: Option<DeploymentName>,
    #[command(flatten)]
    pub(super) edits: Edits,
    #[command(flatten)]
    pub(super) waiting: Waiting,
    #[command(flatten)]
    pub(super) accepted: Accepted,
}

/// `serin deployment delete`
#[derive(Debug, Args)]
pub(super) struct DeploymentDelete {
    #[command(flatten)]
    pub(super) named: Named<DeploymentName>,
    /// Name of the endpoint; may be left out when only one endpoint has the deployment
    #[arg(long, short)]
    pub(super) endpoint_name: Option<EndpointName>,
    #[command(flatten)]
    pub(super) consent: Consent,
    #[command(flatten)]
    pub(super) waiting: Waiting,
    #[command(flatten)]
    pub(super) accepted: Accepted,
}

/// `serin deployment show`
#[derive(Debug, Args)]
pub(super) struct DeploymentShow {
    #[command(flatten)]
    pub(super) named: Named<DeploymentName>,
    /// Name of the endpoint
    #[arg(long, short)]
    pub(super) endpoint_name: EndpointName,
    #[command(flatten)]
    pub(super) detail: Detail,
    #[command(flatten)]
    pub(super) accepted: Accepted,
}

/// `serin deployment list`
#[derive(Debug, Args)]
pub(super) struct DeploymentList {
    /// Name of the endpoint
    #[arg(long, short)]
    pub(super) endpoint_name: EndpointName,
    #[command(flatten)]
    pub(super) detail: Detail,
    #[command(flatten)]
    pub(super) accepted: Accepted,
}

/// `serin model`
#[derive(Debug, Subcommand)]
pub(super) enum Model {
    /// Register a model file or folder under a name and version, for good
    Create(ModelCreate),
    /// Print all models, or all versions of one
    List {
        /// Only this model
        #[arg(long, short)]
        name: Option<ModelName>,
        /// Archived versions too
        #[arg(long)]
        include_archived: bool,
        /// Archived versions alone
        #[arg(long, conflicts_with = "include_archived")]
        archived_only: bool,
    },
    /// Change what is said of a version: description, stage, tags, properties
    Update(ModelUpdate),
    /// Leave a version, or all of a model, out of lists; deployments go on with it
    Archive(ModelVersions),
    /// Take it into lists again
    Restore(ModelVersions),
    /// Copy the files of a version into a folder
    Download {
        #[command(flatten)]
        named: Named<ModelName>,
        /// Version of the model
        #[arg(long, short)]
        version: ModelVersion,
        /// Folder in which one with the name of the model is made
        #[arg(long, short = 'p', default_value = ".", value_name = "FOLDER")]
        download_path: PathBuf,
    },
    /// Print one version of a model, what its graph says and what it proves
    Show {
        #[command(flatten)]
        model: NamedOrFile,
        /// Version of the model [default: the latest]
        #[arg(long, short, conflicts_with = "path")]
        version: Option<ModelVersion>,
    },
    /// Delete one version of a model that nothing uses
    Delete {
        #[command(flatten)]
        named: Named<ModelName>,
        /// Version of the model
        #[arg(long, short)]
        version: ModelVersion,
        #[command(flatten)]
        consent: Consent,
    },
}

/// `serin model create`
#[derive(Debug, Args)]
pub(super) struct ModelCreate {
    /// YAML file of the model; name, version and path are used, what describes the model stays there
    #[arg(long, short)]
    pub(super) file: Option<PathBuf>,
    /// Name of the model; beats the file's
    #[arg(long, short, required_unless_present = "file")]
    pub(super) name: Option<ModelName>,
    /// Version of the model; beats the file's [default: one more than the latest]
    #[arg(long, short)]
    pub(super) version: Option<ModelVersion>,
    /// The model: an .onnx file (files that hold its data come along), a folder, or a file for a script; beats the file's
    #[arg(long, short, required_unless_present = "file", value_parser = text_path())]
    pub(super) path: Option<PathBuf>,
    /// Description for people; beats the file's
    #[arg(long, short)]
    pub(super) description: Option<String>,
    /// How far it is, such as Production; beats the file's
    #[arg(long, short)]
    pub(super) stage: Option<String>,
    /// Tags for people, beside the file's: `team=vision`
    #[arg(long, num_args = 1.., value_name = "NAME=VALUE")]
    pub(super) tags: Vec<SetText>,
    /// Attributes that beat the file's: `tags.team=vision`
    #[arg(long, num_args = 1.., value_name = "PATH=VALUE")]
    pub(super) set: Vec<SetText>,
    /// Kept for scripts of `az ml`: the files say what a model is.
    #[arg(long = "type", short = 't', hide = true, ignore_case = true, value_parser = ["custom_model"], value_name = "TYPE")]
    pub(super) kind: Option<String>,
}

/// `serin model update`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").args(["stage", "description", "set", "add", "remove"]).multiple(true).required(true))]
pub(super) struct ModelUpdate {
    #[command(flatten)]
    pub(super) named: Named<ModelName>,
    /// Version of the model [default: the latest]
    #[arg(long, short)]
    pub(super) version: Option<ModelVersion>,
    /// Description for people
    #[arg(long, short)]
    pub(super) description: Option<String>,
    /// How far it is, such as Production
    #[arg(long, short)]
    pub(super) stage: Option<String>,
    #[command(flatten)]
    pub(super) edits: Edits,
}

/// A version of a model, or all of them.
#[derive(Debug, Args)]
pub(super) struct ModelVersions {
    #[command(flatten)]
    pub(super) named: Named<ModelName>,
    /// Version of the model [default: all]
    #[arg(long, short)]
    pub(super) version: Option<ModelVersion>,
}

/// `serin score-script`
#[derive(Debug, Subcommand)]
pub(super) enum ScoreScript {
    /// Run init() and one request of a scoring script where it lies, and print what came out
    Check(ScriptCheck),
}

/// `serin score-script check`
#[derive(Debug, Args)]
pub(super) struct ScriptCheck {
    /// Folder of the code
    #[arg(value_name = "FOLDER", value_parser = text_path())]
    pub(super) code: PathBuf,
    /// The scoring script, seen from the folder [default: the only score.py in it]
    #[arg(long, short, value_name = "FILE", value_parser = text_path())]
    pub(super) script: Option<PathBuf>,
    /// File or folder of the model [default: model or models in the folder, else its only file that looks like a model]
    #[arg(long, short, value_name = "PATH", value_parser = text_path())]
    pub(super) model: Option<PathBuf>,
    /// conda file or requirements.txt; built where it is not there yet [default: none, the Python of the path]
    #[arg(long, short, value_name = "FILE", value_parser = text_path())]
    pub(super) environment: Option<PathBuf>,
    /// Take the nearest Python where the one that the environment asks for is not there
    #[arg(long, requires = "environment")]
    pub(super) any_python: bool,
    /// The body of the request; - is standard input [default: sample-request.json beside the script or in the folder]
    #[arg(long, short, value_name = "FILE", value_parser = text_path())]
    pub(super) request: Option<PathBuf>,
}

/// `serin sku`
#[derive(Debug, Subcommand)]
pub(super) enum Sku {
    /// Print all instance types
    List(OwnSkus),
    /// Print one instance type, found in any case
    Show {
        #[command(flatten)]
        named: Named<String>,
        #[command(flatten)]
        own: OwnSkus,
    },
}

/// Instance types beside the built-in ones.
#[derive(Debug, Args)]
pub(super) struct OwnSkus {
    /// YAML file of own instance types, beside the built-in ones
    #[arg(long, value_name = "FILE")]
    pub(super) skus: Option<PathBuf>,
}

/// `serin status`
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Time over which requests a second are counted; with 0 they are not, and the answer comes at once
    #[arg(long, default_value = "1", value_name = "SECONDS", value_parser = seconds_of_status)]
    pub(super) seconds: f64,
    /// Say it again and again, until Ctrl-C
    #[arg(long)]
    pub(super) watch: bool,
}

/// Longest time over which `serin status` counts.
const STATUS_SECONDS_MAX: f64 = 3600.0;

fn seconds_of_status(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok();
    let seconds = seconds.filter(|seconds| (0.0..=STATUS_SECONDS_MAX).contains(seconds));
    seconds.ok_or_else(|| format!("expected seconds from 0 to {STATUS_SECONDS_MAX}"))
}

/// `serin journal`
#[derive(Debug, Args)]
pub(super) struct Journal {
    /// Number of entries, the newest
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub(super) last: usize,
}

/// `serin history`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("of").args(["bare", "name"]).multiple(false))]
pub(super) struct History {
    /// Endpoint whose changes are printed [default: all]
    #[arg(value_name = "ENDPOINT")]
    pub(super) bare: Option<EndpointName>,
    /// The same
    #[arg(long, short)]
    pub(super) name: Option<EndpointName>,
    /// Number of changes, the newest
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(super) last: usize,
}

/// `serin rollback`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("of").args(["bare", "name"]).multiple(false))]
pub(super) struct RollBack {
    /// Endpoint that goes back [default: every one that is another now; those that were made since stay]
    #[arg(value_name = "ENDPOINT")]
    pub(super) bare: Option<EndpointName>,
    /// The same
    #[arg(long, short)]
    pub(super) name: Option<EndpointName>,
    /// Revision that comes back: split, deployments and the content of their models; credentials stay what they are
    #[arg(long, value_name = "REVISION")]
    pub(super) to: u64,
    #[command(flatten)]
    pub(super) waiting: Waiting,
}

/// `serin man`
#[derive(Debug, Args)]
pub(super) struct ManPages {
    /// Folder into which they are written
    #[arg(value_name = "FOLDER")]
    pub(super) folder: PathBuf,
}

/// `serin convert`
#[derive(Debug, Args)]
pub(super) struct Convert {
    /// YAML file of an endpoint or a deployment
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Folder into which each endpoint and deployment is written as a file of its own [default: all to standard output]
    #[arg(long, value_name = "FOLDER")]
    pub(super) folder: Option<PathBuf>,
}

/// `serin endpoint diff`
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// YAML file of an endpoint or a deployment
    #[arg(long, short)]
    pub(super) file: PathBuf,
    /// Name of the endpoint; beats that of an endpoint's file
    #[arg(long, short)]
    pub(super) name: Option<EndpointName>,
}

/// `serin apply`
#[derive(Debug, Args)]
pub(super) struct Apply {
    /// YAML file of an endpoint or a deployment; several for an endpoint and its deployments
    #[arg(long, short, required = true, num_args = 1..)]
    pub(super) file: Vec<PathBuf>,
    /// Data folder of a server; several for several servers, which are all asked before anything is done [default: --data]
    #[arg(long, value_name = "FOLDER")]
    pub(super) server: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) waiting: Waiting,
}

/// `serin serve`
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Port for scoring requests; 0 takes any free one [default: SERIN_PORT, else PORT, else 5001]
    #[arg(long, short)]
    pub(super) port: Option<u16>,
    /// Address for scoring requests; the default is reachable from this machine only
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub(super) host: IpAddr,
    /// Port for administration, on this machine only; 0 takes any free one
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    pub(super) admin_port: u16,
    /// Rule for instances that ask for more cores than there are: share them, or refuse
    #[arg(long, value_enum, default_value_t)]
    pub(super) capacity: CapacityRule,
    #[command(flatten)]
    pub(super) pin: Pin,
    #[command(flatten)]
    pub(super) own: OwnSkus,
    /// Largest body of a scoring request, in bytes; a larger one gets 413
    #[arg(long, value_name = "BYTES", default_value_t = crate::config::BODY_BYTES_DEFAULT)]
    pub(super) body_bytes_max: usize,
    /// Most bytes of bodies and answers in memory at once, those of up to 64 KiB aside; a body waits for room, or gets 503 [default: a
    /// quarter of the memory]
    #[arg(long, value_name = "BYTES")]
    pub(super) bytes_in_flight_max: Option<u64>,
    /// Most connections of clients at once, as far as file descriptors allow; beyond them an idle one is closed, or the new one waits
    #[arg(long, value_name = "N", default_value_t = crate::config::CONNECTIONS_DEFAULT)]
    pub(super) connections_max: usize,
    /// Where Prometheus finds `/metrics`: IP:PORT, a port of this machine, or `scoring` for the scoring address, without a key [default: the
    /// administration address alone]
    #[arg(long, value_name = "ADDRESS", value_parser = metrics_at)]
    pub(super) metrics: Option<MetricsAt>,
    /// Threads that move bytes [default: one for each four cores, at most four]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) edge_threads: Option<u16>,
    /// Most memory that a model may take to load and answer once, in MB; one that needs more is refused [default: 8589]
    #[arg(long, value_name = "MB")]
    pub(super) model_memory_mb: Option<u64>,
    /// Life of a token of `aml_token` endpoints, in seconds [default: 3600]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) token_life: Option<u32>,
    /// Longest time that requests in flight may take to end at exit, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub(super) grace: Option<u16>,
    /// Time at exit in which readiness says 503 and everything is served on, in seconds: as long as balancers take to notice
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(super) drain_delay: u16,
    #[command(flatten)]
    pub(super) log: LogArgs,
    /// Start the server again when it dies; clients that connect meanwhile wait instead of being refused
    #[arg(long)]
    pub(super) supervise: bool,
    /// Take the place of the server that runs on this data folder, at its addresses: it serves until this one does, and no request is
    /// lost; where none runs, start one
    #[arg(long, conflicts_with = "supervise")]
    pub(super) replace: bool,
    /// Start although the data folder has less than was accepted; what is there is kept aside, and the journal says so
    #[arg(long)]
    pub(super) accept_loss: bool,
    /// The sockets of the supervisor that has started this process.
    #[arg(long, hide = true, value_name = "PID:FD:FD")]
    pub(super) handed_over: Option<HandedOver>,
    /// Ends the server when its standard input is closed: it never outlives the process that started it.
    #[arg(long, hide = true)]
    pub(super) until_stdin_closes: bool,
}

/// The rule for instances that ask for more cores than there are.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(super) enum CapacityRule {
    /// Share the cores evenly and say so.
    #[default]
    Overcommit,
    /// Refuse, with numbers.
    Strict,
}

/// Where the log goes, and what is in it.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// Shape of the log; its level is in SERIN_LOG
    #[arg(long, value_enum, default_value_t)]
    pub(super) log: LogShape,
    /// File that the log is appended to, opened again on SIGHUP [default: standard error]
    #[arg(long, value_name = "FILE")]
    pub(super) log_file: Option<PathBuf>,
    /// File with the level of the log, which counts before SERIN_LOG; read again on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub(super) log_level_file: Option<PathBuf>,
}

/// Whether threads keep to cores.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Pin {
    /// Whether the threads of an instance keep to the cores that it was given [default: auto, where no other server of this user has
    /// them and no CPU quota is set]
    #[arg(long, value_enum, default_value_t, hide_default_value = true)]
    pub(super) pin: PinRule,
}

/// The rule for that.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(super) enum PinRule {
    /// Where the cores are this server's own.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Shape of the log.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(super) enum LogShape {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// `serin up`
#[derive(Debug, Args)]
pub(super) struct Up {
    /// Model files, or folders with one (model.onnx, one .onnx file, or the highest VERSION/model.onnx); each is a deployment
    #[arg(required = true, value_name = "MODEL", value_parser = text_path())]
    pub(super) models: Vec<PathBuf>,
    /// Name of the endpoint, and of the deployment where there is one model
    #[arg(long, short)]
    pub(super) name: Option<EndpointName>,
    /// Port for scoring requests; 0 takes any free one [default: SERIN_PORT, else PORT, else 5001]
    #[arg(long, short)]
    pub(super) port: Option<u16>,
    /// Address for scoring requests
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub(super) host: IpAddr,
    /// Percent per deployment [default: all to the first]
    #[arg(long, short = 'r', num_args = 1.., value_name = "SPLIT")]
    pub(super) traffic: Vec<String>,
    /// Instances of each deployment
    #[arg(long, short, default_value_t = 1, value_name = "N")]
    pub(super) instance_count: u32,
    /// Most requests that an instance takes at once; as many may wait, further ones get 429 [default: 32 for each core, at most 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(crate::config::CONCURRENCY_MAX)))]
    pub(super) max_concurrent_requests: Option<u32>,
    /// Where Prometheus finds `/metrics`: IP:PORT, a port of this machine, or `scoring` for the scoring address, without a key
    #[arg(long, value_name = "ADDRESS", value_parser = metrics_at)]
    pub(super) metrics: Option<MetricsAt>,
    #[command(flatten)]
    pub(super) pin: Pin,
    /// Most memory that a model may take to load and answer once, in MB; one that needs more is refused [default: 8589]
    #[arg(long, value_name = "MB")]
    pub(super) model_memory_mb: Option<u64>,
    #[command(flatten)]
    pub(super) log: LogArgs,
}

/// `serin tune`
#[derive(Debug, Args)]
#[command(
    override_usage = "serin tune --deployment <NAME> [--apply] [OPTIONS]\n       serin tune <MODEL.ONNX> [OPTIONS]",
    group = clap::ArgGroup::new("subject").args(["model", "deployment"]).required(true)
)]
pub(super) struct Tune {
    /// A model file, or a folder with one; needs no server
    #[arg(value_name = "MODEL.ONNX", value_parser = text_path())]
    pub(super) model: Option<PathBuf>,
    /// Deployment to tune: its model, its instance type, and its settings to compare with
    #[arg(long, short)]
    pub(super) deployment: Option<DeploymentName>,
    /// Endpoint of the deployment; may be left out when only one has it
    #[arg(long, short, conflicts_with = "model")]
    pub(super) endpoint_name: Option<EndpointName>,
    /// Cores of one instance, by the name of an instance type [default: all cores]
    #[arg(long, conflicts_with = "deployment", value_name = "NAME")]
    pub(super) instance_type: Option<String>,
    /// Cores of one instance
    #[arg(long, conflicts_with_all = ["deployment", "instance_type"], value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) vcpus: Option<u16>,
    #[command(flatten)]
    pub(super) own: OwnSkus,
    /// JSON file with the request to send [default: the model's sample request, or one made from its shapes]
    #[arg(long, short, value_name = "FILE")]
    pub(super) request_file: Option<PathBuf>,
    /// Requests at once [default: what an instance takes, 8 for files]
    #[arg(long, short = 'c', value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) connections: Option<u16>,
    /// Longest p99 latency that will do, in milliseconds [default: that of what runs now]
    #[arg(long, value_name = "MS", value_parser = positive)]
    pub(super) p99_ms: Option<f64>,
    /// Update the deployment where another setting is proven to be better
    #[arg(long, conflicts_with = "model")]
    pub(super) apply: bool,
    /// Draw throughput against p99 into this SVG file
    #[arg(long, value_name = "FILE.SVG")]
    pub(super) plot: Option<PathBuf>,
    /// Longest time to measure: seconds, or with a unit such as 90s, 2m or 1h
    #[arg(long, alias = "budget-s", value_name = "TIME", default_value = "60", value_parser = time)]
    pub(super) budget: u32,
    /// Most memory that the model may take to load and answer once, in MB [default: 8589]
    #[arg(long, value_name = "MB")]
    pub(super) model_memory_mb: Option<u64>,
}

/// A place for metrics.
fn metrics_at(text: &str) -> Result<MetricsAt, String> {
    if text == "scoring" {
        return Ok(MetricsAt::Scoring);
    }
    let port = text.strip_prefix("localhost:").unwrap_or(text);
    let of_this_machine = port
        .parse()
        .map(|port: u16| (Ipv4Addr::LOCALHOST, port).into());
    of_this_machine
        .or_else(|_| text.parse())
        .map(MetricsAt::Address)
        .map_err(|_| {
            "expected an address with its port (0.0.0.0:9090), a port of this machine (9090), or `scoring`"
                .to_owned()
        })
}

/// A number of milliseconds above zero.
fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|ms: &f64| *ms > 0.0 && *ms <= MILLISECONDS_MAX)
        .ok_or_else(|| format!("expected a number above 0 and at most {MILLISECONDS_MAX}"))
}

/// A day.
const MILLISECONDS_MAX: f64 = 86_400_000.0;

/// `serin bench`
#[derive(Debug, Args)]
#[command(
    override_usage = "serin bench <BASELINE> [OTHER]... [OPTIONS]\n       serin bench --url <URL> [--url <URL>] [OPTIONS]\n       serin bench compare <OLD.JSON> <NEW.JSON>",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "A version is a deployment (`blue`), or a model file or a folder with one (`v1.onnx`, `./v1`): files need no server.\n\
                  With --fail-if the exit code is 0 when every condition is proven to be kept, 1 when one is proven to be broken,\n\
                  2 when the interval does not say, 3 when the run says nothing, and 4 when all is kept but a rate of --slo is unconfirmed.",
    group = clap::ArgGroup::new("versions").args(["version", "url"]).required(true).multiple(true),
    group = clap::ArgGroup::new("length").args(["quick", "thorough", "budget"])
)]
pub(super) struct Bench {
    #[command(subcommand)]
    pub(super) action: Option<BenchAction>,
    /// The baseline, and what is compared with it: one version, or up to seven
    #[arg(value_name = "VERSION", num_args = 0..)]
    pub(super) version: Vec<String>,
    /// A server of any kind, by the address that takes its requests; it counts as a version
    #[arg(long, value_name = "URL")]
    pub(super) url: Vec<String>,
    /// Key or token for the servers of --url: one for all, or one for each in their order [default: SERIN_KEY of the environment]
    #[arg(long, value_name = "KEY", requires = "url", allow_hyphen_values = true)]
    pub(super) key: Vec<String>,
    /// A header for the servers of --url: `-H 'x-api-key: 1234'`
    #[arg(long, short = 'H', value_name = "NAME: VALUE", requires = "url", value_parser = header)]
    pub(super) header: Vec<(String, String)>,
    /// Certificates of the authorities that vouch for https servers of --url, as PEM [default: those of the system]
    #[arg(long, value_name = "FILE.PEM", requires = "url")]
    pub(super) cacert: Option<PathBuf>,
    /// Refused, with the reason.
    #[arg(long, hide = true, requires = "url")]
    pub(super) insecure: bool,
    /// Endpoint of the deployments; may be left out when only one has them
    #[arg(long, short)]
    pub(super) endpoint_name: Option<EndpointName>,

    /// Arrival of requests: closed, or one of MLPerf's single-stream, multi-stream, server, offline [default: closed]
    #[arg(long, value_enum, hide_possible_values = true, help_heading = "Load")]
    pub(super) scenario: Option<LoadScenario>,
    /// Requests a second, whatever the server does; several for a sweep
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Load")]
    pub(super) rate: Vec<u32>,
    /// Whether requests of a rate come independently of each other (poisson) or evenly (constant) [default: poisson]
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        requires = "rate",
        help_heading = "Load"
    )]
    pub(super) arrivals: Option<ArrivalKind>,
    /// Requests at once; several for a sweep [default: what the deployments take, 8 for files and addresses]
    #[arg(long, short = 'c', value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=4096), help_heading = "Load")]
    pub(super) connections: Vec<u16>,
    /// Highest rate that keeps a latency, instead of a comparison under one load: `p99=20ms`
    #[arg(long, value_name = "LATENCY", conflicts_with_all = ["rate", "scenario", "target_ci"], help_heading = "Load")]
    pub(super) slo: Option<Slo>,
    /// Longest that one request may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600), help_heading = "Load")]
    pub(super) timeout: u32,

    /// About 30 seconds; this is the default
    #[arg(long, help_heading = "Time")]
    pub(super) quick: bool,
    /// About five minutes
    #[arg(long, help_heading = "Time")]
    pub(super) thorough: bool,
    /// Longest time to measure: seconds, or with a unit such as 90s, 2m or 1h
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Time")]
    pub(super) budget: Option<u32>,
    /// End as soon as the interval is this narrow to each side, such as 1%; then --budget is 600 if not given
    #[arg(long, value_name = "PERCENT", value_parser = percent, help_heading = "Time")]
    pub(super) target_ci: Option<f64>,

    /// Difference below which versions are the same, such as 1%: then that they are can be proven, and is a verdict
    #[arg(long, value_name = "PERCENT", value_parser = percent, conflicts_with = "slo", help_heading = "Result")]
    pub(super) min_difference: Option<f64>,

    /// Requests: a JSON file, a JSONL file with one a line, or a folder of them; once for each version where they take different ones
    #[arg(long, short, value_name = "PATH", help_heading = "Requests")]
    pub(super) input: Vec<PathBuf>,
    /// Requests that are made from the model's shapes, beside its sample request, where no --input is given
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=100_000), help_heading = "Requests")]
    pub(super) made: u32,
    /// Of the requests that are made, the schedules and the order of the pairs
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Requests")]
    pub(super) seed: u64,
    /// Largest distance of numbers of two answers, absolutely and in parts of the baseline's number
    #[arg(long, value_name = "NUMBER", default_value_t = 1e-4, value_parser = tolerance, help_heading = "Requests")]
    pub(super) tolerance: f64,

    /// Condition that fails a script when it is proven: `throughput<0.97`, `p99>1.10`, `agreement<0.99`, `failures>0.1%`
    #[arg(long, value_name = "CONDITION", help_heading = "Result")]
    pub(super) fail_if: Vec<Condition>,
    /// Write a page with tables and plots that opens in any browser, offline
    #[arg(long, value_name = "FILE.HTML", help_heading = "Result")]
    pub(super) html: Option<PathBuf>,
    /// Write the run with its raw samples, for `serin bench compare`
    #[arg(long, value_name = "FILE.JSON", help_heading = "Result")]
    pub(super) save: Option<PathBuf>,

    /// Cores of the instance that serves a file, by the name of an instance type [default: all cores]
    #[arg(long, value_name = "NAME", help_heading = "Files")]
    pub(super) instance_type: Option<String>,
    /// Cores of the instance that serves a file
    #[arg(long, conflicts_with = "instance_type", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Files")]
    pub(super) vcpus: Option<u16>,
    /// Requests that the instance takes at once [default: the connections]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000), help_heading = "Files")]
    pub(super) concurrency: Option<u16>,
    #[command(flatten)]
    pub(super) own: OwnSkus,
    /// Most memory that a model may take to load and answer once, in MB [default: 8589]
    #[arg(long, value_name = "MB", help_heading = "Files")]
    pub(super) model_memory_mb: Option<u64>,
}

/// `serin bench compare`
#[derive(Debug, Subcommand)]
pub(super) enum BenchAction {
    /// Compare two runs that were written by --save: what changed between them, and whether that can be said of the versions
    Compare {
        /// The older run
        #[arg(value_name = "OLD.JSON")]
        old: PathBuf,
        /// The newer run
        #[arg(value_name = "NEW.JSON")]
        new: PathBuf,
    },
}

/// The way in which requests arrive, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LoadScenario {
    /// The next request of a connection as soon as the last is answered.
    Closed,
    /// One request at a time.
    SingleStream,
    /// Eight requests at a time.
    MultiStream,
    /// Independent arrivals at a rate.
    Server,
    /// As many at once as the server takes.
    Offline,
}

/// The spacing of the requests of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ArrivalKind {
    /// Independently of each other.
    Poisson,
    /// Evenly.
    Constant,
}

/// The path of a model: text, because it stands in specs and is told to other processes.
fn text_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| check_text(&path).map(|()| path))
}

/// `1%` or `1`, as a share.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    number
        .parse()
        .ok()
        .filter(|percent: &f64| *percent > 0.0 && *percent < 100.0)
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "expected a percentage such as 1% or 0.5%".to_owned())
}

/// `90`, `90s`, `2m` or `1h`, in seconds: one second to a day.
fn time(text: &str) -> Result<u32, String> {
    const DAY: u32 = 86_400;
    let units = [("s", 1), ("m", 60), ("h", 3600), ("", 1)];
    let read = |(unit, seconds): (&str, u32)| {
        let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(seconds)
    };
    units
        .into_iter()
        .find_map(read)
        .filter(|seconds| (1..=DAY).contains(seconds))
        .ok_or_else(|| "expected a time from 1s to 24h, such as 90, 90s, 2m or 1h".to_owned())
}

/// `name: value`. What is wrong with it must not be told: it may be a secret.
fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("expected a header such as 'x-api-key: 1234'")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn tolerance(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number: &f64| (0.0..=1e9).contains(number))
        .ok_or_else(|| "expected a number that is not negative, such as 1e-4".to_owned())
}

/// `serin demo`
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Play the way from a scoring script to the ONNX form of its model; needs a Python 3
    #[arg(long)]
    pub(super) script: bool,
    /// Play the second act alone: rollouts that judge themselves
    #[arg(long, conflicts_with = "script")]
    pub(super) canary: bool,
    /// Leave the server and the endpoint up, and say how to go on
    #[arg(long)]
    pub(super) keep: bool,
    /// Requests a second [default: 300, and 400 where rollouts are judged by them]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=5000), value_name = "N")]
    pub(super) rate: Option<u32>,
}

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_time_is_seconds_or_has_a_unit() {
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("2m", 120),
            ("1h", 3600),
            ("24h", 86_400),
        ] {
            assert_eq!(time(text), Ok(seconds), "{text}");
        }
        for text in [
            "",
            "0",
            "0m",
            "m",
            "-1",
            "1.5m",
            "25h",
            "2d",
            "4294967295h",
            "2m30s",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_header_has_a_name_and_a_value_and_is_not_repeated_where_it_is_wrong() {
        let value = "a: b".to_owned();
        assert_eq!(header("x-one: a: b"), Ok(("x-one".to_owned(), value)));
        let refused = header("secret").unwrap_err();
        assert!(!refused.contains("secret"), "{refused}");
    }

    #[test]
    fn all_traffic_need_not_be_waited_for() {
        let line = "serin deployment create -f blue.yml --all-traffic --no-wait";
        let typed = Typed::try_parse_from(line.split(' ')).unwrap();
        let Command::Deployment(Deployment::Create(typed)) = typed.command else {
            panic!("{:?}", typed.command);
        };
        assert!(typed.all_traffic && typed.waiting.no_wait);
    }

    #[test]
    fn the_path_of_a_model_that_is_not_text_is_refused_by_its_name() {
        for before in [
            &["up"][..],
            &["tune"],
            &["model", "create", "--name", "digits", "--path"],
        ] {
            let path = OsStr::from_bytes(b"mod\xe8le.onnx");
            let typed = ["serin"].iter().chain(before).map(OsString::from);
            let refused = Typed::try_parse_from(typed.chain([path.to_owned()])).unwrap_err();
            let text = refused.to_string();
            assert_eq!(refused.exit_code(), 2, "{text}");
            assert!(
                text.contains(r#"expected a path of UTF-8 text, found "mod\xE8le.onnx""#),
                "{text}"
            );
        }
    }
}
