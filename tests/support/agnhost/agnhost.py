"""The subcommands of Kubernetes' `agnhost` test image that the recorded scenarios use.

pause                 does nothing until it is told to end
netexec               HTTP: /hostname, /healthz, /echo?msg=, /exit?code=
liveness              /healthz answers 200 for ten seconds, then 500
grpc-health-checking  grpc.health.v1.Health/Check on port 5000; HTTP on 8080: /make-serving, /make-not-serving
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

SERVING, NOT_SERVING = 1, 2


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Without the name look-up of `HTTPServer`, which waits for DNS."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]


def serve(port: int, answer) -> None:
    """`answer(path, query)` gives a status and a text."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            status, text = answer(parts.path, parse_qs(parts.query))
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET

        def log_message(self, format: str, *args: object) -> None:
            print(format % args, flush=True)

    Server(("", port), Handler).serve_forever()


def netexec(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--http-port", type=int, default=8080)
    parser.add_argument("--udp-port", type=int, default=8081)
    options = parser.parse_args(arguments)

    def answer(path: str, query: dict[str, list[str]]) -> tuple[int, str]:
        if path in ("/hostname", "/hostName"):
            return 200, socket.gethostname()
        if path == "/echo":
            return 200, "".join(query.get("msg", []))
        if path == "/exit":
            os._exit(int(query.get("code", ["0"])[0]))
        if path in ("/", "/healthz"):
            return 200, "" if path == "/healthz" else f"NOW: {time.strftime('%Y-%m-%d %H:%M:%S')}"
        return 404, "404 page not found\n"

    serve(options.http_port, answer)


def liveness(_arguments: list[str]) -> None:
    began = time.monotonic()

    def answer(path: str, _query: dict[str, list[str]]) -> tuple[int, str]:
        age = time.monotonic() - began
        return (200, "ok") if path != "/healthz" or age < 10 else (500, f"error: {age}")

    serve(8080, answer)


def grpc_health_checking(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--http-port", type=int, default=8080)
    parser.add_argument("--service", default="")
    options = parser.parse_args(arguments)
    status = [SERVING]

    def answer(path: str, _query: dict[str, list[str]]) -> tuple[int, str]:
        if path == "/make-serving":
            status[0] = SERVING
        elif path == "/make-not-serving":
            status[0] = NOT_SERVING
        return 200, "ok"

    threading.Thread(target=serve, args=(options.http_port, answer), daemon=True).start()
    asyncio.run(_grpc(options.port, options.service, status))


async def _grpc(port: int, service: str, status: list[int]) -> None:
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import DataReceived, StreamEnded

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        bodies: dict[int, bytes] = {}
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, StreamEnded):
                    _check(connection, event.stream_id, bodies.pop(event.stream_id, b""), service, status[0])
            writer.write(connection.data_to_send())
        writer.close()

    server = await asyncio.start_server(talk, "", port)
    await server.serve_forever()


def _check(connection, stream: int, body: bytes, service: str, status: int) -> None:
    """HealthCheckRequest{service=1} -> HealthCheckResponse{status=1}, each behind gRPC's five-byte prefix."""
    message = body[5:]
    asked = message[2 : 2 + message[1]].decode() if message[:1] == b"\x0a" else ""
    connection.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
    if asked in ("", service):
        connection.send_data(stream, b"\x00\x00\x00\x00\x02\x08" + bytes((status,)))
        code = "0"
    else:
        code = "5"
    connection.send_headers(stream, [("grpc-status", code)], end_stream=True)


def pause(_arguments: list[str]) -> None:
    signal.pause()


def main() -> None:
    commands = {"pause": pause, "netexec": netexec, "liveness": liveness, "grpc-health-checking": grpc_health_checking}
    name = sys.argv[1] if len(sys.argv) > 1 else "pause"
    # A Go program without a handler dies of SIGTERM also as the first process of its namespace.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0 if name == "pause" else 128 + signal.SIGTERM))
    if name not in commands:
        sys.exit(f"agnhost: unknown command {name!r}; there are: {', '.join(commands)}")
    commands[name](sys.argv[2:])


if __name__ == "__main__":
    main()
