"""What the API server does in a second, and what each request costs it.

Every client is a process with one kept-alive TLS connection (a service account's token, allowed by RBAC) that sends the
next request when it has read the whole answer, so with 16 of them the server has always something to do. Objects have
3 KB, and 10,000 of them are in the store. Throughput is shared with the clients on the same cores; the server's own CPU
time per request, read from /proc, is not.
"""

from __future__ import annotations

import json
import multiprocessing
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import Settings, cluster, cpu_seconds, median, memory, milliseconds, process, table
from bench.objects import client

SPACE = "bench"
LISTED, STORED, OWNED, WATCHERS = 1000, 10_000, 10_000, 1000
CLIENTS = (1, 16)
WARM_UP = 0.3
START_PATIENCE = 60.0
PATCHES = 300
"""Whose way to a watcher is timed."""
FANNED = 20
"""Changes that all watchers are told of."""
APPLY = "application/apply-patch+yaml"
JSON = "application/json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


def maps(space: str = SPACE) -> str:
    return f"/api/v1/namespaces/{space}/configmaps"


_TEMPLATE = json.dumps(
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "NAME"},
        "data": {"value": "VALUE", **{f"text-{n}": "x" * 700 for n in range(4)}},
    }
)


def config_map(name: str, value: object) -> bytes:
    """3 KB."""
    return _TEMPLATE.replace("NAME", name, 1).replace("VALUE", str(value), 1).encode()


Request = tuple[str, str, bytes, str]
"""Method, path, body, content type."""


@dataclass(frozen=True)
class Operation:
    """`request(client)` is the next request of a client; what it writes changes each time."""

    name: str
    request: Callable[[int], Request]
    reference: tuple[str, str] = ("", "")
    """Of a real Kubernetes with objects of 0.5 KB, with 1 and 16 clients: requests/s, CPU per request."""


def _patch(content: str) -> Callable[[int], Request]:
    return lambda c: ("PATCH", f"{maps()}/target-{c}", b'{"data":{"value":"%d"}}' % time.monotonic_ns(), content)


OPERATIONS = (
    Operation("GET", lambda c: ("GET", f"{maps()}/target-{c}", b"", ""), ("1.1k, 1.1 ms", "3.0k, 0.53 ms")),
    Operation("LIST 200", lambda _: ("GET", f"{maps('stored')}?limit=200", b"", "")),
    Operation(f"LIST {LISTED}", lambda _: ("GET", maps("listed"), b"", ""), ("81-107, 9-13 ms", "153-189, 8-9 ms")),
    Operation(
        "CREATE",
        lambda c: ("POST", maps(), config_map(f"new-{c}-{time.monotonic_ns()}", c), JSON),
        ("560, 1.9 ms", "1.4-1.6k, 1.0 ms"),
    ),
    Operation(
        "PUT",
        lambda c: ("PUT", f"{maps()}/target-{c}", config_map(f"target-{c}", time.monotonic_ns()), JSON),
        ("500, 2.1 ms", "1.2-1.3k, 1.25 ms"),
    ),
    Operation("merge PATCH", _patch(MERGE), ("400, 2.5 ms", "1.3k, 1.2 ms")),
    Operation("strategic merge PATCH", _patch(STRATEGIC)),
    Operation(
        "server-side apply",
        lambda c: (
            "PATCH",
            f"{maps()}/applied-{c}?fieldManager=bench",
            config_map(f"applied-{c}", time.monotonic_ns()),
            APPLY,
        ),
    ),
)


@dataclass(frozen=True)
class Server:
    """Where the measured server is, and who asks it."""

    port: int
    authority: Path
    token: str
    daemon: int

    def connect(self) -> Connection:
        return Connection(self)


def run(settings: Settings) -> None:
    with cluster() as (person, facts):
        administrator = client(person, facts)
        layout = person.home / "p" / "clusters" / facts["name"]
        port, daemon = int(facts["server"].rpartition(":")[2]), process(facts, "daemon")
        server = Server(port, layout / "pki" / "ca.crt", _account(administrator), daemon)
        per_thousand = _prepare(server)
        rows = [line for operation in OPERATIONS for line in _rows(operation, server, settings)]
        heads = ("operation", "clients", "requests/s", "p50", "p99", "CPU/request", "per core", "real Kubernetes")
        table(heads, rows)
        print()
        table(("besides", "podling", "target", "real Kubernetes"), _besides(server, per_thousand))


def _account(administrator: Any) -> str:
    """The token of a service account that may do with config maps what it likes, and nothing else."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    for space in (SPACE, "listed", "stored", "owned"):
        _post(administrator, "/api/v1/namespaces", {"metadata": {"name": space}})
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}
    subject = {"kind": "ServiceAccount", "namespace": SPACE, "name": SPACE}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": SPACE}
    _post(administrator, f"/api/v1/namespaces/{SPACE}/serviceaccounts", {"metadata": {"name": SPACE}})
    _post(administrator, f"{rbac}/clusterroles", {"metadata": {"name": SPACE}, "rules": [rule]})
    binding = {"metadata": {"name": SPACE}, "subjects": [subject], "roleRef": role}
    _post(administrator, f"{rbac}/clusterrolebindings", binding)
    request = _post(administrator, f"/api/v1/namespaces/{SPACE}/serviceaccounts/{SPACE}/token", {"spec": {}})
    token: str = request["status"]["token"]
    return token


def _post(administrator: Any, path: str, body: Any) -> Any:
    return administrator.request("POST", path, json.dumps(body).encode(), content=JSON)


def _prepare(server: Server) -> float:
    """Fills the store; gives the bytes of memory that a thousand objects take."""
    _fill(server, SPACE, "target", max(CLIENTS))
    _fill(server, "listed", "listed", LISTED)
    rest = STORED - LISTED
    before = memory(server.daemon)
    _fill(server, "stored", "stored", rest)
    return (memory(server.daemon) - before) / rest * 1000


def _fill(server: Server, space: str, name: str, count: int, owner: str = "") -> None:
    def create(number: int) -> None:
        connection = server.connect()
        for n in range(number, count, max(CLIENTS)):
            body = config_map(f"{name}-{n}", n)
            if owner:
                body = body.replace(b'"metadata": {', b'"metadata": {"ownerReferences": [%b], ' % owner.encode(), 1)
            connection.exchange("POST", maps(space), body, JSON)

    _together(create, max(CLIENTS))


def _together(work: Callable[[int], None], clients: int) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(number,)) for number in range(clients)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode:
            raise RuntimeError("a client failed")


def _rows(operation: Operation, server: Server, settings: Settings) -> Iterator[tuple[str, ...]]:
    for clients, reference in zip(CLIENTS, operation.reference, strict=True):
        rounds = [_round(operation, clients, server, settings.seconds) for _ in range(settings.rounds)]
        latencies = sorted(latency for found, _ in rounds for latency in found)
        rate = median(len(found) / settings.seconds for found, _ in rounds)
        cost = median(cpu / len(found) for found, cpu in rounds)
        yield (
            operation.name,
            str(clients),
            f"{rate:.0f}",
            milliseconds(_share(latencies, 0.5)),
            milliseconds(_share(latencies, 0.99)),
            f"{cost * 1000:.2f} ms",
            f"{1 / cost:.0f}/s",
            reference,
        )


def _share(latencies: list[float], share: float) -> float:
    return latencies[int(len(latencies) * share)]


def _round(operation: Operation, clients: int, server: Server, seconds: float) -> tuple[list[float], float]:
    """Latencies of all requests of the measured time, and the CPU seconds that the server used in it."""
    context = multiprocessing.get_context("fork")
    begin, end = context.Barrier(clients + 1), context.Event()
    results = [context.Pipe(duplex=False) for _ in range(clients)]
    workers = [
        context.Process(target=_work, args=(operation, number, server, begin, end, seconds, result[1]))
        for number, result in enumerate(results)
    ]
    for worker in workers:
        worker.start()
    begin.wait(START_PATIENCE)
    time.sleep(WARM_UP)
    before, started = cpu_seconds(server.daemon), time.monotonic()
    time.sleep(max(0.0, seconds - (time.monotonic() - started)))
    used = cpu_seconds(server.daemon) - before
    end.set()
    latencies = [latency for receiver, _ in results for latency in receiver.recv()]
    for worker in workers:
        worker.join()
    return latencies, used


def _work(operation: Operation, number: int, server: Server, begin: Any, end: Any, seconds: float, result: Any) -> None:
    """In a client's process."""
    connection = server.connect()
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


def _besides(server: Server, per_thousand: float) -> Iterator[tuple[str, ...]]:
    yield "memory of 1,000 objects", f"{per_thousand / 2**20:.1f} MiB", "", ""
    latencies = _watched(server)
    found = f"{milliseconds(_share(latencies, 0.5))} / {milliseconds(_share(latencies, 0.99))}"
    yield "PATCH sent -> watch event, p50 / p99", found, "/ 5 ms", "1.6-2.0 / 5 ms"
    yield from _fanned_out(server)
    yield f"{OWNED} owned objects deleted with their owner", f"{_collected(server):.1f} s", "10 s", ""


def _watched(server: Server) -> list[float]:
    """Seconds from the sending of a PATCH to its event on another connection."""
    writer, watcher = server.connect(), server.connect()
    watcher.send("GET", f"{maps()}?watch=true&fieldSelector=metadata.name=target-0", b"", "")
    watcher.read_until(b"target-0")
    latencies: list[float] = []
    for number in range(PATCHES):
        mark = b"mark-%d-" % number
        sent = time.monotonic()
        writer.send("PATCH", f"{maps()}/target-0", b'{"data":{"value":"%b"}}' % mark, MERGE)
        watcher.read_until(mark)
        latencies.append(time.monotonic() - sent)
        writer.skip_answer()
    return sorted(latencies)


def _fanned_out(server: Server) -> Iterator[tuple[str, ...]]:
    """Many watchers of one object: when the last of them has each change, and what one delivery costs the server."""
    writer, watchers = server.connect(), [server.connect() for _ in range(WATCHERS)]
    with selectors.DefaultSelector() as selector:
        for watcher in watchers:
            watcher.send("GET", f"{maps()}?watch=true&fieldSelector=metadata.name=target-1", b"", "")
            watcher.read_until(b"target-1")
            watcher.listen(selector)
        times: list[float] = []
        rounds: list[float] = []
        before = cpu_seconds(server.daemon)
        for number in range(FANNED):
            mark = b"mark-%d-" % number
            sent = time.monotonic()
            writer.exchange("PATCH", f"{maps()}/target-1", b'{"data":{"value":"%b"}}' % mark, MERGE)
            times += (seen - sent for seen in _seen(selector, mark))
            rounds.append(time.monotonic() - sent)
        used = cpu_seconds(server.daemon) - before
    latencies = sorted(times)
    found = f"{milliseconds(_share(latencies, 0.5))} / {milliseconds(_share(latencies, 0.99))}"
    yield f"the same with {WATCHERS} watchers (whose own work is in it), p50 / p99", found, "", ""
    rate = f"{WATCHERS / median(rounds):.0f}/s, {used / (FANNED * WATCHERS) * 1e6:.0f} us"
    yield f"events delivered to {WATCHERS} watchers, CPU of the server for each", rate, "", ""


def _seen(selector: selectors.BaseSelector, mark: bytes) -> Iterator[float]:
    """When each watcher has the mark."""
    waiting = len(selector.get_map())
    while waiting:
        for key, _ in selector.select(START_PATIENCE):
            if key.data.poll(mark):
                waiting -= 1
                yield time.monotonic()


def _collected(server: Server) -> float:
    """Seconds from the deletion of an owner until the last of what it owned is gone."""
    connection = server.connect()
    answer = connection.exchange("POST", maps("owned"), config_map("owner", 0), JSON)
    uid = json.loads(answer)["metadata"]["uid"]
    owner = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid})
    _fill(server, "owned", "owned", OWNED, owner)
    began = time.monotonic()
    connection.exchange("DELETE", f"{maps('owned')}/owner", b"", "")
    while len(json.loads(connection.exchange("GET", f"{maps('owned')}?limit=2", b"", ""))["items"]) > 1:
        time.sleep(0.01)  # one stays: the certificate of the authority, which every namespace has
    return time.monotonic() - began


class Connection:
    """One kept-alive TLS connection; no HTTP library, whose CPU time would be measured too."""

    def __init__(self, server: Server) -> None:
        context = ssl.create_default_context(cafile=str(server.authority))
        plain = socket.create_connection(("127.0.0.1", server.port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        self._head = (
            f"HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAccept: application/json\r\nUser-Agent: bench\r\n"
            f"Authorization: Bearer {server.token}\r\n"
        )
        self._rest = b""

    def exchange(self, method: str, path: str, body: bytes, content: str) -> bytes:
        """Sends a request and reads its whole answer. Raises `RuntimeError` where the API refuses."""
        self.send(method, path, body, content)
        return self.skip_answer()

    def send(self, method: str, path: str, body: bytes, content: str) -> None:
        head = f"{method} {path} {self._head}"
        if body:
            head += f"Content-Type: {content}\r\nContent-Length: {len(body)}\r\n"
        self._socket.sendall(head.encode() + b"\r\n" + body)

    def skip_answer(self) -> bytes:
        head = self._read_head()
        if head[9:10] != b"2":
            raise RuntimeError(head.decode())
        return self._read(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))

    def read_until(self, mark: bytes) -> None:
        """Of a watch."""
        while mark not in self._rest:
            self._rest += self._received()
        self._rest = b""

    def listen(self, selector: selectors.BaseSelector) -> None:
        self._socket.setblocking(False)
        selector.register(self._socket, selectors.EVENT_READ, self)

    def poll(self, mark: bytes) -> bool:
        """Reads what is there; whether the mark was in it."""
        try:
            while True:
                self._rest += self._received()
        except ssl.SSLWantReadError:
            pass
        if mark not in self._rest:
            return False
        self._rest = b""
        return True

    def _read_head(self) -> bytes:
        data = self._rest
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._received()
        self._rest = data[end + 4 :]
        return data[:end]

    def _read(self, length: int) -> bytes:
        parts, left = [self._rest], length - len(self._rest)
        while left > 0:
            parts.append(self._received())
            left -= len(parts[-1])
        self._rest = b""
        return b"".join(parts)

    def _received(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise EOFError("the server closed the connection")
        return data
