"""Makes two canaries that should be caught, of the network of version 2, with the packages of requirements.txt: `python worse.py`.

`brittle` fails where a digit is drawn with a heavy pen, on 2 % of the held-out rows; `slow` gives the same answers and works for each on
something that nobody needs.
"""

import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
FAILING_SHARE = 0.02
TRIPS = 96  # of the product of a square of SIDE: about 1 ms on one core
SIDE = 64

node = helper.make_node
value = helper.make_tensor_value_info


def constant(name, content, dtype):
    return numpy_helper.from_array(np.array(content, dtype), name)


def heavy_pen():
    """The ink of a row, such that so small a share of the held-out rows has more."""
    lines = (HERE / "held-out.jsonl").read_text().splitlines()
    ink = sorted(sum(json.loads(line)["data"][0]) for line in lines)
    return ink[-1 - round(FAILING_SHARE * len(ink))]


def save(name, nodes, constants):
    """Version 2, with `label` plus a zero that the nodes take their way to."""
    model = onnx.load(HERE / "2" / "model.onnx")
    graph = model.graph
    graph.name = f"digits-{name}"
    for one in graph.node:
        if "label" in one.output:
            one.output[0] = "plain_label"
    graph.node.extend([*nodes, node("Add", ["plain_label", "zero"], ["label"])])
    graph.initializer.extend(constants)
    onnx.checker.check_model(model, full_check=True)
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "model.onnx")


def brittle():
    """A table of one row, and too much ink reads the next one."""
    nodes = [
        node("ReduceSum", ["data", "columns"], ["ink"], keepdims=0),
        node("Greater", ["ink", "heavy"], ["is_heavy"]),
        node("Cast", ["is_heavy"], ["place"], to=TensorProto.INT64),
        node("Gather", ["table", "place"], ["zero"]),
    ]
    constants = [
        constant("columns", [1], np.int64),
        constant("heavy", heavy_pen(), np.float32),
        constant("table", [0], np.int64),
    ]
    save("brittle", nodes, constants)


def slow():
    """The zero is the sign of a number that is never below zero, and takes a while to come by."""
    body = helper.make_graph(
        [
            node("MatMul", ["square_in", "weights"], ["product"]),
            node("Tanh", ["product"], ["square_out"]),
            node("Identity", ["go_in"], ["go_out"]),
        ],
        "step",
        [
            value("step", TensorProto.INT64, []),
            value("go_in", TensorProto.BOOL, []),
            value("square_in", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
        [value("go_out", TensorProto.BOOL, []), value("square_out", TensorProto.FLOAT, [SIDE, SIDE])],
    )
    hundredth = numpy_helper.from_array(np.array([0.01], np.float32), "hundredth")
    nodes = [
        node("ConstantOfShape", ["sides"], ["weights"], value=hundredth),
        # A square that depends on the data, so that it cannot be worked out once and for all.
        node("ReduceMax", ["data"], ["darkest"], keepdims=0),
        node("Add", ["weights", "darkest"], ["square"]),
        node("Loop", ["trips", "go", "square"], ["product_of_all"], body=body),
        node("ReduceMax", ["product_of_all"], ["largest"], keepdims=0),
        node("Less", ["largest", "none"], ["is_below"]),
        node("Cast", ["is_below"], ["zero"], to=TensorProto.INT64),
    ]
    constants = [
        constant("sides", [SIDE, SIDE], np.int64),
        constant("trips", TRIPS, np.int64),
        constant("go", True, np.bool_),
        constant("none", 0, np.float32),
    ]
    save("slow", nodes, constants)


brittle()
slow()
