"""A server that runs: what it was started for, how it is asked, and how it is loaded."""

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from places import HERE, MODELS, WORK
from protocols import SCORE, Protocol, check

# The longest that a server may take until it answers.
START_SECONDS_MAX = 90
# Of a request under load, in seconds; a slower one is an error.
REQUEST_SECONDS_MAX = 10


class NotStarted(Exception):
    """A server that does not answer; the text says why."""


class Failed(Exception):
    """A window that is not valid; the text says why."""


@dataclass(frozen=True)
class Setting:
    """What a server is started for."""

    model: str
    cores: list[int]
    isolated: bool
    folder: Path
    log: Path

    @property
    def model_file(self) -> Path:
        """The ONNX file."""
        return MODELS / self.model / "model.onnx"


@dataclass(frozen=True)
class Load:
    """How much is asked of a server at once, for how long, and from which cores."""

    connections: int
    seconds: int
    cores: list[int]


@dataclass(frozen=True)
class Window:
    """What a client saw in one stretch of load."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float


def core_list(cores: list[int]) -> str:
    """Cores as taskset takes them."""
    return ",".join(map(str, cores))


@dataclass
class Server:
    """A running HTTP server."""

    setting: Setting
    process: subprocess.Popen[str]
    port: int
    path: str
    protocol: Protocol = SCORE
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def request_file(self) -> Path:
        """The body that it is asked with."""
        return MODELS / self.setting.model / self.protocol.request_file

    def ask(self) -> bytes:
        """Sends the request once; the body of the answer."""
        headers = {"Content-Type": "application/json", **self.headers}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", self.path, self.request_file.read_bytes(), headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise NotStarted(f"answered {answer.status}: {content[:200].decode(errors='replace')}")
        return content

    def check(self) -> None:
        """Waits until the server answers, and compares the answer with ONNX Runtime's own."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                answer = self.ask()
                break
            except (OSError, http.client.HTTPException, NotStarted) as problem:
                if (code := self.process.poll()) is not None:
                    raise NotStarted(f"ended with {code}: {last_line(self.setting.log)}") from problem
                if time.monotonic() > deadline:
                    raise NotStarted(f"no answer in {START_SECONDS_MAX} s: {problem}") from problem
                time.sleep(0.1)
        check(self.protocol, answer, MODELS / self.setting.model / "expected.json")

    def window(self, load: Load) -> Window:
        """Loads the server with wrk; any request without a 2xx answer makes the window invalid."""
        headers = [text for pair in self.headers.items() for text in pair]
        command = ["taskset", "--cpu-list", core_list(load.cores), "wrk", "--threads", "1"]
        command += ["--connections", str(load.connections), "--duration", f"{load.seconds}s"]
        command += ["--timeout", f"{REQUEST_SECONDS_MAX}s", "--script", str(HERE / "load.lua")]
        command += [f"http://127.0.0.1:{self.port}{self.path}", "--", str(self.request_file), *headers]
        finished = subprocess.run(command, capture_output=True, text=True)
        if finished.returncode != 0:
            raise Failed(f"wrk ended with {finished.returncode}: {finished.stderr.strip()}")
        seen = json.loads(finished.stdout.splitlines()[-1])
        refused, broken = seen.pop("refused"), seen.pop("broken")
        if refused or broken or not seen["requests"]:
            raise Failed(f"of {seen['requests']} requests {refused} were refused and {broken} broken off")
        return Window(**seen)


def last_line(log: Path) -> str:
    """The end of a log, which mostly tells why a process ended."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it printed nothing"


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def spawn(command: Sequence[str | Path], setting: Setting, pipes: bool = False) -> subprocess.Popen[str]:
    """Starts a process on the setting's cores; its output goes to the log, or to pipes for a conversation."""
    variables = {
        **os.environ,
        # Caches and settings of a server stay in its own folder.
        "HOME": str(setting.folder),
        # But where serin unpacks its library, which it does once on a machine.
        "SERIN_CACHE": str(WORK / "serin-cache"),
        "ORT_DISABLE_TELEMETRY": "1",
        "BENTOML_DO_NOT_TRACK": "True",
        "PEER_MODEL": str(setting.model_file),
        "PEER_WORKERS": str(len(setting.cores)),
        "PYTHONPATH": str(HERE / "apps"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with setting.log.open("a") as log:
        return subprocess.Popen(
            ["taskset", "--cpu-list", core_list(setting.cores), *command],
            cwd=setting.folder,
            env=variables,
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else log,
            stderr=log,
            text=True,
        )
