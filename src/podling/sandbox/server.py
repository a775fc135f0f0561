"""Answers numbered requests of any number of clients on a Unix socket, without ever waiting for one of them.

Requests are `{"id", "op", ...}`, answered by `{"id", "result"}` or `{"id", "error": {"kind", "message", ...}}`, with
descriptors where an operation says so. Events, which nobody asked for, are sent to all.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from podling.sandbox import wire
from podling.sandbox.loop import READABLE, WRITABLE, Loop

_REQUESTS_PER_TURN = 32


class RequestError(Exception):
    """A request that makes no sense now; `kind` is for programs."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Client:
    """A connection, usually the daemon's."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.outbox = wire.Outbox(connection)


class Call(NamedTuple):
    """A request and who asked."""

    client: Client
    message: dict[str, Any]
    descriptors: list[int]


class Server:
    """The clients of one listener."""

    def __init__(self, loop: Loop, listener: socket.socket, operations: Mapping[str, Callable[[Call], None]]) -> None:
        self._loop = loop
        self._listener = listener
        self._operations = operations
        self._clients: set[Client] = set()
        loop.watch(listener.fileno(), self._accept)

    def _accept(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _address = self._listener.accept()
            connection.setblocking(False)
            client = Client(connection)
            self._clients.add(client)
            self._loop.watch(connection.fileno(), lambda _: self._hear(client))

    def _drop(self, client: Client) -> None:
        if client in self._clients:
            self._clients.discard(client)
            self._loop.forget(client.connection.fileno())
            client.outbox.discard()
            client.connection.close()

    def _hear(self, client: Client) -> None:
        self._flush(client)
        for _turn in range(_REQUESTS_PER_TURN):
            if client not in self._clients:
                return
            try:
                received = wire.receive(client.connection)
            except BlockingIOError:
                return
            except OSError:
                received = None
            if received is None:
                self._drop(client)
                return
            self._serve(Call(client, *received))

    def _serve(self, call: Call) -> None:
        try:
            operation = self._operations.get(call.message.get("op", ""))
            if operation is None:
                raise RequestError("Invalid", f"unknown operation {call.message.get('op')!r}")
            operation(call)
        except RequestError as error:
            self.fail(call, error.kind, str(error))
        except OSError as error:
            self.fail(call, "Failed", error.strerror or str(error))
        except (KeyError, TypeError, ValueError) as error:
            self.fail(call, "Invalid", f"{type(error).__name__}: {error}")
        finally:
            wire.close_all(call.descriptors)

    def answer(self, call: Call, result: Any, descriptors: Sequence[int] = ()) -> None:
        """Answer a request; the descriptors are closed once sent."""
        self.send(call.client, {"id": call.message.get("id"), "result": result}, descriptors)

    def fail(self, call: Call, kind: str, message: str, **more: int) -> None:
        error = {"kind": kind, "message": message, **more}
        self.send(call.client, {"id": call.message.get("id"), "error": error})

    def tell_all(self, event: Mapping[str, Any]) -> None:
        for client in list(self._clients):
            self.send(client, event)

    def send(self, client: Client, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        if client not in self._clients:
            wire.close_all(descriptors)
            return
        try:
            client.outbox.put(message, descriptors)
        except ConnectionError:
            wire.close_all(descriptors)
            self._drop(client)
            return
        self._flush(client)

    def _flush(self, client: Client) -> None:
        try:
            done = client.outbox.flush()
        except OSError:
            self._drop(client)
            return
        events = READABLE if done else READABLE | WRITABLE
        self._loop.watch(client.connection.fileno(), lambda _: self._hear(client), events)
