"""A client that sends any bytes, also those that no HTTP library would, and says how the server took them."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

PATIENCE = 5.0
"""Seconds within which every request is answered, or its connection closed."""
GLANCE = 0.05
"""Seconds that a stream which may go on for ever is looked at."""
ENOUGH = 8 << 20


class Hang(Exception):
    """Neither an answer nor an end within `PATIENCE`."""


@dataclass
class Answer:
    """`status` is 0 where the connection ended without one."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    complete: bool = False
    wanted: int = 0
    """Bytes that there must be before it is worth looking again."""


@dataclass
class Place:
    """Where the API server listens, and with which certificate it is talked to."""

    port: int
    pki: Path

    @cached_property
    def context(self) -> ssl.SSLContext:
        """Trusts the cluster, and is its administrator."""
        context = ssl.create_default_context(cafile=str(self.pki / "ca.crt"))
        context.load_cert_chain(self.pki / "admin.crt", self.pki / "admin.key")
        return context

    def connect(self) -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.context.wrap_socket(raw, server_hostname="127.0.0.1")

    def plain(self) -> socket.socket:
        """Without TLS, for garbage in place of a handshake."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)


class Wire:
    """One kept-alive connection, made anew when the server or a case ended the last one."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._socket: ssl.SSLSocket | None = None
        self._unread = bytearray()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._unread = None, bytearray()

    def fetch(self, method: str, target: str, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()) -> Answer:
        """One well-formed request."""
        return self.send(request(method, target, body, headers), head_only=method == "HEAD")

    def send(self, data: bytes, *, head_only: bool = False, endless: bool = False) -> Answer:
        """Raises Hang. `endless`: the answer may be a stream, of which a glance is enough."""
        fresh = self._socket is None
        try:
            return self._exchange(data, head_only, endless)
        except (ConnectionError, ssl.SSLError, EOFError):
            self.close()
            # A kept-alive connection may have been closed since; a fresh one tells what the server does of this.
            if fresh:
                return Answer()
        try:
            return self._exchange(data, head_only, endless)
        except (ConnectionError, ssl.SSLError, EOFError):
            self.close()
            return Answer()

    def _exchange(self, data: bytes, head_only: bool, endless: bool) -> Answer:
        if self._socket is None:
            self._socket = self._place.connect()
        deadline = time.monotonic() + PATIENCE
        self._socket.settimeout(PATIENCE)
        try:
            self._socket.sendall(data)
        except TimeoutError:
            self.close()
            raise Hang("the request was not read") from None
        return self._read(deadline, head_only, endless)

    def _read(self, deadline: float, head_only: bool, endless: bool) -> Answer:
        answer = Answer()
        while not answer.complete:
            rest = b""
            if len(self._unread) >= answer.wanted:
                answer, rest = parse(bytes(self._unread), head_only)
            if answer.complete:
                self._unread = bytearray(rest)
                if answer.headers.get("connection") == "close" or answer.status == 101 or (head_only and endless):
                    # What follows the head of an endless answer never ends.
                    self.close()
                return answer
            glancing = endless and answer.status
            try:
                more = self._receive(GLANCE if glancing else deadline - time.monotonic())
            except TimeoutError:
                self.close()
                if glancing:
                    return answer
                raise Hang(f"no complete answer within {PATIENCE} s, so far {answer}") from None
            if not more:
                self.close()
                raise EOFError
            self._unread += more
            if len(self._unread) > ENOUGH:
                self.close()
                return answer
        return answer

    def _receive(self, timeout: float) -> bytes:
        assert self._socket is not None
        if timeout <= 0:
            raise TimeoutError
        self._socket.settimeout(timeout)
        return self._socket.recv(1 << 18)


def request(method: str, target: str, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """The bytes of a request whose framing is right."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *(f"{k}: {v}" for k, v in headers)]
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def parse(data: bytes, head_only: bool = False) -> tuple[Answer, bytes]:
    """The first answer in the bytes, as far as it has come, and what follows it."""
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return Answer(), b""
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    answer = Answer(int(first.split(" ")[1]), headers)
    if answer.status == 100:
        return parse(rest, head_only)
    if head_only or answer.status in (101, 204, 304):
        answer.complete = True
        return answer, rest
    if headers.get("transfer-encoding") == "chunked":
        return _chunked(answer, rest)
    length = int(headers.get("content-length", "0"))
    answer.body, answer.complete = rest[:length], len(rest) >= length
    answer.wanted = len(data) - len(rest) + length
    return answer, rest[length:]


def _chunked(answer: Answer, rest: bytes) -> tuple[Answer, bytes]:
    parts: list[bytes] = []
    while True:
        size, found, after = rest.partition(b"\r\n")
        if not found or len(after) < int(size, 16) + 2:
            break
        length = int(size, 16)
        rest = after[length + 2 :]
        if not length:
            answer.complete = True
            break
        parts.append(after[:length])
    answer.body = b"".join(parts)
    return answer, rest
