"""Subresources that join a client to something that runs: `pods/exec`, `services/proxy`, ... Admission is asked about
them as about writes, with the operation CONNECT and the options of the request as the object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs

from podling.api.resources import Resource
from podling.store.types import Object

Query = Mapping[str, Sequence[str]]


def _options(kind: str) -> Resource:
    return Resource(
        group="",
        version="v1",
        kind=kind,
        plural=kind.lower(),
        singular=kind.lower(),
        namespaced=True,
        schema=f"io.k8s.api.core.v1.{kind}",
    )


CONNECTED: Final[Mapping[tuple[str, str], Resource]] = {
    ("pods", "exec"): _options("PodExecOptions"),
    ("pods", "attach"): _options("PodAttachOptions"),
    ("pods", "portforward"): _options("PodPortForwardOptions"),
    ("pods", "proxy"): _options("PodProxyOptions"),
    ("services", "proxy"): _options("ServiceProxyOptions"),
    ("nodes", "proxy"): _options("NodeProxyOptions"),
}
"""The kind of the options of each subresource."""


def options_of(kind: Resource, query: str, rest: str) -> Object:
    """The options of a request, as Go would write them."""
    given = parse_qs(query, keep_blank_values=True)
    usual = ("stdout", "stderr") if kind.kind == "PodAttachOptions" else ()
    streams = ("stdin", "stdout", "stderr", "tty")
    fields: Object = {name: True for name in streams if flag(given, name, name in usual)}
    fields |= {name: given[name][0] for name in ("container", "path") if given.get(name)}
    if kind.kind.endswith("ProxyOptions"):
        fields = {"path": f"/{rest}"} if rest else {}
    if command := given.get("command"):
        fields["command"] = command
    if kind.kind == "PodPortForwardOptions":
        ports = [text for value in given.get("ports", []) for text in value.split(",")]
        fields = {"ports": [int(port) for port in ports if port.isdecimal()]} if ports else {}
    return {"kind": kind.kind, "apiVersion": kind.api_version, **fields}


def flag(query: Query, name: str, default: bool = False) -> bool:
    values = query.get(name)
    return values[0].lower() not in ("0", "false") if values else default
