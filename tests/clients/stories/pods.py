"""The pod that stories run: it greets in its log, then answers over HTTP on port 8000, and is ready."""

TALKER = """
import http.server, sys
class Talker(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"heard")
print("hello", flush=True)
print("to the log", flush=True)
http.server.ThreadingHTTPServer(("", 8000), Talker).serve_forever()
"""


def talker(name, labels=None):
    container = {
        "name": "main",
        "image": "python:3.13-slim",
        "command": ["python", "-c", TALKER],
        "ports": [{"containerPort": 8000}],
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }
