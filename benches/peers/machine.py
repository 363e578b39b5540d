"""What the figures were measured on, and with which versions."""

import os
import platform
import re
import subprocess
from pathlib import Path

from places import REPOSITORY, WORK, venv
from prepare import PACKAGES

# Of each environment, the package that is the server; Triton says of itself which one it is.
SERVER_PACKAGES = {
    "azureml": "azureml-inference-server-http",
    "fastapi": "fastapi",
    "mlserver": "mlserver",
    "bentoml": "bentoml",
    "triton": "nvidia-pytriton",
}


def printed(*command: str | Path) -> str:
    """What a command prints on both outputs; nothing when it cannot be run."""
    try:
        finished = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError:
        return ""
    return finished.stdout.strip()


def first_match(pattern: str, text: str) -> str:
    """The group of the first match; a question mark when there is none."""
    found = re.search(pattern, text, re.MULTILINE)
    return found.group(1).strip() if found else "?"


def facts() -> dict[str, str]:
    """Processor, memory and system."""
    memory_kib = int(first_match(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text()))
    return {
        "processor": first_match(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text()),
        "cores": str(os.cpu_count()),
        "memory": f"{memory_kib / 2**20:.0f} GiB",
        "system": first_match(r'^PRETTY_NAME="(.+)"', Path("/etc/os-release").read_text()),
        "kernel": platform.release(),
    }


def versions(servers: list[str]) -> dict[str, str]:
    """Of serin, of the tools, and of each server's package."""
    found = {
        "serin": first_match(r"(\d\S+)", printed(WORK / "serin", "--version")),
        "repository": printed("git", "describe", "--always", "--dirty"),
        "onnxruntime": package("tools", "onnxruntime"),
        "rustc": first_match(r"^rustc (\S+)", printed("rustc", "--version")),
        "wrk": first_match(r"wrk \S*?([\d.]+\d)", printed("wrk", "--version")),
        "python": platform.python_version(),
    }
    for server in servers:
        if server in PACKAGES and server in SERVER_PACKAGES:
            name = SERVER_PACKAGES[server]
            found[name] = package(server, name)
    return found


def package(environment: str, name: str) -> str:
    """The version of an installed package."""
    code = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"
    return printed(venv(environment) / "python", "-c", code, name) or "?"
