//! The page of HTTP says what a server does: each request that it shows is sent, and no route or status of the sources is left out.

use std::fs;

use crate::scoring::{deploy, sample};
use crate::support::{Answer, Server, agent, folder, repository};

fn page() -> String {
    fs::read_to_string(repository("docs/http.md")).expect("the page")
}

fn source(path: &str) -> String {
    let text = fs::read_to_string(repository(&format!("runtime/src/{path}"))).expect("a source");
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.to_owned()
}

/// The part of the page below a heading.
fn section(heading: &str) -> String {
    let page = page();
    let part = page
        .split("\n## ")
        .find(|part| part.starts_with(&format!("{heading}\n")));
    part.unwrap_or_else(|| panic!("no section {heading:?}"))
        .to_owned()
}

/// The first cells of the rows of a section, with the second ones.
fn rows(section: &str) -> Vec<(String, String)> {
    let cells = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let first = cells.next()?.to_owned();
        Some((first, cells.next()?.trim_end_matches([' ', '|']).to_owned()))
    };
    let is_row = |(first, _): &(String, String)| {
        first.starts_with('`') || first.starts_with(|c: char| c.is_ascii_digit())
    };
    section.lines().filter_map(cells).filter(is_row).collect()
}

/// The paths of the routes that a source has.
fn routes(path: &str) -> Vec<String> {
    let code = source(path);
    let quoted = code.split(".route(").skip(1);
    let found = quoted.filter_map(|rest| rest.split('"').nth(1));
    found.map(str::to_owned).collect()
}

#[test]
fn the_page_of_http_has_the_routes_of_the_sources_and_no_other() {
    for (heading, sources) in [
        ("Scoring port", &["serve/http.rs", "serve/exposition.rs"]),
        (
            "Administration port",
            &["admin/routes.rs", "admin/rollouts.rs"],
        ),
    ] {
        let mut routed: Vec<_> = sources.iter().flat_map(|path| routes(path)).collect();
        let shown = rows(&section(heading));
        let is_path = |(first, _): &(String, String)| first.starts_with("`/");
        let mut shown: Vec<_> = shown
            .into_iter()
            .filter(is_path)
            .map(|(first, _)| first.trim_matches('`').to_owned())
            .collect();
        routed.sort();
        shown.sort();
        assert!(routed.len() > 5, "{routed:?}");
        assert_eq!(shown, routed, "docs/http.md, {heading}");
    }
}

/// The number of a status by its name in the sources.
fn status_of(name: &str) -> u16 {
    match name {
        "BAD_REQUEST" => 400,
        "UNAUTHORIZED" => 401,
        "FORBIDDEN" => 403,
        "NOT_FOUND" => 404,
        "METHOD_NOT_ALLOWED" => 405,
        "REQUEST_TIMEOUT" => 408,
        "CONFLICT" => 409,
        "PAYLOAD_TOO_LARGE" => 413,
        "URI_TOO_LONG" => 414,
        "UNSUPPORTED_MEDIA_TYPE" => 415,
        "MISDIRECTED_REQUEST" => 421,
        "FAILED_DEPENDENCY" => 424,
        "TOO_MANY_REQUESTS" => 429,
        "REQUEST_HEADER_FIELDS_TOO_LARGE" => 431,
        "INTERNAL_SERVER_ERROR" => 500,
        "NOT_IMPLEMENTED" => 501,
        "SERVICE_UNAVAILABLE" => 503,
        "INSUFFICIENT_STORAGE" => 507,
        other => panic!("{other} is new: name it here, and give it a row in docs/http.md"),
    }
}

#[test]
fn the_page_of_http_has_each_status_of_the_sources() {
    for (heading, sources) in [
        (
            "Statuses of scoring",
            &["serve/failure.rs", "serve/head.rs"][..],
        ),
        ("Administration port", &["admin/error.rs"]),
    ] {
        let shown = rows(&section(heading));
        for path in sources {
            let code = source(path);
            let constants = code.split("StatusCode::").skip(1);
            let name = |rest: &str| {
                let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
                rest.chars().take_while(|c| is_name(*c)).collect::<String>()
            };
            for name in constants.map(name).filter(|name| name.len() > 1) {
                let status = status_of(&name).to_string();
                assert!(
                    shown.iter().any(|(first, _)| *first == status),
                    "{path} answers {status}, and docs/http.md, {heading}, has no row for it"
                );
            }
        }
    }
}

/// Sends what a row describes.
fn ask(server: &Server, key: &str, row: &str) -> Answer {
    let (line, what) = row
        .split_once("`, ")
        .unwrap_or((row.trim_end_matches('`'), ""));
    let (method, path) = line
        .trim_start_matches('`')
        .split_once(' ')
        .expect("a line");
    let mut request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{}{path}", server.scoring));
    let bearer = match what {
        "with a wrong key" => "Bearer wrong".to_owned(),
        _ => format!("Bearer {key}"),
    };
    if what != "without a key" {
        request = request.header("authorization", bearer);
    }
    let body = match what {
        "for the deployment `red`" => {
            request = request.header("azureml-model-deployment", "red");
            sample()
        }
        "compressed" => {
            request = request.header("content-encoding", "gzip");
            sample()
        }
        "an id of 101 characters" => {
            request = request.header("x-request-id", "i".repeat(101));
            sample()
        }
        "5000 bytes" => " ".repeat(5000),
        "not JSON" => "no".to_owned(),
        "the sample request" | "without a key" | "with a wrong key" => sample(),
        "" => String::new(),
        other => panic!("nobody knows how to send {other:?}: {row}"),
    };
    let answer = match method {
        "GET" => agent().run(request.body(()).expect("a request")),
        _ => agent().run(request.body(body).expect("a request")),
    };
    Answer::read(answer.expect("an HTTP answer"))
}

#[test]
fn a_server_answers_each_request_of_the_page_with_the_status_that_stands_beside_it() {
    let data = folder();
    let server = Server::start_with(data.path(), &["--body-bytes-max", "4096"]);
    let key = deploy(&server, "models/digits/1/model.onnx", "");
    let rows = rows(&section("What can be asked"));
    assert!(rows.len() > 15, "{rows:?}");
    let known = self::rows(&section("Statuses of scoring"));
    let headers = section("Headers of an answer");
    for (row, status) in rows {
        let answer = ask(&server, &key, &row);
        assert_eq!(answer.status.to_string(), status, "{row}: {}", answer.body);
        assert!(known.iter().any(|(first, _)| *first == status), "{status}");
        if answer.status >= 400 {
            assert!(!answer.message().is_empty(), "{row}");
        }
        // Beside what every HTTP server says.
        for name in answer.headers.keys().map(ureq::http::HeaderName::as_str) {
            let is_common = ["content-length", "content-type", "date"].contains(&name);
            assert!(
                is_common || headers.contains(&format!("`{name}`")),
                "{row}: {name}"
            );
        }
    }
}
