"""The Triton server that PyTriton packages, with a Python function as its model. Batches what waits, up to 32 requests."""

import sys
from collections.abc import Callable

import numpy as np
from model import Model, workers
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def tensors(arguments: list) -> list[Tensor]:
    """What Triton must know of the model's inputs or outputs; the first dimension is the batch."""
    return [
        Tensor(
            name=argument.name,
            dtype=DTYPES[argument.type],
            shape=tuple(length if isinstance(length, int) else -1 for length in argument.shape[1:]),
        )
        for argument in arguments
    ]


def inference(model: Model) -> Callable[..., dict[str, np.ndarray]]:
    """The function that Triton calls."""

    @batch
    def infer(**inputs: np.ndarray) -> dict[str, np.ndarray]:
        return model.run(inputs[model.input])

    return infer


def main() -> None:
    """Serves until it is ended."""
    models = [Model() for _ in range(workers())]
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(sys.argv[1]),
        allow_grpc=False,
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="peer",
            infer_func=[inference(model) for model in models],
            inputs=tensors(models[0].session.get_inputs()),
            outputs=tensors(models[0].session.get_outputs()),
            config=ModelConfig(max_batch_size=32),
        )
        triton.serve()


if __name__ == "__main__":
    main()
