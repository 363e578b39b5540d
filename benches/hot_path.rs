//! What each request costs outside the model: pick, admit, decode, encode. `cargo bench --bench hot_path`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use ndarray::ArrayD;
use serin::deadline::Deadline;
use serin::router::AdmissionControl;
use serin::spec::{Picker, TrafficSplit};
use serin_scorers::{
    ElementType, JsonScorer, OutputKind, OutputSpec, OutputView, Scorer as _, Signature, TensorSpec,
};

/// Key of the permuted block.
const SEED: u64 = 0x5eed;

/// Whole percents (blocks of 100) and hundredths (blocks of 10,000).
fn pick(criterion: &mut Criterion) {
    for (name, split) in [
        ("90/10", "blue:90,green:10"),
        ("99.99/0.01", "blue:99.99,green:0.01"),
    ] {
        let split: TrafficSplit = split.parse().expect("a split");
        let picker = Picker::new(&split, SEED);
        let mut ticket = 0;
        criterion.bench_function(&format!("pick {name}"), |bencher| {
            bencher.iter(|| {
                ticket += 1;
                black_box(picker.pick(black_box(ticket)))
            });
        });
    }
}

/// A free slot taken and given back.
fn admit(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let admission = AdmissionControl::new(4);
    criterion.bench_function("admit and give back", |bencher| {
        bencher.iter(|| {
            let deadline = Deadline::after(Instant::now(), Duration::from_secs(5));
            runtime
                .block_on(admission.admit(deadline))
                .expect("a free slot")
        });
    });
}

/// The digits model: 64 numbers a row in, 10 out.
fn json(criterion: &mut Criterion) {
    let tensor = |name: &str, width| TensorSpec {
        name: name.to_owned(),
        datatype: ElementType::Fp32,
        shape: vec![-1, width],
    };
    let output = tensor("probabilities", 10);
    let scorer = JsonScorer::new(Signature {
        inputs: vec![tensor("data", 64)],
        outputs: vec![OutputSpec {
            name: output.name,
            kind: OutputKind::Tensor {
                datatype: output.datatype,
                shape: output.shape,
            },
        }],
    });
    for rows in [1, 256] {
        let row: Vec<f32> = (0..64_u8).map(|pixel| f32::from(pixel % 17)).collect();
        let body = format!("{{\"data\":{:?}}}", vec![row; rows]);
        criterion.bench_function(&format!("decode {rows} rows of 64"), |bencher| {
            bencher.iter(|| {
                scorer
                    .preprocess(black_box(body.as_bytes()))
                    .expect("it fits")
            });
        });
        let answer = ArrayD::from_elem(vec![rows, 10], 0.123_456_7_f32);
        criterion.bench_function(&format!("encode {rows} rows of 10"), |bencher| {
            bencher.iter(|| {
                scorer
                    .postprocess(&[OutputView::Fp32(black_box(answer.view()))])
                    .expect("it has a JSON form")
            });
        });
    }
}

criterion_group!(benches, pick, admit, json);
criterion_main!(benches);
