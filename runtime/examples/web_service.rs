//! A web service with a model in it: blue and green, a split, and a hot swap while requests come. Any framework will do; this is axum.
//!
//! `cargo run --release --example web_service`, then
//! `curl -X POST 127.0.0.1:8000/digits -d '{"data": [[0, ..]]}'`

#![expect(clippy::print_stdout, reason = "an example talks to people")]

use std::error::Error;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use serin::{Endpoint, Request, Serin};
use tokio::net::TcpListener;

/// What every request sees.
#[derive(Clone)]
struct Service {
    serin: Serin,
    digits: Endpoint,
    models: PathBuf,
}

type Answer = Result<String, (StatusCode, String)>;

/// One request. An error has the status that a server of models would give it.
async fn score(State(service): State<Service>, body: Bytes) -> Answer {
    let answered = service.digits.run(Request::json(body)).await;
    match answered {
        Ok(answer) => {
            let body = answer.json().map(|body| body.to_vec()).unwrap_or_default();
            Ok(String::from_utf8_lossy(&body).into_owned())
        }
        Err(error) => {
            let status = StatusCode::from_u16(error.http_status());
            Err((
                status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                error.to_string(),
            ))
        }
    }
}

/// Swaps the model under the traffic: the new one is warm before it takes any, and the old one ends when its requests have.
async fn swap(State(service): State<Service>, version: String) -> Answer {
    let model = service.models.join(version.trim()).join("model.onnx");
    match service.digits.replace("blue", model).await {
        Ok(()) => Ok(format!("blue is version {}\n", version.trim())),
        Err(error) => Err((StatusCode::CONFLICT, error.to_string())),
    }
}

async fn metrics(State(service): State<Service>) -> String {
    service.serin.metrics_text()
}

async fn service(models: &Path) -> Result<(Service, Router), serin::Error> {
    let serin = Serin::new()?;
    let digits = serin
        .endpoint("digits")
        .deployment("blue", models.join("1/model.onnx"))
        .deployment("green", models.join("2/model.onnx"))
        .traffic("blue=90 green=10")
        .start()
        .await?;
    let service = Service {
        serin,
        digits,
        models: models.to_owned(),
    };
    let routes = Router::new()
        .route("/digits", post(score))
        .route("/digits/version", post(swap))
        .route("/metrics", get(metrics));
    Ok((service.clone(), routes.with_state(service)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits");
    let (service, routes) = service(&models).await?;
    let listener = TcpListener::bind("127.0.0.1:8000").await?;
    println!("http://{}/digits", listener.local_addr()?);
    axum::serve(listener, routes)
        .with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) })
        .await?;
    service
        .serin
        .shutdown(std::time::Duration::from_secs(5))
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(routes: &Router, path: &str, body: String) -> (StatusCode, String) {
        let request = Request::post(path).body(Body::from(body)).unwrap();
        let answer = routes.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_model_is_swapped_under_traffic_and_no_request_fails() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits");
        let (service, routes) = service(&models).await.unwrap();
        let image = || format!(r#"{{"data": [{:?}]}}"#, [0; 64]);
        let traffic = {
            let routes = routes.clone();
            tokio::spawn(async move {
                for _ in 0..200 {
                    let (status, body) = ask(&routes, "/digits", image()).await;
                    assert_eq!(status, StatusCode::OK, "{body}");
                }
            })
        };
        let (status, words) = ask(&routes, "/digits/version", "2".to_owned()).await;
        assert_eq!(
            (status, words.as_str()),
            (StatusCode::OK, "blue is version 2\n")
        );
        let (status, words) = ask(&routes, "/digits/version", "3".to_owned()).await;
        assert_eq!(status, StatusCode::CONFLICT, "{words}");
        traffic.await.unwrap();
        let (status, words) = ask(&routes, "/digits", "{}".to_owned()).await;
        assert_eq!(status, StatusCode::FAILED_DEPENDENCY, "{words}");
        let counts = service.serin.metrics();
        let ok: u64 = counts.iter().map(|one| one.count("ok")).sum();
        assert_eq!(ok, 200);
    }
}
