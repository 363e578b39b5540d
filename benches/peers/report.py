"""Tables and plots from measured rows.

    report.py FOLDER

reads `peers.json` in the folder and writes `peers.md` and the plots beside it.
"""

import json
import sys
from pathlib import Path
from statistics import median
from typing import TypeGuard

import plots
from quiet import NOISE_MAX

TITLES = {
    "limit": "limit (`session.run` in a loop)",
    "naive": "naive (axum + `ort`)",
    "serin": "**serin**",
    "azureml": "azureml-inference-server-http",
    "fastapi": "FastAPI + uvicorn",
    "mlserver": "MLServer",
    "bentoml": "BentoML",
    "triton": "Triton (PyTriton, Python function)",
}
MODELS = {
    "tiny": "MLP 4-8-3",
    "digits": "the digits model of this repository, two rows a request",
    "mlp256": "MLP, three layers of 256 x 256",
    "mlp25mb": "MLP, 25 MB of weights",
    "convolution": "text direction classifier of RapidOCR, 3 x 48 x 192",
    "mlp128mb": "MLP, 137 MB of weights",
}
SCENARIOS = {
    "pinned": "server on core 0, load on core 1",
    "shared": "server and load on both cores",
}
DISTURBED = " \\*"

Result = dict
Row = dict


def groups(result: Result) -> list[tuple[str, str]]:
    """Models and scenarios that were measured, in order."""
    return list(dict.fromkeys((row["model"], row["scenario"]) for row in result["rows"]))


def names(result: Result, field: str) -> list:
    """Different values of a field, in order."""
    return list(dict.fromkeys(row[field] for row in result["rows"]))


def find(result: Result, model: str, scenario: str, connections: int, server: str) -> Row | None:
    """The row of one server under one load."""
    wanted = (model, scenario, connections, server)
    for row in result["rows"]:
        if (row["model"], row["scenario"], row["connections"], row["server"]) == wanted:
            return row
    return None


def is_measured(row: Row | None) -> TypeGuard[Row]:
    """Whether a row has figures."""
    return row is not None and "reason" not in row


def count(number: float) -> str:
    """A number with separators, or with a digit behind the point when it is small."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}"


def throughput(row: Row) -> str:
    """Requests a second: median, least and most."""
    figures = row["requests_per_second"]
    mark = DISTURBED if median(row["other_cores_used"]) > NOISE_MAX else ""
    return f"{count(median(figures))} ({count(min(figures))} to {count(max(figures))}){mark}"


def latency(row: Row) -> str:
    """Median of the medians and of the 99th percentiles, in microseconds."""
    return f"{count(median(row['p50_us']))} / {count(median(row['p99_us']))}"


def table(header: list[str], lines: list[list[str]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *lines)] + [""]


def figures(result: Result, model: str, scenario: str) -> list[str]:
    """The table of one model and scenario: a line for each server, three columns for each number of connections."""
    columns = names(result, "connections")
    header = ["server"]
    for connections in columns:
        header += [f"{connections} conn.: req/s", "p50 / p99 us"]
    header += ["CPU us a request", "PSS MiB"]
    lines = []
    for server in names(result, "server"):
        rows = [find(result, model, scenario, connections, server) for connections in columns]
        line = [TITLES[server]]
        for row in rows:
            line += [throughput(row), latency(row)] if is_measured(row) else ["not measured", "-"]
        last = rows[-1]
        if is_measured(last):
            line += [count(median(last["server_cpu_us_per_request"])), count(median(last["pss_mib"]))]
        else:
            line += ["-", "-"]
        lines.append(line)
    title = f"### {model}, {scenario}: {MODELS[model]}; {SCENARIOS[scenario]}"
    return [title, "", *table(header, lines), *reasons(result, model, scenario)]


def reasons(result: Result, model: str, scenario: str) -> list[str]:
    """Why servers have no figures, each reason once."""
    found = dict.fromkeys(
        f"- {TITLES[row['server']]}: {row['reason']}"
        for row in result["rows"]
        if (row["model"], row["scenario"]) == (model, scenario) and not is_measured(row)
    )
    return [*found, ""] if found else []


def ratio(ours: Row | None, theirs: Row | None, field: str) -> str:
    """A figure of serin divided by the same of another."""
    if not (is_measured(ours) and is_measured(theirs)):
        return "-"
    quotient = median(ours[field]) / median(theirs[field])
    return f"{quotient:.3f}" if quotient < 0.1 else f"{quotient:.2f}" if quotient < 10 else f"{quotient:.0f}"


def ratios(result: Result, title: str, field: str, others: list[str]) -> list[str]:
    """A figure of serin divided by that of each other, under each load."""
    lines = []
    for model, scenario in groups(result):
        for connections in names(result, "connections"):
            ours, *theirs = (find(result, model, scenario, connections, name) for name in ["serin", *others])
            quotients = [ratio(ours, row, field) for row in theirs]
            lines.append([model, scenario, str(connections), *quotients])
    header = ["model", "scenario", "connections", *(f"serin / {other}" for other in others)]
    return [f"## {title}", "", *table(header, lines)]


def head(result: Result) -> list[str]:
    """What was measured, on what, with what."""
    machine, settings = result["machine"], result["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    noisy = [median(row["other_cores_used"]) > NOISE_MAX for row in result["rows"] if is_measured(row)]
    return [
        "# serin beside its peers",
        "",
        "Made by `benches/peers/run.py` from `peers.json`. How to read it: [benches/peers](../peers/README.md).",
        "",
        f"- {result['date']}, {machine['processor']}, {machine['cores']} cores, {machine['memory']}, "
        f"{machine['system']}, Linux {machine['kernel']}",
        f"- {versions}",
        f"- windows for each figure: {settings['repeats']} of {settings['seconds']} s, servers in turns; "
        "median (least to most)",
        f"-{DISTURBED}: other programs used more than {NOISE_MAX} cores meanwhile "
        f"({sum(noisy)} of {len(noisy)} figures)",
        *(
            ["", "**The machine was busy with other work: do not quote these figures.**"]
            if sum(noisy) > len(noisy) / 4
            else []
        ),
        "",
    ]


def markdown(result: Result) -> str:
    """The whole page."""
    pictures = [line for file, title in plots.FILES.items() for line in (f"![{title}]({file})", "")]
    others = [server for server in names(result, "server") if server != "serin"]
    servers = [server for server in others if server != "limit"]
    lines = [
        *head(result),
        *pictures,
        *ratios(result, "Requests per second, serin by each other: more is better", "requests_per_second", others),
        *ratios(result, "99th percentile, serin by each other: less is better", "p99_us", servers),
        "## Figures",
        "",
    ]
    for model, scenario in groups(result):
        lines += figures(result, model, scenario)
    return "\n".join(lines).rstrip() + "\n"


def main(folder: Path) -> None:
    """Reads the rows and writes the page and the plots."""
    result = json.loads((folder / "peers.json").read_text())
    (folder / "peers.md").write_text(markdown(result))
    plots.write(result, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
