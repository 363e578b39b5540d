//! The JSON scorer: `{"data": ..}` in, the model's outputs by name out.

use bytes::Bytes;

use crate::error::ScoreError;
use crate::scorer::Scorer;
use crate::signature::Signature;
use crate::tensor::{OutputView, Tensor};

/// Scores any model by its signature: `{"data": ..}` in, `{"output": ..}` out.
#[derive(Debug, Clone)]
pub struct JsonScorer {
    _signature: Signature,
}

impl JsonScorer {
    /// A scorer for a model with this signature.
    #[must_use]
    pub fn new(signature: Signature) -> Self {
        Self {
            _signature: signature,
        }
    }

    /// A body that fits the model, made from its own shapes (zeros, empty strings, free sizes 1): for warm-up and examples.
    ///
    /// # Errors
    ///
    /// [`ScoreError::ExampleTooLarge`] when a declared shape is absurdly large.
    pub fn example_body(_signature: &Signature) -> Result<Bytes, ScoreError> {
        todo!()
    }
}

impl Scorer for JsonScorer {
    fn preprocess(&self, _payload: &[u8]) -> Result<Vec<Tensor>, ScoreError> {
        todo!()
    }

    fn postprocess(&self, _outputs: &[OutputView<'_>]) -> Result<Bytes, ScoreError> {
        todo!()
    }
}
