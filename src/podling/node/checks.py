"""One probe, carried out once: httpGet, tcpSocket, grpc; and `Outcome`, what it says.

The messages are the kubelet's own, since people search for them. Everything runs on the event loop; a check that takes
longer than its timeout is cut off. Connections are made from the node's network namespace to the pod's address.
"""

from __future__ import annotations

import asyncio
import os
import socket
import urllib.parse
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from podling.api.relay import any_certificate
from podling.node.state import part
from podling.store.types import Object

BODY_LIMIT = 10 * 1024
REDIRECT_LIMIT = 10


class Verdict(StrEnum):
    SUCCESS = "success"
    WARNING = "warning"
    """Counts as success; is told as an event."""
    FAILURE = "failure"
    UNKNOWN = "unknown"
    """The probe itself could not be made; counts as nothing."""


class Outcome(NamedTuple):
    verdict: Verdict
    output: str = ""


def named_port(port: int | str, container: Object) -> int | None:
    """A port number, or that of the container's port with this name."""
    if isinstance(port, int):
        return port
    if port.isdigit():
        return int(port)
    return next((entry["containerPort"] for entry in container.get("ports") or () if entry.get("name") == port), None)


class Target(NamedTuple):
    """An HTTP request, as a probe or a hook describes it."""

    scheme: str
    host: str
    port: int
    path: str
    headers: Mapping[str, str]

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def http_target(action: Object, container: Object, ip: str) -> Target | None:
    """`None` when the port's name is not one of the container's."""
    port = named_port(action["port"], container)
    if port is None:
        return None
    path: str = action.get("path") or "/"
    headers = {header["name"]: header["value"] for header in action.get("httpHeaders") or ()}
    return Target(
        (action.get("scheme") or "HTTP").lower(),
        action.get("host") or ip,
        port,
        path if path.startswith("/") else f"/{path}",
        headers,
    )


async def check_http(target: Target, timeout: float, agent: str) -> Outcome:
    try:
        async with asyncio.timeout(timeout):
            answer = await _get_following(target, agent)
    except TimeoutError:
        return Outcome(
            Verdict.FAILURE,
            f'Get "{target.url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)',
        )
    except HttpProblem as problem:
        return Outcome(Verdict.FAILURE, f'Get "{target.url}": {problem}')
    if answer.status < 200 or answer.status >= 400:
        return Outcome(Verdict.FAILURE, f"HTTP probe failed with statuscode: {answer.status}")
    if answer.status >= 300:
        return Outcome(
            Verdict.WARNING, f"Probe terminated redirects, Response body: {answer.body.decode(errors='replace')}"
        )
    return Outcome(Verdict.SUCCESS, answer.body.decode(errors="replace"))


class HttpProblem(Exception):
    """No answer came; the message is Go's."""


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


async def _get_following(target: Target, agent: str) -> Answer:
    """Follows redirects that stay on the host, as the kubelet does."""
    for _ in range(REDIRECT_LIMIT):
        answer = await get(target, agent)
        location = answer.headers.get("location")
        if not (300 <= answer.status < 400 and location):
            return answer
        following = _redirected(target, location)
        if following is None:
            return answer
        target = following
    raise HttpProblem(f"stopped after {REDIRECT_LIMIT} redirects")


def _redirected(target: Target, location: str) -> Target | None:
    """Where to go next; `None` for another host. Raises `HttpProblem` for what is no URL."""
    try:
        url = urllib.parse.urlsplit(urllib.parse.urljoin(target.url, location))
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError:
        raise HttpProblem(f'failed to parse Location header "{location}": invalid URI for request') from None
    if url.hostname != target.host or url.scheme not in ("http", "https"):
        return None
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return Target(url.scheme, target.host, port, path, target.headers)


async def get(target: Target, agent: str) -> Answer:
    """One request on its own connection. Raises `HttpProblem`; the caller bounds the time."""
    context = any_certificate() if target.scheme == "https" else None
    try:
        reader, writer = await asyncio.open_connection(target.host, target.port, ssl=context, limit=BODY_LIMIT * 4)
    except OSError as error:
        raise HttpProblem(dial_problem(target.host, target.port, error)) from error
    try:
        writer.write(_request(target, agent))
        return await _read_answer(reader)
    except asyncio.IncompleteReadError as error:
        raise HttpProblem("EOF") from error
    except (OSError, ValueError, asyncio.LimitOverrunError) as error:
        raise HttpProblem(_transport_problem(error)) from error
    finally:
        writer.close()


def _request(target: Target, agent: str) -> bytes:
    given = {name.lower() for name in target.headers}
    lines = [f"GET {target.path} HTTP/1.1"]
    if "host" not in given:
        lines.append(f"Host: {target.host}:{target.port}")
    if "user-agent" not in given:
        lines.append(f"User-Agent: {agent}")
    if "accept" not in given:
        lines.append("Accept: */*")
    lines += [f"{name}: {value}" for name, value in target.headers.items()]
    lines += ["Connection: close", "", ""]
    return "\r\n".join(lines).encode()


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    """As lenient as Go's client: lines may end without a carriage return, and the reason may be missing."""
    first = await _line(reader)
    parts = first.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/") or not parts[1].isdigit():
        raise ValueError(f'net/http: HTTP/1.x transport connection broken: malformed HTTP response "{first}"')
    headers: dict[str, str] = {}
    while line := await _line(reader):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    status = int(parts[1])
    body = b"" if status in (204, 304) else await _read_body(reader, headers)
    return Answer(status, headers, body)


async def _line(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\n")).decode("latin-1").rstrip("\r\n")


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    length = headers.get("content-length", "")
    wanted = min(int(length), BODY_LIMIT) if length.isdigit() else BODY_LIMIT
    body = b""
    while len(body) < wanted:
        chunk = await reader.read(wanted - len(body))
        if not chunk:
            break
        body += chunk
    return body


def _transport_problem(error: Exception) -> str:
    if isinstance(error, ConnectionResetError):
        return "read: connection reset by peer"
    return str(error) or "EOF"


def dial_problem(host: str, port: int, error: OSError) -> str:
    """A failed connect in Go's words."""
    what = os.strerror(error.errno).lower() if error.errno else str(error)
    return f"dial tcp {host}:{port}: connect: {what}"


async def check_tcp(host: str, port: int, timeout: float) -> Outcome:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as connection:
        connection.setblocking(False)
        try:
            async with asyncio.timeout(timeout):
                await loop.sock_connect(connection, (host, port))
        except TimeoutError:
            return Outcome(Verdict.FAILURE, f"dial tcp {host}:{port}: i/o timeout")
        except OSError as error:
            return Outcome(Verdict.FAILURE, dial_problem(host, port, error))
    return Outcome(Verdict.SUCCESS)


def tcp_target(action: Object, container: Object, ip: str) -> tuple[str, int] | None:
    port = named_port(action["port"], container)
    return None if port is None else (action.get("host") or ip, port)


def handler_of(probe: Object) -> str:
    """`exec`, `httpGet`, `tcpSocket` or `grpc`."""
    return next((name for name in ("exec", "httpGet", "tcpSocket", "grpc") if part(probe, name)), "")
