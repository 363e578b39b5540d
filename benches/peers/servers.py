"""How each server is started on loopback, and where it is asked."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import processes
from limit import Limit
from places import HERE, TARGET, WORK, onnxruntime_library, venv
from protocols import V2
from server import START_SECONDS_MAX, NotStarted, Server, Setting, free_port, last_line, spawn

RUST = TARGET / "release"
SERIN = WORK / "serin"


def limit(setting: Setting) -> Limit:
    """ONNX Runtime in a loop, one thread for each core."""
    cores = ",".join(map(str, setting.cores))
    model = setting.model_file
    command: list[str | Path] = [
        RUST / "limit",
        onnxruntime_library(),
        model,
        model.parent / "request.json",
        "--cores",
        cores,
    ]
    return Limit(setting, spawn(command, setting, pipes=True))


def naive(setting: Setting) -> Server:
    """The naive server: axum, typed serde, the model in the handler."""
    port = free_port()
    command: list[str | Path] = [RUST / "naive", onnxruntime_library(), setting.model_file, "--port", str(port)]
    return Server(setting, spawn(command, setting), port, "/score")


def serin(setting: Setting) -> Server:
    """serin with one endpoint that asks for keys, and one deployment of one instance."""
    return serin_with(
        setting,
        f"name: blue\nendpoint_name: bench\nmodel: {{path: {setting.model_file}}}\ninstance_type: bench\n"
        "instance_count: 1\nrequest_settings:\n  max_concurrent_requests_per_instance: 64\n",
    )


def serin_with(setting: Setting, deployment_text: str) -> Server:
    """serin with one endpoint that asks for keys, and this deployment."""
    port = free_port()
    skus, deployment = setting.folder / "skus.yml", setting.folder / "deployment.yml"
    skus.write_text(f"skus:\n  bench: {{vcpus: {len(setting.cores)}, memory_gib: 4}}\n")
    deployment.write_text(deployment_text)
    (setting.folder / "endpoint.yml").write_text("name: bench\nauth_mode: key\n")
    data = setting.folder / "data"

    def command(*arguments: str | Path) -> str:
        """Runs a command of serin against the server; what it prints."""
        finished = subprocess.run(
            [SERIN, *arguments, "--data", data, "--only-show-errors"],
            cwd=setting.folder,
            capture_output=True,
            text=True,
        )
        if finished.returncode != 0:
            raise NotStarted(f"serin {arguments[0]} {arguments[1]}: {finished.stderr.strip()}")
        return finished.stdout

    process = spawn([SERIN, "serve", "--port", str(port), "--data", data, "--skus", skus], setting)
    try:
        await_file(data / "server.json", process, setting)
        command("endpoint", "create", "--file", "endpoint.yml")
        command("online-deployment", "create", "--file", deployment)
        command("endpoint", "update", "--name", "bench", "--traffic", "blue=100")
        key = json.loads(command("endpoint", "get-credentials", "--name", "bench"))["primaryKey"]
    except BaseException:
        processes.stop(process)
        raise
    headers = {"Authorization": f"Bearer {key}"}
    return Server(setting, process, port, "/endpoints/bench/score", headers=headers)


def await_file(path: Path, process: subprocess.Popen[str], setting: Setting) -> None:
    """Waits until a process that starts has written a file."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise NotStarted(f"not ready: {last_line(setting.log)}")
        time.sleep(0.02)


def azureml(setting: Setting) -> Server:
    """Azure's own inference server. It binds all interfaces and has no setting for it."""
    if not setting.isolated:
        raise NotStarted("it listens on all interfaces, and no network namespace could be made for it")
    port = free_port()
    command: list[str | Path] = [
        venv("azureml") / "azmlinfsrv",
        "--entry_script",
        HERE / "apps" / "azureml_app.py",
        "--port",
        str(port),
        "--worker_count",
        str(len(setting.cores)),
    ]
    return Server(setting, spawn(command, setting), port, "/score")


def fastapi(setting: Setting) -> Server:
    """FastAPI under uvicorn."""
    port = free_port()
    command: list[str | Path] = [
        venv("fastapi") / "uvicorn",
        "fastapi_app:app",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-access-log",
        "--log-level",
        "warning",
        "--workers",
        str(len(setting.cores)),
    ]
    return Server(setting, spawn(command, setting), port, "/score")


def bentoml(setting: Setting) -> Server:
    """BentoML."""
    port = free_port()
    command: list[str | Path] = [
        venv("bentoml") / "bentoml",
        "serve",
        "bentoml_app:Service",
        "--working-dir",
        HERE / "apps",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    return Server(setting, spawn(command, setting), port, "/score")


def mlserver(setting: Setting) -> Server:
    """MLServer with a custom runtime; with one core its model runs in the server's own process."""
    port, workers = free_port(), len(setting.cores)
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_endpoint": None,
        "debug": False,
        "parallel_workers": workers if workers > 1 else 0,
    }
    model = {"name": "peer", "implementation": "mlserver_app.OnnxModel"}
    (setting.folder / "settings.json").write_text(json.dumps(settings))
    (setting.folder / "model-settings.json").write_text(json.dumps(model))
    process = spawn([venv("mlserver") / "mlserver", "start", setting.folder], setting)
    return Server(setting, process, port, "/v2/models/peer/infer", V2)


def triton(setting: Setting) -> Server:
    """The Triton server inside PyTriton, with a Python function as its model."""
    port = free_port()
    command: list[str | Path] = [venv("triton") / "python", HERE / "apps" / "triton_app.py", str(port)]
    return Server(setting, spawn(command, setting), port, "/v2/models/peer/infer", V2)


# By name, in the order of the tables.
SERVERS: dict[str, Callable[[Setting], Limit | Server]] = {
    "limit": limit,
    "naive": naive,
    "serin": serin,
    "azureml": azureml,
    "fastapi": fastapi,
    "mlserver": mlserver,
    "bentoml": bentoml,
    "triton": triton,
}
