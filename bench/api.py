"""Requests per second of the API server, and what each costs it.

Every client is a process with one kept-alive connection that sends the next request when it has read the whole answer,
so with 16 of them the server has always something to do. Throughput is shared with the clients on the same cores; the
server's own CPU time per request is not.
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import Settings, cluster, cpu_seconds, median, milliseconds, process, table
from bench.pods import client

SPACE = "/api/v1/namespaces/bench"
MAPS = f"{SPACE}/configmaps"
LISTED = 1000
CLIENTS = (1, 16)
WARM_UP = 0.3
START_PATIENCE = 30.0
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


@dataclass(frozen=True)
class Operation:
    """`request(client)` is the next request of a client: method, path, body, content type. Values change each time."""

    name: str
    request: Callable[[int], tuple[str, str, bytes, str]]
    reference: tuple[str, str]
    """Of a real Kubernetes, with 1 and 16 clients: requests/s, CPU per request."""


def config_map(name: str, value: object) -> bytes:
    data = {"value": str(value), "padding": "x" * 90}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}).encode()


OPERATIONS = (
    Operation("GET", lambda c: ("GET", f"{MAPS}/target-{c}", b"", ""), ("1.1k, 1.1 ms", "3.0k, 0.53 ms")),
    Operation(
        f"LIST {LISTED}",
        lambda _: ("GET", "/api/v1/namespaces/many/configmaps", b"", ""),
        ("81-107, 9-13 ms", "153-189, 8-9 ms"),
    ),
    Operation(
        "CREATE",
        lambda c: ("POST", MAPS, config_map(f"new-{c}-{time.monotonic_ns()}", c), "application/json"),
        ("560, 1.9 ms", "1.4-1.6k, 1.0 ms"),
    ),
    Operation(
        "merge PATCH",
        lambda c: ("PATCH", f"{MAPS}/target-{c}", b'{"data":{"value":"%d"}}' % time.monotonic_ns(), MERGE),
        ("400, 2.5 ms", "1.3k, 1.2 ms"),
    ),
    Operation(
        "PUT",
        lambda c: ("PUT", f"{MAPS}/target-{c}", config_map(f"target-{c}", time.monotonic_ns()), "application/json"),
        ("500, 2.1 ms", "1.2-1.3k, 1.25 ms"),
    ),
    Operation(
        "server-side apply",
        lambda c: (
            "PATCH",
            f"{MAPS}/applied-{c}?fieldManager=bench",
            config_map(f"applied-{c}", time.monotonic_ns()),
            APPLY,
        ),
        ("", ""),
    ),
)


def run(settings: Settings) -> None:
    with cluster() as (person, facts):
        administrator = client(person, facts)
        _prepare(administrator)
        daemon = process(facts, "daemon")
        pki = person.home / "p" / "clusters" / facts["name"] / "pki"
        address = ("127.0.0.1", int(facts["server"].rpartition(":")[2]))
        rows = [line for operation in OPERATIONS for line in _rows(operation, address, pki, daemon, settings)]
    heads = ("operation", "clients", "requests/s", "p50", "p99", "CPU/request", "per core", "real Kubernetes")
    table(heads, rows)


def _prepare(administrator: Any) -> None:
    for name in ("bench", "many"):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        administrator.request("POST", "/api/v1/namespaces", json.dumps(body).encode(), content="application/json")
    for number in range(max(CLIENTS)):
        administrator.request("POST", MAPS, config_map(f"target-{number}", 0), content="application/json")
    for number in range(LISTED):
        path = "/api/v1/namespaces/many/configmaps"
        administrator.request("POST", path, config_map(f"listed-{number}", 0), content="application/json")


def _rows(
    operation: Operation, address: tuple[str, int], pki: Path, daemon: int, settings: Settings
) -> Iterator[tuple[str, ...]]:
    for clients, reference in zip(CLIENTS, operation.reference, strict=True):
        rounds = [_round(operation, clients, address, pki, daemon, settings.seconds) for _ in range(settings.rounds)]
        latencies = sorted(latency for found, _ in rounds for latency in found)
        rate = median(len(found) / settings.seconds for found, _ in rounds)
        cost = median(cpu / len(found) for found, cpu in rounds)
        yield (
            operation.name,
            str(clients),
            f"{rate:.0f}",
            milliseconds(latencies[len(latencies) // 2]),
            milliseconds(latencies[int(len(latencies) * 0.99)]),
            f"{cost * 1000:.2f} ms",
            f"{1 / cost:.0f}/s",
            reference,
        )


def _round(
    operation: Operation, clients: int, address: tuple[str, int], pki: Path, daemon: int, seconds: float
) -> tuple[list[float], float]:
    """Latencies of all requests of the measured time, and the CPU seconds that the server used in it."""
    context = multiprocessing.get_context("fork")
    begin, end = context.Barrier(clients + 1), context.Event()
    results = [context.Pipe(duplex=False) for _ in range(clients)]
    workers = [
        context.Process(target=_work, args=(operation, number, address, pki, begin, end, seconds, result[1]))
        for number, result in enumerate(results)
    ]
    for worker in workers:
        worker.start()
    begin.wait(START_PATIENCE)
    time.sleep(WARM_UP)
    before, started = cpu_seconds(daemon), time.monotonic()
    time.sleep(max(0.0, seconds - (time.monotonic() - started)))
    used = cpu_seconds(daemon) - before
    end.set()
    latencies = [latency for receiver, _ in results for latency in receiver.recv()]
    for worker in workers:
        worker.join()
    return latencies, used


def _work(
    operation: Operation,
    number: int,
    address: tuple[str, int],
    pki: Path,
    begin: Any,
    end: Any,
    seconds: float,
    result: Any,
) -> None:
    """In a client's process."""
    connection = Connection(address, pki)
    begin.wait()
    start = time.monotonic() + WARM_UP
    latencies: list[float] = []
    while not end.is_set():
        request = operation.request(number)
        sent = time.monotonic()
        connection.exchange(*request)
        if start <= sent < start + seconds:
            latencies.append(time.monotonic() - sent)
    result.send(latencies)


class Connection:
    """One kept-alive TLS connection; no HTTP library, whose CPU time would be measured too."""

    def __init__(self, address: tuple[str, int], pki: Path) -> None:
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        plain = socket.create_connection(address)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(plain, server_hostname=address[0])
        self._host = f"{address[0]}:{address[1]}"
        self._rest = b""

    def exchange(self, method: str, path: str, body: bytes, content: str) -> None:
        """Sends a request and reads its whole answer. Raises `RuntimeError` where the API refuses."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nAccept: application/json\r\n"
        if body:
            head += f"Content-Type: {content}\r\nContent-Length: {len(body)}\r\n"
        self._socket.sendall(head.encode() + b"\r\n" + body)
        answer = self._read_head()
        if answer[9:10] != b"2":
            raise RuntimeError(answer.decode())
        self._skip(int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))

    def _read_head(self) -> bytes:
        data = self._rest
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._received()
        self._rest = data[end + 4 :]
        return data[:end]

    def _skip(self, length: int) -> None:
        left = length - len(self._rest)
        if left < 0:
            self._rest = self._rest[length:]
            return
        self._rest = b""
        while left > 0:
            left -= len(self._received())

    def _received(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise EOFError("the server closed the connection")
        return data
