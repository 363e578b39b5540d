"""The contract with a scoring script: the same scripts under Azure's inference server and under the harness, answers compared.

Each test is a row of the contract. Both sides get the same requests; status, body, content type, the script's own headers, whether
`run` failed and whether it is said how long it took have to be the same.
"""

import faulthandler
import functools
import json
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from driver import HANG_S, SCRIPTS, Lane
from reference import Reference

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
FOLDERS = tempfile.TemporaryDirectory(prefix="scripts")
OPEN = []


def copied(side, name):
    """A copy of the scripts, for a side of its own: some write beside them."""
    folder = Path(FOLDERS.name) / side / name
    shutil.copytree(SCRIPTS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder / (name + ".py")


def opened(one):
    """A server that is ended with the tests."""
    OPEN.append(one)
    return one


@functools.lru_cache(None)
def reference_of(name, *variables):
    """A script under Azure's server."""
    return opened(Reference(copied("reference", name), **dict(variables))).started()


@functools.lru_cache(None)
def lane_of(name, python, *variables):
    """A script under the harness, run by a Python."""
    side = Path(python).parent.parent.name
    return opened(Lane(copied(side, name), python, variables=dict(variables))).started()


@functools.lru_cache(None)
def python_without_packages():
    """A Python of the same version that has the standard library alone."""
    folder = Path(FOLDERS.name) / "empty-environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin/python")


def setUpModule():
    """Says what is compared. A hang is a failure."""
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    print("comparing with azureml-inference-server-http " + version_of_reference())


def tearDownModule():
    """Ends all of them."""
    for one in OPEN:
        one.close()
    FOLDERS.cleanup()


def version_of_reference():
    """The version that the environment has."""
    from azureml_inference_server_http import __version__

    return __version__


class Contract(unittest.TestCase):
    """What both servers do alike."""

    maxDiff = None
    python = sys.executable
    variables = ()

    def both(self, name):
        """The script under both servers."""
        return reference_of(name, *self.variables), lane_of(name, self.python, *self.variables)

    def same(self, script, body=b"", content_type=JSON, headers=(), has_body=True, **request):
        """Asks both servers and compares; the answer of the harness."""
        reference, lane = self.both(script)
        body = body.encode() if isinstance(body, str) else body
        fields = [["host", "localhost:5001"]]
        if content_type is not None:
            fields.append(["content-type", content_type])
        if request.get("method", "POST") == "POST":
            fields.append(["content-length", str(len(body))])
        fields.extend(map(list, headers))
        expected = reference.score(body, headers=fields, **request)
        found = lane.score(body, headers=fields, **request)
        times = lane.times(0)
        self.assertIn(found.kind, (0, 2))
        if has_body:
            self.assertEqual(found.body, expected.body)
        self.assertEqual(found.status, expected.status)
        self.assertEqual(found.failed, expected.failed)
        if has_body:
            lower = [sorted([name.lower(), value] for name, value in answer.headers) for answer in (found, expected)]
            self.assertEqual(*lower)
        self.assertEqual(bool(times[2] and times[4]), expected.was_measured)
        return found

    def case(self, case, script="plain", **request):
        """Asks both servers for a case of a script."""
        return self.same(script, json.dumps({"case": case}), **request)

    def raw(self, case, body=b"", headers=(), **request):
        """Asks both servers for a case of a script that takes requests as they are."""
        return self.same("raw", body, headers=[["x-case", case], *headers], **request)


class PlainRun(Contract):
    """`run(data)` without decorations."""

    def test_the_body_comes_as_text(self):
        answer = self.same("plain", '{"a": "größer"}')
        self.assertEqual(answer.json(), {"got": '{"a": "größer"}', "type": "str"})
        for body in (b"", b"no json", b"\xef\xbb\xbfmark", b"\x00", b"[1,\r\n2]"):
            self.same("plain", body)

    def test_a_body_of_any_other_type_comes_as_text_too(self):
        for kind in (None, "", "text/plain", "application/octet-stream", "text/csv; charset=latin-1", "application/xml"):
            self.assertEqual(self.same("plain", "a,b", content_type=kind).json()["got"], "a,b")

    def test_a_large_body_comes_whole(self):
        self.assertEqual(len(self.same("plain", "x" * 3_000_000).json()["got"]), 3_000_000)
        self.assertEqual(len(self.case("large").json()), 3_000_000)

    def test_what_is_returned_becomes_json_as_python_writes_it(self):
        for case in ("text", "number", "true", "list", "tuple", "dictionary", "emoji"):
            self.assertEqual(self.case(case).status, 200)
        self.assertEqual(self.case("dictionary").body, b'{"a": [1, 2], "b": {"c": "d"}, "3": 4, "null": 5}')

    def test_not_a_number_is_written_without_quotes(self):
        self.assertEqual(self.case("nan").body, b"[NaN, Infinity, -Infinity]")

    def test_nothing_becomes_an_empty_dictionary(self):
        self.assertEqual(self.case("nothing").body, b"{}")

    def test_a_text_is_encoded_again(self):
        self.assertEqual(self.case("text").json(), 'a "text", größer')

    def test_numbers_of_numpy_pass_where_they_are_numbers_of_python(self):
        self.assertEqual(self.case("numpy float64").body, b"1.5")
        self.assertEqual(self.case("numpy list").body, b"[0, 1, 2]")
        for case in ("numpy float32", "numpy array"):
            self.assertEqual(self.case(case).status, 500)

    def test_what_has_no_json_form_is_an_internal_error(self):
        for case in ("bytes", "set", "object", "coroutine", "generator", "circle", "deep"):
            answer = self.case(case)
            self.assertEqual((answer.status, answer.failed), (500, False))
        message = "An unexpected internal error occurred. Check the logs for more info."
        self.assertEqual(self.case("object").json(), {"message": message})

    def test_an_exception_is_an_error_of_the_script(self):
        for case in ("raise", "away", "recursion"):
            answer = self.case(case)
            self.assertEqual((answer.status, answer.failed), (500, True))
        message = "An unexpected error occurred in scoring script. Check the logs for more info."
        self.assertEqual(self.case("raise").json(), {"message": message})
        self.assertIn("ZeroDivisionError", self.both("plain")[1].printed())

    def test_a_run_that_exits_is_answered_and_the_process_lives(self):
        for case in ("exit", "exit silently"):
            request = {"headers": [["content-length", "100"]]}
            for side in self.both("plain"):
                answer = side.score(json.dumps({"case": case}).ljust(100), **request)
                self.assertEqual(answer.status, 500)
                self.assertEqual(side.score(json.dumps({"case": "folder"}).ljust(100), **request).status, 200)

    def test_a_body_that_is_no_utf_8_is_refused_with_the_place(self):
        for body in (b"\xff", b'{"a": "\xe4"}', b"abc\xc3"):
            self.assertEqual(self.same("plain", body).status, 400)
        words = "Input cannot be decoded as UTF-8: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
        self.assertEqual(self.same("plain", b"\xff").json(), {"message": words})

    def test_the_query_of_a_get_comes_as_json(self):
        queries = [
            "",
            "a=1&b=x",
            "a=1&a=2&b=[1,2]&c=null&d=1.5",
            "x=%7B%22a%22%3A1%7D&y=a%20b+c",
            "a&b=",
            "=1",
            "a=%FF%41&b=%C3%B6",
        ]
        queries += ["a=1;b=2", "a==1", "a=1&&b=2", "a=NaN", 'a="x"', "%66=1"]
        for query in queries:
            with self.subTest(query=query):
                self.assertEqual(self.same("plain", method="GET", query=query, content_type=None).status, 200)
        answer = self.same("plain", method="GET", query="a=1&b=x", content_type=None)
        self.assertEqual(answer.json()["got"], '{"a": 1, "b": "x"}')

    def test_options_is_answered_with_nothing(self):
        answer = self.same("plain", method="OPTIONS", content_type=None)
        self.assertEqual((answer.status, answer.body), (200, b""))

    def test_a_head_is_not_allowed(self):
        self.assertEqual(self.same("plain", method="HEAD", content_type=None, has_body=False).status, 405)

    def test_a_form_comes_as_an_empty_text(self):
        for kind in (FORM, FORM + "; charset=utf-8", FORM.upper(), "multipart/form-data; boundary=b"):
            answer = self.same("plain", b'--b\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n', content_type=kind)
            self.assertEqual(answer.json()["got"], "")
        self.same("plain", b"a=1", content_type="multipart/form-data")
        self.same("plain", b"a=1", headers=[["x-platform", "a-form-of-life"]])
        self.same("plain", b"a=1", content_type="text/x-form-data")

    def test_the_folder_is_the_scripts(self):
        self.assertEqual(self.case("folder").json(), "plain")

    def test_a_script_that_moves_to_another_folder_stays_there(self):
        self.assertEqual(self.case("move").json(), "elsewhere")
        self.assertEqual(self.case("folder").json(), "elsewhere")
        self.case("move back")
        self.assertEqual(self.case("folder").json(), "plain")

    def test_the_module_has_the_name_that_azure_gives_it(self):
        self.assertEqual(self.case("module").json(), ["entry_module", "entry_module"])

    def test_what_a_run_leaves_the_next_one_finds(self):
        first = self.case("count").json()
        self.assertEqual(self.case("count").json(), first + 1)


class WithHeaders(Contract):
    """`run(data, request_headers)`."""

    def test_the_headers_come_as_a_dictionary(self):
        headers = [["x-some-thing", "1"], ["accept", "*/*"], ["x-latin", "\xe4"], ["x-empty", ""], ["cookie", "a=1; b=2"]]
        answer = self.same("headers", "text", headers=headers)
        self.assertEqual(answer.json()["headers"]["X-Some-Thing"], "1")

    def test_headers_that_are_repeated_are_joined(self):
        answer = self.same("headers", "text", headers=[["x-a", "1"], ["x-b", "2"], ["x-a", "3"]])
        self.assertEqual(answer.json()["headers"]["X-A"], "1,3")

    def test_ambiguous_names_are_left_out(self):
        answer = self.same("headers", "text", headers=[["x_a", "1"]])
        self.assertNotIn("X-A", answer.json()["headers"])

    def test_they_come_with_a_query_too(self):
        self.same("headers", method="GET", query="a=1", content_type=None, headers=[["x-a", "1"]])


class Schema(Contract):
    """`run` with the decorators of `inference_schema`."""

    def test_values_come_by_name_and_as_the_type_that_is_declared(self):
        answer = self.same("schema", '{"x": [[1, 2], [3, 4]], "scale": 0.5}')
        self.assertEqual(answer.json(), {"sum": 5.0, "type": "ndarray", "shape": [2, 2]})
        self.same("schema", '{"x": [[1, 2]], "unknown": 1}')
        self.same("schema", b"\xff\xfe{\x00}\x00")

    def test_a_default_stands_in_for_a_value_that_is_missing(self):
        self.assertEqual(self.same("schema", '{"x": [[1, 2]]}').json()["sum"], 6.0)

    def test_a_missing_value_is_named(self):
        answer = self.same("schema", '{"scale": 1.0}')
        self.assertEqual((answer.status, answer.json()), (400, {"message": "A value is not provided for the 'x' parameter."}))

    def test_only_a_json_dictionary_is_taken(self):
        for body in ("[1]", '"x"', "null", "1"):
            answer = self.same("schema", body)
            self.assertEqual((answer.status, answer.json()["message"]), (400, "POST body should be a JSON dictionary."))

    def test_an_empty_body_is_refused(self):
        answer = self.same("schema", "")
        self.assertEqual((answer.status, answer.json()["message"]), (400, "POST body is empty. Expecting a JSON dictionary."))

    def test_what_is_no_json_is_refused_with_the_place(self):
        for body in ('{"x": ', "{'x': 1}", '{"x": 1}}'):
            self.assertEqual(self.same("schema", body).status, 400)
        self.assertEqual(self.same("schema", b'{"x": "\xff"}').status, 500)

    def test_another_content_type_is_refused(self):
        for kind in (None, "text/plain", FORM, "application/jsonx", "text/json"):
            answer = self.same("schema", '{"x": [[1, 2]]}', content_type=kind)
            self.assertEqual((answer.status, answer.json()["message"]), (415, "Expects Content-Type to be application/json"))
        for kind in ("application/json; charset=utf-8", "APPLICATION/JSON", "application/problem+json"):
            self.assertEqual(self.same("schema", '{"x": [[1, 2]]}', content_type=kind).status, 200)

    def test_a_value_that_cannot_be_converted_is_an_error_of_the_script(self):
        answer = self.same("schema", '{"x": "no array"}')
        self.assertEqual((answer.status, answer.failed), (500, True))

    def test_values_may_stand_in_the_query(self):
        self.assertEqual(self.same("schema", method="GET", query="x=[[1,2]]&scale=3.0", content_type=None).json()["sum"], 9.0)
        self.assertEqual(self.same("schema", method="GET", query="scale=3", content_type=None).status, 400)
        self.assertEqual(self.same("schema", method="OPTIONS", content_type=None).status, 200)

    def test_what_is_declared_is_told_as_the_document_has_it(self):
        reference, lane = self.both("schema")
        document = reference.score(method="GET", path="/swagger.json", query="version=3", headers=[["host", "localhost:5001"]]).json()
        said = json.loads(lane.report["Ok"]["schemas"])
        told = document["components"]["schemas"]
        self.assertEqual((said["request"], said["response"]), (told["ServiceInput"], told["ServiceOutput"]))

    def test_long_examples_are_left_out_and_longer_schemas_altogether(self):
        for declared, is_told in (({"example": [[1] * 200] * 200}, True), ({"a" * 70000: 1}, False)):
            folder = Path(FOLDERS.name) / "long" / str(is_told)
            folder.mkdir(parents=True)
            script = (SCRIPTS / "schema.py").read_text().replace('({"sum": 1.0})', "(" + repr(declared) + ")")
            (folder / "score.py").write_text(script)
            said = opened(Lane(folder / "score.py", self.python)).started().report["Ok"]["schemas"]
            self.assertEqual(said is not None, is_told)
            if said:
                response = json.loads(said)["response"]
                # That of this name is a property, and no example.
                self.assertEqual((sorted(response), list(response["properties"])), (["properties", "required", "type"], ["example"]))

    def test_a_script_that_declares_nothing_tells_nothing(self):
        self.assertIsNone(self.both("plain")[1].report["Ok"]["schemas"])


class Raw(Contract):
    """`@rawhttp` with `AMLRequest` and `AMLResponse`."""

    def test_the_request_is_one_of_flask(self):
        headers = [["user-agent", "tests"], ["x-repeated", "1"], ["x-repeated", "2"], ["x-ours", "a"], ["cookie", "a=1; b=x"]]
        answer = self.raw("everything", "{}", headers, query="a=1&a=2&b=%C3%B6+x&c")
        self.assertEqual(answer.json()["args"], {"a": ["1", "2"], "b": ["ö x"], "c": [""]})
        for method in ("GET", "OPTIONS", "POST"):
            self.raw("everything", method=method, content_type=None, query="a=1")

    def test_the_body_can_be_read_in_every_way(self):
        for case in ("data", "get_data", "text", "stream", "json", "json property", "silent", "force"):
            for body in (b'{"a": 1}', b"\xff\x00", b""):
                for kind in (JSON, "text/plain", None, FORM):
                    with self.subTest(case=case, body=body, kind=kind):
                        self.raw(case, body, content_type=kind)

    def test_forms_and_files_are_read(self):
        self.raw("form", b"a=1&b=%C3%B6&a=2", content_type=FORM)
        lines = [
            b"--edge",
            b'Content-Disposition: form-data; name="a"',
            b"",
            "größer".encode(),
            b"--edge",
            b'Content-Disposition: form-data; name="image"; filename="a.png"',
            b"Content-Type: image/png",
            b"",
            bytes(range(256)) + b"\r\n--edg",
            b"--edge--",
            b"",
        ]
        answer = self.raw("form", b"\r\n".join(lines), content_type='multipart/form-data; boundary="edge"')
        self.assertEqual(answer.json()["files"]["image"][:2], ["a.png", "image/png"])

    def test_bytes_pass_as_they_are(self):
        answer = self.raw("image")
        self.assertEqual((answer.body, answer.header("content-type")), (bytes(range(256)), ["image/png"]))
        for case in ("text answer", "bytes answer", "json answer", "json text", "nothing"):
            self.raw(case)

    def test_statuses_of_the_script_pass_as_they_are(self):
        for case, status in (("bad request", 400), ("too many", 429), ("moved", 302), ("changed", 206)):
            answer = self.raw(case)
            self.assertEqual((answer.status, answer.failed), (status, False))

    def test_a_status_of_500_or_more_says_that_run_failed(self):
        for case in ("server error", "unavailable"):
            answer = self.raw(case)
            self.assertTrue(answer.status >= 500 and answer.failed)
        self.assertTrue(self.raw("failed").failed)
        self.assertTrue(self.raw("own header").failed)

    def test_headers_of_the_server_are_not_the_scripts(self):
        self.assertEqual(self.raw("server headers").header("x-request-id"), [])

    def test_a_status_without_a_body_has_none(self):
        self.assertEqual(self.raw("no content").body, b"")

    def test_a_header_with_commas_is_repeated(self):
        answer = self.raw("repeated")
        self.assertEqual(answer.header("x-many"), ["one", "two", "three"])

    def test_plain_values_become_json(self):
        for case in ("plain value", "plain nothing", "plain text", "not serialisable"):
            self.raw(case)

    def test_a_response_that_cannot_be_made_is_an_error_of_the_script(self):
        for case in ("number header", "newline header", "raise"):
            with self.subTest(case=case):
                self.assertEqual(self.raw(case).status, 500)
        self.raw("dictionary")

    def test_responses_of_flask_itself_pass(self):
        for case in ("response", "stream", "request", "abort", "make", "jsonify"):
            with self.subTest(case=case):
                self.same("flasks", headers=[["x-case", case]])
        answer = self.both("flasks")[1].score(headers=[["x-case", "file"]])
        self.assertEqual((answer.status, answer.body), (200, (SCRIPTS / "flasks.py").read_bytes()))

    def test_flask_answers_for_a_run_that_gets_text_too(self):
        self.same("flask_plain", "response")
        self.same("flask_plain", "text")


class RawWithoutFlask(Raw):
    """The same where the environment has neither Flask nor Azure's package: the harness stands in for them."""

    @classmethod
    def setUpClass(cls):
        cls.python = python_without_packages()

    def test_the_environment_has_no_flask(self):
        finished = subprocess.run([self.python, "-c", "import flask"], capture_output=True, text=True)
        self.assertIn("No module named 'flask'", finished.stderr)

    test_responses_of_flask_itself_pass = None
    test_flask_answers_for_a_run_that_gets_text_too = None


class Time(Contract):
    """The variable by which a script bounds its runs."""

    variables = (("SCORING_TIMEOUT_MS", "1000"),)

    def test_a_run_that_takes_longer_than_the_variable_says_is_ended(self):
        answer = self.same("slow", "60")
        self.assertEqual((answer.status, answer.failed), (500, True))
        self.assertEqual(answer.json(), {"message": "Scoring timeout after 1000 ms"})

    def test_a_run_in_time_is_not(self):
        self.assertEqual(self.same("slow", "0").json(), "slept")


class Surroundings(unittest.TestCase):
    """What a script finds around it."""

    def test_the_variables_the_folder_and_the_modules_beside_it_are_there(self):
        found = []
        for side, start in (("reference", Reference), ("lane", Lane)):
            script = copied(side + "-around", "environment").resolve()
            model = script.parent / "model"
            model.mkdir()
            (model / "model.txt").write_text("weights")
            root, around = str(script.parent), {"OURS": "1"}
            if start is Lane:
                server = opened(Lane(script, variables=around, model_dir=str(model))).started()
            else:
                around.update(AML_APP_ROOT=root, AZUREML_SOURCE_DIRECTORY=root, AZUREML_MODEL_DIR=str(model))
                server = opened(Reference(script, **around)).started()
            text = server.score(b"", headers=[["content-length", "0"]]).body.decode()
            found.append(json.loads(text.replace(root, "ROOT")))
        self.assertEqual(*found)
        self.assertEqual(found[1]["folder"], "ROOT")
        self.assertEqual(found[1]["variables"]["AZUREML_MODEL_DIR"], "ROOT/model")


class NotStarted(unittest.TestCase):
    """What neither server starts."""

    def refused_by_both(self, text):
        """The reasons of both."""
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "score.py"
            script.write_text(text)
            reference = Reference(script)
            try:
                reference.refused()
            finally:
                reference.close()
            return Lane(script).refused()

    def test_a_script_without_init(self):
        self.assertIn("has no function init(): it has run", self.refused_by_both("def run(data): pass"))

    def test_a_script_without_run(self):
        self.assertIn("has no function run(): it has init", self.refused_by_both("def init(): pass"))

    def test_an_init_that_raises(self):
        reason = self.refused_by_both("def init(): raise ValueError('no model')\ndef run(data): pass")
        self.assertIn("ValueError: no model", reason)

    def test_an_init_that_exits(self):
        reason = self.refused_by_both("import sys\ndef init(): sys.exit(0)\ndef run(data): pass")
        self.assertIn("init() called sys.exit(0)", reason)

    def test_a_run_with_a_star(self):
        self.assertIn("*args", self.refused_by_both("def init(): pass\ndef run(*args): pass"))
        self.assertIn("**more", self.refused_by_both("def init(): pass\ndef run(data, **more): pass"))

    def test_a_run_without_a_parameter_for_the_request(self):
        for parameters in ("", "request_headers"):
            self.assertIn("no parameter", self.refused_by_both("def init(): pass\ndef run({}): pass".format(parameters)))


if __name__ == "__main__":
    unittest.main()
