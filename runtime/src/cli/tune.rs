//! `serin tune`: what to measure, progress while it is measured, and what comes of it: a table, JSON, a plot, an update.
//!
//! Not here: what is measured and which setting is best (`tune`).

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use serin_scorers::JsonScorer;

use super::args::{Global, OutputFormat, Tune as Typed, Waiting};
use super::exit::CliError;
use super::find::{deployments, is_same, only_endpoint_with};
use super::output::{self, Columns};
use super::server::{Server, data_folder};
use super::{files, serve, signals, sku};
use crate::control::{Change, DeploymentUpdate, FoundModel, ModelDigest};
use crate::engine::{Capacity, CoreMap, Topology};
use crate::spec::{Assignment, DeploymentName, EndpointName};
use crate::tune::{
    Goal, Measured, Outcome, Point, PointReport, Progress, Report, Setting, Subject, Tune,
    TuneError, draw,
};

/// The columns of a table of measured points.
const COLUMNS: Columns = &[
    ("lanes", &["/lanes"]),
    ("threads", &["/threads"]),
    ("spin", &["/spin"]),
    ("batch", &["/batch"]),
    ("at_once", &["/at_once"]),
    ("requests/s", &["/throughput"]),
    ("+-", &["/noise"]),
    ("p50_ms", &["/p50"]),
    ("p99_ms", &["/p99"]),
    ("times", &["/repetitions"]),
    ("note", &["/mark"]),
];

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
    let subject = subject(&found, typed).map_err(|error| match *stop.borrow() {
        true => CliError::Interrupted,
        false => error.while_doing(&doing),
    })?;
    let tell = |text: &str| {
        if !global.only_show_errors {
            output::complain(text);
        }
    };
    let tune = Tune {
        subject,
        goal: typed.p99_ms.map_or(Goal::Knee, |ms| {
            Goal::P99(Duration::from_secs_f64(ms / 1e3))
        }),
        budget: Duration::from_secs(typed.budget_s.into()),
    };
    tell(&format!(
        "measuring {} for at most {} s\n",
        found.name, typed.budget_s
    ));
    let measured = tune.run(stop, |progress| tell(&told(progress, tune.cores())));
    let report = measured.map_err(|error| refused(error).while_doing(&doing))?;
    finish(&found, &report, typed, global)
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
fn subject(found: &Found, typed: &Typed) -> Result<Subject, CliError> {
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
    let body = match sample {
        Some(body) => body,
        None => JsonScorer::example_body(&report.signature).map_err(|error| {
            bad(format!(
                "no request can be made from the model's shapes: {error}; give one with --request-file"
            ))
        })?,
    };
    let settings = found.deployed.as_ref().map(|deployed| &deployed.settings);
    let may_spin = found.deployed.as_ref().is_none_or(|one| !one.shares_cores);
    Ok(Subject {
        model: found.model.file.clone(),
        body,
        vcpus: found.vcpus,
        current: settings.map(|settings| current(settings, found.vcpus, may_spin)),
        batch_delay: settings
            .and_then(|settings| settings["max_batch_delay_us"].as_u64())
            .map_or(Duration::ZERO, Duration::from_micros),
        may_spin,
    })
}

/// The point at which the deployment runs now, with what its settings leave open as the engine fills it in.
fn current(settings: &Value, vcpus: usize, may_spin: bool) -> Point {
    let written = |key: &str| {
        let number = settings[key].as_u64()?;
        u32::try_from(number).ok()
    };
    let clients = written("max_concurrent_requests_per_instance").unwrap_or(1);
    let cores = u32::try_from(vcpus.min(Topology::read().len())).unwrap_or(u32::MAX);
    let mut setting = Setting {
        lanes: written("lanes").unwrap_or(clients).min(clients).min(cores),
        batch_size: written("max_batch_size"),
        spin: false,
    };
    setting.spin = may_spin && settings["spin"] == true && setting.threads(cores) > 1;
    Point { setting, clients }
}

/// The reason why nothing was measured, and whose matter that is.
fn refused(error: TuneError) -> CliError {
    match error {
        TuneError::Interrupted => CliError::Interrupted,
        TuneError::Threads(source) => CliError::Start(source),
        error @ (TuneError::Start(_) | TuneError::Unserved(_) | TuneError::NoTime(_)) => {
            CliError::BadInput(error.to_string())
        }
    }
}

/// A line of progress.
fn told(progress: &Progress<'_>, cores: u32) -> String {
    match progress {
        Progress::Looked {
            setting,
            best,
            waiting,
        } => format!(
            "  {}: {} ({waiting} more to look at)\n",
            setting.words(cores),
            figures(best)
        ),
        Progress::Failed { setting, reason } => {
            format!("  {}: failed: {reason}\n", setting.words(cores))
        }
        Progress::Repeating {
            round,
            rounds,
            points,
        } => format!("  measuring {points} points again, {round} of {rounds}\n"),
    }
}

fn figures(measured: &Measured) -> String {
    format!(
        "{:.0} requests a second, p99 {:.2} ms",
        measured.throughput(),
        measured.p99().as_secs_f64() * 1e3
    )
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

/// The points for people, with the choice, the rule and the warnings below.
fn print_table(report: &Report, warnings: &[String]) -> Result<(), CliError> {
    output::print_as(&rows(report), COLUMNS, &OutputFormat::Table.into())?;
    let mut text = format!(
        "\nrule:   {}\nchosen: {}\n",
        report.goal.words(),
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
        json!({
            "lanes": point.lanes,
            "threads": point.threads_per_lane,
            "spin": if point.spin { "yes" } else { "no" },
            "batch": point.max_batch_size.map_or_else(|| "default".to_owned(), |size| size.to_string()),
            "at_once": point.max_concurrent_requests_per_instance,
            "throughput": format!("{:.0}", point.throughput_per_s),
            "noise": format!("{:.0} %", point.noise_percent),
            "p50": format!("{:.3}", point.p50_ms),
            "p99": format!("{:.3}", point.p99_ms),
            "repetitions": point.repetitions,
            "mark": marks.join(", "),
        })
    };
    report.points().into_iter().map(row).collect()
}

/// Everything, for programs.
fn result(found: &Found, report: &Report, warnings: &[String], applied: bool) -> Value {
    let choice = report.choice();
    let chosen = report.chosen().map(|point| {
        json!({
            "lanes": point.setting.lanes,
            "max_batch_size": point.setting.batch_size,
            "spin": point.setting.spin,
            "max_concurrent_requests_per_instance": point.clients,
        })
    });
    json!({
        "model": found.model.file,
        "endpoint": found.deployed.as_ref().map(|one| one.endpoint.as_str()),
        "deployment": found.deployed.as_ref().map(|one| one.name.as_str()),
        "vcpus": report.vcpus,
        "cores": report.cores,
        "rule": report.goal.words(),
        "p99_max_ms": choice.map(|choice| choice.p99_max.as_secs_f64() * 1e3),
        "chosen": chosen,
        "keeps_current": choice.is_some_and(|choice| choice.outcome == Outcome::Current),
        "verdict": report.verdict(),
        "applied": applied,
        "complete": report.complete,
        "interrupted": report.interrupted,
        "elapsed_s": (report.elapsed.as_secs_f64() * 10.0).round() / 10.0,
        "max_batch_delay_us": u64::try_from(report.batch_delay.as_micros()).unwrap_or(u64::MAX),
        "warnings": warnings,
        "points": report.points(),
    })
}

/// Updates the deployment unless it runs so already; whether it was updated.
fn apply(deployed: &Deployed, report: &Report) -> Result<bool, CliError> {
    let Some(point) = report.chosen().filter(|one| Some(*one) != report.current) else {
        return Ok(false);
    };
    let assign = |key: &str, value: Value| {
        Assignment::new(&format!("request_settings.{key}"), value)
            .expect("the path has no empty part")
    };
    let Setting {
        lanes,
        batch_size,
        spin,
    } = point.setting;
    let mut set = vec![
        assign("lanes", lanes.into()),
        assign("max_concurrent_requests_per_instance", point.clients.into()),
        assign("spin", spin.into()),
    ];
    set.extend(batch_size.map(|size| assign("max_batch_size", size.into())));
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
