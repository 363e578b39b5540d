//! `serin serve` and `serin up`: servers in the foreground.

use std::env;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;

use super::args::{CapacityRule, Global, LogShape, OutputFormat, Serve, Up};
use super::exit::{self, CliError};
use super::progress::Watching;
use super::server::data_folder;
use super::{files, output, signals, sku};
use crate::app::{
    App, AppError, Config, Sockets, Supervised, UpConfig, serve_supervised, supervise,
    up as serve_files,
};
use crate::black_box;
use crate::engine::{Capacity, Prober};
use crate::observe::{LogFormat, start_log};
use crate::spec::TrafficSplit;

/// Runs the server until it is asked to end.
pub(super) fn serve(typed: &Serve, global: &Global) -> Result<(), CliError> {
    // First of all: what was handed over are numbers, which must not become those of something else.
    let handed_over = typed.handed_over;
    let sockets = handed_over.map(Sockets::take).transpose()?;
    handed_over.map(serve_supervised).transpose()?;
    let data = data_folder(global)?;
    files::check_text(&data).map_err(CliError::BadInput)?;
    let config = configured(typed, data.clone())?;
    let sockets = match sockets {
        Some(sockets) => sockets,
        None => opened(typed, &config)?,
    };
    start_log(log_format(typed.log));
    let quiet = global.format() == OutputFormat::None;
    if typed.supervise && handed_over.is_none() {
        return under_supervision(&sockets, quiet);
    }
    let (shutdown, at_once) = signals::shutdowns(typed.until_stdin_closes)?;
    let app = App::with_sockets(config, sockets);
    let (scoring, admin) = (app.scoring_address(), app.admin_address());
    // A supervisor hears from this line that the server is ready.
    let is_told = !quiet || handed_over.is_some();
    let ran = app
        .on_ready(move || {
            if is_told {
                say(&format!(
                    "ready: scoring on http://{scoring}, administration on http://{admin}, data in {}\n",
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
    let ended = supervise(&supervised, sockets, |line| {
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

/// Prints a line. A reader that has gone is no reason to stop serving.
fn say(line: &str) {
    drop(output::print_bytes(line.as_bytes()));
}

fn configured(typed: &Serve, data: PathBuf) -> Result<Config, CliError> {
    let mut config = Config::new(data);
    config.scoring_address = SocketAddr::from((typed.host, typed.port));
    config.admin_address.set_port(typed.admin_port);
    config.prober = prober(typed.model_memory_mb);
    config.black_box = true;
    config.capacity = match typed.capacity {
        CapacityRule::Overcommit => Capacity::Overcommit,
        CapacityRule::Strict => Capacity::Strict,
    };
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
    start_log(log_format(typed.log));
    let shutdown = signals::shutdown(false)?;
    let mut config = UpConfig::new(typed.models);
    config.address = SocketAddr::from((typed.host, typed.port));
    config.traffic = (!typed.traffic.is_empty()).then(|| typed.traffic.join(" "));
    // Wrong words are told before anything starts.
    config
        .traffic
        .as_deref()
        .map(TrafficSplit::parse)
        .transpose()?;
    config.settings.instance_count = typed.instance_count;
    let (watching, tell) = Watching::start();
    config.prober = prober(typed.model_memory_mb).map(|prober| Prober { tell, ..prober });
    let mut watching = Some(watching);
    serve_files(
        config,
        |address, deployments| {
            drop(watching.take());
            let mut text = format!("ready: POST http://{address}/score\n");
            for one in deployments {
                writeln!(text, "  {}: {}", one.name, one.model.display())
                    .expect("text takes any text");
            }
            say(&text);
        },
        shutdown,
    )?;
    Ok(())
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

fn log_format(shape: LogShape) -> LogFormat {
    match shape {
        LogShape::Text => LogFormat::Text,
        LogShape::Json => LogFormat::Json,
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
