//! The head of a request as a scoring script gets it, and the answer that is made of what the script says.
//!
//! A script is not trusted with the connection: what frames an answer, and what serin says itself, is not the script's to say.
//! Credentials do not reach it.
//!
//! Threads: edge. Not here: what the answer means for the deployment (`router`), which status stands for which (`failure`).

use std::fmt;

use axum::body::Body;
use axum::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, EXPECT, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SERVER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use tracing::Level;

use crate::config::{LOG_PATH_LEN_MAX, SCRIPT_HEAD_BYTES_MAX};
use crate::engine::RequestHead;
use crate::router::{Answer, MakesHead, ScriptWords};
use crate::serve::answer::{
    JSON, MODEL_DEPLOYMENT, MODEL_ERROR_REASON, MODEL_ERROR_STATUS, MODEL_TIME, SHED, millis,
    write_deployment, write_model_time,
};
use crate::serve::failure::status_of_script;
use crate::serve::request_id::{RequestIds, is_id_header};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// `True` where `run()` failed.
const RUN_FAILED: HeaderName = HeaderName::from_static("x-ms-run-function-failed");
/// Milliseconds in `run()`, where it did not fail.
const RUN_TIME: HeaderName = HeaderName::from_static("x-ms-run-fn-exec-ms");
/// A tracing id that Azure's inference server gives back as it came.
const TRACE_ID: HeaderName = HeaderName::from_static("traceid");

/// Headers that the connection adds, and those of serin.
const HEADERS_OF_SERIN: usize = 12;
/// The longest name of a header that the log repeats, in characters.
const NAME_LEN_TOLD: usize = 64;
const TOO_MUCH: &str = "is more than fits in the head of an answer";
const MODEL_ERROR: HeaderValue = HeaderValue::from_static("model_error");
/// Bytes of a line of the head beside name and value: `: `, and the end of the line.
const LINE_BYTES: usize = 4;

/// A request that a scoring script may be to answer.
#[derive(Debug)]
pub(super) struct ForScript<'a> {
    pub(super) parts: &'a Parts,
    pub(super) ids: &'a RequestIds,
}

impl MakesHead for ForScript<'_> {
    fn request_head(&self) -> RequestHead {
        let Parts {
            method,
            uri,
            headers,
            ..
        } = self.parts;
        let passed = headers.iter().filter(|(name, _)| {
            !(is_credential(name) || is_of_the_hop(name) || is_id_header(name))
        });
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            let value = std::str::from_utf8(value.as_bytes()).ok()?;
            Some((name.as_str().to_owned(), value.to_owned()))
        };
        // By the ids that the client is told and the log has, so that what a script writes can be found.
        let mut told = HeaderMap::new();
        self.ids.clone().write(&mut told);
        RequestHead {
            method: method.as_str().to_owned(),
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            headers: passed.chain(&told).filter_map(text).collect(),
        }
    }
}

/// What opens this server, or a proxy before it, is no affair of a script, which may write down what it gets.
fn is_credential(name: &HeaderName) -> bool {
    [AUTHORIZATION, PROXY_AUTHORIZATION].contains(name)
}

/// Says something of one connection, or of the way in which a message is sent on it.
fn is_of_the_hop(name: &HeaderName) -> bool {
    const OF_THE_HOP: [HeaderName; 9] = [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_AUTHENTICATE,
        PROXY_CONNECTION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        EXPECT,
    ];
    OF_THE_HOP.contains(name)
}

/// Not the script's to say: what serin says, or the connection. Azure's inference server leaves out the latter too.
fn is_of_serin(name: &HeaderName) -> bool {
    const OF_SERIN: [HeaderName; 9] = [
        CONTENT_LENGTH,
        DATE,
        SERVER,
        MODEL_DEPLOYMENT,
        MODEL_ERROR_STATUS,
        MODEL_ERROR_REASON,
        MODEL_TIME,
        SHED,
        RUN_FAILED,
    ];
    is_of_the_hop(name) || is_id_header(name) || OF_SERIN.contains(name)
}

/// The answer of a script, with what serin has to say beside it.
pub(super) fn script_answer(answer: Answer, parts: &Parts, ids: RequestIds) -> Response {
    let head = answer.head.as_deref();
    let words = ScriptWords::of(head, answer.body.bytes());
    let script_status = words.status;
    let status = status_of_script(script_status);
    if is_error(script_status) {
        log(&answer, &words, parts, &ids);
    }
    let mut headers = HeaderMap::with_capacity(HEADERS_OF_SERIN);
    let left_out = match head {
        Some(head) => write_headers(&head.headers, &mut headers),
        None => {
            headers.insert(CONTENT_TYPE, JSON);
            None
        }
    };
    if let Some(left_out) = left_out {
        let (deployment, request_id) = (answer.deployment.as_str(), ids.as_str());
        tracing::warn!(deployment, request_id, "{left_out}");
    }
    if is_error(script_status) {
        headers.insert(MODEL_ERROR_STATUS, script_status.into());
        headers.insert(MODEL_ERROR_REASON, MODEL_ERROR);
    }
    write_run(&mut headers, &answer);
    if let Some(trace) = parts.headers.get(TRACE_ID) {
        headers.insert(TRACE_ID, trace.clone());
    }
    write_deployment(&mut headers, &answer.deployment);
    write_model_time(&mut headers, &answer.timings);
    ids.write(&mut headers);
    let mut response = Response::new(Body::from(answer.body.into_bytes()));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Whether it tells of no success: then whoever reads the answer must see that the script said so, and not serin.
fn is_error(script_status: u16) -> bool {
    !(200..400).contains(&script_status)
}

/// What Azure's inference server says of `run()`: whether it failed, and how long it took where it did not.
fn write_run(headers: &mut HeaderMap, answer: &Answer) {
    let head = answer.head.as_deref();
    let failed = head.is_some_and(|head| head.failed);
    let said = if failed { "True" } else { "False" };
    headers.insert(RUN_FAILED, HeaderValue::from_static(said));
    let is_success = !failed && !head.is_some_and(|head| is_error(head.status));
    if let Some(run) = answer.timings.run().filter(|_| is_success) {
        headers.insert(RUN_TIME, millis(run));
    }
}

/// Headers of a script that cannot stand in an answer.
#[derive(Debug, PartialEq, Eq)]
struct LeftOut<'a> {
    /// The name of the first.
    name: &'a str,
    why: &'static str,
    count: usize,
}

impl fmt::Display for LeftOut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, why, count } = self;
        let name: String = name.chars().take(NAME_LEN_TOLD).collect();
        write!(
            f,
            "headers of the scoring script were left out, {count} in all: {name:?} {why}"
        )
    }
}

/// Writes those of the headers that an answer may have. Tells of what is no header, or too much; what is not the script's to say is
/// left out without a word, for there it is said.
fn write_headers<'a>(
    given: &'a [(String, String)],
    headers: &mut HeaderMap,
) -> Option<LeftOut<'a>> {
    let mut left_out: Option<LeftOut<'a>> = None;
    let mut bytes = 0;
    for (name, value) in given {
        bytes += name.len() + value.len() + LINE_BYTES;
        let written = match header(name, value) {
            Ok((name, _)) if is_of_serin(&name) => Ok(()),
            Ok(_) if bytes > SCRIPT_HEAD_BYTES_MAX => Err(TOO_MUCH),
            Ok((name, value)) => headers
                .try_append(name, value)
                .map(drop)
                .map_err(|_| TOO_MUCH),
            Err(why) => Err(why),
        };
        if let Err(why) = written {
            left_out
                .get_or_insert(LeftOut {
                    name,
                    why,
                    count: 0,
                })
                .count += 1;
        }
    }
    left_out
}

/// The two as a line of a head; why not, where they are none.
fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "is no name of a header")?;
    // As a Python server writes it.
    let latin: Option<Vec<u8>> = value.chars().map(|one| u8::try_from(one).ok()).collect();
    let latin = latin.ok_or("has a value with characters beyond Latin-1")?;
    let value = HeaderValue::from_bytes(&latin);
    let value = value.map_err(|_| "has a value with a line end or another control character")?;
    Ok((name, value))
}

/// The words of a script that failed, with the status of the answer; none where it answered or refused a request.
pub(super) fn failure_of_script(answer: &Answer) -> Option<String> {
    let words = ScriptWords::of(answer.head.as_deref(), answer.body.bytes());
    let status = status_of_script(words.status);
    (status == StatusCode::FAILED_DEPENDENCY).then(|| format!("{}: {words}", status.as_u16()))
}

/// One line for each answer that tells of no success, as loud as the script's fault deserves.
fn log(answer: &Answer, words: &ScriptWords<'_>, parts: &Parts, ids: &RequestIds) {
    let is_refusal = (400..500).contains(&words.status);
    if is_refusal && !tracing::enabled!(Level::DEBUG) {
        return;
    }
    let status = status_of_script(words.status).as_u16();
    let failed = answer.head.as_deref().is_some_and(|head| head.failed);
    let (deployment, request_id) = (answer.deployment.as_str(), ids.as_str());
    // The client's to choose, at any length.
    let path = parts.uri.path();
    let path = path.get(..LOG_PATH_LEN_MAX).unwrap_or(path);
    macro_rules! event {
        ($level:ident) => {
            tracing::event!(Level::$level, status, path, deployment, request_id, failed, %words, "no success")
        };
    }
    if is_refusal {
        event!(DEBUG);
    } else {
        event!(WARN);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::http::Request;

    use super::*;
    use crate::engine::ResponseHead;
    use crate::observe::Timings;

    fn pairs(headers: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        headers.iter().map(owned).collect()
    }

    /// The answer to a request without any header.
    fn answered(status: u16, headers: &[(&str, &str)], failed: bool) -> Response {
        let head = ResponseHead {
            status,
            headers: pairs(headers),
            failed,
        };
        respond(Some(head), &[])
    }

    fn respond(head: Option<ResponseHead>, asked: &[(&str, &str)]) -> Response {
        let now = Instant::now();
        let answer = Answer {
            body: bytes::Bytes::from_static(b"said").into(),
            signature: None,
            head: head.map(Box::new),
            by_script: true,
            deployment: "blue".parse().unwrap(),
            timings: Timings {
                run_began: Some(now),
                ran: Some(now),
                ..Timings::start(now)
            },
        };
        let parts = request(asked);
        let ids = RequestIds::of(&parts.headers).unwrap();
        script_answer(answer, &parts, ids)
    }

    fn request(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::post("/endpoints/iris/score?a=1&b=%20");
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request = request.header(*name, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn text<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
        let value = response.headers().get(name)?;
        Some(value.to_str().unwrap())
    }

    #[test]
    fn a_status_below_500_goes_out_as_it_is_and_one_that_is_an_error_says_that_the_script_gave_it()
    {
        for (status, outside, of_model) in [
            (200, 200, None),
            (201, 201, None),
            (204, 204, None),
            (302, 302, None),
            (400, 400, Some("400")),
            (404, 404, Some("404")),
            (429, 429, Some("429")),
            (499, 499, Some("499")),
            (500, 424, Some("500")),
            (503, 424, Some("503")),
            // None of these is the status of an answer.
            (0, 424, Some("0")),
            (101, 424, Some("101")),
            (999, 424, Some("999")),
            (u16::MAX, 424, Some("65535")),
        ] {
            let response = answered(status, &[], false);
            assert_eq!(response.status().as_u16(), outside, "{status}");
            assert_eq!(
                text(&response, "ms-azureml-model-error-statuscode"),
                of_model
            );
            let reason = text(&response, "ms-azureml-model-error-reason");
            assert_eq!(reason, of_model.map(|_| "model_error"), "{status}");
            let ran = text(&response, "x-ms-run-fn-exec-ms");
            assert_eq!(ran.is_some(), of_model.is_none(), "{status}");
        }
    }

    #[test]
    fn a_script_that_says_nothing_but_a_body_answers_200_and_json() {
        let response = respond(None, &[("traceid", "t-1")]);
        assert_eq!(response.status().as_u16(), 200);
        for (name, value) in [
            ("content-type", "application/json"),
            ("x-ms-run-function-failed", "False"),
            ("x-ms-run-fn-exec-ms", "0.000"),
            ("ms-azureml-model-time", "0.000"),
            ("azureml-model-deployment", "blue"),
            ("traceid", "t-1"),
        ] {
            assert_eq!(text(&response, name), Some(value), "{name}");
        }
        assert!(response.headers().len() <= HEADERS_OF_SERIN);
    }

    #[test]
    fn a_run_that_failed_says_so_and_not_how_long_it_took() {
        for status in [200, 400, 500] {
            let response = answered(status, &[("X-MS-Run-Function-Failed", "False")], true);
            assert_eq!(text(&response, "x-ms-run-function-failed"), Some("True"));
            assert_eq!(text(&response, "x-ms-run-fn-exec-ms"), None);
        }
    }

    #[test]
    fn headers_of_a_script_go_out_in_their_order_and_as_often_as_they_were_given() {
        let given = [
            ("Content-Type", "text/plain"),
            ("Set-Cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("x-empty", ""),
            ("x-latin", "gr\u{fc}n"),
            ("access-control-allow-origin", "*"),
        ];
        let response = answered(200, &given, false);
        let headers = response.headers();
        assert_eq!(headers["content-type"], "text/plain");
        let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        assert_eq!(headers["x-empty"], "");
        assert_eq!(headers["x-latin"].as_bytes(), b"gr\xfcn");
        assert_eq!(headers["access-control-allow-origin"], "*");
    }

    #[test]
    fn what_frames_an_answer_and_what_serin_says_is_not_the_script_s_to_say() {
        let given = [
            ("Connection", "close"),
            ("keep-alive", "timeout=5"),
            ("Content-Length", "99999"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x"),
            ("upgrade", "h2c"),
            ("date", "never"),
            ("server", "mine"),
            ("azureml-model-deployment", "green"),
            ("ms-azureml-model-error-statuscode", "500"),
            ("ms-azureml-model-error-reason", "none"),
            ("ms-azureml-model-time", "0"),
            ("x-serin-shed", "queue_full"),
            ("x-request-id", "mine"),
            ("x-ms-request-id", "mine"),
            ("x-ms-client-request-id", "mine"),
            ("x-ms-run-function-failed", "True"),
        ];
        let response = answered(200, &given, false);
        for (name, value) in given {
            assert_ne!(text(&response, &name.to_lowercase()), Some(value), "{name}");
        }
        assert_eq!(text(&response, "azureml-model-deployment"), Some("blue"));
        let expected = [
            "azureml-model-deployment",
            "ms-azureml-model-time",
            "x-ms-request-id",
            "x-ms-run-fn-exec-ms",
            "x-ms-run-function-failed",
            "x-request-id",
            "x-serin-deployment",
        ];
        let mut names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, expected);
        // Left out without a word.
        assert_eq!(write_headers(&pairs(&given), &mut HeaderMap::new()), None);
    }

    #[test]
    fn what_is_no_header_is_left_out_and_told_and_the_others_stand() {
        for (name, value, why) in [
            ("x-split", "a\r\nset-cookie: b=1", "line end"),
            ("x-nul", "a\0", "control"),
            ("x-del", "a\u{7f}", "control"),
            ("x-far", "\u{20ac}", "Latin-1"),
            ("", "a", "no name"),
            ("x y", "a", "no name"),
            ("x:", "a", "no name"),
            ("x\r\ny", "a", "no name"),
            ("gr\u{fc}n", "a", "no name"),
        ] {
            let given = pairs(&[("x-before", "1"), (name, value), ("x-after", "2")]);
            let mut headers = HeaderMap::new();
            let left_out = write_headers(&given, &mut headers).unwrap();
            assert_eq!((left_out.name, left_out.count), (name, 1));
            let told = left_out.to_string();
            assert!(told.contains(why), "{told}");
            assert!(!told.contains(char::is_control), "{told}");
            assert_eq!(headers.len(), 2, "{headers:?}");
        }
        let long = "\u{1b}".repeat(99_999);
        let given = pairs(&[(&long, "a")]);
        let told = write_headers(&given, &mut HeaderMap::new());
        assert!(told.unwrap().to_string().len() < 1000);
    }

    #[test]
    fn a_script_that_gives_more_headers_than_fit_keeps_the_first() {
        let many: Vec<_> = (0..100_000)
            .map(|number| (format!("x-{number}"), String::new()))
            .collect();
        let mut headers = HeaderMap::new();
        let left_out = write_headers(&many, &mut headers).unwrap();
        assert_eq!(left_out.why, TOO_MUCH);
        assert_eq!(headers.len() + left_out.count, many.len());
        let bytes =
            |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
        let written: usize = headers.iter().map(bytes).sum();
        assert!(written <= SCRIPT_HEAD_BYTES_MAX, "{written}");
        assert!(written > SCRIPT_HEAD_BYTES_MAX - 20, "{written}");
        let one = pairs(&[("x-long", &"x".repeat(SCRIPT_HEAD_BYTES_MAX))]);
        let left_out = write_headers(&one, &mut HeaderMap::new());
        assert_eq!(left_out.unwrap().why, TOO_MUCH);
    }

    #[test]
    fn a_script_gets_the_head_as_it_came_without_credentials_and_with_the_ids_that_the_client_is_told()
     {
        let parts = request(&[
            ("authorization", "Bearer secret"),
            ("proxy-authorization", "Basic secret"),
            ("connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("x-request-id", "not usable"),
            ("x-ms-client-request-id", "mine!"),
            ("content-type", "multipart/form-data; boundary=x"),
            ("x-twice", "1"),
            ("x-twice", "2"),
            ("x-far", "\u{20ac}"),
        ]);
        let bytes = HeaderValue::from_bytes(b"\xff").unwrap();
        let mut parts = parts;
        parts.headers.insert("x-bytes", bytes);
        let ids = RequestIds::of(&parts.headers).unwrap();
        let head = ForScript {
            parts: &parts,
            ids: &ids,
        }
        .request_head();
        assert_eq!(
            (
                head.method.as_str(),
                head.path.as_str(),
                head.query.as_str()
            ),
            ("POST", "/endpoints/iris/score", "a=1&b=%20")
        );
        let expected = pairs(&[
            ("content-type", "multipart/form-data; boundary=x"),
            ("x-twice", "1"),
            ("x-twice", "2"),
            ("x-far", "\u{20ac}"),
            ("x-ms-request-id", ids.as_str()),
            ("x-request-id", ids.as_str()),
            ("x-ms-client-request-id", "mine"),
        ]);
        assert_eq!(head.headers, expected);
    }
}
