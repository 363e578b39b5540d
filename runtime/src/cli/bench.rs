//! `serin bench`: what is compared, progress while it is measured, and what comes of it: a table, JSON, files, an exit code.
//!
//! Not here: how it is measured and what the numbers say (`bench`).

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::args::{ArrivalKind, Bench as Typed, Global, LoadScenario, OutputFormat};
use super::exit::CliError;
use super::find::only_endpoint_with;
use super::output;
use super::server::{Server, data_folder};
use super::{serve, signals, sku, version};
use crate::admin::Client;
use crate::bench::{
    Bench, BenchError, GateState, Inputs, InputsError, InstanceShape, Outcome, PrivateError,
    PrivateServer, Progress, Report, Scenario, ServerTimings, Subject, Tolerance, Version, hgrm,
    html, markdown, table,
};
use crate::control::{FoundModel, ModelDigest};
use crate::engine::Topology;
use crate::load::Target;
use crate::observe::Process;
use crate::spec::{DeploymentName, EndpointName};

/// Default time to measure.
const QUICK: Duration = Duration::from_secs(30);
/// With `--thorough`.
const THOROUGH: Duration = Duration::from_secs(300);
/// At most, with `--target-ci`.
const TARGETED: Duration = Duration::from_secs(600);
/// Requests at once where nobody says what the server takes.
const CONNECTIONS: usize = 8;
/// Requests at once of a query in multi-stream (MLPerf).
const MULTI_STREAM: usize = 8;
/// Most connections of an open loop.
const CONNECTIONS_OPEN: usize = 128;
/// Most requests at once that are made of what deployments take.
const CONNECTIONS_MAX: usize = 256;

/// Bodies of requests.
type Bodies = Arc<[Bytes]>;

/// A version as it was named, and what is known of it.
struct Found {
    label: String,
    what: String,
    place: Place,
    model: Option<FoundModel>,
    sha256: Option<String>,
}

/// A deployment of a server that runs.
struct Deployed {
    client: Client,
    endpoint: EndpointName,
    name: DeploymentName,
    /// As the server shows it.
    shown: Value,
}

/// Where a version is.
enum Place {
    Deployment(Box<Deployed>),
    File,
    Url {
        address: SocketAddr,
        host: String,
        path: String,
    },
}

/// Measures, tells, writes and judges.
pub(super) fn run(typed: &Typed, global: &Global) -> Result<(), CliError> {
    let outcome = measure(typed, global);
    match outcome {
        // A script that asked for a decision gets one: this run says nothing.
        Err(error) if !typed.fail_if.is_empty() => Err(error.into_no_decision()),
        outcome => outcome,
    }
}

fn measure(typed: &Typed, global: &Global) -> Result<(), CliError> {
    let stop = signals::stop()?;
    let tell = |text: &str| {
        if !global.only_show_errors {
            output::complain(text);
        }
    };
    let found = find(typed, global)?;
    let names: Vec<_> = found.iter().map(|one| one.label.as_str()).collect();
    let doing = format!("bench {}", names.join(" "));
    let within = |error: CliError| match *stop.borrow() {
        true => CliError::Interrupted,
        false => error.while_doing(&doing),
    };
    let (inputs, words) = inputs(typed, &found).map_err(within)?;
    let connections = connections(typed, &found);
    let mut private = Vec::new();
    let mut subjects = Vec::new();
    for (one, inputs) in found.iter().zip(inputs) {
        if matches!(one.place, Place::File) {
            tell(&format!("starting a server for {}\n", one.label));
        }
        let subject = subject(one, inputs, typed, &connections, &mut private).map_err(within)?;
        subjects.push(subject);
    }
    let bench = Bench {
        subjects,
        inputs: words,
        scenario: scenario(typed),
        connections,
        rates: rates(typed),
        budget: budget(typed),
        target_half_width: typed.target_ci,
        slo: typed.slo,
        seed: typed.seed,
        timeout: Duration::from_secs(typed.timeout.into()),
        tolerance: Tolerance {
            absolute: typed.tolerance,
            relative: typed.tolerance,
        },
        conditions: typed.fail_if.clone(),
        onnxruntime: private
            .first()
            .map(|_: &PrivateServer| version::ONNXRUNTIME.to_owned()),
    };
    tell(&format!(
        "measuring {} for at most {} s; Ctrl-C shows what is known by then\n",
        names.join(" and "),
        bench.budget.as_secs()
    ));
    let line = Line::new(!global.only_show_errors);
    let measured = bench.run(stop.clone(), |progress| line.show(progress));
    line.end();
    let report = measured.map_err(|error| within(refused(error)))?;
    drop(private);
    finish(&report, typed, global)
}

/// The progress: a line that moves on a terminal, else a line for each step that is worth one.
struct Line {
    wanted: bool,
    moving: bool,
}

impl Line {
    fn new(wanted: bool) -> Self {
        Self {
            wanted,
            moving: output::is_live(&std::io::stderr()),
        }
    }

    fn show(&self, progress: &Progress<'_>) {
        if !self.wanted {
            return;
        }
        let text = told(progress);
        if self.moving {
            output::complain(&format!("\r\x1b[K{text}"));
        } else if is_worth_a_line(progress) {
            output::complain(&format!("{text}\n"));
        }
    }

    fn end(&self) {
        if self.wanted && self.moving {
            output::complain("\r\x1b[K");
        }
    }
}

fn told(progress: &Progress<'_>) -> String {
    match progress {
        Progress::Asking(label, count) => format!("asking {label} all {count} requests"),
        Progress::Warming(label, per_s) => format!("warming up {label}: {per_s:.0} answers/s"),
        Progress::Level(words) => format!("measuring with {words}"),
        Progress::Noise(pair, of) => format!("the baseline against itself: pair {pair} of {of}"),
        Progress::Pair(pair, about, found) => {
            let mut text = format!("pair {pair} of about {about}");
            if let Some(estimate) = found.map(|ratio| ratio.estimate)
                && let (Some(low), Some(high)) = (estimate.low, estimate.high)
            {
                write!(text, ": {:.3} [{low:.3}, {high:.3}] so far", estimate.point)
                    .expect("text takes any text");
            }
            text
        }
        Progress::Block(block, about, per_s) => {
            format!("block {block} of about {about}: {per_s:.0} answers/s")
        }
        Progress::Tried(label, words) => format!("{label}: {words}"),
    }
}

/// Where lines do not move, pairs and blocks would fill the screen.
fn is_worth_a_line(progress: &Progress<'_>) -> bool {
    match progress {
        Progress::Asking(..) | Progress::Level(_) | Progress::Tried(..) => true,
        Progress::Noise(pair, of) => pair == of,
        Progress::Pair(pair, ..) | Progress::Block(pair, ..) => pair % 10 == 0,
        Progress::Warming(..) => false,
    }
}

/// Prints, writes the files and decides.
fn finish(report: &Report, typed: &Typed, global: &Global) -> Result<(), CliError> {
    let format = match output::is_terminal() {
        true => global.format_for_people(),
        false => global.format(),
    };
    match format {
        OutputFormat::Table => output::print_bytes(table(report).as_bytes())?,
        OutputFormat::Json | OutputFormat::Tsv | OutputFormat::None => {
            let value = serde_json::to_value(report).expect("reports have a JSON form");
            output::print(&value, format)?;
        }
    }
    if let Some(path) = &typed.html {
        let page = html(report).map_err(|error| CliError::BadInput(error.to_string()))?;
        write(path, "--html", &page)?;
    }
    if let Some(path) = &typed.markdown {
        write(path, "--markdown", &markdown(report))?;
    }
    if let Some(folder) = &typed.hgrm {
        write_hgrm(report, folder)?;
    }
    if report.interrupted {
        return Err(CliError::Interrupted);
    }
    decide(report, typed)
}

/// The exit code of a script.
fn decide(report: &Report, typed: &Typed) -> Result<(), CliError> {
    let words = || report.verdict.words.clone();
    if typed.fail_if.is_empty() {
        return match report.verdict.outcome {
            Outcome::Invalid => Err(CliError::SaysNothing(words())),
            _ => Ok(()),
        };
    }
    if report.verdict.outcome == Outcome::Invalid {
        return Err(CliError::SaysNothing(words()));
    }
    let with = |state| {
        let gates = report.gates.iter().filter(move |gate| gate.state == state);
        let conditions: Vec<_> = gates.map(|gate| gate.condition.as_str()).collect();
        (!conditions.is_empty()).then(|| conditions.join(", "))
    };
    if let Some(conditions) = with(GateState::Failed) {
        return Err(CliError::Regression(format!("{conditions}: {}", words())));
    }
    match with(GateState::Undecided) {
        Some(conditions) => Err(CliError::Undecided(format!("{conditions}: {}", words()))),
        None => Ok(()),
    }
}

fn write(path: &Path, flag: &str, text: &str) -> Result<(), CliError> {
    fs::write(path, text).map_err(|error| {
        CliError::BadInput(format!("{flag}: cannot write {}: {error}", path.display()))
    })
}

/// A file for each version and load.
fn write_hgrm(report: &Report, folder: &Path) -> Result<(), CliError> {
    fs::create_dir_all(folder).map_err(|error| {
        CliError::BadInput(format!("--hgrm: cannot make {}: {error}", folder.display()))
    })?;
    for level in &report.levels {
        for (version, figures) in report.versions.iter().zip(&level.figures) {
            let mut name = file_name(&version.label);
            if report.levels.len() > 1 {
                name = format!("{name}-{}", file_name(&level.name));
            }
            let path = folder.join(format!("{name}.hgrm"));
            write(&path, "--hgrm", &hgrm(&figures.latencies))?;
        }
    }
    Ok(())
}

/// The label without what no file name may hold.
fn file_name(label: &str) -> String {
    let sound = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    label
        .chars()
        .map(|c| if sound(c) { c } else { '-' })
        .collect()
}

/// Why a file has no server, and whose matter that is.
fn not_served(error: PrivateError) -> CliError {
    match error {
        PrivateError::Folder(source) => CliError::Start(source),
        PrivateError::Child(error) => CliError::Child(error),
        PrivateError::Client(error) => CliError::Client(error),
        error @ PrivateError::Model { .. } => CliError::BadInput(error.to_string()),
    }
}

/// Why nothing was measured, and whose matter that is.
fn refused(error: BenchError) -> CliError {
    match error {
        BenchError::Interrupted => CliError::Interrupted,
        BenchError::Threads(source) => CliError::Start(source),
        error @ (BenchError::Refused { .. }
        | BenchError::OtherInputs { .. }
        | BenchError::NoTime(_)) => CliError::BadInput(error.to_string()),
    }
}

fn scenario(typed: &Typed) -> Scenario {
    match (typed.scenario, typed.arrivals) {
        (_, Some(ArrivalKind::Constant)) => Scenario::Constant,
        (Some(LoadScenario::Closed), _) => Scenario::Closed,
        (Some(LoadScenario::SingleStream), _) => Scenario::SingleStream,
        (Some(LoadScenario::MultiStream), _) => Scenario::MultiStream,
        (Some(LoadScenario::Offline), _) => Scenario::Offline,
        (Some(LoadScenario::Server), _) => Scenario::Server,
        (None, _) if typed.rate.is_empty() && typed.slo.is_none() => Scenario::Closed,
        (None, _) => Scenario::Server,
    }
}

fn is_open(scenario: Scenario) -> bool {
    matches!(scenario, Scenario::Server | Scenario::Constant)
}

fn rates(typed: &Typed) -> Vec<NonZeroU32> {
    typed
        .rate
        .iter()
        .copied()
        .filter_map(NonZeroU32::new)
        .collect()
}

fn budget(typed: &Typed) -> Duration {
    match typed.budget {
        Some(seconds) => Duration::from_secs(seconds.into()),
        None if typed.thorough => THOROUGH,
        None if typed.target_ci.is_some() => TARGETED,
        None => QUICK,
    }
}

/// Requests at once: as written, or what the versions take.
fn connections(typed: &Typed, found: &[Found]) -> Vec<usize> {
    let scenario = scenario(typed);
    if !typed.connections.is_empty() {
        return typed.connections.iter().copied().map(usize::from).collect();
    }
    if is_open(scenario) {
        return vec![CONNECTIONS_OPEN];
    }
    let slots = found
        .iter()
        .map(|one| match &one.place {
            Place::Deployment(deployed) => slots(&deployed.shown),
            Place::File | Place::Url { .. } => CONNECTIONS,
        })
        .min()
        .unwrap_or(CONNECTIONS);
    vec![match scenario {
        Scenario::SingleStream => 1,
        Scenario::MultiStream => MULTI_STREAM,
        // As many again may wait before a server refuses.
        Scenario::Offline => (2 * slots).clamp(1, CONNECTIONS_MAX),
        Scenario::Closed | Scenario::Constant | Scenario::Server => slots.clamp(1, CONNECTIONS_MAX),
    }]
}

/// Requests that a deployment runs at once.
fn slots(shown: &Value) -> usize {
    let number = |value: &Value| {
        value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
    };
    let each = number(&shown["request_settings"]["max_concurrent_requests_per_instance"]);
    let instances = number(&shown["instances_ready"]).or(number(&shown["instance_count"]));
    each.unwrap_or(1) * instances.unwrap_or(1)
}

/// The versions, the baseline first.
fn find(typed: &Typed, global: &Global) -> Result<Vec<Found>, CliError> {
    let count = typed.version.len() + typed.url.len();
    if count > 2 {
        return Err(CliError::BadInput(format!(
            "expected one version or two, found {count}: {}",
            typed
                .version
                .iter()
                .chain(&typed.url)
                .cloned()
                .collect::<Vec<_>>()
                .join(", ")
        )));
    }
    if scenario(typed) != Scenario::Closed && typed.connections.len() > 1 {
        return Err(CliError::BadInput(
            "several --connections are a sweep of a closed loop; with a rate, sweep with --rate 100,200,.."
                .to_owned(),
        ));
    }
    if !typed.rate.is_empty()
        && typed
            .scenario
            .is_some_and(|scenario| scenario != LoadScenario::Server)
    {
        return Err(CliError::BadInput(
            "--rate is for the scenario server; the others send as fast as they are answered"
                .to_owned(),
        ));
    }
    let mut found = Vec::new();
    for version in &typed.version {
        found.push(match is_file(version) {
            true => file(version)?,
            false => deployed(version, typed, global)?,
        });
    }
    for url in &typed.url {
        found.push(at_url(url)?);
    }
    tell_apart(&mut found);
    Ok(found)
}

/// Two versions never have the same label: what both are called says nothing.
fn tell_apart(found: &mut [Found]) {
    if let [one, other] = found
        && one.label == other.label
    {
        if one.what == other.what {
            other.label += " (again)";
        } else {
            one.label.clone_from(&one.what);
            other.label.clone_from(&other.what);
        }
    }
}

/// Names of deployments have neither slashes nor dots.
fn is_file(version: &str) -> bool {
    version.contains(['/', '.']) || Path::new(version).exists()
}

fn file(version: &str) -> Result<Found, CliError> {
    let model = FoundModel::at(Path::new(version))
        .map_err(|error| CliError::BadInput(format!("{version}: {error}")))?;
    let sha256 = model.sha256().map_err(|source| CliError::Read {
        path: model.file.clone(),
        source,
    })?;
    let path = PathBuf::from(version);
    let label = path.file_name().unwrap_or(path.as_os_str());
    Ok(Found {
        label: label.to_string_lossy().into_owned(),
        what: version.to_owned(),
        place: Place::File,
        sha256: Some(sha256),
        model: Some(model),
    })
}

fn deployed(version: &str, typed: &Typed, global: &Global) -> Result<Found, CliError> {
    let name: DeploymentName = version.parse().map_err(|error| {
        CliError::BadInput(format!(
            "{version:?} is neither a file nor the name of a deployment: {error}"
        ))
    })?;
    let server = Server::find(global)?;
    let endpoint = match &typed.endpoint_name {
        Some(endpoint) => endpoint.clone(),
        None => only_endpoint_with(&name, &server.client.endpoints()?)?,
    };
    let shown = server.client.deployment(&endpoint, &name)?;
    if shown["instances_ready"].as_u64() == Some(0) {
        return Err(CliError::NotFound(format!(
            "no instance of {endpoint}/{name} is ready: it is {}",
            shown["provisioning_state"].as_str().unwrap_or("not there")
        )));
    }
    let digest: Option<ModelDigest> = serde_json::from_value(shown["model_digest"].clone()).ok();
    let model = digest
        .as_ref()
        .and_then(|digest| FoundModel::copied(&data_folder(global).ok()?, digest).ok());
    Ok(Found {
        label: name.to_string(),
        what: format!("{endpoint}/{name}"),
        sha256: model.as_ref().and_then(|model| model.sha256().ok()),
        model,
        place: Place::Deployment(Box::new(Deployed {
            client: server.client,
            endpoint,
            name,
            shown,
        })),
    })
}

fn at_url(url: &str) -> Result<Found, CliError> {
    let bad = |why: &str| {
        CliError::BadInput(format!(
            "--url {url}: {why}; expected an address such as http://127.0.0.1:5001/score"
        ))
    };
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| bad("only http:// is spoken"))?;
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => return Err(bad("it has no path")),
    };
    let with_port = match host.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            host.to_owned()
        }
        _ => format!("{host}:80"),
    };
    let address = with_port
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| bad("the host is not known"))?;
    Ok(Found {
        label: host.to_owned(),
        what: url.to_owned(),
        place: Place::Url {
            address,
            host: host.to_owned(),
            path: path.to_owned(),
        },
        model: None,
        sha256: None,
    })
}

/// What each version is asked, and that in words.
fn inputs(typed: &Typed, found: &[Found]) -> Result<(Vec<Bodies>, String), CliError> {
    let bad = |error: InputsError| CliError::BadInput(format!("--input: {}", with_cause(&error)));
    let shared = |inputs: Inputs| {
        let bodies: Bodies = inputs.bodies.into();
        (vec![bodies; found.len()], inputs.words)
    };
    match &typed.input[..] {
        [] => {}
        [one] => return Inputs::read(one).map(shared).map_err(bad),
        [one, other] if found.len() == 2 => {
            let one = Inputs::read(one).map_err(bad)?;
            let other = Inputs::read(other).map_err(bad)?;
            let words = format!("{}; {}", one.words, other.words);
            return Ok((vec![one.bodies.into(), other.bodies.into()], words));
        }
        [..] => {
            return Err(CliError::BadInput(
                "--input is given once for all versions, or twice for two".to_owned(),
            ));
        }
    }
    let model = found
        .iter()
        .find_map(|one| one.model.as_ref())
        .ok_or_else(|| {
            CliError::BadInput(
                "what a server at an address takes is not known: give requests with --input"
                    .to_owned(),
            )
        })?;
    of_model(model, typed).map(shared)
}

fn with_cause(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_cause(cause)),
        None => error.to_string(),
    }
}

/// The model's sample request, and others that are made from its shapes.
fn of_model(model: &FoundModel, typed: &Typed) -> Result<Inputs, CliError> {
    let bad = |words: String| CliError::BadInput(words);
    let prober = serve::prober(typed.model_memory_mb)
        .ok_or_else(|| bad("the path of this program is not known".to_owned()))?;
    let sample = model.sample_request.clone();
    let probed = prober
        .probe(&model.file, sample.as_deref())
        .map_err(|error| bad(error.to_string()))?;
    let count = usize::try_from(typed.made).unwrap_or(usize::MAX);
    let made = match (count, &sample) {
        (0, None) => {
            return Err(bad(
                "the model has no sample request, and none are to be made: give requests with --input"
                    .to_owned(),
            ));
        }
        (0, Some(_)) => Ok(None),
        _ => Inputs::made(&probed.signature, 1, count, typed.seed).map(Some),
    };
    match (sample, made) {
        (Some(sample), Ok(Some(mut made))) => {
            made.bodies.insert(0, sample);
            made.words = format!("the model's sample request, and {}", made.words);
            Ok(made)
        }
        (Some(sample), _) => Ok(Inputs {
            bodies: vec![sample],
            words: "the model's sample request".to_owned(),
        }),
        (None, Ok(Some(made))) => Ok(made),
        (None, Err(error)) => Err(bad(format!(
            "no requests can be made from the model's shapes: {error}; give some with --input"
        ))),
        (None, Ok(None)) => unreachable!("refused above"),
    }
}

/// A version that answers; a file gets its server.
fn subject(
    found: &Found,
    inputs: Bodies,
    typed: &Typed,
    connections: &[usize],
    private: &mut Vec<PrivateServer>,
) -> Result<Subject, CliError> {
    let bad = |error: crate::load::TargetError| CliError::BadInput(error.to_string());
    let at = |url: String, settings: Option<Value>| Version {
        label: found.label.clone(),
        what: found.what.clone(),
        model_sha256: found.sha256.clone(),
        url,
        settings,
    };
    match &found.place {
        Place::Deployment(deployed) => {
            let shown = &deployed.shown;
            let settings = json!({
                "instance_type": shown["instance_type"],
                "instance_count": shown["instance_count"],
                "request_settings": shown["request_settings"],
            });
            let names = (deployed.endpoint.clone(), deployed.name.clone());
            on_server(deployed.client.clone(), names, inputs, |url| {
                at(url, Some(settings))
            })
        }
        Place::File => {
            let model = found.model.as_ref().expect("a file was found");
            let exe = std::env::current_exe().map_err(CliError::Start)?;
            let shape = shape(typed, connections)?;
            let server = PrivateServer::start(&exe, &model.file, shape).map_err(not_served)?;
            let settings = json!({
                "vcpus": shape.vcpus,
                "max_concurrent_requests_per_instance": shape.concurrency,
            });
            let names = (server.endpoint(), server.deployment());
            let subject = on_server(server.client()?, names, inputs, |url| {
                at(url, Some(settings))
            });
            private.push(server);
            subject
        }
        Place::Url {
            address,
            host,
            path,
        } => {
            let target = Target::at(*address, host, path).map_err(bad)?;
            let target = match &typed.key {
                Some(key) => target.with_bearer(key).map_err(bad)?,
                None => target,
            };
            Ok(Subject {
                version: at(found.what.clone(), None),
                target,
                inputs,
                process: None,
                timings: None,
            })
        }
    }
}

/// A deployment of a serin server.
fn on_server(
    client: Client,
    (endpoint, name): (EndpointName, DeploymentName),
    inputs: Bodies,
    version: impl FnOnce(String) -> Version,
) -> Result<Subject, CliError> {
    let bad = |error: crate::load::TargetError| CliError::BadInput(error.to_string());
    let address = client.server().scoring_address;
    let path = format!("/endpoints/{endpoint}/score");
    let credentials = client.credentials(&endpoint)?;
    let target = Target::new(address, &path)
        .and_then(|target| target.with_bearer(credentials.bearer()))
        .and_then(|target| target.with_deployment(name.as_str()))
        .map_err(bad)?;
    Ok(Subject {
        version: version(format!("http://{address}{path}")),
        target,
        inputs,
        process: Some(Process(client.server().pid)),
        timings: Some(ServerTimings::new(client, endpoint, name)),
    })
}

/// The instance of a file.
fn shape(typed: &Typed, connections: &[usize]) -> Result<InstanceShape, CliError> {
    let vcpus = match (&typed.instance_type, typed.vcpus) {
        (Some(name), _) => {
            let vcpus = sku::table(&typed.own)?.find(name)?.vcpus;
            usize::try_from(vcpus).unwrap_or(usize::MAX)
        }
        (None, Some(vcpus)) => vcpus.into(),
        (None, None) => Topology::read().len(),
    };
    let most = connections.iter().copied().max().unwrap_or(CONNECTIONS);
    Ok(InstanceShape {
        vcpus,
        concurrency: typed.concurrency.map_or(most, usize::from),
        model_memory_mb: typed.model_memory_mb,
    })
}
