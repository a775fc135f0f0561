"""One case: what is sent, how it is sent, and what was answered."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fuzz.wire import PATIENCE, Answer, Hang, Place, Wire, parse

Message = bytes | Callable[[Answer], bytes]
"""A request, or one that is made of the answer before it."""
SILENCE = 0.1
"""Seconds after which a conversation takes it that nothing more comes."""


@dataclass
class Case:
    """The requests one after another on one connection, or a conversation of its own."""

    number: int
    family: str
    sent: list[Message] = field(default_factory=list[Message])
    endless: bool = False
    answers: list[Answer] = field(default_factory=list[Answer])
    converse: Callable[[Place, Case], None] | None = None
    parts: list[tuple[float, bytes]] = field(default_factory=list[tuple[float, bytes]])
    """For conversations: what is written, after how many seconds."""


def play(case: Case, wire: Wire, place: Place) -> None:
    """Sends a case; its answers are then in it. Raises Hang."""
    if case.converse is not None:
        case.converse(place, case)
        return
    for at, message in enumerate(case.sent):
        data = message if isinstance(message, bytes) else message(case.answers[-1])
        case.sent[at] = data
        case.answers.append(wire.send(data, head_only=data.startswith(b"HEAD "), endless=case.endless))


def repeatable(case: Case) -> str:
    """The case as bytes that a person can send again."""
    sent = [data for _, data in case.parts] or [m for m in case.sent if isinstance(m, bytes)]
    return "\n".join(json.dumps(data[:20_000].decode("latin-1")) for data in sent)


def talk(place: Place, case: Case) -> None:
    """A conversation over TLS. Raises Hang."""
    with contextlib.suppress(ConnectionError, ssl.SSLError, EOFError):
        connection = place.connect()
        try:
            _write_and_end(connection, case)
        finally:
            connection.close()


def talk_plainly(place: Place, case: Case) -> None:
    """The same without TLS, for garbage in place of a handshake."""
    with contextlib.suppress(ConnectionError), place.plain() as connection:
        _write_and_end(connection, case)


def _write_and_end(connection: socket.socket, case: Case) -> None:
    """Writes all parts, reads what comes, then half-closes: within PATIENCE the server must have closed its side."""
    connection.settimeout(PATIENCE)
    received = b""
    try:
        for wait, data in case.parts:
            time.sleep(wait)
            connection.sendall(data)
        connection.settimeout(SILENCE)
        with contextlib.suppress(TimeoutError):
            while more := connection.recv(1 << 18):
                received += more
                if len(received) > 8 << 20:
                    break
        _half_close(connection)
        connection.settimeout(PATIENCE)
        while connection.recv(1 << 18):
            pass
    except TimeoutError:
        raise Hang("the connection was neither read nor closed") from None
    finally:
        while received.startswith(b"HTTP/1.1 ") and (answer := parse(received))[0].status:
            case.answers.append(answer[0])
            received = answer[1]


def _half_close(connection: socket.socket) -> None:
    """Below TLS: `SSLSocket.shutdown` would also forget how to read what still comes."""
    with socket.socket(fileno=os.dup(connection.fileno())) as below:
        below.shutdown(socket.SHUT_WR)
