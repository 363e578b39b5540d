"""Makes the models of the bench, each with a request and ONNX Runtime's own answer to it.

    models.py OUT REPOSITORY CONVOLUTION.onnx

Below OUT, each model gets a folder with `model.onnx`, `request.json` (what serin takes), `request-v2.json` (the Open
Inference Protocol) and `expected.json` (outputs by name, flat). Seeded: the same packages make the same files.
"""

import json
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SEED = 7
# Widths of the layers, first the input's. A weight has 4 bytes.
NETWORKS = {
    "tiny": [4, 8, 3],
    "mlp256": [256, 256, 256, 256],
    "mlp25mb": [256, *[1024] * 7, 10],
    "mlp128mb": [256, *[2048] * 9, 10],
}
# Channels, height and width that the text direction classifier was trained for.
CONVOLUTION_INPUT = (1, 3, 48, 192)


def network(widths: list[int]) -> onnx.ModelProto:
    """Fully connected layers with rectified units between them; any number of rows."""
    random = np.random.default_rng(SEED)
    nodes, weights, value = [], [], "data"
    for index, (before, after) in enumerate(pairwise(widths)):
        matrix = random.normal(0, np.sqrt(2 / before), (before, after)).astype(np.float32)
        bias = random.normal(0, 0.1, after).astype(np.float32)
        weights += [
            numpy_helper.from_array(matrix, f"weight{index}"),
            numpy_helper.from_array(bias, f"bias{index}"),
        ]
        is_last = index == len(widths) - 2
        sums = "scores" if is_last else f"sums{index}"
        nodes.append(helper.make_node("Gemm", [value, f"weight{index}", f"bias{index}"], [sums]))
        if not is_last:
            value = f"units{index}"
            nodes.append(helper.make_node("Relu", [sums], [value]))
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["rows", widths[0]])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", widths[-1]])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def numbers(shape: tuple[int, ...], decimals: int) -> list:
    """Lists of lists from a normal distribution, with few decimals so that bodies stay small."""
    return np.random.default_rng(SEED).normal(size=shape).round(decimals).tolist()


def describe(folder: Path, data: list) -> None:
    """Writes the requests, and what ONNX Runtime itself answers."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    array = np.asarray(data, dtype=np.float32)
    answers = session.run(None, {name: array})
    outputs = [output.name for output in session.get_outputs()]
    tensor = {
        "name": name,
        "shape": list(array.shape),
        "datatype": "FP32",
        "data": np.asarray(data).reshape(-1).tolist(),
    }
    files = {
        "request.json": {"data": data},
        "request-v2.json": {"inputs": [tensor]},
        "expected.json": {name: answer.reshape(-1).tolist() for name, answer in zip(outputs, answers)},
    }
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content, separators=(",", ":")))


def main(out: Path, repository: Path, convolution: Path) -> None:
    """Makes all of them."""
    for name, widths in NETWORKS.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        onnx.save(network(widths), out / name / "model.onnx")
        describe(out / name, numbers((1, widths[0]), decimals=4))
    for name, source in {
        "digits": repository / "models/digits/1/model.onnx",
        "convolution": convolution,
    }.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, out / name / "model.onnx")
    sample = repository / "models/digits/1/sample-request.json"
    describe(out / "digits", json.loads(sample.read_text())["data"])
    describe(out / "convolution", numbers(CONVOLUTION_INPUT, decimals=2))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
