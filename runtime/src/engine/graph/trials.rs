//! The proof of independence against ONNX Runtime: what the analysis calls independent is run joined and separate.

use prost::Message as _;
use serde_json::Value as Json;
use serin_scorers::{Element, ElementType, JsonScorer, Scorer as _, Signature, Tensor, TensorSpec};

use crate::engine::graph::facts::GraphFacts;
use crate::engine::graph::proto::{
    Attribute, Dimension, Graph, Model, Node, Opset, Shape, Tensor as Constant, TensorType, Type,
    ValueInfo,
};
use crate::engine::job::AnswerForm;
use crate::engine::session::{Session, SessionThreads, views};
use crate::evidence::SplitMix64;

/// Rows of the two requests that are joined.
const ROWS: [usize; 2] = [1, 2];
/// Size of an axis that a model leaves free.
const FREE_SIZE: usize = 3;

/// What came of one model.
#[derive(Debug, PartialEq)]
enum Trial {
    /// Nothing is proven, so nothing is promised.
    Unproven,
    /// It did not load, or did not answer alone.
    NotRun,
    Equal,
    /// It got other answers together, or none.
    Different(String),
}

fn element<T>(random: &mut SplitMix64, of: impl Fn(u8) -> T) -> T {
    of(u8::try_from(random.below(3)).expect("small"))
}

fn filled<T: Element>(shape: &[usize], one: impl FnMut() -> T) -> Option<Tensor> {
    let count = shape.iter().product();
    Tensor::new(shape, std::iter::repeat_with(one).take(count).collect()).ok()
}

/// A tensor of small values.
fn tensor(spec: &TensorSpec, rows: usize, random: &mut SplitMix64) -> Option<Tensor> {
    let rest = spec.shape.get(1..)?.iter();
    let sizes = rest.map(|size| usize::try_from(*size).unwrap_or(FREE_SIZE));
    let shape: Vec<usize> = std::iter::once(rows).chain(sizes).collect();
    macro_rules! filled {
        ($of:expr) => {
            filled(&shape, || element(random, $of))
        };
    }
    match spec.datatype {
        ElementType::Bool => filled!(|one| one > 0),
        ElementType::Uint8 => filled!(|one| one),
        ElementType::Uint16 => filled!(u16::from),
        ElementType::Uint32 => filled!(u32::from),
        ElementType::Uint64 => filled!(u64::from),
        ElementType::Int8 => filled!(|one| i8::try_from(one).expect("small")),
        ElementType::Int16 => filled!(i16::from),
        ElementType::Int32 => filled!(i32::from),
        ElementType::Int64 => filled!(i64::from),
        ElementType::Fp32 => filled(&shape, || {
            f32::from(u16::try_from(random.below(4000)).expect("small")) / 1000.0 - 1.5
        }),
        ElementType::Fp64 => filled(&shape, || random.unit() * 4.0 - 1.5),
        ElementType::Bytes => filled!(|one| ["a", "b c", "D"][usize::from(one)].to_owned()),
        ElementType::Fp16 | ElementType::Bf16 => None,
    }
}

/// The answer to these inputs, as JSON.
fn answer(session: &mut Session, scorer: &JsonScorer, inputs: &[Tensor]) -> Option<Json> {
    let body = session.run(&views(inputs), AnswerForm::Json, |outputs| {
        scorer.postprocess(outputs)
    });
    serde_json::from_slice(&body.ok()?.ok()?).ok()
}

fn close(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Array(one), Json::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| close(one, other))
        }
        (Json::Object(one), Json::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, one)| other.get(key).is_some_and(|other| close(one, other)))
        }
        (Json::Number(one), Json::Number(other)) => match (one.as_f64(), other.as_f64()) {
            (Some(one), Some(other)) => {
                (one - other).abs() <= 1e-4 * one.abs().max(other.abs()).max(1.0)
            }
            _ => false,
        },
        (one, other) => one == other,
    }
}

/// The answers one after the other.
fn one_after_the_other(answers: &[Json]) -> Option<Json> {
    let mut joined = serde_json::Map::new();
    for answer in answers {
        for (name, rows) in answer.as_object()? {
            let all = joined
                .entry(name.clone())
                .or_insert_with(|| Json::Array(Vec::new()));
            all.as_array_mut()?.extend(rows.as_array()?.iter().cloned());
        }
    }
    Some(Json::Object(joined))
}

fn try_model(model: &Model, random: &mut SplitMix64) -> Trial {
    let facts = GraphFacts::of_model(model);
    if !facts.rows.is_proven() {
        return Trial::Unproven;
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), model.encode_to_vec()).expect("written");
    let Ok(mut session) = Session::load(file.path(), None, &SessionThreads::one("trial")) else {
        return Trial::NotRun;
    };
    let scorer = JsonScorer::new(Signature::clone(session.signature()));
    let specs = session.signature().inputs.clone();
    let mut requests = Vec::new();
    for rows in ROWS {
        let inputs = specs.iter().map(|spec| tensor(spec, rows, random));
        let Some(inputs) = inputs.collect::<Option<Vec<_>>>() else {
            return Trial::NotRun;
        };
        requests.push(inputs);
    }
    let alone: Option<Vec<Json>> = requests
        .iter()
        .map(|inputs| answer(&mut session, &scorer, inputs))
        .collect();
    let Some(alone) = alone else {
        return Trial::NotRun;
    };
    let Some(expected) = one_after_the_other(&alone) else {
        return Trial::Different(format!("an output without rows: {alone:?}"));
    };
    let joined = (0..specs.len()).map(|at| {
        let parts: Vec<_> = requests.iter().map(|inputs| &inputs[at]).collect();
        Tensor::join(&parts).expect("rows of one shape")
    });
    let joined: Vec<_> = joined.collect();
    match answer(&mut session, &scorer, &joined) {
        Some(found) if close(&found, &expected) => Trial::Equal,
        found => Trial::Different(format!("found {found:?}, expected {expected}")),
    }
}

/// Counts of equal answers, of what was not proven, and of what did not run.
#[derive(Debug, Default)]
struct Counts {
    equal: usize,
    unproven: usize,
    not_run: usize,
    different: Vec<String>,
}

impl Counts {
    fn add(&mut self, trial: Trial, model: &Model) {
        match trial {
            Trial::Equal => self.equal += 1,
            Trial::Unproven => self.unproven += 1,
            Trial::NotRun => self.not_run += 1,
            Trial::Different(how) => {
                let nodes = model.graph.as_ref().map(|graph| &graph.node);
                self.different.push(format!("{how}\n{nodes:?}"));
            }
        }
    }

    fn expect(&self, equal: usize) {
        assert!(
            self.different.is_empty(),
            "{} models were called independent and are not:\n{}",
            self.different.len(),
            self.different[..self.different.len().min(8)].join("\n\n")
        );
        assert!(self.equal >= equal, "few models were tried: {self:?}");
    }
}

/// The model with the first axis of all inputs free, and its outputs of any shape.
fn freed(mut model: Model) -> Model {
    let Some(graph) = &mut model.graph else {
        return model;
    };
    for info in &mut graph.input {
        let ty = info.r#type.as_mut().and_then(|ty| ty.tensor.as_mut());
        let shape = ty.and_then(|ty| ty.shape.as_mut());
        if let Some(first) = shape.and_then(|shape| shape.dim.first_mut()) {
            *first = Dimension {
                value: None,
                symbol: "rows".to_owned(),
            };
        }
    }
    for info in &mut graph.output {
        if let Some(tensor) = info.r#type.as_mut().and_then(|ty| ty.tensor.as_mut()) {
            tensor.shape = None;
        }
    }
    model
}

#[test]
fn node_tests_that_are_called_independent_give_the_same_answers_joined() {
    let packed = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/onnx-nodes/nodes.zst"
    ));
    let bytes = zstd::decode_all(&packed[..]).expect("zstd");
    let (mut rest, mut counts, mut random) = (&bytes[..], Counts::default(), SplitMix64::new(3));
    while !rest.is_empty() {
        let model = Model::decode_length_delimited(&mut rest).expect("a model");
        let model = freed(model);
        counts.add(try_model(&model, &mut random), &model);
    }
    counts.expect(600);
}

/// Makes random graphs: of operators that keep rows apart, and of all those that do not in ways that are easy to miss.
struct Maker {
    random: SplitMix64,
    graph: Graph,
    /// Values of floats.
    floats: Vec<String>,
    made: usize,
}

impl Maker {
    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.random.below(of.len())].clone()
    }

    fn name(&mut self) -> String {
        self.made += 1;
        format!("v{}", self.made)
    }

    /// A size that is easily taken for another.
    fn size(&mut self) -> i64 {
        self.pick(&[1, 2, 3])
    }

    fn axis(&mut self) -> i64 {
        self.pick(&[0, 1, 1, 2, -1, -1, -2])
    }

    fn float(&mut self) -> String {
        let floats = self.floats.clone();
        match self.random.below(3) {
            0 => self.pick(&floats),
            _ => floats[floats.len() - 1].clone(),
        }
    }

    fn constant(&mut self, content: &[i64], dims: &[i64]) -> String {
        let name = self.name();
        self.graph.initializer.push(Constant {
            name: name.clone(),
            dims: dims.to_vec(),
            data_type: 7,
            int64_data: content.to_vec(),
            ..Constant::default()
        });
        name
    }

    fn list(&mut self, content: &[i64]) -> String {
        let length = i64::try_from(content.len()).expect("short");
        self.constant(content, &[length])
    }

    /// Weights of a shape that may or may not fit.
    fn weights(&mut self) -> String {
        let rank = self.random.below(4);
        let dims: Vec<i64> = (0..rank).map(|_| self.size()).collect();
        self.weights_of(&dims)
    }

    fn weights_of(&mut self, dims: &[i64]) -> String {
        let count = usize::try_from(dims.iter().product::<i64>()).expect("small");
        let values = (0..count).map(|_| {
            let number = u16::try_from(self.random.below(3000)).expect("small");
            f32::from(number) / 1000.0 - 1.0
        });
        let float_data: Vec<f32> = values.collect();
        let name = self.name();
        self.graph.initializer.push(Constant {
            name: name.clone(),
            dims: dims.to_vec(),
            data_type: 1,
            float_data,
            ..Constant::default()
        });
        name
    }

    fn node(&mut self, operator: &str, input: Vec<String>, attribute: Vec<Attribute>) -> String {
        let output = self.name();
        self.graph.node.push(Node {
            op_type: operator.to_owned(),
            input,
            output: vec![output.clone()],
            attribute,
            ..Node::default()
        });
        output
    }

    fn step(&mut self) {
        let x = self.float();
        let axis = self.axis();
        let made = match self.random.below(14) {
            0 => {
                let operator = self.pick(&["Relu", "Tanh", "Neg", "Identity", "Sigmoid", "Abs"]);
                self.node(operator, vec![x], vec![])
            }
            1 | 2 => self.joined(x),
            3 => {
                let operator = self.pick(&["Softmax", "LogSoftmax", "Hardmax", "LpNormalization"]);
                self.node(operator, vec![x], vec![int("axis", axis)])
            }
            4 => {
                let operator = self.pick(&["ReduceMean", "ReduceMax", "ReduceL2"]);
                let keeps = int("keepdims", self.pick(&[0, 1]));
                let axes = self.pick(&[vec![], vec![axis], vec![1, 2], vec![0, -1]]);
                let attributes = if axes.is_empty() {
                    vec![keeps]
                } else {
                    vec![keeps, ints("axes", &axes)]
                };
                self.node(operator, vec![x], attributes)
            }
            5 => self.reshaped(x),
            6 => {
                let perm = self.pick(&[
                    vec![1, 0],
                    vec![0, 2, 1],
                    vec![1, 0, 2],
                    vec![2, 1, 0],
                    vec![1, 2, 0],
                    vec![0, 1],
                ]);
                self.node("Transpose", vec![x], vec![ints("perm", &perm)])
            }
            7 => {
                let operator = self.pick(&["Unsqueeze", "Squeeze"]);
                let axes = self.list(&[axis]);
                self.node(operator, vec![x, axes], vec![])
            }
            8 => {
                let other = if self.random.below(2) == 0 {
                    self.float()
                } else {
                    self.weights()
                };
                self.node("Concat", vec![x, other], vec![int("axis", axis)])
            }
            9 => self.cut(x, axis),
            10 => self.along(x, axis),
            11 | 12 => self.of_shape(x, axis),
            _ => self.wide(x, axis),
        };
        self.floats.push(made);
    }

    fn reshaped(&mut self, x: String) -> String {
        let (one, other) = (self.axis(), self.size());
        let target = self.pick(&[
            vec![-1],
            vec![0, -1],
            vec![-1, other],
            vec![0, 0, -1],
            vec![-1, 0],
            vec![other, -1],
            vec![1, -1, other],
            vec![-1, other, 2],
            vec![0, other, -1],
            vec![other, other],
            vec![-1, 1],
            vec![one.abs(), -1],
        ]);
        let target = self.list(&target);
        self.node("Reshape", vec![x, target], vec![])
    }

    fn joined(&mut self, x: String) -> String {
        let operator = self.pick(&[
            "Add", "Sub", "Mul", "Max", "PRelu", "MatMul", "MatMul", "Where",
        ]);
        let other = if self.random.below(3) == 0 {
            self.float()
        } else {
            self.weights()
        };
        let mut pair = vec![x, other];
        if self.random.below(2) == 0 && operator != "PRelu" {
            pair.swap(0, 1);
        }
        if operator == "Where" {
            let condition = self.node("Greater", pair.clone(), vec![]);
            pair.insert(0, condition);
        }
        self.node(operator, pair, vec![])
    }

    fn cut(&mut self, x: String, axis: i64) -> String {
        let places = [0, 1, -1, i64::MAX, -i64::MAX, 2, i64::from(i32::MAX)];
        match self.random.below(4) {
            0 => {
                let (start, end, step) = (
                    self.pick(&places),
                    self.pick(&places),
                    self.pick(&[1, -1, 2]),
                );
                let inputs = [[start], [end], [axis], [step]].map(|one| self.list(&one));
                self.node("Slice", [vec![x], inputs.to_vec()].concat(), vec![])
            }
            1 => {
                let index = self.pick(&[vec![0], vec![0, 0], vec![1, 0], vec![-1]]);
                let index = self.list(&index);
                self.node("Gather", vec![x, index], vec![int("axis", axis)])
            }
            2 => {
                let repeats = self.pick(&[vec![1, 2], vec![2, 1], vec![1, 1, 2], vec![1, 2, 1]]);
                let repeats = self.list(&repeats);
                self.node("Tile", vec![x, repeats], vec![])
            }
            _ => {
                let pads = self.pick(&[
                    vec![0, 1, 0, 0],
                    vec![1, 0, 0, 0],
                    vec![0, 0, 1, 0, 0, 0],
                    vec![0, 1, 0, 0, 0, 1],
                ]);
                let pads = self.list(&pads);
                self.node("Pad", vec![x, pads], vec![])
            }
        }
    }

    fn along(&mut self, x: String, axis: i64) -> String {
        match self.random.below(5) {
            0 => {
                let axis = self.constant(&[axis], &[]);
                self.node("CumSum", vec![x, axis], vec![])
            }
            1 => {
                let count = self.list(&[1]);
                self.node("TopK", vec![x, count], vec![int("axis", axis)])
            }
            2 => {
                let found = self.node(
                    "ArgMax",
                    vec![x],
                    vec![int("axis", axis), int("keepdims", 0)],
                );
                self.node("Cast", vec![found], vec![int("to", 1)])
            }
            3 => {
                let (first, second) = (self.size(), self.size());
                let dims = self.pick(&[vec![first], vec![first, second]]);
                let scale = self.weights_of(&dims);
                self.node(
                    "LayerNormalization",
                    vec![x, scale],
                    vec![int("axis", axis)],
                )
            }
            _ => {
                let axis = self.pick(&[0, 1, 2, 3]);
                self.node("Flatten", vec![x], vec![int("axis", axis)])
            }
        }
    }

    /// What exporters make of a shape, and what nobody should.
    fn of_shape(&mut self, x: String, axis: i64) -> String {
        let other = self.float();
        let shape = self.node("Shape", vec![other], vec![]);
        let place = self.pick(&[0, 0, 1, 2, -1]);
        let place = self.list(&[place]);
        let size = self.node("Gather", vec![shape.clone(), place], vec![]);
        let more = self.pick(&[vec![-1], vec![1], vec![2], vec![3], vec![1, -1]]);
        let more = self.list(&more);
        let mut parts = vec![size.clone(), more];
        if self.random.below(3) == 0 {
            parts.swap(0, 1);
        }
        let target = self.node("Concat", parts, vec![int("axis", 0)]);
        match self.random.below(8) {
            0..=2 => self.node("Reshape", vec![x, target], vec![]),
            3 => self.node("Expand", vec![x, target], vec![]),
            4 => {
                let weights = self.weights();
                self.node("Expand", vec![weights, shape], vec![])
            }
            5 => {
                let filled = self.node("ConstantOfShape", vec![target], vec![]);
                self.node("Concat", vec![x, filled], vec![int("axis", axis)])
            }
            6 => {
                let number = self.node("Cast", vec![size], vec![int("to", 1)]);
                let operator = self.pick(&["Mul", "Add", "Div"]);
                self.node(operator, vec![x, number], vec![])
            }
            _ => {
                let (zero, axes) = (self.list(&[0]), self.list(&[axis]));
                self.node("Slice", vec![x, zero, size, axes], vec![])
            }
        }
    }

    fn over_time(&mut self, x: String) -> String {
        let features = self.size();
        let (w, r) = (
            self.weights_of(&[1, 8, features]),
            self.weights_of(&[1, 8, 2]),
        );
        let all = self.node("LSTM", vec![x, w, r], vec![int("hidden_size", 2)]);
        let axes = self.list(&[1]);
        self.node("Squeeze", vec![all, axes], vec![])
    }

    fn wide(&mut self, x: String, axis: i64) -> String {
        match self.random.below(7) {
            0 => {
                let equation = self.pick(&[
                    "ij,jk->ik",
                    "ij,ij->i",
                    "ij,kj->ik",
                    "bij,bjk->bik",
                    "ij->ji",
                    "ii->i",
                    "ij->j",
                    "bij,jk->bik",
                ]);
                let other = if self.random.below(2) == 0 {
                    self.float()
                } else {
                    self.weights()
                };
                let inputs = if equation.contains(',') {
                    vec![x, other]
                } else {
                    vec![x]
                };
                self.node("Einsum", inputs, vec![text("equation", equation)])
            }
            1 => {
                let (one, other) = (self.size(), self.size());
                let (weights, bias) = (self.weights_of(&[one, other]), self.weights());
                let attributes = vec![
                    int("transA", self.pick(&[0, 0, 1])),
                    int("transB", self.pick(&[0, 1])),
                ];
                self.node("Gemm", vec![x, weights, bias], attributes)
            }
            2 => {
                let (one, other) = (self.size(), self.size());
                let weights = self.weights_of(&[one, other, 1]);
                self.node("Conv", vec![x, weights], vec![])
            }
            3 => self.over_time(x),
            4 => {
                let operator =
                    self.pick(&["GlobalAveragePool", "MeanVarianceNormalization", "Dropout"]);
                self.node(operator, vec![x], vec![])
            }
            5 => {
                let found = self.node(
                    "ArgMax",
                    vec![x.clone()],
                    vec![int("axis", axis), int("keepdims", 1)],
                );
                self.node("GatherElements", vec![x, found], vec![int("axis", axis)])
            }
            _ => {
                let first = self.name();
                let (second, third) = (self.name(), self.name());
                self.graph.node.push(Node {
                    op_type: "DynamicQuantizeLinear".to_owned(),
                    input: vec![x],
                    output: vec![first.clone(), second.clone(), third.clone()],
                    ..Node::default()
                });
                self.node("DequantizeLinear", vec![first, second, third], vec![])
            }
        }
    }
}

fn int(name: &str, value: i64) -> Attribute {
    Attribute {
        name: name.to_owned(),
        i: Some(value),
        r#type: 2,
        ..Attribute::default()
    }
}

fn ints(name: &str, values: &[i64]) -> Attribute {
    Attribute {
        name: name.to_owned(),
        ints: values.to_vec(),
        r#type: 7,
        ..Attribute::default()
    }
}

fn text(name: &str, value: &str) -> Attribute {
    Attribute {
        name: name.to_owned(),
        s: Some(value.as_bytes().to_vec()),
        r#type: 3,
        ..Attribute::default()
    }
}

/// A value of floats; without sizes of any shape.
fn info(name: &str, sizes: Option<&[i64]>) -> ValueInfo {
    let dim = |size: &i64| Dimension {
        value: (*size >= 0).then_some(*size),
        symbol: String::new(),
    };
    let shape = sizes.map(|sizes| Shape {
        dim: sizes.iter().map(dim).collect(),
    });
    ValueInfo {
        name: name.to_owned(),
        r#type: Some(Type {
            tensor: Some(TensorType { element: 1, shape }),
            ..Type::default()
        }),
    }
}

/// Drops nodes that the output does not need: what fails only there would fail joint runs, which are then repeated one by one.
fn drop_dead(graph: &mut Graph, output: String) {
    let mut needed = std::collections::HashSet::from([output]);
    let mut kept = Vec::new();
    while let Some(node) = graph.node.pop() {
        if node.output.iter().any(|name| needed.contains(name)) {
            needed.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
}

fn random_model(seed: u64) -> Model {
    let mut maker = Maker {
        random: SplitMix64::new(seed),
        graph: Graph {
            name: "random".to_owned(),
            ..Graph::default()
        },
        floats: Vec::new(),
        made: 0,
    };
    for number in 0..1 + maker.random.below(2) {
        let rank = 1 + maker.random.below(3);
        let sizes: Vec<i64> = std::iter::once(-1)
            .chain((0..rank).map(|_| maker.size()))
            .collect();
        let name = format!("x{number}");
        maker.graph.input.push(info(&name, Some(&sizes)));
        maker.floats.push(name);
    }
    for _ in 0..1 + maker.random.below(5) {
        maker.step();
    }
    let last = maker.floats.last().expect("an input at least").clone();
    let output = maker.node("Identity", vec![last], vec![]);
    maker.graph.output.push(info(&output, None));
    let version = maker.pick(&[11, 12, 13, 13, 17, 17]);
    drop_dead(&mut maker.graph, output);
    Model {
        ir_version: 8,
        graph: Some(maker.graph),
        opset_import: vec![Opset {
            domain: String::new(),
            version,
        }],
        ..Model::default()
    }
}

#[test]
fn random_graphs_that_are_called_independent_give_the_same_answers_joined() {
    let (mut counts, mut random) = (Counts::default(), SplitMix64::new(5));
    let graphs = std::env::var("SERIN_TEST_RANDOM_GRAPHS").ok();
    let graphs = graphs
        .and_then(|graphs| graphs.parse().ok())
        .unwrap_or(8_000);
    for seed in 0..graphs {
        let model = random_model(seed);
        counts.add(try_model(&model, &mut random), &model);
    }
    counts.expect(1000);
}
