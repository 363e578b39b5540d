"""Scoring script of azureml-inference-server-http."""

import json

from model import Model


def init() -> None:
    """Called once in each worker."""
    global model
    model = Model()


def run(raw_data: str) -> dict[str, list]:
    """Called for each request, with its body."""
    return model.score(json.loads(raw_data)["data"])
