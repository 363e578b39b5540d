"""A relay for the verdict of serin, for who decides about a rollout elsewhere, as Argo Rollouts and Flagger do.

serin's administration listens on its own machine alone, wants a token that is new with each start, and takes only GET there. This program
stands beside the server (in its pod: a container that shares the data folder), and answers with one verdict and nothing else:

    GET  /argo/ENDPOINT/FROM/TO      200 with the JSON, whatever the verdict: Argo takes any other status for a broken metric
    POST /confirm/ENDPOINT/FROM/TO   200 SAFE, 409 UNDECIDED, 412 HARM: Flagger's confirm-traffic-increase and confirm-promotion
    POST /rollback/ENDPOINT/FROM/TO  200 HARM, 409 else: Flagger's rollback

Where serin cannot be asked it is 503, which lets nothing pass. Whoever reaches this port can read verdicts, and can do no more.

    python3 relay.py --data /var/lib/serin --host 0.0.0.0 --port 9001
"""
import argparse
import http.client
import json
import os
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATH = re.compile(r"/(argo|confirm|rollback)/([\w-]+)/([\w-]+)/([\w-]+)", re.ASCII)
ANSWER_SECONDS = 10
BODY_BYTES_MAX = 1 << 20
DECIDED = (200, 409, 412)


def ask(data, endpoint, stable, canary):
    """The status and the JSON of the verdict, by the address and the token that serin has now."""
    with open(os.path.join(data, "server.json")) as file:
        server = json.load(file)
    host, port = server["admin_address"].rsplit(":", 1)
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=ANSWER_SECONDS)
    try:
        path = "/v1/endpoints/{}/verdict?from={}&to={}".format(endpoint, stable, canary)
        connection.request("GET", path, headers={"Authorization": "Bearer " + server["token"]})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def status_for(asker, status):
    """The status that the asker understands."""
    if status not in DECIDED:
        return status if status == 404 else 503
    if asker == "argo":
        return 200
    if asker == "rollback":
        return 200 if status == 412 else 409
    return status


class Relay(BaseHTTPRequestHandler):
    timeout = ANSWER_SECONDS

    def do_GET(self):
        self.relay(("argo",))

    def do_POST(self):
        # What is left unread would cut the answer off.
        length = self.headers.get("Content-Length", "0")
        self.rfile.read(min(int(length) if length.isdigit() else 0, BODY_BYTES_MAX))
        self.relay(("confirm", "rollback"))

    def relay(self, askers):
        asked = PATH.fullmatch(self.path)
        if asked is None or asked.group(1) not in askers:
            self.answer(404, b'{"error":"expected GET /argo/E/FROM/TO, POST /confirm/E/FROM/TO or POST /rollback/E/FROM/TO"}')
            return
        try:
            status, body = ask(self.server.data, *asked.groups()[1:])
        except (OSError, KeyError, ValueError, http.client.HTTPException) as error:
            self.answer(503, json.dumps({"error": "serin cannot be asked: {}".format(error)}).encode())
            return
        self.answer(status_for(asked.group(1), status), body)

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--data", default=os.environ.get("SERIN_DATA"), help="data folder of the server [default: SERIN_DATA]")
    words.add_argument("--host", default="127.0.0.1", help="address to listen on [default: 127.0.0.1]")
    words.add_argument("--port", type=int, default=9001, help="port to listen on; 0 takes a free one [default: 9001]")
    told = words.parse_args()
    if not told.data:
        words.error("expected --data FOLDER, or SERIN_DATA, found neither")
    server = ThreadingHTTPServer((told.host, told.port), Relay)
    server.data = told.data
    print("http://{}:{}".format(*server.server_address[:2]), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
