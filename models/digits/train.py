"""Trains a version of the digits model and writes its folder.

    python3 -m venv /tmp/digits && /tmp/digits/bin/pip install -r models/digits/requirements.txt
    /tmp/digits/bin/python models/digits/1/make.py

The seeds and the split are fixed, so the held-out rows are the same bytes on every machine and the
accuracy comes out the same. The weights are the same bytes only with the pinned packages on the same
kind of processor, because sums of floats are taken in another order elsewhere.
"""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

HERE = pathlib.Path(__file__).parent
PIXEL_MAX = 16.0
TOLERANCE = 1e-4
TRAINERS = {
    1: (
        "multinomial logistic regression",
        lambda: LogisticRegression(max_iter=1000),
    ),
    2: (
        "network with one hidden layer of 64 rectified units",
        lambda: MLPClassifier((64,), alpha=1e-2, max_iter=600, random_state=7),
    ),
}


def layers(classifier):
    """Weights [in, out] and bias [out] of each layer, first to last."""
    if isinstance(classifier, LogisticRegression):
        return [(classifier.coef_.T, classifier.intercept_)]
    return list(zip(classifier.coefs_, classifier.intercepts_))


def graph(version, classifier):
    """Raw pixels in; label and probabilities out."""
    constants = [numpy_helper.from_array(np.float32(PIXEL_MAX), "pixel_max")]
    nodes = [helper.make_node("Div", ["data", "pixel_max"], ["layer0"])]
    stack = layers(classifier)
    for at, (weights, bias) in enumerate(stack, start=1):
        constants.append(numpy_helper.from_array(weights.astype(np.float32), f"weights{at}"))
        constants.append(numpy_helper.from_array(bias.astype(np.float32), f"bias{at}"))
        last = at == len(stack)
        out = "scores" if last else f"sum{at}"
        nodes.append(helper.make_node("Gemm", [f"layer{at - 1}", f"weights{at}", f"bias{at}"], [out]))
        if not last:
            nodes.append(helper.make_node("Relu", [out], [f"layer{at}"]))
    nodes.append(helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0))
    nodes.append(helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1))
    inputs = [helper.make_tensor_value_info("data", TensorProto.FLOAT, [None, 64])]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 10]),
    ]
    made = helper.make_graph(nodes, f"digits-{version}", inputs, outputs, constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def write_json(path, value):
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")


def make(version):
    """Trains, exports, measures the export on the held-out rows and writes every file."""
    folder = HERE / str(version)
    words, trainer = TRAINERS[version]
    pixels, labels = load_digits(return_X_y=True)
    train_x, held_x, train_y, held_y = train_test_split(
        pixels, labels, test_size=0.25, random_state=42, stratify=labels
    )
    classifier = trainer().fit(train_x / PIXEL_MAX, train_y)
    onnx.save(graph(version, classifier), folder / "model.onnx")

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    found, _ = session.run(None, {"data": held_x.astype(np.float32)})
    right, rows = int((found == held_y).sum()), len(held_y)
    print(f"digits {version}: {right} of {rows} held-out rows right, accuracy {right / rows:.4f}")

    # Both versions read these two rows right.
    sample = held_x[1:3].astype(int).tolist()
    label, probabilities = session.run(None, {"data": np.array(sample, np.float32)})
    write_json(folder / "sample-request.json", {"data": sample})
    response = {"label": label.tolist(), "probabilities": probabilities.tolist()}
    write_json(folder / "expected.json", {"tolerance": TOLERANCE, "response": response})
    with (HERE / "held-out.jsonl").open("w") as lines:
        for row, digit in zip(held_x.astype(int).tolist(), held_y.tolist()):
            lines.write(json.dumps({"data": [row], "label": digit}, separators=(",", ":")) + "\n")
    (folder / "model.yml").write_text(
        f"""name: digits
version: {version}
description: Reads a handwritten digit from 8 x 8 pixels ({words}).
path: model.onnx
inputs:
  - name: data
    datatype: FP32
    shape: [-1, 64]   # rows of pixels from 0 (white) to 16 (black)
outputs:
  - name: label
    datatype: INT64
    shape: [-1]
  - name: probabilities
    datatype: FP32
    shape: [-1, 10]
accuracy: {right / rows:.4f}   # {right} of the {rows} rows of ../held-out.jsonl, measured on this model.onnx
training:
  data: scikit-learn's digits, {len(train_y)} rows; the {rows} held-out rows took no part
  method: {words}
  script: make.py
"""
    )
