"""A script without decorations: the case in the body says what it does."""

import json
import math
import os
import sys

import numpy

counted = 0


def init():
    global counted
    counted = 0


class Strange:
    """Something that has no JSON form."""


async def later():
    return 1


def cases():
    return {
        "text": lambda: 'a "text", größer',
        "number": lambda: 1.5,
        "nothing": lambda: None,
        "true": lambda: True,
        "list": lambda: [1, 2.0, None, "x", [True]],
        "tuple": lambda: (1, 2),
        "dictionary": lambda: {"a": [1, 2], "b": {"c": "d"}, 3: 4, None: 5},
        "nan": lambda: [math.nan, math.inf, -math.inf],
        "emoji": lambda: "\U0001f600\ud800",
        "numpy float64": lambda: numpy.float64(1.5),
        "numpy float32": lambda: numpy.float32(1.5),
        "numpy array": lambda: numpy.arange(3),
        "numpy list": lambda: numpy.arange(3).tolist(),
        "bytes": lambda: b"bytes",
        "set": lambda: {1},
        "object": lambda: Strange(),
        "coroutine": later,
        "generator": lambda: (number for number in range(3)),
        "circle": circle,
        "deep": deep,
        "large": lambda: "x" * 3_000_000,
        "raise": lambda: 1 / 0,
        "away": away,
        "recursion": recursion,
        "exit": lambda: sys.exit(3),
        "exit silently": lambda: sys.exit(),
        "interrupt": interrupt,
        "folder": lambda: os.path.basename(os.getcwd()),
        "module": lambda: [__name__, cases.__module__],
        "move": move,
        "move back": lambda: os.chdir(os.path.dirname(__file__)),
        "count": count,
    }


def circle():
    whole = []
    whole.append(whole)
    return whole


def deep():
    whole = []
    for _ in range(100_000):
        whole = [whole]
    return whole


def away():
    raise ConnectionError("a service that the script asks is away")


def recursion():
    return recursion()


def interrupt():
    raise KeyboardInterrupt


def move():
    os.makedirs("elsewhere", exist_ok=True)
    os.chdir("elsewhere")
    return os.path.basename(os.getcwd())


def count():
    global counted
    counted += 1
    return counted


def run(data):
    try:
        case = cases()[json.loads(data)["case"]]
    except (ValueError, TypeError, KeyError):
        return {"got": data, "type": type(data).__name__}
    return case()
