"""A BentoML service; the method is a coroutine, as a thread pool would only add a hand-off."""

from typing import Any

import bentoml
import numpy as np
from model import Model, workers


@bentoml.service(workers=workers())
class Service:
    """Scores at `/score`."""

    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api
    async def score(self, data: np.ndarray) -> dict[str, Any]:
        """Outputs by name."""
        outputs = self.model.run(data.astype(np.float32, copy=False))
        return {name: numbers.tolist() for name, numbers in outputs.items()}
