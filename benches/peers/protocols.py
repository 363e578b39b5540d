"""What is sent to a server and what must come back: the two shapes of JSON that the servers speak."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOLERANCE = 1e-5

Outputs = dict[str, list[float]]


class Wrong(Exception):
    """An answer that is not ONNX Runtime's own."""


@dataclass(frozen=True)
class Protocol:
    """How a request is written and an answer read."""

    request_file: str
    outputs: Callable[[Any], Outputs]


def flat(value: Any) -> list[float]:
    """All numbers of lists of lists, in order."""
    if isinstance(value, list):
        return [number for inner in value for number in flat(inner)]
    return [value]


# {"data": [[..]]} -> {"output": [[..]]}
SCORE = Protocol("request.json", lambda answer: {name: flat(rows) for name, rows in answer.items()})
# The Open Inference Protocol, version 2, with JSON tensors.
V2 = Protocol(
    "request-v2.json",
    lambda answer: {output["name"]: flat(output["data"]) for output in answer["outputs"]},
)


def check(protocol: Protocol, answer: bytes | str, expected_file: Path) -> None:
    """Compares an answer with ONNX Runtime's own; `Wrong` says where they differ."""
    expected: Outputs = json.loads(expected_file.read_text())
    try:
        found = protocol.outputs(json.loads(answer))
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise Wrong(f"expected JSON outputs, found {answer[:80]!r} ({problem!r})") from problem
    if found.keys() != expected.keys():
        raise Wrong(f"expected the outputs {sorted(expected)}, found {sorted(found)}")
    for name, numbers in expected.items():
        if len(found[name]) != len(numbers):
            raise Wrong(f"{name}: expected {len(numbers)} numbers, found {len(found[name])}")
        for index, (ours, theirs) in enumerate(zip(numbers, found[name])):
            if not abs(ours - theirs) <= TOLERANCE * max(1.0, abs(ours)):
                raise Wrong(f"{name}[{index}]: expected {ours}, found {theirs}")
