"""What the API server asks of a pod's node: `log`, `exec`, `attach` and `portforward` of pods.

The container is chosen and the options are checked as the API server does (pkg/registry/core/pod); the rest is the
node's answer, streamed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from urllib.parse import parse_qs

from podling.api import meta
from podling.api.errors import (
    FieldError,
    bad_request,
    forbidden_field,
    invalid,
    invalid_value,
    not_found,
    not_supported,
)
from podling.api.http import Stream
from podling.api.requests import Query
from podling.api.server import ApiServer, Exchange
from podling.api.streams import negotiation
from podling.api.streams.backend import Process
from podling.api.streams.events import OutputSocket, asks_for_websocket
from podling.node.logs import LogOptions
from podling.node.node import Node
from podling.node.nodes import Nodes
from podling.store.types import Object

STREAMS = ("All", "Stdout", "Stderr")


def serve(server: ApiServer, nodes: Nodes) -> None:
    """Registers the subresources with the API server."""
    rest = PodRest(server, nodes)
    server.handle("pods", "log", rest.log, "get")
    server.handle("pods", "exec", rest.exec, "get", "create")
    server.handle("pods", "attach", rest.attach, "get", "create")
    server.handle("pods", "portforward", rest.port_forward, "get", "create")


class PodRest:
    """The handlers; see the module."""

    def __init__(self, server: ApiServer, nodes: Nodes) -> None:
        self._server = server
        self._nodes = nodes

    def _pod(self, exchange: Exchange) -> Object:
        info = exchange.info
        pod = self._server.registry.reader.get("pods", info.namespace, info.name)
        if pod is None:
            raise not_found("pods", "", info.name)
        return pod

    async def log(self, exchange: Exchange) -> None:
        pod = self._pod(exchange)
        options = log_options(exchange.query, container_of(pod, exchange.query.get("container", "")))
        if not meta.spec(pod).get("nodeName"):
            exchange.request.respond(204, b"", "text/plain")  # nothing runs yet that could have said anything
            return
        await pour(self._nodes.of_pod(pod).logs(exchange.info.namespace, exchange.info.name, options), exchange)

    async def exec(self, exchange: Exchange) -> None:
        query = parse_qs(exchange.request.query, keep_blank_values=True)
        streams = negotiation.wanted(query)
        command = query.get("command", [])
        if not command:
            raise bad_request("you must specify at least one command for the container")
        node, container = self._target(exchange, query)
        info = exchange.info

        async def start() -> Process:
            return await node.exec(info.namespace, info.name, container, command, tty=streams.tty, stdin=streams.stdin)

        await negotiation.serve_remote_command(exchange.request, start, streams)

    async def attach(self, exchange: Exchange) -> None:
        query = parse_qs(exchange.request.query, keep_blank_values=True)
        streams = negotiation.wanted(query, attach=True)
        node, container = self._target(exchange, query)
        info = exchange.info

        async def start() -> Process:
            return await node.attach(info.namespace, info.name, container)

        await negotiation.serve_remote_command(exchange.request, start, streams)

    def port_forward(self, exchange: Exchange) -> None:
        pod = self._pod(exchange)
        phase = meta.status(pod).get("phase", "")
        if phase != "Running":
            raise bad_request(f"unable to forward port because pod is not running. Current status={phase}")
        info, node = exchange.info, self._nodes.of_pod(pod)
        query = parse_qs(exchange.request.query, keep_blank_values=True)
        negotiation.serve_port_forward(exchange.request, lambda port: node.dial(info.namespace, info.name, port), query)

    def _target(self, exchange: Exchange, query: Mapping[str, Sequence[str]]) -> tuple[Node, str]:
        """The kubelet and the container that are meant."""
        pod = self._pod(exchange)
        container = container_of(pod, query.get("container", [""])[0])
        if not meta.spec(pod).get("nodeName"):
            raise bad_request(f"pod {meta.name(pod)} does not have a host assigned")
        return self._nodes.of_pod(pod), container


async def pour(lines: AsyncIterator[bytes], exchange: Exchange) -> None:
    """Answers with what comes, as long as it comes and somebody listens."""
    request = exchange.request
    stream = OutputSocket(request) if asks_for_websocket(request) else request.stream(200, "text/plain")
    pouring = asyncio.ensure_future(_pour(lines, stream))

    def leave() -> None:
        pouring.cancel()  # a follower that goes away need not wait for the next line

    stream.on_close = leave
    await asyncio.wait([pouring])
    if not pouring.cancelled():
        pouring.result()


async def _pour(lines: AsyncIterator[bytes], stream: Stream | OutputSocket) -> None:
    async for chunk in lines:
        stream.write(chunk)
        await stream.drain()
    stream.close()


def container_of(pod: Object, wanted: str) -> str:
    """The container meant, by name or because it is the only one. Raises `ApiError` 400."""
    groups = [[c["name"] for c in meta.items(pod, "spec", key)] for key in CONTAINER_LISTS]
    name = meta.name(pod)
    if wanted:
        if not any(wanted in names for names in groups):
            raise bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    containers, inits, ephemeral = groups
    if len(containers) == 1:
        return containers[0]
    message = f"a container name must be specified for pod {name}, choose one of: [{' '.join(containers)}]"
    if inits:
        message += f" or one of the init containers: [{' '.join(inits)}]"
    if ephemeral:
        message += f" or one of the ephemeral containers: [{' '.join(ephemeral)}]"
    raise bad_request(message)


CONTAINER_LISTS = ("containers", "initContainers", "ephemeralContainers")


def log_options(query: Query, container: str) -> LogOptions:
    """`PodLogOptions` from a query. Raises `ApiError` 400 or 422."""
    options = LogOptions(
        container=container,
        follow=query.flag("follow"),
        previous=query.flag("previous"),
        timestamps=query.flag("timestamps"),
        tail_lines=query.integer("tailLines"),
        limit_bytes=query.integer("limitBytes"),
        since_seconds=query.integer("sinceSeconds"),
        since_time=query.time("sinceTime"),
        stream=query.get("stream") or "All",
    )
    problems = list(_problems(options))
    if problems:
        raise invalid("PodLogOptions", "", "", problems)
    return options


def _problems(options: LogOptions) -> list[FieldError]:
    problems: list[FieldError] = []
    if options.tail_lines is not None and options.tail_lines < 0:
        problems.append(invalid_value("tailLines", options.tail_lines, "must be greater than or equal to 0"))
    if options.limit_bytes is not None and options.limit_bytes < 1:
        problems.append(invalid_value("limitBytes", options.limit_bytes, "must be greater than 0"))
    if options.since_seconds is not None and options.since_time is not None:
        problems.append(forbidden_field("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    elif options.since_seconds is not None and options.since_seconds < 1:
        problems.append(invalid_value("sinceSeconds", options.since_seconds, "must be greater than 0"))
    if options.stream not in STREAMS:
        problems.append(not_supported("stream", options.stream, STREAMS))
    elif options.stream != "All" and options.tail_lines is not None:
        problems.append(forbidden_field("", "`tailLines` and specific `stream` are mutually exclusive for now"))
    return problems
