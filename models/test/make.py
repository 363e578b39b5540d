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


def save(name, nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, list(constants))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
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


def quotient():
    """Divides integers: the smallest by -1 is a fault of the processor, which ends the process."""
    inputs = [value("x", INT64, [None]), value("y", INT64, [None])]
    save("quotient", [node("Div", ["x", "y"], ["z"])], inputs, [value("z", INT64, [None])])


for make in (add, strings, types, zipmap, slow, hungry, picky, centred, positions, quotient):
    make()
