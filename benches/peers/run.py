"""Measures serin beside its peers, over the wire: `python3 benches/peers/run.py`. See README.md beside this file.

First it prepares (wrk, virtual environments, builds, models), then it measures in a network namespace of its own,
where there is no network but loopback, and writes the tables and plots.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import machine
import measure
import prepare
from places import HERE, RESULTS, WORK, venv
from quiet import Patience
from servers import SERVERS

MODELS = ["tiny", "digits", "mlp256", "mlp25mb", "convolution", "mlp128mb"]
MISSING = WORK / "missing.json"


def choice(known: list[str]) -> Callable[[str], list[str]]:
    """Reads a list with commas of names that exist."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"expected names of {', '.join(known)}; found {name!r}")
        return names

    return parse


def numbers(text: str) -> list[int]:
    """Reads a list with commas of whole numbers."""
    return [int(word) for word in text.split(",")]


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one scenario, one repetition, one second")
    parser.add_argument("--models", type=choice(MODELS), default=MODELS)
    parser.add_argument("--servers", type=choice(list(SERVERS)), default=list(SERVERS))
    parser.add_argument("--scenarios", type=choice(list(measure.SCENARIOS)))
    parser.add_argument("--connections", type=numbers, default=[1, 8, 32])
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--patience", type=float, help="seconds to spend on waiting for a quiet machine, in all")
    parser.add_argument("--serin", type=Path, help="a release binary to measure instead of building one")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the tables and plots")
    parser.add_argument("--measure", choices=["isolated", "open"], help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    parsed.scenarios = parsed.scenarios or (["pinned"] if parsed.quick else list(measure.SCENARIOS))
    parsed.repeats = parsed.repeats or (1 if parsed.quick else 3)
    parsed.seconds = parsed.seconds or (1 if parsed.quick else 3)
    parsed.patience = (0 if parsed.quick else 600) if parsed.patience is None else parsed.patience
    return parsed


def in_isolation(command: list[str]) -> list[str] | None:
    """The command with no network but loopback, shared memory of its own, and an end that all its processes share.

    None where that is not allowed.
    """
    set_up = ["sh", "-c", 'ip link set lo up && mount -t tmpfs shm /dev/shm && exec "$@"', "sh"]
    namespaces = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    for unshare in (namespaces, [*namespaces, "--map-root-user"]):
        if shutil.which("unshare") and subprocess.run([*unshare, *set_up, "true"]).returncode == 0:
            return [*unshare, *set_up, *command]
    return None


def main() -> None:
    """Prepares, measures in a process of its own, and reports."""
    # Asked to end, it unwinds, so that what it started ends first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("asked to end"))
    asked = arguments()
    if asked.measure:
        measure_everything(asked)
        return
    MISSING.write_text(json.dumps(prepare.everything(asked.servers, asked.serin)))
    command = [sys.executable, str(HERE / "run.py"), *sys.argv[1:], "--measure"]
    subprocess.run(in_isolation([*command, "isolated"]) or [*command, "open"], check=True)
    subprocess.run([venv("tools") / "python", HERE / "report.py", asked.out], check=True)


def measure_everything(asked: argparse.Namespace) -> None:
    """Measures what was asked for, and writes it after each model and scenario."""
    extent = measure.Extent(
        asked.models, asked.servers, asked.scenarios, asked.connections, asked.repeats, asked.seconds
    )
    asked.out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": machine.facts(),
        "versions": machine.versions(asked.servers),
        "settings": {"repeats": asked.repeats, "seconds": asked.seconds},
        "rows": [],
    }
    missing, isolated = json.loads(MISSING.read_text()), asked.measure == "isolated"
    for row in measure.rows(extent, missing, isolated, Patience(asked.patience)):
        figure = f"{median(sample.requests_per_second for sample in row.samples):.0f}/s" if row.samples else ""
        print(row.model, row.scenario, row.connections, row.server, row.reason or figure, file=sys.stderr)
        result["rows"].append(row.as_json())
        write(asked.out / "peers.json", result)


def write(path: Path, result: dict) -> None:
    """One line for each row, so that two results can be compared line by line."""
    head = {name: value for name, value in result.items() if name != "rows"}
    rows = ",\n".join(json.dumps(row) for row in result["rows"])
    text = json.dumps(head, indent=1).removesuffix("\n}")
    path.write_text(f'{text},\n "rows": [\n{rows}\n]}}\n')


if __name__ == "__main__":
    main()
