"""A script that uses Flask itself, and the names of the package."""

import flask
from azureml_inference_server_http.api.aml_request import rawhttp


def init():
    pass


def streamed():
    yield b"one "
    yield b"two"


CASES = {
    "response": lambda: flask.Response("text", 418, {"X-Ours": "1"}, mimetype="text/plain"),
    "jsonify": lambda: flask.jsonify(a=1),
    "stream": lambda: flask.Response(streamed(), mimetype="application/octet-stream"),
    "file": lambda: flask.send_file(__file__, mimetype="text/x-python", max_age=3),
    "make": lambda: flask.make_response("x", 503),
    "request": lambda: [flask.request.method, flask.request.path],
    "abort": lambda: flask.abort(404),
}


@rawhttp
def run(request):
    return CASES[request.headers["x-case"]]()
