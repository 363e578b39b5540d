//! One loaded model with one thread, run on numbers that are in memory already.

use std::path::Path;

use ort::environment::Environment;
use ort::session::{Session, SessionOutputs};
use ort::value::{TensorRef, ValueType};

/// Loads the ONNX Runtime library at `path`; the environment must outlive every model.
///
/// # Errors
///
/// ONNX Runtime's own message.
pub fn environment(path: &Path) -> ort::Result<Environment> {
    ort::init_from(path)
        .map_err(|error| ort::Error::new(error.to_string()))?
        .with_name("serin-peers")
        .with_telemetry(false)
        .build()
}

/// A session of a model with one input.
#[derive(Debug)]
pub struct Model {
    session: Session,
}

impl Model {
    /// Loads an ONNX file; a run uses the calling thread alone.
    ///
    /// # Errors
    ///
    /// ONNX Runtime's own message.
    pub fn load(environment: &Environment, path: &Path) -> ort::Result<Self> {
        let session = Session::builder(environment)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .commit_from_file(path)?;
        Ok(Self { session })
    }

    /// Dimensions of the input, the rows included; 0 when the input is no tensor.
    #[must_use]
    pub fn rank(&self) -> usize {
        match self.session.inputs().first().map(|input| input.dtype()) {
            Some(ValueType::Tensor { shape, .. }) => shape.len(),
            _ => 0,
        }
    }

    /// Runs the model once.
    ///
    /// # Errors
    ///
    /// ONNX Runtime's own message, also when the numbers do not fill the shape.
    pub fn run(&mut self, shape: &[usize], numbers: &[f32]) -> ort::Result<SessionOutputs<'_>> {
        let input = TensorRef::from_array_view((shape, numbers))?;
        self.session.run(ort::inputs![input])
    }
}
