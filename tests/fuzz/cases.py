"""One case after another, each made from the seed and its own number alone, so that it can be made again."""

from __future__ import annotations

import random
from typing import Any
from urllib.parse import quote

from fuzz import connections, extensions, frames, objects, queries
from fuzz.case import Case, talk
from fuzz.envelopes import envelope, spoilt
from fuzz.objects import NAMES, SPACES, Served
from fuzz.wire import request

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
DRY = frozenset({"mutatingwebhookconfigurations", "validatingwebhookconfigurations", "apiservices"})
"""Taking these for real, whatever they say, changes what every later request is answered, rightly."""
DRY |= {"validatingadmissionpolicies", "validatingadmissionpolicybindings", "mutatingadmissionpolicies"}
DRY |= {"mutatingadmissionpolicybindings"}
_STREAMS = frozenset({"exec", "attach", "portforward"})
_NOT_LOCAL = frozenset({"proxy"})
"""Subresources that reach for addresses which the fuzzer may have written."""


class Maker:
    """Makes cases for what one server serves."""

    def __init__(self, seed: int, served: list[Served], port_pod: str) -> None:
        self._seed = seed
        self._served = served
        self._pod = port_pod

    def case(self, number: int) -> Case:
        rng = random.Random(f"{self._seed}/{number}")
        make = rng.choices(
            (
                *(self._write, self._patch, self._read, self._list, self._pages, self._protobuf, self._nowhere),
                *(self._extend, self._frames, connections.raw, connections.slow),
            ),
            (30, 24, 10, 10, 2, 10, 3, 4, 3, 3, 1),
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
        _own(body, rng)
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
        _own(body, rng)
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

    def _list(self, number: int, rng: random.Random) -> Case:
        """Lists and watches with everything that can be asked of them, in every form."""
        served, namespace, _, _ = self._target(rng, "list")
        path = served.collection(namespace)
        if served.namespaced and rng.random() < 0.2:
            path = path.replace(f"/namespaces/{namespace}", "")
        pairs = queries.parameters(rng)
        query = "&".join(f"{k}={quote(v.encode('utf-8', 'surrogatepass'))}" for k, v in pairs)
        headers = (("Accept", queries.accept(rng) if rng.random() < 0.7 else "*/*"),)
        return Case(number, "list", [request("GET", f"{path}?{query}", b"", headers)], endless=True)

    def _pages(self, number: int, rng: random.Random) -> Case:
        """A page, then what follows it, of the same list or of another one."""
        served, namespace, _, _ = self._target(rng, "list")
        first = served.collection(namespace)
        other = self._target(rng, "list")[0].collection(rng.choice(SPACES))
        steps = [queries.next_page(rng.choice((first, first, first, other)), rng, _get) for _ in range(2)]
        return Case(number, "pages", [_get(f"{first}?limit={rng.choice('112')}"), *steps], endless=True)

    def _extend(self, number: int, rng: random.Random) -> Case:
        make = rng.choices(extensions.KINDS, (2, 2, 1))[0]
        return Case(number, make.__name__, list(make(rng)))

    def _protobuf(self, number: int, rng: random.Random) -> Case:
        served, namespace, name, path = self._target(rng, "create")
        body = objects.begin(served, rng, namespace, name)
        if served.node is None:
            data = b"k8s\0" + rng.randbytes(30)
        else:
            data = envelope(objects.mutate(body, rng, rng.choice((0, 0, 1, 3))), served.node)
        roll = rng.random()
        if roll < 0.35:
            data = objects.damage(data, rng)
        elif roll < 0.8:
            data = spoilt(data, rng)
        method, target = ("POST", served.collection(namespace)) if rng.random() < 0.7 else ("PUT", path)
        return Case(number, "protobuf", [self._request(method, target, data, _PROTOBUF, served, rng)])

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
        if served is not None and served.plural in DRY:
            pairs = [("dryRun", "All"), *(p for p in pairs if p[0] != "dryRun")]
        text = "&".join(f"{k}={quote(v.encode('utf-8', 'surrogatepass'))}" for k, v in pairs)
        if rng.random() < 0.02:
            text += rng.choice(("&&&", "=", "&a", "%zz", ";", "&%ff=%ff", "&watch", "#x", "?"))
        target = path + ("&" if "?" in path else "?") * bool(text) + text
        accepted = rng.choice((rng.choice(_ACCEPTS), queries.accept(rng)))
        headers = [("Accept", accepted if rng.random() < 0.15 else _JSON)]
        if content or rng.random() < 0.2:
            headers.append(("Content-Type", content if rng.random() < 0.93 else rng.choice(_TYPES)))
        if rng.random() < 0.1:
            headers.append((rng.choice(_HEADERS), rng.choice(_CONTENTS).replace("\ud83d", "?")))
        found = request(method, target.replace("é", "%C3%A9"), body, tuple(headers))
        return connections.chunked(found, rng) if body and rng.random() < 0.03 else found

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
        case = Case(number, "frames", converse=talk)
        flow = frames.flow(websocket, rng)
        cut = rng.randrange(len(flow) + 1)
        case.parts = [
            (0, request(rng.choice(("GET", "POST")), path, b"", headers)),
            (0.02, flow[:cut]),
            (0, flow[cut:]),
        ]
        return case


def _get(target: str) -> bytes:
    return request("GET", target, b"", (("Accept", _JSON),))


def _own(body: Any, rng: random.Random) -> None:
    """Now and then an object claims who owns its fields."""
    metadata = body.get("metadata") if isinstance(body, dict) else None
    if isinstance(metadata, dict) and rng.random() < 0.06:
        metadata["managedFields"] = objects.managed_fields(rng)


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
