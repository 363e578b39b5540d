"""The Triton server that PyTriton packages, with a Python function as its model.

It batches what waits, up to 32 requests, unless an output of the model is a plain list: Triton takes that for none.
"""

import sys
from collections.abc import Callable

import numpy as np
from model import Model, workers
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def tensors(arguments: list, is_batched: bool) -> list[Tensor]:
    """What Triton must know of the model's inputs or outputs; a batch is no dimension of theirs."""
    return [
        Tensor(
            name=argument.name,
            dtype=DTYPES[argument.type],
            shape=tuple(
                length if isinstance(length, int) else -1 for length in argument.shape[1 if is_batched else 0 :]
            ),
        )
        for argument in arguments
    ]


def inference(model: Model, is_batched: bool) -> Callable:
    """The function that Triton calls."""

    @batch
    def infer_batch(**inputs: np.ndarray) -> dict[str, np.ndarray]:
        return model.run(inputs[model.input])

    def infer_each(requests: list) -> list[dict[str, np.ndarray]]:
        return [model.run(request[model.input]) for request in requests]

    return infer_batch if is_batched else infer_each


def main() -> None:
    """Serves until it is ended."""
    models = [Model() for _ in range(workers())]
    session = models[0].session
    is_batched = all(len(output.shape) > 1 for output in session.get_outputs())
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(sys.argv[1]),
        allow_grpc=False,
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="peer",
            infer_func=[inference(model, is_batched) for model in models],
            inputs=tensors(session.get_inputs(), is_batched),
            outputs=tensors(session.get_outputs(), is_batched),
            config=ModelConfig(batching=is_batched, max_batch_size=32),
        )
        triton.serve()


if __name__ == "__main__":
    main()
