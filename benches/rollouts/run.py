"""Rollouts of a real server under real traffic: what they decide about versions whose behaviour is known.

    python3 benches/rollouts/run.py same        blue to an identical green, native, 1,000 requests a second
    python3 benches/rollouts/run.py failures    the same as scripts, of which 2 % fail, alike
    python3 benches/rollouts/run.py saturated   both arms at 0.9 of what an arm was seen to do
    python3 benches/rollouts/run.py stalls      once in 5 s both stand still for 300 ms
    python3 benches/rollouts/run.py bursts      ten times the rate for one second in four
    python3 benches/rollouts/run.py shared      native models that compute, both on the same cores, at 0.7 of what these can do
    python3 benches/rollouts/run.py failing     green fails each request: milliseconds from its third failure to the old split
    python3 benches/rollouts/run.py slower      green takes 1.2 times as long: requests until that is found, and at which share
    python3 benches/rollouts/run.py neighbour   green fails nothing and takes all cores from blue: the rollout is to be held
    python3 benches/rollouts/run.py switchback  green computes on blue's cores, for each of its requests: found by its share alone
    python3 benches/rollouts/run.py switchback-same  the same, and both are native
    python3 benches/rollouts/run.py blocked     copies of all requests to a green that never answers: the p99 of blue with and without
    python3 benches/rollouts/run.py remembering what it costs to remember answers for labels, in memory; `remembering-disk`: in a file
    python3 benches/rollouts/run.py labels      30 % of the answers get a label a minute later; green is right 2 points less often
    python3 benches/rollouts/run.py labels-same the same, and both are right as often
    python3 benches/rollouts/run.py scores      the same labels as grades of that mean, 0.95 and 0.93, that spread by 0.05
    python3 benches/rollouts/run.py digits      30 % of the requests get the digit that was drawn, a minute later; green is version 1, blue 2
    python3 benches/rollouts/run.py pairs       the same, and green gets copies of all and no traffic
    python3 benches/rollouts/run.py fleet       four machines: green fails twice as often; requests until all together know, and one alone
    python3 benches/rollouts/run.py fleet-same  the same, and both fail alike: `--rollouts` looks of all together after 30 s

For the first six `--rollouts` (30) are run, of which about 1 % may be rolled back. Needs no package. `--serin` names the binary (default:
target/release/serin). Latencies are those of `scripts/score.py`, which sleeps: it leaves the machine to serin and to the clients.
"""

import argparse
import asyncio
import collections
import json
import math
import os
import pathlib
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BODY = json.dumps({"data": [[0] * 64]}).encode()
NATIVE = f"model: {{path: {ROOT / 'models/digits/1/model.onnx'}}}\n"
COMPUTES = f"model: {{path: {ROOT / 'models/digits/canary/blue.onnx'}}}\n"
# Where nothing is said of the metrics they are the default ones.
ALIKE = """strategy: {canary: {steps: [{setWeight: 10}, {pause: {duration: 5s}}, {setWeight: 50}, {analysis: {timeout: 10s}}]}}
guard: {onUndecided: abort}
"""
ERRORS = "strategy: {canary: {steps: [{setWeight: 10}, {pause: {duration: 60s}}]}}\nguard: {metrics: [{name: errors}]}\n"
HALF = "strategy: {canary: {steps: [{setWeight: 50}, {analysis: {timeout: 15s}}]}}\nguard: {onUndecided: abort}\n"
TEN = "strategy: {canary: {steps: [{setWeight: 10}, {pause: {}}]}}\n"
CLIENTS = 256


def script(**settings):
    lines = "".join(f"  {name}: '{value}'\n" for name, value in settings.items())
    here = pathlib.Path(__file__).parent / "scripts"
    return f"{NATIVE}code_configuration: {{code: {here}, scoring_script: score.py}}\nenvironment_variables:\n{lines}"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """A serin with an endpoint `iris`, of which blue has all traffic."""

    def __init__(self, serin, folder):
        self.serin, self.folder, self.port = serin, folder, free_port()
        command = [serin, "serve", "--port", str(self.port), "--data", str(folder / "data")]
        with open(folder / "serin.log", "w") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def deploy(self, blue, green, instances):
        if b"ready" not in self.process.stdout.readline():
            sys.exit(f"serin did not start: {(self.folder / 'serin.log').read_text()}")
        self.command("online-endpoint", "create", "--name", "iris")
        for name, what in (("blue", blue), ("green", green)):
            text = f"name: {name}\nendpoint_name: iris\ninstance_type: Standard_F2s_v2\ninstance_count: {instances}\n{what}"
            text += "request_settings: {max_concurrent_requests_per_instance: 64, request_timeout_ms: 10000}\n"
            (self.folder / "d.yml").write_text(text)
            self.command("online-deployment", "create", "--file", str(self.folder / "d.yml"), "--skip-script-validation")
        self.split("blue=100 green=0")
        self.key = self.command("endpoint", "get-credentials", "--name", "iris")["primaryKey"]

    def command(self, *words, text=None):
        command = [self.serin, *words, "--data", str(self.folder / "data"), "-o", "json"]
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"serin {words}: {done.stderr}")
        return json.loads(done.stdout or "null")

    def cpu_s(self):
        """The time of its processor so far, without that of processes of its own."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def split(self, split):
        self.command("online-endpoint", "update", "--name", "iris", "--traffic", split)

    def start(self, plan):
        self.command("rollout", "start", "--file", "-", text=plan)
        while (now := self.status())["is_moving"]:
            pass
        return now

    def status(self):
        return self.command("rollout", "status")

    def back(self):
        """Blue has all traffic again, and no rollout is on its way."""
        phase = self.status()["phase"]
        if phase in ("running", "paused"):
            self.command("rollout", "abort")
        while self.status()["phase"] not in ("aborted", "rolled-back", "promoted"):
            pass
        self.split("blue=100 green=0")


class Client:
    """One connection."""

    def __init__(self, server):
        self.server, self.streams = server, None

    async def ask(self, number, body=BODY):
        try:
            return await asyncio.wait_for(self.answer(number, body), 30)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            self.streams = None
            return type(error).__name__, ""

    async def answer(self, number, body):
        self.streams = self.streams or await asyncio.open_connection("127.0.0.1", self.server.port)
        reader, writer = self.streams
        head = f"POST /score HTTP/1.1\r\nhost: iris\r\nauthorization: Bearer {self.server.key}\r\nx-request-id: {number}\r\n"
        writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        if "connection: close" in head:
            self.streams = None
        by = head.split("azureml-model-deployment: ")
        return int(head.split(" ")[1]), by[1].split("\r\n")[0] if len(by) > 1 else ""


class Load:
    """Requests at a rate, by chance in time (a Poisson process), each by a client that is free."""

    def __init__(self, server, rate, each=None, bodies=(BODY,)):
        self.clients = collections.deque(Client(server) for _ in range(CLIENTS))
        # The rate at a second since the beginning.
        self.rate = rate if callable(rate) else lambda _: rate
        self.each, self.bodies, self.over = each, bodies, asyncio.Event()
        self.ends, self.latencies, self.sent = collections.Counter(), [], 0
        self.task = asyncio.create_task(self.run())

    async def one(self, client, number, body):
        begun = time.monotonic()
        status, by = await client.ask(number, body)
        self.ends[status] += 1
        self.latencies.append(time.monotonic() - begun)
        self.clients.append(client)
        if self.each:
            self.each(number, status, by)

    async def run(self):
        tasks, begun = set(), time.monotonic()
        due, prefix = begun, random.getrandbits(32)
        while not self.over.is_set():
            while due <= time.monotonic():
                due += random.expovariate(self.rate(due - begun))
                self.sent += 1
                if not self.clients:
                    self.ends["no client was free"] += 1
                    continue
                row = random.randrange(len(self.bodies))
                number = f"{prefix}-{self.sent}-{row}"
                task = asyncio.create_task(self.one(self.clients.popleft(), number, self.bodies[row]))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)

    async def end(self):
        self.over.set()
        await self.task


async def ended(server, at_most_s=600):
    """The status of the rollout when it goes on no more."""
    until = time.monotonic() + at_most_s
    while (now := await asyncio.to_thread(server.status))["phase"] in ("running", "going-back") and time.monotonic() < until:
        await asyncio.sleep(0.05)
    return now


def words(now):
    return now.get("why") or "; ".join(f"{one['plan']['metric']} {one['verdict']}" for one in now["findings"])


async def alike(server, plan, rate, options):
    phases = collections.Counter()
    for number in range(options.rollouts):
        server.start(plan)
        load = Load(server, rate)
        now = await ended(server)
        await load.end()
        server.back()
        phases[now["phase"]] += 1
        print(f"{number + 1}: {now['phase']} after {now['requests']} requests, {dict(load.ends)}: {words(now)}", flush=True)
    print(f"{options.case}: {phases['rolled-back']} of {options.rollouts} rolled back: {dict(phases)}")


async def capacity(server, seconds=10):
    """Requests a second that blue alone answers to clients that wait for it."""
    answers, until = 0, time.monotonic() + seconds

    async def ask():
        nonlocal answers
        client = Client(server)
        while time.monotonic() < until:
            status, _ = await client.ask(0)
            answers += status == 200

    await asyncio.gather(*(ask() for _ in range(16)))
    return answers / seconds


async def saturated(server, options):
    rate = options.rate or 0.9 * 2 * await capacity(server)
    print(f"{rate:.0f} requests a second", flush=True)
    # There is more load than when it was measured, of which the alarm would tell and hold each of them.
    await alike(server, HALF.replace("guard: {", "guard: {onSlowerStable: tell, "), rate, options)


async def neighbour(server, options):
    held = 0
    for number in range(options.rollouts):
        load = Load(server, options.rate or 300)
        await asyncio.sleep(30)
        server.start(ERRORS)
        began = time.monotonic()
        now = await ended(server)
        await load.end()
        held += now["phase"] == "paused"
        print(f"{number + 1}: {now['phase']} after {time.monotonic() - began:.1f} s, {dict(load.ends)}: {words(now)}", flush=True)
        server.back()
        # What computes ends with its version.
        server.command("online-deployment", "update", "--name", "green", "-e", "iris", "--set", f"environment_variables.ROUND={number}")
    print(f"neighbour: {held} of {options.rollouts} held")


async def switchback(server, options):
    """Twelve pairs of slots of 5 s at 10 %."""
    plan = "strategy: {canary: {steps: [{setWeight: 10}, {switchback: {pairs: 12, slot: 5s}}, {pause: {}}]}}\n"
    plan += "guard: {metrics: [{name: errors}], onSlowerStable: tell}\n"
    said = collections.Counter()
    for number in range(options.rollouts):
        server.start(plan)
        load = Load(server, options.rate or 300)
        found = None
        while not found and (await asyncio.to_thread(server.status))["phase"] == "running":
            await asyncio.sleep(0.5)
            entries = await asyncio.to_thread(server.command, "rollout", "history")
            found = next((entry["what"] for entry in entries if entry["event"] == "switched_back"), None)
        await load.end()
        server.back()
        said[str(found).split(":")[0]] += 1
        print(f"{number + 1}: {found}, {dict(load.ends)}", flush=True)
    print(f"{options.case}: {dict(said)}")


async def failing(server, options):
    took = []
    for number in range(options.rollouts):
        failures = []

        def each(_number, status, by):
            if by == "green" and status != 200:
                failures.append(time.time())

        server.start(TEN)
        load = Load(server, 200, each)
        now = await ended(server)
        await load.end()
        entries = await asyncio.to_thread(server.command, "rollout", "history")
        back_ms = max(entry["at_ms"] for entry in entries)
        harm = next(one for one in now["findings"] if one["verdict"] == "HARM")
        took.append(back_ms - 1000 * failures[2])
        server.back()
        print(f"{number + 1}: {harm['canary']} of green, back {took[-1]:.0f} ms after the third failure was answered", flush=True)
    print(f"failing: median {statistics.median(took):.0f} ms, at most {max(took):.0f} ms, of {len(took)} rollouts")


async def slower(server, options):
    found = []
    plan = "strategy: {canary: {steps: [{setWeight: 10}, {pause: {}}]}}\nguard: {metrics: [{name: errors}, {name: p99, maxIncrease: 5%}]}\n"
    for number in range(options.rollouts):
        server.start(plan)
        load = Load(server, options.rate or 1000)
        now = await ended(server)
        await load.end()
        server.back()
        found.append(now["requests"])
        print(f"{number + 1}: {now['phase']} after {now['requests']} requests, {dict(load.ends)}: {words(now)}", flush=True)
    print(f"slower: found after {statistics.median(found):.0f} requests at 10 % ({min(found)} to {max(found)}), of {len(found)} rollouts")


async def bench(server, seconds, connections):
    """What `serin bench` says of the endpoint in a closed loop."""
    request = server.folder / "request.json"
    request.write_bytes(BODY)
    command = [server.serin, "bench", "--url", f"http://127.0.0.1:{server.port}/score", "--key", server.key, "-o", "json"]
    command += ["--input", str(request), "--budget", str(seconds), "-c", str(connections)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    return json.loads(done.stdout)["levels"][0]


async def blocked(server, options):
    """By the generator of `serin bench`, in a closed loop: clients in Python have a p99 of their own, and at a rate the generator has one."""
    ratios, costs, failures = [], [], 0
    for number in range(options.rollouts):
        p99, cpu = {}, {}
        for share in (0, 100) if number % 2 else (100, 0):
            server.command("online-endpoint", "update", "--name", "iris", "--set", f"shadow_traffic.green={share}")
            before = server.cpu_s()
            level = await bench(server, seconds=10, connections=4)
            cpu[share] = (server.cpu_s() - before) / sum(block["answers"] + block["failures"] for block in level["blocks"])
            p99[share] = level["figures"][0]["p99_ms"]
            failures += level["figures"][0]["failures"]
        ratios.append(p99[100] / p99[0])
        costs.append(1e6 * (cpu[100] - cpu[0]))
        print(f"{number + 1}: p99 {p99[0]:.3f} ms, with copies {p99[100]:.3f} ms, which cost {costs[-1]:.1f} us of the server's CPU time each", flush=True)
    ratios.sort()
    # The signs of a median: of n pairs so many lie below each end with a chance of one in forty at most.
    low = next((at for at in range(len(ratios)) if sum(math.comb(len(ratios), below) for below in range(at + 2)) * 40 > 2 ** len(ratios)), 0)
    print(
        f"blocked: p99 with copies by that without: median {statistics.median(ratios):.3f} "
        f"[{ratios[low]:.3f}, {ratios[-1 - low]:.3f}] of {len(ratios)} pairs; "
        f"a copy costs {statistics.median(costs):.1f} us of CPU time in the median; {failures} requests failed"
    )


async def remembering(server, options):
    """All that the machine can do, while a rollout is judged by labels too and while it is not, in turns."""
    metrics = {"errors": "{name: errors}", "labels": "{name: errors}, {name: accuracy}"}
    on_disk = "feedback: {onDisk: true}\n" if options.case.endswith("disk") else ""
    ratios, costs = [], []
    for number in range(options.rollouts):
        rate, cpu_us = {}, {}
        for judged_by in sorted(metrics, reverse=number % 2):
            plan = f"strategy: {{canary: {{steps: [{{setWeight: 50}}, {{pause: {{}}}}]}}}}\nguard: {{metrics: [{metrics[judged_by]}]}}\n"
            server.start(plan + (on_disk if judged_by == "labels" else ""))
            before = server.cpu_s()
            level = await bench(server, seconds=5, connections=8)
            answers = sum(block["answers"] for block in level["blocks"])
            rate[judged_by], cpu_us[judged_by] = answers / 5, 1e6 * (server.cpu_s() - before) / answers
            server.back()
        ratios.append(rate["labels"] / rate["errors"])
        costs.append(cpu_us["labels"] - cpu_us["errors"])
        print(f"{number + 1}: {rate['labels']:.0f} requests a second for {rate['errors']:.0f}, {costs[-1]:.1f} us more of CPU time each", flush=True)
    print(
        f"{options.case}: {statistics.median(ratios):.3f} times as many requests ({min(ratios):.3f} to {max(ratios):.3f}), "
        f"{statistics.median(costs):.1f} us of the server's CPU time more each, medians of {len(ratios)} pairs"
    )


async def labels(server, options, label, steps="{setWeight: 50}, {analysis: {timeout: 10m}}", bodies=(BODY,)):
    plan = f"strategy: {{canary: {{steps: [{steps}]}}}}\nfeedback: {{answer: /label}}\n"
    plan += "guard: {onUndecided: abort, metrics: [{name: errors}, {name: accuracy}]}\n"
    counts = []
    for number in range(options.rollouts):
        late, sent = collections.deque(), 0

        def each(number, status, by):
            if status == 200 and random.random() < 0.3:
                late.append((time.monotonic() + 60, {"id": number, **label(number, by)}))

        server.start(plan)
        load = Load(server, options.rate or 500, each, bodies)
        watch = asyncio.create_task(ended(server))
        while not watch.done():
            await asyncio.sleep(1)
            lines = []
            while late and late[0][0] <= time.monotonic():
                lines.append(json.dumps(late.popleft()[1]))
            if lines and not watch.done():
                file = server.folder / "labels.jsonl"
                file.write_text("\n".join(lines) + "\n")
                command = [options.serin, "feedback", "-e", "iris", "--file", str(file), "--data", str(server.folder / "data")]
                done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
                sent += len(lines) if done.returncode == 0 else 0
        now = watch.result()
        await load.end()
        server.back()
        counts.append(sent)
        print(f"{number + 1}: {now['phase']} after {sent} labels of {now['requests']} requests: {words(now)}", flush=True)
    print(f"{options.case}: median {statistics.median(counts):.0f} labels, of {len(counts)} rollouts")


class Fleet:
    """Three servers more, as the first one is, with the load of each."""

    def __init__(self, server, options, deployments):
        self.options, self.folders = options, [tempfile.TemporaryDirectory() for _ in range(3)]
        self.servers = [server] + [Server(options.serin, pathlib.Path(folder.name)) for folder in self.folders]
        for other in self.servers[1:]:
            other.deploy(*deployments, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server, folder in zip(self.servers[1:], self.folders):
            server.__exit__()
            folder.cleanup()

    def start(self):
        plan = "strategy: {canary: {steps: [{setWeight: 50}, {pause: {}}]}}\nguard: {metrics: [{name: errors}]}\n"
        for server in self.servers:
            server.start(plan)
        return [Load(server, self.options.rate or 100) for server in self.servers]

    def together(self):
        """What all say together: the exit code of `serin verdict` tells. Another one where a machine has rolled back already."""
        command = [self.options.serin, "verdict", "-e", "iris", "--from", "blue", "--to", "green"]
        for server in self.servers:
            command += ["--server", str(server.folder / "data")]
        done = subprocess.run(command, capture_output=True, text=True)
        return {0: "SAFE", 1: "HARM", 2: "UNDECIDED"}.get(done.returncode, done.stderr.strip())

    def requests(self):
        return [server.status()["requests"] for server in self.servers]

    async def end(self, loads):
        for load in loads:
            await load.end()
        for server in self.servers:
            server.back()


async def fleet(server, options):
    """A machine that knows by itself rolls back by itself, and then the others have lost it: all together have to be first."""
    ratios = []
    with Fleet(server, options, (script(FAILS=0.02), script(FAILS=0.04))) as machines:
        for number in range(options.rollouts):
            loads, found, until = machines.start(), None, time.monotonic() + 600
            while time.monotonic() < until and any(one.status()["phase"] == "running" for one in machines.servers):
                # One that has rolled back by itself is judged otherwise from then on, and there is no verdict together any more.
                if found is None and await asyncio.to_thread(machines.together) == "HARM":
                    found = await asyncio.to_thread(machines.requests)
                await asyncio.sleep(0.2)
            alone = await asyncio.to_thread(machines.requests)
            await machines.end(loads)
            ratios.append(statistics.mean(found) / statistics.median(alone) if found else math.nan)
            print(f"{number + 1}: together after {found} requests, alone after {alone}: {ratios[-1]:.2f}", flush=True)
    print(f"fleet: together first {sum(ratio < 1 for ratio in ratios)} of {len(ratios)} times, with {[round(ratio, 2) for ratio in ratios]} of the requests")


async def fleet_same(server, options):
    said = collections.Counter()
    with Fleet(server, options, (script(FAILS=0.02),) * 2) as machines:
        for number in range(options.rollouts):
            loads = machines.start()
            await asyncio.sleep(30)
            verdict = await asyncio.to_thread(machines.together)
            requests = await asyncio.to_thread(machines.requests)
            await machines.end(loads)
            said[verdict] += 1
            print(f"{number + 1}: {verdict} after {requests} requests", flush=True)
    print(f"fleet-same: {dict(said)}")


def main():
    # What serves, the size of an instance, and what is done.
    twice = lambda what: (what, what)
    bursts = lambda second: 20 if second % 4 < 3 else 200
    right = lambda of: lambda _, by: {"right": random.random() < of[by]}
    grade = lambda of: lambda _, by: {"score": of[by] + random.uniform(-0.05, 0.05)}
    digits = [json.loads(line) for line in (ROOT / "models/digits/held-out.jsonl").read_text().splitlines()]
    bodies = [json.dumps({"data": digit["data"]}).encode() for digit in digits]
    written = lambda number, _: {"label": digits[int(number.rsplit("-", 1)[1])]["label"]}
    copies = "{mirror: {percent: 100, pairs: 1000000}}, {setWeight: 10}"
    versions = [f"model: {{path: {ROOT}/models/digits/{number}/model.onnx}}\n" for number in (2, 1)]
    cases = {
        "same": (*twice(NATIVE), lambda s, o: alike(s, ALIKE, o.rate or 1000, o)),
        "failures": (*twice(script(FAILS=0.02)), lambda s, o: alike(s, ALIKE, o.rate or 200, o)),
        "saturated": (*twice(script()), saturated),
        "stalls": (*twice(script(STALL_MS=300)), lambda s, o: alike(s, ALIKE, o.rate or 100, o)),
        "bursts": (*twice(script()), lambda s, o: alike(s, ALIKE, bursts, o)),
        "shared": (*twice(COMPUTES), lambda s, o: alike(s, HALF, o.rate or 1000, o)),
        "neighbour": (COMPUTES, script(BURNS=6), neighbour),
        "switchback": (COMPUTES, script(MEAN_MS=0.1, BUSY_MS=60), switchback),
        "switchback-same": (*twice(COMPUTES), switchback),
        "failing": (script(), script(FAILS=1), failing),
        "slower": (script(), script(SLOWER=1.2), slower),
        "blocked": (script(), script(BLOCKED=1), blocked),
        "remembering": (*twice(NATIVE), remembering),
        "remembering-disk": (*twice(NATIVE), remembering),
        "labels": (*twice(NATIVE), lambda s, o: labels(s, o, right({"blue": 0.95, "green": 0.93}))),
        "labels-same": (*twice(NATIVE), lambda s, o: labels(s, o, right({"blue": 0.95, "green": 0.95}))),
        "scores": (*twice(NATIVE), lambda s, o: labels(s, o, grade({"blue": 0.95, "green": 0.93}))),
        "digits": (*versions, lambda s, o: labels(s, o, written, bodies=bodies)),
        "pairs": (*versions, lambda s, o: labels(s, o, written, copies, bodies)),
        "fleet": (script(FAILS=0.02), script(FAILS=0.04), fleet),
        "fleet-same": (*twice(script(FAILS=0.02)), fleet_same),
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=cases)
    parser.add_argument("--serin", default=str(ROOT / "target/release/serin"))
    parser.add_argument("--rollouts", type=int, default=30)
    parser.add_argument("--rate", type=int, default=0, help="requests a second, where another rate is wanted")
    options = parser.parse_args()
    blue, green, work = cases[options.case]
    # The sleeps of 1,000 requests a second take four lanes, and an instance has two.
    instances = 8 if options.case == "slower" else 1
    with tempfile.TemporaryDirectory() as folder, Server(options.serin, pathlib.Path(folder)) as server:
        server.deploy(blue, green, instances)
        asyncio.run(work(server, options))


main()
