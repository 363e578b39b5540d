"""Plots of measured rows as SVG: a panel for each model, a dot for each server; readable on light and dark ground."""

from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402  (the backend is chosen first)
from matplotlib.axes import Axes  # noqa: E402

FILES = {
    "peers-throughput.svg": "Requests per second",
    "peers-p99.svg": "99th percentile of latency",
}
CONNECTIONS = 8
INK = "#7f7f7f"
COLOURS = {"serin": "#d9822b", "limit": "#a8a8a8", "naive": "#4c9a7d"}
OTHERS = "#5b84b1"


def panel(axes: Axes, model: str, dots: dict[str, float], unit: str) -> None:
    """The dots of one model, the first server on top, each with its number. No bars: a logarithmic axis has no zero."""
    colours = [COLOURS.get(server, OTHERS) for server in dots]
    axes.scatter(list(dots.values()), list(dots), color=colours, s=50, zorder=2)
    for position, value in enumerate(dots.values()):
        axes.text(value * 1.25, position, f"{value:,.0f}", va="center", fontsize=8, color=INK)
    axes.set_title(model, fontsize=10, color=INK)
    axes.set_xlabel(unit, fontsize=8, color=INK)
    axes.set_xscale("log")
    axes.set_xlim(min(dots.values()) / 2, max(dots.values()) * 6)
    axes.set_ylim(-0.6, len(dots) - 0.4)
    axes.grid(color=INK, alpha=0.25, linewidth=0.6)
    axes.minorticks_off()
    axes.invert_yaxis()
    axes.tick_params(colors=INK, labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)


def plot(result: dict, field: str, unit: str, servers: list[str], path: Path) -> None:
    """One file: a panel for each model, in the first scenario, with one number of connections."""
    scenario = result["rows"][0]["scenario"]
    connections = nearest([row["connections"] for row in result["rows"]])
    panels: dict[str, dict[str, float]] = {}
    for row in result["rows"]:
        is_shown = (row["scenario"], row["connections"]) == (scenario, connections)
        if is_shown and row["server"] in servers and "reason" not in row:
            panels.setdefault(row["model"], {})[row["server"]] = median(row[field])
    if not panels:
        return
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure, grid = pyplot.subplots(lines, columns, figsize=(4.2 * columns, 2.6 * lines), squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (model, dots) in zip(grid.flat, panels.items()):
        panel(axes, model, dots, f"{unit}, {scenario}, {connections} connections")
    figure.tight_layout()
    figure.savefig(path, transparent=True, metadata={"Date": None})
    pyplot.close(figure)


def nearest(connections: list[int]) -> int:
    """The number of connections that the plots are about."""
    return min(connections, key=lambda number: abs(number - CONNECTIONS))


def write(result: dict, folder: Path) -> None:
    """All plots."""
    # Text as text keeps the files small; the seed keeps their ids.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "serin", "font.family": "sans-serif"})
    servers = list(dict.fromkeys(row["server"] for row in result["rows"]))
    throughput, p99 = (folder / file for file in FILES)
    plot(result, "requests_per_second", "requests/s", servers, throughput)
    plot(result, "p99_us", "p99 in µs", [server for server in servers if server != "limit"], p99)
