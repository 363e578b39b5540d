//! Bodies through real models and back: what becomes a tensor, and what of the outputs an answer.

use ort::value::Map;
use serin_scorers::{NonFinite, Scorer as _};

use super::*;

fn file_of(model: &str) -> PathBuf {
    let file = format!("../models/test/{model}.onnx");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// The model of this name, and a scorer for it.
fn loaded(model: &str) -> Result<(Session, JsonScorer), String> {
    let session = Session::load(&file_of(model), None, &SessionThreads::one("test"));
    let session = session.map_err(|error| error.to_string())?;
    let scorer = JsonScorer::new(Signature::clone(session.signature()));
    Ok((session, scorer))
}

fn answer(session: &mut Session, scorer: &JsonScorer, data: &str) -> Result<String, String> {
    let words = |error: serin_scorers::ScoreError| error.to_string();
    let inputs = scorer.preprocess(format!("{{\"data\": {data}}}").as_bytes());
    let body = run(session, &inputs.map_err(words)?, |outputs| {
        scorer.postprocess(outputs).map_err(words)
    })??;
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

/// The answers of a model to requests, each asked so often that bound I/O has its turn.
fn assert_answers(model: &str, answers: &[(&str, &str)]) {
    let (mut session, scorer) = loaded(model).unwrap();
    for (data, expected) in answers {
        for _ in 0..BIND_AFTER_RUNS + 2 {
            let found = answer(&mut session, &scorer, data);
            assert_eq!(found.as_deref(), Ok(*expected), "{model} on {data}");
        }
    }
}

#[test]
fn missing_values_reach_the_model_as_nan_and_infinities_stay() {
    let (mut session, scorer) = loaded("gaps").unwrap();
    let data = "[[null, NaN], [1, Infinity], [-Infinity, -0.0]]";
    assert_eq!(
        answer(&mut session, &scorer, data).unwrap(),
        r#"{"filled":[[7.0,8.0],[1.0,null],[null,-0.0]],"same":[[null,null],[1.0,null],[null,-0.0]]}"#
    );
    let scorer = scorer.with_non_finite(NonFinite::Tokens);
    assert_eq!(
        answer(&mut session, &scorer, data).unwrap(),
        r#"{"filled":[[7.0,8.0],[1.0,Infinity],[-Infinity,-0.0]],"same":[[NaN,NaN],[1.0,Infinity],[-Infinity,-0.0]]}"#
    );
}

#[test]
fn floats_of_two_bytes_may_be_missing_and_whole_numbers_may_not() {
    assert_answers(
        "narrow",
        &[(
            r#"{"fp16": [null, -Infinity, 1.5], "bf16": [NaN, 2], "int32": [7]}"#,
            r#"{"same_fp16":[null,null,1.5],"same_bf16":[null,2.0],"same_int32":[7]}"#,
        )],
    );
    let (mut session, scorer) = loaded("narrow").unwrap();
    let data = r#"{"fp16": [], "bf16": [], "int32": [1, null]}"#;
    let words = answer(&mut session, &scorer, data).unwrap_err();
    assert_eq!(
        words,
        "input \"int32\": expected INT32 whole numbers of shape [-1], value 2 is null"
    );
}

#[test]
fn a_sequence_of_tensors_is_a_list_of_them_each_in_its_own_shape() {
    assert_answers(
        "sequences",
        &[
            (
                "[[1, 2]]",
                r#"{"probabilities":[[[1.0,2.0]],[[1.0],[2.0]]],"labels":[[["1","2"]]],"shapes":[[1,2],[1,2]],"none":[]}"#,
            ),
            (
                "[]",
                r#"{"probabilities":[[],[[],[]]],"labels":[[]],"shapes":[[0,2],[0,2]],"none":[]}"#,
            ),
        ],
    );
}

#[test]
fn an_input_without_a_declared_shape_takes_an_array_of_any_rank() {
    let answers = [
        ("3", "\"a\"", "3.0", "[]"),
        ("[-1, 2]", "[]", "[0.0,2.0]", "[2]"),
        ("[[1, -2]]", "[[\"a\",\"b\"]]", "[[1.0,0.0]]", "[1,2]"),
        ("[[[4]], [[5]]]", "[\"a\"]", "[[[4.0]],[[5.0]]]", "[2,1,1]"),
    ];
    for (data, text, positive, sizes) in answers {
        let data = format!("{{\"data\": {data}, \"text\": {text}}}");
        let wanted = format!(r#"{{"positive":{positive},"sizes":{sizes},"same":{text}}}"#);
        assert_answers("free", &[(&data, &wanted)]);
    }
    let (session, _) = loaded("slow").unwrap();
    assert!(
        !session.signature().inputs[0].any_rank,
        "its shape is declared"
    );
}

#[test]
fn a_prepared_model_takes_what_the_model_itself_takes() {
    for model in ["free", "slow", "sequences", "zipmap"] {
        let folder = tempfile::tempdir().unwrap();
        let prepared =
            prepare(&file_of(model), folder.path(), &SessionThreads::one("test")).unwrap();
        let prepared = Session::load_prepared(&prepared, &SessionThreads::one("test")).unwrap();
        let (session, _) = loaded(model).unwrap();
        assert_eq!(prepared.signature(), session.signature());
    }
}

#[test]
fn an_empty_list_for_two_free_sizes_is_refused() {
    let (mut session, scorer) = loaded("sizes").unwrap();
    let words = answer(&mut session, &scorer, "[]").unwrap_err();
    assert!(
        words.contains("does not say the size of dimension 2"),
        "{words}"
    );
    assert_answers("sizes", &[("[[], []]", r#"{"sizes":[2,0]}"#)]);
}

#[test]
fn text_reaches_the_model_with_every_character_that_it_has() {
    let answers = [
        (r#"["a\u0000b"]"#, r#"{"same":["a\u0000b"]}"#),
        (
            r#"["\u0000", "", "é😀", "\u0000\u0000"]"#,
            r#"{"same":["\u0000","","é😀","\u0000\u0000"]}"#,
        ),
        ("[]", r#"{"same":[]}"#),
    ];
    assert_answers("strings", &answers);
}

#[test]
fn text_of_any_length_is_copied_whole_into_its_own_place() {
    let (mut session, scorer) = loaded("strings").unwrap();
    // Below and above what a string of C++ holds without memory of its own.
    for length in [0, 1, 15, 16, 17, 4096, 1 << 20] {
        let texts = [format!("{}\\u0000", "x".repeat(length)), "y".repeat(length)];
        let data = format!("[\"{}\",\"{}\"]", texts[0], texts[1]);
        let found = answer(&mut session, &scorer, &data).unwrap();
        assert!(
            found == format!("{{\"same\":{data}}}"),
            "{length} characters changed"
        );
    }
}

#[test]
fn a_map_is_an_object() {
    let _environment = environment().unwrap();
    let text = Map::<String, f32>::new([("a".to_owned(), 0.5)]).unwrap();
    let numbers = Map::<i64, f32>::new([(-7, 0.25)]).unwrap();
    for (map, key, value) in [
        (text.into_dyn(), "a", 0.5),
        (numbers.into_dyn(), "-7", 0.25),
    ] {
        let Ok(OutputView::Map(pairs)) = view(&map) else {
            panic!("no map");
        };
        assert_eq!(pairs, [(key.to_owned(), value)]);
        let kind = output_kind(map.dtype());
        assert_eq!(kind, OutputKind::Map);
    }
}

#[test]
fn what_has_no_json_form_is_refused_when_the_model_is_loaded() {
    for (model, words) in [
        (
            "odd-output",
            "odd-output.onnx: output \"cast\" is a tensor of elements of type f8_e4m3fn, which no answer can hold; export the model \
             with tensor outputs",
        ),
        (
            "odd-input",
            "odd-input.onnx: input \"data\" is a tensor of elements of type f8_e5m2, which no request can hold; export the model with \
             tensor inputs",
        ),
        (
            "maybe",
            "maybe.onnx: output \"maybe\" is an optional value, which no answer can hold; export the model with tensor outputs",
        ),
    ] {
        assert_eq!(loaded(model).err().as_deref(), Some(words));
    }
}

#[test]
fn a_locale_that_is_missing_is_named_with_the_way_to_install_it() {
    // An error of `ort` is one of ONNX Runtime, which must be there.
    environment().unwrap();
    // The words of ONNX Runtime on a machine without it: whether this one has it is not known.
    let runtime = "Exception during initialization: string_normalizer.cc:235 Failed to construct locale with name:en_US.UTF-8:\
         locale::facet::_S_create_c_locale name not valid:Please, install necessary language-pack-XX and configure locales\n";
    let words = load_problem("text.onnx", &short(&ort::Error::new(runtime)));
    assert!(
        words.starts_with("cannot load text.onnx: it changes the case of text"),
        "{words}"
    );
    assert!(
        words.contains("localedef -i en_US -f UTF-8 en_US.UTF-8"),
        "{words}"
    );
    assert!(words.contains(runtime.trim_end()), "{words}");
    match loaded("lowercase") {
        Ok((mut session, scorer)) => {
            let lower = answer(&mut session, &scorer, r#"["ABC"]"#);
            assert_eq!(lower.as_deref(), Ok(r#"{"lower":["abc"]}"#));
        }
        Err(words) => assert!(words.contains("localedef"), "{words}"),
    }
}

fn row<T: Element>(elements: &[T]) -> Tensor {
    Tensor::new([elements.len()], elements.to_vec()).unwrap()
}

/// Runs the model for an answer in JSON.
fn run<T>(
    session: &mut Session,
    inputs: &[Tensor],
    read: impl FnMut(&[OutputView<'_>]) -> T,
) -> Result<T, String> {
    session.run(&views(inputs), AnswerForm::Json, read)
}

/// The number found at an index of the table of three.
fn look_up(session: &mut Session, index: i64) -> Result<String, String> {
    run(session, &[row(&[index])], |outputs| {
        format!("{:?}", outputs[0])
    })
}

#[test]
fn a_request_that_fails_does_not_take_bound_inputs_from_those_after_it() {
    let mut session = session("picky.onnx", vec![0]);
    let found = look_up(&mut session, 1).unwrap();
    for _ in 0..=BIND_AFTER_RUNS {
        look_up(&mut session, 0).unwrap();
    }
    assert!(session.bound_io.bound.is_some());
    look_up(&mut session, 99).unwrap_err();
    assert!(session.bound_io.bound.is_some());
    assert_eq!(look_up(&mut session, 1).unwrap(), found);
}

#[test]
fn outputs_whose_size_depends_on_values_are_not_bound_for_long() {
    let mut session = session("positions.onnx", vec![0]);
    let mut ran = |values: &[f32]| {
        run(&mut session, &[row(values)], |outputs| outputs[0].bytes()).unwrap();
        (session.bound_io.bound.is_some(), session.bound_io.given_up)
    };
    for _ in 0..BIND_AFTER_RUNS {
        ran(&[0.0, 7.0]);
    }
    assert_eq!(ran(&[0.0, 7.0]), (true, false));
    assert_eq!(ran(&[7.0, 7.0]), (false, true));
    assert_eq!(ran(&[7.0, 7.0]), (false, true));
}

const SHARE: u64 = 100_000_000;

fn session(model: &str, cores: Vec<CoreId>) -> Session {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/test");
    let threads = SessionThreads {
        cores,
        floats_over: None,
        memory: Some(MemoryShare::new(Some(SHARE))),
        ..SessionThreads::one("test")
    };
    Session::load(&root.join(model), None, &threads).unwrap()
}

/// Fills so many floats on the way, and counts those of the answer.
fn swell(session: &mut Session, inside: i64, outside: i64) -> Result<usize, String> {
    let inputs = [inside, outside].map(|number| row(&[number]));
    run(session, &inputs, |outputs| outputs[0].bytes() / 4)
}

#[test]
fn a_run_that_asks_for_too_much_fails_with_the_numbers_and_the_next_one_answers() {
    // With threads of its own and without.
    for cores in [vec![0], vec![0, 0]] {
        let mut swells = session("swells.onnx", cores);
        for _ in 0..2 {
            for (inside, outside) in [(12_500_000_000, 1), (1, 12_500_000_000), (i64::MAX, 1)] {
                let words = swell(&mut swells, inside, outside).unwrap_err();
                assert!(!words.contains("bad_alloc"), "{words}");
            }
            let words = swell(&mut swells, 12_500_000_000, 1).unwrap_err();
            assert!(words.starts_with("the run asked for 50.0 GB; "), "{words}");
            assert!(words.contains(" of the 100.0 MB that"), "{words}");
            // More than it takes for inputs and outputs to be bound.
            for _ in 0..20 {
                assert_eq!(swell(&mut swells, 1000, 7), Ok(7));
            }
        }
    }
}

#[test]
fn an_answer_that_is_too_large_as_text_is_refused() {
    let mut swells = session("swells.onnx", vec![0]);
    assert_eq!(swell(&mut swells, 1, 5_000_000), Ok(5_000_000));
    let words = swell(&mut swells, 1, 20_000_000).unwrap_err();
    assert!(words.starts_with("its answer is too large"), "{words}");
}

#[test]
fn texts_and_maps_are_answers_of_their_own_size() {
    let text = |text: &str| row(&[text.to_owned()]);
    let mut strings = session("strings.onnx", vec![0]);
    let same = run(&mut strings, &[text("abc")], |outputs| outputs[0].bytes());
    assert_eq!(same, Ok(3));
    let words = run(&mut strings, &[text(&"x".repeat(40_000_000))], |_| ()).unwrap_err();
    assert!(words.starts_with("its answer is too large"), "{words}");
    let mut zipmap = session("zipmap.onnx", vec![0]);
    let row = Tensor::new([1, 2], vec![0.25_f32, 0.75]).unwrap();
    let maps = run(&mut zipmap, &[row], |outputs| outputs[0].bytes());
    assert_eq!(maps, Ok("no".len() + "yes".len() + 8));
}
