"""The model behind every Python server: one ONNX Runtime session that uses the calling thread alone."""

import os

import numpy as np
import onnxruntime


class Model:
    """A model with one input, from the file that `PEER_MODEL` names."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        self.input = self.session.get_inputs()[0].name
        self.outputs = [output.name for output in self.session.get_outputs()]

    def run(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name."""
        return dict(zip(self.outputs, self.session.run(None, {self.input: numbers})))

    def score(self, data: list) -> dict[str, list]:
        """The same from lists to lists."""
        outputs = self.run(np.asarray(data, dtype=np.float32))
        return {name: numbers.tolist() for name, numbers in outputs.items()}


def workers() -> int:
    """Processes that the server may use for scoring: one for each core that it has."""
    return int(os.environ["PEER_WORKERS"])
