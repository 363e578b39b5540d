"""A script that takes the request as it is."""

import json

from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse


def init():
    assert AMLRequest is not None


def everything(request):
    return {
        "method": request.method,
        "path": request.path,
        "full_path": request.full_path,
        "args": {name: request.args.getlist(name) for name in request.args},
        "query_string": request.query_string.decode(),
        "content_type": request.content_type,
        "mimetype": request.mimetype,
        "is_json": request.is_json,
        "agent": request.headers.get("User-Agent"),
        "repeated": request.headers.get("x-repeated"),
        "ours": request.headers["x-ours"] if "X-Ours" in request.headers else None,
        "cookies": dict(request.cookies),
        "values": {name: request.values.getlist(name) for name in sorted(request.values)},
    }


def form(request):
    files = {name: [file.filename, file.content_type, file.read().hex()] for name, file in request.files.items()}
    return {"form": {name: request.form.getlist(name) for name in request.form}, "files": files, "data": request.data.hex()}


CASES = {
    "everything": everything,
    "form": form,
    "data": lambda request: request.data.hex(),
    "get_data": lambda request: request.get_data().hex(),
    "text": lambda request: request.get_data(as_text=True),
    "stream": lambda request: request.stream.read().hex(),
    "json": lambda request: request.get_json(),
    "json property": lambda request: request.json,
    "silent": lambda request: request.get_json(silent=True),
    "force": lambda request: request.get_json(force=True),
    "image": lambda request: AMLResponse(bytes(range(256)), 200, {"Content-Type": "image/png"}),
    "text answer": lambda request: AMLResponse("größer", 201),
    "bytes answer": lambda request: AMLResponse(b"bytes", 202),
    "json answer": lambda request: AMLResponse({"a": 1}, 203, json_str=True),
    "json text": lambda request: AMLResponse(json.dumps({"a": 1}), 200, {"Content-Type": "application/json"}),
    "nothing": lambda request: AMLResponse(None, 200),
    "bad request": lambda request: AMLResponse("bad request", 400),
    "too many": lambda request: AMLResponse("later", 429, {"Retry-After": "3"}),
    "failed": lambda request: AMLResponse("failed", 400, run_function_failed=True),
    "server error": lambda request: AMLResponse("broken", 500),
    "unavailable": lambda request: AMLResponse({"why": "no"}, 503, {"X-Why": "no"}, json_str=True),
    "repeated": lambda request: AMLResponse("x", 200, {"X-Many": "one, two,three", "X-One": "1"}),
    "moved": lambda request: AMLResponse("", 302, {"Location": "http://localhost/elsewhere"}),
    "no content": lambda request: AMLResponse("x", 204),
    "server headers": lambda request: AMLResponse("x", 200, {"x-request-id": "ours", "Connection": "close", "Server": "ours"}),
    "plain value": lambda request: {"a": [1, 2]},
    "plain nothing": lambda request: None,
    "plain text": lambda request: "text",
    "not serialisable": lambda request: request,
    "dictionary": lambda request: AMLResponse({"a": 1, "b": 2}, 200),
    "number": lambda request: AMLResponse(5, 200),
    "number header": lambda request: AMLResponse("x", 200, {"X-Number": 5}),
    "newline header": lambda request: AMLResponse("x", 200, {"X-Line": "a\nb"}),
    "own header": lambda request: AMLResponse("x", 200, {"x-ms-run-function-failed": "True"}),
    "changed": lambda request: changed(),
    "raise": lambda request: 1 / 0,
}


def changed():
    response = AMLResponse("x", 200)
    response.status_code = 206
    response.headers["X-Set"] = "1"
    response.headers.add("X-Set", "2")
    response.content_type = "text/plain"
    response.set_data(b"other")
    return response


@rawhttp
def run(request):
    return CASES[request.headers.get("x-case", "everything")](request)
