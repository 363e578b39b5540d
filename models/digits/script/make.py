"""Makes model.pkl of the weights of version 1, with the packages of ../requirements.txt: `python make.py`."""

import pathlib
import pickle

import onnx
from onnx import numpy_helper

here = pathlib.Path(__file__).parent
graph = onnx.load(here.parent / "1" / "model.onnx").graph
arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
model = {
    "columns": arrays["weights1"].T.tolist(),
    "biases": arrays["bias1"].tolist(),
    "pixel_max": float(arrays["pixel_max"]),
}
# A protocol that every Python 3 reads.
(here / "model.pkl").write_bytes(pickle.dumps(model, protocol=3))
