"""The measuring: all servers of a model and a scenario are started and checked, then loaded in turns, window by window."""

import contextlib
import resource
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import processes
from limit import Limit
from places import LOGS, WORK
from protocols import Wrong
from server import Failed, Load, NotStarted, Server, Setting
from servers import SERVERS

WARM_UP_SECONDS = 1


@dataclass(frozen=True)
class Scenario:
    """Who has which cores."""

    server_cores: list[int]
    load_cores: list[int]


SCENARIOS = {
    "pinned": Scenario(server_cores=[0], load_cores=[1]),
    "shared": Scenario(server_cores=[0, 1], load_cores=[0, 1]),
}


@dataclass(frozen=True)
class Extent:
    """What of all that could be measured is measured."""

    models: list[str]
    servers: list[str]
    scenarios: list[str]
    connections: list[int]
    repeats: int
    seconds: int


@dataclass
class Row:
    """One server under one load: a figure of each kind for each repetition, or the reason why there are none."""

    model: str
    scenario: str
    connections: int
    server: str
    requests_per_second: list[float] = field(default_factory=list)
    p50_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    server_cpu_us_per_request: list[float] = field(default_factory=list)
    # Processor time that neither the server nor the load used, in cores. Noise, mostly of other programs.
    other_cores_used: list[float] = field(default_factory=list)
    pss_mib: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    reason: str | None = None


def children_cpu_seconds() -> float:
    """Processor time of the children that have ended, such as wrk."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(server: Limit | Server, load: Load, row: Row) -> None:
    """Adds one repetition to the row."""
    pids = processes.tree(server.process.pid)
    before = processes.cpu_seconds(pids), processes.machine_cpu_seconds(), children_cpu_seconds()
    window = server.window(load)
    after = processes.cpu_seconds(pids), processes.machine_cpu_seconds(), children_cpu_seconds()
    served, machine, loading = (end - start for start, end in zip(before, after))
    memory = processes.memory(pids)
    others = max(0.0, machine - served - loading) / window.seconds
    row.requests_per_second.append(round(window.requests / window.seconds, 1))
    row.p50_us.append(round(window.p50_us, 1))
    row.p99_us.append(round(window.p99_us, 1))
    row.server_cpu_us_per_request.append(round(served / window.requests * 1e6, 1))
    row.other_cores_used.append(round(others, 2))
    row.pss_mib.append(round(memory.pss, 1))
    row.rss_mib.append(round(memory.rss, 1))


def start(name: str, setting: Setting, running: contextlib.ExitStack) -> Limit | Server:
    """Starts a server and checks its answer; it ends with the stack."""
    server = SERVERS[name](setting)
    running.callback(processes.stop, server.process)
    server.check()
    return server


def setting_of(model: str, scenario: str, server: str, isolated: bool) -> Setting:
    """A setting with an empty folder and an empty log."""
    folder = WORK / "running" / server
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = LOGS / f"{model}-{scenario}-{server}.log"
    log.write_text("")
    return Setting(model, SCENARIOS[scenario].server_cores, isolated, folder, log)


def rows(extent: Extent, missing: dict[str, str], isolated: bool) -> Iterator[Row]:
    """Measures everything; the rows of each model and scenario come when they are complete."""
    for model in extent.models:
        for scenario in extent.scenarios:
            yield from _rows(extent, model, scenario, dict(missing), isolated)


def _rows(extent: Extent, model: str, scenario: str, reasons: dict[str, str], isolated: bool) -> Iterator[Row]:
    """The rows of one model and scenario. `reasons` says of servers why they are not measured, and grows."""
    with contextlib.ExitStack() as running:
        servers = {}
        for name in extent.servers:
            if name in reasons:
                continue
            try:
                servers[name] = start(name, setting_of(model, scenario, name, isolated), running)
            except (NotStarted, Wrong, OSError) as problem:
                kind = "wrong answer" if isinstance(problem, Wrong) else "not started"
                reasons[name] = f"{kind}: {problem}"
                print(f"{model} {scenario} {name}: {reasons[name]}", file=sys.stderr)
        for connections in extent.connections:
            table = {
                name: Row(model, scenario, connections, name, reason=reasons.get(name)) for name in extent.servers
            }
            _turns(extent, servers, table)
            yield from table.values()


def _turns(extent: Extent, servers: dict[str, Limit | Server], table: dict[str, Row]) -> None:
    """Warms all servers up, then loads one after the other, as often as there are repetitions."""
    for repeat in range(-1, extent.repeats):
        for name, server in servers.items():
            row = table[name]
            if row.reason:
                continue
            cores = SCENARIOS[row.scenario].load_cores
            seconds = WARM_UP_SECONDS if repeat < 0 else extent.seconds
            load = Load(row.connections, seconds, cores)
            try:
                if repeat < 0:
                    server.window(load)
                else:
                    measure(server, load, row)
            except (Failed, OSError) as problem:
                row.reason = f"failed under load: {problem}"
            report = row.reason or (row.requests_per_second[-1:] or ["warm"])[0]
            print(f"{row.model} {row.scenario} {row.connections} {name}: {report}", file=sys.stderr)


def as_json(row: Row) -> dict:
    """The row without what it lacks."""
    return {name: value for name, value in asdict(row).items() if value not in (None, [])}
