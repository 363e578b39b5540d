//! A model as its file describes it: what people open a viewer for.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::external_data::ExternalTensors;
use crate::engine::graph::facts::GraphFacts;
use crate::engine::graph::follow;
use crate::engine::graph::obstacle::Obstacle;
use crate::engine::graph::proto::{Graph, Model, Tensor, Type, ValueInfo};
use crate::engine::graph::skeleton;

/// A model as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// What a request brings.
    pub inputs: Vec<TensorSummary>,
    /// What the answer has.
    pub outputs: Vec<TensorSummary>,
    /// The program that wrote the file.
    pub producer: String,
    /// Version of the format.
    pub ir_version: i64,
    /// Versions of the operator sets, by domain.
    pub opsets: BTreeMap<String, i64>,
    /// How often each operator stands in the graph, branches and functions included.
    pub operators: BTreeMap<String, usize>,
    /// Numbers in the constants of the graph.
    pub parameters: u64,
    /// Bytes of the ONNX file.
    pub file_bytes: u64,
    /// Files that hold data of the model, relative to it, with their sizes where they are there.
    pub external_data: BTreeMap<String, Option<u64>>,
    /// What the graph proves.
    pub facts: GraphFacts,
}

/// An input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSummary {
    /// Name in the graph.
    pub name: String,
    /// Element type, or what else it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// Sizes: numbers, names, or `?`; nothing where no shape is declared.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shape: Option<Vec<String>>,
}

impl ModelSummary {
    /// Reads the model in this file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is no model.
    pub fn of_file(path: &Path) -> Result<Self, Obstacle> {
        let unread = |error: io::Error| {
            Obstacle::of_model(format!("{} cannot be read: {error}", path.display()))
        };
        let model = skeleton::read(path).map_err(Obstacle::of_model)?;
        let graph = model.graph.as_ref();
        let graph = graph.ok_or_else(|| Obstacle::of_model("the model has no graph"))?;
        let opsets = model.opset_import.iter();
        Ok(Self {
            inputs: follow::inputs_of(graph).map(tensor).collect(),
            outputs: graph.output.iter().map(tensor).collect(),
            producer: format!("{} {}", model.producer_name, model.producer_version)
                .trim()
                .to_owned(),
            ir_version: model.ir_version,
            opsets: opsets
                .map(|one| {
                    (
                        follow::domain_for_people(&one.domain).to_owned(),
                        one.version,
                    )
                })
                .collect(),
            operators: operators(&model),
            parameters: graphs(&model).into_iter().map(parameters).sum(),
            file_bytes: path.metadata().map_err(unread)?.len(),
            external_data: external_data(path).map_err(unread)?,
            facts: GraphFacts::of_model(&model),
        })
    }
}

/// The graph, and all that stand in attributes of its nodes.
fn graphs(model: &Model) -> Vec<&Graph> {
    let mut found: Vec<&Graph> = model.graph.iter().collect();
    let mut next = 0;
    while let Some(graph) = found.get(next) {
        let attributes = graph.node.iter().flat_map(|node| &node.attribute);
        let inner: Vec<&Graph> = attributes.filter_map(|one| one.g.as_deref()).collect();
        found.extend(inner);
        next += 1;
    }
    found
}

fn operators(model: &Model) -> BTreeMap<String, usize> {
    let nodes = graphs(model).into_iter().flat_map(|graph| &graph.node);
    let inner = model.functions.iter().flat_map(|function| &function.node);
    let mut counts = BTreeMap::new();
    for node in nodes.chain(inner) {
        let name = match node.domain.as_str() {
            "" | "ai.onnx" => node.op_type.clone(),
            domain => format!("{domain}.{}", node.op_type),
        };
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// Elements of the constants of one graph.
fn parameters(graph: &Graph) -> u64 {
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    let tensors = attributes.filter_map(|one| one.t.as_deref());
    let sparse = graph.sparse_initializer.iter();
    let sparse = sparse.filter_map(|one| one.values.as_ref());
    let elements = |tensor: &Tensor| {
        let sizes = tensor
            .dims
            .iter()
            .map(|size| u64::try_from(*size).unwrap_or(0));
        sizes.fold(1, u64::saturating_mul)
    };
    let all = graph.initializer.iter().chain(tensors).chain(sparse);
    all.map(elements).fold(0, u64::saturating_add)
}

fn external_data(path: &Path) -> io::Result<BTreeMap<String, Option<u64>>> {
    let mut tensors = ExternalTensors::of(path)?;
    let mut locations = BTreeSet::new();
    while let Some(tensor) = tensors.next_tensor()? {
        locations.insert(String::from_utf8_lossy(&tensor.location).into_owned());
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let size = |location: String| {
        let size = folder.join(&location).metadata().map(|file| file.len());
        (location, size.ok())
    };
    Ok(locations.into_iter().map(size).collect())
}

fn tensor(info: &ValueInfo) -> TensorSummary {
    let ty = info.r#type.as_ref();
    let shape = ty.and_then(|ty| ty.tensor.as_ref()?.shape.as_ref());
    let shape = shape.map(|shape| {
        let sizes = shape
            .dim
            .iter()
            .map(|dim| match (dim.value, dim.symbol.as_str()) {
                (Some(size), _) if size >= 0 => size.to_string(),
                (_, "") => "?".to_owned(),
                (_, symbol) => symbol.to_owned(),
            });
        sizes.collect()
    });
    TensorSummary {
        name: info.name.clone(),
        kind: ty.map_or_else(|| "undeclared".to_owned(), kind),
        shape,
    }
}

fn kind(ty: &Type) -> String {
    let inner = |ty: Option<&Type>| ty.map_or_else(|| "undeclared".to_owned(), kind);
    if let Some(tensor) = &ty.tensor {
        return element_name(tensor.element).to_owned();
    }
    if let Some(sequence) = &ty.sequence {
        return format!("sequence of {}", inner(sequence.element.as_deref()));
    }
    if let Some(map) = &ty.map {
        let value = inner(map.value.as_deref());
        return format!("map from {} to {value}", element_name(map.key));
    }
    match &ty.optional {
        Some(optional) => format!("optional {}", inner(optional.element.as_deref())),
        None => "undeclared".to_owned(),
    }
}

/// The names of ONNX's element types, by their numbers.
fn element_name(element: i32) -> &'static str {
    const NAMES: [&str; 24] = [
        "undefined",
        "float32",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "int32",
        "int64",
        "string",
        "bool",
        "float16",
        "float64",
        "uint32",
        "uint64",
        "complex64",
        "complex128",
        "bfloat16",
        "float8e4m3fn",
        "float8e4m3fnuz",
        "float8e5m2",
        "float8e5m2fnuz",
        "uint4",
        "int4",
        "float4e2m1",
    ];
    let name = usize::try_from(element).ok().and_then(|at| NAMES.get(at));
    name.copied().unwrap_or("undefined")
}
