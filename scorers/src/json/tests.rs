use proptest::prelude::*;

use super::*;
use crate::element::{Element, ElementsRef};
use crate::signature::{OutputKind, OutputSpec};

fn single<T: Element>(element: T) -> Tensor {
    Tensor::new([], vec![element]).unwrap()
}

fn flat<T: Element>(elements: &[T]) -> Tensor {
    Tensor::new([elements.len()], elements.to_vec()).unwrap()
}

fn nested<T: Element, const N: usize>(rows: &[[T; N]]) -> Tensor {
    Tensor::new([rows.len(), N], rows.as_flattened().to_vec()).unwrap()
}

fn input(name: &str, datatype: ElementType, shape: &[i64]) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        datatype,
        shape: shape.to_vec(),
        any_rank: false,
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

/// Bits of floats, so that NaN is equal to itself and -0 is not 0.
fn bits(tensor: &Tensor) -> Vec<u64> {
    match tensor.view().any_elements() {
        ElementsRef::Fp16(array) => array.iter().map(|value| value.to_bits().into()).collect(),
        ElementsRef::Bf16(array) => array.iter().map(|value| value.to_bits().into()).collect(),
        ElementsRef::Fp32(array) => array.iter().map(|value| value.to_bits().into()).collect(),
        ElementsRef::Fp64(array) => array.iter().map(|value| value.to_bits()).collect(),
        other => panic!("{other:?} is not of floats"),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to the nearest is meant"
)]
fn narrowed(value: f64) -> f32 {
    value as f32
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
    assert_eq!(tensors, [nested(&[[1.0_f32, 2.5], [-3.0, 400.0]])]);
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
    assert_eq!(tensors, [flat(&[1_i64, 2]), single(true)]);
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
        ("[[1,2,true,4]]", "row 1, value 3 is true"),
        ("[[1,2,-1e999,4]]", "row 1, value 3 is -1e999"),
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
    assert_eq!(tensors, [single(u64::MAX)]);
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
            "text that is not JSON (line 1, column 1: it ends where a value was expected)",
        ),
        (
            "hello",
            "text that is not JSON (line 1, column 1: expected a value)",
        ),
        (
            r#"{"data": []} x"#,
            "text that is not JSON (line 1, column 14: more text follows the value)",
        ),
        (
            "{\"data\":\n [[1,\n  +NaN]]}",
            "text that is not JSON (line 3, column 3: expected a value)",
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
    let (labels, rows) = (flat(&[3_i64]), nested(&[[0.1_f32, f32::NAN]]));
    let outputs = [
        OutputView::Tensor(labels.view()),
        OutputView::Tensor(rows.view()),
        OutputView::Strings(single("a\"b".to_owned())),
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
fn null_and_bare_tokens_are_floats_of_every_width_wherever_a_number_may_stand() {
    use ElementType::{Bf16, Fp16, Fp32, Fp64};
    let values = [
        f64::NAN,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        1.5,
    ];
    for datatype in [Fp16, Bf16, Fp32, Fp64] {
        let data = "[[null, NaN], [ Infinity,-Infinity ], [-0, 1.5]]";
        let alone = one(datatype, &[-1, 2]).preprocess(format!("{{\"data\": {data}}}").as_bytes());
        let other = input("words", ElementType::Bytes, &[-1]);
        let beside = taking(vec![other, input("data", datatype, &[-1, 2])]).preprocess(
            format!("{{\"data\": {{\"data\": {data}, \"words\": [\"NaN\"]}}}}").as_bytes(),
        );
        let wanted = match datatype {
            Fp16 => flat(&values.map(half::f16::from_f64)),
            Bf16 => flat(&values.map(half::bf16::from_f64)),
            Fp32 => flat(&values.map(narrowed)),
            _ => flat(&values),
        };
        assert_eq!(bits(&alone.unwrap()[0]), bits(&wanted), "{datatype}");
        assert_eq!(bits(&beside.unwrap()[1]), bits(&wanted), "{datatype}");
        for scalar in ["null", "NaN", "-Infinity"] {
            let body = format!("{{\"data\": {scalar}}}");
            let read = one(datatype, &[]).preprocess(body.as_bytes()).unwrap();
            let same = data
                .find(scalar)
                .map(|at| data[..at].matches(',').count())
                .unwrap();
            assert_eq!(bits(&read[0]), [bits(&wanted)[same]], "{datatype} {scalar}");
        }
    }
}

#[test]
fn missing_values_are_for_floats_alone_and_are_refused_with_their_place() {
    for datatype in datatypes_without_floats() {
        for missing in ["null", "NaN", "Infinity", "-Infinity"] {
            let words = refusal(&one(datatype, &[-1]), &format!("{{\"data\": [{missing}]}}"));
            assert!(
                words.ends_with(&format!(", value 1 is {missing}")),
                "{words}"
            );
        }
    }
}

#[test]
fn only_the_tokens_of_python_are_read_and_never_as_keys_or_in_text() {
    let model = one(ElementType::Fp32, &[-1]);
    for no_number in [
        "nan",
        "NAN",
        "inf",
        "+Infinity",
        "-NaN",
        "Nan",
        "Infinit",
        "NaNs",
        "- Infinity",
        "NaN1",
    ] {
        let words = refusal(&model, &format!("{{\"data\": [{no_number}]}}"));
        assert!(words.contains("not JSON"), "{no_number}: {words}");
    }
    assert!(refusal(&model, "{\"data\": [\"NaN\"]}").ends_with("value 1 is text"));
    assert!(refusal(&model, "{\"data\": {NaN: [1]}}").contains("expected a key in quotes"));
    assert!(refusal(&model, "NaN").ends_with("found NaN"));
}

#[test]
fn text_is_read_whatever_is_in_it() {
    let model = one(ElementType::Bytes, &[-1]);
    let read = model
        .preprocess(r#"{"data": ["a\u0000b", "\"\\\n", "\ud83d\ude00é", "", "NaN"]}"#.as_bytes());
    let texts = ["a\0b", "\"\\\n", "😀é", "", "NaN"].map(str::to_owned);
    assert_eq!(read, Ok(vec![flat(&texts)]));
    for (text, problem) in [
        (&b"\"\\ud800\""[..], "in this string: "),
        (b"\"\\x\"", "in this string: invalid escape"),
        (b"\"\xff\"", "this string is not UTF-8"),
        (b"\"\\n\xff\"", "in this string: "),
        (b"\"\n\"", "this string has a control character"),
        (b"\"\0\"", "this string has a control character"),
        (b"\"\\\"]}", "this string does not end"),
        (b"\"\\", "this string does not end"),
    ] {
        let body = [b"{\"data\": [", text, b"]}"].concat();
        let words = model.preprocess(&body).unwrap_err().to_string();
        assert!(
            words.contains(problem) && words.contains("column 11"),
            "{words}"
        );
    }
}

#[test]
fn a_byte_order_mark_is_skipped_and_utf_16_is_named() {
    let model = one(ElementType::Int8, &[-1]);
    let read = model.preprocess(b"\xEF\xBB\xBF{\"data\": [1]}");
    assert_eq!(read, Ok(vec![flat(&[1_i8])]));
    let text = "{\"data\": [1]}";
    let little: Vec<_> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<_> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for body in [
        &little,
        &big,
        &[&[0xFF, 0xFE][..], &little].concat(),
        &[&[0xFE, 0xFF][..], &big].concat(),
    ] {
        let words = model.preprocess(body).unwrap_err().to_string();
        assert!(words.contains("this is UTF-16; send UTF-8"), "{words}");
    }
    assert!(refusal(&model, "\u{feff}\u{feff}{}").contains("expected a value"));
}

#[test]
fn an_input_without_a_declared_shape_takes_an_array_of_any_rank() {
    let model = taking(vec![TensorSpec {
        any_rank: true,
        ..input("x", ElementType::Fp32, &[])
    }]);
    let shape = |data: &str| {
        let read = model.preprocess(format!("{{\"data\": {data}}}").as_bytes());
        read.unwrap()[0].shape().to_vec()
    };
    assert_eq!(shape("3"), [0; 0]);
    assert_eq!(shape("[]"), [0]);
    assert_eq!(shape("[3]"), [1]);
    assert_eq!(shape("[[1, null], [2, 3], [4, 5]]"), [3, 2]);
    assert_eq!(shape("[[], []]"), [2, 0]);
    assert_eq!(shape("[[[[[1]]]]]"), [1, 1, 1, 1, 1]);
    let wants = "input \"x\": expected FP32 numbers of any shape, ";
    let deep = format!("{}1{}", "[".repeat(33), "]".repeat(33));
    for (data, found) in [
        (
            "[[1, 2], [3]]",
            "row 2 has 1 numbers, the rows before have 2",
        ),
        ("[1, [2]]", "value 2 is a list"),
        ("[[1], 2]", "row 2 is 2, not a list"),
        ("[[], [1]]", "row 2 has 1 numbers, the rows before have 0"),
        ("[[], 1]", "row 2 is 1, not a list"),
        ("[[[]], []]", "row 2 has 0 rows, the rows before have 1"),
        ("[\"a\"]", "value 1 is text"),
        ("[{}]", "value 1 is an object"),
        (
            deep.as_str(),
            &format!(
                "row 1{}, value 1 is a list, deeper than 32 dimensions",
                ".1".repeat(30)
            ),
        ),
    ] {
        assert_eq!(
            refusal(&model, &format!("{{\"data\": {data}}}")),
            format!("{wants}{found}")
        );
    }
    let text = taking(vec![TensorSpec {
        any_rank: true,
        ..input("x", ElementType::Bytes, &[])
    }]);
    assert_eq!(
        text.preprocess(br#"{"data": [["["]]}"#),
        Ok(vec![nested(&[["[".to_owned()]])])
    );
    assert!(refusal(&model, "[]").starts_with("expected {\"data\": ..} with FP32 of any shape"));
    let example = JsonScorer::example_body(&model.signature).unwrap();
    assert_eq!(example, b"{\"data\":[0]}".as_slice());
}

#[test]
fn an_empty_list_is_refused_where_more_than_one_size_is_free() {
    let found = "found an empty list, which does not say the size of dimension";
    let words = refusal(&one(ElementType::Fp32, &[-1, -1]), r#"{"data": []}"#);
    assert_eq!(
        words,
        format!(
            "input \"data\": expected FP32 numbers of shape [-1, -1], {found} 2; send one row or more"
        )
    );
    let words = refusal(&one(ElementType::Fp32, &[-1, 3, -1]), r#"{"data": []}"#);
    assert!(words.contains(&format!("{found} 3")), "{words}");
    for (shape, data, sizes) in [
        (&[-1, 3][..], "[]", &[0, 3][..]),
        (&[-1], "[]", &[0]),
        (&[-1, -1], "[[], []]", &[2, 0]),
        (&[2, -1], "[[], []]", &[2, 0]),
    ] {
        let body = format!("{{\"data\": {data}}}");
        let read = one(ElementType::Fp32, shape).preprocess(body.as_bytes());
        assert_eq!(read.unwrap()[0].shape(), sizes);
    }
}

#[test]
fn one_nan_or_infinity_anywhere_is_seen_in_every_kind_of_output() {
    for (at, odd) in [
        (0, f64::NAN),
        (63, f64::INFINITY),
        (64, f64::NEG_INFINITY),
        (199, f64::NAN),
    ] {
        let mut floats = [1.5; 200];
        let all = |floats: &[f64; 200]| {
            let map = floats
                .iter()
                .map(|float| ("a".to_owned(), narrowed(*float)));
            let map: Vec<_> = map.collect();
            let halves = flat(&floats.map(half::f16::from_f64));
            [
                OutputView::Tensor(flat(floats).view()).is_finite(),
                OutputView::Tensor(flat(&floats.map(narrowed)).view()).is_finite(),
                OutputView::Sequence(vec![flat(&[1_u8]), halves]).is_finite(),
                OutputView::Sequence(vec![flat(&floats.map(half::bf16::from_f64))]).is_finite(),
                OutputView::Map(map.clone()).is_finite(),
                OutputView::Maps(vec![Vec::new(), map]).is_finite(),
            ]
        };
        assert_eq!(all(&floats), [true; 6]);
        floats[at] = odd;
        assert_eq!(all(&floats), [false; 6], "{odd} at {at}");
    }
    let words = flat(&["NaN".to_owned()]);
    assert!(OutputView::Strings(words).is_finite());
    assert!(OutputView::Tensor(flat(&[1_i64]).view()).is_finite());
}

#[test]
fn the_form_of_nan_and_infinities_is_a_choice() {
    let floats = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.5];
    let (wide, narrow) = (flat(&floats), flat(&floats.map(narrowed)));
    let pairs = vec![("n".to_owned(), f32::NAN), ("i".to_owned(), f32::INFINITY)];
    let halves = flat(&floats.map(half::f16::from_f64));
    let outputs = [
        OutputView::Tensor(wide.view()),
        OutputView::Tensor(narrow.view()),
        OutputView::Tensor(halves.view()),
        OutputView::Sequence(vec![flat(&floats.map(half::bf16::from_f64))]),
        OutputView::Map(pairs.clone()),
        OutputView::Maps(vec![pairs]),
    ];
    let scorer = giving(&["a", "b", "c", "d", "e", "f"]);
    let list = "[null,null,null,1.5]";
    let map = "{\"n\":null,\"i\":null}";
    assert_eq!(
        scorer.postprocess(&outputs).unwrap(),
        format!(
            "{{\"a\":{list},\"b\":{list},\"c\":{list},\"d\":[{list}],\"e\":{map},\"f\":[{map}]}}"
        )
    );
    let list = "[NaN,Infinity,-Infinity,1.5]";
    let map = "{\"n\":NaN,\"i\":Infinity}";
    assert_eq!(
        scorer
            .with_non_finite(NonFinite::Tokens)
            .postprocess(&outputs)
            .unwrap(),
        format!(
            "{{\"a\":{list},\"b\":{list},\"c\":{list},\"d\":[{list}],\"e\":{map},\"f\":[{map}]}}"
        )
    );
}

#[test]
fn a_sequence_is_a_list_of_tensors_and_a_map_an_object() {
    let outputs = [
        OutputView::Sequence(vec![
            nested(&[[0.25_f32, 0.75]]),
            flat(&[1_i64, 2, 3]),
            single("a".to_owned()),
        ]),
        OutputView::Sequence(vec![]),
        OutputView::Map(vec![("a".to_owned(), 1.0)]),
    ];
    assert_eq!(
        giving(&["s", "none", "m"]).postprocess(&outputs).unwrap(),
        br#"{"s":[[[0.25,0.75]],[1,2,3],"a"],"none":[],"m":{"a":1.0}}"#.as_slice()
    );
}

#[test]
fn a_model_with_an_output_without_json_form_is_refused_by_its_signature() {
    let output = |name: &str, kind| OutputSpec {
        name: name.to_owned(),
        kind,
    };
    let signature = |kind| Signature {
        inputs: vec![],
        outputs: vec![
            output("maps", OutputKind::SequenceOfMaps),
            output("odd", kind),
        ],
    };
    let odd = OutputKind::Other {
        description: "a tensor of complex numbers".to_owned(),
    };
    let words = "output \"odd\" is a tensor of complex numbers, which no answer can hold; export the model with tensor outputs";
    let refused = JsonScorer::check(&signature(odd)).unwrap_err();
    assert_eq!(refused.to_string(), words);
    assert_eq!(JsonScorer::check(&signature(OutputKind::Map)), Ok(()));
}

#[test]
fn empty_dimensions_keep_their_lists() {
    let empty = |shape: [usize; 2]| Tensor::new(shape, Vec::<bool>::new()).unwrap();
    let (tall, wide) = (empty([2, 0]), empty([0, 2]));
    let outputs = [&tall, &wide].map(|tensor| OutputView::Tensor(tensor.view()));
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

fn datatypes_without_floats() -> [ElementType; 10] {
    use ElementType::{Bool, Bytes, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64};
    [
        Bool, Bytes, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64,
    ]
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
    fn numbers_are_read_as_serde_json_reads_them_to_the_same_bits(
        numbers in prop::collection::vec("-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?", 1..20),
    ) {
        let list = format!("[{}]", numbers.join(", "));
        let body = format!("{{\"data\": {list}}}");
        let floats: Vec<f64> = serde_json::from_str(&list).unwrap();
        let read = one(ElementType::Fp64, &[-1]).preprocess(body.as_bytes()).unwrap();
        prop_assert_eq!(bits(&read[0]), bits(&flat(&floats)));
        let narrow: Vec<_> = floats.iter().copied().map(narrowed).collect();
        let read = one(ElementType::Fp32, &[-1]).preprocess(body.as_bytes());
        if narrow.iter().all(|value| value.is_finite()) {
            prop_assert_eq!(bits(&read.unwrap()[0]), bits(&flat(&narrow)));
        } else {
            prop_assert!(read.is_err());
        }
        for number in &numbers {
            let body = format!("{{\"data\": {number}}}");
            let whole: Result<i64, _> = serde_json::from_str(number);
            if let Ok(whole) = whole {
                let read = one(ElementType::Int64, &[]).preprocess(body.as_bytes());
                prop_assert_eq!(read, Ok(vec![single(whole)]));
            }
        }
    }

    #[test]
    fn strings_are_read_as_serde_json_reads_them(inside in "(\\PC|\\\\[\"\\\\/bfnrtu]|\\\\u[0-9a-fA-F]{4}|\\\\ud83d\\\\ude00|\"|\\\\){0,8}") {
        let list = format!("[\"{inside}\"]");
        let body = format!("{{\"data\": {list}}}");
        let read = one(ElementType::Bytes, &[-1]).preprocess(body.as_bytes());
        match serde_json::from_str::<Vec<String>>(&list) {
            Ok(texts) => prop_assert_eq!(read, Ok(vec![flat(&texts)])),
            Err(_) => prop_assert!(read.is_err(), "{} was read", body),
        }
    }

    #[test]
    fn no_text_is_read_that_serde_json_refuses_and_that_has_no_token(text in "[\\[\\]{}\", :.0-9eE+-]{0,40}|[\\[\\]0-9, .-]{0,12}") {
        let body = format!("{{\"data\":{text}}}");
        let any = TensorSpec { any_rank: true, ..input("x", ElementType::Fp64, &[]) };
        let read = taking(vec![any]).preprocess(body.as_bytes());
        if read.is_ok() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{}", body);
        }
    }

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
        let wanted = flat(&values);
        let body = giving(&["data"]).postprocess(&[OutputView::Tensor(wanted.view())]).unwrap();
        prop_assert_eq!(one(ElementType::Fp64, &[-1]).preprocess(&body), Ok(vec![wanted]));
    }
}
