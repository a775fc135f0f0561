"""The commands' own small client of a running cluster: JSON over HTTPS, with the administrator's certificate.

Standard library only: the real clients take longer to import than a cluster to start.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Generator, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from podling.layout import Layout

Object = dict[str, Any]


class RequestFailed(Exception):
    """The API server refused: `status` is its `metav1.Status`."""

    def __init__(self, code: int, status: Object) -> None:
        super().__init__(status.get("message") or f"HTTP {code}")
        self.code = code
        self.status = status


class Api:
    """One connection to one API server; not for use by several threads."""

    def __init__(self, layout: Layout, port: int, *, timeout: float = 30.0) -> None:
        self._context = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
        self._context.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")
        self._port = port
        self._timeout = timeout
        self._connection: http.client.HTTPSConnection | None = None

    def get(self, path: str, **query: str) -> Object:
        return self.request("GET", path, query=query)

    def request(
        self, method: str, path: str, body: bytes | None = None, *, query: Mapping[str, str] = {}, content: str = ""
    ) -> Object:
        """The decoded answer; raises `RequestFailed` for 4xx and 5xx, `OSError` where nobody answers."""
        connection = self._connection or self._connect(self._timeout)
        self._connection = None
        connection.request(method, _url(path, query), body, {"Content-Type": content} if content else {})
        response = connection.getresponse()
        data = response.read()
        if not response.will_close:
            self._connection = connection
        return _decode(response.status, data)

    def watch(self, path: str, *, timeout: float, **query: str) -> Iterator[Object]:
        """Events of a watch with its initial state first, until `timeout` seconds without an event."""
        with self._stream(path, timeout, {"watch": "true", **query}) as response:
            try:
                while line := response.readline():
                    yield json.loads(line)
            except TimeoutError:
                return

    @contextlib.contextmanager
    def _stream(self, path: str, timeout: float, query: Mapping[str, str]) -> Generator[http.client.HTTPResponse]:
        connection = self._connect(timeout)
        try:
            connection.request("GET", _url(path, query))
            response = connection.getresponse()
            if response.status >= 400:
                _decode(response.status, response.read())
            yield response
        finally:
            connection.close()

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self._port, context=self._context, timeout=timeout)


def _url(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _decode(code: int, data: bytes) -> Object:
    try:
        answer: Object = json.loads(data) if data else {}
    except ValueError:
        answer = {"message": data.decode(errors="replace").strip()}
    if code >= 400:
        raise RequestFailed(code, answer)
    return answer
