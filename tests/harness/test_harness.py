"""What the harness promises beside the contract, under the Python that `HARNESS_PYTHON` names: standard library alone."""

import faulthandler
import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import textwrap
import types
import unittest
from pathlib import Path

from driver import ANSWERED, HANG_S, HARNESS, LAYOUT, PATIENCE_S, WAITING, Lane

PYTHON = os.environ.get("HARNESS_PYTHON", sys.executable)
HEAD = {"method": "POST", "path": "/score", "query": "", "headers": []}


def version():
    """The version of the Python that runs the harness."""
    program = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
    return subprocess.run([PYTHON, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


VERSION = version()


def setUpModule():
    """Says what is tested. A hang is a failure."""
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    print("the harness under Python {} ({})".format(VERSION, PYTHON))


class Harness(unittest.TestCase):
    """A folder for scripts, and what is started is ended."""

    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="harness")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def lane(self, text, **order):
        """The process of a script with this text."""
        script = self.folder / "score.py"
        script.write_text(textwrap.dedent(text), encoding="utf-8")
        lane = Lane(script, PYTHON, **order)
        self.addCleanup(lane.close)
        return lane

    def started(self, text, **order):
        """The same, ready."""
        return self.lane(text, **order).started()

    def run_of(self, body, **order):
        """A script whose `run` has this body."""
        text = "import json, os, signal, subprocess, sys, threading, time\ndef init(): pass\ndef run(data):\n"
        return self.started(text + textwrap.indent(textwrap.dedent(body), "    "), **order)

    def reason(self, text, **order):
        """Why a script does not start."""
        return self.lane(text, **order).refused()

    def pipe(self, name):
        """A pipe in the folder: who opens it waits for the other side."""
        path = self.folder / name
        os.mkfifo(path)
        return path


class Start(Harness):
    """The report of a process."""

    def test_a_script_that_starts_is_reported_with_the_version(self):
        lane = self.run_of("return data")
        self.assertEqual(lane.report, {"Ok": {"python": VERSION, "schemas": None}})

    def test_init_is_called_once_and_before_any_request(self):
        lane = self.started("calls = []\ndef init(): calls.append(1)\ndef run(data): return calls")
        for _ in range(3):
            self.assertEqual(lane.score().json(), [1])

    def test_a_missing_function_is_named_with_those_that_are_there(self):
        reason = self.reason("def predict(x): pass\ndef init(): pass")
        self.assertIn("has no function run(): it has predict, init", reason)
        self.assertIn("score.py", reason)
        self.assertIn("it has no function at all", self.reason("x = 1"))

    def test_a_syntax_error_is_told_with_file_and_line(self):
        reason = self.reason("def init(): pass\n\ndef run(data)\n    pass")
        self.assertIn("score.py, line 3", reason)
        self.assertIn("def run(data)", reason)
        (self.folder / "other.py").write_text("x = (")
        self.assertIn("other.py, line 1", self.reason("import other"))

    def test_a_missing_import_names_the_package_and_the_file(self):
        reason = self.reason("import os\nimport sklearn.linear_model", environment="conda.yml")
        self.assertIn('there is no module "sklearn"', reason)
        self.assertIn('Packages come from conda.yml: write "scikit-learn" there', reason)
        self.assertIn("score.py, line 2", reason)
        self.assertIn(VERSION, reason)

    def test_a_missing_import_says_so_where_no_environment_is_named(self):
        reason = self.reason("def init():\n    import xgboost_of_ours\ndef run(data): pass")
        self.assertIn('names no environment: name one that has "xgboost_of_ours", or install it for', reason)
        self.assertIn("score.py, line 2", reason)

    def test_an_exception_is_told_with_the_scripts_frames_alone(self):
        reason = self.reason("def load():\n    raise ValueError('no model')\ndef init():\n    load()\ndef run(data): pass")
        self.assertTrue(reason.startswith("init() raised ValueError\nTraceback"), reason)
        self.assertTrue(reason.endswith("ValueError: no model"), reason)
        self.assertNotIn("harness.py", reason)
        reason = self.reason("x = {}['missing']")
        self.assertIn("KeyError: 'missing'", reason)
        self.assertNotIn("harness.py", reason)
        self.assertNotIn("importlib", reason)

    def test_a_long_traceback_is_told_from_its_end(self):
        reason = self.reason("def init():\n    raise ValueError('x' * 100000 + ' the end')\ndef run(data): pass")
        self.assertTrue(reason.endswith("the end"))
        reason = self.reason("def init():\n    raise ValueError('line\\n' * 100000 + 'the end')\ndef run(data): pass")
        self.assertTrue(reason.endswith("line\nthe end"))

    def test_an_exit_in_the_script_is_told(self):
        self.assertIn("score.py called sys.exit(why)", self.reason("import sys\nsys.exit('why')"))
        self.assertIn("init() called sys.exit(3)", self.reason("def init(): raise SystemExit(3)\ndef run(data): pass"))

    def test_an_interrupt_in_init_is_told(self):
        self.assertIn("KeyboardInterrupt", self.reason("def init(): raise KeyboardInterrupt\ndef run(data): pass"))

    def test_functions_that_nobody_would_await_are_refused(self):
        self.assertIn("run() is async", self.reason("def init(): pass\nasync def run(data): pass"))
        self.assertIn("init() is async", self.reason("async def init(): pass\ndef run(data): pass"))

    def test_parameters_without_names_are_refused(self):
        self.assertIn("run() has *args", self.reason("def init(): pass\ndef run(*args): pass"))
        self.assertIn("run is no function", self.reason("def init(): pass\nrun = 5"))

    def test_a_script_that_is_not_there_is_refused(self):
        for name, words in (("no.py", "there is no scoring script"), ("score.txt", "whose name ends in .py")):
            lane = Lane(self.folder / name, PYTHON)
            self.addCleanup(lane.close)
            self.assertIn(words, lane.refused())
        lane = Lane(self.folder / "nowhere/score.py", PYTHON)
        self.addCleanup(lane.close)
        self.assertIn("cannot work in", lane.refused())

    def test_a_timeout_that_is_no_number_is_refused(self):
        for text in ("soon", "0", "-1", "1" * 30):
            reason = self.reason("def init(): pass\ndef run(data): pass", variables={"SCORING_TIMEOUT_MS": text})
            self.assertIn("SCORING_TIMEOUT_MS: expected milliseconds, found", reason)

    def test_a_script_that_takes_more_memory_than_it_may_is_told_so(self):
        text = "def init():\n    global x\n    x = bytearray(2 << 30)\ndef run(data): pass"
        self.assertIn("536870912 bytes of memory", self.reason(text, memory_bytes_max=512 << 20))

    def test_a_bound_of_memory_above_that_of_the_server_is_that_of_the_server(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        text = "import resource\ndef init(): pass\ndef run(data): return resource.getrlimit(resource.RLIMIT_DATA)[1]"
        lane = self.lane(text, memory_bytes_max=2 << 30, data_limit=1 << 30)
        self.assertEqual(lane.started().score().json(), 1 << 30)
        self.assertEqual(resource.getrlimit(resource.RLIMIT_DATA), (soft, hard))

    def test_what_goes_wrong_before_the_script_is_told_too(self):
        reason = self.reason("def init(): pass\ndef run(data): pass", variables={"no=name": "x\0"}, given=False)
        self.assertIn("could not be prepared", reason)

    def test_a_process_whose_parent_is_another_one_ends_at_once(self):
        layout = json.dumps({"fd": 0, "parent": 1})
        finished = subprocess.run([PYTHON, str(HARNESS), layout], timeout=PATIENCE_S)
        self.assertEqual(finished.returncode, 1)

    def test_the_standard_library_is_the_scripts_to_shadow_and_not_the_harness(self):
        (self.folder / "json.py").write_text("dumps = None")
        lane = self.run_of("return [data]")
        self.assertEqual(lane.score("x").body, b'["x"]')

    def test_a_driver_module_is_called_for_init_and_its_script_for_run(self):
        (self.folder / "real.py").write_text("calls = []\ndef run(data): return calls")
        lane = self.started("""
            import real as driver_module
            def init(): driver_module.calls.append(1)
            def run(data): return "driver"
        """)
        self.assertEqual(lane.score().json(), [1])


class Batches(Harness):
    """Several requests that were submitted together."""

    def test_requests_are_answered_each_in_its_row(self):
        lane = self.run_of("return data * int(data)")
        lane.submit([(HEAD, b"1"), (HEAD, b"2"), (HEAD, b"3")])
        self.assertEqual([answer.json() for answer in lane.collect(3)], ["1", "22", "333"])

    def test_one_that_is_canceled_before_it_begins_does_not_run(self):
        begun, go_on = self.pipe("begun"), self.pipe("go_on")
        lane = self.run_of("""
            if data == "wait":
                open("begun", "w").close()
                open("go_on").close()
            return data
        """)
        lane.submit([(HEAD, b"wait"), (HEAD, b"second"), (HEAD, b"third")])
        begun.open().close()
        lane.cancel(0)
        lane.cancel(1)
        go_on.open("w").close()
        answers = lane.collect(3)
        self.assertEqual([answer.kind for answer in answers], [0, 1, 0])
        self.assertEqual([answer.json() for answer in answers], ["wait", "Abandoned", "third"])

    def test_short_runs_are_told_before_a_long_one_behind_them_ends(self):
        begun, go_on = self.pipe("begun"), self.pipe("go_on")
        lane = self.run_of("""
            time.sleep(0.001)
            if data == "wait":
                open("begun", "w").close()
                open("go_on").close()
            return data
        """)
        told = lane.words[16]
        lane.submit([(HEAD, b"short"), (HEAD, b"wait")])
        begun.open().close()
        self.assertEqual(lane.words[16], told + 1)
        go_on.open("w").close()
        lane.collect(2)
        self.assertEqual(lane.words[16], told + 2)

    def test_no_batch_is_lost(self):
        lane = self.run_of("return data")
        for number in range(3000):
            self.assertEqual(lane.score(str(number)).json(), str(number))

    def test_the_moments_of_a_request_are_in_order(self):
        lane = self.run_of("return json.loads(data)")
        lane.score("{}")
        times = lane.times(0)
        self.assertEqual(times, sorted(times))
        self.assertGreater(times[0], 0)
        for body in ("no json", b"\xff"):
            lane.score(body)
            self.assertEqual(lane.times(0)[4], 0)

    def test_an_answer_that_finds_no_room_is_an_error_that_says_so(self):
        lane = self.run_of("return 'x' * int(data)", room_bytes=64 << 10)
        answer = lane.score("100000")
        self.assertEqual((answer.status, answer.failed), (500, True))
        self.assertIn("too long: expected at most 65408 bytes, found 100002", answer.json()["message"])
        self.assertEqual(lane.score("3").json(), "xxx")
        # The body leaves no room at all.
        head = len(json.dumps(HEAD, separators=(",", ":"))) + 4
        lane.submit([(HEAD, b"1".zfill((64 << 10) - head))])
        (answer,) = lane.collect(1)
        self.assertEqual((answer.kind, answer.body), (1, b""))
        self.assertEqual(lane.score("3").json(), "xxx")

    def test_a_body_may_be_empty_and_a_batch_too(self):
        lane = self.run_of("return [data]")
        lane.submit([])
        lane.submit([(HEAD, b""), (HEAD, b"")])
        self.assertEqual([answer.json() for answer in lane.collect(2)], [[""], [""]])


class Once:
    """Raises the first time that it is used, as a signal handler of a script might."""

    def __init__(self, then=None):
        self.uses = 0
        self._then = then

    def __call__(self, *arguments):
        self.uses += 1
        if self.uses == 1:
            raise RuntimeError("rung")
        return self._then(*arguments)


class Interruptions(unittest.TestCase):
    """What comes in the middle of an answer, at the very places where it does most harm. It is played in this process."""

    def setUp(self):
        spec = importlib.util.spec_from_file_location("harness", HARNESS)
        self.harness = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.harness)
        file = os.memfd_create("lane")
        os.ftruncate(file, 1 << 16)
        self.page = self.harness.Page(dict(LAYOUT, fd=file, room_bytes=(1 << 16) - LAYOUT["room"]))
        self.page.words[self.page.rows] = 1
        self.page.words[self._at("state")] = WAITING

    def _at(self, field):
        return (LAYOUT["table"] + LAYOUT["row"][field]) // 4

    def _go_on_twice(self, answer):
        batch = self.harness.Batch(self.page, types.SimpleNamespace(answer=answer), 1)
        with self.assertRaises(RuntimeError):
            batch.go_on()
        batch.go_on()
        self.assertEqual(self.page.words[self._at("state")], ANSWERED)
        start, end = self.page.span(0, "answer")
        return self.page.words[self._at("kind")], self.page.memory[start:end]

    def test_a_request_that_was_interrupted_does_not_run_twice(self):
        run = Once()
        kind, answer = self._go_on_twice(run)
        self.assertEqual((run.uses, kind), (1, 2))
        self.assertIn(b"An unexpected internal error occurred", answer)

    def test_an_answer_that_is_written_and_not_told_is_told(self):
        self.page.fence = Once(lambda: None)
        runs = []

        def run(*_request):
            runs.append(1)
            return None, b"[1]"

        self.assertEqual(self._go_on_twice(run), (0, b"[1]"))
        self.assertEqual(runs, [1])

    def test_a_lock_that_was_taken_and_never_given_back_holds_nobody_up(self):
        self.page._lock.acquire()
        self.assertEqual(self._go_on_twice(Once()), self._go_on_twice(Once()))
        self.assertFalse(self.page._lock.locked())


class Harm(Harness):
    """Scripts that do what a scoring script should not."""

    def test_what_forks_is_answered_once(self):
        lane = self.run_of("""
            child = os.fork()
            if child:
                return os.waitpid(child, 0)[1]
            if data == "exit":
                sys.exit(3)
            if data == "raise":
                raise ValueError
            return "child"
        """)
        for body, status in (("", 0), ("exit", 3 << 8), ("raise", 1 << 8), ("", 0)):
            self.assertEqual(lane.score(body).json(), status)

    def test_an_init_that_forks_is_reported_once(self):
        lane = self.started("""
            import os
            def init():
                global child
                child = os.fork()
            def run(data):
                return [child > 0, os.waitpid(child, 0)[1]]
        """)
        self.assertEqual(lane.score().json(), [True, 0])

    def test_a_child_is_ended_with_the_process(self):
        pipe = self.pipe("alive")
        lane = self.run_of("""
            if os.fork() == 0:
                with open("alive", "w"):
                    time.sleep(1000)
            return os.getpid()
        """)
        lane.score()
        with pipe.open("rb") as alive:
            lane.close()
            # The end of what the child would write: it has ended.
            self.assertEqual(alive.read(), b"")

    def test_children_can_be_told_to_end(self):
        lane = self.run_of("""
            child = os.fork()
            if child == 0:
                time.sleep(1000)
            os.kill(child, signal.SIGTERM)
            forked = os.waitpid(child, 0)[1]
            program = subprocess.Popen(["sleep", "1000"])
            program.terminate()
            return [forked, program.wait()]
        """)
        forked, program = lane.score().json()
        self.assertEqual(program, -signal.SIGTERM)
        self.assertEqual(forked, signal.SIGTERM)

    def test_a_pool_of_processes_works(self):
        lane = self.started("""
            import multiprocessing
            def init():
                global pool
                pool = multiprocessing.get_context("fork").Pool(2)
            def run(data):
                return pool.map(abs, [-1, -2, -3])
        """)
        self.assertEqual(lane.score().json(), [1, 2, 3])

    def test_processes_that_are_spawned_work(self):
        (self.folder / "work.py").write_text("def double(x): return 2 * x")
        lane = self.started("""
            import multiprocessing
            import work
            def init(): pass
            def run(data):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    return pool.map(work.double, [1, 2])
        """)
        self.assertEqual(lane.score().json(), [2, 4])

    def test_standard_input_is_empty(self):
        lane = self.run_of("return sys.stdin.read()")
        self.assertEqual(lane.score().json(), "")

    def test_an_exit_in_run_is_an_error_and_the_process_lives(self):
        lane = self.run_of("""
            if data == "exit":
                sys.exit(0)
            if data == "interrupt":
                raise KeyboardInterrupt
            if data == "generator":
                raise GeneratorExit
            return os.getpid()
        """)
        process = lane.score().json()
        for body in ("exit", "interrupt", "generator"):
            answer = lane.score(body)
            self.assertEqual((answer.status, answer.failed), (500, True))
        self.assertEqual(lane.score().json(), process)

    def test_a_timeout_of_the_scripts_own_is_not_called_one_of_scoring(self):
        for variables in ({}, {"SCORING_TIMEOUT_MS": "60000"}):
            answer = self.run_of("raise TimeoutError('a database is away')", variables=variables).score()
            self.assertEqual((answer.status, answer.failed), (500, True))
            self.assertIn("An unexpected error occurred in scoring script", answer.json()["message"])

    def test_what_nests_too_deep_for_json_is_an_error_and_the_process_lives(self):
        lane = self.run_of("""
            whole = []
            for _ in range(int(data)):
                whole = [whole]
            return whole
        """)
        self.assertEqual(lane.score("100000").status, 500)
        self.assertEqual(lane.score("2").json(), [[[]]])

    def test_signals_for_the_whole_service_do_not_end_it(self):
        lane = self.run_of("return data")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            lane.process.send_signal(number)
            self.assertEqual(lane.score("x").json(), "x")

    def test_a_signal_handler_that_raises_costs_no_request(self):
        lane = self.run_of("""
            global runs
            if data == "set":
                def ring(_signal, _frame):
                    raise RuntimeError("rung")
                runs = []
                signal.signal(signal.SIGUSR2, ring)
            elif data == "runs":
                signal.signal(signal.SIGUSR2, signal.SIG_IGN)
                return runs
            else:
                runs.append(int(data))
            return data
        """)
        lane.score("set")
        for batch in range(1500):
            bodies = [str(batch * 4 + index).encode() for index in range(4)]
            lane.submit([(HEAD, body) for body in bodies])
            # It comes anywhere: before the batch is seen, in a run, as an answer is written.
            lane.process.send_signal(signal.SIGUSR2)
            for body, answer in zip(bodies, lane.collect(4)):
                self.assertIn(answer.status, (200, 500))
                if answer.status == 200:
                    self.assertEqual(answer.json().encode(), body)
        # The last one may come now.
        answers = (lane.score("runs") for _ in range(3))
        runs = next(answer.json() for answer in answers if answer.status == 200)
        self.assertEqual(runs, sorted(set(runs)), "something ran twice")

    def test_much_that_is_printed_costs_no_request(self):
        lane = self.run_of("""
            line = "x" * 1023
            for _ in range(100 * 1024):
                print(line)
            return "printed"
        """)
        self.assertEqual(lane.score().json(), "printed")
        self.assertEqual(os.fstat(lane.output.fileno()).st_size, 100 << 20)

    def test_what_is_printed_appears_line_by_line(self):
        begun, go_on = self.pipe("begun"), self.pipe("go_on")
        text = """
            print("a line \\u00f6 \\ud800")
            open("begun", "w").close()
            open("go_on").close()
        """
        lane = self.run_of(text, locale="C")
        lane.submit([(HEAD, b"")])
        begun.open().close()
        self.assertIn("a line ", lane.printed())
        go_on.open("w").close()
        self.assertEqual(lane.collect(1)[0].status, 200)

    def test_a_script_that_closes_its_output_is_answered(self):
        lane = self.run_of("""
            if data == "close":
                os.close(1)
                os.close(2)
            if data == "raise":
                raise ValueError
            if data == "gone":
                sys.stderr = sys.stdout = None
            return data
        """)
        self.assertEqual(lane.score("close").json(), "close")
        self.assertEqual(lane.score("raise").status, 500)
        self.assertEqual(lane.score("gone").json(), "gone")
        self.assertEqual(lane.score("raise").status, 500)
        self.assertEqual(lane.score("x").json(), "x")

    def test_a_script_that_closes_all_files_is_answered(self):
        lane = self.run_of("os.closerange(0, 1024)\nreturn data")
        self.assertEqual(lane.score("x").json(), "x")
        self.assertEqual(lane.score("y").json(), "y")

    def test_a_script_that_replaces_the_json_functions_costs_no_answer(self):
        lane = self.run_of("""
            json.dumps = json.loads = None
            if data == "bad":
                raise ValueError
            return data
        """)
        for body in ("x", "bad", b"\xff"):
            answer = lane.score(body)
            self.assertIn(answer.status, (400, 500))
            self.assertIn("message", answer.json())

    def test_threads_go_on_between_requests(self):
        pipe = self.pipe("pipe")
        lane = self.run_of("""
            def work():
                with open("pipe", "w") as file:
                    file.write("from a thread")
            threading.Thread(target=work).start()
            return "started"
        """)
        self.assertEqual(lane.score().json(), "started")
        self.assertEqual(pipe.read_text(), "from a thread")

    def test_a_run_that_takes_too_much_memory_is_an_error_and_the_process_lives(self):
        lane = self.run_of("return len(bytearray(int(data)))", memory_bytes_max=512 << 20)
        self.assertEqual(lane.score(str(2 << 30)).status, 500)
        self.assertEqual(lane.score("1").json(), 1)

    def test_a_crash_ends_the_process_and_says_where_it_was(self):
        lane = self.run_of("os.kill(os.getpid(), signal.SIGSEGV)")
        lane.submit([(HEAD, b"")])
        self.assertEqual(lane.process.wait(PATIENCE_S), -signal.SIGSEGV)
        self.assertIn("score.py", lane.printed())

    def test_the_process_ends_with_its_parent(self):
        pipe = self.pipe("alive")
        script = self.folder / "score.py"
        script.write_text("alive = open('alive', 'w')\ndef init(): pass\ndef run(data): pass")
        program = "import sys; sys.path.insert(0, {!r}); import driver; lane = driver.Lane({!r}, {!r}).started(); "
        program = program.format(str(Path(__file__).parent), str(script), PYTHON) + "print('ready', flush=True); input()"
        parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with pipe.open("rb") as alive:
            self.assertEqual(parent.stdout.readline(), b"ready\n")
            parent.kill()
            parent.communicate()
            self.assertEqual(alive.read(), b"")


if __name__ == "__main__":
    unittest.main()
