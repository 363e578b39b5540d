//! What is easily taken for independent and is not, and what real exporters write that is.

use std::path::Path;

use prost::Message as _;

use crate::engine::graph::facts::{Fact, GraphFacts};
use crate::engine::graph::proto::Dimension;
use crate::engine::graph::proto::{
    Attribute, Function, Graph, Model, Node, Opset, Shape, Tensor, TensorType, Type, ValueInfo,
};

fn element(name: &str) -> i32 {
    match name {
        "float" => 1,
        "int64" => 7,
        "int32" => 6,
        "bool" => 9,
        other => panic!("element type {other}"),
    }
}

fn numbers(text: &str) -> Vec<i64> {
    text.split([' ', ',', '[', ']'])
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().expect("a number"))
        .collect()
}

fn attribute(text: &str) -> Attribute {
    let (name, value) = text.split_once('=').expect("name=value");
    let mut made = Attribute {
        name: name.to_owned(),
        ..Attribute::default()
    };
    match value.chars().next() {
        Some('[') => made.ints = numbers(value),
        Some('\'') => made.s = Some(value.trim_matches('\'').as_bytes().to_vec()),
        Some('$') => made.ref_attr_name = value[1..].to_owned(),
        _ => made.i = Some(value.parse().expect("a number")),
    }
    made
}

/// `y, z = domain:Operator(a, b) axis=0 perm=[1,0]`
fn node(line: &str) -> Node {
    let (outputs, call) = line.split_once(" = ").expect("an assignment");
    let (operator, rest) = call.split_once('(').expect("a call");
    let (inputs, attributes) = rest.split_once(')').expect("the end of a call");
    let (domain, operator) = operator.split_once(':').unwrap_or(("", operator));
    let names = |text: &str| -> Vec<String> {
        let names = text
            .split(',')
            .map(|name| name.trim().trim_matches('_').to_owned());
        names.collect()
    };
    Node {
        op_type: operator.to_owned(),
        domain: domain.to_owned(),
        input: names(inputs),
        output: names(outputs),
        attribute: attributes.split_whitespace().map(attribute).collect(),
        ..Node::default()
    }
}

fn info(name: &str, kind: &str, sizes: &[i64]) -> ValueInfo {
    let dim = |size: &i64| Dimension {
        value: (*size >= 0).then_some(*size),
        symbol: String::new(),
    };
    ValueInfo {
        name: name.to_owned(),
        r#type: Some(Type {
            tensor: Some(TensorType {
                element: element(kind),
                shape: Some(Shape {
                    dim: sizes.iter().map(dim).collect(),
                }),
            }),
            ..Type::default()
        }),
    }
}

/// The model that these lines describe; the last thing made is its output.
fn model(text: &str) -> Model {
    let (mut graph, mut version) = (Graph::default(), 17);
    for line in text
        .split(';')
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["opset", number] => version = number.parse().expect("a version"),
            ["in", name, kind, ..] => {
                graph
                    .input
                    .push(info(name, kind, &numbers(&words[3..].join(" "))));
            }
            ["const", name, kind, ..] => {
                let rest = words[3..].join(" ");
                let (sizes, values) = rest.split_once('=').unwrap_or((&rest, ""));
                let values = numbers(values);
                let truths = values.iter().filter(|_| kind == "bool");
                graph.initializer.push(Tensor {
                    name: name.to_owned(),
                    dims: numbers(sizes),
                    data_type: element(kind),
                    int32_data: truths.map(|truth| i32::from(*truth != 0)).collect(),
                    int64_data: values,
                    ..Tensor::default()
                });
            }
            _ => graph.node.push(node(line)),
        }
    }
    let last = graph.node.last().map(|node| node.output[0].clone());
    graph.output.push(ValueInfo {
        name: last.unwrap_or_default(),
        r#type: None,
    });
    let opset = |domain: &str, version| Opset {
        domain: domain.to_owned(),
        version,
    };
    Model {
        ir_version: 8,
        graph: Some(graph),
        opset_import: vec![
            opset("", version),
            opset("ai.onnx.ml", 3),
            opset("com.microsoft", 1),
        ],
        ..Model::default()
    }
}

fn words(fact: &Fact) -> String {
    fact.obstacle()
        .map_or_else(|| "proven".to_owned(), ToString::to_string)
}

fn rows(text: &str) -> String {
    words(&GraphFacts::of_model(&model(text)).rows)
}

/// Graphs, and a part of the words about their rows.
fn expect(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let found = rows(text);
        assert!(
            found.contains(expected),
            "{text}\nexpected {expected:?}, found {found:?}"
        );
    }
}

#[test]
fn a_constant_for_each_place_in_the_batch_is_no_proof() {
    let place = "by its place in the batch";
    expect(&[
        ("in x float -1 3; const c float 3; y = Add(x, c)", "proven"),
        (
            "in x float -1 3; const c float 1 3; y = Add(x, c)",
            "proven",
        ),
        ("in x float -1 3; const c float 4 3; y = Add(x, c)", place),
        ("in x float -1 3; const c float 4 1; y = Mul(c, x)", place),
        ("in x float -1; const c float 4; y = Mul(c, x)", place),
        (
            "in x float -1 3; const c float 2 1 3; y = Add(x, c)",
            "rows along axis 1",
        ),
        (
            "in x float -1 3; const w float 3 3; const c float 2 3; y = Gemm(x, w, c)",
            place,
        ),
        (
            "in x float -1 2 3; const w float 4 3 2; y = MatMul(x, w)",
            place,
        ),
        (
            "in x float -1 3; const c float 2 3; y = LayerNormalization(x, c)",
            place,
        ),
    ]);
}

#[test]
fn rows_that_meet_other_rows_are_no_proof() {
    expect(&[
        (
            "in x float -1 3; y = ReduceMean(x) axes=[0]",
            "reduces all rows together",
        ),
        (
            "in x float -1 3; y = ReduceMean(x) axes=[-2]",
            "reduces all rows together",
        ),
        (
            "in x float -1 3; y = ReduceMean(x)",
            "reduces all rows together",
        ),
        (
            "in x float -1 3; const a int64 1=0; y = CumSum(x, a)",
            "sums up all rows",
        ),
        (
            "in x float -1 3; const k int64 1=1; y, i = TopK(x, k) axis=0",
            "sorts all rows",
        ),
        ("in x float -1 3; y = ArgMax(x)", "all rows together"),
        (
            "in x float -1 3; t = Transpose(x); y = MatMul(x, t)",
            "each row with the others",
        ),
        (
            "in x float -1 3; t = Transpose(x); y = MatMul(t, x)",
            "sums over all rows",
        ),
        (
            "in x float -1 -1; in z float -1; y = Add(x, z)",
            "together with the others",
        ),
        (
            "in x float -1 3; y = Einsum(x) equation='ij->j'",
            "sums over all rows",
        ),
        (
            "in x float -1 -1; y = Einsum(x) equation='ii->i'",
            "takes each with the others",
        ),
        (
            "in x float -1 3; q, s, z = DynamicQuantizeLinear(x); y = DequantizeLinear(q, s, z)",
            "DynamicQuantizeLinear takes its scale from all rows together (node 0)",
        ),
        (
            "in x float -1 3; const w float 3 3; y = com.microsoft:DynamicQuantizeMatMul(x, w)",
            "takes its scale from all rows together",
        ),
        ("in x float -1 3; y = NonZero(x)", "all rows together"),
        (
            "in x float -1 2 4; const s float 2; y, m, v = BatchNormalization(x, s, s, s, s) training_mode=1",
            "in training mode",
        ),
        (
            "in x float -1 2 4 4; y = MeanVarianceNormalization(x)",
            "mean and variance from all rows",
        ),
        (
            "in x float -1 2 4; y, i = MaxPool(x) kernel_shape=[2]",
            "counted over the whole batch",
        ),
        ("in x float -1 3; y = SomethingElse(x)", "is not known"),
        (
            "in x float -1 3; y = their.own:Relu(x)",
            "their.own.Relu is not known",
        ),
    ]);
}

#[test]
fn attention_and_what_is_fused_keep_rows_apart_or_are_no_proof() {
    let heads = "in q float -1 2 5 4; in k float -1 2 5 4; in v float -1 2 5 4; ";
    let with = |rest: &str| rows(&format!("opset 23; {heads}{rest}"));
    assert_eq!(with("y = Attention(q, k, v)"), "proven");
    assert_eq!(
        with("const m float 5 5; y = Attention(q, k, v, m)"),
        "proven"
    );
    let found = with("in m float -1 5; y = Attention(q, k, v, m)");
    assert!(
        found.contains("a mask that is not the rows' own"),
        "{found}"
    );
    let found = with("const c float 3 2 5 4; y = Attention(q, c, v)");
    assert!(found.contains("not the rows' own"), "{found}");
    expect(&[
        (
            "in x float -1 5 4; const s float 1 5 4; const g float 4; y = com.microsoft:SkipLayerNormalization(x, s, g)",
            "proven",
        ),
        (
            "in x float -1 5 4; const c float 1 5 4; const g float 4; y = com.microsoft:SkipLayerNormalization(c, x, g)",
            "stretches",
        ),
        (
            "in x float -1 4; const b float 4; y = com.microsoft:BiasGelu(x, b)",
            "proven",
        ),
        (
            "in x float -1 4; const w float 4 4; y = com.microsoft:FusedMatMul(x, w) transA=1",
            "sums over all rows",
        ),
    ]);
}

#[test]
fn softmax_took_all_later_axes_together_up_to_version_12() {
    let all = "normalises all rows together";
    expect(&[
        ("in x float -1 3; y = Softmax(x)", "proven"),
        ("in x float -1 3; y = Softmax(x) axis=0", all),
        (
            "opset 12; in x float -1 3 2; t = Transpose(x) perm=[1,0,2]; y = Softmax(t) axis=0",
            all,
        ),
        (
            "opset 12; in x float -1 3 2; t = Transpose(x) perm=[1,0,2]; s = Softmax(t) axis=2; y = Transpose(s) perm=[1,0,2]",
            "proven",
        ),
        (
            "opset 12; in x float -1 3 2; t = Transpose(x) perm=[1,0,2]; s = Softmax(t); y = Transpose(s) perm=[1,0,2]",
            all,
        ),
        (
            "opset 13; in x float -1 3 2; t = Transpose(x) perm=[1,0,2]; s = Softmax(t) axis=0; y = Transpose(s) perm=[1,0,2]",
            "proven",
        ),
    ]);
}

#[test]
fn a_reshape_keeps_rows_together_or_is_no_proof() {
    let apart = "does not keep the elements of a row together";
    expect(&[
        (
            "in x float -1 2 3; const s int64 2=-1 6; y = Reshape(x, s)",
            "proven",
        ),
        (
            "in x float -1 2 3; const s int64 2=0 6; y = Reshape(x, s)",
            "proven",
        ),
        (
            "in x float -1 2 3; const s int64 2=-1 3; y = Reshape(x, s)",
            "several entries for each row",
        ),
        (
            "in x float -1 2 3; const s int64 2=-1 3; const b int64 3=-1 2 3; r = Reshape(x, s); y = Reshape(r, b)",
            "proven",
        ),
        (
            "in x float -1 2 3; const s int64 2=-1 4; y = Reshape(x, s)",
            apart,
        ),
        (
            "in x float -1 2 3; const s int64 2=-1 12; y = Reshape(x, s)",
            apart,
        ),
        (
            "in x float -1 2 3; const s int64 2=6 -1; y = Reshape(x, s)",
            apart,
        ),
        (
            "in x float -1 6; const s int64 2=1 6; y = Reshape(x, s)",
            apart,
        ),
        (
            "in x float -1 -1 4; const s int64 2=-1 4; y = Reshape(x, s)",
            "several entries",
        ),
        (
            "in x float -1 -1; const s int64 2=-1 4; y = Reshape(x, s)",
            apart,
        ),
        (
            "in x float -1 2 3; t = Transpose(x) perm=[1,0,2]; const s int64 2=-1 3; y = Reshape(t, s)",
            apart,
        ),
    ]);
}

#[test]
fn an_axis_that_comes_goes_or_moves_takes_the_rows_along_or_is_no_proof() {
    expect(&[
        (
            "in x float -1 3; y = Flatten(x) axis=0",
            "rows along axis 1",
        ),
        ("in x float -1 2 3; y = Flatten(x)", "proven"),
        ("in x float -1 3; y = Transpose(x)", "rows along axis 1"),
        ("in x float -1 1; y = Squeeze(x)", "drops the axis of rows"),
        (
            "in x float -1 1; const a int64 1=0; y = Squeeze(x, a)",
            "takes one row for all",
        ),
        (
            "in x float -1 1; const a int64 1=1; y = Squeeze(x, a)",
            "proven",
        ),
        (
            "in x float -1 3; const a int64 1=0; y = Unsqueeze(x, a)",
            "rows along axis 1",
        ),
        ("in x float -1 3; y = Concat(x, x) axis=0", "joins the rows"),
        ("in x float -1 3; y = Concat(x, x) axis=-1", "proven"),
        (
            "in x float -1 3; const c float 4 3; y = Concat(x, c) axis=1",
            "joins rows with what is the same",
        ),
    ]);
}

#[test]
fn some_of_the_rows_or_another_order_of_them_is_no_proof() {
    let some = "takes some of the rows";
    expect(&[
        (
            "in x float -1 3; const z int64 1=0; const o int64 1=1; y = Slice(x, z, o, z)",
            some,
        ),
        (
            "in x float -1 3; const z int64 1=0; const m int64 1=-1; const e int64 1=-9223372036854775807; y = Slice(x, m, e, z, m)",
            some,
        ),
        (
            "in x float -1 3; const z int64 1=0; const e int64 1=9223372036854775807; y = Slice(x, z, e, z)",
            "proven",
        ),
        (
            "in x float -1 3; const z int64 1=0; const e int64 1=2; const o int64 1=1; y = Slice(x, z, e, o)",
            "proven",
        ),
        ("in x float -1 3; const i int64 1=0; y = Gather(x, i)", some),
        (
            "in x float -1 3; const i int64 1=0; y = Gather(x, i) axis=1",
            "proven",
        ),
        (
            "in i int64 -1; const t float 9 3; y = Gather(t, i)",
            "proven",
        ),
        (
            "in x float -1 3; in i int64 -1; y = Gather(x, i)",
            "what another one says",
        ),
        (
            "in x float -1 3; in i int64 -1 1; y = GatherElements(x, i)",
            "what another one says",
        ),
        (
            "in x float -1 3; in i int64 -1 1; y = GatherElements(x, i) axis=1",
            "proven",
        ),
        (
            "in x float -1 3; in i int64 -1 1; y = GatherND(x, i)",
            "what another one says",
        ),
        (
            "in x float -1 3; in i int64 -1 1; y = GatherND(x, i) batch_dims=1",
            "proven",
        ),
        ("in x float -1 3; a, b = Split(x)", "divides the rows"),
        (
            "in x float -1 3; const p int64 4=1 0 0 0; y = Pad(x, p)",
            "adds rows",
        ),
        (
            "in x float -1 3; const r int64 2=2 1; y = Tile(x, r)",
            "repeats the batch",
        ),
        (
            "in x float -1 3 2; in l int64 -1; y = ReverseSequence(x, l) batch_axis=0 time_axis=1",
            "proven",
        ),
        (
            "in x float -1 3 2; in l int64 -1; y = ReverseSequence(x, l) batch_axis=1 time_axis=0",
            "turns the order",
        ),
    ]);
}

#[test]
fn a_length_that_the_runtime_counts_in_its_own_way_is_not_known() {
    // Going back to the largest number there is leaves one of two columns, not none; and 0 would stand for the rows.
    let found = rows(
        "in x float -1 2; const o int64 1=1; const e int64 1=9223372036854775807; const m int64 1=-1; \
         c = Slice(x, o, e, o, m); s = Shape(c); n = Gather(s, o); t = Concat(n, m) axis=0; y = Reshape(x, t)",
    );
    assert!(found.contains("elements of a row together"), "{found}");
}

#[test]
fn the_number_of_rows_makes_shapes_and_no_numbers() {
    let shape = "in x float -1 4; s = Shape(x); const z int64 1=0; n = Gather(s, z); const m int64 1=-1; const d int64 1=3; ";
    let with = |rest: &str| rows(&format!("{shape}{rest}"));
    assert_eq!(with("t = Concat(n, m) axis=0; y = Reshape(x, t)"), "proven");
    assert_eq!(
        with("t = Concat(n, d) axis=0; c = ConstantOfShape(t); y = Concat(x, c) axis=1"),
        "proven"
    );
    assert_eq!(
        with("const w float 1 3; t = Concat(n, d) axis=0; y = Expand(w, t)"),
        "proven"
    );
    let other = |rest: &str, expected: &str| {
        let found = with(rest);
        assert!(
            found.contains(expected),
            "{rest}\nexpected {expected:?}, found {found:?}"
        );
    };
    other(
        "t = Concat(n, n) axis=0; const w float 1 1; y = Expand(w, t)",
        "each row with each",
    );
    other(
        "t = Concat(m, n) axis=0; y = Reshape(x, t)",
        "elements of a row together",
    );
    other("f = Cast(n) to=1; y = Div(x, f)", "the number of rows");
    other(
        "const o int64 1=1; q = Squeeze(n, z); r = Range(z, q, o); f = Cast(r) to=1; y = Add(x, f)",
        "place in the batch",
    );
    other(
        "const a int64 1=1; y = Slice(x, z, n, a)",
        "the number of rows",
    );
    other(
        "r = Size(x); f = Cast(r) to=1; y = Mul(x, f)",
        "the number of rows",
    );
}

#[test]
fn recurrences_are_followed_over_time_and_not_over_rows() {
    let lstm = "const w float 1 8 3; const r float 1 8 2; ";
    let with = |rest: &str| rows(&format!("{lstm}{rest}"));
    let found = with("in x float -1 1 3; y, h, c = LSTM(x, w, r) hidden_size=2");
    assert!(found.contains("from one row to the next"), "{found}");
    let batch_first = "in x float -1 5 3; t = Transpose(x) perm=[1,0,2]; ";
    let found = with(&format!(
        "{batch_first} a, h, c = LSTM(t, w, r) hidden_size=2; y = Transpose(h) perm=[1,0,2]"
    ));
    assert_eq!(found, "proven");
    let found = with(&format!(
        "{batch_first} const s float 1 1 2; a, h, c = LSTM(t, w, r, _, _, s) hidden_size=2; y = Transpose(h) perm=[1,0,2]"
    ));
    assert!(
        found.contains("a state that is not the rows' own"),
        "{found}"
    );
}

#[test]
fn inputs_and_outputs_need_rows() {
    expect(&[
        (
            "in x float 4 3; y = Relu(x)",
            "input \"x\" fixes its first axis at 4",
        ),
        (
            "in x float -1 3; in k float; y = Relu(x)",
            "input \"k\" is a single number",
        ),
        (
            "in x float -1 3; const c float 3; y = Relu(c)",
            "output \"y\" has no rows",
        ),
        (
            "opset 99; in x float -1 3; y = Relu(x)",
            "of a version that the analysis does not know",
        ),
        (
            "in x float -1 3; y = Relu(nobody)",
            "nothing makes the value \"nobody\"",
        ),
    ]);
}

#[test]
fn a_function_of_the_model_is_followed_with_the_attributes_of_its_call() {
    let with_axis = |call: &str| {
        let mut model = model(&format!("in x float -1 3; y = own:Centre(x) {call}"));
        model.functions.push(Function {
            name: "Centre".to_owned(),
            domain: "own".to_owned(),
            input: vec!["a".to_owned()],
            output: vec!["b".to_owned()],
            node: vec![node("m = ReduceMean(a) axes=$axes"), node("b = Sub(a, m)")],
            ..Function::default()
        });
        words(&GraphFacts::of_model(&model).rows)
    };
    assert_eq!(with_axis("axes=[1]"), "proven");
    assert!(with_axis("axes=[0]").contains("reduces all rows together (node 0/0)"));
    assert!(
        with_axis("").contains("reduces all rows together"),
        "all axes without any"
    );
}

#[test]
fn functions_that_call_each_other_without_end_prove_nothing_and_end() {
    let mut model = model("in x float -1 3; y = own:Again(x)");
    model.functions.push(Function {
        name: "Again".to_owned(),
        domain: "own".to_owned(),
        input: vec!["a".to_owned()],
        output: vec!["b".to_owned()],
        node: vec![node("c = own:Again(a)"), node("b = own:Again(c)")],
        ..Function::default()
    });
    let facts = GraphFacts::of_model(&model);
    for fact in [&facts.rows, &facts.work, &facts.trap] {
        assert!(
            words(fact).contains("larger than the analysis follows"),
            "{fact:?}"
        );
    }
}

#[test]
fn work_is_bounded_where_sizes_come_from_shapes_and_constants() {
    let work = |text: &str| words(&GraphFacts::of_model(&model(text)).work);
    assert_eq!(
        work("in x float -1 3; s = Shape(x); c = ConstantOfShape(s); y = Add(x, c)"),
        "proven"
    );
    for (text, expected) in [
        (
            "in x int64 -1; y = ConstantOfShape(x)",
            "ConstantOfShape makes a size of values",
        ),
        (
            "in x float -1 3; in s int64 2; y = Expand(x, s)",
            "Expand makes a size of values",
        ),
        (
            "in x float -1 3; in r int64 2; y = Tile(x, r)",
            "Tile makes a size of values",
        ),
        (
            "in a int64; in b int64; const o int64 =1; y = Range(a, b, o)",
            "Range makes a size of values",
        ),
        (
            "in x float -1 3; y = NonZero(x)",
            "finds as much as is not zero",
        ),
        ("in x float -1 3; y = Loop(x)", "repeats"),
        ("in x int64 -1; y = HannWindow(x)", "makes a size of values"),
        (
            "in x float -1 3; y = com.microsoft:Sampling(x)",
            "is not known",
        ),
    ] {
        let found = work(text);
        assert!(found.contains(expected), "{text}: {found}");
    }
}

#[test]
fn what_may_end_the_process_is_named() {
    let trap = |text: &str| words(&GraphFacts::of_model(&model(text)).trap);
    for safe in [
        "in x float -1 3; in d float -1 3; y = Div(x, d)",
        "in x int64 -1; const d int64 1=2; y = Div(x, d)",
        "in x int64 -1 3; f = Cast(x) to=1; g = Relu(f); y = Div(g, f)",
        "in x float -1 1 9; const w float 2 1 3; y = Conv(x, w)",
    ] {
        assert_eq!(trap(safe), "proven", "{safe}");
    }
    for (text, expected) in [
        (
            "in x int64 -1; in d int64 -1; y = Div(x, d)",
            "Div may divide the smallest",
        ),
        (
            "in x float -1; i = Cast(x) to=7; y = Mod(i, i)",
            "Mod may divide",
        ),
        (
            "in x int32 -1; const d int32 1=-1; y = Div(x, d)",
            "Div may divide",
        ),
        (
            "in x int64 -1; const d int64 2=3 0; y = Div(x, d)",
            "Div may divide",
        ),
        (
            "in x int64 -1; const d int64 3; y = Div(x, d)",
            "Div may divide",
        ),
        (
            "in x float -1 5 3; in w float 1 8 3; y = LSTM(x, w, w)",
            "proven",
        ),
        (
            "in x float 5 -1 3; in w float 1 8 3; y = LSTM(x, w, w)",
            "a batch of no rows",
        ),
        (
            "in x float -1 1 9; in w float 2 1 -1; y = Conv(x, w)",
            "a kernel of size 0",
        ),
        (
            "in x float -1 9; const f int64 =4; y = STFT(x, f)",
            "ends the process",
        ),
        (
            "in x float -1 2; const s float 2; y, _, _ = BatchNormalization(x, s, s, s, s) training_mode=1",
            "leaves an output out",
        ),
        (
            "in x float -1 2; const s float 2; y = BatchNormalization(x, s, s, s, s)",
            "proven",
        ),
        ("in x float -1 9; y = their.own:Op(x)", "is not known"),
    ] {
        let found = trap(text);
        assert!(found.contains(expected), "{text}: {found}");
    }
}

#[test]
fn what_computes_as_in_training_is_named_and_nothing_else() {
    for (text, expected) in [
        (
            "in x float -1 2; const s float 2; y, m, v = BatchNormalization(x, s, s, s, s) training_mode=1",
            "BatchNormalization is in training mode (node 0)",
        ),
        (
            "in x float -1 2; const s float 2; y = BatchNormalization(x, s, s, s, s)",
            "",
        ),
        (
            "opset 9; in x float -1 2; const s float 2; y, m, v = BatchNormalization(x, s, s, s, s)",
            "BatchNormalization is in training mode (node 0)",
        ),
        (
            "in x float -1 2; const on bool =1; z = Relu(x); y = Dropout(z, , on)",
            "Dropout is in training mode (node 1)",
        ),
        (
            "in x float -1 2; const off bool =0; y = Dropout(x, , off)",
            "",
        ),
        ("in x float -1 2; y = Dropout(x)", ""),
        // Which it is a request says.
        ("in x float -1 2; in on bool; y = Dropout(x, , on)", ""),
        (
            "opset 6; in x float -1 2; y = Dropout(x)",
            "Dropout is in training mode (node 0)",
        ),
        // Of several the first, also where nothing is proven of the rows any more.
        (
            "in x float 4 2; const s float 2; const on bool =1; y, m, v = BatchNormalization(x, s, s, s, s) training_mode=1; z = Dropout(y, , on)",
            "BatchNormalization is in training mode (node 0)",
        ),
    ] {
        let found = GraphFacts::of_model(&model(text)).training;
        let found = found.map(|operator| operator.to_string());
        assert_eq!(found.unwrap_or_default(), expected, "{text}");
    }
}

fn of_file(content: &[u8]) -> GraphFacts {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), content).expect("written");
    GraphFacts::of_file(file.path())
}

#[test]
fn a_file_that_is_no_model_proves_nothing_and_says_so() {
    let mut whole = model("in x float -1 3; y = Relu(x)");
    whole.opset_import.truncate(1);
    let whole = whole.encode_to_vec();
    assert_eq!(words(&of_file(&whole).rows), "proven");
    for cut in 0..whole.len() {
        let facts = of_file(&whole[..cut]);
        assert!(!facts.rows.is_proven(), "cut to {cut} bytes");
    }
    for content in [
        &b"import pickle\n"[..],
        b"",
        b"\x80\x04\x95\x20\x00",
        b"ORTM\x00",
    ] {
        assert!(
            words(&of_file(content).trap).contains("is not an ONNX model"),
            "{content:?}"
        );
    }
    let missing = GraphFacts::of_file(Path::new("/nowhere/model.onnx"));
    assert!(words(&missing.work).contains("cannot be read"));
}

#[test]
fn a_name_of_any_length_and_weights_of_any_size_take_no_memory() {
    let mut large = model("in x float -1 3; const w float 3 3; y = MatMul(x, w)");
    let graph = large.graph.as_mut().expect("a graph");
    graph.initializer[0].raw_data = vec![7; 1 << 20];
    assert_eq!(words(&of_file(&large.encode_to_vec()).rows), "proven");
    let graph = large.graph.as_mut().expect("a graph");
    graph.node[0].name = "n".repeat(1 << 20);
    let found = words(&of_file(&large.encode_to_vec()).rows);
    assert!(found.contains("larger than the analysis reads"), "{found}");
}

#[test]
fn the_test_models_come_out_right() {
    let facts = |model: &str| {
        let path = format!("{}/../models/test/{model}.onnx", env!("CARGO_MANIFEST_DIR"));
        GraphFacts::of_file(Path::new(&path))
    };
    for independent in ["add", "strings", "types", "zipmap", "picky", "divide"] {
        assert_eq!(words(&facts(independent).rows), "proven", "{independent}");
    }
    for (model, expected) in [
        (
            "quantised",
            "DynamicQuantizeLinear takes its scale from all rows together",
        ),
        ("running_sum", "CumSum sums up all rows together"),
        ("time_first", "LSTM runs from one row to the next"),
        ("centred", "ReduceMean reduces all rows together"),
        ("positions", "NonZero works on all rows together"),
    ] {
        let found = words(&facts(model).rows);
        assert!(found.starts_with(expected), "{model}: {found}");
    }
    assert!(words(&facts("divide").trap).starts_with("Div may divide"));
    assert!(words(&facts("slow").work).starts_with("Loop repeats"));
    assert!(words(&facts("hungry").work).starts_with("ConstantOfShape makes a size of values"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    /// Bytes of a model with some of them changed: whatever comes out, it comes out.
    #[test]
    fn damaged_models_are_read_to_some_end(at in 0_usize..400, byte: u8, seed in 0_usize..3) {
        let texts = [
            "in x float -1 2 3; const s int64 2=-1 6; r = Reshape(x, s); y = Softmax(r) axis=1",
            "in x float -1 4; s = Shape(x); const z int64 1=0; n = Gather(s, z); const m int64 1=-1; t = Concat(n, m) axis=0; y = Reshape(x, t)",
            "in x float -1 3; const z int64 1=0; const m int64 1=-1; y = Slice(x, m, z, z, m)",
        ];
        let mut bytes = model(texts[seed]).encode_to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        drop(of_file(&bytes));
    }
}
