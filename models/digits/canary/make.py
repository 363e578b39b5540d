"""Makes the models of the demo's rollouts, with the packages of ../requirements.txt: `python make.py`.

`blue` is version 1 and `green` version 2. `brittle` is version 2 and fails where a digit is drawn with a heavy pen, on 2 % of the held-out
rows; `slow` is version 2 and takes three times as long. All work for a while on something that nobody needs: a run of some
microseconds has no latency that machines agree on.
"""

import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
DIGITS = HERE.parent
FAILING_SHARE = 0.02
SIDE = 64
TRIPS = 50  # products of two squares of SIDE: about 0.4 ms on one core

node = helper.make_node
value = helper.make_tensor_value_info


def constant(name, content, dtype):
    return numpy_helper.from_array(np.array(content, dtype), name)


def work(trips):
    """Nodes and constants that come by a zero after so many products: whether a number is negative that never is."""
    body = helper.make_graph(
        [
            node("MatMul", ["square_in", "weights"], ["product"]),
            node("Tanh", ["product"], ["square_out"]),
            node("Identity", ["go_in"], ["go_out"]),
        ],
        "trip",
        [
            value("trip", TensorProto.INT64, []),
            value("go_in", TensorProto.BOOL, []),
            value("square_in", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
        [value("go_out", TensorProto.BOOL, []), value("square_out", TensorProto.FLOAT, [SIDE, SIDE])],
    )
    hundredth = numpy_helper.from_array(np.array([0.01], np.float32), "hundredth")
    nodes = [
        node("ConstantOfShape", ["sides"], ["weights"], value=hundredth),
        # Of the data, so that it cannot be worked out once and for all.
        node("ReduceMax", ["data"], ["darkest"], keepdims=0),
        node("Add", ["weights", "darkest"], ["square"]),
        node("Loop", ["trips", "go", "square"], ["product_of_all"], body=body),
        node("ReduceMax", ["product_of_all"], ["largest"], keepdims=0),
        node("Less", ["largest", "nothing"], ["is_negative"]),
        node("Cast", ["is_negative"], ["zero"], to=TensorProto.INT64),
    ]
    constants = [
        constant("sides", [SIDE, SIDE], np.int64),
        constant("trips", trips, np.int64),
        constant("go", True, np.bool_),
        constant("nothing", 0, np.float32),
    ]
    return nodes, constants


def heavy_pen():
    """The ink of a row, such that so small a share of the held-out rows has more."""
    lines = (DIGITS / "held-out.jsonl").read_text().splitlines()
    ink = sorted(sum(json.loads(line)["data"][0]) for line in lines)
    return ink[-1 - round(FAILING_SHARE * len(ink))]


def failure():
    """Nodes and constants that come by a zero for each row: from a table of one, of which too much ink reads the second."""
    nodes = [
        node("ReduceSum", ["data", "columns"], ["ink"], keepdims=0),
        node("Greater", ["ink", "heavy"], ["is_heavy"]),
        node("Cast", ["is_heavy"], ["place"], to=TensorProto.INT64),
        node("Gather", ["table", "place"], ["row_zero"]),
    ]
    constants = [
        constant("columns", [1], np.int64),
        constant("heavy", heavy_pen(), np.float32),
        constant("table", [0], np.int64),
    ]
    return nodes, constants


def save(name, version, trips=TRIPS, fails=False):
    model = onnx.load(DIGITS / str(version) / "model.onnx")
    graph = model.graph
    graph.name = f"digits-{name}"
    for one in graph.node:
        if "label" in one.output:
            one.output[0] = "plain_label"
    parts = [(work(trips), "zero")] + ([(failure(), "row_zero")] if fails else [])
    label = "plain_label"
    for (nodes, constants), zero in parts:
        sum_of = "label" if zero == parts[-1][1] else f"label_and_{zero}"
        graph.node.extend([*nodes, node("Add", [label, zero], [sum_of])])
        graph.initializer.extend(constants)
        label = sum_of
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, HERE / f"{name}.onnx")


save("blue", 1)
save("green", 2)
save("brittle", 2, fails=True)
save("slow", 2, trips=3 * TRIPS)
