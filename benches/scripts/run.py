"""Measures a trivial scoring script behind serin and behind Azure's inference server, in turns: `python3 benches/scripts/run.py`.

Server on one core, wrk on the other, a network namespace of its own; the same script and the same Python for both. Prints a table.
"""

import argparse
import contextlib
import subprocess
import sys
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peers"))

import measure  # noqa: E402
import prepare  # noqa: E402
import processes  # noqa: E402
import run as peers  # noqa: E402
import servers  # noqa: E402
from places import venv  # noqa: E402
from protocols import SCORE  # noqa: E402
from server import Load, NotStarted, Server, Setting, free_port, spawn  # noqa: E402

BODY = '{"data": [1, 2, 3, 4]}'
CONNECTIONS = [1, 8, 32]


class ScriptServer(Server):
    """A server that is asked with the tiny body."""

    @property
    def request_file(self) -> Path:
        """The body."""
        return self.setting.folder / "request.json"

    def check(self) -> None:
        """Waits until the script answers."""
        for _ in range(600):
            with contextlib.suppress(OSError, NotStarted):
                if b"4" in self.ask():
                    return
            if self.process.poll() is not None:
                break
            subprocess.run(["sleep", "0.05"], check=True)
        raise NotStarted(f"see {self.setting.log}")


def azureml(setting: Setting) -> ScriptServer:
    """Azure's inference server with one worker."""
    port = free_port()
    command = [venv("azureml") / "azmlinfsrv", "--entry_script", HERE / "score.py", "--port", str(port)]
    return ScriptServer(setting, spawn([*command, "--worker_count", "1"], setting), port, "/score")


def serin(setting: Setting) -> ScriptServer:
    """serin with one lane."""
    code, model = setting.folder / "code", setting.folder / "model.txt"
    code.mkdir()
    (code / "score.py").write_text((HERE / "score.py").read_text())
    model.write_text("nothing")
    deployment = (
        f"name: blue\nendpoint_name: bench\nmodel: {{path: {model}}}\ninstance_type: bench\ninstance_count: 1\n"
        f"code_configuration: {{code: {code}, scoring_script: score.py}}\n"
        "request_settings: {max_concurrent_requests_per_instance: 64, lanes: 1}\n"
    )
    plain = servers.serin_with(setting, deployment)
    return ScriptServer(setting, plain.process, plain.port, plain.path, SCORE, plain.headers)


def rows(seconds: int, repeats: int) -> None:
    """Measures both and prints the table."""
    with contextlib.ExitStack() as running:
        started = {}
        for name, begin in {"azureml": azureml, "serin": serin}.items():
            setting = measure.setting_of("script", "pinned", name, True)
            (setting.folder / "request.json").write_text(BODY)
            started[name] = begin(setting)
            running.callback(processes.stop, started[name].process)
            started[name].check()
        print("| connections | azmlinfsrv | serin | ratio | p50: azmlinfsrv / serin | p99 |")
        print("|--:|--:|--:|--:|--:|--:|")
        for connections in CONNECTIONS:
            windows: dict[str, list] = {name: [] for name in started}
            for _ in range(repeats):
                for name, server in started.items():
                    windows[name].append(server.window(Load(connections, seconds, [1])))
            rate, p50, p99 = (
                {name: median(figure(window) for window in seen) for name, seen in windows.items()}
                for figure in (
                    lambda window: window.requests / window.seconds,
                    lambda window: window.p50_us,
                    lambda window: window.p99_us,
                )
            )
            print(
                f"| {connections} | {rate['azureml']:.0f}/s | {rate['serin']:.0f}/s | {rate['serin'] / rate['azureml']:.1f} "
                f"| {p50['azureml']:.0f} us / {p50['serin']:.0f} us | {p99['azureml']:.0f} us / {p99['serin']:.0f} us |",
                flush=True,
            )


def main() -> None:
    """Prepares, and measures in a namespace of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serin", type=Path, help="a release binary to measure instead of building one")
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        return rows(asked.seconds, asked.repeats)
    missing = prepare.everything(["azureml", "serin"], asked.serin)
    if missing:
        sys.exit(f"cannot measure: {missing}")
    isolated = peers.in_isolation([sys.executable, str(HERE / "run.py"), *sys.argv[1:], "--measure"])
    if isolated is None:
        sys.exit("no network namespace can be made here, and Azure's server listens on all interfaces")
    subprocess.run(isolated, check=True)


if __name__ == "__main__":
    main()
