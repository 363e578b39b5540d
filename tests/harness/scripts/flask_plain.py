"""A script that gets text and answers with Flask."""

from flask import Response, jsonify, request


def init():
    pass


def run(data):
    if data == "response":
        return Response("x", 400, {"X-Ours": "1"})
    return jsonify({"data": data, "path": request.path})
