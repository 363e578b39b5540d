"""What the kernel says of processes: processor time and memory, read from /proc."""

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Memory:
    """Memory of several processes together, in MiB."""

    pss: float
    rss: float


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the third on; none when the process has gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_seconds(pids: list[int]) -> float:
    """Processor time that these processes have used, their ended children aside."""
    stats = filter(None, map(_stat, pids))
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / TICKS_PER_SECOND


def machine_cpu_seconds() -> float:
    """Processor time that the whole machine has used."""
    fields = (PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, hardware, software, *_ = map(int, fields)
    return (user + nice + system + hardware + software) / TICKS_PER_SECOND


def memory(pids: list[int]) -> Memory:
    """Memory that these processes hold now."""
    totals = {"Pss": 0, "Rss": 0}
    for pid in pids:
        try:
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for line in lines:
            name, _, rest = line.partition(":")
            if name in totals:
                totals[name] += int(rest.split()[0])
    return Memory(pss=totals["Pss"] / 1024, rss=totals["Rss"] / 1024)


def stop(process: subprocess.Popen[str], patience: float = 15) -> None:
    """Ends a process and its descendants, first by asking."""
    descendants = tree(process.pid)[1:]
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in descendants:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
