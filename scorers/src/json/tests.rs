use ndarray::{ArrayD, IxDyn, arr0, arr1, arr2};
use proptest::prelude::*;

use super::*;
use crate::signature::OutputSpec;

fn input(name: &str, datatype: ElementType, shape: &[i64]) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        datatype,
        shape: shape.to_vec(),
    }
}

fn taking(inputs: Vec<TensorSpec>) -> JsonScorer {
    JsonScorer::new(Signature {
        inputs,
        outputs: Vec::new(),
    })
}

fn one(datatype: ElementType, shape: &[i64]) -> JsonScorer {
    taking(vec![input("data", datatype, shape)])
}

fn giving(names: &[&str]) -> JsonScorer {
    let kind = OutputKind::Tensor {
        datatype: ElementType::Fp32,
        shape: vec![-1],
    };
    let outputs = names.iter().map(|name| OutputSpec {
        name: (*name).to_owned(),
        kind: kind.clone(),
    });
    JsonScorer::new(Signature {
        inputs: Vec::new(),
        outputs: outputs.collect(),
    })
}

fn refusal(scorer: &JsonScorer, body: &str) -> String {
    scorer
        .preprocess(body.as_bytes())
        .expect_err("a refusal")
        .to_string()
}

#[test]
fn a_nested_list_becomes_the_only_input_row_major() {
    let tensors = one(ElementType::Fp32, &[-1, 2])
        .preprocess(br#"{"data": [[1, 2.5], [-3, 4e2]]}"#)
        .unwrap();
    assert_eq!(
        tensors,
        [Tensor::Fp32(arr2(&[[1.0, 2.5], [-3.0, 400.0]]).into_dyn())]
    );
}

#[test]
fn inputs_by_name_come_in_any_order_and_leave_in_the_models() {
    let scorer = taking(vec![
        input("a", ElementType::Int64, &[-1]),
        input("b", ElementType::Bool, &[]),
    ]);
    let tensors = scorer
        .preprocess(br#"{"data": {"b": true, "a": [1, 2.0]}}"#)
        .unwrap();
    assert_eq!(
        tensors,
        [
            Tensor::Int64(arr1(&[1, 2]).into_dyn()),
            Tensor::Bool(arr0(true).into_dyn())
        ]
    );
}

#[test]
fn every_misfit_says_what_the_model_wants() {
    let model = one(ElementType::Fp32, &[-1, 4]);
    let wants = r#"input "data": expected FP32 numbers of shape [-1, 4], "#;
    for (data, found) in [
        ("[[1,2,3,4],[1,2,3]]", "row 2 has 3 numbers"),
        ("[[1,2,3,\"x\"]]", "row 1, value 4 is text"),
        ("[[1,2,3,1e300]]", "row 1, value 4 is 1e300"),
        ("[[1,2,[3],4]]", "row 1, value 3 is a list"),
        ("[[1,2,null,4]]", "row 1, value 3 is null"),
        ("[1,2,3,4]", "row 1 is 1, not a list"),
        ("7", "found 7, not a list"),
        ("null", "found null, not a list"),
        ("[{}]", "row 1 is an object"),
        ("{}", "found nothing"),
    ] {
        assert_eq!(
            refusal(&model, &format!("{{\"data\": {data}}}")),
            format!("{wants}{found}")
        );
    }
}

#[test]
fn rows_of_a_free_size_must_be_equally_long() {
    assert_eq!(
        refusal(
            &one(ElementType::Int8, &[-1, -1]),
            r#"{"data": [[1,2],[3]]}"#
        ),
        r#"input "data": expected INT8 whole numbers of shape [-1, -1], row 2 has 1 whole numbers, the rows before have 2"#
    );
}

#[test]
fn whole_numbers_must_fit_their_type() {
    for (datatype, number) in [
        (ElementType::Uint8, "256"),
        (ElementType::Uint8, "-1"),
        (ElementType::Int8, "-129"),
        (ElementType::Int64, "9223372036854775808"),
        (ElementType::Uint64, "18446744073709551616"),
        (ElementType::Int32, "1.5"),
        (ElementType::Fp16, "65520"),
    ] {
        let body = format!("{{\"data\": {number}}}");
        assert!(
            one(datatype, &[]).preprocess(body.as_bytes()).is_err(),
            "{datatype} took {number}"
        );
    }
    let tensors = one(ElementType::Uint64, &[])
        .preprocess(br#"{"data": 18446744073709551615}"#)
        .unwrap();
    assert_eq!(tensors, [Tensor::Uint64(arr0(u64::MAX).into_dyn())]);
}

#[test]
fn what_is_not_the_envelope_is_refused_with_the_envelope() {
    let model = one(ElementType::Fp32, &[-1, 64]);
    let wants = r#"expected {"data": ..} with FP32 [-1, 64], found "#;
    for (body, found) in [
        ("[]", "a list"),
        ("3", "3"),
        ("{}", "no \"data\""),
        (r#"{"data": [], "params": 1}"#, "the key \"params\""),
        (r#"{"data": [], "data": []}"#, "\"data\" twice"),
        (
            "",
            "text that is not JSON (line 1, column 0: EOF while parsing a value)",
        ),
        (
            "hello",
            "text that is not JSON (line 1, column 1: expected value)",
        ),
        (
            r#"{"data": []} x"#,
            "text that is not JSON (line 1, column 14: trailing characters)",
        ),
        (
            r#"{"data": [[NaN]]}"#,
            "text that is not JSON (line 1, column 12: expected value)",
        ),
    ] {
        assert_eq!(refusal(&model, body), format!("{wants}{found}"));
    }
}

#[test]
fn names_the_model_does_not_know_are_told_with_those_it_has() {
    let scorer = taking(vec![
        input("a", ElementType::Fp32, &[-1]),
        input("b", ElementType::Fp32, &[-1]),
    ]);
    assert_eq!(
        refusal(&scorer, r#"{"data": {"c": 1}}"#),
        r#"the model has no input "c"; it has "a", "b""#
    );
    assert_eq!(
        refusal(&scorer, r#"{"data": {"a": [], "a": []}}"#),
        r#"input "a" is given twice; give it once"#
    );
    assert_eq!(
        refusal(&scorer, r#"{"data": {"a": []}}"#),
        r#"input "b": expected FP32 numbers of shape [-1], found nothing"#
    );
    assert_eq!(
        refusal(&scorer, r#"{"data": [1]}"#),
        r#"expected {"data": {"a": FP32 [-1], "b": FP32 [-1]}}, found a list in place of the inputs by name"#
    );
}

#[test]
fn a_shape_that_overflows_is_refused_not_multiplied() {
    let model = one(ElementType::Fp32, &[-1, i64::MAX, i64::MAX]);
    assert!(refusal(&model, r#"{"data": []}"#).contains("found a shape of"));
    let Err(ScoreError::ExampleTooLarge { .. }) = JsonScorer::example_body(&model.signature) else {
        panic!("an example of 2^126 elements");
    };
}

#[test]
fn outputs_are_written_by_name_in_the_models_order() {
    let (labels, rows) = (
        arr1(&[3_i64]).into_dyn(),
        arr2(&[[0.1_f32, f32::NAN]]).into_dyn(),
    );
    let outputs = [
        OutputView::Int64(labels.view()),
        OutputView::Fp32(rows.view()),
        OutputView::Bytes(arr0("a\"b".to_owned()).into_dyn()),
        OutputView::Maps(vec![
            vec![("x".to_owned(), 0.5), ("y".to_owned(), f32::INFINITY)],
            vec![],
        ]),
    ];
    let body = giving(&["label", "p", "text", "maps"])
        .postprocess(&outputs)
        .unwrap();
    let expected =
        br#"{"label":[3],"p":[[0.1,null]],"text":"a\"b","maps":[{"x":0.5,"y":null},{}]}"#;
    assert_eq!(body, expected.as_slice());
}

#[test]
fn a_transposed_view_is_written_in_its_own_order() {
    let rows = arr2(&[[1_u8, 2], [3, 4]]).into_dyn();
    let body = giving(&["t"])
        .postprocess(&[OutputView::Uint8(rows.t())])
        .unwrap();
    assert_eq!(body, br#"{"t":[[1,3],[2,4]]}"#.as_slice());
}

#[test]
fn empty_dimensions_keep_their_lists() {
    let (tall, wide) = (
        ArrayD::<bool>::default(IxDyn(&[2, 0])),
        ArrayD::<bool>::default(IxDyn(&[0, 2])),
    );
    let outputs = [OutputView::Bool(tall.view()), OutputView::Bool(wide.view())];
    assert_eq!(
        giving(&["t", "w"]).postprocess(&outputs).unwrap(),
        br#"{"t":[[],[]],"w":[]}"#.as_slice()
    );
}

#[test]
fn outputs_that_are_not_declared_are_refused() {
    assert_eq!(
        giving(&["a"]).postprocess(&[]).unwrap_err().to_string(),
        "the model gave 0 outputs; it declares 1"
    );
}

fn datatypes() -> impl Strategy<Value = ElementType> {
    use ElementType::{
        Bf16, Bool, Bytes, Fp16, Fp32, Fp64, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32,
        Uint64,
    };
    prop::sample::select(vec![
        Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Bf16, Fp32, Fp64,
        Bytes,
    ])
}

fn signatures() -> impl Strategy<Value = Signature> {
    let tensor = (datatypes(), prop::collection::vec(-1_i64..4, 0..4));
    prop::collection::vec(tensor, 0..4).prop_map(|tensors| Signature {
        inputs: tensors
            .into_iter()
            .enumerate()
            .map(|(at, (kind, shape))| input(&format!("in \"{at}"), kind, &shape))
            .collect(),
        outputs: Vec::new(),
    })
}

proptest! {
    #[test]
    fn any_bytes_never_panic(signature in signatures(), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _answer = JsonScorer::new(signature).preprocess(&bytes);
    }

    #[test]
    fn any_text_of_json_pieces_never_panics(signature in signatures(), data in r#"([\[\]{},:]|"in|"|null|true|-?[0-9.e]{1,5}){0,24}"#) {
        let _answer = JsonScorer::new(signature).preprocess(format!("{{\"data\":{data}}}").as_bytes());
    }

    #[test]
    fn an_example_fits_the_model_it_was_made_for(signature in signatures()) {
        let body = JsonScorer::example_body(&signature).unwrap();
        let tensors = JsonScorer::new(signature.clone()).preprocess(&body);
        prop_assert_eq!(tensors.map(|tensors| tensors.len()), Ok(signature.inputs.len()));
    }

    #[test]
    fn floats_read_back_the_same(values in prop::collection::vec(-1e300_f64..1e300, 1..9)) {
        let array = arr1(&values).into_dyn();
        let body = giving(&["data"]).postprocess(&[OutputView::Fp64(array.view())]).unwrap();
        prop_assert_eq!(one(ElementType::Fp64, &[-1]).preprocess(&body), Ok(vec![Tensor::Fp64(array)]));
    }
}
