//! The table of operators: what is known of each. What is not in it proves nothing.
//!
//! It is a list of what is allowed. An operator stands here once it is known that its work follows from shapes and that no value
//! ends the process: ONNX Runtime 1.32 was given the extremes of numbers, sizes and indices for each, on the processor, with the
//! heap checked. What ended it, or is suspected to, says so here.
//!
//! Not here: how rows go through an operator (`rules`).

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::engine::graph::call::{Call, Outcome, Rule};
use crate::engine::graph::rules::{
    broadcast, contrib, gather, layout, learning, matrix, recurrent, reduce, shapes, window,
};
use crate::engine::graph::value::element;

/// Newest version of ONNX's own operator set whose operators these are.
pub(super) const VERSION_MAX: i64 = 28;
/// The same of `ai.onnx.ml`.
pub(super) const VERSION_MAX_ML: i64 = 5;

/// An operator.
#[derive(Clone, Copy)]
pub(super) struct Operator {
    pub(super) rule: Rule,
    pub(super) work: Work,
    pub(super) trap: Trap,
    pub(super) gives: Gives,
}

/// What the work and the size of the outputs follow from.
#[derive(Clone, Copy)]
pub(super) enum Work {
    /// The shapes of the inputs.
    Shapes,
    /// The shapes, and the values of these inputs.
    Inputs(&'static [usize]),
    /// Values; a predicate of the operator says how.
    Values(&'static str),
}

/// Whether a value can end the process.
#[derive(Clone, Copy)]
pub(super) enum Trap {
    No,
    /// The smallest whole number by -1 raises SIGFPE; so did 0 in earlier versions.
    Division,
    /// An empty batch ends in an abort.
    EmptyBatch,
    /// A kernel of size 0, in the weights of this number, is gone over for ever.
    Kernel(usize),
    /// In training mode, where an output is left out, ONNX Runtime writes to it all the same.
    Training,
    /// A predicate of the operator says what.
    Suspected(&'static str),
}

/// Element type of the outputs.
#[derive(Clone, Copy)]
pub(super) enum Gives {
    /// As the input of this number.
    Input(usize),
    Type(i32),
    /// As an attribute names it, or the tensor in an attribute.
    Attribute(&'static str),
    /// The rule says it.
    Rule,
    Unknown,
}

impl Operator {
    const fn new(rule: Rule) -> Self {
        Self {
            rule,
            work: Work::Shapes,
            trap: Trap::No,
            gives: Gives::Input(0),
        }
    }

    const fn sized_by(mut self, inputs: &'static [usize]) -> Self {
        self.work = Work::Inputs(inputs);
        self
    }

    const fn by_value(mut self, why: &'static str) -> Self {
        self.work = Work::Values(why);
        self
    }

    const fn trap(mut self, trap: Trap) -> Self {
        self.trap = trap;
        self
    }

    const fn gives(mut self, gives: Gives) -> Self {
        self.gives = gives;
        self
    }
}

/// For operators whose rows are not followed.
fn unfollowed(_: &Call<'_>) -> Outcome {
    Err("is not known to keep rows apart".to_owned())
}

fn numbers_rows(_: &Call<'_>) -> Outcome {
    Err("works on all rows together".to_owned())
}

const ML: &str = "ai.onnx.ml";
const MS: &str = "com.microsoft";
const BOOL: Gives = Gives::Type(element::BOOL);
const INT64: Gives = Gives::Type(element::INT64);
const FLOAT: Gives = Gives::Type(element::FLOAT);
const STRING: Gives = Gives::Type(element::STRING);
const COUNTS: &str = "makes as much of a value as the value says";

/// Domain, names, and what is known of them.
type Group = (&'static str, &'static [&'static str], Operator);

const ELEMENTWISE: &[Group] = &[
    (
        "",
        &[
            "Abs",
            "Acos",
            "Acosh",
            "Asin",
            "Asinh",
            "Atan",
            "Atanh",
            "BitwiseNot",
            "Ceil",
            "Celu",
            "Cos",
            "Cosh",
            "Elu",
            "Erf",
            "Exp",
            "Floor",
            "Gelu",
            "HardSigmoid",
            "HardSwish",
            "LeakyRelu",
            "Log",
            "Mish",
            "Neg",
            "Reciprocal",
            "Relu",
            "Round",
            "Selu",
            "Shrink",
            "Sigmoid",
            "Sign",
            "Sin",
            "Sinh",
            "Softplus",
            "Softsign",
            "Sqrt",
            "Swish",
            "Tan",
            "Tanh",
            "ThresholdedRelu",
            "Not",
        ],
        Operator::new(broadcast::unary),
    ),
    (
        "",
        &["Affine", "ParametricSoftplus", "ScaledTanh", "ImageScaler"],
        Operator::new(unfollowed),
    ),
    (
        "",
        &["IsInf", "IsNaN"],
        Operator::new(broadcast::unary).gives(BOOL),
    ),
    ("", &["Clip"], Operator::new(broadcast::unary)),
    (
        "",
        &[
            "Add",
            "Sub",
            "Mul",
            "Pow",
            "Max",
            "Min",
            "Mean",
            "Sum",
            "BitwiseAnd",
            "BitwiseOr",
            "BitwiseXor",
            "BitShift",
        ],
        Operator::new(broadcast::nary),
    ),
    ("", &["PRelu"], Operator::new(broadcast::toward_first)),
    (
        "",
        &["Div", "Mod"],
        Operator::new(broadcast::nary).trap(Trap::Division),
    ),
    (
        "",
        &[
            "And",
            "Or",
            "Xor",
            "Equal",
            "Greater",
            "GreaterOrEqual",
            "Less",
            "LessOrEqual",
        ],
        Operator::new(broadcast::nary).gives(BOOL),
    ),
    (
        "",
        &["Where"],
        Operator::new(broadcast::nary).gives(Gives::Input(1)),
    ),
    (MS, &["Gelu", "QuickGelu"], Operator::new(broadcast::unary)),
    (
        MS,
        &["BiasGelu", "FastGelu"],
        Operator::new(broadcast::toward_first),
    ),
    (
        "",
        &["Identity"],
        Operator::new(shapes::identity).gives(Gives::Rule),
    ),
    (
        "",
        &["Cast"],
        Operator::new(shapes::cast).gives(Gives::Attribute("to")),
    ),
    (
        "",
        &["CastLike"],
        Operator::new(unfollowed).gives(Gives::Input(1)),
    ),
    ("", &["Dropout"], Operator::new(reduce::dropout)),
    (
        "",
        &["QuantizeLinear"],
        Operator::new(contrib::quantize).gives(Gives::Unknown),
    ),
    (
        "",
        &["DequantizeLinear"],
        Operator::new(contrib::quantize).gives(Gives::Input(1)),
    ),
    (
        MS,
        &["QuantizeLinear"],
        Operator::new(contrib::quantize).gives(Gives::Unknown),
    ),
    (
        MS,
        &["DequantizeLinear"],
        Operator::new(contrib::quantize).gives(Gives::Input(1)),
    ),
    (
        "",
        &["DynamicQuantizeLinear"],
        Operator::new(reduce::DYNAMIC_QUANTIZE).gives(Gives::Unknown),
    ),
    (
        MS,
        &["QLinearAdd", "QLinearMul"],
        Operator::new(contrib::q_linear_binary),
    ),
    (
        MS,
        &["QLinearSigmoid", "QLinearLeakyRelu"],
        Operator::new(broadcast::unary),
    ),
    ("", &["StringConcat"], Operator::new(broadcast::nary)),
];

const ALONG_AXES: &[Group] = &[
    (
        "",
        &[
            "ReduceSum",
            "ReduceMean",
            "ReduceMax",
            "ReduceMin",
            "ReduceProd",
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSum",
            "ReduceLogSumExp",
            "ReduceSumSquare",
        ],
        Operator::new(reduce::reduce),
    ),
    (
        "",
        &["ArgMax", "ArgMin"],
        Operator::new(reduce::arg).gives(INT64),
    ),
    (
        "",
        &["Softmax", "LogSoftmax", "Hardmax"],
        Operator::new(reduce::softmax),
    ),
    (
        "",
        &["LpNormalization"],
        Operator::new(reduce::lp_normalization),
    ),
    ("", &["CumSum"], Operator::new(reduce::cum_sum)),
    ("", &["TopK"], Operator::new(reduce::top_k).sized_by(&[1])),
    (
        "",
        &[
            "LayerNormalization",
            "RMSNormalization",
            "SimplifiedLayerNormalization",
        ],
        Operator::new(reduce::layer_norm),
    ),
    (
        "",
        &["BatchNormalization"],
        Operator::new(reduce::batch_norm).trap(Trap::Training),
    ),
    (
        "",
        &["InstanceNormalization", "LRN", "GroupNormalization"],
        Operator::new(reduce::instance_norm),
    ),
    (
        "",
        &["MeanVarianceNormalization"],
        Operator::new(reduce::mean_variance),
    ),
    (
        MS,
        &["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"],
        Operator::new(matrix::skip_norm),
    ),
];

const LAYOUT: &[Group] = &[
    (
        "",
        &["Reshape"],
        Operator::new(layout::reshape).sized_by(&[1]),
    ),
    ("", &["Flatten"], Operator::new(layout::flatten)),
    ("", &["Transpose"], Operator::new(layout::transpose)),
    (
        "",
        &["Unsqueeze"],
        Operator::new(layout::unsqueeze).sized_by(&[1]),
    ),
    (
        "",
        &["Squeeze"],
        Operator::new(layout::squeeze).sized_by(&[1]),
    ),
    ("", &["Concat"], Operator::new(layout::concat)),
    (
        "",
        &["Slice"],
        Operator::new(layout::slice).sized_by(&[1, 2, 3, 4]),
    ),
    ("", &["Split"], Operator::new(layout::split).sized_by(&[1])),
    ("", &["Pad"], Operator::new(layout::pad).sized_by(&[1, 3])),
    (
        "",
        &["Expand"],
        Operator::new(layout::expand).sized_by(&[1]),
    ),
    ("", &["Tile"], Operator::new(layout::tile).sized_by(&[1])),
    (
        "",
        &["ConstantOfShape"],
        Operator::new(layout::constant_of_shape)
            .sized_by(&[0])
            .gives(Gives::Attribute("value")),
    ),
    ("", &["Trilu"], Operator::new(layout::trilu)),
    (
        "",
        &["ReverseSequence"],
        Operator::new(layout::reverse_sequence),
    ),
    ("", &["Shape"], Operator::new(shapes::shape).gives(INT64)),
    ("", &["Size"], Operator::new(shapes::size).gives(INT64)),
    (
        "",
        &["Constant"],
        Operator::new(shapes::constant).gives(Gives::Rule),
    ),
    (
        "",
        &["Range"],
        Operator::new(shapes::range).sized_by(&[0, 1, 2]),
    ),
    ("", &["EyeLike"], Operator::new(numbers_rows)),
    (
        "",
        &["CenterCropPad"],
        Operator::new(unfollowed).sized_by(&[1]),
    ),
    (
        "",
        &["NonZero"],
        Operator::new(numbers_rows)
            .by_value("finds as much as is not zero")
            .gives(INT64),
    ),
    (
        "",
        &["Compress"],
        Operator::new(numbers_rows).by_value("keeps as much as its condition says"),
    ),
    (
        "",
        &["Unique"],
        Operator::new(numbers_rows).by_value("finds as many as are different"),
    ),
    (
        "",
        &["NonMaxSuppression"],
        Operator::new(numbers_rows)
            .by_value("finds as many boxes as there are")
            .gives(INT64),
    ),
];

const LOOK_UP: &[Group] = &[
    ("", &["Gather"], Operator::new(gather::gather)),
    (
        "",
        &["GatherElements"],
        Operator::new(gather::gather_elements),
    ),
    ("", &["GatherND"], Operator::new(gather::gather_nd)),
    (
        "",
        &["ScatterElements", "ScatterND", "Scatter"],
        Operator::new(unfollowed),
    ),
    (
        "",
        &["OneHot"],
        Operator::new(gather::one_hot)
            .sized_by(&[1])
            .gives(Gives::Input(2)),
    ),
    (
        ML,
        &["ArrayFeatureExtractor"],
        Operator::new(gather::array_feature_extractor),
    ),
];

const MATRICES: &[Group] = &[
    ("", &["MatMul"], Operator::new(matrix::mat_mul)),
    (
        "",
        &["MatMulInteger"],
        Operator::new(matrix::mat_mul).gives(Gives::Type(element::INT32)),
    ),
    (
        "",
        &["QLinearMatMul"],
        Operator::new(matrix::q_linear_mat_mul).gives(Gives::Unknown),
    ),
    ("", &["Gemm"], Operator::new(matrix::gemm)),
    ("", &["Einsum"], Operator::new(matrix::einsum)),
    (MS, &["FusedMatMul"], Operator::new(matrix::fused_mat_mul)),
    (
        MS,
        &["MatMulIntegerToFloat"],
        Operator::new(matrix::mat_mul).gives(FLOAT),
    ),
    (
        MS,
        &["MatMulNBits", "QGemm"],
        Operator::new(matrix::by_weights)
            .gives(Gives::Unknown)
            .trap(Trap::Suspected(UNTRIED)),
    ),
    (
        MS,
        &["DynamicQuantizeMatMul", "DynamicQuantizeLSTM"],
        Operator::new(contrib::SCALE_OF_ALL).trap(Trap::Suspected(UNTRIED)),
    ),
    (MS, &["CDist"], Operator::new(contrib::c_dist)),
    (
        "",
        &["Attention"],
        Operator::new(contrib::attention_of_onnx),
    ),
    (
        MS,
        &["Attention", "MultiHeadAttention"],
        Operator::new(contrib::attention).trap(Trap::Suspected(UNTRIED)),
    ),
    (
        MS,
        &["EmbedLayerNormalization"],
        Operator::new(contrib::embed).trap(Trap::Suspected(UNTRIED)),
    ),
    ("", &["Det"], Operator::new(unfollowed)),
];

const UNTRIED: &str = "was not tried with all values";

const WINDOWS: &[Group] = &[
    (
        "",
        &["Conv"],
        Operator::new(window::conv).trap(Trap::Kernel(1)),
    ),
    (
        "",
        &["ConvInteger"],
        Operator::new(window::conv)
            .trap(Trap::Kernel(1))
            .gives(Gives::Type(element::INT32)),
    ),
    (
        "",
        &["QLinearConv"],
        Operator::new(window::q_linear_conv)
            .trap(Trap::Kernel(3))
            .gives(Gives::Unknown),
    ),
    (
        "",
        &["ConvTranspose"],
        Operator::new(window::conv_transpose)
            .sized_by(&[])
            .trap(Trap::Kernel(1)),
    ),
    (
        "",
        &["MaxPool", "AveragePool", "LpPool"],
        Operator::new(window::pool),
    ),
    (
        "",
        &["GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"],
        Operator::new(window::global_pool),
    ),
    (
        "",
        &["DepthToSpace", "SpaceToDepth"],
        Operator::new(window::depth_to_space),
    ),
    (
        "",
        &["Resize"],
        Operator::new(window::resize).sized_by(&[1, 2, 3]),
    ),
    (
        "",
        &["Upsample"],
        Operator::new(window::resize).sized_by(&[1]),
    ),
    ("", &["GridSample"], Operator::new(window::grid_sample)),
    // It reads sizes of regions from values, and adds up as many samples of each as they say.
    (
        "",
        &["RoiAlign", "MaxRoiPool"],
        Operator::new(unfollowed).by_value("takes as many samples as its regions are large"),
    ),
    ("", &["MaxUnpool"], Operator::new(unfollowed).sized_by(&[2])),
    ("", &["Col2Im"], Operator::new(unfollowed).sized_by(&[1, 2])),
    (
        "",
        &["AffineGrid"],
        Operator::new(unfollowed).sized_by(&[1]),
    ),
];

const OVER_TIME: &[Group] = &[
    (
        "",
        &["LSTM", "GRU"],
        Operator::new(recurrent::recurrent).trap(Trap::EmptyBatch),
    ),
    ("", &["RNN"], Operator::new(recurrent::recurrent)),
    // A window of length 0 raised SIGFPE, and so does a frame length of 0.
    (
        "",
        &["STFT"],
        Operator::new(unfollowed)
            .by_value(COUNTS)
            .trap(Trap::Suspected("ends the process for a frame of length 0")),
    ),
    ("", &["DFT"], Operator::new(unfollowed).sized_by(&[1, 2])),
    (
        "",
        &["HannWindow", "HammingWindow", "BlackmanWindow"],
        Operator::new(unfollowed)
            .sized_by(&[0])
            .gives(Gives::Unknown),
    ),
    (
        "",
        &["MelWeightMatrix"],
        Operator::new(unfollowed)
            .sized_by(&[0, 1, 2])
            .gives(Gives::Unknown),
    ),
];

const SEQUENCES: &[Group] = &[
    (
        "",
        &[
            "SequenceConstruct",
            "SequenceEmpty",
            "SequenceInsert",
            "SequenceErase",
            "SequenceAt",
            "SequenceLength",
            "Optional",
            "OptionalGetElement",
            "OptionalHasElement",
        ],
        Operator::new(unfollowed).gives(Gives::Unknown),
    ),
    (
        "",
        &["ConcatFromSequence"],
        Operator::new(unfollowed).gives(Gives::Unknown),
    ),
    (
        "",
        &["SplitToSequence"],
        Operator::new(unfollowed)
            .sized_by(&[1])
            .gives(Gives::Unknown),
    ),
];

const LEARNING: &[Group] = &[
    (
        ML,
        &[
            "TreeEnsembleClassifier",
            "LinearClassifier",
            "SVMClassifier",
        ],
        Operator::new(learning::classifier).gives(Gives::Unknown),
    ),
    (
        ML,
        &[
            "TreeEnsembleRegressor",
            "TreeEnsemble",
            "LinearRegressor",
            "SVMRegressor",
        ],
        Operator::new(learning::regressor).gives(FLOAT),
    ),
    (
        ML,
        &["Scaler", "Imputer", "Normalizer"],
        Operator::new(learning::by_columns).gives(FLOAT),
    ),
    (ML, &["Binarizer"], Operator::new(broadcast::unary)),
    (
        ML,
        &["LabelEncoder", "CategoryMapper"],
        Operator::new(broadcast::unary).gives(Gives::Unknown),
    ),
    (
        ML,
        &["OneHotEncoder"],
        Operator::new(learning::one_hot_encoder).gives(FLOAT),
    ),
    (
        ML,
        &["FeatureVectorizer"],
        Operator::new(learning::feature_vectorizer).gives(FLOAT),
    ),
    (
        ML,
        &["ZipMap"],
        Operator::new(learning::zip_map).gives(Gives::Unknown),
    ),
    (
        "",
        &["TfIdfVectorizer"],
        Operator::new(learning::tf_idf).gives(FLOAT),
    ),
    (
        "",
        &["StringNormalizer"],
        Operator::new(learning::string_normalizer).gives(STRING),
    ),
];

/// What is known of an operator; ONNX's own domain is empty here.
pub(super) fn operator(domain: &str, name: &str) -> Option<Operator> {
    static TABLE: OnceLock<HashMap<(&str, &str), Operator>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let groups = [
            ELEMENTWISE,
            ALONG_AXES,
            LAYOUT,
            LOOK_UP,
            MATRICES,
            WINDOWS,
            OVER_TIME,
            SEQUENCES,
            LEARNING,
        ];
        let names = |group: &'static Group| {
            let (domain, names, operator) = group;
            names.iter().map(move |name| ((*domain, *name), *operator))
        };
        groups.into_iter().flatten().flat_map(names).collect()
    });
    table.get(&(domain, name)).copied()
}
