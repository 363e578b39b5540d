"""The server's side of the memory that it shares with a scoring script's process, for tests: one batch after the other."""

import ctypes
import json
import mmap
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

HARNESS = Path(__file__).resolve().parents[2] / "runtime/src/engine/lane/harness.py"
SCRIPTS = Path(__file__).resolve().parent / "scripts"
# The longest that a test waits; a hang is a failure.
PATIENCE_S = 60
# The same of all tests of a file together.
HANG_S = 300

ROW_BYTES, TABLE, ROOM = 128, 256, 4096
ROOM_BYTES = 16 << 20
LAYOUT = {
    "submitted": 0,
    "answered": 64,
    "canceled": 128,
    "rows": 192,
    "rows_max": 196,
    "begun": 200,
    "table": TABLE,
    "row_bytes": ROW_BYTES,
    "row": {"id": 0, "state": 8, "canceled": 12, "body": 16, "answer": 32, "kind": 48, "joined": 52, "times": 56},
    "room": ROOM,
    "room_bytes": ROOM_BYTES,
}
WAITING, RUNNING, ANSWERED = 1, 2, 3
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
LIBC.syscall.argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p]
FUTEX = {"x86_64": 202, "aarch64": 98}[os.uname().machine]


class Timespec(ctypes.Structure):
    """A length of time as the kernel takes it."""

    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


LOOK_AGAIN = Timespec(0, 100_000_000)


class Ended(Exception):
    """The process has ended; the text says how, and what it printed."""


class Answer:
    """An answer as the server reads it."""

    def __init__(self, kind, text):
        self.kind = kind
        self.status, self.failed, self.body = 200, False, text
        self.headers = [["content-type", "application/json"]]
        if kind == 2:
            (length,) = struct.unpack_from("<I", text)
            head = json.loads(text[4 : 4 + length])
            assert sorted(head) == ["failed", "headers", "status"], head
            self.status, self.headers, self.failed = head["status"], head["headers"], head["failed"]
            self.body = text[4 + length :]

    def header(self, name):
        """All values of a header."""
        return [value for known, value in self.headers if known.lower() == name.lower()]

    def json(self):
        """The value of the body."""
        return json.loads(self.body)


class Lane:
    """The process of a script, and the memory that it shares with this one."""

    def __init__(self, script, python=sys.executable, room_bytes=ROOM_BYTES, locale=None, data_limit=None, given=True, **order):
        script = Path(script)
        self.report = None
        self.room_bytes = room_bytes
        file = os.memfd_create("lane")
        os.ftruncate(file, ROOM + max(room_bytes, 4096))
        self.memory = mmap.mmap(file, 0)
        self.words = memoryview(self.memory).cast("I")
        self.quads = memoryview(self.memory).cast("Q")
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.output = tempfile.TemporaryFile()
        order = {
            "label": "test",
            "entry_script": str(script),
            "app_root": str(script.parent),
            "source_directory": str(script.parent),
            "model_dir": None,
            "variables": {},
            "environment": None,
            "memory_bytes_max": None,
            "comm": "lane",
            **order,
        }
        self._place([json.dumps(order).encode(), b""])
        layout = dict(LAYOUT, fd=file, parent=os.getpid(), room_bytes=room_bytes)
        self.process = subprocess.Popen(
            [python, str(HARNESS), json.dumps(layout)],
            pass_fds=[file],
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(order["variables"] if given else {}), **({"LC_ALL": locale} if locale else {})},
            preexec_fn=data_limit and (lambda: resource.setrlimit(resource.RLIMIT_DATA, (data_limit, data_limit))),
        )
        os.close(file)

    def start(self):
        """Waits for the report of the process."""
        self._await(lambda: self._state(0) == ANSWERED)
        self.report = json.loads(self._answer(0).body)
        return self

    def started(self):
        """The same where the script must start."""
        self.start()
        assert "Ok" in self.report, self.report
        return self

    def refused(self):
        """The reason why the script does not start; the process has ended then."""
        self.start()
        assert self.process.wait(PATIENCE_S) == 1
        self.close()
        assert len(self.report["Err"]) < 2500
        return self.report["Err"]

    def submit(self, requests):
        """Gives the process a batch: (head, body) each."""
        texts = []
        for head, body in requests:
            text = json.dumps(head, separators=(",", ":")).encode()
            texts.append(struct.pack("<I", len(text)) + text + body)
        self._place(texts)
        self.words[192 // 4] = len(texts)
        self.words[0] += 1
        self.words[1] = 0
        LIBC.syscall(FUTEX, self._address, 1, 1, None)

    def collect(self, count):
        """The answers to a batch."""
        self._await(lambda: all(self._state(index) == ANSWERED for index in range(count)))
        assert self.words[200 // 4] == self.words[0], "the batch was not noted as begun"
        return [self._answer(index) for index in range(count)]

    def score(self, body=b"", method="POST", path="/score", query="", headers=None):
        """Asks for one answer."""
        if headers is None:
            headers = [["content-type", "application/json"]]
        head = {"method": method, "path": path, "query": query, "headers": headers}
        body = body.encode() if isinstance(body, str) else body
        self.submit([(head, body)])
        return self.collect(1)[0]

    def cancel(self, index):
        """Says that a request is not wanted any more."""
        self.words[(TABLE + index * ROW_BYTES + 12) // 4] = 1

    def times(self, index):
        """The five moments of a row."""
        at = (TABLE + index * ROW_BYTES + 56) // 8
        return list(self.quads[at : at + 5])

    def printed(self):
        """All that the script has printed."""
        self.output.seek(0)
        return self.output.read().decode(errors="replace")

    def close(self):
        """Ends the process."""
        self.process.kill()
        self.process.wait()
        self.output.close()

    def __enter__(self):
        return self

    def __exit__(self, *_problem):
        self.close()

    def _place(self, texts):
        start = 0
        for index, text in enumerate(texts):
            base = TABLE + index * ROW_BYTES
            assert start + len(text) <= self.room_bytes
            self.memory[ROOM + start : ROOM + start + len(text)] = text
            self.quads[base // 8] = index + 1
            self.words[(base + 12) // 4] = 0
            self.quads[(base + 16) // 8] = start
            self.quads[(base + 24) // 8] = len(text)
            self.words[(base + 8) // 4] = WAITING
            start = (start + len(text) + 63) & ~63

    def _state(self, index):
        return self.words[(TABLE + index * ROW_BYTES + 8) // 4]

    def _answer(self, index):
        base = TABLE + index * ROW_BYTES
        start, length = self.quads[(base + 32) // 8], self.quads[(base + 40) // 8]
        assert start % 64 == 0 and start + length <= self.room_bytes
        kind = self.words[(base + 48) // 4]
        return Answer(kind, self.memory[ROOM + start : ROOM + start + length])

    def _await(self, is_there):
        waits = 0
        while True:
            seen = self.words[16]
            if is_there():
                return
            if self.process.poll() is not None and not is_there():
                raise Ended("exit code {}:\n{}".format(self.process.returncode, self.printed()))
            if self.words[16] == seen:
                LIBC.syscall(FUTEX, self._address + 64, 0, seen, ctypes.addressof(LOOK_AGAIN))
                waits += self.words[16] == seen
            if waits > PATIENCE_S * 10:
                self.process.send_signal(signal.SIGABRT)
                self.process.wait()
                raise Ended("no answer:\n" + self.printed())
