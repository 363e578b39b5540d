//! The versions that are compared: deployments, files, addresses; found by how they were named, and made ready to be asked.

use std::net::ToSocketAddrs as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::admin::Client;
use crate::app::described;
use crate::bench::{
    InstanceShape, PrivateError, PrivateServer, Subject, SubjectError, VERSIONS_MAX, Version,
};
use crate::cli::args::{Bench as Typed, Global};
use crate::cli::bench::found::{Bodies, CONNECTIONS, Deployed, Found, Place, slots};
use crate::cli::exit::CliError;
use crate::cli::find::only_endpoint_with;
use crate::cli::server::{Server, data_folder};
use crate::cli::sku;
use crate::control::{FoundModel, ModelDigest};
use crate::engine::Topology;
use crate::load::{Target, TargetError, Trust};
use crate::spec::{DeploymentName, EndpointName};

/// Where the key for servers of `--url` is, where none is written: a command line is there for all users of a machine to read.
const KEY: &str = "SERIN_KEY";

/// The versions, the baseline first.
pub(super) fn find(typed: &Typed, global: &Global) -> Result<Vec<Found>, CliError> {
    let count = typed.version.len() + typed.url.len();
    if count > VERSIONS_MAX {
        return Err(CliError::BadInput(format!(
            "expected at most {VERSIONS_MAX} versions, found {count}: {}",
            typed
                .version
                .iter()
                .cloned()
                .chain(typed.url.iter().map(|url| masked(url)))
                .collect::<Vec<_>>()
                .join(", ")
        )));
    }
    let mut found = Vec::new();
    for version in &typed.version {
        found.push(match is_file(version) {
            true => file(version)?,
            false => deployed(version, typed, global)?,
        });
    }
    let keys = keys(typed, std::env::var(KEY).ok().filter(|key| !key.is_empty()))?;
    for (at, url) in typed.url.iter().enumerate() {
        let key = keys.get(at).or(keys.first());
        found.push(at_url(url, key)?);
    }
    tell_apart(&mut found);
    Ok(found)
}

/// The keys as they are written, else that of the environment.
fn keys(typed: &Typed, of_environment: Option<String>) -> Result<Vec<String>, CliError> {
    let (keys, servers) = (typed.key.len(), typed.url.len());
    if keys > 1 && keys != servers {
        return Err(CliError::BadInput(format!(
            "expected one --key for all servers, or one for each of {servers}, found {keys}"
        )));
    }
    Ok(match keys {
        0 => of_environment.into_iter().collect(),
        _ => typed.key.clone(),
    })
}

/// Two versions never have the same label: what both are called says nothing. One that is there again has its number.
fn tell_apart(found: &mut [Found]) {
    let labels: Vec<_> = found.iter().map(|one| one.label.clone()).collect();
    let whats: Vec<_> = found.iter().map(|one| one.what.clone()).collect();
    for (at, one) in found.iter_mut().enumerate() {
        let mut alike = (0..labels.len()).filter(|other| labels[*other] == labels[at]);
        if alike.any(|other| whats[other] != whats[at]) {
            one.label.clone_from(&one.what);
        }
        match whats[..at]
            .iter()
            .filter(|what| **what == whats[at])
            .count()
        {
            0 => {}
            1 => one.label += " (again)",
            before => one.label = format!("{} (again, {})", one.label, before + 1),
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
    Ok(Found {
        label: described(&model.file),
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
    let server = Server::find(global).map_err(|error| {
        error.while_doing(format!(
            "look for a deployment {version:?}, as there is no file of that name"
        ))
    })?;
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

/// An address as it may be shown: without what a name, a password or a value of its query may tell.
fn masked(url: &str) -> String {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host
        .rsplit_once('@')
        .map_or_else(|| host.to_owned(), |(_, host)| format!("***@{host}"));
    let scheme = match scheme {
        "" => String::new(),
        scheme => format!("{scheme}://"),
    };
    let hidden = query.split('&').filter(|one| !one.is_empty());
    let hidden: Vec<_> = hidden
        .map(|one| match one.split_once('=') {
            Some((name, _)) => format!("{name}=***"),
            None => "***".to_owned(),
        })
        .collect();
    match hidden.is_empty() {
        true => format!("{scheme}{host}{path}"),
        false => format!("{scheme}{host}{path}?{}", hidden.join("&")),
    }
}

fn at_url(url: &str, key: Option<&String>) -> Result<Found, CliError> {
    let shown = masked(url);
    let bad = |why: &str| {
        CliError::BadInput(format!(
            "--url {shown}: {why}; expected an address such as http://127.0.0.1:5001/score"
        ))
    };
    let (rest, port, is_secure) = match (url.strip_prefix("http://"), url.strip_prefix("https://"))
    {
        (Some(rest), _) => (rest, 80, false),
        (_, Some(rest)) => (rest, 443, true),
        (None, None) => return Err(bad("only http:// and https:// are spoken")),
    };
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => return Err(bad("it has no path")),
    };
    if host.contains('@') {
        return Err(bad("give a name and a password with --key or -H"));
    }
    let with_port = match host.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            host.to_owned()
        }
        _ => format!("{host}:{port}"),
    };
    let address = with_port
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| bad("the host is not known"))?;
    Ok(Found {
        label: host.to_owned(),
        place: Place::Url {
            address,
            host: host.to_owned(),
            path: path.to_owned(),
            key: key.cloned(),
            is_secure,
        },
        what: shown,
        model: None,
        sha256: None,
    })
}

/// A version that answers; a file gets its server.
pub(super) fn subject(
    found: &Found,
    inputs: Bodies,
    typed: &Typed,
    connections: &[usize],
    private: &mut Vec<PrivateServer>,
) -> Result<Subject, CliError> {
    let bad = |error: TargetError| CliError::BadInput(error.to_string());
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
                "max_concurrent_requests": slots(shown),
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
            key,
            is_secure,
        } => {
            let mut target = Target::at(*address, host, path).map_err(bad)?;
            if *is_secure {
                target = secured(target, host, typed.cacert.as_deref())?;
            }
            if let Some(key) = key {
                target = target.with_bearer(key).map_err(bad)?;
            }
            for (name, value) in &typed.header {
                target = target.with_header(name, value).map_err(bad)?;
            }
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

/// Through TLS, to a server that must be the one that its address names.
fn secured(target: Target, host: &str, authorities: Option<&Path>) -> Result<Target, CliError> {
    let trust = match authorities {
        Some(path) => Trust::of_file(path)
            .map_err(|error| CliError::BadInput(format!("--cacert {}: {error}", path.display()))),
        None => Trust::of_system()
            .map_err(|error| CliError::BadInput(format!("{error}, and --cacert those of a file"))),
    }?;
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let known = target.with_tls(trust, name);
    known.map_err(|error| CliError::BadInput(format!("--url https://{host}: {error}")))
}

/// A deployment of a serin server.
fn on_server(
    client: Client,
    names: (EndpointName, DeploymentName),
    inputs: Bodies,
    version: impl FnOnce(String) -> Version,
) -> Result<Subject, CliError> {
    Subject::deployed(client, names, inputs, version).map_err(|error| match error {
        SubjectError::Client(error) => CliError::Client(error),
        SubjectError::Target(error) => CliError::BadInput(error.to_string()),
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
        ..InstanceShape::default()
    })
}

/// The reason why a file has no server, and whose matter that is.
pub(in crate::cli) fn not_served(error: PrivateError) -> CliError {
    match error {
        PrivateError::Folder(source) => CliError::Start(source),
        PrivateError::Child(error) => CliError::Child(error),
        PrivateError::Client(error) => CliError::Client(error),
        error @ PrivateError::Model { .. } => CliError::BadInput(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_may_be_a_secret() {
        for (url, shown) in [
            ("http://h:1/score", "http://h:1/score"),
            (
                "http://h/score?code=s3cret&v=1",
                "http://h/score?code=***&v=***",
            ),
            ("http://me:s3cret@h/score", "http://***@h/score"),
            ("http://s3cret@me@h/score?s3cret", "http://***@h/score?***"),
            ("me:s3cret@h/score", "***@h/score"),
            ("http://h/?a=s3cret?b=s3cret", "http://h/?a=***"),
        ] {
            assert_eq!(masked(url), shown);
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_told_without_its_secrets() {
        for url in [
            "ftp://h/score?code=s3cret",
            "https://me:s3cret@127.0.0.1:9/score",
            "http://me:s3cret@127.0.0.1:9/score",
            "http://127.0.0.1:9?code=s3cret",
        ] {
            let refused = at_url(url, None).err().expect("it is refused").to_string();
            assert!(!refused.contains("s3cret"), "{refused}");
        }
        let found = at_url("http://127.0.0.1:9/score?code=s3cret", None);
        let Ok(found) = found else {
            panic!("an address");
        };
        assert_eq!(found.what, "http://127.0.0.1:9/score?code=***");
        let Place::Url { path, .. } = found.place else {
            panic!("an address");
        };
        assert_eq!(path, "/score?code=s3cret");
    }
}
