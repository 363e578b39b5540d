//! The naive server: what a good Rust user writes in an evening, as fast as such a program can be.
//!
//! axum on one thread, typed serde in and out, the model run inside the handler. No keys, no deadlines, no bounds, one model.

#![expect(
    clippy::print_stdout,
    reason = "it says on standard output where it listens"
)]

use std::error::Error;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use axum::serve::ListenerExt as _;
use bytes::Bytes;
use clap::Parser;
use serin_peers::{Answer, Model, Nested, Request, environment};
use tokio::net::TcpListener;

/// As much as serin takes by default.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Serves one model at `/score`.
#[derive(Debug, Parser)]
struct Typed {
    /// ONNX Runtime: the shared library.
    library: PathBuf,
    /// The ONNX file.
    model: PathBuf,
    /// Port on 127.0.0.1; 0 takes any free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

/// Uncontended, as there is one thread.
type Shared = Arc<Mutex<Model>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let typed = Typed::parse();
    let environment = environment(&typed.library)?;
    let model = Model::load(&environment, &typed.model)?;
    let route = route_for(model.rank())?;
    let application = Router::new()
        .route("/score", route)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::new(Mutex::new(model)));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, typed.port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|connection| {
        // A connection that takes no options has gone, which its first read tells.
        drop(connection.set_nodelay(true));
    });
    axum::serve(listener, application).await?;
    Ok(())
}

/// The handler whose type fits the model's input.
fn route_for(rank: usize) -> Result<MethodRouter<Shared>, String> {
    match rank {
        1 => Ok(post(score::<Vec<f32>>)),
        2 => Ok(post(score::<Vec<Vec<f32>>>)),
        3 => Ok(post(score::<Vec<Vec<Vec<f32>>>>)),
        4 => Ok(post(score::<Vec<Vec<Vec<Vec<f32>>>>>)),
        _ => Err(format!(
            "expected an input of 1 to 4 dimensions, found {rank}"
        )),
    }
}

/// Decodes, runs, and encodes, all on the thread of the sockets.
async fn score<Rows: Nested>(
    State(model): State<Shared>,
    body: Bytes,
) -> Result<Response, (StatusCode, String)> {
    let request: Request<Rows> = serde_json::from_slice(&body)
        .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    let (shape, numbers) = request.tensor();
    let mut model = model.lock().unwrap_or_else(PoisonError::into_inner);
    let outputs = model
        .run(&shape, &numbers)
        .map_err(|error| (StatusCode::FAILED_DEPENDENCY, error.to_string()))?;
    let answer = serde_json::to_vec(&Answer(outputs))
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response())
}
