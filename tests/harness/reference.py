"""Azure's inference server, on a socket of the file system: it binds all interfaces where it is given a port."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from driver import PATIENCE_S, Answer, Ended

# The server's own command line, but for the address, which it has no setting for.
LAUNCH = """
import sys
from azureml_inference_server_http import amlserver
amlserver.DEFAULT_HOST = sys.argv.pop(1)
amlserver.run()
"""
# Headers that the server sets, and serin's server too.
OF_THE_SERVER = (
    "connection",
    "content-length",
    "date",
    "server",
    "transfer-encoding",
    "x-ms-client-request-id",
    "x-ms-request-id",
    "x-ms-run-fn-exec-ms",
    "x-ms-run-function-failed",
    "x-ms-server-version",
    "x-request-id",
)


class Connection(http.client.HTTPConnection):
    """HTTP over a socket of the file system."""

    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self._path)


class Reference:
    """A running server."""

    def __init__(self, script, **variables):
        self._folder = tempfile.TemporaryDirectory(prefix="azml")
        # It writes the port behind the address, and gunicorn takes both as a path.
        self._path = self._folder.name + "/s:1"
        self._log = tempfile.TemporaryFile()
        command = [sys.executable, "-c", LAUNCH, "unix:" + self._folder.name + "/s"]
        self.process = subprocess.Popen(
            [*command, "--entry_script", str(script), "--port", "1"],
            cwd=Path(script).parent,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables},
            start_new_session=True,
        )

    def started(self):
        """Waits until it answers."""
        if not self._answers():
            raise Ended("the reference ended:\n" + self.printed())
        return self

    def refused(self):
        """Waits until it has ended by itself, as it does where a script does not start."""
        assert not self._answers(), "the reference has started"
        return self.printed()

    def _answers(self):
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                return False
            try:
                with contextlib.closing(Connection(self._path)) as connection:
                    connection.request("GET", "/")
                    return connection.getresponse().status == 200
            except (ConnectionError, FileNotFoundError, http.client.HTTPException):
                # There is no event to wait for: it tells nobody that it listens.
                time.sleep(0.05)
        raise Ended("the reference does not answer:\n" + self.printed())

    def score(self, body=b"", method="POST", path="/score", query="", headers=None):
        """Asks for one answer; the arguments are those of the lane."""
        connection = Connection(self._path)
        connection.putrequest(method, path + ("?" + query if query else ""), skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders(body.encode() if isinstance(body, str) else body)
        response = connection.getresponse()
        answer = Answer(0, response.read())
        answer.status = response.status
        answer.headers = [[name, value] for name, value in response.getheaders() if name.lower() not in OF_THE_SERVER]
        answer.failed = "True" in (response.headers.get_all("x-ms-run-function-failed") or [])
        answer.was_measured = "x-ms-run-fn-exec-ms" in response.headers
        connection.close()
        return answer

    def printed(self):
        """The log of the server."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def close(self):
        """Ends the server with its workers."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._folder.cleanup()
        self._log.close()
