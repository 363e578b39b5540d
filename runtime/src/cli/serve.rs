//! `serin serve` and `serin up`: servers in the foreground.

use std::env;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::args::{CapacityRule, Global, LogArgs, LogShape, OutputFormat, Pin, PinRule, Serve, Up};
use super::exit::{self, CliError};
use super::port::scoring_port;
use super::progress::Watching;
use super::server::data_folder;
use super::{files, output, signals, sku};
use crate::app::{
    App, AppError, Config, Sockets, Supervised, UpConfig, UpReady, raise_descriptor_limit,
    serve_supervised, supervise, up as serve_files,
};
use crate::black_box;
use crate::control::OnLoss;
use crate::engine::{Capacity, Pinning, Prober};
use crate::observe::{LogConfig, LogFormat, start_log};
use crate::spec::TrafficSplit;

/// Runs the server until it is asked to end.
pub(super) fn serve(typed: &Serve, global: &Global) -> Result<(), CliError> {
    // First of all: what was handed over are numbers, which must not become those of something else.
    let handed_over = typed.handed_over;
    let sockets = handed_over.map(Sockets::take).transpose()?;
    handed_over.map(serve_supervised).transpose()?;
    raise_descriptor_limit();
    let data = data_folder(global)?;
    files::check_text(&data).map_err(CliError::BadInput)?;
    let mut config = configured(typed, data.clone())?;
    let sockets = match sockets {
        Some(sockets) => sockets,
        None => opened(typed, &config)?,
    };
    start_log(log_config(&typed.log)?)?;
    let quiet = global.format() == OutputFormat::None;
    if typed.supervise && handed_over.is_none() {
        return under_supervision(&sockets, quiet);
    }
    let (shutdown, at_once, status_asked) = signals::serving(typed.until_stdin_closes)?;
    config.status_asked = Some(status_asked);
    let app = App::with_sockets(config, sockets).bind_metrics()?;
    let metrics = app.metrics_address().map_or_else(String::new, |address| {
        format!(", metrics on http://{address}/metrics")
    });
    let (scoring, admin) = (app.scoring_address(), app.admin_address());
    // A supervisor hears from this line that the server is ready.
    let is_told = !quiet || handed_over.is_some();
    let ran = app
        .on_ready(move || {
            if is_told {
                say(&format!(
                    "ready: scoring on http://{scoring}, administration on http://{admin}{metrics}, data in {}\n",
                    data.display()
                ));
            }
        })
        .on_cut(at_once)
        .run(shutdown);
    if matches!(ran, Err(AppError::CutShort)) {
        signals::at_once();
    }
    black_box::close();
    Ok(ran?)
}

/// Sockets of the running server, whose place this one is to take, else its own.
fn opened(typed: &Serve, config: &Config) -> Result<Sockets, CliError> {
    let running = if typed.replace {
        Sockets::of_running(&config.data)?
    } else {
        None
    };
    match running {
        Some(sockets) => Ok(sockets),
        None => Ok(Sockets::open(config)?),
    }
}

/// Has this very command run in another process, again and again, on sockets that this one holds open.
fn under_supervision(sockets: &Sockets, quiet: bool) -> Result<(), CliError> {
    let supervised = Supervised {
        exe: env::current_exe().map_err(CliError::Start)?,
        arguments: env::args_os().skip(1).collect(),
        handed_over: "--handed-over",
        final_codes: &[exit::OK, exit::USAGE, exit::BAD_INPUT, exit::INTERRUPTED],
    };
    let pass_on = signals::to_pass_on()?;
    let ended = supervise(&supervised, sockets, pass_on, |line| {
        if !quiet {
            say(line);
        }
    })?;
    if ended.success() || was_ended_before_it_listened(ended) {
        Ok(())
    } else {
        Err(CliError::ServerEnded(ended))
    }
}

/// A server that is asked to end before it hears signals is ended by them, and has nothing to lose yet.
fn was_ended_before_it_listened(ended: ExitStatus) -> bool {
    let by = [Signal::TERM, Signal::INT].map(Signal::as_raw);
    ended.signal().is_some_and(|signal| by.contains(&signal))
}

/// Prints a line, without waiting for its reader. One that has gone, or that does not read, is no reason to stop serving.
fn say(line: &str) {
    let line = line.to_owned();
    let printing = thread::Builder::new()
        .name("serin-ready".to_owned())
        .spawn(move || drop(output::print_text(&line)));
    if let Err(error) = printing {
        tracing::warn!(%error, "cannot print that the server is ready");
    }
}

fn configured(typed: &Serve, data: PathBuf) -> Result<Config, CliError> {
    let mut config = Config::new(data);
    config.scoring_address = SocketAddr::from((typed.host, scoring_port(typed.port)?));
    config.metrics = typed.metrics;
    config.admin_address.set_port(typed.admin_port);
    config.prober = prober(typed.model_memory_mb);
    config.black_box = true;
    if typed.accept_loss {
        config.on_loss = OnLoss::Accept;
    }
    config.capacity = match typed.capacity {
        CapacityRule::Overcommit => Capacity::Overcommit,
        CapacityRule::Strict => Capacity::Strict,
    };
    config.pinning = pinning(typed.pin);
    config.body_bytes_max = typed.body_bytes_max;
    config.bytes_in_flight_max = bytes_in_flight_max(typed)?;
    config.connections_max = typed.connections_max;
    if let Some(threads) = typed.edge_threads {
        config.edge_threads = usize::from(threads);
    }
    if let Some(seconds) = typed.token_life {
        config.token_life = Duration::from_secs(seconds.into());
    }
    if let Some(seconds) = typed.grace {
        config.grace = Duration::from_secs(seconds.into());
    }
    config.drain_delay = Duration::from_secs(typed.drain_delay.into());
    config.skus = sku::table(&typed.own)?;
    Ok(config)
}

/// Serves bare model files until it is asked to end.
pub(super) fn up(typed: Up) -> Result<(), CliError> {
    start_log(log_config(&typed.log)?)?;
    raise_descriptor_limit();
    let (shutdown, _at_once, status_asked) = signals::serving(false)?;
    let mut config = UpConfig::new(typed.models);
    config.status_asked = Some(status_asked);
    config.address = SocketAddr::from((typed.host, scoring_port(typed.port)?));
    config.name = typed.name;
    config.metrics = typed.metrics;
    config.traffic = (!typed.traffic.is_empty()).then(|| typed.traffic.join(" "));
    // Wrong words are told before anything starts.
    config
        .traffic
        .as_deref()
        .map(TrafficSplit::parse)
        .transpose()?;
    let number = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    config.settings.instance_count = number(typed.instance_count);
    if let Some(requests) = typed.max_concurrent_requests {
        config.settings.max_concurrent_requests_per_instance = number(requests);
    }
    config.pinning = pinning(typed.pin);
    let (watching, tell) = Watching::start();
    config.prober = prober(typed.model_memory_mb).map(|prober| Prober { tell, ..prober });
    let mut watching = Some(watching);
    serve_files(
        config,
        |ready| {
            drop(watching.take());
            say(&words_of_up(&ready));
        },
        shutdown,
    )?;
    Ok(())
}

/// What is served, and where.
fn words_of_up(ready: &UpReady<'_>) -> String {
    let mut text = format!("ready: POST http://{}/score\n", ready.address);
    let models = ready.deployments.iter();
    let models = models.map(|one| format!("{}: {}", one.name, one.model.display()));
    let metrics = ready.metrics.iter();
    let metrics = metrics.map(|address| format!("metrics: GET http://{address}/metrics"));
    for line in models.chain(metrics) {
        writeln!(text, "  {line}").expect("text takes any text");
    }
    text
}

/// The bound, where one is asked for; it must leave room for any one body.
fn bytes_in_flight_max(typed: &Serve) -> Result<Option<u64>, CliError> {
    let body_max = u64::try_from(typed.body_bytes_max).unwrap_or(u64::MAX);
    match typed.bytes_in_flight_max {
        Some(bytes) if bytes < body_max => Err(CliError::BadInput(format!(
            "--bytes-in-flight-max must be at least the largest body, which is {body_max} bytes; it is {bytes}: give more, \
             or allow smaller bodies with --body-bytes-max"
        ))),
        asked => Ok(asked),
    }
}

fn log_config(typed: &LogArgs) -> Result<LogConfig, CliError> {
    let absolute = |path: &Option<PathBuf>| path.as_ref().map(std::path::absolute).transpose();
    Ok(LogConfig {
        format: match typed.log {
            LogShape::Text => LogFormat::Text,
            LogShape::Json => LogFormat::Json,
        },
        file: absolute(&typed.log_file).map_err(CliError::Start)?,
        level_file: absolute(&typed.log_level_file).map_err(CliError::Start)?,
    })
}

fn pinning(typed: Pin) -> Pinning {
    match typed.pin {
        PinRule::Auto => Pinning::Auto,
        PinRule::On => Pinning::On,
        PinRule::Off => Pinning::Off,
    }
}

/// Tries models with this very binary.
pub(super) fn prober(memory_mb: Option<u64>) -> Option<Prober> {
    // This file also when another version has taken its name: the two sides of a lane share the layout of their memory.
    let mut prober = Prober::new(PathBuf::from("/proc/self/exe"));
    if let Some(megabytes) = memory_mb {
        prober.memory_bytes_max = megabytes.saturating_mul(1_000_000);
    }
    Some(prober)
}
