//! Hooks: others who hear of what happens to a rollout, or are asked whether it may go on.
//!
//! What they do is bounded in time and number, and changes nothing but what it is asked for: a hook that fails is logged.

use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::canary::Hook;
use crate::config::{HOOK_ANSWER_BYTES_MAX, HOOK_TIME_MAX, HOOKS_WAITING_MAX};
use crate::trust::{Trust, name_in_certificates};

/// Those who are to hear something, in order, as many at once as [`HOOKS_WAITING_MAX`] allows.
#[derive(Debug, Clone)]
pub(super) struct Hooks(Arc<Semaphore>);

impl Default for Hooks {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(HOOKS_WAITING_MAX)))
    }
}

impl Hooks {
    /// Tells somebody, elsewhere; where too many are being told already, nobody.
    pub(super) fn tell(&self, hook: Hook, event: Value) {
        let Ok(place) = Arc::clone(&self.0).try_acquire_owned() else {
            let hook = hook.place();
            tracing::warn!(
                hook,
                "a hook was left out: {HOOKS_WAITING_MAX} others have not answered yet"
            );
            return;
        };
        tokio::spawn(async move {
            let told = ask(&hook, &event).await;
            let hook = hook.place();
            match told {
                Ok((true, _)) => {}
                Ok((false, words)) => {
                    tracing::warn!(hook, words, "a hook did not take what it was told");
                }
                Err(error) => tracing::warn!(hook, error, "a hook could not be told"),
            }
            drop(place);
        });
    }
}

/// Asks somebody: an address agrees with a status from 200 to 299, a program with the exit code 0. The words are the beginning of what it said.
pub(super) async fn ask(hook: &Hook, event: &Value) -> Result<(bool, String), String> {
    let body = event.to_string();
    let asked = async {
        match hook {
            Hook::Url(url) => ask_address(url, body).await,
            Hook::Command(words) => run(words, body).await,
        }
    };
    let late = || format!("no answer within {} s", HOOK_TIME_MAX.as_secs());
    timeout(HOOK_TIME_MAX, asked)
        .await
        .unwrap_or_else(|_| Err(late()))
}

async fn ask_address(url: &str, body: String) -> Result<(bool, String), String> {
    let uri: Uri = url.parse().map_err(words)?;
    let is_secure = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await;
    let stream = stream.map_err(words)?;
    if !is_secure {
        return post(stream, &uri, body).await;
    }
    // Read each time, and elsewhere, for it takes milliseconds: authorities come and go while a server runs.
    let trust = spawn_blocking(Trust::of_system).await.map_err(words)?;
    let connector = TlsConnector::from(trust.map_err(words)?.config());
    let name = name_in_certificates(host).map_err(words)?;
    let stream = connector.connect(name, stream).await;
    let stream = stream.map_err(|error| format!("no https with {host}: {error}"))?;
    post(stream, &uri, body).await
}

async fn post(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    uri: &Uri,
    body: String,
) -> Result<(bool, String), String> {
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(words)?;
    let connection = tokio::spawn(connection);
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, authority)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(words)?;
    let answer = sender.send_request(request).await.map_err(words)?;
    let agrees = answer.status().is_success();
    let said = Limited::new(answer.into_body(), HOOK_ANSWER_BYTES_MAX)
        .collect()
        .await;
    connection.abort();
    let said = said.map(|said| said.to_bytes()).unwrap_or_default();
    Ok((agrees, beginning(&said)))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is what becomes of errors"
)]
fn words(error: impl ToString) -> String {
    error.to_string()
}

async fn run(words: &[String], body: String) -> Result<(bool, String), String> {
    let [program, arguments @ ..] = words else {
        return Err("no program".to_owned());
    };
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Whoever gives up waiting ends it.
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(|error| format!("{program}: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        // One that reads nothing may still agree.
        drop(input.write_all(body.as_bytes()).await);
    }
    let ended = child.wait_with_output().await;
    let ended = ended.map_err(|error| format!("{program}: {error}"))?;
    Ok((ended.status.success(), beginning(&ended.stdout)))
}

fn beginning(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    text.trim().chars().take(200).collect()
}
