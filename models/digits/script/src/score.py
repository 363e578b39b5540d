"""Version 1 of the digits model as a scoring script: its weights in a pickle, and Python that computes with them.

Needs no packages. Answers as `digits/1/model.onnx` does.
"""

import json
import math
import os
import pickle


def init():
    """Reads the model, once for each process."""
    global columns, biases, pixel_max
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "model.pkl"), "rb") as file:
        model = pickle.load(file)
    columns, biases, pixel_max = model["columns"], model["biases"], model["pixel_max"]


def run(data):
    """Answers one request: `{"data": [[64 pixels], ..]}`."""
    rows = [[pixel / pixel_max for pixel in row] for row in json.loads(data)["data"]]
    scores = [[scalar(column, row) + bias for column, bias in zip(columns, biases)] for row in rows]
    return {
        "label": [row.index(max(row)) for row in scores],
        "probabilities": [softmax(row) for row in scores],
    }


def scalar(one, other):
    """The scalar product of two rows of numbers."""
    if len(one) != len(other):
        raise ValueError("expected rows of %d pixels, found one of %d" % (len(one), len(other)))
    return sum(a * b for a, b in zip(one, other))


def softmax(scores):
    """Scores as probabilities."""
    most = max(scores)
    shares = [math.exp(score - most) for score in scores]
    whole = sum(shares)
    return [share / whole for share in shares]
