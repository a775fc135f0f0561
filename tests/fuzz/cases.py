"""One case after another, each made from the seed and its own number alone, so that it can be made again."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from fuzz import frames, objects
from fuzz.envelopes import envelope
from fuzz.objects import NAMES, SPACES, Served
from fuzz.wire import PATIENCE, Answer, Hang, Place, Wire, parse, request

PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_JSON = "application/json"
_PROTOBUF = "application/vnd.kubernetes.protobuf"
_TYPES = (_JSON, "application/yaml", _PROTOBUF, *PATCHES, "text/plain", "application/json; charset=x", "x", "a/b;;", "")
_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
_ACCEPTS = (
    *(
        "*/*",
        _JSON,
        "application/yaml",
        _PROTOBUF,
        _TABLE,
        _TABLE + ",application/json",
        "text/html",
        "",
        ",",
        "a/b;q=x",
    ),
    *("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "application/json;as=X;v=;g", "*/*;q=0"),
    *("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "application/json;stream=watch", "x" * 9000),
)
_VALUES = (
    *(
        "",
        "0",
        "1",
        "-1",
        "true",
        "false",
        "All",
        "Strict",
        "Warn",
        "Ignore",
        "abc",
        "999999999999999999999",
        "1e3",
        "NaN",
    ),
    *(
        "a=b",
        "a in (b,c)",
        "!a",
        "a=b,,",
        "metadata.name=fz-1",
        "spec.nodeName!=",
        "x.y=z",
        "(",
        "a\\,b",
        "é",
        "\x00",
        "%",
    ),
    *(
        "NotOlderThan",
        "Exact",
        "Foreground",
        "Orphan",
        "fuzzer",
        "m" * 200,
        "eyJ2IjoibWV0YSJ9",
        "eyJ2IjogMX0",
        "[]",
        "None",
    ),
)
_PARAMETERS = (
    *("dryRun", "fieldManager", "fieldValidation", "force", "pretty", "limit", "continue", "resourceVersion", "watch"),
    *("resourceVersionMatch", "labelSelector", "fieldSelector", "timeoutSeconds", "sendInitialEvents", "includeObject"),
    *("allowWatchBookmarks", "gracePeriodSeconds", "propagationPolicy", "orphanDependents", "export", "container"),
    *("command", "stdin", "stdout", "tty", "ports", "tailLines", "sinceSeconds", "sinceTime", "limitBytes", "previous"),
    *(
        "timestamps",
        "follow",
        "verbose",
        "exclude",
        "as",
        "path",
        "hash",
        "timeout",
        "shardSelector",
        "ignoreStoreReadErrorWithClusterBreakingPotential",
    ),
)
_HEADERS = (
    *(
        "Accept",
        "Content-Type",
        "Content-Encoding",
        "Accept-Encoding",
        "Impersonate-User",
        "Impersonate-Group",
        "If-Match",
    ),
    *(
        "Impersonate-Uid",
        "Impersonate-Extra-x%zz",
        "Authorization",
        "Expect",
        "X-Forwarded-For",
        "Origin",
        "Range",
        "Cookie",
    ),
    *("If-None-Match", "User-Agent", "Upgrade", "X-Stream-Protocol-Version", "Content-Range", "TE", "Audit-ID"),
)
_CONTENTS = (
    *(
        "",
        "x",
        "gzip",
        "100-continue",
        "Bearer x",
        "Bearer a.b.c",
        "Basic eDp4",
        "system:masters",
        "system:node:x",
        "é",
    ),
    *("SPDY/3.1", "websocket", "h2c", "\x00", "a" * 20_000, "a,b,,c", "bytes=0-1", '"1"', "\ud83d"),
)
_DRY = frozenset({"mutatingwebhookconfigurations", "validatingwebhookconfigurations", "apiservices"})
"""Taking these for real, whatever they say, changes what every later request is answered, rightly."""
_DRY |= {"validatingadmissionpolicies", "validatingadmissionpolicybindings", "mutatingadmissionpolicies"}
_DRY |= {"mutatingadmissionpolicybindings"}
_STREAMS = frozenset({"exec", "attach", "portforward"})
_NOT_LOCAL = frozenset({"proxy"})
"""Subresources that reach for addresses which the fuzzer may have written."""


@dataclass
class Case:
    """What is sent: the requests one after another on one connection, or a conversation of its own."""

    number: int
    family: str
    sent: list[bytes] = field(default_factory=list[bytes])
    endless: bool = False
    answers: list[Answer] = field(default_factory=list[Answer])
    converse: Callable[[Place, Case], None] | None = None
    parts: list[tuple[float, bytes]] = field(default_factory=list[tuple[float, bytes]])
    """For conversations: what is written, after how many seconds."""


class Maker:
    """Makes cases for what one server serves."""

    def __init__(self, seed: int, served: list[Served], port_pod: str) -> None:
        self._seed = seed
        self._served = served
        self._pod = port_pod

    def case(self, number: int) -> Case:
        rng = random.Random(f"{self._seed}/{number}")
        make = rng.choices(
            (self._write, self._patch, self._read, self._protobuf, self._nowhere, self._frames, self._raw, self._slow),
            (34, 24, 18, 10, 4, 4, 5, 1),
        )[0]
        return make(number, rng)

    def _target(self, rng: random.Random, verb: str) -> tuple[Served, str, str, str]:
        """A resource, a namespace, a name, and the path of an object."""
        served = rng.choice([s for s in self._served if verb in s.verbs])
        namespace, name = rng.choice(SPACES), rng.choice(NAMES)
        if served.kind in ("Namespace", "CustomResourceDefinition"):
            name = {"Namespace": f"fz-ns-{rng.randrange(4)}"}.get(served.kind, "things.fuzz.test")
        if rng.random() < 0.02:
            name = rng.choice(("", ".", "..", "A", "x" * 300, "é", "a/b", "%", "a b", "\x00", ":"))
        return served, namespace, name, f"{served.collection(namespace)}/{quote(name, safe='')}"

    def _write(self, number: int, rng: random.Random) -> Case:
        verb = rng.choice(("create", "create", "update", "delete"))
        if verb == "delete":
            return self._delete(number, rng)
        served, namespace, name, path = self._target(rng, verb)
        body = objects.begin(served, rng, namespace, name)
        objects.mutate(body, rng, rng.choice((0, 0, 0, 1, 1, 2, 5)))
        target = served.collection(namespace) if verb == "create" else path
        below = [s for s in served.subresources if s not in _STREAMS | _NOT_LOCAL]
        if below and rng.random() < 0.25:
            target = f"{path}/{rng.choice(below)}"
        data = objects.to_json(body, rng)
        method = "POST" if verb == "create" else "PUT"
        return Case(number, verb, [self._request(method, target, data, _JSON, served, rng)])

    def _delete(self, number: int, rng: random.Random) -> Case:
        served, namespace, _, path = self._target(rng, "delete")
        body = objects.to_json(_delete_options(rng), rng) if rng.random() < 0.5 else b""
        if rng.random() < 0.1 and served.namespaced:
            path = served.collection(namespace)
        return Case(number, "delete", [self._request("DELETE", path, body, _JSON, served, rng)])

    def _patch(self, number: int, rng: random.Random) -> Case:
        served, namespace, name, path = self._target(rng, "patch")
        kind = rng.choice(PATCHES)
        body = objects.begin(served, rng, namespace, name)
        objects.mutate(body, rng, rng.choice((0, 1, 2, 4)))
        patch: Any = body
        if kind == PATCHES[0]:
            patch = [_operation(body, rng) for _ in range(rng.randrange(1, 6))]
            objects.mutate(patch, rng, rng.choice((0, 0, 1)))
        elif kind == PATCHES[2] and isinstance(patch, dict):
            _direct(patch, rng)
        below = [s for s in served.subresources if s not in _STREAMS | _NOT_LOCAL]
        if below and rng.random() < 0.25:
            path = f"{path}/{rng.choice(below)}"
        if kind == PATCHES[3] and rng.random() < 0.9:
            path += f"?fieldManager={rng.choice(('a', 'b', 'c'))}&force={rng.choice(('true', 'false'))}"
        return Case(number, "patch", [self._request("PATCH", path, objects.to_json(patch, rng), kind, served, rng)])

    def _read(self, number: int, rng: random.Random) -> Case:
        served, namespace, _, path = self._target(rng, "get" if rng.random() < 0.5 else "list")
        roll = rng.random()
        if roll < 0.5 or "get" not in served.verbs:
            path = served.collection(namespace)
        elif roll < 0.7 and served.subresources:
            path += f"/{rng.choice([s for s in served.subresources if s not in _NOT_LOCAL] or ['status'])}"
        if rng.random() < 0.3:
            path += "?watch=1&resourceVersion=" + rng.choice(("", "0", "1", "10", "999999999"))
        method = rng.choice(("GET", "GET", "GET", "GET", "HEAD", "OPTIONS", "TRACE"))
        case = Case(number, "read", [self._request(method, path, b"", "", served, rng)])
        case.endless = True
        return case

    def _protobuf(self, number: int, rng: random.Random) -> Case:
        served, namespace, name, path = self._target(rng, "create")
        body = objects.begin(served, rng, namespace, name)
        if served.node is None:
            data = b"k8s\0" + rng.randbytes(30)
        else:
            data = envelope(objects.mutate(body, rng, rng.choice((0, 0, 1, 3))), served.node)
        if rng.random() < 0.7:
            data = objects.damage(data, rng)
        if rng.random() < 0.7:
            return Case(
                number, "protobuf", [self._request("POST", served.collection(namespace), data, _PROTOBUF, served, rng)]
            )
        return Case(number, "protobuf", [self._request("PUT", path, data, _PROTOBUF, served, rng)])

    def _nowhere(self, number: int, rng: random.Random) -> Case:
        words = (
            "api",
            "apis",
            "v1",
            "apps",
            "namespaces",
            "fuzz",
            "pods",
            "watch",
            "..",
            "",
            "%00",
            "%ff",
            "é",
            "openapi",
            "v3",
            "v2",
        )
        words += (
            "metrics",
            "healthz",
            "readyz",
            "livez",
            "ping",
            "version",
            "logs",
            "debug",
            "status",
            "x" * 5000,
            "%2F",
            ".well-known",
        )
        words += (
            "openid-configuration",
            "openid",
            "jwks",
            "metrics.k8s.io",
            "v1beta1",
            "nodes",
            "things",
            "fuzz.test",
            "autoscaling",
        )
        path = "/" + "/".join(rng.choice(words) for _ in range(rng.randrange(7)))
        method = rng.choice(("GET", "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "CONNECT", "PROPFIND"))
        if method == "DELETE" and "fuzz" not in path:
            method = "GET"
        case = Case(
            number, "nowhere", [self._request(method, path, b"{}" if rng.random() < 0.3 else b"", _JSON, None, rng)]
        )
        case.endless = True
        return case

    def _request(
        self, method: str, path: str, body: bytes, content: str, served: Served | None, rng: random.Random
    ) -> bytes:
        pairs = [(rng.choice(_PARAMETERS), rng.choice(_VALUES)) for _ in range(rng.choice((0, 0, 0, 0, 0, 1, 2, 5)))]
        if served is not None and served.plural in _DRY:
            pairs = [("dryRun", "All"), *(p for p in pairs if p[0] != "dryRun")]
        text = "&".join(f"{k}={quote(v.encode('utf-8', 'surrogatepass'))}" for k, v in pairs)
        if rng.random() < 0.02:
            text += rng.choice(("&&&", "=", "&a", "%zz", ";", "&%ff=%ff", "&watch", "#x", "?"))
        target = path + ("&" if "?" in path else "?") * bool(text) + text
        headers = [("Accept", rng.choice(_ACCEPTS) if rng.random() < 0.15 else _JSON)]
        if content or rng.random() < 0.2:
            headers.append(("Content-Type", content if rng.random() < 0.93 else rng.choice(_TYPES)))
        if rng.random() < 0.1:
            headers.append((rng.choice(_HEADERS), rng.choice(_CONTENTS).replace("\ud83d", "?")))
        return request(method, target.replace("é", "%C3%A9"), body, tuple(headers))

    def _frames(self, number: int, rng: random.Random) -> Case:
        websocket, headers = frames.handshake(rng)
        what = rng.choice(("exec", "attach", "portforward"))
        query = rng.choice(
            (
                "command=cat&stdin=1&stdout=1",
                "command=ls&stdout=1&stderr=1",
                "command=sh&stdin=1&stdout=1&tty=1",
                "command=nothing&stdout=1",
                "",
            )
        )
        if what == "portforward":
            query = rng.choice(("ports=80", "ports=80&ports=81", "ports=x", ""))
        path = f"/api/v1/namespaces/default/pods/{self._pod}/{what}?{query}"
        case = Case(number, "frames", converse=_talk)
        flow = frames.flow(websocket, rng)
        cut = rng.randrange(len(flow) + 1)
        case.parts = [
            (0, request(rng.choice(("GET", "POST")), path, b"", headers)),
            (0.02, flow[:cut]),
            (0, flow[cut:]),
        ]
        return case

    def _raw(self, number: int, rng: random.Random) -> Case:
        case = Case(number, "raw", converse=_talk)
        good = request("GET", "/api/v1/namespaces/fuzz/pods", b"", ())
        post = request("POST", "/api/v1/namespaces/fuzz/configmaps", b'{"metadata":{"generateName":"r"}}', ())
        pick = rng.randrange(9)
        if pick == 0:
            case.parts = [(0, rng.randbytes(rng.choice((1, 20, 3000))))]
        elif pick == 1:
            case.parts = [(0, objects.damage(good, rng))]
        elif pick == 2:
            case.parts = [(0, objects.damage(post, rng))]
        elif pick == 3:
            case.parts = [(0, good * rng.choice((2, 40, 200)))]
        elif pick == 4:
            case.parts = [(0, post + good + objects.damage(post + good, rng))]
        elif pick == 5:
            case.parts = [(0, _chunks(rng))]
        elif pick == 6:
            many = tuple((f"X-{n}", "y" * rng.choice((1, 1000))) for n in range(rng.choice((100, 3000))))
            case.parts = [(0, request("GET", "/version", b"", many))]
        elif pick == 7:
            lies = rng.choice(
                (
                    b"Content-Length: -1",
                    b"Content-Length: 9999999999",
                    b"Content-Length: 5\r\nContent-Length: 6",
                    b"Transfer-Encoding: x",
                    b"Transfer-Encoding: chunked\r\nContent-Length: 3",
                )
            )
            case.parts = [(0, post.replace(b"Host: 127.0.0.1", b"Host: 127.0.0.1\r\n" + lies))]
        else:
            case.converse = _talk_plainly
            case.parts = [(0, rng.choice((good, rng.randbytes(200), b"\x16\x03\x01" + rng.randbytes(300))))]
        return case

    def _slow(self, number: int, rng: random.Random) -> Case:
        """Byte by byte, half-closed at some point."""
        case = Case(number, "slow", converse=_talk)
        data = request("POST", "/api/v1/namespaces/fuzz/configmaps", b'{"metadata":{"generateName":"slow"}}', ())
        data = data[: rng.randrange(len(data))] if rng.random() < 0.5 else data
        step = rng.choice((5, 20, 60))
        case.parts = [(0.01, data[at : at + step]) for at in range(0, len(data), step)]
        return case


def play(case: Case, wire: Wire, place: Place) -> None:
    """Sends a case; its answers are then in it. Raises Hang."""
    if case.converse is not None:
        case.converse(place, case)
        return
    for data in case.sent:
        case.answers.append(wire.send(data, head_only=data.startswith(b"HEAD "), endless=case.endless))


def _talk(place: Place, case: Case) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError, EOFError):
        connection = place.connect()
        try:
            _write_and_end(connection, case)
        finally:
            connection.close()


def _talk_plainly(place: Place, case: Case) -> None:
    with contextlib.suppress(ConnectionError), place.plain() as connection:
        _write_and_end(connection, case)


def _write_and_end(connection: socket.socket, case: Case) -> None:
    """Writes all parts, reads what comes, then half-closes: within PATIENCE the server must have closed its side.

    TLS in Python cannot half-close, so there the whole connection ends after a glance and only the answers count.
    """
    connection.settimeout(PATIENCE)
    received = b""
    try:
        for wait, data in case.parts:
            time.sleep(wait)
            connection.sendall(data)
        case.sent = [data for _, data in case.parts]
        connection.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            while more := connection.recv(1 << 18):
                received += more
                if len(received) > 8 << 20:
                    break
        if not isinstance(connection, ssl.SSLSocket):
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(PATIENCE)
            while connection.recv(1 << 18):
                pass
    except TimeoutError:
        raise Hang("the connection was neither read nor closed") from None
    finally:
        if received.startswith(b"HTTP/1.1 "):
            case.answers.append(parse(received)[0])


def _chunks(rng: random.Random) -> bytes:
    head = b"POST /api/v1/namespaces/fuzz/configmaps HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    sizes = (b"0", b"5", b"-1", b"fffffffff", b"1;a=b", b"zz", b"ffffffffffffffffffff", b"")
    body = b"".join(rng.choice(sizes) + b"\r\n" + b"x" * rng.randrange(9) + b"\r\n" for _ in range(rng.randrange(5)))
    return head + body + b"0\r\n\r\n"


def _delete_options(rng: random.Random) -> Any:
    options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
    options["propagationPolicy"] = rng.choice(("Foreground", "Background", "Orphan", "x"))
    options["preconditions"] = {"uid": rng.choice(("x", "")), "resourceVersion": "1"}
    return objects.mutate(options, rng, rng.randrange(3))


def _operation(body: Any, rng: random.Random) -> Any:
    """An operation of a JSON patch, mostly at places that exist."""
    path = "".join("/" + p for p in _way(body, rng))
    path = rng.choice(
        (path, path, path, path + "/-", path + "/0", path + "/-1", "", "/", "a", "/~2", "/metadata/name", "/é")
    )
    name = rng.choice(("add", "remove", "replace", "move", "copy", "test", "x"))
    other = "".join("/" + p for p in _way(body, rng))
    return {"op": name, "path": path, "value": objects.value(rng), "from": rng.choice((other, "", path))}


def _way(body: Any, rng: random.Random) -> list[str]:
    way: list[str] = []
    while isinstance(body, dict | list) and body and len(way) < 60 and rng.random() < 0.85:
        key = rng.choice(list(body)) if isinstance(body, dict) else rng.randrange(len(body))
        way.append(str(key).replace("~", "~0").replace("/", "~1"))
        body = body[key]
    return way


def _direct(patch: Any, rng: random.Random) -> None:
    """Sprinkles a strategic merge patch with directives, right and wrong."""
    for _ in range(rng.randrange(4)):
        holders = list(_dicts(patch))
        if not holders:
            return
        holder = rng.choice(holders)
        key = rng.choice((*holder, "containers", "finalizers"))
        name = rng.choice(("$patch", "$retainKeys", f"$setElementOrder/{key}", f"$deleteFromPrimitiveList/{key}"))
        known = ("replace", "delete", "merge", "x", [], ["a"], [{"name": "c"}], None, 1, {}, list(holder))
        holder[name] = rng.choice(known)


def _dicts(value: Any, depth: int = 0) -> Any:
    if depth > 60:
        return
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _dicts(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _dicts(inner, depth + 1)


def repeatable(case: Case) -> str:
    """The case as bytes that a person can send again."""
    return "\n".join(json.dumps(data[:20_000].decode("latin-1")) for data in case.sent)
