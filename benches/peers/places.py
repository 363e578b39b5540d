"""Where things are: the repository, and what the bench keeps below its target folder."""

from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
TARGET = REPOSITORY / "target"
WORK = TARGET / "peers"
MODELS = WORK / "models"
LOGS = WORK / "logs"
RESULTS = REPOSITORY / "benches" / "results"


def venv(name: str) -> Path:
    """Folder of the programs of a virtual environment."""
    return WORK / "venvs" / name / "bin"


def onnxruntime_library() -> Path:
    """The library that the Rust programs load: the one of the same wheel that the Python servers use."""
    found = sorted(WORK.glob("venvs/tools/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so.*"))
    if not found:
        raise FileNotFoundError(f"no ONNX Runtime library in the venv below {WORK}; prepare it first")
    return found[-1]
