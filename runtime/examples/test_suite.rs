//! A product's test suite with a model in it: each test has a serin of its own, starts in milliseconds, and leaves nothing behind.
//!
//! `cargo test --example test_suite`

use std::path::{Path, PathBuf};

use serin::{Endpoint, Request, ScoreError, Serin, TensorView};

/// The product: what an image shows.
pub fn digit_of(digits: &Endpoint, pixels: &[f32]) -> Result<i64, ScoreError> {
    let image = TensorView::new([1, 64], pixels)?;
    let answer = digits.run_blocking(Request::tensors([image]))?;
    let label = answer.tensor("label");
    let label = label.as_ref().and_then(TensorView::elements::<i64>);
    Ok(label.map_or(-1, |label| label[0]))
}

fn model(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../models/digits/{version}/model.onnx"))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let serin = Serin::new()?;
    let digits = serin
        .endpoint("digits")
        .deployment("v1", model("1"))
        .start_blocking()?;
    assert!((0..10).contains(&digit_of(&digits, &[0.0; 64])?));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serin::Model;

    use super::*;

    #[test]
    fn an_image_shows_a_digit() {
        main().unwrap();
    }

    #[test]
    fn an_image_of_another_size_is_refused_in_words() {
        let serin = Serin::new().unwrap();
        let digits = serin
            .endpoint("digits")
            // A model may lie in the test's own binary: `include_bytes!`.
            .deployment("v1", Model::bytes(std::fs::read(model("1")).unwrap()))
            .start_blocking()
            .unwrap();
        let words = digit_of(&digits, &[0.0; 63]).unwrap_err().to_string();
        assert!(words.contains("64 elements, found 63"), "{words}");
    }

    #[test]
    fn both_versions_agree_on_most_images() {
        let serin = Serin::new().unwrap();
        let digits = serin
            .endpoint("digits")
            .deployment("v1", model("1"))
            .deployment("v2", model("2"))
            .start_blocking()
            .unwrap();
        let images: Vec<f32> = (0..100 * 64_u32)
            .map(|at| f32::from(u8::try_from(at * 31 % 17).unwrap()))
            .collect();
        let labels = |version: &str| {
            let rows = TensorView::new([100, 64], &images).unwrap();
            let answer = digits
                .run_blocking(Request::tensors([rows]).to(version))
                .unwrap();
            let label = answer.tensor("label").unwrap();
            label.elements::<i64>().unwrap().to_vec()
        };
        let (one, other) = (labels("v1"), labels("v2"));
        let same = one
            .iter()
            .zip(&other)
            .filter(|(one, other)| one == other)
            .count();
        assert!(same >= 30, "{same} of 100");
    }
}
