"""Makes the small models that tests run; ../README.md says what each is for.

Needs the packages of ../digits/requirements.txt. Files are the same bytes with the same packages.
"""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
FP32, FP64, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
BOOL, STRING = TensorProto.BOOL, TensorProto.STRING

node = helper.make_node
value = helper.make_tensor_value_info


def constant(name, content, dtype=np.int64):
    return numpy_helper.from_array(np.array(content, dtype), name)


def save(name, nodes, inputs, outputs, constants=(), checked=True):
    graph = helper.make_graph(nodes, name, inputs, outputs, list(constants))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    if checked:
        onnx.checker.check_model(model, full_check=True)
    onnx.save(model, HERE / f"{name}.onnx")


def add():
    inputs = [value("a", FP32, [None, 2]), value("b", FP32, [None, 2])]
    save("add", [node("Add", ["a", "b"], ["sum"])], inputs, [value("sum", FP32, [None, 2])])


def strings():
    nodes = [node("Identity", ["text"], ["same"])]
    save("strings", nodes, [value("text", STRING, [None])], [value("same", STRING, [None])])


def types():
    kinds = {"int64": INT64, "bool": BOOL, "fp64": FP64}
    nodes = [node("Identity", [name], [f"same_{name}"]) for name in kinds]
    inputs = [value(name, kind, [None]) for name, kind in kinds.items()]
    outputs = [value(f"same_{name}", kind, [None]) for name, kind in kinds.items()]
    save("types", nodes, inputs, outputs)


def zipmap():
    nodes = [node("ZipMap", ["data"], ["maps"], domain="ai.onnx.ml", classlabels_strings=["no", "yes"])]
    row = helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FP32, []))
    maps = helper.make_value_info("maps", helper.make_sequence_type_proto(row))
    save("zipmap", nodes, [value("data", FP32, [None, 2])], [maps])


def slow():
    """Multiplies a square by itself `steps` times: many nodes, so that a run can be stopped between two."""
    side = 256
    body = helper.make_graph(
        [
            node("MatMul", ["square_in", "weights"], ["product"]),
            node("Tanh", ["product"], ["square_out"]),
            node("Identity", ["go_in"], ["go_out"]),
        ],
        "step",
        [value("step", INT64, []), value("go_in", BOOL, []), value("square_in", FP32, [side, side])],
        [value("go_out", BOOL, []), value("square_out", FP32, [side, side])],
    )
    hundredth = numpy_helper.from_array(np.array([0.01], np.float32), "hundredth")
    nodes = [
        node("ConstantOfShape", ["sides"], ["weights"], value=hundredth),
        node("Squeeze", ["steps"], ["trips"]),
        node("Loop", ["trips", "go", "weights"], ["square"], body=body),
        node("ReduceSum", ["square"], ["sum"], keepdims=0),
    ]
    constants = [constant("sides", [side, side]), constant("go", True, np.bool_)]
    save("slow", nodes, [value("steps", INT64, [1])], [value("sum", FP32, [])], constants)


def hungry():
    """Fills `gigabytes` GiB of memory; 0, as in an example made of zeros, means 64."""
    one = numpy_helper.from_array(np.array([1], np.float32), "one")
    nodes = [
        node("Equal", ["gigabytes", "zero"], ["unsaid"]),
        node("Where", ["unsaid", "most", "gigabytes"], ["blocks"]),
        node("Concat", ["blocks", "block"], ["sizes"], axis=0),
        node("ConstantOfShape", ["sizes"], ["filled"], value=one),
        node("ReduceMax", ["filled"], ["largest"], keepdims=0),
    ]
    # 2^28 elements of 4 bytes are 1 GiB.
    constants = [constant("zero", [0]), constant("most", [64]), constant("block", [2**28])]
    save("hungry", nodes, [value("gigabytes", INT64, [1])], [value("largest", FP32, [])], constants)


def picky():
    """Looks `index` up in a table of three: any other index fails at run time."""
    nodes = [node("Gather", ["table", "index"], ["found"])]
    constants = [constant("table", [10, 20, 30], np.float32)]
    save("picky", nodes, [value("index", INT64, [None])], [value("found", FP32, [None])], constants)


def centred():
    """Takes the mean of all rows from each: the answer for a row depends on its company."""
    nodes = [node("ReduceMean", ["data"], ["mean"], axes=[0]), node("Sub", ["data", "mean"], ["rest"])]
    save("centred", nodes, [value("data", FP32, [None, 2])], [value("rest", FP32, [None, 2])])


def positions():
    """Says where `data` is not zero: how many answers there are depends on the values, not on the shape."""
    nodes = [node("NonZero", ["data"], ["found"])]
    save("positions", nodes, [value("data", FP32, [None])], [value("found", INT64, [1, None])])


def divide():
    """Divides whole numbers: the least of all by -1 ends the process that computes it (SIGFPE)."""
    inputs = [value("a", INT64, [None]), value("b", INT64, [None])]
    save("divide", [node("Div", ["a", "b"], ["quotient"])], inputs, [value("quotient", INT64, [None])])


def endless():
    """Multiplies a square of `side` by itself in one node: a run is not ended before that is over."""
    hundredth = numpy_helper.from_array(np.array([0.01], np.float32), "hundredth")
    nodes = [
        node("Concat", ["side", "side"], ["sides"], axis=0),
        node("ConstantOfShape", ["sides"], ["square"], value=hundredth),
        node("MatMul", ["square", "square"], ["product"]),
        node("ReduceSum", ["product"], ["sum"], keepdims=0),
    ]
    save("endless", nodes, [value("side", INT64, [1])], [value("sum", FP32, [])])


def swells():
    """Fills `inside` floats on the way, and answers with `outside` floats."""
    nodes = [
        node("ConstantOfShape", ["inside"], ["filled"]),
        node("ReduceSum", ["filled"], ["sum"], keepdims=1),
        node("Expand", ["sum", "outside"], ["zeros"]),
    ]
    inputs = [value("inside", INT64, [1]), value("outside", INT64, [1])]
    save("swells", nodes, inputs, [value("zeros", FP32, [None])])


def gaps():
    """Puts 7 and 8 in the place of NaN, column by column, and gives everything back; infinities stay."""
    nodes = [node("IsNaN", ["data"], ["missing"]), node("Where", ["missing", "fill", "data"], ["filled"])]
    nodes.append(node("Identity", ["data"], ["same"]))
    outputs = [value("filled", FP32, [None, 2]), value("same", FP32, [None, 2])]
    save("gaps", nodes, [value("data", FP32, [None, 2])], outputs, [constant("fill", [7, 8], np.float32)])


def nan():
    """Gives NaN where the digits model gives probabilities: the root of a negative number."""
    nodes = [node("Abs", ["data"], ["positive"]), node("Add", ["positive", "one"], ["more"])]
    nodes += [node("Neg", ["more"], ["negative"]), node("Sqrt", ["negative"], ["probabilities"])]
    inputs = [value("data", FP32, [None, 64])]
    save("nan", nodes, inputs, [value("probabilities", FP32, [None, 64])], [constant("one", 1, np.float32)])


def narrow():
    """Gives back floats of 2 bytes and whole numbers."""
    kinds = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16, "int32": TensorProto.INT32}
    nodes = [node("Identity", [name], [f"same_{name}"]) for name in kinds]
    inputs = [value(name, kind, [None]) for name, kind in kinds.items()]
    save("narrow", nodes, inputs, [value(f"same_{name}", kind, [None]) for name, kind in kinds.items()])


def sequences():
    """Gives lists of tensors: the data twice in two shapes, its text, its sizes, and none."""
    nodes = [
        node("Transpose", ["data"], ["turned"]),
        node("SequenceConstruct", ["data", "turned"], ["probabilities"]),
        node("Cast", ["data"], ["text"], to=STRING),
        node("SequenceConstruct", ["text"], ["labels"]),
        node("Shape", ["data"], ["sizes"]),
        node("SequenceConstruct", ["sizes", "sizes"], ["shapes"]),
        node("SequenceEmpty", [], ["none"], dtype=FP32),
    ]
    kinds = {"probabilities": FP32, "labels": STRING, "shapes": INT64, "none": FP32}
    outputs = [helper.make_tensor_sequence_value_info(name, kind, None) for name, kind in kinds.items()]
    save("sequences", nodes, [value("data", FP32, [None, 2])], outputs)


def free():
    """Takes an array of any rank, and says how large it is; and text of any rank, which it gives back.

    ONNX's checker wants shapes of inputs; files of exporters that leave them out are met all the same.
    """
    nodes = [node("Relu", ["data"], ["positive"]), node("Shape", ["data"], ["sizes"]), node("Identity", ["text"], ["same"])]
    inputs = [value("data", FP32, None), value("text", STRING, None)]
    outputs = [value("positive", FP32, None), value("sizes", INT64, [None]), value("same", STRING, None)]
    save("free", nodes, inputs, outputs, checked=False)


def sizes():
    """Says how large an array is that is free in both of its sizes."""
    save("sizes", [node("Shape", ["data"], ["sizes"])], [value("data", FP32, [None, None])], [value("sizes", INT64, [2])])


def lowercase():
    """Turns text into lower case, by the locale en_US.UTF-8 of the machine: does not load where that is not installed."""
    nodes = [node("StringNormalizer", ["text"], ["lower"], case_change_action="LOWER")]
    save("lowercase", nodes, [value("text", STRING, [None])], [value("lower", STRING, [None])])


def maybe():
    """Gives an optional value, which might also not be there."""
    tensor = helper.make_tensor_type_proto(FP32, [None])
    output = helper.make_value_info("maybe", helper.make_optional_type_proto(tensor))
    save("maybe", [node("Optional", ["data"], ["maybe"])], [value("data", FP32, [None])], [output])


def odd(name, into, out_of):
    """Takes or gives elements of a type that JSON has no numbers for."""
    nodes = [node("Cast", ["data"], ["cast"], to=out_of)]
    graph = helper.make_graph(nodes, name, [value("data", into, [None])], [value("cast", out_of, [None])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, HERE / f"{name}.onnx")


def quantised():
    """Takes the scale of its whole input, as dynamic quantisation does: a small row beside a large one becomes zeros."""
    nodes = [
        node("DynamicQuantizeLinear", ["data"], ["whole", "scale", "zero"]),
        node("MatMulInteger", ["whole", "weights", "zero"], ["product"]),
        node("Cast", ["product"], ["numbers"], to=FP32),
        node("Mul", ["numbers", "scale"], ["scaled"], name="rescale"),
    ]
    weights = constant("weights", [[1, -2], [3, 4]], np.int8)
    save("quantised", nodes, [value("data", FP32, [None, 2])], [value("scaled", FP32, [None, 2])], [weights])


def running_sum():
    """Adds up along its first axis, which is time: nothing comes before zeros, so only what follows others tells."""
    nodes = [node("CumSum", ["data", "axis"], ["sums"])]
    save("running_sum", nodes, [value("data", FP32, [None, 2])], [value("sums", FP32, [None, 2])], [constant("axis", 0)])


def time_first():
    """An LSTM without bias over the first axis, for a batch of one."""
    weights = [[[0.5, -1.0], [1.5, 0.25], [-0.75, 1.0], [2.0, 0.5]]]
    recurrence = [[[0.5], [-0.25], [1.0], [0.75]]]
    nodes = [
        node("LSTM", ["data", "weights", "recurrence"], ["all"], hidden_size=1),
        node("Squeeze", ["all", "directions"], ["state"]),
    ]
    constants = [
        constant("weights", weights, np.float32),
        constant("recurrence", recurrence, np.float32),
        constant("directions", [1]),
    ]
    save("time_first", nodes, [value("data", FP32, [None, 1, 2])], [value("state", FP32, [None, 1, 1])], constants)


def training():
    """Normalises as in training: by the mean and variance of the rows that came together."""
    outputs = ["same", "new_mean", "new_variance"]
    nodes = [node("BatchNormalization", ["data", "scale", "shift", "mean", "variance"], outputs, training_mode=1)]
    constants = [constant(name, [1, 1], np.float32) for name in ["scale", "shift", "mean", "variance"]]
    save("training", nodes, [value("data", FP32, [None, 2])], [value("same", FP32, [None, 2])], constants)


def outside():
    """Looks `index` up in a table of three that lies in a file of its own: rewritten, it would give other answers."""
    nodes = [node("Gather", ["table", "index"], ["found"])]
    table = constant("table", [10, 20, 30], np.float32)
    inputs = [value("index", INT64, [None])]
    graph = helper.make_graph(nodes, "outside", inputs, [value("found", FP32, [None])], [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (HERE / "outside.bin").unlink(missing_ok=True)
    onnx.save_model(
        model, HERE / "outside.onnx", save_as_external_data=True, location="outside.bin", size_threshold=0
    )


for make in (
    add, strings, types, zipmap, slow, hungry, picky, centred, positions, divide, endless, swells, gaps, nan, narrow, sequences,
    free, sizes, maybe, lowercase, quantised, running_sum, time_first, training,
    outside,
):
    make()
odd("odd-output", FP32, TensorProto.FLOAT8E4M3FN)
odd("odd-input", TensorProto.FLOAT8E5M2, FP32)
