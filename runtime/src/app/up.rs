//! `serin up`: bare model files in the foreground, nothing stored, no keys.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::app::config::{MetricsAt, bytes_in_flight_max};
use crate::app::descriptors::connection_shares;
use crate::app::edge::Edge;
use crate::app::error::AppError;
use crate::app::model_folder::model_at;
use crate::app::server::{bound_for_metrics, spawn_metrics};
use crate::app::sockets::Bound;
use crate::app::status::{self, Status};
use crate::config::{
    BODY_BYTES_DEFAULT, CONCURRENCY_MAX, CONNECTIONS_DEFAULT, GRACE_DEFAULT, IDLE_WAIT_MIN,
    NAME_LEN_MAX, NAME_LEN_MIN, UP_CONCURRENCY_PER_CORE,
};
use crate::embedded::{Deployment, Endpoint, Error, Serin};
use crate::engine::{Capacity, Pinning, Prober, Topology, begin_to_load_library};
use crate::serve::{BytesInFlight, ConnectionLimits, Scoring};
use crate::spec::{EndpointName, ProgramSettings};

/// The one endpoint where nobody names it. `/score` serves it in any case.
const ENDPOINT: &str = "up-endpoint";

/// The settings of `serin up`: what it serves, and where.
#[derive(Clone, Debug)]
pub struct UpConfig {
    /// The address at which requests are scored. Port 0: any free one.
    pub address: SocketAddr,
    /// One deployment for each: a file, or a folder with one.
    pub models: Vec<PathBuf>,
    /// Name of the endpoint, and of the deployment where there is one model.
    pub name: Option<EndpointName>,
    /// Percent per deployment, as in `--traffic`; without it the first has all.
    pub traffic: Option<String>,
    /// Instances, cores and bounds of each deployment.
    pub settings: ProgramSettings,
    /// The rule for instances that ask for more cores than there are.
    pub capacity: Capacity,
    /// Whether threads keep to the cores of their instance.
    pub pinning: Pinning,
    /// Largest body of a request, in bytes.
    pub body_bytes_max: usize,
    /// Where metrics are shown.
    pub metrics: Option<MetricsAt>,
    /// Threads that move bytes.
    pub edge_threads: usize,
    /// Longest that requests in flight may take to end at exit.
    pub grace: Duration,
    /// The prober, which tries a model in a child process before it is served; without one models are not tried first.
    pub prober: Option<Prober>,
    /// Each change of it asks for the status of the server in the log.
    pub status_asked: Option<watch::Receiver<()>>,
}

impl UpConfig {
    /// The name of the endpoint.
    fn endpoint(&self) -> &str {
        self.name.as_ref().map_or(ENDPOINT, EndpointName::as_str)
    }

    /// Defaults for some files: loopback, port 5001, one instance each, which takes more requests at once the more cores there are.
    #[must_use]
    pub fn new(models: Vec<PathBuf>) -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 5001)),
            models,
            name: None,
            traffic: None,
            settings: ProgramSettings {
                max_concurrent_requests_per_instance: concurrency(Topology::read().len()),
                ..ProgramSettings::default()
            },
            capacity: Capacity::default(),
            pinning: Pinning::default(),
            body_bytes_max: BODY_BYTES_DEFAULT,
            metrics: None,
            edge_threads: crate::app::config::edge_threads(num_cpus::get()),
            grace: GRACE_DEFAULT,
            prober: None,
            status_asked: None,
        }
    }
}

/// Requests at once of one instance on a machine with so many cores. Those that it does not compute yet wait in order of arrival.
fn concurrency(cores: usize) -> usize {
    let number = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    cores
        .saturating_mul(number(UP_CONCURRENCY_PER_CORE))
        .clamp(1, number(CONCURRENCY_MAX))
}

/// What `serin up` serves, once it does.
#[derive(Clone, Copy, Debug)]
pub struct UpReady<'a> {
    /// Where requests are scored.
    pub address: SocketAddr,
    /// The listener of metrics, where there is one.
    pub metrics: Option<SocketAddr>,
    /// The endpoint: `/endpoints/{name}/score` is the same as `/score`.
    pub endpoint: &'a str,
    /// Its deployments.
    pub deployments: &'a [UpDeployment],
}

/// One deployment that `serin up` made of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpDeployment {
    /// Its name, made of the file's.
    pub name: String,
    /// The file.
    pub model: PathBuf,
}

/// Serves the files until `shutdown` ends, then finishes what is in flight. `ready` is told what is served, and where.
/// Blocks the calling thread, which must not be one of a tokio runtime.
///
/// # Errors
///
/// A busy port, a file that is no model, a folder without one, a traffic split that names what is not there.
pub fn up(
    config: UpConfig,
    ready: impl FnOnce(UpReady<'_>),
    shutdown: impl Future<Output = ()>,
) -> Result<(), AppError> {
    let started = Instant::now();
    let _loading = begin_to_load_library();
    let deployments = name_deployments(&config)?;
    let Bound { listener, address } = Bound::new(config.address, "--port")?;
    let metrics_listener = bound_for_metrics(config.metrics)?;
    let mut builder = Serin::builder()
        .capacity(config.capacity)
        .pinning(config.pinning);
    if let Some(prober) = &config.prober {
        builder = builder.prober(prober.clone());
    }
    let serin = builder.build()?;
    let endpoint = start(&serin, &config, &deployments)?;
    let (router, metrics) = serin.parts();
    let bytes_max = bytes_in_flight_max(None, config.body_bytes_max);
    let bytes = BytesInFlight::new(bytes_max, config.body_bytes_max, &metrics);
    let scoring = Scoring {
        shows_metrics: config.metrics == Some(MetricsAt::Scoring),
        ..Scoring::new(router, metrics, bytes)
    };
    scoring.readiness.set();
    let drain = scoring.drain.clone();
    let limits = ConnectionLimits {
        connections_max: connection_shares(CONNECTIONS_DEFAULT).scoring,
        grace: config.grace,
    };
    let edge = Edge::start(listener, &scoring, limits, config.edge_threads)?;
    // This thread only waits.
    let waiting = Builder::new_current_thread().enable_all().build();
    waiting.map_err(AppError::Threads)?.block_on(async {
        let metrics = metrics_listener.as_ref().map(|bound| bound.address);
        if let Some(bound) = metrics_listener {
            spawn_metrics(bound, &scoring.metrics)?;
        }
        info!(scoring = %address, "ready");
        ready(UpReady {
            address,
            metrics,
            endpoint: config.endpoint(),
            deployments: &deployments,
        });
        let asked = config.status_asked.clone();
        tokio::select! {
            () = shutdown => {}
            never = status::when_asked(asked, || Status::of(&scoring, started).tell()) => match never {},
        }
        drain.close(IDLE_WAIT_MIN);
        let cut = edge.stop().await;
        if cut > 0 {
            warn!(
                cut,
                grace_s = limits.grace.as_secs(),
                "requests were cut off: they took longer than the grace period"
            );
        }
        Ok::<_, AppError>(())
    })?;
    // After the last request, so that each found its instances.
    if let Err(error) = endpoint.close().wait() {
        warn!(%error, "the models were not stopped");
    }
    Ok(())
}

fn start(
    serin: &Serin,
    config: &UpConfig,
    deployments: &[UpDeployment],
) -> Result<Endpoint, Error> {
    let mut endpoint = serin.endpoint(config.endpoint());
    for UpDeployment { name, model } in deployments {
        endpoint = {
            let deployment = Deployment::new(model).with_settings(config.settings.clone());
            endpoint.deployment(name, deployment)
        };
    }
    if let Some(traffic) = &config.traffic {
        endpoint = endpoint.traffic(traffic);
    }
    endpoint.start_blocking()
}

/// Finds the models, and names deployments after their files: `digits-v2.onnx` is `digits-v2`; `digits/2/model.onnx`, whose file
/// says nothing, is `digits-2`. What no name may hold becomes a dash; a name that is taken gets a number.
fn name_deployments(config: &UpConfig) -> Result<Vec<UpDeployment>, AppError> {
    let models = config.models.iter().map(|path| model_at(path));
    let mut models = named(models.collect::<Result<Vec<_>, _>>()?);
    if let ([one], Some(name)) = (models.as_mut_slice(), &config.name) {
        one.name = name.as_str().to_owned();
    }
    Ok(models)
}

fn named(models: Vec<PathBuf>) -> Vec<UpDeployment> {
    let mut taken = BTreeSet::new();
    let mut deployments = Vec::new();
    for model in models {
        let base = valid_name(&described(&model));
        let numbered = (2..).map(|number| {
            let end = format!("-{number}");
            format!("{}{end}", cut(&base, NAME_LEN_MAX - end.len()))
        });
        let name = std::iter::once(base.clone())
            .chain(numbered)
            .find(|name| taken.insert(name.to_ascii_lowercase()))
            .expect("numbers do not end");
        deployments.push(UpDeployment { name, model });
    }
    deployments
}

/// The part of a model's path that tells it apart from others.
pub(crate) fn described(model: &Path) -> String {
    let stem = model
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if stem != "model" {
        return stem;
    }
    let folders: Vec<_> = model
        .parent()
        .into_iter()
        .flat_map(Path::components)
        .filter_map(|part| match part {
            std::path::Component::Normal(name) => Some(name.to_string_lossy()),
            _ => None,
        })
        .collect();
    if folders.is_empty() {
        stem
    } else {
        folders[folders.len().saturating_sub(2)..].join("-")
    }
}

/// The nearest text that is a valid name.
fn valid_name(text: &str) -> String {
    let dashed: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let trimmed = dashed.trim_matches('-');
    let lettered = if trimmed.starts_with(|c: char| c.is_ascii_alphabetic())
        && trimmed.len() >= NAME_LEN_MIN
    {
        trimmed.to_owned()
    } else {
        format!("model-{trimmed}")
    };
    cut(lettered.trim_end_matches('-'), NAME_LEN_MAX).to_owned()
}

/// The beginning of an ASCII name, without a dash at its end.
fn cut(name: &str, len_max: usize) -> &str {
    name[..name.len().min(len_max)].trim_end_matches('-')
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::sync::mpsc;

    use crate::spec::DeploymentName;

    use super::*;

    fn names(models: &[&str]) -> Vec<String> {
        let models: Vec<_> = models.iter().map(PathBuf::from).collect();
        named(models)
            .into_iter()
            .map(|deployment| deployment.name)
            .collect()
    }

    #[test]
    fn bare_files_are_scored_without_a_key_and_a_deployment_can_be_named() {
        let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits");
        let models = ["1", "2"].map(|version| digits.join(version).join("model.onnx"));
        let mut config = UpConfig::new(models.to_vec());
        config.address.set_port(0);
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = std::thread::Builder::new().spawn(move || {
            let ready = |ready: UpReady<'_>| {
                tell.send((ready.address, ready.deployments.to_vec()))
                    .unwrap();
            };
            up(config, ready, async {
                _ = stopped.await;
            })
        });
        let (address, deployments) = told.recv().unwrap();
        assert_eq!(
            deployments
                .iter()
                .map(|one| one.name.as_str())
                .collect::<Vec<_>>(),
            ["digits-1", "digits-2"]
        );
        let body = format!(r#"{{"data": [{:?}]}}"#, [0; 64]);
        for (header, answers) in [
            ("x", "digits-1"),
            ("azureml-model-deployment: digits-2\r\nx", "digits-2"),
        ] {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            let head =
                format!("POST /score HTTP/1.1\r\n{header}: y\r\nhost: x\r\nconnection: close");
            write!(
                stream,
                "{head}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
            let named = format!("azureml-model-deployment: {answers}\r\n");
            assert!(answer.contains(&named), "{answer}");
        }
        drop(stop);
        server.unwrap().join().unwrap().unwrap();
    }

    #[test]
    fn the_clients_of_one_machine_find_room_and_a_large_machine_keeps_to_the_bound() {
        assert_eq!([0, 1, 2, 8, 1000].map(concurrency), [1, 32, 64, 256, 1024]);
    }

    #[test]
    fn a_name_is_the_endpoint_s_and_that_of_the_only_deployment() {
        let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits");
        let mut config = UpConfig::new(vec![digits.clone()]);
        assert_eq!(config.endpoint(), ENDPOINT);
        config.name = Some("reader".parse().unwrap());
        let names = |config: &UpConfig| -> Vec<_> {
            let deployments = name_deployments(config).unwrap().into_iter();
            deployments.map(|one| one.name).collect()
        };
        assert_eq!(
            (config.endpoint(), names(&config)),
            ("reader", vec!["reader".to_owned()])
        );
        config.models.push(digits.join("1"));
        assert_eq!(names(&config), ["digits-2", "digits-1"]);
    }

    #[test]
    fn deployments_are_named_after_their_files() {
        assert_eq!(
            names(&["a/iris.onnx", "digits_v2.onnx"]),
            ["iris", "digits-v2"]
        );
        assert_eq!(
            names(&["/m/digits/1/model.onnx", "/m/digits/2/model.onnx"]),
            ["digits-1", "digits-2"]
        );
        assert_eq!(
            names(&["../2/model.onnx", "model.onnx"]),
            ["model-2", "model"]
        );
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        assert_eq!(
            names(&["a/iris.onnx", "b/iris.onnx", "c/Iris.onnx"]),
            ["iris", "iris-2", "Iris-3"]
        );
    }

    #[test]
    fn any_file_gets_a_valid_name() {
        let long = format!("{}.onnx", "x".repeat(100));
        for model in [
            "m.onnx", "1.onnx", "-.onnx", "ä.onnx", "a b.onnx", "", "/", ".onnx", "ab-.onnx", &long,
        ] {
            for name in names(&[model, model]) {
                assert!(
                    name.parse::<DeploymentName>().is_ok(),
                    "{model:?} became {name:?}"
                );
            }
        }
    }
}
