//! `serin tune`: what to measure, progress while it is measured, and what comes of it: a table, JSON, a plot, an update.
//!
//! Not here: how settings are compared and what follows (`tune`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use serin_scorers::JsonScorer;

use super::args::{Global, OutputFormat, Tune as Typed, Waiting};
use super::bench::{CONNECTIONS, Line, not_served};
use super::exit::CliError;
use super::find::{deployments, is_same, only_endpoint_with};
use super::output::{self, Columns};
use super::server::{Server, data_folder};
use super::{files, serve, signals, sku, version};
use crate::bench::{
    self, BenchError, InstanceShape, PrivateServer, Subject, VERSIONS_MAX, Version,
};
use crate::control::{Change, DeploymentUpdate, FoundModel, ModelDigest};
use crate::engine::{Capacity, CoreMap, ModelSummary, Topology};
use crate::observe::memory_available;
use crate::spec::{Assignment, DeploymentName, EndpointName};
use crate::tune::{
    P99Max, PointReport, Progress, Report, Setting, Space, Started, Tune, TuneError, candidates,
    draw,
};

/// The columns of a table of settings.
const COLUMNS: Columns = &[
    ("lanes", &["/lanes"]),
    ("threads", &["/threads"]),
    ("spin", &["/spin"]),
    ("batch", &["/batch"]),
    ("requests/s", &["/throughput"]),
    ("by_now", &["/ratio"]),
    ("p50_ms", &["/p50"]),
    ("p99_ms", &["/p99"]),
    ("note", &["/mark"]),
];

/// Memory of a server beside its model.
const SERVER_BYTES: u64 = 100 << 20;
/// Memory of a server by the size of its model: the file, and what is made of it.
const MODEL_FACTOR: u64 = 2;

/// The model that is tuned, however it was named.
struct Found {
    /// For people.
    name: String,
    model: FoundModel,
    vcpus: usize,
    deployed: Option<Deployed>,
}

/// The facts about a deployment.
struct Deployed {
    server: Server,
    endpoint: EndpointName,
    name: DeploymentName,
    /// Its `request_settings`, as written.
    settings: Value,
    /// Others that serve on the same cores.
    neighbours: Vec<String>,
    /// An instance of it shares cores with another one, of it or not.
    shares_cores: bool,
}

/// Measures, tells, and applies if that was asked for.
pub(super) fn run(typed: &Typed, global: &Global) -> Result<(), CliError> {
    let stop = signals::stop()?;
    let found = find(typed, global)?;
    let doing = format!("tune {}", found.name);
    let within = |error: CliError| match *stop.borrow() {
        true => CliError::NothingMeasured,
        false => error.while_doing(&doing),
    };
    let body = body(&found, typed).map_err(within)?;
    let exe = std::env::current_exe().map_err(CliError::Start)?;
    let connections = connections(&found, typed);
    let tune = planned(&found, typed, connections);
    let tell = |text: &str| {
        if !global.only_show_errors {
            output::complain(text);
        }
    };
    tell(&format!(
        "measuring {} for at most {} s; Ctrl-C shows what is known by then\n",
        found.name, typed.budget
    ));
    let line = Line::new(!global.only_show_errors);
    let inputs: Arc<[Bytes]> = vec![body].into();
    let servers = Servers {
        exe,
        found: &found,
        inputs,
        shape: InstanceShape {
            vcpus: found.vcpus,
            concurrency: found.concurrency().unwrap_or(connections),
            model_memory_mb: typed.model_memory_mb,
            batch_delay: tune.batch_delay,
            ..InstanceShape::default()
        },
    };
    let measured = tune.run(
        &stop,
        |setting| servers.start(setting, tune.cores),
        |progress| match progress {
            // With as many servers as settings, these lines would be most of what is said.
            Progress::Bench(bench::Progress::Asking(..)) => {}
            Progress::Bench(step) => line.show(step),
            other => {
                line.end();
                tell(&told(other, tune.cores));
            }
        },
    );
    line.end();
    let report = measured.map_err(|error| within(refused(error)))?;
    finish(&found, &report, typed, global)
}

/// Starts servers of the model.
struct Servers<'a> {
    exe: PathBuf,
    found: &'a Found,
    inputs: Arc<[Bytes]>,
    shape: InstanceShape,
}

/// The reason why a setting has no server.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct NotStarted(#[from] CliError);

impl Servers<'_> {
    fn start(&self, setting: Setting, cores: u32) -> Result<Started<PrivateServer>, NotStarted> {
        let shape = InstanceShape {
            lanes: Some(setting.lanes),
            batch_size: setting.batch_size,
            spin: setting.spin,
            ..self.shape
        };
        let server = PrivateServer::start(&self.exe, &self.found.model.file, shape)
            .map_err(|error| NotStarted(not_served(error)))?;
        let client = server
            .client()
            .map_err(|error| NotStarted(CliError::Client(error)))?;
        let label = setting.words(cores);
        let names = (server.endpoint(), server.deployment());
        let subject = Subject::deployed(client, names, Arc::clone(&self.inputs), |url| Version {
            what: label.clone(),
            label,
            model_sha256: None,
            url,
            settings: None,
        })
        .map_err(|error| NotStarted(CliError::BadInput(error.to_string())))?;
        Ok(Started { server, subject })
    }
}

/// Requests at once: as written, or what an instance of the deployment takes.
fn connections(found: &Found, typed: &Typed) -> usize {
    let written = typed.connections.map(usize::from);
    written.or(found.concurrency()).unwrap_or(CONNECTIONS)
}

/// What is to be measured.
fn planned(found: &Found, typed: &Typed, connections: usize) -> Tune {
    let settings = found.deployed.as_ref().map(|deployed| &deployed.settings);
    let may_spin = found.deployed.as_ref().is_none_or(|one| !one.shares_cores);
    let cores = Topology::read().len().min(found.vcpus).max(1);
    let cores = u32::try_from(cores).unwrap_or(u32::MAX);
    let connections_of = u32::try_from(connections).unwrap_or(u32::MAX);
    let concurrency = found.concurrency().unwrap_or(connections);
    let concurrency = u32::try_from(concurrency).unwrap_or(u32::MAX);
    let now = current(settings, (cores, concurrency), may_spin);
    let model = ModelSummary::of_file(&found.model.file).ok();
    let space = Space {
        cores,
        connections: connections_of.min(concurrency),
        may_batch: model
            .as_ref()
            .is_some_and(|model| model.facts.rows.is_proven()),
        may_spin,
        most: servers_max(model.as_ref()) - 1,
    };
    let mut all = vec![now];
    all.extend(candidates(now, &space));
    Tune {
        settings: all,
        is_default: settings.is_none_or(Value::is_null),
        connections,
        inputs: "one request".to_owned(),
        p99_max: P99Max(typed.p99_ms.map(|ms| Duration::from_secs_f64(ms / 1e3))),
        budget: Duration::from_secs(typed.budget.into()),
        vcpus: found.vcpus,
        cores,
        batch_delay: settings
            .and_then(|settings| settings["max_batch_delay_us"].as_u64())
            .map_or(Duration::ZERO, Duration::from_micros),
        onnxruntime: version::ONNXRUNTIME.to_owned(),
    }
}

/// Servers that there may be at once, in half of the memory that is free: what runs now and one beside it at least.
fn servers_max(model: Option<&ModelSummary>) -> usize {
    let bytes = model.map_or(0, |model| {
        let beside: u64 = model.external_data.values().flatten().sum();
        model.file_bytes + beside
    });
    let each = SERVER_BYTES + MODEL_FACTOR * bytes;
    let fit = memory_available().map_or(u64::MAX, |free| free / 2 / each);
    usize::try_from(fit)
        .unwrap_or(usize::MAX)
        .clamp(2, VERSIONS_MAX)
}

/// Prints, draws and applies.
fn finish(found: &Found, report: &Report, typed: &Typed, global: &Global) -> Result<(), CliError> {
    let warnings = warnings(found, report);
    let format = match output::is_terminal() {
        true => global.format_for_people(),
        false => global.format(),
    };
    let applying = typed.apply && !report.interrupted;
    let applied = match &found.deployed {
        Some(deployed) if applying => apply(deployed, report)?,
        _ => false,
    };
    match format {
        OutputFormat::Table if !global.asks_for_part() => print_table(report, &warnings)?,
        OutputFormat::Tsv if !global.asks_for_part() => {
            output::print_as(&rows(report), COLUMNS, &format.into())?;
        }
        _ => {
            let result = result(found, report, &warnings, applied);
            output::print(&result, &global.form_as(format))?;
        }
    }
    if let Some(path) = &typed.plot {
        plot(report, &found.name, path)?;
    }
    if report.interrupted {
        return Err(CliError::Interrupted);
    }
    if typed.apply && report.chosen().is_none() {
        return Err(CliError::OperationFailed(format!(
            "nothing was applied: {}",
            report.verdict()
        )));
    }
    Ok(())
}

fn find(typed: &Typed, global: &Global) -> Result<Found, CliError> {
    match (&typed.model, &typed.deployment) {
        (Some(path), _) => bare(path, typed),
        (None, Some(name)) => deployed(name, typed, global),
        (None, None) => unreachable!("the grammar asks for one of the two"),
    }
}

/// A model that no server is asked about.
fn bare(path: &Path, typed: &Typed) -> Result<Found, CliError> {
    let name = path.display().to_string();
    let model = FoundModel::at(path).map_err(|error| {
        CliError::BadInput(error.to_string()).while_doing(format!("tune {name}"))
    })?;
    let vcpus = match (&typed.instance_type, typed.vcpus) {
        (Some(sku), _) => vcpus_of(sku, typed)?,
        (None, Some(vcpus)) => vcpus.into(),
        (None, None) => Topology::read().len(),
    };
    Ok(Found {
        name,
        model,
        vcpus,
        deployed: None,
    })
}

fn vcpus_of(instance_type: &str, typed: &Typed) -> Result<usize, CliError> {
    let vcpus = sku::table(&typed.own)?.find(instance_type)?.vcpus;
    Ok(usize::try_from(vcpus).unwrap_or(usize::MAX))
}

/// A deployment of the server, with its model as the server has it.
fn deployed(name: &DeploymentName, typed: &Typed, global: &Global) -> Result<Found, CliError> {
    let server = Server::find(global)?;
    let endpoints = server.client.endpoints()?;
    let endpoint = match &typed.endpoint_name {
        Some(endpoint) => endpoint.clone(),
        None => only_endpoint_with(name, &endpoints)?,
    };
    let shown = server.client.deployment(&endpoint, name)?;
    let digest: ModelDigest = serde_json::from_value(shown["model_digest"].clone())
        .map_err(|_| CliError::NotFound(format!("deployment {endpoint}/{name} has no model")))?;
    let model = FoundModel::copied(&data_folder(global)?, &digest)
        .map_err(|error| CliError::NotFound(error.to_string()))?;
    let asked = shown.pointer("/placements/0/vcpus_asked");
    let vcpus = match asked.and_then(Value::as_u64) {
        Some(vcpus) => usize::try_from(vcpus).unwrap_or(usize::MAX),
        // Nothing runs of it: the table of instance types knows.
        None => vcpus_of(shown["instance_type"].as_str().unwrap_or_default(), typed)?,
    };
    Ok(Found {
        name: format!("{endpoint}/{name}"),
        model,
        vcpus,
        deployed: Some(Deployed {
            neighbours: neighbours(&endpoints, (endpoint.as_str(), name.as_str()), vcpus),
            shares_cores: shares_cores(&endpoints, &shown),
            settings: shown["request_settings"].clone(),
            server,
            endpoint,
            name: name.clone(),
        }),
    })
}

/// The cores of each instance of a deployment as it is shown, one after another.
fn cores_given(shown: &Value) -> impl Iterator<Item = u64> {
    let placements = shown["placements"].as_array().into_iter().flatten();
    let given = placements.flat_map(|one| one["cores_given"].as_array().into_iter().flatten());
    given.filter_map(Value::as_u64)
}

/// Whether an instance of the deployment has a core that another instance has too.
fn shares_cores(endpoints: &[Value], shown: &Value) -> bool {
    let given = endpoints.iter().flat_map(deployments);
    let given: Vec<u64> = given.flat_map(|(_, shown)| cores_given(shown)).collect();
    cores_given(shown).any(|core| given.iter().filter(|other| **other == core).count() > 1)
}

/// Deployments beside `own` whose instances have cores that an instance of so many vCPUs gets here.
fn neighbours(endpoints: &[Value], own: (&str, &str), vcpus: usize) -> Vec<String> {
    let cores = CoreMap::new(Topology::read(), Capacity::Overcommit)
        .grant(vcpus)
        .map(|grant| grant.cores)
        .unwrap_or_default();
    let has_ours = |shown: &Value| {
        cores_given(shown).any(|core| usize::try_from(core).is_ok_and(|core| cores.contains(&core)))
    };
    let mut names = Vec::new();
    for endpoint in endpoints {
        let of = endpoint["name"].as_str().unwrap_or_default();
        for (name, shown) in deployments(endpoint) {
            let is_own = is_same(of, own.0) && is_same(name, own.1);
            if !is_own && has_ours(shown) {
                names.push(format!("{of}/{name}"));
            }
        }
    }
    names
}

/// Tries the model in a child process first, and asks it for its shapes where nobody gave a request.
fn body(found: &Found, typed: &Typed) -> Result<Bytes, CliError> {
    let sample = match &typed.request_file {
        Some(path) => Some(Bytes::from(files::request(path)?)),
        None => found.model.sample_request.clone(),
    };
    let bad = |words: String| CliError::BadInput(words);
    let prober = serve::prober(typed.model_memory_mb);
    let prober = prober.ok_or_else(|| bad("the path of this program is not known".to_owned()))?;
    let report = prober
        .probe(&found.model.file, sample.as_deref())
        .map_err(|error| bad(error.to_string()))?;
    match sample {
        Some(body) => Ok(body),
        None => JsonScorer::example_body(&report.signature).map_err(|error| {
            bad(format!(
                "no request can be made from the model's shapes: {error}; give one with --request-file"
            ))
        }),
    }
}

impl Found {
    /// Requests that an instance takes at once; none of a model that is not deployed.
    fn concurrency(&self) -> Option<usize> {
        let deployed = self.deployed.as_ref()?;
        let written = deployed.settings["max_concurrent_requests_per_instance"].as_u64();
        Some(usize::try_from(written.unwrap_or(1)).unwrap_or(usize::MAX))
    }
}

/// The setting of the deployment now, with what is left open as the engine fills it in.
fn current(settings: Option<&Value>, (cores, concurrency): (u32, u32), may_spin: bool) -> Setting {
    let written = |key: &str| {
        let number = settings?[key].as_u64()?;
        u32::try_from(number).ok()
    };
    let lanes = written("lanes").unwrap_or(concurrency);
    let mut setting = Setting {
        lanes: lanes.min(concurrency).min(cores).max(1),
        batch_size: written("max_batch_size"),
        spin: false,
    };
    let asks = settings.is_some_and(|settings| settings["spin"] == true);
    setting.spin = may_spin && asks && setting.threads(cores) > 1;
    setting
}

/// The reason why nothing was measured, and whose matter that is.
fn refused(error: TuneError<NotStarted>) -> CliError {
    match error {
        TuneError::Start(NotStarted(error)) => error,
        TuneError::Bench(BenchError::Interrupted) => CliError::NothingMeasured,
        TuneError::Bench(BenchError::Threads(source)) => CliError::Start(source),
        TuneError::Bench(error) => CliError::BadInput(error.to_string()),
    }
}

/// A line of progress.
fn told(progress: &Progress<'_>, cores: u32) -> String {
    match progress {
        Progress::Starting(setting) => format!("  starting {}\n", setting.words(cores)),
        Progress::Failed(setting, reason) => {
            format!("  {}: failed: {reason}\n", setting.words(cores))
        }
        Progress::Again(setting, number, of) => format!(
            "  {} may be better: measuring it again, {number} of {of}\n",
            setting.words(cores)
        ),
        Progress::Bench(_) => String::new(),
    }
}

fn warnings(found: &Found, report: &Report) -> Vec<String> {
    let mut warnings = report.warnings();
    let neighbours = found.deployed.iter().flat_map(|one| &one.neighbours);
    let neighbours: Vec<_> = neighbours.map(String::as_str).collect();
    if !neighbours.is_empty() {
        warnings.push(format!(
            "{} may have served on the same cores meanwhile: requests to them spoil the figures",
            neighbours.join(", ")
        ));
    }
    warnings
}

/// The settings for people, with the load, the rule, the advice and the warnings below.
fn print_table(report: &Report, warnings: &[String]) -> Result<(), CliError> {
    output::print_as(&rows(report), COLUMNS, &OutputFormat::Table.into())?;
    let mut text = format!(
        "\nload:   {}\nrule:   {}\nadvice: {}\n",
        report.load(),
        report.rule(),
        report.verdict()
    );
    for warning in warnings {
        text.push_str("warning: ");
        text.push_str(warning);
        text.push('\n');
    }
    output::print_text(&text)
}

fn rows(report: &Report) -> Value {
    let row = |point: PointReport| {
        let marks = [(point.chosen, "chosen"), (point.current, "runs now")];
        let marks: Vec<_> = marks
            .into_iter()
            .filter_map(|(is, mark)| is.then_some(mark))
            .collect();
        let ratio = point.ratio.map(|ratio| ratio.estimate);
        let ratio = ratio.map(|one| match one.low.zip(one.high) {
            Some((low, high)) => format!("{:.2} [{low:.2}, {high:.2}]", one.point),
            None => "?".to_owned(),
        });
        json!({
            "lanes": point.lanes,
            "threads": point.threads_per_lane,
            "spin": if point.spin { "yes" } else { "no" },
            "batch": point.max_batch_size.map_or_else(|| "default".to_owned(), |size| size.to_string()),
            "throughput": format!("{:.0}", point.throughput_per_s),
            "ratio": ratio.unwrap_or_default(),
            "p50": format!("{:.3}", point.p50_ms),
            "p99": format!("{:.3}", point.p99_ms),
            "mark": marks.join(", "),
        })
    };
    report.points().into_iter().map(row).collect()
}

/// Everything, for programs.
fn result(found: &Found, report: &Report, warnings: &[String], applied: bool) -> Value {
    let chosen = report.chosen();
    let setting = chosen.map(|setting| {
        json!({
            "lanes": setting.lanes,
            "max_batch_size": setting.batch_size,
            "spin": setting.spin,
        })
    });
    let gains: Vec<_> = report.confirmations.iter().map(gain).collect();
    json!({
        "model": found.model.file,
        "endpoint": found.deployed.as_ref().map(|one| one.endpoint.as_str()),
        "deployment": found.deployed.as_ref().map(|one| one.name.as_str()),
        "vcpus": report.vcpus,
        "cores": report.cores,
        "connections": report.connections,
        "rule": report.rule(),
        "chosen": setting,
        "keeps_current": chosen.is_some() && chosen == report.settings.first().copied(),
        "verdict": report.verdict(),
        "applied": applied,
        "interrupted": report.interrupted,
        "elapsed_s": (report.elapsed.as_secs_f64() * 10.0).round() / 10.0,
        "max_batch_delay_us": u64::try_from(report.batch_delay.as_micros()).unwrap_or(u64::MAX),
        "warnings": warnings,
        "points": report.points(),
        "confirmations": gains,
    })
}

/// What a run says of the setting that may be better: its throughput by that of what runs now.
fn gain(run: &bench::Report) -> Value {
    let level = run.levels.first();
    let first = level.and_then(|level| level.comparisons.first());
    json!(first.map(|one| &one.ratio))
}

/// Updates the deployment unless it is to run as it does; whether it was updated.
fn apply(deployed: &Deployed, report: &Report) -> Result<bool, CliError> {
    let now = report.settings.first().copied();
    let Some(setting) = report.chosen().filter(|one| Some(*one) != now) else {
        return Ok(false);
    };
    let assign = |key: &str, value: Value| {
        Assignment::new(&format!("request_settings.{key}"), value)
            .expect("the path has no empty part")
    };
    let set = vec![
        assign("lanes", setting.lanes.into()),
        assign("spin", setting.spin.into()),
        // What is left to the engine may have been written before.
        assign("max_batch_size", json!(setting.batch_size)),
    ];
    deployed.server.carry_out(
        Change::UpdateDeployment {
            endpoint: deployed.endpoint.clone(),
            name: deployed.name.clone(),
            update: DeploymentUpdate {
                set,
                ..DeploymentUpdate::default()
            },
        },
        Waiting { no_wait: false },
    )
}

fn plot(report: &Report, name: &str, path: &Path) -> Result<(), CliError> {
    let svg = draw(report, name).map_err(|error| CliError::BadInput(error.to_string()))?;
    let written = files::write(path, svg.as_bytes());
    written.map_err(|error: io::Error| {
        CliError::BadInput(format!("--plot: cannot write {}: {error}", path.display()))
    })
}
