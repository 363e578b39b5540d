"""The measuring: the servers of a model and a scenario are started, checked, and loaded in turns, window by window."""

import contextlib
import resource
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, fields

import processes
from limit import Limit
from places import LOGS, WORK
from protocols import Wrong
from quiet import NOISE_MAX, Patience
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


@dataclass(frozen=True)
class Sample:
    """What was measured in one window."""

    requests_per_second: float
    p50_us: float
    p99_us: float
    server_cpu_us_per_request: float
    # Processor time that neither the server nor the load used, in cores: other programs.
    other_cores_used: float
    pss_mib: float
    rss_mib: float


@dataclass
class Row:
    """One server under one load: a sample for each repetition, or the reason why there is none."""

    model: str
    scenario: str
    connections: int
    server: str
    reason: str | None = None
    samples: list[Sample] = field(default_factory=list)

    def as_json(self) -> dict:
        """Each figure as a list, one number a repetition; or the reason."""
        row = {name: value for name, value in vars(self).items() if name not in ("samples", "reason")}
        if self.reason:
            return {**row, "reason": self.reason}
        names = [figure.name for figure in fields(Sample)]
        return {**row, **{name: [getattr(sample, name) for sample in self.samples] for name in names}}


def children_cpu_seconds() -> float:
    """Processor time of the children that have ended, such as wrk."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def sample(server: Limit | Server, load: Load) -> Sample:
    """Loads a server once."""
    pids = processes.tree(server.process.pid)
    before = processes.cpu_seconds(pids), processes.machine_cpu_seconds(), children_cpu_seconds()
    window = server.window(load)
    after = processes.cpu_seconds(pids), processes.machine_cpu_seconds(), children_cpu_seconds()
    served, machine, loading = (end - start for start, end in zip(before, after))
    memory = processes.memory(pids)
    return Sample(
        requests_per_second=round(window.requests / window.seconds, 1),
        p50_us=round(window.p50_us, 1),
        p99_us=round(window.p99_us, 1),
        server_cpu_us_per_request=round(served / window.requests * 1e6, 1),
        other_cores_used=round(max(0.0, machine - served - loading) / window.seconds, 2),
        pss_mib=round(memory.pss, 1),
        rss_mib=round(memory.rss, 1),
    )


def quiet_sample(server: Limit | Server, load: Load, patience: Patience) -> Sample:
    """A sample; where other programs disturbed it, the least disturbed of as many as the patience lasts for."""
    best = sample(server, load)
    while best.other_cores_used > NOISE_MAX and patience.wait_until_quiet() and patience.spend(load.seconds):
        best = min(best, sample(server, load), key=lambda taken: taken.other_cores_used)
    return best


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


def rows(extent: Extent, missing: dict[str, str], isolated: bool, patience: Patience) -> Iterator[Row]:
    """Measures everything; the rows of one table come together."""
    for model in extent.models:
        for scenario in extent.scenarios:
            reasons = dict(missing)
            with contextlib.ExitStack() as running:
                servers = start_all(extent.servers, model, scenario, isolated, reasons, running)
                for connections in extent.connections:
                    table = [Row(model, scenario, connections, name, reasons.get(name)) for name in extent.servers]
                    take_turns(extent, servers, table, patience)
                    yield from table


def start_all(
    names: list[str],
    model: str,
    scenario: str,
    isolated: bool,
    reasons: dict[str, str],
    running: contextlib.ExitStack,
) -> dict[str, Limit | Server]:
    """Starts the servers that can be had. `reasons` says of a server why it is not there, and grows."""
    servers = {}
    for name in names:
        if name in reasons:
            continue
        try:
            servers[name] = start(name, setting_of(model, scenario, name, isolated), running)
        except Wrong as problem:
            reasons[name] = f"wrong answer: {problem}"
        except (NotStarted, OSError) as problem:
            reasons[name] = f"not started: {problem}"
    return servers


def take_turns(extent: Extent, servers: dict[str, Limit | Server], table: list[Row], patience: Patience) -> None:
    """Warms all servers up, then loads one after the other, as often as there are repetitions."""
    for repetition in range(-1, extent.repeats):
        for row in table:
            if row.reason:
                continue
            server, cores = servers[row.server], SCENARIOS[row.scenario].load_cores
            try:
                if repetition < 0:
                    server.window(Load(row.connections, WARM_UP_SECONDS, cores))
                else:
                    load = Load(row.connections, extent.seconds, cores)
                    row.samples.append(quiet_sample(server, load, patience))
            except (Failed, OSError) as problem:
                row.reason = f"failed under load: {problem}"
