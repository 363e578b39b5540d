"""The process of a scoring script: loads it, calls `init()` once, and `run()` for each request that the server submits.

It is started as `python harness.py LAYOUT`. The layout says where in the memory that it shares with the server signals, rows and
bodies stand; the order, in the body of row 0, says which script is to be run. Requests come in batches, and each is answered in
its row. The contract with the script (what `run` gets, what becomes of what it returns or raises) is that of Azure's inference
server, and so are the texts of errors.

Threads: the first one does everything. Those that a script starts go on while it waits.
Not here: deadlines, sockets, packages (the server's side), and what the bytes of the layout mean beyond this script.

It runs on Python 3.6 and later, and imports the standard library alone: packages are the script's. Where it differs from Azure's
server it does so for people: a script that can only fail (`async def run`) does not start, a `TimeoutError` of the script itself is
not called one of scoring, and a response of Flask always says whether `run` failed.
"""

import codecs
import ctypes
import faulthandler
import importlib
import importlib.util
import inspect
import io
import json
import mmap
import os
import re
import resource
import signal
import struct
import sys
import threading
import time
import traceback
import types
import urllib.parse

# Time in which answers are told to the server together: about what it takes to wake it.
ANSWERS_TOGETHER_NS = 50 * 1000
# The longest reason why a script does not start, in characters: the end of a traceback says most.
REASON_CHARACTERS_MAX = 2000
# Of what a script says of its requests and answers; longer ones lose their examples first.
SCHEMAS_CHARACTERS_MAX = 65536

# States of a row, and kinds of an answer.
RUNNING, ANSWERED = 2, 3
BODY, ERROR, BODY_WITH_HEAD = 0, 1, 2

FUTEX_WAIT, FUTEX_WAKE = 0, 1
FUTEX_NUMBERS = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "loongarch64": 98}
PR_SET_PDEATHSIG = 1
# By these a terminal or the system ends a whole service, or asks it for something; the server ends its lanes itself.
LEFT_TO_THE_SERVER = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)

LIBC = ctypes.CDLL(None)
LIBC.syscall.restype = ctypes.c_long
LIBC.syscall.argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p]


def _clock_of_old_pythons():
    """The monotonic clock in nanoseconds, rounded: Python 3.6 has it in seconds alone."""
    return int(time.monotonic() * 1e9)


# Scripts replace functions of the standard library: what the server reads is written by those that were there first.
dumps, loads = json.dumps, json.loads

# The clock that the server reads too (CLOCK_MONOTONIC).
clock_ns = getattr(time, "monotonic_ns", _clock_of_old_pythons)


class NotStarted(Exception):
    """The reason why the script cannot answer requests, for a person."""


class Refused(Exception):
    """A request that `run` is not asked about, with its answer."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer


class ScoringTimeout(TimeoutError):
    """The end of a run that takes longer than the script's own variable allows."""


# ---
# The memory that is shared with the server.


class Page:
    """The shared memory: two signals, a table of rows, and room for bodies and answers."""

    def __init__(self, layout):
        machine = os.uname().machine
        if machine not in FUTEX_NUMBERS:
            known = ", ".join(sorted(FUTEX_NUMBERS))
            raise NotStarted("expected a processor of one of {}, found {}".format(known, machine))
        self._futex = FUTEX_NUMBERS[machine]
        self.memory = mmap.mmap(layout["fd"], 0)
        # It is the standard input, which is empty from here on.
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, layout["fd"])
        os.close(empty)
        self.bytes = memoryview(self.memory)
        self.words = self.bytes.cast("I")
        self.quads = self.bytes.cast("Q")
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self._submitted = layout["submitted"] // 4
        self._submitted_at = address + layout["submitted"]
        self._answered = layout["answered"] // 4
        self._answered_at = address + layout["answered"]
        self.rows = layout["rows"] // 4
        self.begun = layout["begun"] // 4
        self.table = layout["table"]
        self.row_bytes = layout["row_bytes"]
        self.row = layout["row"]
        self.room = layout["room"]
        self.room_bytes = layout["room_bytes"]
        self._lock = threading.Lock()

    def submissions(self):
        """The count of batches that the server has submitted."""
        return self.words[self._submitted]

    def wait(self, seen):
        """Sleeps until the server has submitted another batch than the last that was seen; the count then."""
        words, at = self.words, self._submitted
        while words[at] == seen:
            # The kernel compares the count once more: a batch that comes in between is not missed. Other threads run meanwhile.
            words[at + 1] = 1
            LIBC.syscall(self._futex, self._submitted_at, FUTEX_WAIT, seen, None)
        words[at + 1] = 0
        count = words[at]
        # Nothing of the batch is read before its count, whatever the processor.
        self.fence()
        return count

    def fence(self):
        """Orders what was read and written before and what will be, for whoever shares the memory.

        Python has no fence, and a lock that is taken and given back twice is one: what is after the second taking stays after it, what is
        before the first giving back before it. Never by `with`: a signal handler of the script may raise between the end of its body and the
        giving back (in Python 3.6 it then never comes), and who waits for such a lock waits for ever. One that was left taken is replaced.
        """
        for _ in range(2):
            if not self._lock.acquire(False):
                self._lock = threading.Lock()
                self._lock.acquire(False)
            self._lock.release()

    def tell(self):
        """Tells the server that there are answers."""
        words, at = self.words, self._answered
        self.fence()
        words[at] = (words[at] + 1) & 0xFFFFFFFF
        # Whether it sleeps is not looked at: the look could come before the count is seen.
        LIBC.syscall(self._futex, self._answered_at, FUTEX_WAKE, 1, None)

    def row_at(self, index, field):
        """The offset of a field of a row."""
        return self.table + index * self.row_bytes + self.row[field]

    def span(self, index, field):
        """The beginning and the end of a body or an answer, as offsets of the memory."""
        at = self.row_at(index, field) // 8
        start = self.room + self.quads[at]
        return start, start + self.quads[at + 1]

    def set_answer(self, index, kind, start, end):
        """Says where the answer of a row stands."""
        at = self.row_at(index, "answer") // 8
        self.quads[at] = start - self.room
        self.quads[at + 1] = end - start
        self.words[self.row_at(index, "kind") // 4] = kind

    def write(self, start, parts):
        """Writes bytes one after the other; where they end, or none where there is no room."""
        end = start + sum(map(len, parts))
        if end > self.room + self.room_bytes:
            return None
        for part in parts:
            self.memory[start : start + len(part)] = part
            start += len(part)
        return end

    def report(self, outcome):
        """Tells the server that the script is ready, or why it is not."""
        text = dumps(outcome).encode()
        end = self.write(self.room, [text])
        self.set_answer(0, BODY, self.room, end)
        self.fence()
        self.words[self.row_at(0, "state") // 4] = ANSWERED
        self.tell()


def answer_for_ever(page, script, seen):
    """Answers batch after batch."""
    batches = Batches(page, script, seen)
    while True:
        # A signal handler of the script may raise anywhere, also while the error that it raised before is told.
        try:
            while True:
                answer_until_interrupted(batches, script)
        except BaseException:
            continue


def answer_until_interrupted(batches, script):
    """Answers until something is raised between requests, and tells of it; or there was no memory for an answer."""
    try:
        batches.go_on()
    except BaseException:
        if os.getpid() != script.pid:
            os._exit(1)
        complain()


class Batches:
    """Batch after batch. What has come in between them, or in the middle of one, is no reason to lose any."""

    def __init__(self, page, script, seen):
        self._page = page
        self._script = script
        self._seen = seen
        self._batch = None

    def go_on(self):
        """Answers what is submitted, for ever."""
        # A child that the script forked, and that was interrupted on its way out, is nobody who answers.
        if os.getpid() != self._script.pid:
            os._exit(1)
        while True:
            if self._batch is None:
                self._batch = Batch(self._page, self._script, self._page.wait(self._seen))
            self._batch.go_on()
            self._seen = self._batch.seen
            self._batch = None


class Batch:
    """The requests that the server has submitted together. What one is answered stays so, whatever comes in between."""

    def __init__(self, page, script, seen):
        self._page = page
        self._script = script
        self.seen = seen
        self._count = page.words[page.rows]
        self._done = 0
        # Answers stand behind the bodies.
        self._free = page.span(self._count - 1, "body")[1] if self._count else page.room

    def go_on(self):
        """Answers the requests that are not answered yet, in their order."""
        page = self._page
        words, quads, row = page.words, page.quads, page.row
        # Before anything of it can end this process: else the server takes it that its requests were not seen.
        words[page.begun] = self.seen
        count = self._count
        self._mend()
        told = clock_ns()
        while self._done < count:
            base = page.table + self._done * page.row_bytes
            state = (base + row["state"]) // 4
            times = [clock_ns(), 0, 0, 0, 0]
            if words[state] == RUNNING:
                # It was interrupted outside of the script, and does not run twice.
                answer = INTERNAL_ERROR
            elif words[(base + row["canceled"]) // 4]:
                answer = None
            else:
                words[state] = RUNNING
                answer = self._script.answer(read_request(page, self._done), times)
            self._free = write_answer(page, self._done, (self._free + 63) & ~63, answer)
            at = (base + row["times"]) // 8
            quads[at], quads[at + 1], quads[at + 2], quads[at + 3], quads[at + 4] = times
            words[(base + row["joined"]) // 4] = 1
            self._done += 1
            # What was written before can be read by then, whatever the processor.
            page.fence()
            words[state] = ANSWERED
            # To be woken costs the server more than several short runs: it hears of them together.
            if self._done < count and clock_ns() - told >= ANSWERS_TOGETHER_NS:
                page.tell()
                told = clock_ns()
        page.tell()

    def _mend(self):
        """Says that a row is answered whose answer is written: something came in between."""
        if self._done:
            page = self._page
            state = page.row_at(self._done - 1, "state") // 4
            if page.words[state] == RUNNING:
                page.fence()
                page.words[state] = ANSWERED


def read_request(page, index):
    """The request of a row."""
    start, end = page.span(index, "body")
    head = start + 4
    body = head + page.words[start // 4]
    return Request(page.memory[head:body], page.bytes[body:end])


def write_answer(page, index, start, answer):
    """Writes an answer, or that there is none to a request which was canceled; where it ends."""
    if answer is None:
        kind, parts = ERROR, [b'"Abandoned"']
    else:
        kind, parts = parts_of(answer)
    end = page.write(start, parts)
    if end is None:
        found, room = sum(map(len, parts)), page.room + page.room_bytes - start
        message = "The answer of the scoring script is too long: expected at most {} bytes, found {}.".format(room, found)
        complain(message)
        kind, parts = parts_of(error(500, message, True))
        end = page.write(start, parts)
    if end is None:
        # Nothing that the server can read, which it says.
        kind, start, end = ERROR, page.room, page.room
    page.set_answer(index, kind, start, end)
    return max(start, end)


def parts_of(answer):
    """The kind of an answer, and its bytes in pieces."""
    head, body = answer
    if head is None:
        return BODY, [body]
    text = dumps(head).encode()
    return BODY_WITH_HEAD, [struct.pack("<I", len(text)), text, body]


# ---
# Requests and answers.

POST = b'{"method":"POST"'
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
# Headers that are of one connection alone, or that the server sets itself.
NOT_THE_SCRIPTS = {
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "server",
    "te",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "x-ms-request-id",
    "x-ms-run-fn-exec-ms",
    "x-ms-run-function-failed",
    "x-request-id",
}
# Statuses whose answers have no body.
BODILESS = (204, 304)
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
HEADER_VALUE = re.compile("[\t\x20-\x7e\x80-\xff]*\\Z")


class Request:
    """A request as the server gives it. Its head is parsed when something asks for more than the method."""

    __slots__ = ("_text", "_head", "body")

    def __init__(self, text, body):
        self._text = text
        self._head = None
        self.body = body

    @property
    def head(self):
        """Method, path, query, and headers in their order."""
        if self._head is None:
            self._head = loads(self._text.decode())
        return self._head

    def method(self):
        """The method, for the price of a look where it is the usual one."""
        return "POST" if self._text.startswith(POST) else self.head["method"]

    def content_type(self):
        """The media type in small letters, and its parameters as they came."""
        whole = ""
        for name, value in self.head["headers"]:
            if name.lower() == "content-type":
                whole = value
        kind, _, parameters = whole.partition(";")
        return kind.strip().lower(), parameters

    def is_json(self):
        """Whether the body says that it is JSON."""
        kind, _ = self.content_type()
        return kind == "application/json" or kind.startswith("application/") and kind.endswith("+json")

    def is_form(self):
        """Whether the body is a form, which is read as fields and leaves no text."""
        if b"form-" not in self._text.lower():
            return False
        kind, parameters = self.content_type()
        # Without a boundary it is not read.
        return kind == FORM_TYPES[0] or kind == FORM_TYPES[1] and "boundary=" in parameters.lower()

    def headers(self):
        """The headers by name, as a WSGI server gives them: `Title-Case`, repeated ones joined, ambiguous names left out."""
        headers = {}
        for name, value in self.head["headers"]:
            if "_" in name:
                continue
            name = name.title()
            if name in ("Content-Type", "Content-Length") or name not in headers:
                headers[name] = value
            else:
                headers[name] += "," + value
        return {name: value for name, value in headers.items() if value or not name.startswith("Content-")}

    def query(self):
        """The parameters of the query: each JSON where it can be read as that, and a list where it is repeated."""
        found = {}
        for name, value in query_pairs(self.head["query"]):
            found.setdefault(name, []).append(json_or_text(value))
        return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def query_pairs(text):
    """The names and values of a query or a form; bytes that are no UTF-8 stay as they were written."""
    return urllib.parse.parse_qsl(text, keep_blank_values=True, errors="serin-percent")


def _percent(problem):
    """The bytes that are no UTF-8, quoted again."""
    return urllib.parse.quote_from_bytes(problem.object[problem.start : problem.end], safe=""), problem.end


codecs.register_error("serin-percent", _percent)


def json_or_text(text):
    """The value of a text that is JSON, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def error(status, message, failed=False):
    """An answer that says what went wrong."""
    return json_answer(status, {"message": message}, failed)


def json_answer(status, value, failed=False):
    """A JSON answer with a status of its own."""
    head = {"status": status, "headers": [["content-type", "application/json"]], "failed": failed}
    return head, dumps(value).encode()


INTERNAL_ERROR = error(500, "An unexpected internal error occurred. Check the logs for more info.")
SCRIPT_ERROR = error(500, "An unexpected error occurred in scoring script. Check the logs for more info.", True)
NOT_ALLOWED = error(405, "Method not allowed")
NOTHING = ({"status": 200, "headers": [["content-type", "text/html; charset=utf-8"]], "failed": False}, b"")


def answer_of(output):
    """The answer that `run` has returned: a response as it is, anything else as JSON."""
    kind = type(output)
    if kind is not dict and kind is not list and kind is not str and is_response(output):
        return answer_of_response(output)
    return None, json.dumps({} if output is None else output).encode()


def is_response(output):
    """Whether something is a response of Flask, or of the classes that stand in for it."""
    flask = sys.modules.get("flask")
    return isinstance(output, ShimResponse) or flask is not None and isinstance(output, flask.Response)


def answer_of_response(response):
    """The answer that a response of the script describes."""
    # A file that was to be sent without being read is read.
    response.direct_passthrough = False
    body = response.get_data()
    status, failed = response.status_code, response.status_code >= 500
    if not 200 <= status <= 599:
        raise ValueError("expected a status from 200 to 599, found {}".format(status))
    headers = []
    for name, value in response.headers.items():
        name, value = str(name), str(value)
        if not (HEADER_NAME.match(name) and HEADER_VALUE.match(value)):
            raise ValueError("the header {!r} has characters that HTTP does not allow".format(name))
        if name.lower() == "x-ms-run-function-failed":
            failed = failed or value.lower() == "true"
        if name.lower() not in NOT_THE_SCRIPTS:
            headers.append([name, value.strip(" \t")])
    response.close()
    return {"status": status, "headers": headers, "failed": failed}, b"" if status in BODILESS else body


# ---
# The script.


class Script:
    """The script and how it wants to be asked."""

    def __init__(self, module, run):
        self.module = module
        # Who returns from `run` with another number is a child that the script has forked.
        self.pid = os.getpid()
        self._run = run
        self._parameters = parameters_of(run)
        self._wants_headers = any(parameter.name == "request_headers" for parameter in self._parameters)
        inputs = [parameter for parameter in self._parameters if parameter.name != "request_headers"]
        if not inputs:
            raise NotStarted("run() has no parameter for the request: expected one, as in run(data)")
        self._inputs = inputs
        self._name = inputs[0].name
        self._arguments, self.is_raw = self._manner()
        self._timeout_ms = scoring_timeout_ms()
        self._flask = None

    def _manner(self):
        """How the arguments of `run` are made of a request, and whether it asked for the request itself."""
        is_raw = getattr(sys.modules.get(REQUEST_MODULE), "_rawHttpRequested", False)
        schema = sys.modules.get(SCHEMA_MODULE)
        has_schema = schema is not None and schema.is_schema_decorated(self._run)
        if is_raw and has_schema:
            raise NotStarted("run() has both @rawhttp and @input_schema: expected one of them at most")
        if is_raw:
            return self._raw_argument, True
        return self._schema_arguments if has_schema else self._text_argument, False

    def schemas(self):
        """What the decorators of `run` say of requests and answers, as text of JSON; none where they say nothing that can be told."""
        schema = sys.modules.get(SCHEMA_MODULE)
        try:
            if schema is None or not schema.is_schema_decorated(self._run):
                return None
            said = {"request": schema.get_input_schema(self._run), "response": schema.get_output_schema(self._run)}
            for one in said, {name: without_examples(value) for name, value in said.items()}:
                text = json.dumps(one, allow_nan=False)
                if len(text) <= SCHEMAS_CHARACTERS_MAX:
                    return text
        except Exception:
            # Whatever a decorator of somebody else's made of it: the script answers all the same.
            complain()
        return None

    def prepare(self):
        """Looks, after `init`, whether Flask is to be told of each request: scripts may ask it for the one under way."""
        flask = sys.modules.get("flask")
        if flask is None:
            return
        app = flask.Flask(self.module.__name__, root_path=os.path.dirname(self.module.__file__), static_folder=None)
        asks = any(value is flask or value is flask.request for value in vars(self.module).values())
        if asks or self.is_raw and sys.modules[REQUEST_MODULE].AMLRequest is not ShimRequest:
            self._flask = app
        else:
            # So that `jsonify` and its like work.
            app.app_context().push()

    def answer(self, request, times):
        """The answer to a request, whatever the script does."""
        try:
            if self._flask is None:
                return self._answer(request, times)
            with self._flask.request_context(environment_of(request)):
                return self._answer(request, times)
        except Refused as refused:
            return refused.answer
        except BaseException:
            self._leave_child(1)
            complain()
            return INTERNAL_ERROR

    def _answer(self, request, times):
        arguments = self._arguments(request)
        if self._wants_headers:
            arguments["request_headers"] = request.headers()
        times[1] = times[2] = clock_ns()
        try:
            if self._timeout_ms is None:
                output = self._run(**arguments)
            else:
                output = self._run_in_time(arguments)
        except BaseException as problem:
            return self._failed(problem)
        times[3] = clock_ns()
        self._leave_child(0)
        answer = answer_of(output)
        # Where it is not set the answer is none that the script has given.
        times[4] = clock_ns()
        return answer

    def _run_in_time(self, arguments):
        """Runs under an alarm, as the variable of the script wants it."""

        def ring(_signal, _frame):
            raise ScoringTimeout

        before = signal.signal(signal.SIGALRM, ring)
        try:
            signal.setitimer(signal.ITIMER_REAL, self._timeout_ms / 1000)
            return self._run(**arguments)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)

    def _failed(self, problem):
        """The answer where `run` has raised something."""
        if isinstance(problem, SystemExit):
            self._leave_child(exit_code(problem))
        complain()
        self._leave_child(1)
        if isinstance(problem, ScoringTimeout):
            return error(500, "Scoring timeout after {} ms".format(self._timeout_ms), True)
        return SCRIPT_ERROR

    def _leave_child(self, code):
        """Ends a child that the script has forked and that came back from `run`: the requests are this process's alone."""
        if os.getpid() != self.pid:
            flush()
            os._exit(code)

    def _text_argument(self, request):
        """The body as text, or the query as JSON."""
        method = request.method()
        if method == "POST":
            if request.is_form():
                return {self._name: ""}
            try:
                return {self._name: str(request.body, "utf-8")}
            except UnicodeDecodeError as problem:
                message = "Input cannot be decoded as UTF-8: {}".format(problem)
                raise Refused(error(400, message)) from None
        return {self._name: json.dumps(query_or_refusal(request, method))}

    def _schema_arguments(self, request):
        """The values of a JSON dictionary, or of the query, by name."""
        method = request.method()
        values = body_values(request) if method == "POST" else query_or_refusal(request, method)
        arguments = {}
        for parameter in self._inputs:
            value = values.get(parameter.name, parameter.default)
            if value is inspect.Parameter.empty:
                message = "A value is not provided for the {!r} parameter.".format(parameter.name)
                raise Refused(error(400, message))
            arguments[parameter.name] = value
        return arguments

    def _raw_argument(self, request):
        """The request itself."""
        if self._flask is None:
            return {self._name: ShimRequest(request)}
        return {self._name: sys.modules["flask"].request._get_current_object()}


def without_examples(schema):
    """A schema without the examples in it. A property may have that name, and stays."""
    bare = {name: value for name, value in schema.items() if name != "example"}
    if isinstance(bare.get("properties"), dict):
        bare["properties"] = {name: without_examples(value) for name, value in bare["properties"].items()}
    if isinstance(bare.get("items"), dict):
        bare["items"] = without_examples(bare["items"])
    return bare


def query_or_refusal(request, method):
    """The parameters of a GET; other methods do not come to `run`."""
    if method == "GET":
        return request.query()
    raise Refused(NOTHING if method == "OPTIONS" else NOT_ALLOWED)


def body_values(request):
    """The JSON dictionary of a body."""
    if not request.is_json():
        raise Refused(error(415, "Expects Content-Type to be application/json"))
    try:
        values = json.loads(bytes(request.body))
    except json.JSONDecodeError as problem:
        message = "POST body could not be decoded as JSON: {}".format(problem)
        if not request.body:
            message = "POST body is empty. Expecting a JSON dictionary."
        raise Refused(error(400, message)) from None
    if not isinstance(values, dict):
        raise Refused(error(400, "POST body should be a JSON dictionary."))
    return values


def parameters_of(run):
    """The parameters of `run`, each of which can be given by its name."""
    if inspect.iscoroutinefunction(run):
        raise NotStarted("run() is async: expected a plain function, for nobody awaits it")
    try:
        parameters = list(inspect.signature(run).parameters.values())
    except (TypeError, ValueError) as problem:
        raise NotStarted("run is no function with parameters: {}".format(problem)) from None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    wrong = [str(parameter) for parameter in parameters if parameter.kind not in named]
    if wrong:
        raise NotStarted("run() has {}: expected parameters with names alone, as in run(data)".format(", ".join(wrong)))
    return parameters


def scoring_timeout_ms():
    """The longest that a run may take by the script's own variable; none where it says nothing."""
    text = os.environ.get("SCORING_TIMEOUT_MS")
    if text is None:
        return None
    try:
        timeout = int(text)
    except ValueError:
        timeout = 0
    if not 1 <= timeout <= 10**12:
        raise NotStarted("SCORING_TIMEOUT_MS: expected milliseconds, found {!r}".format(text))
    return timeout


def exit_code(problem):
    """The exit code that an uncaught `sys.exit` means."""
    if problem.code is None:
        return 0
    if isinstance(problem.code, int):
        return problem.code & 0xFF
    complain(str(problem.code))
    return 1


# ---
# What a script finds where its environment has no Flask.

REQUEST_MODULE = "azureml_inference_server_http.api.aml_request"
SCHEMA_MODULE = "inference_schema.schema_util"


class Headers:
    """The headers of a request or a response: in their order, found in any spelling."""

    def __init__(self, pairs=()):
        self._pairs = [(str(name), value) for name, value in pairs]

    def getlist(self, name):
        """All values of a header."""
        return [value for known, value in self._pairs if known.lower() == name.lower()]

    def get(self, name, default=None, type=None):
        """The first value of a header."""
        found = self.getlist(name)
        if not found:
            return default
        return found[0] if type is None else type(found[0])

    def add(self, name, value):
        """One more value."""
        value = str(value)
        if "\n" in value or "\r" in value:
            raise ValueError("Header values must not contain newline characters.")
        self._pairs.append((name, value))

    add_header = add

    def remove(self, name):
        """No value any more."""
        self._pairs = [pair for pair in self._pairs if pair[0].lower() != name.lower()]

    def set(self, name, value):
        """This value alone."""
        self.remove(name)
        self.add(name, value)

    def items(self):
        """Names and values in their order."""
        return list(self._pairs)

    def keys(self):
        """The names in their order."""
        return [name for name, _ in self._pairs]

    def values(self):
        """The values in their order."""
        return [value for _, value in self._pairs]

    def __getitem__(self, name):
        found = self.getlist(name)
        if not found:
            raise KeyError(name)
        return found[0]

    __setitem__ = set
    __delitem__ = remove

    def __contains__(self, name):
        return bool(self.getlist(name))

    def __iter__(self):
        return iter(self._pairs)

    def __len__(self):
        return len(self._pairs)

    def __str__(self):
        return "".join("{}: {}\r\n".format(name, value) for name, value in self._pairs) + "\r\n"


class MultiDict(dict):
    """Parameters that may be repeated: the first value of each counts, and `getlist` has them all."""

    def __init__(self, pairs=()):
        super().__init__()
        self._lists = {}
        for name, value in pairs:
            self.setdefault(name, value)
            self._lists.setdefault(name, []).append(value)

    def getlist(self, name):
        """All values of a parameter."""
        return list(self._lists.get(name, []))

    def to_dict(self, flat=True):
        """A plain dictionary, of first values or of lists."""
        return dict(self) if flat else {name: list(values) for name, values in self._lists.items()}


class UploadedFile:
    """A file of a form."""

    def __init__(self, name, filename, headers, content):
        self.name = name
        self.filename = filename
        self.headers = headers
        self.stream = io.BytesIO(content)

    @property
    def content_type(self):
        """The media type that the client gave."""
        return self.headers.get("Content-Type")

    @property
    def mimetype(self):
        """The media type without its parameters."""
        return (self.content_type or "").partition(";")[0].strip().lower()

    def read(self, *arguments):
        """Bytes of the file."""
        return self.stream.read(*arguments)

    def save(self, target):
        """Writes the file to a path or a stream."""
        if hasattr(target, "write"):
            target.write(self.stream.read())
            return
        with open(target, "wb") as file:
            file.write(self.stream.read())

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def __iter__(self):
        return iter(self.stream)

    def __bool__(self):
        return bool(self.filename)


class ShimRequest:
    """The usual attributes of a Flask request."""

    charset = "utf-8"
    scheme = "http"
    is_secure = False
    remote_addr = None
    script_root = root_path = ""

    def __init__(self, request=None):
        if request is None:
            request = Request(b'{"method":"GET","path":"/","query":"","headers":[]}', b"")
        self._request = request
        self._body = bytes(request.body)
        self._fields = None
        self.method = request.method()
        self.path = urllib.parse.unquote(request.head["path"])
        self.query_string = (request.head["query"] or "").encode()
        self.headers = Headers(request.headers().items())
        self.args = MultiDict(query_pairs(request.head["query"] or ""))
        self.stream = io.BytesIO(self._body)
        self.environ = environment_of(request)

    @property
    def content_type(self):
        """The header, as it came."""
        return self.headers.get("Content-Type")

    @property
    def content_length(self):
        """The length of the body."""
        return len(self._body)

    @property
    def content_encoding(self):
        """The header, as it came."""
        return self.headers.get("Content-Encoding")

    @property
    def mimetype(self):
        """The media type without its parameters."""
        return self._request.content_type()[0]

    @property
    def is_json(self):
        """Whether the body says that it is JSON."""
        return self._request.is_json()

    @property
    def data(self):
        """The body; nothing where it is a form."""
        return b"" if self._request.is_form() else self._body

    def get_data(self, cache=True, as_text=False, parse_form_data=False):
        """The body."""
        body = self.data if parse_form_data else self._body
        return body.decode(errors="replace") if as_text else body

    @property
    def json(self):
        """The value of a JSON body."""
        return self.get_json()

    def get_json(self, force=False, silent=False, cache=True):
        """The value of a JSON body."""
        try:
            if not (force or self.is_json):
                raise ValueError("expected a body of the type application/json, found {!r}".format(self.content_type))
            return json.loads(self._body.decode())
        except ValueError:
            if silent:
                return None
            raise

    @property
    def form(self):
        """The fields of a form that are no files."""
        return self._parts()[0]

    @property
    def files(self):
        """The files of a form."""
        return self._parts()[1]

    @property
    def values(self):
        """Parameters of the query and of the form."""
        both = [self.args] + ([self.form] if self.method in ("POST", "PUT", "PATCH") else [])
        return MultiDict((name, value) for fields in both for name in fields for value in fields.getlist(name))

    @property
    def cookies(self):
        """The cookies by name."""
        pairs = (pair.partition("=") for pair in self.headers.get("Cookie", "").split(";"))
        return MultiDict((name.strip(), value.strip().strip('"')) for name, _, value in pairs if name.strip())

    @property
    def host(self):
        """The header, or nothing."""
        return self.headers.get("Host", "")

    @property
    def full_path(self):
        """The path with the query."""
        return "{}?{}".format(self.path, self.query_string.decode())

    @property
    def host_url(self):
        """The address of the host."""
        return "http://{}/".format(self.host)

    url_root = host_url

    @property
    def base_url(self):
        """The address without the query."""
        return "http://{}{}".format(self.host, self._request.head["path"])

    @property
    def url(self):
        """The address."""
        query = self.query_string.decode()
        return self.base_url + ("?" + query if query else "")

    def _parts(self):
        if self._fields is None:
            kind, parameters = self._request.content_type()
            if kind == FORM_TYPES[0]:
                self._fields = MultiDict(query_pairs(self._body.decode(errors="replace"))), MultiDict()
            elif kind == FORM_TYPES[1]:
                self._fields = multipart(self._body, parameters)
            else:
                self._fields = MultiDict(), MultiDict()
        return self._fields


def multipart(body, parameters):
    """The fields and the files of a form in parts."""
    from email.message import Message

    whole = Message()
    whole["Content-Type"] = "multipart/form-data;" + parameters
    boundary = whole.get_boundary("").encode()
    fields, files = [], []
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:] if boundary else []:
        if part.startswith(b"--"):
            break
        head, _, content = part.partition(b"\r\n\r\n")
        message = Message()
        for line in head.decode(errors="replace").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                message[name.strip()] = value.strip()
        name = message.get_param("name", "", "content-disposition")
        if message.get_filename() is None:
            fields.append((name, content.decode(errors="replace")))
        else:
            files.append((name, UploadedFile(name, message.get_filename(), Headers(message.items()), content)))
    return MultiDict(fields), MultiDict(files)


class ShimResponse:
    """The usual attributes of a Flask response, with the arguments of `AMLResponse`."""

    def __init__(self, message, status_code, response_headers={}, json_str=False, run_function_failed=False):
        self.status_code = int(str(status_code).split()[0]) if isinstance(status_code, str) else int(status_code)
        self.headers = Headers()
        is_json = json_str or message is None
        if is_json:
            message = json.dumps({} if message is None else message)
        if is_json or "Content-Type" not in response_headers:
            self.headers.add("Content-Type", "application/json" if is_json else "text/html; charset=utf-8")
        self.set_data(message)
        self.headers.set("x-ms-run-function-failed", run_function_failed)
        for name, values in response_headers.items():
            for value in values.split(","):
                self.headers.add(name, value.strip())

    def set_data(self, value):
        """Another body: text, bytes, or several of them."""
        parts = [value] if isinstance(value, (str, bytes, bytearray)) else value
        self._body = b"".join(part.encode() if isinstance(part, str) else bytes(part) for part in parts)

    def get_data(self, as_text=False):
        """The body."""
        return self._body.decode() if as_text else self._body

    data = property(get_data, set_data)

    @property
    def status(self):
        """The status as text."""
        return str(self.status_code)

    @property
    def content_type(self):
        """The header."""
        return self.headers.get("Content-Type")

    @content_type.setter
    def content_type(self, value):
        self.headers.set("Content-Type", value)

    @property
    def mimetype(self):
        """The media type without its parameters."""
        return (self.content_type or "").partition(";")[0].strip().lower()

    def get_json(self, force=False, silent=False):
        """The value of a JSON body."""
        return json.loads(self._body.decode())

    json = property(get_json)

    def close(self):
        """Nothing to be given back."""


class LateModule(types.ModuleType):
    """A second name of a module, which is imported when a script asks for something of it: Flask takes long to import."""

    def __init__(self, name, real):
        super().__init__(name)
        self.__dict__["_real"] = real

    def __getattr__(self, name):
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        real = importlib.import_module(self._real)
        sys.modules[self.__name__] = real
        if name == "__all__":
            return [public for public in vars(real) if not public.startswith("_")]
        return getattr(real, name)


def offer_modules():
    """Makes the modules importable by which scripts ask for raw requests: the real ones where there are any."""
    package = "azureml_inference_server_http"
    has_real = importlib.util.find_spec(package) is not None
    for name in ("aml_request", "aml_response"):
        real, alias = "{}.api.{}".format(package, name), "azureml.contrib.services." + name
        if has_real:
            sys.modules[alias] = LateModule(alias, real)
        else:
            sys.modules[alias] = sys.modules[real] = shim_module(real)
    if not has_real:
        for name in (package, package + ".api"):
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = []
        top, api = sys.modules[package], sys.modules[package + ".api"]
        top.api = api
        api.aml_request, api.aml_response = sys.modules[REQUEST_MODULE], sys.modules[package + ".api.aml_response"]


def shim_module(name):
    """A module with classes of this file."""
    module = types.ModuleType(name)
    if name.endswith("aml_response"):
        module.AMLResponse = ShimResponse
        return module

    def rawhttp(run):
        module._rawHttpRequested = True
        return run

    module._rawHttpRequested = False
    module.AMLRequest, module.rawhttp = ShimRequest, rawhttp
    return module


def environment_of(request):
    """The request as a WSGI server describes it to Flask."""
    head = request.head
    headers = request.headers()
    host, _, port = headers.get("Host", "localhost").partition(":")
    environment = {
        "REQUEST_METHOD": head["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": urllib.parse.unquote_to_bytes(head["path"]).decode("latin-1"),
        "QUERY_STRING": head["query"] or "",
        "RAW_URI": head["path"] + ("?" + head["query"] if head["query"] else ""),
        "SERVER_NAME": host,
        "SERVER_PORT": port or "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in headers.items():
        name = name.upper().replace("-", "_")
        environment[name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + name] = value
    return environment


# ---
# The start.

# Packages that are called otherwise than the module which they bring.
PACKAGES = {
    "azureml": "azureml-core",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "inference_schema": "inference-schema",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def start(order):
    """Loads the script and calls its `init`."""
    limit(order.get("memory_bytes_max"))
    set_up(order)
    module = load(order)
    for name in ("init", "run"):
        if not hasattr(module, name):
            functions = [name for name, value in vars(module).items() if inspect.isfunction(value)]
            there = "it has " + ", ".join(functions) if functions else "it has no function at all"
            raise NotStarted("{} has no function {}(): {}".format(order["entry_script"], name, there))
    if inspect.iscoroutinefunction(module.init):
        raise NotStarted("init() is async: expected a plain function, for nobody awaits it")
    # A driver module, which some tools write, calls the real script; its `run` is the one that knows its parameters.
    driver = getattr(module, "driver_module", None)
    is_driver = isinstance(driver, types.ModuleType) and hasattr(driver, "run")
    script = Script(module, driver.run if is_driver else module.run)
    attempt(module.init, "init()", order)
    if os.getpid() != script.pid:
        flush()
        os._exit(0)
    script.prepare()
    freeze()
    return script


def limit(memory_bytes_max):
    """Bounds what the process may take."""
    # A crash is an answer; nobody wants its core file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if memory_bytes_max is not None:
        most = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if most != resource.RLIM_INFINITY:
            memory_bytes_max = min(memory_bytes_max, most)
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes_max, memory_bytes_max))


def set_up(order):
    """Makes the process what a script expects around it."""
    if order.get("cores"):
        # As far as the system lets it: the server looks where it may run.
        try:
            os.sched_setaffinity(0, order["cores"])
        except OSError:
            pass
    if order.get("comm"):
        # For `ps` and `top`; a process with another name is as good.
        try:
            with open("/proc/self/comm", "w") as file:
                file.write(order["comm"])
        except OSError:
            pass
    variables = {
        "AML_APP_ROOT": order["app_root"],
        "AZUREML_ENTRY_SCRIPT": order["entry_script"],
        "AZUREML_SOURCE_DIRECTORY": order["source_directory"],
    }
    if order.get("model_dir") is not None:
        variables["AZUREML_MODEL_DIR"] = order["model_dir"]
    # What the file says counts most.
    variables.update(order.get("variables") or {})
    os.environ.update(variables)
    folder = os.path.dirname(order["entry_script"])
    try:
        os.chdir(folder)
    except OSError as problem:
        raise NotStarted("cannot work in {}: {}".format(folder, problem)) from None
    own = os.path.dirname(os.path.abspath(__file__))
    others = [path for path in sys.path if path and os.path.abspath(path) != own]
    sys.path[:] = [folder] + others + [order["app_root"], order["source_directory"]]
    sys.argv[:] = [order["entry_script"]]
    write_by_lines()
    # The log then has where a script ended the process.
    faulthandler.enable()
    offer_modules()


def write_by_lines():
    """Lets what the script prints appear line by line, whatever characters are in it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
        elif stream is not None:
            setattr(sys, name, io.TextIOWrapper(stream.detach(), "utf-8", "backslashreplace", line_buffering=True))


def load(order):
    """The script as a module, under the name by which Azure's server loads it."""
    path = order["entry_script"]
    spec = importlib.util.spec_from_file_location("entry_module", path)
    if spec is None:
        raise NotStarted("expected a scoring script whose name ends in .py, found {}".format(path))
    if not os.path.isfile(path):
        raise NotStarted("there is no scoring script {}".format(path))
    module = importlib.util.module_from_spec(spec)
    # Some packages look up the module of a class by its name.
    sys.modules["entry_module"] = module
    attempt(lambda: spec.loader.exec_module(module), os.path.basename(path), order)
    return module


def attempt(work, name, order):
    """Does a part of the start, and says for a person why it failed."""
    pid = os.getpid()
    try:
        work()
        return
    except BaseException as problem:
        found = problem
    if os.getpid() != pid:
        if not isinstance(found, SystemExit):
            complain()
        os._exit(exit_code(found) if isinstance(found, SystemExit) else 1)
    if isinstance(found, SystemExit):
        raise NotStarted("{} called sys.exit({})\n{}".format(name, "" if found.code is None else found.code, trace(found)))
    if isinstance(found, SyntaxError):
        line = (found.text or "").strip()
        place = "{}, line {}".format(found.filename, found.lineno)
        raise NotStarted("a syntax error in {}: {}{}".format(place, found.msg, "\n    " + line if line else ""))
    if isinstance(found, ModuleNotFoundError) and found.name:
        raise NotStarted(missing(found, order))
    words = "{} raised {}".format(name, type(found).__name__)
    if isinstance(found, MemoryError) and order.get("memory_bytes_max") is not None:
        words += ": the process may have {} bytes of memory".format(order["memory_bytes_max"])
    raise NotStarted("{}\n{}".format(words, trace(found)))


def missing(problem, order):
    """The reason where an import is missing."""
    top = problem.name.partition(".")[0]
    package = PACKAGES.get(top, top)
    frames = traceback.extract_tb(without_own(problem.__traceback__))
    frames = [frame for frame in frames if not frame[0].startswith("<")]
    place = "{}, line {}: ".format(frames[-1][0], frames[-1][1]) if frames else ""
    words = '{}there is no module "{}", beside the script or among the packages of its Python {}. '.format(
        place, problem.name, version()
    )
    if order.get("environment"):
        return words + 'Packages come from {}: write "{}" there'.format(order["environment"], package)
    return words + 'The deployment names no environment: name one that has "{}", or install it for {}'.format(
        package, sys.executable
    )


def trace(problem):
    """The traceback of the script, without this file; the end of it where it is long."""
    parts = traceback.format_exception(type(problem), problem, without_own(problem.__traceback__))
    text = "".join(parts).strip()
    if len(text) <= REASON_CHARACTERS_MAX:
        return text
    cut = text[-REASON_CHARACTERS_MAX:]
    return "...\n" + (cut[cut.find("\n") + 1 :] if "\n" in cut else cut)


def without_own(frames):
    """The frames from the script's first on."""
    own = ("<frozen importlib", main.__code__.co_filename)
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(own):
        frames = frames.tb_next
    return frames


def complain(words=None):
    """Writes words, or what was raised last, where the log takes it from. A script may have closed that."""
    try:
        if words is None:
            kind, problem, frames = sys.exc_info()
            words = "".join(traceback.format_exception(kind, problem, without_own(frames))).rstrip()
        sys.stderr.write(words + "\n")
        sys.stderr.flush()
    except BaseException:
        return


def flush():
    """Writes what is printed and not written yet."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            continue


def freeze():
    """Keeps what `init` has made out of later collections of garbage, which would go through all of it."""
    import gc

    gc.collect()
    if hasattr(gc, "freeze"):
        gc.freeze()


def version():
    """The version of this Python."""
    return ".".join(map(str, sys.version_info[:3]))


def leave_ending_to_the_server(parent):
    """Ends with the server, and not by signals that are for the whole service."""
    if LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise NotStarted("cannot ask to be ended with the server")
    # Ended before that: the parent is another process by now.
    if os.getppid() != parent:
        os._exit(1)
    for number in LEFT_TO_THE_SERVER:
        # Not ignored: a program that the script starts would ignore it too.
        signal.signal(number, let_pass)
        signal.siginterrupt(number, False)
    look_after_children()


def let_pass(_signal, _frame):
    """A signal that is not for this process."""


def look_after_children():
    """Lets children that the script forks be ended as usual, and with this process."""
    first = threading.get_ident()
    forking = threading.local()

    def before():
        forking.parent = os.getpid()
        # One that comes at once waits until the child is ready to be ended by it.
        forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_THE_SERVER)

    def in_parent():
        signal.pthread_sigmask(signal.SIG_SETMASK, forking.mask)

    def in_child():
        for number in LEFT_TO_THE_SERVER:
            if signal.getsignal(number) is let_pass:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, forking.mask)
        # The signal comes when the thread that forked ends: others than the first may do so long before the process.
        if threading.get_ident() == first:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != forking.parent:
                os._exit(1)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)
        return
    # Python 3.6.
    fork = os.fork

    def fork_with_care():
        before()
        child = None
        try:
            child = fork()
        finally:
            (in_child if child == 0 else in_parent)()
        return child

    os.fork = fork_with_care


def refuse(page, reason):
    """Ends with the reason why the script does not start."""
    page.report({"Err": reason})
    flush()
    os._exit(1)


def main():
    """The life of the process. It ends with the server, or when it has said why it does not start."""
    layout = loads(sys.argv[1])
    leave_ending_to_the_server(layout["parent"])
    page = Page(layout)
    try:
        begin, end = page.span(0, "body")
        script = start(loads(page.memory[begin:end].decode()))
    except NotStarted as problem:
        refuse(page, str(problem))
    except BaseException as problem:
        refuse(page, "the process of the script could not be prepared\n{}".format(trace(problem)))
    # Before the server may submit: it does so from then on.
    seen = page.submissions()
    page.report({"Ok": {"python": version(), "schemas": script.schemas()}})
    answer_for_ever(page, script, seen)


if __name__ == "__main__":
    main()
