"""Messages between the processes of a node: JSON objects with file descriptors, one per SEQPACKET message.

A message that would not fit into a socket buffer travels as a sealed-off memory file of which only the descriptor is
sent: environments and lists of containers have no size limit that way.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from podling.sandbox import syscalls

INLINE_LIMIT = 64 * 1024
"""Bytes of JSON up to which a message is sent as it is."""

_INLINE, _MEMORY_FILE = b"J", b"M"
_QUEUE_LIMIT = 4096


def encode(message: Mapping[str, Any]) -> tuple[bytes, int | None]:
    """The bytes to send and, for a large message, the memory file that must go with them as the first descriptor."""
    payload = json.dumps(message, separators=(",", ":")).encode()
    if len(payload) <= INLINE_LIMIT:
        return _INLINE + payload, None
    descriptor = os.memfd_create("podling-message", os.MFD_CLOEXEC)
    with open(os.dup(descriptor), "wb") as file:
        file.write(payload)
    return _MEMORY_FILE, descriptor


def decode(data: bytes, descriptors: list[int]) -> dict[str, Any]:
    """The message; takes its memory file out of `descriptors`."""
    if data[:1] == _INLINE:
        return json.loads(data[1:])
    with open(descriptors.pop(0), "rb") as file:
        file.seek(0)
        return json.loads(file.read())


def send(connection: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send one message; the descriptors stay open here."""
    data, memory_file = encode(message)
    carried = list(descriptors) if memory_file is None else [memory_file, *descriptors]
    try:
        socket.send_fds(connection, [data], carried) if carried else connection.send(data)
    finally:
        if memory_file is not None:
            os.close(memory_file)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and its descriptors, None at the end of the connection.

    A peer that closes with unread messages resets the connection: that is an end like any other.
    """
    try:
        data, descriptors = syscalls.receive(connection, INLINE_LIMIT + 1)
    except ConnectionResetError:
        return None
    if not data:
        return None
    return decode(data, descriptors), descriptors


def connect(path: str) -> socket.socket:
    """A connection to the socket at `path`."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def listen(path: str) -> socket.socket:
    """A listener at `path`, for the owner only; replaces what a crashed predecessor left there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.listen(64)
    return listener


class Outbox:
    """What waits to be sent over a non-blocking connection, so that a slow reader never holds up the sender."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._waiting: deque[tuple[Mapping[str, Any], list[int]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Queue a message; its descriptors are closed once sent. Raises `ConnectionError` when nobody reads."""
        if len(self._waiting) >= _QUEUE_LIMIT:
            raise ConnectionError("the peer does not read its messages")
        self._waiting.append((message, list(descriptors)))

    def flush(self) -> bool:
        """Send what the socket takes; True when all is out. Raises `OSError` when the connection is dead."""
        while self._waiting:
            message, descriptors = self._waiting[0]
            try:
                send(self._connection, message, descriptors)
            except BlockingIOError:
                return False
            self._waiting.popleft()
            close_all(descriptors)
        return True

    def discard(self) -> None:
        for _, descriptors in self._waiting:
            close_all(descriptors)
        self._waiting.clear()


def close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
